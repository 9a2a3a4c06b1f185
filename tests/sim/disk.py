"""SimDisk: the Disk seam in memory, losing what a real device may lose.

Two objects, because a disk outlives the process that uses it:

    Platter   what stays: inodes, directories, what of them is durable, the faults in force
    SimDisk   one process life's use of a Platter; after the life ends every call on it raises SimCrash

What is durable. Bytes: up to the length at the last `sync` of that inode. Names: a creation, rename or removal is durable
once a `sync_dir` of a directory it touches came after it (and with it everything earlier in those directories; a rename is
one operation). Syncing a file does not make its name durable, and a directory whose own name is not durable takes its
whole content along.

    kill       (kill -9) keeps every byte and name written
    power_cut  keeps what is durable; of the unsynced tail of each file a random prefix, in which random 512-byte sectors may be
               zeros or garbage; of the unsynced name operations of each directory a random prefix. Reserved space that was synced
               is there again, with zeros for what of the tail was lost; a trim may be undone

Knows no engine. All chance comes from the one random.Random it is given, so one seed gives one run.
"""

from __future__ import annotations

import errno
import posixpath
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import trio

from storage.disk import check_within
from tests.sim.files import SimFile
from tests.sim.inodes import Directory, Inode, NameChange

T = TypeVar("T")

SECTOR_BYTES = 512
CAPACITY_BYTES = 2**40
ROOT = ""


class SimCrash(BaseException):
    """The process died inside this call. Not an Exception: no code of the engine may catch it and go on."""


