"""Groups: what a grouping has come to so far, over all parts. Pure.

A group's identity is the same in every part and for documents that were read: the kind and value of each key, equal numbers being
one whatever their type. Numbers of rows and sums stand in arrays over all groups, so that a part with thousands of groups is added in a
few steps; what was read document by document is kept beside them. Groups come out in the order of their first documents, as from a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bson import Decimal128

from ..errors import QueryTooLarge
from ..fields.column import Column
from ..fields.values import SINGLE, Kind, kind_of, number_between, number_key
from ..query.expressions import compile_expression
from ..query.numbers import Total, fitted
from ..query.paths import MISSING
from ..values.extensions import INT64_MAX
from ..values.order import sort_key
from .groupspec import Fold, GroupSpec

GROUPS_MAX = 1_000_000
_ROW_BITS = 32
_HIGH_BITS_MAX = 29  # of the high half of a sum that surely fits 64 bits together with the low one
_NUMBERS = frozenset((int, float, Decimal128))
Identity = tuple[Any, ...]


class Shown:
    """How a group's `_id` is found: by a part's codes, or it is at hand."""

    __slots__ = ("codes", "part", "values")

    def __init__(self, part: int, codes: tuple[int, ...] | None, values: tuple[Any, ...] | None) -> None:
        self.part = part
        self.codes = codes
        self.values = values


class Sums:
    """Sums of one field over all groups, as arrays."""

    def __init__(self) -> None:
        self.high_ints = np.zeros(0, np.int64)
        self.low_ints = np.zeros(0, np.int64)
        self.high = np.zeros(0, np.float64)
        self.low = np.zeros(0, np.float64)
        self.numbers = np.zeros(0, np.int64)
        self.doubles = np.zeros(0, np.int64)

    def grow(self, size: int) -> None:
        for name in ("high_ints", "low_ints", "high", "low", "numbers", "doubles"):
            setattr(self, name, grown(getattr(self, name), size))

    def add_ints(self, ids: np.ndarray, shift: int, sums: np.ndarray) -> None:
        """sums: whole numbers, as doubles."""
        (self.high_ints if shift else self.low_ints)[ids] += sums.astype(np.int64)

    def add_doubles(self, ids: np.ndarray, sums: np.ndarray) -> None:
        high = self.high[ids]
        total = high + sums
        shift = total - high
        self.low[ids] += (high - (total - shift)) + (sums - shift)
        self.high[ids] = total

    def into(self, group: int, total: Total) -> int:
        """Adds a group's sum to the total; returns of how many numbers."""
        total.integers += (int(self.high_ints[group]) << 32) + int(self.low_ints[group])
        if self.doubles[group]:
            total.add(float(self.high[group]))
            total.add(float(self.low[group]))
        return int(self.numbers[group])


def grown(array: np.ndarray, size: int) -> np.ndarray:
    """The array with at least so many elements, the new ones 0."""
    if len(array) >= size:
        return array
    found = np.zeros(max(size, 2 * len(array)), array.dtype)
    found[: len(array)] = array
    return found


class _Read:
    """What documents that were read added to one group and fold."""

    __slots__ = ("count", "key", "total", "value")

    def __init__(self) -> None:
        self.total = Total()
        self.count = 0
        self.key: Any = None
        self.value: Any = None


