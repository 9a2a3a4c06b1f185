"""Cursors that clients left open on this node: a bounded table, and batches cut by rows and by bytes.

A cursor belongs to who opened it (key and user), not to a connection, so that any connection of a client's pool may ask
for more. Ids are random, so they cannot be guessed. Knows storage's cursor only as `next_batch`, `done` and `close`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import trio

from storage import TimeBudget, errors

ANSWER_BYTES_MAX = 16 * 2**20  # of documents in one answer; a message may be 17 MiB, a document 16 MiB
RETRY_AFTER_MS = 1_000


class StorageCursor(Protocol):
    """What storage's find returns. `done`: nothing is left to read."""

    done: bool

    async def next_batch(self, count: int) -> list[bytes]:
        """Up to count documents, fewer when they are large; at least one unless it is done."""

    async def close(self) -> None: ...


class OpenCursor:
    """One query under way. Only one request reads from it at a time.

    `db` is the database it reads, for the position its answers carry; `ahead` are documents that were read but did
    not fit the last answer; `budget` is the time that all its batches together may take.
    """

    def __init__(self, owner: str, db: Any, source: StorageCursor, budget: TimeBudget | None = None) -> None:
        self.id = 0  # given by the table, if it comes to that
        self.owner = owner
        self.db = db
        self.budget = budget or TimeBudget()
        self.last_used = trio.current_time()
        self.busy = False
        self._source = source
        self._ahead: deque[bytes] = deque()

    @property
    def done(self) -> bool:
        return self._source.done and not self._ahead

    async def take(self, rows: int) -> list[bytes]:
        """Up to `rows` documents and ANSWER_BYTES_MAX bytes, at least one document unless there is none.

        Raises MaxTimeMSExpired when the budget is used up: then the cursor can only be closed."""
        if not self._ahead and rows:
            with self.budget.spending():
                documents = await self._source.next_batch(rows)
            if sum(map(len, documents)) <= ANSWER_BYTES_MAX:
                return documents
            self._ahead.extend(documents)
        taken: list[bytes] = []
        size = 0
        while self._ahead and len(taken) < rows:
            size += len(self._ahead[0])
            if taken and size > ANSWER_BYTES_MAX:
                break
            taken.append(self._ahead.popleft())
        return taken

    async def close(self) -> None:
        self._ahead.clear()
        await self._source.close()


class CursorTable:
    """Every open cursor of the node; at most `cursors_max`, and none idle for more than `idle_s`."""

    def __init__(self, cursors_max: int, idle_s: float, random_bytes: Callable[[int], bytes]) -> None:
        self._cursors_max = cursors_max
        self._idle_s = idle_s
        self._random_bytes = random_bytes
        self._open: dict[int, OpenCursor] = {}

    def __len__(self) -> int:
        return len(self._open)

    def holds(self, cursor: OpenCursor) -> bool:
        """Whether it is in the table still; a request reading from it may find that it was killed meanwhile."""
        return self._open.get(cursor.id) is cursor

    async def keep(self, cursor: OpenCursor) -> None:
        """Put a cursor that has more to give into the table, under a new id. Raises Overloaded at the bound."""
        if len(self._open) >= self._cursors_max:
            await self.close_idle()
        if len(self._open) >= self._cursors_max:
            raise errors.Overloaded(
                f"{len(self._open)} cursors are open, the limit is {self._cursors_max} (limits.cursors_max);"
                f" read cursors to their end or close them, then run the query again",
                bound="cursors_max", limit=self._cursors_max, retry_after_ms=RETRY_AFTER_MS,
            )  # fmt: skip
        while cursor.id == 0 or cursor.id in self._open:
            cursor.id = int.from_bytes(self._random_bytes(8), "little") >> 1
        self._open[cursor.id] = cursor

    def find(self, cursor_id: int, owner: str) -> OpenCursor:
        """The cursor, if it is open, the caller's own, and no other request is reading from it."""
        cursor = self._open.get(cursor_id)
        if cursor is None or cursor.owner != owner:
            raise errors.CursorNotFound(
                f"cursor {cursor_id} is not open here: it ended, was idle for {self._idle_s:g} s, or the node was"
                f" restarted; run the query again",
                cursor=cursor_id,
            )
        if cursor.busy:
            raise errors.BadRequest(
                f"cursor {cursor_id} is being read by another request; wait for its answer first", cursor=cursor_id
            )
        return cursor

    def remove(self, cursor_id: int, owner: str) -> OpenCursor | None:
        """Take it out of the table, for the caller to close; None when the owner has no such cursor."""
        cursor = self._open.get(cursor_id)
        if cursor is None or cursor.owner != owner:
            return None
        return self._open.pop(cursor_id)

    async def close_idle(self) -> int:
        """Close what was not asked for in time; returns how many."""
        oldest = trio.current_time() - self._idle_s
        idle = [cursor for cursor in self._open.values() if cursor.last_used < oldest and not cursor.busy]
        for cursor in idle:
            self._open.pop(cursor.id, None)
        for cursor in idle:
            await cursor.close()
        return len(idle)

    async def close_of(self, owner: str) -> None:
        """Close all that an owner has open; one that is being read is closed by the request that reads it."""
        cursors = [cursor for cursor in self._open.values() if cursor.owner == owner]
        for cursor in cursors:
            self._open.pop(cursor.id, None)
        for cursor in cursors:
            if not cursor.busy:
                await cursor.close()

    async def close_all(self) -> None:
        cursors = list(self._open.values())
        self._open.clear()
        for cursor in cursors:
            if not cursor.busy:
                await cursor.close()
