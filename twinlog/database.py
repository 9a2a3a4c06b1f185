"""The blocking database: its collections by name, and what concerns it as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import administration
from .collection import Collection
from .dumps import Dumps
from .scope import Scope
from .transacting import ATTEMPTS, Transacting
from .transaction import Transaction, run_again
from .transfers import Transfers
from .unsupported import unsupported

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")


class Database(Dumps, Transfers):
    """One database of a client; created by its first write. db["name"] and db.name are collections."""

    def __init__(self, client: Client, name: str, scope: Scope) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a database's name must be a str, not {type(name).__name__}")
        self.client = client
        self.name = name
        self._scope = scope

    def with_options(self, *, timeout_s: float) -> Database:
        """The same database, each of whose calls waits at most timeout_s for an answer."""
        return Database(self.client, self.name, replace(self._scope, timeout_s=timeout_s))

    def get_collection(self, name: str) -> Collection:
        return Collection(self, name, self._scope)

    def list_collection_names(self) -> list[str]:
        return self.client.run(administration.list_collection_names(self._scope, self.name))

    def drop_collection(self, name_or_collection: str | Collection) -> None:
        """Drop a collection with all it holds; no error if there is none."""
        name = name_or_collection.name if isinstance(name_or_collection, Collection) else name_or_collection
        self.client.run(administration.drop_collection(self._scope, self.name, name))

    def compact(self, *, timeout_s: float = administration.COMPACT_TIMEOUT_S) -> dict[str, Any]:
        """Rewrite the files of the primary (or of this process) without what is stale. Reads and writes go on meanwhile.

        Returns {before, after: bytes, seconds, shards, findings: what was left as it is, and why}. Each node compacts its own files."""
        scope = replace(self._scope, timeout_s=timeout_s)
        return self.client.run(administration.compact(scope, self.name))

    def scrub(self, node: str | None = None) -> dict[str, Any]:
        """Read every file of this database at a node, by default the primary, hold it against its checksums and repair what is damaged from
        another node. Returns when the pass has ended: its findings, and in `damaged` what could not be repaired. Needs the role admin."""
        return self.client.run(administration.scrub(self._scope, self.name, node))

    def aggregate(self, *args: Any, **options: Any) -> NoReturn:
        """Not in this release: raises OperationFailure naming the collection's own."""
        raise unsupported("Database.aggregate")

    def transaction(self, *, max_time_ms: int | None = None) -> Transaction:
        """`with db.transaction() as tx`: reads see one moment, leaving the block commits all writes or none, an exception aborts.

        max_time_ms: how long it may be open; the node's own limit is the longest and the default. Raises WriteConflict at the commit
        when a document it wrote was changed meanwhile: run_transaction() then runs it again by itself.
        """
        return Transaction(self, Transacting(self._scope, self.name, max_time_ms=max_time_ms))

    def run_transaction(
        self, work: Callable[[Transaction], T], *, attempts: int = ATTEMPTS, max_time_ms: int | None = None
    ) -> T:
        """work(tx) in a transaction that is committed when it returns; its result. work is called again, in a new transaction, after a
        conflict, a lost connection or a failover: what it does besides must bear that.

        attempts: of work and commit; max_time_ms: no attempt begins after so long, by default two minutes. Raises what the last one raised.
        """
        return run_again(self, work, attempts=attempts, max_time_ms=max_time_ms)

    def last_position(self) -> tuple[int, int] | None:
        """The newest (epoch, seq) that an answer about this database carried, None before the first."""
        return self.client.last_position(self.name)

    def __getitem__(self, name: str) -> Collection:
        return self.get_collection(name)

    def __getattr__(self, name: str) -> Collection:
        if name.startswith("_"):
            raise AttributeError(f"a database has no attribute {name!r}; for the collection, use [{name!r}]")
        return self.get_collection(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Database) and (self.client, self.name) == (other.client, other.name)

    def __hash__(self) -> int:
        return hash((self.client, self.name))

    def __bool__(self) -> bool:
        raise NotImplementedError("a database is neither true nor false; compare with None")

    def __repr__(self) -> str:
        return f"Database({self.name!r})"
