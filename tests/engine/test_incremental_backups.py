"""Incremental backups: what is listed as sound restores to what was there, whatever else happened on the shelf; what is not is never restored (INV-6, INV-7)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import Engine, MemoryDisk, operations
from storage.backing_up import Backups
from storage.backup import manifest as manifests
from storage.backup.dependents import dependents_of, sound_names
from storage.backup.manifest import FILE, encode, parse
from storage.backup.restoring import StageOrder, stage_backup
from storage.backup.verifying import Level, read_manifest, verify_backup
from storage.check import check_database
from storage.errors import BackupNeeded, DamagedRecord, NoSuchBackup
from storage.finding import Severity
from tests.engine.model import everything, insert, opened, settled
from tests.engine.test_backups import fill, restored
from tests.sim.disk import Platter

SHELF = "_backups/db"
STAGED = "_seeds/db.proof"


def by_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


async def chain(engine: Engine, count: int = 3) -> list[str]:
    """One full backup of 40 documents, and incremental ones, each of five more."""
    backups = Backups(engine)
    await fill(engine, 40)
    names = [(await backups.backup("db")).name]
    for number in range(1, count):
        await fill(engine, 5, 35 + 5 * number)
        names.append((await backups.backup("db", incremental=True)).name)
    return names


def staged_hash(disk: Any, name: str) -> str:
    """A backup is staged as a restore does it, and everything of it read."""
    manifest = stage_backup(disk, StageOrder(root="", directory=f"{SHELF}/{name}", staged=STAGED))
    assert [one for one in check_database(disk, STAGED) if one.severity is not Severity.NOTE] == []
    assert {file for file in manifest.sizes if disk.size(f"{STAGED}/{file}") != manifest.sizes[file]} == set()
    disk.remove_tree(STAGED)
    return manifest.state_hash


# What is written.


async def test_only_new_bytes_are_written_and_everything_comes_back(autojump_clock: object) -> None:
    async with opened(MemoryDisk()) as engine:
        backups = Backups(engine)
        await fill(engine, 400)
        full = await backups.backup("db")
        await fill(engine, 10, 400)
        second = await backups.backup("db", incremental=True)
        wanted = await engine.databases["db"].view().state_hash()
        third = await backups.backup("db", incremental=True)
        assert (full.manifest.kind, second.manifest.kind, third.manifest.kind) == ("full", "incremental", "incremental")
        assert full.manifest.written_bytes == full.manifest.total_size < second.manifest.total_size
        assert 0 < second.manifest.written_bytes < second.manifest.total_size / 10
        assert third.manifest.written_bytes == 0 and set(third.needs) == {full.name, second.name}, "nothing was new"
        assert second.as_dict(backups.shelf("db"))["base"] == full.name
        await fill(engine, 30, 410)
        await restored(engine, backups, third.name)
        assert await engine.databases["db"].view().state_hash() == wanted
        assert len(await everything(engine.databases["db"])) == 410


async def test_a_file_of_too_many_parts_is_written_whole_again(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr("storage.backup.increments.PARTS_MAX", 3)
    async with opened(MemoryDisk()) as engine:
        names = await chain(engine, 6)
        held = {info.name: info.manifest for info in await Backups(engine).list("db")}
        counts = [len(held[name].parts_of("shard_000.db")) for name in names]
        assert max(counts) == 3 and 1 in counts[counts.index(3) :], counts
        assert all([await Backups(engine).verify("db", name) == [] for name in names])


async def test_a_full_backup_is_written_as_it_always_was(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        (name,) = await chain(engine, 1)
    written = json.loads(disk.read_file(f"{SHELF}/{name}/{FILE}"))
    assert list(written) == [
        "version", "db_name", "created_at", "file_count", "total_size", "files", "sizes", "checksums", "uuid", "epoch", "seq", "chain", "state_hash",
        "manifest_checksum",
    ] and written["version"] == 1  # fmt: skip


async def test_without_a_sound_base_it_becomes_a_full_one(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        await fill(engine, 10)
        first = await backups.backup("db", incremental=True)
        assert first.manifest.kind == "full"
        disk.remove(f"{SHELF}/{first.name}/shard_000.db")
        assert (await backups.backup("db", incremental=True)).manifest.kind == "full", "a file of the base is gone"
        for info in await backups.list("db"):
            disk.replace_file(f"{SHELF}/{info.name}/shard_001.db", b"x" * disk.size(f"{SHELF}/{info.name}/shard_001.db"))
            assert await backups.verify("db", info.name)
        assert (await backups.backup("db", incremental=True)).manifest.kind == "full", "both were found wanting"
        await engine.drop_database("db")
        await fill(engine, 10)
        assert (await backups.backup("db", incremental=True)).manifest.kind == "full", "another database of that name"


async def test_what_is_not_the_same_is_written_whatever_its_name_and_size(autojump_clock: object) -> None:
    """A base that holds other bytes under a manifest that says so is no prefix."""
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        (name,) = await chain(engine, 1)
        held = read_manifest(disk, f"{SHELF}/{name}")
        other = dict(held.checksums) | {"shard_000.db": "00" * 32}
        disk.replace_file(f"{SHELF}/{name}/{FILE}", encode(changed(held, checksums=other)))
        made = await backups.backup("db", incremental=True)
        assert [part.backup for part in made.manifest.parts["shard_000.db"]] == [""]
        assert [part.backup for part in made.manifest.parts["shard_001.db"]] == [name]
        assert await backups.verify("db", made.name) == []


@pytest.mark.parametrize("where", ["in what is copied", "in what is named"])
async def test_a_damaged_source_becomes_no_backup(where: str, autojump_clock: object) -> None:
    """What the checkpoint's own sums say counts, not what the disk gives now."""
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        names = await chain(engine, 1)
        await fill(engine, 10, 50)
        await engine.databases["db"].sealing.seal_now()
        file = "db/shard_000.db"
        disk.overwrite(file, disk.size(file) - 3 if where == "in what is copied" else 90, b"\x00\x01")
        with pytest.raises(DamagedRecord, match=r"shard_000\.db"):
            await backups.backup("db", incremental=True)
        assert disk.list_dir(SHELF) == names, "nothing is left of it"


