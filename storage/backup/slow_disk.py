"""A disk that is read no faster than told, for work in the background that reads a whole backup. Blocking; for the worker process.

Only reading is slowed: each call sleeps for what it read. Everything else goes to the disk below as it is.
"""

from __future__ import annotations

import time
from typing import Any

from ..disk import Disk, File


class SlowDisk:
    """Over another disk. bytes_per_s: above 0."""

    def __init__(self, disk: Disk, bytes_per_s: int) -> None:
        self._disk = disk
        self._bytes_per_s = bytes_per_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def open_read(self, path: str) -> SlowFile:
        return SlowFile(self._disk.open_read(path), self)

    def read_file(self, path: str) -> bytes:
        data = self._disk.read_file(path)
        self.rest(len(data))
        return data

    def map(self, path: str) -> memoryview:
        view = self._disk.map(path)
        self.rest(len(view))
        return view

    def rest(self, read_bytes: int) -> None:
        """For as long as so many bytes take at the pace."""
        time.sleep(read_bytes / self._bytes_per_s)


class SlowFile:
    """A file of a SlowDisk."""

    def __init__(self, file: File, disk: SlowDisk) -> None:
        self._file = file
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._file.read_at(offset, length)
        self._disk.rest(len(data))
        return data
