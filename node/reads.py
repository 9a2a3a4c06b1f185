"""The reading verbs of the client port: get, find, more, killcursor, count, distinct, aggregate, explain. Knows storage's operations, no socket.

`*_now` methods answer in place or return None when they would have to wait; the others may wait. A database or
collection that does not exist reads as empty. A read with min_position waits until this node shows that position, for
a bounded time (INV-3: what it then sees is one state of the primary's past). What may take long works within the request's
max_time_ms, waiting included. A pipeline that writes is judged and answered as a write.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import trio
from msgspec import Raw

from storage import TimeBudget, encode_value, errors, operations

from . import wire
from .arguments import (
    check_hint,
    explained_of,
    filter_of,
    is_writing,
    let_of,
    pipeline_of,
    projection_of,
    sort_of,
)
from .config import Limits
from .cursors import CursorTable, OpenCursor
from .decoding import decoded
from .outcomes import Done, Written
from .quick import QuickGet, got_reply
from .users import Role
from .writes import Writes

NO_DOCUMENT = Raw(b"\x81\xa3doc\xc0")  # {"doc": nil}
NO_DOCUMENTS = wire.encode_fields({"docs": [], "cursor": 0})
DOCUMENT_HEAD = b"\x81\xa3doc"
DATABASE_POLL_S = 0.02  # while a read waits for a position in a database that this node has not heard of yet


class Reads:
    """Over one engine. Every method takes (caller, request) and returns Done. writes: where pipelines write to."""

    def __init__(self, engine: Any, cursors: CursorTable, limits: Limits, writes: Writes) -> None:
        self._engine = engine
        self._writes = writes
        self._cursors = cursors
        self._limits = limits

    def get_now(self, caller: Any, request: wire.Get) -> Done | None:
        db = self._engine.databases.get(request.db)
        if db is None or (request.min_position is not None and db.visible < tuple(request.min_position)):
            return None
        document = operations.get_now(db, request.collection, bytes(request.key))
        if document is operations.COLD:
            return None
        return _got(document, db.visible)

    def get_frames(self, gets: Sequence[QuickGet], bytes_max: int) -> list[bytes | None]:
        """The framed answers to gets in their usual form; None where the general way must be gone. The answers end with the one
        that passes bytes_max, so there may be fewer than gets, but at least one (INV-8)."""
        frames: list[bytes | None] = []
        for (name, collection), rows in groupby(gets, key=itemgetter(2, 3)):
            of_one = list(rows)
            db = self._engine.databases.get(name)
            try:
                if db is None:
                    raise errors.NoSuchDatabase(name)
                keys = [row[4] for row in of_one]
                documents = operations.get_keys_now(db, collection, keys, bytes_max=bytes_max)
            except (errors.TwinlogError, OSError):  # the general way meets it again and answers by it
                frames += [None] * len(of_one)
                continue
            epoch, seq = db.visible
            for row, document in zip(of_one, documents):
                frame = None if document is operations.COLD else got_reply(row[1], document, epoch, seq)
                frames.append(frame)
                bytes_max -= len(frame) if frame is not None else 0
                if bytes_max < 0:
                    return frames
            if len(documents) < len(of_one):
                return frames
        return frames

    async def get(self, caller: Any, request: wire.Get) -> Done:
        db = await self.at_position(request.db, request.min_position)
        if db is None:
            return Done(NO_DOCUMENT)
        return _got(await operations.get(db, request.collection, bytes(request.key)), db.visible)

    async def count(self, caller: Any, request: wire.Count) -> Done:
        condition = await decoded(self._engine, filter_of, request.filter)
        with TimeBudget(request.max_time_ms).spending():
            db = await self.at_position(request.db, request.min_position)
            if db is None:
                return Done(wire.encode_fields({"n": 0}))
            position = db.visible
            number = await operations.count(
                db, request.collection, condition, skip=request.skip, limit=request.limit
            )
        return Done(wire.encode_fields({"n": number}), *position)

    async def estimated_count(self, caller: Any, request: wire.EstimatedCount) -> Done:
        db = await self.at_position(request.db, request.min_position)
        if db is None:
            return Done(wire.encode_fields({"n": 0}))
        position = db.visible
        number = await operations.estimated_count(db, request.collection)
        return Done(wire.encode_fields({"n": number}), *position)

    async def distinct(self, caller: Any, request: wire.Distinct) -> Done:
        condition = await decoded(self._engine, filter_of, request.filter)
        with TimeBudget(request.max_time_ms).spending():
            db = await self.at_position(request.db, request.min_position)
            if db is None:
                return Done(wire.encode_fields({"values": []}))
            position = db.visible
            values = await operations.distinct(db, request.collection, request.path, condition)
        return Done(wire.encode_fields({"values": Raw(encode_value(values))}), *position)

    async def explain(self, caller: Any, request: wire.Explain) -> Done:
        arguments = await decoded(self._engine, explained_of, request.arguments)
        with TimeBudget(request.max_time_ms).spending():
            db = await self.at_position(request.db, request.min_position)
            if db is None:
                raise errors.NoSuchDatabase(f"{request.db} does not exist here: there is nothing to explain")
            position = db.visible
            found = await operations.explain(db, request.collection, request.verb, arguments)
        return Done(wire.encode_fields({"explain": Raw(encode_value(found))}), *position)

    async def list_indexes(self, caller: Any, request: wire.ListIndexes) -> Done:
        db = await self.at_position(request.db, request.min_position)
        if db is None:
            return Done(wire.encode_fields({"indexes": []}))
        found = operations.list_indexes(db, request.collection)
        return Done(wire.encode_fields({"indexes": Raw(encode_value(found))}), *db.visible)

    async def find(self, caller: Any, request: wire.Find) -> Done:
        condition, sort = await decoded(self._engine, filter_of, request.filter), sort_of(request.sort)
        projection = await decoded(self._engine, projection_of, request.projection)
        check_hint(request.hint)
        budget = TimeBudget(request.max_time_ms)
        with budget.spending():
            db = await self.at_position(request.db, request.min_position)
            if db is None:
                return Done(NO_DOCUMENTS)
            position = db.visible
            source = await operations.find(
                db,
                request.collection,
                condition,
                sort=sort,
                projection=projection,
                skip=request.skip,
                limit=request.limit,
            )
        return await self._next(OpenCursor(caller.owner, db, source, budget), request.batch, position)

    async def aggregate(self, caller: Any, request: wire.Aggregate) -> Done | Written:
        pipeline = await decoded(self._engine, pipeline_of, request.pipeline)
        let = await decoded(self._engine, let_of, request.let)
        budget = TimeBudget(request.max_time_ms)
        if is_writing(pipeline):
            return await self._aggregate_out(caller, request, pipeline, let, budget)
        with budget.spending():
            db = await self.at_position(request.db, request.min_position)
            if db is None:
                return Done(NO_DOCUMENTS)
            position = db.visible
            source = await operations.aggregate(db, request.collection, pipeline, let=let)
        return await self._next(OpenCursor(caller.owner, db, source, budget), request.batch, position)

    async def _aggregate_out(
        self, caller: Any, request: wire.Aggregate, pipeline: list[Any], let: dict[str, Any] | None, budget: TimeBudget
    ) -> Written:
        """It has no documents to answer, and its answer waits for its last commit (INV-1)."""
        if caller.role < Role.READWRITE:
            raise errors.Unauthorized(
                f"a pipeline with $out or $merge needs the role readwrite, this user has {caller.role.name.lower()};"
                f" log in as another user"
            )
        with budget.spending():
            if request.min_position is not None:
                await self.at_position(request.db, request.min_position)
            db = await self._writes.database(request.db)
            try:
                cursor = await operations.aggregate(db, request.collection, pipeline, let=let)
            finally:
                self._writes.touched(db)
        await cursor.close()
        return Written(db, NO_DOCUMENTS, db.position.epoch, cursor.written or db.position.seq)

    async def more(self, caller: Any, request: wire.More) -> Done:
        cursor = self._cursors.find(request.cursor, caller.owner)
        return await self._next(cursor, request.batch or wire.BATCH_ROWS_DEFAULT, cursor.db.visible)

    async def _next(self, cursor: OpenCursor, rows: int, position: tuple[int, int]) -> Done:
        """One batch; the cursor stays in the table only while there is more, and ends with any error."""
        cursor.busy = True
        keep = False
        try:
            documents = await cursor.take(rows)
            if not cursor.done:
                if cursor.id == 0:
                    await self._cursors.keep(cursor)
                keep = self._cursors.holds(cursor)
        finally:
            cursor.busy = False
            cursor.last_used = trio.current_time()
            if not keep:
                self._cursors.remove(cursor.id, cursor.owner)
                with trio.CancelScope(shield=True):
                    await cursor.close()
        return Done(wire.encode_batch(documents, cursor.id if keep else 0), *position)

    async def kill_cursor(self, caller: Any, request: wire.KillCursor) -> Done:
        cursor = self._cursors.remove(request.cursor, caller.owner)
        if cursor is not None and not cursor.busy:  # a busy one is closed by the request that reads it
            await cursor.close()
        return Done(wire.EMPTY_MAP)

    def _database(self, name: str) -> Any | None:
        """None when it does not exist; one that is there but could not be opened raises DamagedRecord."""
        try:
            return self._engine.database(name)
        except errors.NoSuchDatabase:
            return None

    async def at_position(self, name: str, min_position: list[int] | None) -> Any | None:
        """The database, once it shows min_position; None when it does not exist and no position was asked for."""
        if min_position is None:
            return self._database(name)
        wanted = tuple(min_position)
        db = None
        with trio.move_on_after(self._limits.position_timeout_s):
            while True:
                db = self._database(name)
                if db is None:
                    await trio.sleep(DATABASE_POLL_S)
                elif db.visible >= wanted:
                    return db
                else:
                    await db.visible_advance.wait_past(db.visible.seq)
        shown = (0, 0) if db is None else db.visible
        raise errors.PositionTimeout(
            f"{name} is at {tuple(shown)} here and did not reach {wanted} within {self._limits.position_timeout_s:g} s"
            f" (limits.position_timeout_ms); read from the primary, or try again",
            epoch=shown[0],
            seq=shown[1],
        )


def _got(document: bytes | None, position: tuple[int, int]) -> Done:
    return Done(NO_DOCUMENT if document is None else Raw(DOCUMENT_HEAD + document), *position)