class Platter:
    """One machine's disk. Change the public attributes to put faults in force.

    capacity_bytes        appends beyond it write what fits and raise ENOSPC
    sync_failures         so many of the next syncs raise EIO (and poison the file)
    write_failures        so many of the next appends write a part and raise EIO
    read_failures         so many of the next reads raise EIO
    misdirections         so many of the next appends land in another file on the device, which shows after a power cut
    lies                  so many of the next syncs say yes and keep nothing
    sync_delay_s          mean of a sync's virtual duration in run()
    call_delay_s          mean of any other call's virtual duration in run()
    cold_reads            chance that read_now answers None
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.root = Directory()
        self.capacity_bytes = CAPACITY_BYTES
        self.sync_failures = self.write_failures = self.read_failures = 0
        self.misdirections = self.lies = 0
        self.harmed: list[str] = []  # paths where the device broke its word, so far
        self.sync_delay_s = 0.001
        self.call_delay_s = self.usual_call_delay_s = 0.0002
        self.cold_reads = 0.0
        self.used_bytes = 0
        self.failed_reads = 0  # so far
        self.failed_syncs = 0  # so far; what they lost is gone when the page cache is
        self.locks: dict[str, SimDisk] = {}
        self.lost_bytes = 0  # by all power cuts, for reports
        self.longest_call_s = 0.0  # of all calls through run()
        self.on_failed_sync: Callable[[], None] | None = None
        self.on_append: Callable[[str, Inode], None] | None = None  # told after bytes were appended to a path
        self.on_replace: Callable[[str, bool], None] | None = None  # told before a file is replaced (False) and after it (True)
        self._changes: list[NameChange] = []
        self._next_number = 1

    def mount(self, on_crash: Callable[[], None] | None = None) -> SimDisk:
        """The disk for one process life. on_crash is called when a planned crash strikes."""
        return SimDisk(self, on_crash)

    def power_cut(self) -> None:
        """What is not durable is lost, in part or whole. Every mount must have ended before."""
        lost: set[int] = set()
        for change in self._changes:
            if change.touches(lost) or self.rng.random() < 0.5:
                lost |= change.directories()
            else:
                change.make_durable()
        self._changes.clear()
        self.used_bytes = 0
        self._come_back(self.root)

    def _come_back(self, directory: Directory) -> None:
        directory.entries = dict(directory.durable)
        for name in sorted(directory.entries):
            node = directory.entries[name]
            if isinstance(node, Directory):
                self._come_back(node)
            else:
                self._lose_tail(node)
                self.used_bytes += len(node.data)

    def _lose_tail(self, inode: Inode) -> None:
        whole = keep = inode.written
        if whole > inode.synced:
            fate = self.rng.random()
            if fate < 0.3:
                keep = inode.synced
            elif fate < 0.5:
                keep = whole
            else:
                keep = self.rng.randint(inode.synced, whole)
            self.lost_bytes += whole - keep
            if self.rng.random() < 0.5:
                self._spoil_sectors(inode, keep)
        length = keep
        if inode.durable_length > keep and (inode.reserved or self.rng.random() < 0.5):  # else: it was trimmed, and stays so
            length = inode.durable_length
        inode.data[keep:] = bytes(length - keep)
        inode.synced = inode.durable_length = length
        inode.reserved = 0
        inode.poisoned = False
        for offset, wrong in inode.misdirected:
            inode.data[offset : offset + len(wrong)] = wrong[: max(0, length - offset)]
        inode.misdirected.clear()

    def misdirect(self, path: str, inode: Inode, offset: int, data: bytes) -> None:
        """On the device these bytes stand in another file; in their own place is what was there before."""
        others = [(other, node) for other, node in self.files() if node is not inode and node.synced]
        inode.misdirected.append((offset, bytes(len(data))))
        self.harmed.append(path)
        if others:
            other, node = self.rng.choice(others)
            at = self.rng.randrange(node.synced) // SECTOR_BYTES * SECTOR_BYTES
            node.misdirected.append((at, data[: node.synced - at]))
            self.harmed.append(other)

    def fail_reads(self, path: str) -> None:
        """Called before every read of a file's bytes."""
        if self.read_failures > 0:
            self.read_failures -= 1
            self.failed_reads += 1
            raise OSError(errno.EIO, "the simulated device failed a read", path)

    def _spoil_sectors(self, inode: Inode, end: int) -> None:
        """Of the sectors that were never synced, some never reached the device though the file's length did."""
        for start in range(inode.synced - inode.synced % SECTOR_BYTES, end, SECTOR_BYTES):
            low, high = max(start, inode.synced), min(start + SECTOR_BYTES, end)
            fate = self.rng.random()
            if fate < 0.2:
                inode.data[low:high] = bytes(high - low)
            elif fate < 0.3:
                inode.data[low:high] = self.rng.randbytes(high - low)

    def files(self) -> Iterator[tuple[str, Inode]]:
        """Every file with its path, sorted."""
        yield from self._files_below(self.root, ROOT)

    def _files_below(self, directory: Directory, path: str) -> Iterator[tuple[str, Inode]]:
        for name in sorted(directory.entries):
            node = directory.entries[name]
            full = posixpath.join(path, name)
            if isinstance(node, Directory):
                yield from self._files_below(node, full)
            else:
                yield full, node

    def flip_bit(self, path: str, offset: int, bit: int) -> None:
        """Damage on demand: the medium forgets one bit, synced or not."""
        node = self.find(path)
        assert isinstance(node, Inode), f"{path} is no file"
        node.data[offset] ^= 1 << bit

    def find(self, path: str) -> Inode | Directory | None:
        node: Inode | Directory | None = self.root
        for part in _parts(path):
            if not isinstance(node, Directory):
                return None
            node = node.entries.get(part)
        return node

    def new_inode(self) -> Inode:
        self._next_number += 1
        return Inode(self._next_number)

    def change_names(self, *assignments: tuple[Directory, str, Inode | Directory | None]) -> None:
        change = NameChange(list(assignments))
        for directory, name, node in assignments:
            gone = directory.entries.pop(name, None)
            if isinstance(gone, Inode) and node is not gone and not self._moves_to(gone, assignments):
                self.used_bytes -= len(gone.data)
            if node is not None:
                directory.entries[name] = node
        self._changes.append(change)

    @staticmethod
    def _moves_to(gone: Inode, assignments: Sequence[tuple[Directory, str, Any]]) -> bool:
        return any(node is gone for _, _, node in assignments)

    def sync_names(self, directory: Directory) -> None:
        """Every change that touches the directory becomes durable, with all that came before in what they touch."""
        wanted = {id(directory)}
        durable: list[NameChange] = []
        for change in reversed(self._changes):
            if change.touches(wanted):
                wanted |= change.directories()
                durable.append(change)
        for change in reversed(durable):
            change.make_durable()
        self._changes = [change for change in self._changes if change not in durable]


