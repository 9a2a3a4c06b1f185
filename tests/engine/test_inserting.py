"""Many single inserts in one commit; and reads by key while documents change and are sealed."""

from __future__ import annotations

import random

import pytest

from storage import COLD, MemoryDisk, canonical, encode_document, operations
from storage.errors import ReadOnly
from tests.engine.model import insert, new_database, opened, settled


def each(database, ids, requests=None, **fields):
    docs = [encode_document({"_id": i, **fields}) for i in ids]
    return operations.insert_each(database, "things", [canonical(i) for i in ids], docs, requests or [b""] * len(ids))


async def test_plain_new_documents_share_one_commit() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        before = database.position.seq
        seq, left = each(database, [1, 2, "x"])
        assert (seq, left, database.position.seq) == (before + 1, [], before + 1)
        await settled(database, seq)
        assert await operations.count(database, "things", {}) == 3


@pytest.mark.parametrize("sealed", [False, True])
async def test_what_is_not_plainly_new_is_left_out_and_nothing_else(sealed: bool) -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1, "old": True})
        await operations.insert(database, "things", [encode_document({"_id": 2})], request=b"r" * 16)
        if sealed:
            await database.sealing.seal_now()
        requests = [b"", b"", b"r" * 16, b"s" * 16, b"s" * 16, b"t" * 16, b""]
        seq, left = each(database, [1, 3, 4, 5, 6, 7, 3], requests)
        assert left == [0, 2, 4, 6]  # held; request seen before; twice the same request; twice the same key
        await settled(database, seq)
        assert await operations.count(database, "things", {}) == 5
        for request, replayed in ((b"s" * 16, True), (b"t" * 16, True), (b"u" * 16, False)):
            again = operations.insert_now(database, "things", [encode_document({"_id": 99})], request=request)
            assert (again.replayed, again.seq == seq) == (replayed, replayed)


async def test_when_all_are_left_out_there_is_no_commit() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        before = database.position
        assert each(database, [1]) == (0, [0])
        assert database.position == before


async def test_what_refuses_all_is_raised_and_a_full_memtable_says_so() -> None:
    async with opened(MemoryDisk(), memtable_records_max=2) as engine:
        database = await new_database(engine)
        database.refuse_writes(ReadOnly("not now"))
        with pytest.raises(ReadOnly, match="not now"):
            each(database, [1])
        database.refuse_writes(None)
        number = 10
        while (done := each(database, [number])) is not None:
            assert done[1] == []
            number += 1
        await operations.room(database)
        assert each(database, [number]) is not None


@pytest.mark.parametrize("seed", range(6))
async def test_a_read_by_key_sees_the_newest_visible_document_whatever_is_cached(seed: int) -> None:
    rng = random.Random(seed)
    async with opened(MemoryDisk(), cache_bytes=rng.choice([0, 2_000, 10**6])) as engine:
        database = await new_database(engine)
        held: dict[int, bytes] = {}
        for step in range(300):
            number = rng.randrange(12)
            doc = encode_document({"_id": number, "step": step})
            choice = rng.randrange(6)
            if choice == 0:
                result = await operations.replace_one(database, "things", {"_id": number}, doc, upsert=True)
                held[number] = doc
            elif choice == 1:
                result = await operations.delete(database, "things", {"_id": number})
                held.pop(number, None)
            elif choice == 2 and number not in held:
                seq, left = each(database, [number], step=step)
                assert left == []
                await settled(database, seq)
                held[number] = doc
            elif choice == 3 and step % 3 == 0:
                await database.sealing.seal_now()
            elif choice == 4:  # a write that is not visible yet must not be cached as the past
                pending = await operations.replace_one(database, "things", {"_id": number}, doc, upsert=True)
                assert operations.get_key_now(database, "things", canonical(number)) == held.get(number)
                held[number] = doc
                await settled(database, pending.seq)
            if choice in (0, 1):
                await settled(database, result.seq or database.position.seq)
            for key in range(12):
                found = operations.get_key_now(database, "things", canonical(key))
                assert found is not COLD
                assert found == held.get(key), (step, key)
        assert database.cache.bytes <= 10**6
