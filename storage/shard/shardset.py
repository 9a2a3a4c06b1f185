"""ShardSet: everything that one checkpoint names, open for reading. Immutable; what a read view stands on.

    key ── hash64 ──> shard = hash % shards ── segments, newest first ──> location ── log, crc ──> record

Open files and mapped segments are shared with the set before where both name them, and closed when the last set that has
them goes. A segment that is not the one the checkpoint means is rebuilt in memory from the shard's logs and told as a
finding (INV-5); the next seal writes a new one.

find_now runs on the event loop: it reads only what is in memory already and says COLD otherwise. With four segments it costs
about 6 µs, 3 µs when there is no such key; the database keeps what was read lately (cache.py). open, find and scan (4 µs a row) block: they run behind the
disk seam.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Literal

import numpy as np

from .. import native
from ..commit.codec import CATALOG, Op
from ..disk import Disk
from ..errors import DamagedRecord
from ..finding import Finding, Severity
from ..index.keyfilter import KeyFilter
from ..index.primary import GENERATION_SHIFT, OFFSET_MASK, Segment, SegmentInfo, live_locations
from ..values.keys import hash64, hash_keys
from ..versions.statehash import CollectionState
from .checkpoint import Checkpoint, IndexFile, ShardFiles
from .fetching import Fetched, Files
from .logfile import Row, ShardLog
from .rebuild import HashKey, rebuild_index
from .record import ShardRecord

FILTER_KEYS_MIN = 2**18
SEARCHED_TOGETHER_MIN = 64  # keys: fewer are looked up one by one
FILTER_SLICE = 16_384  # keys added at a time, about 0.3 ms
SCAN_LOCATIONS_MAX = 65_536  # of one shard, made ready to be read at a time
SCAN_ROWS_MAX = 256  # in one batch
SCAN_BATCH_BYTES_MAX = 2**20  # of documents in one batch, but always one row
SCAN_CHUNK_BYTES = 2**20  # read from one shard at a time
SCAN_BUFFERS_BYTES_MAX = 64 * 2**20  # over all shards
SCAN_CHUNK_BYTES_MIN = 64 * 2**10


class Lookup(Enum):
    """Answers that are not a record."""

    MISSING = "no live record has this key"
    COLD = "the answer needs the device: ask again with find, behind the disk seam"


MISSING: Literal[Lookup.MISSING] = Lookup.MISSING
COLD: Literal[Lookup.COLD] = Lookup.COLD


class Shard:
    """One shard's open files. segments: newest first."""

    __slots__ = ("files", "is_rebuilt", "logs", "segments")

    def __init__(self, files: ShardFiles, logs: dict[int, ShardLog], segments: list[Segment], *, is_rebuilt: bool) -> None:
        self.files = files
        self.logs = logs  # by generation, in order of writing
        self.segments = segments
        self.is_rebuilt = is_rebuilt

    def log_of(self, location: int) -> ShardLog:
        """Raises DamagedRecord for a location in no file of the shard."""
        log = self.logs.get(location >> GENERATION_SHIFT)
        if log is None:
            raise DamagedRecord(f"the index names log generation {location >> GENERATION_SHIFT}, which does not exist")
        return log

    def read(self, location: int, length: int) -> ShardRecord:
        return self.log_of(location).read(location & OFFSET_MASK, length)


