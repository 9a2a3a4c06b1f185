"""Promises of aggregate and distinct over an engine: one view for everything that is read, sliced work, $out whole or not at all, $merge."""

from __future__ import annotations

import datetime
import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import Database, MemoryDisk, decode_value, encode_document, operations
from storage.aggregating import documents_of
from storage.errors import BadName, BadQuery, DuplicateKey, ImmutableField
from storage.query.pipeline import Context, run_over
from storage.query.stages import parse_pipeline
from tests.engine.model import check_entries, everything, insert, new_database, opened, settled


async def aggregated(db: Database, *stages: dict, collection: str = "things", batch: int = 7, **let: object) -> list[dict]:
    cursor = await operations.aggregate(db, collection, list(stages), let=let or None)
    if cursor.written:
        await settled(db, cursor.written)
    found: list[dict] = []
    while not cursor.done:
        found += [decode_value(data) for data in await cursor.next_batch(batch)]
    await cursor.close()
    return found


def things(count: int) -> list[dict]:
    return [{"_id": number, "kind": number % 3, "tags": [number % 2, "x"]} for number in range(count)]


async def test_a_pipeline_reads_what_is_sealed_and_what_is_not_and_gives_batches() -> None:
    disk = MemoryDisk()
    async with opened(disk, memtable_records_max=40) as engine:
        db = await new_database(engine)
        for document in things(100):
            await insert(db, document)
        await insert(db, {"_id": 0, "name": "zero"}, {"_id": 1, "name": "one"}, collection="kinds")
        stages = [
            {"$match": {"_id": {"$lt": 90}}},
            {"$group": {"_id": "$kind", "n": {"$sum": 1}, "last": {"$last": "$_id"}}},
            {"$sort": {"_id": -1}},
            {"$lookup": {"from": "kinds", "localField": "_id", "foreignField": "_id", "as": "kind"}},
            {"$set": {"kind": {"$first": "$kind.name"}}},
        ]
        expected = [
            {"_id": 2, "n": 30, "last": 89},
            {"_id": 1, "n": 30, "last": 88, "kind": "one"},
            {"_id": 0, "n": 30, "last": 87, "kind": "zero"},
        ]
        assert await aggregated(db, *stages, batch=1) == expected
        assert await aggregated(db, {"$count": "n"}, collection="nothing") == []
        assert await aggregated(db, {"$sort": {"_id": -1}}, {"$limit": 2}, {"$project": {"_id": 1}}) == [{"_id": 99}, {"_id": 98}]
    async with opened(disk, start=2) as engine:
        assert await aggregated(engine.database("db"), *stages) == expected


async def test_everything_is_read_from_one_view() -> None:
    async with opened(MemoryDisk(), memtable_records_max=50) as engine:
        db = await new_database(engine)
        await insert(db, *things(200))
        await insert(db, {"_id": 0, "name": "old"}, collection="kinds")
        lookup = {"from": "kinds", "let": {"k": "$kind"}, "pipeline": [{"$match": {"$expr": {"$eq": ["$_id", "$$k"]}}}], "as": "kind"}
        cursor = await operations.aggregate(db, "things", [{"$match": {"kind": 0}}, {"$lookup": lookup}, {"$unionWith": "kinds"}])
        found = [decode_value(data) for data in await cursor.next_batch(1)]
        await settled(db, (await operations.delete(db, "kinds", {}, many=True)).seq)
        await insert(db, *({"_id": number, "kind": 0} for number in range(1_000, 1_100)))
        await db.sealing.seal_now()
        while not cursor.done:
            found += [decode_value(data) for data in await cursor.next_batch(50)]
        assert [row["_id"] for row in found] == [*range(0, 200, 3), 0]
        assert all(row["kind"] == [{"_id": 0, "name": "old"}] for row in found[:-1])


