"""The way back: a backup becomes a staged directory that Engine.replace puts in the place of a database. Blocking; runs in a worker.

Every byte is checked while it is copied, and the backup itself is only read: what is wrong with it is found before anything is
touched. The staged directory is a database of its own: `database.json`, one checkpoint, its files, an empty commit log. An incremental backup's files
are put together from their parts.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass, replace
from typing import Any

from .. import identity as identities
from ..disk import Disk, File
from ..errors import DamagedRecord, DiskFull
from ..shard import checkpoint as checkpoints
from ..shard.checkpoint import Checkpoint
from .composed import place_of
from .copying import CHUNK_BYTES, SYNC_BYTES, append_shared, other_disk
from .manifest import Manifest
from .parts import Part
from .verifying import Level, read_manifest, verify_backup

SPARE_BYTES = 16 * 2**20  # left free beside the staged copy


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOrder:
    """Which backup (root "" or absolute; directory below it) goes where below the engine's disk. uuid: the database becomes another one, in hex."""

    root: str
    directory: str
    staged: str
    uuid: str = ""


def stage_backup(disk: Disk, order: StageOrder) -> Manifest:
    """Copy a backup into the staging directory, synced. Raises DamagedRecord naming the first thing that is wrong, DiskFull, NewerFormat."""
    source = other_disk(disk, order.root)
    for finding in verify_backup(source, order.directory, Level.MANIFEST):
        raise DamagedRecord(f"{finding}; nothing was touched", file=finding.file, offset=0)
    manifest = read_manifest(source, order.directory)
    free = disk.free_bytes()
    if free < manifest.total_size + SPARE_BYTES:
        raise DiskFull(
            f"restoring takes {manifest.total_size + SPARE_BYTES} bytes beside what is there, {free} are free; free some space and restore again",
            free_bytes=free,
        )
    if disk.exists(order.staged):
        disk.remove_tree(order.staged)
    try:
        for directory in (order.staged, f"{order.staged}/commit", f"{order.staged}/{checkpoints.DIRECTORY}"):
            disk.make_dir(directory)
        for name in manifest.sizes:
            _copy(source, order.directory, manifest, name, disk, f"{order.staged}/{name}")
        checkpoint = checkpoints.load(disk, order.staged, manifest.position.seq)
        told = (manifest.uuid, manifest.position, manifest.chain, manifest.state_hash)
        if told != (checkpoint.uuid, checkpoint.position, checkpoint.chain, checkpoint.state_hash):
            raise DamagedRecord(f"{order.directory}: manifest and checkpoint contradict each other; nothing was touched", file=order.directory, offset=0)
        checkpoints.verify_files(disk, order.staged, checkpoint)
        if order.uuid:
            _name_anew(disk, order.staged, checkpoint, order.uuid)
        for directory in (f"{order.staged}/{checkpoints.DIRECTORY}", order.staged, posixpath.dirname(order.staged)):
            disk.sync_dir(directory)
    except (OSError, DamagedRecord):
        if disk.exists(order.staged):
            disk.remove_tree(order.staged)
        raise
    return manifest


def _name_anew(disk: Disk, staged: str, checkpoint: Checkpoint, uuid: str) -> None:
    """Another UUID, so that it can stand beside the database that it was copied from. The field index names the old one: it is built again."""
    identities.write(disk, staged, replace(identities.read(disk, staged), uuid=bytes.fromhex(uuid)))
    checkpoints.write(disk, staged, replace(checkpoint, uuid=uuid))
    for name in disk.list_dir(staged):
        if name.startswith("fields."):
            disk.remove(f"{staged}/{name}")


def _copy(source: Disk, directory: str, manifest: Manifest, name: str, disk: Disk, target: str) -> None:
    """One file of the backup, part by part, each held against its checksum."""
    parts = manifest.parts_of(name)
    whole = hashlib.sha256()
    made = disk.create(target)
    try:
        for part in parts:
            _copy_part(source, place_of(directory, part.backup, name), part, made, whole if len(parts) > 1 else None)
        made.sync()
    finally:
        made.close()
    if (parts[0].sha256 if len(parts) == 1 else whole.hexdigest()) != manifest.checksums[name]:
        raise _others(f"{directory}/{name}")


def _copy_part(source: Disk, path: str, part: Part, made: File, whole: Any | None) -> None:
    digest = hashlib.sha256()
    file = source.open_read(path)
    try:
        unsynced = 0
        for offset in range(part.offset, part.offset + part.length, CHUNK_BYTES):
            chunk = file.read_at(offset, min(CHUNK_BYTES, part.offset + part.length - offset))
            digest.update(chunk)
            if whole is not None:
                whole.update(chunk)
            append_shared(made, file, offset, chunk)
            unsynced += len(chunk)
            if unsynced >= SYNC_BYTES:
                made.sync()
                unsynced = 0
    finally:
        file.close()
    if digest.hexdigest() != part.sha256:
        raise _others(path)


def _others(path: str) -> DamagedRecord:
    return DamagedRecord(f"{path}: its bytes are not those that the manifest names; nothing was touched, choose another backup", file=path, offset=0)
