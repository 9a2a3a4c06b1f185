"""The field index seen from the loop: which fields are indexed, who builds and merges their segments, and what a query may stand on.

    query ── fields it would use ──> want() ──> build (index worker) ──┐
    seal  ── plan(), sealed() ───────────────────────────────────────> state, open index ──> views
    many small segments ──────────> merge (index worker) ──────────────┘

The open index always belongs to the newest published checkpoint: a seal takes `changing` from its plan to its publication, and what a build or a merge
brings is put in between two seals. It is a cache (INV-5): whatever is missing or damaged is built anew from the shard logs, meanwhile queries scan. One
build or merge runs at a time; a field is wanted for as long as the database exists, at most FIELDS_MAX of a collection (INV-8).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import trio

from .catalog import Catalog, changed_fields
from .commit.memtable import Memtable
from .errors import DamagedRecord, TwinlogError
from .fields.indexed import Fields
from .fields.opened import OpenIndex, OpenSegment, check_entry, drop_files, load_state
from .fields.overlay import Glance, Overlay, Superseded
from .fields.sealing import FieldsPlan, FieldsSealed
from .fields.state import FIELDS_MAX, FieldState
from .fields.values import COLUMN, WORDS
from .index.primary import merge_from
from .indexes.building import (
    build_collection,
    build_extras,
    merge_segments,
    put_built,
    put_extras,
    put_merged,
)
from .indexes.parts import ChunkPart
from .shard.checkpoint import logs_digest
from .step_pace import StepPace

if TYPE_CHECKING:
    from .database import Database

log = logging.getLogger("twinlog.field_index")

T = TypeVar("T")

QUERY_STEPS_AT_ONCE = 2  # of one database; more would only take the interpreter from each other and from the loop
FOLLOW_S = 0.02
FOLLOW_RECORDS_MIN = 512
ASKED_LATELY_S = 10.0
RETRY_S_MIN, RETRY_S_MAX = 5.0, 300.0
ABSORBED_HERE_MAX = 100  # rows of a memtable made ready for queries on the loop, 0.1 ms; more go to the disk's thread
NUMBERS_A_JOB = 100_000  # set aside for the files of one seal, build or merge
BUILD_PART = 4  # a build is expected to take one in so many bytes of the database
MERGE_RATIO = 6  # so many similar segments become one: fewer, and every row is rewritten more often
IDLE_S = 10.0  # without a seal, after which there is time to merge
IDLE_SEGMENTS_MAX = 3


class Indexing:
    """The field index of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.rows_min = database.engine_options.index_rows_min  # sealed documents of a collection that queries make us index
        self.wanted: dict[int, dict[str, int]] = {}
        self.state = FieldState(database.uuid.hex(), 0)
        self.index: OpenIndex | None = None  # None: nothing is indexed
        self.changing = trio.Lock()
        self.working = trio.Lock()  # held while a build or merge is under way
        self.turns = trio.Semaphore(QUERY_STEPS_AT_ONCE)
        self.pace = StepPace()
        self.last_error = ""
        self.builds = self.merges = self.failures = 0
        self._next_number = 1
        self._retry_s = RETRY_S_MIN
        self._job_from: int | None = None  # the first number of the files that a job under way may make
        self._gone: dict[int, list[np.ndarray]] = {}  # superseded since the build that runs began
        self._work = trio.Event()
        self._changed = trio.Event()
        self._published_at = trio.current_time()
        self._overlays: WeakKeyDictionary[Memtable, dict[int, Overlay]] = WeakKeyDictionary()
        self._absorbing = trio.Lock()
        self._asked: dict[int, float] = {}  # collection -> when a query by index came last
        self._asking = trio.Event()
        self.followed = trio.Event()  # rows that were replayed are ready for queries

    # What queries see and say.

    def want(self, collection: int, fields: Fields) -> None:
        """These fields shall be indexed from now on."""
        known = self.wanted.setdefault(collection, {})
        for path, uses in fields.items():
            before = known.get(path, 0)
            if before | uses != before and (before or len(known) < FIELDS_MAX):
                known[path] = before | uses
                self._work.set()

    def learn(self, catalog: Catalog) -> None:
        """What a catalog says shall be indexed: fields that queries used on the primary, and declared indexes (a hint to build now)."""
        for number, entry in catalog.entries.items():
            fields = dict(entry.get("fields", {}))
            for spec in catalog.indexes.get(number, ()):
                for path, kind in spec.entry["key"]:
                    fields[path] = fields.get(path, 0) | (WORDS if kind == "text" else COLUMN)
            if fields:
                self.want(number, fields)

    def _declare(self) -> None:
        """Put into the log which fields are wanted, so that every node indexes them. Only a primary can; others keep it to themselves."""
        database = self._database
        if database.refusal is not None or not database.history:
            return
        catalog = database.catalog
        for name, number in catalog.ids.items():
            wanted = self.wanted.get(number)
            declared = catalog.entries.get(number, {}).get("fields", {}) if wanted else {}
            if wanted and any(declared.get(path, 0) | uses != declared.get(path) for path, uses in wanted.items()):
                database.commit([changed_fields(catalog, name, {**declared, **wanted})])
                database.flush()

    def is_whole(self, collection: int) -> bool:
        entry = self.state.collections.get(collection)
        return entry is not None and entry.whole

    async def wait_built(self) -> None:
        """Until everything wanted is indexed, nothing left to merge."""
        while self._next_job() is not None:
            await self._changed.wait()

    async def glance(self, memtable: Memtable, collection: int, superseded: Superseded) -> Glance:
        """The rows of a memtable as they are now. superseded: what keys had below it."""
        mine = self._overlays.setdefault(memtable, {})
        overlay = mine.get(collection)
        if overlay is None:
            overlay = mine[collection] = Overlay(memtable, collection)
        overlay.take()
        is_frozen = memtable is not self._database.sealing.active
        while overlay.needs_absorbing(is_frozen):
            if overlay.pending_rows <= ABSORBED_HERE_MAX and not self._absorbing.locked() and not is_frozen:
                overlay.absorb(superseded, close=False)
            else:
                async with self._absorbing:
                    await self._database.seams.disk.run(partial(overlay.absorb, superseded, close=is_frozen))
        return overlay.glance()

    # What a seal does with it; under `changing` from plan() to published().

    def plan(self, base_seq: int) -> FieldsPlan | None:
        if not self.wanted and not self.state.collections:
            return None
        if self.state.seq != base_seq:
            self._forget(base_seq)
        plan = FieldsPlan(self.state, {number: dict(fields) for number, fields in self.wanted.items()}, self._next_number)
        self._next_number += NUMBERS_A_JOB
        return plan

    async def open(self, sealed: FieldsSealed | None) -> OpenIndex | None:
        """The index that a seal has left, opened. None: it has to be built anew."""
        if sealed is None:
            return None
        disk = self._database.seams.disk
        try:
            return await disk.run(OpenIndex.open, disk, self._database.directory, sealed.state, self.index)
        except (DamagedRecord, OSError) as error:
            log.warning("%s: the field index is built anew: %s", self._database.name, error)
            return None

    def published(self, seq: int, sealed: FieldsSealed | None, index: OpenIndex | None) -> None:
        """The checkpoint at seq is what readers stand on now."""
        self._published_at = trio.current_time()
        if index is None or sealed is None:
            self._forget(seq)
            return
        self.state, self.index = sealed.state, index
        for number, orders in sealed.gone.items():
            if number in self._gone:
                self._gone[number].append(orders)
        for number in [number for number in self.wanted if number not in sealed.state.collections]:
            if number not in self._database.catalog.ids.values():
                del self.wanted[number]
        self._work.set()

    def _forget(self, seq: int) -> None:
        """Begin with nothing."""
        checkpoint = self._database.sealing.checkpoint
        digest = logs_digest(checkpoint.shards) if checkpoint is not None else ""
        self.state, self.index = FieldState(self._database.uuid.hex(), seq, digest), None
        self._gone.clear()
        self._work.set()

    # Opening, and the jobs behind it.

    async def load(self, checkpoint_seq: int) -> None:
        """The index of the checkpoint that the database was opened at, if it is there and sound."""
        database, disk = self._database, self._database.seams.disk
        self.learn(database.catalog)
        checkpoint = database.sealing.checkpoint
        logs = logs_digest(checkpoint.shards) if checkpoint is not None else ""
        try:
            found = await disk.run(load_state, disk, database.directory, database.uuid.hex(), checkpoint_seq, logs)
        except OSError as error:
            log.warning("%s: the field index cannot be read and is built anew: %s", database.name, error)
            return
        self._next_number = found.next_number
        for number, entry in found.fields.items():
            self.want(number, entry.fields)
        self._forget(checkpoint_seq)
        if found.state is not None:
            try:
                self.index = await disk.run(OpenIndex.open, disk, database.directory, found.state, None)
                self.state = found.state
            except (DamagedRecord, OSError) as error:
                log.warning("%s: the field index is built anew: %s", database.name, error)

    def asked(self, collection: int) -> None:
        """A query by index has come for the collection: more may."""
        if not self._asked:
            self._asking.set()
        self._asked[collection] = trio.current_time()

    async def follow(self) -> None:
        """Make the memtable's rows ready for queries as they are written, while queries come: so that none has to do much of it."""
        database = self._database
        try:
            for number in {number for memtable in database.sealing.pinned()[1] for number in memtable.rows} & self.state.collections.keys():
                await self._make_ready(number)  # those that were replayed: the first to ask would wait for tens of thousands of them
        finally:
            self.followed.set()
        while True:
            await self._asking.wait()
            self._asking = trio.Event()
            while self._asked:
                await trio.sleep(FOLLOW_S)
                forgotten = trio.current_time() - ASKED_LATELY_S
                self._asked = {number: at for number, at in self._asked.items() if at > forgotten}
                if sum(memtable.records for memtable in database.sealing.pinned()[1]) >= FOLLOW_RECORDS_MIN:
                    for number in list(self._asked):
                        await self._make_ready(number)

    async def _make_ready(self, collection: int) -> None:
        try:
            standing = await self._database.view().standing(collection)
            for part in standing.parts if standing is not None else ():
                if isinstance(part, ChunkPart):
                    async with self.turns:
                        await self._database.seams.disk.run(part.make_ready)
            for memtable in self._database.sealing.pinned()[1]:
                overlay = self._overlays.get(memtable, {}).get(collection)
                if overlay is not None:
                    await self._merge_chunks(overlay, dict(self.wanted.get(collection, {})))
        except (OSError, TwinlogError) as error:  # whoever asks next meets it too
            self.last_error = str(error)

    async def _merge_chunks(self, overlay: Overlay, fields: Fields) -> None:
        """Fewer chunks: a query pays for each. Nobody waits for the large ones, since they are made ready first."""
        while (merged := overlay.merged()) is not None:
            async with self.turns:
                await self._database.seams.disk.run(merged.make_ready, fields)
            async with self._absorbing:
                overlay.put(merged)

    async def run(self) -> None:
        """Look over what was found at opening, then build and merge, until cancelled."""
        await self._verify()
        while True:
            try:
                self._declare()
            except TwinlogError as error:  # a full disk, a role just lost: nothing here needs it
                self.last_error = str(error)
            async with self.working:
                job = self._next_job()
                has_room = job is not None and self._has_room(job)
                failure = await self._attempt(job) if has_room else None
            if not has_room:
                with trio.move_on_after(IDLE_S + 1.0):
                    await self._work.wait()
                self._work = trio.Event()
                continue
            if failure is not None:
                await self._failed(failure)
            self._tell()

    async def _attempt(self, job: Callable[[], Awaitable[None]]) -> Exception | None:
        """What it failed with."""
        try:
            await job()
            self._retry_s = RETRY_S_MIN
            return None
        except DamagedRecord as error:  # of a segment, as far as this task can know
            async with self.changing:
                self._forget(self.state.seq)
            return error
        except (OSError, TwinlogError) as error:
            return error
        except Exception as error:
            log.exception("%s: indexing met a bug", self._database.name)
            return error

    async def _verify(self) -> None:
        """Hold every segment that was found against its checksums, in the index worker; begin anew when one is damaged (INV-5). Queries use
        them meanwhile: reading gigabytes first would keep them waiting, and in this process it would hold the interpreter."""
        database, index = self._database, self.index
        for collection, segments in index.collections.items() if index is not None else ():
            for segment in segments:
                if segment.is_checked:
                    continue
                try:
                    await database.seams.index_workers.run(check_entry, database.directory, self.state.uuid, collection, segment.entry)
                except (TwinlogError, OSError) as error:
                    async with self.changing:
                        if not self._still_holds(collection, (segment,)):
                            continue  # dropped meanwhile, its files with it
                        log.warning("%s: the field index cannot be relied on and is built anew: %s", database.name, error)
                        self.last_error = str(error)
                        return self._forget(self.state.seq)

    async def _failed(self, error: Exception) -> None:
        self.failures += 1
        self.last_error = str(error) or repr(error)
        self._job_from = None
        log.warning("%s: indexing failed, trying again in %.0f s: %s", self._database.name, self._retry_s, self.last_error)
        await trio.sleep(self._retry_s)
        self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)

    def _has_room(self, job: Callable[[], Awaitable[None]]) -> bool:
        """Whether the disk has space for it: queries can do without, so it takes none of the reserve."""
        is_merge = isinstance(job, partial) and job.func == self._merge
        return self._database.space.has_room(0 if is_merge else self._database.sealed_bytes // BUILD_PART)

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _next_job(self) -> Callable[[], Awaitable[None]] | None:
        """What there is to do, most urgent first: what queries wait for, then what makes them quicker."""
        shards = self._database.sealing.shards
        if shards is None:
            return None
        living = set(self._database.visible_catalog.ids.values())
        merge = None
        for number, fields in self.wanted.items():
            if number not in living or not shards.count(number):
                continue
            segments = self.index.segments(number) if self.index is not None else None
            if segments is None:
                return partial(self._build, number)
            if any(segment.lacks(fields) for segment in segments):
                return partial(self._build_extras, number, segments)
            if merge is None:
                start = self._merge_from([segment.rows - segment.dead.count for segment in segments])
                if len(segments) - start > 1:
                    merge = partial(self._merge, number, segments[start:])
        return merge

    def _merge_from(self, rows: Sequence[int]) -> int:
        """Segments from there on become one: in tiers while seals come, all when none came for a while."""
        if len(rows) > IDLE_SEGMENTS_MAX and trio.current_time() - self._published_at > IDLE_S:
            return 0
        return merge_from(rows, MERGE_RATIO) if rows else 0

    async def _build(self, collection: int) -> None:
        async with self.changing:  # a seal under way may not know yet that the collection is wanted: its rows would be in nothing
            fields, seq = dict(self.wanted[collection]), self.state.seq
            self._gone[collection] = []
        try:
            built = await self._job(build_collection, collection, fields, seq=seq)
            async with self.changing:
                if collection not in self._gone:
                    return  # everything began anew meanwhile
                index = self.index or OpenIndex(self.state, {})
                await self._put(put_built, index, collection, fields, built, seq, self._gone[collection], self._numbers())
        finally:
            self._gone.pop(collection, None)
        self.builds += 1

    async def _build_extras(self, collection: int, segments: Sequence[OpenSegment]) -> None:
        fields = dict(self.wanted[collection])
        made = await self._job(build_extras, collection, [segment.entry for segment in segments], fields)
        async with self.changing:
            if self._still_holds(collection, segments):
                await self._put(put_extras, self.index, collection, fields, made)
        self.builds += 1

    async def _merge(self, collection: int, segments: Sequence[OpenSegment]) -> None:
        fields = dict(self.wanted[collection])
        merged = await self._job(merge_segments, collection, [segment.entry for segment in segments], fields)
        async with self.changing:
            if self._still_holds(collection, segments):
                await self._put(put_merged, self.index, collection, merged, self._numbers())
        self.merges += 1

    def _still_holds(self, collection: int, segments: Sequence[OpenSegment]) -> bool:
        """Whether the index has these segments still: it may have begun anew, or the collection may be dropped."""
        if self.index is None or collection not in self.index.state.collections:
            return False
        now = {segment.number for segment in self.index.state.collections[collection].segments}
        return all(segment.entry.number in now for segment in segments)

    def _numbers(self) -> int:
        first = self._next_number
        self._next_number += NUMBERS_A_JOB
        return first

    async def _job(self, job: Callable[..., T], collection: int, *args: Any, seq: int | None = None) -> T:
        """Run a job upon a checkpoint, by default the newest one, which stays where it is meanwhile."""
        database = self._database
        seq = self.state.seq if seq is None else seq
        self._job_from = first = self._numbers()
        with database.sealing.pinning(seq):
            head = (database.directory, self.state.uuid) if job is merge_segments else (database.directory, self.state.uuid, seq)
            return await database.seams.index_workers.run(job, *head, collection, *args, first)

    async def _put(self, put: Callable[..., OpenIndex], index: OpenIndex, *args: Any) -> None:
        """Bring a job's result into the state; under `changing`."""
        database, disk = self._database, self._database.seams.disk
        self.index = await disk.run(put, disk, database.directory, index, *args)
        self.state = self.index.state
        self._job_from = None
        await self.remove_unneeded()

    async def remove_unneeded(self) -> None:
        """Files that nothing needs any more."""
        disk = self._database.seams.disk
        kept_from = self._next_number if self._job_from is None else self._job_from
        await disk.run(drop_files, disk, self._database.directory, self.state, kept_from)
