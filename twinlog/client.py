"""The blocking client: databases by name, nodes, positions and sessions. connect() and open() make it.

A client and the views made from it (read_from, session, with_options) share one backend: the pools of connections, or the
embedded engine. Closing the client closes the backend; leaving a session ends nothing but the session.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, TypeVar

from . import administration
from .call import Call
from .database import Database
from .errors import ConfigurationError
from .scope import Positions, Scope
from .url import ReadFrom
from .verbs import Plan

T = TypeVar("T")


class Backend(Protocol):
    """What carries plans and calls: BlockingBackend or EmbeddedBackend."""

    def run(self, plan: Plan[T]) -> T: ...

    def ask(self, call: Call[T]) -> T: ...

    def close(self) -> None: ...

    def addresses(self) -> tuple[str, ...]:
        """The nodes known by now, "host:port"; none for an embedded engine."""
        ...

    def primary(self) -> str | None:
        """The node last known as primary."""
        ...


class Client:
    """client["name"] and client.name are databases. Safe to share between threads; make a new one after a fork."""

    def __init__(
        self,
        backend: Backend,
        scope: Scope,
        new_guard: Callable[[], AbstractContextManager[object]],
        *,
        database: str | None = None,
        owns_backend: bool = True,
    ) -> None:
        self._backend = backend
        self._scope = scope
        self._new_guard = new_guard
        self._default_database = database
        self._owns_backend = owns_backend

    def run(self, plan: Plan[T]) -> T:
        """Carry out a plan of verbs.py, bulk.py or administration.py."""
        return self._backend.run(plan)

    def ask(self, call: Call[T]) -> T:
        """Carry out a call of verbs.py."""
        return self._backend.ask(call)

    # Databases.

    def get_database(self, name: str | None = None) -> Database:
        """The database of that name, by default the one that the URL names."""
        if name is None:
            name = self._default_database
        if name is None:
            raise ConfigurationError("no database is named: write it at the end of the URL, or use client[name]")
        return Database(self, name, self._scope)

    def list_database_names(self) -> list[str]:
        return self.run(administration.list_database_names(self._scope))

    def create_database(self, name: str, *, shards: int | None = None, crc: bool | None = None) -> Database:
        """Create a database with options of its own, which are fixed from then on. Without any, the first write does it.

        shards: partitions, 1 to 1024; crc: whether shard records carry a checksum of their body.
        """
        self.run(administration.create_database(self._scope, name, shards=shards, crc=crc))
        return self[name]

    def drop_database(self, name_or_database: str | Database) -> None:
        """Drop a database with all it holds; no error if there is none."""
        name = name_or_database.name if isinstance(name_or_database, Database) else name_or_database
        self.run(administration.drop_database(self._scope, name))

    # Nodes.

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of the URL and those that nodes named, "host:port"."""
        return self._backend.addresses()

    @property
    def primary(self) -> str | None:
        """The node last known as primary."""
        return self._backend.primary()

    def ping(self, node: str | None = None) -> dict[str, Any]:
        """Ask a node, by default the primary first, for a sign of life. Raises ConnectionFailure."""
        return self.run(administration.ping(self._scope, node))

    def status(self, node: str | None = None, *, mark: bool = False) -> dict[str, Any]:
        """A node's view of itself and its peers. mark: after comparing state hashes with every standby."""
        return self.run(administration.status(self._scope, node, mark=mark))

    def promote(self, node: str, *, force: bool = False, automatic: bool = False) -> dict[str, Any]:
        """Make a node the primary of a new epoch. force: even if commits are known to be missing there. automatic: a program asks, and not
        an operator: refused while the cluster is paused."""
        return self.run(administration.promote(self._scope, node, force=force, automatic=automatic))

    def switchover(self, to: str, *, timeout_s: float = 10.0, automatic: bool = False) -> dict[str, Any]:
        """Hand the primary's office over to a standby by its name, losing nothing, or change nothing. It must have caught up within timeout_s.

        Gives primary, epoch, and stopped_s: for how long no node took writes. Raises OperationFailure naming what stands in the way.
        """
        return self.run(administration.switchover(self._scope, to, timeout_s=timeout_s, automatic=automatic))

    # Orders about roles; docs/operations.md says what each does. node: an address, "host:port".

    def fence(self, node: str, why: str = "") -> dict[str, Any]:
        """Keep a node from taking writes, leading, following and being promoted until unfence(). Gives role, epoch, was, and lacking:
        how many commits each standby is known to lack."""
        return self.run(administration.fence(self._scope, node, why))

    def unfence(self, node: str) -> dict[str, Any]:
        """End a fence: the node is primary again where it was and nobody else took the office, else a standby."""
        return self.run(administration.unfence(self._scope, node))

    def rejoin(self, node: str, *, reseed: bool = False) -> dict[str, Any]:
        """Make a fenced, frozen or stopped node follow the primary again. reseed: from new copies; the old ones are salvaged."""
        return self.run(administration.rejoin(self._scope, node, reseed=reseed))

    def reseed(self, node: str, database: str) -> dict[str, Any]:
        """Replace a standby's copy of one database from the primary; the old one is salvaged."""
        return self.run(administration.reseed(self._scope, node, database))

    def pause(self, why: str = "", *, node: str | None = None) -> dict[str, Any]:
        """Refuse changes of role that automation asks for, on all nodes. Gives paused, reached, and missing: nodes that learn it later."""
        return self.run(administration.pause(self._scope, node, why))

    def resume(self, *, node: str | None = None) -> dict[str, Any]:
        """The end of pause()."""
        return self.run(administration.resume(self._scope, node))

    def role_history(self, node: str | None = None) -> dict[str, Any]:
        """A node's changes of role, oldest first, and the reigns of its databases."""
        return self.run(administration.role_history(self._scope, node))

    def check(self, node: str | None = None) -> dict[str, Any]:
        """What a failover is decided by, as a node knows it: who could lead, and what would be lost."""
        return self.run(administration.check(self._scope, node))

    # Positions, sessions, options.

    def last_position(self, database: str) -> tuple[int, int] | None:
        """The newest (epoch, seq) that an answer about the database carried, None before the first."""
        return self._scope.positions.of(database)

    def session(self, *, read_from: str | ReadFrom | None = None) -> Client:
        """A view whose reads see at least what the session has written and read, from whichever node they come.

        Each read asks for the session's newest position of its database; a standby that is behind waits for it, and
        after its own time limit refuses (ExecutionTimeout).
        """
        scope = replace(self._scope, positions=Positions(self._new_guard()), consistent=True)
        return self._view(scope if read_from is None else replace(scope, read_from=ReadFrom.of(read_from)))

    def read_from(self, kind: str | ReadFrom, *, min_position: tuple[int, int] | None = None) -> Client:
        """A view whose reads go to "primary", "standby" or "any", and see at least min_position of their database."""
        return self._view(replace(self._scope, read_from=ReadFrom.of(kind), min_position=min_position))

    def with_options(self, *, timeout_s: float) -> Client:
        """A view each of whose calls waits at most timeout_s for an answer."""
        return self._view(replace(self._scope, timeout_s=timeout_s))

    def _view(self, scope: Scope) -> Client:
        return Client(
            self._backend, scope, self._new_guard, database=self._default_database, owns_backend=False
        )

    # Life.

    def close(self) -> None:
        """Close every connection. A view closes nothing."""
        if self._owns_backend:
            self._backend.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Database:
        return self.get_database(name)

    def __getattr__(self, name: str) -> Database:
        if name.startswith("_"):
            raise AttributeError(f"a client has no attribute {name!r}; for the database, use [{name!r}]")
        return self.get_database(name)

    def __repr__(self) -> str:
        return f"Client({', '.join(self.nodes) or 'embedded'})"
