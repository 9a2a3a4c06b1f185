"""Requests answered by an engine in this process: the same requests and answers that go over the wire, without one.

    request ──> LocalVerbs ──┬─ LocalReads    find, aggregate, ... and their cursors
                             ├─ LocalWrites   insert, update, ...
                             ├─ LocalTransactions   begin, commit, ... and the two above inside
                             └─ databases, collections, status: here

Runs on trio, in the task that asks. Bounds (INV-8): one exchange's requests are done one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from node.wire import (
    EMPTY_MAP,
    Abort,
    Aggregate,
    Answer,
    Anywhere,
    Backup,
    BackupCollections,
    BackupStatus,
    Begin,
    Bulk,
    Commit,
    Compact,
    Count,
    CreateDatabase,
    CreateIndexes,
    Delete,
    DeleteBackup,
    Distinct,
    DropCollection,
    DropDatabase,
    DropIndex,
    EstimatedCount,
    Explain,
    Failure,
    Find,
    FindAndModify,
    Get,
    Insert,
    Inside,
    KillCursor,
    ListBackups,
    ListCollections,
    ListDatabases,
    ListIndexes,
    More,
    Ping,
    PruneArchive,
    ReadBackup,
    Replace,
    Reply,
    Request,
    RestoreBackup,
    Scrub,
    Status,
    Update,
    VerifyBackup,
    encode_fields,
)
from storage import Engine, operations
from storage import errors as engine_errors

from .call import failure_of
from .errors import InvalidOperation, NetworkTimeout
from .exchange import Exchange
from .local_backups import LocalBackups
from .local_databases import LocalDatabases
from .local_reads import LocalReads
from .local_transactions import LocalTransactions
from .local_writes import LocalWrites


class LocalVerbs:
    """Over one open engine. refusal: why it takes no writes, or None."""

    def __init__(self, engine: Engine, refusal: engine_errors.TwinlogError | None) -> None:
        self._engine = engine
        self._databases = LocalDatabases(engine, refusal)
        self._reads = reads = LocalReads(self._databases)
        writes = LocalWrites(self._databases)
        self._transactions = transactions = LocalTransactions(self._databases)
        backups = LocalBackups(engine, self._databases)
        self._verbs: dict[type[Request], Callable[[Any], Awaitable[Reply]]] = {
            Ping: self._ping,
            Status: self._status,
            Scrub: self._scrub,
            Get: reads.get,
            Find: reads.find,
            More: reads.more,
            KillCursor: reads.kill_cursor,
            Count: reads.count,
            EstimatedCount: reads.estimated_count,
            Distinct: reads.distinct,
            Aggregate: reads.aggregate,
            Explain: reads.explain,
            ListIndexes: reads.list_indexes,
            Insert: writes.insert,
            Replace: writes.replace,
            Update: writes.update,
            FindAndModify: writes.find_and_modify,
            Delete: writes.delete,
            Bulk: writes.bulk,
            CreateIndexes: writes.create_indexes,
            DropIndex: writes.drop_index,
            DropCollection: writes.drop_collection,
            ListDatabases: self._list_databases,
            ListCollections: self._list_collections,
            CreateDatabase: self._create_database,
            DropDatabase: self._drop_database,
            Compact: self._compact,
            Begin: transactions.begin,
            Inside: transactions.inside,
            Commit: transactions.commit,
            Abort: transactions.abort,
            Backup: backups.backup,
            ListBackups: backups.list,
            BackupStatus: backups.status,
            DeleteBackup: backups.delete,
            VerifyBackup: backups.verify,
            RestoreBackup: backups.restore,
            BackupCollections: backups.collections,
            ReadBackup: backups.read,
            PruneArchive: backups.prune,
        }

    async def begin_reigns(self) -> None:
        """A primary after an unclean stop, or without a reign, begins one before it answers anything."""
        await self._databases.begin_reigns()

    async def ask(self, request: Request, timeout_s: float | None) -> Answer:
        """The answer to one request. Raises TwinlogError of the client."""
        if timeout_s is None:
            return await self._answer(request)
        with trio.move_on_after(timeout_s):
            return await self._answer(request)
        raise _timed_out(timeout_s)

    async def carry(self, exchange: Exchange) -> None:
        """Until the exchange is finished. Raises TwinlogError of the client."""
        timeout_s = math.inf if exchange.timeout_s is None else exchange.timeout_s
        with trio.move_on_after(timeout_s):
            while (item := exchange.take()) is not None:
                request = item[1]
                exchange.sent(request.id, item)
                exchange.answered(await self._answer(request))
                refusal = exchange.take_refusal()
                if refusal is not None:
                    raise failure_of(refusal)
            return
        raise _timed_out(timeout_s)

    async def close(self) -> None:
        await self._transactions.close()
        await self._reads.close()

    async def _answer(self, request: Request) -> Reply | Failure:
        if type(request) is Anywhere:
            request = request.request  # there is one node only
        verb = self._verbs.get(type(request))
        if verb is None:
            raise InvalidOperation(f"{type(request).__name__} is for nodes of a cluster, this database is embedded")
        try:
            return await verb(request)
        except OSError as error:
            refused = engine_errors.of_disk(error, type(request).__name__)
            return Failure(request.id, refused.code, refused.name, refused.message, refused.fields)
        except engine_errors.TwinlogError as error:
            if isinstance(error, engine_errors.DamagedRecord):
                self._engine.met_damage(error)
            return Failure(request.id, error.code, error.name, error.message, error.fields)

    async def _ping(self, request: Ping) -> Reply:
        await trio.lowlevel.checkpoint()
        return Reply(request.id, EMPTY_MAP)

    async def _status(self, request: Status) -> Reply:
        await trio.lowlevel.checkpoint()
        databases = {
            name: {"position": list(db.visible), "chain": db.visible_chain, "shards": db.shards}
            for name, db in self._engine.databases.items()
        }
        status = {"role": "embedded", "databases": databases, "unopened": self._engine.unopened}
        return Reply(request.id, encode_fields(status))

    async def _scrub(self, request: Scrub) -> Reply:
        scrubbing = self._engine.database(request.db).scrubbing
        report = await scrubbing.scrub_now() if request.begin else scrubbing.report
        return Reply(request.id, encode_fields(report.as_plain()))

    async def _list_databases(self, request: ListDatabases) -> Reply:
        await trio.lowlevel.checkpoint()
        return Reply(request.id, encode_fields({"databases": sorted(self._engine.databases)}))

    async def _list_collections(self, request: ListCollections) -> Reply:
        await trio.lowlevel.checkpoint()
        db = self._databases.for_reading(request.db)
        if db is None:
            return Reply(request.id, encode_fields({"collections": []}))
        return Reply(request.id, encode_fields({"collections": operations.list_collections(db)}), *db.visible)

    async def _create_database(self, request: CreateDatabase) -> Reply:
        await self._databases.for_writing(request.db, shards=request.shards, crc=request.crc)
        return Reply(request.id, EMPTY_MAP)

    async def _compact(self, request: Compact) -> Reply:
        self._databases.check_writable()
        db = self._engine.database(request.db)
        report = await db.compacting.compact_now()
        return Reply(request.id, encode_fields(report.as_fields()), *db.visible)

    async def _drop_database(self, request: DropDatabase) -> Reply:
        await self._databases.drop(request.db)
        return Reply(request.id, EMPTY_MAP)


def _timed_out(timeout_s: float) -> NetworkTimeout:
    return NetworkTimeout(f"the operation was not done within {timeout_s:g} s; whether a write was applied is unknown")
