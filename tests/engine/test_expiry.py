"""TTL indexes: what expires and when, by the virtual clock; standbys and read-only databases delete nothing."""

from __future__ import annotations

import datetime

import pytest
import trio
from trio.testing import MockClock

from storage import Engine, MemoryDisk, Seams, WorkHere, operations
from storage.declaring import unfinished
from storage.errors import ReadOnly
from storage.expiry import expire
from tests.engine.model import check_entries, everything, insert, new_database, options, settled

START = datetime.datetime(2026, 1, 1)
EPOCH = datetime.datetime(1970, 1, 1)


def clock_seams(disk: MemoryDisk) -> Seams:
    """Wall clock and trio's clock go together, from START on."""
    began = trio.current_time()
    start_us = int((START - EPOCH).total_seconds()) * 10**6
    return Seams(
        disk, lambda: start_us + int((trio.current_time() - began) * 10**6), lambda n: bytes(n), WorkHere(disk)
    )


def ago(seconds: float) -> datetime.datetime:
    return START - datetime.timedelta(seconds=seconds)


async def ids(database) -> list:
    await settled(database, database.position.seq)
    return [document["_id"] for document in await everything(database)]


@pytest.mark.parametrize("sealed", [False, True])
async def test_documents_go_when_their_time_has_come(sealed: bool, autojump_clock: MockClock) -> None:
    async with Engine.open(clock_seams(MemoryDisk()), options=options(expiry_interval_s=10)) as engine:
        database = await new_database(engine)
        await operations.create_index(database, "things", [["at", 1]], {"expireAfterSeconds": 100})
        assert operations.list_indexes(database, "things") == []  # not visible yet
        await insert(
            database,
            {"_id": "old", "at": ago(101)},
            {"_id": "young", "at": ago(50)},
            {"_id": "future", "at": ago(-1000)},
            {"_id": "array", "at": [ago(0), ago(500), "x"]},
            {"_id": "young array", "at": [ago(0), ago(60)]},
            {"_id": "number", "at": 5},
            {"_id": "null", "at": None},
            {"_id": "missing"},
            {"_id": "nested", "at": {"at": ago(500)}},
        )
        if sealed:
            await database.sealing.seal_now()
        never = ["future", "number", "null", "missing", "nested"]
        await trio.sleep(11)
        assert await ids(database) == ["young", "future", "young array", *never[1:]]
        await trio.sleep(50)
        assert await ids(database) == never
        assert operations.list_indexes(database, "things")[1]["expireAfterSeconds"] == 100
        await trio.sleep(1100)
        assert await ids(database) == never[1:]


async def test_partial_and_unique_indexes_expire_with_their_entries(autojump_clock: MockClock) -> None:
    async with Engine.open(clock_seams(MemoryDisk()), options=options()) as engine:
        database = await new_database(engine)
        partial = {"expireAfterSeconds": 0, "unique": True, "partialFilterExpression": {"done": True}}
        await operations.create_index(database, "things", [["at", 1]], partial)
        await operations.create_index(database, "things", [["n", 1]], {"unique": True})
        await insert(database, *({"_id": n, "n": n, "at": ago(n), "done": n % 2 == 0} for n in range(20)))
        await trio.sleep(61)
        assert await ids(database) == list(range(1, 20, 2))
        await check_entries(database)
        await insert(database, {"_id": 0, "n": 0})


async def test_a_database_that_takes_no_writes_keeps_what_has_expired(autojump_clock: MockClock) -> None:
    async with Engine.open(clock_seams(MemoryDisk()), options=options()) as engine:
        database = await new_database(engine)
        await operations.create_index(database, "things", [["at", 1]], {"expireAfterSeconds": 1})
        await insert(database, {"_id": 1, "at": ago(500)})
        database.refuse_writes(ReadOnly("a standby"))
        await trio.sleep(200)
        assert await ids(database) == [1]
        assert await expire(database, database.seams.time_us()) == 0
        database.refuse_writes(None)
        await trio.sleep(61)
        assert await ids(database) == []


async def test_a_build_that_nobody_waits_for_is_finished_by_the_node(autojump_clock: MockClock) -> None:
    async with Engine.open(clock_seams(MemoryDisk()), options=options()) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "n": n} for n in range(2000)))
        with trio.CancelScope() as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(operations.create_index, database, "things", [["n", 1]], {"unique": True})
                while not unfinished(database):
                    await trio.lowlevel.checkpoint()
                client.cancel()  # the client went away in the middle
        assert [spec.name for _, spec in unfinished(database)] == ["n_1"]
        await trio.sleep(6)
        assert unfinished(database) == []
        await check_entries(database)
