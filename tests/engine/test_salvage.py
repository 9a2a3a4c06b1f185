"""What a rewind keeps: one entry, whole before anything is cut, importable; and what of it stands on the shelf afterwards (INV-7)."""

from __future__ import annotations

import copy
import io
import json
import random

import pytest

from storage import Engine, MemoryDisk, Seams, SyncMode, WorkHere, encode_document, operations
from storage import identity as identities
from storage.errors import BadRequest, DiskFull
from storage.exchange import Export
from storage.recovery import recover
from storage.rewinding import rewind
from storage.salvage import divergence as divergences
from storage.salvage import shelf
from storage.salvage.entry import decode_line
from tests.engine.model import everything, insert, memory_seams, new_database, opened, options, settled
from tests.sim.disk import Platter, SimCrash


async def diverged(engine: Engine) -> None:
    """Documents 0 to 10 are common; what comes after is not."""
    database = await new_database(engine)
    database.set_floor(0)
    for number in range(10):
        await insert(database, {"_id": number, "n": number})
    await insert(database, {"_id": 10, "n": 10})


async def diverge(engine: Engine) -> None:
    database = engine.database("db")
    for number in (20, 21, 22):
        await insert(database, {"_id": number, "n": number, "big": 2**40, "text": "é"})
    await insert(database, {"_id": "other"}, collection="second")
    replaced = await operations.replace_one(database, "things", {"_id": 20}, encode_document({"_id": 20, "n": "again"}))
    await operations.replace_one(database, "things", {"_id": 1}, encode_document({"_id": 1, "n": "changed"}))
    await operations.delete(database, "things", {"_id": 2}, many=False)
    await operations.delete(database, "things", {"_id": 22}, many=False)
    await settled(database, database.position.seq)
    assert replaced.modified == 1


async def _diverged_disk(bound: int = 1000) -> tuple[MemoryDisk, int]:
    disk = MemoryDisk()
    async with opened(disk, memtable_records_max=bound) as engine:
        await diverged(engine)
        common = engine.database("db").position.seq
        await diverge(engine)
    return disk, common


def lines(disk: MemoryDisk, entry: str, part: str) -> list[dict]:
    return [json.loads(line) for line in disk.read_file(f"{entry}/{part}.jsonl").splitlines()][1:]


@pytest.mark.parametrize("bound", [4, 1000])
async def test_an_entry_has_the_newest_image_of_each_document_and_the_rest_beside_it(bound: int) -> None:
    disk, common = await _diverged_disk(bound)
    async with opened(disk, start=2, memtable_records_max=bound) as engine:
        assert await engine.rewind("db", common) is not None
        [entry] = await engine.salvage.list()
        assert (engine.salvage.entries, engine.salvage.bytes) == (1, entry.bytes) and entry.bytes > 0
        view = await everything(engine.database("db"))
    assert [document["_id"] for document in view] == list(range(11))
    documents = lines(disk, entry.name, "documents")
    assert [(line["collection"], line["_id"]) for line in documents] == [("things", 21), ("second", "other"), ("things", 20), ("things", 1)]
    assert documents[2]["doc"] == {"_id": 20, "n": "again"} and documents[0]["doc"]["big"] == 2**40
    assert [(line["op"], line["_id"]) for line in lines(disk, entry.name, "deletions")] == [("delete", 2), ("delete", 22)]
    assert [(line["op"], line["_id"]) for line in lines(disk, entry.name, "superseded")] == [("write", 20), ("write", 22)]
    assert all(line["seq"] > common and line["epoch"] == 1 and line["time"].endswith("Z") for line in documents)
    manifest = entry.manifest
    assert manifest is not None and manifest.whole and manifest.common == [1, common] and manifest.rewritten is None
    assert (manifest.documents, manifest.deletions, manifest.superseded) == (4, 2, 2)
    assert manifest.collections["things"].written_ids == [21, 20, 1] and manifest.collections["things"].deleted_ids == [2, 22]
    assert {change["collection"]: change["change"] for change in manifest.catalog} == {"second": "made"}
    assert manifest.commits == manifest.last[1] - common and entry.name.startswith(f"db/salvage/rewound-{common}-{manifest.last[1]}-")
    segments = disk.list_dir(f"{entry.name}/log")
    assert segments and sum(disk.size(f"{entry.name}/log/{name}") for name in segments) == manifest.log_bytes


async def test_the_documents_of_an_entry_are_an_export_that_import_reads() -> None:
    disk, common = await _diverged_disk()
    async with opened(disk, start=2) as engine:
        await engine.rewind("db", common)
        [entry] = await engine.salvage.list()
    export = Export(io.BytesIO(disk.read_file(f"{entry.name}/documents.jsonl")))
    found = [(name, document) for name, _, document in export.items()]
    assert export.format.value == "alos" and export.header["database"] == "db"
    assert found[0] == ("things", {"_id": 21, "n": 21, "big": 2**40, "text": "é"}) and len(found) == 4


