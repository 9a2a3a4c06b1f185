"""After a device failed: what was acknowledged before is still synced in time, and nothing is said to be done once more (INV-1)."""

from __future__ import annotations

import errno

import pytest
import trio

from storage import MemoryDisk, SyncMode, encode_document, operations
from storage.disk_memory import MemoryFile
from storage.errors import DiskFailed
from tests.engine.model import insert, new_database, opened


def failing(*_: object) -> None:
    raise OSError(errno.EIO, "input/output error")


async def test_a_request_that_comes_again_after_a_failed_sync_is_not_answered_as_done(autojump_clock: object) -> None:
    async with opened(MemoryDisk(), sync_mode=SyncMode.ASYNC) as engine:
        database = await new_database(engine)
        document, request = encode_document({"_id": 1}), b"r" * 16
        result = await operations.insert(database, "things", [document], request=request)
        database.flush()
        again = await operations.insert(database, "things", [document], request=request)
        assert again.replayed and again.seq == result.seq
        database.log._sync_files = failing  # type: ignore[method-assign]
        await trio.sleep(1.0)
        assert isinstance(database.refusal, DiskFailed)
        with pytest.raises(DiskFailed):
            operations.insert_now(database, "things", [document], request=request)
        with pytest.raises(DiskFailed):
            await operations.insert(database, "things", [document], request=request)
        with pytest.raises(DiskFailed):
            await operations.delete(database, "things", {"_id": 1}, request=request)


async def test_what_was_acknowledged_before_a_failed_write_is_synced(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(MemoryDisk(), sync_mode=SyncMode.ASYNC, flush_interval_s=0.2) as engine:
        database = await new_database(engine)
        await trio.sleep(1.0)
        await insert(database, {"_id": 1})
        kept = database.log.written_seq
        assert database.log.synced_seq < kept
        monkeypatch.setattr(MemoryFile, "append", failing)
        await operations.insert(database, "things", [encode_document({"_id": 2})])
        database.flush()
        assert isinstance(database.refusal, DiskFailed)
        await trio.sleep(0.3)
        assert database.log.synced_seq == kept
        monkeypatch.undo()
