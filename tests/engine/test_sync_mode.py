"""Sync mode: nothing is shown or answered before a sync covers it (INV-1), on the loop as in the thread; space reserved ahead is filled,
given back and never seen by a reader."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import trio
import trio.testing

from storage import Database, MemoryDisk, SyncMode
from storage.check import check_database
from storage.commit import codec
from storage.commit.log import RESERVE_BYTES_MIN, RESERVED_PART_OF_FREE
from storage.commit.segment import SPARE
from storage.disk_memory import MemoryFile
from storage.errors import DiskFailed
from tests.engine.model import everything, insert, new_database, opened

KIB = "x" * 1000


async def in_place(database: Database) -> None:
    """Write until the log syncs on the loop."""
    number = 0
    while not (database.log.may_sync_here() and database.log.may_sync_here()):
        number += 1
        await insert(database, {"_id": f"warming {number}"}, collection="warming")
        await trio.testing.wait_all_tasks_blocked()
        assert number < 20


def spied(monkeypatch: pytest.MonkeyPatch, look: Callable[[MemoryFile], None]) -> None:
    sync = MemoryFile.sync

    def looking(file: MemoryFile) -> float:
        look(file)
        return sync(file)

    monkeypatch.setattr(MemoryFile, "sync", looking)


def log_files(disk: MemoryDisk) -> list[str]:
    return [name for name in disk.list_dir("db/commit") if name.endswith(".log")]


async def test_in_place_an_answer_leaves_in_the_wake_up_of_its_write_and_after_the_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await in_place(database)
        told: list[int] = []
        database.visible_advance.subscribe(told.append)
        seen: list[tuple[int, int, int]] = []
        spied(monkeypatch, lambda _: seen.append((database.visible.seq, database.log.written_seq, len(told))))
        before = database.position.seq
        seq = database.mark()
        database.flush()
        assert seen == [(before, seq, 0)], "one sync, of what was written, before anybody is shown or told it"
        assert (database.visible.seq, told) == (seq, [seq]), "and no turn of the loop in between"


async def test_in_the_thread_an_answer_waits_for_the_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await in_place(database)
        database.seams.pace.took(1.0)
        seen: list[int] = []
        spied(monkeypatch, lambda _: seen.append(database.visible.seq))
        before = database.position.seq
        seq = database.mark()
        database.flush()
        assert (database.visible.seq, seen) == (before, []), "a device that was slow just now is not waited for on the loop"
        await database.visible_advance.wait_for(seq)
        assert seen == [before]


async def test_a_sync_that_fails_in_place_is_never_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await in_place(database)
        before, calls = database.visible.seq, 0

        def failing(_: MemoryFile) -> float:
            nonlocal calls
            calls += 1
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr(MemoryFile, "sync", failing)
        seq = database.mark()
        database.flush()
        with pytest.raises(DiskFailed, match="check the device"):
            await database.visible_advance.wait_for(seq)
        database.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert (database.visible.seq, calls) == (before, 1)
        with pytest.raises(DiskFailed):
            database.mark()


async def test_segments_fill_reserved_space_and_the_next_ones_are_larger() -> None:
    disk = MemoryDisk()
    async with opened(disk, memtable_records_max=10**6) as engine:
        database = await new_database(engine)
        sizes: dict[str, int] = {}
        for number in range(4 * RESERVE_BYTES_MIN // 10_000 * 2):
            await insert(database, {"_id": number, "pad": KIB * 10})
            await trio.testing.wait_all_tasks_blocked()
            for name in log_files(disk):
                sizes.setdefault(name, disk.size(f"db/commit/{name}"))
        reserved = list(sizes.values())
        assert reserved[0] == RESERVE_BYTES_MIN and reserved[-1] >= 4 * RESERVE_BYTES_MIN
        assert all(small <= large <= 2 * small for small, large in zip(reserved, reserved[1:])), reserved
        assert [doc["_id"] for doc in await everything(database)] == list(range(number + 1))
        shipped, after = 0, 0
        while after < database.visible.seq:
            run = await database.log.read(after, database.visible.seq, 200_000)
            assert run is not None
            data = run.data
            heads = [head for _, head, _ in codec.frames(data)]
            assert sum(head.frame_len for head in heads) == len(data), "shipping sends frames and no reserved space"
            shipped, after = shipped + len(data), heads[-1].seq
        assert shipped == database.log_bytes
    assert SPARE not in disk.list_dir("db/commit") and list(check_database(disk, "db")) == []


async def test_a_closed_database_leaves_its_log_as_long_as_its_commits_and_nothing_reserved() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        assert disk.size(f"db/commit/{SPARE}") == disk.size(f"db/commit/{log_files(disk)[0]}") == RESERVE_BYTES_MIN
    [name] = log_files(disk)
    assert disk.size(f"db/commit/{name}") < 1000
    async with opened(disk, start=2) as engine:
        assert not engine.database("db").unclean and not engine.database("db").findings


async def test_a_seal_reads_over_reserved_space_and_gives_it_back() -> None:
    disk = MemoryDisk()
    async with opened(disk, memtable_records_max=20) as engine:
        database = await new_database(engine)
        for number in range(100):
            await insert(database, {"_id": number})
        await database.sealing.seal_now()
        await insert(database, {"_id": 100})
        await trio.testing.wait_all_tasks_blocked()
        assert [doc["_id"] for doc in await everything(database)] == list(range(101))
        long_ones = [name for name in log_files(disk) if disk.size(f"db/commit/{name}") >= RESERVE_BYTES_MIN]
        assert len(long_ones) == 1, "only the segment that is being written has space ahead"
        assert list(check_database(disk, "db")) == []


async def test_without_room_or_without_a_way_to_reserve_the_log_grows_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    small = MemoryDisk(capacity_bytes=RESERVED_PART_OF_FREE * RESERVE_BYTES_MIN)
    refusing = MemoryDisk()
    for disk in (small, refusing):
        if disk is refusing:

            def unsupported(_file: MemoryFile, _length: int) -> None:
                raise OSError(errno.EOPNOTSUPP, "operation not supported")

            monkeypatch.setattr(MemoryFile, "reserve", unsupported)
        async with opened(disk) as engine:
            database = await new_database(engine)
            for number in range(20):
                await insert(database, {"_id": number})
            await trio.testing.wait_all_tasks_blocked()
            [name] = log_files(disk)
            assert disk.size(f"db/commit/{name}") < 10_000 and len(await everything(database)) == 20


async def test_async_mode_reserves_nothing() -> None:
    disk = MemoryDisk()
    async with opened(disk, sync_mode=SyncMode.ASYNC) as engine:
        await insert(await new_database(engine), {"_id": 1})
        [name] = log_files(disk)
        assert disk.size(f"db/commit/{name}") < 1000


async def test_reserved_space_left_by_a_crash_is_gone_after_the_opening() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        left = {f"db/{name}": disk.read_file(f"db/{name}") for name in ("database.json",)}
        left |= {f"db/commit/{name}": disk.read_file(f"db/commit/{name}") for name in disk.list_dir("db/commit")}
    crashed = MemoryDisk()
    for directory in ("db", "db/commit", "db/checkpoints"):
        crashed.make_dir(directory)
    for path, data in (left | {f"db/commit/{SPARE}": bytes(RESERVE_BYTES_MIN)}).items():
        crashed.create(path).append(data)
    assert list(check_database(crashed, "db")) == []
    async with opened(crashed, sync_mode=SyncMode.ASYNC) as engine:
        database = engine.database("db")
        assert database.unclean and database.findings == [] and not crashed.exists("db/salvage")
        assert sum(crashed.size(f"db/commit/{name}") for name in crashed.list_dir("db/commit")) < 1000
        assert [doc["_id"] for doc in await everything(database)] == [1]