async def test_many_writes_are_sorted_out_in_lots_with_the_same_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    for lot in (250_000, 3):
        monkeypatch.setattr(divergences, "KEYS_AT_ONCE", lot)
        disk, common = await _diverged_disk()
        assert rewind(disk, "db", common, 1)
        [entry] = shelf.entries(disk)
        kept.append([disk.read_file(f"{entry.name}/{part}.jsonl") for part in ("documents", "deletions", "superseded")])
    assert kept[0] == kept[1]


async def test_a_collection_that_was_dropped_again_is_among_what_was_superseded() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        await diverged(engine)
        database, common = engine.database("db"), engine.database("db").position.seq
        await insert(database, {"_id": 1, "life": 1}, collection="gone")
        await operations.drop_collection(database, "gone")
        await insert(database, {"_id": 1, "life": 2}, collection="gone")
        await engine.rewind("db", common)
        [entry] = await engine.salvage.list()
    assert [line["doc"]["life"] for line in lines(disk, entry.name, "documents")] == [2]
    assert [line["doc"]["life"] for line in lines(disk, entry.name, "superseded")] == [1]
    assert [change["change"] for change in entry.manifest.catalog] == ["made", "dropped", "made"]


async def test_a_rewind_that_cuts_nothing_keeps_nothing() -> None:
    async with opened(MemoryDisk()) as engine:
        await diverged(engine)
        assert await engine.rewind("db", engine.database("db").position.seq) is not None
        assert await engine.salvage.list() == []


async def test_a_disk_too_full_for_the_entry_leaves_everything_as_it_was() -> None:
    disk, common = await _diverged_disk()
    async with opened(disk, start=2, sync_mode=SyncMode.ASYNC) as engine:  # nothing is reserved that closing would give back
        before = await everything(engine.database("db"))
        disk.capacity_bytes = sum(size for name in disk.list_dir("") for _, size in shelf._files(disk, name)) + 100
        with pytest.raises(DiskFull):
            await engine.rewind("db", common)
        assert disk.list_dir("db/salvage") == [] and not disk.exists("db/rewind.json")
        disk.capacity_bytes = None
        assert await everything(engine.database("db")) == before
        assert await engine.rewind("db", common) is not None
        assert len(await engine.salvage.list()) == 1


# Killed at every step.


async def _platter() -> tuple[Platter, int]:
    platter = Platter(random.Random(5))
    platter.sync_delay_s = platter.call_delay_s = platter.usual_call_delay_s = 0.0
    disk = platter.mount()
    seams = memory_seams(MemoryDisk())
    async with Engine.open(Seams(disk, seams.time_us, seams.random_bytes, WorkHere(disk)), options=options(memtable_records_max=8)) as engine:
        await diverged(engine)
        common = engine.database("db").position.seq
        await diverge(engine)
    disk.kill()
    return platter, common


@pytest.mark.parametrize("power", [False, True])
async def test_a_rewind_that_is_killed_at_any_step_ends_with_one_entry(power: bool) -> None:
    """INV-7: the commits stand in the log or in the entry at every step, and never in two entries."""
    whole, common = await _platter()
    wanted: dict[str, bytes] = {}
    for step in range(400):
        platter = copy.deepcopy(whole)
        platter.rng = random.Random(step)
        disk = platter.mount()
        if step:
            disk.crash_in(step)
        struck = False
        try:
            assert rewind(disk, "db", common, 1)
        except SimCrash:
            struck = True
        if step and not struck:
            break
        disk.kill()
        if power:
            platter.power_cut()
        disk = platter.mount()
        found = recover(disk, "db", records_max=1000)
        assert not found.damaged and found.last_seq >= common
        if found.last_seq > common:
            assert shelf.entries(disk) == [] and not disk.exists("db/salvage/rewinding"), "nothing was cut"
            assert rewind(disk, "db", common, 1)
            found = recover(disk, "db", records_max=1000)
        assert found.last_seq == common
        [entry] = shelf.entries(disk)
        assert entry.manifest is not None and entry.manifest.whole
        assert disk.list_dir(f"{entry.name}/log"), "the bytes too; recovery may have written a segment anew before"
        content = {path: disk.read_file(path) for path, _ in shelf._files(disk, entry.name) if path.endswith(".jsonl")}
        wanted = wanted or content
        assert content == wanted, f"killed at step {step}"
    assert step > 30, "the rewind has that many steps"