async def test_a_shelf_that_was_copied_elsewhere_is_checked_there(autojump_clock: object) -> None:
    """Also where the shelf is the disk's own root."""
    disk, elsewhere = MemoryDisk(), MemoryDisk()
    async with opened(disk) as engine:
        names = await chain(engine, 3)
    for name in names:
        for directory in ("", "/commit", "/checkpoints"):
            elsewhere.make_dir(f"{name}{directory}")
        held = read_manifest(disk, f"{SHELF}/{name}")
        for file in (*held.own_sizes, FILE):
            elsewhere.replace_file(f"{name}/{file}", disk.read_file(f"{SHELF}/{name}/{file}"))
    assert [list(verify_backup(elsewhere, f"{prefix}{name}")) for prefix in ("", "./") for name in names] == [[]] * 6


# What may go.


async def test_what_others_need_is_not_deleted_alone(autojump_clock: object) -> None:
    async with opened(MemoryDisk()) as engine:
        backups = Backups(engine)
        full, second, third = await chain(engine)
        with pytest.raises(BackupNeeded, match=f"{third}, {second}") as refused:
            await backups.delete("db", full)
        assert refused.value.fields["needed_by"] == [third, second]
        assert len(await backups.list("db")) == 3
        assert await backups.delete("db", third) == [third]
        assert await backups.delete("db", full, with_dependents=True) == [second, full]
        assert await backups.list("db") == []


async def test_rotation_keeps_what_kept_ones_need(autojump_clock: object) -> None:
    async with opened(MemoryDisk()) as engine:
        backups = Backups(engine)
        full, second, third = await chain(engine)
        assert await backups.rotate("db", 1) == [], "the newest needs both"
        await fill(engine, 5, 100)
        fresh = (await backups.backup("db")).name
        assert await backups.rotate("db", 2) == []
        assert await backups.rotate("db", 1) == [third, second, full]
        assert [info.name for info in await backups.list("db")] == [fresh]


