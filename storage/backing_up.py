"""Backups of an open engine's databases: make, list, verify, rotate, delete, restore. Knows no peer, no schedule, no role.

    backup   seal ── pin the checkpoint ── copy in the worker ── unpin ── rotate
    restore  stage and check the backup ── close ── safety snapshot of what is there ── begin ── Engine.replace

One job at a time for each database; a second is refused by name. A restore that is killed either never happened or is finished at the
next opening (Engine.replace's intent); its safety snapshot is on the shelf before anything is touched (INV-7). `close` and `begin` are the
Turnover's: who may write, and in which epoch, is not known here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import trio

from .backup import log_archive, places
from .backup.copying import CopyOrder, copy_backup, other_disk
from .backup.dependents import bases, dependents_of, incrementals_in_a_row
from .backup.estimating import SAMPLE_BYTES, SampleOrder, estimated_s, sample_pace
from .backup.forwarding import ForwardOrder, Reached, carry_forward, plan_forward
from .backup.log_archive import Target
from .backup.manifest import Manifest
from .backup.names import BACKUP, SAFETY, check_name, new_name, rfc3339
from .backup.proofs import Proof, note_proof
from .backup.pruning import Needed, Pruned, prune_archive, still_needed
from .backup.reading import Page, Place, ReadOrder, collections_in, read_page
from .backup.restoring import StageOrder, stage_backup
from .backup.shelf import BackupInfo, Shelf, as_dicts, delete_with_dependents, list_backups, rotate
from .backup.slow_disk import SlowDisk
from .backup.verifying import Level, read_manifest, verify_backup
from .database import Database
from .disk import Disk
from .engine import Engine
from .errors import (
    BadRequest,
    DamagedRecord,
    DatabaseExists,
    DiskFull,
    NoSuchBackup,
    Overloaded,
    TwinlogError,
)
from .finding import Finding
from .names import check_database_name
from .seams import Workers
from .seeding import SALVAGE, SEEDS
from .worker import BriefWorkers

log = logging.getLogger("twinlog.backup")

BUSY_RETRY_MS = 5_000
PLACES_MAX = 1_000  # with threads of their own, that are known at a time
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. database: as it is open now. safety: the name of the snapshot of what was there; "" when nothing was, or when it was
    so damaged that no snapshot could be made: then its files stand in _salvage/ (`salvaged`). reached: where it ended, the backup's position or what it was carried
    forward to."""

    database: Database
    manifest: Manifest
    safety: str
    salvaged: str
    reached: Reached


class Turnover:
    """What a restore asks of whoever decides who may write. This one asks nobody: for a database of which there is no other copy."""

    async def close(self, uuid: bytes) -> None:
        """The backup is sound and staged; the database with that UUID will take the place: nothing more may be written to what is there."""

    async def begin(self, uuid: bytes) -> None:
        """What was there is on the shelf. After this comes the replacement. Raises to give it up."""

    def check(self) -> None:
        """In the last moment. Raises to give it up."""


def _untold(_step: str) -> None:
    return


