"""The writing verbs of the client port: insert, replace, delete, bulk, and creating and dropping. Knows storage's
operations and the member's say on who may write; no socket.

Nothing here waits for durability: a verb returns Written, and the service answers when INV-1 allows. A database is
created by the first write to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from storage import errors, operations

from . import wire
from .arguments import bulk_of, filter_of
from .outcomes import Done, Written, error_rows

IN_PLACE_DOCUMENTS_MAX = 500  # a larger insert is sliced in a task of its own (INV-9)


class Writes:
    """Over one engine and one member. `touched(db)` is told of every database that may have bytes to flush."""

    def __init__(self, engine: Any, member: Any, touched: Callable[[Any], None]) -> None:
        self._engine = engine
        self._member = member
        self._touched = touched

    def insert_now(self, caller: Any, request: wire.Insert) -> Written | None:
        db = self._engine.databases.get(request.db)
        if db is None or not db.history or len(request.docs) > IN_PLACE_DOCUMENTS_MAX:
            return None
        self._member.check_writable()
        documents = [bytes(document) for document in request.docs]
        result = operations.insert_now(
            db, request.collection, documents, ordered=request.ordered, request=request.request
        )
        if result is None:
            return None
        self._touched(db)
        return _inserted(db, result)

    async def insert(self, caller: Any, request: wire.Insert) -> Written:
        db = await self._database(request.db)
        documents = [bytes(document) for document in request.docs]
        try:
            result = await operations.insert(
                db, request.collection, documents, ordered=request.ordered, request=request.request
            )
        finally:
            self._touched(db)
        return _inserted(db, result)

    async def replace(self, caller: Any, request: wire.Replace) -> Written:
        condition = filter_of(request.filter)
        db = await self._database(request.db)
        try:
            result = await operations.replace_one(
                db,
                request.collection,
                condition,
                bytes(request.doc),
                upsert=request.upsert,
                request=request.request,
            )
        finally:
            self._touched(db)
        upserted = None if result.upserted_id is None else Raw(result.upserted_id)
        answer = {"matched": result.matched, "modified": result.modified, "upserted": upserted}
        return _written(db, answer, result.seq)

    async def delete(self, caller: Any, request: wire.Delete) -> Written | Done:
        condition = filter_of(request.filter)
        self._member.check_writable()
        db = self._existing(request.db)
        if db is None:
            return Done(wire.encode_fields({"n": 0}))
        try:
            result = await operations.delete(
                db, request.collection, condition, many=request.many, request=request.request
            )
        finally:
            self._touched(db)
        return _written(db, {"n": result.n}, result.seq)

    async def bulk(self, caller: Any, request: wire.Bulk) -> Written:
        writes = bulk_of(request.writes)
        db = await self._database(request.db)
        try:
            result = await operations.bulk(
                db, request.collection, writes, ordered=request.ordered, request=request.request
            )
        finally:
            self._touched(db)
        answer = {
            "inserted": result.inserted,
            "matched": result.matched,
            "modified": result.modified,
            "deleted": result.deleted,
            "upserted": {index: Raw(key) for index, key in result.upserted.items()},
            "errors": error_rows(result.errors),
        }
        return _written(db, answer, result.seq)

    async def drop_collection(self, caller: Any, request: wire.DropCollection) -> Written | Done:
        self._member.check_writable()
        db = self._existing(request.db)
        if db is None:
            return Done(wire.EMPTY_MAP)
        try:
            result = await operations.drop_collection(db, request.collection)
        finally:
            self._touched(db)
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

    async def _database(self, name: str) -> Any:
        """The database to write to, created if need be; one still in creation is waited for."""
        self._member.check_writable()
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


def _written(db: Any, answer: dict[str, Any], seq: int) -> Written:
    """A write that changed nothing (seq 0) still saw the appended end, so its answer waits for that."""
    return Written(db, wire.encode_fields(answer), db.position.epoch, seq or db.position.seq)
