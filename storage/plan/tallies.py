"""Tallies: codes of rows, and how many live rows each code of a column has without a look at the rows. Pure; numpy."""

from __future__ import annotations

import numpy as np

from ..fields.column import Column
from .parts import Dead
from .walking import live

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
    if column.code_of is not None and len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows):
        return column.code_of[int(rows[0]) : int(rows[-1]) + 1]
    return column.codes_of(rows)
