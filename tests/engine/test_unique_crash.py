"""Killed after any commit of a build, or of an update of many documents: what is found is right, and going on completes it (INV-2).

A crash leaves a prefix of the commits, so each step is a log that ends there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from storage import Database, MemoryDisk, encode_document, operations
from storage.check import Severity, check_database
from storage.commit import codec
from storage.commit.segment import HEADER_BYTES
from storage.declaring import finish_builds, unfinished
from storage.errors import DuplicateKey
from tests.engine.model import check_entries, everything, insert, new_database, opened, settled

THINGS = "things"
UNIQUE = {"unique": True}


def cuts(disk: MemoryDisk, after_seq: int) -> list[dict[str, bytes]]:
    """The files of a database without checkpoints as kills after each later commit leave them, every other one in the middle of a
    frame."""
    held, found = {"db/database.json": disk.read_file("db/database.json")}, []
    for name in sorted(disk.list_dir("db/commit"), key=lambda name: name.rpartition("-")[2]):
        if not name.endswith(".log"):
            continue
        path = f"db/commit/{name}"
        log = disk.read_file(path)
        for offset, head, _ in codec.frames(log, HEADER_BYTES):
            if head.seq >= after_seq:
                end = offset + head.frame_len
                found += [{**held, path: log[:end]}, {**held, path: log[: end - 3]}]
        held[path] = log
    return found


def disk_with(files: dict[str, bytes]) -> MemoryDisk:
    disk = MemoryDisk()
    for directory in ("db", "db/commit", "db/checkpoints"):
        disk.make_dir(directory)
    for path, data in files.items():
        disk.create(path).append(data)
    return disk


async def after_each_kill(disk: MemoryDisk, after_seq: int, check: Callable[[Database], Awaitable[None]]) -> None:
    """check(the database opened again, in a new reign) after every kill; sealed at first every other time; its files checked at the end."""
    steps = cuts(disk, after_seq)
    assert len(steps) > 4
    for number, files in enumerate(steps):
        disk = disk_with(files)
        async with opened(disk, start=2 + number) as engine:
            database = engine.database("db")
            if database.catalog.ids:
                await settled(database, database.begin_reign(2))
                if number % 3 == 1:
                    await database.sealing.seal_now()
                await check(database)
                await settled(database, database.position.seq)
        assert [finding for finding in check_database(disk, "db") if finding.severity is not Severity.NOTE] == []


async def test_a_build_that_was_killed_is_taken_up_again() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "a": n} for n in range(1200)))
        before = database.position.seq
        await operations.create_index(database, THINGS, [["a", 1]], UNIQUE)
        await insert(database, {"_id": -1, "a": -1})
    found = set()

    async def check(database: Database) -> None:
        found.add(bool(unfinished(database)))
        await check_entries(database)
        result = await operations.insert(database, THINGS, [encode_document({"_id": "new", "a": "new"})])
        assert result.errors == []
        if database.position.seq % 3:
            await finish_builds(database)
        await operations.create_index(database, THINGS, [["a", 1]], UNIQUE)
        assert not unfinished(database)
        await check_entries(database)
        for taken in (1199, "new"):
            again = await operations.insert(database, THINGS, [encode_document({"a": taken, "_id": f"again {taken}"})])
            assert [type(row.error) for row in again.errors] == [DuplicateKey]

    await after_each_kill(disk, before, check)
    assert found == {True, False}


async def test_a_build_that_meets_a_duplicate_leaves_nothing_wherever_it_was_killed() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "a": n % 1100} for n in range(1200)))
        before = database.position.seq
        with pytest.raises(DuplicateKey):
            await operations.create_index(database, THINGS, [["a", 1]], UNIQUE)
        await insert(database, {"_id": -1, "a": 5})

    async def check(database: Database) -> None:
        await finish_builds(database)
        assert not unfinished(database) and not database.catalog.indexes
        await check_entries(database)

    await after_each_kill(disk, before, check)


async def test_writes_and_their_entries_survive_together_or_not_at_all() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        database = await new_database(engine)
        await operations.create_index(database, THINGS, [["a", 1]], UNIQUE)
        before = database.position.seq
        await insert(database, *({"_id": n, "a": n} for n in range(5)))
        await operations.update(database, THINGS, {"a": {"$gte": 2}}, {"$inc": {"a": 10}}, many=True)
        await operations.update(database, THINGS, {"_id": 0}, {"$set": {"a": 3}})
        await operations.replace_one(database, THINGS, {"_id": 1}, encode_document({"_id": 1}))
        await operations.delete(database, THINGS, {"a": {"$gt": 11}}, many=True)
        await operations.drop_index(database, THINGS, "a_1")
        await settled(database, database.position.seq)

    async def check(database: Database) -> None:
        await check_entries(database)

    await after_each_kill(disk, before, check)


async def test_an_update_of_many_that_comes_again_after_a_kill_changes_each_document_once() -> None:
    disk, request = MemoryDisk(), b"r" * 16
    async with opened(disk) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "n": 0, "pad": "x" * 400_000} for n in range(7)))
        before = database.position.seq
        whole = await operations.update(database, THINGS, {}, {"$inc": {"n": 1}}, many=True, request=request)
        assert database.position.seq > before + 2  # several groups
        await settled(database, database.position.seq)
    replayed = set()

    async def check(database: Database) -> None:
        await operations.update(database, THINGS, {"_id": 6}, {"$set": {"other": True}})
        again = await operations.update(database, THINGS, {}, {"$inc": {"n": 1}}, many=True, request=request)
        replayed.add(again.replayed)
        assert (again.matched, again.modified) == (whole.matched, whole.modified) == (7, 7)
        await settled(database, database.position.seq)
        assert {document["_id"]: document["n"] for document in await everything(database)} == dict.fromkeys(range(7), 1)
        third = await operations.update(database, THINGS, {}, {"$inc": {"n": 1}}, many=True, request=request)
        assert third.replayed and third.modified == 7

    await after_each_kill(disk, before, check)
    assert replayed == {True, False}
