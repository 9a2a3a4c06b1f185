"""Sealing seen from the loop: when a memtable is frozen, who runs the job, what is published and what may go.

    active ── full or old ──> frozen ── worker: shard/seal.py ──> checkpoint on disk ──> published ──> frozen is let go

One active and at most one frozen memtable; with both full, writers wait (INV-8). A seal that fails (a full disk, a dead
worker) is tried again with growing pauses; nothing is lost, since the log has it. Files go only below what rewind, standbys,
seeds and the second-newest checkpoint need, and what copies of the live directory may still read (keeping.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from .commit.memtable import Memtable, Version
from .disk import Disk
from .errors import DamagedRecord, TwinlogError
from .keeping import Grace, is_held, within
from .shard import checkpoint as checkpoints
from .shard.checkpoint import Checkpoint
from .shard.seal import SealPlan, seal
from .shard.shardset import ShardSet

if TYPE_CHECKING:
    from .database import Database

log = logging.getLogger("twinlog.sealing")

RETRY_S_MIN, RETRY_S_MAX = 0.5, 30.0
AGE_CHECK_S = 1.0
ROOM_UNPACED = 0.5  # share of the active memtable that is filled as fast as writers can
SEAL_LEFT_MIN = 0.2  # of a usual seal's time: what is still expected of one that takes longer than usual
PAUSE_S_MAX = 0.05  # of one writer at a time
UNREMOVED_MAX = 4  # seals after which files that nothing needs are removed even if the next memtable is full already
FREED_AT_ONCE = 1024  # versions of a memtable that is let go, about 0.2 ms (INV-9)


class Sealing:
    """The memtables and the newest checkpoint of one database. Invariant: shards.seq == frozen.base_seq or active.base_seq."""

    def __init__(
        self,
        database: Database,
        active: Memtable,
        frozen: Memtable | None,
        checkpoint: Checkpoint | None,
        shards: ShardSet | None,
    ) -> None:
        self._database = database
        self.active = active
        self.frozen = frozen
        self.checkpoint = checkpoint
        self.shards = shards
        self.floor: int | None = None  # None: no standby to keep anything for
        self.pins: dict[int, int] = {}  # checkpoint seq -> how many hold it
        self.removing = trio.Lock()  # held while what nothing needs is removed
        self.held = False  # by a lease, when files were last to be removed
        self._grace = Grace(database.engine_options.copy_grace_s)
        self.failures = 0
        self.last_error = ""
        self.log_kept_bytes = 0  # after the newest seal
        self.outrun_seq = 0  # up to here log that a standby or a seed still needed went at log_keep_bytes, since this was opened
        self.outruns = 0  # how many segments of it
        self.is_failing = False
        self._files: dict[int, frozenset[str]] = {}  # checkpoint seq -> names of the files it needs; of those kept
        self._freeing, self._freed = trio.open_memory_channel[list[dict[bytes, Version]]](1)
        self._unremoved = 0  # seals since files that nothing needs were removed
        self._wanted = trio.Event()
        self._done = trio.Event()
        self._active_since = self._frozen_at = trio.current_time()
        self._seal_s = 0.0  # from freezing to publication, as it took lately

    def pinned(self) -> tuple[ShardSet | None, tuple[Memtable, ...]]:
        """What a view needs, newest memtable first."""
        memtables = (self.active,) if self.frozen is None else (self.active, self.frozen)
        return self.shards, memtables

    @property
    def _is_full(self) -> bool:
        options = self._database.engine_options
        return self.active.records >= options.memtable_records_max or self.active.bytes >= options.memtable_bytes_max

    @property
    def has_room(self) -> bool:
        return self.frozen is None or not self._is_full

    async def wait_room(self) -> None:
        while not self.has_room:
            self._database.space.refuse_if_full()
            await self._done.wait()

    def wake_waiting(self) -> None:
        """Those who wait for room or a seal look again at what they wait for."""
        done, self._done = self._done, trio.Event()
        done.set()

    def pause_s(self, records: int) -> float:
        """How long who is about to write so many records should wait first, so that the active memtable is full no sooner
        than the frozen one is sealed: writers are slowed from half full on instead of being stopped at full. 0: go on."""
        if self.frozen is None:
            return 0.0
        options = self._database.engine_options
        active = self.active
        room = 1.0 - max(active.records / options.memtable_records_max, active.bytes / options.memtable_bytes_max)
        if room > ROOM_UNPACED:
            return 0.0
        left_s = max(self._frozen_at + self._seal_s - trio.current_time(), SEAL_LEFT_MIN * self._seal_s)
        share = records / options.memtable_records_max
        return min(PAUSE_S_MAX, left_s * share / max(room, share))

    def freeze_if_full(self) -> None:
        if self._is_full:
            self.freeze()

    def freeze(self) -> None:
        """Begin a new memtable if the one before has been sealed; otherwise the next publication does it."""
        if self.frozen is not None or self.active.last_seq == self.active.base_seq:
            return
        self.frozen, self.active = self.active, Memtable(self.active.last_seq)
        self._database.log.roll()
        self._active_since = self._frozen_at = trio.current_time()
        self._wanted.set()

    @contextmanager
    def pinning(self, seq: int) -> Iterator[None]:
        """Meanwhile the checkpoint at seq and its files stay."""
        self.pins[seq] = self.pins.get(seq, 0) + 1
        try:
            yield
        finally:
            self.pins[seq] -= 1
            if not self.pins[seq]:
                del self.pins[seq]

    async def seal_now(self) -> int:
        """Seal everything appended so far; returns the checkpoint's seq."""
        target = self._database.position.seq
        while self.checkpoint is None or self.checkpoint.seq < target:
            if target == 0:
                return 0
            self.freeze()
            await self._done.wait()
        return self.checkpoint.seq

    async def run(self) -> None:
        """Seal what is frozen, until cancelled."""
        pause = RETRY_S_MIN
        if self.shards is not None:
            await self._database.indexing.followed.wait()  # what the first questions wait for comes first
            await self._database.seams.disk.run(self.shards.know_keys, None)
        while True:
            if self.frozen is None:
                with trio.move_on_after(AGE_CHECK_S):
                    await self._wanted.wait()
                self._wanted = trio.Event()
                age = trio.current_time() - self._active_since
                if age > self._database.engine_options.seal_age_s:
                    self.freeze()
                if self.frozen is None:
                    if self.held or self._grace.is_over(trio.current_time()):
                        await self._remove_late()
                    continue
            try:
                await self._seal_frozen()
                pause = RETRY_S_MIN
                self.is_failing = False
            except (OSError, TwinlogError) as error:
                self._database.compacting.seal_failed()
                self.failures += 1
                self.is_failing = True
                self.last_error = str(error)
                if isinstance(error, DamagedRecord):
                    self._database.scrubbing.met(error)  # repaired meanwhile, if it can be
                await self._remove_left_over()
                space = self._database.space
                if not isinstance(error, OSError) or not space.met(error):
                    log.warning("%s: sealing failed, trying again in %.1f s: %s", self._database.name, pause, error)
                await space.rest(pause)
                pause = min(RETRY_S_MAX, pause * 2)

    async def _remove_late(self) -> None:
        """What was kept for copies longer than that lasts; without a seal that would do it."""
        try:
            await self.remove_unneeded()
        except (OSError, TwinlogError) as error:
            self.last_error = str(error)
            log.warning("%s: files that nothing needs could not be removed: %s", self._database.name, error)

    async def _seal_frozen(self) -> None:
        database, frozen = self._database, self.frozen
        assert frozen is not None
        began = self._frozen_at
        while database.log.synced_seq < frozen.last_seq:
            if not await database.make_durable():
                raise TwinlogError("the commit log cannot be synced")
            if database.log.synced_seq < frozen.last_seq:
                await trio.sleep(RETRY_S_MIN)
        indexing = database.indexing
        async with indexing.changing:
            await self._seal_and_publish(frozen)
        self.freeze_if_full()
        took = trio.current_time() - began
        log.debug("%s: sealed up to %d in %.3f s", database.name, frozen.last_seq, took)
        self._seal_s = took if not self._seal_s else 0.7 * self._seal_s + 0.3 * took
        self.wake_waiting()
        tables = list(frozen.rows.values())
        del frozen  # readers' views may still hold it
        await self._freeing.send(tables)
        if self.frozen is not None and self._unremoved < UNREMOVED_MAX and not database.space.full:
            self._unremoved += 1
            return  # writers wait for the next seal
        self._unremoved = 0
        await self.remove_unneeded()
        async with indexing.changing:
            await indexing.remove_unneeded()

    async def let_go(self) -> None:
        """Free the memtables that were sealed, until cancelled: beside the next seal, which does not wait for it."""
        async for tables in self._freed:
            await _let_go(tables)

    async def _remove_left_over(self) -> None:
        """A field index that belongs to no checkpoint: on a full disk every try would leave one more."""
        indexing = self._database.indexing
        try:
            async with indexing.changing:
                await indexing.remove_unneeded()
        except OSError as error:
            log.debug("%s: what a seal left could not be removed: %s", self._database.name, error)

    async def _seal_and_publish(self, frozen: Memtable) -> None:
        database = self._database
        disk, indexing, compacting = database.seams.disk, database.indexing, database.compacting
        base_seq = self.checkpoint.seq if self.checkpoint is not None else None
        plan = SealPlan(
            base_seq=base_seq,
            to_seq=frozen.last_seq,
            shards=database.shards,
            crc=database.identity.crc,
            uuid=database.uuid.hex(),
            segments=self._segments_from(frozen.base_seq + 1),
            fields=indexing.plan(base_seq or 0),
            closed=compacting.closed,
            reserved=compacting.reserved,
            compacted=compacting.offered,
        )
        result = await database.seams.workers.run(seal, database.directory, plan)
        checkpoint = result.checkpoint
        shards = await disk.run(ShardSet.open, disk, database.directory, checkpoint, self.shards)
        await disk.run(shards.know_keys, self.shards)
        index = await indexing.open(result.fields)
        self.checkpoint, self.shards, self.frozen = checkpoint, shards, None
        indexing.published(checkpoint.seq, result.fields, index)
        compacting.sealed(result.compacted)

    def _segments_from(self, seq: int) -> list[str]:
        segments = self._database.log.segments
        first = max((i for i, (_, start) in enumerate(segments) if start <= seq), default=0)
        return [path for path, _ in segments[first:]]

    async def remove_unneeded(self) -> None:
        """Checkpoints, log segments and files that nothing needs any more. While no seal is under way: its files are not named yet."""
        async with self.removing:
            await self._remove_unneeded()

    async def _remove_unneeded(self) -> None:
        database = self._database
        disk, options = database.seams.disk, database.engine_options
        self.held = not database.space.full and await disk.run(is_held, disk, database.name, database.seams.time_us())
        if self.held:
            return
        floor = self.floor
        if floor is not None and floor < self.outrun_seq:
            floor = None  # the log from there is gone: its checkpoint can be rewound to by nobody, and would hold old shard logs for ever
        needed = await disk.run(_needed, disk, database.directory, floor, frozenset(self.pins))
        if not needed.seqs:
            return
        second_newest = needed.seqs[-2] if len(needed.seqs) > 1 else 0
        begins_whole = second_newest > 0 and database.log.segments[:1] and database.log.segments[0][1] == 1
        others = [0, *needed.others] if begins_whole else needed.others  # a log from its first commit needs no checkpoint
        copies = [] if database.space.full else self._grace.keeps(others, trio.current_time())
        if copies:
            segments = list(database.log.segments)
            sizes = await disk.run(_sizes, disk, [path for path, _ in segments])
            spans = [(first, size) for (_, first), size in zip(segments, sizes, strict=True)]
            copies = within(copies, second_newest, spans, options.copy_grace_bytes)
        kept = await disk.run(_drop_checkpoints, disk, database.directory, needed, copies)
        others_need = [seq for seq in (self.floor, database.archiving.floor) if seq is not None]
        lowest = min([second_newest, *copies, *self.pins, *others_need])
        gone = database.log.drop_below(lowest + 1)
        await disk.run(_remove, disk, gone)
        await self._bound_log(min([second_newest, *copies]), options.log_keep_bytes)
        known = self._files | ({self.checkpoint.seq: _files_of(self.checkpoint)} if self.checkpoint is not None else {})
        in_progress = database.compacting.files
        self._files = await disk.run(_drop_files, disk, database.directory, kept, known, in_progress)

    async def _bound_log(self, second_newest: int, bound: int) -> None:
        """Lagging standbys hold the log only up to a bound; beyond it they will be seeded (INV-8). A seed under way holds as much log as
        the copy that it sends is large, if that is more: one that takes longer than writing all that again has to begin again."""
        database, disk = self._database, self._database.seams.disk
        bound_of_seeds = max(bound, database.sealed_bytes)
        sizes = await disk.run(_sizes, disk, [path for path, _ in database.log.segments])
        self.log_kept_bytes = sum(sizes)
        while sum(sizes) > bound and len(database.log.segments) > 1:
            next_first = database.log.segments[1][1]
            is_pinned = any(pin < next_first - 1 for pin in self.pins)
            if next_first > second_newest + 1 or (is_pinned and sum(sizes) <= bound_of_seeds):
                return
            log.warning(
                "%s: the log kept for standbys and the archive has %d bytes, over log_keep_mb (%d bytes): its commits up to %d go",
                database.name, sum(sizes), bound, next_first - 1,
            )  # fmt: skip
            self.outrun_seq, self.outruns = next_first - 1, self.outruns + 1
            await disk.run(_remove, disk, database.log.drop_below(next_first))
            sizes.pop(0)
        self.log_kept_bytes = sum(sizes)


