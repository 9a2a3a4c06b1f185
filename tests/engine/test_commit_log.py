"""The commit log: what a sync that failed means for everybody who comes after it (INV-1); reading back, for shipping."""

from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import DamagedRecord, MemoryDisk, Reign
from storage.commit import codec
from storage.commit.log import CURSORS_MAX, CommitLog, LogRun


def frame(seq: int) -> bytes:
    return codec.encode(b"", record_count=0, epoch=1, seq=seq, synced_seq=0, time_us=1, chain_before=0)[0]


async def test_a_sync_that_failed_fails_for_everybody_after_it() -> None:
    disk = MemoryDisk()
    disk.make_dir("db/commit")
    log = CommitLog(disk, "db", bytes(16), segment_bytes=10**6, last_seq=0, reign=None)
    log.append(frame(1), 1, 0, Reign(1, 7, 1, 0))
    log.write()

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    log._sync_files = failing  # type: ignore[method-assign]
    with pytest.raises(OSError, match="input/output"):
        await log.sync()
    del log._sync_files
    with pytest.raises(OSError, match="input/output"):
        await log.sync()
    assert log.synced_seq == 0


# Reading back, for shipping.


def frames_of(sizes: list[int]) -> list[bytes]:
    """Frames 1, 2, ... whose bodies are so long. Their chains mean nothing here."""
    made = []
    for seq, size in enumerate(sizes, 1):
        made.append(codec.encode(bytes(size), record_count=0, epoch=1, seq=seq, synced_seq=0, time_us=seq, chain_before=0)[0])
    return made


def expected(frames: list[bytes], after_seq: int, to_seq: int, max_bytes: int) -> LogRun:
    """As many as fit, at least one if there is one."""
    taken: list[bytes] = []
    for frame in frames[after_seq:to_seq]:
        if taken and len(b"".join(taken)) + len(frame) > max_bytes:
            break
        taken.append(frame)
    return LogRun(b"".join(taken), after_seq + len(taken))


def log_of(frames: list[bytes], cuts: set[int], rolls: set[int]) -> CommitLog:
    """Appended in runs that end at the cuts; at the rolls a new segment begins."""
    disk = MemoryDisk()
    disk.make_dir("db/commit")
    log = CommitLog(disk, "db", bytes(16), segment_bytes=10**9, last_seq=0, reign=None)
    reign, first = Reign(1, 7, 1, 0), 1
    for last in sorted({*cuts, len(frames)}):
        if first in rolls:
            log.roll()
        log.append(b"".join(frames[first - 1 : last]), first, 0, reign, last_seq=last)
        first = last + 1
    log.write()
    return log


SIZES = st.lists(st.one_of(st.integers(0, 300), st.integers(5_000, 20_000)), min_size=1, max_size=40)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_a_reader_gets_what_was_appended_in_whole_frames_within_its_bound(data: st.DataObject) -> None:
    """From the ring, whatever the runs were, and nothing when the ring begins later."""
    frames = frames_of(data.draw(SIZES))
    numbers = st.integers(1, len(frames))
    log = log_of(frames, data.draw(st.sets(numbers)), set())
    to_seq = data.draw(numbers)
    after_seq = data.draw(st.integers(0, to_seq - 1))
    max_bytes = data.draw(st.integers(1, 60_000))
    run = log.recent(after_seq, to_seq, max_bytes)
    assert run is not None and frames[after_seq : run.last_seq] and run.last_seq <= to_seq
    assert run.data == b"".join(frames[after_seq : run.last_seq])
    assert len(run.data) <= max_bytes or run.last_seq == after_seq + 1
    while len(log._recent) > 1 and log._recent[0][1] <= after_seq:
        log._recent.popleft()
    if log._recent[0][0] > after_seq + 1:
        assert log.recent(after_seq, to_seq, max_bytes) is None


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_readers_of_the_files_go_on_where_each_of_them_was(data: st.DataObject) -> None:
    """Two that take turns, over segments that end anywhere; each gets every frame once."""
    frames = frames_of(data.draw(SIZES))
    numbers = st.integers(1, len(frames))
    log = log_of(frames, data.draw(st.sets(numbers)), data.draw(st.sets(numbers)))
    log._recent.clear()
    starts = [data.draw(st.integers(0, len(frames))) for _ in range(2)]
    bounds = [data.draw(st.integers(1, 40_000)) for _ in range(2)]
    got = [b"", b""]

    async def read() -> None:
        at = list(starts)
        while min(at) < len(frames):
            for reader in (0, 1):
                run = await log.read(at[reader], len(frames), bounds[reader])
                assert run is not None and (run.last_seq > at[reader] or at[reader] == len(frames))
                got[reader] += run.data
                at[reader] = run.last_seq
        assert len(log._cursors) <= CURSORS_MAX

    trio.run(read)
    assert got == [b"".join(frames[start:]) for start in starts]


async def test_a_log_that_no_longer_holds_a_commit_says_so_and_a_damaged_one_is_not_shipped() -> None:
    frames = frames_of([100] * 10)
    log = log_of(frames, {5}, {6})
    log._recent.clear()
    assert await log.read(0, 10, 10**6) == expected(frames, 0, 5, 10**6), "one segment at a time"
    path = log.segments[1][0]
    data = bytearray(log._disk.read_file(path))
    data[-40] ^= 1  # in a body, which only the receiver judges
    log._disk.replace_file(path, bytes(data))
    assert (await log.read(5, 10, 10**6)).last_seq == 10
    data[-len(frames[9]) + 24] ^= 1  # its seq
    log._disk.replace_file(path, bytes(data))
    assert await log.read(5, 10, 10**6) == expected(frames, 5, 9, 10**6)
    with pytest.raises(DamagedRecord):
        await log.read(9, 10, 10**6)
    assert len(log.drop_below(6)) == 1
    assert await log.read(0, 10, 10**6) is None