class Groups:
    """See the module."""

    def __init__(self, spec: GroupSpec) -> None:
        self.spec = spec
        self._index: dict[Identity, int] = {}
        self.shown: list[Shown] = []
        self.first: list[int] = []  # part << 32 | row of the first document
        self.counts = np.zeros(0, np.int64)
        self.sums = {fold.path: Sums() for fold in spec.folds if fold.operator in ("$sum", "$avg") and fold.path is not None}
        self._read: dict[tuple[int, int], _Read] = {}
        self._keys = [compile_expression("$" + path) for _, path in spec.keys]
        self._operands = [None if fold.path is None else compile_expression("$" + fold.path) for fold in spec.folds]

    def ids_of(self, part: int, columns: Sequence[Column], codes: Sequence[np.ndarray], first: np.ndarray) -> np.ndarray:
        """The groups of rows with these codes of the keys (arrays of equal length, each combination once); first: their first rows."""
        by_key = [_identities(column, of_key, is_bare=self.spec.is_bare) for column, of_key in zip(columns, codes)]
        index, known = self._index, len(self._index)
        identities = list(zip(*by_key)) if by_key else [()] * len(first)
        ids = [index.setdefault(identity, len(index)) for identity in identities]
        if len(index) > known:
            self._check_size()
            for place, group in enumerate(ids):
                if group >= known:
                    self.shown.append(Shown(part, tuple(int(of_key[place]) for of_key in codes), None))
                    self.first.append(part << _ROW_BITS | int(first[place]))
            self._grow()
        return np.array(ids, np.int64)

    def add_document(self, part: int, row: int, document: dict) -> None:
        """One document that matches, in any order within its part, after the part's rows that were not read."""
        values = self.key_values(document)
        identity = tuple([identity_of(value, is_bare=self.spec.is_bare) for value in values])
        group = self._index.setdefault(identity, len(self._index))
        at = part << _ROW_BITS | row
        if group == len(self.shown):
            self._check_size()
            self.shown.append(Shown(part, None, values))
            self.first.append(at)
            self._grow()
        elif at < self.first[group]:
            self.shown[group], self.first[group] = Shown(part, None, values), at
        self.counts[group] += 1
        for number, (fold, operand) in enumerate(zip(self.spec.folds, self._operands)):
            if operand is not None:
                self._add_value(group, number, fold, operand(document, {}))

    def key_values(self, document: dict) -> tuple[Any, ...]:
        """The values of the keys in a document."""
        return tuple([key(document, {}) for key in self._keys])

    def _add_value(self, group: int, number: int, fold: Fold, value: Any) -> None:
        if fold.operator in ("$min", "$max"):
            if value is not MISSING and value is not None:
                self.add_extreme(group, number, fold, sort_key(value), value)
        elif type(value) in _NUMBERS:
            read = self._read.setdefault((group, number), _Read())
            read.total.add(value)
            read.count += 1

    def add_extreme(self, group: int, number: int, fold: Fold, key: Any, value: Any) -> None:
        """A candidate for the smallest or largest value of a group."""
        read = self._read.setdefault((group, number), _Read())
        if read.key is None or (key < read.key if fold.operator == "$min" else key > read.key):
            read.key, read.value = key, value

    def _grow(self) -> None:
        size = len(self._index)
        self.counts = grown(self.counts, size)
        for sums in self.sums.values():
            sums.grow(size)

    def _check_size(self) -> None:
        if len(self._index) > GROUPS_MAX:
            raise QueryTooLarge(f"grouping makes more than {GROUPS_MAX} groups; narrow the filter first", limit=GROUPS_MAX)

    def documents(self, groups: Sequence[int], values: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        """The results for some groups, whose keys have these values."""
        names = ["_id", *(fold.name for fold in self.spec.folds)]
        columns = [self._results(groups, number, fold) for number, fold in enumerate(self.spec.folds)]
        return [dict(zip(names, row)) for row in zip(map(self._id, values), *columns)]

    def _results(self, groups: Sequence[int], number: int, fold: Fold) -> list[Any]:
        """One fold's results: whole numbers that fit are taken as columns."""
        which = np.array(groups, np.int64)
        if fold.path is None:
            counts = self.counts[which]
            if abs(fold.constant) * int(counts.max(initial=0)) <= INT64_MAX:
                return (counts * fold.constant).tolist()
        elif fold.operator == "$sum" and not any(of == number for _, of in self._read):
            sums = self.sums[fold.path]
            if not sums.doubles[which].any() and not (np.abs(sums.high_ints[which]) >> _HIGH_BITS_MAX).any():
                return ((sums.high_ints[which] << 32) + sums.low_ints[which]).tolist()
        return [self._result(group, number, fold) for group in groups]

    def _id(self, values: Sequence[Any]) -> Any:
        if not self.spec.keys:
            return None
        if self.spec.is_bare:
            return None if values[0] is MISSING else values[0]
        return {name: value for (name, _), value in zip(self.spec.keys, values) if value is not MISSING}

    def _result(self, group: int, number: int, fold: Fold) -> Any:
        if fold.path is None:
            return fitted(int(self.counts[group]) * fold.constant)
        read = self._read.get((group, number)) or _Read()
        if fold.operator in ("$min", "$max"):
            return read.value
        count = read.count + self.sums[fold.path].into(group, read.total)
        if fold.operator == "$sum":
            return read.total.value()
        return read.total.mean(count) if count else None


def _identities(column: Column, codes: np.ndarray, *, is_bare: bool) -> list[Identity]:
    """The identities of exact codes of a column."""
    found: list[Any] = [None] * len(codes)
    for kind in Kind:
        lo, hi = column.kind_range(kind)
        places = np.flatnonzero((codes >= lo) & (codes < hi)) if hi > lo else ()
        if not len(places):
            continue
        at = codes[places].astype(np.int64) - lo
        for place, identity in zip(places.tolist(), _of_kind(column, kind, at, is_bare)):
            found[place] = identity
    return found


def _of_kind(column: Column, kind: Kind, at: np.ndarray, is_bare: bool) -> list[Identity]:  # noqa: FBT001 - as is_bare above
    if kind in SINGLE:
        return [(Kind.NULL if is_bare and kind is Kind.MISSING else kind,)] * len(at)
    if kind is Kind.NUMBER:
        numbers = column.numbers[at].tolist()
        rest = [0] * len(at) if column.remainders is None else column.remainders[at].tolist()
        return [(kind, d, r) for d, r in zip(numbers, rest)]
    if kind is Kind.STRING:
        return [(kind, column.strings.bytes_at(i)) for i in at.tolist()]
    if kind is Kind.DATE:
        return [(kind, ms) for ms in column.dates[at].tolist()]
    lo, _ = column.kind_range(kind)
    return [identity_of(column.value(lo + i), is_bare=is_bare) for i in at.tolist()]


def identity_of(value: Any, *, is_bare: bool) -> Identity:
    """The identity of a key's value; is_bare: missing is null."""
    kind = kind_of(value)
    if kind is Kind.MISSING and is_bare:
        return (Kind.NULL,)
    if kind in SINGLE:
        return (kind,)
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

