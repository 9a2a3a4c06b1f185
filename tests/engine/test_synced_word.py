"""A copy that follows: what its own node had synced is said by that node alone (INV-1, INV-2). A power cut that keeps a later page of its log and
loses an earlier one leaves a tear, whatever the primary had synced; the same loss below this node's own word is damage."""

from __future__ import annotations

import copy
import errno

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from storage import Database, MemoryDisk, Reign, SyncMode, identity
from storage.check import check_database
from storage.commit import codec
from storage.commit.anew import write_anew
from storage.commit.log import SAY_EVERY_S, CommitLog
from storage.commit.scan import list_segments
from storage.commit.segment import HEADER_BYTES, decode_header, has_rotted
from storage.commit.synced import (
    ENTRY_BYTES,
    SYNCED_BYTES_MAX,
    SyncedWord,
    encode_entry,
    heard,
    largest,
    path_of,
)
from storage.disk_memory import MemoryFile
from storage.finding import Severity
from storage.recovery import recover
from storage.rewinding import rewind
from tests.engine.model import everything, insert, new_database, opened, settled
from tests.engine.test_hot_copy import FOREIGN_INODES
from tests.engine.test_log_damage import frame_ends

COMMITS = 8  # after the REIGN
NEVER_SYNCS = {"sync_mode": SyncMode.ASYNC, "flush_interval_s": 1e6}
WHERE = pytest.mark.parametrize("where", ["header", "first", "middle"])  # of a followed segment: which of its pages the cut took


async def primary_log() -> tuple[bytes, bytes, int]:
    """All frames of a primary that syncs each commit before it writes the next, its UUID and number of shards."""
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        for number in range(COMMITS):
            await insert(database, {"_id": number, "pad": "x" * 200})
        frames = (await database.read_log(0, 10**6)).data
        heads = [head for _, head, _ in codec.frames(frames)]
        assert [head.synced_seq for head in heads] == list(range(COMMITS + 1)), "the primary has synced what it writes on"
        return frames, database.uuid, database.shards


async def standby(frames: bytes, uuid: bytes, shards: int, synced: int) -> MemoryDisk:
    """The disk of a node that follows, with the first `synced` commits synced by it, as it is while the node is up."""
    disk = MemoryDisk()
    async with opened(disk, start=2, **NEVER_SYNCS) as engine:
        database = await engine.create_database("db", uuid=uuid, shards=shards)
        end = frame_ends(bytes(HEADER_BYTES) + frames)[synced] - HEADER_BYTES
        await take(database, frames[:end])
        if synced:
            assert await database.make_durable()
        await take(database, frames[end:])
        return copy.deepcopy(disk)


async def take(database: Database, frames: bytes) -> None:
    if frames:
        await settled(database, database.append_frames(frames))


async def crashed(synced: int) -> tuple[MemoryDisk, bytes]:
    frames, uuid, shards = await primary_log()
    return await standby(frames, uuid, shards, synced), frames


def only_segment(disk: MemoryDisk) -> str:
    [(path, _)] = list_segments(disk, "db")
    return path


def lose(disk: MemoryDisk, where: str, path: str = "") -> int:
    """Zeros where the cut took a page; the seq of the first commit that is gone."""
    path = path or only_segment(disk)
    data = disk._files[path].data
    ends = frame_ends(bytes(data))
    start, end, seq = {"header": (0, HEADER_BYTES, 1), "first": (ends[0], ends[0] + 20, 1), "middle": (ends[4], ends[4] + 20, 5)}[where]
    data[start:end] = bytes(end - start)
    return seq


# The verdict.


