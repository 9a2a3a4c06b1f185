"""Copies of a live directory in memory: a copier reads files piece by piece, in any order, between the engine's steps (INV-2, INV-5)."""

from __future__ import annotations

import os
import random

import pytest
import trio

from storage import Database, MemoryDisk, SyncMode, encode_document, operations
from storage.check import check_database
from storage.errors import DamagedRecord, Overloaded, TwinlogError
from storage.finding import Severity
from storage.keeping import HOLDS_MAX, Grace, holds, release_hold, take_hold, within
from tests.engine.model import everything, new_database, opened, settled

SMALL = {"copy_grace_s": 60.0, "memtable_records_max": 6, "log_segment_bytes": 1500, "index_rows_min": 2}
EXAMPLES = int(os.environ.get("HOT_COPY_EXAMPLES", "15"))  # of each kind; a sweep takes hundreds
FOREIGN_INODES = 10**6  # a copy's files have other numbers


class CopiedDisk(MemoryDisk):
    """What a copying program made. vanished: files that it had listed and did not find."""

    def __init__(self) -> None:
        super().__init__()
        self._inodes = FOREIGN_INODES
        self.vanished = 0


def orders(rng: random.Random, paths: list[str]) -> list[str]:
    """The files in the order that a copying program may take."""
    kind = rng.randrange(6)
    if kind == 0:
        return sorted(paths)
    if kind == 1:
        return sorted(paths, reverse=True)
    if kind == 2:
        return sorted(paths, key=lambda path: ("/checkpoints" not in path, "/commit" in path, path))
    if kind == 3:
        return sorted(paths, key=lambda path: ("/commit" not in path, "/checkpoints" in path, path))
    if kind == 4:
        return sorted(paths, key=lambda path: ("shard_" not in path, path))
    rng.shuffle(paths)
    return paths


async def pause(rng: random.Random, steps: int) -> None:
    for _ in range(rng.randrange(steps)):
        await trio.lowlevel.checkpoint()


async def hot_copy(source: MemoryDisk, rng: random.Random, steps: int) -> CopiedDisk:
    """Directories are listed when they are met, files read in pieces; one that is gone by then is passed over, as by rsync."""
    target = CopiedDisk()
    target.make_dir("db/commit")
    target.make_dir("db/checkpoints")
    listed = {part: source.list_dir(part) for part in ("db", "db/commit", "db/checkpoints")}
    relist = rng.random() < 0.5
    paths = [f"{part}/{name}" for part, names in listed.items() for name in names if name not in ("commit", "checkpoints")]
    todo = orders(rng, paths)
    while todo:
        path = todo.pop(0)
        part = path.rpartition("/")[0]
        if relist and part != "db" and part in listed:  # the program lists a directory when it comes to it
            del listed[part]
            now = [f"{part}/{name}" for name in source.list_dir(part)]
            todo = orders(rng, [*(p for p in todo if not p.startswith(part + "/")), *now])
            continue
        await pause(rng, steps)
        if not source.exists(path):
            target.vanished += 1
            continue
        file, copy = source.open_read(path), target.create(path)
        piece = rng.choice([64, 700, 100_000])
        while data := file.read_at(copy.size, piece):
            copy.append(data)
            if rng.random() < 0.3:
                await pause(rng, 6)
    return target


