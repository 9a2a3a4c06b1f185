"""The engine: all databases of one data directory. Knows no peer, no role, no socket.

Directories and the UUIDs in them are the truth about which databases exist. Create makes the directory first; drop
moves it aside first. Each open database has its tasks in the engine's nursery, and ends with it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress

import trio

from . import errors
from . import identity as identities
from .database import Database
from .declaring import keep_building
from .disk import Disk
from .errors import (
    DamagedRecord,
    DatabaseExists,
    DiskFailed,
    DiskFull,
    NewerFormat,
    NoSuchDatabase,
    Overloaded,
    TwinlogError,
)
from .expiry import keep_expiring
from .identity import Identity
from .names import check_database_name
from .options import EngineOptions
from .recovery import Recovered, read_catalog, recover
from .rewinding import rewind
from .salvaging import Salvage
from .seams import Seams
from .seeding import DROPPED, SALVAGE, SeedTarget, begin_replace, finish_intents
from .shard import checkpoint as checkpoints
from .shard.shardset import ShardSet
from .space import CHECK_BYTES

log = logging.getLogger("twinlog.engine")


TURNING_RETRY_MS = 20
REOPEN_S = 5.0  # between two tries to open what the disk kept closed


def _anything_goes() -> None:
    return


class Engine:
    """Use `async with Engine.open(seams, options=...) as engine`."""

    def __init__(
        self, seams: Seams, options: EngineOptions, nursery: trio.Nursery, refusal: TwinlogError | None = None
    ) -> None:
        self.seams = seams
        self._refusal = refusal
        self.options = options
        self.databases: dict[str, Database] = {}
        self.node_id = ""  # hex; whoever owns the data directory sets it
        self.findings: list[str] = []
        self.salvage = Salvage(seams)
        self.unopened: dict[str, str] = {}  # databases that could not be opened, and why
        self._nursery = nursery
        self._scopes: dict[str, tuple[trio.CancelScope, trio.Event]] = {}
        self._watchers: list[Callable[[str, str], None]] = []
        self._changing = trio.Lock()
        self._scrub_turn = trio.Lock()
        self._waiting: set[str] = set()  # of databases: those that are read-only until there is space, and opened again then
        self._turning: set[str] = set()  # databases that are closed for the moment it takes to open them again, as they are or replaced
        self._failed: set[str] = set()  # of unopened: those that the disk kept from opening, which may pass

    @classmethod
    @asynccontextmanager
    async def open(
        cls, seams: Seams, *, options: EngineOptions | None = None, refusal: TwinlogError | None = None
    ) -> AsyncIterator[Engine]:
        """Opens every database below the seams' disk; on leaving, closes each in order. NewerFormat is raised;
        a database that is too damaged to open stays closed, named in `unopened`. refusal: what writes meet in a database, the
        engine's own included (builds, expiry), until refuse_writes() says otherwise: for a node whose role is not settled yet (INV-4)."""
        raised: Exception | None = None
        async with trio.open_nursery() as nursery:
            engine = cls(seams, options or EngineOptions(), nursery, refusal)
            try:
                await engine._open_all()
                nursery.start_soon(engine._keep_reopening)
                yield engine
            except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery: not as a group
                raised = error
            finally:
                engine._failed.clear()
                engine._waiting.clear()
                with trio.CancelScope(shield=True):
                    for name in list(engine.databases):
                        await engine._close(name)
                nursery.cancel_scope.cancel()
        if raised is not None:
            raise raised

    async def _open_all(self) -> None:
        disk = self.seams.disk
        self.findings += await disk.run(finish_intents, disk)
        for name in await disk.run(_database_names, disk):
            try:
                await self._open(name)
            except NewerFormat:
                raise
            except (DamagedRecord, OSError) as error:
                self._note_unopened(name, error)
        await self._count_salvage()

    async def _count_salvage(self) -> None:
        try:
            await self.salvage.count()
        except OSError as error:  # it is a figure for people; the next count mends it
            log.warning("what was set aside could not be counted: %s", error)

    def _note_unopened(self, name: str, error: DamagedRecord | OSError) -> None:
        log.error("%s stays closed: %s", name, error)
        self.unopened[name] = str(error)
        if isinstance(error, OSError):
            self._failed.add(name)

    def _free_and_needed(self) -> tuple[int, int]:
        """Bytes: how many are free, and how many of them are kept."""
        disk = self.seams.disk
        return disk.free_bytes(), self.seams.reserve.kept_bytes(disk.total_bytes(), self.options.free_bytes_min)

    def _has_space(self) -> bool:
        free, needed = self._free_and_needed()
        return free >= max(needed, CHECK_BYTES)

    async def _keep_reopening(self) -> None:
        """Open what a disk without space, or a process without descriptors, kept closed, until cancelled."""
        while True:
            await trio.sleep(REOPEN_S)
            for name in list(self._waiting):
                async with self._changing:
                    if name in self._waiting and self._has_space():
                        log.warning("%s: there is space again; it is opened for writing", name)
                        with self._turns(name):
                            await self._close(name)
                            await self._opens_again(name)
            for name in list(self._failed):
                async with self._changing:
                    if name in self._failed and await self._opens_again(name):
                        log.warning("%s is open again", name)

    async def _opens_again(self, name: str) -> bool:
        """After a step that failed, or later; what that step had begun for good is finished first."""
        self._failed.discard(name)
        disk = self.seams.disk
        try:
            self.findings += await disk.run(finish_intents, disk)
            self.unopened.pop(name, None)
            await self._open(name)
        except (DamagedRecord, OSError) as error:
            self._note_unopened(name, error)
            return False
        self._tell("reopened", name)
        return True

    async def _open(self, name: str) -> Database:
        disk = self.seams.disk
        found: Recovered = await disk.run(_recover, disk, name, self.options)
        shards = None
        if found.checkpoint is not None:
            shards = await disk.run(ShardSet.open, disk, name, found.checkpoint, None)
            found.findings += [str(finding) for finding in shards.findings]
            await disk.run(read_catalog, found, shards)
        database = Database(self.seams, name, name, self.options, found, shards)
        database.refuse_writes(self._refusal)
        if found.wants_space:
            self._waiting.add(name)
        for finding in found.findings:
            log.warning("%s: %s", name, finding)
        scope, ended = trio.CancelScope(), trio.Event()
        self._scopes[name] = (scope, ended)
        self.databases[name] = database
        await self._nursery.start(self._run, database, scope, ended)
        return database

    async def _run(
        self, database: Database, scope: trio.CancelScope, ended: trio.Event, task_status: trio.TaskStatus[None]
    ) -> None:
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(keep_expiring, database)
                    nursery.start_soon(keep_building, database)
                    nursery.start_soon(database.scrubbing.run, self._scrub_turn)
                    await database.run(task_status)
        finally:
            ended.set()

    async def _close(self, name: str) -> None:
        database = self.databases.pop(name)
        self._waiting.discard(name)
        scope, ended = self._scopes.pop(name)
        scope.cancel()
        await ended.wait()
        await database.close()

    @contextmanager
    def _turns(self, name: str) -> Iterator[None]:
        """Meanwhile nobody is told that there is no such database."""
        self._turning.add(name)
        try:
            yield
        finally:
            self._turning.discard(name)

    def is_closed(self, name: str) -> bool:
        """Whether there is a database of that name, which is not open now: database() says why."""
        return name in self.unopened or name in self._turning

    def database(self, name: str) -> Database:
        """Raises NoSuchDatabase; DiskFailed, DamagedRecord for one that could not be opened; Overloaded for one that will be open in a moment."""
        found = self.databases.get(name)
        if found is None:
            if name in self._turning:
                raise Overloaded(
                    f"database {name!r} is being opened again: ask again in a moment", bound="database being opened", limit=1, retry_after_ms=TURNING_RETRY_MS
                )
            if name in self._failed:
                raise DiskFailed(f"database {name!r} could not be opened: {self.unopened[name]}; it is tried again by itself")
            if name in self.unopened:
                raise DamagedRecord(f"database {name!r} could not be opened: {self.unopened[name]}")
            raise NoSuchDatabase(f"there is no database {name!r} here; the first write creates it", database=name)
        return found

    async def create_database(
        self, name: str, *, uuid: bytes | None = None, shards: int | None = None, crc: bool | None = None
    ) -> Database:
        """A new, empty database without a reign. One that exists is returned if its fixed options are the same."""
        check_database_name(name)
        async with self._changing:
            existing = self.databases.get(name)
            if existing is not None:
                self._check_same(existing, uuid=uuid, shards=shards, crc=crc)
                return existing
            if name in self.unopened:
                self.database(name)  # raises what is wrong with it: nothing is created over damaged data (INV-7)
            if len(self.databases) >= self.options.databases_max:
                raise Overloaded(
                    f"{len(self.databases)} databases exist, the limit is {self.options.databases_max}; drop one first",
                    bound="databases_max",
                    limit=self.options.databases_max,
                    retry_after_ms=0,
                )
            fixed = Identity(
                uuid or self.seams.random_bytes(16),
                self.options.shards if shards is None else shards,
                self.options.crc if crc is None else crc,
            )
            disk = self.seams.disk
            try:
                await disk.run(_make_directory, disk, name, fixed)
                database = await self._open(name)
            except OSError as error:
                with suppress(OSError):
                    await disk.run(_remove_directory, disk, name)
                raise errors.of_disk(error, f"creating database {name!r}") from error
            self._tell("created", name)
            return database

    def _check_same(self, existing: Database, *, uuid: bytes | None, shards: int | None, crc: bool | None) -> None:
        held = existing.identity
        if shards is not None and shards != held.shards:
            raise DatabaseExists(
                f"database {existing.name!r} was created with {held.shards} shards; the count is fixed: export it and "
                f"import it into a new database with {shards}",
                shards=held.shards,
            )
        if (uuid is not None and uuid != held.uuid) or (crc is not None and crc != held.crc):
            raise DatabaseExists(f"database {existing.name!r} exists with other options; drop it or choose another name")

    async def drop_database(self, name: str) -> None:
        """Gone, files and all. Its checkpoints and log cannot be brought back."""
        async with self._changing:
            path = await self._move_away(name)
            disk = self.seams.disk
            try:
                await disk.run(disk.remove_tree, path)
            except OSError as error:  # it is no database any more; what is left of it is for an operator
                log.warning("%s: not all files of the dropped database could be removed from %s: %s", name, path, error)
            self._tell("dropped", name)

    async def set_aside(self, name: str) -> str:
        """Take a database out of service without losing it: its directory moves to _dropped/. Returns the new path."""
        async with self._changing:
            path = await self._move_away(name)
            await self._count_salvage()
            self._tell("dropped", name)
            return path

    async def _move_away(self, name: str) -> str:
        uuid = self.database(name).uuid
        await self._close(name)
        path = f"{DROPPED}/{name}-{uuid.hex()}-{self.seams.time_us()}"
        disk = self.seams.disk
        try:
            await disk.run(_move_directory, disk, name, path)
        except OSError as error:
            await self._opens_again(name)
            raise errors.of_disk(error, f"moving the files of database {name!r} away") from error
        return path

    async def rewind(self, name: str, to_seq: int) -> Database | None:
        """Close, cut back to to_seq, open again. None when that is not possible without a copy: it is then open as before."""
        async with self._changing:
            with self._turns(name):
                await self._close(name)
                disk = self.seams.disk
                try:
                    cut = await disk.run(rewind, disk, name, to_seq, self.seams.time_us())
                except OSError as error:
                    await self._opens_again(name)
                    raise errors.of_disk(error, f"rewinding database {name!r}") from error
                database = await self._open(name)
            self._tell("reopened", name)
            await self._count_salvage()
            return database if cut else None

    async def begin_seed(self, name: str, uuid: bytes, options: dict, manifest: bytes) -> SeedTarget:
        """Stage a copy of a peer's checkpoint. Raises DamagedRecord, NewerFormat, BadName for what cannot be taken."""
        fixed = Identity.from_dict({**options, "uuid": uuid.hex()}, f"the seed of {name}")
        if checkpoints.parse(manifest).uuid != uuid.hex():
            raise DamagedRecord(f"the seed of {name} carries a manifest of another database")
        target = SeedTarget(self, name, fixed, manifest)
        await target.prepare()
        size = await target.missing_bytes()
        free, needed = self._free_and_needed()
        if needed and free - size < needed:
            raise DiskFull(
                f"the copy of database {name!r} takes {size} more bytes, {free} are free and {needed} are kept in reserve; free some",
                free_bytes=free,
                needed_bytes=needed + size,
            )
        return target

    async def replace(self, name: str, staged: str, check: Callable[[], None] = _anything_goes) -> Database:
        """Put a staged directory in the place of database name; what was there goes to _salvage/ (INV-7). check() may refuse by raising, in
        the last moment before anything is touched."""
        async with self._changing:
            check()
            with self._turns(name) if name in self.databases else nullcontext():
                if name in self.databases:
                    await self._close(name)
                disk = self.seams.disk
                salvage = f"{SALVAGE}/{name}-{self.seams.time_us()}"
                try:
                    await disk.run(begin_replace, disk, name, staged, salvage)
                    self.findings += await disk.run(finish_intents, disk)
                except OSError as error:
                    await self._opens_again(name)
                    raise errors.of_disk(error, f"putting the copy of database {name!r} in place") from error
                self.unopened.pop(name, None)
                self._failed.discard(name)
                database = await self._open(name)
            self._tell("reopened", name)
            await self._count_salvage()
            return database

    def met_damage(self, error: DamagedRecord) -> None:
        """A request met damage: the database whose file it names looks at it. Cheap."""
        database = self.databases.get(str(error.fields.get("file", "")).partition("/")[0])
        if database is not None:
            database.scrubbing.met(error)

    def watch_databases(self, callback: Callable[[str, str], None]) -> Callable[[], None]:
        """callback(kind, name), kind one of created, dropped, reopened; in place. Returns unwatch."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def _tell(self, kind: str, name: str) -> None:
        for watcher in tuple(self._watchers):
            watcher(kind, name)


def _database_names(disk: Disk) -> list[str]:
    return [name for name in disk.list_dir("") if disk.exists(f"{name}/{identities.FILE}")]


def _recover(disk: Disk, name: str, options: EngineOptions) -> Recovered:
    return recover(disk, name, records_max=options.memtable_records_max, bytes_max=options.memtable_bytes_max)


def _make_directory(disk: Disk, name: str, fixed: Identity) -> None:
    if disk.exists(name):
        disk.remove_tree(name)  # a creation that never finished: no database.json, so nothing was ever in it
    for part in (name, f"{name}/commit", f"{name}/checkpoints"):
        disk.make_dir(part)
    disk.sync_dir("")
    identities.write(disk, name, fixed)


def _remove_directory(disk: Disk, name: str) -> None:
    """Of a creation that failed: nothing was ever in it. Its database.json goes first and for good, so that whatever ends this midway
    leaves no database that lacks its parts."""
    if disk.exists(f"{name}/{identities.FILE}"):
        disk.remove(f"{name}/{identities.FILE}")
        disk.sync_dir(name)
    disk.remove_tree(name)


def _move_directory(disk: Disk, old: str, new: str) -> None:
    """Nothing has happened when it fails before the rename."""
    disk.make_dir(DROPPED)
    disk.rename(old, new)
    disk.sync_dir(DROPPED)
    disk.sync_dir("")
