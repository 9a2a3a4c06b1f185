"""Read views: one state of a database, unmoved by later writes, seals and removals (INV-2, INV-3).

A view pins a checkpoint's open files, the memtables above it, the catalog and a seq. Reads of warm data happen in place;
cold data goes through the disk seam. A view ends by age with SnapshotTooOld.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from .catalog import Catalog
from .commit.codec import Op
from .commit.memtable import Memtable, Version
from .disk import Disk
from .errors import SnapshotTooOld
from .fields.indexed import Fields
from .fields.opened import OpenSegment
from .fields.overlay import order_of
from .indexes.parts import Standing, Topmost, standing
from .position import Position
from .shard.shardset import COLD, MISSING, SCAN_CHUNK_BYTES, ShardSet
from .versions.statehash import CollectionState, hash_document, state_hash

if TYPE_CHECKING:
    from .field_index import Indexing
    from .step_pace import StepPace

SLICE_KEYS = 256  # between two looks at the clock; a key costs up to 15 µs
SLICE_S = 0.003  # how long one slice may hold the loop (INV-9)
SCAN_ROWS = 256
SCANS_BYTES = 128 * 2**20  # of buffers of all scans that are open, about: many of them read in smaller pieces
KEYS_IN_PLACE_MAX = 2_000  # of memtables, looked at in one piece on the loop: about 1 ms

T = TypeVar("T")
Row = tuple[int, int, bytes, bytes]  # seq, row, id, document


class View:
    """One state. `seq` is its newest commit; everything here answers as of that commit."""

    def __init__(
        self,
        disk: Disk,
        shards: ShardSet | None,
        memtables: tuple[Memtable, ...],
        catalog: Catalog,
        position: Position,
        age_max_s: float,
        indexing: Indexing | None = None,
    ) -> None:
        assert shards is None or shards.seq <= position.seq, "a view never looks below its checkpoint"
        self._disk = disk
        self._shards = shards
        self._memtables = self._shared = memtables  # newest first; those that are the database's own
        self.catalog = catalog
        self.position = position
        self.seq = position.seq
        self._ends_at = trio.current_time() + age_max_s
        self._indexing = indexing
        self._index = indexing.index if indexing is not None else None

    def collections(self) -> list[str]:
        return self.catalog.names()

    def check_age(self) -> None:
        if trio.current_time() > self._ends_at:
            raise SnapshotTooOld(f"the read view at seq {self.seq} reached its maximum age; run the query again")

    def newest_rows(self, collection: int) -> Mapping[bytes, Version]:
        """What the newest memtable holds of a collection."""
        return self._memtables[0].rows.get(collection, {})

    def overlay(self, collection: int, key: bytes) -> Version | None:
        """The memtables' version of a key, deletions included; None when they have none."""
        for memtable in self._memtables:
            version = memtable.at(collection, key, self.seq)
            if version is not None:
                return version
        return None

    def get_now(self, collection: int, key: bytes) -> bytes | None | object:
        """The document, None, or COLD when the device would have to be waited for."""
        version = self.overlay(collection, key)
        if version is not None:
            return version[3] if version[2] == Op.PUT else None
        return self._base_now(collection, key)

    async def get(self, collection: int, key: bytes) -> bytes | None:
        found = self.get_now(collection, key)
        if found is COLD:
            found = await self._disk.run(self._base_blocking, collection, key)
        return found

    def get_blocking(self, collection: int, key: bytes) -> bytes | None:
        """For offline use and for the disk's own threads."""
        version = self.overlay(collection, key)
        if version is not None:
            return version[3] if version[2] == Op.PUT else None
        return self._base_blocking(collection, key)

    async def newest_seqs(self, collection: int, keys: Sequence[bytes]) -> list[int | None]:
        """Of each key the commit that last wrote its document; None where there is no such document."""
        found: list[int | None] = [None] * len(keys)
        open_ends = []
        for at, key in enumerate(keys):
            version = self.overlay(collection, key)
            if version is None:
                open_ends.append(at)
            elif version[2] == Op.PUT:
                found[at] = version[0]
        if self._shards is not None and open_ends:
            records = await self._disk.run(self._shards.find_many, collection, [keys[at] for at in open_ends])
            for at, record in zip(open_ends, records, strict=True):
                found[at] = None if record is MISSING else record.seq
        return found

    async def scan(self, collection: int, *, rows_max: int = SCAN_ROWS) -> AsyncIterator[list[Row]]:
        """Every live row, in commit order, in batches of at most rows_max; the caller's work between batches is its own slice."""
        changed = await self._changed(collection)
        shards = self._shards
        if shards is not None:
            shards.open_scans += 1
            try:
                share = SCANS_BYTES // (shards.open_scans * max(1, len(shards.shards)))
                batches = shards.scan(collection, chunk_bytes=min(SCAN_CHUNK_BYTES, share), rows_max=rows_max)
                while (batch := await self._disk.run(_next_batch, batches)) is not None:
                    self.check_age()
                    kept = [row for row in batch if row[2] not in changed] if changed else batch
                    if kept:
                        yield kept
            finally:
                shards.open_scans -= 1
        rows = await self._where_it_fits(len(changed), _rows_in_order, changed)
        for start in range(0, len(rows), rows_max):
            await trio.lowlevel.checkpoint()
            self.check_age()
            yield rows[start : start + rows_max]

    async def count(self, collection: int) -> int:
        """Live documents of one collection."""
        changed = await self._changed(collection)
        total = sum(version[2] == Op.PUT for version in changed.values())
        if self._shards is not None:
            older = await self._disk.run(self._shards.find_many, collection, list(changed)) if changed else []
            total += self._shards.count(collection) - sum(record is not MISSING for record in older)
        return total

    async def state_hash(self) -> str:
        """The hash of everything visible here (INV-6): the checkpoint's sums, changed by what the memtables hold."""
        states = []
        for name, collection in self.catalog.ids.items():
            base = self._shards.state_of(collection) if self._shards is not None else CollectionState(0, 0)
            count, total = base.count, base.total
            async for _, version, old in self._changes(collection):
                if old is not None:
                    count, total = count - 1, total - hash_document(old)
                if version[2] == Op.PUT:
                    count, total = count + 1, total + hash_document(version[3])
            states.append((name, CollectionState(count, total % 2**256)))
        return state_hash(states)

    # By index.

    def is_worth_indexing(self, collection: int) -> bool:
        """Whether a scan of the collection would take long."""
        if self._indexing is None:
            return False
        rows = sum(len(memtable.rows.get(collection, ())) for memtable in self._memtables)
        rows += self._shards.count(collection) if self._shards is not None else 0
        return rows >= max(1, self._indexing.rows_min)

    def has_index(self, collection: int, fields: Fields) -> bool:
        """Whether one of the fields is indexed for the whole collection."""
        segments = self._segments(collection)
        return segments is not None and any(all(s.has(path, uses) for s in segments) for path, uses in fields.items())

    def _segments(self, collection: int) -> Sequence[OpenSegment] | None:
        """What the index has of the sealed rows: nothing when there are none; None when it does not have them all."""
        if self._shards is None or not self._shards.count(collection):
            return ()
        if self._index is None or self._index.state.seq != self._shards.seq:
            return None
        return self._index.segments(collection)

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """A step of a query, in the disk's thread; few at once, since they share one interpreter with the loop (INV-9)."""
        if self._indexing is None:
            return await self._disk.run(call, *args)
        turns = self._indexing.turns
        try:
            turns.acquire_nowait()  # awaiting one that is free would cost a turn of the loop
        except trio.WouldBlock:
            await turns.acquire()
        try:
            return await self._disk.run(call, *args)
        finally:
            turns.release()

    def page_waits(self) -> int:
        return self._disk.page_waits()

    @property
    def pace(self) -> StepPace:
        """How long the questions of this database take. Only where it has an index."""
        assert self._indexing is not None, "no index, no steps"
        return self._indexing.pace

    def want(self, collection: int, fields: Fields) -> None:
        """Queries use these fields: index them, if this view is a database's own."""
        if self._indexing is not None:
            self._indexing.want(collection, fields)

    def asked(self, collection: int) -> None:
        """Queries by index come for this collection."""
        if self._indexing is not None:
            self._indexing.asked(collection)

    async def standing(self, collection: int) -> Standing | None:
        """What a query by index stands on; None when the index does not cover the collection."""
        segments = self._segments(collection)
        if segments is None or self._indexing is None:
            return None
        glances = []
        for number, memtable in enumerate(reversed(self._shared)):
            below = self._shared[len(self._shared) - number :]
            glances.append(await self._indexing.glance(memtable, collection, partial(self._superseded, collection, below)))
        wanted = dict(self._indexing.wanted.get(collection, {}))
        return standing(segments, self._shards, glances, self.seq, wanted, await self._topmost(collection))

    async def _topmost(self, collection: int) -> Topmost | None:
        """Rows above those of the database's memtables: a transaction's."""
        return None

    def _superseded(self, collection: int, below: Sequence[Memtable], keys: Sequence[bytes]) -> list[int]:
        """The orders of the rows that hold the keys below some memtable, -1 where none does. May block."""
        found = [-1] * len(keys)
        open_ends = range(len(keys))
        for memtable in below:
            table = memtable.rows.get(collection, {})
            left = []
            for at in open_ends:
                version = table.get(keys[at])
                if version is None:
                    left.append(at)
                elif version[2] == Op.PUT:
                    found[at] = order_of(version[0], version[1])
            open_ends = left
        if self._shards is not None and open_ends:
            asked = [keys[at] for at in open_ends]
            for at, record in zip(open_ends, self._shards.find_many(collection, asked)):
                if record is not MISSING:
                    found[at] = order_of(record.seq, record.row)
        return found

    async def _changed(self, collection: int) -> dict[bytes, Version]:
        """The newest version here of every key that the memtables hold."""
        keys = [memtable.keys(collection) for memtable in self._memtables]  # copies: writers go on
        return await self._where_it_fits(sum(map(len, keys)), self._newest_of, collection, keys)

    def _newest_of(self, collection: int, keys: Sequence[Sequence[bytes]]) -> dict[bytes, Version]:
        found: dict[bytes, Version] = {}
        for memtable, of_one in zip(self._memtables, keys):
            for key in of_one:
                if key not in found and (version := memtable.at_listed(collection, key, self.seq)) is not None:
                    found[key] = version
        return found

    async def _where_it_fits(self, keys: int, call: Callable[..., T], *args: Any) -> T:
        """Work on so many keys of memtables: in place when it is short, else in the disk's thread (INV-9)."""
        if keys <= KEYS_IN_PLACE_MAX:
            return call(*args)
        return await self._disk.run(call, *args)

    async def _changes(self, collection: int) -> AsyncIterator[tuple[bytes, Version, bytes | None]]:
        """(key, newest version, document in the checkpoint or None), sliced."""
        slice_ends = trio.current_time() + SLICE_S
        for number, (key, version) in enumerate((await self._changed(collection)).items()):
            old = self._base_now(collection, key)
            if old is COLD:
                old = await self._disk.run(self._base_blocking, collection, key)
            yield key, version, old
            if number % SLICE_KEYS == SLICE_KEYS - 1 or trio.current_time() > slice_ends:
                await trio.lowlevel.checkpoint()
                slice_ends = trio.current_time() + SLICE_S

    def _base_now(self, collection: int, key: bytes) -> bytes | None | object:
        if self._shards is None:
            return None
        record = self._shards.find_now(collection, key)
        return None if record is MISSING else COLD if record is COLD else record.doc

    def _base_blocking(self, collection: int, key: bytes) -> bytes | None:
        if self._shards is None:
            return None
        record = self._shards.find(collection, key)
        return None if record is MISSING else record.doc


def _rows_in_order(changed: dict[bytes, Version]) -> list[Row]:
    return sorted((v[0], v[1], key, v[3]) for key, v in changed.items() if v[2] == Op.PUT)


def _next_batch(batches: Iterator[list[Row]]) -> list[Row] | None:
    return next(batches, None)
