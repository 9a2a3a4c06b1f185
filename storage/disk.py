"""The Disk seam: files, directories, and the only threads of the engine.

Calls on Disk and File are synchronous and may block; the event loop calls only those named cheap below, and everything
else through `await disk.run(call, ...)`, which in production uses a thread and in the simulator virtual time. A worker
process uses the same calls directly. Paths are str, relative to the disk's root, with "/" between parts.

Cheap on the loop: File.append (page cache), File.read_now, File.size, Disk.exists, Disk.free_bytes, Disk.rename of a small file's
name. File.sync is done there only where storage/commit/pace.py expects it to be short.

Why File.reserve: syncing an append to a file that grows makes the file system commit its new length and blocks too. Paired on one ext4
disk, append and fdatasync of 300 / 5,000 bytes: growing 245 / 394 µs, allocated only 176 / 306, written with zeros before 181 / 234.
An OSError from below is passed on as it is: callers know what a failed write or sync means (INV-1, INV-7).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import trio

T = TypeVar("T")

SYNCS_AT_ONCE = 8
THREADS_MAX = 16  # that calls run in; more wait
SPARE_DESCRIPTORS = 8  # kept for the moments in which connections have taken all others
RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
RESERVE_STEP_BYTES = 256 * 2**10  # zeros written and synced at a time: what a sync of another file may find in front of it


class File(Protocol):
    """An open file that only grows. Appending and reading at the same time is safe."""

    path: str
    size: int  # bytes written so far, this handle's own appends included

    def append(self, data: bytes | Sequence[bytes]) -> None:
        """Write all of data at the end. On OSError a part may have been written: `size` says how much."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to length bytes (short only at the end of the file)."""

    def read_now(self, offset: int, length: int) -> bytes | None:
        """The same if it needs no waiting for the device, else None."""

    def sync(self) -> float:
        """fdatasync: what was appended survives a power cut. Never call it again after it failed. Returns the seconds it took."""

    def reserve(self, length: int) -> None:
        """For a new file that nothing was appended to: its first `length` bytes are there from now on and read as zeros, and
        stay so over a power cut. Appends fill them from the front without changing the file's length; `size` does not count
        them. OSError when there is no room, or no way to do it here: then remove the file."""

    def trim(self) -> None:
        """Give back what was reserved and not filled. Without a sync: a power cut may bring the zeros back."""

    def cut(self, length: int) -> None:
        """Give back what was appended after so many bytes, which nothing names. Without a sync: a power cut may bring it back."""

    def inode(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """One directory tree."""

    def create(self, path: str) -> File:
        """A new empty file for appending; FileExistsError if it is there."""

    def open_append(self, path: str) -> File: ...

    def open_read(self, path: str) -> File: ...

    def map(self, path: str) -> memoryview:
        """The whole file as read-only memory (an empty view for an empty file)."""

    def read_file(self, path: str) -> bytes: ...

    def replace_file(self, path: str, data: bytes) -> None:
        """Write beside, sync, rename over, sync the directory: after it returns, data is there for good."""

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write over bytes that a file has, and sync it. For the repair of damaged bytes alone: nothing else ever changes what was
        written. ValueError when they would not lie within the file."""

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def remove_tree(self, path: str) -> None: ...

    def make_dir(self, path: str) -> None:
        """With parents; no error if it is there."""

    def list_dir(self, path: str) -> list[str]:
        """Sorted names; an empty list when the directory is not there."""

    def exists(self, path: str) -> bool: ...

    def size(self, path: str) -> int: ...

    def inode(self, path: str) -> int: ...

    def sync_dir(self, path: str) -> None:
        """Creations, renames and removals in that directory survive a power cut."""

    def sync_all(self, files: Sequence[File]) -> None:
        """sync() of every file, side by side where the device does several together. Raises what one of them raised."""

    def is_read_only(self) -> bool:
        """Whether nothing can be written at all, now."""

    def free_bytes(self) -> int:
        """What can still be written; 0 when no file could be made for it."""

    def total_bytes(self) -> int:
        """Of the whole file system."""

    def page_waits(self) -> int:
        """How often this thread has waited so far for a page of a mapped file to come from the device. Cheap on the loop."""

    def lock(self, path: str, content: bytes) -> Callable[[], None]:
        """Take an exclusive lock for the life of this process; BlockingIOError if another has it. Returns release."""

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """Run something that may block without holding the loop."""


def check_within(path: str, offset: int, length: int, size: int) -> None:
    """The bound of overwrite()."""
    if offset < 0 or offset + length > size:
        raise ValueError(f"{path}: bytes {offset} to {offset + length} are not within its {size}")


class OsFile:
    """A real file behind one descriptor, positioned reads and appends."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def append(self, data: bytes | Sequence[bytes]) -> None:
        joined = data if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)
        view = memoryview(joined)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def take(self, source: OsFile, offset: int, length: int) -> int:
        """take_range()'s."""
        taken = 0
        while taken < length:
            try:
                some = os.copy_file_range(source._descriptor, self._descriptor, length - taken, offset + taken, self.size)
            except OSError as error:
                if error.errno in CANNOT_TAKE:
                    break
                raise
            if not some:
                break
            taken += some
            self.size += some
        return taken

    @property
    def descriptor(self) -> int:
        """For the kernel, which reads many places in one call (storage/shard/fetching.py); -1 once it is closed."""
        return self._descriptor

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def read_now(self, offset: int, length: int) -> bytes | None:
        buffer = bytearray(length)
        try:
            got = os.preadv(self._descriptor, [buffer], offset, RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS):
                return None
            raise
        return bytes(buffer) if got == length else None

    def sync(self) -> float:
        began = time.monotonic()
        os.fdatasync(self._descriptor)
        return time.monotonic() - began

    def reserve(self, length: int) -> None:
        if not hasattr(os, "posix_fallocate"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), self.path)
        os.posix_fallocate(self._descriptor, 0, length)  # first, so that the blocks lie together and a full disk is met at once
        os.fsync(self._descriptor)
        zeros = bytes(RESERVE_STEP_BYTES)
        for start in range(0, length, RESERVE_STEP_BYTES):
            os.pwrite(self._descriptor, zeros[: length - start], start)
            os.fdatasync(self._descriptor)

    def trim(self) -> None:
        os.ftruncate(self._descriptor, self.size)

    def cut(self, length: int) -> None:
        os.ftruncate(self._descriptor, length)
        self.size = length

    def inode(self) -> int:
        return os.fstat(self._descriptor).st_ino

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


