"""Where questions are answered: short ones on the loop, long ones and those that would wait for the device in the thread; the answers are the same."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import trio

from storage import Database, MemoryDisk, decode_document, encode_document, operations, plan
from storage.commit.memtable import Memtable
from storage.disk import OsDisk
from storage.fields.overlay import NEVER, Chunk, Glance, Overlay
from storage.fields.values import COLUMN, WORDS
from storage.indexes.parts import ChunkPart, Standing
from storage.query.filters import compile_filter
from storage.query.sorting import compile_sort
from storage.shard.fetching import WouldWait
from storage.step_pace import (
    COLD_S,
    IN_PLACE_S_MAX,
    LATELY_S,
    LONG_S,
    SHAPES_MAX,
    StepPace,
    shape_of,
    sort_shape,
)
from storage.views import View
from tests.engine.cold_disk import ColdDisk
from tests.engine.model import insert, new_database, opened

ROWS = 400
COLD_BYTES = 2**24  # more than is read ahead
NEW_ROWS = 600  # more than are looked at one by one


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One for each way to the disk's thread."""
    seen: list[str] = []
    run = View.run

    async def counted(self, call, *args):
        seen.append(call.__name__)
        return await run(self, call, *args)

    monkeypatch.setattr(View, "run", counted)
    return seen


async def indexed(engine) -> Database:
    database = await new_database(engine)
    for start in range(0, ROWS, 100):
        await insert(database, *({"_id": number, "a": number % 5, "b": -number, "text": f"red w{number} x"} for number in range(start, start + 100)))
    await database.sealing.seal_now()
    for spec in ({"a": 1}, {"text": {"$regex": "w7"}}):
        await operations.count(database, "things", spec)
    await operations.find(database, "things", {"a": 1}, sort=[["b", 1]], limit=5)
    await database.indexing.wait_built()
    return database


async def few(database: Database, spec: dict, **more: object) -> list[dict]:
    cursor = await operations.find(database, "things", spec, **more)
    found = []
    while not cursor.done:
        found += await cursor.next_batch(3)
    await cursor.close()
    return [decode_document(data) for data in found]


async def test_short_questions_come_to_be_answered_in_place(hops: list[str], autojump_clock: object):
    async with opened(MemoryDisk(), index_rows_min=1) as engine:
        database = await indexed(engine)
        hops.clear()
        for number in range(30):
            found = await few(database, {"a": number % 5}, limit=4)
            assert [one["_id"] for one in found] == [number % 5 + 5 * i for i in range(4)]
            assert await operations.count(database, "things", {"a": number % 5, "b": {"$gt": -100}}) == 20
            newest = await few(database, {"a": 1}, sort=[["b", 1]], skip=1, limit=2, projection={"b": 1, "_id": 0})
            assert newest == [{"b": -391}, {"b": -386}]
        assert 0 < len(hops) < 60, "every shape begins in the thread, and does not stay there"


async def test_a_document_that_is_not_in_memory_is_read_in_the_thread(hops: list[str], autojump_clock: object):
    async with opened(ColdDisk(), index_rows_min=1) as engine:
        database = await indexed(engine)
        hops.clear()
        for _ in range(30):
            assert [one["_id"] for one in await few(database, {"a": 2}, limit=3)] == [2, 7, 12]
        assert len(hops) == 30


async def test_what_has_to_be_made_of_new_rows_is_made_in_the_thread(hops: list[str], autojump_clock: object):
    async with opened(MemoryDisk(), index_rows_min=1) as engine:
        database = await indexed(engine)
        for _ in range(30):
            assert await operations.count(database, "things", {"a": 2}) == ROWS // 5
        await insert(database, *({"_id": number, "a": number % 5} for number in range(ROWS, ROWS + NEW_ROWS)))
        hops.clear()
        assert await operations.count(database, "things", {"a": 2}) == (ROWS + NEW_ROWS) // 5
        assert len(hops) == 1, "their column had to be made"
        hops.clear()
        assert await operations.count(database, "things", {"a": 2}) == (ROWS + NEW_ROWS) // 5
        assert not hops, "one that had to wait is not long for that"


def test_a_chunk_makes_nothing_where_it_may_not_wait():
    docs = [encode_document({"_id": 1, "a": 1, "b": "x", "t": "red"}), encode_document({"_id": 2, "a": 2, "b": "y", "t": "blue"})]
    chunk = Chunk(0, np.array([1 << 16, 2 << 16], np.uint64), [b"k1", b"k2"], docs)
    overlay = Overlay(Memtable(0), 1)
    overlay.ends.extend(np.full(2, NEVER, np.uint64))
    overlay.order.extend(chunk.order)
    part = ChunkPart(chunk, Glance(overlay, (chunk,), 2, 0), 5, np.empty(0, np.uint64), {"a": COLUMN, "b": WORDS, "t": COLUMN | WORDS})
    asked = [(part.column, "a"), (part.kinds, "a"), (part.kinds, "b"), (part.text, "b"), (part.text, "t"), (part.column, "t")]
    Standing([part], []).wait_for_all(waits=False)
    for ask, path in asked:
        with pytest.raises(WouldWait):
            ask(path)
    assert part.column("b") is part.text("a") is part.kinds("z") is None, "not indexed: nothing to wait for"
    Standing([part], []).wait_for_all(waits=True)
    made = [ask(path) for ask, path in asked]
    assert None not in made
    Standing([part], []).wait_for_all(waits=False)
    assert [ask(path) for ask, path in asked] == made


