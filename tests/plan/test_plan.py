"""The planner's answers are the scan's: for any filter, sort, limit and index, over any cut into parts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.plan import GroupSpec, count, distinct, find, group
from storage.plan.choosing import values_at
from storage.query.accumulators import compile_accumulator
from storage.query.expression_operands import Scope
from storage.query.expressions import compile_expression
from storage.query.filters import compile_filter
from storage.query.paths import MISSING, Path
from storage.query.sorting import compile_sort
from storage.values.order import sort_key
from tests.plan.worlds import FILTERS, PATHS, SORTS, World, worlds


def keys(batches) -> list[bytes]:
    return [found.key for batch in batches for found in batch]


def last(steps):
    return list(steps)[-1]


@given(worlds(), FILTERS, st.integers(0, 6))
def test_finds_what_a_scan_finds(world: World, spec: dict, wanted: int):
    matches = compile_filter(spec)
    expected = [key for key, document in world.live if matches(document)]
    assert keys(find(world.parts, world.loose, matches, None, wanted)) == (expected[:wanted] if wanted else expected)
    assert last(count(world.parts, world.loose, matches)) == len(expected)


@given(worlds(), FILTERS, SORTS, st.integers(0, 6))
def test_sorts_as_a_stable_sort_of_the_scan(world: World, spec: dict, fields: list, wanted: int):
    matches, order = compile_filter(spec), compile_sort([list(field) for field in fields])
    expected = [row for row in world.live if matches(row[1])]
    expected = [key for key, document in sorted(expected, key=lambda row: order(row[1]))]
    assert keys(find(world.parts, world.loose, matches, order, wanted)) == (expected[:wanted] if wanted else expected)


@given(worlds(), FILTERS, st.sampled_from(PATHS))
def test_distinct_is_that_of_the_scan(world: World, spec: dict, path: str):
    matches = compile_filter(spec)
    expected = {}
    for _, document in world.live:
        if matches(document):
            for value in values_at(document, Path(path)):
                expected.setdefault(sort_key(value), value)
    found = last(distinct(world.parts, world.loose, path, matches))
    assert [sort_key(value) for value in found] == sorted(expected)



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


@given(worlds(), FILTERS, _GROUP_KEYS, _FOLDS)
def test_groups_as_the_accumulators_do(world: World, filter_spec: dict, key: object, folds: dict):
    matches = compile_filter(filter_spec)
    spec = {"_id": key, **folds}
    steps = group(world.parts, world.loose, matches, GroupSpec.read(spec))
    if steps is None:
        return
    expected = naive_groups([document for _, document in world.live if matches(document)], spec)
    assert spelled(last(steps)) == spelled(expected)
