"""Backups and restores of one engine: what is restored is what was there; what is not whole is never restored (INV-6, INV-7)."""

from __future__ import annotations

import json
import random

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import MemoryDisk, operations
from storage.backing_up import Backups
from storage.backup.manifest import FILE
from storage.backup.names import check_name, new_name
from storage.backup.verifying import Level, verify_backup
from storage.engine import Engine
from storage.errors import BadName, BadRequest, DamagedRecord, DiskFull, NoSuchBackup, Overloaded
from tests.engine.model import everything, insert, new_database, opened
from tests.sim.disk import Platter

SECOND_US = 1_000_000


async def fill(engine: Engine, count: int, start: int = 0):
    database = engine.databases.get("db") or await new_database(engine)
    for number in range(start, start + count):
        await insert(database, {"_id": number, "pad": "x" * 100})
    database.flush()
    return database


async def restored(engine: Engine, backups: Backups, name: str):
    done = await backups.restore("db", name)
    engine.databases["db"].begin_reign(engine.databases["db"].position.epoch + 1)
    engine.databases["db"].flush()
    return done


async def test_a_restore_brings_back_what_was_there_and_keeps_what_was_replaced(autojump_clock: object) -> None:
    async with opened(MemoryDisk()) as engine:
        backups = Backups(engine)
        database = await fill(engine, 50)
        before = await database.view().state_hash()
        made = await backups.backup("db")
        assert made.manifest.state_hash == before and made.manifest.position == database.position
        await fill(engine, 50, 50)
        after = await database.view().state_hash()
        done = await restored(engine, backups, made.name)
        database = engine.databases["db"]
        assert await database.view().state_hash() == before
        assert len(await everything(database)) == 50
        await insert(database, {"_id": "new"})
        assert [info.name for info in await backups.list("db")] == [made.name], "safety snapshots are not in the list"
        (safety,) = await backups.list("db", safety=True)
        assert safety.name == done.safety and safety.manifest.state_hash == after
        await restored(engine, backups, done.safety)
        assert await engine.databases["db"].view().state_hash() == after


