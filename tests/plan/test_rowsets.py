"""Row sets against sets of Python, over columns large enough for every way of finding rows."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.fields import zones
from storage.fields.build import column_from_values
from storage.fields.column import Column
from storage.fields.dead import Dead
from storage.plan import rowsets
from storage.plan.parts import Scale
from storage.plan.rowsets import (
    Everything,
    Listed,
    RowSet,
    Span,
    coded,
    complement,
    intersection,
    joined,
    union,
)
from storage.plan.tallies import first_rows, live_counts
from storage.plan.walking import walk

ROWS = 12_000


def made(kind: str) -> tuple[Column, list[set[int]]]:
    """(column, the codes of each row)."""
    rng = random.Random(kind)
    if kind == "unique":
        values = [[row] for row in range(ROWS)]
    elif kind == "ascending":
        values = [[row // 40] for row in range(ROWS)]
    elif kind == "skewed":  # some values rare, some in most rows
        values = [[int(rng.expovariate(0.2))] for _ in range(ROWS)]
    elif kind == "wide":
        values = [[rng.randrange(3 * ROWS)] for _ in range(ROWS)]
    elif kind == "nearly":  # as times of messages, which come a little out of order
        values = [[row // 3 + rng.randrange(40)] for row in range(ROWS)]
    else:
        values = [[rng.randrange(300) for _ in range(rng.choice((1, 1, 1, 2, 3, 0)))] for _ in range(ROWS)]
    column = column_from_values(values)
    code = {value: column.bounds(value)[0] for row in values for value in row}
    return column, [{code[value] for value in row} for row in values]


COLUMNS = {kind: made(kind) for kind in ("unique", "ascending", "nearly", "skewed", "wide", "several")}


@pytest.fixture(autouse=True, scope="module")
def small_zones():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zones, "ZONE_ROWS", 128)
        patch.setattr(zones, "ROWS_MIN", ROWS // 2)
        patch.setattr(rowsets, "_ZONED_MIN", 10)
        yield


def test_only_columns_that_nearly_ascend_have_zones():
    assert [kind for kind, (column, _) in COLUMNS.items() if column.zones is not None] == ["ascending", "nearly"]


def test_a_range_of_a_column_that_nearly_ascends_lies_in_few_rows():
    column, codes = COLUMNS["nearly"]
    found = coded(column, [(1_000, 1_100)])
    rows = [row for row, of_row in enumerate(codes) if 1_000 <= min(of_row) < 1_100]
    assert found.lo <= rows[0]
    assert rows[-1] < found.hi
    assert found.hi - found.lo < len(rows) + 4 * 128
    assert found.within(0, ROWS).tolist() == rows


KINDS = st.sampled_from(sorted(COLUMNS))


@st.composite
def sets(draw: st.DrawFn) -> tuple[RowSet, set[int]]:
    """A row set, and its rows."""
    shape = draw(st.sampled_from(["codes", "codes", "codes", "listed", "span"]))
    if shape == "listed":
        rows = set(random.Random(draw(st.integers(0, 99))).sample(range(ROWS), draw(st.sampled_from([0, 1, 50, 5_000]))))
        return Listed(np.array(sorted(rows), np.uint32)), rows
    if shape == "span":
        lo = draw(st.integers(0, ROWS))
        hi = draw(st.integers(lo, ROWS))
        return Span(lo, hi), set(range(lo, hi))
    column, codes_of = COLUMNS[draw(KINDS)]
    starts = draw(st.lists(st.integers(0, column.codes - 1), min_size=1, max_size=9))
    lengths = st.sampled_from([0, 1, 1, 1, 2, 10, column.codes])
    ranges = [(lo, min(lo + draw(lengths), column.codes)) for lo in starts]
    wanted = {code for lo, hi in ranges for code in range(lo, hi)}
    return coded(column, ranges), {row for row, codes in enumerate(codes_of) if codes & wanted}


TREES = st.recursive(
    sets(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: (intersection([part for part, _ in parts], ROWS), set.intersection(*(rows for _, rows in parts)))
        ),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: (union([part for part, _ in parts], ROWS), set.union(*(rows for _, rows in parts)))
        ),
        inner.map(lambda part: (complement(part[0], ROWS), set(range(ROWS)) - part[1])),
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(TREES, st.lists(st.tuples(st.integers(0, ROWS), st.integers(0, ROWS)), max_size=3), st.integers(0, 999))
def test_row_sets_are_sets(tree: tuple[RowSet, set[int]], windows: list[tuple[int, int]], seed: int):
    rows, expected = tree
    for lo, hi in [(0, ROWS), (100, 140), *windows]:
        found = rows.within(lo, hi)
        assert found.dtype == np.uint32
        assert found.tolist() == sorted(row for row in expected if lo <= row < hi)
    asked = np.array(random.Random(seed).sample(range(ROWS), 200), np.uint32)
    assert rows.test(asked).tolist() == [row in expected for row in asked.tolist()]
    assert rows.estimate >= len(expected)
    assert rows.size() in (None, len(expected))
    assert not expected or (rows.lo <= min(expected) and max(expected) < rows.hi)


@settings(deadline=None)
@given(TREES, st.integers(0, 50), st.booleans(), st.integers(0, 99))
def test_a_walk_gives_the_live_rows_in_order(tree: tuple[RowSet, set[int]], wanted: int, descending: bool, seed: int):
    rows, expected = tree
    bits = np.random.default_rng(seed).random(ROWS) < 0.3
    scale = Scale(window_rows_min=64, window_rows_max=1_000)
    found = [row for part in walk(rows, Dead.of(bits), wanted, scale, descending=descending) for row in part.tolist()]
    assert found == sorted((row for row in expected if not bits[row]), reverse=descending)


@settings(deadline=None)
@given(KINDS.filter(lambda kind: kind != "several"), st.sampled_from([0.0, 0.3, 0.9, 0.999]), st.integers(0, 9))
def test_tallies_count_and_find_live_rows(kind: str, share: float, seed: int):
    column, codes_of = COLUMNS[kind]
    bits = np.random.default_rng(seed).random(ROWS) < share
    if seed % 2:
        bits[: ROWS // 2] = True  # a long run of dead rows under one code
    expected: dict[int, list[int]] = {}
    for row, codes in enumerate(codes_of):
        if not bits[row]:
            expected.setdefault(min(codes), []).append(row)
    dead = Dead.of(bits)
    counts = live_counts(column, dead)
    assert {code: count for code, count in enumerate(counts.tolist()) if count} == {c: len(rows) for c, rows in expected.items()}
    codes = np.array(sorted(expected), np.int64)
    assert first_rows(column, dead, codes).tolist() == [expected[code][0] for code in codes.tolist()]


@pytest.mark.parametrize("ranges", [[], [(3, 3)], [(5, 9), (1, 2), (2, 4), (8, 12), (20, 20)]])
def test_ranges_are_joined(ranges: list[tuple[int, int]]):
    covered = {code for lo, hi in ranges for code in range(lo, hi)}
    found = joined(ranges)
    assert {code for lo, hi in found for code in range(lo, hi)} == covered
    assert all(b < c for (_, b), (c, _) in zip(found, found[1:]))


def test_a_row_with_several_codes_of_a_range_comes_once():
    column, codes_of = COLUMNS["several"]
    for lo in range(0, 290, 7):
        rows = coded(column, [(lo, lo + 7)]).within(0, ROWS).tolist()
        assert rows == [row for row, codes in enumerate(codes_of) if any(lo <= code < lo + 7 for code in codes)]


def test_ranges_of_one_plain_field_become_one():
    column, _ = COLUMNS["wide"]
    both = intersection([coded(column, [(10, 500)]), coded(column, [(400, 900)]), Everything(ROWS)], ROWS)
    assert both.ranges == [(400, 500)]


def test_a_range_of_an_ascending_field_narrows_all_else():
    time, _ = COLUMNS["unique"]
    channel, _ = COLUMNS["skewed"]
    rows = intersection([coded(channel, [(2, 3)]), coded(time, [(100, 300)])], ROWS)
    assert (rows.lo, rows.hi) == (100, 300)
    assert rows.size() == len(rows.within(0, ROWS))
