"""Row sets: exact sets of the rows of one part, evaluated window by window. Pure; numpy.

    Everything  Nothing  Span(lo, hi)  Listed(rows)  Coded(column, ranges)  Worded(candidates)
    Intersection(sets)  Union(sets)  Complement(set)

Each answers three questions: `within(lo, hi)`, its rows in a window, ascending and each once (u32); `test(rows)`, which of some
rows are in it; `estimate`, an upper bound of its size. `likely` is a guess at the size, for choosing between ways.

Codes become rows by their postings where those are few, by comparing the codes of the window where they are many. On an ascending
column a range of codes is a span of rows, so that a time range costs nothing and narrows everything else. Make sets with the
functions at the end: they simplify (ranges on one column are intersected as ranges, never as rows).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from ..fields.candidates import TextCandidates
from ..fields.column import Column
from ..fields.zones import Zones

Ranges = list[tuple[int, int]]  # of codes, lo..hi-1: ascending, disjoint, none empty
NO_ROWS = np.empty(0, np.uint32)
_SORTING_COSTS = 8  # comparing so many codes costs as much as sorting one row number
_CUTTING_COSTS = 2_000  # or as cutting one posting list to a window
_TESTS_APART_MAX = 4  # questions put to a text index before all its candidates are made
_ZONED_MIN = 4_096  # rows of a range that is worth a look at where its codes lie
_MANY_RANGES = 16  # that are looked up all at once
_COMPARED_RANGES_MAX = 6  # more ranges than that are looked up in a table


class RowSet(Protocol):
    """See the module. lo..hi: all rows of the set lie there."""

    lo: int
    hi: int
    estimate: int
    likely: float

    def within(self, lo: int, hi: int) -> np.ndarray: ...

    def test(self, rows: np.ndarray) -> np.ndarray: ...

    def size(self) -> int | None:
        """The exact number of rows where that needs no look at rows."""
        ...


class Span:
    """Rows lo..hi-1."""

    __slots__ = ("estimate", "hi", "likely", "lo")

    def __init__(self, lo: int, hi: int) -> None:
        self.lo = lo
        self.hi = max(lo, hi)
        self.estimate = self.hi - lo
        self.likely = float(self.estimate)

    def within(self, lo: int, hi: int) -> np.ndarray:
        return np.arange(max(lo, self.lo), max(lo, self.lo, min(hi, self.hi)), dtype=np.uint32)

    def test(self, rows: np.ndarray) -> np.ndarray:
        return (rows >= self.lo) & (rows < self.hi)

    def size(self) -> int:
        return self.estimate


class Everything(Span):
    """All rows of a part."""

    def __init__(self, rows: int) -> None:
        super().__init__(0, rows)

    def test(self, rows: np.ndarray) -> np.ndarray:
        return np.ones(len(rows), bool)


class Nothing(Span):
    """No row."""

    def __init__(self) -> None:
        super().__init__(0, 0)


class Listed:
    """Rows that are at hand, ascending."""

    __slots__ = ("estimate", "hi", "likely", "lo", "rows")

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.estimate = len(rows)
        self.likely = float(len(rows))
        self.lo, self.hi = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)

    def within(self, lo: int, hi: int) -> np.ndarray:
        return _cut(self.rows, lo, hi)

    def test(self, rows: np.ndarray) -> np.ndarray:
        return is_among(rows, self.rows)

    def size(self) -> int:
        return len(self.rows)


class Coded:
    """Rows that have an entry among some codes of a column."""

    def __init__(self, column: Column, ranges: Ranges) -> None:
        self.column = column
        self.ranges = ranges
        self.codes = sum([hi - lo for lo, hi in ranges])
        self.estimate = min(_posting_count(column, ranges), column.rows)
        self.likely = float(self.estimate)

    @property
    def lo(self) -> int:
        return self._span[0]

    @property
    def hi(self) -> int:
        return self._span[1]

    @cached_property
    def _span(self) -> tuple[int, int]:
        column, ranges = self.column, self.ranges
        if not ranges:
            return 0, column.rows
        if column.is_ascending:
            return column.place_of(ranges[0][0]), column.place_of(ranges[-1][1])
        return self._zones.span(ranges[0][0], ranges[-1][1]) if self._zones is not None else (0, column.rows)

    @cached_property
    def _zones(self) -> Zones | None:
        return self.column.zones if self.codes > 1 and self.estimate >= _ZONED_MIN else None

    def within(self, lo: int, hi: int) -> np.ndarray:
        lo, hi = max(lo, self.lo), min(hi, self.hi)
        if hi <= lo:
            return NO_ROWS
        column = self.column
        if column.is_ascending:
            spans = [column.ordered(*self._places_within(a, b, lo, hi)) for a, b in self.ranges]
            return spans[0] if len(spans) == 1 else np.concatenate(spans)
        if self.codes == 1:
            return _cut(column.postings(*self.ranges[0]), lo, hi)
        expected = self.estimate * (hi - lo) // max(1, self.hi - self.lo)
        by_lists = self.codes * _CUTTING_COSTS + expected * _SORTING_COSTS
        by_postings = len(self.ranges) * _CUTTING_COSTS + self.estimate * _SORTING_COSTS
        by_comparing = (hi - lo) * min(len(self.ranges), _COMPARED_RANGES_MAX)
        if by_comparing <= min(by_lists, by_postings):
            return self._compared(lo, hi)
        if by_lists < by_postings:
            return self._merged([_cut(column.postings(c, c + 1), lo, hi) for a, b in self.ranges for c in range(a, b)])
        return _cut(self._merged([column.postings(a, b) for a, b in self.ranges]), lo, hi)

    def _places_within(self, a: int, b: int, lo: int, hi: int) -> tuple[int, int]:
        first = max(self.column.place_of(a), lo)
        return first, max(first, min(self.column.place_of(b), hi))

    def _merged(self, lists: list[np.ndarray]) -> np.ndarray:
        rows = np.sort(np.concatenate(lists))
        return np.unique(rows) if len(self.column.many) else rows

    def _compared(self, lo: int, hi: int) -> np.ndarray:
        if self._zones is not None and len(self.ranges) == 1:
            first, last = self._zones.inner(*self.ranges[0], lo, hi)
            if first < last:
                inner = np.arange(first, last, dtype=np.uint32)
                return np.concatenate((self._looked_at(lo, first), inner, self._looked_at(last, hi)))
        return self._looked_at(lo, hi)

    def _looked_at(self, lo: int, hi: int) -> np.ndarray:
        passes = self._pass(self.column.code_of[lo:hi])
        if len(self.column.many):
            passes[_cut(self._many_rows, lo, hi) - np.uint32(lo)] = True
        return np.flatnonzero(passes).astype(np.uint32) + np.uint32(lo)

    def test(self, rows: np.ndarray) -> np.ndarray:
        codes = self.column.codes_of(rows)
        passes = self._pass(codes)
        if len(self.column.many):
            odd = np.flatnonzero(codes == self.column.codes)
            passes[odd] = is_among(rows[odd], self._many_rows)
        return passes

    def _pass(self, codes: np.ndarray) -> np.ndarray:
        if len(self.ranges) > _COMPARED_RANGES_MAX:
            return self._table[codes]
        passes = np.zeros(len(codes), bool) if len(self.ranges) != 1 else None
        for a, b in self.ranges:
            found = codes == a if b == a + 1 else codes - codes.dtype.type(a) < b - a  # a code below a wraps around to a large one
            passes = found if passes is None else np.logical_or(passes, found, out=passes)
        return passes

    @cached_property
    def _table(self) -> np.ndarray:
        table = np.zeros(self.column.codes + 1, bool)
        for a, b in self.ranges:
            table[a:b] = True
        return table

    @cached_property
    def _many_rows(self) -> np.ndarray:
        """Rows without exactly one plain entry that belong here."""
        column = self.column
        found = [NO_ROWS]
        for a, b in self.ranges:
            rows = column.postings(a, b)
            found.append(rows[column.code_of[rows] == column.codes])
        return np.unique(np.concatenate(found))

    def size(self) -> int | None:
        return self.estimate if self.codes == 1 or not len(self.column.many) else None


class Worded:
    """Rows that the words of a text index name as candidates. Belongs to one query.

    Windows that follow each other from one end are read off the index block by block; any other question makes all rows at
    once, and keeps them."""

    def __init__(self, candidates: TextCandidates, rows: int, at_once: int) -> None:
        """at_once: so many candidates are made at once."""
        self._candidates = candidates
        self._at_once = at_once
        self.estimate = min(candidates.estimate, rows)
        self.likely = float(self.estimate)
        self.lo, self.hi = 0, rows
        self._walks = {step: _Blocks(candidates, rows, step) for step in (1, -1)}
        self._tests = 0

    def within(self, lo: int, hi: int) -> np.ndarray:
        lo, hi = max(lo, 0), min(hi, self.hi)
        if hi <= lo:
            return NO_ROWS
        if "_every" not in self.__dict__ and self.estimate > self._at_once:
            for walk in self._walks.values():
                if walk.is_next(lo, hi):
                    return walk.take(lo, hi)
        return _cut(self._every, lo, hi)

    @cached_property
    def _every(self) -> np.ndarray:
        if (rows := self._candidates.rows) is not None:
            return rows
        return np.concatenate([NO_ROWS, *self._candidates.blocks(descending=False)])

    def test(self, rows: np.ndarray) -> np.ndarray:
        self._tests += 1
        if "_every" in self.__dict__ or self.estimate <= self._at_once or self._tests > _TESTS_APART_MAX:
            return is_among(rows, self._every)
        if (rows[1:] > rows[:-1]).all():
            return self._candidates.test(rows)
        order = np.argsort(rows)
        passes = np.empty(len(rows), bool)
        passes[order] = self._candidates.test(rows[order])
        return passes

    def size(self) -> int | None:
        return None


class _Blocks:
    """Candidates from one end on, read no further than asked."""

    def __init__(self, candidates: TextCandidates, rows: int, step: int) -> None:
        self._blocks = candidates.blocks(descending=step < 0)
        self._is_descending = step < 0
        self._at = rows if step < 0 else 0  # where the next window begins, or ends
        self._unread = NO_ROWS

    def is_next(self, lo: int, hi: int) -> bool:
        return self._at == (hi if self._is_descending else lo)

    def take(self, lo: int, hi: int) -> np.ndarray:
        self._at = lo if self._is_descending else hi
        taken = []
        while True:
            cut = int(self._unread.searchsorted(lo if self._is_descending else hi))
            here, rest = (self._unread[cut:], self._unread[:cut]) if self._is_descending else (self._unread[:cut], self._unread[cut:])
            taken.append(here)
            self._unread = rest
            block = NO_ROWS if len(rest) else next(self._blocks, NO_ROWS)
            if not len(block):
                break
            self._unread = block
        return np.concatenate(taken[::-1] if self._is_descending else taken)


class Intersection:
    """Rows in all of the sets; the smallest one gives the rows, the others are asked."""

    def __init__(self, sets: Sequence[RowSet], rows: int) -> None:
        """sets: two or more."""
        self.lo = max(part.lo for part in sets)
        self.hi = max(self.lo, min(part.hi for part in sets))
        ordered = sorted(sets, key=_cost_of_rows)
        # A span has narrowed lo..hi already; alone it still has to give the rows.
        self._driver = next((part for part in ordered if not isinstance(part, Span)), ordered[0])
        self._rest = [part for part in ordered if part is not self._driver and not isinstance(part, Span)]
        self.sets = tuple(sets)
        span = self.hi - self.lo
        self.estimate = min(span, *(part.estimate for part in sets))
        self.likely = float(span)
        for part in (self._driver, *self._rest):
            self.likely *= part.likely / max(part.hi - part.lo, 1) if not isinstance(part, Span) else 1.0

    def within(self, lo: int, hi: int) -> np.ndarray:
        lo, hi = max(lo, self.lo), min(hi, self.hi)
        if hi <= lo:
            return NO_ROWS
        rows = self._driver.within(lo, hi)
        for part in self._rest:
            if not len(rows):
                break
            rows = rows[part.test(rows)]
        return rows

    def test(self, rows: np.ndarray) -> np.ndarray:
        passes = (rows >= self.lo) & (rows < self.hi)
        for part in (self._driver, *self._rest):
            if not isinstance(part, Span):
                passes &= part.test(rows)
        return passes

    def size(self) -> int | None:
        """One posting list within a span is cut, not walked."""
        if self._rest or not (isinstance(self._driver, Span) or _is_list(self._driver)):
            return None
        return len(self._driver.within(self.lo, self.hi))

    @property
    def driver(self) -> RowSet:
        return self._driver


class Union:
    """Rows in any of the sets."""

    def __init__(self, sets: Sequence[RowSet], rows: int) -> None:
        """sets: two or more."""
        self.sets = tuple(sets)
        self.lo = min(part.lo for part in sets)
        self.hi = max(part.hi for part in sets)
        self.estimate = min(sum(part.estimate for part in sets), self.hi - self.lo)
        self.likely = min(sum(part.likely for part in sets), float(self.estimate))

    def within(self, lo: int, hi: int) -> np.ndarray:
        lists = [part.within(lo, hi) for part in self.sets if part.lo < hi and part.hi > lo]
        lists = [rows for rows in lists if len(rows)]
        if len(lists) <= 1:
            return lists[0] if lists else NO_ROWS
        if sum(map(len, lists)) * _SORTING_COSTS < hi - lo:
            return np.unique(np.concatenate(lists))
        passes = np.zeros(hi - lo, bool)
        for rows in lists:
            passes[rows - np.uint32(lo)] = True
        return np.flatnonzero(passes).astype(np.uint32) + np.uint32(lo)

    def test(self, rows: np.ndarray) -> np.ndarray:
        passes = np.zeros(len(rows), bool)
        for part in self.sets:
            passes |= part.test(rows)
        return passes

    def size(self) -> int | None:
        return None


class Complement:
    """Rows that are not in the set."""

    def __init__(self, part: RowSet, rows: int) -> None:
        self.part = part
        self.lo, self.hi = 0, rows
        size = part.size()
        self.estimate = rows if size is None else rows - size
        self.likely = max(rows - part.likely, 0.0)

    def within(self, lo: int, hi: int) -> np.ndarray:
        lo, hi = max(lo, self.lo), min(hi, self.hi)
        if hi <= lo:
            return NO_ROWS
        passes = np.ones(hi - lo, bool)
        passes[self.part.within(lo, hi) - np.uint32(lo)] = False
        return np.flatnonzero(passes).astype(np.uint32) + np.uint32(lo)

    def test(self, rows: np.ndarray) -> np.ndarray:
        return ~self.part.test(rows)

    def size(self) -> int | None:
        size = self.part.size()
        return None if size is None else self.hi - size


def is_among(rows: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Which of the rows stand in an ascending array."""
    if not len(ascending) or not len(rows):
        return np.zeros(len(rows), bool)
    at = np.minimum(ascending.searchsorted(rows), len(ascending) - 1)
    return ascending[at] == rows


