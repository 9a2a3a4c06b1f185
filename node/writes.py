"""The writing verbs of the client port: insert, replace, update, delete, bulk, creating and dropping. Knows storage's
operations and the member's say on who may write; no socket.

Nothing here waits for durability: a verb returns Written, and the service answers when INV-1 allows. A database is
created by the first write to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from storage import SYSTEM_DATABASE, errors, operations

from . import wire
from .arguments import array_filters_of, bulk_of, change_of, filter_of, index_of, projection_of, sort_of
from .decoding import decoded
from .outcomes import Done, Written, error_rows

IN_PLACE_DOCUMENTS_MAX = 500  # a larger insert is sliced in a task of its own (INV-9)


class Writes:
    """Over one engine and one member. `touched(db)` is told of every database that may have bytes to flush."""

    def __init__(self, engine: Any, member: Any, touched: Callable[[Any], None]) -> None:
        self._engine = engine
        self._member = member
        self.touched = touched

    def insert_now(self, caller: Any, request: wire.Insert) -> Written | None:
        db = self.at_hand(request.db)
        if db is None or len(request.docs) > IN_PLACE_DOCUMENTS_MAX:
            return None
        self._member.check_writable()
        documents = [bytes(document) for document in request.docs]
        result = operations.insert_now(
            db, request.collection, documents, ordered=request.ordered, request=request.request
        )
        if result is None:
            return None
        self.touched(db)
        return _inserted(db, result)

    async def insert(self, caller: Any, request: wire.Insert) -> Written:
        db = await self.database(request.db)
        documents = [bytes(document) for document in request.docs]
        try:
            result = await operations.insert(
                db, request.collection, documents, ordered=request.ordered, request=request.request
            )
        finally:
            self.touched(db)
        return _inserted(db, result)

    async def replace(self, caller: Any, request: wire.Replace) -> Written:
        condition, sort = await decoded(self._engine, filter_of, request.filter), sort_of(request.sort)
        db = await self.database(request.db)
        try:
            result = await operations.replace_one(
                db,
                request.collection,
                condition,
                bytes(request.doc),
                upsert=request.upsert,
                sort=sort,
                request=request.request,
            )
        finally:
            self.touched(db)
        return _written(db, _changed(result), result.seq)

    async def update(self, caller: Any, request: wire.Update) -> Written:
        condition = await decoded(self._engine, filter_of, request.filter)
        change = await decoded(self._engine, change_of, request.change)
        array_filters, sort = await decoded(self._engine, array_filters_of, request.array_filters), sort_of(request.sort)
        db = await self.database(request.db)
        try:
            result = await operations.update(
                db,
                request.collection,
                condition,
                change,
                many=request.many,
                upsert=request.upsert,
                array_filters=array_filters,
                sort=sort,
                request=request.request,
            )
        finally:
            self.touched(db)
        return _written(db, _changed(result), result.seq)

    async def find_and_modify(self, caller: Any, request: wire.FindAndModify) -> Written:
        action = operations.Action[request.action.upper()]
        condition, sort = await decoded(self._engine, filter_of, request.filter), sort_of(request.sort)
        change: Any = None
        if action is operations.Action.UPDATE:
            change = await decoded(self._engine, change_of, request.change)
        elif not wire.is_absent(request.change):
            change = bytes(request.change)
        projection = await decoded(self._engine, projection_of, request.projection)
        array_filters = await decoded(self._engine, array_filters_of, request.array_filters)
        db = await self.database(request.db)
        try:
            result, document = await operations.find_one_and(
                db,
                request.collection,
                condition,
                action=action,
                change=change,
                sort=sort,
                projection=projection,
                upsert=request.upsert,
                after=request.after,
                array_filters=array_filters,
                request=request.request,
            )
        finally:
            self.touched(db)
        doc = None if document is None else Raw(document)
        return _written(db, {"doc": doc, "deleted": result.deleted, **_changed(result)}, result.seq)

    async def delete(self, caller: Any, request: wire.Delete) -> Written | Done:
        condition = await decoded(self._engine, filter_of, request.filter)
        self._member.check_writable()
        db = self._existing(request.db)
        if db is None:
            return Done(wire.encode_fields({"n": 0}))
        try:
            result = await operations.delete(
                db, request.collection, condition, many=request.many, request=request.request
            )
        finally:
            self.touched(db)
        return _written(db, {"n": result.n}, result.seq)

    async def bulk(self, caller: Any, request: wire.Bulk) -> Written:
        writes = await decoded(self._engine, bulk_of, request.writes)
        db = await self.database(request.db)
        try:
            result = await operations.bulk(
                db, request.collection, writes, ordered=request.ordered, request=request.request
            )
        finally:
            self.touched(db)
        answer = {
            "inserted": result.inserted,
            "matched": result.matched,
            "modified": result.modified,
            "deleted": result.deleted,
            "upserted": {index: Raw(key) for index, key in result.upserted.items()},
            "errors": error_rows(result.errors),
        }
        return _written(db, answer, result.seq)

    async def create_indexes(self, caller: Any, request: wire.CreateIndexes) -> Written:
        indexes = [await decoded(self._engine, index_of, keys, options) for keys, options in request.indexes]
        db = await self.database(request.db)
        names: list[str] = []
        seq = 0
        try:
            for keys, options in indexes:
                result, name = await operations.create_index(db, request.collection, keys, options)
                names.append(name)
                seq = max(seq, result.seq)
        finally:
            self.touched(db)
        return _written(db, {"names": names}, seq)

    async def drop_index(self, caller: Any, request: wire.DropIndex) -> Written | Done:
        self._member.check_writable()
        db = self._existing(request.db)
        if db is None:
            return Done(wire.EMPTY_MAP)
        try:
            result = await operations.drop_index(db, request.collection, request.name, request=request.request)
        finally:
            self.touched(db)
        return _written(db, {}, result.seq)

    async def drop_collection(self, caller: Any, request: wire.DropCollection) -> Written | Done:
        self._member.check_writable()
        db = self._existing(request.db)
        if db is None:
            return Done(wire.EMPTY_MAP)
        try:
            result = await operations.drop_collection(db, request.collection)
        finally:
            self.touched(db)
        return _written(db, {}, result.seq)

    async def create_database(self, caller: Any, request: wire.CreateDatabase) -> Done:
        self._member.check_writable()
        self._existing(request.db)
        await self._engine.create_database(request.db, shards=request.shards, crc=request.crc)
        return Done(wire.EMPTY_MAP)

    async def drop_database(self, caller: Any, request: wire.DropDatabase) -> Done:
        self._member.check_writable()
        try:
            await self._member.drop_database(request.db)
        except errors.NoSuchDatabase:
            return Done(wire.EMPTY_MAP)  # so that a drop can be sent again
        return Done(wire.EMPTY_MAP)

    def at_hand(self, name: str) -> Any | None:
        """The database to write to, if it is there and has begun."""
        db = self._engine.databases.get(name)
        return db if db is not None and db.history else None

    async def database(self, name: str) -> Any:
        """The database to write to, created if need be; one still in creation is waited for."""
        self._member.check_writable()
        if name == SYSTEM_DATABASE:  # as the target of a pipeline: everything else was refused before
            raise errors.Unauthorized(f"{SYSTEM_DATABASE} is Twinlog's own: no pipeline writes there")
        db = self._existing(name)
        if db is None or not db.history:
            db = await self._engine.create_database(name)
            self._member.check_writable()
        return db

    def _existing(self, name: str) -> Any | None:
        """None when it does not exist; one that is there but could not be opened raises DamagedRecord."""
        try:
            return self._engine.database(name)
        except errors.NoSuchDatabase:
            return None


def _inserted(db: Any, result: Any) -> Written:
    answer = {"n": result.n, "ids": [Raw(key) for key in result.ids], "errors": error_rows(result.errors)}
    return _written(db, answer, result.seq)


def _changed(result: Any) -> dict[str, Any]:
    upserted = None if result.upserted_id is None else Raw(result.upserted_id)
    return {"matched": result.matched, "modified": result.modified, "upserted": upserted}


def _written(db: Any, answer: dict[str, Any], seq: int) -> Written:
    """A write that changed nothing (seq 0) still saw the appended end, so its answer waits for that."""
    return Written(db, wire.encode_fields(answer), db.position.epoch, seq or db.position.seq)
