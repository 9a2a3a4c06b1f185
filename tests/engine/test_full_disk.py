"""Full and failing disks: refused by name, nothing acknowledged is lost, writing resumes by itself (INV-1, INV-7)."""

from __future__ import annotations

import copy
import errno
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from storage import Database, Engine, MemoryDisk, Seams, SyncMode, encode_document, operations
from storage.backing_up import Backups
from storage.commit.log import RESERVE_BYTES_MIN
from storage.commit.segment import HEADER_BYTES
from storage.disk_memory import MemoryFile
from storage.errors import DiskFailed, DiskFull, Overloaded
from tests.engine.model import everything, insert, new_database, opened, options
from tests.sim.disk import CAPACITY_BYTES
from tests.sim.machine import Life, Machine
from tests.sim.trace import Trace


@pytest.mark.parametrize("sync_mode", list(SyncMode))
async def test_a_full_disk_refuses_writes_serves_reads_and_resumes(sync_mode: SyncMode, autojump_clock: object) -> None:
    disk = MemoryDisk(capacity_bytes=60_000)
    async with opened(disk, sync_mode=sync_mode, free_bytes_min=20_000) as engine:
        database = await new_database(engine)
        kept = 0
        with pytest.raises(DiskFull, match="free"):
            while True:
                database.space.look_again()  # look at every write, not at every MiB
                await insert(database, {"_id": kept, "pad": "x" * 1000})
                kept += 1
        assert kept > 10 and len(await everything(database)) == kept
        deleted = await operations.delete(database, "things", {"_id": 0})
        assert deleted.deleted == 1, "deletions may use the reserve"
        disk.capacity_bytes = 10**6
        await insert(database, {"_id": "after"})
        assert len(await everything(database)) == kept


@pytest.mark.parametrize("sync_mode", list(SyncMode))
async def test_a_commit_that_meets_enospc_is_written_once_there_is_space(
    sync_mode: SyncMode, autojump_clock: object
) -> None:
    disk = MemoryDisk()
    async with opened(disk, sync_mode=sync_mode) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        disk.capacity_bytes = sum(disk.size(f"db/commit/{name}") for name in disk.list_dir("db/commit")) + 400
        larger_than_what_is_reserved = "x" * 2 * RESERVE_BYTES_MIN
        result = await operations.insert(database, "things", [encode_document({"_id": 2, "pad": larger_than_what_is_reserved})])
        database.flush()
        with trio.move_on_after(5):
            await database.visible_advance.wait_for(result.seq)
        assert database.visible.seq < result.seq
        with pytest.raises(DiskFull):
            await operations.insert(database, "things", [encode_document({"_id": 3})])
        disk.capacity_bytes = None
        await database.visible_advance.wait_for(result.seq)
        await insert(database, {"_id": 4})
        assert [doc["_id"] for doc in await everything(database)] == [1, 2, 4]
    async with opened(disk, start=2, sync_mode=sync_mode) as engine:
        assert [doc["_id"] for doc in await everything(engine.database("db"))] == [1, 2, 4]


async def test_a_sync_that_fails_stops_writing_for_good(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk, sync_mode=SyncMode.SYNC) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})

        def failing(*_: object) -> None:
            raise OSError(errno.EIO, "input/output error")

        database.log._sync_files = failing  # type: ignore[method-assign]
        with pytest.raises(DiskFailed, match="check the device"):
            await insert(database, {"_id": 2})
        del database.log._sync_files
        with pytest.raises(DiskFailed):
            await insert(database, {"_id": 3})
        assert [doc["_id"] for doc in await everything(database)] == [1]


async def test_closing_on_a_full_disk_is_an_unclean_stop_and_no_crash() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        await insert(await new_database(engine), {"_id": 1})
        disk.capacity_bytes = 1
    disk.capacity_bytes = None
    async with opened(disk, start=2) as engine:
        database = engine.database("db")
        assert database.unclean and [doc["_id"] for doc in await everything(database)] == [1]


async def test_a_mark_that_cannot_become_durable_has_no_hash_and_ends_nothing(autojump_clock: object) -> None:
    async with opened(MemoryDisk(), sync_mode=SyncMode.SYNC) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})

        def failing(*_: object) -> None:
            raise OSError(errno.EIO, "input/output error")

        database.log._sync_files = failing  # type: ignore[method-assign]
        seq = database.mark()
        database.flush()
        with pytest.raises(DiskFailed):
            await database.visible_advance.wait_for(seq)
        await trio.testing.wait_all_tasks_blocked()
        assert seq not in database.marks
        assert [doc["_id"] for doc in await everything(database)] == [1]


async def test_a_database_that_cannot_be_created_is_refused_by_name_and_leaves_nothing() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        disk.capacity_bytes = 1
        with pytest.raises(DiskFull, match="creating database 'db'"):
            await engine.create_database("db")
        disk.capacity_bytes = None
        await insert(await new_database(engine), {"_id": 1})


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("steps", range(1, 21))
async def test_a_creation_that_failed_leaves_nothing_wherever_its_removal_ends(steps: int, power: bool, autojump_clock: object) -> None:
    """Killed, or without power, after so many steps of creating a database whose first opening a failing read ends, and of taking it back."""
    machine = Machine("a", random.Random(steps), Trace())
    machine.platter.read_failures = 1

    async def fails(seams: Seams) -> None:
        async with Engine.open(seams, options=options()) as engine:
            machine.crash_in(steps)
            if power:
                machine.power_goes_with_it()
            with pytest.raises(DiskFailed):
                await engine.create_database("db")

    async def creates(seams: Seams) -> None:
        async with Engine.open(seams, options=options()) as engine:
            assert engine.unopened == {}
            await insert(await new_database(engine), {"_id": 1})

    await machine.run(fails)
    assert machine.platter.read_failures == 0 or steps < 10, "the read failed, or the life ended before"
    machine.platter.read_failures = 0
    await machine.run(creates)


