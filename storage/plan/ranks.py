"""Ranks: the place of a part's rows in the order of a sort, by the codes of its columns. Pure; numpy.

A row is plain for a sort when each sort field has exactly one entry in it, of a kind that keeps its value: then codes order
it as the sort does, once missing and null count as one and descending fields are turned around. Other rows are odd (arrays,
decimals, maps, binary): only their documents say where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..fields.column import Column
from ..fields.values import EXACT, Kind
from ..query.paths import MISSING
from ..query.sorting import Sort
from .parts import Part
from .rowsets import Listed, RowSet, coded, union

_EXACT_IN_ORDER = tuple(int(kind) for kind in Kind if kind in EXACT)
_ODD = tuple(int(kind) for kind in Kind if kind not in EXACT)
_ROW_BITS = np.uint64(32)


class SortColumn(NamedTuple):
    """One sort field of one part."""

    path: str
    column: Column
    is_descending: bool

    @property
    def null_codes(self) -> tuple[int, int]:
        """Codes lo..hi-1 of missing and null, which are one to a sort."""
        return self.column.kind_range(Kind.MISSING)[0], self.column.kind_range(Kind.NULL)[1]

    def ranks(self, rows: np.ndarray) -> np.ndarray:
        """Numbers that order plain rows as this field of the sort does."""
        codes = self.column.codes_of(rows)
        lo, hi = self.null_codes
        if hi - lo == 2:
            codes = np.where(codes == lo, codes.dtype.type(hi - 1), codes)
        return codes.dtype.type(self.column.codes) - codes if self.is_descending else codes


def sort_columns(part: Part, order: Sort) -> list[SortColumn] | None:
    """The columns of a sort; None when the part lacks one, or when one field lies in another: their values go together in
    ways that codes do not show."""
    names = [path for path, _ in order.fields]
    if any(inner.startswith(outer + ".") for inner in names for outer in names):
        return None
    found = []
    for path, direction in order.fields:
        column = part.column(path)
        if column is None:
            return None
        found.append(SortColumn(path, column, direction < 0))
    return found


def odd_rows(columns: Sequence[Column], rows: int) -> RowSet:
    """Rows that do not have exactly one entry, of a kind that keeps its value, in each of the columns."""
    sets: list[RowSet] = []
    for column in columns:
        if len(column.many):
            sets.append(Listed(column.many))
        at = column.kinds_at
        if odd := [(at[kind], at[kind + 1]) for kind in _ODD if at[kind] < at[kind + 1]]:
            sets.append(coded(column, odd))
    return union(sets, rows)


def best_codes(fields: Sequence[SortColumn], limits: tuple[int, int]) -> tuple[int, ...] | None:
    """For each field the code of the first value that a plain row can have in the order; those of the first field lie in
    limits. None when no row is plain."""
    found = []
    lo, hi = limits
    for field in fields:
        at = field.column.kinds_at
        spans = [(at[kind], at[kind + 1]) for kind in _EXACT_IN_ORDER if at[kind] < at[kind + 1]]
        spans = [(max(lo, a), min(hi, b)) for a, b in spans if max(lo, a) < min(hi, b)]
        if not spans:
            return None
        found.append(spans[-1][1] - 1 if field.is_descending else spans[0][0])
        lo, hi = 0, 2**32
    return tuple(found)


def in_order(rows: np.ndarray, fields: Sequence[SortColumn]) -> np.ndarray:
    """Plain rows, each once, in the order of the sort; equal ones by row."""
    if len(fields) == 1:
        both = fields[0].ranks(rows).astype(np.uint64) << _ROW_BITS | rows.astype(np.uint64)
        both.sort()
        return both.astype(np.uint32)
    keys = [field.ranks(rows) for field in fields]
    return rows[np.lexsort((rows, *keys[::-1]))]


class SortKeys:
    """Keys of plain rows that compare with the keys that the sort gives to documents."""

    def __init__(self, fields: Sequence[SortColumn], order: Sort) -> None:
        self._fields = fields
        self._order = order
        self._last: tuple[tuple[int, ...], Any] | None = None

    def of_row(self, row: int) -> Any:
        at = np.array([row], np.uint32)
        return self.of_codes(tuple(int(field.column.codes_of(at)[0]) for field in self._fields))

    def of_codes(self, codes: tuple[int, ...]) -> Any:
        """Made of a document that holds these values and nothing else."""
        if self._last is None or self._last[0] != codes:
            document: dict[str, Any] = {}
            for field, code in zip(self._fields, codes):
                _put(document, field.path, field.column.value(code))
            self._last = codes, self._order(document)
        return self._last[1]


def _put(document: dict[str, Any], path: str, value: object) -> None:
    if value is MISSING:
        return
    *outer, last = path.split(".")
    for name in outer:
        document = document.setdefault(name, {})
    document[last] = value
