"""Matching: the one door between a compiled filter and the documents of a read view. Every verb that looks for documents uses it.

    filter, sort ──> find_rows(view, ...)  ──> batches of Found, in natural order (of the last write to each) or sorted
                     find_few(view, ...)   ──> the first few of them, at once
                     count_rows(view, ...) ──> a number

    `_id` is pinned ──> one look-up          fields are indexed ──> storage/plan over the view's parts, in the disk's thread
                                             else               ──> a scan; fields of a collection that is not small are indexed from now on

Whether an index or a scan answers is decided here and nowhere else; the answer is the same. Work between two batches is sliced (INV-9).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from functools import partial
from typing import TypeVar

import trio

from . import plan
from .errors import QueryTooLarge
from .fields.indexed import Fields
from .indexes.parts import Standing
from .plan import SORT_BYTES_MAX, Found
from .query.filters import Filter
from .query.sorting import Sort
from .query.weight import is_slow
from .step_pace import shape_of, sort_shape
from .stepping import STEPS_TOGETHER, run_through, some_steps
from .values.documents import decode
from .views import Row, View

T = TypeVar("T")

FEW_MAX = 128  # documents that are found all together
SLICE_ROWS = 64
SLICE_S = 0.002  # of documents matched on the loop (INV-9)
SLICE_BYTES_MAX = 256 * 2**10  # of the documents of one batch of a scan; more are decoded and matched in the disk's thread
SLOW_ROWS = 8  # matched there at a time: a regular expression may take 50 ms a document
SLOW_BYTES = 2**20
WANTED_FIELDS_MAX = 32  # of one query: no habit has more, and every collection has only so many that can be indexed

__all__ = ["Found", "count_rows", "find_few", "find_rows", "last_of", "standing_for", "stepped"]


async def find_rows(
    view: View, collection: int, matches: Filter, *, sort: Sort | None = None, wanted: int = 0
) -> AsyncIterator[list[Found]]:
    """Every document that matches, in batches that are not empty and the caller's own: one that empties them holds little while it
    waits. wanted: no more than so many are needed (0: all); with a
    sort, the first ones of the order. Raises QueryTooLarge when a sort would hold more than SORT_BYTES_MAX."""
    standing = None
    if not matches.point[0]:
        standing = await standing_for(view, collection, plan.wanted_fields(matches, sort))
    if standing is not None:
        left = wanted
        steps = plan.find(standing.parts, standing.loose, matches, sort, wanted)
        async for batch in stepped(view, steps):
            left -= len(batch)
            yield batch
            if wanted and left <= 0:  # a last step, to hear that there is no more, would be one more way to the thread and back
                return
        return
    left = wanted
    async for batch in _scanned(view, collection, matches, sort, wanted):
        if wanted:
            batch = batch[:left]
            left -= len(batch)
        yield batch
        if wanted and not left:
            return


async def find_few(
    view: View, collection: int, matches: Filter, *, sort: Sort | None = None, wanted: int, is_bare: bool = False
) -> list[Found] | None:
    """The first `wanted` (1 to FEW_MAX) of what find_rows gives, all together, if an index answers; else None. is_bare: nobody looks at
    Found.document."""
    if matches.point[0] or not 0 < wanted <= FEW_MAX:
        return None
    standing = await standing_for(view, collection, plan.wanted_fields(matches, sort))
    if standing is None:
        return None
    found: list[Found] = []

    def take(batch: list[Found]) -> bool:
        found.extend(batch)
        return len(found) >= wanted

    def steps() -> Iterator[list[Found]]:
        return plan.find(standing.parts, standing.loose, matches, sort, wanted, is_bare=is_bare)

    shape = shape_of(matches.tree, "find", collection, sort_shape(sort), wanted.bit_length())
    await run_through(view, standing, steps, take, found.clear, shape)
    return found


async def count_rows(view: View, collection: int, matches: Filter) -> int:
    """How many documents match."""
    if not matches.spec:
        return await view.count(collection)
    standing = None
    if not matches.point[0]:
        standing = await standing_for(view, collection, plan.wanted_fields(matches))
    if standing is not None:
        steps = partial(plan.count, standing.parts, standing.loose, matches)
        return await last_of(view, standing, steps, shape_of(matches.tree, "count", collection)) or 0
    total = 0
    async for batch in find_rows(view, collection, matches):
        total += len(batch)
    return total


async def standing_for(view: View, collection: int, fields: Fields) -> Standing | None:
    """What a query that uses these fields stands on, None when a scan is as good; and the fields are indexed from now on, unless the
    collection is small or they are very many."""
    if not fields or not view.is_worth_indexing(collection):
        return None
    if len(fields) <= WANTED_FIELDS_MAX:
        view.want(collection, fields)
    if not view.has_index(collection, fields):
        return None
    view.asked(collection)
    return await view.standing(collection)


async def last_of(view: View, standing: Standing, make: Callable[[], Iterator[T | None]], shape: Hashable | None = None) -> T | None:
    """The one thing that steps which end in it give; None when they end without."""
    found: list[T] = []

    def take(what: T) -> bool:
        found.append(what)
        return True

    await run_through(view, standing, make, take, found.clear, shape)
    return found[0] if found else None


async def stepped(view: View, steps: Iterator[T]) -> AsyncIterator[T]:
    """What the steps of a plan give but for what is nothing (none, empty or 0), made in the disk's thread: they read files and take milliseconds."""
    found: list[T] = []

    def take(what: T) -> bool:
        if what:
            found.append(what)
        return bool(found)

    while not await view.run(some_steps, steps, take, STEPS_TOGETHER) or found:
        view.check_age()
        if found:
            yield found.pop()


