"""Counting: how many documents match, reading none where the index knows. Pure but for Part.fetch, which blocks.

A range of one field is a difference of places; dead rows in it are tested by their codes and subtracted. What is no plain range
is counted window by window; where a clause is not exact, the rows between must and may are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..query.filters import Filter
from ..values.documents import decode as decode_document
from .clauses import Clause, clause_of
from .parts import Counters, Loose, Part
from .reading import FETCH_ROWS_MAX, Candidates, Reader
from .rowsets import RowSet
from .walking import WINDOW_ROWS_MAX, walk


def count(
    parts: Sequence[Part],
    loose: Loose,
    matches: Filter,
    decode: Callable[[bytes], dict] = decode_document,
    counters: Counters | None = None,
) -> Iterator[int | None]:
    """None for each step, then the number."""
    reader = Reader(parts, loose, matches, decode, counters if counters is not None else Counters())
    total = 0
    for number, part in enumerate(parts):
        clause = clause_of(matches.tree, part)
        for found in _exactly(clause.may, part, reader) if clause.is_exact else _verified(clause, number, reader):
            if found is None:
                yield None
            else:
                total += found
    for batch in reader.read_loose():
        total += len(batch)
    reader.counters.returned = total
    yield total


def _exactly(rows: RowSet, part: Part, reader: Reader) -> Iterator[int | None]:
    size = rows.size()
    if size is None:
        for window in walk(rows, part.dead, 0):
            reader.counters.keys_examined += len(window)
            yield len(window)
            yield None
        return
    reader.counters.keys_examined += size
    yield size
    if not size or not part.dead.count:
        return
    dead = part.dead.rows
    ends = np.array((rows.lo, rows.hi), np.uint64).astype(dead.dtype)
    first, last = dead.searchsorted(ends)
    for start in range(int(first), int(last), WINDOW_ROWS_MAX):
        yield -int(np.count_nonzero(rows.test(dead[start : min(start + WINDOW_ROWS_MAX, int(last))])))
        yield None


def _verified(clause: Clause, number: int, reader: Reader) -> Iterator[int | None]:
    for window in walk(clause.may, reader.parts[number].dead, 0):
        is_certain = clause.must.test(window)
        yield int(np.count_nonzero(is_certain))
        unsure = window[~is_certain]
        for start in range(0, len(unsure), FETCH_ROWS_MAX):
            found = reader.read(Candidates(number, unsure[start : start + FETCH_ROWS_MAX], False))
            yield sum(one is not None for one in found)
            yield None
