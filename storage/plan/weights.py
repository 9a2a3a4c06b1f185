"""Weights: what each code of a column adds to a sum, so that sums over a window of rows are exact. Pure; numpy.

numpy counts with weights in doubles. A column's numbers are therefore split into levels: integers into their upper and lower 32
bits, doubles into pieces of some 30 bits, each a multiple of one unit. A sum of one level over Scale.window_rows_max rows fits
a double's 53 bits, so nothing is rounded; the levels are put together where no bit is lost (query/numbers.py, Total). After Demmel and
Nguyen, "Fast reproducible floating-point summation" (2013).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..fields.column import Column
from ..fields.values import EXACT, Kind
from .parts import SCALE
from .rowsets import Listed, RowSet, coded, union

_WINDOW_BITS = SCALE.window_rows_max.bit_length()  # one more than the logarithm: room for a sign
_LEVELS_MAX = 6  # exact over 180 bits; what lies below is added as it is
_NUMBER_MAX = 2.0**900  # larger ones cannot be split without overflow
_SMALL_INT = 2**31


class Weights(NamedTuple):
    """Arrays over all codes, or over the rows of one window."""

    is_number: np.ndarray | None  # bool; None: all are
    is_double: np.ndarray | None  # bool; None: none is
    ints: list[tuple[int, np.ndarray]]  # (shift, level): the integer is the sum of level << shift
    doubles: list[np.ndarray]


def unsummed_rows(column: Column) -> RowSet:
    """Rows whose value cannot be added by code: arrays, decimals, NaN, infinities, and numbers that rows write in several ways."""
    lo, hi = column.kind_range(Kind.NUMBER)
    least, most = column.numbers.searchsorted(np.array((-_NUMBER_MAX, _NUMBER_MAX)))
    odd = [(lo, lo + int(least)), (lo + int(most), hi)]
    if column.varied is not None:
        odd += [(lo + code, lo + code + 1) for code in np.flatnonzero(column.varied).tolist()]
    kinds = [column.kind_range(kind) for kind in Kind if kind not in EXACT or kind is Kind.NAN]
    return union([Listed(column.many), coded(column, [*odd, *kinds])], column.rows)


def weights_of_codes(column: Column) -> Weights:
    """The weights of all codes of a column."""
    return weights_of_rows(column, np.arange(column.codes, dtype=np.uint32))


def weights_of_rows(column: Column, codes: np.ndarray) -> Weights:
    """The weights of rows with these codes; of unsummed ones they mean nothing."""
    lo, hi = column.kind_range(Kind.NUMBER)
    if hi == lo:
        return Weights(np.zeros(len(codes), bool), None, [], [])
    is_number = None if hi - lo == column.codes else (codes >= lo) & (codes < hi)
    at = codes if is_number is None else np.where(is_number, codes - codes.dtype.type(lo), 0)
    numbers = np.clip(column.numbers[at], -_NUMBER_MAX, _NUMBER_MAX)
    is_double = None if column.doubles is None else column.doubles[at]
    if is_number is not None:
        numbers[~is_number] = 0.0
        is_double = None if is_double is None else is_double & is_number
    if is_double is None:
        ints, doubles = numbers.astype(np.int64), []
    else:
        ints, doubles = np.where(is_double, 0.0, numbers).astype(np.int64), _double_levels(np.where(is_double, numbers, 0.0))
    if column.remainders is not None:
        rest = column.remainders[at].astype(np.int64)
        ints += rest if is_number is None else np.where(is_number, rest, 0)
    return Weights(is_number, is_double, _int_levels(ints), doubles)


def _int_levels(ints: np.ndarray) -> list[tuple[int, np.ndarray]]:
    if not ints.any():
        return []
    if ints.min() > -_SMALL_INT and ints.max() < _SMALL_INT:
        return [(0, ints.astype(np.float64))]
    return [(32, (ints >> 32).astype(np.float64)), (0, (ints & 0xFFFFFFFF).astype(np.float64))]


def _double_levels(doubles: np.ndarray) -> list[np.ndarray]:
    levels = []
    rest = doubles
    for _ in range(_LEVELS_MAX):
        largest = float(np.abs(rest).max(initial=0.0))
        if not largest:
            return levels
        anchor = math.ldexp(1.5, math.frexp(largest)[1] + _WINDOW_BITS)
        level = (rest + anchor) - anchor
        levels.append(level)
        rest = rest - level
    return [*levels, rest]
