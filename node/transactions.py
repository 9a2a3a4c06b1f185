"""The transactions that clients have open on this node: begin, requests inside, commit, abort. Knows storage's transactions, no socket.

    begin ──> an engine's transaction ──> its scope stands in for the database ──> the usual verbs (reads.py, writes.py) ──> commit
                                                                                                             └─> or abort

A transaction belongs to who began it (key and user), not to a connection; to anybody else it is not there. One request of it is
under way at a time. A verb inside answers at once: nothing is durable before the commit, whose answer waits for its
acknowledgement (INV-1). A request that is broken off in its middle (its client went away, a bug) takes the transaction with it, as
does the engine's time limit. The engine bounds how many are open and what they hold (INV-8).

A commit that is asked again is answered from what the commit itself remembers (its request id), on whichever node is primary by
then: when it is not there, it was not kept, and the client may run the whole transaction again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from storage import errors

from . import wire
from .config import Limits
from .cursors import CursorTable
from .metrics import Metrics
from .outcomes import Done, Written
from .reads import Reads
from .users import Role
from .writes import Writes

ENDS = ("committed", "aborted", "conflict", "ended")  # ended: by the node, for its time or the memory it held

Verb = Callable[[Any, Any], Awaitable[Done | Written]]

_OUTSIDE = {
    wire.Explain: "explain",
    wire.ListIndexes: "list_indexes",
    wire.CreateIndexes: "create_indexes",
    wire.DropIndex: "drop_index",
    wire.ListCollections: "list_collections",
    wire.DropCollection: "drop_collection",
}


@dataclass(frozen=True, slots=True)
class _Inside:
    """What verbs see of the caller: its cursors belong to the transaction."""

    owner: str
    role: Role


class _OneDatabase:
    """Stands where verbs look for the engine: it knows one database, the transaction's scope."""

    def __init__(self, engine: Any, name: str, scope: Any) -> None:
        self.seams = engine.seams
        self.databases = {name: scope}
        self._name = name

    def database(self, name: str) -> Any:
        found = self.databases.get(name)
        if found is None:
            raise errors.BadRequest(
                f"the transaction is one of database {self._name!r}, the request names {name!r};"
                f" a transaction has one database: begin another one there"
            )
        return found


class _WritesInside(Writes):
    """The writing verbs, in a database that is there and whose commits wait for nothing."""

    def at_hand(self, name: str) -> Any:
        return self._engine.database(name)

    async def database(self, name: str) -> Any:
        self._member.check_writable()
        return self._engine.database(name)


class OpenTransaction:
    """One transaction as the node knows it. running: the request that is under way inside."""

    def __init__(self, owner: str, db: Any, transaction: Any, reads: Reads, writes: Writes) -> None:
        self.id: bytes = transaction.id
        self.owner = owner
        self.cursor_owner = f"transaction/{self.id.hex()}"
        self.db = db
        self.transaction = transaction
        self.position: tuple[int, int] = tuple(transaction.position)
        self.reads = reads
        self.writes = writes
        self.running: trio.CancelScope | None = None
        self.committing: trio.Event | None = None  # set when that commit has come to its end
        self.verbs: dict[type[wire.Request], tuple[Role, Verb]] = {
            wire.Get: (Role.READ, reads.get),
            wire.Find: (Role.READ, reads.find),
            wire.More: (Role.READ, reads.more),
            wire.KillCursor: (Role.READ, reads.kill_cursor),
            wire.Count: (Role.READ, reads.count),
            wire.EstimatedCount: (Role.READ, reads.estimated_count),
            wire.Distinct: (Role.READ, reads.distinct),
            wire.Aggregate: (Role.READ, reads.aggregate),
            wire.Insert: (Role.READWRITE, writes.insert),
            wire.Replace: (Role.READWRITE, writes.replace),
            wire.Update: (Role.READWRITE, writes.update),
            wire.FindAndModify: (Role.READWRITE, writes.find_and_modify),
            wire.Delete: (Role.READWRITE, writes.delete),
            wire.Bulk: (Role.READWRITE, writes.bulk),
        }