@WHERE
async def test_what_only_the_primary_had_synced_is_a_tear_and_comes_again(where: str) -> None:
    disk, frames = await crashed(synced=0)
    log = disk.read_file(only_segment(disk))
    gone = lose(disk, where)
    assert [finding.severity for finding in check_database(disk, "db")] == [Severity.WARNING]
    async with opened(disk, start=3, **NEVER_SYNCS) as engine:
        database = engine.database("db")
        assert not database.damaged and database.position.seq == gone - 1
        kept = b"".join(disk.read_file(f"db/salvage/{name}") for name in disk.list_dir("db/salvage"))
        assert log[-300:] in kept, "what is cut is kept (INV-7)"
        await take(database, frames[frame_ends(log)[gone - 1] - HEADER_BYTES :])
        assert [doc["_id"] for doc in await everything(database)] == list(range(COMMITS))
        await settled(database, database.begin_reign(2))
        await insert(database, {"_id": COMMITS})
    assert list(check_database(disk, "db")) == []


@WHERE
async def test_what_this_node_had_synced_is_damage(where: str) -> None:
    disk, _ = await crashed(synced=6)
    gone = lose(disk, where)
    assert [finding.severity for finding in check_database(disk, "db")] == [Severity.ERROR]
    async with opened(disk, start=3, **NEVER_SYNCS) as engine:
        database = engine.database("db")
        assert database.damaged and database.position.seq == gone - 1
        assert f"commits from {gone} on had been synced" in database.findings[0] and not disk.exists("db/salvage")


async def test_a_loss_above_this_nodes_word_is_a_tear() -> None:
    disk, _ = await crashed(synced=4)
    gone = lose(disk, "middle")
    state = recover(disk, "db", records_max=1000)
    assert gone == 5 and (state.last_seq, state.damaged) == (4, "")


async def test_a_followed_log_that_ends_before_what_was_synced_is_damaged() -> None:
    disk, _ = await crashed(synced=6)
    path = only_segment(disk)
    ends = frame_ends(disk.read_file(path))
    for end, damaged in ((ends[6], False), (ends[5], True)):
        shorter = copy.deepcopy(disk)
        shorter.open_append(path).cut(end)
        told = [finding.severity for finding in check_database(shorter, "db")]
        assert told == [Severity.ERROR] * damaged
        state = recover(shorter, "db", records_max=1000)
        assert bool(state.damaged) == damaged and ("had synced it up to 6" in state.damaged) == damaged


async def own_log(synced: bool) -> MemoryDisk:
    disk = MemoryDisk()
    async with opened(disk, sync_mode=SyncMode.SYNC if synced else SyncMode.ASYNC, flush_interval_s=1e6) as engine:
        database = await new_database(engine)
        for number in range(COMMITS):
            await insert(database, {"_id": number, "pad": "x" * 200})
        return copy.deepcopy(disk)


@WHERE
@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("synced", [True, False])
async def test_own_commits_vouch_as_they_did_and_for_a_lost_header_the_word_does(where: str, synced: bool, said: bool) -> None:
    disk = await own_log(synced)
    lose(disk, where)
    if not said and disk.exists(path_of("db")):
        disk.remove(path_of("db"))
    state = recover(disk, "db", records_max=1000)
    assert bool(state.damaged) == (synced and (said or where != "header"))


async def test_of_a_header_with_wrong_bits_its_own_commits_still_vouch() -> None:
    """It had been there once: then what stands behind it had been synced when it says so."""
    disk = await own_log(synced=True)
    disk.remove(path_of("db"))
    path, name = list_segments(disk, "db")[0]
    disk._files[path].data[20:28] = b"\xff" * 8
    data, uuid = disk.read_file(path), identity.read(disk, "db").uuid
    assert has_rotted(data, uuid, name) and not has_rotted(bytes(96), uuid, name) and not has_rotted(b"\xe9" * 96, uuid, name)
    assert recover(disk, "db", records_max=1000).damaged


# Both kinds in one log.


