"""Finding: the documents that match, in natural order or sorted. Pure but for Part.fetch, which blocks.

    candidates, in order ── cut into batches ── read, asked where not exact ──> batches of Found

Natural order is parts in order, rows ascending, then loose rows. An index never changes the answer: whatever a clause cannot
settle is decided by the filter itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..query.filters import Filter
from ..query.sorting import Sort
from ..values.documents import decode as decode_document
from .ordering import Item, ordered
from .parts import SCALE, Counters, Found, Loose, Part, Scale
from .reading import Candidates, Reader
from .walking import walk

NATURAL = "$natural"
_SECOND_BATCH_MIN = 64
_SPARE_SHARE, _SPARE_ROWS = 1.25, 16  # read beyond what should be enough, so that it mostly is


def find(
    parts: Sequence[Part],
    loose: Loose,
    matches: Filter,
    order: Sort | None = None,
    wanted: int = 0,
    decode: Callable[[bytes], dict] = decode_document,
    counters: Counters | None = None,
    scale: Scale = SCALE,
    *,
    is_bare: bool = False,
) -> Iterator[list[Found]]:
    """Every document that matches, in batches of at most Scale.fetch_rows; with a sort, in the order of sorting the natural sequence
    stably. wanted: the first so many (0: all). is_bare: nobody needs documents decoded. An empty batch is a step that found nothing. Raises QueryTooLarge."""
    reader = Reader(parts, loose, matches, decode, counters, scale, is_bare=is_bare)
    for batch in _batches(reader, _candidates(reader, order, wanted), wanted):
        reader.counters.returned += len(batch)
        yield batch


def _candidates(reader: Reader, order: Sort | None, wanted: int) -> Iterator[Item]:
    natural = natural_direction(order)
    if natural > 0:
        return _oldest_first(reader, wanted)
    if natural < 0:
        return _newest_first(reader, wanted)
    return ordered(reader, order, wanted)


def natural_direction(order: Sort | None) -> int:
    """1 or -1 for natural order or its reverse; 0 for a sort by fields."""
    if order is None or not order.fields:
        return 1
    return order.fields[0][1] if order.fields[0][0] == NATURAL else 0


def _oldest_first(reader: Reader, wanted: int) -> Iterator[Item]:
    for number in range(len(reader.parts)):
        yield from _walked(reader, number, wanted)
    for batch in reader.read_loose():
        yield [found for _, found in batch]


def _newest_first(reader: Reader, wanted: int) -> Iterator[Item]:
    loose = [batch for batch in reader.read_loose()]
    for batch in reversed(loose):
        yield [found for _, found in reversed(batch)]
    for number in range(len(reader.parts) - 1, -1, -1):
        yield from _walked(reader, number, wanted, descending=True)


def _walked(reader: Reader, number: int, wanted: int, *, descending: bool = False) -> Iterator[Candidates | None]:
    part = reader.parts[number]
    clause = reader.clause(number)
    for rows in walk(clause.may, part.dead, wanted, reader.scale, descending=descending):
        yield Candidates(number, rows, clause.is_exact) if len(rows) else None


def _batches(reader: Reader, items: Iterator[Item], wanted: int) -> Iterator[list[Found]]:
    """Candidates read in batches: the first one of what is wanted, later ones larger, as then many do not match; but no more than what is
    still wanted should need, as far as those before tell."""
    left = wanted
    looked_at = matched = 0
    size_max = reader.scale.fetch_rows
    size = min(wanted, size_max) if wanted else size_max
    waiting: list[Candidates | list[Found]] = []
    count = 0
    for item in items:
        if item is None:
            yield []
            continue
        while (held := len(item.rows if isinstance(item, Candidates) else item)) > 0:
            take = min(size - count, held)
            taken, item = _split(item, take)
            waiting.append(taken)
            count += take
            if count < size:
                break
            batch = _read(reader, waiting)
            looked_at, matched = looked_at + count, matched + len(batch)
            waiting, count = [], 0
            size = min(max(2 * size, _SECOND_BATCH_MIN), size_max)
            if wanted:
                batch = batch[:left]
                left -= len(batch)
                if matched:
                    size = min(size, int(_SPARE_SHARE * left * looked_at / matched) + _SPARE_ROWS)
            yield batch
            if wanted and not left:
                return
    if waiting:
        batch = _read(reader, waiting)
        yield batch[:left] if wanted else batch


def _split(item: Candidates | list[Found], at: int) -> tuple[Candidates | list[Found], Candidates | list[Found]]:
    if isinstance(item, Candidates):
        return item._replace(rows=item.rows[:at]), item._replace(rows=item.rows[at:])
    return item[:at], item[at:]


def _read(reader: Reader, waiting: Sequence[Candidates | list[Found]]) -> list[Found]:
    """The documents of all of it in order; each part is asked once."""
    if len(waiting) > 1:
        return _read_by_part(reader, waiting)
    only = waiting[0]
    return [found for found in reader.read(only, is_bare=True) if found is not None] if isinstance(only, Candidates) else only


def _read_by_part(reader: Reader, waiting: Sequence[Candidates | list[Found]]) -> list[Found]:
    by_part: dict[int, list[Candidates]] = {}
    for item in waiting:
        if isinstance(item, Candidates):
            by_part.setdefault(item.part, []).append(item)
    documents = {number: iter(reader.read(joined(items), is_bare=True)) for number, items in by_part.items()}
    batch: list[Found] = []
    for item in waiting:
        if not isinstance(item, Candidates):
            batch += item
            continue
        for _ in range(len(item.rows)):
            found = next(documents[item.part])
            if found is not None:
                batch.append(found)
    return batch


def joined(items: Sequence[Candidates]) -> Candidates:
    """Candidates of one part in one, which is exact when all of them are."""
    if len(items) == 1:
        return items[0]
    return Candidates(items[0].part, np.concatenate([item.rows for item in items]), all(item.is_exact for item in items))
