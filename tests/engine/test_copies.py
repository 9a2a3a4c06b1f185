"""A second copy of a database: fed by frames, seeded by a checkpoint, rewound to an earlier commit."""

from __future__ import annotations

import pytest

from storage import Database, Engine, MemoryDisk, encode_document, operations
from storage.errors import DamagedRecord, PeerError
from tests.engine.model import everything, insert, new_database, opened, settled


async def ship(source: Database, target: Database, *, chunk: int = 1000) -> None:
    """All that target lacks, in small pieces."""
    while (run := await source.read_log(target.position.seq, chunk)) and run.data:
        await settled(target, target.append_frames(run.data))


async def standby_of(engine: Engine, source: Database) -> Database:
    return await engine.create_database(source.name, uuid=source.uuid, shards=source.shards)


async def test_frames_make_an_equal_copy() -> None:
    async with opened(MemoryDisk()) as here, opened(MemoryDisk(), start=2, memtable_records_max=5) as there:
        source = await new_database(here)
        target = await standby_of(there, source)
        for number in range(40):
            await insert(source, {"_id": number, "n": number})
        await settled(source, source.mark())
        await ship(source, target)
        assert (target.position, target.chain, target.history) == (source.position, source.chain, source.history)
        assert await everything(target) == await everything(source)
        for database in (source, target):
            await database.mark_advance.wait_for(source.position.seq)
        assert target.marks == source.marks and None not in target.marks.values()
        assert await target.chain_at(7) == await source.chain_at(7) is not None


async def test_frames_are_taken_in_slices_of_whole_commits() -> None:
    async with opened(MemoryDisk()) as here, opened(MemoryDisk(), start=2) as there:
        source = await new_database(here)
        target = await standby_of(there, source)
        for number in range(5):
            await insert(source, {"_id": number})
        run = await source.read_log(0, 10**6)
        assert run is not None and run.last_seq == 6
        data = run.data
        offset, seqs = 0, []
        while offset < len(data):
            offset = target.append_some(data, offset, slice_s=0)
            seqs.append(target.position.seq)
        assert seqs == [1, 2, 3, 4, 5, 6] and target.chain == source.chain


@pytest.mark.parametrize("fault", ["gap", "flip", "short"])
async def test_frames_that_do_not_continue_the_copy_are_refused_and_change_nothing(fault: str) -> None:
    async with opened(MemoryDisk()) as here, opened(MemoryDisk(), start=2) as there:
        source = await new_database(here)
        target = await standby_of(there, source)
        await insert(source, {"_id": 1})
        await ship(source, target)
        before = (target.position, target.chain)
        await insert(source, {"_id": 2})
        await insert(source, {"_id": 3})
        run = await source.read_log(before[0].seq + (fault == "gap"), 10_000)
        assert run is not None
        data = run.data
        if fault == "flip":
            data = data[:70] + bytes([data[70] ^ 1]) + data[71:]
        if fault == "short":
            data = data[:60]
        with pytest.raises(PeerError):
            target.append_frames(data)
        assert (target.position, target.chain) == before
        await ship(source, target)
        assert [doc["_id"] for doc in await everything(target)] == [1, 2, 3]


async def seed(source: Database, there: Engine, *, stop_after: int | None = None, flip: str = "") -> None:
    pin = await source.pin_checkpoint()
    assert pin is not None
    target = await there.begin_seed(source.name, source.uuid, source.options, pin.manifest)
    lengths, written = dict(pin.files), 0
    for name, have in (await target.missing()).items():
        while have < lengths[name]:
            if stop_after is not None and written >= stop_after:
                return
            data = await pin.read(name, have, 200)
            await target.write(name, have, data if name != flip else bytes([data[0] ^ 1]) + data[1:])
            have += len(data)
            written += 1
    pin.release()
    await target.finish()


async def test_a_seed_resumes_where_it_stopped_and_the_log_goes_on_from_it() -> None:
    there_disk = MemoryDisk()
    async with opened(MemoryDisk()) as here:
        source = await new_database(here)
        await insert(source, *({"_id": n, "pad": "x" * 50} for n in range(60)))
        async with opened(there_disk, start=2) as there:
            await seed(source, there, stop_after=5)
        async with opened(there_disk, start=3) as there:
            assert there.databases == {}
            await seed(source, there)
            await insert(source, {"_id": "after"})
            await ship(source, there.database("db"))
            assert await everything(there.database("db")) == await everything(source)
            assert there.database("db").chain == source.chain


async def test_a_seed_replaces_what_was_there_and_keeps_it_aside() -> None:
    there_disk = MemoryDisk()
    async with opened(MemoryDisk()) as here, opened(there_disk, start=2) as there:
        source = await new_database(here)
        await insert(source, {"_id": "theirs"})
        await insert(await new_database(there), {"_id": "mine"})
        await seed(source, there)
        assert [doc["_id"] for doc in await everything(there.database("db"))] == ["theirs"]
        [kept] = there_disk.list_dir("_salvage")
        assert there_disk.exists(f"_salvage/{kept}/database.json")


async def test_a_seed_whose_bytes_changed_on_the_way_is_thrown_away() -> None:
    there_disk = MemoryDisk()
    async with opened(MemoryDisk()) as here, opened(there_disk, start=2) as there:
        source = await new_database(here)
        await insert(source, *({"_id": n} for n in range(20)))
        with pytest.raises(DamagedRecord):
            await seed(source, there, flip="shard_000.db")
        assert there.databases == {} and there_disk.list_dir("_seeds") == []


@pytest.mark.parametrize("bound", [4, 1000])
async def test_rewind_goes_back_to_a_commit_and_keeps_what_it_cuts(bound: int) -> None:
    disk = MemoryDisk()
    async with opened(disk, memtable_records_max=bound) as engine:
        database = await new_database(engine)
        database.set_floor(0)
        for number in range(30):
            await insert(database, {"_id": number})
        chain = await database.chain_at(12)
        rewound = await engine.rewind("db", 12)
        assert rewound is not None and rewound is engine.database("db")
        assert (rewound.position.seq, rewound.chain) == (12, chain)
        assert [doc["_id"] for doc in await everything(rewound)] == list(range(11))
        assert disk.list_dir("db/salvage")
        await settled(rewound, rewound.begin_reign(2))
        await insert(rewound, {"_id": "new"})
        await rewound.sealing.seal_now()
    async with opened(disk, start=2, memtable_records_max=bound) as engine:
        assert [doc["_id"] for doc in await everything(engine.database("db"))] == [*range(11), "new"]


async def test_a_rewind_below_what_is_kept_touches_nothing() -> None:
    async with opened(MemoryDisk(), memtable_records_max=3, log_segment_bytes=200) as engine:
        database = await new_database(engine)
        for number in range(30):
            await insert(database, {"_id": number})
        await database.sealing.seal_now()
        end = database.position
        assert await engine.rewind("db", 2) is None
        assert engine.database("db").position == end
        assert len(await everything(engine.database("db"))) == 30
        replaced = await operations.replace_one(engine.database("db"), "things", {"_id": 1}, encode_document({"_id": 1, "x": 1}))
        assert replaced.modified == 1
