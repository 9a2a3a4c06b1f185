"""Log archives in a bucket, encrypted, and both: each interval's commits are a file; restores take the right ones and download no more than they need."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio

from storage import Database, MemoryDisk
from storage.backing_up import Backups
from storage.backup import archive_heads, log_archive
from storage.backup.log_archive import Target
from storage.backup.places import other_disk
from storage.errors import BadRequest, DamagedRecord
from tests.engine.model import everything, insert, new_database, opened, settled

from .conftest import UNAVAILABLE, Place, Store

WAIT_S = 120.0


def options(place: Place) -> dict[str, object]:
    return {"archive": place.path, "backup_key_file": place.key_file, "backup_path": place.path, "archive_interval_s": 3600.0}


def archive_of(database: Database, path: str, key_file: str):
    root, directory = log_archive.place_of(path, "db", database.uuid, key_file)
    return other_disk(MemoryDisk(), root), directory


async def write(database: Database, states: dict[int, str], passes: int, rng: random.Random) -> None:
    """Each pass some commits, and one of the archiver."""
    for _ in range(passes):
        for _ in range(rng.randrange(1, 5)):
            await insert(database, {"_id": database.position.seq, "v": rng.random(), "pad": "nobody shall read this" * rng.randrange(9)})
            states[database.position.seq] = await database.view().state_hash()
        await database.archiving.catch_up()
        assert not database.archiving.state.failure and database.archiving.state.seq == database.position.seq


async def test_restores_to_every_moment(place: Place) -> None:
    rng, states = random.Random(1), {}
    async with opened(MemoryDisk(), **options(place)) as engine:
        database = await new_database(engine)
        await write(database, states, 3, rng)
        backups = Backups(engine)
        made = await backups.backup("db")
        base = made.manifest.position.seq
        await write(database, states, 12, rng)
        last = database.position.seq
        files = [name for name in place.names() if name.endswith(".log")]
        assert len(files) == 15, "a file for each pass"
        if place.key_file:
            assert not any(b"nobody shall" in place.read(name) for name in files)
        for seq in (base, base + 1, (base + last) // 2, last - 1, last):
            planned = await backups.explained("db", "", Target(seq=seq))
            assert planned["seq"] == seq and planned["commits"] == seq - base
            done = await backups.restore("db", made.name, target=Target(seq=seq), new_name=f"to{seq}")
            assert done.reached.position.seq == seq and await done.database.view().state_hash() == states[seq]
        times = {one.first_seq: one.first_time_us for one in log_archive.stretches(*archive_of(database, place.path, place.key_file), database.uuid)}
        for seq in [seq for seq in times if seq > base]:
            assert (await backups.explained("db", made.name, Target(time_us=times[seq])))["seq"] == seq
            assert (await backups.explained("db", made.name, Target(time_us=times[seq] - 1)))["seq"] == seq - 1
        with pytest.raises(BadRequest, match=f"ends at commit {last}"):
            await backups.explained("db", made.name, Target(seq=last + 1))


async def test_what_no_backup_needs_is_pruned_and_every_later_moment_stays(place: Place) -> None:
    rng, states = random.Random(2), {}
    async with opened(MemoryDisk(), **options(place)) as engine:
        database = await new_database(engine)
        await write(database, states, 6, rng)
        backups = Backups(engine)
        made = await backups.backup("db")
        base = made.manifest.position.seq
        await write(database, states, 4, rng)
        before = sorted(name for name in place.names() if name.endswith(".log"))
        assert len(before) == 10
        told = await backups.prune("db", dry_run=True)
        assert (told.files, told.seq, told.needed_by) == (6, base, made.name)
        assert sorted(name for name in place.names() if name.endswith(".log")) == before
        assert (await backups.prune("db")).files == 6
        assert sorted(name for name in place.names() if name.endswith(".log")) == before[6:]
        for seq in range(base, database.position.seq + 1):
            done = await backups.restore("db", made.name, target=Target(seq=seq), new_name=f"to{seq}")
            assert await done.database.view().state_hash() == states[seq]
        await write(database, states, 1, rng)
        assert len([name for name in place.names() if name.endswith(".log")]) == 5, "and it is archived on"


async def test_it_goes_on_after_a_restart_and_after_a_restore(place: Place) -> None:
    rng, states = random.Random(2), {}
    disk = MemoryDisk()
    async with opened(disk, **options(place)) as engine:
        database = await new_database(engine)
        await write(database, states, 4, rng)
        made = await Backups(engine).backup("db")
    async with opened(disk, start=2, **options(place)) as engine:
        database, backups = engine.databases["db"], Backups(engine)
        await settled(database, database.begin_reign(2))
        await write(database, states, 4, rng)
        cut = made.manifest.position.seq + 2
        await backups.restore("db", made.name, target=Target(seq=cut))
        database = engine.databases["db"]
        await settled(database, database.begin_reign(3))
        states[database.position.seq] = await database.view().state_hash()
        await write(database, states, 4, rng)
        end = database.position.seq
        for seq in (cut, cut + 1, end):
            done = await backups.restore("db", made.name, target=Target(seq=seq), new_name=f"to{seq}")
            assert await done.database.view().state_hash() == states[seq], "of the branch that is the database now"


async def test_a_missing_or_damaged_file_is_named_and_nothing_is_touched(place: Place) -> None:
    rng, states = random.Random(3), {}
    async with opened(MemoryDisk(), **options(place)) as engine:
        database = await new_database(engine)
        await write(database, states, 1, rng)
        backups = Backups(engine)
        made = await backups.backup("db")
        await write(database, states, 8, rng)
        files = sorted(name for name in place.names() if name.endswith(".log"))
        victim = files[4]
        good = place.read(victim)
        before = await database.view().state_hash()
        for spot in (0, 50, 70, 100, len(good) // 2, len(good) - 1):
            place.write(victim, good[:spot] + bytes([good[spot] ^ 4]) + good[spot + 1 :])
            with pytest.raises((DamagedRecord, BadRequest)):
                await backups.restore("db", made.name, target=Target(seq=database.position.seq))
        if place.key_file:  # commits of a file that is in its place and whole, but was another's
            place.write(victim, place.read(files[5]))
            with pytest.raises((DamagedRecord, BadRequest)):
                await backups.restore("db", made.name, target=Target(seq=database.position.seq))
        place.remove(victim)
        with pytest.raises((DamagedRecord, BadRequest)):
            await backups.restore("db", made.name, target=Target(seq=database.position.seq))
        assert engine.databases["db"] is database and await database.view().state_hash() == before
        assert await backups.list("db", safety=True) == []
        place.write(victim, good)
        done = await backups.restore("db", made.name, target=Target(seq=database.position.seq), new_name="whole")
        assert await done.database.view().state_hash() == before


async def test_a_gap_is_named_also_where_nothing_but_heads_is_read(place: Place) -> None:
    rng, states = random.Random(4), {}
    async with opened(MemoryDisk(), **options(place)) as engine:
        database = await new_database(engine)
        await write(database, states, 1, rng)
        backups = Backups(engine)
        made = await backups.backup("db")
        await write(database, states, 2, rng)
        last = database.position.seq
        disk, directory = archive_of(database, place.path, place.key_file)
        await insert(database, {"_id": "never archived"})
        archive_heads.mark_gap(disk, directory, database.position.seq + 1)
        database.archiving._next_seq = database.position.seq + 1  # as when the log is gone
        await insert(database, {"_id": "after it"})
        await write(database, states, 2, rng)
        with pytest.raises(BadRequest, match=f"commits {last + 1} to {last + 1} are not in the archive"):
            await backups.explained("db", made.name, Target(seq=database.position.seq))
        assert (await backups.explained("db", made.name, Target(seq=last)))["seq"] == last


async def test_a_plan_reads_beginnings_and_a_restore_each_body_once(store: Store) -> None:
    rng, states = random.Random(5), {}
    url = store.url()
    async with opened(MemoryDisk(), archive=url, archive_interval_s=3600.0) as engine:
        database = await new_database(engine)
        await write(database, states, 1, rng)
        backups = Backups(engine)
        made = await backups.backup("db")
        await write(database, states, 40, rng)
        store.requests.clear()
        await backups.explained("db", made.name, Target(seq=database.position.seq))
        bodies = sum(method == "GET" and path.endswith(".log") for method, path in store.requests)
        assert bodies <= 42, "one small request for each file, and one for the end of the reign"
        store.requests.clear()
        await database.archiving.catch_up()
        assert not [path for method, path in store.requests if path.endswith(".log")], "an archiver that goes on reads nothing"
        store.requests.clear()
        database.archiving._writer = None  # as after a restart
        await insert(database, {"_id": "more"})
        await database.archiving.catch_up()
        read = sum(method == "GET" and path.endswith(".log") for method, path in store.requests)
        assert read <= 5, "one that begins again reads the end"


async def until(what: Callable[[], bool]) -> None:
    with trio.fail_after(WAIT_S):
        while not what():  # noqa: ASYNC110 - a state of an archiver, which tells nobody
            await trio.sleep(0.01)


async def test_a_store_that_is_away_fails_no_write_and_is_caught_up_with(store: Store, key_file: str) -> None:
    url = store.url()
    async with opened(MemoryDisk(), archive=url, archive_interval_s=0.01, backup_key_file=key_file) as engine:
        database = await new_database(engine)
        state = database.archiving.state
        await until(lambda: state.seq == database.position.seq)
        store.fault = lambda method, path, query: UNAVAILABLE
        for number in range(20):
            await insert(database, {"_id": number})
        await until(lambda: bool(state.failure))
        assert "bucket" in state.failure and state.failing_since_us and "s3://" in state.failure
        assert len(await everything(database)) == 20, "writes go on"
        held = state.seq
        await insert(database, {"_id": "during"})
        assert state.seq == held < database.position.seq
        store.fault = lambda method, path, query: None
        await until(lambda: not state.failure and state.seq == database.position.seq)
        disk, directory = archive_of(database, url, key_file)
        found = log_archive.stretches(disk, directory, database.uuid)
        assert found[-1].last_seq == database.position.seq and found[0].first_seq == 1 and state.gaps == 0
        commits = {head_seq for one in found for head_seq in range(one.first_seq, one.last_seq + 1)}
        assert commits == set(range(1, database.position.seq + 1))


async def test_an_archive_in_a_bucket_that_is_not_there_begins_when_it_is(store: Store) -> None:
    url = f"s3://made-later/x?endpoint_override={store.endpoint}&scheme=http&region=us-east-1"
    async with opened(MemoryDisk(), archive=url, archive_interval_s=0.01) as engine:
        database = await new_database(engine)
        state = database.archiving.state
        await until(lambda: "create the bucket" in state.failure)
        store.client.create_bucket(Bucket="made-later")
        await until(lambda: not state.failure and state.seq == database.position.seq)


async def test_what_was_not_put_is_put_again(store: Store) -> None:
    """An interval whose note could not be put, or whose commits could not, is not taken for archived."""
    url = store.url()
    async with opened(MemoryDisk(), archive=url, archive_interval_s=3600.0) as engine:
        database = await new_database(engine)
        await database.archiving.catch_up()
        for ending in (".log", "_archive.json"):
            await insert(database, {"_id": ending})
            store.fault = lambda method, path, query, ending=ending: UNAVAILABLE if method in ("PUT", "POST") and path.endswith(ending) else None
            with pytest.raises(OSError):
                await database.archiving.catch_up()
            assert database.archiving.state.seq < database.position.seq
            store.fault = lambda method, path, query: None
            await database.archiving.catch_up()
            disk, directory = archive_of(database, url, "")
            assert max(one.last_seq for one in log_archive.stretches(disk, directory, database.uuid)) == database.position.seq
            assert log_archive.read_note(disk, directory)["seq"] == database.position.seq
