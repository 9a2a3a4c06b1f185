"""Requests answered by an engine in this process: the same requests and answers that go over the wire, without one.

Runs on trio, in the task that asks. A write is answered when its commit is durable at the engine's own level (INV-1) and
visible to readers. A database is created by its first write, in a reign of its own.

Bounds (INV-8): CURSORS_MAX open cursors; one exchange's requests are done one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from msgspec import Raw

from node.wire import (
    ABSENT,
    EMPTY_MAP,
    Answer,
    Bulk,
    Count,
    CreateDatabase,
    Delete,
    DropCollection,
    DropDatabase,
    Failure,
    Find,
    Get,
    Insert,
    KillCursor,
    ListCollections,
    ListDatabases,
    More,
    Ping,
    Replace,
    Reply,
    Request,
    Status,
    encode_fields,
)
from storage import Cursor, Database, Engine, WriteResult, decode_value, operations
from storage import errors as engine_errors

from .call import failure_of
from .errors import InvalidOperation, NetworkTimeout
from .exchange import Exchange

CURSORS_MAX = 1_000
FIRST_EPOCH = 1


class LocalVerbs:
    """Over one open engine. refusal: why it takes no writes, or None."""

    def __init__(self, engine: Engine, refusal: engine_errors.TwinlogError | None) -> None:
        self._engine = engine
        self._refusal = refusal
        self._creating = trio.Lock()
        self._cursors: dict[int, tuple[Cursor, Database]] = {}
        self._last_cursor = 0
        self._verbs: dict[type[Request], Callable[[Any], Awaitable[Reply]]] = {
            Ping: self._ping,
            Status: self._status,
            Get: self._get,
            Find: self._find,
            More: self._more,
            KillCursor: self._kill_cursor,
            Count: self._count,
            Insert: self._insert,
            Replace: self._replace,
            Delete: self._delete,
            Bulk: self._bulk,
            ListDatabases: self._list_databases,
            ListCollections: self._list_collections,
            DropCollection: self._drop_collection,
            CreateDatabase: self._create_database,
            DropDatabase: self._drop_database,
        }

    async def begin_reigns(self) -> None:
        """A primary after an unclean stop, or without a reign, begins one before it answers anything."""
        for db in self._engine.databases.values():
            if self._refusal is not None:
                db.refuse_writes(self._refusal)
            elif (not db.history or db.unclean) and db.refusal is None:
                await _begin_reign(db)

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
        for cursor, _ in self._cursors.values():
            await cursor.close()
        self._cursors.clear()

    async def _answer(self, request: Request) -> Reply | Failure:
        verb = self._verbs.get(type(request))
        if verb is None:
            raise InvalidOperation(f"{type(request).__name__} is for nodes of a cluster, this database is embedded")
        try:
            return await verb(request)
        except engine_errors.TwinlogError as error:
            return Failure(request.id, error.code, error.name, error.message, error.fields)

    # Reading.

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

    async def _get(self, request: Get) -> Reply:
        db = self._for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, encode_fields({"doc": None}))
        document = await operations.get(db, request.collection, bytes(request.key))
        return _reply(request, db, {"doc": None if document is None else Raw(document)})

    async def _find(self, request: Find) -> Reply:
        spec, sort, projection = _value(request.filter), _value(request.sort), _value(request.projection)
        db = self._for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, encode_fields({"docs": [], "cursor": 0}))
        if len(self._cursors) >= CURSORS_MAX:
            raise engine_errors.BadRequest(
                f"{CURSORS_MAX} cursors are open, which is the limit; close cursors that are not read to their end"
            )
        cursor = await operations.find(
            db, request.collection, spec, sort=sort, projection=projection, skip=request.skip, limit=request.limit
        )
        self._last_cursor += 1
        self._cursors[self._last_cursor] = (cursor, db)
        return await self._batch(request, self._last_cursor, request.batch)

    async def _more(self, request: More) -> Reply:
        return await self._batch(request, request.cursor, request.batch)

    async def _batch(self, request: Request, cursor_id: int, rows: int) -> Reply:
        """The next documents of a cursor, which is forgotten with the last one or with any error."""
        found = self._cursors.pop(cursor_id, None)
        if found is None:
            raise engine_errors.CursorNotFound(f"cursor {cursor_id} is not open: run the query again")
        cursor, db = found
        documents = await cursor.next_batch(rows)
        if not cursor.done:
            self._cursors[cursor_id] = found
        answer = {"docs": [Raw(document) for document in documents], "cursor": 0 if cursor.done else cursor_id}
        return Reply(request.id, encode_fields(answer), *cursor.view.position)

    async def _kill_cursor(self, request: KillCursor) -> Reply:
        found = self._cursors.pop(request.cursor, None)
        if found is not None:
            await found[0].close()
        return Reply(request.id, EMPTY_MAP)

    async def _count(self, request: Count) -> Reply:
        spec = _value(request.filter)
        db = self._for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, encode_fields({"n": 0}))
        return _reply(request, db, {"n": await operations.count(db, request.collection, spec)})

    async def _list_databases(self, request: ListDatabases) -> Reply:
        await trio.lowlevel.checkpoint()
        return Reply(request.id, encode_fields({"databases": sorted(self._engine.databases)}))

    async def _list_collections(self, request: ListCollections) -> Reply:
        await trio.lowlevel.checkpoint()
        db = self._for_reading(request.db, None)
        if db is None:
            return Reply(request.id, encode_fields({"collections": []}))
        return _reply(request, db, {"collections": operations.list_collections(db)})

    def _for_reading(self, name: str, min_position: Sequence[int] | None) -> Database | None:
        """The database, None when there is none: it reads as empty. One that could not be opened is refused."""
        db = self._engine.databases.get(name)
        if db is None and name in self._engine.unopened:
            return self._engine.database(name)
        shown = (0, 0) if db is None else tuple(db.visible)
        if min_position is not None and shown < tuple(min_position):
            raise engine_errors.PositionTimeout(
                f"{name} is at {shown}, which no write of another process will change; {tuple(min_position)} was asked for"
            )
        return db

    # Writing.

    async def _insert(self, request: Insert) -> Reply:
        db = await self._for_writing(request.db)
        documents = [bytes(document) for document in request.docs]
        result = operations.insert_now(
            db, request.collection, documents, ordered=request.ordered, request=request.request
        )
        if result is None:
            result = await operations.insert(
                db, request.collection, documents, ordered=request.ordered, request=request.request
            )
        return await _written(request, db, result, {"n": result.inserted, "errors": _error_rows(result)})

    async def _replace(self, request: Replace) -> Reply:
        spec = _value(request.filter)
        db = await self._for_writing(request.db)
        result = await operations.replace_one(
            db, request.collection, spec, bytes(request.doc), upsert=request.upsert, request=request.request
        )
        upserted = None if result.upserted_id is None else Raw(result.upserted_id)
        answer = {"matched": result.matched, "modified": result.modified, "upserted": upserted}
        return await _written(request, db, result, answer)

    async def _delete(self, request: Delete) -> Reply:
        spec = _value(request.filter)
        db = await self._for_writing(request.db)
        result = await operations.delete(db, request.collection, spec, many=request.many, request=request.request)
        return await _written(request, db, result, {"n": result.deleted})

    async def _bulk(self, request: Bulk) -> Reply:
        writes = [_bulk_write(write) for write in request.writes]
        db = await self._for_writing(request.db)
        result = await operations.bulk(
            db, request.collection, writes, ordered=request.ordered, request=request.request
        )
        answer = {
            "inserted": result.inserted,
            "matched": result.matched,
            "modified": result.modified,
            "deleted": result.deleted,
            "upserted": {index: Raw(key) for index, key in result.upserted.items()},
            "errors": _error_rows(result),
        }
        return await _written(request, db, result, answer)

    async def _drop_collection(self, request: DropCollection) -> Reply:
        if request.db not in self._engine.databases:
            return Reply(request.id, EMPTY_MAP)
        db = await self._for_writing(request.db)
        result = await operations.drop_collection(db, request.collection)
        return await _written(request, db, result, {})

    async def _create_database(self, request: CreateDatabase) -> Reply:
        await self._for_writing(request.db, shards=request.shards, crc=request.crc)
        return Reply(request.id, EMPTY_MAP)

    async def _drop_database(self, request: DropDatabase) -> Reply:
        self._check_writable()
        async with self._creating:
            if request.db in self._engine.databases:
                await self._engine.drop_database(request.db)
        return Reply(request.id, EMPTY_MAP)

    def _check_writable(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    async def _for_writing(self, name: str, *, shards: int | None = None, crc: bool | None = None) -> Database:
        """The database, created if need be. Options of an existing one must be those it has."""
        self._check_writable()
        db = self._engine.databases.get(name)
        if db is not None and shards is None and crc is None:
            return db
        async with self._creating:
            db = await self._engine.create_database(name, shards=shards, crc=crc)
            if not db.history:
                await _begin_reign(db)
        return db


async def _begin_reign(db: Database) -> None:
    seq = db.begin_reign(max(FIRST_EPOCH, db.position.epoch))
    db.flush()
    await db.visible_advance.wait_for(seq)


async def _written(request: Request, db: Database, result: WriteResult, answer: dict[str, Any]) -> Reply:
    """The reply to a write, once it is durable and visible."""
    epoch = db.position.epoch
    db.flush()
    await db.visible_advance.wait_for(result.seq)
    return Reply(request.id, encode_fields(answer), epoch, result.seq)


def _reply(request: Request, db: Database, answer: dict[str, Any]) -> Reply:
    return Reply(request.id, encode_fields(answer), *db.visible)


def _error_rows(result: WriteResult) -> list[list[Any]]:
    return [
        [row.index, row.error.code, row.error.name, row.error.message, row.error.fields] for row in result.errors
    ]


def _value(raw: Raw) -> Any:
    return None if raw is ABSENT else decode_value(bytes(raw))


def _bulk_write(write: list[Raw]) -> list[Any]:
    """A write as the engine takes it: documents stay bytes, everything else is decoded."""
    kind = decode_value(bytes(write[0]))
    document_at = {"insert": 1, "replace": 2}.get(kind)
    return [kind] + [
        bytes(part) if at == document_at else decode_value(bytes(part)) for at, part in enumerate(write[1:], start=1)
    ]


def _timed_out(timeout_s: float) -> NetworkTimeout:
    return NetworkTimeout(f"the operation was not done within {timeout_s:g} s; whether a write was applied is unknown")
