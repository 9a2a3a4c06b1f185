"""Grouping: `$group` over the columns of its fields, reading only the documents that columns cannot answer for. Pure but for
Part.fetch, which blocks.

    rows of a window ── codes of the keys ──> number of each combination ── counts, sums, least and greatest codes by combination
    parts' combinations ── identity ──> groups (groups.py)

Counting by one field over all rows needs no row at all: the lengths of the postings, less the dead rows. A row that must match and is
plain in every field is answered by codes; the others are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..fields.column import Column
from ..fields.values import Kind
from ..query.filters import Filter
from ..values.documents import decode as decode_document
from ..values.order import sort_key
from .groups import Groups
from .groupspec import GroupSpec
from .identities import is_varied, values_of
from .parts import SCALE, Counters, Loose, Part, Scale
from .ranks import odd_rows
from .reading import Candidates, Reader
from .rowsets import Everything, RowSet, coded, complement, intersection, union
from .tallies import codes_at, first_rows, live_counts, tally, weigh
from .walking import walk
from .weights import Weights, unsummed_rows, weights_of_codes, weights_of_rows

_RESULTS_A_STEP = 2_048
_WINDOW_ROWS = 2**19
_ROW_COSTS = 2  # row operations that a row takes for each key and fold


def can_group(parts: Sequence[Part], spec: GroupSpec) -> bool:
    """Whether any part has the columns."""
    return any(_columns(part, spec.paths) is not None for part in parts)


def group(
    parts: Sequence[Part],
    loose: Loose,
    matches: Filter,
    spec: GroupSpec,
    decode: Callable[[bytes], dict] = decode_document,
    counters: Counters | None = None,
    scale: Scale = SCALE,
) -> Iterator[list[dict[str, Any]] | None]:
    """None for each step, then the groups' documents, in the order of their first rows. Raises QueryTooLarge."""
    reader = Reader(parts, loose, matches, decode, counters, scale)
    groups = Groups(spec)
    for number in range(len(reader.parts)):
        yield from _of_part(number, reader, groups)
    for batch in reader.read_loose():
        for place, found in batch:
            groups.add_document(len(reader.parts), place, found.document)
    yield from _results(groups, reader)


def _results(groups: Groups, reader: Reader) -> Iterator[list[dict[str, Any]] | None]:
    """The groups' documents, in the order of their first ones."""
    first = np.array(groups.first, np.uint64)
    values = _key_values(groups, first, reader)
    found = []
    order = np.argsort(first).tolist()
    for start in range(0, len(order), _RESULTS_A_STEP):
        some = order[start : start + _RESULTS_A_STEP]
        found += groups.documents(some, [values[group] for group in some])
        if start:
            yield None
    reader.counters.returned = len(found)
    yield found


