"""The engine end to end on a memory disk: write, read, seal, reopen."""

from __future__ import annotations

import pytest
import trio

from storage import MemoryDisk, SyncMode, decode_document, encode_document, encode_value, operations
from storage.errors import DamagedRecord, DatabaseExists, DuplicateKey, ImmutableField, NoSuchDatabase
from tests.engine.model import everything, insert, new_database, opened, settled


@pytest.mark.parametrize("sync_mode", list(SyncMode))
async def test_what_was_written_is_there_after_closing_and_opening(sync_mode: SyncMode) -> None:
    disk = MemoryDisk()
    documents = [{"_id": number, "name": f"thing {number}"} for number in range(300)]
    async with opened(disk, sync_mode=sync_mode, memtable_records_max=50) as engine:
        database = await new_database(engine)
        for document in documents:
            await insert(database, document)
        assert await everything(database) == documents
        end, chain = database.position, database.chain
    async with opened(disk, start=2, sync_mode=sync_mode, memtable_records_max=50) as engine:
        database = engine.database("db")
        assert (database.position, database.chain, database.unclean) == (end, chain, False)
        assert await everything(database) == documents
        assert database.sealing.checkpoint is not None


async def test_a_document_is_inserted_once() -> None:
    async with opened(MemoryDisk(), memtable_records_max=3) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1}, {"_id": 2}, {"_id": "x"})
        await database.sealing.seal_now()
        result = await operations.insert(
            database, "things", [encode_document({"_id": i}) for i in (3, 1.0, 4)], ordered=True
        )
        assert [(row.index, type(row.error)) for row in result.errors] == [(1, DuplicateKey)]
        assert [doc["_id"] for doc in await everything(database)] == [1, 2, "x"]
        await settled(database, result.seq)
        assert [doc["_id"] for doc in await everything(database)] == [1, 2, "x", 3]
        unordered = await operations.insert(
            database, "things", [encode_document({"_id": i}) for i in (5, 5, 6)], ordered=False
        )
        assert (unordered.inserted, [row.index for row in unordered.errors]) == (2, [1])


async def test_a_request_that_is_sent_again_applies_once_also_after_a_restart() -> None:
    disk, docs, request = MemoryDisk(), [encode_document({"_id": 1})], b"r" * 16
    async with opened(disk) as engine:
        database = await new_database(engine)
        first = await operations.insert(database, "things", docs, request=request)
        again = operations.insert_now(database, "things", docs, request=request)
        assert again is not None and again.replayed and not again.errors
        assert (again.seq, again.inserted) == (first.seq, 1)
        await settled(database, first.seq)
        await database.sealing.seal_now()
    async with opened(disk, start=2) as engine:
        again = await operations.insert(engine.database("db"), "things", docs, request=request)
        assert (again.replayed, again.inserted, again.errors) == (True, 1, [])


async def test_replace_delete_and_drop() -> None:
    async with opened(MemoryDisk(), memtable_records_max=4) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "kind": n % 2} for n in range(6)))
        await database.sealing.seal_now()
        replaced = await operations.replace_one(database, "things", {"kind": 1}, encode_document({"_id": 1, "new": True}))
        same = await operations.replace_one(database, "things", {"_id": 1}, encode_document({"_id": 1, "new": True}))
        assert (replaced.matched, replaced.modified, same.matched, same.modified) == (1, 1, 1, 0)
        with pytest.raises(ImmutableField):
            await operations.replace_one(database, "things", {"_id": 1}, encode_document({"_id": 9}))
        upserted = await operations.replace_one(
            database, "things", {"_id": 77}, encode_document({"_id": 77}), upsert=True
        )
        assert upserted.upserted_id == encode_value(77)
        for spec in ({"$and": [{"_id": 78}]}, {"_id": {"$in": [78]}}, {"_id": {"$eq": 78}}):
            again = await operations.replace_one(database, "things", spec, encode_document({"_id": 78}), upsert=True)
            assert (again.upserted_id, again.matched) in ((encode_value(78), 0), (None, 1))
        await operations.delete(database, "things", {"_id": 78})
        gone = await operations.delete(database, "things", {"kind": 0}, many=True)
        await settled(database, database.position.seq)
        assert gone.deleted == 3
        assert await everything(database) == [
            {"_id": 3, "kind": 1},
            {"_id": 5, "kind": 1},
            {"_id": 1, "new": True},
            {"_id": 77},
        ]
        assert await operations.count(database, "things", {}) == 4
        dropped = await operations.drop_collection(database, "things")
        await settled(database, dropped.seq)
        assert await everything(database) == [] and operations.list_collections(database) == []
        await insert(database, {"_id": 1, "again": 1})
        assert await everything(database) == [{"_id": 1, "again": 1}]


