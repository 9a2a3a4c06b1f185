"""What a cursor holds that nobody asks for more: bytes of a bounded part of the answer, nothing decoded."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st

import storage
from storage import matching, operations

from ..node.fakes import memory_seams

LARGE = 300_000


@given(st.lists(st.integers(0, 3 * matching.SLOW_BYTES), min_size=1, max_size=40))
def test_a_scan_of_large_documents_goes_in_steps_of_bounded_size(sizes):
    rows = [(number, 0, b"", range(size)) for number, size in enumerate(sizes)]
    steps = list(matching._steps(rows))
    assert [row for step in steps for row in step] == rows
    for step in steps:
        assert 1 <= len(step) <= matching.SLOW_ROWS
        assert len(step) == 1 or sum(len(row[3]) for row in step) <= matching.SLOW_BYTES


async def test_large_documents_come_whole_over_batches_from_memory_and_from_shards():
    async with storage.Engine.open(memory_seams()) as engine:
        db = await engine.create_database("chat")
        db.begin_reign(1)
        documents = [storage.encode_document({"_id": number, "text": "x" * LARGE}) for number in range(40)]
        await operations.insert(db, "m", documents)
        db.flush()
        await db.visible_advance.wait_for(db.position.seq)
        for _ in range(2):
            cursor, found = await operations.find(db, "m", {}), []
            while not cursor.done:
                found += await cursor.next_batch(7)
            assert [bytes(document) for document in found] == [bytes(document) for document in documents]
            await db.sealing.seal_now()
        cursor = await operations.find(db, "m", {})
        await cursor.next_batch(1)
        assert db.sealing.shards.open_scans == 1
        await cursor.close()
        del cursor
        with trio.fail_after(5):
            while db.sealing.shards.open_scans:
                await trio.lowlevel.checkpoint()
