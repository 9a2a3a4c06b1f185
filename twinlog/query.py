"""The state of one query: its options, its cursor on the node, the documents at hand. Pure; both cursors share it.

    chaining sort() skip() limit() ... ──> find() plan ──> documents, more() plans ──> exhausted or close() plan

A query asks nothing until its first document is wanted. Its cursor lives on the node that answered, for every connection
of the client, so More goes there and nowhere else; a More is never sent twice, as that would skip documents.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Raw

from node.wire import BATCH_ROWS_DEFAULT, KillCursor, More

from . import answers
from .errors import ConnectionFailure, InvalidOperation, OperationFailure
from .exchange import Kind
from .scope import Scope
from .values import read_document
from .verbs import Plan, ask, find_request, reply_of

MORE_ROWS = 1_000  # documents asked at a time after the first batch; the node's byte bound may give fewer

ASCENDING = 1
DESCENDING = -1

Sort = str | Sequence[str | tuple[str, int]] | Mapping[str, int]


def sort_list(key_or_list: Sort, direction: int | None = None) -> list[tuple[str, int]]:
    """PyMongo's ways to name a sort order as one list. Raises TypeError, ValueError."""
    if isinstance(key_or_list, str):
        pairs: list[Any] = [(key_or_list, ASCENDING if direction is None else direction)]
    elif isinstance(key_or_list, Mapping):
        pairs = list(key_or_list.items())
    else:
        pairs = [(item, ASCENDING) if isinstance(item, str) else tuple(item) for item in key_or_list]
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(f"sort: {pair!r} is not (field, direction)")
        if pair[1] not in (ASCENDING, DESCENDING):
            raise ValueError(f"sort: direction {pair[1]!r} of {pair[0]!r} must be 1 (ascending) or -1 (descending)")
    return pairs


class Query:
    """One find(). Invariant: documents come in the node's order, each once."""

    def __init__(
        self,
        scope: Scope,
        db: str,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        skip: int = 0,
        limit: int = 0,
        sort: Sort | None = None,
        batch_size: int = 0,
    ) -> None:
        if filter is not None and not isinstance(filter, Mapping):
            raise TypeError(f"filter must be a mapping, not {type(filter).__name__}")
        self.scope = scope
        self.db = db
        self.collection = collection
        self.filter = filter
        self.projection = projection
        self.skip = natural("skip", skip)
        self.limit = limit_of(limit)
        self.sort = sort_list(sort) if sort else []
        self.batch_size = natural("batch_size", batch_size)
        self.cursor_id: int | None = None  # None: not asked yet; 0: the node has no more
        self.retrieved = 0
        self.node: str | None = None
        self._closed = False
        self._documents: deque[Raw] = deque()

    @property
    def alive(self) -> bool:
        """Whether a next document may come."""
        return not self._closed and (bool(self._documents) or self.cursor_id != 0)

    def check_not_begun(self) -> None:
        if self.cursor_id is not None or self._closed:
            raise InvalidOperation("the cursor has begun: set its options before the first document, or rewind() it")

    def next_at_hand(self) -> dict[str, Any] | None:
        """The next document of the batch, None when it is used up."""
        if not self._documents or self._closed:
            return None
        self.retrieved += 1
        return read_document(self._documents.popleft())

    def refill(self) -> Plan[bool]:
        """Get the next batch. False: there is none."""
        while not self._documents:
            if self._closed or self.cursor_id == 0:
                return False
            if self.cursor_id is None:
                yield from self._find()
            else:
                yield from self._more(self.cursor_id)
        return True

    def close(self) -> Plan[None]:
        """Let the node forget the cursor. A node that cannot be reached forgets it by itself after a while."""
        open_cursor = self.cursor_id
        self._closed = True
        self.cursor_id = 0
        self._documents.clear()
        if open_cursor:
            try:
                yield from ask(self.scope, Kind.COURTESY, KillCursor(0, open_cursor), node=self.node)
            except (ConnectionFailure, OperationFailure):
                return  # closing is a courtesy; the node's own limits end the cursor

    def rewound(self) -> Query:
        """The same query, not begun."""
        again = Query(self.scope, self.db, self.collection, self.filter, self.projection)
        again.skip, again.limit, again.sort, again.batch_size = self.skip, self.limit, self.sort, self.batch_size
        return again

    def _find(self) -> Plan[None]:
        request = find_request(
            self.db,
            self.collection,
            self.filter,
            sort=self.sort,
            projection=self.projection,
            skip=self.skip,
            limit=self.limit,
            batch_size=self.batch_size or BATCH_ROWS_DEFAULT,
            least_position=self.scope.least_position(self.db),
        )
        exchange = yield from ask(self.scope, Kind.READ, request, db=self.db)
        self.node = exchange.answered_by
        self._take(answers.read(answers.FOUND, reply_of(exchange, self.scope)))

    def _more(self, cursor_id: int) -> Plan[None]:
        request = More(0, cursor_id, self.batch_size or MORE_ROWS)
        exchange = yield from ask(self.scope, Kind.HERE, request, db=self.db, node=self.node)
        self._take(answers.read(answers.FOUND, reply_of(exchange, self.scope)))

    def _take(self, answer: answers.Found) -> None:
        if self._closed:
            return
        self._documents.extend(answer.docs)
        self.cursor_id = answer.cursor


def natural(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, it is {value}")
    return value


def limit_of(value: int) -> int:
    """0 means no limit; a negative one means its absolute value, as in PyMongo."""
    return natural("limit", abs(value) if isinstance(value, int) else value)
