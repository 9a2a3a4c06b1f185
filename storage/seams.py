"""What the engine may reach outside itself: disk, wall clock, entropy, workers. Nothing else (INV-9).

Monotonic time and sleeping are trio's own clock, which the simulator replaces. Wall-clock microseconds are only written
into commits, never used for order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from .commit.pace import SyncPace
from .disk import Disk, OsDisk
from .space import Reserve

T = TypeVar("T")


class Workers(Protocol):
    """Runs a pure, importable job elsewhere: job(disk, *args) -> result. Arguments and result are small and plain."""

    async def run(self, job: Callable[..., T], *args: Any) -> T: ...

    def close(self) -> None: ...


class WorkHere:
    """Runs jobs in the disk's own blocking runner: for memory mode, the simulator and offline commands."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def run(self, job: Callable[..., T], *args: Any) -> T:
        return await self._disk.run(job, self._disk, *args)

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Seams:
    """The engine's surroundings, one value, made once at start."""

    disk: Disk
    time_us: Callable[[], int]
    random_bytes: Callable[[int], bytes]
    workers: Workers
    pace: SyncPace = field(default_factory=SyncPace)  # of this disk's syncs
    reserve: Reserve = field(default_factory=Reserve)  # of this disk's free space
    indexers: Workers | None = None  # for building and merging field segments, which takes long; None: `workers` does it too

    @property
    def index_workers(self) -> Workers:
        return self.indexers or self.workers


def wall_clock_us() -> int:
    """Microseconds since 1970 in UTC."""
    return time.time_ns() // 1000


def real_seams(root: str | os.PathLike[str], workers: Workers | None = None, indexers: Workers | None = None) -> Seams:
    """Real files below root; jobs run in `workers`, by default in this process's disk threads."""
    disk = OsDisk(root)
    return Seams(disk, wall_clock_us, os.urandom, workers or WorkHere(disk), indexers=indexers)
