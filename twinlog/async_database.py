"""The trio database: database.py's twin, to be awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import administration
from .async_backups import AsyncBackups
from .async_collection import AsyncCollection
from .async_transaction import AsyncTransaction, run_again
from .async_transfers import AsyncTransfers
from .scope import Scope
from .transacting import ATTEMPTS, Transacting
from .unsupported import unsupported

if TYPE_CHECKING:
    from .async_client import AsyncClient

T = TypeVar("T")


class AsyncDatabase(AsyncBackups, AsyncTransfers):
    """One database of a client; created by its first write. db["name"] and db.name are collections."""

    def __init__(self, client: AsyncClient, name: str, scope: Scope) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a database's name must be a str, not {type(name).__name__}")
        self.client = client
        self.name = name
        self._scope = scope

    def with_options(self, *, timeout_s: float) -> AsyncDatabase:
        """The same database, each of whose calls waits at most timeout_s for an answer."""
        return AsyncDatabase(self.client, self.name, replace(self._scope, timeout_s=timeout_s))

    def get_collection(self, name: str) -> AsyncCollection:
        return AsyncCollection(self, name, self._scope)

    async def list_collection_names(self) -> list[str]:
        return await self.client.run(administration.list_collection_names(self._scope, self.name))

    async def drop_collection(self, name_or_collection: str | AsyncCollection) -> None:
        """Drop a collection with all it holds; no error if there is none."""
        name = name_or_collection.name if isinstance(name_or_collection, AsyncCollection) else name_or_collection
        await self.client.run(administration.drop_collection(self._scope, self.name, name))

    async def compact(self, *, timeout_s: float = administration.COMPACT_TIMEOUT_S) -> dict[str, Any]:
        """Rewrite the files of the primary (or of this process) without what is stale. Reads and writes go on meanwhile.

        Returns {before, after: bytes, seconds, shards, findings: what was left as it is, and why}. Each node compacts its own files."""
        scope = replace(self._scope, timeout_s=timeout_s)
        return await self.client.run(administration.compact(scope, self.name))

    async def scrub(self, node: str | None = None) -> dict[str, Any]:
        """Read every file of this database at a node, by default the primary, hold it against its checksums and repair what is damaged from
        another node. Returns when the pass has ended: its findings, and in `damaged` what could not be repaired. Needs the role admin."""
        return await self.client.run(administration.scrub(self._scope, self.name, node))

    async def aggregate(self, *args: Any, **options: Any) -> NoReturn:
        """Not in this release: raises OperationFailure naming the collection's own."""
        raise unsupported("Database.aggregate")

    def transaction(self, *, max_time_ms: int | None = None) -> AsyncTransaction:
        """`async with db.transaction() as tx`: reads see one moment, leaving the block commits all writes or none, an exception aborts.

        max_time_ms: how long it may be open; the node's own limit is the longest and the default. Raises WriteConflict at the commit
        when a document it wrote was changed meanwhile: run_transaction() then runs it again by itself.
        """
        return AsyncTransaction(self, Transacting(self._scope, self.name, max_time_ms=max_time_ms))

    async def run_transaction(
        self, work: Callable[[AsyncTransaction], Awaitable[T]], *, attempts: int = ATTEMPTS, max_time_ms: int | None = None
    ) -> T:
        """await work(tx) in a transaction that is committed when it returns; its result. work is called again, in a new transaction, after a
        conflict, a lost connection or a failover: what it does besides must bear that.

        attempts: of work and commit; max_time_ms: no attempt begins after so long, by default two minutes. Raises what the last one raised.
        """
        return await run_again(self, work, attempts=attempts, max_time_ms=max_time_ms)

    def last_position(self) -> tuple[int, int] | None:
        """The newest (epoch, seq) that an answer about this database carried, None before the first."""
        return self.client.last_position(self.name)

    def __getitem__(self, name: str) -> AsyncCollection:
        return self.get_collection(name)

    def __getattr__(self, name: str) -> AsyncCollection:
        if name.startswith("_"):
            raise AttributeError(f"a database has no attribute {name!r}; for the collection, use [{name!r}]")
        return self.get_collection(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncDatabase) and (self.client, self.name) == (other.client, other.name)

    def __hash__(self) -> int:
        return hash((self.client, self.name))

    def __bool__(self) -> bool:
        raise NotImplementedError("a database is neither true nor false; compare with None")

    def __repr__(self) -> str:
        return f"AsyncDatabase({self.name!r})"
