"""Where compaction has put a shard's records: from their locations before to those after, as columns and as a file.

`shard_000.g7.moves`, beside the log of generation 7 that a compaction wrote; it lives until a checkpoint has taken that log up, and
is worth nothing after a restart, so nobody syncs it. Little-endian:

    0       8       12           16     32   40     48         48 + 8 n    48 + 16 n
    ├───────┼───────┼────────────┼──────┼────┼──────┼──────────┼───────────┤
    │ magic │ shard │ generation │ uuid │ n  │ xxh3 │ before   │ after     │     before: u64, ascending; xxh3_64 of both columns
    └───────┴───────┴────────────┴──────┴────┴──────┴──────────┴───────────┘
     8       u32     u32          16     u64  u64    8 n        8 n

Costs 16 bytes a live record, mapped; a look-up of sorted locations is a walk, about 50 ns each otherwise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import xxhash

from ..disk import Disk
from ..errors import DamagedRecord
from .primary import GENERATION_SHIFT, NONE, TOMBSTONE, Columns, merge_columns

HEADER = struct.Struct("<8sII16sQQ")
MAGIC = b"TWMOVES1"
WRITE_BYTES = 4 * 2**20
assert HEADER.size == 48, "the drawing says 48"


class Moves:
    """Of one shard. Locations in `generations` have moved or are gone, all others are where they were."""

    __slots__ = ("after", "before", "generations")

    def __init__(self, generations: Iterable[int], before: np.ndarray, after: np.ndarray) -> None:
        """before: ascending."""
        self.generations = np.array(sorted(generations), np.uint64)
        self.before = before
        self.after = after

    def touches(self, locations: np.ndarray) -> np.ndarray:
        """bool: which of the locations do not hold any more."""
        return np.isin(locations >> np.uint64(GENERATION_SHIFT), self.generations)

    def apply(self, locations: np.ndarray) -> np.ndarray:
        """Where the records are now; NONE for those that are gone."""
        after = locations.copy()
        touched = np.flatnonzero(self.touches(locations))
        after[touched] = looked_up(self.before, self.after, locations[touched])
        return after


def looked_up(before: np.ndarray, after: np.ndarray, locations: np.ndarray) -> np.ndarray:
    """What stands in `after` where `before`, ascending, has the location; NONE where it has not."""
    if not len(before):
        return np.full(len(locations), NONE, np.uint64)
    at = np.minimum(np.searchsorted(before, locations), len(before) - 1)
    return np.where(before[at] == locations, after[at], np.uint64(NONE))


def moved_index(segments: list[Columns], moves: Moves, new: Columns) -> tuple[Columns, Columns]:
    """What a shard's segments (oldest first) become, all in one, and its new rows with them: dead entries and deletions are gone
    from the former, and nothing points at them any more."""
    merged = merge_columns(segments, drop_tombstones=False)
    location = moves.apply(merged.location)
    keep = (merged.length < TOMBSTONE) & (location != np.uint64(NONE))
    before, after = merged.location[keep], location[keep]
    none = np.full(len(before), NONE, np.uint64)  # all are the newest of their keys, and nothing older is left
    kept = Columns(merged.hash[keep], after, none, merged.length[keep], merged.collection[keep])
    order = np.argsort(before)
    return kept, new._replace(prev=looked_up(before[order], after[order], new.prev))


def write_moves(
    disk: Disk, path: str, *, uuid: bytes, shard: int, generation: int, before: np.ndarray, after: np.ndarray
) -> None:
    """A new file, not synced. before: ascending."""
    digest = xxhash.xxh3_64()
    for column in (before, after):
        digest.update(np.ascontiguousarray(column).data.cast("B"))
    file = disk.create(path)
    try:
        file.append(HEADER.pack(MAGIC, shard, generation, uuid, len(before), digest.intdigest()))
        for column in (before, after):
            for start in range(0, len(column), WRITE_BYTES // 8):
                file.append(column[start : start + WRITE_BYTES // 8].tobytes())
    finally:
        file.close()


def open_moves(
    disk: Disk, path: str, *, uuid: bytes, shard: int, generation: int, generations: Iterable[int]
) -> Moves:
    """generations: those whose records moved. Raises DamagedRecord for anything but what write_moves() wrote."""
    try:
        view = disk.map(path)
    except FileNotFoundError as error:
        raise DamagedRecord(f"{path} is missing", file=path, offset=0) from error
    if len(view) >= HEADER.size:
        magic, *found, count, digest = HEADER.unpack_from(view)
        body = view[HEADER.size :]
        is_whole = len(body) == 16 * count and xxhash.xxh3_64_intdigest(body) == digest
        if magic == MAGIC and found == [shard, generation, uuid] and is_whole:
            columns = np.frombuffer(body, np.uint64)
            return Moves(generations, columns[:count], columns[count:])
    raise DamagedRecord(f"{path} does not validate", file=path, offset=0)
