"""Primary index segments: from the hash of a key to where its records are in one shard's logs.

`shard_000.sidx.N`, immutable, little-endian, read in place from a mapping:

    0       8         10           12              16       20        24      32       40           56    64
    ├───────┼─────────┼────────────┼───────────────┼────────┼─────────┼───────┼────────┼────────────┼─────┼─────────┤
    │ magic │ version │ header_len │ section_count │ shard  │ zeros   │ first │ last   │ uuid       │ n   │ table   │
    └───────┴─────────┴────────────┴───────────────┴────────┴─────────┴───────┴────────┴────────────┴─────┴─────────┘
     8       u16       u16          u32             u32      u32       u64     u64      16           u64

    first, last   the seqs of the seals it holds: (first, last]
    n             entries
    table         section_count × 24 bytes: kind u32, zeros u32, offset u64, length u64; sections start at multiples of 64

The file carries no checksum: the checkpoint that names it holds the xxh3_64 of all its bytes, and only that makes it valid.
Sections are columns of n values. A reader skips kinds it does not know, so later ones (a bloom filter) need no new version.

    1 HASH        u64   of collection id and canonical key (values/keys.py); ascending, equal ones newest first
    2 LOCATION    u64   file generation << 48 | offset of the record
    3 PREV        u64   location of the record that this one supersedes; NONE (2^64 - 1) when there is none
    4 LENGTH      u32   bytes of the whole record; the highest bit marks a deletion
    5 COLLECTION  u32   collection id

PREV makes liveness exact without comparing keys: a record is superseded exactly when some PREV names it, and two keys with
one hash never touch each other. Within one key the newest entry comes first, whatever file it is in.

A lookup is one bisection (about 1 µs) in n entries. INV-5: all of it can be rebuilt from the logs.
"""

from __future__ import annotations

import struct
import sys
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from ..disk import Disk
from ..errors import DamagedRecord, NewerFormat

assert sys.byteorder == "little", "index columns are mapped in place: little-endian machines only"

HEADER = struct.Struct("<8sHHIIIQQ16sQ")
HEADER_BYTES = 64
SECTION = struct.Struct("<IIQQ")
SECTION_ALIGN = 64
MAGIC = b"TWPRIDX\n"
VERSION = 1
assert HEADER.size == HEADER_BYTES, "the drawing says 64"

HASH, LOCATION, PREV, LENGTH, COLLECTION = range(1, 6)
_TYPES = {HASH: np.uint64, LOCATION: np.uint64, PREV: np.uint64, LENGTH: np.uint32, COLLECTION: np.uint32}

NONE = 2**64 - 1
TOMBSTONE = 0x8000_0000
LENGTH_MASK = 0x7FFF_FFFF
GENERATION_SHIFT = 48
OFFSET_MASK = (1 << GENERATION_SHIFT) - 1
GENERATION_MAX = 0xFFFE

TIER_RATIO = 4  # sizes within this factor are similar, and so many similar neighbours become one
SEGMENTS_MAX = 24  # of one shard; at this number all become one


class SegmentInfo(NamedTuple):
    """Which part of which database a segment indexes: shard, and seqs first < seq <= last."""

    uuid: bytes
    shard: int
    first: int
    last: int


class Columns(NamedTuple):
    """The five columns, of equal length."""

    hash: np.ndarray
    location: np.ndarray
    prev: np.ndarray
    length: np.ndarray
    collection: np.ndarray


NO_COLUMNS = Columns(*(np.empty(0, kind) for kind in _TYPES.values()))


def columns_from_rows(rows: Sequence[tuple[int, int, int, int, int]]) -> Columns:
    """Rows of (hash, location, prev, length with tombstone bit, collection)."""
    if not rows:
        return NO_COLUMNS
    return Columns(*(np.array(column, dtype=kind) for column, kind in zip(zip(*rows), _TYPES.values())))


