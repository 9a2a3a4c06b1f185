"""The planner's answers are the scan's: for any filter, sort, limit and index, over any cut into parts."""

from __future__ import annotations

import pytest
from bson import Regex
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.fields.values import COLUMN, WORDS
from storage.plan import GroupSpec, Scale, count, distinct, find, group
from storage.plan.choosing import values_at
from storage.query.accumulators import compile_accumulator
from storage.query.expression_operands import Scope
from storage.query.expressions import compile_expression
from storage.query.filters import compile_filter
from storage.query.paths import MISSING, Path
from storage.query.sorting import compile_sort
from storage.values.order import sort_key
from tests.plan.worlds import EVERY_SCALAR, PATHS, SORTS, World, questions

BSON_TYPES = (
    "double", "string", "object", "array", "binData", "objectId", "bool", "date", "null", "regex", "javascript", "int",
    "timestamp", "long", "decimal", "minKey", "maxKey", "number", "undefined",
)  # fmt: skip
Question = tuple[World, dict, Scale]


def keys(batches) -> list[bytes]:
    return [found.key for batch in batches for found in batch]


def first(rows: list, wanted: int) -> list:
    return rows[:wanted] if wanted else rows


def last(steps):
    return list(steps)[-1]


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
    expected = {}
    for _, document in world.live:
        if matches(document):
            for value in values_at(document, Path(path)):
                expected.setdefault(sort_key(value), value)
    found = last(distinct(world.parts, world.loose, path, matches, scale=scale))
    assert spelled(found) == spelled([value for _, value in sorted(expected.items(), key=lambda item: item[0])])


SCOPE = Scope(lambda spec, scope: compile_expression(spec))
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


def naive_groups(documents: list[dict], spec: dict) -> list[dict]:
    """By the accumulators themselves."""
    key = compile_expression(spec["_id"])
    folds = [(name, compile_accumulator(*next(iter(part.items())), SCOPE)) for name, part in spec.items() if name != "_id"]
    groups: dict = {}
    for document in documents:
        value = key(document, {})
        value = None if value is MISSING else value
        _, states = groups.setdefault(sort_key(value), (value, [accumulation.begin() for _, accumulation in folds]))
        for state, (_, accumulation) in zip(states, folds):
            state.add(accumulation.operand(document, {}))
    return [
        {"_id": value, **{name: state.value() for (name, _), state in zip(folds, states)}} for value, states in groups.values()
    ]


def spelled(value: object) -> object:
    """Values in a form that tells types apart and holds NaN equal to itself."""
    if isinstance(value, dict):
        return [(key, spelled(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [spelled(inner) for inner in value]
    return (type(value).__name__, str(value))


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
