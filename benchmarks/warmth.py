"""A warm page cache that stays warm: a process of its own maps every file below a directory and locks the pages, until it is ended.

Some machines take pages back that nobody has touched for half a minute, however much memory is free (DAMON, a balloon): then a question that is
put a minute after the last one of its kind reads from the device, and what is measured is the machine's thrift. Both servers' files are kept alike, but for their
commit logs. New files are looked for every second; those that are gone are let go.

    with kept_warm(directory) as what: ...        what: in words, for the report
    python -m benchmarks.warmth DIRECTORY         that process; it writes a line when all files are in, or why not
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_SECONDS = 1.0
LOGS = frozenset(("commit", "pg_wal"))  # folders of commit logs, gigabytes that no question reads
PROT_READ, MAP_SHARED = 1, 1


@contextmanager
def kept_warm(directory: Path) -> Iterator[str]:
    words = [sys.executable, "-m", "benchmarks.warmth", str(directory)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip() or "the files were not kept in the page cache"
    finally:
        process.terminate()
        process.wait()


class Locked:
    """Files that are mapped and locked, by what names them on the disk."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        for name in ("mlock", "munmap"):
            getattr(self._libc, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._held: dict[tuple[int, int], tuple[int, int]] = {}  # (inode, size) -> (address, size)

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self._held.values())

    def look(self, directory: Path) -> None:
        """Take what is new, let go of what is gone. Raises OSError when pages cannot be locked."""
        here = set()
        for place, folders, names in os.walk(directory):
            folders[:] = [name for name in folders if name not in LOGS]
            for name in names:
                try:
                    here.add(self._take(Path(place, name)))
                except FileNotFoundError:
                    continue
        for gone in set(self._held) - here:
            self._libc.munmap(*self._held.pop(gone))

    def _take(self, path: Path) -> tuple[int, int]:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            key = found.st_ino, found.st_size
            if key not in self._held and found.st_size:
                address = self._libc.mmap(None, found.st_size, PROT_READ, MAP_SHARED, descriptor, 0)
                if self._libc.mlock(address, found.st_size):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                self._held[key] = address, found.st_size
            return key
        finally:
            os.close(descriptor)


def main(directory: Path) -> None:
    locked = Locked()
    try:
        locked.look(directory)
        print(f"{locked.bytes / 1e6:,.0f} MB of files were locked in the page cache", flush=True)
        while True:
            time.sleep(LOOK_SECONDS)
            locked.look(directory)
    except OSError as error:
        print(f"the files could not be locked in the page cache ({error.strerror}): root may, or who may lock memory (ulimit -l)", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