@pytest.mark.parametrize("synced", [0, 6])
async def test_after_a_promotion_own_commits_vouch_for_what_was_followed(synced: int) -> None:
    """As far as it was synced when they were written; and the frames of one reign may be of both kinds."""
    frames, uuid, shards = await primary_log()
    disk = MemoryDisk()
    async with opened(disk, start=2, **NEVER_SYNCS) as engine:
        database = await engine.create_database("db", uuid=uuid, shards=shards)
        await take(database, frames)
        if synced:
            await database.make_durable()
        await settled(database, database.begin_reign(2))
        await insert(database, {"_id": "own"})
        cut = copy.deepcopy(disk)
    if cut.exists(path_of("db")):
        cut.remove(path_of("db"))
    segments = list_segments(cut, "db")
    assert [decode_header(cut.read_file(path), path).is_followed for path, _ in segments] == [True, False]
    gone = lose(cut, "middle", segments[0][0])
    state = recover(cut, "db", records_max=1000)
    assert (state.last_seq, bool(state.damaged)) == (gone - 1, bool(synced))


def test_a_change_of_who_wrote_the_frames_begins_a_segment_and_a_segment_written_anew_keeps_it() -> None:
    disk, reign = MemoryDisk(), Reign(1, 7, 1, 0)
    disk.make_dir("db/commit")
    log = CommitLog(disk, "db", bytes(16), segment_bytes=10**6, last_seq=0, reign=None)
    for seq, followed in enumerate([False, False, True, True, False], 1):
        frame = codec.encode(b"", record_count=0, epoch=1, seq=seq, synced_seq=0, time_us=1, chain_before=0)[0]
        log.append(frame, seq, 0, reign, followed=followed)
    log.write()
    assert [first for _, first in log.segments] == [1, 3, 5]
    for path, first in log.segments:
        write_anew(disk, path, disk.read_file(path))
        header = decode_header(disk.read_file(path), path)
        assert header.is_followed == (first == 3) and header.inode == disk.inode(path)


@pytest.mark.parametrize("synced", [0, 4])
async def test_what_this_node_did_not_say_it_synced_is_written_anew_after_an_unclean_stop(synced: int) -> None:
    """The primary's word, in later segments, that it was synced over there saves no segment from it."""
    frames, uuid, shards = await primary_log()
    ends = [end - HEADER_BYTES for end in frame_ends(bytes(HEADER_BYTES) + frames)]
    disk = MemoryDisk()
    async with opened(disk, start=2, **NEVER_SYNCS, log_segment_bytes=100) as engine:
        database = await engine.create_database("db", uuid=uuid, shards=shards)
        for seq in range(1, COMMITS + 2):
            await take(database, frames[ends[seq - 1] : ends[seq]])
            if seq == synced:
                await database.make_durable()
        disk = copy.deepcopy(disk)
    inodes = [disk.inode(path) for path, _ in list_segments(disk, "db")]
    last = [name.first_seq - 1 for _, name in list_segments(disk, "db")][1:] + [COMMITS + 1]
    assert len(inodes) > 4
    state = recover(disk, "db", records_max=1000)
    assert state.last_seq == COMMITS + 1 and not state.damaged and not state.clean
    stayed = [disk.inode(path) == before for (path, _), before in zip(list_segments(disk, "db"), inodes, strict=True)]
    assert stayed == [seq <= synced for seq in last]
    assert heard(disk, "db", state.identity.uuid) == COMMITS + 1, "all of it is durable now, and that is said"


async def test_what_a_full_disk_left_at_the_page_caches_word_is_not_said_to_be_synced() -> None:
    disk, _ = await crashed(synced=0)
    disk.capacity_bytes = sum(len(inode.data) for inode in disk._files.values()) + 10 * ENTRY_BYTES
    state = recover(disk, "db", records_max=1000)
    assert (state.last_seq, state.damaged) == (COMMITS + 1, "") and heard(disk, "db", state.identity.uuid) == 0
    disk.capacity_bytes = None
    recover(disk, "db", records_max=1000)
    assert heard(disk, "db", state.identity.uuid) == COMMITS + 1


# The word's own file.