def build(columns: Columns, info: SegmentInfo) -> bytes:
    """The segment's bytes. Rows of equal hash must stand newest first; otherwise any order will do."""
    if not (columns.hash[1:] >= columns.hash[:-1]).all():
        order = np.argsort(columns.hash, kind="stable")
        columns = Columns(*(column[order] for column in columns))
    sections = [np.ascontiguousarray(column, kind).data.cast("B") for column, kind in zip(columns, _TYPES.values())]
    count = len(columns.hash)
    at = HEADER_BYTES + SECTION.size * len(sections)
    table, parts = [], []
    for kind, section in zip(_TYPES, sections):
        start = -(-at // SECTION_ALIGN) * SECTION_ALIGN
        table.append(SECTION.pack(kind, 0, start, len(section)))
        parts += [bytes(start - at), section]
        at = start + len(section)
    header = HEADER.pack(
        MAGIC, VERSION, HEADER_BYTES, len(sections), info.shard, 0, info.first, info.last, info.uuid, count
    )
    return b"".join([header, *table, *parts])


def checksum(data: bytes | memoryview) -> int:
    """What a checkpoint says of a segment."""
    return xxhash.xxh3_64_intdigest(data)


class Segment:
    """An open segment. Its columns are views of the mapping, which lives as long as the segment does."""

    __slots__ = ("_hashes", "_lengths", "_locations", "columns", "count", "data", "info")

    def __init__(self, data: bytes | memoryview) -> None:
        """data: bytes that build() made, checked by the caller. Raises DamagedRecord, NewerFormat."""
        view = memoryview(data)
        if len(view) < HEADER_BYTES or view[:8] != MAGIC:
            raise DamagedRecord("not a primary index segment")
        _, version, header_len, section_count, shard, _, first, last, uuid, self.count = HEADER.unpack_from(view)
        if version > VERSION:
            raise NewerFormat(f"primary index of format {version}, this program knows {VERSION}: use a newer one")
        self.data = view
        self.info = SegmentInfo(uuid, shard, first, last)
        places = {}
        for number in range(section_count):
            kind, _, offset, length = SECTION.unpack_from(view, header_len + number * SECTION.size)
            places[kind] = view[offset : offset + length]
        self.columns = Columns(*(np.frombuffer(places[kind], dtype) for kind, dtype in _TYPES.items()))
        self._hashes = places[HASH].cast("Q")
        self._locations = places[LOCATION].cast("Q")
        self._lengths = places[LENGTH].cast("I")

    @classmethod
    def open(cls, disk: Disk, path: str, expected_xxh3: int) -> Segment:
        """The segment at path if it is the one the checkpoint means. Reading it all for the checksum also brings it into
        memory, so that look-ups on the loop do not wait. Raises DamagedRecord, NewerFormat."""
        try:
            view = disk.map(path)
        except FileNotFoundError as error:
            raise DamagedRecord(f"{path}: missing", file=path, offset=0) from error
        if checksum(view) != expected_xxh3:
            raise DamagedRecord(f"{path}: checksum differs from the checkpoint's", file=path, offset=0)
        return cls(view)

    def find(self, hash64: int) -> list[tuple[int, int, bool]]:
        """(location, record length, tombstone) of every entry with that hash; for each key the newest first."""
        hashes = self._hashes
        at = bisect_left(hashes, hash64)
        found = []
        while at < self.count and hashes[at] == hash64:
            length = self._lengths[at]
            found.append((self._locations[at], length & LENGTH_MASK, length >= TOMBSTONE))
            at += 1
        return found

    def holds(self, hashes: np.ndarray) -> np.ndarray:
        """bool for each of these u64: whether an entry has it. About 0.1 µs each when they are ascending and many."""
        known = self.columns.hash
        if not len(known):
            return np.zeros(len(hashes), bool)
        at = np.searchsorted(known, hashes)
        return known[np.minimum(at, len(known) - 1)] == hashes


def merge_columns(segments: Sequence[Columns], *, drop_tombstones: bool) -> Columns:
    """One set of columns that finds the same live records as the given ones, which stand oldest to newest.

    An entry goes when another one here supersedes it; whoever pointed at it then points at what it superseded itself, so
    that liveness of entries in segments not merged stays exact. drop_tombstones: a deletion goes too when nothing older
    is left below it (its PREV is NONE); only for merges that take in the newest segment, since a newer entry elsewhere would
    go on pointing at it and then never find out that nothing is below.

    Rows come out in the order of hashes. Costs 40 to 60 ns a row with build.
    """
    newest_first = list(reversed(segments))
    merged = Columns(*(np.concatenate(parts) for parts in zip(*newest_first)))
    order = np.argsort(merged.hash, kind="stable")
    merged = Columns(*(column[order] for column in merged))
    none = np.uint64(NONE)
    keep = np.ones(len(order), bool)
    is_same = merged.hash[1:] == merged.hash[:-1]
    if is_same.any():
        _drop_superseded(merged, is_same, keep)
    if drop_tombstones:
        keep &= ~((merged.length >= TOMBSTONE) & (merged.prev == none))
    return merged if keep.all() else Columns(*(column[keep] for column in merged))


def _drop_superseded(merged: Columns, is_same: np.ndarray, keep: np.ndarray) -> None:
    """Clear `keep` of superseded rows and let prev of those that stay pass over them, both in place.

    A row and the one that it supersedes have one key, hence one hash: they stand in one group, newest first, and nearly always each
    row's prev is the row behind it. Only groups where that is not so (keys whose hashes collide) are searched. is_same: whether
    a row begins no group, for all but the first."""
    is_chained = is_same & (merged.prev[:-1] == merged.location[1:])
    in_odd = np.zeros(len(keep), bool)
    if not (is_chained == is_same).all():
        group = np.concatenate((np.zeros(1, np.int64), np.cumsum(~is_same)))
        is_odd = np.zeros(int(group[-1]) + 1, bool)
        is_odd[group[1:][is_same & ~is_chained]] = True
        in_odd = is_odd[group]
        odd = np.flatnonzero(in_odd)
        location, prev = merged.location[odd], merged.prev[odd]
        superseded = np.isin(location, prev[prev != np.uint64(NONE)])
        keep[odd[superseded]] = False
        merged.prev[odd] = _past(prev, location[superseded], prev[superseded])
    begins = np.flatnonzero(np.append(is_same, False) & ~np.append(False, is_same) & ~in_odd)
    ends = np.flatnonzero(np.append(False, is_same) & ~np.append(is_same, False) & ~in_odd)
    merged.prev[begins] = merged.prev[ends]
    keep[1:] &= ~(is_chained & ~in_odd[1:])


def _past(prev: np.ndarray, gone: np.ndarray, gone_prev: np.ndarray) -> np.ndarray:
    """prev with every location in `gone` replaced by what it superseded, again and again (chains are short)."""
    if not len(gone):
        return prev
    order = np.argsort(gone)
    gone, gone_prev = gone[order], gone_prev[order]
    prev = prev.copy()
    while True:
        at = np.minimum(np.searchsorted(gone, prev), len(gone) - 1)
        hit = gone[at] == prev
        if not hit.any():
            return prev
        prev[hit] = gone_prev[at[hit]]


def merge(segments: Sequence[Segment], *, drop_tombstones: bool = False) -> bytes:
    """The bytes of one segment in place of several neighbours, given oldest to newest."""
    columns = merge_columns([segment.columns for segment in segments], drop_tombstones=drop_tombstones)
    first, last = segments[0].info, segments[-1].info
    return build(columns, SegmentInfo(first.uuid, first.shard, first.first, last.last))


def live_columns(segments: Sequence[Segment]) -> Columns:
    """The entries of all live records of a shard, in no particular order."""
    every = [segment.columns for segment in segments]
    if not every:
        return NO_COLUMNS
    merged = Columns(*(np.concatenate(parts) for parts in zip(*every)))
    live = ~np.isin(merged.location, merged.prev[merged.prev != np.uint64(NONE)]) & (merged.length < TOMBSTONE)
    return Columns(*(column[live] for column in merged))


def live_locations(segments: Sequence[Segment], collection: int) -> tuple[np.ndarray, np.ndarray]:
    """(locations, record lengths) of the live records of one collection, by location."""
    live = live_columns(segments)
    mine = live.collection == collection
    locations, lengths = live.location[mine], live.length[mine]
    del live, mine  # of many megabytes, and whoever scans holds on to this frame's result only
    order = np.argsort(locations)
    return locations[order], lengths[order]


def merge_from(sizes: Sequence[int], ratio: int = TIER_RATIO) -> int:
    """Which segments (entries of each, oldest first, the new one last) become one: all from the returned index on.

    Neighbours count as similar while none is of a higher tier (power of ratio) than the newest; `ratio` of
    them are merged, and the result is compared with what stands before it again. So after n seals there are about
    (ratio - 1) × log_ratio(n) segments and every entry was rewritten about log_ratio(n) times.
    """
    if len(sizes) > SEGMENTS_MAX:
        return 0
    start = len(sizes) - 1
    total = sizes[start]
    while True:
        tier = _tier(total, ratio)
        lowest = start
        while lowest > 0 and _tier(sizes[lowest - 1], ratio) <= tier:
            lowest -= 1
        merged_here = 1  # what stands from start on counts as one
        if start - lowest + merged_here < ratio:
            return start
        total += sum(sizes[lowest:start])
        start = lowest


def _tier(entries: int, ratio: int) -> int:
    tier = 0
    while entries >= ratio:
        entries //= ratio
        tier += 1
    return tier