async def test_variables_and_the_time() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *things(10))
        match = {"$match": {"$expr": {"$eq": ["$_id", "$$wanted"]}}}
        (found,) = await aggregated(db, match, {"$project": {"now": "$$NOW", "w": "$$wanted"}}, wanted={"$add": [1, 2]})
        assert found["_id"] == found["w"] == 3
        assert isinstance(found["now"], datetime.datetime)
        for stages, code in (([match], 17276), ([{"$nope": 1}], 40324), ([{"$match": {"$where": "1"}}], 2)):
            with pytest.raises(BadQuery) as refused:
                await operations.aggregate(db, "things", stages)
            assert refused.value.code == code
        with pytest.raises(BadName):
            await operations.aggregate(db, "$hidden", [])
        cursor = await operations.aggregate(db, "things", [{"$project": {"x": {"$divide": [1, "$kind"]}}}])
        with pytest.raises(BadQuery):
            await cursor.next_batch(10)
        await cursor.close()
        cursor = await operations.aggregate(db, "things", [{"$sort": {"kind": 1}}, {"$limit": 5}])
        await cursor.next_batch(2)
        await cursor.close()


async def test_other_tasks_go_on_while_a_pipeline_works() -> None:
    async with opened(MemoryDisk(), memtable_records_max=5_000) as engine:
        db = await new_database(engine)
        await insert(db, *things(2_000))
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            heavy = [{"$unwind": "$tags"}, {"$set": {"x": {"$range": [0, 50]}}}, {"$sort": {"tags": 1, "_id": -1}}, {"$group": {"_id": "$tags"}}]
            assert len(await aggregated(db, *heavy)) == 3
            nursery.cancel_scope.cancel()
        assert turns > 20


pipelines = st.lists(
    st.sampled_from(
        [
            {"$match": {"kind": {"$gte": 1}}},
            {"$match": {"$expr": {"$lt": ["$_id", 20]}}},
            {"$sort": {"kind": -1, "_id": 1}},
            {"$sort": {"tags": 1}},
            {"$skip": 2},
            {"$limit": 9},
            {"$unwind": "$tags"},
            {"$set": {"kind": {"$ifNull": ["$kind", 0]}}},
            {"$group": {"_id": "$kind", "n": {"$sum": 1}, "tags": {"$push": "$tags"}}},
            {"$project": {"tags": 0}},
            {"$lookup": {"from": "things", "localField": "kind", "foreignField": "tags", "as": "same"}},
            {"$facet": {"a": [{"$limit": 3}], "b": [{"$sort": {"_id": -1}}, {"$limit": 2}]}},
            {"$unionWith": {"coll": "things", "pipeline": [{"$match": {"kind": 1}}]}},
            {"$sortByCount": "$kind"},
        ]
    ),
    max_size=5,
)


@settings(max_examples=25)
@given(stages=pipelines, seed=st.integers(0, 1_000))
def test_an_engine_gives_what_the_stages_give_over_lists(stages: list[dict], seed: int) -> None:
    async def both() -> None:
        chance = random.Random(seed)
        async with opened(MemoryDisk(), memtable_records_max=16) as engine:
            db = await new_database(engine)
            for number in range(30):
                await insert(db, {"_id": number, "kind": chance.choice([0, 1, 2, None]), "tags": chance.sample([0, 1, 2, "x"], 2)})
            await settled(db, (await operations.delete(db, "things", {"_id": {"$in": [3, 4, 29]}}, many=True)).seq)
            documents = await everything(db)
            expected = run_over(parse_pipeline(stages), {"things": documents}, "things", Context(chance.randbytes))
            assert await aggregated(db, *stages) == expected

    trio.run(both)


# $out


