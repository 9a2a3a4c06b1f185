"""The records that a batch of writes supersedes: found by hash, read together, compared by columns. Blocks, reads only.

    segments, newest first ── rows whose hash is there ── their records, in the order of the file ── same key? ──> Older

Rows whose hash no segment has cost a share of one sorted search and no read. Records near each other are read at once, at
most CHUNK_BYTES and one record at a time (INV-8). Each record read is checked by encoding it again: equal bytes mean that both its
checksums hold. Costs: about 1 µs a row found in the page cache with the kernel, 3 µs without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..commit.columns import structures_at
from ..index.primary import GENERATION_SHIFT, LENGTH_MASK, OFFSET_MASK
from .gather import Rows, distinct, equal_bytes
from .logfile import ShardLog, damage
from .record import BODY_UNCHECKED, HEADER_BYTES, HEADER_TYPE, shard_records
from .shardset import Shard

CHUNK_BYTES = 2**20  # of one log, read and compared at a time
GAP_BYTES_MAX = 2_048  # a gap between wanted records that is cheaper to read over than to ask twice


class Older(NamedTuple):
    """Newest records of some of the rows asked about, deletions included; no row comes twice.

    which: the rows; doc_at, doc_len: where in blob the document stands; order: its seq << 16 | row."""

    which: np.ndarray
    location: np.ndarray
    op: np.ndarray
    blob: bytes
    doc_at: np.ndarray
    doc_len: np.ndarray
    order: np.ndarray


def older_records(shard: Shard, rows: Rows) -> Iterator[Older]:
    """What the shard holds of the rows' keys. Raises DamagedRecord, OSError."""
    is_open = np.ones(len(rows.hash), bool)
    order = np.argsort(rows.hash)  # ascending hashes make one search of a segment a walk
    for segment in shard.segments:
        asked = order[is_open[order]]
        if segment.count == 0 or not len(asked):
            continue
        hashes = segment.columns.hash
        wanted = rows.hash[asked]
        entry = np.searchsorted(hashes, wanted)
        while True:  # once, unless keys collide
            has = hashes[np.minimum(entry, segment.count - 1)] == wanted
            has &= (entry < segment.count) & is_open[asked]
            asked, entry, wanted = asked[has], entry[has], wanted[has]
            if not len(asked):
                break
            locations = segment.columns.location[entry]
            lengths = (segment.columns.length[entry] & LENGTH_MASK).astype(np.int64)
            for found in _records_at(shard, rows, asked, locations, lengths):
                is_open[found.which] = False
                yield found
            entry = entry + 1


def _records_at(
    shard: Shard, rows: Rows, asked: np.ndarray, locations: np.ndarray, lengths: np.ndarray
) -> Iterator[Older]:
    """Of the records at those locations the ones with the key of the row that asked."""
    by_place = np.argsort(locations)
    asked, locations, lengths = asked[by_place], locations[by_place], lengths[by_place]
    generations = locations >> np.uint64(GENERATION_SHIFT)
    offsets = (locations & np.uint64(OFFSET_MASK)).astype(np.int64)
    for generation in distinct(generations):
        mine = np.flatnonzero(generations == generation)
        log = shard.log_of(generation << GENERATION_SHIFT)
        for first, end, buffer, at in read_chunks(log, offsets[mine], lengths[mine]):
            some = mine[first:end]
            heads = structures_at(buffer, HEADER_TYPE, at)
            check_records(log, buffer, at, heads, offsets[some], lengths[some])
            which = asked[some]
            has_key = (heads["collection"] == rows.collection[which]) & (heads["id_len"] == rows.key_len[which])
            left = np.flatnonzero(has_key)
            key_at, of = at[left] + HEADER_BYTES, which[left]
            has_key[left] = equal_bytes(buffer, key_at, rows.blob, rows.at[of], rows.key_len[of])
            heads = heads[has_key]
            doc_at = (at[has_key] + HEADER_BYTES + heads["id_len"]).astype(np.uint64)
            order = heads["seq"].astype(np.uint64) << np.uint64(16) | heads["row"].astype(np.uint64)
            yield Older(which[has_key], locations[some][has_key], heads["op"], buffer, doc_at, heads["doc_len"].copy(), order)


def read_chunks(
    log: ShardLog, offsets: np.ndarray, lengths: np.ndarray
) -> Iterator[tuple[int, int, bytes, np.ndarray]]:
    """(first, end, buffer, at): records first to end (not included) of the ascending offsets stand at `at` in the buffer."""
    ends = offsets + lengths
    blocks = offsets // CHUNK_BYTES
    is_break = (offsets[1:] > ends[:-1] + GAP_BYTES_MAX) | (blocks[1:] != blocks[:-1])
    first = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(is_break) + 1))  # record of each span
    span_at = offsets[first]
    span_len = np.append(ends[first[1:] - 1], ends[-1]) - span_at
    total = np.cumsum(span_len)
    begin = 0
    while begin < len(first):
        start = int(total[begin - 1]) if begin else 0
        stop = max(begin + 1, int(np.searchsorted(total, start + CHUNK_BYTES, "right")))
        read_at = log.file.read_at
        buffer = b"".join([read_at(*span) for span in zip(span_at[begin:stop].tolist(), span_len[begin:stop].tolist())])
        if len(buffer) != int(total[stop - 1]) - start:
            raise damage(log.path, int(span_at[begin]), "the file ends within a record that the index names")
        low = int(first[begin])
        high = int(first[stop]) if stop < len(first) else len(offsets)
        records = np.diff(np.append(first[begin:stop], high))
        shift = total[begin:stop] - span_len[begin:stop] - start - span_at[begin:stop]
        yield low, high, buffer, offsets[low:high] + np.repeat(shift, records)
        begin = stop


def check_records(
    log: ShardLog, buffer: bytes, at: np.ndarray, heads: np.ndarray, offsets: np.ndarray, lengths: np.ndarray
) -> None:
    """Raises DamagedRecord unless every record is what was written: encoded again it gives the same bytes."""
    sizes = HEADER_BYTES + heads["id_len"].astype(np.int64) + heads["doc_len"]
    flags = heads["flags"]
    with_crc = not flags.any()
    if (sizes == lengths).all() and (with_crc or (flags == BODY_UNCHECKED).all()):
        parts = [buffer[start:end] for start, end in zip(at.tolist(), (at + sizes).tolist())]
        again = shard_records(
            buffer,
            heads["op"].copy(),
            heads["collection"].copy(),
            (at + HEADER_BYTES).astype(np.uint64),
            heads["id_len"].astype(np.uint32),
            heads["doc_len"].copy(),
            heads["seq"].copy(),
            heads["row"].copy(),
            heads["time_us"].copy(),
            crc=with_crc,
        )
        if b"".join(parts) == again:
            return
    for start, offset, length in zip(at.tolist(), offsets.tolist(), lengths.tolist()):
        log.decode(buffer[start : start + length], 0, offset)
