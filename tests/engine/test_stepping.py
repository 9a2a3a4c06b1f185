"""Where questions are answered: short ones on the loop, long ones and those that would wait for the device in the thread; the answers are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from storage import Database, MemoryDisk, decode_document, operations, plan
from storage.disk import OsDisk
from storage.query.filters import compile_filter
from storage.query.sorting import compile_sort
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


def test_the_real_disk_counts_waits(tmp_path: Path):
    disk = OsDisk(tmp_path)
    assert 0 <= disk.page_waits() <= disk.page_waits()
