"""Counting and weighing rows by the number of their group: the kernel's way and the pure one, and what both refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.fields.build import column_from_values
from storage.plan import tallies
from storage.plan.tallies import _tally, _tally_pure, _weigh, _weigh_pure, tally, weigh

GROUPS = 9
TYPES = st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64, np.int64])


@given(st.lists(st.integers(0, GROUPS - 1), max_size=40), TYPES)
def test_rows_are_counted_and_the_first_of_each_group_is_known(numbers: list[int], kind: type):
    given_numbers = np.array(numbers, kind)
    counts, first = tally(given_numbers, GROUPS)
    assert counts.tolist() == [numbers.count(group) for group in range(GROUPS)]
    assert first.tolist() == [numbers.index(group) if group in numbers else 0 for group in range(GROUPS)]
    assert _tally(given_numbers, GROUPS) == _tally_pure(given_numbers, GROUPS)


@given(st.lists(st.tuples(st.integers(0, GROUPS - 1), st.integers(0, 3)), max_size=40), TYPES, TYPES, st.booleans())
def test_weights_are_added_in_the_order_of_rows(rows: list[tuple[int, int]], kind: type, code_kind: type, by_code: bool):
    weights = [0.1, 1e16, -1e16, 2.5]
    numbers = np.array([group for group, _ in rows], kind)
    codes = np.array([code for _, code in rows], code_kind)
    of_rows = np.array([weights[code] for _, code in rows], np.float64)
    expected = [0.0] * GROUPS
    for group, code in rows:
        expected[group] += weights[code]
    asked = (numbers, codes, np.array(weights), GROUPS) if by_code else (numbers, None, of_rows, GROUPS)
    assert weigh(*asked).tolist() == expected
    assert _weigh(*asked) == _weigh_pure(*asked)


@pytest.mark.parametrize("way", [_tally, _tally_pure])
def test_a_number_of_no_group_is_refused(way):
    with pytest.raises(ValueError, match="outside"):
        way(np.array([0, 3], np.uint8), 3)


@pytest.mark.parametrize("way", [_weigh, _weigh_pure])
def test_a_code_without_a_weight_and_columns_of_two_lengths_are_refused(way):
    two = np.array([0, 1], np.uint16)
    with pytest.raises(ValueError, match="outside"):
        way(two, two, np.array([1.0]), 2)
    with pytest.raises(ValueError, match="one length"):
        way(two, None, np.array([1.0]), 2)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=8), st.integers(0, 3))
def test_codes_of_rows_that_are_nearly_neighbours(runs: list[tuple[int, int]], start: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "_RUNS_FROM", 2)
        rows = []
        for length, gap in runs:
            start += gap
            rows += range(start, start + length)
            start += length
        column = column_from_values([[number % 7] for number in range(200)])
        assert tallies.codes_at(column, np.array(rows, np.uint32)).tolist() == [number % 7 for number in rows]
