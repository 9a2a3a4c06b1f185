"""MemoryDisk: the Disk seam wholly in memory, for the product's memory mode and for tests.

Names point at inodes as in a file system: a removed or replaced file stays readable through handles that were opened
before; a rename is atomic. Nothing survives the process, so sync has nothing to do. A capacity turns it into a disk
that fills up: at the bound appending raises ENOSPC as a real one does (INV-8). tests/disk runs one promise suite on this
and on OsDisk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import trio

from .disk import check_within

T = TypeVar("T")

UNBOUNDED_FREE_BYTES = 1 << 60  # what a disk without capacity says is free


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)  # OSError picks FileNotFoundError and its like by number


class Inode:
    """The content of a file, however many names and handles it has."""

    __slots__ = ("data", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.data = bytearray()


class MemoryFile:
    """An open handle on an inode."""

    def __init__(self, disk: MemoryDisk, path: str, inode: Inode, *, writable: bool) -> None:
        self.path = path
        self.size = len(inode.data)
        self._disk = disk
        self._inode: Inode | None = inode
        self._writable = writable

    def _open_inode(self) -> Inode:
        if self._inode is None:
            raise _error(errno.EBADF, self.path)
        return self._inode

    def append(self, data: bytes | Sequence[bytes]) -> None:
        inode = self._open_inode()
        if not self._writable:
            raise _error(errno.EBADF, self.path)
        joined = data if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)
        fits = min(len(joined), self._disk.free_bytes() + max(0, len(inode.data) - self.size))
        inode.data[self.size : self.size + fits] = joined[:fits]
        self.size += fits
        if fits < len(joined):
            raise _error(errno.ENOSPC, self.path)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self._open_inode().data[offset : offset + length])

    def read_now(self, offset: int, length: int) -> bytes | None:
        data = bytes(self._open_inode().data[offset : offset + length])
        return data if len(data) == length else None

    def sync(self) -> float:
        self._open_inode()
        return 0.0

    def reserve(self, length: int) -> None:
        if length > self._disk.free_bytes():
            raise _error(errno.ENOSPC, self.path)
        self._open_inode().data += bytes(length)

    def trim(self) -> None:
        del self._open_inode().data[self.size :]

    def cut(self, length: int) -> None:
        del self._open_inode().data[length:]
        self.size = length

    def inode(self) -> int:
        return self._open_inode().number

    def close(self) -> None:
        self._inode = None


def _normal(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


class MemoryDisk:
    """Invariant: the parent of every file and directory is a directory; "" is the root."""

    def __init__(self, *, capacity_bytes: int | None = None) -> None:
        self._files: dict[str, Inode] = {}
        self._directories: set[str] = {""}
        self._locked: set[str] = set()
        self._inodes = 0
        self.capacity_bytes = capacity_bytes

    def _new_inode(self) -> Inode:
        self._inodes += 1
        return Inode(self._inodes)

    def _file(self, path: str) -> Inode:
        path = _normal(path)
        inode = self._files.get(path)
        if inode is None:
            raise _error(errno.EISDIR if path in self._directories else errno.ENOENT, path)
        return inode

    def _check_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent not in self._directories:
            raise _error(errno.ENOTDIR if parent in self._files else errno.ENOENT, path)

    def create(self, path: str) -> MemoryFile:
        name = _normal(path)
        self._check_parent(name)
        if name in self._files or name in self._directories:
            raise _error(errno.EEXIST, path)
        self._files[name] = inode = self._new_inode()
        return MemoryFile(self, path, inode, writable=True)

    def open_append(self, path: str) -> MemoryFile:
        return MemoryFile(self, path, self._file(path), writable=True)

    def open_read(self, path: str) -> MemoryFile:
        return MemoryFile(self, path, self._file(path), writable=False)

    def map(self, path: str) -> memoryview:
        return memoryview(bytes(self._file(path).data))

    def read_file(self, path: str) -> bytes:
        return bytes(self._file(path).data)

    def replace_file(self, path: str, data: bytes) -> None:
        name = _normal(path)
        self._check_parent(name)
        if name in self._directories:
            raise _error(errno.EISDIR, path)
        if len(data) > self.free_bytes():
            raise _error(errno.ENOSPC, path)
        inode = self._new_inode()
        inode.data += data
        self._files[name] = inode

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        inode = self._file(path)
        check_within(path, offset, len(data), len(inode.data))
        inode.data[offset : offset + len(data)] = data

    def rename(self, old: str, new: str) -> None:
        source, target = _normal(old), _normal(new)
        self._check_parent(target)
        if source in self._files:
            if target in self._directories:
                raise _error(errno.EISDIR, new)
            self._files[target] = self._files.pop(source)
        elif source in self._directories:
            self._rename_tree(source, target)
        else:
            raise _error(errno.ENOENT, old)

    def _rename_tree(self, source: str, target: str) -> None:
        if target in self._files:
            raise _error(errno.ENOTDIR, target)
        if target in self._directories and self._below(target):
            raise _error(errno.ENOTEMPTY, target)
        if (target + "/").startswith(source + "/") and target != source:
            raise _error(errno.EINVAL, target)
        for name in [source, *self._below(source)]:
            moved = target + name[len(source) :]
            if name in self._files:
                self._files[moved] = self._files.pop(name)
            else:
                self._directories.remove(name)
                self._directories.add(moved)

    def _below(self, path: str) -> list[str]:
        prefix = path + "/" if path else ""
        return [name for name in [*self._files, *self._directories] if name and name.startswith(prefix) and name != path]

    def remove(self, path: str) -> None:
        self._file(path)
        del self._files[_normal(path)]

    def remove_tree(self, path: str) -> None:
        name = _normal(path)
        if name not in self._directories:
            raise _error(errno.ENOTDIR if name in self._files else errno.ENOENT, path)
        for below in self._below(name):
            self._files.pop(below, None)
            self._directories.discard(below)
        if name:
            self._directories.remove(name)

    def make_dir(self, path: str) -> None:
        made = ""
        for part in _normal(path).split("/"):
            made = f"{made}/{part}" if made else part
            if made in self._files:
                raise _error(errno.EEXIST if made == _normal(path) else errno.ENOTDIR, path)
            self._directories.add(made)

    def list_dir(self, path: str) -> list[str]:
        name = _normal(path)
        if name in self._files:
            raise _error(errno.ENOTDIR, path)
        start = len(name) + 1 if name else 0
        return sorted({below[start:] for below in self._below(name) if "/" not in below[start:]})

    def exists(self, path: str) -> bool:
        name = _normal(path)
        return name in self._files or name in self._directories

    def size(self, path: str) -> int:
        return len(self._file(path).data)

    def inode(self, path: str) -> int:
        return self._file(path).number

    def sync_dir(self, path: str) -> None:
        name = _normal(path)
        if name not in self._directories:
            raise _error(errno.ENOTDIR if name in self._files else errno.ENOENT, path)

    def sync_all(self, files: Sequence[MemoryFile]) -> None:
        for file in files:
            file.sync()

    def free_bytes(self) -> int:
        if self.capacity_bytes is None:
            return UNBOUNDED_FREE_BYTES
        return max(0, self.capacity_bytes - sum(len(inode.data) for inode in self._files.values()))

    def is_read_only(self) -> bool:
        return False

    def total_bytes(self) -> int:
        return UNBOUNDED_FREE_BYTES if self.capacity_bytes is None else self.capacity_bytes

    def page_waits(self) -> int:
        return 0

    def lock(self, path: str, content: bytes) -> Callable[[], None]:
        name = _normal(path)
        if name in self._locked:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
        self.replace_file(path, content)
        self._locked.add(name)
        return lambda: self._locked.discard(name)

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """In place, after letting others run once."""
        await trio.lowlevel.checkpoint()
        return call(*args)