async def _let_go(tables: list[dict[bytes, Version]]) -> None:
    """Free a memtable's keys and versions some at a time, emptying the list: all at once would hold the loop for milliseconds
    (INV-9), and so would copying both lists in one step."""
    parts: list[list[bytes] | list[Version]] = []  # so that they outlive their table
    while tables:
        table = tables.pop()
        await trio.lowlevel.checkpoint()
        parts.append(list(table))
        await trio.lowlevel.checkpoint()
        parts.append(list(table.values()))
        await trio.lowlevel.checkpoint()
        del table
    for part in parts:
        while part:
            del part[-FREED_AT_ONCE:]
            await trio.lowlevel.checkpoint()


class _Needed(NamedTuple):
    """Checkpoints on disk, oldest first: those that something needs, and the others."""

    seqs: list[int]
    others: list[int]


def _needed(disk: Disk, directory: str, floor: int | None, pins: frozenset[int]) -> _Needed:
    """The newest two, what is pinned, and the newest at or below the floor are needed."""
    seqs = checkpoints.list_seqs(disk, directory)
    keep = set(seqs[-2:]) | {seq for seq in seqs if seq in pins}
    if floor is not None:
        keep |= set([seq for seq in seqs if seq <= floor][-1:])
    return _Needed(sorted(keep), [seq for seq in seqs if seq not in keep])


