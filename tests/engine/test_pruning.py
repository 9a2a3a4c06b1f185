"""The log archive is pruned as far as no backup on the shelf needs it, and never further (INV-7)."""

from __future__ import annotations

import random
from unittest.mock import patch

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage import Engine, MemoryDisk
from storage.backing_up import Backups
from storage.backup import log_archive
from storage.backup.log_archive import Target
from storage.backup.manifest import FILE
from storage.backup.shelf import Shelf
from storage.errors import BadRequest
from tests.engine.model import new_database, opened, settled
from tests.engine.test_archiving import OPTIONS, World, archived
from tests.engine.test_incremental_backups import by_clock

SMALL_FILES = 1_500


def files(disk: MemoryDisk, engine: Engine) -> list[str]:
    return [name for name in disk.list_dir(engine.databases["db"].archiving.state.directory) if name.endswith(".log")]


async def written(world: World, engine: Engine, rounds: int, rng: random.Random) -> None:
    for _ in range(rounds):
        await world.write(engine.databases["db"], 5, rng)
        await archived(engine.databases["db"])


async def test_what_goes_is_told_first_and_the_kept_backups_still_lead_everywhere(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr(log_archive, "FILE_BYTES_MAX", SMALL_FILES)
    rng, world, disk = random.Random(1), World(), MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        backups = Backups(engine)
        await new_database(engine)
        await written(world, engine, 8, rng)
        first = await backups.backup("db")
        await written(world, engine, 8, rng)
        second = await backups.backup("db", incremental=True)
        await written(world, engine, 8, rng)
        before = files(disk, engine)
        told = await backups.prune("db", dry_run=True)
        assert told.files > 1 and told.bytes > 0 and (told.seq, told.needed_by) == (first.manifest.position.seq, first.name)
        assert files(disk, engine) == before, "only told"
        assert await backups.prune("db") == told and len(files(disk, engine)) == len(before) - told.files
        again = await backups.prune("db")
        assert (again.files, again.why_not) == (0, "")
        for made in (first, second):
            for seq in (made.manifest.position.seq, made.manifest.position.seq + 3, engine.databases["db"].position.seq):
                assert (await backups.explain("db", made.name, Target(seq=seq)))[1].position.seq == seq
        await backups.delete("db", first.name, with_dependents=True)
        third = await backups.backup("db")
        assert (await backups.prune("db")).needed_by == third.name and len(files(disk, engine)) < len(before) - told.files


async def test_nothing_goes_without_a_sound_backup(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr(log_archive, "FILE_BYTES_MAX", SMALL_FILES)
    rng, world, disk = random.Random(2), World(), MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        backups = Backups(engine)
        await new_database(engine)
        await written(world, engine, 8, rng)
        assert "no sound backup" in (await backups.prune("db")).why_not
        made = await backups.backup("db")
        assert "1 of 2 sound backups" in (await backups.prune("db", sound_min=2)).why_not
        path = f"{Shelf.of('db').path(made.name)}/shard_000.db"
        data = disk.read_file(path)
        disk.replace_file(path, data[:90] + bytes([data[90] ^ 1]) + data[91:])
        assert await backups.verify("db", made.name)
        assert "no sound backup" in (await backups.prune("db")).why_not
        disk.replace_file(path, data)
        assert await backups.verify("db", made.name) == []
        manifest = disk.read_file(f"{Shelf.of('db').path(made.name)}/{FILE}")
        disk.make_dir(Shelf.of("db").path("backup_20990101_000000"))
        newer = f"{Shelf.of('db').path('backup_20990101_000000')}/{FILE}"
        disk.replace_file(newer, manifest.replace(b'"version": 1', b'"version": 99'))
        assert "newer program" in (await backups.prune("db")).why_not
        disk.remove_tree(Shelf.of("db").path("backup_20990101_000000"))
        assert (await backups.prune("db")).files > 0


async def test_where_no_archive_is_kept_there_is_nothing_to_prune(autojump_clock: object) -> None:
    async with opened(MemoryDisk()) as engine:
        await new_database(engine)
        with pytest.raises(BadRequest, match="no log archive"):
            await Backups(engine).prune("db")


async def _branches(seed: int) -> None:
    """Backups on several branches of one history; after pruning each leads to everything that it led to before."""
    rng, world, disk = random.Random(seed), World(), MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        backups, epoch = Backups(engine), 1
        await new_database(engine)
        await written(world, engine, 2, rng)
        made = [await backups.backup("db")]
        for _ in range(rng.randrange(4, 9)):
            match rng.choice(["write", "write", "backup", "restore"]):
                case "write":
                    await written(world, engine, rng.randrange(1, 6), rng)
                case "backup":
                    made.append(await backups.backup("db", incremental=rng.random() < 0.5))
                case "restore":
                    await backups.restore("db", rng.choice(made).name)
                    epoch += 1
                    database = engine.databases["db"]
                    await settled(database, database.begin_reign(epoch))
        await written(world, engine, 2, rng)
        for info in rng.sample(made, rng.randrange(len(made))):
            if info.name in [one.name for one in await backups.list("db")]:
                await backups.delete("db", info.name, with_dependents=True)
        if rng.random() < 0.5:
            for info in await backups.list("db", safety=True):
                await backups.delete("db", info.name)
        before = await _reached(engine, backups)
        done = await backups.prune("db")
        assert done.why_not or before
        assert await _reached(engine, backups) == before
        await written(world, engine, 2, rng)
        if not done.why_not:
            newest = await backups.backup("db")
            await written(world, engine, 1, rng)
            assert (await backups.explain("db", newest.name, Target()))[1].position == engine.databases["db"].position


async def _reached(engine: Engine, backups: Backups) -> dict[tuple[str, int], object]:
    """What each backup and snapshot leads to at some commits, with the chain there."""
    found: dict[tuple[str, int], object] = {}
    for safety in (False, True):
        for info in await backups.list("db", safety=safety):
            begins = info.manifest.position.seq
            for seq in range(begins, engine.databases["db"].position.seq + 40, 7):
                try:
                    reached = (await backups.explain("db", info.name, Target(seq=seq)))[1]
                    found[info.name, seq] = (reached.position, reached.chain)
                except BadRequest:
                    found[info.name, seq] = "refused"
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
@example(1_171_656)  # the end of a branch that was given up goes, where exactly one backup is
def test_pruning_takes_nothing_that_a_kept_backup_needs_on_any_branch(seed: int) -> None:
    with patch.object(log_archive, "FILE_BYTES_MAX", SMALL_FILES):
        trio.run(_branches, seed, clock=by_clock())