async def test_out_replaces_a_collection_and_its_state_hash_is_right() -> None:
    disk = MemoryDisk()
    async with opened(disk, memtable_records_max=64) as engine:
        db = await new_database(engine)
        await insert(db, *things(100))
        await insert(db, {"_id": "old"}, collection="sums")
        sums = [{"$group": {"_id": "$kind", "n": {"$sum": 1}}}, {"$out": "sums"}]
        assert await aggregated(db, *sums) == []
        expected = [{"_id": 0, "n": 34}, {"_id": 1, "n": 33}, {"_id": 2, "n": 33}]
        assert await everything(db, "sums") == expected
        await aggregated(db, {"$match": {"_id": {"$lt": 2}}}, {"$project": {"kind": 1}}, {"$out": {"db": "db", "coll": "things"}})
        assert await everything(db) == [{"_id": 0, "kind": 0}, {"_id": 1, "kind": 1}]
        await aggregated(db, {"$match": {"none": 1}}, {"$out": "empty"})
        await aggregated(db, {"$project": {"_id": 0}}, {"$out": "fresh"})
        assert operations.list_collections(db) == ["empty", "fresh", "sums", "things"]
        assert len({str(row["_id"]) for row in await everything(db, "fresh")}) == 2
        state = await db.view().state_hash()
        await db.sealing.seal_now()
        assert await db.view().state_hash() == state
    async with opened(disk, start=2) as engine:
        db = engine.database("db")
        assert await everything(db, "sums") == expected
        assert await db.view().state_hash() == state
        assert all(not name.startswith("$out") for name in db.catalog.ids)


async def test_out_shows_nothing_of_what_goes_wrong_and_keeps_unique_indexes() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *things(700))
        await insert(db, {"_id": 1, "u": 1}, collection="target")
        result, _ = await operations.create_index(db, "target", [["u", 1]], {"unique": True})
        await settled(db, result.seq)
        for stages, error in (
            ([{"$project": {"_id": 1, "u": "$kind"}}], DuplicateKey),
            ([{"$project": {"_id": "$kind"}}], DuplicateKey),
            ([{"$project": {"u": {"$divide": [1, {"$subtract": [650, "$_id"]}]}}}], BadQuery),
        ):
            with pytest.raises(error):
                await aggregated(db, *stages, {"$out": "target"})
            db.flush()
            assert await everything(db, "target") == [{"_id": 1, "u": 1}]
            assert all(not name.startswith("$out") for name in db.catalog.ids)
        with pytest.raises(BadQuery):
            await aggregated(db, {"$out": {"db": "other", "coll": "x"}})
        await aggregated(db, {"$project": {"u": "$_id"}}, {"$out": "target"})
        assert [row["u"] for row in await everything(db, "target")] == list(range(700))
        await check_entries(db, "target")
        again = await operations.insert(db, "target", [encode_document({"_id": "x", "u": 5})])
        assert [type(row.error) for row in again.errors] == [DuplicateKey]
        assert [index["name"] for index in operations.list_indexes(db, "target")] == ["_id_", "u_1"]


async def test_out_that_is_given_up_or_crashes_leaves_nothing_for_long() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        db = await new_database(engine)
        await insert(db, *things(1_500))
        await insert(db, {"_id": "old"}, collection="target")
        with trio.CancelScope() as scope:
            view = db.view()

            async def cancelled_half_way() -> None:
                async with trio.open_nursery() as nursery:

                    async def watch() -> None:
                        while not any(name.startswith("$out") for name in db.catalog.ids):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(watch)
                    await aggregated(db, {"$out": "target"})

            await cancelled_half_way()
        assert scope.cancelled_caught and view.seq > 0
        assert all(not name.startswith("$out") for name in db.catalog.ids)
        assert await everything(db, "target") == [{"_id": "old"}]
        from storage.catalog import creation

        await settled(db, db.commit([creation("$out.00000000-0000000000000001.ab", db.catalog.next_id)]))
    async with opened(disk, start=2) as engine:
        db = engine.database("db")
        await settled(db, db.begin_reign(2))
        await aggregated(db, {"$limit": 1}, {"$out": "target"})
        assert [row["_id"] for row in await everything(db, "target")] == [0]
        assert all(not name.startswith("$out") for name in db.catalog.ids)


# $merge

