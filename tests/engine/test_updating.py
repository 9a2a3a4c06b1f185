"""Update, replace, delete and find-and-modify: results, upserts, sorts, retries, races, cold data."""

from __future__ import annotations

import datetime

import pytest
import trio
from bson import Timestamp

from storage import MemoryDisk, decode_document, encode_document, encode_value, operations
from storage.errors import (
    AnswerForgotten,
    BadQuery,
    BadRequest,
    DocumentTooLarge,
    DuplicateKey,
    ImmutableField,
    ReadOnly,
    TwinlogError,
)
from storage.operations import Action
from tests.engine.cold_disk import ColdDisk
from tests.engine.model import everything, insert, new_database, opened, settled

THINGS = "things"
Counts = tuple[int, int, bytes | None]


def counts(result: operations.WriteResult) -> Counts:
    return result.matched, result.modified, result.upserted_id


async def documents(database) -> dict:
    await settled(database, database.position.seq)
    return {document["_id"]: document for document in await everything(database)}


@pytest.mark.parametrize("sealed", [False, True])
async def test_an_update_of_one_of_many_and_of_none(sealed: bool) -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "kind": n % 2, "n": 1} for n in range(6)))
        if sealed:
            await database.sealing.seal_now()
        one = await operations.update(database, THINGS, {"kind": 1}, {"$inc": {"n": 1}})
        many = await operations.update(database, THINGS, {"kind": 1}, {"$inc": {"n": 1}}, many=True)
        none = await operations.update(database, THINGS, {"kind": 9}, {"$inc": {"n": 1}}, many=True)
        nowhere = await operations.update(database, "nowhere", {}, {"$set": {"n": 1}}, many=True)
        assert [counts(r)[:2] for r in (one, many, none, nowhere)] == [(1, 1), (3, 3), (0, 0), (0, 0)]
        assert none.seq == nowhere.seq == 0
        assert [document["n"] for _, document in sorted((await documents(database)).items())] == [1, 3, 1, 2, 1, 2]


async def test_what_does_not_change_is_matched_but_not_modified_nor_logged() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        wide = b"\x82\xa3_id\x01\xa1n\xcd\x00\x05"  # 5 in three bytes: sound, but not as this encoder writes it
        await operations.insert(database, THINGS, [wide])
        end = database.position
        for many in (False, True):
            for change in ({"$set": {"n": 5}}, {"$unset": {"x": 1}}, {"$max": {"n": 1}}, {"$setOnInsert": {"q": 1}}):
                result = await operations.update(database, THINGS, {}, change, many=many)
                assert (counts(result), database.position) == ((1, 0, None), end)
        assert counts(await operations.update(database, THINGS, {}, {"$set": {"n": 5.0}}))[:2] == (1, 1)


async def test_upserts_take_what_the_filter_says() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        change = {"$set": {"b": 1}, "$setOnInsert": {"c": 2}}
        result = await operations.update(database, THINGS, {"_id": 7, "a": 3}, change, upsert=True)
        again = await operations.update(database, THINGS, {"_id": 7, "a": 3}, change, upsert=True)
        many = await operations.update(database, THINGS, {"x.y": 5, "n": {"$gt": 1}}, change, many=True, upsert=True)
        assert (counts(result), counts(again)) == ((0, 0, encode_value(7)), (1, 0, None))
        assert (many.matched, many.upserted_id is None) == (0, False)
        held = await documents(database)
        [made] = [document for key, document in held.items() if key != 7]
        assert held[7] == {"_id": 7, "a": 3, "b": 1, "c": 2}
        assert {key: value for key, value in made.items() if key != "_id"} == {"x": {"y": 5}, "b": 1, "c": 2}
        with pytest.raises(DuplicateKey, match="_id_"):
            await operations.update(database, THINGS, {"_id": 7, "a": 99}, change, upsert=True)


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"b": 1}, BadQuery, 9),
        ({}, BadQuery, 9),
        ({"$set": {"b": 1}, "c": 1}, BadQuery, 9),
        ({"$wrong": {"b": 1}}, BadQuery, 9),
        ({"$set": {"a": 1, "a.b": 1}}, BadQuery, 40),
        ({"$set": {"_id": 2}}, ImmutableField, 66),
        ({"$inc": {"s": 1}}, BadQuery, 14),
        ({"$set": {"s.x": 1}}, BadQuery, 28),
        ({"$set": {"b": "x" * 2**24}}, DocumentTooLarge, 10334),
        (5, BadQuery, 9),
    ],
)
async def test_a_bad_update_is_refused_and_nothing_is_done(change: object, error: type[TwinlogError], code: int) -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1, "s": "text"})
        end = database.position
        for options in ({}, {"many": True}, {"upsert": True}):
            with pytest.raises(error) as refused:
                await operations.update(database, THINGS, {"_id": 1}, change, **options)
            assert refused.value.code == code
        with pytest.raises(error):
            await operations.find_one_and(database, THINGS, {}, action=Action.UPDATE, change=change)
        assert database.position == end


