"""Full and failing disks: refused by name, nothing acknowledged is lost, writing resumes by itself (INV-1, INV-7)."""

from __future__ import annotations

import copy
import errno

import pytest
import trio
import trio.testing

from storage import MemoryDisk, SyncMode, encode_document, operations
from storage.commit.log import RESERVE_BYTES_MIN
from storage.commit.segment import HEADER_BYTES
from storage.disk_memory import MemoryFile
from storage.errors import DiskFailed, DiskFull
from tests.engine.model import everything, insert, new_database, opened


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
