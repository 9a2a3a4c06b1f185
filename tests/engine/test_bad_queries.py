"""Bad requests, one row each: refused by name, with MongoDB's number where it has one; and what is only large is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import Regex

from storage import Database, MemoryDisk, operations
from storage.errors import BadIndex, BadQuery, ImmutableField, TwinlogError
from storage.values.documents import DEPTH_MAX
from tests.engine.model import insert, new_database, opened, settled

COLLECTION = "things"


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 0, "a": 1, "b": "ab", "c": [1, 2, {"b": 1}]}, {"_id": 1, "a": [1, "ab"], "b": {"a": 1}})
        yield database


def nested(name: str, levels: int) -> dict[str, Any]:
    spec: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        spec = {name: [spec]}
    return spec


def path_of(parts: int) -> str:
    return ".".join("a" * parts)


FILTERS = [
    (5, 2),
    ([], 2),
    ({"$nonsense": 1}, 2),
    ({"a": {"$nonsense": 1}}, 2),
    ({"a": {"$gt": 1, "b": 2}}, 2),
    ({"$where": "true"}, 2),
    ({"$text": {"$search": "a"}}, 2),
    ({"$jsonSchema": {}}, 2),
    ({"a": {"$near": [1, 1]}}, 2),
    ({"$and": []}, 2),
    ({"$or": {}}, 2),
    ({"$nor": [1]}, 2),
    ({"$alwaysTrue": 2}, 9),
    ({"a": {"$gt": Regex("a", "")}}, 2),
    ({"a": {"$ne": Regex("a", "")}}, 2),
    ({"a": {"$in": 1}}, 2),
    ({"a": {"$in": [{"$gt": 1}]}}, 2),
    ({"a": {"$size": -1}}, 2),
    ({"a": {"$size": 1.5}}, 2),
    ({"a": {"$mod": [0, 1]}}, 2),
    ({"a": {"$mod": [1]}}, 2),
    ({"a": {"$mod": [float("nan"), 1]}}, 2),
    ({"a": {"$type": "nonsense"}}, 2),
    ({"a": {"$type": []}}, 9),
    ({"a": {"$type": {}}}, 14),
    ({"a": {"$options": "i"}}, 2),
    ({"a": {"$not": 5}}, 2),
    ({"a": {"$not": {}}}, 2),
    ({"a": {"$elemMatch": 5}}, 2),
    ({"a": {"$elemMatch": {"$expr": 1}}}, 2),
    ({"a": {"$all": 5}}, 2),
    ({"a": {"$all": [{"$gt": 1}]}}, 2),
    ({"a": {"$bitsAllSet": "x"}}, 2),
    ({"a": {"$bitsAllSet": -1}}, 9),
    ({"a": {"$bitsAllSet": [-1]}}, 2),
    ({"$expr": {"$nonsense": 1}}, 168),
    ({"$expr": {"$add": "x"}}, 14),
    ({"$expr": "$$nobody"}, 17276),
    (nested("$and", 150), 2),
    (nested("$or", 5_000), 2),
    ({"a": nested("$elemMatch", 150)}, 2),
    ({"a\0": 1}, 2),
    ({path_of(201): 1}, 2),
]
REGEXES = [
    ({"a": {"$regex": "("}}, 51091),
    ({"a": Regex("[", "")}, 51091),
    ({"a": {"$regex": "a", "$options": "q"}}, 51108),
    ({"a": {"$regex": Regex("a", "i"), "$options": "s"}}, 51075),
    ({"a": {"$regex": "a\0"}}, 2),
    ({"a": {"$regex": "a" * 40_000}}, 2),
    ({"a": {"$regex": 5}}, 2),
    ({"$expr": {"$regexMatch": {"input": "$b", "regex": "("}}}, 51091),
]
SORTS = [
    ([["a", 2]], 15975),
    ([["a", 0]], 15975),
    ([["a", "x"]], 15974),
    ([["a", True]], 15974),
    ([["", 1]], 40352),
    ([["a..b", 1]], 40352),
    ([["$a", 1]], 16410),
    ([["a", 1], ["a", -1]], 2),
    ({"a": {"$meta": "textScore"}}, 17312),
    ({"a": 1, "$natural": 1}, 2),
    ([[f"f{n}", 1] for n in range(33)], 13103),
    ("a", 2),
    ([5], 2),
]
PROJECTIONS = [
    ({"a": 1, "b": 0}, 31254),
    ({"a": {"$slice": "x"}}, 31273),
    ({"a": {"$slice": [1, 0]}}, 31259),
    ({"a": {"$elemMatch": 5}}, 31274),
    ({"a.$": 1, "b.$": 1}, 31276),
    ({"a.$.b": 1}, 31394),
    ({"a": 1, "a.b": 1}, 31249),
    ({"a": {"$nonsense": 1}}, 31325),
    ({"$a": 1}, 16410),
    ({"": 1}, 40352),
    ({"a..b": 1}, 15998),
    ({"a": {}}, 51270),
    (5, 2),
]
UPDATES = [
    ({"a": 1}, 9),
    ({}, 9),
    (5, 9),
    ({"$nonsense": {"a": 1}}, 9),
    ({"$set": 5}, 9),
    ({"$set": {"": 1}}, 56),
    ({"$set": {"a..b": 1}}, 56),
    ({"$set": {"$a": 1}}, 52),
    ({"$set": {"a": 1}, "$inc": {"a": 1}}, 40),
    ({"$set": {"a": 1, "a.b": 2}}, 40),
    ({"$set": {"a.$[]": 1, "a.0": 2}}, 40),
    ({"$set": {"_id": 9}}, 66),
    ({"$unset": {"_id": 1}}, 66),
    ({"$set": {"b.c": 1}}, 28),
    ({"$min": {"a.b.c": 1}}, 28),
    ({"$set": {"c.2000000": 1}}, 34),
    ({"$inc": {"a": "x"}}, 14),
    ({"$inc": {"b": 1}}, 14),
    ({"$mul": {"b": 2}}, 14),
    ({"$push": {"b": 1}}, 2),
    ({"$push": {"a": {"$each": 5}}}, 2),
    ({"$push": {"a": {"$each": [], "$slice": "x"}}}, 2),
    ({"$push": {"a": {"$each": [], "$nonsense": 1}}}, 2),
    ({"$pop": {"a": 2}}, 9),
    ({"$pull": {"b": 1}}, 2),
    ({"$pullAll": {"a": 5}}, 2),
    ({"$rename": {"a": "a"}}, 2),
    ({"$rename": {"a": 5}}, 2),
    ({"$bit": {"a": {"xand": 1}}}, 2),
    ({"$bit": {"b": {"and": 1}}}, 2),
    ({"$currentDate": {"a": "x"}}, 2),
    ({"$set": {"a.$[x]": 1}}, 2),
    ({"$set": {"a.$": 1}}, 2),
    ({"$set": {f"f{n}": 1 for n in range(10_001)}}, 2),
    ({"$set": {path_of(101): 1}}, 2),
    ([{"$match": {}}], 72),
    ([5], 14),
    ([{"$set": {"a": {"$nonsense": 1}}}], 168),
    ([{"$set": {"x": {"$size": "$b"}}}], 17124),
    ([{"$set": {"x": {"$map": {"input": {"$range": [0, 500]}, "in": {"$map": {"input": {"$range": [0, 500]}, "in": 1}}}}}}], 146),
]
ARRAY_FILTERS = [
    (5, 14),
    ([5], 14),
    ([{}], 9),
    ([{"X": 1}], 2),
    ([{"x": 1, "y": 1}], 9),
    ([{"x": 1}, {"x": 2}], 9),
    ([{"x": 1}, {"y": 2}], 9),
    ([{"$nonsense": 1}], 9),
    ([{"x": {"$nonsense": 1}}], 2),
    ([{"x": 1}] * 101, 2),
    ([nested("$and", 150)], 2),
]
PIPELINES = [
    (5, 14),
    ([5], 14),
    ([{}], 40323),
    ([{"a": 1, "b": 2}], 40323),
    ([{"$nonsense": {}}], 40324),
    ([{"$graphLookup": {}}], 40324),
    ([{"$match": 5}], 15959),
    ([{"$match": {"$nonsense": 1}}], 2),
    ([{"$limit": 0}], 15958),
    ([{"$limit": -1}], 2107201),
    ([{"$skip": -1}], 5107200),
    ([{"$sort": {}}], 15976),
    ([{"$sort": 5}], 15973),
    ([{"$sort": {"a": 2}}], 15975),
    ([{"$group": {}}], 15955),
    ([{"$group": {"_id": 1, "a": 5}}], 40234),
    ([{"$group": {"_id": 1, "a": {"$nonsense": 1}}}], 15952),
    ([{"$group": {"_id": 1, "a.b": {"$sum": 1}}}], 40235),
    ([{"$project": {}}], 51272),
    ([{"$project": {"a": 1, "b": 0}}], 31254),
    ([{"$addFields": {"a": 1, "a.b": 1}}], 31249),
    ([{"$unwind": "a"}], 28818),
    ([{"$unwind": {"path": 5}}], 28808),
    ([{"$unwind": {}}], 28812),
    ([{"$count": "$a"}], 40158),
    ([{"$count": "a.b"}], 40160),
    ([{"$lookup": {}}], 9),
    ([{"$lookup": {"from": 5}}], 40321),
    ([{"$facet": {}}], 40169),
    ([{"$facet": {"a": [{"$facet": {"b": []}}]}}], 40600),
    ([{"$facet": {"a": [{"$out": "x"}]}}], 40600),
    ([{"$out": "x"}, {"$limit": 1}], 40601),
    ([{"$bucket": {}}], 40198),
    ([{"$bucket": {"groupBy": "$a", "boundaries": [2, 1]}}], 40194),
    ([{"$replaceRoot": {}}], 40231),
    ([{"$replaceRoot": {"newRoot": "$a"}}], 40228),
    ([{"$sample": {}}], 28749),
    ([{"$sample": {"size": -1}}], 28747),
    ([{"$merge": 5}], 51182),
    ([{"$project": {"x": {"$divide": [1, 0]}}}], 2),
    ([{"$project": {"x": {"$add": ["a", 1]}}}], 14),
    ([{"$project": {"x": "$$nobody"}}], 17276),
    ([{"$project": {"x": {"$a": 1, "$b": 2}}}], 15983),
    ([{"$project": {"x": {"$function": {}}}}], 168),
    ([{"$project": {"x": {"$toInt": "x"}}}], 241),
    ([{"$limit": 1}] * 1001, 7749501),
    ([{"$match": nested("$and", 150)}], 2),
]
BOMBS = [  # a few hundred bytes that ask for more than there is
    ([{"$project": {"x": {"$range": [0, 10**7]}}}], 146),
    ([{"$project": {"x": ["$x", "$x"]}}] * 45, 10334),
    ([{"$project": {"x": {"a": "$x", "b": "$x", "c": "$x"}}}] * 30 + [{"$sort": {"x": 1}}], 10334),
    ([{"$project": {"x": {"$reduce": {"input": {"$range": [0, 45]}, "initialValue": "$b", "in": ["$$value", "$$value"]}}}}], 10334),
    ([{"$project": {"x": {"$reduce": {"input": {"$range": [0, 45]}, "initialValue": "$c", "in": {"$concatArrays": ["$$value", "$$value"]}}}}}], 10334),
    ([{"$project": {"x": {"$reduce": {"input": {"$range": [0, 45]}, "initialValue": "ab", "in": {"$concat": ["$$value", "$$value"]}}}}}], 10334),
    ([{"$project": {"x": {"$map": {"input": {"$range": [0, 10**6]}, "in": {"$map": {"input": "$c", "in": ["$$this"] * 9}}}}}}], 146),
    ([{"$project": {"x": {"$map": {"input": {"$range": [0, 10**6]}, "in": ["$c", "$c"]}}}}], 10334),
    ([{"$project": {"x": {"$size": {"$filter": {"input": {"$range": [0, 10**6]}, "cond": {"$reduce": {
        "input": "$c", "initialValue": 0, "in": {"$reduce": {"input": "$c", "initialValue": 0, "in": 1}}}}}}}}}], 146),
    ([{"$project": {"x": {"$reduce": {"input": {"$range": [0, 300]}, "initialValue": 1, "in": ["$$value"]}}}}], 2),
]  # fmt: skip
INDEX_KEYS = [
    ([], 67),
    (5, 67),
    ([["a", 5, 6]], 67),
    ([["a", "x"]], 67),
    ([["a", 0]], 67),
    ([["", 1]], 67),
    ([["$a", 1]], 67),
    ([["a", 1], ["a", 1]], 67),
    ([[f"f{n}", 1] for n in range(33)], 13103),
]
INDEX_OPTIONS = [
    (5, 14),
    ({"nonsense": 1}, 197),
    ({"name": 5}, 67),
    ({"name": "_id_"}, 197),
    ({"expireAfterSeconds": -1}, 67),
    ({"expireAfterSeconds": "x"}, 67),
    ({"partialFilterExpression": 5}, 14),
    ({"partialFilterExpression": {"$nonsense": 1}}, 67),
    ({"partialFilterExpression": {"a": {"$regex": "a"}}}, 67),
    ({"unique": "x"}, 14),
    ({"sparse": True, "partialFilterExpression": {"a": 1}}, 67),
]
DISTINCT_PATHS = [("", 14), (5, 14), ("a\0", 31032), (path_of(201), 2)]


def numbered(rows: list[tuple[Any, int]]) -> Any:
    """One test a row; named by place, for a row may nest too deep to be shown."""
    return pytest.mark.parametrize(("bad", "code"), rows, ids=[f"{place}-{code}" for place, (_, code) in enumerate(rows)])


async def drained(cursor: operations.Cursor) -> int:
    number = 0
    while not cursor.done:
        number += len(await cursor.next_batch(100))
    return number


async def refused(asking: Any, code: int) -> TwinlogError:
    with pytest.raises(TwinlogError) as caught:
        found = await asking
        if isinstance(found, operations.Cursor):
            await drained(found)
    assert caught.value.code == code
    assert caught.value.message
    return caught.value


@numbered(FILTERS + REGEXES)
async def test_bad_filters(db: Database, bad: Any, code: int):
    assert isinstance(await refused(operations.find(db, COLLECTION, bad), code), BadQuery)
    await refused(operations.count(db, COLLECTION, bad), code)
    await refused(operations.distinct(db, COLLECTION, "a", bad), code)
    await refused(operations.delete(db, COLLECTION, bad), code)
    await refused(operations.update(db, COLLECTION, bad, {"$set": {"z": 1}}), code)
    if isinstance(bad, dict):
        await refused(operations.aggregate(db, COLLECTION, [{"$match": bad}]), code)
    assert await operations.count(db, COLLECTION, {}) == 2


@numbered(SORTS)
async def test_bad_sorts(db: Database, bad: Any, code: int):
    assert isinstance(await refused(operations.find(db, COLLECTION, {}, sort=bad), code), BadQuery)
    await refused(operations.update(db, COLLECTION, {}, {"$set": {"z": 1}}, sort=bad), code)


@numbered(PROJECTIONS)
async def test_bad_projections(db: Database, bad: Any, code: int):
    assert isinstance(await refused(operations.find(db, COLLECTION, {"a": 1}, projection=bad), code), BadQuery)


@numbered(UPDATES)
async def test_bad_updates(db: Database, bad: Any, code: int):
    error = await refused(operations.update(db, COLLECTION, {"_id": 0}, bad), code)
    assert isinstance(error, (BadQuery, ImmutableField))
    await refused(operations.find_one_and(db, COLLECTION, {"_id": 0}, action=operations.Action.UPDATE, change=bad), code)
    assert await operations.count(db, COLLECTION, {"_id": 0, "a": 1, "b": "ab", "c": {"$size": 3}}) == 1


@numbered(ARRAY_FILTERS)
async def test_bad_array_filters(db: Database, bad: Any, code: int):
    asking = operations.update(db, COLLECTION, {"_id": 1}, {"$set": {"a.$[x]": 1}}, array_filters=bad)
    assert isinstance(await refused(asking, code), BadQuery)


@numbered(PIPELINES + BOMBS)
async def test_bad_pipelines(db: Database, bad: Any, code: int):
    await refused(operations.aggregate(db, COLLECTION, bad), code)


@numbered(INDEX_KEYS)
async def test_bad_index_keys(db: Database, bad: Any, code: int):
    assert isinstance(await refused(operations.create_index(db, COLLECTION, bad), code), BadIndex)


@numbered(INDEX_OPTIONS)
async def test_bad_index_options(db: Database, bad: Any, code: int):
    assert isinstance(await refused(operations.create_index(db, COLLECTION, [["q", 1]], bad), code), BadIndex)


@numbered(DISTINCT_PATHS)
async def test_bad_paths_of_distinct(db: Database, bad: Any, code: int):
    await refused(operations.distinct(db, COLLECTION, bad, {}), code)


async def test_a_runaway_regular_expression_is_stopped(db: Database):
    await insert(db, {"_id": "long", "a": "a" * 10_000 + "c"})
    assert await operations.count(db, COLLECTION, {"a": {"$regex": "(a+)+c$"}}) == 1  # without backtracking it is quick
    await refused(operations.count(db, COLLECTION, {"a": {"$regex": "(a+)+\\1$"}}), 51156)


async def test_ten_thousand_branches_are_answered(db: Database):
    assert await operations.count(db, COLLECTION, {"$or": [{"a": {"$gt": n, "$lt": n + 2}} for n in range(10_000)]}) == 2
    assert await operations.count(db, COLLECTION, {"$and": [{"a": {"$ne": -n}} for n in range(1, 10_000)]}) == 2
    assert await operations.count(db, COLLECTION, {"$or": [{f"f{n}": n} for n in range(10_000)]}) == 0
    assert await operations.count(db, COLLECTION, {"a": {"$in": list(range(100_000))}}) == 2


async def test_ten_thousand_paths_are_updated(db: Database):
    result = await operations.update(db, COLLECTION, {"_id": 0}, {"$set": {f"f{n}": n for n in range(10_000)}})
    assert (result.matched, result.modified) == (1, 1)
    await settled(db, result.seq)
    assert await operations.count(db, COLLECTION, {"f9999": 9_999}) == 1


async def test_what_may_nest_is_answered_and_what_may_not_is_refused(db: Database):
    assert await operations.count(db, COLLECTION, nested("$and", DEPTH_MAX - 2)) == 2
    value: Any = 1
    for _ in range(DEPTH_MAX - 2):
        value = [value]
    assert await operations.count(db, COLLECTION, {"a": value}) == 0
    await refused(operations.update(db, COLLECTION, {"_id": 0}, {"$set": {"y": [[[value]]]}}), 2)
