"""Is a backup what its manifest says, and does it hold what it should? Blocking, reads every byte.

Three levels, each with the ones before it: `manifest` (it is whole, every file is there with its size, nothing else is), `bytes` (every
file's SHA-256), `content` (every record, index entry and document, and the state hash worked out from the documents: what a restore would
come to). A finding is an answer, not an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import IntEnum

from ..check import check_database
from ..disk import Disk
from ..errors import DamagedRecord
from ..finding import Finding, Severity
from ..shard import checkpoint as checkpoints
from . import manifest as manifests
from .manifest import Manifest
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
    yield from _compare_checkpoint(disk, directory, manifest)
    for finding in check_database(disk, directory):
        if finding.severity is not Severity.NOTE:
            yield finding


def _compare_files(disk: Disk, directory: str, manifest: Manifest, *, is_hashed: bool) -> Iterator[Finding]:
    there = set(_walk(disk, directory))
    for name in sorted(there - manifest.sizes.keys() - {manifests.FILE}):
        yield Finding(Severity.ERROR, f"{directory}/{name}", -1, "the manifest does not name it", OTHER)
    for name, size in manifest.sizes.items():
        path = f"{directory}/{name}"
        try:
            if name not in there:
                yield Finding(Severity.ERROR, path, -1, "missing", OTHER)
            elif disk.size(path) != size:
                yield Finding(Severity.ERROR, path, -1, f"{disk.size(path)} bytes, the manifest says {size}", OTHER)
            elif is_hashed and _sha256(disk, path) != manifest.checksums[name]:
                yield Finding(Severity.ERROR, path, -1, "its bytes are not those that the manifest names", OTHER)
        except DamagedRecord as error:  # of an encrypted one
            yield Finding(Severity.ERROR, path, error.fields["offset"], error.message, OTHER)


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


def _sha256(disk: Disk, path: str) -> str:
    digest = hashlib.sha256()
    file = disk.open_read(path)
    try:
        for offset in range(0, file.size, READ_BYTES):
            digest.update(file.read_at(offset, READ_BYTES))
    finally:
        file.close()
    return digest.hexdigest()
