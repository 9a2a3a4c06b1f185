"""Documents out of a backup: what was in it, in bounded pages, checked, and nothing else is touched (INV-7, INV-8)."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import MemoryDisk, decode_document, encode_value, operations
from storage.backing_up import Backups
from storage.backup import reading
from storage.backup.parts import OWN
from storage.backup.reading import Page
from storage.errors import BadQuery, BadRequest, DamagedRecord, NoSuchBackup
from storage.query.filters import compile_filter
from tests.engine.model import everything, insert, opened, settled
from tests.engine.test_backups import fill
from tests.engine.test_incremental_backups import SHELF, by_clock, chain


async def pages(backups: Backups, name: str, collection: str = "things", **asked: object) -> list[Page]:
    found = [await backups.read("db", name, collection, **asked)]
    while found[-1].next is not None:
        found.append(await backups.read("db", name, collection, **asked, place=found[-1].next))
        assert len(found) < 10_000
    return found


async def documents(backups: Backups, name: str, collection: str = "things", **asked: object) -> list[dict]:
    return [decode_document(data) for page in await pages(backups, name, collection, **asked) for data in page.documents]


def by_id(found: list[dict]) -> list[dict]:
    return sorted(found, key=lambda document: document["_id"])


async def _read_back(seed: int) -> None:
    rng = random.Random(seed)
    async with opened(MemoryDisk(), memtable_records_max=20, compact_min_bytes=300, compact_stale_ratio=0.2) as engine:
        backups, database = Backups(engine), await fill(engine, 1)
        wanted: dict[str, list[dict]] = {}
        for _ in range(3):
            for _ in range(rng.randrange(1, 60)):
                number = rng.randrange(80)
                if rng.random() < 0.3:
                    gone = await operations.delete(database, "things", {"_id": number})
                    await settled(database, gone.seq or database.position.seq)
                else:
                    change = {"$set": {"v": rng.randrange(5), "pad": "x" * rng.randrange(300)}}
                    written = await operations.update(database, "things", {"_id": number}, change, upsert=True)
                    await settled(database, written.seq)
            if rng.random() < 0.4:
                await database.compacting.compact_now()
            wanted[(await backups.backup("db", incremental=rng.random() < 0.7)).name] = by_id(await everything(database))
        await insert(database, {"_id": "later"})
        for name, held in wanted.items():
            assert dict(await backups.collections("db", name)) == ({"things": len(held)} if held else dict(await backups.collections("db", name)))
            assert by_id(await documents(backups, name)) == held
            spec = {"v": {"$gte": rng.randrange(5)}}
            matches = compile_filter(spec)
            assert by_id(await documents(backups, name, spec=encode_value(spec))) == [one for one in held if matches(one)]
            asked = [rng.randrange(100) for _ in range(20)]
            there = {one["_id"]: one for one in held}
            found = await documents(backups, name, ids=tuple(map(encode_value, asked)))
            assert found == [there[one] for one in asked if one in there], "in the order of the ids"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_every_document_of_a_backup_is_read_once_as_it_was(seed: int) -> None:
    trio.run(_read_back, seed, clock=by_clock())


async def test_pages_are_bounded_and_go_on_where_they_ended(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr(reading, "PAGE_BYTES_MAX", 1_000)
    monkeypatch.setattr(reading, "SCAN_BYTES_MAX", 3_000)
    async with opened(MemoryDisk()) as engine:
        backups = Backups(engine)
        name = (await chain(engine, 3))[-1]
        found = await pages(backups, name)
        assert len(found) > 3 and all(page.bytes <= 1_000 + 200 for page in found)
        assert sorted(decode_document(data)["_id"] for page in found for data in page.documents) == list(range(50))
        rare = await pages(backups, name, spec=encode_value({"_id": {"$gt": 48}}))
        assert sum(len(page.documents) for page in rare) == 1
        assert [] in [page.documents for page in rare], "a page ends when it has looked at enough"
        assert [len(page.documents) for page in await pages(backups, name, ids=tuple(map(encode_value, range(50))))][0] < 20
        first = await backups.read("db", name, "things", limit=3)
        assert len(first.documents) == 3 and first.next is not None


async def test_one_id_reads_one_record_and_no_more(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    """By the index: with every other record of the log damaged it is still found."""
    disk = MemoryDisk()
    async with opened(disk, shards=1) as engine:
        backups = Backups(engine)
        await fill(engine, 100)
        made = await backups.backup("db")
        path = f"{SHELF}/{made.name}/shard_000.db"
        data = disk.read_file(path)
        at = data.index(b"x" * 100)
        disk.replace_file(path, data[:at] + b"y" + data[at + 1 :])  # within the first record's document
        with pytest.raises(DamagedRecord, match=r"shard_000\.db at offset"):
            await documents(backups, made.name)
        for spec in ({"ids": (encode_value(70),)}, {"spec": encode_value({"_id": 70})}):
            assert [one["_id"] for one in await documents(backups, made.name, **spec)] == [70]
        with pytest.raises(DamagedRecord):
            await documents(backups, made.name, ids=(encode_value(0),))


async def test_what_cannot_be_read_is_refused_by_name(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        full, second = await chain(engine, 2)
        with pytest.raises(NoSuchBackup):
            await backups.read("db", "backup_19990101_000000", "things")
        with pytest.raises(BadRequest, match="no collection 'nope'"):
            await backups.read("db", full, "nope")
        with pytest.raises(BadQuery):
            await backups.read("db", full, "things", spec=encode_value({"a": {"$nope": 1}}))
        held = next(info.manifest for info in await backups.list("db") if info.name == second)
        needed = next(file for file, parts in held.parts.items() if file.endswith(".db") and parts[0].backup != OWN)
        disk.remove(f"{SHELF}/{full}/{needed}")
        with pytest.raises(DamagedRecord, match=f"{full}/{needed}: missing"):
            await documents(backups, second)


async def test_reading_changes_nothing(autojump_clock: object) -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        backups = Backups(engine)
        names = await chain(engine, 3)
        files = [f"{SHELF}/{name}/{file}" for name in names for file in disk.list_dir(f"{SHELF}/{name}") if "." in file]
        before = {path: (disk.inode(path), disk.read_file(path)) for path in files}
        for name in names:
            await documents(backups, name)
            await backups.collections("db", name)
        assert {path: (disk.inode(path), disk.read_file(path)) for path in files} == before
        assert disk.list_dir(SHELF) == sorted(names)