class Backups:
    """Over one engine. paths: configured shelves by database name; others are below the data directory. workers: where the long jobs run;
    readers: where documents are read out of backups, which nobody should wait for a copy to do."""

    def __init__(self, engine: Engine, workers: Workers | None = None, readers: Workers | None = None) -> None:
        self._engine = engine
        self._workers = workers or engine.seams.index_workers
        self._readers = readers or self._workers
        self._running: set[str] = set()
        self._read: Counter[tuple[Shelf, str]] = Counter()  # backups that are being read: they stay
        self._reached: dict[str, Disk] = {}  # whose threads are used
        self._sampling = trio.Lock()  # one sample at a time lies on the disk
        self.paths: dict[str, str] = {}
        self.bytes_per_s = 0  # of copies; 0: no limit

    def shelf(self, database: str) -> Shelf:
        """Raises BadName."""
        options = self._engine.options
        return Shelf.of(database, self.paths.get(database, ""), common=options.backup_path, key_file=options.backup_key_file)

    def is_running(self, database: str) -> bool:
        return database in self._running

    async def rest(self) -> None:
        """Now and then: let a worker of its own go when it has nothing to do."""
        for workers in {self._workers, self._readers}:
            if isinstance(workers, BriefWorkers):
                await workers.rest()

    async def aclose(self) -> None:
        """No more jobs; one that runs is cut off."""
        for workers in {self._workers, self._readers}:
            if isinstance(workers, BriefWorkers):
                await workers.aclose()

    async def check_path(self, path: str) -> None:
        """Whether backups can be put there: the directory is made, or an object put and removed. Raises BadRequest, OSError."""
        places.check_path(path)
        root = places.sealed(path, self._engine.options.backup_key_file)
        await self._run_at(root, places.try_path, root, self._engine.seams.random_bytes(8).hex())

    async def backup(self, database: str, *, max_copies: int = 0, incremental: bool = False) -> BackupInfo:
        """A new backup of everything committed when it was asked for; older ones beyond max_copies go (0: none). incremental: what an earlier one
        holds is not written again; where there is no sound one of this database it becomes a full one, as its manifest says.

        Raises NoSuchDatabase, BadRequest for a database without commits, Overloaded while another job runs, OSError, DamagedRecord."""
        with self._job(database):
            made = await self._copy(database, BACKUP, incremental=incremental)
        await self.rotate(database, max_copies)
        return made

    async def rotate(self, database: str, max_copies: int) -> list[str]:
        """Let go of the oldest beyond max_copies (0: of none) that no other needs. Returns their names."""
        if not max_copies:
            return []
        with self._job(database):
            shelf = self.shelf(database)
            spared = [name for held, name in self._read if held == shelf]
            done = await self._run_at(shelf.root, rotate, shelf, max_copies, spared)
        if done.gone or done.needed:
            told = f"; {', '.join(done.needed)}: kept beyond {max_copies}, since newer ones need them" if done.needed else ""
            log.info("%s: rotated out: %s%s", database, ", ".join(done.gone) or "nothing", told)
        return done.gone

    async def list(self, database: str, *, safety: bool = False) -> list[BackupInfo]:
        """Newest first; with safety the snapshots made before restores instead."""
        shelf = self.shelf(database)
        return await self._run_at(shelf.root, _list, shelf, safety)

    async def listed(self, database: str, *, safety: bool = False) -> list[dict[str, Any]]:
        """list() as plain values, for requests."""
        return as_dicts(await self.list(database, safety=safety), self.shelf(database))

    async def incrementals_in_a_row(self, database: str) -> int | None:
        """How many were made since the newest full one that is sound; None when there is none."""
        return incrementals_in_a_row(await self.list(database))

    async def delete(self, database: str, name: str, *, with_dependents: bool = False) -> list[str]:
        """Returns what went, newest first. with_dependents: also the incremental backups that need it. Raises BadName, NoSuchBackup, BackupNeeded naming
        those, Overloaded while one of them is being read."""
        with self._job(database):
            shelf = self.shelf(database)
            check_name(name)
            others = dependents_of(await self._run_at(shelf.root, _list, shelf, False), name)
            for one in (*others, name):
                if self._read[shelf, one]:
                    raise Overloaded(f"{one} is being read; wait for that", bound="backup in use", limit=1, retry_after_ms=BUSY_RETRY_MS)
            also = others if with_dependents else []
            return await self._run_at(shelf.root, delete_with_dependents, shelf, name, also)

    async def verify(self, database: str, name: str, level: Level = Level.CONTENT, *, bytes_per_s: int = 0) -> list[Finding]:
        """What is wrong with a backup; empty when it can be restored. In the worker: it reads everything. The outcome is noted on the shelf, and
        that of an earlier one whose bytes it needs with that one.
        bytes_per_s: read no faster; 0: as fast as it goes."""
        shelf = self.shelf(database)
        path = shelf.path(name)
        info = await self._find(shelf, name)
        with self._reading(shelf, name):
            findings = await self._workers.run(verify_in_worker, shelf.root, path, int(level), bytes_per_s)
            whole = level is Level.CONTENT and not findings and info.manifest is not None
            proof = Proof(
                at=rfc3339(self._engine.seams.time_us()),
                level=level.name.lower(),
                state_hash=info.manifest.state_hash if whole and info.manifest else "",
                findings=len(findings),
                first=str(findings[0])[:500] if findings else "",
            )
            await self._run_at(shelf.root, _note, shelf, name, proof)
            for other in info.needs:
                wrong = [one for one in findings if one.file.startswith(f"{shelf.path(other)}/")]
                if wrong:
                    seen = replace(proof, findings=len(wrong), first=str(wrong[0])[:500])
                    await self._run_at(shelf.root, _note, shelf, other, seen)
        return findings

    async def collections(self, database: str, name: str) -> list[tuple[str, int]]:
        """(name, documents) of every collection in a backup. Raises BadName, NoSuchBackup, DamagedRecord, NewerFormat."""
        shelf = self.shelf(database)
        seq = (await self._manifest(shelf, name)).position.seq
        with self._reading(shelf, name):
            return await self._readers.run(collections_in, shelf.root, shelf.path(name), seq)

    async def read(
        self, database: str, name: str, collection: str, *, spec: bytes = b"", ids: tuple[bytes, ...] | None = None, place: Place | None = None, limit: int = 0
    ) -> Page:
        """Some of a backup's documents, as they are (ReadOrder says what of), each record checked. Raises as collections(), and BadRequest, BadQuery."""
        shelf = self.shelf(database)
        seq = (await self._manifest(shelf, name)).position.seq
        order = ReadOrder(
            root=shelf.root, directory=shelf.path(name), seq=seq, collection=collection, spec=spec, ids=ids, place=place or Place(), limit=limit
        )
        with self._reading(shelf, name):
            return await self._readers.run(read_page, order)

    async def prune(self, database: str, *, dry_run: bool = False, sound_min: int = 1) -> Pruned:
        """Remove what of the database's log archive no backup or safety snapshot on this node's shelf needs; nothing while fewer than sound_min could be
        restored. dry_run: only say what. Raises NoSuchDatabase, BadRequest where no archive is kept, Overloaded while another job runs, OSError."""
        held, archive = self._engine.database(database), self._engine.options.archive
        if not archive:
            raise BadRequest("no log archive is kept here (setting `archive`): there is nothing to prune")
        with self._job(database):
            shelf = self.shelf(database)
            backups, snapshots = [await self._run_at(shelf.root, _list, shelf, safety) for safety in (False, True)]
            needed = still_needed(backups, snapshots, held.uuid.hex())
            if isinstance(needed, str):
                return Pruned(why_not=needed)
            if needed.sound < sound_min:
                return Pruned(why_not=f"{needed.sound} of {sound_min} sound backups are there: until then the archive is kept")
            root, directory = log_archive.place_of(archive, database, held.uuid, self._engine.options.backup_key_file)
            done = await self._workers.run(prune_in_worker, root, directory, held.uuid.hex(), needed.seq, needed.name, dry_run)
        if done.files and not dry_run:
            log.info("%s: %d files of the log archive up to commit %d were pruned; %s is the oldest backup", database, done.files, done.seq, done.needed_by)
        return done

    async def restore(
        self,
        database: str,
        name: str,
        *,
        new_name: str = "",
        target: Target | None = None,
        turnover: Turnover | None = None,
        told: Callable[[str], None] = _untold,
    ) -> Restored:
        """Put a backup in the place of a database, or bring it back where there is none; with new_name beside it, as a database with a UUID of
        its own. With a target it is carried forward to there by the log archive. The database is open afterwards, at that position and without a reign of
        its own. told: of each step.

        Raises BadName, NoSuchBackup, DamagedRecord, DiskFull, NewerFormat, BadRequest, DatabaseExists, and what the turnover raises; then nothing was touched."""
        turnover = turnover or Turnover()
        shelf = self.shelf(database)
        info = await self._find(shelf, name)
        goal = check_database_name(new_name or database)
        uuid = self._uuid_for(info, database, new_name)
        with self._job(goal), self._reading(shelf, name):
            told("checking the backup")
            staged = f"{SEEDS}/{goal}.restore"
            order = StageOrder(root=shelf.root, directory=shelf.path(name), staged=staged, uuid=uuid if new_name else "")
            manifest = await self._workers.run(stage_backup, order)
            held = self._engine.databases.get(goal)

            def check() -> None:
                if self._engine.databases.get(goal) is not held:
                    raise BadRequest(f"database {goal!r} was dropped, made or replaced meanwhile: nothing was touched, restore again")
                turnover.check()

            try:
                reached = await self._carry_forward(database, manifest, staged, target, told)
                await turnover.close(bytes.fromhex(uuid))
                safety = ""
                if held is not None and held.position.seq and not held.damaged:
                    told("taking a safety snapshot")
                    safety = (await self._copy(goal, SAFETY)).name
                await turnover.begin(bytes.fromhex(uuid))
            except (TwinlogError, OSError):
                await self._disk.run(_clear, self._disk, staged)
                raise
            told("putting it in place")
            with trio.CancelScope(shield=True):
                opened = await self._engine.replace(goal, staged, check)
            return Restored(opened, manifest, safety, "" if held is None or safety else f"{SALVAGE}/{goal}-...", reached)

    async def explain(self, database: str, name: str, target: Target) -> tuple[BackupInfo, Reached]:
        """Which backup (name, or with "" the newest that leads there) a restore to the target would begin with, and where it would end. Writes
        nothing. Raises BadRequest, NoSuchBackup with why none does."""
        infos = [await self._find(self.shelf(database), name)] if name else await self.list(database)
        await self._archive_now(database)
        problem: TwinlogError = NoSuchBackup(f"there is no backup of {database!r} in {self.shelf(database).directory}")
        for info in infos:
            if info.manifest is None:
                continue
            shelf = self.shelf(database)
            try:
                order = self._forward(database, info.manifest, shelf.path(info.name), target, base_root=shelf.root)
                return info, await self._workers.run(plan_forward, order)
            except (BadRequest, DamagedRecord) as error:
                problem = error if not isinstance(problem, BadRequest) else problem  # the newest one's reason
        raise problem

    async def explained(self, database: str, name: str, target: Target) -> dict[str, Any]:
        """explain() as plain values, for requests."""
        info, reached = await self.explain(database, name, target)
        assert info.manifest is not None, "explain chooses among those that can be read"
        held = self._engine.databases.get(database)
        size = info.manifest.total_size
        snapshot_bytes = max(size, held.sealed_bytes) if held is not None else 0  # of the safety snapshot, nearly
        return {
            "db": database,
            "backup": info.name,
            "from_seq": info.manifest.position.seq,
            "epoch": reached.position.epoch,
            "seq": reached.position.seq,
            "time_us": reached.time_us,
            "commits": reached.commits,
            "bytes": reached.bytes,
            "files": reached.files,
            "undone": max(0, held.position.seq - reached.position.seq) if held is not None else 0,
            "backup_bytes": size,
            "seconds": await self._restore_seconds(database, info, size + snapshot_bytes, reached.bytes),
        }

    async def _restore_seconds(self, database: str, info: BackupInfo, copied_bytes: int, replayed_bytes: int) -> float | None:
        """About how long; None where there is no room for a sample beside the reserve, or none can be read."""
        assert info.manifest is not None, "one that can be read was chosen"
        shelf, sizes = self.shelf(database), info.manifest.sizes
        order = SampleOrder(root=shelf.root, directory=shelf.path(info.name), name=max(sizes, key=sizes.__getitem__), scratch=f"{SEEDS}/{database}.sample")
        try:
            async with self._sampling:
                free, kept = self._free_and_kept()
                if free - SAMPLE_BYTES < kept:
                    return None
                await self._disk.run(self._disk.make_dir, SEEDS)
                pace = await self._workers.run(sample_pace, order)
        except (OSError, DamagedRecord) as error:
            log.warning("%s: how long a restore of %s takes cannot be told: %s", database, info.name, error)
            return None
        return estimated_s(copied_bytes=copied_bytes, replayed_bytes=replayed_bytes, pace=pace)

    async def _carry_forward(
        self, database: str, manifest: Manifest, staged: str, target: Target | None, told: Callable[[str], None]
    ) -> Reached:
        if target is None:
            return Reached(position=manifest.position, chain=manifest.chain, time_us=0)
        told("carrying it forward by the log archive")
        await self._archive_now(database)
        return await self._workers.run(carry_forward, self._forward(database, manifest, staged, target))

    def _forward(self, database: str, manifest: Manifest, directory: str, target: Target, *, base_root: str = "") -> ForwardOrder:
        archive = self._engine.options.archive
        if not archive:
            raise BadRequest("no log archive is kept here (setting `archive`): a backup restores to its own position only")
        root, place = log_archive.place_of(archive, database, bytes.fromhex(manifest.uuid), self._engine.options.backup_key_file)
        return ForwardOrder(
            base_root=base_root, directory=directory, seq=manifest.position.seq, root=root, archive=place, uuid=manifest.uuid, target=target
        )

    async def _archive_now(self, database: str) -> None:
        """What is committed by now can be restored to, too."""
        held = self._engine.databases.get(database)
        if held is not None and not held.damaged:
            try:
                await held.archiving.catch_up()
            except (OSError, DamagedRecord) as error:
                log.warning("%s: the newest commits are not archived: %s", database, error)

    def _uuid_for(self, info: BackupInfo, database: str, new_name: str) -> str:
        """Of the database that a restore will open, in hex. Raises for what would make two databases of one UUID, or over one that is there."""
        engine = self._engine
        if new_name:
            if new_name in engine.databases or new_name in engine.unopened:
                raise DatabaseExists(f"there is a database {new_name!r} already: choose another name, or drop it first")
            if len(engine.databases) >= engine.options.databases_max:
                raise Overloaded(
                    f"{len(engine.databases)} databases exist, the limit is {engine.options.databases_max}; drop one first",
                    bound="databases_max", limit=engine.options.databases_max, retry_after_ms=0,
                )  # fmt: skip
            return engine.seams.random_bytes(16).hex()
        uuid = info.manifest.uuid if info.manifest is not None else ""
        for name, other in engine.databases.items():
            if other.uuid.hex() == uuid and name != database:
                raise BadRequest(f"{info.name} is a backup of database {name!r}, which is here: restore it there, or under a new name")
        return uuid or "00" * 16  # a manifest that cannot be read is refused, with the reason, when it is staged

    @property
    def _disk(self) -> Disk:
        return self._engine.seams.disk

    async def _manifest(self, shelf: Shelf, name: str) -> Manifest:
        """Of one backup, looking at no other. Raises BadName, NoSuchBackup, DamagedRecord, NewerFormat."""
        return await self._run_at(shelf.root, _manifest_of, shelf, name)

    async def _run_at(self, root: str, call: Callable[..., T], *args: Any) -> T:
        """call(the engine's disk, *args), which reaches a root: in threads of that root, where it has some."""
        if not places.has_threads(root):
            return await self._disk.run(call, self._disk, *args)
        there = self._reached[root] = self._reached.pop(root, None) or other_disk(self._disk, root)
        while len(self._reached) > PLACES_MAX:
            del self._reached[next(iter(self._reached))]
        return await there.run(call, self._disk, *args)

    async def _find(self, shelf: Shelf, name: str) -> BackupInfo:
        check_name(name)
        for safety in (False, True):
            for info in await self._run_at(shelf.root, _list, shelf, safety):
                if info.name == name:
                    return info
        raise NoSuchBackup(f"there is no backup {name!r} in {shelf.shown}; list them")

    async def _copy(self, database: str, prefix: str, *, incremental: bool = False) -> BackupInfo:
        held, shelf = self._engine.database(database), self.shelf(database)
        self._check_space(held, shelf)  # first: a seal waits for space
        if await held.sealing.seal_now() == 0:
            raise BadRequest(f"{database} has no commits yet: there is nothing to back up")
        self._check_space(held, shelf)
        pin = await held.pin_checkpoint()
        assert pin is not None, "it was sealed just now"
        try:
            there = await self._run_at(shelf.root, _list, shelf, False)
            taken = [info.name for info in (*there, *await self._run_at(shelf.root, _list, shelf, True))]
            now_us = self._engine.seams.time_us()
            order = CopyOrder(
                db_name=database, directory=held.directory, seq=pin.seq, root=shelf.root, shelf=shelf.directory,
                name=new_name(prefix, now_us, taken), created_at=rfc3339(now_us), bytes_per_s=self.bytes_per_s,
                bases=bases(there) if incremental else (),
            )  # fmt: skip
            manifest = await self._workers.run(copy_backup, order)
        finally:
            pin.release()
        return BackupInfo(order.name, manifest)

    def _check_space(self, held: Database, shelf: Shelf) -> None:
        """A backup beside the data leaves the reserve alone, so that no backup stops the writers. Raises DiskFull."""
        free, kept = self._free_and_kept()
        if places.is_own(shelf.root) and free - held.sealed_bytes < kept:
            raise DiskFull(
                f"a backup of {held.name} takes about {held.sealed_bytes} bytes, {free} are free and {kept} are kept in reserve: "
                "free some, or give its backups a path on another disk",
                free_bytes=free,
                needed_bytes=held.sealed_bytes + kept,
            )

    def _free_and_kept(self) -> tuple[int, int]:
        """Bytes of the engine's disk: how many are free, and how many of them are the reserve."""
        disk, reserve = self._disk, self._engine.seams.reserve
        return disk.free_bytes(), reserve.kept_bytes(disk.total_bytes(), self._engine.options.free_bytes_min)

    @contextmanager
    def _job(self, database: str) -> Iterator[None]:
        if database in self._running:
            raise Overloaded(
                f"a backup or restore of {database} is running already; wait for it",
                bound="backup jobs of one database",
                limit=1,
                retry_after_ms=BUSY_RETRY_MS,
            )
        self._running.add(database)
        try:
            yield
        finally:
            self._running.discard(database)

    @contextmanager
    def _reading(self, shelf: Shelf, name: str) -> Iterator[None]:
        self._read[shelf, name] += 1
        try:
            yield
        finally:
            self._read[shelf, name] -= 1
            self._read += Counter()  # without those that nobody reads


