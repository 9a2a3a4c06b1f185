"""Making a backup: the files of one pinned checkpoint, copied, hashed and synced. Blocking; runs in a worker.

    <name>.part/ ── files ── synced ── _manifest.json ── renamed to <name>/ ── directory synced

Until the rename nothing looks like a backup, so one that was cut off is never taken for one; the next one takes what is left of it away. In a bucket, where
nothing is renamed, the manifest is put last and makes it one (unfinished.py).
One pass: each chunk is read, hashed and written; within one file system that can share blocks it is not written but shared, which the kernel decides. With bytes_per_s the copy sleeps so that it reads no faster than that.
With bases it becomes an incremental backup: what the newest whole one of them holds already (increments.py) is hashed and named, not written.
"""

from __future__ import annotations

import hashlib
import platform
import posixpath
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import google_crc32c
import xxhash

from .. import identity as identities
from ..disk import Disk, File, take_range
from ..errors import DamagedRecord
from ..fields import live
from ..fields.files import file_names
from ..fields.state import manifest_name
from ..fields.state import parse as parse_fields
from ..shard import checkpoint as checkpoints
from ..shard.checkpoint import Checkpoint
from . import manifest as manifests
from . import unfinished
from .increments import Base, Common, common_parts, open_base
from .manifest import Manifest
from .names import PART
from .parts import OWN, Part, Parts, own_length
from .places import other_disk, renames_directories

CHUNK_BYTES = 2**20
SYNC_BYTES = 32 * 2**20  # handed to the device at a time, so that no other file's sync finds gigabytes in front of it


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOrder:
    """What to copy where. root: an absolute directory, or "" for the engine's own; shelf and directory are relative to theirs. bases: backups of
    that shelf that an incremental one may stand on, the one to be preferred first; none, or none that is whole: a full backup."""

    db_name: str
    directory: str
    seq: int
    root: str
    shelf: str
    name: str
    created_at: str
    bytes_per_s: int = 0  # 0: as fast as it goes
    bases: tuple[str, ...] = ()


def copy_backup(disk: Disk, order: CopyOrder) -> Manifest:
    """Raises OSError as the disks give it (a full one: nothing is left behind), DamagedRecord when a file is not what the checkpoint says."""
    target = other_disk(disk, order.root)
    is_renamed = renames_directories(target)
    part = f"{order.shelf}/{order.name}{PART if is_renamed else ''}"
    make_durable_dir(target, order.shelf)
    if is_renamed:
        _clear_parts(target, order.shelf)
    else:
        by = _maker(disk)
        unfinished.begin(target, order.shelf, order.name, by)
        unfinished.clear_left_over(target, order.shelf, order.name, by)
    checkpoint = checkpoints.load(disk, order.directory, order.seq)
    base = open_base(target, order.shelf, order.bases, checkpoint.uuid)
    try:
        for directory in (part, f"{part}/commit", f"{part}/{checkpoints.DIRECTORY}"):
            target.make_dir(directory)
        copier = _Copier(disk, order.directory, target, part, order.bytes_per_s, base)
        copier.copy(identities.FILE, None)
        for name, length in checkpoints.files_of(checkpoint):
            copier.copy(name, length)
        copier.copy(checkpoints.path_of("", order.seq).lstrip("/"), None)
        copier.copy_fields(checkpoint)
        if base is None:
            checkpoints.verify_files(target, part, checkpoint)
        else:
            copier.check(checkpoint)
        manifest = Manifest(
            db_name=order.db_name,
            created_at=order.created_at,
            sizes=copier.sizes,
            checksums=copier.checksums,
            uuid=checkpoint.uuid,
            position=checkpoint.position,
            chain=checkpoint.chain,
            state_hash=checkpoint.state_hash,
            base=base.name if base is not None else "",
            parts=copier.parts if base is not None else {},
        )
        for directory in (f"{part}/{checkpoints.DIRECTORY}", part):
            target.sync_dir(directory)
        target.replace_file(f"{part}/{manifests.FILE}", manifests.encode(manifest))
        if is_renamed:
            target.rename(part, f"{order.shelf}/{order.name}")
            target.sync_dir(order.shelf)
        else:
            unfinished.finish(target, order.shelf, order.name)
    except (OSError, DamagedRecord):
        if not is_renamed:
            with suppress(OSError):  # the next backup takes it away
                unfinished.give_up(target, order.shelf, order.name)
        elif target.exists(part):
            target.remove_tree(part)
        raise
    return manifest


def append_shared(made: File, source: File, offset: int, chunk: bytes) -> None:
    """Append what was read there, sharing its blocks with the source where the file system can."""
    taken = take_range(made, source, offset, len(chunk))
    if taken < len(chunk):
        made.append(chunk[taken:])


def _maker(disk: Disk) -> str:
    """Who makes backups from here: the data directory, on this machine."""
    return hashlib.blake2b(f"{platform.node()}\0{getattr(disk, 'root', '')}".encode(), digest_size=16).hexdigest()