def _key_values(groups: Groups, first: np.ndarray, reader: Reader) -> list[Sequence[Any]]:
    """For each group the values of its keys, as its first document has them."""
    values: list[Sequence[Any]] = [()] * len(first)
    codes = [np.array(of_key, np.int64) for of_key in groups.codes]
    is_coded = np.ones(len(first), bool)
    is_coded[list(groups.values)] = False
    parts = (first >> np.uint64(32)).astype(np.int64)
    for number in np.unique(parts[is_coded]).tolist() if codes else ():
        mine = np.flatnonzero(is_coded & (parts == number))
        columns = [reader.parts[number].column(path) for _, path in groups.spec.keys]
        made = list(zip(*(values_of(column, kept[mine]) for column, kept in zip(columns, codes))))
        if len(made) == len(values):  # all are of this part
            values = made
        else:
            for group, found in zip(mine.tolist(), made):
                values[group] = found
        varied = np.any([is_varied(column, kept[mine]) for column, kept in zip(columns, codes)], axis=0)
        rows = (first[mine[varied]] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        for group, one in zip(mine[varied].tolist(), reader.read(Candidates(number, rows, is_exact=True)) if len(rows) else ()):
            assert one is not None, "rows of an exact set match"
            values[group] = groups.key_values(one.document)
    for group, found in groups.values.items():
        values[group] = found
    return values


def _columns(part: Part, paths: Sequence[str]) -> dict[str, Column] | None:
    found = {path: part.column(path) for path in paths}
    return None if None in found.values() else found


def _of_part(number: int, reader: Reader, groups: Groups) -> Iterator[None]:
    part, spec = reader.parts[number], groups.spec
    clause = reader.clause(number)
    columns = _columns(part, spec.paths)
    unread: RowSet = clause.may
    if columns is not None:
        odd = odd_rows([columns[path] for path in spec.paths], part.rows)
        odd = union([odd, *(unsummed_rows(columns[path]) for path in groups.sums)], part.rows)
        extremes = [fold.path for fold in spec.folds if fold.operator in ("$min", "$max")]
        odd = union([odd, *(_ambiguous_rows(columns[path]) for path in extremes)], part.rows)
        plain = intersection([clause.must, complement(odd, part.rows)], part.rows)
        unread = intersection([clause.may, odd if clause.is_exact else complement(plain, part.rows)], part.rows)
        if isinstance(plain, Everything) and len(spec.keys) == 1 and all(fold.path is None for fold in spec.folds):
            _add_tallies(number, part, columns[spec.keys[0][1]], groups)
        else:
            yield from _PartFold(number, part, columns, groups, reader.scale).run(plain, reader)
    for window in walk(unread, part.dead, 0, reader.scale):
        size = reader.scale.fetch_rows
        for start in range(0, len(window), size):
            rows = window[start : start + size]
            for row, found in zip(rows.tolist(), reader.read(Candidates(number, rows, clause.is_exact))):
                if found is not None:
                    groups.add_document(number, row, found.document)
            if reader.is_step():
                yield None


def _ambiguous_rows(column: Column) -> RowSet:
    """Rows with a number of which not every row has the same spelling (1 and 1.0, or a Decimal128 beside): which one comes first
    is not known by codes."""
    lo, hi = column.kind_range(Kind.NUMBER)
    decimals = column.kind_range(Kind.DECIMAL)
    if decimals[0] < decimals[1]:
        return coded(column, [(lo, hi), column.kind_range(Kind.NAN)])
    codes = () if column.varied is None else np.flatnonzero(column.varied).tolist()
    return coded(column, [(lo + code, lo + code + 1) for code in codes])


def _add_tallies(number: int, part: Part, column: Column, groups: Groups) -> None:
    """All rows, counted by one field."""
    counts = live_counts(column, part.dead)
    missing, null = _null_codes(column) if groups.spec.is_bare else (0, 0)
    codes = np.flatnonzero(counts)
    first = first_rows(column, part.dead, codes)
    if missing < null and counts[missing] and counts[null]:
        counts[null] += counts[missing]
        at_null, at_missing = np.searchsorted(codes, (null, missing))
        first[at_null] = min(first[at_null], first[at_missing])
        codes, first = np.delete(codes, at_missing), np.delete(first, at_missing)
    ids = groups.ids_of(number, [column], [codes], first)
    groups.counts[ids] += counts[codes]


def _null_codes(column: Column) -> tuple[int, int]:
    """The codes of missing and null; (0, 0) unless both occur."""
    lo, hi = column.kind_range(Kind.MISSING)[0], column.kind_range(Kind.NULL)[1]
    return (lo, hi - 1) if hi - lo == 2 else (0, 0)


class _PartFold:
    """One part's plain rows, window by window."""

    def __init__(self, number: int, part: Part, columns: dict[str, Column], groups: Groups, scale: Scale) -> None:
        self._number = number
        self._part = part
        self._columns = columns
        self._groups = groups
        self._scale = scale
        self._costs = _ROW_COSTS * (1 + len(groups.spec.keys) + len(groups.spec.folds))
        self._keys = [columns[path] for _, path in groups.spec.keys]
        self._weights: dict[str, Weights] = {}

    def run(self, plain: RowSet, reader: Reader) -> Iterator[None]:
        for path in self._groups.sums:
            if self._columns[path].codes <= self._scale.weighed_by_row * plain.estimate:
                self._weights[path] = weights_of_codes(self._columns[path])
        widest = max(self._scale.window_rows_min, min(_WINDOW_ROWS, self._scale.window_rows_max))  # nothing ends this walk early
        for rows in walk(plain, self._part.dead, 0, replace(self._scale, window_rows_min=widest)):
            if len(rows):
                reader.counters.keys_examined += len(rows)
                self._add(rows)
            if reader.is_step(len(rows) * self._costs):
                yield None

    def _add(self, rows: np.ndarray) -> None:
        """Rows ascend; at most Scale.window_rows_max, so that sums of levels are exact."""
        numbers, size, codes = self._numbered(rows)
        counts, first = tally(numbers, size)
        present = np.flatnonzero(counts)
        ids = self._groups.ids_of(self._number, self._keys, codes(present), rows[first[present]])
        groups = self._groups
        groups.counts[ids] += counts[present]
        for path, sums in groups.sums.items():
            self._add_sums(path, sums, rows, numbers, size, present, ids, counts)
        for place, fold in enumerate(groups.spec.folds):
            if fold.operator in ("$min", "$max"):
                self._add_extremes(place, rows, numbers, size, present, ids)

    def _numbered(self, rows: np.ndarray) -> tuple[np.ndarray, int, Callable[[np.ndarray], list[np.ndarray]]]:
        """(number of each row's combination of keys, how many numbers there are, what gives the codes of numbers)."""
        if not self._keys:
            return np.zeros(len(rows), np.int64), 1, lambda present: []
        codes = [codes_at(column, rows) for column in self._keys]
        if self._groups.spec.is_bare:
            missing, null = _null_codes(self._keys[0])
            if missing < null:
                codes[0] = np.where(codes[0] == missing, codes[0].dtype.type(null), codes[0])
        if len(codes) == 1 and self._keys[0].codes <= self._scale.dense_groups:
            return codes[0], self._keys[0].codes, lambda present: [present]
        sizes = [column.codes for column in self._keys]
        combined = np.ravel_multi_index([of_key.astype(np.int64) for of_key in codes], sizes, mode="clip")
        if float(np.prod(np.array(sizes, float))) <= self._scale.dense_groups:
            return combined, int(np.prod(sizes)), lambda present: list(np.unravel_index(present, sizes))
        kept, numbers = np.unique(combined, return_inverse=True)
        return numbers, len(kept), lambda present: list(np.unravel_index(kept[present], sizes))

    def _add_sums(
        self,
        path: str,
        sums: Any,
        rows: np.ndarray,
        numbers: np.ndarray,
        size: int,
        present: np.ndarray,
        ids: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        codes = codes_at(self._columns[path], rows)
        by_code = self._weights.get(path)
        weights = by_code if by_code is not None else weights_of_rows(self._columns[path], codes)

        def total(weight: np.ndarray) -> np.ndarray:
            return weigh(numbers, codes if by_code is not None else None, weight, size)[present]

        sums.numbers[ids] += counts[present] if weights.is_number is None else total(weights.is_number).astype(np.int64)
        if weights.is_double is not None:
            sums.doubles[ids] += total(weights.is_double).astype(np.int64)
        for shift, level in weights.ints:
            sums.add_ints(ids, shift, total(level))
        for level in weights.doubles:
            sums.add_doubles(ids, total(level))

    def _add_extremes(
        self, place: int, rows: np.ndarray, numbers: np.ndarray, size: int, present: np.ndarray, ids: np.ndarray
    ) -> None:
        fold = self._groups.spec.folds[place]
        column = self._columns[fold.path]
        codes = codes_at(column, rows).astype(np.int64)
        lo, hi = column.kind_range(Kind.MISSING)[0], column.kind_range(Kind.NULL)[1]
        if hi > lo:  # they do not count
            kept = (codes < lo) | (codes >= hi)
            codes, numbers = codes[kept], numbers[kept]
        none = column.codes if fold.operator == "$min" else -1
        best = np.full(size, none, np.int64)
        (np.minimum if fold.operator == "$min" else np.maximum).at(best, numbers, codes)
        for group, code in zip(ids.tolist(), best[present].tolist()):
            if code != none:
                value = column.value(code)
                self._groups.add_extreme(group, place, fold, sort_key(value), value)

