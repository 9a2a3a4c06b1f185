"""Compaction over an engine's life: content, state hash, reads, scans and index queries are the same before, during and after, for new
views and for old ones; whatever is written, sealed, reopened, rewound or copied meanwhile."""

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

from storage import INDEX_LOCK_FILE, Database, Engine, MemoryDisk, WorkerProcess, encode_document, operations, real_seams
from storage.check import Severity, check_database
from storage.compacting import is_worthwhile
from storage.errors import DamagedRecord, DiskFull, ShuttingDown
from storage.options import EngineOptions
from storage.seams import Seams, WorkHere
from storage.shard import checkpoint as checkpoints
from storage.shard.checkpoint import LogFile, ShardFiles
from storage.shard.compaction import compact, live_bytes, stale_bytes
from storage.shard.seal import seal
from storage.values.keys import canonical
from storage.views import View
from tests.engine.model import everything, insert, memory_seams, new_database, opened, options, settled
from tests.engine.test_copies import ship, standby_of
from tests.engine.test_indexing import FIELDS, document, rows_by_parts, rows_by_scan
from tests.sim.disk import Platter, SimCrash

SMALL = {"memtable_records_max": 60, "index_rows_min": 0, "compaction": False}


def run(play, *args) -> object:
    return trio.run(play, *args, clock=trio.testing.MockClock(autojump_threshold=0))


def errors_of(disk: MemoryDisk) -> list:
    return [str(finding) for finding in check_database(disk, "db") if finding.severity is not Severity.NOTE]


def orphans_of(disk: MemoryDisk) -> list[str]:
    kept = [checkpoints.load(disk, "db", seq) for seq in checkpoints.list_seqs(disk, "db")]
    return checkpoints.orphans(disk, "db", kept)


