"""An explanation says about how long a restore takes, leaves nothing behind, and is given without that where no sample can be taken."""

from __future__ import annotations

import random

import trio

from storage import Engine, MemoryDisk
from storage.backing_up import Backups
from storage.backup.estimating import FIXED_S, REPLAY_BYTES_PER_S, SAMPLE_BYTES, estimated_s
from storage.backup.log_archive import Target
from storage.seeding import SEEDS
from tests.engine.model import new_database, opened
from tests.engine.test_archiving import OPTIONS, World, archived


async def backed_up(engine: Engine, backups: Backups) -> None:
    rng, world = random.Random(1), World()
    database = await new_database(engine)
    for incremental in (False, True):
        await world.write(database, 20, rng)
        await archived(database)
        await backups.backup("db", incremental=incremental)
    await world.write(database, 20, rng)
    await archived(database)


async def test_it_copies_a_sample_and_removes_it(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        backups = Backups(engine)
        await backed_up(engine, backups)
        for info in await backups.list("db"):
            assert info.manifest is not None
            plan = await backups.explained("db", info.name, Target())
            assert plan["backup_bytes"] == info.manifest.total_size and plan["commits"] > 0
            assert plan["seconds"] >= FIXED_S
        assert disk.list_dir(SEEDS) == []
        disk.create(f"{SEEDS}/db.sample").close()
        assert (await backups.explained("db", "", Target()))["seconds"] >= FIXED_S, "what an explanation that was cut off left is no hindrance"
        assert disk.list_dir(SEEDS) == []


async def test_a_full_disk_is_explained_all_the_same(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        backups = Backups(engine)
        await backed_up(engine, backups)
        disk.capacity_bytes = 1
        plan = await backups.explained("db", "", Target())
        assert plan["seconds"] is None and plan["commits"] > 0
        assert disk.list_dir(SEEDS) == []
        disk.capacity_bytes = None
        assert (await backups.explained("db", "", Target()))["seconds"] >= FIXED_S


def spare_bytes(backups: Backups) -> int:
    free, kept = backups._free_and_kept()
    return free - kept


async def test_a_sample_leaves_the_reserve_alone(autojump_clock: object) -> None:
    disk = MemoryDisk(capacity_bytes=2**40)
    async with opened(disk, free_bytes_min=10_000, **OPTIONS) as engine:
        backups = Backups(engine)
        await backed_up(engine, backups)
        while (spare := spare_bytes(backups)) >= SAMPLE_BYTES:  # the reserve shrinks with the disk
            disk.capacity_bytes -= spare - SAMPLE_BYTES + 1
        assert spare > 0
        assert (await backups.explained("db", "", Target()))["seconds"] is None
        disk.capacity_bytes += SAMPLE_BYTES
        assert spare_bytes(backups) >= SAMPLE_BYTES
        assert (await backups.explained("db", "", Target()))["seconds"] >= FIXED_S


async def test_explanations_at_once_take_turns(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        backups, found = Backups(engine), []
        await backed_up(engine, backups)

        async def explain() -> None:
            found.append((await backups.explained("db", "", Target()))["seconds"])

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(explain)
        assert len(found) == 5 and all(seconds >= FIXED_S for seconds in found)
        assert disk.list_dir(SEEDS) == []


def test_seconds_by_size_and_pace() -> None:
    assert estimated_s(copied_bytes=200_000_000, replayed_bytes=0, pace=100e6) == 2.5
    assert estimated_s(copied_bytes=0, replayed_bytes=REPLAY_BYTES_PER_S, pace=REPLAY_BYTES_PER_S) == 2.5
    assert estimated_s(copied_bytes=123_456_789_000, replayed_bytes=0, pace=100e6) == 1_200