async def test_find_sorts_skips_limits_and_projects_within_one_view() -> None:
    async with opened(MemoryDisk(), memtable_records_max=10) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "n": -n, "pad": "x" * 20} for n in range(40)))
        cursor = await operations.find(
            database, "things", {"n": {"$lte": -5}}, sort=[["n", 1]], projection={"n": 1, "_id": 0}, skip=2, limit=3
        )
        await insert(database, {"_id": 99, "n": -99})
        batch = await cursor.next_batch(10)
        assert cursor.done and [decode_document(data)["n"] for data in batch] == [-37, -36, -35]


async def test_state_hash_of_a_mark_does_not_depend_on_sealing() -> None:
    hashes = []
    for bound in (3, 1000):
        async with opened(MemoryDisk(), memtable_records_max=bound) as engine:
            database = await new_database(engine)
            for n in range(20):
                await insert(database, {"_id": n % 7, "n": n}, collection=f"c{n % 3}")
                await operations.replace_one(database, "c0", {"_id": 0}, encode_document({"_id": 0, "n": n * 2}))
            await operations.delete(database, "c1", {}, many=True)
            seq = database.mark()
            database.flush()
            await database.mark_advance.wait_for(seq)
            await database.sealing.seal_now()
            assert database.sealing.checkpoint.state_hash == database.marks[seq]
            hashes.append(database.marks[seq])
    assert hashes[0] == hashes[1]


async def test_databases_stand_alone_and_their_options_are_fixed() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        await new_database(engine, "one")
        await insert(await new_database(engine, "two"), {"_id": 1})
        with pytest.raises(DatabaseExists, match="export"):
            await engine.create_database("one", shards=5)
        await engine.drop_database("two")
        with pytest.raises(NoSuchDatabase):
            engine.database("two")
    async with opened(disk, start=2) as engine:
        assert list(engine.databases) == ["one"]


async def test_a_database_too_damaged_to_open_stays_as_it_is() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        await insert(await new_database(engine), {"_id": 1})
    disk.replace_file("db/database.json", b"{")
    async with opened(disk, start=2) as engine:
        with pytest.raises(DamagedRecord, match=r"database\.json"):
            await engine.create_database("db")
        assert disk.list_dir("db/commit")


@pytest.mark.parametrize("verb", ["insert", "replace", "upsert", "delete"])
async def test_two_copies_of_one_request_at_once_apply_once(verb: str) -> None:
    async with opened(MemoryDisk(), memtable_records_max=5) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "n": 0} for n in range(12)))
        await database.sealing.seal_now()
        before = database.position.seq
        results: list[operations.WriteResult] = []

        async def once() -> None:
            request = b"q" * 16
            if verb == "insert":
                results.append(await operations.insert(database, "things", [encode_document({"_id": "x"})], request=request))
            elif verb == "replace":
                changed = encode_value({"n": 1})
                results.append(await operations.replace_one(database, "things", {"n": 0}, changed, request=request))
            elif verb == "upsert":
                new = encode_document({"_id": 99})
                results.append(
                    await operations.replace_one(database, "things", {"_id": 99}, new, upsert=True, request=request)
                )
            else:
                results.append(await operations.delete(database, "things", {"n": 0}, request=request))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(once)
        assert database.position.seq == before + 1
        assert sorted(result.replayed for result in results) == [False, True, True]
        assert len({(r.inserted, r.matched, r.modified, r.deleted, r.seq, r.upserted_id) for r in results}) == 1


