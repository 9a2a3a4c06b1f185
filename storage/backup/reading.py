"""Documents out of a backup where it lies: nothing is restored and nothing written. Blocking; jobs for a worker.

    manifest ── checkpoint ── one shard's index, checked ──> records, each checked ──> a page of documents, and where the next one begins

By `_id` the primary index is asked, as in an open database. Everything else goes shard by shard in order of writing, so that what is needed to go on
is a shard and a location: no page leaves anything open behind it, and a page holds one shard's index and PAGE_BYTES_MAX of documents, however large
the backup is. A page ends early when it has looked at SCAN_BYTES_MAX without finding enough (INV-8). Costs of a page: opening one shard, some 0.3 s for a million
documents in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..commit.codec import Op
from ..disk import Disk
from ..errors import BadRequest, DamagedRecord
from ..index.primary import GENERATION_SHIFT, OFFSET_MASK, live_locations
from ..query.filters import Filter, compile_filter
from ..query.weight import is_slow
from ..shard import checkpoint as checkpoints
from ..shard.checkpoint import Checkpoint
from ..shard.logfile import ShardLog, damage
from ..shard.record import ShardRecord
from ..shard.shardset import MISSING, Shard, ShardSet, open_shard
from ..values.documents import decode, decode_value
from ..values.keys import canonical, hash64
from .composed import view_of
from .copying import other_disk

PAGE_BYTES_MAX = 4 * 2**20  # of documents in a page, but always one
PAGE_ROWS_MAX = 10_000
SCAN_BYTES_MAX = 64 * 2**20  # of records looked at for a page
SLOW_ROWS_MAX = 2_000  # looked at for a page with a filter that may take long over one document
IDS_MAX = 1_000  # of one page
CHUNK_BYTES = 2**20


class Place(NamedTuple):
    """Where a page ended: after the record at this location of this shard; of ids, after so many of them."""

    shard: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOrder:
    """What to read. root "" or absolute, directory below it: the backup; spec: a filter, encoded; ids: encoded `_id`s, looked up one by one, where
    None means every document; limit 0: as many as a page takes."""

    root: str
    directory: str
    seq: int
    collection: str
    spec: bytes = b""
    ids: tuple[bytes, ...] | None = None
    place: Place = field(default_factory=Place)
    limit: int = 0


@dataclass(slots=True)
class Page:
    """next: where to go on, None at the end."""

    documents: list[bytes] = field(default_factory=list)
    next: Place | None = None
    bytes: int = 0

    def add(self, data: bytes) -> None:
        self.documents.append(data)
        self.bytes += len(data)

    def is_full(self, limit: int) -> bool:
        return self.bytes >= PAGE_BYTES_MAX or len(self.documents) >= min(limit or PAGE_ROWS_MAX, PAGE_ROWS_MAX)


def collections_in(disk: Disk, root: str, directory: str, seq: int) -> list[tuple[str, int]]:
    """(name, documents) of every collection that the backup holds. Raises DamagedRecord, NewerFormat."""
    checkpoint = _Backup.open(disk, root, directory, seq).checkpoint
    return sorted((name, entry.count) for name, entry in checkpoint.collections.items() if not name.startswith("$"))


def read_page(disk: Disk, order: ReadOrder) -> Page:
    """The next documents. Raises DamagedRecord naming the file that is not what it was, NewerFormat, BadRequest, BadQuery."""
    backup = _Backup.open(disk, order.root, order.directory, order.seq)
    entry = backup.checkpoint.collections.get(order.collection)
    if entry is None:
        raise BadRequest(f"there is no collection {order.collection!r} in {order.directory}: list them")
    matches = compile_filter(decode_value(order.spec) if order.spec else {})
    if order.ids is not None:
        if len(order.ids) > IDS_MAX:
            raise BadRequest(f"{len(order.ids)} ids at once, at most {IDS_MAX}")
        keys = [canonical(decode_value(one)) for one in order.ids]
        return backup.by_keys(entry.id, keys, matches, order)
    if matches.point[0]:
        return backup.by_keys(entry.id, [matches.point[1] or b""], matches, order)
    return backup.scan(entry.id, matches, order)


class _Backup:
    """One backup, open for reading."""

    def __init__(self, view: Disk, directory: str, checkpoint: Checkpoint) -> None:
        self._view = view
        self._directory = directory
        self.checkpoint = checkpoint

    @classmethod
    def open(cls, disk: Disk, root: str, directory: str, seq: int) -> _Backup:
        view = view_of(other_disk(disk, root), directory)
        try:
            return cls(view, directory, checkpoints.load(view, directory, seq))
        except FileNotFoundError as error:
            path = checkpoints.path_of(directory, seq)
            raise DamagedRecord(f"{path}: missing; choose another backup", file=path, offset=0) from error

    def by_keys(self, collection: int, keys: Sequence[bytes], matches: Filter, order: ReadOrder) -> Page:
        page, shards = Page(), len(self.checkpoint.shards)
        opened: dict[int, ShardSet] = {}
        for number, key in enumerate(keys[order.place.after :], order.place.after):
            if page.is_full(order.limit):
                page.next = Place(0, number)
                break
            at = hash64(collection, key) % shards
            if at not in opened:
                opened[at] = self._set_of(at)
            found = opened[at].find(collection, key)
            if found is not MISSING and _holds(matches, found.doc):
                page.add(found.doc)
        return page

    def _set_of(self, number: int) -> ShardSet:
        """One shard in a set of as many, so that keys lead to it."""
        shard = open_shard(self._view, self._directory, self.checkpoint, number)
        return ShardSet(self.checkpoint, [shard] * len(self.checkpoint.shards), [], hash64)

    def scan(self, collection: int, matches: Filter, order: ReadOrder) -> Page:
        page = Page()
        bytes_left, rows_left = SCAN_BYTES_MAX, SLOW_ROWS_MAX if is_slow(matches.tree) else SCAN_BYTES_MAX
        after = order.place.after
        for number in range(order.place.shard, len(self.checkpoint.shards)):
            shard = open_shard(self._view, self._directory, self.checkpoint, number)
            for location, found in _records_after(shard, collection, after):
                if _holds(matches, found.doc):
                    page.add(found.doc)
                bytes_left -= len(found.doc)
                rows_left -= 1
                if page.is_full(order.limit) or bytes_left <= 0 or rows_left <= 0:
                    page.next = Place(number, location)
                    return page
            after = 0
        return page


def _holds(matches: Filter, data: bytes) -> bool:
    return not matches.spec or matches(decode(data))


def _records_after(shard: Shard, collection: int, after: int) -> Iterator[tuple[int, ShardRecord]]:
    """(location, record) of one shard's live records in a collection, in order of location, which is that of writing within a file."""
    locations, lengths = live_locations(shard.segments, collection)
    for generation in sorted(shard.logs):
        lowest = max(after + 1, generation << GENERATION_SHIFT)
        bounds = np.array([lowest, (generation + 1) << GENERATION_SHIFT], np.uint64)
        first, end = np.searchsorted(locations, bounds).tolist()
        if first < end:
            offsets = (locations[first:end] & np.uint64(OFFSET_MASK)).astype(np.int64)
            for offset, found in _records_at(shard.logs[generation], offsets, lengths[first:end].astype(np.int64), collection):
                yield generation << GENERATION_SHIFT | offset, found


def _records_at(log: ShardLog, offsets: np.ndarray, lengths: np.ndarray, collection: int) -> Iterator[tuple[int, ShardRecord]]:
    for records in log.records_at(offsets, lengths, CHUNK_BYTES):
        for offset, found in records:
            if found.collection != collection or found.op != Op.PUT:
                raise damage(log.path, offset, "the index takes this record for a live one of another collection")
            yield offset, found