class Writer:
    """Commit n inserts document n, and writes n into the counter; `acked` of them were answered."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.acked = 0

    async def run(self) -> None:
        while True:
            number = self.acked
            docs = [encode_document({"_id": number, "k": f"k{number % 7}", "pad": "x" * (number * 37 % 200)})]
            await operations.insert(self.database, "things", docs)
            result = await operations.update(self.database, "counters", {"_id": 0}, {"$set": {"n": number}}, upsert=True)
            await settled(self.database, result.seq)
            self.acked += 1
            await self.late(number)
            await trio.lowlevel.checkpoint()


    async def late(self, number: int) -> None:
        if number % 9 == 8:
            result = await operations.update(self.database, "things", {"_id": number - 4}, {"$set": {"late": number}})
            await settled(self.database, result.seq)

    async def resume(self, documents: int) -> None:
        """Go on after so many documents, whatever of the last round is missing."""
        self.acked = documents
        await self.late(documents - 1)


def prefix_of(docs: list[dict], counters: list[dict]) -> int:
    """How many of the writer's rounds these documents are; they must be a state that it went through."""
    numbers = sorted(doc["_id"] for doc in docs)
    assert numbers == list(range(len(numbers))), f"not a prefix: {numbers}"
    done = counters[0]["n"] + 1 if counters else 0
    assert done in (len(numbers), len(numbers) - 1), f"{done} rounds counted, {len(numbers)} documents"
    for doc in docs:
        assert doc["pad"] == "x" * (doc["_id"] * 37 % 200)
        late = doc["_id"] + 4
        if "late" in doc:
            assert doc["late"] == late and late % 9 == 8
        else:
            assert late % 9 != 8 or late >= done - 1, f"{doc} lacks its update, {done} rounds are done"
    return done


async def copied_while_writing(seed: int, steps: int, **changes: object) -> tuple[CopiedDisk, int]:
    """(the copy, rounds acknowledged before it began)"""
    rng = random.Random(seed)
    disk = MemoryDisk()
    mode = rng.choice([SyncMode.SYNC, SyncMode.ASYNC])
    async with opened(disk, sync_mode=mode, **{**SMALL, **changes}) as engine:
        database = await new_database(engine)
        writer = Writer(database)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            wanted = rng.randrange(40)
            while writer.acked < wanted:
                await trio.lowlevel.checkpoint()
            if rng.random() < 0.5:
                await everything(database)
                await operations.count(database, "things", {"k": "k3"})  # from here on k is indexed
            before = writer.acked
            copy = await hot_copy(disk, rng, steps)
            nursery.cancel_scope.cancel()
    return copy, before


async def both(database: Database) -> tuple[list[dict], list[dict]]:
    return await everything(database), await everything(database, "counters")


def clean(disk: MemoryDisk) -> None:
    """But for an index segment that vanished before it was copied: it is rebuilt, and named until the next checkpoints follow (INV-5)."""
    found = [
        finding
        for finding in check_database(disk, "db")
        if finding.severity is not Severity.NOTE and not (".sidx." in finding.file and finding.severity is Severity.WARNING)
    ]
    assert not found, found


@pytest.mark.parametrize("steps", [1, 8, 60])
async def test_a_copy_opens_at_a_prefix_with_all_that_was_acknowledged_before(steps: int) -> None:
    for seed in range(EXAMPLES):
        copy, before = await copied_while_writing(seed, steps)
        async with opened(copy, start=2, **SMALL) as engine:
            database = engine.database("db")
            assert not database.damaged, database.findings
            done = prefix_of(*await both(database))
            by_key = [await operations.count(database, "things", {"k": f"k{key}"}) for key in range(7)]
            assert by_key == [len([n for n in range(sum(by_key)) if n % 7 == key]) for key in range(7)]
            assert done >= before, f"seed {seed}: {before} rounds were acknowledged before the copy, it has {done}"
            writer = Writer(database)
            await writer.resume(sum(by_key))
            async with trio.open_nursery() as nursery:  # and it goes on from there, sealing over the names it was copied with
                nursery.start_soon(writer.run)
                while writer.acked < done + 12:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        clean(copy)
        async with opened(copy, start=3, **SMALL) as engine:
            database = engine.database("db")
            assert not any("is a copy" in finding for finding in database.findings), "it is a directory of its own by now"
            assert prefix_of(*await both(database)) >= done + 12


