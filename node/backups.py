"""The verbs about backups: back up, list, status, delete, verify, read, restore, schedule, prune. Knows storage's Backups, the member and the clock; no socket.

Every node answers for its own shelf; restores and schedules are the primary's. What takes long is a job (backup_jobs.py): the request
begins it, the caller asks on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from msgspec import Raw

import storage
from storage import BadRequest

from . import wire
from .backup_clock import BackupClock, ProofConfig
from .backup_jobs import BackupJobs, Job
from .backup_schedule import Schedule, shown_time
from .metrics import Metrics
from .outcomes import Done
from .system_database import SCHEDULES, SystemDatabase

FINDINGS_TOLD_MAX = 100


class BackupDesk:
    """Over one engine and one member. start(task, *args) runs a task for as long as the node runs; backups: with workers and limits of its own."""

    def __init__(
        self,
        engine: Any,
        member: Any,
        metrics: Metrics,
        start: Callable[..., None],
        backups: storage.Backups | None = None,
        proof: ProofConfig | None = None,
    ) -> None:
        self._engine = engine
        self._member = member
        self.backups = backups or storage.Backups(engine)
        self._system = SystemDatabase(engine, member)
        self.clock = BackupClock(engine, self.backups, self._system, self._leads, proof or ProofConfig())
        self._jobs = BackupJobs(start)
        counts = self.clock.counts
        metrics.watch("backups_made", "Backups made by schedule since the start", lambda: counts.made)
        metrics.watch("backups_failed", "Backups by schedule that failed since the start", lambda: counts.failed)
        metrics.watch("backups_proven", "Backups by schedule that were read again and came to their state hash", lambda: counts.proven)
        metrics.watch("backups_unproven", "Backups by schedule that were found to be no good", lambda: counts.unproven)
        metrics.watch("backup_jobs", "Backup jobs that run", lambda: self._jobs.running)

    def _leads(self) -> bool:
        try:
            self._member.check_writable()
        except storage.TwinlogError:
            return False
        return True

    async def backup(self, caller: Any, request: wire.Backup) -> Done:
        self._engine.database(request.db)

        async def work(tell: Callable[[str], None]) -> dict[str, Any]:
            await self.clock.refresh()
            tell("copying")
            made = await self.backups.backup(
                request.db, max_copies=self.clock.schedule(request.db).max_copies, incremental=request.incremental
            )
            await self.clock.look(request.db)
            return made.as_dict(self.backups.shelf(request.db))

        return self._begun("backup", request.db, work)

    async def list(self, caller: Any, request: wire.ListBackups) -> Done:
        await self.clock.refresh()
        return Done(wire.encode_fields({"backups": await self.backups.listed(request.db, safety=request.safety)}))

    async def status(self, caller: Any, request: wire.BackupStatus) -> Done:
        await self.clock.refresh()
        return Done(wire.encode_fields(await self._status(request.db)))

    async def _status(self, db: str) -> dict[str, Any]:
        """The reference's eight fields, and what came of it."""
        shelf = self.backups.shelf(db)
        found = await self.clock.look(db)
        schedule, kept, next_us = self.clock.schedule(db), self.clock.kept(db), self.clock.next_us(db, self._engine.seams.time_us())
        return {
            "enabled": schedule.enabled,
            "interval_minutes": schedule.interval_minutes,
            "max_copies": schedule.max_copies,
            "backup_path": shelf.shown,
            "last_backup": found[0].as_dict(shelf) if found else None,
            "next_backup_at": None if next_us is None else shown_time(next_us),
            "total_backups": len(found),
            "running": self.backups.is_running(db),
            "last_proven": kept.proven,
            "last_failure": kept.failure,
            "safety_snapshots": len(await self.backups.list(db, safety=True)),
            "full_every": schedule.full_every,
        }

    async def delete(self, caller: Any, request: wire.DeleteBackup) -> Done:
        await self.clock.refresh()
        gone = await self.backups.delete(request.db, request.name, with_dependents=request.with_dependents)
        await self.clock.look(request.db)
        return Done(wire.encode_fields({"deleted": gone}))

    async def collections(self, caller: Any, request: wire.BackupCollections) -> Done:
        await self.clock.refresh()
        return Done(wire.encode_fields({"collections": await self.backups.collections(request.db, request.name)}))

    async def read(self, caller: Any, request: wire.ReadBackup) -> Done:
        await self.clock.refresh()
        page = await self.backups.read(
            request.db,
            request.name,
            request.collection,
            spec=b"" if wire.is_absent(request.filter) else bytes(request.filter),
            ids=None if request.ids is None else tuple(map(bytes, request.ids)),
            place=storage.BackupPlace(*request.after) if request.after else None,
            limit=request.limit,
        )
        return Done(wire.encode_fields({"docs": [Raw(data) for data in page.documents], "next": page.next}))

    async def prune(self, caller: Any, request: wire.PruneArchive) -> Done:
        self._member.check_writable()
        self._engine.database(request.db)
        await self.clock.refresh()

        async def work(tell: Callable[[str], None]) -> dict[str, Any]:
            tell("reading the archive")
            return (await self.backups.prune(request.db, dry_run=request.dry_run)).as_plain()

        return self._begun("pruning", request.db, work)

    async def verify(self, caller: Any, request: wire.VerifyBackup) -> Done:
        await self.clock.refresh()
        self.backups.shelf(request.db).path(request.name)  # a bad name is refused here and now
        level = storage.VerifyLevel[request.level.upper()]

        async def work(tell: Callable[[str], None]) -> dict[str, Any]:
            tell(f"reading {request.name}")
            findings = await self.backups.verify(request.db, request.name, level)
            await self.clock.look(request.db)
            rows = [
                {"severity": one.severity.value, "file": one.file, "offset": one.offset, "what": one.what, "next_step": one.next_step}
                for one in findings[:FINDINGS_TOLD_MAX]
            ]
            return {"good": not findings, "level": request.level, "findings": rows, "findings_left_out": len(findings) - len(rows)}

        return self._begun("verification", request.db, work)

    async def restore(self, caller: Any, request: wire.RestoreBackup) -> Done:
        await self.clock.refresh()
        if request.wait_ms > wire.RESTORE_WAIT_MS_MAX:
            raise BadRequest(f"wait_ms {request.wait_ms}: at most {wire.RESTORE_WAIT_MS_MAX}")
        moment = storage.restore_target(request.to, request.at)
        if request.name or moment is None:
            self.backups.shelf(request.db).path(request.name)
        if moment is not None and request.explain:
            return self._begun("explanation", request.db, lambda tell: self.backups.explained(request.db, request.name, moment))
        target = storage.check_database_name(request.new_name or request.db)
        self._member.check_restorable(target)

        async def work(tell: Callable[[str], None]) -> dict[str, Any]:
            began = trio.current_time()
            name = request.name or (await self.backups.explain(request.db, "", moment))[0].name
            async with self._member.new_history(target, is_other=bool(request.new_name)) as history:
                done = await self.backups.restore(request.db, name, new_name=request.new_name, target=moment, turnover=history, told=tell)
            standbys = None
            if request.wait_ms:
                tell("waiting for the standbys")
                standbys = await self._member.converged(target, history.linked, request.wait_ms / 1000)
            return {
                "db": target,
                "backup": name,
                "safety": done.safety,
                "salvaged": done.salvaged,
                "epoch": history.epoch,
                "seq": done.reached.position.seq,
                "time_us": done.reached.time_us,
                "state_hash": "" if done.reached.commits else done.manifest.state_hash,
                "seconds": round(trio.current_time() - began, 3),
                "standbys": standbys,
            }

        return self._begun("restore", target, work)

    async def schedule(self, caller: Any, request: wire.ScheduleBackups) -> Done:
        self._member.check_writable()
        self.backups.shelf(request.db)  # raises BadName
        if request.enabled:
            self._engine.database(request.db)  # a wrong name would be found out in the night
        schedule = Schedule.read(
            {
                "enabled": request.enabled,
                "interval_minutes": request.interval_minutes,
                "max_copies": request.max_copies,
                "path": request.path,
                "full_every": request.full_every,
            }
        )
        await self.clock.refresh()
        if request.path:
            self._check_not_shared(request.db, request.path)
            await self.backups.check_path(request.path)
        await self._system.put(SCHEDULES, {"_id": request.db, **schedule.as_fields()})
        await self.clock.refresh()
        return Done(wire.encode_fields(await self._status(request.db)))

    def _check_not_shared(self, db: str, path: str) -> None:
        """Backups carry no database's name: in one directory one's rotation would delete the other's."""
        for other, schedule in self.clock.schedules.items():
            if other != db and schedule.path and storage.is_same_place(schedule.path, path):
                raise BadRequest(f"path {path!r} holds the backups of database {other!r}: give {db!r} a directory of its own")

    async def job(self, caller: Any, request: wire.BackupJob) -> Done:
        job = self._jobs.of(request.job)
        with trio.move_on_after(min(request.wait_ms, wire.SCRUB_WAIT_MS_MAX) / 1000):
            await job.ended.wait()
        return _told(job)

    def _begun(self, kind: str, db: str, work: Any) -> Done:
        return _told(self._jobs.begin(kind, db, work))


def _told(job: Job) -> Done:
    return Done(wire.encode_fields(job.as_fields()))
