"""Incremental backups where bytes lie in a bucket, encrypted, or both: named ones are read where they are, and a wrong byte of either backup is found."""

from __future__ import annotations

import random

import pytest

from storage import MemoryDisk
from storage.backing_up import Backups
from storage.backup.verifying import Level
from storage.engine import Engine
from storage.errors import BackupNeeded, DamagedRecord
from tests.engine.model import everything

from .conftest import Place
from .test_shelves import at, fill, opened, restored


async def both(engine: Engine, backups: Backups):
    await fill(engine, 200)
    full = await backups.backup("db")
    await fill(engine, 5, 200)
    more = await backups.backup("db", incremental=True)
    assert more.manifest.is_incremental and not full.manifest.is_incremental
    assert set(more.needs) == {full.name}
    return full, more


async def test_an_incremental_backup_is_whole_there(place: Place) -> None:
    async with opened(MemoryDisk(), backup_key_file=place.key_file) as engine:
        backups = at(engine, place)
        full, more = await both(engine, backups)
        wanted = await engine.databases["db"].view().state_hash()
        assert sum(more.manifest.own_sizes.values()) < full.manifest.total_size < more.manifest.total_size
        for level in Level:
            assert await backups.verify("db", more.name, level) == []
        assert await backups.collections("db", more.name) == [(name, 205) for name, _ in await backups.collections("db", more.name)]
        with pytest.raises(BackupNeeded, match=more.name):
            await backups.delete("db", full.name)
        await fill(engine, 50, 205)
        await restored(engine, backups, more.name)
        assert await engine.databases["db"].view().state_hash() == wanted and len(await everything(engine.databases["db"])) == 205
        assert await backups.delete("db", full.name, with_dependents=True) == [more.name, full.name]
        assert not [name for name in place.names() if name.startswith((full.name, more.name))]


async def test_one_byte_wrong_in_either_is_found_and_not_restored(place: Place) -> None:
    rng = random.Random(7)
    async with opened(MemoryDisk(), backup_key_file=place.key_file) as engine:
        backups = at(engine, place)
        full, more = await both(engine, backups)
        before = await engine.databases["db"].view().state_hash()
        parts = [(f"{part.backup or more.name}/{name}", part) for name in more.manifest.sizes for part in more.manifest.parts_of(name) if part.length]
        spots = [(name, rng.randrange(part.offset, part.offset + part.length)) for name, part in parts]
        for name, spot in [*spots, (f"{more.name}/_manifest.json", 100)]:
            good = place.read(name)
            place.write(name, good[:spot] + bytes([good[spot] ^ 1 << rng.randrange(8)]) + good[spot + 1 :])
            assert await backups.verify("db", more.name, Level.BYTES), f"{name}, byte {spot}"
            with pytest.raises(DamagedRecord, match="restored|nothing was touched|choose another"):
                await backups.restore("db", more.name)
            place.write(name, good)
        assert await backups.verify("db", more.name) == []
        assert await engine.databases["db"].view().state_hash() == before and await backups.list("db", safety=True) == []
