"""Documents by their places, many at a time, as columns over one blob: what building an index reads. Blocks, reads only.

    shard, location, length of rows ── by file, ascending ── chunks of neighbours, each record checked ──> Documents, in the order asked

Costs: about 0.6 µs a row from the page cache with the kernel. Memory: the rows' bytes twice over; callers bound the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..commit.columns import structures_at
from ..errors import DamagedRecord
from ..index.primary import GENERATION_SHIFT, NONE, OFFSET_MASK, live_locations
from ..shard.gather import distinct
from ..shard.older import check_records, read_chunks
from ..shard.record import HEADER_BYTES, HEADER_TYPE
from ..shard.shardset import Shard, ShardSet


class Documents(NamedTuple):
    """Rows as columns; each document is blob[at : at + doc_len]."""

    blob: bytes
    at: np.ndarray  # u64
    doc_len: np.ndarray  # u32
    order: np.ndarray  # u64, seq << 16 | row


_EMPTY = b"\x80"  # a document of no fields


class Places(NamedTuple):
    """Where the records of rows are; location NONE (index/primary.py): nowhere any more."""

    shard: np.ndarray  # u16
    location: np.ndarray  # u64
    length: np.ndarray  # u32


def read_documents(shards: ShardSet, places: Places) -> Documents:
    """The documents there; an empty one, of order 0, where compaction has left nothing of a dead row. Raises DamagedRecord, OSError."""
    count = len(places.shard)
    at, doc_len, order = np.zeros(count, np.uint64), np.zeros(count, np.uint32), np.zeros(count, np.uint64)
    buffers: list[bytes] = []
    size = 0
    generations = places.location >> np.uint64(GENERATION_SHIFT)
    is_gone = places.location == np.uint64(NONE)
    for number in distinct(places.shard):
        for generation in distinct(generations[(places.shard == number) & ~is_gone]):
            mine = np.flatnonzero((places.shard == number) & (generations == generation))
            mine = mine[np.argsort(places.location[mine])]
            offsets = (places.location[mine] & np.uint64(OFFSET_MASK)).astype(np.int64)
            lengths = places.length[mine].astype(np.int64)
            log = shards.shards[number].log_of(generation << GENERATION_SHIFT)
            for first, end, buffer, begins in read_chunks(log, offsets, lengths):
                heads = structures_at(buffer, HEADER_TYPE, begins)
                check_records(log, buffer, begins, heads, offsets[first:end], lengths[first:end])
                some = mine[first:end]
                at[some] = size + begins + HEADER_BYTES + heads["id_len"]
                doc_len[some] = heads["doc_len"]
                order[some] = heads["seq"].astype(np.uint64) << np.uint64(16) | heads["row"]
                buffers.append(buffer)
                size += len(buffer)
    if is_gone.any():
        at[is_gone], doc_len[is_gone] = size, len(_EMPTY)
        buffers.append(_EMPTY)
    return Documents(b"".join(buffers), at, doc_len, order)


def live_windows(shards: ShardSet, collection: int, rows_max: int) -> Iterator[tuple[Places, Documents, int]]:
    """Every live row of a collection in commit order, in windows of about rows_max: (places, documents, last), the commits up to `last`
    being whole with this window. Raises DamagedRecord, OSError."""
    share = max(1, rows_max // len(shards.shards))
    sources = [_Source(number, shard, collection) for number, shard in enumerate(shards.shards)]
    held = [source.read(shards, share) for source in sources]
    while True:
        open_ends = [int(documents.order[-1]) for source, (_, documents) in zip(sources, held) if source.left]
        cut = min(open_ends) >> 16 if open_ends else shards.seq + 1  # the commit of that row may go on behind it
        taken, kept = [], []
        for places, documents in held:
            stop = int(np.searchsorted(documents.order, np.uint64(cut << 16)))
            taken.append((_slice(places, 0, stop), _rows(documents, 0, stop)))
            kept.append((_slice(places, stop, None), _trimmed(_rows(documents, stop, None))))
        places, documents = _together(taken)
        if len(places.shard) or not open_ends:
            yield places, documents, cut - 1
        if not open_ends:
            return
        nothing = not len(places.shard)  # one large commit: its end has to come first
        held = [
            _joined(rest, source.read(shards, share)) if source.left and (nothing or len(rest[0].shard) < share) else rest
            for source, rest in zip(sources, kept)
        ]


class _Source:
    """One shard's live rows in the order of writing."""

    def __init__(self, number: int, shard: Shard, collection: int) -> None:
        locations, lengths = live_locations(shard.segments, collection)
        generations = locations >> np.uint64(GENERATION_SHIFT)
        runs = [np.flatnonzero(generations == generation) for generation in shard.logs]
        by_writing = np.concatenate(runs) if runs else np.empty(0, np.int64)
        if len(by_writing) != len(locations):
            raise DamagedRecord(f"the index of shard {number} names a log that the checkpoint does not")
        self._locations, self._lengths = locations[by_writing], lengths[by_writing]
        self._number = number
        self._done = 0

    @property
    def left(self) -> int:
        return len(self._locations) - self._done

    def read(self, shards: ShardSet, rows: int) -> tuple[Places, Documents]:
        some = slice(self._done, self._done + rows)
        location = self._locations[some]
        self._done += len(location)
        places = Places(np.full(len(location), self._number, np.uint16), location, self._lengths[some].astype(np.uint32))
        return places, read_documents(shards, places)


def _slice(places: Places, start: int, stop: int | None) -> Places:
    return Places(*(column[start:stop] for column in places))


def _rows(documents: Documents, start: int, stop: int | None) -> Documents:
    return Documents(documents.blob, *(column[start:stop] for column in documents[1:]))


def _trimmed(documents: Documents) -> Documents:
    """Without the bytes in front of and behind its rows."""
    if not len(documents.at):
        return documents._replace(blob=b"")
    start, stop = int(documents.at.min()), int((documents.at + documents.doc_len).max())
    return documents._replace(blob=documents.blob[start:stop], at=documents.at - np.uint64(start))


def _joined(one: tuple[Places, Documents], other: tuple[Places, Documents]) -> tuple[Places, Documents]:
    """Two runs of one source after each other."""
    if not len(one[0].shard):
        return other
    places = Places(*(np.concatenate(pair) for pair in zip(one[0], other[0])))
    return places, _concatenated([one[1], other[1]])


def _together(parts: list[tuple[Places, Documents]]) -> tuple[Places, Documents]:
    """The rows of all sources in commit order."""
    places = Places(*(np.concatenate(columns) for columns in zip(*(places for places, _ in parts))))
    documents = _concatenated([documents for _, documents in parts])
    by_order = np.argsort(documents.order)
    return Places(*(column[by_order] for column in places)), Documents(
        documents.blob, *(column[by_order] for column in documents[1:])
    )


def _concatenated(parts: list[Documents]) -> Documents:
    sizes = np.cumsum([0] + [len(part.blob) for part in parts])
    at = [part.at + np.uint64(size) for part, size in zip(parts, sizes.tolist())]
    return Documents(
        b"".join([part.blob for part in parts]),
        np.concatenate(at),
        np.concatenate([part.doc_len for part in parts]),
        np.concatenate([part.order for part in parts]),
    )
