"""The trio cursor: cursor.py's twin, for `async for`. Its state and requests are query.py's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .query import Query, Sort, limit_of, natural, sort_list

if TYPE_CHECKING:
    from .async_collection import AsyncCollection


class AsyncCursor:
    """Documents of one query, asked for in batches as they are iterated. Not for several tasks at once.

    The options can be chained until the first document: find(...).sort("time", -1).limit(50).
    """

    def __init__(self, collection: AsyncCollection, query: Query) -> None:
        self.collection = collection
        self._query = query

    def sort(self, key_or_list: Sort, direction: int | None = None) -> AsyncCursor:
        """By one field and a direction (1 or -1), or by a list of (field, direction)."""
        self._query.check_not_begun()
        self._query.sort = sort_list(key_or_list, direction)
        return self

    def skip(self, skip: int) -> AsyncCursor:
        self._query.check_not_begun()
        self._query.skip = natural("skip", skip)
        return self

    def limit(self, limit: int) -> AsyncCursor:
        """At most so many documents; 0 means all."""
        self._query.check_not_begun()
        self._query.limit = limit_of(limit)
        return self

    def batch_size(self, batch_size: int) -> AsyncCursor:
        """Documents asked for at a time; 0 leaves it to the client."""
        self._query.check_not_begun()
        self._query.batch_size = natural("batch_size", batch_size)
        return self

    def projection(self, projection: Mapping[str, Any] | Sequence[str] | None) -> AsyncCursor:
        """Which fields to return: a list of names, or a map of field to 1 (only these) or 0 (all but these)."""
        self._query.check_not_begun()
        self._query.projection = projection
        return self

    def __aiter__(self) -> AsyncCursor:
        return self

    async def __anext__(self) -> dict[str, Any]:
        document = self._query.next_at_hand()
        if document is None:
            if not await self.collection.run(self._query.refill()):
                raise StopAsyncIteration
            document = self._query.next_at_hand()
            assert document is not None, "a refill that worked leaves a document"
        return document

    async def next(self) -> dict[str, Any]:
        return await self.__anext__()

    async def to_list(self, length: int | None = None) -> list[dict[str, Any]]:
        """The documents that are left, at most length of them."""
        documents: list[dict[str, Any]] = []
        while length is None or len(documents) < length:
            try:
                documents.append(await self.__anext__())
            except StopAsyncIteration:
                break
        return documents

    async def rewind(self) -> AsyncCursor:
        """Begin again from the first document; the options can be changed again."""
        query = self._query.rewound()
        await self.close()
        self._query = query
        return self

    def clone(self) -> AsyncCursor:
        """The same query, not begun."""
        return AsyncCursor(self.collection, self._query.rewound())

    async def close(self) -> None:
        """Let the node forget the query. A cursor read to its end need not be closed."""
        await self.collection.run(self._query.close())

    @property
    def alive(self) -> bool:
        """Whether there may be more documents."""
        return self._query.alive

    @property
    def cursor_id(self) -> int | None:
        return self._query.cursor_id

    @property
    def retrieved(self) -> int:
        """Documents handed out so far."""
        return self._query.retrieved

    @property
    def address(self) -> str | None:
        """The node that answers this query, "host:port"; None before the first document."""
        return self._query.node

    async def __aenter__(self) -> AsyncCursor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