async def test_an_error_half_way_ends_an_update_of_many_and_what_was_done_stays() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1, "n": 1}, {"_id": 2, "n": 1}, {"_id": 3, "n": "text"}, {"_id": 4, "n": 1})
        with pytest.raises(BadQuery, match="text|string|number"):
            await operations.update(database, THINGS, {}, {"$inc": {"n": 1}}, many=True)
        assert [document["n"] for _, document in sorted((await documents(database)).items())] == [2, 2, "text", 1]
        await operations.update(database, THINGS, {"_id": 3}, {"$set": {"last": True}})
        bulk = await operations.bulk(database, THINGS, [["update", {}, {"$inc": {"n": 1}}, {"many": True}]])
        assert (bulk.matched, bulk.modified, [row.index for row in bulk.errors]) == (3, 3, [0])


async def test_sorts_positions_array_filters_and_dates() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "n": n * 7 % 5, "list": [1, 2, n]} for n in range(5)))
        await operations.update(database, THINGS, {}, {"$set": {"first": True}}, sort=[["n", -1]])
        await operations.replace_one(database, THINGS, {}, encode_document({"_id": 0, "n": -1}), sort=[["n", 1]])
        await operations.update(database, THINGS, {"_id": 3, "list": 2}, {"$set": {"list.$": "two"}})
        await operations.update(
            database, THINGS, {"_id": 4}, {"$inc": {"list.$[big]": 10}}, array_filters=[{"big": {"$gt": 1}}]
        )
        await operations.update(
            database, THINGS, {"_id": 1}, {"$currentDate": {"at": True, "stamp": {"$type": "timestamp"}}}
        )
        held = await documents(database)
        assert [key for key, document in held.items() if "first" in document] == [2]
        assert (held[0], held[3]["list"], held[4]["list"]) == ({"_id": 0, "n": -1}, [1, "two", 3], [1, 12, 14])
        assert isinstance(held[1]["at"], datetime.datetime) and isinstance(held[1]["stamp"], Timestamp)
        with pytest.raises(BadQuery, match="sort"):
            await operations.update(database, THINGS, {}, {"$set": {"a": 1}}, many=True, sort=[["n", 1]])


async def test_find_one_and_answers_the_document_before_or_after() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "n": n} for n in range(3)))

        async def do(spec: dict, action: Action, **options: object) -> tuple[Counts, int, dict | None]:
            result, data = await operations.find_one_and(database, THINGS, spec, action=action, **options)
            return counts(result), result.deleted, None if data is None else decode_document(data)

        inc = {"change": {"$inc": {"n": 10}}}
        assert await do({"_id": 1}, Action.UPDATE, **inc) == ((1, 1, None), 0, {"_id": 1, "n": 1})
        assert await do({"_id": 1}, Action.UPDATE, after=True, **inc) == ((1, 1, None), 0, {"_id": 1, "n": 21})
        assert await do({}, Action.UPDATE, sort=[["n", -1]], projection={"n": 1, "_id": 0}, **inc) == ((1, 1, None), 0, {"n": 21})
        assert await do({"_id": 9}, Action.UPDATE, **inc) == ((0, 0, None), 0, None)
        upsert = {"upsert": True, **inc}
        assert await do({"_id": 9}, Action.UPDATE, **upsert) == ((0, 0, encode_value(9)), 0, None)
        assert await do({"_id": 8}, Action.UPDATE, after=True, **upsert) == ((0, 0, encode_value(8)), 0, {"_id": 8, "n": 10})
        new = encode_document({"_id": 2, "new": True})
        assert await do({"_id": 2}, Action.REPLACE, change=new, after=True) == ((1, 1, None), 0, {"_id": 2, "new": True})
        assert await do({"new": True}, Action.DELETE) == ((0, 0, None), 1, {"_id": 2, "new": True})
        assert await do({"new": True}, Action.DELETE) == ((0, 0, None), 0, None)
        for action, options in (
            (Action.DELETE, {"change": {"$set": {"a": 1}}}),
            (Action.DELETE, {"upsert": True}),
            (Action.DELETE, {"after": True}),
            (Action.REPLACE, {"change": {"a": 1}}),
            (Action.REPLACE, {"change": new, "array_filters": [{"x": 1}]}),
            (Action.UPDATE, {"change": None}),
        ):
            with pytest.raises(BadQuery) as refused:
                await do({}, action, **options)
            assert refused.value.code == 9