class SimDisk:
    """Disk over a Platter for one process life."""

    def __init__(self, platter: Platter, on_crash: Callable[[], None] | None = None) -> None:
        self.platter = platter
        self.steps = 0  # operations that change the disk, counted for crash_in
        self._owed_s = 0.0  # what the syncs of the call now running take
        self._on_crash = on_crash
        self._crash_at: int | None = None
        self._dead = False
        self._waiting: dict[trio.CancelScope, None] = {}  # of the calls that are under way

    # The life of the process.

    def kill(self) -> None:
        """The process is gone: every later call, clean-up included, raises SimCrash and changes nothing."""
        self._dead = True
        for scope in self._waiting:
            scope.cancel()
        for path in [path for path, holder in self.platter.locks.items() if holder is self]:
            del self.platter.locks[path]

    def crash_in(self, steps: int | None) -> None:
        """Die inside the steps-th changing operation from now (an append may then be torn); None: not at all."""
        self._crash_at = None if steps is None else self.steps + steps

    @property
    def dead(self) -> bool:
        return self._dead

    def check_alive(self) -> None:
        if self._dead:
            raise SimCrash

    def strikes(self) -> bool:
        """Count one changing operation; whether the planned crash falls on it."""
        self.steps += 1
        return self._crash_at is not None and self.steps >= self._crash_at

    def crash(self) -> None:
        self.kill()
        if self._on_crash is not None:
            self._on_crash()
        raise SimCrash

    def step(self) -> None:
        """Before an operation that happens whole or not at all."""
        self.check_alive()
        if self.strikes():
            self.crash()

    def hasten(self) -> None:
        """The device is quick again: the calls that wait for it now are done in a moment, however long they had been going to take."""
        soon = trio.current_time() + self.platter.usual_call_delay_s
        for scope in self._waiting:
            scope.deadline = min(scope.deadline, soon)

    # Names.

    def _directory(self, path: str) -> Directory:
        node = self.platter.find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return node

    def _inode_at(self, path: str) -> Inode:
        self.check_alive()
        node = self.platter.find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return node

    def create(self, path: str) -> SimFile:
        self.step()
        parent, name = self._directory(posixpath.dirname(path)), posixpath.basename(path)
        if name in parent.entries:
            raise FileExistsError(errno.EEXIST, "file exists", path)
        if self.platter.used_bytes >= self.platter.capacity_bytes:
            raise OSError(errno.ENOSPC, "no space left on the simulated disk", path)
        inode = self.platter.new_inode()
        self.platter.change_names((parent, name, inode))
        return SimFile(self, path, inode, writable=True)

    def open_append(self, path: str) -> SimFile:
        inode = self._inode_at(path)
        inode.reserved = 0  # a new handle appends at the end of the file, as its length says
        return SimFile(self, path, inode, writable=True)

    def open_read(self, path: str) -> SimFile:
        return SimFile(self, path, self._inode_at(path), writable=False)

    def map(self, path: str) -> memoryview:
        inode = self._inode_at(path)
        self.platter.fail_reads(path)
        return memoryview(bytes(inode.data))

    def read_file(self, path: str) -> bytes:
        inode = self._inode_at(path)
        self.platter.fail_reads(path)
        return bytes(inode.data)

    def replace_file(self, path: str, data: bytes) -> None:
        beside = path + ".tmp"
        self.check_alive()
        self._tell_replaced(path, done=False)
        if self.exists(beside):  # opened with O_TRUNC: the old bytes go, the inode stays
            self.remove(beside)
        file = self.create(beside)
        try:
            file.append(data)
            file.sync()
        except OSError:
            self.remove(beside)
            raise
        finally:
            file.close()
        self.rename(beside, path)
        self.sync_dir(posixpath.dirname(path))
        self._tell_replaced(path, done=True)

    def _tell_replaced(self, path: str, *, done: bool) -> None:
        if self.platter.on_replace is not None:
            self.platter.on_replace(path, done)
            self.check_alive()

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        """Durable when it returns; a crash within leaves a part of it, a failed sync leaves it to the next power cut (which keeps it)."""
        inode = self._inode_at(path)
        check_within(path, offset, len(data), inode.written)
        if self.strikes():
            part = self.platter.rng.randint(0, len(data))
            inode.data[offset : offset + part] = data[:part]
            self.crash()
        inode.data[offset : offset + len(data)] = data
        self.owe_sync()

    def rename(self, old: str, new: str) -> None:
        self.step()
        source, destination = self._directory(posixpath.dirname(old)), self._directory(posixpath.dirname(new))
        node = source.entries.get(posixpath.basename(old))
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        there = destination.entries.get(posixpath.basename(new))
        if there is node:
            return
        if isinstance(there, Directory):
            if not isinstance(node, Directory):
                raise IsADirectoryError(errno.EISDIR, "is a directory", new)
            if there.entries:
                raise OSError(errno.ENOTEMPTY, "directory not empty", new)
        elif there is not None and isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", new)
        self.platter.change_names(
            (source, posixpath.basename(old), None), (destination, posixpath.basename(new), node)
        )

    def remove(self, path: str) -> None:
        self.step()
        self._inode_at(path)
        self.platter.change_names((self._directory(posixpath.dirname(path)), posixpath.basename(path), None))

    def remove_tree(self, path: str) -> None:
        directory = self._directory(path)
        for name in sorted(directory.entries):
            if isinstance(directory.entries[name], Directory):
                self.remove_tree(posixpath.join(path, name))
            else:
                self.remove(posixpath.join(path, name))
        self.step()
        self.platter.change_names((self._directory(posixpath.dirname(path)), posixpath.basename(path), None))

    def make_dir(self, path: str) -> None:
        self.check_alive()
        directory = self.platter.root
        for part in _parts(path):
            node = directory.entries.get(part)
            if node is None:
                self.step()
                node = Directory()
                self.platter.change_names((directory, part, node))
            if not isinstance(node, Directory):
                raise FileExistsError(errno.EEXIST, "a file is in the way", path)
            directory = node

    def list_dir(self, path: str) -> list[str]:
        self.check_alive()
        node = self.platter.find(path)
        if node is None:
            return []
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return sorted(node.entries)

    def exists(self, path: str) -> bool:
        self.check_alive()
        return self.platter.find(path) is not None

    def size(self, path: str) -> int:
        return len(self._inode_at(path).data)

    def inode(self, path: str) -> int:
        return self._inode_at(path).number

    def sync_dir(self, path: str) -> None:
        directory = self._directory(path)
        self.step()
        self.owe_sync()
        self.platter.sync_names(directory)

    def sync_all(self, files: Sequence[SimFile]) -> None:
        for file in files:
            file.sync()

    def free_bytes(self) -> int:
        self.check_alive()
        return max(self.platter.capacity_bytes - self.platter.used_bytes, 0)

    def is_read_only(self) -> bool:
        return False

    def total_bytes(self) -> int:
        self.check_alive()
        return self.platter.capacity_bytes

    def page_waits(self) -> int:
        return 0

    def lock(self, path: str, content: bytes) -> Callable[[], None]:
        self.check_alive()
        holder = self.platter.locks.get(path)
        if holder is not None:
            raise BlockingIOError(errno.EWOULDBLOCK, "held by another process", path)
        parent, name = self._directory(posixpath.dirname(path)), posixpath.basename(path)
        if name not in parent.entries:
            self.platter.change_names((parent, name, self.platter.new_inode()))
        inode = self._inode_at(path)
        self.platter.used_bytes += len(content) - len(inode.data)
        inode.data[:] = content
        inode.synced = min(inode.synced, len(content))
        self.platter.locks[path] = self

        def release() -> None:
            if self.platter.locks.get(path) is self:
                del self.platter.locks[path]

        return release

    # Time.

    def owe_sync(self) -> float:
        """A sync takes effect at once; a run() that made it returns only after its virtual duration. Returns that."""
        if self.platter.sync_delay_s <= 0:
            return 0.0
        took_s = self.platter.rng.expovariate(1 / self.platter.sync_delay_s)
        self._owed_s += took_s
        return took_s

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """The call happens at one moment of a random virtual duration. Like a thread it cannot be cancelled midway.

        What it synced is durable from that moment, so nothing appended while its caller waits is covered.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check_alive()
        rng = self.platter.rng
        began = trio.current_time()
        before_s = rng.expovariate(1 / self.platter.call_delay_s) if self.platter.call_delay_s > 0 else 0.0
        try:
            await self._wait_or_die(before_s)
            self._owed_s = 0.0
            try:
                return call(*args)
            finally:
                owed_s, self._owed_s = self._owed_s, 0.0
                if owed_s:
                    await self._wait_or_die(owed_s)
                self.check_alive()
        finally:
            self.platter.longest_call_s = max(self.platter.longest_call_s, trio.current_time() - began)

    async def _wait_or_die(self, seconds: float) -> None:
        scope = trio.CancelScope(deadline=trio.current_time() + seconds, shield=True)
        self._waiting[scope] = None
        try:
            with scope:
                await trio.sleep_forever()
        finally:
            del self._waiting[scope]
        self.check_alive()


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