def _drop_checkpoints(disk: Disk, directory: str, needed: _Needed, copies: list[int]) -> list[int]:
    """Remove those that neither something needs nor copies may; returns what is left, oldest first."""
    gone = [seq for seq in needed.others if seq not in copies]
    for seq in gone:
        disk.remove(f"{directory}/checkpoints/{seq:020d}.json")
    if gone:  # before the files they name: a power cut must not bring back a manifest without its files
        disk.sync_dir(f"{directory}/checkpoints")
    return sorted({*needed.seqs, *copies} - {0})


def _files_of(checkpoint: Checkpoint) -> frozenset[str]:
    return frozenset(name for name, _ in checkpoints.files_of(checkpoint))


def _drop_files(
    disk: Disk, directory: str, kept: list[int], known: dict[int, frozenset[str]], in_progress: frozenset[str]
) -> dict[int, frozenset[str]]:
    """Remove shard and index files that no kept checkpoint names; returns the files of each. known: those of some, since a
    manifest is long to read. in_progress: those of a compaction. Only files: an open handle goes on reading."""
    files = {seq: known.get(seq) or _files_of(checkpoints.load(disk, directory, seq)) for seq in kept}
    named = in_progress.union(*files.values())
    for name in disk.list_dir(directory):
        if name.startswith("shard_") and name not in named:
            disk.remove(f"{directory}/{name}")
    return files


def _remove(disk: Disk, paths: list[str]) -> None:
    for path in paths:
        disk.remove(path)


def _sizes(disk: Disk, paths: list[str]) -> list[int]:
    return [disk.size(path) for path in paths]
