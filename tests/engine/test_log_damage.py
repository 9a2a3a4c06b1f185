"""The commit log of a small database, cut at every byte and with every bit flipped (INV-2), with and without reserved space behind its
last commit: recovery keeps exactly the whole commits before the damage, or reports it; what it keeps is never a wrong byte."""

from __future__ import annotations

import pytest

from storage import MemoryDisk, SyncMode
from storage.check import check_database
from storage.commit import codec
from storage.commit.memtable import is_live
from storage.commit.segment import HEADER_BYTES, decode_header
from storage.recovery import Recovered, recover
from tests.engine.model import insert, new_database, opened

COMMITS = 7
RESERVED_BYTES = 300  # of zeros behind the last commit: longer than a frame's header and than any frame here

LAYOUTS = pytest.mark.parametrize(
    ("sync_mode", "reserved"), [(SyncMode.ASYNC, 0), (SyncMode.SYNC, 0), (SyncMode.SYNC, RESERVED_BYTES)]
)


async def small_log(sync_mode: SyncMode, reserved: int = 0) -> tuple[dict[str, bytes], str]:
    """Every file of a small database as a crash leaves it, and the path of its only log segment."""
    disk = MemoryDisk()
    async with opened(disk, sync_mode=sync_mode) as engine:
        database = await new_database(engine)
        for number in range(COMMITS):
            await insert(database, {"_id": number, "n": "x" * number})
        files = {f"db/{name}": disk.read_file(f"db/{name}") for name in ("database.json",)}
        [name] = [name for name in disk.list_dir("db/commit") if name.endswith(".log")]
        log = disk.read_file(f"db/commit/{name}")
        files[f"db/commit/{name}"] = log[: frame_ends(log)[-1]] + bytes(reserved)
        return files, f"db/commit/{name}"


def disk_with(files: dict[str, bytes]) -> MemoryDisk:
    disk = MemoryDisk()
    for directory in ("db", "db/commit", "db/checkpoints"):
        disk.make_dir(directory)
    for path, data in files.items():
        disk.create(path).append(data)
    return disk


def rows_of(state: Recovered) -> dict[int, dict[bytes, bytes]]:
    return {
        collection: {key: version[3] for key, version in rows.items() if is_live(version)}
        for collection, rows in state.memtable.rows.items()
    }


def frame_ends(log: bytes) -> list[int]:
    return [HEADER_BYTES, *(offset + head.frame_len for offset, head, _ in codec.frames(log, HEADER_BYTES))]


async def states_after_each_commit(files: dict[str, bytes], path: str) -> list[dict]:
    """What the database holds after 0, 1, 2, ... commits, from logs that end exactly there."""
    ends = frame_ends(files[path])
    return [rows_of(recover(disk_with({**files, path: files[path][:end]}), "db", records_max=100)) for end in ends]


@pytest.mark.parametrize("sync_mode", list(SyncMode))
async def test_a_log_cut_at_any_byte_opens_at_the_whole_commits_before_it(sync_mode: SyncMode) -> None:
    files, path = await small_log(sync_mode)
    log, ends, states = files[path], frame_ends(files[path]), await states_after_each_commit(files, path)
    assert len(ends) == COMMITS + 2
    for cut in range(len(log)):
        whole = sum(end <= cut for end in ends[1:])
        opens_at(disk_with({**files, path: log[:cut]}), whole, states, lost=log[ends[whole] : cut])


async def test_an_append_cut_short_in_reserved_space_is_lost_alone() -> None:
    files, path = await small_log(SyncMode.SYNC, RESERVED_BYTES)
    log, ends, states = files[path], frame_ends(files[path]), await states_after_each_commit(files, path)
    for cut in range(len(log)):
        torn = log[:cut] + bytes(len(log) - cut)
        whole = sum(torn[:end] == log[:end] for end in ends[1:])  # a frame that ends in zeros may be whole already
        disk = disk_with({**files, path: torn})
        lost = log[ends[whole] : cut].rstrip(b"\0")
        found = [finding.what for finding in check_database(disk, "db")]
        assert [what for what in found if "torn" in what] == found and bool(found) == bool(lost or cut < HEADER_BYTES and log[:cut].strip(b"\0"))
        opens_at(disk, whole, states, lost=lost)
        assert disk.size(path) == ends[whole] if whole else not disk.exists(path), "no reserved space outlives the opening"


def opens_at(disk: MemoryDisk, whole: int, states: list[dict], *, lost: bytes) -> None:
    state = recover(disk, "db", records_max=100)
    assert (state.last_seq, state.damaged) == (whole, "")
    assert rows_of(state) == states[whole]
    kept = b"".join(disk.read_file(f"db/salvage/{name}") for name in disk.list_dir("db/salvage"))
    assert lost in kept, "what recovery cut off is in salvage (INV-7)"
    assert bool(lost) <= bool(state.findings)
    again = recover(disk, "db", records_max=100)
    assert (again.last_seq, again.findings) == (whole, []), "a second opening finds nothing left to do"


@LAYOUTS
async def test_a_log_with_any_bit_flipped_serves_only_sound_commits_and_reports_damage(sync_mode: SyncMode, reserved: int) -> None:
    files, path = await small_log(sync_mode, reserved)
    log, ends, states = files[path], frame_ends(files[path]), await states_after_each_commit(files, path)
    synced_up_to = [head.synced_seq for _, head, _ in codec.frames(log, HEADER_BYTES)]
    reported = 0
    for bit in range(len(log) * 8):
        damaged = bytearray(log)
        damaged[bit // 8] ^= 1 << bit % 8
        state = recover(disk_with({**files, path: bytes(damaged)}), "db", records_max=100)
        whole = sum(end <= bit // 8 for end in ends[1:])
        assert state.last_seq == whole
        assert rows_of(state) == states[whole]
        assert state.findings, "a flipped bit is always told"
        vouched = any(synced > whole for synced in synced_up_to[whole + 1 :])
        assert bool(state.damaged) == vouched
        reported += bool(state.damaged)
    assert (reported > 0) == (sync_mode is SyncMode.SYNC)


async def test_zeros_behind_the_last_commit_are_no_loss() -> None:
    files, path = await small_log(SyncMode.SYNC)
    disk = disk_with({**files, path: files[path] + bytes(4 * 2**20)})
    assert list(check_database(disk, "db")) == []
    state = recover(disk, "db", records_max=100)
    assert (state.last_seq, state.damaged, state.findings) == (COMMITS + 1, "", [])
    assert disk.read_file(path)[HEADER_BYTES:] == files[path][HEADER_BYTES:] and not disk.exists("db/salvage")


@pytest.mark.parametrize("cut", [0, 1])
async def test_what_no_later_commit_vouches_for_is_written_anew_after_an_unclean_stop(cut: int) -> None:
    files, path = await small_log(SyncMode.SYNC)
    disk = disk_with({**files, path: files[path][: len(files[path]) - cut]})
    before = disk.inode(path)
    state = recover(disk, "db", records_max=100)
    assert state.last_seq == COMMITS + 1 - cut and not state.clean
    assert disk.inode(path) != before, "the page cache's word is not taken for what the last owner may have failed to sync"
    assert decode_header(disk.read_file(path), path).inode == disk.inode(path)
    assert [head.seq for _, head, _ in codec.frames(disk.read_file(path), HEADER_BYTES)] == [*range(1, state.last_seq + 1)]