async def grown(database: Database, rng: random.Random, *, documents: int = 200, updates: int = 300) -> None:
    """Most of it stale, in several seals, all fields indexed."""
    await insert(database, *(document(rng, number) for number in range(documents)))
    await database.sealing.seal_now()
    database.indexing.want(database.catalog.ids["things"], FIELDS)
    for _ in range(updates):
        number = rng.randrange(documents)
        result = await operations.replace_one(database, "things", {"_id": number}, encode_document(document(rng, number)), upsert=True)
        await settled(database, result.seq)
    result = await operations.delete(database, "things", {"_id": {"$lt": documents // 10}}, many=True)
    await settled(database, result.seq)
    await database.sealing.seal_now()
    await database.indexing.wait_built()


async def seen_by(view: View) -> tuple:
    """Everything a view shows, by every way there is."""
    collection = view.catalog.ids["things"]
    rows = await rows_by_scan(view, collection)
    parts = await rows_by_parts(view, collection)
    assert parts is None or parts == rows
    for key, data in rows[::7]:
        assert await view.get(collection, key) == data
    assert await view.count(collection) == len(rows)
    return rows, await view.state_hash()


def test_everything_is_the_same_before_and_after_and_the_space_is_free():
    async def play() -> None:
        disk = MemoryDisk()
        async with opened(disk, **SMALL) as engine:
            database = await new_database(engine)
            await grown(database, random.Random(1))
            view = database.view()
            before = await seen_by(view)
            stale = database.compacting.progress.stale_bytes
            size = sum(disk.size(f"db/{name}") for name in disk.list_dir("db") if name.endswith(".db"))
            builds, failures = database.indexing.builds, database.indexing.failures
            report = await database.compacting.compact_now()
            assert report.shards == 2 and report.findings == ()
            assert report.bytes_before - report.bytes_after >= stale > 0
            after = database.view()
            assert after.has_index(database.catalog.ids["things"], {"a": 1}), "queries by index go on at once"
            assert await seen_by(view) == before == await seen_by(after)
            assert (database.indexing.builds, database.indexing.failures) == (builds, failures)
            progress = database.compacting.progress
            assert (progress.shard, progress.runs, progress.stale_bytes, progress.last) == (None, 2, 0, report)
            left = sum(disk.size(f"db/{name}") for name in disk.list_dir("db") if name.endswith(".db"))
            assert size - left >= stale, "the old files are gone"
            assert not orphans_of(disk) and not errors_of(disk)
            assert (await database.compacting.compact_now()).shards == 0, "there is nothing to do twice"
        async with opened(disk, start=2, **SMALL) as engine:
            database = engine.databases["db"]
            await database.indexing.wait_built()
            assert await seen_by(database.view()) == before

    run(play)


class World:
    """One database under random work that has compactions in it, and some views that were taken on the way."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = MemoryDisk()
        self.next_id = self.opened = 0
        self.contents: dict[int, tuple] = {}  # by seq, as it was seen first
        self.compactions = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Engine]:
        self.opened += 1
        async with opened(self.disk, start=self.opened, **SMALL) as engine:
            database = engine.databases.get("db") or await new_database(engine)
            if self.opened > 1:
                await settled(database, database.begin_reign(database.position.epoch + 1))
            yield engine

    async def work(self, engine: Engine) -> None:
        database, rng = engine.databases["db"], self.rng
        match rng.randrange(10):
            case 0 | 1:
                count = rng.choice([1, 3, 40])
                await insert(database, *(document(rng, self.next_id + i) for i in range(count)))
                self.next_id += count
            case 2 | 3 | 4 if self.next_id:
                for number in [rng.randrange(self.next_id) for _ in range(rng.choice([1, 10, 30]))]:
                    new = encode_document(document(rng, number))
                    await settled(database, (await operations.replace_one(database, "things", {"_id": number}, new, upsert=True)).seq)
            case 5 if self.next_id:
                wanted = {"_id": {"$mod": [rng.randrange(2, 5), 0]}}
                await settled(database, (await operations.delete(database, "things", wanted, many=True)).seq)
            case 6 if "things" in database.catalog.ids:
                path = rng.choice(list(FIELDS))
                database.indexing.want(database.catalog.ids["things"], {path: FIELDS[path]})
            case 7:
                await database.sealing.seal_now()
            case 8 if rng.random() < 0.3 and "things" in database.catalog.ids:
                await settled(database, (await operations.drop_collection(database, "things")).seq)
            case _:
                await trio.sleep(0.001)

    async def check(self, view: View, database: Database) -> None:
        if "things" in view.catalog.ids:
            found = await seen_by(view)
            assert self.contents.setdefault(view.seq, found) == found, "what a commit shows stays"
        assert not database.indexing.failures, database.indexing.last_error


async def play(seed: int) -> int:
    """How many shards were compacted."""
    world = World(seed)
    for _ in range(3):
        async with world.open() as engine:
            views: list[View] = []
            for _ in range(8):
                database = engine.databases["db"]
                async with trio.open_nursery() as nursery:
                    if world.rng.random() < 0.5:
                        nursery.start_soon(database.compacting.compact_now)
                    for _ in range(world.rng.randrange(6)):
                        await world.work(engine)
                        views.append(database.view())
                        await world.check(world.rng.choice(views), database)
                await world.check(database.view(), database)
                if world.rng.random() < 0.2:
                    await database.indexing.wait_built()
                await check_live_bytes(database)
                world.compactions += database.compacting.progress.runs
                if world.rng.random() < 0.15:
                    await rewound(world, engine)
                    views.clear()
        assert not errors_of(world.disk)
    return world.compactions


async def check_live_bytes(database: Database) -> None:
    """What manifests say is stale is what is stale."""
    shards = database.sealing.shards
    for shard in shards.shards if shards is not None else ():
        named = np.array([0, *(entry.id for entry in shards.checkpoint.collections.values())], np.uint32)
        assert shard.files.live == live_bytes(shard, named)


async def rewound(world: World, engine: Engine) -> None:
    """Go back to a commit that the log still reaches; what came after it never was."""
    to_seq = world.rng.randint(max(1, engine.databases["db"].position.seq - 30), engine.databases["db"].position.seq)
    await engine.rewind("db", to_seq)
    database = engine.databases["db"]
    for seq in [seq for seq in world.contents if seq > database.position.seq]:
        del world.contents[seq]
    await world.check(database.view(), database)
    await settled(database, database.begin_reign(database.position.epoch + 1))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_view_shows_what_it_showed(seed: int):
    run(play, seed)


@pytest.mark.parametrize("seed", range(2))
def test_the_test_sees_compactions(seed: int):
    assert run(play, seed) > 5


def test_it_runs_by_itself_when_enough_is_stale():
    async def play() -> None:
        disk = MemoryDisk()
        async with opened(disk, memtable_records_max=60, compact_min_bytes=1000, compact_stale_ratio=0.5) as engine:
            database = await new_database(engine)
            for value in range(30):
                await insert(database, *({"_id": f"{value}.{n}", "pad": "x" * 50} for n in range(10)))
                await database.sealing.seal_now()
                result = await operations.delete(database, "things", {}, many=True)
                await settled(database, result.seq)
            await insert(database, {"_id": 1})
            await database.sealing.seal_now()
            await trio.sleep(60)
            progress = database.compacting.progress
            assert progress.runs and progress.last is not None
            assert all(not is_worthwhile(shard, 0.5, 1000) for shard in database.sealing.checkpoint.shards)
            assert await everything(database) == [{"_id": 1}]
            assert not orphans_of(disk) and not errors_of(disk)

    run(play)


@pytest.mark.parametrize("changed", [{"compaction": False}, {"compact_min_bytes": 10**6}, {"compact_stale_ratio": 0.99}])
def test_it_does_not_when_told_otherwise(changed: dict):
    async def play() -> None:
        limits = {"compact_min_bytes": 1000, "compact_stale_ratio": 0.5, **changed}
        async with opened(MemoryDisk(), memtable_records_max=60, **limits) as engine:
            database = await new_database(engine)
            await insert(database, *({"_id": n, "pad": "x" * 50} for n in range(300)))
            await settled(database, (await operations.delete(database, "things", {"_id": {"$gte": 60}}, many=True)).seq)
            await database.sealing.seal_now()
            await trio.sleep(60)
            assert database.compacting.progress.runs == 0

    run(play)


def test_what_is_worth_it():
    def shard(total: int, live: int | None) -> ShardFiles:
        return ShardFiles((LogFile("shard_000.db", 1, 64 + total, 0),), (), live)

    assert stale_bytes(shard(100, 40)) == 60 and stale_bytes(shard(100, None)) is None
    assert is_worthwhile(shard(100, 50), 0.5, 100)
    assert not is_worthwhile(shard(100, 51), 0.5, 100)
    assert not is_worthwhile(shard(99, 0), 0.5, 100)
    assert not is_worthwhile(shard(100, None), 0.0, 0) and not is_worthwhile(ShardFiles(live=0), 0.0, 0)
    assert not is_worthwhile(shard(100, 100), 0.0, 0), "nothing is stale"
    assert EngineOptions().compact_min_bytes == 64 * 2**20


class HeldWorkers:
    """Workers whose compactions wait until they are let go, and whose seals may be made to fail."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._here = WorkHere(disk)
        self.began, self.go = trio.Event(), trio.Event()
        self.failing_publications = 0

    async def run(self, job, *args):
        if job is compact:
            self.began.set()
            await self.go.wait()
        if job is seal and args[1].compacted and self.failing_publications:
            self.failing_publications -= 1
            raise DiskFull("no space left")
        return await self._here.run(job, *args)

    def close(self) -> None:
        pass


@asynccontextmanager
async def held(disk: MemoryDisk, **changes: object) -> AsyncIterator[tuple[Engine, HeldWorkers]]:
    workers, seams = HeldWorkers(disk), memory_seams(disk)
    seams = Seams(disk, seams.time_us, seams.random_bytes, workers)
    async with Engine.open(seams, options=options(**{**SMALL, **changes})) as engine:
        yield engine, workers


def test_seals_go_on_while_it_runs():
    async def play() -> None:
        disk = MemoryDisk()
        async with held(disk) as (engine, workers), trio.open_nursery() as nursery:
            database = await new_database(engine)
            await grown(database, random.Random(2))
            ended = trio.Event()

            async def ask() -> None:
                assert (await database.compacting.compact_now()).shards == 2
                ended.set()

            nursery.start_soon(ask)
            await workers.began.wait()
            assert database.compacting.progress.shard is not None and database.compacting.progress.bytes_total
            for value in range(5):
                await insert(database, *({"_id": f"{value}.{n}"} for n in range(70)))
                await database.sealing.seal_now()
            before = await seen_by(database.view())
            workers.go.set()
            await ended.wait()
            assert await seen_by(database.view()) == before
            assert not orphans_of(disk) and not errors_of(disk)

    run(play)


def test_a_seal_that_cannot_take_it_up_goes_on_without():
    async def play() -> None:
        disk = MemoryDisk()
        async with held(disk) as (engine, workers):
            database = await new_database(engine)
            await grown(database, random.Random(3))
            before = await seen_by(database.view())
            workers.failing_publications = 1
            workers.go.set()
            with pytest.raises(Exception, match="thrown away"):
                await database.compacting.compact_now()
            progress = database.compacting.progress
            assert (progress.runs, progress.failures) == (0, 1) and progress.last_error
            assert (await database.compacting.compact_now()).shards == 2
            rows, digest = await seen_by(database.view())
            assert (rows, digest) == before
            assert not orphans_of(disk) and not errors_of(disk)

    run(play)


def test_closing_cuts_it_off_and_the_next_opening_cleans_up():
    async def play() -> None:
        disk = MemoryDisk()
        async with held(disk) as (engine, workers), trio.open_nursery() as nursery:
            database = await new_database(engine)
            await grown(database, random.Random(4))
            before = await everything(database)

            async def ask() -> None:
                with pytest.raises(ShuttingDown):
                    await database.compacting.compact_now()

            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await workers.began.wait()
            disk.create("db/shard_000.g2.db").append(b"half of it")
            disk.create("db/shard_000.g2.moves").append(b"")
            await engine._close("db")
            with pytest.raises(ShuttingDown):
                await database.compacting.compact_now()
        assert orphans_of(disk)
        async with opened(disk, start=2, **SMALL) as engine:
            database = engine.databases["db"]
            await trio.sleep(1)
            assert not orphans_of(disk)
            assert await everything(database) == before

    run(play)


def test_no_room_no_compaction():
    async def play() -> None:
        disk = MemoryDisk()
        async with opened(disk, **SMALL) as engine:
            database = await new_database(engine)
            await grown(database, random.Random(5))
            disk.free_bytes = lambda: 1000
            files = disk.list_dir("db")
            with pytest.raises(DiskFull, match="compaction needs"):
                await database.compacting.compact_now()
            assert disk.list_dir("db") == files and len(database.findings) == 1

    run(play)


def test_a_damaged_live_record_leaves_its_shard_alone():
    async def play() -> None:
        disk = MemoryDisk()
        async with opened(disk, cache_bytes=0, **SMALL) as engine:
            database = await new_database(engine)
            await grown(database, random.Random(6))
            shards, collection = database.sealing.shards, database.catalog.ids["things"]
            key = canonical(199)
            number = next(n for n, shard in enumerate(shards.shards) if shards._hash_key(collection, key) % 2 == n)
            location = shards.find_location(collection, key)
            name = shards.shards[number].log_of(location).path
            flip(disk, name, (location & (2**48 - 1)) + 41)
            report = await database.compacting.compact_now()
            assert report.shards == 1 and len(report.findings) == 1 and f"shard {number}" in report.findings[0]
            assert report.findings[0] in database.findings
            assert stale_bytes(database.sealing.checkpoint.shards[number])
            assert [log.file for log in database.sealing.checkpoint.shards[number].logs][0] == f"shard_00{number}.db"
            with pytest.raises(DamagedRecord):
                await database.view().get(collection, key)

    run(play)


def flip(disk: MemoryDisk, name: str, at: int) -> None:
    """In the file that is open, too."""
    disk._files[name].data[at] ^= 1


def test_pins_and_the_floor_keep_old_files_until_they_are_let_go():
    async def play() -> None:
        disk = MemoryDisk()
        async with opened(disk, **SMALL) as engine:
            database = await new_database(engine)
            await grown(database, random.Random(7))
            pin = await database.pin_checkpoint()
            held_by_pin = {name: disk.read_file(f"db/{name}")[:length] for name, length in pin.files}
            await database.compacting.compact_now()
            await insert(database, {"_id": "more"})
            await database.compacting.compact_now()
            for name, data in held_by_pin.items():
                assert await pin.read(name, 0, len(data)) == data
            pin.release()
            database.set_floor(database.sealing.checkpoint.seq)
            at_floor = dict(checkpoints.files_of(database.sealing.checkpoint))
            for number in range(3):
                await grown(database, random.Random(number), updates=30)
                await database.compacting.compact_now()
            assert not any(disk.exists(f"db/{name}") for name in held_by_pin.keys() - at_floor.keys())
            assert all(disk.exists(f"db/{name}") for name in at_floor)
            database.set_floor(database.position.seq)
            for number in range(3):
                await insert(database, {"_id": f"last {number}"})
                await database.sealing.seal_now()
            assert not orphans_of(disk) and not errors_of(disk)
            assert not disk.exists("db/shard_000.db")

    run(play)


def test_a_standby_compacts_by_itself_and_stays_equal():
    async def play() -> None:
        rng = random.Random(8)
        here_disk, there_disk = MemoryDisk(), MemoryDisk()
        async with opened(here_disk, **SMALL) as here, opened(there_disk, start=2, **SMALL) as there:
            source = await new_database(here)
            target = await standby_of(there, source)
            target.refuse_writes(ShuttingDown("a standby takes no writes"))
            await grown(source, rng)
            await ship(source, target)
            done = trio.Event()

            async def compact_there() -> None:
                assert (await target.compacting.compact_now()).shards == 2
                done.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(compact_there)
                number = 0
                while not done.is_set():
                    await trio.sleep(0.1)
                    await insert(source, {"_id": f"while {number}"})
                    await ship(source, target)
                    number += 1
            assert number > 0, "without a commit nothing is published there"
            await ship(source, target)
            assert (target.position, target.chain) == (source.position, source.chain)
            assert await target.view().state_hash() == await source.view().state_hash()
            assert await everything(target) == await everything(source)
            assert source.compacting.progress.runs == 0

    run(play)


def test_a_compacted_database_is_seeded_like_any_other():
    async def play() -> None:
        async with opened(MemoryDisk(), **SMALL) as here, opened(MemoryDisk(), start=2, **SMALL) as there:
            source = await new_database(here)
            await grown(source, random.Random(9))
            await source.compacting.compact_now()
            pin = await source.pin_checkpoint()
            target = await there.begin_seed("db", source.uuid, source.options, pin.manifest)
            for file, have in (await target.missing()).items():
                length = dict(pin.files)[file]
                await target.write(file, have, await pin.read(file, have, length))
            await target.finish()
            assert await everything(there.databases["db"]) == await everything(source)
            assert await there.databases["db"].view().state_hash() == await source.view().state_hash()

    run(play)


def test_after_damage_of_the_newest_checkpoint_the_one_before_opens():
    async def play() -> None:
        disk = MemoryDisk()
        async with opened(disk, **SMALL) as engine:
            database = await new_database(engine)
            await grown(database, random.Random(10))
            await database.compacting.compact_now()
            await insert(database, {"_id": "after"})
            await database.sealing.seal_now()
            before = await everything(database)
        disk.replace_file(checkpoints.path_of("db", checkpoints.list_seqs(disk, "db")[-1]), b"{}")
        async with opened(disk, start=2, **SMALL) as engine:
            database = engine.databases["db"]
            assert await everything(database) == before
            await settled(database, database.begin_reign(2))
            await database.compacting.compact_now()
            assert await everything(database) == before

    run(play)


def crashed_in(error: BaseException) -> bool:
    """Whether an error is that of a disk that is gone, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(crashed_in(each) for each in error.exceptions)
    return isinstance(error, (SimCrash, trio.Cancelled))


@pytest.mark.parametrize("seed", range(20))
def test_power_cut_at_any_change_of_a_round(seed: int):
    """Jobs, publications, MARKs, seals and clean-ups of a whole round, cut somewhere; all of it acknowledged in sync mode."""
    rng = random.Random(seed)
    platter = Platter(rng)
    disk = platter.mount()
    before: list[tuple] = []

    async def work() -> None:
        async with opened(disk, **SMALL) as engine:
            database = await new_database(engine)
            await grown(database, rng, documents=30, updates=60)
            before.append(await seen_by(database.view()))
            disk.crash_in(rng.randrange(180))
            await database.compacting.compact_now()
            disk.crash()

    try:
        run(work)
    except BaseException as error:
        if not crashed_in(error):
            raise
    platter.power_cut()
    mounted = platter.mount()

    async def look() -> None:
        async with opened(mounted, start=2, **SMALL) as engine:
            database = engine.databases["db"]
            assert await seen_by(database.view()) == before[0]
            await settled(database, database.begin_reign(2))
            await database.compacting.compact_now()
            await database.indexing.wait_built()
            assert await seen_by(database.view()) == before[0]
            assert not orphans_of(mounted)
        assert not errors_of(mounted)

    run(look)


async def test_in_worker_processes_over_real_files(tmp_path):
    workers = [WorkerProcess(tmp_path), WorkerProcess(tmp_path, INDEX_LOCK_FILE)]
    try:
        async with Engine.open(real_seams(tmp_path, *workers), options=options(**SMALL)) as engine:
            database = await new_database(engine)
            await grown(database, random.Random(11))
            before = await seen_by(database.view())
            report = await database.compacting.compact_now()
            assert report.shards == 2 and report.bytes_after < report.bytes_before
            assert await seen_by(database.view()) == before
            names = [path.name for path in (tmp_path / "db").iterdir() if path.name.startswith("shard_")]
            assert sorted(name for name in names if name.endswith((".db", ".moves"))) == ["shard_000.g2.db", "shard_001.g2.db"]
    finally:
        for worker in workers:
            await worker.aclose()