CANNOT_TAKE = (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ETXTBSY)


def take_range(target: File, source: File, offset: int, length: int) -> int:
    """Append bytes of another file without bringing them here, by copy_file_range(2): on file systems that can (Btrfs, XFS) the two share the
    blocks, on others of Linux the kernel copies. Returns how many it took, from the first on: fewer, or none, where that is not possible; append the rest."""
    if not (isinstance(target, OsFile) and isinstance(source, OsFile) and hasattr(os, "copy_file_range")):
        return 0
    return target.take(source, offset, length)


def open_lock(full: str) -> int:
    """A descriptor of a lock file, which is made if it can be."""
    try:
        return os.open(full, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise
        return os.open(full, os.O_RDONLY | os.O_CLOEXEC)


class OsDisk:
    """The real thing, below one root directory."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._limiter: trio.CapacityLimiter | None = None
        self._spares: list[int] = []

    def _open(self, path: str, flags: int) -> int:
        """A descriptor; when there is none left, one of those kept for that."""
        full = self._full(path)
        try:
            descriptor = os.open(full, flags | os.O_CLOEXEC, 0o640)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._spares:
                raise
            os.close(self._spares.pop())
            return os.open(full, flags | os.O_CLOEXEC, 0o640)
        with suppress(OSError):
            while len(self._spares) < SPARE_DESCRIPTORS:
                self._spares.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return descriptor

    def __del__(self) -> None:
        while self._spares:
            os.close(self._spares.pop())

    def _full(self, path: str) -> str:
        return os.path.join(self.root, path)

    def create(self, path: str) -> OsFile:
        return OsFile(path, self._open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))

    def open_append(self, path: str) -> OsFile:
        return OsFile(path, self._open(path, os.O_RDWR))

    def open_read(self, path: str) -> OsFile:
        return OsFile(path, self._open(path, os.O_RDONLY))

    def map(self, path: str) -> memoryview:
        descriptor = self._open(path, os.O_RDONLY)
        try:
            if os.fstat(descriptor).st_size == 0:
                return memoryview(b"")
            try:
                return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))  # which duplicates the descriptor
            except OSError as error:
                if error.errno != errno.EMFILE or not self._spares:
                    raise
                os.close(self._spares.pop())
                return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)

    def read_file(self, path: str) -> bytes:
        with os.fdopen(self._open(path, os.O_RDONLY), "rb") as file:
            return file.read()

    def replace_file(self, path: str, data: bytes) -> None:
        full = self._full(path)
        beside = full + ".tmp"
        descriptor = self._open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            os.unlink(beside)  # a full disk must not keep the space of what was not written
            raise
        os.close(descriptor)
        os.rename(beside, full)
        self.sync_dir(os.path.dirname(path))

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        descriptor = os.open(self._full(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            check_within(path, offset, len(data), os.fstat(descriptor).st_size)
            done = 0
            while done < len(data):
                done += os.pwrite(descriptor, data[done:], offset + done)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._full(old), self._full(new))

    def remove(self, path: str) -> None:
        os.unlink(self._full(path))

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(self._full(path))

    def make_dir(self, path: str) -> None:
        os.makedirs(self._full(path), mode=0o750, exist_ok=True)

    def list_dir(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._full(path)))
        except FileNotFoundError:
            return []

    def exists(self, path: str) -> bool:
        return os.path.exists(self._full(path))

    def size(self, path: str) -> int:
        return os.stat(self._full(path)).st_size

    def inode(self, path: str) -> int:
        return os.stat(self._full(path)).st_ino

    def sync_dir(self, path: str) -> None:
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(self, files: Sequence[OsFile]) -> None:
        if len(files) < 2:
            for file in files:
                file.sync()
            return
        with ThreadPoolExecutor(min(SYNCS_AT_ONCE, len(files))) as pool:
            for _ in pool.map(OsFile.sync, files):
                pass

    def free_bytes(self) -> int:
        facts = os.statvfs(self.root)
        if facts.f_files and not facts.f_favail:
            return 0
        return facts.f_bavail * facts.f_frsize

    def total_bytes(self) -> int:
        facts = os.statvfs(self.root)
        return facts.f_blocks * facts.f_frsize

    def page_waits(self) -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt

    def lock(self, path: str, content: bytes) -> Callable[[], None]:
        descriptor = open_lock(self._full(path))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        with suppress(OSError):  # a full or read-only disk: the lock is held all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
        return lambda: os.close(descriptor)

    @property
    def calls(self) -> int:
        """How many run in a thread or wait for one."""
        if self._limiter is None:
            return 0
        threads = self._limiter.statistics()
        return threads.borrowed_tokens + threads.tasks_waiting

    def is_read_only(self) -> bool:
        return bool(os.statvfs(self.root).f_flag & os.ST_RDONLY)

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """As trio.to_thread.run_sync, at half the cost: without a turn of the loop for a token that is free, a thread's name, and what a thread needs that
        calls back. Cannot be cancelled once it has begun."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(THREADS_MAX)
        borrower = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(borrower)
        try:
            return await _in_thread(partial(call, *args))
        finally:
            self._limiter.release_on_behalf_of(borrower)


async def _in_thread(call: Callable[[], T]) -> T:
    task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()

    def deliver(outcome: Any) -> None:
        token.run_sync_soon(trio.lowlevel.reschedule, task, outcome)  # the run cannot be over: this task is waiting in it

    trio.lowlevel.start_thread_soon(call, deliver)
    return await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
