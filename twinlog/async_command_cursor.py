"""The trio cursor over what a node computes: command_cursor.py's twin, for `async for`. Its state is batches.py's."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from .batches import Batches
from .options import natural

if TYPE_CHECKING:
    from .async_collection import AsyncCollection


class AsyncCommandCursor:
    """Documents, asked for in batches as they are iterated. Not for several tasks at once."""

    def __init__(self, collection: AsyncCollection, batches: Batches) -> None:
        self.collection = collection
        self._batches = batches

    def batch_size(self, batch_size: int) -> AsyncCommandCursor:
        """Documents asked for at a time from now on; 0 leaves it to the client."""
        self._batches.batch_size = natural("batch_size", batch_size)
        return self

    def __aiter__(self) -> AsyncCommandCursor:
        return self

    async def __anext__(self) -> dict[str, Any]:
        document = self._batches.next_at_hand()
        if document is None:
            if not await self.collection.run(self._batches.refill()):
                raise StopAsyncIteration
            document = self._batches.next_at_hand()
            assert document is not None, "a refill that worked leaves a document"
        return document

    async def next(self) -> dict[str, Any]:
        return await self.__anext__()

    async def next_packed(self) -> list[Raw]:
        """The documents that are at hand, or the next batch, each as MessagePack; none at the end."""
        await self.collection.run(self._batches.refill())
        return self._batches.take_packed()

    async def to_list(self, length: int | None = None) -> list[dict[str, Any]]:
        """The documents that are left, at most length of them."""
        documents: list[dict[str, Any]] = []
        while length is None or len(documents) < length:
            try:
                documents.append(await self.__anext__())
            except StopAsyncIteration:
                break
        return documents

    async def close(self) -> None:
        """Let the node forget the cursor. One read to its end need not be closed."""
        await self.collection.run(self._batches.close())

    @property
    def alive(self) -> bool:
        """Whether there may be more documents."""
        return self._batches.alive

    @property
    def cursor_id(self) -> int | None:
        return self._batches.cursor_id

    @property
    def retrieved(self) -> int:
        """Documents handed out so far."""
        return self._batches.retrieved

    @property
    def address(self) -> str | None:
        """The node that answers, "host:port"; None before the first document."""
        return self._batches.node

    async def __aenter__(self) -> AsyncCommandCursor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
