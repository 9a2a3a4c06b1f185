"""Identities: values named so that equal ones of different parts, and of documents that were read, are found to be one. Pure.

    1, 1.0, Decimal128("1")    (NUMBER, 1.0, 0)         missing, null    (MISSING,) and (NULL,), or one where missing is null
    "a"                        (STRING, b"a")           a kind that keeps no values    (kind, sort key)

Made for many codes of a column at once, as are the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np

from ..fields.column import Column
from ..fields.values import EXACT, SINGLE, Kind, kind_of, number_between, number_key
from ..values.order import sort_key

Identity = tuple[Any, ...]

NAMES_KEPT_MAX = 4_096  # codes of a column: some 0.5 MB of identities, as much of values,
NAMES_KEPT_BYTES_MAX = 2**20  # and its strings beside


def identity_of(value: Any, *, missing_is_null: bool) -> Identity:
    """The identity of a value, or of MISSING."""
    kind = kind_of(value)
    if kind in SINGLE:
        return _single(kind, missing_is_null=missing_is_null)
    if kind is Kind.NUMBER:
        return (kind, *number_key(value))
    if kind is Kind.STRING:
        return (kind, value.encode("utf-8", "surrogatepass"))
    key = sort_key(value)
    if kind is Kind.DATE:
        return (kind, key[1])
    if kind is Kind.DECIMAL:
        if len(key) == 2:
            return (Kind.NAN,)
        d, low, high = number_between(value)
        if low == high:
            return (Kind.NUMBER, d, low)
    return (kind, key)


def _single(kind: Kind, *, missing_is_null: bool) -> Identity:
    return (Kind.NULL if missing_is_null and kind is Kind.MISSING else kind,)


def identities(column: Column, codes: np.ndarray, *, missing_is_null: bool) -> list[Identity]:
    """The identities of codes that keep their values."""
    return _once(column, codes, f"identities {missing_is_null}", partial(_identities, missing_is_null=missing_is_null))


def _once(column: Column, codes: np.ndarray, what: str, make: Callable[[Column, np.ndarray], list[Any]]) -> list[Any]:
    """What is made of codes that keep their values, and never changed. That of a column with few codes is made once and kept with it: groupings ask
    every part for it, again and again."""
    if column.codes > NAMES_KEPT_MAX or len(column.strings.blob) > NAMES_KEPT_BYTES_MAX:
        return make(column, codes)
    kept = column.names.get(what)
    if kept is None:
        every = [np.arange(*column.kind_range(kind)) for kind in Kind if kind in EXACT]
        exact = np.concatenate(every)
        kept = np.empty(column.codes, object)
        for code, made in zip(exact.tolist(), make(column, exact)):
            kept[code] = made
        column.names[what] = kept
    return kept[codes].tolist()


def _identities(column: Column, codes: np.ndarray, *, missing_is_null: bool) -> list[Identity]:
    def of_kind(kind: Kind, at: np.ndarray) -> list[Identity]:
        if kind in SINGLE:
            return [_single(kind, missing_is_null=missing_is_null)] * len(at)
        if kind is Kind.NUMBER:
            rest = [0] * len(at) if column.remainders is None else column.remainders[at].tolist()
            return list(zip(repeat(kind), column.numbers[at].tolist(), rest))
        if kind is Kind.STRING:
            return list(zip(repeat(kind), column.strings.bytes_of(at)))
        if kind is Kind.DATE:
            return list(zip(repeat(kind), column.dates[at].tolist()))
        lo, _ = column.kind_range(kind)
        return [identity_of(column.value(lo + i), missing_is_null=missing_is_null) for i in at.tolist()]

    return _by_kind(column, codes, of_kind)


def values_of(column: Column, codes: np.ndarray) -> list[Any]:
    """The values of codes that keep them, as Column.value gives them."""
    return _once(column, codes, "values", _values)


def _values(column: Column, codes: np.ndarray) -> list[Any]:
    def of_kind(kind: Kind, at: np.ndarray) -> list[Any]:
        if kind is Kind.STRING:
            return column.strings.texts_of(at)
        if kind is not Kind.NUMBER:
            lo, _ = column.kind_range(kind)
            return [column.value(lo + i) for i in at.tolist()]
        numbers = column.numbers[at].tolist()
        rest = [0] * len(at) if column.remainders is None else column.remainders[at].tolist()
        is_double = [False] * len(at) if column.doubles is None else column.doubles[at].tolist()
        return [number if double else int(number) + r for number, r, double in zip(numbers, rest, is_double)]

    return _by_kind(column, codes, of_kind)


def _by_kind(column: Column, codes: np.ndarray, of_kind: Callable[[Kind, np.ndarray], list[Any]]) -> list[Any]:
    """What of_kind makes of the codes' places within each kind, in the order of the codes."""
    found: list[Any] = [None] * len(codes)
    for kind in Kind:
        lo, hi = column.kind_range(kind)
        if lo == hi:
            continue
        if hi - lo == column.codes:
            return of_kind(kind, codes.astype(np.int64) - lo)
        places = np.flatnonzero((codes >= lo) & (codes < hi))
        for place, made in zip(places.tolist(), of_kind(kind, codes[places].astype(np.int64) - lo)):
            found[place] = made
    return found


def is_varied(column: Column, codes: np.ndarray) -> np.ndarray:
    """Which of the codes are numbers that rows write in several ways (1 and 1.0)."""
    lo, hi = column.kind_range(Kind.NUMBER)
    if column.varied is None:
        return np.zeros(len(codes), bool)
    is_number = (codes >= lo) & (codes < hi)
    return is_number & column.varied[np.where(is_number, codes.astype(np.int64) - lo, 0)]
