"""An explanation says about how long a restore takes, leaves nothing behind, and is given without that where no sample can be taken."""

from __future__ import annotations

import random

from storage import Engine, MemoryDisk
from storage.backing_up import Backups
from storage.backup.estimating import FIXED_S, REPLAY_BYTES_PER_S, estimated_s
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


def test_seconds_by_size_and_pace() -> None:
    assert estimated_s(copied_bytes=200_000_000, replayed_bytes=0, pace=100e6) == 2.5
    assert estimated_s(copied_bytes=0, replayed_bytes=REPLAY_BYTES_PER_S, pace=REPLAY_BYTES_PER_S) == 2.5
    assert estimated_s(copied_bytes=123_456_789_000, replayed_bytes=0, pace=100e6) == 1_200
