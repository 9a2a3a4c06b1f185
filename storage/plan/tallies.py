"""Tallies: codes of rows, what rows come to by the number of their group, and how many live rows each code of a column has without a
look at the rows. Pure; numpy.

With the kernel (storage/fields.c) a row costs 0.5 to 2 ns in each of tally and weigh, and the interpreter is let go meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np

from .. import native
from ..fields.column import Column
from .parts import Dead
from .walking import live

_RUNS_FROM = 4_096  # rows of which it pays to look for neighbours
_STEPS_MAX = 64  # dead rows passed over one by one, for all codes at once


def live_counts(column: Column, dead: Dead) -> np.ndarray:
    """Live rows of each code (i64), of a column where every row has one plain entry."""
    counts = np.ones(column.codes, np.int64) if column.starts is None else np.diff(column.starts.astype(np.int64))
    if dead.count:
        counts -= np.bincount(column.codes_of(dead.rows), minlength=column.codes)
    return counts


def first_rows(column: Column, dead: Dead, codes: np.ndarray) -> np.ndarray:
    """The first live row (u32) of each of these codes, which have one."""
    places = codes.astype(np.int64) if column.starts is None else column.starts[codes].astype(np.int64)
    rows = _rows_at(column, places)
    if not dead.count:
        return rows
    left = np.flatnonzero(dead.test(rows))
    for _ in range(_STEPS_MAX):
        if not len(left):
            return rows
        places[left] += 1
        rows[left] = _rows_at(column, places[left])
        left = left[dead.test(rows[left])]
    for number in left.tolist():
        code = int(codes[number])
        rows[number] = live(column.postings(code, code + 1), dead)[0]
    return rows


def _rows_at(column: Column, places: np.ndarray) -> np.ndarray:
    return places.astype(np.uint32) if column.posting_rows is None else column.posting_rows[places]

def codes_at(column: Column, rows: np.ndarray) -> np.ndarray:
    """The codes of ascending rows; of neighbours without gathering them one by one."""
    code_of, count = column.code_of, len(rows)
    if code_of is None or not count:
        return column.codes_of(rows)
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == count:
        return code_of[first : last + 1]
    if count >= _RUNS_FROM:  # a row less its place never falls: where the last run begins and the first one ends is found by halving
        begins = bisect_left(range(count), last - count + 1, key=lambda place: int(rows[place]) - place)
        if 2 * begins <= count:
            return np.concatenate((code_of[rows[:begins]], code_of[int(rows[begins]) : last + 1]))
        ends = bisect_right(range(count), first, key=lambda place: int(rows[place]) - place)
        if 2 * ends >= count:
            return np.concatenate((code_of[first : first + ends], code_of[rows[ends:]]))
    return code_of[rows]


def tally(numbers: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(how many rows have each number (i64), the first place of each (u32; 0 for one that does not occur)); numbers (u8 to u64, or i64 that
    are not negative): below groups."""
    counts, first = _tally(np.ascontiguousarray(numbers), groups)
    return np.frombuffer(counts, np.int64), np.frombuffer(first, np.uint32)


def weigh(numbers: np.ndarray, codes: np.ndarray | None, weights: np.ndarray, groups: int) -> np.ndarray:
    """The sum of weights (f64) of each number, added in the order of rows; a row's weight is that of its code, or without codes the one at its place."""
    given = None if codes is None else np.ascontiguousarray(codes)
    return np.frombuffer(_weigh(np.ascontiguousarray(numbers), given, np.ascontiguousarray(weights, np.float64), groups), np.float64)


def _tally_pure(numbers: np.ndarray, groups: int) -> tuple[bytes, bytes]:
    _check_below(numbers, groups)
    counts = np.bincount(numbers.astype(np.int64), minlength=groups).astype(np.int64)
    first = np.zeros(groups, np.uint32)
    first[numbers[::-1]] = np.arange(len(numbers), dtype=np.uint32)[::-1]  # of equal places the last one stays, which is the first row
    return counts.tobytes(), first.tobytes()


def _weigh_pure(numbers: np.ndarray, codes: np.ndarray | None, weights: np.ndarray, groups: int) -> bytes:
    _check_below(numbers, groups)
    if codes is not None:
        _check_below(codes, len(weights))
    of_rows = weights if codes is None else weights[codes]
    if len(of_rows) != len(numbers):
        raise ValueError("columns of one table must have one length")
    return np.bincount(numbers.astype(np.int64), weights=of_rows, minlength=groups).astype(np.float64).tobytes()


def _check_below(numbers: np.ndarray, bound: int) -> None:
    if len(numbers) and int(numbers.max()) >= bound:
        raise ValueError("a row lies outside what was given, or is no document")


_tally = native.choose("tally", _tally_pure)
_weigh = native.choose("weigh", _weigh_pure)
