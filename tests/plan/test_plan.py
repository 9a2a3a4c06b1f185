"""The planner's answers are the scan's: for any filter, sort, limit and index, over any cut into parts."""

from __future__ import annotations

import pytest
from bson import Regex
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.fields.values import COLUMN, WORDS
from storage.plan import GroupSpec, Scale, count, distinct, find, group
from storage.query.filters import compile_filter
from storage.query.sorting import compile_sort
from tests.plan.scanning import first, keys, last, naive_distinct, naive_groups, spelled
from tests.plan.worlds import EVERY_SCALAR, PATHS, SORTS, World, questions

BSON_TYPES = (
    "double", "string", "object", "array", "binData", "objectId", "bool", "date", "null", "regex", "javascript", "int",
    "timestamp", "long", "decimal", "minKey", "maxKey", "number", "undefined",
)  # fmt: skip
Question = tuple[World, dict, Scale]


@settings(deadline=None, max_examples=100)
@given(questions(), st.integers(0, 6))
def test_finds_what_a_scan_finds(question: Question, wanted: int):
    world, spec, scale = question
    matches = compile_filter(spec)
    expected = [key for key, document in world.live if matches(document)]
    assert keys(find(world.parts, world.loose, matches, None, wanted, scale=scale)) == first(expected, wanted)
    assert last(count(world.parts, world.loose, matches, scale=scale)) == len(expected)


@settings(deadline=None, max_examples=40)
@given(questions(), st.integers(0, 6))
def test_finds_backwards(question: Question, wanted: int):
    world, spec, scale = question
    matches, order = compile_filter(spec), compile_sort([["$natural", -1]])
    expected = [key for key, document in world.live if matches(document)][::-1]
    assert keys(find(world.parts, world.loose, matches, order, wanted, scale=scale)) == first(expected, wanted)


@settings(deadline=None, max_examples=100)
@given(questions(), SORTS, st.integers(0, 6))
def test_sorts_as_a_stable_sort_of_the_scan(question: Question, fields: list, wanted: int):
    world, spec, scale = question
    matches, order = compile_filter(spec), compile_sort([list(field) for field in fields])
    rows = [row for row in world.live if matches(row[1])]
    try:
        expected = [key for key, _ in sorted(rows, key=lambda row: order(row[1]))]
    except BadQuery:  # two arrays side by side cannot be sorted by
        with pytest.raises(BadQuery):
            keys(find(world.parts, world.loose, matches, order, wanted, scale=scale))
        return
    assert keys(find(world.parts, world.loose, matches, order, wanted, scale=scale)) == first(expected, wanted)


def every_value() -> World:
    """Rows of all values, alone, in arrays and beside one another; some rows without any."""
    values = [*EVERY_SCALAR, *([value] for value in EVERY_SCALAR), [], {}, {"b": 1}, [1, "a"], [0, 3], [[1]], [None, 5], [{"b": 1}, 2]]
    documents = [{"_id": number, "a": value} for number, value in enumerate(values)]
    documents += [{"_id": len(documents) + number} for number in range(2)]
    return World(documents, [len(values) // 2], [False] * len(documents), [{"a": COLUMN | WORDS}] * 2, 0)


@pytest.mark.parametrize("operator", ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$all", "$elemMatch"])
def test_every_operator_with_every_value(operator: str):
    world = every_value()
    for value in EVERY_SCALAR:
        if isinstance(value, Regex) and operator not in ("$eq", "$in"):
            continue
        argument = {"$in": [value], "$nin": [value], "$all": [value], "$elemMatch": {"$gte": value}}.get(operator, value)
        if operator == "$elemMatch" and isinstance(value, Regex):
            continue
        matches = compile_filter({"a": {operator: argument}})
        expected = [key for key, document in world.live if matches(document)]
        assert keys(find(world.parts, [], matches)) == expected, value
        assert last(count(world.parts, [], matches)) == len(expected), value
        between = compile_filter({"a": {"$gte": 1, operator: argument}}) if operator != "$gte" else matches
        assert keys(find(world.parts, [], between)) == [key for key, document in world.live if between(document)], value


@pytest.mark.parametrize("name", sorted(BSON_TYPES))
def test_every_type(name: str):
    world = every_value()
    for spec in ({"a": {"$type": name}}, {"a": {"$not": {"$type": name}}}):
        matches = compile_filter(spec)
        expected = [key for key, document in world.live if matches(document)]
        assert keys(find(world.parts, [], matches)) == expected
        assert last(count(world.parts, [], matches)) == len(expected)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("wanted", [0, 7])
def test_every_value_is_sorted(direction: int, wanted: int):
    world, order = every_value(), compile_sort([["a", direction]])
    expected = [key for key, _ in sorted(world.live, key=lambda row: order(row[1]))]
    assert keys(find(world.parts, [], compile_filter({}), order, wanted)) == first(expected, wanted)


@settings(deadline=None, max_examples=100)
@given(questions(), st.sampled_from(PATHS))
def test_distinct_is_that_of_the_scan(question: Question, path: str):
    world, spec, scale = question
    matches = compile_filter(spec)
    found = last(distinct(world.parts, world.loose, path, matches, scale=scale))
    assert spelled(found) == spelled(naive_distinct([document for _, document in world.live if matches(document)], path))


_FOLDS = st.dictionaries(
    st.sampled_from(["x", "y", "z"]),
    st.one_of(
        st.builds(lambda op, path: {op: "$" + path}, st.sampled_from(["$sum", "$avg", "$min", "$max"]), st.sampled_from(["a", "b", "c", "a.b"])),
        st.just({"$count": {}}),
        st.builds(lambda number: {"$sum": number}, st.sampled_from([1, -2])),
    ),
    max_size=3,
)
_GROUP_KEYS = st.one_of(
    st.none(),
    st.sampled_from(["$a", "$b", "$c", "$a.b", "$b.a"]),
    st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["$a", "$b", "$c", "$a.b"]), min_size=1),
)


@settings(deadline=None, max_examples=100)
@given(questions(), _GROUP_KEYS, _FOLDS)
def test_groups_as_the_accumulators_do(question: Question, key: object, folds: dict):
    world, filter_spec, scale = question
    matches = compile_filter(filter_spec)
    spec = {"_id": key, **folds}
    steps = group(world.parts, world.loose, matches, GroupSpec.read(spec), scale=scale)
    if steps is None:
        return
    expected = naive_groups([document for _, document in world.live if matches(document)], spec)
    assert spelled(last(steps)) == spelled(expected)
