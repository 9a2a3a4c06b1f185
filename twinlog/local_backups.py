"""Backup requests answered by an engine in this process: done in the asking task, so that the answer is a job that has ended.

A database in this process has no schedule: nobody is there to keep it when the program ends.
"""

from __future__ import annotations

from typing import Any

import trio
from msgspec import Raw

from node.wire import (
    Backup,
    BackupCollections,
    BackupStatus,
    DeleteBackup,
    ListBackups,
    PruneArchive,
    ReadBackup,
    Reply,
    RestoreBackup,
    VerifyBackup,
    encode_fields,
    is_absent,
)
from storage import BackupPlace, Backups, Engine, VerifyLevel, restore_target, sound_backups

from .local_databases import LocalDatabases


class LocalBackups:
    """Over one open engine."""

    def __init__(self, engine: Engine, databases: LocalDatabases) -> None:
        self._backups = Backups(engine)
        self._databases = databases

    async def backup(self, request: Backup) -> Reply:
        made = await self._backups.backup(request.db, incremental=request.incremental)
        return _ended(request.id, made.as_dict(self._backups.shelf(request.db)))

    async def list(self, request: ListBackups) -> Reply:
        return Reply(request.id, encode_fields({"backups": await self._backups.listed(request.db, safety=request.safety)}))

    async def status(self, request: BackupStatus) -> Reply:
        shelf = self._backups.shelf(request.db)
        found = await self._backups.list(request.db)
        restorable = set(sound_backups(found))
        proven = next((info for info in found if info.name in restorable and info.proof is not None and info.proof.is_good), None)
        status: dict[str, Any] = {
            "enabled": False,
            "interval_minutes": 0,
            "max_copies": 0,
            "backup_path": shelf.shown,
            "last_backup": found[0].as_dict(shelf) if found else None,
            "next_backup_at": None,
            "total_backups": len(found),
            "running": self._backups.is_running(request.db),
            "last_proven": None if proven is None or proven.proof is None else {"name": proven.name, "at": proven.proof.at},
            "last_failure": None,
            "safety_snapshots": len(await self._backups.list(request.db, safety=True)),
            "full_every": 1,
        }
        return Reply(request.id, encode_fields(status))

    async def delete(self, request: DeleteBackup) -> Reply:
        gone = await self._backups.delete(request.db, request.name, with_dependents=request.with_dependents)
        return Reply(request.id, encode_fields({"deleted": gone}))

    async def collections(self, request: BackupCollections) -> Reply:
        return Reply(request.id, encode_fields({"collections": await self._backups.collections(request.db, request.name)}))

    async def read(self, request: ReadBackup) -> Reply:
        page = await self._backups.read(
            request.db,
            request.name,
            request.collection,
            spec=b"" if is_absent(request.filter) else bytes(request.filter),
            ids=None if request.ids is None else tuple(map(bytes, request.ids)),
            place=BackupPlace(*request.after) if request.after else None,
            limit=request.limit,
        )
        return Reply(request.id, encode_fields({"docs": [Raw(data) for data in page.documents], "next": page.next}))

    async def prune(self, request: PruneArchive) -> Reply:
        self._databases.check_writable()
        return _ended(request.id, (await self._backups.prune(request.db, dry_run=request.dry_run)).as_plain())

    async def verify(self, request: VerifyBackup) -> Reply:
        findings = await self._backups.verify(request.db, request.name, VerifyLevel[request.level.upper()])
        rows = [
            {"severity": one.severity.value, "file": one.file, "offset": one.offset, "what": one.what, "next_step": one.next_step}
            for one in findings[:100]
        ]
        return _ended(request.id, {"good": not findings, "level": request.level, "findings": rows, "findings_left_out": len(findings) - len(rows)})

    async def restore(self, request: RestoreBackup) -> Reply:
        self._databases.check_writable()
        moment = restore_target(request.to, request.at)
        name = request.name
        if moment is not None and request.explain:
            return _ended(request.id, await self._backups.explained(request.db, name, moment))
        began = trio.current_time()
        if moment is not None and not name:
            name = (await self._backups.explain(request.db, name, moment))[0].name
        done = await self._backups.restore(request.db, name, new_name=request.new_name, target=moment)
        await self._databases.begin_reign_anew(done.database)
        result = {
            "db": done.database.name,
            "backup": name,
            "safety": done.safety,
            "salvaged": done.salvaged,
            "epoch": done.database.position.epoch,
            "seq": done.reached.position.seq,
            "time_us": done.reached.time_us,
            "state_hash": "" if done.reached.commits else done.manifest.state_hash,
            "seconds": round(trio.current_time() - began, 3),
            "standbys": None,
        }
        return _ended(request.id, result)


def _ended(request_id: int, result: dict[str, Any]) -> Reply:
    job = {"job": 0, "kind": "", "db": "", "running": False, "step": "done", "result": result, "error": None}
    return Reply(request_id, encode_fields(job))