class ShardSet:
    """The sealed state of a database at `seq`."""

    def __init__(self, checkpoint: Checkpoint, shards: list[Shard], findings: list[Finding], hash_key: HashKey) -> None:
        self.checkpoint = checkpoint
        self.seq = checkpoint.seq
        self.shards = shards
        self.open_scans = 0  # views count them here
        self.findings = findings
        self.filter: KeyFilter | None = None  # of every key here, once know_keys() has run
        self._hash_key = hash_key
        self._files: Files | None = None
        self._states = {number: state for number, (_, state) in checkpoint.states().items()}

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        checkpoint: Checkpoint,
        previous: ShardSet | None = None,
        *,
        hash_key: HashKey = hash64,
    ) -> ShardSet:
        """Blocking. Raises DamagedRecord when a shard log is missing or short, or damaged where an index must be rebuilt
        from it. previous: a set of the same open database."""
        findings: list[Finding] = []
        shards = []
        for number, files in enumerate(checkpoint.shards):
            before = previous.shards[number] if previous is not None else None
            opener = _ShardOpener(disk, directory, checkpoint, number, before)
            shards.append(opener.open(files, findings, hash_key))
        return cls(checkpoint, shards, findings, hash_key)

    def with_shards(self, shards: list[Shard]) -> ShardSet:
        """The same checkpoint with other open files."""
        return ShardSet(self.checkpoint, shards, self.findings, self._hash_key)

    def know_keys(self, previous: ShardSet | None) -> None:
        """Fill the filter: previous's, which is shared, with the segments that are new, or one of its own. Blocking, and in slices, so that
        the event loop's thread gets its turns meanwhile (INV-9). Without the kernel there is no filter."""
        if native.KERNEL is None:
            return
        known = previous.filter if previous is not None else None
        segments = [segment for shard in self.shards for segment in shard.segments]
        if known is not None:
            fresh = [segment for segment in segments if segment.info.last > previous.seq]
            if known.count + sum(segment.count for segment in fresh) > known.capacity:
                known = None
        if known is None:
            fresh = segments
            known = KeyFilter(max(FILTER_KEYS_MIN, 2 * sum(segment.count for segment in segments)))
        for segment in fresh:
            for start in range(0, segment.count, FILTER_SLICE):
                known.add(segment.columns.hash[start : start + FILTER_SLICE])
        self.filter = known

    def find_now(self, collection: int, key: bytes) -> ShardRecord | Literal[Lookup.MISSING, Lookup.COLD]:
        """The live record of a key if memory has the answer. Raises DamagedRecord."""
        hashed = self._hash_key(collection, key)
        shard = self.shards[hashed % len(self.shards)]
        for segment in shard.segments:
            for location, length, _ in segment.find(hashed):
                log = shard.log_of(location)
                data = log.file.read_now(location & OFFSET_MASK, length)
                if data is None:
                    return COLD
                found = log.decode(data, 0, location & OFFSET_MASK)
                if found.id == key and found.collection == collection:
                    return found if found.op == Op.PUT else MISSING
        return MISSING

    def find(self, collection: int, key: bytes) -> ShardRecord | Literal[Lookup.MISSING]:
        """The same, waiting for the device."""
        newest = self._newest(collection, key)
        return newest[1] if newest is not None and newest[1].op == Op.PUT else MISSING

    def find_many(
        self, collection: int, keys: Sequence[bytes]
    ) -> list[ShardRecord | Literal[Lookup.MISSING]]:
        """find() of each; keys that were never here cost hardly anything."""
        if self.filter is not None:
            may_hold = self.filter.may_hold(collection, keys)
            if 1 not in may_hold:
                return [MISSING] * len(keys)
        elif len(keys) >= SEARCHED_TOGETHER_MIN:
            may_hold = self._hashes_held(collection, keys)
        else:
            return [self.find(collection, key) for key in keys]
        return [self.find(collection, key) if may else MISSING for key, may in zip(keys, may_hold)]

    def _hashes_held(self, collection: int, keys: Sequence[bytes]) -> list[bool]:
        """Whether the index has an entry with the hash of each key: what the filter would say, at 2 µs a key instead of 13."""
        if self._hash_key is hash64:
            lengths = np.fromiter(map(len, keys), np.uint32, len(keys))
            at = np.cumsum(lengths, dtype=np.uint64) - lengths
            numbers = np.full(len(keys), collection, np.uint32)
            hashes = np.frombuffer(hash_keys(b"".join(keys), at, lengths, numbers), np.uint64)
        else:
            hashes = np.array([self._hash_key(collection, key) for key in keys], np.uint64)
        order = np.argsort(hashes)  # neighbours are found in the same lines of memory
        hashes = hashes[order]
        shard_of = hashes % np.uint64(len(self.shards))
        held = np.zeros(len(keys), bool)
        for number, shard in enumerate(self.shards):
            mine = np.flatnonzero(shard_of == np.uint64(number))
            if len(mine):
                asked = hashes[mine]
                for segment in shard.segments:
                    held[order[mine]] |= segment.holds(asked)
        return held.tolist()

    def find_location(self, collection: int, key: bytes) -> int | None:
        """Where the live record of a key is. Blocking."""
        newest = self._newest(collection, key)
        return newest[0] if newest is not None and newest[1].op == Op.PUT else None

    def _newest(self, collection: int, key: bytes) -> tuple[int, ShardRecord] | None:
        hashed = self._hash_key(collection, key)
        shard = self.shards[hashed % len(self.shards)]
        return _newest_in(shard.segments, shard, hashed, collection, key)

    def fetch(
        self, shard: np.ndarray, location: np.ndarray, length: np.ndarray, needles: tuple[bytes, ...] = (), *, waits: bool = True
    ) -> Fetched:
        """(key, document) of the records at these places; see fetching.Files."""
        if self._files is None:
            self._files = Files(self.shards)
        return self._files.fetch(shard, location, length, needles, waits=waits)

    def count(self, collection: int) -> int:
        """Live documents; 0 for a collection that the checkpoint does not know."""
        if collection == CATALOG:
            return len(self._states)
        state = self._states.get(collection)
        return state.count if state is not None else 0

    def state_of(self, collection: int) -> CollectionState:
        """A copy of the collection's part of the state hash."""
        state = self._states.get(collection)
        return state.copy() if state is not None else CollectionState()

    def scan(self, collection: int, *, chunk_bytes: int = SCAN_CHUNK_BYTES, rows_max: int = SCAN_ROWS_MAX) -> Iterator[list[Row]]:
        """Every live row of a collection in order of writing, in batches of at most rows_max rows. Blocking.

        Reads each file from front to back, about chunk_bytes at a time. Raises DamagedRecord.
        """
        chunk_bytes = max(SCAN_CHUNK_BYTES_MIN, min(chunk_bytes, SCAN_BUFFERS_BYTES_MAX // len(self.shards)))
        sources = [_rows_of(shard, collection, chunk_bytes) for shard in self.shards]
        for rows in _merged(sources):
            yield from _batches(rows, rows_max)


def _newest_in(
    segments: Sequence[Segment], shard: Shard, hashed: int, collection: int, key: bytes
) -> tuple[int, ShardRecord] | None:
    for segment in segments:
        for location, length, _ in segment.find(hashed):
            found = shard.read(location, length)
            if found.id == key and found.collection == collection:
                return location, found
    return None


def _rows_of(shard: Shard, collection: int, chunk_bytes: int) -> Iterator[list[Row]]:
    """One shard's live rows in order of writing. Held while it runs: 12 bytes a row of the shard."""
    locations, lengths = live_locations(shard.segments, collection)
    for generation, log in shard.logs.items():
        bounds = np.array([generation << GENERATION_SHIFT, (generation + 1) << GENERATION_SHIFT], np.uint64)
        first, end = np.searchsorted(locations, bounds).tolist()  # ascending, and the generation stands in the highest bits
        for start in range(first, end, SCAN_LOCATIONS_MAX):
            some = slice(start, min(start + SCAN_LOCATIONS_MAX, end))
            offsets = (locations[some] & np.uint64(OFFSET_MASK)).astype(np.int64)
            yield from log.rows_at(offsets, lengths[some].astype(np.int64), chunk_bytes, collection)


def _merged(sources: Sequence[Iterator[list[Row]]]) -> Iterator[list[Row]]:
    """Rows of several ordered sources in one order. Each round takes all rows up to the lowest last row at hand, so that
    at least one source is used up and asked again; sorting runs that are sorted already is one pass in C."""
    order: Callable[[Row], tuple[int, int]] = lambda row: row[:2]  # noqa: E731
    pending = [(rows, source) for source in sources if (rows := _next_rows(source))]
    while pending:
        last = min(order(rows[-1]) for rows, _ in pending)
        ready: list[Row] = []
        left = []
        for rows, source in pending:
            cut = bisect_right(rows, last, key=order)
            ready += rows[:cut]
            rest = rows[cut:] or _next_rows(source)
            if rest:
                left.append((rest, source))
        pending = left
        ready.sort()  # by seq and row, which no two rows share
        yield ready


def _next_rows(source: Iterator[list[Row]]) -> list[Row]:
    return next((rows for rows in source if rows), [])


def _batches(rows: list[Row], rows_max: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == rows_max or size + len(row[3]) > SCAN_BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row[3])
    if batch:
        yield batch


def open_shard(
    disk: Disk, directory: str, checkpoint: Checkpoint, number: int, *, hash_key: HashKey = hash64
) -> Shard:
    """One shard alone. Blocking. Raises as ShardSet.open does."""
    return _ShardOpener(disk, directory, checkpoint, number, None).open(checkpoint.shards[number], [], hash_key)


class _ShardOpener:
    """Opens one shard, taking from the set before what is the same file."""

    def __init__(self, disk: Disk, directory: str, checkpoint: Checkpoint, number: int, before: Shard | None) -> None:
        self._disk = disk
        self._directory = directory
        self._checkpoint = checkpoint
        self._number = number
        self._before = before
        self._segments: dict[IndexFile, Segment] = {}
        if before is not None and not before.is_rebuilt:
            self._segments = dict(zip(before.files.index, reversed(before.segments)))

    def open(self, files: ShardFiles, findings: list[Finding], hash_key: HashKey) -> Shard:
        logs = {log.generation: self._log(log) for log in files.logs}
        try:
            segments = [self._segment(index) for index in reversed(files.index)]
            is_rebuilt = False
        except DamagedRecord as error:
            info = SegmentInfo(bytes.fromhex(self._checkpoint.uuid), self._number, 0, self._checkpoint.seq)
            segments = [Segment(rebuild_index(list(logs.values()), info, hash_key))]
            is_rebuilt = True
            findings.append(
                Finding(
                    Severity.WARNING,
                    str(error.fields.get("file", self._directory)),
                    -1,
                    f"primary index of shard {self._number}: {error.message}",
                    "rebuilt in memory from the shard's logs; the next seal writes it anew",
                )
            )
        return Shard(files, logs, segments, is_rebuilt=is_rebuilt)

    def _log(self, entry) -> ShardLog:
        known = self._before.logs.get(entry.generation) if self._before is not None else None
        path = f"{self._directory}/{entry.file}"
        if known is not None and known.path == path and entry.length >= known.entry.length:
            return known.extended(entry)
        return ShardLog.open(self._disk, self._directory, entry)

    def _segment(self, index: IndexFile) -> Segment:
        known = self._segments.get(index)
        return known or Segment.open(self._disk, f"{self._directory}/{index.file}", index.xxh3)
