"""One database on a memory disk beside a plain list of documents in natural order (of the last write), and the questions asked of both.

A world is played from a list of steps: inserts, replacements, updates, deletions, seals, reopenings, and questions (find, count,
distinct, aggregate), whose answers must be equal in content and order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import trio
from hypothesis import given
from hypothesis import strategies as st

from storage import Database, Engine, MemoryDisk, decode_document, decode_value, encode_document, operations
from storage.errors import TwinlogError
from tests.engine.model import memory_seams, new_database, options, settled
from tests.query import strategies as some
from tests.query.naive import filters, pipeline, sorting, updates
from tests.query.naive.values import Refused, equal
from tests.values.generated import same

COLLECTION = "things"
ALL_SORTS = [[[path, direction]] for path in ("a", "b", "a.b") for direction in (1, -1)]
Step = tuple[str, tuple]

ids = st.integers(0, 20)
documents = st.builds(lambda number, document: {**document, "_id": number}, ids, some.documents)
some_documents = st.lists(documents, min_size=1, max_size=10, unique_by=lambda document: document["_id"])
by_id = ids.map(lambda number: {"_id": number})
spots = st.one_of(some.field_filters, by_id)
writes = st.one_of(
    st.tuples(st.just("insert"), st.tuples(some_documents)),
    st.tuples(st.just("insert"), st.tuples(some_documents)),
    st.tuples(st.just("replace"), st.tuples(spots, documents)),
    st.tuples(st.just("update"), st.tuples(st.one_of(spots, st.just({})), some.single_updates, st.booleans())),
    st.tuples(st.just("delete"), st.tuples(spots, st.booleans())),
    st.sampled_from([("seal", ()), ("seal", ()), ("index", ()), ("reopen", ())]),
)
single_sorts = st.one_of(
    st.none(),
    st.builds(lambda path, direction: [[path, direction]], some.sort_paths, st.sampled_from([1, -1])),
    some.sorts,
)
questions = st.one_of(
    *[st.tuples(st.just("ask"), st.tuples(some.filters, single_sorts, st.sampled_from([0, 0, 1, 2]), st.sampled_from([0, 0, 1, 3])))] * 3,
    st.tuples(st.just("distinct"), st.tuples(st.sampled_from(["a", "b", "a.b", "_id"]), st.one_of(st.just({}), some.field_filters))),
    st.tuples(st.just("aggregate"), st.tuples(some.pipelines)),
)
worlds = st.builds(
    lambda first, steps, asked: [("insert", (first,)), *steps, ("index", ()), *asked],
    some_documents,
    st.lists(st.one_of(writes, questions), max_size=12),
    st.lists(questions, min_size=1, max_size=4),
)


async def play(steps: Sequence[Step], **changes: object) -> None:
    """All steps; AssertionError names the question and both answers."""
    disk, held, opening = MemoryDisk(), [], 1
    left = list(steps)
    while left:
        seams = memory_seams(disk, start=opening)
        async with Engine.open(seams, options=options(**{"memtable_records_max": 8, **changes})) as engine:
            database = await new_database(engine) if opening == 1 else await reign(engine, opening)
            while left:
                name, arguments = left.pop(0)
                if name == "reopen":
                    break
                await STEPS[name](database, held, *arguments)
            else:
                for sort in (None, *ALL_SORTS):
                    await ask(database, held, {}, sort, 0, 0)
        opening += 1


async def reign(engine: Engine, epoch: int) -> Database:
    database = engine.database("db")
    await settled(database, database.begin_reign(epoch))
    return database


async def insert(database: Database, held: list[dict], documents: list[dict]) -> None:
    taken = {document["_id"] for document in held}
    fresh = [document for document in documents if document["_id"] not in taken]
    result = await operations.insert(database, COLLECTION, [encode_document(d) for d in documents], ordered=False)
    assert result.inserted == len(fresh)
    held += fresh
    await settled(database, database.position.seq)


async def replace(database: Database, held: list[dict], spec: dict, document: dict) -> None:
    try:
        matches = filters.parsed(spec)
        found = next((place for place, other in enumerate(held) if matches(other, [])), None)
    except Refused:
        return
    old = None if found is None else held[found]
    new = document if old is None else {**document, "_id": old["_id"]}
    result = await operations.replace_one(database, COLLECTION, spec, encode_document(new))
    assert result.matched == (old is not None), (spec, held)
    if old is not None and encode_document(old) != encode_document(new):
        del held[found]
        held.append(new)
    await settled(database, database.position.seq)


async def update(database: Database, held: list[dict], spec: dict, change: dict, many: bool) -> None:
    """An update of many ends at the first document that it cannot be made on; what was done before stays."""
    problem, changed = None, 0
    try:
        matches = filters.parsed(spec)
        found = [document for document in held if matches(document, [])]
        updates.read(change)
        for old in found if many else found[:1]:
            new = updates.updated(old, change)
            if encode_document(new) != encode_document(old):
                held[:] = [document for document in held if document is not old]
                held.append(new)
                changed += 1
    except Refused as refusal:
        problem = refusal
    try:
        result = await operations.update(database, COLLECTION, spec, change, many=many)
    except TwinlogError as refusal:
        assert problem is not None, (spec, change, refusal)
    else:
        assert problem is None, (spec, change, problem)
        assert result.modified == changed, (spec, change, result)
    await settled(database, database.position.seq)


async def delete(database: Database, held: list[dict], spec: dict, many: bool) -> None:
    try:
        matches = filters.parsed(spec)
        going = [document for document in held if matches(document, [])]
    except Refused:
        return
    going = going if many else going[:1]
    result = await operations.delete(database, COLLECTION, spec, many=many)
    assert result.deleted == len(going), (spec, held)
    held[:] = [document for document in held if all(document is not gone for gone in going)]
    await settled(database, database.position.seq)


async def seal(database: Database, held: list[dict]) -> None:
    await database.sealing.seal_now()


async def index(database: Database, held: list[dict]) -> None:
    """Everything sealed, and everything that was asked for indexed."""
    await database.sealing.seal_now()
    with trio.fail_after(60):
        await database.indexing.wait_built()
    assert not database.indexing.failures, database.indexing.last_error


async def distinct(database: Database, held: list[dict], path: str, spec: dict) -> None:
    expected: list = []
    try:
        matches = filters.parsed(spec)
    except Refused:
        return
    for document in held:
        if matches(document, []):
            for value in pipeline.values_at(document, path.split(".")):
                if not any(equal(value, other) for other in expected):
                    expected.append(value)
    got = await operations.distinct(database, COLLECTION, path, spec)
    missing = [value for value in expected if not any(equal(value, other) for other in got)]
    assert not missing and len(got) == len(expected), f"{held}\n  distinct {path} of {spec}\n  naive: {expected}\n  engine: {got}"


async def aggregate(database: Database, held: list[dict], stages: list[dict]) -> None:
    problem, expected = None, []
    try:
        expected = [id_first(document) for document in pipeline.run(held, stages, {COLLECTION: held})]
    except Refused as refusal:
        problem = refusal
    got: list[dict] = []
    try:
        cursor = await operations.aggregate(database, COLLECTION, stages)
        while not cursor.done:
            got += [decode_value(data) for data in await cursor.next_batch(3)]
    except TwinlogError as refusal:
        assert problem is not None, f"{held}\n  pipeline {stages}\n  naive: {expected}\n  engine: {refusal!r}"
        return
    if problem is not None and problem.is_spared:
        return
    assert problem is None and same(got, expected), f"{held}\n  pipeline {stages}\n  naive: {problem or expected}\n  engine: {got}"


def id_first(document: dict) -> dict:
    return {"_id": document["_id"], **document} if "_id" in document else document


async def ask(database: Database, held: list[dict], spec: dict, sort: list | None, skip: int, limit: int) -> None:
    try:
        matches = filters.parsed(spec)
        expected = [document for document in held if matches(document, [])]
        total = max(0, len(expected) - skip)
        total = min(total, limit) if limit else total
        if sort:
            expected = sorting.ordered(expected, sort)
    except Refused:
        await refused(database, spec, sort)
        return
    expected = expected[skip : skip + limit] if limit else expected[skip:]
    question = f"{held}\n  filter {spec}, sort {sort}, skip {skip}, limit {limit}"
    try:
        found = await answer(database, spec, sort, skip, limit)
        counted = await operations.count(database, COLLECTION, spec, skip=skip, limit=limit)
    except TwinlogError as refusal:
        raise AssertionError(f"{question}\n  naive: {expected}\n  engine: {refusal!r}") from refusal
    wanted = [encode_document(document) for document in expected]
    assert found == wanted, f"{question}\n  naive: {expected}\n  engine: {[decode_document(data) for data in found]}"
    assert counted == total, f"{question}\n  naive counts {total}, the engine {counted}"


async def answer(database: Database, spec: dict, sort: list | None, skip: int, limit: int) -> list[bytes]:
    cursor = await operations.find(database, COLLECTION, spec, sort=sort, skip=skip, limit=limit)
    found: list[bytes] = []
    while not cursor.done:
        found += await cursor.next_batch(3)
    return found


async def refused(database: Database, spec: dict, sort: list | None) -> None:
    try:
        found = await answer(database, spec, sort, 0, 0)
    except TwinlogError:
        return
    raise AssertionError(f"filter {spec}, sort {sort}: the naive side refuses, the engine answers {found}")


STEPS = {
    "insert": insert,
    "replace": replace,
    "update": update,
    "delete": delete,
    "seal": seal,
    "index": index,
    "ask": ask,
    "distinct": distinct,
    "aggregate": aggregate,
}


# Properties: the same worlds over an engine that never indexes, one that indexes all it can, and one that seals all the time.


@given(worlds)
def answers_by_scan_agree(steps: list[Step]) -> None:
    trio.run(partial(play, steps, index_rows_min=10**6))


@given(worlds)
def answers_by_index_agree(steps: list[Step]) -> None:
    trio.run(partial(play, steps, memtable_records_max=1000, index_rows_min=0))


@given(worlds)
def answers_while_sealing_agree(steps: list[Step]) -> None:
    trio.run(partial(play, steps, memtable_records_max=8, index_rows_min=0))


PROPERTIES = {
    "engine by scan": answers_by_scan_agree,
    "engine by index": answers_by_index_agree,
    "engine while sealing": answers_while_sealing_agree,
}