class Transactions:
    """Over one engine and one member. reads, writes: the verbs outside."""

    def __init__(
        self,
        engine: Any,
        member: Any,
        cursors: CursorTable,
        limits: Limits,
        reads: Reads,
        writes: Writes,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._member = member
        self._cursors = cursors
        self._limits = limits
        self._reads = reads
        self._writes = writes
        self._requests = metrics.requests
        self._ends = metrics.transactions
        self._open: dict[bytes, OpenTransaction] = {}
        metrics.watch("transactions_open", "Open transactions", lambda: len(self._open))

    def counts(self) -> dict[str, int]:
        """What the node's status tells: how many are open, and how the others ended."""
        return {"open": len(self._open), **{end: self._ends[end] for end in ENDS}}

    def begin_now(self, caller: Any, request: wire.Begin) -> Done | None:
        db = self._engine.databases.get(request.db)
        if db is None or (request.min_position is not None and db.visible < tuple(request.min_position)):
            return None
        return self._begun(caller, db, request)

    async def begin(self, caller: Any, request: wire.Begin) -> Done:
        db = await self._reads.at_position(request.db, request.min_position)
        if db is None:
            if caller.role < Role.READWRITE:
                raise errors.NoSuchDatabase(
                    f"there is no database {request.db!r} here to begin a transaction in; a user who may write creates it"
                )
            db = await self._writes.database(request.db)
        return self._begun(caller, db, request)

    def _begun(self, caller: Any, db: Any, request: wire.Begin) -> Done:
        transaction = db.transactions.begin(time_limit_s=request.max_time_ms / 1000 if request.max_time_ms else None)
        engine = _OneDatabase(self._engine, request.db, transaction.scope)
        writes = _WritesInside(engine, self._member, _untouched)
        reads = Reads(engine, self._cursors, self._limits, writes)
        opened = OpenTransaction(caller.owner, db, transaction, reads, writes)
        self._open[opened.id] = opened
        return Done(wire.encode_fields({"transaction": opened.id}), *opened.position)

    def inside_now(self, caller: Any, request: wire.Inside) -> Done | None:
        """The commonest two in place, as outside."""
        inner = request.request
        kind = type(inner)
        self._requests[kind.__struct_config__.tag] += 1
        outcome: Done | Written | None = None
        if kind is wire.Get:
            opened, _ = self._judged(caller, request)
            outcome = opened.reads.get_now(caller, inner)
        elif kind is wire.Insert:
            opened, _ = self._judged(caller, request)
            outcome = opened.writes.insert_now(caller, inner)
        return None if outcome is None else Done(outcome.result, *opened.position)

    async def inside(self, caller: Any, request: wire.Inside) -> Done:
        opened, verb = self._judged(caller, request)
        return await self._run(opened, verb, request.request, caller.role)

    def _judged(self, caller: Any, request: wire.Inside) -> tuple[OpenTransaction, Verb]:
        """The transaction and the verb. Raises what speaks against it."""
        opened = self._found(caller, request.transaction)
        kind = type(request.request)
        found = opened.verbs.get(kind)
        if found is None:
            raise errors.OperationNotSupportedInTransaction(
                f"{_OUTSIDE[kind]} is not possible inside a transaction; do it before or after it"
            )
        role, verb = found
        if caller.role < role:
            raise errors.Unauthorized(
                f"{kind.__struct_config__.tag} needs the role {role.name.lower()}, this user has {caller.role.name.lower()};"
                f" log in as another user"
            )
        return opened, verb

    async def _run(self, opened: OpenTransaction, verb: Verb, inner: wire.Request, role: Role) -> Done:
        """One verb inside. Whatever breaks it off in its middle ends the transaction: half of a verb must not be committed."""
        whole = False
        opened.running = trio.CancelScope()
        try:
            with opened.running:
                try:
                    outcome = await verb(_Inside(opened.cursor_owner, role), inner)
                    whole = True
                except errors.TwinlogError:
                    whole = True
                    raise
        finally:
            opened.running = None
            if not whole:
                self._ends["aborted"] += 1
                await self._end(opened)
        if not whole:
            raise self._gone(opened.id)
        return Done(outcome.result, *opened.position)

    async def commit(self, caller: Any, request: wire.Commit) -> Done | Written:
        """Not broken off when its client goes: what it did would be known to nobody."""
        with trio.CancelScope(shield=True):
            opened = self._open.get(request.transaction)
            if opened is not None and opened.owner == caller.owner and opened.committing is not None:
                await opened.committing.wait()
            try:
                opened = self._found(caller, request.transaction)
            except errors.NoSuchTransaction:
                return self._asked_again(request)
            return await self._commit(opened, request)

    async def _commit(self, opened: OpenTransaction, request: wire.Commit) -> Done | Written:
        opened.committing = trio.Event()
        try:
            result = await opened.transaction.commit(request.request)
        except errors.WriteConflict:
            self._ends["conflict"] += 1
            raise
        finally:
            opened.committing.set()
            opened.committing = None
            self._writes.touched(opened.db)
            if not self._is_open(opened):
                await self._end(opened)
        self._ends["committed"] += 1
        if result.seq <= opened.position[1]:  # nothing was written
            return Done(wire.EMPTY_MAP, *opened.position)
        return Written(opened.db, wire.EMPTY_MAP, opened.db.position.epoch, result.seq)

    def _asked_again(self, request: wire.Commit) -> Written:
        """The answer to a commit that is done, by what it left under its request id. Raises NotPrimary, NoSuchTransaction."""
        self._member.check_writable()
        db = self._engine.databases.get(request.db)
        kept = None if db is None else db.transactions.committed(request.request)
        if kept is None:
            raise self._gone(request.transaction)
        return Written(db, wire.EMPTY_MAP, db.position.epoch, kept.seq)

    async def abort(self, caller: Any, request: wire.Abort) -> Done:
        opened = self._open.get(request.transaction)
        if opened is not None and opened.owner == caller.owner and opened.committing is None:
            if opened.running is not None:
                opened.running.cancel()  # the verb that is under way ends the transaction
            else:
                self._ends["aborted"] += 1
                await self._end(opened)
        return Done(wire.EMPTY_MAP)

    async def close_ended(self) -> int:
        """Forget those that the engine has ended, and close their cursors; returns how many."""
        ended = [opened for opened in self._open.values() if not self._is_open(opened) and opened.running is None]
        self._ends["ended"] += len(ended)
        for opened in ended:
            await self._end(opened)
        return len(ended)

    async def close_all(self) -> None:
        for opened in list(self._open.values()):
            await self._end(opened)

    # Inside.

    def _found(self, caller: Any, transaction: bytes) -> OpenTransaction:
        """The caller's own transaction, when no other request is under way in it. Raises NoSuchTransaction, BadRequest."""
        opened = self._open.get(transaction)
        if opened is None or opened.owner != caller.owner or self._engine.databases.get(opened.db.name) is not opened.db:
            raise self._gone(transaction)
        opened.transaction.check()  # raises when the engine has ended it, and says why
        if opened.running is not None or opened.committing is not None:
            raise errors.BadRequest(
                "another request of this transaction is under way; wait for its answer first: a transaction does one thing at a time"
            )
        return opened

    def _is_open(self, opened: OpenTransaction) -> bool:
        return opened.transaction.is_open and self._engine.databases.get(opened.db.name) is opened.db

    async def _end(self, opened: OpenTransaction) -> None:
        if self._open.pop(opened.id, None) is None:
            return
        opened.transaction.abort()
        with trio.CancelScope(shield=True):
            await self._cursors.close_of(opened.cursor_owner)

    def _gone(self, transaction: bytes) -> errors.NoSuchTransaction:
        return errors.NoSuchTransaction(
            f"transaction {transaction.hex()} is not open here: it was committed or aborted, was open for longer than its time limit,"
            f" or the node was restarted; run it again from its beginning"
        )


def _untouched(db: Any) -> None:
    """What is written inside a transaction is for its commit to flush."""
