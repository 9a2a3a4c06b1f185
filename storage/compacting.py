"""Compaction seen from the loop: which shard is worth it and when, who runs the job, and how its result comes into a checkpoint.

    checkpoint published ──> stale enough? ── index worker: shard/compaction.py ──> new log, moves ── the next seal takes them up ──> published
    compact_now() ─────────> every shard with something stale

One shard at a time, the one with most stale bytes first. While the job runs its logs are closed to seals, which write to a new generation
and go on as ever in a worker of their own; only the seal that takes a result up is longer, by the writing of indexes. If nothing
is written meanwhile a MARK makes that seal happen; a standby waits for the next commit. A seal that fails goes on without the result, which
is then thrown away. Files are never removed here once a seal has seen them: the clean-up after seals (sealing.py) does it.

What it must leave alone: files of checkpoints that are kept (the second-newest, what views, pins and the floor hold) go only with them, so the
space comes back one seal later. State hash and content are the same before and after (INV-6).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import trio

from .disk import Disk
from .errors import DamagedRecord, DiskFull, InternalError, ShuttingDown, TwinlogError
from .shard import checkpoint as checkpoints
from .shard.checkpoint import ShardFiles
from .shard.compaction import Compacted, CompactPlan, compact, files_of_plan, plan_compaction, stale_bytes
from .shard.record import FILE_HEADER_BYTES

if TYPE_CHECKING:
    from .database import Database

log = logging.getLogger("twinlog.compacting")

PAUSE_S_MIN, PAUSE_S_MAX = 60.0, 3600.0  # before a shard that failed is tried again
ROW_BYTES = 20  # of a field index's row table


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What one round came to: bytes of the shard logs that the newest checkpoint names. findings: shards left as they were, and why."""

    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    shards: int = 0
    findings: tuple[str, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """As it goes over the wire."""
        return {
            "before": self.bytes_before,
            "after": self.bytes_after,
            "seconds": self.seconds,
            "shards": self.shards,
            "findings": list(self.findings),
        }


@dataclass(frozen=True, slots=True)
class CompactionProgress:
    """As it is now. shard: the one being compacted, None when none is; bytes of its new log."""

    shard: int | None
    bytes_done: int
    bytes_total: int
    runs: int  # of single shards, since the database was opened
    failures: int
    bytes_reclaimed: int
    stale_bytes: int
    stale_ratio: float
    last: CompactionReport | None
    last_error: str


@dataclass(slots=True)
class _Round:
    """A round that was asked for."""

    done: trio.Event = field(default_factory=trio.Event)
    report: CompactionReport | None = None
    error: TwinlogError | OSError | None = None


class Compacting:
    """The compaction of one database. Invariant: `closed`, `reserved` and `files` speak of one job, or of its result until it is published."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.closed: frozenset[str] = frozenset()  # logs that seals must not extend
        self.reserved: Mapping[int, int] = {}  # shard -> generation that seals must not use
        self.files: frozenset[str] = frozenset()  # that must not be removed although nothing names them
        self.offered: tuple[Compacted, ...] = ()  # what the next seal shall take up
        self.runs = self.failures = self.bytes_reclaimed = 0
        self.last: CompactionReport | None = None
        self.last_error = ""
        self._plan: CompactPlan | None = None
        self._bytes_total = 0
        self._pauses: dict[int, tuple[float, float]] = {}  # shard -> until when, how long
        self._rounds: list[_Round] = []
        self._wake = trio.Event()
        self._taken: Compacted | None = None  # what a seal took up last
        self._gave_up = False
        self._is_closed = False

    # What seals say.

    def sealed(self, taken: tuple[Compacted, ...]) -> None:
        """A checkpoint was published, with these compactions in it."""
        if taken:
            [self._taken] = taken
        self._wake.set()

    def seal_failed(self) -> None:
        """Sealing goes before: the next try is without."""
        self._gave_up = bool(self.offered)
        self.offered = ()

    # What operators see and ask.

    @property
    def progress(self) -> CompactionProgress:
        plan, total, stale = self._plan, 0, 0
        for shard in self._shards():
            total += _log_bytes(shard)
            stale += stale_bytes(shard) or 0
        return CompactionProgress(
            shard=None if plan is None else plan.shard,
            bytes_done=self._bytes_done(plan),
            bytes_total=self._bytes_total if plan is not None else 0,
            runs=self.runs,
            failures=self.failures,
            bytes_reclaimed=self.bytes_reclaimed,
            stale_bytes=stale,
            stale_ratio=stale / total if total else 0.0,
            last=self.last,
            last_error=self.last_error,
        )

    def _bytes_done(self, plan: CompactPlan | None) -> int:
        if plan is None:
            return 0
        with suppress(OSError):  # not begun yet
            return self._database.seams.disk.size(f"{self._database.directory}/{files_of_plan(plan)[0]}")
        return 0

    async def compact_now(self) -> CompactionReport:
        """Seal what there is, then compact every shard with something stale, whatever the options say. On a standby to which nothing is
        written it ends with the next commit. Raises TwinlogError, OSError."""
        if self._is_closed:
            raise ShuttingDown(f"{self._database.name} is being closed; ask again when it is open")
        asked = _Round()
        self._rounds.append(asked)
        self._wake.set()
        await asked.done.wait()
        if asked.error is not None:
            raise asked.error
        assert asked.report is not None, "a round ends with a report or an error"
        return asked.report

    # The task.

    async def run(self) -> None:
        """Compact what is worth it and what is asked for, until cancelled."""
        try:
            await self._remove_orphans()
            while True:
                while self._rounds:
                    await self._answer(self._rounds.pop(0))
                if self._database.engine_options.compaction:
                    await self._round(self._worthwhile, raises=False)
                await self._wake.wait()
                self._wake = trio.Event()
        finally:
            self._is_closed = True
            for asked in self._rounds:
                asked.error = ShuttingDown(f"{self._database.name} was closed before it could be compacted")
                asked.done.set()

    async def _answer(self, asked: _Round) -> None:
        try:
            await self._database.sealing.seal_now()
            asked.report = await self._round(self._stalest, raises=True)
        except (OSError, TwinlogError) as error:
            asked.error = error
        finally:
            if asked.report is None and asked.error is None:
                asked.error = ShuttingDown(f"{self._database.name} was closed while it was compacted; what was done stays")
            asked.done.set()

    async def _round(self, next_shard: Callable[[set[int]], int | None], *, raises: bool) -> CompactionReport:
        """One shard after the other. raises: whether what is wrong with the disk ends it; a damaged record never does."""
        database = self._database
        began, before = trio.current_time(), database.sealed_bytes
        done: set[int] = set()
        findings: list[str] = []
        compacted = 0
        while (shard := next_shard(done)) is not None:
            done.add(shard)
            try:
                await self._compact(shard)
                compacted += 1
                self._pauses.pop(shard, None)
            except DamagedRecord as error:
                findings.append(self._note(shard, f"shard {shard} is left as it is: {error.message}"))
            except (OSError, TwinlogError) as error:
                what = self._note(shard, f"compacting shard {shard} failed: {error}")
                if raises:
                    raise
                findings.append(what)
        report = CompactionReport(findings=tuple(findings), bytes_before=before, bytes_after=database.sealed_bytes)
        if compacted:
            await self._let_go()
            report = replace(report, seconds=trio.current_time() - began, shards=compacted)
        if compacted or findings:
            self.last = report
        return report

    def _note(self, shard: int, what: str) -> str:
        """A failure: told once, and the shard is left alone for a while."""
        self.failures += 1
        if what != self.last_error:
            log.warning("%s: %s", self._database.name, what)
            self._database.findings.append(what)
        self.last_error = what
        pause_s = min(PAUSE_S_MAX, 2 * self._pauses.get(shard, (0.0, PAUSE_S_MIN / 2))[1])
        self._pauses[shard] = (trio.current_time() + pause_s, pause_s)
        return what

    def _shards(self) -> tuple[ShardFiles, ...]:
        checkpoint = self._database.sealing.checkpoint
        return () if checkpoint is None else checkpoint.shards

    def _stalest(self, done: set[int]) -> int | None:
        """The shard with most stale bytes, if any has some."""
        stale = {number: stale_bytes(shard) or 0 for number, shard in enumerate(self._shards()) if number not in done}
        worst = max(stale, key=stale.__getitem__, default=None)
        return worst if worst is not None and stale[worst] else None

    def _worthwhile(self, done: set[int]) -> int | None:
        """The same among those that are stale and large enough and did not fail lately."""
        options, now = self._database.engine_options, trio.current_time()
        passed = {
            number
            for number, shard in enumerate(self._shards())
            if not is_worthwhile(shard, options.compact_stale_ratio, options.compact_min_bytes)
            or self._pauses.get(number, (0.0, 0.0))[0] > now
        }
        return self._stalest(done | passed)

    # One shard.

    async def _compact(self, shard: int) -> None:
        database, sealing = self._database, self._database.sealing
        disk = database.seams.disk
        assert sealing.checkpoint is not None, "a shard has files"
        self._check_space(sealing.checkpoint.shards[shard])
        try:
            with ExitStack() as pins:
                async with database.indexing.changing:  # no seal is between its plan and its publication
                    checkpoint = sealing.checkpoint
                    pins.enter_context(sealing.pinning(checkpoint.seq))
                    plan = await disk.run(plan_compaction, disk, database.directory, checkpoint, shard)
                    async with sealing.removing:
                        self.files = frozenset(files_of_plan(plan))
                    self.closed = frozenset(entry.file for entry in checkpoint.shards[shard].logs)
                    self.reserved = {shard: plan.generation}
                    self._bytes_total, self._plan = checkpoint.shards[shard].live or 0, plan
                compacted = await self._run(plan)
            await self._publish(compacted)
            await disk.run(_remove, disk, database.directory, (compacted.moves,))
        finally:
            self._plan, self._taken, self._gave_up = None, None, False
            self.closed, self.reserved, self.files, self.offered = frozenset(), {}, frozenset(), ()
        self.runs += 1
        self.bytes_reclaimed += compacted.bytes_before - compacted.bytes_after
        log.info(
            "%s: shard %d compacted, %d bytes before, %d after", database.name, shard, compacted.bytes_before, compacted.bytes_after
        )

    async def _run(self, plan: CompactPlan) -> Compacted:
        database = self._database
        try:
            return await database.seams.index_workers.run(compact, database.directory, plan)
        except (OSError, TwinlogError):  # no seal has heard of these files
            disk = database.seams.disk
            await disk.run(_remove, disk, database.directory, files_of_plan(plan))
            raise

    def _check_space(self, shard: ShardFiles) -> None:
        """Live records, the primary index and the moves, and the row tables of the field index are written beside what is there."""
        database = self._database
        indexed = sum(segment.rows for entry in database.indexing.state.collections.values() for segment in entry.segments)
        needed = (shard.live or 0) + 2 * sum(index.length for index in shard.index) + ROW_BYTES * indexed
        free = database.seams.disk.free_bytes() - database.engine_options.free_bytes_min
        if free < needed:
            raise DiskFull(
                f"{database.name}: compaction needs {needed} bytes beside what is there, {max(0, free)} are free above the "
                "reserve; free some space, it is tried again by itself",
                free_bytes=free,
            )

    async def _publish(self, compacted: Compacted) -> None:
        """Until a seal has taken it up."""
        database, sealing = self._database, self._database.sealing
        while self._taken != compacted:
            if self._gave_up:
                raise InternalError("the seal that should have taken it up failed; it is thrown away and done again later")
            if not self._has_something_to_seal() and not self._make_something():
                await database.visible_advance.wait_past(sealing.checkpoint.seq)
                continue
            async with database.indexing.working:  # a build or merge under way would bring locations that hold no longer
                if self._has_something_to_seal():
                    self.offered = () if self._gave_up else (compacted,)
                    await sealing.seal_now()
                    self.offered = ()

    def _has_something_to_seal(self) -> bool:
        return self._database.position.seq > self._database.sealing.checkpoint.seq

    def _make_something(self) -> bool:
        """A MARK, if this node writes the database."""
        database = self._database
        if database.refusal is not None:
            return False
        database.mark()
        database.flush()
        return True

    async def _let_go(self) -> None:
        """One more seal, so that the second-newest checkpoint is not the one that needs the old files; then they go."""
        sealing = self._database.sealing
        try:
            if self._has_something_to_seal() or self._make_something():
                await sealing.seal_now()
            await sealing.remove_unneeded()
        except (OSError, TwinlogError) as error:  # the next seal does it
            log.warning("%s: old files stay for now: %s", self._database.name, error)

    async def _remove_orphans(self) -> None:
        """What a crash left of jobs and seals, if every manifest says what it needs."""
        database = self._database
        disk = database.seams.disk
        async with database.indexing.changing, database.sealing.removing:
            try:
                await disk.run(_remove_orphans, disk, database.directory)
            except (OSError, TwinlogError) as error:
                log.warning("%s: what was left over could not be looked at: %s", database.name, error)


def is_worthwhile(shard: ShardFiles, stale_ratio: float, bytes_min: int) -> bool:
    """Whether the options ask for it."""
    stale, total = stale_bytes(shard), _log_bytes(shard)
    return stale is not None and total >= bytes_min and 0 < stale >= stale_ratio * total


def _log_bytes(shard: ShardFiles) -> int:
    return sum(entry.length - FILE_HEADER_BYTES for entry in shard.logs)


def _remove(disk: Disk, directory: str, names: tuple[str, ...]) -> None:
    for name in names:
        with suppress(OSError):  # not there, or a disk that refuses: the clean-up after the next seal finds it
            disk.remove(f"{directory}/{name}")


def _remove_orphans(disk: Disk, directory: str) -> None:
    kept = [checkpoints.load(disk, directory, seq) for seq in checkpoints.list_seqs(disk, directory)]
    for name in checkpoints.orphans(disk, directory, kept):
        disk.remove(f"{directory}/{name}")