async def test_without_grace_a_slow_copy_says_what_is_missing() -> None:
    """Never a wrong state: a prefix, or read-only with the commits named, or not opened."""
    refused = 0
    for seed in range(20):
        copy, before = await copied_while_writing(seed, 20, copy_grace_s=0.0)
        async with opened(copy, start=2, **SMALL) as engine:
            if engine.unopened:
                refused += 1
                continue
            database = engine.database("db")
            if database.damaged:
                refused += 1
                assert "twinlog hold" in str(database.refusal or database.findings)
            elif prefix_of(*await both(database)) < before:  # the copying program says that files had vanished: rsync's code 24
                assert copy.vanished, f"seed {seed}: the copy lacks acknowledged commits and nothing says so"
    assert refused, "no copy was slow enough: the test shows nothing"


async def test_a_hold_keeps_everything_and_ends_by_itself(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk, **{**SMALL, "copy_grace_s": 0.0}) as engine:
        database = await new_database(engine)
        now = engine.seams.time_us
        take_hold(disk, "h1", ["db"], now(), 600.0)
        writer = Writer(database)

        async def rounds(count: int) -> None:
            until = writer.acked + count
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.run)
                while writer.acked < until:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            await database.sealing.seal_now()
            await trio.sleep(3)

        await rounds(30)
        assert database.sealing.held and len(disk.list_dir("db/checkpoints")) > 4
        assert disk.list_dir("db/commit")[0].endswith(f"{1:020d}.log")
        assert release_hold(disk, "h1") and not release_hold(disk, "h1")
        await trio.sleep(3)  # without another seal
        assert not database.sealing.held and len(disk.list_dir("db/checkpoints")) == 2


def test_holds_are_bounded_in_number_and_time() -> None:
    disk = MemoryDisk()
    for number in range(HOLDS_MAX):
        take_hold(disk, f"h{number}", [], 1000, 5.0)
    with pytest.raises(Overloaded):
        take_hold(disk, "more", [], 1000, 5.0)
    take_hold(disk, "h3", ["db"], 1000, 50.0)
    with pytest.raises(TwinlogError):
        take_hold(disk, "h4", [], 1000, 10**9)
    assert [hold.id for hold in holds(disk, 6_000_000)] == ["h3"]
    assert holds(disk, 60_000_000) == [] == disk.list_dir("_holds")
    disk.replace_file("_holds/x.json", b"{")
    assert holds(disk, 0) == []


def test_grace_counts_from_when_nothing_needs_a_checkpoint() -> None:
    grace = Grace(10.0)
    assert grace.keeps([1, 2], 0.0) == [1, 2]
    assert grace.keeps([1, 2, 3], 9.0) == [1, 2, 3] and not grace.is_over(9.0)
    assert grace.is_over(10.0) and grace.keeps([1, 2, 3], 10.0) == [3]
    assert Grace(0.0).keeps([1], 0.0) == []


def test_grace_is_bounded_in_log_bytes() -> None:
    segments = [(1, 100), (11, 100), (21, 100), (31, 100)]
    assert within([5, 10, 20], 30, segments, 300) == [5, 10, 20]
    assert within([5, 10, 20], 30, segments, 200) == [10, 20]
    assert within([5, 10, 20], 30, segments, 100) == [20]
    assert within([5, 10], 30, segments, 0) == []


async def test_a_damaged_copy_of_its_only_checkpoint_is_not_taken_for_another_state() -> None:
    copy, _ = await copied_while_writing(5, 1)
    async with opened(copy, start=2, **SMALL) as engine:
        await engine.database("db").sealing.seal_now()
    moved = MemoryDisk()
    moved._inodes = FOREIGN_INODES * 2
    moved.make_dir("db/commit")
    moved.make_dir("db/checkpoints")
    for part in ("db", "db/commit", "db/checkpoints"):
        for name in copy.list_dir(part):
            if name not in ("commit", "checkpoints"):
                data = bytearray(copy.read_file(f"{part}/{name}"))
                if name.endswith(".db") and len(data) > 50:
                    data[len(data) // 2] ^= 1
                moved.replace_file(f"{part}/{name}", bytes(data))
    async with opened(moved, start=3, **SMALL) as engine:
        if "db" in engine.databases:
            assert engine.database("db").damaged or prefix_of(*await both(engine.database("db"))) >= 0
        else:
            with pytest.raises(DamagedRecord):
                engine.database("db")