async def test_a_find_one_and_that_comes_again_answers_the_same_or_says_that_it_cannot() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1, "n": 0}, {"_id": 2, "n": 0, "pad": "x" * 4000})
        change = {"action": Action.UPDATE, "change": {"$inc": {"n": 1}}, "after": True}
        first = await operations.find_one_and(database, THINGS, {"_id": 1}, request=b"a" * 16, **change)
        await operations.find_one_and(database, THINGS, {"_id": 2}, request=b"b" * 16, **change)
        made = await operations.find_one_and(
            database, THINGS, {"_id": 3}, request=b"c" * 16, upsert=True, action=Action.UPDATE, change={"$inc": {"n": 1}}
        )
        await settled(database, database.position.seq)
    async with opened(disk, start=2) as engine:
        database = engine.database("db")
        again = await operations.find_one_and(database, THINGS, {"_id": 1}, request=b"a" * 16, **change)
        assert (again[0].replayed, again[1], again[0].seq) == (True, first[1], first[0].seq)
        with pytest.raises(AnswerForgotten, match="applied"):
            await operations.find_one_and(database, THINGS, {"_id": 2}, request=b"b" * 16, **change)
        remade = await operations.find_one_and(database, THINGS, {"_id": 3}, request=b"c" * 16, upsert=True, **change)
        assert (made[1], remade[1], remade[0].upserted_id) == (None, None, encode_value(3))
        assert {document["n"] for document in (await documents(database)).values()} == {1}


async def test_bulk_takes_updates_and_refuses_options_that_it_has_not() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "list": [n, 5]} for n in range(3)))
        result = await operations.bulk(
            database,
            THINGS,
            [
                ["update", {}, {"$set": {"a": 1}}, {"many": True}],
                ["update", {"_id": 9}, {"$set": {"a": 1}}, {"upsert": True}],
                ["update", {"_id": 1}, {"$set": {"list.$[x]": 0}}, {"array_filters": [{"x": 5}]}],
                ["replace", {"_id": 2}, encode_document({"_id": 2}), False],
            ],
            request=b"q" * 16,
        )
        assert (result.matched, result.modified, result.upserted) == (5, 5, {1: encode_value(9)})
        assert (await documents(database))[1]["list"] == [1, 0]
        for write in (["update", {}, {}, {"multi": True}], ["update", {}, {}, 5], ["update", {}], ["upsert", {}, {}, {}]):
            refused = await operations.bulk(database, THINGS, [write])
            assert [type(row.error) for row in refused.errors] == [BadRequest]


@pytest.mark.parametrize("filtered", ["by _id", "by another field"])
async def test_writers_of_one_document_lose_nothing(filtered: str) -> None:
    async with opened(ColdDisk(3), cache_bytes=0, memtable_records_max=40) as engine:
        database = await new_database(engine)
        spec = {"_id": 1} if filtered == "by _id" else {"name": "counter"}

        async def count_up() -> None:
            for _ in range(20):
                change = {"$inc": {"n": 1}, "$set": {"name": "counter"}}
                result = await operations.update(database, THINGS, spec, change, upsert=True)
                database.flush()
                assert result.matched or result.upserted

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(count_up)
        [held] = (await documents(database)).values()
        assert held["n"] == 160


async def test_a_queue_hands_every_document_out_once() -> None:
    async with opened(MemoryDisk(), memtable_records_max=50) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "at": -n} for n in range(120)))
        taken: list[int] = []

        async def take() -> None:
            while True:
                _, data = await operations.find_one_and(database, THINGS, {}, action=Action.DELETE, sort=[["at", 1]])
                database.flush()
                if data is None:
                    return
                taken.append(decode_document(data)["_id"])

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(take)
        assert sorted(taken) == list(range(120))


@pytest.mark.parametrize("seed", [None, 5])
async def test_cold_documents_are_read_first(seed: int | None) -> None:
    async with opened(ColdDisk(seed), cache_bytes=0) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "n": n} for n in range(60)))
        await database.sealing.seal_now()
        assert (await operations.update(database, THINGS, {"n": {"$lt": 30}}, {"$inc": {"n": 1000}}, many=True)).modified == 30
        assert (await operations.update(database, THINGS, {"n": 40}, {"$inc": {"n": 1000}})).modified == 1
        assert (await operations.delete(database, THINGS, {"n": {"$gte": 1000}}, many=True)).deleted == 31
        assert len(await documents(database)) == 29


async def test_what_refuses_writes_refuses_changes_before_anything_is_looked_for() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        database.refuse_writes(ReadOnly("not now"))
        for call in (
            operations.update(database, THINGS, {}, {"$set": {"a": 1}}),
            operations.update(database, THINGS, {"_id": 5}, {"$set": {"a": 1}}, many=True, upsert=True),
            operations.replace_one(database, THINGS, {}, encode_document({"_id": 1})),
            operations.delete(database, THINGS, {}, many=True),
            operations.find_one_and(database, THINGS, {}, action=Action.DELETE),
            operations.create_index(database, THINGS, [["a", 1]], {}),
            operations.drop_index(database, THINGS, "*"),
        ):
            with pytest.raises(ReadOnly, match="not now"):
                await call