async def test_patterns_are_never_asked_in_place(hops: list[str], autojump_clock: object):
    async with opened(MemoryDisk(), index_rows_min=1) as engine:
        database = await indexed(engine)
        hops.clear()
        for _ in range(30):
            assert [one["_id"] for one in await few(database, {"text": {"$regex": "red w77 "}}, limit=3)] == [77]
        assert len(hops) == 30


def test_a_shape_is_short_when_the_last_ones_were():
    pace = StepPace()
    assert not pace.allows_in_place("new", 0.0)
    for number in range(20):
        pace.took("short", IN_PLACE_S_MAX / 4, float(number))
        pace.took("long", IN_PLACE_S_MAX * 2, float(number))
    assert pace.allows_in_place("short", 20.0)
    assert not pace.allows_in_place("long", 20.0)
    assert not pace.allows_in_place("short", 19.0 + LATELY_S), "what was in memory may be gone"
    pace.took("short", LONG_S, 20.0)
    assert not pace.allows_in_place("short", 20.0)
    needed = 0
    while not pace.allows_in_place("short", 20.0):
        pace.took("short", IN_PLACE_S_MAX / 4, 20.0)
        needed += 1
    assert 5 < needed < 12


def test_only_so_many_shapes_are_known():
    pace = StepPace()
    for number in range(SHAPES_MAX + 1):
        for _ in range(20):
            pace.took(number, 0.0, 1.0)
    assert not pace.allows_in_place(0, 1.0)
    assert pace.allows_in_place(1, 1.0)
    assert pace.allows_in_place(SHAPES_MAX, 1.0)


def test_shapes_tell_paths_and_operators_and_not_values():
    def shape(spec: dict) -> object:
        return shape_of(compile_filter(spec).tree)

    assert shape({"a": 1, "b": {"$gt": 3}}) == shape({"a": "x", "b": {"$gt": None}})
    assert len({shape({"a": 1}), shape({"b": 1}), shape({"a": {"$gt": 1}}), shape({"a": {"$ne": 1}}), shape({"$or": [{"a": 1}, {"b": 1}]})}) == 5
    assert shape({"a": {"$in": [1, 2, 3]}}) == shape({"a": {"$in": [4, 5]}}) != shape({"a": {"$in": list(range(90))}})
    assert shape({"a": {"$elemMatch": {"b": 1}}}) != shape({"a": {"$elemMatch": {"c": 1}}})
    assert sort_shape(compile_sort([["a", 1]])) != sort_shape(compile_sort([["a", -1]])) != sort_shape(None)


@pytest.mark.parametrize(
    "spec",
    [{"a": {"$regex": "x"}}, {"b": 1, "a": {"$not": {"$regex": "x"}}}, {"$expr": {"$eq": ["$a", 1]}}, {"a": {"$in": list(range(500))}}, {"$or": [{"a": {"$gt": n}} for n in range(40)]}],
)
def test_what_may_take_any_time_has_no_shape(spec: dict):
    assert shape_of(compile_filter(spec).tree) is None


async def test_after_a_cold_page_everything_goes_to_the_thread_for_a_while(hops: list[str], monkeypatch: pytest.MonkeyPatch, autojump_clock: object):
    waits = 0
    monkeypatch.setattr(MemoryDisk, "page_waits", lambda self: waits)
    async with opened(MemoryDisk(), index_rows_min=1) as engine:
        database = await indexed(engine)
        plain = plan.find

        def waiting(*arguments: object, **more: object):
            nonlocal waits
            waits += 1
            return plain(*arguments, **more)

        for _ in range(40):
            await few(database, {"a": 2}, limit=3)
            await operations.count(database, "things", {"a": 2})
        hops.clear()
        monkeypatch.setattr(plan, "find", waiting)
        await few(database, {"a": 2}, limit=3)
        monkeypatch.setattr(plan, "find", plain)
        assert not hops, "it was asked in place"
        for _ in range(3):
            await few(database, {"a": 2}, limit=3)
            await operations.count(database, "things", {"a": 2})
        assert len(hops) == 6
        await trio.sleep(COLD_S)
        await operations.count(database, "things", {"a": 2})
        assert len(hops) == 6


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be asked to drop pages")
def test_the_real_disk_counts_waits(tmp_path: Path):
    path = tmp_path / "pages"
    with path.open("wb") as file:
        file.write(b"x" * COLD_BYTES)
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    disk = OsDisk(tmp_path)
    file = disk.open_read(path.name)
    with closing(file):
        if file.read_now(0, 1) is not None:
            pytest.skip("this file system keeps pages in memory that it is asked to drop")
        mapped = disk.map(path.name)
        before = disk.page_waits()
        assert mapped[COLD_BYTES // 2] == ord("x")
        assert disk.page_waits() > before
        waited = disk.page_waits()
        assert mapped[COLD_BYTES // 2] == ord("x")
        assert disk.page_waits() == waited, "it is in memory now"
