"""The field index over an engine's life: whatever is written, sealed, merged, reopened or seen by an old view, the parts of a query
hold exactly the rows that a scan gives, in its order, and their columns say what the documents say."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import Database, Engine, MemoryDisk, decode_document, encode_document, operations
from storage.check import Severity, check_database
from storage.field_index import FOLLOW_S
from storage.fields import files, overlay
from storage.fields.extract import entries_of
from storage.fields.overlay import Chunk, Overlay
from storage.query.paths import Path
from storage.views import View
from tests.engine.model import insert, new_database, opened, settled

FIELDS = {"a": 1, "n.x": 1, "text": 3}


def document(rng: random.Random, number: int) -> dict:
    return {
        "_id": number,
        "a": rng.choice([0, 1, 1.0, 2**53 + 1, "one", None, [1, 2], [], {"b": 1}, True]),
        "n": rng.choice([{"x": number}, {"x": -number}, [{"x": 1}, {"x": 2}], {}, 5]),
        "text": " ".join(rng.choice(["red", "green", "Blue", "x1"]) for _ in range(rng.randrange(4))),
    }


async def rows_by_scan(view: View, collection: int) -> list[tuple[bytes, bytes]]:
    return [(key, data) async for batch in view.scan(collection) for _, _, key, data in batch]


async def rows_by_parts(view: View, collection: int) -> list[tuple[bytes, bytes]] | None:
    """What a query by index would stand on, each part's columns held against its documents. None: not indexed."""
    standing = await view.standing(collection)
    if standing is None:
        return None
    found = []
    for part in standing.parts:
        rows = np.arange(part.rows, dtype=np.uint32)
        alive = rows[~part.dead.test(rows)]
        assert np.array_equal(part.dead.rows, rows[part.dead.test(rows)])
        assert part.dead.count == part.rows - len(alive)
        held = part.fetch(alive)
        for path in FIELDS:
            column = part.column(path)
            if column is not None:
                check_column(column, path, alive.tolist(), [decode_document(data) for _, data in held])
        found += held
    return found + [(row.key, row.data) for row in standing.loose]


def check_column(column, path: str, rows: list[int], documents: list[dict]) -> None:
    many = set(column.many.tolist())
    for row, found in zip(rows, documents):
        values, is_plain = entries_of(found, Path(path))
        assert (row in many) == (not is_plain)
        if is_plain and not isinstance(values[0], (dict, list)):
            code = int(column.codes_of(np.array([row], np.uint32))[0])
            assert column.value(code) == values[0] or column.value(code) is values[0]


