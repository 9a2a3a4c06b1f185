"""Shelves in a bucket, encrypted, and both: everything that a shelf on a disk does, and nothing that is not whole is ever taken for a backup (INV-6, INV-7)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from storage import MemoryDisk, read_backup_keys
from storage.backing_up import Backups
from storage.backup.copying import CopyOrder, copy_backup
from storage.backup.manifest import FILE
from storage.backup.places import other_disk, sealed
from storage.backup.seal_keys import write_key_file
from storage.backup.verifying import Level
from storage.engine import Engine
from storage.errors import BadRequest, DamagedRecord
from tests.engine.model import everything, insert, new_database, opened

from .conftest import Place, Store

SECRET = "nobody shall read this in the bucket"


async def fill(engine: Engine, count: int, start: int = 0):
    database = engine.databases.get("db") or await new_database(engine)
    for number in range(start, start + count):
        await insert(database, {"_id": number, "pad": SECRET})
    database.flush()
    return database


def at(engine: Engine, place: Place) -> Backups:
    backups = Backups(engine)
    backups.paths = {"db": place.path}
    return backups


async def restored(engine: Engine, backups: Backups, name: str):
    done = await backups.restore("db", name)
    engine.databases["db"].begin_reign(engine.databases["db"].position.epoch + 1)
    engine.databases["db"].flush()
    return done


async def test_everything_a_shelf_does(place: Place) -> None:
    async with opened(MemoryDisk(), backup_key_file=place.key_file) as engine:
        backups = at(engine, place)
        await backups.check_path(place.path)
        assert place.names() == [], "the probe is gone again"
        database = await fill(engine, 200)
        before = await database.view().state_hash()
        made = await backups.backup("db")
        stored = place.names()
        assert len(stored) == len(made.manifest.sizes) + 1
        if place.key_file:
            everything_stored = b"".join(place.read(name) for name in stored)
            assert SECRET.encode() not in everything_stored and b"state_hash" not in everything_stored
            assert len(everything_stored) > made.manifest.total_size, "sizes are of what was encrypted"
        for level in Level:
            assert await backups.verify("db", made.name, level) == []
        (listed,) = await backups.list("db")
        assert listed.manifest == made.manifest and listed.proof is not None and listed.proof.is_good
        await fill(engine, 50, 200)
        done = await restored(engine, backups, made.name)
        assert await engine.databases["db"].view().state_hash() == before and len(await everything(engine.databases["db"])) == 200
        (safety,) = await backups.list("db", safety=True)
        assert safety.name == done.safety and any(name.startswith(safety.name) for name in place.names())
        await restored(engine, backups, safety.name)
        assert len(await everything(engine.databases["db"])) == 250
        names = [made.name, *[(await backups.backup("db", max_copies=2)).name for _ in range(3)]]
        assert [info.name for info in await backups.list("db")] == names[:1:-1]
        assert not any(name.startswith(f"{made.name}/") for name in place.names())
        await backups.delete("db", names[-1])
        assert [info.name for info in await backups.list("db")] == [names[-2]]
        assert (await backups.restore("db", names[-2], new_name="copy")).database.name == "copy"


async def test_one_byte_wrong_anywhere_is_found_and_not_restored(place: Place) -> None:
    rng = random.Random(5)
    async with opened(MemoryDisk(), backup_key_file=place.key_file) as engine:
        backups = at(engine, place)
        database = await fill(engine, 20)
        made = await backups.backup("db")
        before = await database.view().state_hash()
        for name in [one for one in place.names() if one.startswith(made.name)]:
            good = place.read(name)
            spots = {0, 9, 20, 40, len(good) - 1, *(rng.randrange(len(good)) for _ in range(2))} if good else set()
            for spot in sorted(spot for spot in spots if spot < len(good)):
                place.write(name, good[:spot] + bytes([good[spot] ^ 1 << rng.randrange(8)]) + good[spot + 1 :])
                assert await backups.verify("db", made.name, Level.BYTES), f"{name}, byte {spot}"
                with pytest.raises(DamagedRecord, match="restored|nothing was touched|choose another"):
                    await backups.restore("db", made.name)
            for cut in {len(good) - 1, len(good) // 2, 0}:
                if 0 <= cut < len(good):
                    place.write(name, good[:cut])
                    assert await backups.verify("db", made.name, Level.MANIFEST), f"{name}, cut at {cut}"
            place.remove(name)
            assert await backups.verify("db", made.name, Level.MANIFEST), f"{name} is missing"
            place.write(name, good)
        assert await backups.verify("db", made.name) == []
        assert await engine.databases["db"].view().state_hash() == before and await backups.list("db", safety=True) == []


async def test_files_of_another_backup_are_found(place: Place) -> None:
    async with opened(MemoryDisk(), backup_key_file=place.key_file) as engine:
        backups = at(engine, place)
        await fill(engine, 20)
        one, two = await backups.backup("db"), await backups.backup("db")
        for name in one.manifest.sizes:
            mine, other = place.read(f"{one.name}/{name}"), place.read(f"{two.name}/{name}")
            if place.key_file:
                assert mine != other, "one content is never encrypted alike"
                place.write(f"{one.name}/{name}", other)
                assert await backups.verify("db", one.name, Level.BYTES), name
                place.write(f"{one.name}/{name}", mine)
        place.write(f"{one.name}/{FILE}", place.read(f"{two.name}/{FILE}"))
        assert bool(await backups.verify("db", one.name, Level.MANIFEST)) is bool(place.key_file)


async def test_keys_are_rotated_and_a_missing_one_is_named(tmp_path: Path, place: Place) -> None:
    if not place.key_file:
        pytest.skip("about encrypted places")
    path = Path(place.key_file)
    first_key = path.read_text()
    first_id = repr(read_backup_keys(str(path)))
    async with opened(MemoryDisk()) as engine:  # before there was a key
        await fill(engine, 10)
    disk = MemoryDisk()
    async with opened(disk, backup_key_file=place.key_file) as engine:
        backups = at(engine, place)
        database = await fill(engine, 10)
        old = await backups.backup("db")
        write_key_file(tmp_path / "new.key")
        second_key = (tmp_path / "new.key").read_text()
        path.write_text(second_key + first_key)
        new = await backups.backup("db")
        for info in (old, new):
            assert await backups.verify("db", info.name) == []
        path.write_text(second_key)
        before = await database.view().state_hash()
        assert await backups.verify("db", new.name) == []
        listed = {info.name: info for info in await backups.list("db")}
        assert listed[new.name].manifest is not None
        assert listed[old.name].manifest is None and first_id in listed[old.name].problem and "backup_key_file" in listed[old.name].problem
        for attempt in (backups.verify, backups.restore):
            with pytest.raises(OSError, match=first_id):
                await attempt("db", old.name)
        assert await engine.databases["db"].view().state_hash() == before
        await backups.rotate("db", 1)
        assert old.name in {info.name for info in await backups.list("db")}, "what cannot be read is left alone"
        path.chmod(0o644)
        with pytest.raises(OSError, match="chmod 600"):
            await backups.backup("db")
        path.chmod(0o600)
    async with opened(disk, start=2) as engine:
        backups = at(engine, place)
        listed = await backups.list("db")
        assert all(info.manifest is None and "backup_key_file" in info.problem for info in listed) and len(listed) == 2


async def test_what_was_made_before_there_was_a_key_stays_readable(tmp_path: Path, place: Place) -> None:
    if not place.key_file:
        pytest.skip("about encrypted places")
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = at(engine, place)
        await fill(engine, 10)
        plain = await backups.backup("db")
    async with opened(disk, start=2, backup_key_file=place.key_file) as engine:
        backups = at(engine, place)
        await fill(engine, 10, 10)
        made = await backups.backup("db")
        assert [info.name for info in await backups.list("db") if info.manifest] == [made.name, plain.name]
        assert await backups.verify("db", plain.name) == []
        assert (await restored(engine, backups, plain.name)).manifest == plain.manifest


async def test_a_backup_moved_to_another_shelf_is_read_there(place: Place, tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with opened(disk, backup_key_file=place.key_file) as engine:
        await fill(engine, 30)
        made = await at(engine, place).backup("db")
        for name in place.names():
            if name.startswith(made.name):
                target = tmp_path / "vault" / "deep" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(place.read(name))
        backups = Backups(engine)
        backups.paths = {"db": str(tmp_path / "vault" / "deep")}
        assert await backups.verify("db", made.name) == [] and (await restored(engine, backups, made.name)).manifest == made.manifest


# Backups that were cut off, in a bucket


def order_of(engine: Engine, root: str, seq: int, name: str) -> CopyOrder:
    return CopyOrder(db_name="db", directory=engine.databases["db"].directory, seq=seq, root=root, shelf=".", name=name, created_at="2026-01-01T00:00:00Z")


class Cut(Exception):
    """The process was killed."""


async def test_a_backup_that_was_cut_off_is_never_one_and_the_next_takes_it_away(store: Store, monkeypatch: pytest.MonkeyPatch, key_file: str) -> None:
    root = store.url()
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        backups.paths = {"db": root}
        database = await fill(engine, 30)
        seq = await database.sealing.seal_now()
        puts = 0

        def killed(self, path: str, data: bytes) -> None:
            raise Cut

        from storage.backup.bucket import BucketDisk

        put = BucketDisk.replace_file

        def counted(self, path: str, data: bytes) -> None:
            nonlocal puts
            puts += 1
            if path.endswith(FILE):
                raise Cut
            put(self, path, data)

        monkeypatch.setattr(BucketDisk, "replace_file", counted)
        with pytest.raises(Cut):
            copy_backup(disk, order_of(engine, root, seq, "backup_20260101_000000"))
        monkeypatch.setattr(BucketDisk, "replace_file", put)
        left = store.names()
        assert puts == 2 and "shelf/backup_20260101_000000.part" in left and len(left) > 5
        assert await backups.list("db") == []
        with pytest.raises(FileExistsError):
            copy_backup(disk, order_of(engine, root, seq, "backup_20260101_000000"))
        assert store.names() == left, "nothing of another one is taken away"
        store.write("shelf/backup_20250101_000000.part", json.dumps({"by": "somebody else"}).encode())
        store.write("shelf/backup_20250101_000000/database.json", b"{}")
        made = await backups.backup("db")
        assert [info.name for info in await backups.list("db")] == [made.name]
        left = store.names()
        assert not any("20260101" in key for key in left), "one's own is taken away"
        assert sum("20250101" in key for key in left) == 2, "another node's stays, which may be at work"
        store.write(f"shelf/{made.name}.part", b"{}")  # cut off between the manifest and the end
        assert [info.name for info in await backups.list("db")] == [made.name]
        await backups.backup("db")
        assert f"shelf/{made.name}.part" not in store.names()
        store.remove(f"shelf/{made.name}/{FILE}")
        lost = [info for info in await backups.list("db") if info.name == made.name]
        assert lost[0].manifest is None and "missing" in lost[0].problem, "what lost its manifest does not disappear silently"


async def test_no_place_is_taken_for_a_good_one(store: Store, tmp_path: Path) -> None:
    async with opened(MemoryDisk()) as engine:
        backups = Backups(engine)
        for path, said in (
            ("relative", "absolute"), ("/a/../b", "absolute"), ("s3://", "bucket's name"), ("s3://key:secret@bucket-1/x", "credentials"),
            ("s3://bucket-1/x?secret_key=abc", "no option"), ("s3://bucket-1/../x", "prefix"),
        ):  # fmt: skip
            with pytest.raises(BadRequest, match=said) as raised:
                await backups.check_path(path)
            assert "secret@" not in str(raised.value) and "abc" not in str(raised.value)
        with pytest.raises(OSError, match="create the bucket"):
            await backups.check_path(f"s3://nobody-made-this/x?endpoint_override={store.endpoint}&scheme=http")
        await fill(engine, 1)
        backups.paths = {"db": f"s3://nobody-made-this/x?endpoint_override={store.endpoint}&scheme=http"}
        for attempt in (backups.backup, backups.list):
            with pytest.raises(OSError, match="nobody-made-this"):
                await attempt("db")
        backups.paths = {}


async def test_the_common_path_of_a_program(place: Place) -> None:
    async with opened(MemoryDisk(), backup_key_file=place.key_file, backup_path=place.path) as engine:
        backups = Backups(engine)
        await fill(engine, 5)
        made = await backups.backup("db")
        assert all(name.startswith("db/") for name in place.names())
        assert made.as_dict(backups.shelf("db"))["path"].endswith(f"/db/{made.name}")
        assert await backups.verify("db", made.name) == []
        root = sealed(place.path, place.key_file)
        assert other_disk(MemoryDisk(), root).list_dir("db") == sorted([made.name, "_proofs.json"])
