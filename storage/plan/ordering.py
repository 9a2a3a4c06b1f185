"""Ordering: candidates in the order of a sort, lazily. Pure.

    part 0: plain rows ── by gathering, or by walking its column ──> a run ─┐
    part 1: plain rows ────────────────────────────────────────────> a run ─┼─ merge by key ──> candidates in order
    all parts: odd rows and rows without an index, loose rows ── read ── held ┘

Within a part plain rows are ordered by their codes (ranks.py), in one of two ways, chosen by what they would cost:

    gathering   all rows of the filter, their codes, the best ones first: good when the filter leaves few
    walking     the postings of the sort field from the wanted end, each batch tested by the filter: good when it leaves many. Where
                rows ascend with the field, this is row order itself

Runs are merged by real sort keys; a run whose best possible value comes later than what is wanted is never begun, so that
"newest 50" touches one part. Equal keys stand in natural order: part, then row.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import QueryTooLarge
from ..query.sorting import Sort
from .parts import SORT_BYTES_MAX, Found, Part, Scale
from .ranks import SortColumn, SortKeys, best_codes, in_order, odd_rows, sort_columns
from .reading import Candidates, Reader
from .rowsets import Coded, Complement, Intersection, RowSet, coded, complement, intersection
from .walking import live, walk

Item = Candidates | list[Found] | None  # None: a step that brought nothing yet
Key = tuple[Any, int, int]  # the sort's key, part, row

_SAMPLE = 4_096
# Nanoseconds, roughly: a row tested out of order, a row gathered and ranked, a row compared in order.
_TEST_NS, _GATHER_NS, _COMPARE_NS = 30, 15, 1


def ordered(reader: Reader, order: Sort, wanted: int) -> Iterator[Item]:
    """All candidates in the order of the sort. Raises QueryTooLarge when rows that must be held to be ordered take more than
    SORT_BYTES_MAX."""
    runs: list[_Run] = []
    unordered: list[tuple[int, RowSet, bool]] = []
    for number, part in enumerate(reader.parts):
        clause = reader.clause(number)
        if reader.is_step():
            yield None
        fields = sort_columns(part, order)
        if fields is None:
            unordered.append((number, clause.may, clause.is_exact))
            continue
        odd = odd_rows([field.column for field in fields], part.rows)
        plain = clause.may
        if odd.estimate:
            unordered.append((number, intersection([plain, odd], part.rows), clause.is_exact))
            plain = intersection([plain, complement(odd, part.rows)], part.rows)
        best = best_codes(fields, code_limits(plain, fields)) if plain.estimate else None
        if best is not None:
            chunks = _by_rank(plain, part, fields, wanted, reader.scale)
            runs.append(_PlainRun(number, chunks, SortKeys(fields, order), best, is_exact=clause.is_exact))
    held = _HeldRun(len(reader.parts))
    yield from _hold(held, reader, unordered, order, wanted)
    yield from _merged([*runs, held] if held.rows else runs)


def _merged(runs: Sequence[_Run]) -> Iterator[Item]:
    heap = [(run.head, place, run) for place, run in enumerate(runs)]
    heapq.heapify(heap)
    while heap:
        _, place, run = heapq.heappop(heap)
        if run.is_drained:
            for progress in run.refill():
                if not progress:
                    yield None
            if not run.is_drained:
                heapq.heappush(heap, (run.head, place, run))
            continue
        yield run.take_until(heap[0][0] if heap else None)
        if run.may_go_on:
            heapq.heappush(heap, (run.head, place, run))


class _PlainRun:
    """The plain rows of one part."""

    def __init__(
        self,
        part: int,
        chunks: Iterator[np.ndarray],
        keys: SortKeys,
        best: tuple[int, ...],
        *,
        is_exact: bool,
    ) -> None:
        """best: codes that no row here comes before."""
        self._part = part
        self._chunks = chunks
        self._keys = keys
        self._is_exact = is_exact
        self._rows = np.empty(0, np.uint32)
        self._at = 0
        self.may_go_on = True
        self.head: Key = (keys.of_codes(best), part, -1)

    @property
    def is_drained(self) -> bool:
        return self._at == len(self._rows)

    def refill(self) -> Iterator[bool]:
        """Go on to the next rows; False for each step that brought none."""
        for rows in self._chunks:
            if len(rows):
                self._rows, self._at = rows, 0
                self.head = self._key_at(0)
                return
            yield False

    def take_until(self, end: Key | None) -> Candidates:
        """All rows at hand that come before the key."""
        size = len(self._rows)
        until = size if end is None or self._key_at(size - 1) < end else bisect_left(range(size), end, self._at, key=self._key_at)
        rows = self._rows[self._at : until]
        self._at = until
        # When all are taken, what follows does not come before the last one.
        self.head = self._key_at(min(until, size - 1))
        return Candidates(self._part, rows, self._is_exact)

    def _key_at(self, place: int) -> Key:
        row = int(self._rows[place])
        return (self._keys.of_row(row), self._part, row)


class _HeldRun:
    """Documents that had to be read to be ordered; they match."""

    is_drained = False

    def __init__(self, parts: int) -> None:
        self.loose_part = parts
        self.rows: list[tuple[Key, Found]] = []
        self._at = 0

    @property
    def head(self) -> Key:
        return self.rows[self._at][0]

    @property
    def may_go_on(self) -> bool:
        return self._at < len(self.rows)

    def refill(self) -> Iterator[bool]:
        return iter(())

    def take_until(self, end: Key | None) -> list[Found]:
        size = len(self.rows)
        until = size if end is None else bisect_left(self.rows, end, self._at, key=lambda row: row[0])
        taken = [found for _, found in self.rows[self._at : until]]
        self._at = until
        return taken


_Run = _PlainRun | _HeldRun


def _hold(
    held: _HeldRun, reader: Reader, unordered: Sequence[tuple[int, RowSet, bool]], order: Sort, wanted: int
) -> Iterator[None]:
    """Read all these rows and the loose ones, and keep them in order; with `wanted` only so many are ever held (twice over)."""
    size = 0
    for batch in _batches(reader, unordered):
        held.rows += [((order(found.document), part, row), found) for part, row, found in batch]
        size += sum(len(found.data) for _, _, found in batch)
        if wanted and len(held.rows) >= 2 * wanted + reader.scale.fetch_rows:
            held.rows.sort(key=_key_of)
            del held.rows[wanted:]
            size = sum(len(found.data) for _, found in held.rows)
        if size > SORT_BYTES_MAX:
            raise QueryTooLarge(
                f"sorting needs more than {SORT_BYTES_MAX} bytes; narrow the filter or give a limit", limit=SORT_BYTES_MAX
            )
        if reader.is_step():
            yield None
    held.rows.sort(key=_key_of)


def _key_of(row: tuple[Key, Found]) -> Key:
    return row[0]


def _batches(reader: Reader, unordered: Sequence[tuple[int, RowSet, bool]]) -> Iterator[list[tuple[int, int, Found]]]:
    size = reader.scale.fetch_rows
    for number, rows, is_exact in unordered:
        for window in walk(rows, reader.parts[number].dead, 0, reader.scale):
            for start in range(0, len(window), size):
                some = window[start : start + size]
                found = reader.read(Candidates(number, some, is_exact))
                yield [(number, row, one) for row, one in zip(some.tolist(), found) if one is not None]
    for batch in reader.read_loose():
        yield [(len(reader.parts), place, found) for place, found in batch]


# The plain rows of one part, in order.


def _by_rank(rows: RowSet, part: Part, fields: Sequence[SortColumn], wanted: int, scale: Scale) -> Iterator[np.ndarray]:
    if not fields:
        return walk(rows, part.dead, wanted, scale)
    if is_gathered(rows, fields, wanted, scale):
        return _gathered(rows, part, fields, wanted, scale)
    return _walked(rows, part, fields, wanted, scale)


def is_gathered(rows: RowSet, fields: Sequence[SortColumn], wanted: int, scale: Scale) -> bool:
    """Whether gathering all rows is likely to be cheaper than walking the column of the first field."""
    column = fields[0].column
    places = column.posting_count(*code_limits(rows, fields))
    reached = places * min(1.0, wanted / max(rows.likely, 1.0)) if wanted else places
    driver = rows.driver if isinstance(rows, Intersection) else rows
    looked_at = driver.hi - driver.lo if isinstance(driver, Complement) else driver.estimate
    if looked_at <= scale.gathered_always:
        return True
    if column.is_ascending or rows.likely > scale.gathered_max:
        return False
    return looked_at * (_GATHER_NS + _COMPARE_NS) < reached * _TEST_NS


def code_limits(rows: RowSet, fields: Sequence[SortColumn]) -> tuple[int, int]:
    """Codes lo..hi-1 of the first sort field within which all the rows lie."""
    column = fields[0].column
    lo, hi = 0, column.codes
    if column.is_ascending and rows.hi > rows.lo:
        ends = column.codes_of(np.array([rows.lo, rows.hi - 1], np.uint32))
        lo, hi = int(ends[0]), int(ends[1]) + 1
    for part in rows.sets if isinstance(rows, Intersection) else (rows,):
        if isinstance(part, Coded) and part.column is column:
            lo, hi = max(lo, part.ranges[0][0]), min(hi, part.ranges[-1][1])
    return lo, max(lo, hi)


def _gathered(rows: RowSet, part: Part, fields: Sequence[SortColumn], wanted: int, scale: Scale) -> Iterator[np.ndarray]:
    found = []
    for window in walk(rows, part.dead, 0, scale):
        found.append(window)
        if len(window) > scale.batch_places_max:
            yield window[:0]
    if not found:
        return
    left = np.concatenate(found)
    if not wanted or 4 * wanted >= len(left):
        yield in_order(left, fields)
        return
    ranks = fields[0].ranks(left)
    take = wanted
    while 4 * take < len(left):
        is_best = ranks <= _smallest(ranks, take)
        yield in_order(left[is_best], fields)
        left, ranks = left[~is_best], ranks[~is_best]
        take *= 8
    if len(left):
        yield in_order(left, fields)


def _smallest(ranks: np.ndarray, take: int) -> np.generic:
    """The rank of place `take`, counted from 1. A sample says which ranks need not be looked at."""
    if len(ranks) > 16 * _SAMPLE:
        sample = np.sort(ranks[:: len(ranks) // _SAMPLE])
        bound = sample[min(2 * take * len(sample) // len(ranks) + 8, len(sample) - 1)]
        few = ranks[ranks <= bound]
        if len(few) >= take:
            ranks = few
    return np.partition(ranks, take - 1)[take - 1]


def _walked(rows: RowSet, part: Part, fields: Sequence[SortColumn], wanted: int, scale: Scale) -> Iterator[np.ndarray]:
    column = fields[0].column
    lo, hi = code_limits(rows, fields)
    places = column.posting_count(lo, hi)
    goal = scale.batch_places_max
    if wanted:
        goal = int(min(max(2 * wanted * places / max(rows.likely, 1.0), scale.batch_places_min), goal))
    while lo < hi:
        a, b = _batch_before(fields[0], lo, hi, goal) if fields[0].is_descending else _batch_after(fields[0], lo, hi, goal)
        lo, hi = (lo, a) if fields[0].is_descending else (b, hi)
        goal = min(goal * 4, scale.batch_places_max)
        if column.posting_count(a, b) > scale.tied_rows_max and _is_tie(fields[0], a, b):
            tied = intersection([rows, coded(column, [(a, b)])], part.rows)
            yield from _by_rank(tied, part, fields[1:], wanted, scale)
            continue
        if column.is_ascending:
            found = rows.within(column.place_of(a), column.place_of(b))
        else:
            found = column.postings(a, b)
            found = found[rows.test(found)]
        yield in_order(live(found, part.dead), fields)


def _is_tie(field: SortColumn, a: int, b: int) -> bool:
    """Whether codes a..b-1 are one value to the sort."""
    lo, hi = field.null_codes
    return b - a == 1 or (lo <= a and b <= hi)


def _batch_after(field: SortColumn, lo: int, hi: int, goal: int) -> tuple[int, int]:
    """The next codes from lo on, of about `goal` rows, at least one value; equal values stay together."""
    column = field.column
    place = min(column.place_of(lo) + goal, column.entries)
    end = place if column.starts is None else int(column.starts.searchsorted(column.starts.dtype.type(place), "right")) - 1
    b = min(max(end, lo + 1), hi)
    null_lo, null_hi = field.null_codes
    if null_hi - null_lo == 2 and b == null_lo + 1:
        b = null_lo if lo < null_lo else min(null_hi, hi)
    return lo, b


def _batch_before(field: SortColumn, lo: int, hi: int, goal: int) -> tuple[int, int]:
    """The last codes below hi, likewise."""
    column = field.column
    place = max(column.place_of(hi) - goal, 0)
    start = place if column.starts is None else int(column.starts.searchsorted(column.starts.dtype.type(place)))
    a = max(min(start, hi - 1), lo)
    null_lo, null_hi = field.null_codes
    if null_hi - null_lo == 2 and a == null_lo + 1:
        a = null_hi if hi > null_hi else max(null_lo, lo)
    return a, hi

