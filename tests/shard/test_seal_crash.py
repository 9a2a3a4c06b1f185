"""A seal that is cut off at any disk operation leaves the database as it was, and sealing again completes it (INV-5)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from storage.check import Severity, check_database
from storage.disk import Disk
from storage.disk_memory import MemoryDisk
from storage.shard import checkpoint as checkpoints
from storage.shard.shardset import ShardSet
from tests.shard.shard_world import DIRECTORY, World
from tests.sim.disk import Platter, SimCrash

STEPS_MAX = 500


class CutOff(BaseException):
    """The process is gone."""


class CutDisk:
    """A disk whose process is killed at operation number `steps`: of an append the first half is written."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.steps: int | None = None

    def _step(self) -> bool:
        if self.steps is None:
            return False
        self.steps -= 1
        if self.steps < -1:
            raise CutOff
        return self.steps == -1

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._disk, name)

        def call(*args: Any) -> Any:
            if self._step():
                raise CutOff
            result = real(*args)
            return CutFile(self, result) if name in ("create", "open_append", "open_read") else result

        return call


class CutFile:
    def __init__(self, disk: CutDisk, file: Any) -> None:
        self._disk = disk
        self._file = file

    def append(self, data: Any) -> None:
        joined = data if isinstance(data, bytes) else b"".join(data)
        if self._disk._step():
            self._file.append(joined[: len(joined) // 2])
            raise CutOff
        self._file.append(joined)

    def sync(self) -> None:
        if self._disk._step():
            raise CutOff
        self._file.sync()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def world_before_the_seal(disk: Disk) -> World:
    """Sealed thrice, with more in the log: updates, deletions, a drop, a new collection; one shard is due for a merge."""
    world = World(disk=disk, shards=2)
    users, gone = world.create("users"), world.create("gone")
    for turn in range(3):
        for number in range(6):
            world.put(users, number + turn, turn=turn)
        world.put(gone, turn)
        world.commit()
        world.seal()
    world.put(users, 2, last=True)
    world.delete(users, 5)
    world.put(users, 77)
    world.drop("gone")
    world.put(world.create("new"), 1)
    world.commit()
    return world


def content(shards: ShardSet) -> dict[str, list]:
    found = {name: list(shards.scan(entry.id)) for name, entry in shards.checkpoint.collections.items()}
    return found | {"": list(shards.scan(0)), "hash": [shards.checkpoint.state_hash]}


def check_after_the_crash(world: World, before: dict[str, list]) -> bool:
    """The old content or the new one, nothing between. Returns whether the new checkpoint is there. Then seal again."""
    opened = world.open()
    assert not opened.findings
    assert [finding for finding in check_database(world.disk, DIRECTORY) if finding.severity is not Severity.NOTE] == []
    is_done = opened.seq == world.seq
    if is_done:
        world.check(opened)
    else:
        assert content(opened) == before
    world.seal()
    world.check(world.open())
    assert [finding for finding in check_database(world.disk, DIRECTORY) if finding.severity is not Severity.NOTE] == []
    return is_done


def test_killed_at_every_operation():
    outcomes = []
    for steps in range(STEPS_MAX):
        disk = CutDisk(MemoryDisk())
        world = world_before_the_seal(disk)
        before = content(world.open())
        disk.steps = steps
        try:
            world.seal()
            is_finished = True
        except CutOff:
            is_finished = False
        disk.steps = None
        world.sealed = 3
        outcomes.append(check_after_the_crash(world, before))
        if is_finished:
            break
    assert is_finished and steps > 20, "every operation was cut once"
    assert outcomes == sorted(outcomes), "once the checkpoint is there it stays"


@pytest.mark.parametrize("seed", range(3))
def test_power_cut_at_every_operation(seed: int):
    """The same on a disk that loses what was not synced: unsynced bytes, names and their order."""
    for steps in range(STEPS_MAX):
        platter = Platter(random.Random(seed * STEPS_MAX + steps))
        world = world_before_the_seal(platter.mount())
        world.sync_log()
        before = content(world.open())
        world.disk.crash_in(steps)
        try:
            world.seal()
            is_finished = True
        except SimCrash:
            is_finished = False
        platter.power_cut()
        world.disk = platter.mount()
        world.sealed = 3
        is_done = check_after_the_crash(world, before)
        assert is_done or not is_finished, "a seal that returned is there for good"
        if is_finished:
            break
    assert is_finished and steps > 12, "every change was cut once"


def test_cut_off_again_and_again():
    """Many unfinished seals in a row leave only files that nothing names."""
    disk = CutDisk(MemoryDisk())
    world = world_before_the_seal(disk)
    for steps in range(12, 26, 2):
        disk.steps = steps
        with pytest.raises(CutOff):
            world.seal()
        disk.steps = None
    world.seal()
    world.check(world.open())
    newest, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    for name in checkpoints.orphans(world.disk, DIRECTORY, [newest]):
        world.disk.remove(f"{DIRECTORY}/{name}")
    world.check(world.open())
