"""Cases in which codes alone would give another answer than the documents."""

from __future__ import annotations

import pytest
from bson import Decimal128, Regex

from storage.fields.values import COLUMN, WORDS
from storage.plan import GroupSpec, Scale, count, distinct, find, group
from storage.query.filters import compile_filter
from storage.query.sorting import compile_sort
from tests.plan.scanning import keys, last, naive_distinct, naive_groups, spelled
from tests.plan.worlds import World

FIELDS = {"a": COLUMN | WORDS, "b": COLUMN, "a.b": COLUMN, "a.0": COLUMN}
EVERY_THIRD = [False, False, True]


def world_of(values: list, dead: list[bool] | None = None, cuts: tuple[int, ...] = ()) -> World:
    documents = [{"_id": i, **(value if isinstance(value, dict) else {"a": value})} for i, value in enumerate(values)]
    return World(documents, list(cuts), dead or [False] * len(documents), [FIELDS] * 5, 0)


def matching(world: World, spec: dict) -> list[dict]:
    matches = compile_filter(spec)
    return [document for _, document in world.live if matches(document)]


@pytest.mark.parametrize(
    "spec",
    [
        {"a": {"$gte": 5, "$lt": 3}},  # by different elements
        {"a": {"$gt": 1, "$lte": 5}},
        {"a": {"$in": [1, 2, 5, 9]}},
        {"a": {"$not": {"$gt": 3}}},
        {"a": {"$gte": 0, "$ne": 5}},
    ],
)
def test_a_range_over_elements_of_arrays(spec: dict):
    values = [[1, 9], 4, [4, 4], [2, 5, 7], 1, 9, [], [3], [1, 2], [[1, 9]], *range(30)]
    world = world_of(values, cuts=(5,))
    expected = matching(world, spec)
    assert [int(key) for key in keys(find(world.parts, [], compile_filter(spec)))] == [document["_id"] for document in expected]
    assert last(count(world.parts, [], compile_filter(spec))) == len(expected)


@pytest.mark.parametrize(
    "spec",
    [
        {"a": {"$elemMatch": {"0": 5}}},  # an index opens the element, not the array
        {"a": {"$elemMatch": {"b": None}}},
        {"a": {"$elemMatch": {"$eq": None}}},
        {"a": {"$regex": "foo"}},  # also that very regular expression as a value
        {"a": {"$regex": "^foo b"}},
        {"a": {"$not": {"$regex": "foo"}}},
    ],
)
def test_elements_and_words(spec: dict):
    values = [[[5]], [5], [{"0": 5}], [{"b": None}], [{}], [3], [None], "foo bar", "food", ["x", "foo"], Regex("foo"), "barfoo", 7]
    world = world_of(values, cuts=(4,))
    matches = compile_filter(spec)
    expected = [key for key, document in world.live if matches(document)]
    assert expected
    assert keys(find(world.parts, [], matches)) == expected
    assert keys(find(world.parts, [], matches, scale=Scale(pattern_values=0))) == expected


MIXED = [None, {}, 1, {"b": 2}, None, 1.0, {"a": 1, "b": 5}, {}, Decimal128("1"), 2, {"b": 7}, 2.0, float("nan"), Decimal128("NaN")]
LARGE = [2**53 + 1, 2**53, 2**63 - 1, -(2**63), 1, 2**53 + 1, 2**62, 2**62]
DOUBLES = [0.1, 0.2, 0.3, 1e-9, 1e9, -1e9, 12.34, 7, 0.1]
FOLDS = {"n": {"$sum": 1}, "s": {"$sum": "$a"}, "m": {"$avg": "$a"}, "lo": {"$min": "$a"}, "hi": {"$max": "$a"}, "t": {"$sum": "$b"}}


@pytest.mark.parametrize("values", [MIXED, MIXED[::-1], LARGE, DOUBLES, [0, -0.0, 0], [1.0, 1, 1], [Decimal128("1"), 1, 2], [[1.0], 1, {"a": 2}]])
@pytest.mark.parametrize("key", [None, "$a", "$b", {"k": "$a"}, {"k": "$b", "l": "$a"}])
@pytest.mark.parametrize("folds", [{"n": {"$sum": 1}}, FOLDS], ids=["counted", "folded"])
@pytest.mark.parametrize("spec", [{}, {"$expr": {"$ne": ["$b", 5]}}, {"_id": {"$gt": 1}}])
@pytest.mark.parametrize("cuts", [(), (3,), (2, 5)])
def test_groups(values: list, key: object, folds: dict, spec: dict, cuts: tuple[int, ...]):
    for dead in (None, (EVERY_THIRD * 5)[: len(values)]):
        world = world_of(values, dead, cuts)
        found = last(group(world.parts, [], compile_filter(spec), GroupSpec.read({"_id": key, **folds})))
        assert spelled(found) == spelled(naive_groups(matching(world, spec), {"_id": key, **folds}))


@pytest.mark.parametrize("values", [MIXED, MIXED[::-1], LARGE, [0, -0.0, 0], [1.0, 1], [[1.0, 2], 1, 2], [1, [1.0]], [[[1], 2], {}]])
@pytest.mark.parametrize("spec", [{}, {"$expr": {"$ne": ["$b", 5]}}, {"_id": {"$gt": 0}}])
@pytest.mark.parametrize("cuts", [(), (1,), (2, 5)])
def test_distinct_values(values: list, spec: dict, cuts: tuple[int, ...]):
    for dead in (None, (EVERY_THIRD * 5)[: len(values)]):
        world = world_of(values, dead, cuts)
        found = last(distinct(world.parts, [], "a", compile_filter(spec)))
        assert spelled(found) == spelled(naive_distinct(matching(world, spec), "a"))


@pytest.mark.parametrize("places", [1, 2, 3, 4, 1_000])
@pytest.mark.parametrize("tied", [1, 2, 1_000])
def test_missing_and_null_are_one_in_a_sort(places: int, tied: int):
    scale = Scale(gathered_always=0, gathered_max=0, batch_places_min=places, batch_places_max=places, tied_rows_max=tied)
    world = world_of([{"b": 3}, {"a": None, "b": 2}, {"a": 1}, {"b": 1}, {"a": None}, {"a": 0, "b": 1}], cuts=(3,))
    for fields in ([["a", 1]], [["a", -1]], [["a", 1], ["b", 1]], [["a", -1], ["b", -1]]):
        order = compile_sort(fields)
        expected = [key for key, _ in sorted(world.live, key=lambda row: order(row[1]))]
        assert keys(find(world.parts, [], compile_filter({}), order, scale=scale)) == expected


def test_sums_of_many_doubles_lose_nothing():
    values = [((i * 7919) % 10_007) / 97 * 10.0 ** ((i % 13) - 6) for i in range(4_000)]
    world = world_of([{"a": value, "b": i % 3} for i, value in enumerate(values)])
    spec = {"_id": "$b", "s": {"$sum": "$a"}, "m": {"$avg": "$a"}}
    found = last(group(world.parts, [], compile_filter({}), GroupSpec.read(spec)))
    assert found == naive_groups([document for _, document in world.live], spec)
