"""The commit log's writing end: what a sync that failed means for everybody who comes after it (INV-1)."""

from __future__ import annotations

import errno

import pytest

from storage import MemoryDisk, Reign
from storage.commit import codec
from storage.commit.log import CommitLog


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
