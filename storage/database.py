"""One database: the commit path, what readers may see, and the tasks behind it. Knows no peer and no role.

    writes ──> commit() ──> log.append ──> memtable ──> flush() ──> durability ──> visible ──> readers, shipping, answers
    a peer's frames ──> append_frames() ──┘                              │
                                                         sealing (sealing.py): memtable ──> shard logs, checkpoint

The event loop is the only writer (INV-2). Writers and their checks see the appended end; readers see up to `visible`, the
last seq durable at this node's own level (INV-1). commit() and append_frames() never wait; flush() ends every wake-up.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Sequence
from operator import itemgetter

import trio

from .advance import Advance
from .archiving import Archiving
from .cache import DocumentCache
from .catalog import Catalog
from .commit.codec import (
    CATALOG,
    COMMIT_BYTES_MAX,
    COMMIT_RECORDS_MAX,
    DELETE,
    HEAD_BYTES,
    MARK,
    PUT,
    REIGN,
    REQUEST,
    Record,
    check_chain,
    decode_body,
    decode_head,
    encode,
    encode_body,
    following_frames,
)
from .commit.log import RESERVE_BYTES_MAX, CommitLog, LogRun
from .compacting import Compacting
from .errors import CommitTooLarge, DamagedRecord, PeerError, ReadOnly, TwinlogError
from .field_index import Indexing
from .marking import Marking
from .options import EngineOptions, SyncMode
from .position import History, Position, Reign
from .recovery import Recovered, note_closed, remember
from .scrubbing import Scrubbing
from .sealing import Sealing
from .seams import Seams
from .seeding import PinnedCheckpoint, pin_checkpoint
from .shard.shardset import COLD, MISSING, ShardSet
from .space import FULL_RETRY_S, Space
from .transactions import Transactions
from .views import View

log = logging.getLogger("twinlog.database")

APPEND_SLICE_S = 0.0015  # how long appending a peer's frames holds the loop at a time; with its last run and the write 3 ms (INV-9)
APPEND_BYTES_PER_S = 25_000_000  # how fast that is at least: so a run, the step of a slice, is about 50 kB


_COLLECTION = itemgetter(1)  # of a record


class Database:
    """Made by Engine. Invariant: visible.seq <= position.seq; the chain is that of the newest appended commit."""

    def __init__(
        self, seams: Seams, name: str, directory: str, options: EngineOptions, found: Recovered, shards: ShardSet | None
    ) -> None:
        self.name = name
        self.directory = directory
        self.seams = seams
        self.engine_options = options
        self.identity = found.identity
        self.history: History = found.history
        self.chain = found.chain
        self.catalog = found.catalog
        self.requests = found.requests
        self.last_time_us = found.time_us
        self.unclean = not found.clean
        self.findings = found.findings
        epoch = found.history[-1].epoch if found.history else 0
        self.position = Position(epoch, found.last_seq)
        self.visible = self.position
        self.visible_chain = found.chain
        self.visible_catalog = found.catalog
        self.log = CommitLog(
            seams.disk,
            directory,
            found.identity.uuid,
            segment_bytes=options.log_segment_bytes,
            last_seq=found.last_seq,
            reign=None,
            pace=seams.pace,
            reserve_bytes_max=RESERVE_BYTES_MAX if options.sync_mode is SyncMode.SYNC else 0,
            may_reserve=lambda length: self.space.has_room(length),
        )
        self.log.segments = found.segments
        self.cache = DocumentCache(options.cache_bytes)
        self.sealing = Sealing(self, found.memtable, found.frozen, found.checkpoint, shards)
        self.indexing = Indexing(self)
        self.compacting = Compacting(self)
        self.scrubbing = Scrubbing(self)
        self.archiving = Archiving(self)
        self.visible_advance = Advance(found.last_seq)
        self.transactions = Transactions(self)
        self.marking = Marking(self)
        self.marks = self.marking.hashes
        self.mark_advance = self.marking.advance
        self.builds: set[int] = set()  # collections of entries of the unique indexes that are being built here
        self.space = Space(self)
        self._appended: deque[tuple[Position, int, Catalog]] = deque()
        self._work = trio.Event()
        self._refusal: TwinlogError | None = None
        self._damage = ReadOnly(f"{name} is read-only: {found.damaged}") if found.damaged else None

    # What others read of it.

    @property
    def uuid(self) -> bytes:
        return self.identity.uuid

    @property
    def shards(self) -> int:
        return self.identity.shards

    @property
    def options(self) -> dict[str, object]:
        return self.identity.as_dict()

    @property
    def durable_seq(self) -> int:
        """The last seq durable at this node's own level."""
        return self.visible.seq

    @property
    def log_bytes(self) -> int:
        """Bytes appended to the log since it was opened."""
        return self.log.bytes_appended

    @property
    def outrun_seq(self) -> int:
        """Up to here the log went at log_keep_bytes while a standby still needed it, since it was opened; 0: it never did."""
        return self.sealing.outrun_seq

    @property
    def sealed_bytes(self) -> int:
        """Bytes of the newest checkpoint's shard logs."""
        checkpoint = self.sealing.checkpoint
        return 0 if checkpoint is None else sum(log.length for shard in checkpoint.shards for log in shard.logs)

    @property
    def disk_state(self) -> dict[str, object]:
        """What the disk lets this database do, for status: Space.as_dict()."""
        return self.space.as_dict()

    @property
    def damaged(self) -> bool:
        return self._damage is not None

    @property
    def refusal(self) -> TwinlogError | None:
        """Why a write would be refused now, or None."""
        return self.space.failure or self._damage or self._refusal

    @property
    def cache_counts(self) -> tuple[int, int, int]:
        """Of the hot cache since the database was opened: hits, misses, and bytes held now."""
        return self.cache.hits, self.cache.misses, self.cache.bytes

    def view(self) -> View:
        """The state at `visible`, pinned."""
        return self._view_at(self.visible, self.visible_catalog)

    def end_view(self) -> View:
        """The state at the appended end: for writers' checks, within one wake-up."""
        return self._view_at(self.position, self.catalog)

    def end_now(self, collection: int, key: bytes) -> bytes | None | object:
        """A document at the appended end, None, or COLD: what writers check against."""
        memtables = (self.sealing.active,) if self.sealing.frozen is None else self.sealing.pinned()[1]
        for memtable in memtables:
            version = memtable.newest(collection, key)
            if version is not None:
                return version[3] if version[2] == PUT else None
        return self.sealed_now(collection, key)

    def sealed_now(self, collection: int, key: bytes) -> bytes | None | object:
        """A document that no memtable holds a version of, None, or COLD."""
        if self.sealing.shards is None:
            return None
        document = self.cache.get(collection, key)
        return self.read_sealed_now(collection, key) if document is None else document

    def read_sealed_now(self, collection: int, key: bytes) -> bytes | None | object:
        """The same for a key that is not in the cache, which then has it. There must be a checkpoint."""
        shards = self.sealing.shards
        assert shards is not None
        record = shards.find_now(collection, key)
        if record is MISSING:
            return None
        if record is COLD:
            return COLD
        self.cache.put(collection, key, record.doc)
        return record.doc

    def end_blocking(self, collection: int, key: bytes) -> bytes | None:
        """The same, waiting for the device on the loop: for what would not stay in memory however often it was read."""
        return self.end_view().get_blocking(collection, key)

    def _view_at(self, position: Position, catalog: Catalog) -> View:
        shards, memtables = self.sealing.pinned()
        return View(
            self.seams.disk, shards, memtables, catalog, position, self.engine_options.view_age_s, self.indexing
        )

    async def read_log(self, after_seq: int, max_bytes: int) -> LogRun | None:
        """Whole frames after after_seq up to the visible end, no data when there is nothing new; None when the log no longer
        holds them and a copy must be seeded."""
        return await self.log.read(after_seq, self.visible.seq, max_bytes)

    async def chain_at(self, seq: int) -> int | None:
        """The chain of the commit at seq; None when this copy no longer knows it."""
        if seq == self.position.seq:
            return self.chain
        for reign in self.history:
            if reign.first_seq == seq + 1:
                return reign.chain
        if self.sealing.checkpoint is not None and self.sealing.checkpoint.seq == seq:
            return self.sealing.checkpoint.chain
        if not 0 < seq <= self.position.seq:
            return None
        run = await self.log.read(seq - 1, min(seq, self.log.written_seq), HEAD_BYTES)
        head = decode_head(run.data) if run is not None else None
        return head.chain if head is not None and head.seq == seq else None

    async def pin_checkpoint(self) -> PinnedCheckpoint | None:
        """The newest checkpoint, kept for a peer that copies it; None for a database without commits."""
        return await pin_checkpoint(self)

    def set_floor(self, seq: int | None) -> None:
        """The lowest seq that every known standby has durably: what rewind and catch-up may still need stays on disk."""
        self.sealing.floor = seq

    # Writing.

    def refuse_writes(self, error: TwinlogError | None) -> None:
        """Until told otherwise commit() raises error (a role's or an operator's reason)."""
        self._refusal = error

    def check_writable(self, *, frees_space: bool = False) -> None:
        """Raises why not. Deletions and drops may use the reserve of a full disk."""
        refusal = self.space.failure or self._damage or self._refusal
        if refusal is not None:
            raise refusal
        if frees_space:
            self.space.check_seals()
        elif self.space.looks_now:
            self.space.check()

    async def wait_room(self) -> None:
        """Until the memtable can take more (INV-8)."""
        await self.sealing.wait_room()

    def commit(self, records: Sequence[Record], *, frees_space: bool = False) -> int:
        """One atomic group: logged, in the memtable, not yet flushed. Returns its seq.

        The caller has checked keys and conflicts at the appended end in this same wake-up. Raises CommitTooLarge, DiskFull,
        ReadOnly, DiskFailed; then nothing has happened.
        """
        self.check_writable(frees_space=frees_space)
        body = encode_body(records)
        if len(records) > COMMIT_RECORDS_MAX + 2 or len(body) > COMMIT_BYTES_MAX + 2**20:
            raise CommitTooLarge(
                f"a commit of {len(records)} records and {len(body)} bytes: at most {COMMIT_RECORDS_MAX} documents and "
                f"{COMMIT_BYTES_MAX} bytes; cut it into several"
            )
        if not frees_space:
            self.space.check_large(len(body))
        if not self.history:
            raise ReadOnly(f"{self.name} has no reign yet; writes begin when this node becomes primary")
        return self._append(records, body, self.history[-1])

    def begin_reign(self, epoch: int) -> int:
        """A new run of a primary: its REIGN commit. Flush and wait for it before shipping or answering."""
        failure = self.space.failure or self._damage
        if failure is not None:
            raise failure
        assert epoch >= self.position.epoch, f"epoch {epoch} after {self.position.epoch}"
        reign_id = int.from_bytes(self.seams.random_bytes(8), "little")
        reign = Reign(epoch, reign_id, self.position.seq + 1, self.chain)
        record = Record(REIGN, CATALOG, b"", reign_id.to_bytes(8, "little"))
        seq = self._append([record], encode_body([record]), reign)
        self.unclean = False
        return seq

    def mark(self) -> int:
        """Put a MARK into the log; `marks[seq]` holds this node's state hash once mark_advance reaches it."""
        record = Record(MARK, CATALOG, b"", b"")
        return self.commit([record], frees_space=True)

    def _append(self, records: Sequence[Record], body: bytes, reign: Reign) -> int:
        seq = self.position.seq + 1
        time_us = max(self.seams.time_us(), self.last_time_us + 1)
        frame, chain = encode(
            body,
            record_count=len(records),
            epoch=reign.epoch,
            seq=seq,
            synced_seq=self.log.synced_seq,
            time_us=time_us,
            chain_before=self.chain,
        )
        try:
            self.log.append(frame, seq, self.chain, reign)
        except OSError as error:
            raise self.space.note_write_error(error) from error
        self._apply(records, Position(reign.epoch, seq), chain, time_us, reign)
        return seq

    def append_frames(self, data: bytes) -> int:
        """All of append_some(); returns the new appended seq."""
        offset = 0
        while offset < len(data):
            offset = self.append_some(data, offset, math.inf)
        return self.position.seq

    def append_some(self, data: bytes, offset: int, slice_s: float = APPEND_SLICE_S) -> int:
        """A standby's commit path: whole frames as the primary wrote them, from offset on, for about slice_s (INV-9).
        Returns the offset after the last one taken.

        Raises PeerError when they do not continue this copy (nothing of the bad frame on is taken), DiskFull, DiskFailed.
        """
        failure = self.space.failure or self._damage
        if failure is not None:
            raise failure
        if self.space.looks_now:
            self.space.check()
        ends_at = trio.current_time() + slice_s
        run_bytes = int(min(slice_s, APPEND_SLICE_S) * APPEND_BYTES_PER_S)
        while offset < len(data):
            offset = self._append_run(data, offset, run_bytes) or self._append_frame(data, offset)
            if trio.current_time() >= ends_at or not self.sealing.has_room:
                break
        return offset

    def _append_run(self, data: bytes, offset: int, run_bytes: int) -> int:
        """The usual frames, of the reign that is current, many at a time; returns the offset after them, or 0 when the next
        one is not usual. Readers see the run as a whole: its end is a state that the primary was in (INV-3)."""
        if not self.history:
            return 0
        reign, first_seq = self.history[-1], self.position.seq + 1
        commits: list[tuple[list[Record], int, int, int, int]] = []
        for head, start, end in following_frames(data, offset, first_seq - 1, reign.epoch, self.chain, run_bytes)[0]:
            try:
                records = decode_body(head[2], data[start + HEAD_BYTES : end])
            except DamagedRecord:
                break
            if not records or records[0][0] == REIGN:
                break
            commits.append((records, head[5], head[7], head[8], end))
        if not commits:
            return 0
        _, last_seq, last_time_us, chain, end = commits[-1]
        try:
            self.log.append(data[offset:end], first_seq, self.chain, reign, last_seq=last_seq, followed=True)
        except OSError as error:
            raise self.space.note_write_error(error) from error
        for records, seq, time_us, _, _ in commits:
            self._put(records, seq, time_us, reign)
        self._arrive(Position(reign.epoch, last_seq), chain, last_time_us)
        return end

    def _append_frame(self, data: bytes, offset: int) -> int:
        """Any one frame, and the error that it deserves; returns the offset after it."""
        try:
            head = decode_head(data, offset)
            if head is None or offset + head.frame_len > len(data):
                raise PeerError(f"{self.name}: the peer's frames end {len(data) - offset} bytes into a frame")
            frame = data[offset : offset + head.frame_len]
            if head.seq != self.position.seq + 1 or head.epoch < self.position.epoch:
                raise PeerError(
                    f"{self.name}: the peer sent ({head.epoch}, {head.seq}), this copy is at {tuple(self.position)}"
                )
            if not check_chain(head, frame, self.chain):
                raise PeerError(f"{self.name}: commit {head.seq} does not continue this copy's chain (INV-6)")
            records = decode_body(head.record_count, frame[HEAD_BYTES:])
        except DamagedRecord as error:
            raise PeerError(f"{self.name}: the peer sent a damaged frame: {error}") from error
        reign = self.history[-1] if self.history else None
        if records and records[0].op == REIGN:
            reign = Reign(head.epoch, int.from_bytes(records[0].doc, "little"), head.seq, self.chain)
        if reign is None or reign.epoch != head.epoch:
            raise PeerError(f"{self.name}: commit {head.seq} of epoch {head.epoch} belongs to no reign known here")
        try:
            self.log.append(frame, head.seq, self.chain, reign, followed=True)
        except OSError as error:
            raise self.space.note_write_error(error) from error
        self._apply(records, Position(head.epoch, head.seq), head.chain, head.time_us, reign)
        return offset + head.frame_len

    def _apply(
        self, records: Sequence[Record], position: Position, chain: int, time_us: int, reign: Reign
    ) -> None:
        """One commit into memory. It cannot fail: everything was checked."""
        self._put(records, position.seq, time_us, reign)
        self._arrive(position, chain, time_us)

    def _put(self, records: Sequence[Record], seq: int, time_us: int, reign: Reign) -> None:
        """What one commit changes in memory."""
        memtable = self.sealing.active
        if self.cache:
            self.cache.forget([(record[1], record[2]) for record in records])
        if self.transactions.listens:
            self.transactions.note(records, seq)
        count = memtable.put_run(records, seq, time_us)
        memtable.last_seq = seq
        if count == len(records) and CATALOG not in map(_COLLECTION, records):
            return
        special = [record for record in records if record[0] > DELETE or record[1] == CATALOG]
        remember(self.requests, [(record[2], record[3]) for record in special if record[0] == REQUEST])
        for record in special:
            op = record[0]
            if op <= DELETE:
                self.catalog = self.catalog.after(record)
                self.indexing.learn(self.catalog)
            elif op == REIGN:
                self.history = (*self.history, reign)
            elif op == MARK:
                self.marking.begin(self._view_at(Position(reign.epoch, seq), self.catalog))

    def _arrive(self, position: Position, chain: int, time_us: int) -> None:
        """The appended end is there now; readers follow when it is durable."""
        self.position, self.chain, self.last_time_us = position, chain, time_us
        self._appended.append((position, chain, self.catalog))
        self.sealing.freeze_if_full()

    # Durability.

    def flush(self) -> None:
        """The end of a wake-up: hand what was appended to the kernel (async), or commit the group to the device (sync): here,
        while syncs are short, so that its answers leave in this same wake-up, else by the task. Cheap when nothing is pending."""
        if not self._syncs_first:
            self._write()
            self._show(self.log.written_seq)
        elif self.visible.seq < self.position.seq and self.space.failure is None and not self._flushed_in_place():
            self._work.set()

    def _flushed_in_place(self) -> bool:
        """False when the task has to do it, or the rest of it."""
        if not self.log.may_sync_here():
            return False
        self._write()
        if self.space.failure is None:
            try:
                self._show(self.log.sync_here())
            except OSError as error:
                self.space.sync_failed(error)
        return True

    def _write(self) -> None:
        if self.space.failure is not None or not self.log.pending_bytes:
            return
        try:
            self.log.write()
            self.space.written()
        except OSError as error:
            self.space.note_write_error(error)
            self._work.set()

    def _show(self, seq: int) -> None:
        """Readers may see up to seq from now on."""
        while self._appended and self._appended[0][0].seq <= seq:
            self.visible, self.visible_chain, self.visible_catalog = self._appended.popleft()
        self.visible_advance.set(max(self.visible.seq, self.visible_advance.value))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The tasks behind a database, until cancelled."""
        if not self.space.failure and not self._damage:
            await self.log.make_ready()
        await self.indexing.load(self.sealing.checkpoint.seq if self.sealing.checkpoint is not None else 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.indexing.run)
            nursery.start_soon(self.indexing.follow)
            nursery.start_soon(self._sync_when_asked if self._syncs_first else self._sync_now_and_then)
            nursery.start_soon(self.log.keep_ready)
            nursery.start_soon(self.sealing.run)
            nursery.start_soon(self.sealing.let_go)
            nursery.start_soon(self.compacting.run)
            nursery.start_soon(self.space.run)
            nursery.start_soon(self.marking.run)
            nursery.start_soon(self.transactions.run)
            nursery.start_soon(self.archiving.run)
            task_status.started()

    @property
    def _syncs_first(self) -> bool:
        return self.engine_options.sync_mode is SyncMode.SYNC

    async def _sync_when_asked(self) -> None:
        """Group commit: while one write and sync runs, the next round gathers."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while self.space.failure is None and self.visible.seq < self.position.seq:
                await self.make_durable()
                if self.space.stuck and self.space.failure is None:
                    await trio.sleep(FULL_RETRY_S)

    async def _sync_now_and_then(self) -> None:
        while True:
            await trio.sleep(self.engine_options.flush_interval_s)
            if self.log.pending_bytes or self.log.written_seq > self.log.synced_seq:
                await self.make_durable()

    async def make_durable(self) -> bool:
        """Write and sync what was appended before the call. False when that failed for good; a full disk may leave some
        of it pending."""
        self._write()
        if self.space.failure is not None:
            with contextlib.suppress(OSError):  # what was acknowledged before a write failed is still synced in time (INV-1)
                await self.log.sync()
            return False
        if not self._syncs_first:
            self._show(self.log.written_seq)
        try:
            await self.log.sync()
        except OSError as error:
            self.space.sync_failed(error)
            return False
        self._show(self.log.synced_seq)
        return True

    async def close(self) -> None:
        """After run() has ended: write and sync everything and note that the end was orderly."""
        self.transactions.close()
        if self.space.failure is None and self._damage is None:
            try:
                await self.log.close()
            except OSError as error:
                self.space.fail(f"{self.name}: closing the commit log failed ({error})")
                return
            if not self.unclean:
                await self._note_closed()
        self.abandon()

    async def _note_closed(self) -> None:
        try:
            await self.seams.disk.run(note_closed, self.seams.disk, self.directory, self.position.seq, self.chain)
        except OSError as error:  # everything is in the log; the next opening only takes it for an unclean stop
            log.warning("%s: the orderly end could not be noted: %s", self.name, error)

    def abandon(self) -> None:
        """Let go of every file without writing."""
        self.log.abandon()
        self.seams.reserve.forget(self.name)