async def test_a_rewind_killed_twice_still_ends_with_one_entry() -> None:
    whole, common = await _platter()
    for first in range(3, 60, 7):
        for second in range(1, 60, 5):
            platter = copy.deepcopy(whole)
            for steps in (first, second):
                disk = platter.mount()
                disk.crash_in(steps)
                with pytest.raises(SimCrash):
                    recover(disk, "db", records_max=1000)
                    rewind(disk, "db", common, 1)
                    raise SimCrash  # it had less steps left
                disk.kill()
            disk = platter.mount()
            if recover(disk, "db", records_max=1000).last_seq > common:
                assert rewind(disk, "db", common, 1)
            assert [entry.kind for entry in shelf.entries(disk)] == ["rewind"]
            assert recover(disk, "db", records_max=1000).last_seq == common


# The shelf.


async def test_pages_give_every_line_once_and_what_became_of_it() -> None:
    disk, common = await _diverged_disk()
    async with opened(disk, start=2) as engine:
        database = await engine.rewind("db", common)
        assert database is not None
        await settled(database, database.begin_reign(2))
        await insert(database, {"_id": 21, "n": "written by the others"})
        [entry] = await engine.salvage.list()
        for sealed in (False, True):
            if sealed:
                await database.sealing.seal_now()
            found, offset = [], 0
            while offset is not None:
                _, page, now = await engine.salvage.page(engine.databases, entry.name, "documents", offset, 1)
                found += [(line.id, word) for line, word in zip(page.lines, now, strict=True)]
                offset = page.next_offset
            assert found == [(21, "rewritten"), ("other", "absent"), (20, "absent"), (1, "unchanged")]
        _, page, now = await engine.salvage.page(engine.databases, entry.name, "deletions", 0, 100)
        assert list(zip([line.id for line in page.lines], now, strict=True)) == [(2, "unchanged"), (22, "absent")]
        _, page, now = await engine.salvage.page({}, entry.name, "documents", 0, 100)
        assert set(now) == {"unknown"}
        with pytest.raises(BadRequest, match="no part"):
            await engine.salvage.page(engine.databases, entry.name, "manifest", 0, 100)


async def test_a_page_is_bounded_by_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, common = await _diverged_disk()
    assert rewind(disk, "db", common, 1)
    monkeypatch.setattr(shelf, "PAGE_BYTES_MAX", 1)
    monkeypatch.setattr(shelf, "READ_BYTES", 7)
    [entry] = shelf.entries(disk)
    found, offset, pages = [], 0, 0
    while offset is not None:
        _, page = shelf.page(disk, entry.name, "documents", offset, 1000)
        found += page.lines
        offset, pages = page.next_offset, pages + 1
    texts = disk.read_file(f"{entry.name}/documents.jsonl").splitlines()
    assert found == [decode_line(text) for text in texts[1:]] and pages == 4


async def test_what_else_was_set_aside_is_listed_and_removed_only_by_name() -> None:
    disk, common = await _diverged_disk()
    async with opened(disk, start=2) as engine:
        await engine.rewind("db", common)
        uuid = identities.read(disk, "db").uuid.hex()
        await engine.set_aside("db")
    torn = f"{disk.list_dir('_dropped')[0]}"
    disk.make_dir("other/salvage")
    disk.replace_file("other/database.json", b"{}")
    for name in ("torn-00000000000000000007.bin", "torn-00000000000000000007.0.log", "shard_000.db-96.bin", "rewound-1-x.log"):
        disk.replace_file(f"other/salvage/{name}", b"12345")
    disk.make_dir("_salvage")
    disk.replace_file("_salvage/role-abc.json", b"{}")
    found = {entry.name: entry for entry in shelf.entries(disk)}
    kinds = sorted(entry.kind for entry in found.values())
    assert kinds == ["dropped", "log", "repaired", "rewind", "role", "torn"]
    assert found["other/salvage/torn-00000000000000000007"].bytes == 10
    whole = found[f"_dropped/{torn}"]
    assert whole.database == "db" and uuid in whole.name and whole.made_us > 0
    with pytest.raises(BadRequest, match="of its own"):
        shelf.drop(disk, whole.name)
    for name in ("../x", "other", "other/salvage", "db/salvage/nothing"):
        with pytest.raises(BadRequest, match="no salvage entry"):
            shelf.drop(disk, name)
    for name in sorted(found, reverse=True):
        shelf.drop(disk, name)
    assert shelf.entries(disk) == [] and disk.exists("other/database.json") and shelf.totals(disk) == (0, 0)


async def test_that_an_entry_was_applied_is_remembered_in_it() -> None:
    disk, common = await _diverged_disk()
    async with opened(disk, start=2) as engine:
        await engine.rewind("db", common)
        [entry] = await engine.salvage.list()
        await engine.salvage.note_applied(entry.name, {"mode": "missing", "inserted": 3})
        await engine.salvage.note_applied(entry.name, {"mode": "missing", "inserted": 0})
        [entry] = await engine.salvage.list()
        assert [applied["inserted"] for applied in entry.applied] == [3, 0] and entry.applied[0]["when_us"] > 0
        with pytest.raises(BadRequest):
            await engine.salvage.note_applied("db/salvage/none", {})
