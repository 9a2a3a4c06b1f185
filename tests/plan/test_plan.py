"""The planner's answers are the scan's: for any filter, sort, limit and index, over any cut into parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.plan import count, distinct, find
from storage.plan.choosing import values_at
from storage.query.filters import compile_filter
from storage.query.paths import Path
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
    try:
        expected = [key for key, document in sorted(expected, key=lambda row: order(row[1]))]
    except BadQuery:  # two sort fields in two arrays of one document
        with pytest.raises(BadQuery, match="parallel arrays"):
            keys(find(world.parts, world.loose, matches, order, 0))
        return
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