class World:
    """One database under random work, and some of the views that were taken on the way."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = MemoryDisk()
        self.next_id = 0
        self.opened = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Database]:
        self.opened += 1
        async with opened(self.disk, start=self.opened, memtable_records_max=60, index_rows_min=0) as engine:
            database = engine.databases.get("db") or await self._new(engine)
            if database.unclean or self.opened > 1:
                await settled(database, database.begin_reign(self.opened))
            yield database

    async def _new(self, engine: Engine) -> Database:
        return await new_database(engine)

    async def work(self, database: Database, steps: int) -> None:
        for _ in range(steps):
            match self.rng.randrange(8):
                case 0 | 1 | 2:
                    count = self.rng.choice([1, 3, 40])
                    await insert(database, *(document(self.rng, self.next_id + i) for i in range(count)))
                    self.next_id += count
                case 3 | 4 if self.next_id:
                    number = self.rng.randrange(self.next_id)
                    new = encode_document(document(self.rng, number))
                    result = await operations.replace_one(database, "things", {"_id": number}, new, upsert=True)
                    await settled(database, result.seq)
                case 5 if self.next_id:
                    result = await operations.delete(database, "things", {"_id": self.rng.randrange(self.next_id)})
                    await settled(database, result.seq)
                case 6:
                    await database.sealing.seal_now()
                case 7:
                    await trio.sleep(0.001)


async def check(view: View, database: Database) -> bool:
    """Whether the view had an index, which then agreed with the scan."""
    collection = view.catalog.ids.get("things", 0)
    by_parts = await rows_by_parts(view, collection)
    assert by_parts is None or by_parts == await rows_by_scan(view, collection)
    assert not database.indexing.failures, database.indexing.last_error
    return by_parts is not None


async def play(seed: int) -> int:
    """How often an index was looked at."""
    world, looked = World(seed), 0
    for _ in range(3):
        views: list[View] = []
        async with world.open() as database:
            for _ in range(12):
                await world.work(database, world.rng.randrange(6))
                if "things" in database.catalog.ids and world.rng.random() < 0.5:
                    path = world.rng.choice(list(FIELDS))
                    database.indexing.want(database.catalog.ids["things"], {path: FIELDS[path]})
                if world.rng.random() < 0.3:
                    await database.indexing.wait_built()
                views.append(database.view())
                for view in (views[-1], world.rng.choice(views)):
                    looked += await check(view, database)
    return looked


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_parts_hold_what_a_scan_gives(seed: int):
    trio.run(play, seed, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("seed", range(3))
def test_the_test_sees_indexes(seed: int):
    assert trio.run(play, seed, clock=trio.testing.MockClock(autojump_threshold=0)) > 10


async def _grown(disk: MemoryDisk) -> list[dict]:
    """A database with several segments, dead rows in them, and fields indexed late; gives its documents."""
    rng = random.Random(5)
    async with opened(disk, memtable_records_max=60, index_rows_min=0) as engine:
        database = await new_database(engine)
        await insert(database, *(document(rng, number) for number in range(150)))
        await database.sealing.seal_now()
        database.indexing.want(database.catalog.ids["things"], {"a": 1})
        await database.indexing.wait_built()
        result = await operations.delete(database, "things", {"_id": {"$lt": 20}}, many=True)
        await settled(database, result.seq)
        await insert(database, *(document(rng, number) for number in range(200, 260)))
        await database.sealing.seal_now()
        database.indexing.want(database.catalog.ids["things"], FIELDS)
        await database.indexing.wait_built()
        await settled(database, database.position.seq)
        return [decode_document(data) for _, data in await rows_by_scan(database.view(), database.catalog.ids["things"])]


async def _found_after(disk: MemoryDisk, *, builds: int = 0) -> list[dict]:
    """builds: how many to wait for."""
    async with opened(disk, start=2, memtable_records_max=60, index_rows_min=0) as engine:
        database = engine.databases["db"]
        with trio.fail_after(3600):
            while database.indexing.builds < builds:  # noqa: ASYNC110 - nothing tells of the first build alone
                await trio.sleep(1)
            await database.indexing.wait_built()
        view = database.view()
        rows = await rows_by_parts(view, view.catalog.ids["things"])
        assert rows is not None, "the index is there again"
        return [decode_document(data) for _, data in rows]


def _harm(disk: MemoryDisk, path: str, harm: str) -> None:
    data = disk.read_file(path)
    disk.remove(path)
    if harm != "gone":
        at = len(data) // 2
        disk.replace_file(path, data[:at] if harm == "cut" else data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])


@pytest.mark.parametrize("kind", ["rows", "svidx", "sgidx", "stidx", "live", "json"])
@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
def test_an_index_that_is_damaged_is_built_anew(kind: str, harm: str):
    async def play() -> None:
        disk = MemoryDisk()
        documents = await _grown(disk)
        names = [name for name in disk.list_dir("db") if name.startswith("fields.") and (f".{kind}." in name or name.endswith(kind))]
        assert names
        for name in names:
            _harm(disk, f"db/{name}", harm)
        assert await _found_after(disk) == documents

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("kind", ["rows", "svidx", "sgidx", "stidx"])
def test_damage_in_a_large_file_is_found_after_the_opening(kind: str, monkeypatch: pytest.MonkeyPatch):
    async def play() -> None:
        disk = MemoryDisk()
        documents = await _grown(disk)
        for name in disk.list_dir("db"):
            if name.startswith(f"fields.{kind}."):
                _harm(disk, f"db/{name}", "flipped")
        monkeypatch.setattr(files, "CHECKED_AT_OPEN_BYTES_MAX", 0)
        assert await _found_after(disk, builds=1) == documents

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_sound_index_of_large_files_stays(monkeypatch: pytest.MonkeyPatch):
    async def play() -> None:
        disk = MemoryDisk()
        documents = await _grown(disk)
        monkeypatch.setattr(files, "CHECKED_AT_OPEN_BYTES_MAX", 0)
        async with opened(disk, start=2, memtable_records_max=60, index_rows_min=0) as engine:
            database = engine.databases["db"]
            before = database.indexing.index
            await trio.sleep(100)
            assert database.indexing.index is before is not None and not database.indexing.builds and not database.indexing.last_error
            rows = await rows_by_parts(database.view(), database.catalog.ids["things"])
            assert [decode_document(data) for _, data in rows or ()] == documents

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


def test_many_small_segments_become_one_and_keep_what_is_live():
    async def play() -> None:
        rng, disk = random.Random(7), MemoryDisk()
        async with opened(disk, memtable_records_max=20, index_rows_min=0) as engine:
            database = await new_database(engine)
            await insert(database, document(rng, 0))
            await database.sealing.seal_now()
            number = database.catalog.ids["things"]
            database.indexing.want(number, FIELDS)
            for start in range(1, 200, 20):
                await insert(database, *(document(rng, start + i) for i in range(20)))
                result = await operations.delete(database, "things", {"_id": rng.randrange(start)})
                await settled(database, result.seq)
                await database.sealing.seal_now()
            await trio.sleep(30)
            await database.indexing.wait_built()
            assert database.indexing.merges
            assert len(database.indexing.index.segments(number)) == 1
            assert await check(database.view(), database)

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_checker_finds_a_damaged_index():
    async def play() -> None:
        disk = MemoryDisk()
        await _grown(disk)
        assert [f for f in check_database(disk, "db") if "fields." in f.file] == []
        name = next(name for name in disk.list_dir("db") if name.startswith("fields.sgidx."))
        data = disk.read_file(f"db/{name}")
        disk.remove(f"db/{name}")
        disk.replace_file(f"db/{name}", data[:200] + bytes([data[200] ^ 1]) + data[201:])
        assert [f.severity for f in check_database(disk, "db") if "fields." in f.file] == [Severity.NOTE]

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_log_that_is_sealed_while_it_is_replayed_keeps_the_index():
    """More unsealed rows than a memtable holds, as after a kill under load: the index must not be built anew for them."""
    disk = MemoryDisk()
    async with opened(disk, index_rows_min=1, memtable_records_max=10_000) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": number, "a": number % 3} for number in range(100)))
        await database.sealing.seal_now()
        await operations.count(database, "things", {"a": 1})
        await database.indexing.wait_built()
        for start in (100, 200, 300):
            await insert(database, *({"_id": number, "a": number % 3} for number in range(start, start + 100)))
        assert database.sealing.frozen is None
        sealed = database.sealing.checkpoint.seq
    async with opened(disk, start=2, index_rows_min=1, memtable_records_max=50) as engine:
        database = engine.database("db")
        assert database.sealing.checkpoint.seq > sealed, "the opening has sealed"
        assert database.indexing.is_whole(database.catalog.ids["things"])
        assert database.indexing.builds == 0
        view = database.view()
        collection = view.catalog.ids["things"]
        assert await rows_by_parts(view, collection) == await rows_by_scan(view, collection)


async def test_rows_that_were_replayed_are_ready_before_anybody_asks(monkeypatch: pytest.MonkeyPatch, autojump_clock: object):
    disk = MemoryDisk()
    async with opened(disk, index_rows_min=1) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": number, "a": number % 3} for number in range(100)))
        await database.sealing.seal_now()
        await operations.count(database, "things", {"a": 1})
        await database.indexing.wait_built()
        await insert(database, *({"_id": number, "a": number % 3} for number in range(100, 1_000)))
    made: list[str] = []
    for of, name in ((Overlay, "absorb"), (Chunk, "_entries")):
        plain = getattr(of, name)
        monkeypatch.setattr(of, name, lambda *args, plain=plain, name=name, **named: (made.append(name), plain(*args, **named))[1])
    async with opened(disk, start=2, index_rows_min=1) as engine:
        database = engine.database("db")
        await database.indexing.followed.wait()
        assert "absorb" in made and "_entries" in made
        made.clear()
        assert await operations.count(database, "things", {"a": 1}) == 333
        assert not made


@pytest.mark.parametrize("bound", [{"memtable_records_max": 300}, {"memtable_bytes_max": 100_000}])
async def test_what_was_frozen_is_sealed_after_the_opening_not_by_it(bound: dict[str, int], autojump_clock: object):
    disk = MemoryDisk()
    async with opened(disk, index_rows_min=1) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": number, "a": number % 3, "pad": "x" * 100} for number in range(100)))
        await database.sealing.seal_now()
        await operations.count(database, "things", {"a": 1})
        await database.indexing.wait_built()
        await insert(database, *({"_id": number, "a": number % 3, "pad": "x" * 100} for number in range(100, 500)))
        await operations.update(database, "things", {"_id": {"$lt": 250}}, {"$set": {"a": 7}}, many=True)
        sealed, at = database.sealing.checkpoint.seq, await database.view().state_hash()
    async with opened(disk, start=2, index_rows_min=1, **bound) as engine:
        database = engine.database("db")
        sealing = database.sealing
        assert sealing.checkpoint.seq == sealed
        assert sealing.frozen is not None and sealing.frozen.base_seq == sealed and sealing.active.base_seq == sealing.frozen.last_seq
        view = database.view()
        collection = view.catalog.ids["things"]
        assert await rows_by_parts(view, collection) == await rows_by_scan(view, collection)
        assert await operations.count(database, "things", {"a": 7}) == 250
        await sealing.seal_now()
        assert sealing.frozen is None
        assert await operations.count(database, "things", {"a": 7}) == 250
        assert await database.view().state_hash() == at
        assert database.indexing.builds == 0


async def test_chunks_of_new_rows_become_few_while_questions_come(monkeypatch: pytest.MonkeyPatch, autojump_clock: object):
    monkeypatch.setattr(overlay, "CHUNK_ROWS_MAX", 100)
    monkeypatch.setattr(overlay, "CHUNK_ROWS_MIN", 20)
    monkeypatch.setattr(overlay, "MERGED_ROWS_MIN", 400)
    async with opened(MemoryDisk(), index_rows_min=1) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": number, "a": number % 3, "t": f"word{number % 7}"} for number in range(100)))
        await database.sealing.seal_now()
        for spec in ({"a": 1}, {"t": {"$regex": "word3"}}):
            await operations.count(database, "things", spec)
        await database.indexing.wait_built()
        view = database.view()
        collection = view.catalog.ids["things"]
        for start in range(100, 2_100, 100):
            await insert(database, *({"_id": number, "a": number % 3, "t": f"word{number % 7}"} for number in range(start, start + 100)))
            await operations.count(database, "things", {"a": 1})
        before = database.view()
        old = await before.standing(collection)
        await trio.sleep(10 * FOLLOW_S)
        view = database.view()
        standing = await view.standing(collection)
        assert len(old.parts) == 21 and len(standing.parts) == 6, [part.rows for part in standing.parts]
        assert await rows_by_parts(view, collection) == await rows_by_scan(view, collection)
        assert sum(part.rows for part in old.parts) == 2_100
        monkeypatch.setattr(Chunk, "_entries", None)  # everything is made
        assert await operations.count(database, "things", {"a": 1, "t": {"$regex": "word3"}}) == 100