async def test_the_word_follows_the_syncs_of_a_followed_log_and_the_first_of_an_own_segment(autojump_clock: object) -> None:
    frames, uuid, shards = await primary_log()
    disk = MemoryDisk()
    ends = [end - HEADER_BYTES for end in frame_ends(bytes(HEADER_BYTES) + frames)]
    async with opened(disk, start=2, **NEVER_SYNCS) as engine:
        database = await engine.create_database("db", uuid=uuid, shards=shards)
        for seq in range(1, COMMITS + 2):
            await take(database, frames[ends[seq - 1] : ends[seq]])
            await trio.sleep(SAY_EVERY_S)
            assert heard(disk, "db", uuid) == seq - 1, "never before its sync"
            await database.make_durable()
            assert heard(disk, "db", uuid) == seq
        await settled(database, database.begin_reign(2))
        for number in range(5):
            await trio.sleep(SAY_EVERY_S)
            await database.make_durable()
            await insert(database, {"_id": f"own {number}"})
        assert heard(disk, "db", uuid) == COMMITS + 2, "own commits say it themselves from then on"


async def test_the_word_follows_syncs_on_the_loop_too_and_not_each_of_many(autojump_clock: object) -> None:
    frames, uuid, shards = await primary_log()
    disk, in_place = MemoryDisk(), 0
    ends = [end - HEADER_BYTES for end in frame_ends(bytes(HEADER_BYTES) + frames)]
    async with opened(disk, start=2, sync_mode=SyncMode.SYNC) as engine:
        database = await engine.create_database("db", uuid=uuid, shards=shards)
        for seq in range(1, COMMITS + 2):
            database.append_frames(frames[ends[seq - 1] : ends[seq]])
            database.flush()
            in_place += database.visible.seq == seq
            await database.visible_advance.wait_for(seq)
            assert heard(disk, "db", uuid) == seq - (seq - 1) % 3
            if seq % 3 == 0:
                await trio.sleep(SAY_EVERY_S)
    assert in_place


async def test_a_full_disk_takes_the_word_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, uuid, shards = await primary_log()
    disk, honest, full = MemoryDisk(), MemoryFile.append, [True]

    def append(file: MemoryFile, data: bytes) -> None:
        if full[0] and file.path == path_of("db"):
            honest(file, data[:5])
            raise OSError(errno.ENOSPC, "no space left on device")
        honest(file, data)

    monkeypatch.setattr(MemoryFile, "append", append)
    ends = [end - HEADER_BYTES for end in frame_ends(bytes(HEADER_BYTES) + frames)]
    for mode in (SyncMode.SYNC, SyncMode.ASYNC):
        disk, full[0] = MemoryDisk(), True
        async with opened(disk, start=2, sync_mode=mode, flush_interval_s=1e6) as engine:
            database = await engine.create_database("db", uuid=uuid, shards=shards)
            await take(database, frames[: ends[4]])
            assert await database.make_durable() and database.log.synced_seq == database.visible.seq == 4
            assert database.refusal is None and database.space.failure is None and heard(disk, "db", uuid) == 0
            full[0] = False
            await take(database, frames[ends[4] :])
            assert await database.make_durable() and heard(disk, "db", uuid) == COMMITS + 1
            assert disk.size(path_of("db")) % ENTRY_BYTES == 0, "half an entry is not written behind"


