"""Transactions of an engine in this process: begin, requests inside, commit, abort, as a node answers them.

    begin ──> the engine's transaction ──> its scope stands in for the database ──> the usual verbs (local_reads, local_writes) ──> commit

Bounds (INV-8): the engine's own, on how many are open, for how long and how much they hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from node.wire import (
    EMPTY_MAP,
    Abort,
    Aggregate,
    Begin,
    Bulk,
    Commit,
    Count,
    Delete,
    Distinct,
    EstimatedCount,
    Find,
    FindAndModify,
    Get,
    Insert,
    Inside,
    KillCursor,
    More,
    Replace,
    Reply,
    Request,
    Update,
    encode_fields,
)
from storage import Database
from storage import errors as engine_errors

from .local_databases import LocalDatabases
from .local_reads import LocalReads
from .local_writes import LocalWrites


class _Scoped:
    """Stands where verbs look for databases: it knows one, the transaction's scope."""

    def __init__(self, name: str, transaction: Any, check_writable: Callable[[], None]) -> None:
        self._name = name
        self._scope = transaction.scope
        self._position: tuple[int, int] = tuple(transaction.position)
        self.check_writable = check_writable

    def for_reading(self, name: str, min_position: Sequence[int] | None = None) -> Any:
        if name != self._name:
            raise engine_errors.BadRequest(f"the transaction is one of database {self._name!r}, the request names {name!r}")
        return self._scope

    async def for_writing(self, name: str) -> Any:
        self.check_writable()
        return self.for_reading(name)

    async def kept(self, db: Any, seq: int) -> tuple[int, int]:
        """Nothing is kept before the commit: the position is the snapshot's."""
        await trio.lowlevel.checkpoint()
        return self._position


class _Open:
    """One open transaction and its verbs."""

    def __init__(self, db: Database, transaction: Any, check_writable: Callable[[], None]) -> None:
        self.db = db
        self.transaction = transaction
        self.running: trio.CancelScope | None = None
        scoped: Any = _Scoped(db.name, transaction, check_writable)
        self.reads = reads = LocalReads(scoped)
        writes = LocalWrites(scoped)
        self.verbs: dict[type[Request], Callable[[Any], Awaitable[Reply]]] = {
            Get: reads.get,
            Find: reads.find,
            More: reads.more,
            KillCursor: reads.kill_cursor,
            Count: reads.count,
            EstimatedCount: reads.estimated_count,
            Distinct: reads.distinct,
            Aggregate: reads.aggregate,
            Insert: writes.insert,
            Replace: writes.replace,
            Update: writes.update,
            FindAndModify: writes.find_and_modify,
            Delete: writes.delete,
            Bulk: writes.bulk,
        }


class LocalTransactions:
    """Every method takes a request and returns its Reply. Raises the engine's errors."""

    def __init__(self, databases: LocalDatabases) -> None:
        self._databases = databases
        self._open: dict[bytes, _Open] = {}

    async def close(self) -> None:
        for opened in list(self._open.values()):
            await self._end(opened)

    async def begin(self, request: Begin) -> Reply:
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            db = await self._databases.for_writing(request.db)
        for opened in [opened for opened in self._open.values() if not opened.transaction.is_open and opened.running is None]:
            await self._end(opened)
        transaction = db.transactions.begin(time_limit_s=request.max_time_ms / 1000 if request.max_time_ms else None)
        self._open[transaction.id] = _Open(db, transaction, self._databases.check_writable)
        return Reply(request.id, encode_fields({"transaction": transaction.id}), *transaction.position)

    async def inside(self, request: Inside) -> Reply:
        """One request inside. What is broken off in its middle ends the transaction: half of a verb must not be committed."""
        opened = self._found(request.transaction)
        verb = opened.verbs[type(request.request)]
        whole = False
        opened.running = trio.CancelScope()
        try:
            with opened.running:
                try:
                    reply = await verb(request.request)
                    whole = True
                except engine_errors.TwinlogError:
                    whole = True
                    raise
        finally:
            opened.running = None
            if not whole:
                await self._end(opened)
        if not whole:
            raise _gone()
        return Reply(request.id, reply.result, *opened.transaction.position)

    async def commit(self, request: Commit) -> Reply:
        """Not broken off in its middle: what it did would be known to nobody."""
        with trio.CancelScope(shield=True):
            try:
                opened = self._found(request.transaction)
            except engine_errors.NoSuchTransaction:
                db = self._databases.for_reading(request.db)
                kept = None if db is None else db.transactions.committed(request.request)
                if kept is None:
                    raise
                return await self._kept(request, db, kept.seq)
            opened.running = trio.CancelScope()
            try:
                result = await opened.transaction.commit(request.request)
            finally:
                opened.running = None
                if not opened.transaction.is_open:
                    await self._end(opened)
            return await self._kept(request, opened.db, result.seq)

    async def abort(self, request: Abort) -> Reply:
        opened = self._open.get(request.transaction)
        if opened is not None and opened.running is not None:
            opened.running.cancel()
        elif opened is not None:
            await self._end(opened)
        return Reply(request.id, EMPTY_MAP)

    async def _kept(self, request: Commit, db: Database, seq: int) -> Reply:
        return Reply(request.id, EMPTY_MAP, *await self._databases.kept(db, seq))

    def _found(self, transaction: bytes) -> _Open:
        opened = self._open.get(transaction)
        if opened is None or self._databases.engine.databases.get(opened.db.name) is not opened.db:
            raise _gone()
        opened.transaction.check()  # raises when the engine has ended it, and says why
        if opened.running is not None:
            raise engine_errors.BadRequest("another call of this transaction is under way: a transaction does one thing at a time")
        return opened

    async def _end(self, opened: _Open) -> None:
        if self._open.pop(opened.transaction.id, None) is not None:
            opened.transaction.abort()
            with trio.CancelScope(shield=True):
                await opened.reads.close()


def _gone() -> engine_errors.NoSuchTransaction:
    return engine_errors.NoSuchTransaction("the transaction is over: run it again from its beginning")
