"""SimFile: one process life's handle on a file of a simulated disk (disk.py)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.sim.inodes import Inode

if TYPE_CHECKING:
    from tests.sim.disk import SimDisk


class SimFile:
    """A handle of one process life on an inode."""

    def __init__(self, disk: SimDisk, path: str, inode: Inode, *, writable: bool) -> None:
        self.path = path
        self.size = len(inode.data)
        self._disk = disk
        self._inode = inode
        self._writable = writable
        self._closed = False

    def _check_open(self) -> None:
        self._disk.check_alive()
        if self._closed:
            raise OSError(errno.EBADF, "closed file", self.path)

    def append(self, data: bytes | Sequence[bytes]) -> None:
        joined = bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)
        self._check_open()
        if not self._writable:
            raise OSError(errno.EBADF, "opened for reading", self.path)
        assert self.size == self._inode.written, f"{self.path}: two writers on one file"
        platter = self._disk.platter
        if self._disk.strikes():
            self._grow(joined[: platter.rng.randint(0, len(joined))])
            self._disk.crash()
        if platter.write_failures > 0:
            platter.write_failures -= 1
            self._grow(joined[: platter.rng.randint(0, len(joined))])
            raise OSError(errno.EIO, "the simulated device failed a write", self.path)
        room = platter.capacity_bytes - platter.used_bytes + self._inode.reserved
        if len(joined) > room:
            self._grow(joined[: max(room, 0)])
            raise OSError(errno.ENOSPC, "no space left on the simulated disk", self.path)
        if platter.misdirections > 0 and joined:
            platter.misdirections -= 1
            platter.misdirect(self.path, self._inode, self.size, joined)
        self._grow(joined)

    def _grow(self, data: bytes) -> None:
        platter, inode = self._disk.platter, self._inode
        before = len(inode.data)
        inode.data[self.size : self.size + len(data)] = data
        inode.reserved = max(0, inode.reserved - len(data))
        platter.used_bytes += len(inode.data) - before
        self.size += len(data)
        if platter.on_append is not None and data:
            platter.on_append(self.path, self._inode)

    def read_at(self, offset: int, length: int) -> bytes:
        self._check_open()
        self._disk.platter.fail_reads(self.path)
        return bytes(self._inode.data[offset : offset + length])

    def read_now(self, offset: int, length: int) -> bytes | None:
        self._check_open()
        platter = self._disk.platter
        if platter.cold_reads and platter.rng.random() < platter.cold_reads:
            return None
        platter.fail_reads(self.path)
        got = bytes(self._inode.data[offset : offset + length])
        return got if len(got) == length else None

    def reserve(self, length: int) -> None:
        self._check_open()
        assert not self._inode.data, f"{self.path}: only an empty file can be reserved"
        self._disk.step()
        platter = self._disk.platter
        if length > platter.capacity_bytes - platter.used_bytes:
            raise OSError(errno.ENOSPC, "no space left on the simulated disk", self.path)
        self._disk.owe_sync()
        self._inode.data += bytes(length)
        self._inode.reserved = self._inode.durable_length = length
        platter.used_bytes += length

    def trim(self) -> None:
        self._check_open()
        self._disk.step()
        if self._disk.platter.find(self.path) is self._inode:  # a removed file counts for nothing already
            self._disk.platter.used_bytes -= self._inode.reserved
        del self._inode.data[self._inode.written :]
        self._inode.reserved = 0

    def cut(self, length: int) -> None:
        self._check_open()
        self._disk.step()
        assert not self._inode.reserved, f"{self.path}: reserved space is given back by trim()"
        self._disk.platter.used_bytes -= max(0, len(self._inode.data) - length)
        del self._inode.data[length:]
        self._inode.synced = min(self._inode.synced, length)
        self.size = length

    def sync(self) -> float:
        self._check_open()
        self._disk.step()
        took_s = self._disk.owe_sync()
        platter = self._disk.platter
        if platter.sync_failures > 0:
            platter.sync_failures -= 1
            platter.failed_syncs += 1
            if platter.on_failed_sync is not None:
                platter.on_failed_sync()
            self._inode.poisoned = True
            raise OSError(errno.EIO, "the simulated device failed a sync", self.path)
        if platter.lies > 0:
            platter.lies -= 1
            platter.harmed.append(self.path)
        elif not self._inode.poisoned:
            self._inode.synced = self._inode.written
            self._inode.durable_length = len(self._inode.data)
        return took_s

    def inode(self) -> int:
        return self._inode.number

    def close(self) -> None:
        self._closed = True