async def test_a_full_disk_can_be_opened_and_read_after_an_unclean_stop(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk, sync_mode=SyncMode.SYNC) as engine:
        await insert(await new_database(engine), {"_id": 1})
    disk.remove("db/closed.json")
    disk.capacity_bytes = 1
    async with opened(disk, start=2, sync_mode=SyncMode.SYNC, free_bytes_min=100) as engine:
        database = engine.database("db")
        assert database.unclean and [doc["_id"] for doc in await everything(database)] == [1]
        with pytest.raises(DiskFull):
            await insert(database, {"_id": 2})
        assert [name for name in disk.list_dir("db/commit") if name.endswith(".new")] == []


@pytest.mark.parametrize("harm", ["a torn end that a full disk cannot set aside", "damage in the middle"])
async def test_what_is_shown_of_a_log_that_cannot_be_mended_is_synced_first(
    harm: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """A kill leaves acknowledged commits in the page cache only; a power cut after the next opening must not take them."""
    disk = MemoryDisk()
    async with opened(disk, log_segment_bytes=300) as engine:
        database = await new_database(engine)
        for number in range(6):
            await insert(database, {"_id": number, "pad": "x" * 100})
            database.flush()
            await trio.sleep(1)  # beyond the flush interval: the next frame vouches for this one
        paths = [path for path, _ in database.log.segments]
        disk = copy.deepcopy(disk)
    assert len(paths) > 2
    if harm == "damage in the middle":
        disk.overwrite(paths[-2], HEADER_BYTES + 20, b"?")
        readable = paths[:-2]
    else:
        disk.open_append(paths[-1]).append(b"torn")
        disk.capacity_bytes = 1
        readable = paths
    synced: set[str] = set()
    monkeypatch.setattr(MemoryFile, "sync", lambda self: synced.add(self.path) or 0.0)
    async with opened(disk, start=2, free_bytes_min=100) as engine:
        database = engine.database("db")
        assert database.damaged and await everything(database) != []
        assert set(readable) <= synced


@pytest.mark.parametrize("seed", range(8))
async def test_what_a_full_disk_shows_after_a_torn_append_survives_a_power_cut(seed: int, autojump_clock: object) -> None:
    """It was acknowledged before a kill -9, and shown after it; too little space to set the torn end aside changes nothing about that (INV-1)."""
    machine = Machine("a", random.Random(seed), Trace())
    platter = machine.platter
    seen: list[int] = []

    def life(then: Callable[[Database], Awaitable[None]]) -> Life:
        async def lives(seams: Seams) -> None:
            async with Engine.open(seams, options=options(SyncMode.ASYNC, flush_interval_s=1000.0)) as engine:
                await then(engine.databases.get("db") or await new_database(engine))

        return lives

    async def writes(database: Database) -> None:
        await insert(database, *({"_id": number} for number in range(20)))
        [name] = [name for name in machine.disk.list_dir("db/commit") if name.endswith(".log")]
        machine.disk.open_append(f"db/commit/{name}").append(b"\x01" * 90)  # an append that the end cuts short
        machine.kill()

    async def shows(database: Database) -> None:
        assert database.damaged and "the disk is full" in database.findings[0]
        seen.append(len(await everything(database)))
        machine.cut_power()

    async def looks(database: Database) -> None:
        seen.append(len(await everything(database)))

    await machine.run(life(writes))
    platter.capacity_bytes = platter.used_bytes
    await machine.run(life(shows))
    platter.capacity_bytes = CAPACITY_BYTES
    await machine.run(life(looks))
    assert seen == [20, 20]


@pytest.mark.parametrize("how", ["rewound", "replaced", "opened again"])
async def test_nobody_is_told_that_there_is_no_database_while_it_is_opened_again(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an answer reads as an empty database: a document that is there would not be found."""
    monkeypatch.setattr("storage.engine.REOPEN_S", 0.01)
    disk = MemoryDisk()
    told: list[str] = []

    async def look() -> None:
        while True:
            try:
                engine.database("db")
            except Overloaded as error:
                assert error.fields["retry_after_ms"] > 0
                told.append("wait")
            await trio.lowlevel.checkpoint()

    async with opened(disk) as engine:
        database = await new_database(engine)
        for number in range(3):
            await insert(database, {"_id": number})
        backups = Backups(engine)
        made = await backups.backup("db")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            if how == "rewound":
                await engine.rewind("db", database.position.seq - 1)
            elif how == "replaced":
                await backups.restore("db", made.name)
            else:
                again = trio.Event()
                engine.watch_databases(lambda *_: again.set())
                engine._waiting.add("db")
                with trio.fail_after(60):
                    await again.wait()
            assert engine.database("db") is not database
            nursery.cancel_scope.cancel()
        assert "wait" in told