def verify_in_worker(disk: Disk, root: str, path: str, level: int, bytes_per_s: int = 0) -> list[Finding]:
    """A job for the worker: verify_backup's findings."""
    on = other_disk(disk, root)
    return list(verify_backup(SlowDisk(on, bytes_per_s) if bytes_per_s else on, path, Level(level)))


def prune_in_worker(disk: Disk, root: str, directory: str, uuid: str, seq: int, name: str, dry_run: bool) -> Pruned:  # noqa: FBT001 - jobs have no keywords
    """A job for the worker: prune_archive."""
    return prune_archive(disk, root, directory, uuid, Needed(seq, name, 0), dry_run=dry_run)


def _manifest_of(disk: Disk, shelf: Shelf, name: str) -> Manifest:
    on, path = other_disk(disk, shelf.root), shelf.path(name)
    if not on.exists(path):
        raise NoSuchBackup(f"there is no backup {name!r} in {shelf.shown}; list them")
    return read_manifest(on, path)


def _list(disk: Disk, shelf: Shelf, safety: bool) -> list[BackupInfo]:  # noqa: FBT001 - disk.run has no keywords
    return list_backups(disk, shelf, safety=safety)


def _clear(disk: Disk, path: str) -> None:
    if disk.exists(path):
        disk.remove_tree(path)


def _note(disk: Disk, shelf: Shelf, name: str, proof: Proof) -> None:
    there = [info.name for safety in (False, True) for info in list_backups(disk, shelf, safety=safety)]
    note_proof(other_disk(disk, shelf.root), shelf.directory, name, proof, there)