HELD = [{"_id": 1, "a": 1, "b": 1}, {"_id": 2, "a": 2}]
GIVEN = [{"_id": 1, "a": 10}, {"_id": 3, "a": 30}]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [{"_id": 1, "a": 10, "b": 1}, {"_id": 2, "a": 2}, {"_id": 3, "a": 30}]),
        ({"whenMatched": "replace"}, [{"_id": 1, "a": 10}, {"_id": 2, "a": 2}, {"_id": 3, "a": 30}]),
        ({"whenMatched": "keepExisting"}, [*HELD, {"_id": 3, "a": 30}]),
        ({"whenMatched": "merge", "whenNotMatched": "discard"}, [{"_id": 1, "a": 10, "b": 1}, {"_id": 2, "a": 2}]),
        ({"whenMatched": [{"$set": {"a": {"$add": ["$a", "$$new.a"]}}}]}, [{"_id": 1, "a": 11, "b": 1}, {"_id": 2, "a": 2}, {"_id": 3, "a": 30}]),
        (
            {"whenMatched": [{"$set": {"b": "$$seen"}}], "let": {"seen": "$a"}, "whenNotMatched": "discard"},
            [{"_id": 1, "a": 1, "b": 10}, {"_id": 2, "a": 2}],
        ),
        ({"whenMatched": "fail"}, DuplicateKey),
        ({"whenNotMatched": "fail"}, BadQuery),
        ({"on": "a"}, BadQuery),
    ],
    ids=repr,
)
async def test_merge_does_what_is_said(options: dict, expected: object) -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *HELD, collection="target")
        await insert(db, *GIVEN, collection="given")
        merge = {"$merge": {"into": "target", **options}}
        if isinstance(expected, type):
            with pytest.raises(expected):
                await aggregated(db, merge, collection="given")
            return
        assert await aggregated(db, merge, collection="given") == []
        assert sorted(await everything(db, "target"), key=lambda row: row["_id"]) == expected


async def test_merge_on_a_unique_field() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": "x", "k": 1, "n": 1}, collection="target")
        result, _ = await operations.create_index(db, "target", [["k", 1]], {"unique": True})
        await settled(db, result.seq)
        await insert(db, {"_id": 5, "k": 1, "n": 9}, {"_id": 6, "k": 2, "n": 8}, collection="given")
        await aggregated(db, {"$unset": "_id"}, {"$merge": {"into": "target", "on": "k"}}, collection="given")
        found = await everything(db, "target")
        assert [(row["k"], row["n"]) for row in sorted(found, key=lambda row: row["k"])] == [(1, 9), (2, 8)]
        assert next(row["_id"] for row in found if row["k"] == 1) == "x"
        with pytest.raises(ImmutableField):
            await aggregated(db, {"$merge": {"into": "target", "on": "k"}}, collection="given")
        with pytest.raises(BadQuery) as refused:
            await aggregated(db, {"$unset": "k"}, {"$merge": {"into": "target", "on": "k"}}, collection="given")
        assert refused.value.code == 51132
        await check_entries(db, "target")


# distinct


async def test_distinct_gives_each_value_once() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": 1, "v": 1, "m": [{"x": 1}, {"x": [2, 3]}]}, {"_id": 2, "v": [1.0, "a", [5]], "m": {"x": 3}}, {"_id": 3, "v": None})
        await insert(db, {"_id": 4, "v": []}, {"_id": 5})
        assert await operations.distinct(db, "things", "v", {}) == [None, 1, "a", [5]]
        assert await operations.distinct(db, "things", "m.x", {}) == [1, 2, 3]
        assert await operations.distinct(db, "things", "_id", {"_id": {"$gt": 3}}) == [4, 5]
        assert await operations.distinct(db, "nothing", "v", {}) == []
        with pytest.raises(BadQuery):
            await operations.distinct(db, "things", "v", {"$nope": 1})
        await insert(db, *({"_id": f"b{number}", "big": f"{number}" + "x" * 4_000_000} for number in range(5)))
        with pytest.raises(BadQuery) as refused:
            await operations.distinct(db, "things", "big", {})
        assert refused.value.code == 17217


async def test_a_run_that_is_closed_closes_its_reads() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *things(300))
        view = db.view()
        batches = documents_of(view, parse_pipeline([{"$match": {}}]).items("things", Context(bytes)), beside=False)
        assert len(await anext(batches)) == 64
        await batches.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(batches)
