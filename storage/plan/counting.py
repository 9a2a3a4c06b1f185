"""Counting: how many documents match, reading none where the index knows. Pure but for Part.fetch, which blocks.

A range of one field is a difference of places; dead rows in it are tested by their codes and subtracted. What is no plain range
is counted window by window; where a clause is not exact, the rows between must and may are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..query.filters import Filter
from ..values.documents import decode as decode_document
from .clauses import Clause
from .parts import SCALE, Counters, Loose, Part, Scale
from .reading import Candidates, Reader
from .rowsets import RowSet
from .walking import walk


def count(
    parts: Sequence[Part],
    loose: Loose,
    matches: Filter,
    decode: Callable[[bytes], dict] = decode_document,
    counters: Counters | None = None,
    scale: Scale = SCALE,
) -> Iterator[int | None]:
    """None for each step, then the number."""
    reader = Reader(parts, loose, matches, decode, counters, scale)
    total = 0
    for number, part in enumerate(parts):
        clause = reader.clause(number)
        for found in _exactly(clause.may, part, reader) if clause.is_exact else _verified(clause, number, reader):
            total += found
            if reader.is_step(abs(found)):
                yield None
    for batch in reader.read_loose():
        total += len(batch)
    reader.counters.returned = total
    yield total


def _exactly(rows: RowSet, part: Part, reader: Reader) -> Iterator[int]:
    size = rows.size()
    if size is None:
        for window in walk(rows, part.dead, 0, reader.scale):
            reader.counters.keys_examined += len(window)
            yield len(window)
        return
    reader.counters.keys_examined += size
    yield size
    if not size or not part.dead.count:
        return
    dead = part.dead.rows
    ends = np.array((rows.lo, rows.hi), np.uint64).astype(dead.dtype)
    first, last = dead.searchsorted(ends)
    size = reader.scale.window_rows_max
    for start in range(int(first), int(last), size):
        some = dead[start : min(start + size, int(last))]
        yield -int(np.count_nonzero(rows.test(some)))


def _verified(clause: Clause, number: int, reader: Reader) -> Iterator[int]:
    for window in walk(clause.may, reader.parts[number].dead, 0, reader.scale):
        is_certain = clause.must.test(window)
        yield int(np.count_nonzero(is_certain))
        unsure = window[~is_certain]
        size = reader.scale.fetch_rows
        for start in range(0, len(unsure), size):
            found = reader.read(Candidates(number, unsure[start : start + size], is_exact=False))
            yield sum(one is not None for one in found)
