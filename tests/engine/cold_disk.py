"""A memory disk that says "cold" to reads in place: always, or as chance has it."""

from __future__ import annotations

import random

from storage import MemoryDisk
from storage.disk_memory import MemoryFile


class ColdFile(MemoryFile):
    def read_now(self, offset: int, length: int) -> bytes | None:
        return None if self._disk.is_cold() else super().read_now(offset, length)


class ColdDisk(MemoryDisk):
    """seed None: always cold."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self._rng = None if seed is None else random.Random(seed)
        self.asked = 0

    def is_cold(self) -> bool:
        self.asked += 1
        return self._rng is None or self._rng.random() < 0.5

    def open_read(self, path: str) -> MemoryFile:
        return ColdFile(self, path, self._file(path), writable=False)
