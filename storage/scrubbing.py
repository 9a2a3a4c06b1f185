"""The scrub of one database: every byte that the newest checkpoint and the log name, read again now and then, and put right or told.

    once in scrub_interval_s, or scrub_now(), or a read that met damage ──┐
                                                                          v
    manifests ── primary index ── shard logs ── commit log       jobs of 16 MiB (shard/scrub.py) in the index worker
                      │               │              │
        rebuilt in memory,     repairing.py:      told: this copy
        written by the next    own log, peers     must be seeded anew
        seal (INV-5)           (`peers`)

A pass keeps to scrub_bytes_per_s and waits while a seal runs; one database of an engine is read at a time. Files that go meanwhile are passed
over: nothing is pinned for the hours that a pass may take. What could not be repaired stands in `damaged` until it is repaired or gone,
and `on_change` is called; reads of just those documents go on failing with DamagedRecord. Findings are bounded (INV-8).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from .errors import DamagedRecord, TwinlogError
from .finding import Finding, Severity
from .repairing import Repair, Source, find_record, header_of
from .shard import checkpoint as checkpoints
from .shard.checkpoint import Checkpoint, LogFile
from .shard.scrub import (
    INSPECT_BYTES,
    STEP_BYTES,
    Damage,
    FramesChecked,
    Inspected,
    Standing,
    check_frames,
    check_index,
    check_manifest,
    forget_base,
    inspect,
    read_crc,
)
from .shard.shardset import ShardSet

if TYPE_CHECKING:
    from .database import Database

log = logging.getLogger("twinlog.scrubbing")

FINDINGS_MAX = 256  # of one pass, and of what stands
DAMAGES_AT_ONCE = 256  # of one shard log, repaired together: what is beyond comes with the next pass
SEAL_LOOK_S = 0.1
MET_MAX = 64  # places met by reads that wait to be looked at
LOOK_AGAIN_S = 60.0  # reads that meet one place again and again make us look at it so often
MEND_AGAIN_S = 600.0  # what could not be repaired is tried again so often, besides when a peer comes
FIRST_PASS_SHARE = 1 / 24  # of the interval, after opening

BY_FILES = "reads do not meet it, a copy by files takes it along; compaction drops it"
FROM_PEER = "connect a peer that has it, or restore this copy: `twinlog status` tells when it is repaired"
COVERED = "a checkpoint holds these commits; who needs them from here is seeded instead"
SEED_ANEW = "seed this copy anew from a peer, or restore it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubReport:
    """The newest pass, finished or under way, and what stands now. Times in microseconds since 1970; 0: not yet."""

    running: bool = False
    began_us: int = 0
    ended_us: int = 0
    files: int = 0
    bytes: int = 0
    findings: tuple[Finding, ...] = ()  # of that pass
    findings_left_out: int = 0
    passes: int = 0  # finished since the database was opened
    repaired: int = 0  # since then, by passes and reads
    damaged: tuple[Finding, ...] = ()  # that could not be repaired, as of now

    def as_plain(self) -> dict[str, Any]:
        """For the wire and for JSON."""
        value = {name: getattr(self, name) for name in self.__slots__}
        return value | {
            "findings": [_plain(finding) for finding in self.findings],
            "damaged": [_plain(finding) for finding in self.damaged],
        }


@dataclass(slots=True)
class _Counts:
    """The pass under way, in the making."""

    findings: list[Finding] = field(default_factory=list)
    left_out: int = 0
    files: int = 0
    bytes: int = 0


class Scrubbing:
    """Made with its database. `peers`: whom to ask for a record, by name; whoever knows peers sets it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.peers: Callable[[], Sequence[tuple[str, Source]]] = lambda: ()
        self.on_change: Callable[[], None] = lambda: None
        self._report = ScrubReport()
        self._counts = _Counts()
        self._standing: dict[tuple[str, int], Finding] = {}
        self._repaired = 0
        self._passing = trio.Lock()
        self._mending = trio.Lock()
        self._asked = trio.Event()
        self._finished = trio.Event()
        self._bytes = 0
        self._met: dict[tuple[str, int], None] = {}
        self._looked: dict[tuple[str, int], float] = {}
        self._bell = trio.Event()

    @property
    def report(self) -> ScrubReport:
        counts = self._counts
        report = self._report
        if self._asked.is_set():
            report = replace(report, running=True)
        if self._passing.locked():
            report = replace(
                report, running=True, files=counts.files, bytes=counts.bytes, ended_us=0,
                findings=tuple(counts.findings), findings_left_out=counts.left_out,
            )  # fmt: skip
        return replace(report, repaired=self._repaired, damaged=tuple(self._standing.values()))

    @property
    def totals(self) -> tuple[int, int, int]:
        """Since the database was opened: bytes read by passes, places repaired; and places that are damaged now."""
        return self._bytes, self._repaired, len(self._standing)

    def begin(self) -> None:
        """A pass shall begin now, at full speed; one that is under way will do. `run` does it."""
        if not self._passing.locked():
            self._asked.set()

    async def finished(self) -> None:
        """Until no pass is under way or asked for."""
        while self._passing.locked() or self._asked.is_set():
            await self._finished.wait()

    def met(self, error: DamagedRecord) -> None:
        """A read, a seal or a peer's question met damage: look at that place soon. Cheap; what names no shard log is let go, and so is a
        place that was looked at lately."""
        file, offset = str(error.fields.get("file", "")), error.fields.get("offset", -1)
        directory, _, name = file.rpartition("/")
        looked = trio.current_time() - self._looked.get((name, offset), -LOOK_AGAIN_S) < LOOK_AGAIN_S
        if directory != self._database.directory or not checkpoints.SHARD_FILE.match(name) or looked:
            return
        if len(self._met) < MET_MAX:
            self._met[name, offset] = None
            self._bell.set()

    def try_again(self) -> None:
        """There is somebody new to ask."""
        if self._standing:
            self._met.update(dict.fromkeys(place for place in self._standing if "/" not in place[0]))
            self._bell.set()

    async def scrub_now(self, *, bytes_per_s: int = 0) -> ScrubReport:
        """A whole pass; 0: as fast as the disk gives. One that is under way already is waited for first."""
        database = self._database
        async with self._passing:
            self._counts = counts = _Counts()
            began = database.seams.time_us()
            self._report = replace(self._report, began_us=began)
            await self._pass(bytes_per_s)
            self._report = ScrubReport(
                began_us=began,
                ended_us=database.seams.time_us(),
                files=counts.files,
                bytes=counts.bytes,
                findings=tuple(counts.findings),
                findings_left_out=counts.left_out,
                passes=self._report.passes + 1,
            )
        self._tell_finished()
        log.info("%s: scrubbed %d bytes, %d findings", database.name, counts.bytes, len(counts.findings))
        return self.report

    async def run(self, turn: trio.Lock) -> None:
        """Passes at their times and when asked for, and damage that was met, until cancelled. turn: over all databases of an engine, held for
        a pass that nobody asked for."""
        options = self._database.engine_options
        interval_s = options.scrub_interval_s or math.inf
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mend_what_was_met)
            begins_at = trio.current_time() + interval_s * FIRST_PASS_SHARE
            while True:
                with trio.move_on_at(begins_at) as due:
                    await self._asked.wait()
                try:
                    if due.cancelled_caught:
                        begins_at = trio.current_time() + interval_s
                        async with turn:
                            await self.scrub_now(bytes_per_s=options.scrub_bytes_per_s)
                    else:
                        self._asked = trio.Event()
                        await self.scrub_now()
                except (OSError, TwinlogError) as error:
                    log.warning("%s: the scrub was given up: %s", self._database.name, error)
                    self._tell_finished()

    def _tell_finished(self) -> None:
        finished, self._finished = self._finished, trio.Event()
        finished.set()

    async def _mend_what_was_met(self) -> None:
        while True:
            with trio.move_on_after(MEND_AGAIN_S) as waited:
                await self._bell.wait()
            self._bell = trio.Event()
            if waited.cancelled_caught:
                self.try_again()
            met = list(self._met)
            self._met.clear()
            self._looked = {place: trio.current_time() for place in met}
            for name, offset in met:
                try:
                    await self._look_at(name, offset)
                except (OSError, TwinlogError) as error:
                    log.warning("%s: %s could not be looked at: %s", self._database.name, name, error)

    # A pass.

    async def _pass(self, rate: int) -> None:
        database = self._database
        disk, directory = database.seams.disk, database.directory
        for seq in await disk.run(checkpoints.list_seqs, disk, directory):
            path = checkpoints.path_of(directory, seq)
            try:
                fault = await self._step(rate, check_manifest, directory, seq)
            except FileNotFoundError:
                continue  # it was not needed any more
            self._counts.files += 1
            if fault:
                self._tell(Finding(Severity.WARNING, path, 0, fault, "the next opening passes it over for the one before; seals replace it"))
        checkpoint = database.sealing.checkpoint
        if checkpoint is not None:
            await self._check_indexes(checkpoint, rate)
            for number, shard in enumerate(checkpoint.shards):
                for entry in shard.logs:
                    await self._check_log(checkpoint, number, entry, rate)
        await self._check_commit_log(rate)

    async def _check_indexes(self, checkpoint: Checkpoint, rate: int) -> None:
        database = self._database
        found = False
        for number, shard in enumerate(checkpoint.shards):
            for index in shard.index:
                path = f"{database.directory}/{index.file}"
                fault = await self._step(rate, check_index, path, index.xxh3, size=index.length)
                self._counts.files += 1
                newest = database.sealing.checkpoint
                if fault and newest is not None and index in newest.shards[number].index:
                    found = True
                    again = "rebuilt in memory from the shard's logs; the next seal writes it anew"
                    self._tell(Finding(Severity.WARNING, path, -1, fault, again))
        if found:
            await self._reopen()

    async def _reopen(self) -> None:
        """Stand on indexes that are the manifest's, or worked out from the logs (INV-5); views that are open keep what they have."""
        database = self._database
        disk, sealing = database.seams.disk, database.sealing
        await database.seams.workers.run(forget_base, database.directory)
        async with database.indexing.changing:
            if sealing.checkpoint is None:
                return
            try:
                shards = await disk.run(ShardSet.open, disk, database.directory, sealing.checkpoint, None)
            except DamagedRecord as error:  # logs and index of one shard: the logs come first
                log.warning("%s: the index cannot be rebuilt yet: %s", database.name, error)
                return
            await disk.run(shards.know_keys, None)  # a filter of damaged hashes would hide documents
            sealing.shards = shards

    async def _check_log(self, checkpoint: Checkpoint, number: int, entry: LogFile, rate: int = 0) -> None:
        path = f"{self._database.directory}/{entry.file}"
        crc: int | None = 0
        self._counts.files += 1
        try:
            for start in range(0, entry.length, STEP_BYTES):
                end = min(start + STEP_BYTES, entry.length)
                crc = await self._step(rate, read_crc, path, start, end, crc, size=end - start)
                if crc is None:
                    break
            if crc != entry.crc32c:
                await self._mend(checkpoint, number, entry, await self._locate(checkpoint, number, entry))
            else:
                self._stand(dict.fromkeys(place for place in self._standing if place[0] == entry.file))
        except FileNotFoundError:
            await self._missing(checkpoint, number, entry)

    async def _missing(self, checkpoint: Checkpoint, number: int, entry: LogFile) -> None:
        """A file that is not there: gone with its checkpoint, or lost."""
        newest = self._database.sealing.checkpoint
        if newest is not None and entry.file in {known.file for known in newest.shards[number].logs}:
            what = Damage(file=entry.file, offset=0, length=0, what="the file is missing", standing=Standing.FILE)
            await self._mend(checkpoint, number, entry, [what])

    async def _locate(self, checkpoint: Checkpoint, number: int, entry: LogFile) -> list[Damage]:
        found: list[Damage] = []
        at = 0
        while at < entry.length and len(found) < DAMAGES_AT_ONCE:
            piece = await self._inspect(checkpoint, number, entry, at)
            found += piece.damages
            at = piece.next_offset
        if not found:
            what = "the file's bytes are not those of the checkpoint, and no record's checksum tells which"
            found.append(Damage(file=entry.file, offset=0, length=0, what=what, standing=Standing.FILE))
        return found[:DAMAGES_AT_ONCE]

    async def _inspect(
        self, checkpoint: Checkpoint, number: int, entry: LogFile, start: int, step: int = INSPECT_BYTES
    ) -> Inspected:
        database = self._database
        header = header_of(checkpoint, number, entry)
        files = checkpoint.shards[number]
        return await database.seams.index_workers.run(inspect, database.directory, header, files, entry, start, step)

    async def _look_at(self, name: str, offset: int) -> None:
        """One place that a read met, or that stands: alone if the file's hash then agrees, else with all that is wrong in the file."""
        checkpoint = self._database.sealing.checkpoint
        found = _log_named(checkpoint, name) if checkpoint is not None else None
        if checkpoint is None or found is None:
            self._stand({(name, offset): None})  # the file is of no checkpoint any more, and so is what was damaged
            return
        if 0 < offset < found[1].length:
            piece = await self._inspect(checkpoint, *found, offset, 1)
            here = [damage for damage in piece.damages if damage.offset == offset]
            if here and await self._mend(checkpoint, *found, here, is_trial=True):
                return
        await self._check_log(checkpoint, *found)

    async def _mend(
        self, checkpoint: Checkpoint, number: int, entry: LogFile, damages: Sequence[Damage], *, is_trial: bool = False
    ) -> bool:
        """Repair what can be, and tell of all. is_trial: say nothing about what could not be; returns whether all was repaired."""
        database = self._database
        async with self._mending:
            repair = Repair(database, checkpoint, number, entry)
            sources = [("this node's log", partial(find_record, database)), *self.peers()]
            try:
                repaired = await repair.run(damages, sources)
            except (OSError, TwinlogError) as error:  # a device that takes no writes where it lost what it had: told as damage that stands
                log.warning("%s: %s could not be written over: %s", database.name, entry.file, error)
                repaired = {}
        self._repaired += len(repaired)
        standing: dict[tuple[str, int], Finding | None] = {}
        if not is_trial:  # these are all that the file has
            standing.update(dict.fromkeys(place for place in self._standing if place[0] == entry.file))
        for damage in damages:
            place = (damage.file, damage.offset)
            if damage in repaired:
                standing[place] = None
                self._tell(self._finding(damage, f"repaired from {repaired[damage]}", Severity.NOTE))
            elif not is_trial:
                finding = self._finding(damage, *_NEXT[damage.standing])
                standing[place] = None if damage.standing is Standing.SUPERSEDED else finding
                self._tell(finding)
        self._stand(standing)
        return len(repaired) == len(damages)

    def _finding(self, damage: Damage, next_step: str, severity: Severity) -> Finding:
        about = ""
        if damage.collection >= 0:
            names = {number: name for name, number in self._database.catalog.ids.items()}
            collection = names.get(damage.collection, str(damage.collection)) if damage.collection else "(catalog)"
            key = f", key {damage.key.hex()}" if damage.key else f", key hash {damage.hash:016x}" if damage.hash >= 0 else ""
            about = f"{damage.standing.value} record of collection {collection!r}{key}: "
        elif damage.standing is not Standing.FILE:
            about = f"{damage.standing.value} record: "
        return Finding(severity, f"{self._database.directory}/{damage.file}", damage.offset, about + damage.what, next_step)

    async def _check_commit_log(self, rate: int) -> None:
        database = self._database
        segments = list(database.log.segments)
        written_seq = database.log.written_seq
        paths = {path for path, _ in segments}
        self._stand(dict.fromkeys(place for place in self._standing if "/" in place[0] and place[0] not in paths))
        for number, (path, first_seq) in enumerate(segments):
            to_seq = min(written_seq, segments[number + 1][1] - 1) if number + 1 < len(segments) else written_seq
            if first_seq > to_seq:
                continue
            try:
                at = await self._check_segment(path, to_seq, rate)
            except FileNotFoundError:
                continue
            checkpoint = database.sealing.checkpoint
            is_covered = checkpoint is not None and to_seq <= checkpoint.seq
            finding = None
            if at.fault:
                severity = Severity.WARNING if is_covered else Severity.ERROR
                finding = Finding(severity, path, at.offset, at.fault, COVERED if is_covered else SEED_ANEW)
                self._tell(finding)
            self._stand(dict.fromkeys(place for place in self._standing if place[0] == path))
            if finding is not None and not is_covered:
                self._stand({(path, at.offset): finding})

    async def _check_segment(self, path: str, to_seq: int, rate: int) -> FramesChecked:
        self._counts.files += 1
        workers = self._database.seams.index_workers
        at = FramesChecked(0, 0, 0, is_done=False)
        while not at.is_done:
            place = (at.offset, at.seq, at.chain) if at.offset else None
            before = at.offset
            await self._wait_for_seal(rate)
            at = await workers.run(check_frames, path, self._database.uuid, place, to_seq)
            await self._count(at.offset - before, rate)
        return at

    # How fast, and what is told.

    async def _step(self, rate: int, job: Callable[..., Any], *args: Any, size: int = 0) -> Any:
        """One job that reads size bytes, at the pace asked for."""
        await self._wait_for_seal(rate)
        found = await self._database.seams.index_workers.run(job, *args)
        await self._count(size, rate)
        return found

    async def _wait_for_seal(self, rate: int) -> None:
        """While one runs the device is its own; one that fails may need what this finds."""
        sealing = self._database.sealing
        failures = sealing.failures
        while rate and sealing.frozen is not None and sealing.failures == failures:  # noqa: ASYNC110 - a seal tells nobody that it begins
            await trio.sleep(SEAL_LOOK_S)

    async def _count(self, size: int, rate: int) -> None:
        self._counts.bytes += max(0, size)
        self._bytes += max(0, size)
        if rate and size > 0:
            await trio.sleep(size / rate)

    def _tell(self, finding: Finding) -> None:
        log.warning("%s: %s", self._database.name, finding)
        if len(self._counts.findings) < FINDINGS_MAX:
            self._counts.findings.append(finding)
        else:
            self._counts.left_out += 1

    def _stand(self, changes: dict[tuple[str, int], Finding | None]) -> None:
        """What is damaged now, or no more."""
        before = dict(self._standing)
        for place, finding in changes.items():
            if finding is None:
                self._standing.pop(place, None)
            elif place in self._standing or len(self._standing) < FINDINGS_MAX:
                self._standing[place] = finding
        if before != self._standing:
            self.on_change()


_NEXT = {
    Standing.LIVE: (f"reads of this document fail; {FROM_PEER}", Severity.ERROR),
    Standing.SUPERSEDED: (BY_FILES, Severity.WARNING),
    Standing.UNKNOWN: (FROM_PEER, Severity.ERROR),
    Standing.FILE: (SEED_ANEW, Severity.ERROR),
}


def _log_named(checkpoint: Checkpoint, name: str) -> tuple[int, LogFile] | None:
    for number, shard in enumerate(checkpoint.shards):
        for entry in shard.logs:
            if entry.file == name:
                return number, entry
    return None


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "file": finding.file,
        "offset": finding.offset,
        "what": finding.what,
        "next_step": finding.next_step,
    }