def make_durable_dir(target: Disk, path: str) -> None:
    """The directory, and every one that leads to it, survives a power cut."""
    target.make_dir(path)
    while path not in ("", "."):
        path = posixpath.dirname(path)
        target.sync_dir(path)


def _clear_parts(target: Disk, shelf: str) -> None:
    """What earlier tries left."""
    for name in target.list_dir(shelf):
        if name.endswith(PART):
            target.remove_tree(f"{shelf}/{name}")


class _Copier:
    """Copies files of one directory and remembers what they were. base: what need not be written again; None: everything is."""

    def __init__(self, disk: Disk, directory: str, target: Disk, part: str, bytes_per_s: int, base: Base | None) -> None:
        self._disk, self._directory = disk, directory
        self._target, self._part = target, part
        self._bytes_per_s = bytes_per_s
        self._base = base
        self._unsynced = 0
        self.sizes: dict[str, int] = {}
        self.checksums: dict[str, str] = {}
        self.parts: dict[str, Parts] = {}

    def copy(self, name: str, length: int | None) -> None:
        """The first length bytes of a file; None: all of it."""
        source = self._disk.open_read(f"{self._directory}/{name}")
        try:
            whole = source.size if length is None else length
            known = self._base.parts_of(name) if self._base is not None else ()
            common = common_parts(source, whole, known, self._bytes_per_s)
            if self._base is None or common.length < whole:
                self._copy_rest(source, name, whole, common)
            else:
                self.parts[name] = common.parts
            self.checksums[name] = common.digest.hexdigest()
        finally:
            source.close()
        self.sizes[name] = whole

    def _copy_rest(self, source: File, name: str, length: int, common: Common) -> None:
        """What follows the common parts becomes the file's own part."""
        made = self._target.create(f"{self._part}/{name}")
        own = common.digest if not common.length else hashlib.sha256()
        try:
            for offset in range(common.length, length, CHUNK_BYTES):
                wanted = min(CHUNK_BYTES, length - offset)
                chunk = source.read_at(offset, wanted)
                if len(chunk) < wanted:
                    raise DamagedRecord(f"{self._directory}/{name} ends at {offset + len(chunk)}, {length} bytes are needed", file=name, offset=offset)
                common.digest.update(chunk)
                if own is not common.digest:
                    own.update(chunk)
                append_shared(made, source, offset, chunk)
                self._unsynced += wanted
                if self._unsynced >= SYNC_BYTES:
                    made.sync()
                    self._unsynced = 0
                if self._bytes_per_s:
                    time.sleep(wanted / self._bytes_per_s)
            made.sync()
        finally:
            made.close()
        self.parts[name] = (*common.parts, Part(OWN, 0, length - common.length, own.hexdigest()))

    def check(self, checkpoint: Checkpoint) -> None:
        """As checkpoints.verify_files does for a full backup: what is named is read from the source, to which it was proven equal, and what was
        written is read again; the base's bytes are not. Raises DamagedRecord."""
        for shard in checkpoint.shards:
            for log in shard.logs:
                crc = 0
                for chunk in self._chunks(log.file):
                    crc = google_crc32c.extend(crc, chunk)
                if crc != log.crc32c:
                    raise _differs(f"{self._directory}/{log.file}")
            for index in shard.index:
                digest = xxhash.xxh3_64()
                for chunk in self._chunks(index.file):
                    digest.update(chunk)
                if digest.intdigest() != index.xxh3:
                    raise _differs(f"{self._directory}/{index.file}")

    def _chunks(self, name: str) -> Iterator[bytes]:
        own = own_length(self.parts[name])
        yield from _read(self._disk, f"{self._directory}/{name}", self.sizes[name] - own)
        if own:
            yield from _read(self._target, f"{self._part}/{name}", own)

    def copy_fields(self, checkpoint: Checkpoint) -> None:
        """The field index, if there is one of exactly this checkpoint: a cache (INV-5), so what is missing only makes the backup smaller."""
        path = manifest_name(checkpoint.seq)
        full = f"{self._directory}/{path}"
        if not self._disk.exists(full):
            return
        try:
            state = parse_fields(self._disk.read_file(full))
            possible = {name for number in state.numbers() for name in (*file_names(number), live.file_name(number))}
            for name in sorted(possible.intersection(self._disk.list_dir(self._directory))):
                self.copy(name, None)
            self.copy(path, None)
        except (DamagedRecord, FileNotFoundError):
            for name in [one for one in self.sizes if one.startswith("fields.")]:
                if self._target.exists(f"{self._part}/{name}"):
                    self._target.remove(f"{self._part}/{name}")
                del self.sizes[name], self.checksums[name], self.parts[name]


def _read(disk: Disk, path: str, length: int) -> Iterator[bytes]:
    file = disk.open_read(path)
    try:
        for offset in range(0, length, CHUNK_BYTES):
            yield file.read_at(offset, min(CHUNK_BYTES, length - offset))
    finally:
        file.close()


def _differs(path: str) -> DamagedRecord:
    return DamagedRecord(f"{path} or its copy is not what the checkpoint names: see `twinlog check`", file=path, offset=0)
