"""Writing requests answered by an engine in this process: each when its commit is durable at the engine's own level (INV-1) and
visible to readers."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from node.wire import (
    EMPTY_MAP,
    Bulk,
    CreateIndexes,
    Delete,
    DropCollection,
    DropIndex,
    FindAndModify,
    Insert,
    Replace,
    Reply,
    Request,
    Update,
    encode_fields,
)
from storage import Database, WriteResult, decode_value, operations

from .local_databases import LocalDatabases
from .local_reads import value_of


class LocalWrites:
    """Every method takes a request and returns its Reply. Raises the engine's errors."""

    def __init__(self, databases: LocalDatabases) -> None:
        self._databases = databases

    async def insert(self, request: Insert) -> Reply:
        db = await self._databases.for_writing(request.db)
        documents = [bytes(document) for document in request.docs]
        result = operations.insert_now(
            db, request.collection, documents, ordered=request.ordered, request=request.request
        )
        if result is None:
            result = await operations.insert(
                db, request.collection, documents, ordered=request.ordered, request=request.request
            )
        return await self._written(request, db, result.seq, {"n": result.inserted, "errors": _error_rows(result)})

    async def replace(self, request: Replace) -> Reply:
        spec, sort = value_of(request.filter), value_of(request.sort)
        db = await self._databases.for_writing(request.db)
        result = await operations.replace_one(
            db,
            request.collection,
            spec,
            bytes(request.doc),
            upsert=request.upsert,
            sort=sort,
            request=request.request,
        )
        return await self._written(request, db, result.seq, _changed(result))

    async def update(self, request: Update) -> Reply:
        spec, change = value_of(request.filter), value_of(request.change)
        array_filters, sort = value_of(request.array_filters), value_of(request.sort)
        db = await self._databases.for_writing(request.db)
        result = await operations.update(
            db,
            request.collection,
            spec,
            change,
            many=request.many,
            upsert=request.upsert,
            array_filters=array_filters,
            sort=sort,
            request=request.request,
        )
        return await self._written(request, db, result.seq, _changed(result))

    async def find_and_modify(self, request: FindAndModify) -> Reply:
        action = operations.Action[request.action.upper()]
        replaces = action is operations.Action.REPLACE
        change = bytes(request.change) if replaces else value_of(request.change)
        spec, sort, projection = value_of(request.filter), value_of(request.sort), value_of(request.projection)
        array_filters = value_of(request.array_filters)
        db = await self._databases.for_writing(request.db)
        result, document = await operations.find_one_and(
            db,
            request.collection,
            spec,
            action=action,
            change=change,
            sort=sort,
            projection=projection,
            upsert=request.upsert,
            after=request.after,
            array_filters=array_filters,
            request=request.request,
        )
        answer = {"doc": None if document is None else Raw(document), "deleted": result.deleted, **_changed(result)}
        return await self._written(request, db, result.seq, answer)

    async def delete(self, request: Delete) -> Reply:
        spec = value_of(request.filter)
        db = await self._databases.for_writing(request.db)
        result = await operations.delete(db, request.collection, spec, many=request.many, request=request.request)
        return await self._written(request, db, result.seq, {"n": result.deleted})

    async def bulk(self, request: Bulk) -> Reply:
        writes = [_bulk_write(write) for write in request.writes]
        db = await self._databases.for_writing(request.db)
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
        return await self._written(request, db, result.seq, answer)

    async def create_indexes(self, request: CreateIndexes) -> Reply:
        db = await self._databases.for_writing(request.db)
        names: list[str] = []
        seq = 0
        for keys, options in request.indexes:
            result, name = await operations.create_index(
                db, request.collection, value_of(keys), value_of(options) or {}
            )
            names.append(name)
            seq = max(seq, result.seq)
        return await self._written(request, db, seq, {"names": names})

    async def drop_index(self, request: DropIndex) -> Reply:
        self._databases.check_writable()
        db = self._databases.for_reading(request.db)
        if db is None:
            return Reply(request.id, EMPTY_MAP)
        result = await operations.drop_index(db, request.collection, request.name, request=request.request)
        return await self._written(request, db, result.seq, {})

    async def drop_collection(self, request: DropCollection) -> Reply:
        self._databases.check_writable()
        db = self._databases.for_reading(request.db)
        if db is None:
            return Reply(request.id, EMPTY_MAP)
        result = await operations.drop_collection(db, request.collection)
        return await self._written(request, db, result.seq, {})

    async def _written(self, request: Request, db: Database, seq: int, answer: dict[str, Any]) -> Reply:
        """The reply to a write, once it is kept."""
        return Reply(request.id, encode_fields(answer), *await self._databases.kept(db, seq))


def _changed(result: WriteResult) -> dict[str, Any]:
    upserted = None if result.upserted_id is None else Raw(result.upserted_id)
    return {"matched": result.matched, "modified": result.modified, "upserted": upserted}


def _error_rows(result: WriteResult) -> list[list[Any]]:
    return [
        [row.index, row.error.code, row.error.name, row.error.message, row.error.fields] for row in result.errors
    ]


def _bulk_write(write: list[Raw]) -> list[Any]:
    """A write as the engine takes it: documents stay bytes, everything else is decoded."""
    kind = decode_value(bytes(write[0]))
    document_at = {"insert": 1, "replace": 2}.get(kind)
    return [kind] + [
        bytes(part) if at == document_at else decode_value(bytes(part)) for at, part in enumerate(write[1:], start=1)
    ]
