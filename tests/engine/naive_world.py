"""One database on a memory disk beside a plain list of documents in natural order (of the last write), and the questions asked of both.

A world is played from a list of steps: inserts, replacements, deletions, seals, reopenings, and questions, whose answers must be
equal in content and order.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from storage import Database, Engine, MemoryDisk, decode_document, encode_document, operations
from storage.errors import TwinlogError
from tests.engine.model import memory_seams, new_database, options, settled
from tests.query import strategies as some
from tests.query.naive import filters, sorting
from tests.query.naive.values import Refused

COLLECTION = "things"
Step = tuple[str, tuple]

writes = st.one_of(
    st.tuples(st.just("insert"), st.tuples(st.lists(some.documents, min_size=1, max_size=6, unique_by=lambda d: d["_id"]))),
    st.tuples(st.just("insert"), st.tuples(st.lists(some.documents, min_size=1, max_size=6, unique_by=lambda d: d["_id"]))),
    st.tuples(st.just("replace"), st.tuples(some.field_filters, some.documents)),
    st.tuples(st.just("replace"), st.tuples(st.builds(lambda n: {"_id": n}, st.integers(0, 9)), some.documents)),
    st.tuples(st.just("delete"), st.tuples(some.field_filters, st.booleans())),
    st.tuples(st.just("delete"), st.tuples(st.builds(lambda n: {"_id": n}, st.integers(0, 9)), st.booleans())),
    st.sampled_from([("seal", ()), ("reopen", ())]),
)
single_sorts = st.one_of(
    st.none(),
    st.builds(lambda path, direction: [[path, direction]], some.sort_paths, st.sampled_from([1, -1])),
    some.sorts,
)
questions = st.tuples(
    st.just("ask"), st.tuples(some.filters, single_sorts, st.sampled_from([0, 0, 1, 2]), st.sampled_from([0, 0, 1, 3]))
)
worlds = st.lists(st.one_of(writes, questions), min_size=3, max_size=12)


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
                await ask(database, held, {}, None, 0, 0)
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


STEPS = {"insert": insert, "replace": replace, "delete": delete, "seal": seal, "ask": ask}
