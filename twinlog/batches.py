"""Documents that come in batches: the cursor on the node, the documents at hand. Pure; every cursor of the client has one.

    first request ──> documents at hand, perhaps a cursor ──> More ... ──> exhausted or close()

The cursor lives on the node that answered, for every connection of the client, so More goes there and nowhere else; a More
is never sent twice, as that would skip documents.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from msgspec import Raw

from node.wire import KillCursor, More, Request

from . import answers
from .errors import ConnectionFailure, InvalidOperation, OperationFailure, TwinlogError
from .exchange import Kind
from .scope import Scope
from .values import read_documents
from .verbs import Plan, ask, reply_of

MORE_ROWS = 1_000  # documents asked at a time after the first batch; the node's byte bound may give fewer
READ_TOGETHER = 64  # documents decoded at a time


class Batches:
    """The answer to one request. Invariant: documents come in the node's order, each once."""

    def __init__(
        self, scope: Scope, db: str, first: Callable[[], Request], *, kind: Kind = Kind.READ, batch_size: int = 0
    ) -> None:
        """first: the request that opens the cursor, built when it is needed."""
        self.scope = scope
        self.db = db
        self.batch_size = batch_size
        self.cursor_id: int | None = None  # None: not asked yet; 0: the node has no more
        self.retrieved = 0
        self.node: str | None = None
        self._first = first
        self._kind = kind
        self._closed = False
        self._documents: deque[Raw | dict[str, Any]] = deque()
        self._read: deque[dict[str, Any]] = deque()  # the first of them, decoded

    @classmethod
    def holding(cls, scope: Scope, db: str, documents: Iterable[dict[str, Any]]) -> Batches:
        """Documents that are here already: there is nothing to ask."""

        def nothing() -> Request:
            raise AssertionError("what is held is all there is")

        batches = cls(scope, db, nothing)
        batches._documents.extend(documents)
        batches.cursor_id = 0
        return batches

    @property
    def alive(self) -> bool:
        """Whether a next document may come."""
        return not self._closed and (bool(self._documents) or self.cursor_id != 0)

    def check_not_begun(self) -> None:
        if self.cursor_id is not None or self._closed:
            raise InvalidOperation("the cursor has begun: set its options before the first document, or rewind() it")

    def next_at_hand(self) -> dict[str, Any] | None:
        """The next document of the batch, None when it is used up."""
        if not self._read:
            if not self._documents or self._closed:
                return None
            self._read_some()
        self.retrieved += 1
        self._documents.popleft()
        return self._read.popleft()

    def _read_some(self) -> None:
        """Decode the next documents together: one by one, most of the time goes into the calls. Those before a bad one are read first."""
        some = islice(self._documents, READ_TOGETHER)
        if isinstance(self._documents[0], dict):
            self._read.extend(some)  # type: ignore[arg-type]  # held ones: all are
            return
        try:
            read_documents(some, self._read)  # type: ignore[arg-type]
        except TwinlogError:
            if not self._read:
                raise

    def take_packed(self) -> list[Raw]:
        """What is left of the batch, as the node sent it. Not for batches that are held()."""
        if self._closed:
            return []
        documents = list(self._documents)
        self._forget()
        self.retrieved += len(documents)
        return documents  # type: ignore[return-value]

    def _forget(self) -> None:
        self._documents.clear()
        self._read.clear()

    def begin(self) -> Plan[None]:
        """Ask for the first batch."""
        exchange = yield from ask(self.scope, self._kind, self._first(), db=self.db)
        self.node = exchange.answered_by
        self._take(answers.read(answers.FOUND, reply_of(exchange, self.scope)))

    def refill(self) -> Plan[bool]:
        """Get the next batch. False: there is none."""
        while not self._documents:
            if self._closed or self.cursor_id == 0:
                return False
            if self.cursor_id is None:
                yield from self.begin()
            else:
                yield from self._more(self.cursor_id)
        return True

    def close(self) -> Plan[None]:
        """Let the node forget the cursor. A node that cannot be reached forgets it by itself after a while."""
        open_cursor = self.cursor_id
        self._closed = True
        self.cursor_id = 0
        self._forget()
        if open_cursor:
            try:
                yield from ask(self.scope, Kind.COURTESY, KillCursor(0, open_cursor), node=self.node)
            except (ConnectionFailure, OperationFailure):
                return  # closing is a courtesy; the node's own limits end the cursor

    def _more(self, cursor_id: int) -> Plan[None]:
        request = More(0, cursor_id, self.batch_size or MORE_ROWS)
        exchange = yield from ask(self.scope, Kind.HERE, request, db=self.db, node=self.node)
        self._take(answers.read(answers.FOUND, reply_of(exchange, self.scope)))

    def _take(self, answer: answers.Found) -> None:
        if self._closed:
            return
        self._documents.extend(answer.docs)
        self.cursor_id = answer.cursor
