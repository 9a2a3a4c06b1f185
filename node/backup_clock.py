"""Backups by themselves: on the primary, each database's schedule; on every node, the schedules as `_system` has them.

    _system ──> schedules ──┬─ every node: shelves' paths, `_backup_config.json` (a mirror, for people and for what is restored by hand)
                            └─ the primary: due? ── backup ── read it whole again, documents and state hash ── rotate ── prune the log archive

A promoted standby has the same schedules, and a shelf of its own. A failure is told (status, log, metrics) and tried again at the next
interval; rotation comes after the proof, and passes over what was found wanting, so a good backup is never given up for a bad one.
Bounded: one backup of a database at a time, whoever asked for it; one worker for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

import storage
from storage import errors

from .backup_schedule import CONFIG_FILE, Schedule, shown_time, time_of
from .system_database import SCHEDULES, SystemDatabase

log = logging.getLogger(__name__)

TICK_S = 1.0
DEFAULT = Schedule()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofConfig:
    """Whether a backup by itself is read again, and how fast."""

    enabled: bool = True
    bytes_per_s: int = 0


@dataclass(slots=True)
class Kept:
    """What is known of one database's backups by themselves. newest_us: of the newest on the shelf when it was last looked at."""

    newest_us: int | None = None
    looked: bool = False
    tried_us: int | None = None
    failure: dict[str, str] | None = None
    proven: dict[str, str] | None = None


@dataclass(slots=True)
class Counts:
    made: int = 0
    failed: int = 0
    proven: int = 0
    unproven: int = 0


