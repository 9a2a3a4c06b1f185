"""Every implementation of the Disk seam, so that one promise suite runs on all of them.

A new one is one more line in DISKS: a function from an empty directory (which it may ignore) to an empty disk.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.disk import Disk, OsDisk
from storage.disk_memory import MemoryDisk
from tests.sim.disk import Platter

DISKS: dict[str, Callable[[Path], Disk]] = {
    "os": OsDisk,
    "memory": lambda _: MemoryDisk(),
    "sim": lambda _: Platter(random.Random(1)).mount(),
}


@pytest.fixture(params=DISKS)
def make_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Disk]:
    """Makes a disk of the kind under test; each call another, empty one."""
    made = []

    def make() -> Disk:
        root = tmp_path / f"disk{len(made)}"
        root.mkdir()
        made.append(root)
        return DISKS[request.param](root)

    return make


@pytest.fixture
def disk(make_disk: Callable[[], Disk]) -> Disk:
    return make_disk()
