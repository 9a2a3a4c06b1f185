"""The single inserts of one wake-up: gathered over all connections, committed together, answered together. No socket.

    add ──> commit ──> operations.insert_each ──> one frame ──> flush ──> acknowledged ──> answers, one piece a connection
                │ what is no plain new document, or would be refused
                └──> `alone`: the general way, one by one, after the others

An insert of one document in its usual form comes here already checked (quick.py). Its answer leaves when its commit is acknowledged
(INV-1). While there is no room in the memtable, inserts wait here in order, at most `waiting_max` of them (INV-8).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, takewhile
from typing import Any

import trio

from storage import errors, operations

from .quick import QuickInsert, insert_replies

log = logging.getLogger(__name__)

ROWS_MAX = operations.EACH_MAX
ROW_BYTES_MAX = 65_536  # of one request; a larger one goes its way alone, so that a commit stays far below its limit


Row = tuple[Any, bytes, QuickInsert]  # who asked, the whole message, what it says


def answer_runs(callers: Sequence[Any], frames: Sequence[bytes]) -> None:
    """Give each caller its frame; neighbours of one caller in one piece."""
    start, count = 0, len(frames)
    while start < count:
        caller, end = callers[start], start + 1
        while end < count and callers[end] is caller:
            end += 1
        caller.answer_frames(frames[start] if end - start == 1 else b"".join(frames[start:end]), end - start)
        start = end


class InsertBatch:
    """Over one engine and one member. alone(caller, message) takes a request the general way; refuse(caller, message, error) answers it by an
    error; both count it as answered or still under way by themselves. start(task, *args) runs a task.
    """

    def __init__(
        self,
        engine: Any,
        member: Any,
        *,
        touched: Callable[[Any], None],
        alone: Callable[[Any, bytes], None],
        refuse: Callable[[Any, bytes, errors.TwinlogError], None],
        answered: Callable[[int], None],
        start: Callable[..., None],
        waiting_max: int,
    ) -> None:
        self._engine = engine
        self._member = member
        self._touched = touched
        self._alone = alone
        self._refuse = refuse
        self._answered = answered
        self._start = start
        self._waiting_max = waiting_max
        self._rows: list[Row] = []
        self._committed: list[Callable[[], None]] = []  # what waits for the flush before it asks to be acknowledged
        self._waiting: dict[Any, deque[Row]] = {}  # by database
        self.waiting = 0

    def add(self, caller: Any, message: bytes, quick: QuickInsert) -> None:
        """Take one insert; it is committed by commit() at the latest."""
        self._rows.append((caller, message, quick))
        if len(self._rows) >= ROWS_MAX:
            self.commit()

    def commit(self) -> None:
        """Commit what was gathered, a commit for each collection. In place."""
        while self._rows:
            rows, self._rows = self._rows, []
            _, _, names, collections, *_ = zip(*[quick for _, _, quick in rows])
            if names.count(names[0]) == len(rows) and collections.count(collections[0]) == len(rows):
                self._commit_group(names[0], collections[0], rows)
                continue
            groups: dict[tuple[str, str], list[Row]] = {}
            for row, name, collection in zip(rows, names, collections):
                groups.setdefault((name, collection), []).append(row)
            for (name, collection), group in groups.items():
                self._commit_group(name, collection, group)

    def ask(self) -> None:
        """After the flush: have the answers of what was committed sent as soon as it is acknowledged."""
        while self._committed:
            committed, self._committed = self._committed, []
            for ask in committed:
                ask()

    def _commit_group(self, name: str, collection: str, rows: list[Row]) -> None:
        db = self._engine.databases.get(name)
        if db is None or not db.history:
            self._all_alone(rows)
        elif db in self._waiting or db.sealing.pause_s(len(rows)) or not self._insert(db, collection, rows):
            self._wait(db, rows)

    def _insert(self, db: Any, collection: str, rows: Sequence[Row]) -> bool:
        """False when there is no room and nothing was done."""
        callers, _, quicks = zip(*rows)
        _, ids, _, _, requests, keys, id_values, docs = zip(*quicks)
        try:
            self._member.check_writable(db)
            done = operations.insert_each(db, collection, keys, docs, requests)
        except (errors.TwinlogError, OSError):  # each is refused by itself, in words of its own
            self._all_alone(rows)
            return True
        except Exception:
            log.exception("committing %d inserts met a bug", len(rows))
            self._answered(len(rows))
            for caller, request_id in zip(callers, ids):
                self._refuse(caller, request_id, errors.InternalError("insert met a bug in this node; its log has the trace, please report it"))
            return True
        if done is None:
            return False
        seq, left = done
        if seq:
            self._touched(db)
            if left:
                stays = set(range(len(rows))).difference(left)
                callers, ids, id_values = ([c[i] for i in sorted(stays)] for c in (callers, ids, id_values))
            told = partial(self._acknowledged, callers, ids, id_values, db.position.epoch, seq)
            self._committed.append(partial(self._member.when_acknowledged, db, seq, told))
        self._all_alone([rows[index] for index in left])
        return True

    def _all_alone(self, rows: Sequence[Row]) -> None:
        for caller, message, _ in rows:
            self._alone(caller, message)

    def _acknowledged(
        self,
        callers: Sequence[Any],
        ids: Sequence[bytes],
        id_values: Sequence[bytes],
        epoch: int,
        seq: int,
        error: errors.TwinlogError | None = None,
    ) -> None:
        self._answered(len(ids))
        if error is not None:
            for caller, request_id in zip(callers, ids):
                self._refuse(caller, request_id, error)
            return
        answer_runs(callers, insert_replies(ids, id_values, epoch, seq))

    # While there is no room.

    def _wait(self, db: Any, rows: Sequence[Row]) -> None:
        room = max(0, self._waiting_max - self.waiting)
        if len(rows) > room:
            error = errors.Overloaded(
                f"{self.waiting} inserts wait for room in the memtable, the limit is {self._waiting_max} (limits.requests_max);"
                f" try again soon",
                bound="requests_max", limit=self._waiting_max, retry_after_ms=100,
            )  # fmt: skip
            self._answered(len(rows) - room)
            for caller, _, quick in rows[room:]:
                self._refuse(caller, quick[1], error)
            rows = rows[:room]
        if not rows:
            return
        queue = self._waiting.get(db)
        if queue is None:
            queue = deque()
            self._start(self._insert_with_room, db, queue)
            self._waiting[db] = queue
        self.waiting += len(rows)
        queue.extend(rows)

    async def _insert_with_room(self, db: Any, queue: deque[Row]) -> None:
        """One task for a database whose memtable is full, as long as inserts wait for it."""
        try:
            while queue:
                name = queue[0][2][3]
                rows = list(takewhile(lambda row: row[2][3] == name, islice(queue, ROWS_MAX)))  # noqa: B023
                try:
                    await operations.room(db, len(rows))
                    if self._engine.databases.get(db.name) is not db:  # dropped or replaced meanwhile
                        self._all_alone(rows)
                        done = True
                    else:
                        done = self._insert(db, name, rows)
                except errors.TwinlogError as error:
                    self._refuse_all(queue, error)
                    break
                if done:
                    self.waiting -= len(rows)
                    for _ in rows:
                        queue.popleft()
                await trio.lowlevel.checkpoint()
        finally:
            del self._waiting[db]
            if queue:
                self._refuse_all(queue, errors.ShuttingDown("this node is stopping; connect to another one"))

    def _refuse_all(self, queue: deque[Row], error: errors.TwinlogError) -> None:
        self.waiting -= len(queue)
        self._answered(len(queue))
        while queue:
            caller, _, quick = queue.popleft()
            self._refuse(caller, quick[1], error)
