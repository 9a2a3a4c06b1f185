"""Whatever is asked of the engine, only its own errors come out of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import Database, MemoryDisk, encode_document, operations
from storage.errors import InternalError, TwinlogError
from tests.engine.model import insert, new_database, opened
from tests.query import garbage
from tests.query import strategies as some

BRIEFLY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
COLLECTION = "things"
HELD: list[dict[str, Any]] = [
    {"_id": 0, "a": 1, "b": "ab", "c": [1, 2, {"b": 1}]},
    {"_id": 1, "a": [1, "ab", None, [2]], "b": {"a": 1, "c": [0.5]}},
    {"_id": 2, "a": {"b": [{"c": 1}, {"c": 2}]}, "b": garbage.some.OTHERS[3], "c": "2020-01-01"},
    {"_id": 3, "a": [{"b": 1, "0": 2}, {"b": "x"}], "b": None, "c": 2**63 - 1},
    {"_id": "4", "b": float("nan"), "c": [[1, 2], [3]]},
    *({"_id": f"o{place}", "a": value} for place, value in enumerate(some.OTHERS)),
]


@asynccontextmanager
async def world(*, is_indexed: bool) -> AsyncIterator[Database]:
    """A small database; is_indexed: sealed, with field indexes from the first question on, and a few rows above them."""
    async with opened(MemoryDisk(), index_rows_min=1 if is_indexed else 1000) as engine:
        db = await new_database(engine)
        await insert(db, *HELD[:-3])
        await insert(db, *HELD[:2], collection="others")
        if is_indexed:
            await db.sealing.seal_now()
            await ask_all(db, {}, [["a", 1]], None)
        await insert(db, *HELD[-3:])
        yield db


async def drained(cursor: operations.Cursor) -> None:
    while not cursor.done:
        await cursor.next_batch(50)


async def ask_all(db: Database, spec: Any, sort: Any, projection: Any) -> None:
    await drained(await operations.find(db, COLLECTION, spec, sort=sort, projection=projection))


async def find(db: Database, spec: Any, sort: Any, projection: Any) -> None:
    await ask_all(db, spec, sort, projection)


async def count(db: Database, spec: Any) -> None:
    await operations.count(db, COLLECTION, spec)


async def distinct(db: Database, path: Any, spec: Any) -> None:
    await operations.distinct(db, COLLECTION, path, spec)


async def aggregate(db: Database, stages: Any, let: Any) -> None:
    await drained(await operations.aggregate(db, COLLECTION, stages, let=let))


async def update(db: Database, spec: Any, change: Any, array_filters: Any, sort: Any, many: bool, upsert: bool) -> None:
    await operations.update(db, COLLECTION, spec, change, many=many, upsert=upsert, array_filters=array_filters, sort=None if many else sort)


async def find_one_and(db: Database, spec: Any, change: Any, projection: Any, sort: Any, upsert: bool, after: bool) -> None:
    await operations.find_one_and(
        db, COLLECTION, spec, action=operations.Action.UPDATE, change=change, projection=projection, sort=sort, upsert=upsert, after=after
    )


async def delete(db: Database, spec: Any, many: bool) -> None:
    await operations.delete(db, COLLECTION, spec, many=many)


async def replace(db: Database, spec: Any, document: dict, upsert: bool) -> None:
    await operations.replace_one(db, COLLECTION, spec, encode_document(document), upsert=upsert)


async def create_index(db: Database, keys: Any, options: Any, more: list[dict]) -> None:
    await operations.create_index(db, COLLECTION, keys, options)
    await insert(db, *more)


async def explain(db: Database, verb: str, arguments: dict) -> None:
    await operations.explain(db, COLLECTION, verb, arguments)


async def bulk(db: Database, writes: list) -> None:
    result = await operations.bulk(db, COLLECTION, writes, ordered=False)
    assert all(isinstance(error.error, TwinlogError) for error in result.errors)


flags = st.booleans()
explained = st.fixed_dictionaries(
    {}, optional={"filter": garbage.filters, "sort": garbage.sorts, "path": st.one_of(garbage.names, garbage.leaves), "pipeline": garbage.pipelines,
                  "limit": st.one_of(st.integers(0, 3), garbage.leaves), "skip": st.one_of(st.integers(0, 3), garbage.leaves)}
)  # fmt: skip
bulk_writes = st.lists(
    st.one_of(
        st.tuples(st.just("update"), garbage.filters, garbage.changes, garbage.garbage),
        st.tuples(st.just("delete"), garbage.filters, flags),
    ),
    max_size=2,
)
REQUESTS = {
    find: (garbage.filters, garbage.sorts, garbage.projections),
    count: (garbage.filters,),
    distinct: (st.one_of(garbage.names, garbage.leaves), garbage.filters),
    aggregate: (garbage.pipelines, st.one_of(st.none(), garbage.garbage)),
    update: (garbage.filters, garbage.changes, garbage.array_filters, garbage.sorts, flags, flags),
    find_one_and: (garbage.filters, garbage.changes, garbage.projections, garbage.sorts, flags, flags),
    delete: (garbage.filters, flags),
    replace: (garbage.filters, some.documents, flags),
    create_index: (garbage.index_keys, garbage.index_options, st.lists(some.documents, max_size=2, unique_by=lambda found: found["_id"])),
    explain: (st.sampled_from(["find", "count", "distinct", "aggregate", "nonsense"]), explained),
    bulk: (bulk_writes,),
}


@pytest.mark.parametrize("is_indexed", [False, True])
@pytest.mark.parametrize("request_of", REQUESTS, ids=lambda verb: verb.__name__)
def test_garbage_is_refused_by_name_or_answered(request_of: Any, is_indexed: bool) -> None:
    async def play(requests: list[tuple]) -> None:
        async with world(is_indexed=is_indexed) as db:
            for arguments in requests:
                try:
                    await request_of(db, *arguments)
                except TwinlogError as error:
                    assert not isinstance(error, InternalError), error

    @BRIEFLY
    @given(st.lists(st.tuples(*REQUESTS[request_of]), min_size=1, max_size=8))
    def hold(requests: list[tuple]) -> None:
        trio.run(play, requests)

    hold()
