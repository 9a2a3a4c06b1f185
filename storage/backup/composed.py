"""A backup read as if all of it lay in its own directory, though parts of it lie in earlier ones. Read-only, blocking, copies nothing.

    open_read("shelf/backup_C/shard_000.db").read_at(90, 60)   =   backup_A[90..100] + backup_B[0..50]

It stands on whatever disk the shelf is on, through reading calls alone: who reads a checkpoint (the checker, a restore, a look-up) need not know.
Nothing is checked here: verifying.py holds parts against their checksums. A full backup needs no view: view_of gives the disk itself.
"""

from __future__ import annotations

import errno
import os
import posixpath

from ..disk import Disk, File
from ..errors import DamagedRecord
from . import manifest as manifests
from .manifest import Manifest
from .parts import OWN, Parts

OPEN_FILES_MAX = 16  # of one composed file: an older one is closed for a newer


def view_of(disk: Disk, directory: str) -> Disk:
    """Through which to read what is in directory: an incremental backup's composed view, for everything else the disk itself. Raises
    DamagedRecord, NewerFormat for a manifest that is not whole."""
    path = f"{directory}/{manifests.FILE}"
    if not disk.exists(path):
        return disk
    return composed(disk, directory, manifests.parse(disk.read_file(path), path))


def composed(disk: Disk, directory: str, manifest: Manifest) -> Disk:
    """The same with a manifest that was read already."""
    return ComposedDisk(disk, directory, manifest) if manifest.is_incremental else disk  # type: ignore[return-value] - the reading half of a Disk


def place_of(directory: str, backup: str, name: str) -> str:
    """Where a part's bytes are. directory: of the backup that names it; its neighbours hold the rest, and no name leads out of there."""
    return f"{directory}/{name}" if backup == OWN else posixpath.join(posixpath.dirname(directory), backup, name)


class ComposedDisk:
    """The reading half of Disk. Paths outside the backup's directory are not there."""

    def __init__(self, disk: Disk, directory: str, manifest: Manifest) -> None:
        self._disk = disk
        self._directory = directory
        self._manifest = manifest

    def open_read(self, path: str) -> File:
        return ComposedFile(self._disk, self._directory, path, self._name(path), self._parts(path))  # type: ignore[return-value]

    def map(self, path: str) -> memoryview:
        """A file of one part is mapped where it lies. One of several is put together in memory: those are shard logs, which nobody maps."""
        parts = self._parts(path)
        if len(parts) == 1:
            whole = self._disk.map(place_of(self._directory, parts[0].backup, self._name(path)))
            return whole[parts[0].offset : parts[0].offset + parts[0].length]
        return memoryview(self.read_file(path))

    def read_file(self, path: str) -> bytes:
        file = self.open_read(path)
        try:
            return file.read_at(0, file.size)
        finally:
            file.close()

    def list_dir(self, path: str) -> list[str]:
        inner = posixpath.relpath(path, self._directory)
        if inner == ".." or inner.startswith("../"):
            return []
        prefix = "" if inner == "." else f"{inner}/"
        return sorted({name.removeprefix(prefix).partition("/")[0] for name in self._manifest.sizes if name.startswith(prefix)})

    def exists(self, path: str) -> bool:
        return self._name(path) in self._manifest.sizes or bool(self.list_dir(path))

    def size(self, path: str) -> int:
        self._parts(path)
        return self._manifest.sizes[self._name(path)]

    def inode(self, path: str) -> int:
        """Of no meaning for a file of several parts; 0, as in a file that was copied."""
        self._parts(path)
        return 0

    def _name(self, path: str) -> str:
        return posixpath.relpath(path, self._directory)

    def _parts(self, path: str) -> Parts:
        name = self._name(path)
        if name not in self._manifest.sizes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._manifest.parts_of(name)


class ComposedFile:
    """A file's parts, one after the other. Files are opened when they are first read."""

    def __init__(self, disk: Disk, directory: str, path: str, name: str, parts: Parts) -> None:
        self.path = path
        self.size = sum(part.length for part in parts)
        self._disk = disk
        self._directory, self._name = directory, name
        self._parts = parts
        self._open: dict[str, File] = {}

    def read_at(self, offset: int, length: int) -> bytes:
        """Raises DamagedRecord when a part is not there, or shorter than the manifest says."""
        end = min(offset + length, self.size)
        pieces: list[bytes] = []
        begins = 0
        for part in self._parts:
            first, last = max(offset, begins), min(end, begins + part.length)
            if first < last:
                pieces.append(self._piece(part.backup, part.offset + first - begins, last - first))
            begins += part.length
            if begins >= end:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_now(self, offset: int, length: int) -> bytes | None:
        """Never: whoever asks for it asks again behind the disk seam."""
        return None

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _piece(self, backup: str, offset: int, length: int) -> bytes:
        path = place_of(self._directory, backup, self._name)
        try:
            data = self._file(backup, path).read_at(offset, length)
        except FileNotFoundError as error:
            raise DamagedRecord(f"{path}: missing, and {self.path} needs it; choose another backup", file=path, offset=0) from error
        if len(data) < length:
            raise DamagedRecord(f"{path}: it ends at {offset + len(data)}, and {self.path} needs more; choose another backup", file=path, offset=offset)
        return data

    def _file(self, backup: str, path: str) -> File:
        file = self._open.pop(backup, None) or self._disk.open_read(path)
        self._open[backup] = file  # the last one used stands last
        if len(self._open) > OPEN_FILES_MAX:
            self._open.pop(next(iter(self._open))).close()
        return file