async def _scanned(
    view: View, collection: int, matches: Filter, sort: Sort | None, wanted: int
) -> AsyncIterator[list[Found]]:
    batches = _by_scan(view, collection, matches)
    direction = plan.natural_direction(sort)
    if direction > 0:
        return_batches = batches
    elif direction < 0:
        return_batches = _sorted(batches, None, 0)
    else:
        return_batches = _sorted(batches, sort, wanted)
    async for batch in return_batches:
        yield batch


async def _by_scan(view: View, collection: int, matches: Filter) -> AsyncIterator[list[Found]]:
    pinned, key = matches.point
    if pinned:
        held = await view.get(collection, key)
        if held is not None and matches(document := decode(held)):
            yield [Found(key, held, document)]
        return
    beside = is_slow(matches.tree)
    async for rows in view.scan(collection):
        if beside or sum([len(row[3]) for row in rows]) > SLICE_BYTES_MAX:
            for some in _steps(rows):
                batch = await view.run(_matching, matches, some)
                view.check_age()
                if batch:
                    yield batch
            continue
        batch, slice_ends = [], trio.current_time() + SLICE_S
        for number, (_, _, key, data) in enumerate(rows, 1):
            document = decode(data)
            if matches(document):
                batch.append(Found(key, data, document))
            if number % SLICE_ROWS == 0 or trio.current_time() >= slice_ends:
                if batch:
                    yield batch
                await trio.lowlevel.checkpoint()
                batch, slice_ends = [], trio.current_time() + SLICE_S
        if batch:
            yield batch


def _steps(rows: list[Row]) -> Iterator[list[Row]]:
    """At most SLOW_ROWS, and SLOW_BYTES of documents, but always one: a query that is not asked for more holds them decoded."""
    start = size = 0
    for end, row in enumerate(rows):
        if end > start and (end - start == SLOW_ROWS or size + len(row[3]) > SLOW_BYTES):
            yield rows[start:end]
            start, size = end, 0
        size += len(row[3])
    yield rows[start:]


def _matching(matches: Filter, rows: list[Row]) -> list[Found]:
    found = []
    for _, _, key, data in rows:
        document = decode(data)
        if matches(document):
            found.append(Found(key, data, document))
    return found


async def _sorted(
    batches: AsyncIterator[list[Found]], key: Callable[[dict], object] | None, wanted: int
) -> AsyncIterator[list[Found]]:
    """All rows in order, without a key the latest first; with `wanted` only that many are ever held (twice over)."""
    held: list[tuple[object, Found]] = []
    size = 0
    async for batch in batches:
        held += [(key(found.document) if key is not None else None, found) for found in batch]
        size += sum(len(found.data) for found in batch)
        if wanted and len(held) >= 2 * wanted + SLICE_ROWS:
            held.sort(key=lambda row: row[0])
            del held[wanted:]
            size = sum(len(found.data) for _, found in held)
        if size > SORT_BYTES_MAX:
            raise QueryTooLarge(
                f"sorting needs more than {SORT_BYTES_MAX} bytes; narrow the filter or give a limit", limit=SORT_BYTES_MAX
            )
    if key is None:
        held.reverse()
    else:
        held.sort(key=lambda row: row[0])
    for start in range(0, len(held), SLICE_ROWS):
        yield [found for _, found in held[start : start + SLICE_ROWS]]
        await trio.lowlevel.checkpoint()
