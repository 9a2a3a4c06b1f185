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
from ..query.expressions import compile_expression
from ..query.numbers import Total, fitted
from ..query.paths import MISSING
from ..values.extensions import INT64_MAX
from ..values.order import sort_key
from .groupspec import Fold, GroupSpec
from .identities import Identity, identities, identity_of

GROUPS_MAX = 1_000_000
_ROW_BITS = 32
_HIGH_BITS_MAX = 29  # of the high half of a sum that surely fits 64 bits together with the low one
_NUMBERS = frozenset((int, float, Decimal128))


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
    """See the module. How a group's `_id` looks is said by its first row: a part's codes of the keys, or values that were read."""

    def __init__(self, spec: GroupSpec) -> None:
        self.spec = spec
        self._index: dict[Identity, int] = {}
        self.first: list[int] = []  # of each group: part << 32 | row of the first document
        self.codes: list[list[int]] = [[] for _ in spec.keys]  # of each key and group
        self.values: dict[int, tuple[Any, ...]] = {}  # of groups whose first document was read
        self.counts = np.zeros(0, np.int64)
        self.sums = {fold.path: Sums() for fold in spec.folds if fold.operator in ("$sum", "$avg") and fold.path is not None}
        self._read: dict[tuple[int, int], _Read] = {}
        self._keys = [compile_expression("$" + path) for _, path in spec.keys]
        self._operands = [None if fold.path is None else compile_expression("$" + fold.path) for fold in spec.folds]

    def ids_of(self, part: int, columns: Sequence[Column], codes: Sequence[np.ndarray], first: np.ndarray) -> np.ndarray:
        """The groups of rows with these codes of the keys (arrays of equal length, each combination once); first: their first rows."""
        index, known = self._index, len(self._index)
        by_key = [identities(column, of_key, missing_is_null=self.spec.is_bare) for column, of_key in zip(columns, codes)]
        names: list[Any] = by_key[0] if len(by_key) == 1 else list(zip(*by_key)) if by_key else [()] * len(first)
        found = list(map(index.get, names))
        if None in found:
            found = [index.setdefault(name, len(index)) for name in names]
        ids = np.array(found, np.int64)
        if len(index) > known:
            new = np.flatnonzero(ids >= known)  # numbered as they stand
            self.first += (np.uint64(part << _ROW_BITS) | first[new].astype(np.uint64)).tolist()
            for kept, of_key in zip(self.codes, codes):
                kept += of_key[new].tolist()
            self._grow()
        return ids

    def add_document(self, part: int, row: int, document: dict) -> None:
        """One document that matches, in any order within its part, after the part's rows that were not read."""
        values = self.key_values(document)
        names = tuple([identity_of(value, missing_is_null=self.spec.is_bare) for value in values])
        group = self._index.setdefault(names[0] if len(names) == 1 else names, len(self._index))
        at = part << _ROW_BITS | row
        if group == len(self.first):
            self.first.append(at)
            for kept in self.codes:
                kept.append(0)
            self.values[group] = values
            self._grow()
        elif at < self.first[group]:
            self.values[group], self.first[group] = values, at
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
        if size > GROUPS_MAX:
            raise QueryTooLarge(f"grouping makes more than {GROUPS_MAX} groups; narrow the filter first", limit=GROUPS_MAX)
        self.counts = grown(self.counts, size)
        for sums in self.sums.values():
            sums.grow(size)

    def documents(self, groups: Sequence[int], values: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        """The results for some groups, whose keys have these values."""
        names = ["_id", *(fold.name for fold in self.spec.folds)]
        columns = [self._results(groups, number, fold) for number, fold in enumerate(self.spec.folds)]
        rows = zip(self._ids(values), *columns)
        if len(names) == 2:  # as most have
            id_name, name = names
            return [{id_name: key, name: value} for key, value in rows]
        if len(names) == 3:
            id_name, name, other = names
            return [{id_name: key, name: value, other: further} for key, value, further in rows]
        return [dict(zip(names, row)) for row in rows]

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

    def _ids(self, values: Sequence[Sequence[Any]]) -> list[Any]:
        if not self.spec.keys:
            return [None] * len(values)
        if self.spec.is_bare:
            return [None if value is MISSING else value for (value,) in values]
        paths = [name for name, _ in self.spec.keys]
        return [{name: value for name, value in zip(paths, row) if value is not MISSING} for row in values]

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
