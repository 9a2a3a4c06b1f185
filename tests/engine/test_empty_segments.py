"""A commit log segment that was begun and of which nothing else survived, wherever it stands: what follows is a tear, what was written
beside it later is kept (INV-1, INV-2), and a standby writes on in the reign that it is in."""

from __future__ import annotations

import copy
from pathlib import PurePosixPath

import pytest

from storage import MemoryDisk, SyncMode, identity
from storage.commit.codec import decode_head
from storage.commit.segment import HEADER_BYTES, SegmentHeader, SegmentName
from tests.engine.model import everything, insert, new_database, opened

SMALL = {"log_segment_bytes": 200, "sync_mode": SyncMode.ASYNC, "flush_interval_s": 1000.0}
COMMITS = 8


async def crashed() -> tuple[MemoryDisk, bytes, list[str]]:
    """A disk with a segment for every commit or two, none of them synced; all frames; the segments' paths in order."""
    disk = MemoryDisk()
    async with opened(disk, **SMALL) as engine:
        database = await new_database(engine)
        for number in range(COMMITS):
            await insert(database, {"_id": number, "pad": "x" * 100})
        run = await database.read_log(0, 10**6)
        frames = b""
        while run.data:
            frames += run.data
            run = await database.read_log(run.last_seq, 10**6)
        return copy.deepcopy(disk), frames, [path for path, _ in database.log.segments]


def name_of(path: str) -> SegmentName:
    name = SegmentName.parse(PurePosixPath(path).name)
    assert name is not None
    return name


@pytest.mark.parametrize("which", [1, 2, -2, -1])
async def test_a_standby_writes_on_after_an_empty_segment(which: int, autojump_clock: object) -> None:
    disk, frames, paths = await crashed()
    assert len(paths) > 5
    emptied = paths[which]
    disk.open_append(emptied).cut(HEADER_BYTES)
    async with opened(disk, start=2, **SMALL) as engine:
        database = engine.database("db")
        assert not database.damaged and database.position.seq == name_of(emptied).first_seq - 1
        offset, skipped = 0, 0
        while skipped < database.position.seq:  # what it has already
            offset += decode_head(frames, offset).frame_len
            skipped += 1
        database.append_frames(frames[offset:])
        database.flush()
        assert [doc["_id"] for doc in await everything(database)] == list(range(COMMITS))
    async with opened(disk, start=3, **SMALL) as engine:
        assert [doc["_id"] for doc in await everything(engine.database("db"))] == list(range(COMMITS))


@pytest.mark.parametrize("reign_id", [1, 2**64 - 1])
async def test_an_empty_segment_beside_one_of_another_reign_hides_nothing(reign_id: int, autojump_clock: object) -> None:
    """As a power cut, a new reign and a second power cut leave them: names sort by the reigns' random ids."""
    disk, _, paths = await crashed()
    for path in paths[1:]:
        name = name_of(path)
        twin = disk.create(str(PurePosixPath(path).with_name(str(SegmentName(name.first_seq, name.epoch, reign_id)))))
        header = SegmentHeader(name.epoch, disk_uuid(disk), reign_id, name.first_seq, 0, twin.inode())
        twin.append(header.encode())
        twin.close()
    async with opened(disk, start=2, **SMALL) as engine:
        database = engine.database("db")
        assert [doc["_id"] for doc in await everything(database)] == list(range(COMMITS))
        assert not any(name_of(name).reign_id == reign_id for name in disk.list_dir("db/commit") if name.endswith(".log")), "they are gone"


def disk_uuid(disk: MemoryDisk) -> bytes:
    return identity.read(disk, "db").uuid
