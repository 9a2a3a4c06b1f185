"""Matching: the one door between a compiled filter and the documents of a read view. Every verb that looks for documents uses it.

    filter, sort ──> find_rows(view, ...) ──> batches of Found, in natural order (of the last write to each) or sorted
                     count_rows(view, ...) ──> a number

Whether an index or a scan answers is decided here and nowhere else. Work between two batches is sliced (INV-9).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import trio

from .errors import QueryTooLarge
from .query.filters import Filter
from .query.sorting import Sort
from .values.documents import decode
from .views import View

SORT_BYTES_MAX = 100 * 2**20
SLICE_ROWS = 64


class Found(NamedTuple):
    """One document that matches: its canonical key, its stored bytes, and what they decode to (the caller's own copy)."""

    key: bytes
    data: bytes
    document: dict


async def find_rows(
    view: View, collection: int, matches: Filter, *, sort: Sort | None = None, wanted: int = 0
) -> AsyncIterator[list[Found]]:
    """Every document that matches, in batches that are not empty. wanted: no more than so many are needed (0: all); with a
    sort, the first ones of the order. Raises QueryTooLarge when a sort would hold more than SORT_BYTES_MAX."""
    batches = _by_scan(view, collection, matches)
    if sort is not None:
        batches = _sorted(batches, sort, wanted)
    left = wanted
    async for batch in batches:
        if wanted:
            batch = batch[:left]
            left -= len(batch)
        yield batch
        if wanted and not left:
            return


async def count_rows(view: View, collection: int, matches: Filter) -> int:
    """How many documents match."""
    if not matches.spec:
        return await view.count(collection)
    total = 0
    async for batch in find_rows(view, collection, matches):
        total += len(batch)
    return total


async def _by_scan(view: View, collection: int, matches: Filter) -> AsyncIterator[list[Found]]:
    pinned, key = matches.point
    if pinned:
        held = await view.get(collection, key)
        if held is not None and matches(document := decode(held)):
            yield [Found(key, held, document)]
        return
    async for rows in view.scan(collection):
        for start in range(0, len(rows), SLICE_ROWS):
            batch = []
            for _, _, key, data in rows[start : start + SLICE_ROWS]:
                document = decode(data)
                if matches(document):
                    batch.append(Found(key, data, document))
            if batch:
                yield batch
            await trio.lowlevel.checkpoint()


async def _sorted(batches: AsyncIterator[list[Found]], key: Sort, wanted: int) -> AsyncIterator[list[Found]]:
    """All rows in order; with `wanted` only that many are ever held (twice over)."""
    held: list[tuple[object, Found]] = []
    size = 0
    async for batch in batches:
        held += [(key(found.document), found) for found in batch]
        size += sum(len(found.data) for found in batch)
        if wanted and len(held) >= 2 * wanted + SLICE_ROWS:
            held.sort(key=lambda row: row[0])
            del held[wanted:]
            size = sum(len(found.data) for _, found in held)
        if size > SORT_BYTES_MAX:
            raise QueryTooLarge(
                f"sorting needs more than {SORT_BYTES_MAX} bytes; narrow the filter or give a limit", limit=SORT_BYTES_MAX
            )
    held.sort(key=lambda row: row[0])
    for start in range(0, len(held), SLICE_ROWS):
        yield [found for _, found in held[start : start + SLICE_ROWS]]
        await trio.lowlevel.checkpoint()