async def test_a_deletion_that_is_cut_off_leaves_no_backup(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        await fill(engine, 10)
        made, kept = await backups.backup("db"), await backups.backup("db")
        remove_tree = disk.remove_tree

        def cut_off(path: str) -> None:
            held = disk.list_dir(path)
            disk.remove(f"{path}/{next(name for name in held if name.endswith('.db'))}")
            raise OSError(5, "cut off", path)

        disk.remove_tree = cut_off
        with pytest.raises(OSError, match="cut off"):
            await backups.delete("db", made.name)
        disk.remove_tree = remove_tree
        assert [info.name for info in await backups.list("db")] == [kept.name], "its manifest is there still"
        await backups.backup("db")
        assert not [name for name in disk.list_dir("_backups/db") if name.startswith(f"{made.name}.")]


async def test_a_dropped_database_comes_back(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        await fill(engine, 10)
        made = await backups.backup("db")
        await engine.drop_database("db")
        assert (await restored(engine, backups, made.name)).safety == ""
        assert len(await everything(engine.databases["db"])) == 10
    async with opened(disk, start=2) as engine:
        assert len(await everything(engine.databases["db"])) == 10


async def test_names_rotation_and_deletion(autojump_clock: object) -> None:
    async with opened(MemoryDisk()) as engine:
        backups = Backups(engine)
        await engine.create_database("empty")
        with pytest.raises(BadRequest, match="no commits"):
            await backups.backup("empty")
        await fill(engine, 1)
        names = [(await backups.backup("db", max_copies=3)).name for _ in range(5)]
        assert len(set(names)) == 5
        listed = [info.name for info in await backups.list("db")]
        assert listed == names[:1:-1]
        for bad in ("..", "../db", "backup_20260101_000000/..", "backup_20260101_000000\\x", "db", ""):
            with pytest.raises(BadName):
                await backups.delete("db", bad)
        with pytest.raises(NoSuchBackup):
            await backups.delete("db", "backup_19990101_000000")
        await backups.delete("db", listed[0])
        assert [info.name for info in await backups.list("db")] == listed[1:]


def test_two_in_one_second_do_not_collide() -> None:
    taken: list[str] = []
    for _ in range(12):
        taken.append(check_name(new_name("backup_", 1_776_254_400 * SECOND_US, taken)))
    assert taken[0] == "backup_20260415_120000" and taken[1] == "backup_20260415_120000_2" and len(set(taken)) == 12


async def test_the_last_good_backup_is_never_rotated_away(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        await fill(engine, 1)
        good = (await backups.backup("db")).name
        for number in range(3):
            disk.make_dir(f"_backups/db/backup_2099010{number + 1}_000000")
        newest = (await backups.backup("db", max_copies=1)).name
        listed = await backups.list("db")
        assert [info.name for info in listed if info.manifest is not None] == [newest] != [good]
        assert sum(info.manifest is None for info in listed) == 3, "what is broken is left for a person to look at"


async def _made(disk: MemoryDisk) -> str:
    async with opened(disk) as engine:
        await fill(engine, 20)
        return f"_backups/db/{(await Backups(engine).backup('db')).name}"


MADE = MemoryDisk()
PATH = trio.run(_made, MADE)
FILES = [
    f"{PATH}/{name}"
    for name in (*json.loads(MADE.read_file(f"{PATH}/{FILE}"))["files"], FILE)
    if MADE.size(f"{PATH}/{name}")
]


def test_a_sound_backup_has_no_findings() -> None:
    assert list(verify_backup(MADE, PATH)) == []


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_one_byte_wrong_anywhere_is_found_and_not_restored(path: str, where: float, flip: int) -> None:
    data = MADE.read_file(path)
    at = int(where * len(data))
    MADE.replace_file(path, data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
    try:
        assert list(verify_backup(MADE, PATH, Level.BYTES))
        trio.run(_refused, MADE)
    finally:
        MADE.replace_file(path, data)


async def _refused(disk: MemoryDisk) -> None:
    before = {name: disk.list_dir(name) for name in ("db", "db/checkpoints")}
    async with opened(disk) as engine:
        with pytest.raises(DamagedRecord):
            await Backups(engine).restore("db", PATH.rpartition("/")[2])
        assert len(await everything(engine.databases["db"])) == 20
        assert await Backups(engine).list("db", safety=True) == []
    assert before.keys() == {"db", "db/checkpoints"}


async def test_missing_and_extra_files_are_found() -> None:
    extra = f"{PATH}/surprise"
    MADE.replace_file(extra, b"x")
    assert any("does not name it" in finding.what for finding in verify_backup(MADE, PATH, Level.MANIFEST))
    MADE.remove(extra)
    data = MADE.read_file(FILES[0])
    MADE.remove(FILES[0])
    assert any("missing" in finding.what for finding in verify_backup(MADE, PATH, Level.MANIFEST))
    MADE.replace_file(FILES[0], data)


async def test_a_full_disk_leaves_nothing_half_made(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        database = await fill(engine, 200)
        made = await backups.backup("db")
        disk.capacity_bytes = 1
        with pytest.raises(DiskFull, match="kept in reserve"):
            await backups.backup("db")
        with pytest.raises(DiskFull, match="nothing|free"):
            await backups.restore("db", made.name)
        disk.capacity_bytes = None
        assert [info.name for info in await backups.list("db")] == [made.name]
        assert len(await everything(database)) == 200


async def test_one_job_at_a_time(autojump_clock: object) -> None:
    async with opened(MemoryDisk()) as engine:
        backups = Backups(engine)
        await fill(engine, 5)
        with backups._job("db"), pytest.raises(Overloaded, match="running"):
            await backups.backup("db")
        assert (await operations.delete(engine.databases["db"], "things", {"_id": 0})).deleted == 1


async def _prepared(platter: Platter) -> str:
    async with opened(platter.mount()) as engine:
        await fill(engine, 20)
        name = (await Backups(engine).backup("db")).name
        await fill(engine, 10, 20)
    return name


async def _restore_until(platter: Platter, name: str, steps: int) -> bool:
    """Whether it ended before the disk went."""
    disk = platter.mount()
    async with opened(disk, start=2) as engine:
        disk.crash_in(steps)
        await restored(engine, Backups(engine), name)
        return True


async def _found(platter: Platter) -> int:
    async with opened(platter.mount(), start=3) as engine:
        backups = Backups(engine)
        count = len(await everything(engine.databases["db"]))
        if count == 20:
            (safety,) = await backups.list("db", safety=True)
            assert safety.manifest is not None, "what was replaced is on the shelf before anything is touched"
        assert [info.manifest is not None for info in await backups.list("db")] == [True]
        assert not [finding for finding in engine.findings if "error" in finding]
        return count


@pytest.mark.parametrize("ends_by", ["kill", "power_cut"])
def test_a_restore_that_is_cut_off_anywhere_happened_or_did_not(ends_by: str) -> None:
    outcomes = set()
    for steps in range(1, 2000, 7):
        platter = Platter(random.Random(steps))
        name = trio.run(_prepared, platter, clock=trio.testing.MockClock(autojump_threshold=0))
        is_done = False
        try:
            is_done = trio.run(_restore_until, platter, name, steps, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            assert "SimCrash" in repr(error), error
        if ends_by == "power_cut":
            platter.power_cut()
        outcomes.add(trio.run(_found, platter, clock=trio.testing.MockClock(autojump_threshold=0)))
        if is_done:
            break
    else:
        raise AssertionError("the restore never ended")
    assert outcomes == {20, 30}