def test_the_file_is_bounded_and_begins_anew() -> None:
    disk, uuid = MemoryDisk(), bytes(range(16))
    disk.make_dir("db/commit")
    word, sizes = SyncedWord(disk, "db", uuid), set()
    for seq in range(1, 3 * SYNCED_BYTES_MAX // ENTRY_BYTES):
        word.say(seq)
        sizes.add(disk.size(path_of("db")))
        assert seq % 500 or heard(disk, "db", uuid) == seq
    assert max(sizes) == SYNCED_BYTES_MAX and min(sizes) == ENTRY_BYTES


@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), st.sampled_from(["sound", "flipped", "zeros", "uuid", "inode"]), st.integers(0, 127)), max_size=12), st.binary(max_size=15))
def test_the_largest_sound_entry_counts_whatever_stands_beside_it(entries: list[tuple[int, str, int]], rest: bytes) -> None:
    uuid, inode = bytes(range(16)), 77
    data = b""
    for seq, kind, bit in entries:
        entry = bytearray(encode_entry(uuid, inode, seq))
        if kind == "flipped":
            entry[bit // 8] ^= 1 << bit % 8
        elif kind == "zeros":
            entry = bytearray(ENTRY_BYTES)
        elif kind != "sound":
            entry = bytearray(encode_entry(bytes(16) if kind == "uuid" else uuid, inode + (kind == "inode"), seq))
        data += entry
    assert largest(data + rest, uuid, inode) == max((seq for seq, kind, _ in entries if kind == "sound"), default=0)


async def test_a_word_that_cannot_be_read_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, _ = await crashed(synced=6)
    lose(disk, "middle")
    honest = MemoryFile.read_at

    def read_at(file: MemoryFile, offset: int, length: int) -> bytes:
        if file.path == path_of("db"):
            raise OSError(errno.EIO, "input/output error")
        return honest(file, offset, length)

    monkeypatch.setattr(MemoryFile, "read_at", read_at)
    assert not recover(disk, "db", records_max=1000).damaged


# It never outlives the log that it spoke of.


async def test_a_rewind_takes_the_word_before_it_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, _ = await crashed(synced=COMMITS + 1)
    uuid = identity.read(disk, "db").uuid
    assert heard(disk, "db", uuid) == COMMITS + 1
    steps: list[str] = []

    def noted(name: str) -> None:
        honest = getattr(MemoryDisk, name)

        def call(self: MemoryDisk, path: str, *rest: str) -> object:
            if self is disk and path.startswith("db/commit"):
                steps.append(f"{name} {path.rpartition('/')[2].partition('.')[0][:6]}")
            return honest(self, path, *rest)

        monkeypatch.setattr(MemoryDisk, name, call)

    for name in ("remove", "sync_dir", "rename"):
        noted(name)
    assert rewind(disk, "db", 4, 1)
    assert steps[:3] == ["remove synced", "sync_dir commit", "rename 000000"], "gone for good before the log is cut"
    state = recover(disk, "db", records_max=1000)
    assert (state.last_seq, state.damaged) == (4, "") and heard(disk, "db", uuid) == 4


async def test_a_copied_file_says_nothing() -> None:
    """Not even where no segment is left that would tell the copy by its inode."""
    disk, _ = await crashed(synced=COMMITS + 1)
    copied = MemoryDisk()
    copied._inodes = FOREIGN_INODES
    for directory in ("db/commit", "db/checkpoints"):
        copied.make_dir(directory)
    for path in list(disk._files):
        if path.startswith("db/") and not path.endswith(".log"):
            copied.replace_file(path, disk.read_file(path))
    assert copied.read_file(path_of("db")) == disk.read_file(path_of("db"))
    state = recover(copied, "db", records_max=1000)
    assert (state.last_seq, state.damaged, state.findings) == (0, "", [])


async def test_a_copy_of_a_standby_that_ends_before_the_word_opens_for_writing() -> None:
    disk, _ = await crashed(synced=COMMITS + 1)
    path = only_segment(disk)
    copied = MemoryDisk()
    copied._inodes = FOREIGN_INODES
    for directory in ("db/commit", "db/checkpoints"):
        copied.make_dir(directory)
    for file in list(disk._files):
        if file.startswith("db/"):
            data = disk.read_file(file)
            copied.replace_file(file, data[: frame_ends(data)[4] + 30] if file == path else data)
    state = recover(copied, "db", records_max=1000)
    assert (state.last_seq, state.damaged) == (4, "") and "is a copy" in state.findings[-1]
    assert heard(copied, "db", state.identity.uuid) == 4, "it speaks for itself from here on"


async def test_nothing_is_written_on_a_file_system_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, _ = await crashed(synced=4)
    lose(disk, "middle")
    before = {path: bytes(inode.data) for path, inode in disk._files.items()}
    monkeypatch.setattr(disk, "is_read_only", lambda: True)
    assert "read-only" in recover(disk, "db", records_max=1000).damaged
    assert {path: bytes(inode.data) for path, inode in disk._files.items()} == before