@pytest.mark.parametrize("waits", range(1, 12))
async def test_a_collection_dropped_while_a_replace_looks_for_its_document_is_gone(waits: int) -> None:
    """Whichever comes first: nothing is written to a collection after its drop."""
    async with opened(MemoryDisk(), memtable_records_max=5) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "n": n} for n in range(12)))
        await database.sealing.seal_now()
        database.sealing.shards = _OftenCold(database.sealing.shards)  # type: ignore[assignment]
        answers, drops = [], []

        async def replace() -> None:
            answers.append(await operations.replace_one(database, "things", {"n": 11}, encode_value({"n": 0})))

        async def drop() -> None:
            for _ in range(waits):
                await trio.lowlevel.checkpoint()
            drops.append(await operations.drop_collection(database, "things"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(replace)
            nursery.start_soon(drop)
        assert answers[0].matched == 0 or answers[0].seq < drops[0].seq
        await settled(database, database.position.seq)
        assert operations.list_collections(database) == []


@pytest.mark.parametrize("others", [0, 600])
async def test_a_batch_meets_what_is_sealed_deleted_and_in_memory(others: int) -> None:
    """The look-up by the batch says the same as the look-up of each key; in place, and with a batch that takes slices."""
    async with opened(MemoryDisk(), memtable_records_max=2000) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n} for n in range(0, 90, 3)))
        await database.sealing.seal_now()
        await operations.delete(database, "things", {"_id": 3})
        await operations.delete(database, "things", {"_id": 6})
        await database.sealing.seal_now()
        await operations.delete(database, "things", {"_id": 9})
        await insert(database, {"_id": 6}, {"_id": 1})
        held = {*range(0, 90, 3), 1} - {3, 9}
        ids = [*range(1000, 1000 + others), *range(40), 7, 41]
        batch = [encode_document({"_id": n}) for n in ids]
        result = operations.insert_now(database, "things", batch, ordered=False)
        assert (result is None) == (others > 0)
        if result is None:
            result = await operations.insert(database, "things", batch, ordered=False)
        await settled(database, result.seq)
        refused = [ids[row.index] for row in result.errors]
        assert sorted(refused) == sorted([*(held & set(ids)), 7])
        assert sorted(doc["_id"] for doc in await everything(database)) == sorted(held | set(ids))


class _OftenCold:
    """A shard set's face that finds a record only at every third look: the others say that it is cold."""

    def __init__(self, shards: object) -> None:
        self._shards = shards
        self._looks = 0

    def find_now(self, collection: int, key: bytes) -> object:
        self._looks += 1
        return operations.COLD if self._looks % 3 else self._shards.find_now(collection, key)

    def __getattr__(self, name: str) -> object:
        return getattr(self._shards, name)


class _ForeverCold:
    """A shard set's face whose warm reads never succeed, as under a page cache that is far too small."""

    def __init__(self, shards: object) -> None:
        self._shards = shards

    def find_now(self, collection: int, key: bytes) -> object:
        return operations.COLD

    def __getattr__(self, name: str) -> object:
        return getattr(self._shards, name)


async def test_writes_get_through_when_nothing_stays_in_memory() -> None:
    async with opened(MemoryDisk(), memtable_records_max=1000) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1}, {"_id": 2})
        await database.sealing.seal_now()
        database.sealing.shards = _ForeverCold(database.sealing.shards)  # type: ignore[assignment]
        with_duplicate = await operations.insert(
            database, "things", [encode_document({"_id": n}) for n in (2, 3)], ordered=False
        )
        assert ([row.index for row in with_duplicate.errors], with_duplicate.inserted) == ([0], 1)
        replaced = await operations.replace_one(database, "things", {"_id": 1}, encode_document({"_id": 1, "x": 1}))
        upserted = await operations.replace_one(database, "things", {"_id": 9}, encode_document({"_id": 9}), upsert=True)
        assert (replaced.modified, upserted.upserted_id) == (1, encode_value(9))
