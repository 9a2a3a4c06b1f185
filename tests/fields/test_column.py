"""A column says of every value which rows have it, as walking the documents one by one says."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

import numpy as np
import pytest
from bson import Decimal128
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.fields.build import build_column, column_from_values
from storage.fields.column import Column
from storage.fields.extract import entries_of, entries_of_documents
from storage.fields.values import EXACT, Kind, kind_of
from storage.query.paths import MISSING, Path
from storage.values.order import equal, sort_key
from tests.fields.worlds import documents, numbers, scalars, strings


def same(column: Column, code: int, value: object) -> bool:
    """Whether a value belongs under a code."""
    kind = kind_of(value)
    if column.kind_of_code(code) is not kind:
        return False
    if kind not in EXACT or kind in (Kind.MISSING, Kind.NULL):
        return True
    return equal(column.value(code), value)


def check(column: Column, rows: list[tuple[list, bool]]) -> None:
    """rows: for every row its entries and whether it is plain."""
    assert column.rows == len(rows)
    postings = [column.postings(code, code + 1).tolist() for code in range(column.codes)]
    every = [row for rows_of_code in postings for row in rows_of_code]
    assert column.postings(0, column.codes).tolist() == every == column.ordered(0, column.entries).tolist()
    assert column.posting_count(0, column.codes) == column.entries == len(every)
    many = set(column.many.tolist())
    assert sorted(many) == column.many.tolist() == [row for row, (_, is_plain) in enumerate(rows) if not is_plain]
    codes = column.codes_of(np.arange(len(rows), dtype=np.uint32)).tolist()
    under: dict[int, set[int]] = {row: set() for row in range(len(rows))}
    for code, rows_of_code in enumerate(postings):
        assert rows_of_code == sorted(set(rows_of_code)) != []
        for row in rows_of_code:
            under[row].add(code)
    for row, (values, is_plain) in enumerate(rows):
        assert codes[row] == (min(under[row]) if is_plain else column.codes)
        assert all(any(same(column, code, value) for code in under[row]) for value in values)
        assert all(any(same(column, code, value) for value in values) for code in under[row])
    is_ascending = not many and codes == sorted(codes)
    assert column.is_ascending == is_ascending == (column.posting_rows is None)
    assert (column.code_of is None) == (is_ascending and column.codes == len(rows)) == (column.starts is None)
    check_dictionary(column)


def check_dictionary(column: Column) -> None:
    kinds = [column.kind_of_code(code) for code in range(column.codes)]
    assert kinds == sorted(kinds)
    for kind in Kind:
        lo, hi = column.kind_range(kind)
        assert kinds[lo:hi] == [kind] * (hi - lo)
        if kind in EXACT:
            values = [column.value(code) for code in range(lo, hi)]
            assert all(column.bounds(value) == (code, code + 1) for code, value in enumerate(values, lo))
            if kind is not Kind.MISSING:
                keys = [sort_key(value) for value in values]
                assert keys == sorted(keys) and len(set(keys)) == len(keys)
        else:
            assert hi - lo <= 1


@given(st.lists(documents, max_size=12), st.sampled_from(["a", "a.b", "a.0", "b", "_id", "a.b.0", "c"]))
@settings(max_examples=400, deadline=None)
def test_a_column_is_what_the_path_reaches(found: list[dict], path: str):
    check(build_column(entries_of_documents(found, path)), [entries_of(document, Path(path)) for document in found])


@given(st.lists(st.lists(scalars, max_size=3) | scalars.map(lambda value: [value]), max_size=12))
@settings(max_examples=200, deadline=None)
def test_a_column_of_values(rows: list[list]):
    check(column_from_values(rows), [(values, len(values) == 1) for values in rows])


@given(st.lists(numbers.filter(lambda value: value == value), min_size=1, max_size=20), st.data())
@settings(max_examples=300, deadline=None)
def test_numbers_are_found_exactly(values: list[float], data):
    column = column_from_values([[value] for value in values])
    keys = sorted({sort_key(value) for value in values})
    wanted = data.draw(numbers | st.decimals(allow_nan=False, places=2) | st.integers() | st.sampled_from([10**400, -(10**400)]))
    if wanted != wanted:
        return
    for asked in (wanted, Decimal128("1E-6176"), Decimal128("-1E-6176"), Decimal128("1E+6000"), Decimal128("-Infinity"), Decimal128("-0")):
        key = sort_key(asked)
        start, _ = column.kind_range(Kind.NUMBER)
        assert column.bounds(asked) == (start + bisect_left(keys, key), start + bisect_right(keys, key)), asked


@given(st.lists(strings, max_size=20), strings)
def test_strings_with_a_prefix(values: list[str], prefix: str):
    column = column_from_values([[value] for value in values])
    lo, hi = column.strings.with_prefix(prefix.encode())
    ordered = sorted(set(values))
    assert [column.strings.get(i) for i in range(len(column.strings))] == ordered
    assert ordered[lo:hi] == [value for value in ordered if value.startswith(prefix)]


def test_the_type_of_a_number_is_that_of_its_first_row():
    column = column_from_values([[1.0], [1], [2], [3.0], [-0.0], [4], [4.0]])
    values = [column.value(code) for code in range(column.codes)]
    assert values == [0, 1, 2, 3, 4]
    assert list(map(type, values)) == [float, float, int, float, int]
    assert column.varied.tolist() == [True, True, False, False, True]
    assert column_from_values([[1], [2]]).varied is None


def test_what_can_be_left_out_is_left_out():
    times = column_from_values([[5], [6], [9]])
    assert times.code_of is None and times.starts is None and times.posting_rows is None and times.is_ascending
    assert times.postings(1, 3).tolist() == [1, 2] and times.codes_of(np.array([2, 0])).tolist() == [2, 0]
    few = column_from_values([["a"], ["a"], ["b"]])
    assert few.posting_rows is None and few.starts.tolist() == [0, 2, 3] and few.code_of.dtype == np.uint8
    nothing = column_from_values([])
    assert nothing.codes == 0 and nothing.bounds("a") == (0, 0) and nothing.postings(0, 0).tolist() == []


def test_a_kind_without_values_says_so():
    column = column_from_values([[{"a": 1}], [[MISSING]], [math.nan]])
    with pytest.raises(TypeError, match="MAP"):
        column.value(column.kind_range(Kind.MAP)[0])
    with pytest.raises(TypeError, match="ARRAY"):
        column.bounds([1])
    assert math.isnan(column.value(0)) and column.bounds(math.nan) == (0, 1)


@pytest.mark.parametrize(("codes", "kind"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)])
def test_codes_are_as_narrow_as_the_mark_of_many_lets_them(codes: int, kind: type):
    column = column_from_values([*([code] for code in reversed(range(codes))), [0, 1]])
    assert column.codes == codes and column.code_of.dtype == kind
    assert column.code_of[[0, codes - 1, codes]].tolist() == [codes - 1, 0, codes]
    assert column.postings(0, 1).tolist() == [codes - 1, codes] and column.many.tolist() == [codes]