@dataclass(slots=True)
class BackupClock:
    """`run` it for as long as the node runs. leads: whether this node takes writes, so whose schedule counts."""

    engine: Any
    backups: storage.Backups
    system: SystemDatabase
    leads: Callable[[], bool]
    proof: ProofConfig = field(default_factory=ProofConfig)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    _kept: dict[str, Kept] = field(default_factory=dict)
    _busy: set[str] = field(default_factory=set)
    _seen: tuple[Any, ...] = ()

    def schedule(self, db: str) -> Schedule:
        return self.schedules.get(db, DEFAULT)

    def kept(self, db: str) -> Kept:
        return self._kept.setdefault(db, Kept())

    def next_us(self, db: str, now_us: int) -> int | None:
        """When this node backs it up next, seen from now_us; None when it will not."""
        if not self.leads() or db not in self.engine.databases:
            return None
        kept = self.kept(db)
        return self.schedule(db).next_us(kept.newest_us, kept.tried_us, now_us)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await self.refresh()
                for db in [db for db in self.schedules if db not in self._busy]:
                    if await self._is_due(db):
                        self._busy.add(db)
                        nursery.start_soon(self._back_up, db)
                await self.backups.rest()
                await trio.sleep(TICK_S)

    async def refresh(self) -> None:
        """Take note of schedules that came or changed. A document that cannot be one is passed over, and told."""
        state = self.system.state()
        if state == self._seen:
            return
        try:
            documents = await self.system.all(SCHEDULES)
        except (errors.TwinlogError, OSError) as error:
            log.warning("the backup schedules cannot be read now: %s", error)
            return
        self._seen = state
        found: dict[str, Schedule] = {}
        for document in documents:
            try:
                found[storage.check_database_name(document["_id"])] = Schedule.read(document)
            except errors.TwinlogError as error:
                log.error("the backup schedule %s is passed over: %s", document, error)
        for db, schedule in found.items():
            if schedule != self.schedules.get(db):
                await self._mirror(db, schedule)
        self.schedules = found
        self.backups.paths = {db: schedule.path for db, schedule in found.items() if schedule.path}

    async def _mirror(self, db: str, schedule: Schedule) -> None:
        disk = self.engine.seams.disk
        directory = f"{storage.BACKUPS_DIRECTORY}/{db}"
        self.kept(db).looked = False
        try:
            await disk.run(_write_mirror, disk, directory, schedule.as_file())
        except OSError as error:  # the schedule itself is in _system
            log.warning("%s/%s could not be written: %s", directory, CONFIG_FILE, error)

    async def _is_due(self, db: str) -> bool:
        """By the newest backup there is, made by whomever."""
        kept, now_us = self.kept(db), self.engine.seams.time_us()
        if not kept.looked:
            await self.look(db)
        due_us = self.next_us(db, now_us)
        if due_us is None or due_us > now_us:
            return False
        await self.look(db)
        due_us = self.next_us(db, now_us)
        return due_us is not None and due_us <= now_us

    async def look(self, db: str) -> list[storage.BackupInfo]:
        """The backups there are, newest first."""
        kept = self.kept(db)
        try:
            found = await self.backups.list(db)
        except OSError as error:
            found = []
            kept.failure = {"at": shown_time(self.engine.seams.time_us()), "why": f"its backups cannot be listed: {error}"}
        kept.looked = True
        sound = [info for info in found if info.manifest is not None]
        kept.newest_us = time_of(sound[0].manifest.created_at) if sound and sound[0].manifest is not None else None
        restorable = set(storage.sound_backups(found))  # not those whose base was found wanting since
        proven = next((info for info in sound if info.name in restorable and info.proof is not None and info.proof.is_good), None)
        kept.proven = None if proven is None or proven.proof is None else {"name": proven.name, "at": proven.proof.at}
        return found

    async def _back_up(self, db: str) -> None:
        kept = self.kept(db)
        kept.tried_us = self.engine.seams.time_us()
        try:
            schedule = self.schedule(db)
            in_a_row = await self.backups.incrementals_in_a_row(db) if schedule.full_every > 1 else None
            made = await self.backups.backup(db, incremental=not schedule.wants_full(in_a_row))
            self.counts.made += 1
            log.info("%s: backed up as %s (%s)", db, made.name, made.manifest.kind if made.manifest is not None else "?")
            wrong = await self._proven(db, made.name)
            await self.backups.rotate(db, schedule.max_copies)
            await self._prune(db, schedule.max_copies)
            self._told(db, wrong)
        except (errors.TwinlogError, OSError) as error:
            self._told(db, str(error))
        except Exception:
            log.exception("the backup of %s met a bug", db)
            self._told(db, "it met a bug in this node; its log has the trace, please report it")
        finally:
            await self.look(db)
            self._busy.discard(db)

    async def _prune(self, db: str, max_copies: int) -> None:
        """The log archive goes with the backups that rotation let go of. Not before the shelf is full: after a failover the other node's
        backups, which are not seen from here, may need what is older."""
        if not max_copies or not self.engine.options.archive or not self.leads():
            return
        try:
            await self.backups.prune(db, sound_min=max_copies)
        except (errors.TwinlogError, OSError) as error:  # the backup itself is made
            log.warning("%s: the log archive could not be pruned: %s; it is tried again after the next backup", db, error)

    async def _proven(self, db: str, name: str) -> str:
        """What is wrong with a backup that was just made; "" for nothing."""
        if not self.proof.enabled:
            return ""
        findings = await self.backups.verify(db, name, storage.VerifyLevel.CONTENT, bytes_per_s=self.proof.bytes_per_s)
        if not findings:
            self.counts.proven += 1
            return ""
        self.counts.unproven += 1
        return f"{name} cannot be restored: {findings[0]}"

    def _told(self, db: str, wrong: str) -> None:
        kept = self.kept(db)
        kept.failure = {"at": shown_time(self.engine.seams.time_us()), "why": wrong} if wrong else None
        if wrong:
            self.counts.failed += 1
            log.error("%s: the backup by schedule failed, the next try is in %d minutes: %s", db, self.schedule(db).interval_minutes, wrong)

    def as_fields(self) -> dict[str, Any]:
        """For the node's status: a line for each database that has a schedule."""
        return {
            db: {
                "enabled": schedule.enabled,
                "last_backup_at": shown_time(self.kept(db).newest_us) if self.kept(db).newest_us is not None else None,
                "last_proven": self.kept(db).proven,
                "last_failure": self.kept(db).failure,
            }
            for db, schedule in self.schedules.items()
        }


def _write_mirror(disk: storage.Disk, directory: str, data: bytes) -> None:
    disk.make_dir(directory)
    disk.replace_file(f"{directory}/{CONFIG_FILE}", data)
