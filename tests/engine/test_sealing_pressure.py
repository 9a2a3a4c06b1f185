"""Seals one after the other while writers wait: what they left behind is removed all the same, and nothing of it is missing."""

from __future__ import annotations

import trio

from storage import MemoryDisk, operations
from storage.check import check_database
from storage.sealing import UNREMOVED_MAX
from tests.engine.model import insert, new_database, opened


async def test_files_that_nothing_needs_go_also_when_the_next_memtable_is_always_full(autojump_clock: object):
    disk = MemoryDisk()
    async with opened(disk, memtable_records_max=20, index_rows_min=1) as engine:
        database = await new_database(engine)
        most = 0
        for start in range(0, 2_000, 20):
            await insert(database, *({"_id": number, "a": number % 5} for number in range(start, start + 20)))
            most = max(most, len(disk.list_dir("db/checkpoints")))
        assert 3 < most <= 3 + UNREMOVED_MAX + 1, "two are needed, one is being made, and those of the seals in between"
        await database.sealing.seal_now()
        await trio.sleep(1.0)
        assert database.sealing.frozen is None
        assert len(disk.list_dir("db/checkpoints")) == 2
        assert await operations.count(database, "things", {}) == 2_000
        named = {name for shard in database.sealing.checkpoint.shards for name in [*(log.file for log in shard.logs), *(index.file for index in shard.index)]}
        assert named <= set(disk.list_dir("db"))
    assert [finding for finding in check_database(disk, "db") if finding.severity.name != "NOTE"] == []
