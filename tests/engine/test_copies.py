"""A second copy of a database: fed by frames, seeded by a checkpoint, rewound to an earlier commit."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import Database, Engine, MemoryDisk, SyncMode, encode_document, operations
from storage.commit import codec
from storage.errors import DamagedRecord, DiskFull, PeerError
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


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_a_copy_shows_only_states_the_primary_was_in(data: st.DataObject) -> None:
    """INV-3, whatever the commits, slices, memtables and segments: at each step the chain, the documents and the catalog are
    the primary's at that seq."""
    counts = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=25))
    records_max, slices = data.draw(st.sampled_from([3, 20, 1000])), data.draw(st.sampled_from([0.0, 1e-5, 4e-5, 1.0]))

    async def play() -> None:
        async with opened(MemoryDisk()) as here, opened(MemoryDisk(), start=2, memtable_records_max=records_max) as there:
            source = await new_database(here)
            target = await standby_of(there, source)
            shown, key = {0: (source.identity.uuid, [], 0)}, 0
            for number, count in enumerate(counts):
                if not count:
                    source.mark() if number % 2 else source.begin_reign(1 + number // 10)
                else:
                    await insert(source, *({"_id": key + n} for n in range(count)), collection=f"c{number % 3}")
                    key += count
                await settled(source, source.position.seq)
                shown[source.position.seq] = (source.chain, await all_of(source), len(source.history))
            run = await source.read_log(0, 10**6)
            offset = 0
            while offset < len(run.data):
                await target.wait_room()
                offset = target.append_some(run.data, offset, slices)
                await settled(target, target.position.seq)
                if target.visible.seq in shown:
                    assert shown[target.visible.seq] == (target.visible_chain, await all_of(target), len(target.history))
            assert target.position == source.position and target.visible.seq in shown
            assert target.requests == source.requests and target.last_time_us == source.last_time_us
            await target.sealing.seal_now()
            assert await all_of(target) == await all_of(source)

    trio.run(play)


async def all_of(database: Database) -> list[list[dict]]:
    return [await everything(database, f"c{number}") for number in range(3)]


@pytest.mark.parametrize("bad", [1, 3, 6])
@pytest.mark.parametrize("where", ["head", "body", "table"])
async def test_a_run_is_taken_up_to_its_first_bad_frame(where: str, bad: int) -> None:
    async with opened(MemoryDisk()) as here, opened(MemoryDisk(), start=2) as there:
        source = await new_database(here)
        target = await standby_of(there, source)
        for number in range(5):
            await insert(source, {"_id": number})
        run = await source.read_log(0, 10**6)
        frames = [run.data[offset : offset + head.frame_len] for offset, head, _ in codec.frames(run.data)]
        frame = frames[bad - 1]
        if where == "table":  # every checksum is right, and yet the table names more bytes than there are
            chain = codec.decode_head(frames[bad - 2]).chain if bad > 1 else codec.first_chain(source.uuid)
            body = frame[56:60] + b"\xff" + frame[61:]
            frame, _ = codec.encode(
                body[:8] + b"\xff\xff" + body[10:], record_count=1, epoch=1, seq=bad, synced_seq=0, time_us=1, chain_before=chain
            )
        else:
            at = 20 if where == "head" else len(frame) - 1
            frame = frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]
        with pytest.raises(PeerError):
            target.append_frames(b"".join([*frames[: bad - 1], frame, *frames[bad:]]))
        assert target.position.seq == target.log.appended_seq == bad - 1
        assert target.log.bytes_appended == sum(map(len, frames[: bad - 1]))
        await settled(target, target.append_frames(b"".join(frames[bad - 1 :])))
        assert (target.visible_chain, await everything(target)) == (source.chain, await everything(source))


async def test_a_run_that_meets_a_full_disk_is_taken_later_as_a_whole() -> None:
    there_disk = MemoryDisk()
    async with opened(MemoryDisk()) as here, opened(there_disk, start=2, sync_mode=SyncMode.ASYNC) as there:
        source = await new_database(here)
        target = await standby_of(there, source)
        for number in range(5):
            await insert(source, {"_id": number})
        run = await source.read_log(0, 10**6)
        reign = target.append_some(run.data, 0, slice_s=0)
        await settled(target, 1)
        target.log.roll()

        there_disk.capacity_bytes = 1
        with pytest.raises(DiskFull):
            target.append_some(run.data, reign)
        assert target.position.seq == target.log.appended_seq == 1
        there_disk.capacity_bytes = None
        await settled(target, target.append_frames(run.data[reign:]))
        assert await everything(target) == await everything(source)


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
