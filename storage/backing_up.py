"""Backups of an open engine's databases: make, list, verify, rotate, delete, restore. Knows no peer, no schedule, no role.

    backup   seal ── pin the checkpoint ── copy in the worker ── unpin ── rotate
    restore  stage and check the backup ── safety snapshot of what is there ── Engine.replace ── a new reign is the caller's

One job at a time for each database; a second is refused by name. A restore that is killed either never happened or is finished at the
next opening (Engine.replace's intent); its safety snapshot is on the shelf before anything is touched (INV-7).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .backup.copying import CopyOrder, copy_backup
from .backup.manifest import Manifest
from .backup.names import BACKUP, SAFETY, check_name, new_name, rfc3339
from .backup.restoring import StageOrder, stage_backup
from .backup.shelf import BackupInfo, Shelf, delete_backup, list_backups, rotate
from .backup.verifying import Level, verify_backup
from .disk import Disk
from .engine import Engine
from .errors import BadRequest, NoSuchBackup, Overloaded
from .finding import Finding
from .seeding import SEEDS


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. safety: the name of the snapshot of what was there; empty when nothing was."""

    manifest: Manifest
    safety: str


class Backups:
    """Over one engine. paths: configured shelves by database name; others are below the data directory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: set[str] = set()
        self.paths: dict[str, str] = {}
        self.bytes_per_s = 0  # of copies; 0: no limit

    def shelf(self, database: str) -> Shelf:
        return Shelf.of(database, self.paths.get(database, ""))

    def is_running(self, database: str) -> bool:
        return database in self._running

    async def backup(self, database: str, *, max_copies: int = 0) -> BackupInfo:
        """A new backup of everything committed when it was asked for; older ones beyond max_copies go (0: none).

        Raises NoSuchDatabase, BadRequest for a database without commits, Overloaded while another job runs, OSError, DamagedRecord."""
        with self._job(database):
            made = await self._copy(database, BACKUP)
            if max_copies:
                await self._disk.run(rotate, self._disk, self.shelf(database), max_copies)
            return made

    async def list(self, database: str, *, safety: bool = False) -> list[BackupInfo]:
        """Newest first; with safety the snapshots made before restores instead."""
        return await self._disk.run(self._listed, database, safety)

    def _listed(self, database: str, safety: bool) -> list[BackupInfo]:  # noqa: FBT001 - disk.run has no keywords
        return list_backups(self._disk, self.shelf(database), safety=safety)

    async def delete(self, database: str, name: str) -> None:
        """Raises BadName, NoSuchBackup."""
        with self._job(database):
            await self._disk.run(delete_backup, self._disk, self.shelf(database), name)

    async def verify(self, database: str, name: str, level: Level = Level.CONTENT) -> list[Finding]:
        """What is wrong with a backup; empty when it can be restored. In the worker: it reads everything."""
        shelf = self.shelf(database)
        path = shelf.path(name)
        await self._check_there(shelf, name)
        return await self._engine.seams.index_workers.run(verify_in_worker, shelf.root, path, int(level))

    async def restore(self, database: str, name: str) -> Restored:
        """Put a backup in the place of a database, or bring it back where there is none. The database is open afterwards, at the backup's
        position and without a reign of its own. Raises BadName, NoSuchBackup, DamagedRecord, DiskFull, NewerFormat; then nothing was touched."""
        shelf = self.shelf(database)
        path = shelf.path(name)
        await self._check_there(shelf, name)
        with self._job(database):
            staged = f"{SEEDS}/{database}.restore"
            manifest = await self._engine.seams.index_workers.run(stage_backup, StageOrder(root=shelf.root, directory=path, staged=staged))
            safety = ""
            held = self._engine.databases.get(database)
            if held is not None and held.position.seq:
                safety = (await self._copy(database, SAFETY)).name
            await self._engine.replace(database, staged)
            return Restored(manifest, safety)

    @property
    def _disk(self) -> Disk:
        return self._engine.seams.disk

    async def _check_there(self, shelf: Shelf, name: str) -> None:
        check_name(name)
        known = [info.name for safety in (False, True) for info in await self._disk.run(_list, self._disk, shelf, safety)]
        if name not in known:
            raise NoSuchBackup(f"there is no backup {name!r} in {shelf.directory}; list them")

    async def _copy(self, database: str, prefix: str) -> BackupInfo:
        held = self._engine.database(database)
        if await held.sealing.seal_now() == 0:
            raise BadRequest(f"{database} has no commits yet: there is nothing to back up")
        shelf = self.shelf(database)
        pin = await held.pin_checkpoint()
        assert pin is not None, "it was sealed just now"
        try:
            taken = [info.name for safety in (False, True) for info in await self._disk.run(_list, self._disk, shelf, safety)]
            now_us = self._engine.seams.time_us()
            order = CopyOrder(
                db_name=database, directory=held.directory, seq=pin.seq, root=shelf.root, shelf=shelf.directory,
                name=new_name(prefix, now_us, taken), created_at=rfc3339(now_us), bytes_per_s=self.bytes_per_s,
            )  # fmt: skip
            manifest = await self._engine.seams.index_workers.run(copy_backup, order)
        finally:
            pin.release()
        return BackupInfo(order.name, manifest)

    @contextmanager
    def _job(self, database: str) -> Iterator[None]:
        if database in self._running:
            raise Overloaded(
                f"a backup or restore of {database} is running already; wait for it", bound="backup jobs of one database", limit=1, retry_after_ms=5000
            )
        self._running.add(database)
        try:
            yield
        finally:
            self._running.discard(database)


def verify_in_worker(disk: Disk, root: str, path: str, level: int) -> list[Finding]:
    """A job for the worker: verify_backup's findings."""
    from .backup.copying import other_disk

    return list(verify_backup(other_disk(disk, root), path, Level(level)))


def _list(disk: Disk, shelf: Shelf, safety: bool) -> list[BackupInfo]:  # noqa: FBT001 - disk.run has no keywords
    return list_backups(disk, shelf, safety=safety)
