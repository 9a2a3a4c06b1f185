"""Copying a database between nodes by its newest checkpoint, and the one primitive that puts a copy in place.

    source: pin_checkpoint() ── files, manifest ──> target: _seeds/<name>/ ── verify ── replace() ──> <name>/

replace(): the copy is staged beside; a synced intent in _intents/ names both; the directory it replaces is moved to _salvage/
and the copy renamed into place; a crash at any step is finished at the next opening (INV-7). A target's files resume where
an earlier try stopped, as long as the source still offers the same checkpoint.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from . import identity as identities
from .disk import Disk, File
from .errors import BadName, DamagedRecord, PeerError, TwinlogError, of_disk
from .identity import Identity
from .names import check_database_name
from .shard import checkpoint as checkpoints
from .shard.checkpoint import Checkpoint

if TYPE_CHECKING:
    from .database import Database
    from .engine import Engine

SEEDS, INTENTS, SALVAGE, DROPPED = "_seeds", "_intents", "_salvage", "_dropped"
READ_BYTES_MAX = 4 * 2**20


class PinnedCheckpoint:
    """A checkpoint whose files stay until release(), also on disk, and from which the log is kept."""

    def __init__(self, database: Database, checkpoint: Checkpoint, manifest: bytes) -> None:
        self._database = database
        self.seq = checkpoint.seq
        self.manifest = manifest
        self.files: list[tuple[str, int]] = list(checkpoints.files_of(checkpoint))
        pins = database.sealing.pins
        pins[self.seq] = pins.get(self.seq, 0) + 1
        self._released = False

    async def read(self, name: str, offset: int, length: int) -> bytes:
        disk = self._database.seams.disk
        path = f"{self._database.directory}/{name}"
        return await disk.run(_read, disk, path, offset, min(length, READ_BYTES_MAX))

    def release(self) -> None:
        if self._released:
            return
        self._released = True
        pins = self._database.sealing.pins
        pins[self.seq] -= 1
        if not pins[self.seq]:
            del pins[self.seq]


async def pin_checkpoint(database: Database) -> PinnedCheckpoint | None:
    """The newest checkpoint, pinned; sealed first if there is none. None for a database without commits."""
    if database.sealing.checkpoint is None and await database.sealing.seal_now() == 0:
        return None
    checkpoint = database.sealing.checkpoint
    assert checkpoint is not None
    disk = database.seams.disk
    path = f"{database.directory}/checkpoints/{checkpoint.seq:020d}.json"
    pin = PinnedCheckpoint(database, checkpoint, b"")
    pin.manifest = await disk.run(disk.read_file, path)
    return pin


class SeedTarget:
    """A copy being received. Files are appended in order, each from the byte that missing() names."""

    def __init__(self, engine: Engine, name: str, identity: Identity, manifest: bytes) -> None:
        self._engine = engine
        self._disk = engine.seams.disk
        self.name = check_database_name(name)
        self._identity = identity
        self._manifest = manifest
        self.directory = f"{SEEDS}/{name}"
        self.checkpoint = checkpoints.parse(manifest)
        self._lengths = dict(checkpoints.files_of(self.checkpoint))
        self._open: dict[str, File] = {}
        for file in self._lengths:
            if "/" in file or file.startswith("."):
                raise BadName(f"a seed names the file {file!r}: only plain names are taken")

    async def prepare(self) -> None:
        """Make the staging directory; keep what an earlier try of the same checkpoint left there."""
        try:
            await self._disk.run(self._prepare)
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> TwinlogError:
        return of_disk(error, f"copying database {self.name!r}")

    def _prepare(self) -> None:
        disk = self._disk
        note = f"{self.directory}/seed.json"
        wanted = json.dumps({"identity": self._identity.as_dict(), "manifest": self._manifest.decode()}).encode()
        if disk.exists(note) and disk.read_file(note) == wanted:
            return
        if disk.exists(self.directory):
            disk.remove_tree(self.directory)
        disk.make_dir(self.directory)
        disk.replace_file(note, wanted)

    async def missing(self) -> dict[str, int]:
        """Files that are not whole yet, with how many of their bytes are here."""
        have = await self._disk.run(self._have)
        return {file: have.get(file, 0) for file, length in self._lengths.items() if have.get(file, 0) < length}

    async def missing_bytes(self) -> int:
        """What is still to be written of them."""
        have = await self._disk.run(self._have)
        return sum(length - have.get(file, 0) for file, length in self._lengths.items())

    def _have(self) -> dict[str, int]:
        names = set(self._disk.list_dir(self.directory))
        return {file: self._disk.size(f"{self.directory}/{file}") for file in self._lengths if file in names}

    async def write(self, file: str, offset: int, data: bytes) -> None:
        if file not in self._lengths:
            raise PeerError(f"the seed of {self.name} sent the file {file!r}, which its manifest does not name")
        try:
            await self._disk.run(self._write, file, offset, data)
        except OSError as error:
            raise self._not_written(error) from error

    def _write(self, file: str, offset: int, data: bytes) -> None:
        handle = self._open.get(file)
        if handle is None:
            path = f"{self.directory}/{file}"
            handle = self._disk.open_append(path) if self._disk.exists(path) else self._disk.create(path)
            self._open[file] = handle
        if handle.size != offset or offset + len(data) > self._lengths[file]:
            raise PeerError(
                f"the seed of {self.name} sent bytes {offset} to {offset + len(data)} of {file}, which has {handle.size} "
                f"of {self._lengths[file]}"
            )
        handle.append(data)

    async def finish(self) -> None:
        """Verify, sync, and put in place; the database is open afterwards. DamagedRecord: the copy is thrown away."""
        try:
            await self._disk.run(self._verify)
        except DamagedRecord:
            await self.abort()
            raise
        except OSError as error:
            raise self._not_written(error) from error
        await self._engine.replace(self.name, self.directory)

    def _verify(self) -> None:
        disk = self._disk
        for handle in self._open.values():
            handle.sync()
            handle.close()
        self._open.clear()
        checkpoints.verify_files(disk, self.directory, self.checkpoint)
        disk.make_dir(f"{self.directory}/commit")
        disk.make_dir(f"{self.directory}/checkpoints")
        disk.replace_file(f"{self.directory}/checkpoints/{self.checkpoint.seq:020d}.json", self._manifest)
        identities.write(disk, self.directory, self._identity)
        disk.remove(f"{self.directory}/seed.json")
        disk.sync_dir(self.directory)
        disk.sync_dir(SEEDS)

    async def abort(self) -> None:
        await self._disk.run(self._abort)

    def _abort(self) -> None:
        for handle in self._open.values():
            handle.close()
        self._open.clear()
        if self._disk.exists(self.directory):
            self._disk.remove_tree(self.directory)


def _read(disk: Disk, path: str, offset: int, length: int) -> bytes:
    file = disk.open_read(path)
    try:
        return file.read_at(offset, length)
    finally:
        file.close()


def begin_replace(disk: Disk, name: str, staged: str, salvage: str) -> None:
    """The synced intent; from here on the replacement will happen."""
    disk.make_dir(INTENTS)
    disk.make_dir(SALVAGE)
    disk.sync_dir("")
    intent = json.dumps({"kind": "replace", "name": name, "staged": staged, "salvage": salvage})
    disk.replace_file(f"{INTENTS}/{name}.json", intent.encode())


def finish_intents(disk: Disk) -> list[str]:
    """Carry out what a crash interrupted; returns a line for each."""
    done = []
    for file in disk.list_dir(INTENTS):
        if not file.endswith(".json"):
            continue
        intent = json.loads(disk.read_file(f"{INTENTS}/{file}"))
        name, staged, salvage = intent["name"], intent["staged"], intent["salvage"]
        if disk.exists(staged):
            if disk.exists(name) and not disk.exists(salvage):
                disk.rename(name, salvage)
                disk.sync_dir(SALVAGE)
                disk.sync_dir("")
            disk.rename(staged, name)
            disk.sync_dir("")
            disk.sync_dir(SEEDS)
        disk.remove(f"{INTENTS}/{file}")
        disk.sync_dir(INTENTS)
        done.append(f"{name}: put the new copy in place; what it replaced is in {salvage}")
    return done
