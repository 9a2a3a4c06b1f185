"""Hard weather of the disk: what is kept free, seals on a full disk, failing writes and reads, no descriptors, clocks that jump."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from storage import Engine, MemoryDisk, OsDisk, Seams, SyncMode, WorkHere, encode_document, operations
from storage.disk_memory import MemoryFile
from storage.errors import DiskFailed, DiskFull, Overloaded, ReadOnly, of_disk
from storage.expiry import DISTRUST_S, ClockWatch
from storage.space import FLOOR_BYTES_MAX, HOLD_S, LOOK_S, Reserve, floor_bytes
from tests.engine.model import everything, insert, memory_seams, new_database, opened, options

MIB = 2**20


class StormyDisk(MemoryDisk):
    """Raises `errors[what]` from every call of that kind on a path with `within` in it, until it is taken away."""

    def __init__(self, *, capacity_bytes: int | None = None) -> None:
        super().__init__(capacity_bytes=capacity_bytes)
        self.errors: dict[str, int] = {}
        self.within = ""
        self.calls: list[str] = []

    def strike(self, what: str, path: str) -> None:
        self.calls.append(what)
        if what in self.errors and self.within in path:
            raise OSError(self.errors[what], os.strerror(self.errors[what]), path)

    def create(self, path: str) -> MemoryFile:
        self.strike("create", path)
        inode = super().create(path)._inode
        return StormyFile(self, path, inode, writable=True)

    def open_append(self, path: str) -> MemoryFile:
        return StormyFile(self, path, self._file(path), writable=True)

    def open_read(self, path: str) -> MemoryFile:
        self.strike("open", path)
        return StormyFile(self, path, self._file(path), writable=False)

    def read_file(self, path: str) -> bytes:
        self.strike("read", path)
        return super().read_file(path)

    def sync_dir(self, path: str) -> None:
        self.strike("sync_dir", path)
        super().sync_dir(path)

    def is_read_only(self) -> bool:
        return "read_only" in self.errors


class StormyFile(MemoryFile):
    def append(self, data) -> None:
        self._disk.strike("append", self.path)
        super().append(data)

    def sync(self) -> float:
        self._disk.strike("sync", self.path)
        return super().sync()

    def read_at(self, offset: int, length: int) -> bytes:
        self._disk.strike("read", self.path)
        return super().read_at(offset, length)

    def read_now(self, offset: int, length: int) -> bytes | None:
        return None if "read" in self._disk.errors else super().read_now(offset, length)


# The reserve.


def test_the_reserve_is_bounded_by_the_disk_and_by_what_can_be_sealed() -> None:
    reserve = Reserve()
    assert reserve.kept_bytes(64 * MIB, 1) == 4 * MIB == floor_bytes(64 * MIB)
    reserve.note("a", 10 * MIB, 3 * MIB, 100 * MIB)
    reserve.note("b", 5 * MIB, 2 * MIB, 200 * MIB)
    assert reserve.seal_bytes() == 18 * MIB, "memtables all together, merges one at a time"
    assert reserve.compaction_bytes(64 * MIB) == 4 * MIB, "a sixteenth of the disk"
    assert reserve.kept_bytes(2**40, 1) == 18 * MIB + 200 * MIB + FLOOR_BYTES_MAX
    assert reserve.kept_bytes(2**40, 2**35) == 2**35 and reserve.kept_bytes(2**40, 0) == 0
    reserve.forget("b")
    assert reserve.seal_bytes() == 13 * MIB


async def test_what_was_acknowledged_can_be_sealed_on_a_disk_that_is_full(autojump_clock: object) -> None:
    disk = MemoryDisk(capacity_bytes=4 * MIB)
    async with opened(disk, free_bytes_min=1, memtable_bytes_max=64 * MIB) as engine:
        database = await new_database(engine)
        kept = 0
        with pytest.raises(DiskFull, match="kept in reserve") as told:
            while True:
                database.space.look_again()
                await insert(database, {"_id": kept, "pad": "x" * 2000})
                kept += 1
        assert told.value.fields["free_bytes"] < told.value.fields["needed_bytes"]
        assert kept > 500
        assert await database.sealing.seal_now() >= kept
        assert database.sealing.failures == 0 and len(await everything(database)) == kept


async def test_a_commit_that_would_eat_the_reserve_is_refused_and_a_small_one_taken(autojump_clock: object) -> None:
    disk = MemoryDisk(capacity_bytes=10 * MIB)
    async with opened(disk, free_bytes_min=1) as engine:
        database = await new_database(engine)
        with pytest.raises(DiskFull, match="this commit takes"):
            await insert(database, {"_id": 1, "pad": "x" * 6 * MIB})
        assert not database.space.full
        await insert(database, {"_id": 2})


async def test_a_seal_that_meets_enospc_gives_its_space_back_and_is_done_later(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk, sync_mode=SyncMode.ASYNC, free_bytes_min=1, memtable_records_max=50) as engine:
        database = await new_database(engine)
        for number in range(60):
            await insert(database, {"_id": number, "pad": "x" * 500})
        await database.sealing.seal_now()
        lengths = {name: disk.size(f"db/{name}") for name in disk.list_dir("db") if name.startswith("shard_")}
        for number in range(60, 100):
            await insert(database, {"_id": number, "pad": "x" * 500})
        disk.capacity_bytes = sum(len(inode.data) for inode in disk._files.values()) + 9_000
        await insert(database, {"_id": 100})
        database.sealing.freeze()
        for _ in range(5):
            await trio.sleep(1)
        assert database.sealing.failures > 2 and database.disk_state["state"] == "full"
        assert {name: disk.size(f"db/{name}") for name in disk.list_dir("db") if name.startswith("shard_")} == lengths
        with pytest.raises(DiskFull):
            await insert(database, {"_id": "refused"})
        assert len(await everything(database)) == 101
        disk.capacity_bytes = None
        await database.sealing.seal_now()
        await trio.sleep(LOOK_S + HOLD_S)
        await insert(database, {"_id": "after"})
    async with opened(disk, start=2) as engine:
        assert len(await everything(engine.database("db"))) == 102


async def test_writers_that_wait_for_room_are_refused_when_the_disk_is_full(autojump_clock: object) -> None:
    disk = StormyDisk()
    disk.within = "shard_"
    async with opened(disk, memtable_records_max=20) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": "first"})
        disk.errors["create"] = errno.ENOSPC
        with trio.fail_after(100):
            with pytest.raises(DiskFull):
                for number in range(1000):
                    await operations.insert(database, "things", [encode_document({"_id": number})])
                    database.flush()
        assert len(await everything(database)) >= 20, "reads go on"
        disk.errors.clear()
        await trio.sleep(HOLD_S + 2 * LOOK_S)
        await insert(database, {"_id": "after"})


async def test_builds_do_not_eat_the_reserve(autojump_clock: object) -> None:
    disk = MemoryDisk(capacity_bytes=100 * MIB)
    async with opened(disk, sync_mode=SyncMode.ASYNC, free_bytes_min=1, index_rows_min=1) as engine:
        database = await new_database(engine)
        for start in range(0, 2000, 500):
            await insert(database, *({"_id": n, "n": n, "pad": "x" * 100} for n in range(start, start + 500)))
        await database.sealing.seal_now()
        used = 100 * MIB - disk.free_bytes()
        disk.capacity_bytes = used + 50_000
        cursor = await operations.find(database, "things", {"n": 5})
        assert len(await cursor.next_batch(10)) == 1
        await trio.sleep(30)
        assert database.indexing.builds == 0
        disk.capacity_bytes = 100 * MIB
        await trio.sleep(30)
        assert database.indexing.builds > 0


async def test_a_full_disk_is_left_without_a_write(autojump_clock: object) -> None:
    disk = MemoryDisk(capacity_bytes=10 * MIB)
    async with opened(disk, free_bytes_min=20 * MIB) as engine:
        database = await new_database(engine)
        with pytest.raises(DiskFull):
            await insert(database, {"_id": 1})
        assert database.disk_state["refused_writes"] == 1
        await trio.sleep(LOOK_S)
        await database.log.make_ready()
        assert not disk.exists("db/commit/next.reserved"), "space reserved ahead takes none of the reserve"
        disk.capacity_bytes = 50 * MIB
        await trio.sleep(2 * LOOK_S)
        assert database.disk_state["state"] == "ok" and database.disk_state["times_full"] == 1


# Steps on a full disk leave no half state.


async def test_drops_and_rewinds_that_a_full_disk_keeps_from_happening_leave_the_database_open(autojump_clock: object) -> None:
    disk = StormyDisk()
    async with opened(disk) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        disk.errors["sync_dir"], disk.within = errno.ENOSPC, "_dropped"
        make_dir, disk.make_dir = disk.make_dir, lambda path: disk.strike("sync_dir", path)
        with pytest.raises(DiskFull, match="'db'"):
            await engine.drop_database("db")
        disk.make_dir = make_dir
        assert [doc["_id"] for doc in await everything(engine.database("db"))] == [1]
        replace, disk.replace_file = disk.replace_file, lambda path, data: disk.strike("sync_dir", "_dropped")
        with pytest.raises(DiskFull, match="rewinding"):
            await engine.rewind("db", 1)
        disk.replace_file = replace
        assert [doc["_id"] for doc in await everything(engine.database("db"))] == [1]
        disk.errors.clear()
        await engine.drop_database("db")
        assert engine.databases == {}


async def test_a_torn_log_on_a_full_disk_is_read_and_taken_up_when_there_is_space(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        await insert(await new_database(engine), {"_id": 1})
    disk.remove("db/closed.json")
    [segment] = [name for name in disk.list_dir("db/commit") if name.endswith(".log")]
    disk._files[f"db/commit/{segment}"].data += b"torn bytes of a frame"
    disk.capacity_bytes = 1
    async with opened(disk, start=2, free_bytes_min=1) as engine:
        database = engine.database("db")
        assert [doc["_id"] for doc in await everything(database)] == [1]
        with pytest.raises(ReadOnly, match="the disk is full"):
            await insert(database, {"_id": 2})
        disk.capacity_bytes = 100 * MIB
        await trio.sleep(10)
        database = engine.database("db")
        database.begin_reign(2)
        await insert(database, {"_id": 2})
        assert [doc["_id"] for doc in await everything(database)] == [1, 2]


# Failing devices.


@pytest.mark.parametrize("what", ["append", "sync"])
async def test_eio_on_writing_stops_writes_for_good_and_reads_go_on(what: str, autojump_clock: object) -> None:
    disk = StormyDisk()
    async with opened(disk) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        disk.errors[what] = errno.EIO
        with pytest.raises(DiskFailed, match="check the device"):
            await insert(database, {"_id": 2})
        disk.errors.clear()
        tried = len(disk.calls)
        with pytest.raises(DiskFailed):
            await insert(database, {"_id": 3})
        assert "sync" not in disk.calls[tried:], "a sync that failed is never tried again"
        assert database.disk_state["state"] == "failed"
        assert [doc["_id"] for doc in await everything(database)] == [1]


async def test_a_shard_log_whose_sync_failed_is_never_written_again(autojump_clock: object) -> None:
    disk = StormyDisk()
    async with opened(disk, shards=1) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        await database.sealing.seal_now()
        length = disk.size("db/shard_000.db")
        await insert(database, {"_id": 2})
        disk.errors["sync"], disk.within = errno.EIO, "shard_000.db"
        database.sealing.freeze()
        await trio.sleep(0.1)
        assert database.sealing.failures == 1
        disk.errors.clear()
        await database.sealing.seal_now()
        assert disk.size("db/shard_000.db") > length, "its wrong length is why the next seal leaves it alone"
        assert disk.exists("db/shard_000.g2.db") and database.disk_state["state"] == "ok"
    async with opened(disk, start=2) as engine:
        assert len(await everything(engine.database("db"))) == 2


async def test_eio_on_reading_a_shard_log_fails_that_read_by_name_and_no_other(autojump_clock: object) -> None:
    disk = StormyDisk()
    async with opened(disk, cache_bytes=0) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        await database.sealing.seal_now()
        await insert(database, {"_id": 2})
        disk.errors["read"], disk.within = errno.EIO, "shard_"
        with pytest.raises(OSError) as met:
            await everything(database)
        assert isinstance(of_disk(met.value, "find"), DiskFailed)
        disk.errors.clear()
        assert len(await everything(database)) == 2
        await insert(database, {"_id": 3})


async def test_eio_at_opening_keeps_that_database_closed_until_it_passes(autojump_clock: object) -> None:
    disk = StormyDisk()
    async with opened(disk) as engine:
        await insert(await new_database(engine), {"_id": 1})
        await insert(await new_database(engine, "other"), {"_id": 2})
    disk.errors["read"], disk.within = errno.EIO, "db/"
    async with opened(disk, start=2) as engine:
        assert list(engine.databases) == ["other"]
        with pytest.raises(DiskFailed, match="could not be opened"):
            engine.database("db")
        with pytest.raises(DiskFailed):
            await engine.create_database("db")
        disk.errors.clear()
        await trio.sleep(10)
        assert [doc["_id"] for doc in await everything(engine.database("db"))] == [1]


async def test_a_read_only_file_system_is_opened_for_reading(autojump_clock: object) -> None:
    disk = StormyDisk()
    async with opened(disk) as engine:
        await insert(await new_database(engine), {"_id": 1})
    before = {path: bytes(inode.data) for path, inode in disk._files.items()}
    disk.errors = {"read_only": errno.EROFS, "create": errno.EROFS, "append": errno.EROFS}
    async with opened(disk, start=2) as engine:
        database = engine.database("db")
        assert [doc["_id"] for doc in await everything(database)] == [1]
        with pytest.raises(ReadOnly, match="read-only; mount it for writing"):
            await insert(database, {"_id": 2})
        await trio.sleep(60)
    assert {path: bytes(inode.data) for path, inode in disk._files.items()} == before


# Descriptors.


async def test_a_segment_that_no_descriptor_is_left_for_is_an_overload_and_passes(autojump_clock: object) -> None:
    disk = StormyDisk()
    async with opened(disk, log_segment_bytes=500) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        disk.errors["create"], disk.within = errno.EMFILE, "commit/"
        await database.log.give_up_spare()
        with pytest.raises(Overloaded, match="ulimit"):
            for number in range(2, 100):
                await insert(database, {"_id": number, "pad": "x" * 300})
                await database.log.give_up_spare()
        disk.errors.clear()
        await insert(database, {"_id": "after"})
        assert (await everything(database))[-1]["_id"] == "after"


async def test_a_directory_that_cannot_be_opened_for_its_sync_is_no_failed_sync(autojump_clock: object) -> None:
    disk = StormyDisk()
    async with opened(disk) as engine:
        database = await engine.create_database("db")
        disk.errors["sync_dir"], disk.within = errno.EMFILE, "commit"
        seq = database.begin_reign(1)
        database.flush()
        await trio.sleep(5)
        assert database.visible.seq < seq, "its name may not survive a power cut yet"
        disk.errors.clear()
        await database.visible_advance.wait_for(seq)
        await insert(database, {"_id": 1})


OUT_OF_DESCRIPTORS = """
import os, resource, sys, trio
sys.path.insert(0, {root!r})
from storage import OsDisk
disk = OsDisk({where!r})
disk.create("first").close()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
file = disk.create("second")
file.append(b"x")
file.sync()
disk.sync_dir("")
disk.replace_file("third", b"y")
assert disk.read_file("third") == b"y" and bytes(disk.map("second")) == b"x"
print("done")
"""


def test_the_disk_keeps_descriptors_for_when_clients_have_taken_all(tmp_path: Path) -> None:
    code = OUT_OF_DESCRIPTORS.format(root=str(Path(__file__).resolve().parents[2]), where=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


def test_a_replacement_that_fails_leaves_no_file_beside(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    disk.replace_file("node.json", b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))  # Python ignores SIGXFSZ: writing beyond it is EFBIG
    try:
        with pytest.raises(OSError):
            disk.replace_file("node.json", bytes(2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert disk.list_dir("") == ["node.json"] and disk.read_file("node.json") == b"old"


# Clocks.


def test_a_clock_that_jumps_ahead_is_not_trusted_for_a_while() -> None:
    watch = ClockWatch(0.0, 0)
    assert watch.look(60.0, 60_000_000) and watch.look(120.0, 150_000_000), "half a minute is no jump"
    assert watch.look(180.0, 0), "back delays only"
    assert not watch.look(240.0, 10**15)
    assert not watch.look(240.0 + DISTRUST_S - 1, 10**15)
    assert watch.look(240.0 + DISTRUST_S, 10**15)


async def test_commit_times_rise_whatever_the_clock_does() -> None:
    times = iter([10**15, 10**15, 5, 10**18, 3, 3, 3] + [1] * 1000)
    disk = MemoryDisk()
    async with Engine.open(Seams(disk, lambda: next(times), lambda n: bytes(n), WorkHere(disk)), options=options()) as engine:
        database = await new_database(engine)
        seen = [database.last_time_us]
        for number in range(5):
            await insert(database, {"_id": number})
            seen.append(database.last_time_us)
        assert seen == sorted(set(seen))
    assert memory_seams(disk).reserve.seal_bytes() == 0
