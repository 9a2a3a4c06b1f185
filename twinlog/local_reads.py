"""Reading requests answered by an engine in this process. A database that does not exist reads as empty.

Bounds (INV-8): CURSORS_MAX open cursors; max_time_ms over all batches of one.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from node.wire import (
    ABSENT,
    EMPTY_MAP,
    Aggregate,
    Count,
    Distinct,
    EstimatedCount,
    Explain,
    Find,
    Get,
    KillCursor,
    ListIndexes,
    More,
    Reply,
    Request,
    encode_batch,
    encode_fields,
)
from storage import Cursor, Database, TimeBudget, decode_value, encode_value, operations
from storage import errors as engine_errors

from .local_databases import LocalDatabases

CURSORS_MAX = 1_000
NO_DOCUMENTS = encode_fields({"docs": [], "cursor": 0})
_WRITING_STAGES = frozenset(("$out", "$merge"))


class LocalReads:
    """Every method takes a request and returns its Reply. Raises the engine's errors."""

    def __init__(self, databases: LocalDatabases) -> None:
        self._databases = databases
        self._cursors: dict[int, tuple[Cursor, Database, TimeBudget]] = {}
        self._last_cursor = 0

    async def close(self) -> None:
        for cursor, _, _ in self._cursors.values():
            await cursor.close()
        self._cursors.clear()

    async def get(self, request: Get) -> Reply:
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, encode_fields({"doc": None}))
        document = await operations.get(db, request.collection, bytes(request.key))
        return _reply(request, db, {"doc": None if document is None else Raw(document)})

    # Cursors.

    async def find(self, request: Find) -> Reply:
        spec, sort, projection = value_of(request.filter), value_of(request.sort), value_of(request.projection)
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, NO_DOCUMENTS)
        self._check_cursors()
        cursor = await operations.find(
            db, request.collection, spec, sort=sort, projection=projection, skip=request.skip, limit=request.limit
        )
        return await self._opened(request, cursor, db, TimeBudget(request.max_time_ms))

    async def aggregate(self, request: Aggregate) -> Reply:
        pipeline, let = value_of(request.pipeline), value_of(request.let)
        budget = TimeBudget(request.max_time_ms)
        if any(isinstance(stage, dict) and not _WRITING_STAGES.isdisjoint(stage) for stage in pipeline):
            return await self._aggregate_out(request, pipeline, let, budget)
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, NO_DOCUMENTS)
        self._check_cursors()
        with budget.spending():
            cursor = await operations.aggregate(db, request.collection, pipeline, let=let)
        return await self._opened(request, cursor, db, budget)

    async def _aggregate_out(
        self, request: Aggregate, pipeline: list[Any], let: dict[str, Any] | None, budget: TimeBudget
    ) -> Reply:
        """It has no documents to answer; it is answered when its last commit is durable and visible (INV-1)."""
        self._databases.for_reading(request.db, request.min_position)
        db = await self._databases.for_writing(request.db)
        with budget.spending():
            cursor = await operations.aggregate(db, request.collection, pipeline, let=let)
        await cursor.close()
        epoch, seq = db.position.epoch, cursor.written
        db.flush()
        await db.visible_advance.wait_for(seq)
        return Reply(request.id, NO_DOCUMENTS, epoch, seq)

    async def more(self, request: More) -> Reply:
        return await self._batch(request, request.cursor, request.batch)

    async def _opened(self, request: Find | Aggregate, cursor: Cursor, db: Database, budget: TimeBudget) -> Reply:
        self._last_cursor += 1
        self._cursors[self._last_cursor] = (cursor, db, budget)
        return await self._batch(request, self._last_cursor, request.batch)

    async def _batch(self, request: Request, cursor_id: int, rows: int) -> Reply:
        """The next documents of a cursor, which is forgotten with the last one or with any error."""
        found = self._cursors.pop(cursor_id, None)
        if found is None:
            raise engine_errors.CursorNotFound(f"cursor {cursor_id} is not open: run the query again")
        cursor, _, budget = found
        with budget.spending():
            documents = await cursor.next_batch(rows)
        if not cursor.done:
            self._cursors[cursor_id] = found
        return Reply(request.id, encode_batch(documents, 0 if cursor.done else cursor_id), *cursor.view.position)

    async def kill_cursor(self, request: KillCursor) -> Reply:
        found = self._cursors.pop(request.cursor, None)
        if found is not None:
            await found[0].close()
        return Reply(request.id, EMPTY_MAP)

    def _check_cursors(self) -> None:
        if len(self._cursors) >= CURSORS_MAX:
            raise engine_errors.BadRequest(
                f"{CURSORS_MAX} cursors are open, which is the limit; close cursors that are not read to their end"
            )

    # Questions with one answer.

    async def count(self, request: Count) -> Reply:
        spec = value_of(request.filter)
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, encode_fields({"n": 0}))
        with TimeBudget(request.max_time_ms).spending():
            number = await operations.count(
                db, request.collection, spec, skip=request.skip, limit=request.limit
            )
        return _reply(request, db, {"n": number})

    async def estimated_count(self, request: EstimatedCount) -> Reply:
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, encode_fields({"n": 0}))
        return _reply(request, db, {"n": await operations.estimated_count(db, request.collection)})

    async def distinct(self, request: Distinct) -> Reply:
        spec = value_of(request.filter)
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, encode_fields({"values": []}))
        with TimeBudget(request.max_time_ms).spending():
            values = await operations.distinct(db, request.collection, request.path, spec)
        return _reply(request, db, {"values": Raw(encode_value(values))})

    async def explain(self, request: Explain) -> Reply:
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            raise engine_errors.NoSuchDatabase(f"{request.db} does not exist: there is nothing to explain")
        with TimeBudget(request.max_time_ms).spending():
            found = await operations.explain(db, request.collection, request.verb, value_of(request.arguments))
        return _reply(request, db, {"explain": Raw(encode_value(found))})

    async def list_indexes(self, request: ListIndexes) -> Reply:
        db = self._databases.for_reading(request.db, request.min_position)
        if db is None:
            return Reply(request.id, encode_fields({"indexes": []}))
        found = operations.list_indexes(db, request.collection)
        return _reply(request, db, {"indexes": Raw(encode_value(found))})


def value_of(raw: Raw) -> Any:
    """What a request carries undecoded; None where it is absent."""
    return None if raw is ABSENT else decode_value(bytes(raw))


def _reply(request: Request, db: Database, answer: dict[str, Any]) -> Reply:
    return Reply(request.id, encode_fields(answer), *db.visible)