def _cut(rows: np.ndarray, lo: int, hi: int) -> np.ndarray:
    """The part of ascending rows that lies in the window."""
    if not len(rows) or (rows[0] >= lo and rows[-1] < hi):
        return rows
    first, last = rows.searchsorted(np.array((lo, hi), np.uint64).astype(rows.dtype))
    return rows[first:last]


def _cost_of_rows(part: RowSet) -> float:
    """What it costs to have the rows of a set."""
    return float(part.hi - part.lo) if isinstance(part, Complement) else float(part.estimate)


def _is_list(part: RowSet) -> bool:
    return isinstance(part, Listed) or (isinstance(part, Coded) and part.codes == 1)


def _posting_count(column: Column, ranges: Ranges) -> int:
    """Of ranges that do not overlap."""
    if column.starts is None or len(ranges) < _MANY_RANGES:
        return sum([column.posting_count(lo, hi) for lo, hi in ranges])
    ends = column.starts[np.array(ranges, np.int64)].astype(np.int64)
    return int((ends[:, 1] - ends[:, 0]).sum())


# Making sets.


def coded(column: Column, ranges: Iterable[tuple[int, int]]) -> RowSet:
    """Rows that have an entry among the codes of any of the ranges (which may overlap, be empty, stand in any order)."""
    return _of_codes(column, joined(ranges))


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The ranges in their simplest form."""
    found: Ranges = []
    for lo, hi in sorted(ranges):
        if hi <= lo:
            continue
        if found and lo <= found[-1][1]:
            found[-1] = (found[-1][0], max(hi, found[-1][1]))
        else:
            found.append((lo, hi))
    return found


def _of_codes(column: Column, ranges: Ranges) -> RowSet:
    if not ranges:
        return Nothing()
    if len(ranges) == 1:
        lo, hi = ranges[0]
        if column.is_ascending:
            return Span(column.place_of(lo), column.place_of(hi))
        if lo == 0 and hi == column.codes and not len(column.many):
            return Everything(column.rows)
    return Coded(column, ranges)


def _common(a: Ranges, b: Ranges) -> Ranges:
    found = []
    i = j = 0
    while i < len(a) and j < len(b):
        lo, hi = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if lo < hi:
            found.append((lo, hi))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return found


def intersection(sets: Iterable[RowSet], rows: int) -> RowSet:
    """Rows in all of the sets, of a part of so many rows."""
    kept: list[RowSet] = []
    lo, hi = 0, rows
    for part in _opened(sets, Intersection):
        if isinstance(part, Everything):
            continue
        if not part.estimate or (not isinstance(part, Coded) and part.hi <= part.lo):  # where codes lie is asked when it must be known
            return Nothing()
        if isinstance(part, Span):
            lo, hi = max(lo, part.lo), min(hi, part.hi)
            continue
        same = _index_of_plain_column(kept, part)
        if same is None:
            kept.append(part)
        else:
            kept[same] = _of_codes(part.column, _common(kept[same].ranges, part.ranges))
            if not kept[same].estimate:
                return Nothing()
    if hi <= lo:
        return Nothing()
    if (lo, hi) != (0, rows) or not kept:
        kept.append(Everything(rows) if (lo, hi) == (0, rows) else Span(lo, hi))
    return kept[0] if len(kept) == 1 else Intersection(kept, rows)


def _index_of_plain_column(kept: list[RowSet], part: RowSet) -> int | None:
    """Where a set of the same column stands, if rows have one entry each there: then ranges can be intersected."""
    if not isinstance(part, Coded) or len(part.column.many):
        return None
    for place, other in enumerate(kept):
        if isinstance(other, Coded) and other.column is part.column:
            return place
    return None


def union(sets: Iterable[RowSet], rows: int) -> RowSet:
    """Rows in any of the sets, of a part of so many rows."""
    kept: list[RowSet] = []
    ranges: dict[int, list[tuple[int, int]]] = {}
    columns: dict[int, Column] = {}
    for part in _opened(sets, Union):
        if isinstance(part, Everything):
            return part
        if part.hi <= part.lo or not part.estimate:
            continue
        if isinstance(part, Coded):
            columns[id(part.column)] = part.column
            ranges.setdefault(id(part.column), []).extend(part.ranges)
        else:
            kept.append(part)
    kept += [coded(columns[number], of_column) for number, of_column in ranges.items()]
    if not kept:
        return Nothing()
    if len(kept) == 1:
        return kept[0]
    return next((part for part in kept if isinstance(part, Everything)), None) or Union(kept, rows)


def complement(part: RowSet, rows: int) -> RowSet:
    """Rows that are not in the set, of a part of so many rows."""
    if isinstance(part, Complement):
        return part.part
    if not part.estimate:
        return Everything(rows)
    if isinstance(part, Span):
        sides = [side for side in (Span(0, part.lo), Span(part.hi, rows)) if side.estimate]
        return Nothing() if not sides else sides[0] if len(sides) == 1 else Union(sides, rows)
    if isinstance(part, Coded) and not len(part.column.many):
        edges = [0, *(edge for span in part.ranges for edge in span), part.column.codes]
        return coded(part.column, zip(edges[::2], edges[1::2]))
    return Complement(part, rows)


def _opened(sets: Iterable[RowSet], kind: type) -> list[RowSet]:
    found: list[RowSet] = []
    for part in sets:
        if isinstance(part, kind):
            found += part.sets
        else:
            found.append(part)
    return found