async def test_a_base_that_is_gone_or_damaged_pushes_no_good_one_out(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        await fill(engine, 20)
        good = (await backups.backup("db")).name
        await fill(engine, 5, 20)
        base = (await backups.backup("db")).name
        await fill(engine, 5, 25)
        dependents = [(await backups.backup("db", incremental=True)).name]
        await fill(engine, 5, 30)
        dependents.append((await backups.backup("db", incremental=True)).name)
        file = f"{SHELF}/{base}/shard_000.db"
        data = disk.read_file(file)
        disk.replace_file(file, data[:70] + bytes([data[70] ^ 1]) + data[71:])
        (finding, *_) = await backups.verify("db", dependents[1])
        assert finding.file == file and dependents[1] in finding.what, "which file in which backup"
        assert sound_names(await backups.list("db")) == [good], "the other one needs it too"
        assert await backups.rotate("db", 1) == []
        assert (await backups.backup("db", incremental=True)).manifest.base == good
        disk.remove_tree(f"{SHELF}/{base}")
        assert any("missing" in one.what and base in one.file for one in verify_backup(disk, f"{SHELF}/{dependents[0]}", Level.MANIFEST))
        assert not set(dependents) & set(sound_names(await backups.list("db")))


async def test_a_backup_of_a_newer_program_stops_rotation(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        await fill(engine, 5)
        names = [(await backups.backup("db")).name for _ in range(3)]
        disk.make_dir(f"{SHELF}/backup_20990101_000000")
        disk.replace_file(f"{SHELF}/backup_20990101_000000/{FILE}", json.dumps({"version": 99, "manifest_checksum": ""}).encode())
        assert await backups.rotate("db", 1) == [], "who knows what it needs"
        assert len(await backups.list("db")) == len(names) + 1


# Histories.

STEPS = st.lists(
    st.sampled_from(["write", "write", "write", "delete", "compact", "full", "incremental", "incremental", "rotate", "drop one", "restore", "rewind"]),
    min_size=4,
    max_size=16,
)


class World:
    """One database, its shelf, and what each backup must come to."""

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        self.engine, self.rng = engine, rng
        self.backups = Backups(engine)
        self.wanted: dict[str, str] = {}
        self.next = 0
        self.epoch = 1

    @property
    def database(self) -> Any:
        return self.engine.databases["db"]

    async def step(self, what: str) -> None:
        match what:
            case "write":
                for _ in range(self.rng.randrange(1, 30)):
                    await insert(self.database, {"_id": self.next, "pad": "x" * self.rng.randrange(200)})
                    self.next += 1
            case "delete":
                gone = await operations.delete(self.database, "things", {"_id": {"$gt": self.rng.randrange(self.next + 1)}}, many=True)
                await settled(self.database, gone.seq or self.database.position.seq)
            case "compact":
                await self.database.compacting.compact_now()
            case "full" | "incremental":
                before = await self.database.view().state_hash()
                made = await self.backups.backup("db", incremental=what == "incremental")
                assert made.manifest.state_hash == before
                self.wanted[made.name] = before
            case "rotate":
                await self.backups.rotate("db", self.rng.randrange(1, 4))
            case "drop one":
                await self._drop_one()
            case "restore" | "rewind":
                await self._restore(newest=what == "rewind")

    async def _drop_one(self) -> None:
        infos = await self.backups.list("db")
        if infos:
            name = self.rng.choice(infos).name
            needed_by = dependents_of(infos, name)
            if needed_by:
                with pytest.raises(BackupNeeded):
                    await self.backups.delete("db", name)
            assert await self.backups.delete("db", name, with_dependents=True) == [*needed_by, name]

    async def _restore(self, *, newest: bool) -> None:
        infos = await self.backups.list("db")
        if infos:
            name = (infos[0] if newest else self.rng.choice(infos)).name
            await self.backups.restore("db", name)
            assert await self.database.view().state_hash() == self.wanted[name]
            self.epoch += 1
            await settled(self.database, self.database.begin_reign(self.epoch))

    async def check(self, disk: MemoryDisk) -> None:
        infos = await self.backups.list("db")
        assert sound_names(infos) == [info.name for info in infos], "nobody harmed anything"
        for info in infos:
            assert list(verify_backup(disk, f"{SHELF}/{info.name}")) == []
            assert staged_hash(disk, info.name) == self.wanted[info.name]
        assert not [name for name in disk.list_dir(SHELF) if name.endswith(".part")]


async def _history(steps: list[str], seed: int) -> None:
    disk = MemoryDisk()
    async with opened(disk, memtable_records_max=25, compact_min_bytes=500, compact_stale_ratio=0.2) as engine:
        await fill(engine, 1)
        world = World(engine, random.Random(seed))
        world.next = 1
        for what in steps:
            had_one = bool(world.wanted) and bool(await world.backups.list("db"))
            await world.step(what)
            if had_one and what == "rotate":
                assert await world.backups.list("db"), "the last good one never goes"
        await world.check(disk)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.integers(0, 2**32))
def test_every_sound_backup_restores_to_its_state_hash_after_any_history(steps: list[str], seed: int) -> None:
    trio.run(_history, steps, seed, clock=by_clock())


# Damage and lies.


async def _made(disk: MemoryDisk) -> list[str]:
    async with opened(disk) as engine:
        return await chain(engine, 4)


MADE = MemoryDisk()
NAMES = trio.run(_made, MADE, clock=by_clock())
MANIFESTS = {name: read_manifest(MADE, f"{SHELF}/{name}") for name in NAMES}
FILES = [(name, file) for name in NAMES for file in (*MANIFESTS[name].own_sizes, FILE) if MADE.size(f"{SHELF}/{name}/{file}")]


def test_the_chain_is_one() -> None:
    assert [held.kind for held in MANIFESTS.values()] == ["full", *["incremental"] * 3]
    assert MANIFESTS[NAMES[3]].needs == tuple(sorted(NAMES[:3]))
    assert all(list(verify_backup(MADE, f"{SHELF}/{name}")) == [] for name in NAMES)


def users_of(name: str, file: str, at: int) -> set[str]:
    """The backups that need that byte."""
    users = {name}
    for other, held in MANIFESTS.items():
        for part in held.parts.get(file, ()):
            if part.backup == name and part.offset <= at < part.offset + part.length:
                users.add(other)
    return users


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_one_byte_wrong_in_base_or_increment_is_found_and_not_restored(place: tuple[str, str], where: float, flip: int) -> None:
    path = f"{SHELF}/{place[0]}/{place[1]}"
    data = MADE.read_file(path)
    at = int(where * len(data))
    MADE.replace_file(path, data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
    try:
        users = users_of(*place, at)
        for name in NAMES:
            findings = list(verify_backup(MADE, f"{SHELF}/{name}", Level.BYTES))
            if name in users:
                assert path in [one.file for one in findings]
            else:
                assert findings == [] and staged_hash(MADE, name) == MANIFESTS[name].state_hash, "it needs no such byte"
        trio.run(_refused, MADE, sorted(users), clock=by_clock())
    finally:
        MADE.replace_file(path, data)


async def _refused(disk: MemoryDisk, names: list[str]) -> None:
    async with opened(disk) as engine:
        backups = Backups(engine)
        for name in names:
            with pytest.raises(DamagedRecord):
                await backups.restore("db", name)
        assert len(await everything(engine.databases["db"])) == 55
        assert await backups.list("db", safety=True) == [] and not disk.exists("_seeds/db.restore")


def changed(held: manifests.Manifest, **fields: Any) -> manifests.Manifest:
    values = {name: getattr(held, name) for name in ("db_name", "created_at", "sizes", "checksums", "uuid", "position", "chain", "state_hash", "base", "parts")}
    return manifests.Manifest(**{**values, **fields})


def with_part(held: manifests.Manifest, number: int, **fields: Any) -> manifests.Manifest:
    """One part of the first shard's log says something else."""
    parts = list(held.parts["shard_000.db"])
    parts[number] = parts[number]._replace(**fields)
    return changed(held, parts={**held.parts, "shard_000.db": tuple(parts)})


NEWEST = MANIFESTS[NAMES[3]]
FIRST = NEWEST.parts["shard_000.db"][0]
LIES: dict[str, Callable[[], manifests.Manifest]] = {
    "out of the shelf": lambda: with_part(NEWEST, 0, backup="../db"),
    "an absolute path": lambda: with_part(NEWEST, 0, backup="/db"),
    "a safety snapshot": lambda: with_part(NEWEST, 0, backup="_pre_restore_20260101_000000"),
    "a neighbour that is none": lambda: with_part(NEWEST, 0, backup="backup_19990101_000000"),
    "itself by name": lambda: with_part(NEWEST, 0, backup=NAMES[3]),
    "another neighbour": lambda: with_part(NEWEST, 0, backup=NAMES[2]),
    "another place": lambda: with_part(NEWEST, 0, offset=1),
    "a place before the beginning": lambda: with_part(NEWEST, 0, offset=-1),
    "bytes past the end": lambda: with_part(NEWEST, 0, offset=FIRST.length),
    "a wrong sum": lambda: with_part(NEWEST, 0, sha256="00" * 32),
    "no sum": lambda: with_part(NEWEST, 0, sha256=""),
    "too few bytes": lambda: with_part(NEWEST, 0, length=FIRST.length - 1),
    "no length": lambda: with_part(NEWEST, 0, length=0),
    "parts in another order": lambda: changed(NEWEST, parts={**NEWEST.parts, "shard_000.db": NEWEST.parts["shard_000.db"][::-1]}),
    "a file without parts": lambda: changed(NEWEST, parts={k: v for k, v in NEWEST.parts.items() if k != "shard_000.db"}),
    "a base that is a path": lambda: changed(NEWEST, base="../../etc"),
    "a file that leads out": lambda: changed(
        NEWEST,
        sizes={**NEWEST.sizes, "../x": FIRST.length},
        checksums={**NEWEST.checksums, "../x": FIRST.sha256},
        parts={**NEWEST.parts, "../x": (FIRST,)},
    ),
    "more parts than allowed": lambda: changed(
        NEWEST,
        sizes={**NEWEST.sizes, "shard_000.db": 1_001},
        parts={**NEWEST.parts, "shard_000.db": (FIRST._replace(length=1),) * 1_001},
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_refused(lie: str) -> None:
    path = f"{SHELF}/{NAMES[3]}/{FILE}"
    data = MADE.read_file(path)
    MADE.replace_file(path, encode(LIES[lie]()))
    try:
        assert list(verify_backup(MADE, f"{SHELF}/{NAMES[3]}", Level.BYTES))
        trio.run(_refused, MADE, [NAMES[3]], clock=by_clock())
    finally:
        MADE.replace_file(path, data)


def test_every_manifest_reads_back_as_written() -> None:
    for held in MANIFESTS.values():
        assert parse(encode(held), "here") == held


# Kills.


async def _prepared(platter: Platter) -> list[str]:
    async with opened(platter.mount()) as engine:
        names = await chain(engine, 2)
        await fill(engine, 5, 60)
    return names


async def _back_up_until(platter: Platter, steps: int) -> bool:
    disk = platter.mount()
    async with opened(disk, start=2) as engine:
        disk.crash_in(steps)
        await Backups(engine).backup("db", incremental=True, max_copies=2)
        return True


async def _after(platter: Platter, names: list[str]) -> int:
    disk = platter.mount()
    async with opened(disk, start=3) as engine:
        backups = Backups(engine)
        listed = [info.name for info in await backups.list("db")]
        assert set(names) <= set(listed) and sound_names(await backups.list("db")) == listed
        for name in listed:
            assert list(verify_backup(disk, f"{SHELF}/{name}")) == []
        again = await backups.backup("db", incremental=True)
        assert again.manifest.is_incremental and await backups.verify("db", again.name) == []
        assert not [name for name in disk.list_dir(SHELF) if name.endswith(".part")], "what was cut off is cleared away"
        assert len(await everything(engine.databases["db"])) == 50
        return len(listed)


@pytest.mark.parametrize("ends_by", ["kill", "power_cut"])
def test_an_incremental_backup_that_is_cut_off_anywhere_is_there_whole_or_not_at_all(ends_by: str) -> None:
    outcomes = set()
    for steps in range(1, 2_000):
        platter = Platter(random.Random(steps))
        names = trio.run(_prepared, platter, clock=by_clock())
        is_done = False
        try:
            is_done = trio.run(_back_up_until, platter, steps, clock=by_clock())
        except BaseException as error:
            assert "SimCrash" in repr(error), error
        if ends_by == "power_cut":
            platter.power_cut()
        outcomes.add(trio.run(_after, platter, names, clock=by_clock()))
        if is_done:
            break
    else:
        raise AssertionError("the backup never ended")
    assert outcomes == {2, 3}


async def test_deleting_what_is_not_there_is_told(autojump_clock: object) -> None:
    async with opened(MemoryDisk()) as engine:
        await chain(engine, 2)
        with pytest.raises(NoSuchBackup):
            await Backups(engine).delete("db", "backup_19990101_000000", with_dependents=True)
