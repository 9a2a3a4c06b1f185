"""Is a backup what its manifest says, and does it hold what it should? Blocking, reads every byte.

Three levels, each with the ones before it: `manifest` (it is whole, every file is there with its size, nothing else is), `bytes` (every
file's SHA-256), `content` (every record, index entry and document, and the state hash worked out from the documents: what a restore would
come to). A finding is an answer, not an error.

Of an incremental backup every part is read where it lies, and a finding names the file of the backup that holds it: an earlier backup that was damaged
or went missing makes those that need it unsound. Only the bytes that it needs count, not what else is wrong with the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from ..check import check_database
from ..disk import Disk
from ..errors import DamagedRecord
from ..finding import Finding, Severity
from ..shard import checkpoint as checkpoints
from . import manifest as manifests
from .composed import composed, place_of
from .manifest import Manifest
from .parts import OWN, Part
from .seal_keys import refuse_sealed

READ_BYTES = 2**20
OTHER = "choose another backup; this one cannot be restored"


class Level(IntEnum):
    """How thoroughly."""

    MANIFEST = 1
    BYTES = 2
    CONTENT = 3


def read_manifest(disk: Disk, directory: str) -> Manifest:
    """Raises DamagedRecord, NewerFormat, OSError (ENOKEY) for one whose key is not there."""
    path = f"{directory}/{manifests.FILE}"
    try:
        data = disk.read_file(path)
        refuse_sealed(data, path)
        return manifests.parse(data, path)
    except FileNotFoundError as error:
        raise DamagedRecord(f"{path} is missing: {directory} is no backup that was finished", file=path, offset=0) from error


def is_backup_directory(disk: Disk, directory: str) -> bool:
    """Whether a backup that was finished is there, sound or not."""
    return disk.exists(f"{directory}/{manifests.FILE}")


def verify_backup(disk: Disk, directory: str, level: Level = Level.CONTENT) -> Iterator[Finding]:
    """What is wrong with a backup; nothing at all when it can be restored. Raises NewerFormat."""
    try:
        manifest = read_manifest(disk, directory)
    except DamagedRecord as error:
        yield Finding(Severity.ERROR, f"{directory}/{manifests.FILE}", 0, error.message, OTHER)
        return
    faults = list(_compare_files(disk, directory, manifest, is_hashed=level >= Level.BYTES))
    yield from faults
    if faults or level < Level.CONTENT:
        return
    view = composed(disk, directory, manifest)
    yield from _compare_checkpoint(view, directory, manifest)
    for finding in check_database(view, directory):
        if finding.severity is not Severity.NOTE:
            yield finding


def _compare_files(disk: Disk, directory: str, manifest: Manifest, *, is_hashed: bool) -> Iterator[Finding]:
    there = set(_walk(disk, directory))
    own = manifest.own_sizes
    for name in sorted(there - own.keys() - {manifests.FILE}):
        yield Finding(Severity.ERROR, f"{directory}/{name}", -1, "the manifest does not name it", OTHER)
    wrong = set()
    for name, size in own.items():
        path = f"{directory}/{name}"
        try:
            if name not in there:
                wrong.add(name)
                yield Finding(Severity.ERROR, path, -1, "missing", OTHER)
            elif disk.size(path) != size:
                wrong.add(name)
                yield Finding(Severity.ERROR, path, -1, f"{disk.size(path)} bytes, the manifest says {size}", OTHER)
        except DamagedRecord as error:
            wrong.add(name)
            yield _of_encrypted(error)
    for name in manifest.sizes:
        try:
            faults = list(_compare_neighbours(disk, directory, manifest, name)) if manifest.is_incremental else []
            yield from faults
            if is_hashed and not faults and name not in wrong:
                yield from _compare_bytes(disk, directory, manifest, name)
        except DamagedRecord as error:
            yield _of_encrypted(error)


def _of_encrypted(error: DamagedRecord) -> Finding:
    """What an encrypted file said of itself when it was read."""
    return Finding(Severity.ERROR, error.fields["file"], error.fields["offset"], error.message, OTHER)


def _compare_neighbours(disk: Disk, directory: str, manifest: Manifest, name: str) -> Iterator[Finding]:
    """Whether the earlier backups have what they should hold of a file."""
    for part in manifest.parts_of(name):
        path = place_of(directory, part.backup, name)
        if part.backup != OWN and path == place_of(directory, OWN, name):
            yield Finding(Severity.ERROR, path, -1, "the manifest names its own backup as an earlier one", OTHER)
        elif part.backup != OWN and not disk.exists(path):
            yield Finding(Severity.ERROR, path, -1, f"missing, and {directory} needs it", OTHER)
        elif part.backup != OWN and (size := disk.size(path)) < part.offset + part.length:
            yield Finding(Severity.ERROR, path, -1, f"{size} bytes, and {directory} needs {part.offset + part.length}", OTHER)


def _compare_bytes(disk: Disk, directory: str, manifest: Manifest, name: str) -> Iterator[Finding]:
    """Each part against its checksum where it lies, and all of them against the file's."""
    parts, whole = manifest.parts_of(name), hashlib.sha256()
    is_sound = True
    for part in parts:
        path = place_of(directory, part.backup, name)
        if _sha256(disk, path, part, whole if len(parts) > 1 else None) != part.sha256:
            is_sound = False
            needed = "" if part.backup == OWN else f", and {directory} needs them"
            yield Finding(Severity.ERROR, path, -1, f"its bytes are not those that the manifest names{needed}", OTHER)
    if is_sound and (parts[0].sha256 if len(parts) == 1 else whole.hexdigest()) != manifest.checksums[name]:
        yield Finding(Severity.ERROR, f"{directory}/{name}", -1, "its parts together are not the file that the manifest names", OTHER)


def _compare_checkpoint(disk: Disk, directory: str, manifest: Manifest) -> Iterator[Finding]:
    path = checkpoints.path_of(directory, manifest.position.seq)
    try:
        checkpoint = checkpoints.load(disk, directory, manifest.position.seq)
    except (DamagedRecord, FileNotFoundError) as error:
        yield Finding(Severity.ERROR, path, 0, str(error), OTHER)
        return
    told = (manifest.uuid, manifest.position, manifest.chain, manifest.state_hash)
    if told != (checkpoint.uuid, checkpoint.position, checkpoint.chain, checkpoint.state_hash):
        yield Finding(Severity.ERROR, path, 0, "position, chain or state hash are not the manifest's", OTHER)


def _walk(disk: Disk, directory: str) -> Iterator[str]:
    """Every file below it, by its path from there."""
    for name in disk.list_dir(directory):
        path = f"{directory}/{name}"
        if name in ("commit", checkpoints.DIRECTORY):
            yield from (f"{name}/{inner}" for inner in disk.list_dir(path))
        else:
            yield name


def _sha256(disk: Disk, path: str, part: Part, whole: Any | None) -> str:
    """Also fed to `whole`, the digest of the file that it is a part of; None where it is all of it."""
    digest = hashlib.sha256()
    file = disk.open_read(path)
    try:
        for offset in range(part.offset, part.offset + part.length, READ_BYTES):
            chunk = file.read_at(offset, min(READ_BYTES, part.offset + part.length - offset))
            digest.update(chunk)
            if whole is not None:
                whole.update(chunk)
    finally:
        file.close()
    return digest.hexdigest()
