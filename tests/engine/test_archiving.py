"""Log archives: a backup is carried forward to any commit or time, along the right branch, and what is missing is named (INV-2, INV-6)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from storage import Database, Engine, MemoryDisk, operations
from storage.backing_up import Backups
from storage.backup import log_archive
from storage.backup.forwarding import ForwardOrder, Reached, carry_forward, plan_forward
from storage.backup.log_archive import Target
from storage.backup.restoring import StageOrder, stage_backup
from storage.backup.shelf import Shelf
from storage.errors import BadRequest, DamagedRecord
from storage.position import Position
from tests.engine.model import everything, insert, new_database, opened, settled

ARCHIVE = "_archive"
OPTIONS = {"archive": ARCHIVE, "archive_interval_s": 1.0, "memtable_records_max": 40}
STAGED = "_seeds/db.restore"


@dataclass
class World:
    """What was written: the state hash and the time after each commit of the branch that is the database now."""

    states: dict[int, str] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)

    async def note(self, database: Database) -> None:
        seq = database.position.seq
        self.states[seq], self.times[seq] = await database.view().state_hash(), database.last_time_us

    async def write(self, database: Database, count: int, rng: random.Random) -> None:
        for _ in range(count):
            number = rng.randrange(30)
            if rng.random() < 0.3:
                deleted = await operations.delete(database, "things", {"_id": number})
                await settled(database, deleted.seq or database.position.seq)
            else:
                change = {"$set": {"v": rng.random(), "pad": "x" * rng.randrange(200)}}
                written = await operations.update(database, "things", {"_id": number}, change, upsert=True)
                await settled(database, written.seq)
            await self.note(database)


def order_of(disk: MemoryDisk, database: Database, directory: str, seq: int, target: Target) -> ForwardOrder:
    root, archive = log_archive.place_of(ARCHIVE, "db", database.uuid)
    return ForwardOrder(base_root="", directory=directory, seq=seq, root=root, archive=archive, uuid=database.uuid.hex(), target=target)


async def archived(database: Database) -> None:
    await database.archiving.catch_up()
    state = database.archiving.state
    assert state is not None and not state.failure and state.seq == database.position.seq


async def restore(engine: Engine, disk: MemoryDisk, name: str, target: Target) -> Reached:
    """As a restore does it: stage, carry forward, replace; then a new reign."""
    database = engine.databases["db"]
    shelf = Shelf.of("db")
    manifest = stage_backup(disk, StageOrder(root="", directory=shelf.path(name), staged=STAGED))
    reached = carry_forward(disk, order_of(disk, database, STAGED, manifest.position.seq, target))
    await engine.replace("db", STAGED)
    opened_now = engine.databases["db"]
    assert opened_now.position == reached.position and opened_now.chain == reached.chain
    return reached


async def test_a_backup_is_carried_forward_to_every_commit_after_it(autojump_clock: object) -> None:
    rng, world = random.Random(1), World()
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        database = await new_database(engine)
        await world.write(database, 60, rng)
        await archived(database)
        made = await Backups(engine).backup("db")
        base = made.manifest.position.seq
        await world.write(database, 120, rng)  # seals in between
        await archived(database)
        last = database.position
        path = Shelf.of("db").path(made.name)
        for seq in (base, base + 1, base + 37, last.seq - 1, last.seq):
            planned = plan_forward(disk, order_of(disk, database, path, base, Target(seq=seq)))
            reached = await restore(engine, disk, made.name, Target(seq=seq))
            assert reached == planned and reached.position.seq == seq
            assert await engine.databases["db"].view().state_hash() == world.states[seq]
        assert (await restore(engine, disk, made.name, Target())).position == last
        order = order_of(disk, engine.databases["db"], path, base, Target(seq=last.seq + 1))
        with pytest.raises(BadRequest, match=f"ends at commit {last.seq}"):
            plan_forward(disk, order)
        with pytest.raises(BadRequest, match="older one"):
            plan_forward(disk, order_of(disk, engine.databases["db"], path, base, Target(seq=base - 1)))


async def test_a_time_leads_to_the_last_commit_at_or_before_it(autojump_clock: object) -> None:
    rng, world = random.Random(2), World()
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        database = await new_database(engine)
        await world.write(database, 10, rng)
        made = await Backups(engine).backup("db")
        base = made.manifest.position.seq
        await world.write(database, 50, rng)
        await trio.sleep(200)  # nothing is written
        path = Shelf.of("db").path(made.name)

        def at(time_us: int) -> int:
            return plan_forward(disk, order_of(disk, database, path, base, Target(time_us=time_us))).position.seq

        for seq in (base + 1, base + 20, max(world.times)):
            assert at(world.times[seq]) == seq
        assert at(world.times[base + 20] - 1) == base + 19 and at(world.times[base + 1] - 1) == base
        with pytest.raises(BadRequest, match="older one"):
            at(world.times[base - 1])
        with pytest.raises(BadRequest, match="complete up to"):
            at(world.times[max(world.times)] + 10**9)
        later = log_archive.read_note(disk, database.archiving.state.directory)["as_of_us"] - 1  # and the note says so
        assert later > world.times[max(world.times)] and at(later) == database.position.seq


async def test_after_a_restore_the_archive_follows_the_new_branch_and_keeps_the_old(autojump_clock: object) -> None:
    rng, world = random.Random(3), World()
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        database = await new_database(engine)
        await world.write(database, 10, rng)
        backups = Backups(engine)
        first = await backups.backup("db")
        base = first.manifest.position.seq
        await world.write(database, 40, rng)
        await archived(database)
        old_branch = dict(world.states)
        cut = base + 15
        await restore(engine, disk, first.name, Target(seq=cut))
        database = engine.databases["db"]
        await settled(database, database.begin_reign(2))
        await world.note(database)
        await world.write(database, 30, rng)
        await archived(database)
        end = database.position.seq
        assert world.states[cut + 5] != old_branch[cut + 5]
        for seq in (cut - 1, cut, cut + 1, cut + 5, end):
            reached = await restore(engine, disk, first.name, Target(seq=seq))
            assert await engine.databases["db"].view().state_hash() == world.states[seq]
            assert reached.position == Position(2 if seq > cut else 1, seq)


async def test_an_archive_that_was_cut_off_goes_on_in_a_new_file(autojump_clock: object) -> None:
    rng, world = random.Random(4), World()
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        database = await new_database(engine)
        await world.write(database, 20, rng)
        made = await Backups(engine).backup("db")
        await world.write(database, 20, rng)
        await archived(database)
        directory = database.archiving.state.directory
    (file,) = [name for name in disk.list_dir(directory) if name.endswith(".log")]
    disk.open_append(f"{directory}/{file}").cut(disk.size(f"{directory}/{file}") - 9)  # as a power cut of the archive's disk does
    async with opened(disk, start=2, **OPTIONS) as engine:
        database = engine.databases["db"]
        await archived(database)
        await world.write(database, 20, rng)
        await archived(database)
        assert len([name for name in disk.list_dir(directory) if name.endswith(".log")]) == 2
        seq = database.position.seq
        await restore(engine, disk, made.name, Target(seq=seq))
        assert await engine.databases["db"].view().state_hash() == world.states[seq]


@pytest.mark.parametrize("harm", ["a file is gone", "a byte is wrong", "another database's"])
async def test_what_is_missing_is_named_and_never_jumped_over(harm: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr(log_archive, "FILE_BYTES_MAX", 2_000)
    rng, world = random.Random(5), World()
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        database = await new_database(engine)
        await world.write(database, 10, rng)
        made = await Backups(engine).backup("db")
        base = made.manifest.position.seq
        for _ in range(12):
            await world.write(database, 5, rng)
            await archived(database)
        directory = database.archiving.state.directory
        found = [one for one in log_archive.stretches(disk, directory, database.uuid, after_seq=base) if one.last_seq > base]
        assert len(found) > 3
        harmed = found[len(found) // 2]
        if harm == "a file is gone":
            disk.remove(harmed.path)
        elif harm == "a byte is wrong":
            disk.overwrite(harmed.path, harmed.end - 5, b"\xff")
        else:
            disk.overwrite(harmed.path, 20, b"\xff")
        path, last = Shelf.of("db").path(made.name), database.position.seq
        for target in (Target(seq=last), Target(), Target(time_us=world.times[last])):
            with pytest.raises(BadRequest, match=r"commits \d+ to \d+ are not in the archive"):
                plan_forward(disk, order_of(disk, database, path, base, target))
        assert plan_forward(disk, order_of(disk, database, path, base, Target(seq=base + 2))).position.seq == base + 2, "before the break"
        assert database.position.seq == last and not disk.exists(STAGED)


async def test_log_that_is_not_archived_is_kept_up_to_the_bound_and_a_gap_is_counted(autojump_clock: object) -> None:
    rng, world = random.Random(6), World()
    disk = MemoryDisk()
    options = {**OPTIONS, "archive_interval_s": 10_000.0, "log_segment_bytes": 2_000, "log_keep_bytes": 30_000}
    async with opened(disk, **options) as engine:
        database = await new_database(engine)
        await world.write(database, 100, rng)
        await database.sealing.seal_now()
        await database.sealing.remove_unneeded()
        assert database.log.segments[0][1] == 1, "nothing is archived, so everything is kept"
        await world.write(database, 600, rng)
        await database.sealing.seal_now()
        await database.sealing.remove_unneeded()
        assert database.log.segments[0][1] > 1, "up to the bound"
    async with opened(disk, start=2, **options) as engine:
        database = engine.databases["db"]
        first = database.log.segments[0][1]
        await archived(database)
        found = log_archive.stretches(disk, database.archiving.state.directory, database.uuid)
        assert found[0].first_seq == first and found[-1].last_seq == database.position.seq


async def test_commits_that_were_gone_before_they_were_archived_are_counted(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr("storage.commit.log.RECENT_BYTES_MAX", 1_000)
    rng, world = random.Random(9), World()
    disk = MemoryDisk()
    options = {**OPTIONS, "archive_interval_s": 10_000.0, "log_segment_bytes": 2_000, "log_keep_bytes": 1}
    async with opened(disk, **options) as engine:
        database = await new_database(engine)
        await world.write(database, 10, rng)
        made = await Backups(engine).backup("db")
        await archived(database)
        held = database.position.seq
        await world.write(database, 200, rng)
        for _ in range(2):
            await world.write(database, 10, rng)
            await database.sealing.seal_now()
        await database.sealing.remove_unneeded()
        first = database.log.segments[0][1]
        assert first > held + 1
        await archived(database)
        assert database.archiving.state.gaps == first - 1 - held
        order = order_of(disk, database, Shelf.of("db").path(made.name), made.manifest.position.seq, Target())
        with pytest.raises(BadRequest, match=f"commits {held + 1} to {first - 1} are not in the archive"):
            plan_forward(disk, order)


async def test_an_archive_that_cannot_be_written_fails_no_write_and_goes_on_later(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    rng, world = random.Random(7), World()
    disk = MemoryDisk()

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with opened(disk, **OPTIONS) as engine:
        database = await new_database(engine)
        await world.write(database, 5, rng)
        backup = await Backups(engine).backup("db")
        with monkeypatch.context() as patched:
            patched.setattr(log_archive.ArchiveWriter, "append", failing)
            await world.write(database, 20, rng)
            await trio.sleep(30)
            state = database.archiving.state
            assert "No space" in state.failure and state.failing_since_us and len(await everything(database)) > 0
        await trio.sleep(200)
        assert not state.failure and state.seq == database.position.seq
        await restore(engine, disk, backup.name, Target())
        assert await engine.databases["db"].view().state_hash() == world.states[max(world.states)]


async def test_files_that_no_backup_needs_are_pruned(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr(log_archive, "FILE_BYTES_MAX", 2_000)
    rng, world = random.Random(8), World()
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        database = await new_database(engine)
        for _ in range(10):
            await world.write(database, 5, rng)
            await archived(database)
        made = await Backups(engine).backup("db")
        base = made.manifest.position.seq
        for _ in range(4):
            await world.write(database, 5, rng)
            await archived(database)
        directory = database.archiving.state.directory
        gone = log_archive.unneeded(disk, directory, database.uuid, base)
        log_archive.remove(disk, directory, gone)
        assert len(gone) >= 2
        await world.write(database, 5, rng)
        await archived(database)
        await restore(engine, disk, made.name, Target(seq=base + 12))
        assert await engine.databases["db"].view().state_hash() == world.states[base + 12]


async def test_a_damaged_copy_of_the_log_is_found_before_anything_is_touched(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk, **OPTIONS) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        made = await Backups(engine).backup("db")
        await insert(database, {"_id": 2})
        await archived(database)
        monkeypatch.setattr("storage.backup.log_archive.frames_of", lambda disk, part: b"\xff" * 100)
        with pytest.raises(DamagedRecord, match="nothing was touched"):
            await restore(engine, disk, made.name, Target())
        assert len(await everything(engine.databases["db"])) == 2
