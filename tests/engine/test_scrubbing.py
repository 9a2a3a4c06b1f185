"""The scrub and repair of a running database: damage on its disk is found, put right from what else holds the commit, or told."""

from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import DamagedRecord, Database, MemoryDisk, Severity, canonical, encode_document, operations
from storage.repairing import Source, Wanted, find_record, fits, put_in_place
from storage.shard.record import HEADER_BYTES, ShardRecord, decode
from storage.values.keys import hash64
from tests.engine.model import everything, insert, new_database, opened, settled
from tests.sim.disk import Platter, SimCrash

NEVER = {"scrub_interval_s": 0.0}
COUNT = 30


async def sealed_database(engine) -> Database:
    database = await new_database(engine)
    await insert(database, *({"_id": number, "text": "t" * number} for number in range(COUNT)))
    await database.sealing.seal_now()
    return database


async def without_log(database: Database) -> None:
    """Take away what the own commit log could repair from."""
    disk = database.seams.disk
    await database.log.make_ready()
    for path, _ in database.log.segments:
        if disk.exists(path):
            file = disk.read_file(path)
            disk.overwrite(path, 0, bytes(len(file)))
    database.log._recent.clear()


def flip(disk: MemoryDisk, path: str, offset: int, bit: int = 0) -> None:
    old = disk.read_file(path)[offset]
    disk.overwrite(path, offset, bytes([old ^ 1 << bit]))


def place_of(database: Database, identity: object) -> tuple[str, int, int]:
    """(path, offset, length) of a document's live record."""
    shards = database.sealing.shards
    number = database.catalog.ids["things"]
    location = shards.find_location(number, canonical(identity))
    record = shards.find(number, canonical(identity))
    for shard in shards.shards:
        for log in shard.logs.values():
            try:
                if shard.log_of(location) is log and log.read(location & (1 << 48) - 1, HEADER_BYTES + len(record.id) + len(record.doc)) == record:
                    return log.path, location & (1 << 48) - 1, HEADER_BYTES + len(record.id) + len(record.doc)
            except DamagedRecord:
                continue
    raise AssertionError("not there")


def all_logs(disk: MemoryDisk) -> dict[str, bytes]:
    return {name: disk.read_file(f"db/{name}") for name in disk.list_dir("db") if name.endswith(".db")}


class Peer:
    """Another copy: the true records of a database as it was, or what it makes of them."""

    def __init__(self, database: Database, change=lambda record: record) -> None:
        self.asked: list[Wanted] = []
        self._database = database
        self._change = change
        self._records: list[ShardRecord] = []
        for shard in database.sealing.shards.shards:
            for log in shard.logs.values():
                self._records += [record for _, record in log.records()]

    async def ask(self, wanted: Wanted) -> ShardRecord | None:
        await trio.lowlevel.checkpoint()
        self.asked.append(wanted)
        found = [record for record in self._records if fits(record, wanted)]
        return self._change(found[-1]) if found else None

    def as_source(self) -> list[tuple[str, Source]]:
        return [("peer b", self.ask)]


async def test_a_sound_database_has_no_findings():
    async with opened(MemoryDisk(), **NEVER) as engine:
        database = await sealed_database(engine)
        report = await database.scrubbing.scrub_now()
        assert report.findings == report.damaged == ()
        assert (report.passes, report.repaired, report.running) == (1, 0, False)
        assert report.bytes > database.sealed_bytes and report.files > 4
        assert report.ended_us > report.began_us > 0


async def test_a_record_is_repaired_from_the_own_log():
    disk = MemoryDisk()
    async with opened(disk, **NEVER) as engine:
        database = await sealed_database(engine)
        before = all_logs(disk)
        path, offset, length = place_of(database, 7)
        flip(disk, path, offset + length - 1)
        report = await database.scrubbing.scrub_now()
        assert [finding.severity for finding in report.findings] == [Severity.NOTE]
        assert "this node's log" in str(report.findings[0]) and "'things'" in str(report.findings[0])
        assert report.repaired == 1 and report.damaged == ()
        assert all_logs(disk) == before
        [kept] = disk.list_dir("db/salvage")
        assert len(disk.read_file(f"db/salvage/{kept}")) == length, "INV-7"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bits_of_live_records_are_repaired_from_a_peer(data: st.DataObject):
    trio.run(repair_from_a_peer, data)


async def repair_from_a_peer(data: st.DataObject) -> None:
    disk = MemoryDisk()
    async with opened(disk, **NEVER) as engine:
        database = await sealed_database(engine)
        before = all_logs(disk)
        peer = Peer(database)
        database.scrubbing.peers = peer.as_source
        await without_log(database)
        for _ in range(data.draw(st.integers(1, 4))):
            name = data.draw(st.sampled_from([name for name, content in before.items() if content]))
            flip(disk, f"db/{name}", data.draw(st.integers(0, len(before[name]) - 1)), data.draw(st.integers(0, 7)))
        is_damaged = all_logs(disk) != before
        report = await database.scrubbing.scrub_now()
        assert all_logs(disk) == before, "byte for byte"
        assert (report.repaired > 0) == is_damaged
        assert report.damaged == ()
        assert len(await everything(database)) == COUNT


async def test_a_record_met_by_a_read_is_repaired_at_once():
    disk = MemoryDisk()
    async with opened(disk, cache_bytes=0, **NEVER) as engine:
        database = await sealed_database(engine)
        before = all_logs(disk)
        database.scrubbing.peers = Peer(database).as_source
        await without_log(database)
        path, offset, length = place_of(database, 3)
        flip(disk, path, offset + 3)  # its header: only the index knows it
        with pytest.raises(DamagedRecord) as caught:
            await everything(database)
        engine.met_damage(caught.value)
        with trio.fail_after(5):
            while all_logs(disk) != before:
                await trio.lowlevel.checkpoint()
        assert len(await everything(database)) == COUNT


def changed_document(record: ShardRecord) -> ShardRecord:
    return record._replace(doc=record.doc[:-1] + bytes([record.doc[-1] ^ 1])) if record.doc else record


WRONG = {
    "another document of the same length": changed_document,
    "another time": lambda record: record._replace(time_us=record.time_us + 1),
    "another row": lambda record: record._replace(row=record.row + 1),
    "an earlier seq": lambda record: record._replace(seq=record.seq - 1),
    "a longer document": lambda record: record._replace(doc=record.doc + b"x"),
    "another key": lambda record: record._replace(id=canonical(29)),
    "another collection": lambda record: record._replace(collection=99),
    "nothing": lambda record: None,
}


@pytest.mark.parametrize("in_header", [True, False])
@pytest.mark.parametrize("wrong", WRONG)
async def test_wrong_answers_of_a_peer_are_refused(wrong: str, in_header: bool):
    disk = MemoryDisk()
    async with opened(disk, cache_bytes=0, **NEVER) as engine:
        database = await sealed_database(engine)
        peer = Peer(database, WRONG[wrong])
        database.scrubbing.peers = peer.as_source
        told: list[int] = []
        database.scrubbing.on_change = lambda: told.append(1)
        await without_log(database)
        path, offset, length = place_of(database, 12)
        flip(disk, path, offset + (5 if in_header else length - 1))
        damaged = all_logs(disk)
        report = await database.scrubbing.scrub_now()
        assert peer.asked and all_logs(disk) == damaged, "nothing was written"
        [finding] = report.damaged
        assert finding.severity is Severity.ERROR and finding.offset == offset and "'things'" in finding.what
        assert told
        with pytest.raises(DamagedRecord):
            await everything(database)
        assert await database.view().get(database.catalog.ids["things"], canonical(13)) is not None, "the rest is served"
        # and a peer that has it comes
        database.scrubbing.peers = TruePeer(damaged, offset, in_header, length).as_source
        database.scrubbing.try_again()
        with trio.fail_after(5):
            while database.scrubbing.report.damaged:
                await trio.lowlevel.checkpoint()
        assert len(await everything(database)) == COUNT


class TruePeer(Peer):
    """Made after the damage: it undoes the flip in a copy."""

    def __init__(self, damaged: dict[str, bytes], offset: int, in_header: bool, length: int) -> None:
        self.asked = []
        self._change = lambda record: record
        at = offset + (5 if in_header else length - 1)
        for content in damaged.values():
            fixed = bytearray(content)
            if at < len(fixed):
                fixed[at] ^= 1
                try:
                    record = decode(bytes(fixed), offset)
                except DamagedRecord:
                    continue
                if record is not None and record.id == canonical(12):
                    self._records = [record]


async def test_a_superseded_record_is_told_and_alarms_nobody():
    disk = MemoryDisk()
    async with opened(disk, shards=1, **NEVER) as engine:
        database = await sealed_database(engine)
        path, offset, length = place_of(database, 5)
        await replace(database, 5, text="new")
        await database.sealing.seal_now()
        peer = Peer(database)
        await without_log(database)
        flip(disk, path, offset + length - 1)
        report = await database.scrubbing.scrub_now()
        told = [finding for finding in report.findings if finding.file == path]
        assert [finding.severity for finding in told] == [Severity.WARNING] and "superseded" in told[0].what
        assert report.damaged == ()
        # The file cannot have the manifest's hash now; a live record is judged by its own header.
        damaged = disk.read_file(path)
        same, at, size = place_of(database, 6)
        assert same == path
        flip(disk, path, at + size - 1)
        database.scrubbing.peers = lambda: [("liar", Changed(peer).ask)]
        assert (await database.scrubbing.scrub_now()).repaired == 0
        database.scrubbing.peers = lambda: [("b", Only(peer, canonical(6)).ask)]
        report = await database.scrubbing.scrub_now()
        assert disk.read_file(path) == damaged and report.repaired == 1


class Only(Peer):
    """A peer that still has one document's record only."""

    def __init__(self, other: Peer, key: bytes) -> None:
        self.asked, self._change = [], lambda record: record
        self._records = [record for record in other._records if record.id == key]


class Changed(Peer):
    def __init__(self, other: Peer) -> None:
        self.asked, self._change, self._records = [], changed_document, other._records


async def replace(database: Database, identity: object, **fields: object) -> None:
    document = encode_document({"_id": identity, **fields})
    result = await operations.replace_one(database, "things", {"_id": identity}, document)
    await settled(database, result.seq)


async def test_a_damaged_index_segment_is_replaced_in_the_running_node():
    disk = MemoryDisk()
    async with opened(disk, **NEVER) as engine:
        database = await sealed_database(engine)
        [name, *_] = [name for name in disk.list_dir("db") if ".sidx." in name]
        flip(disk, f"db/{name}", 100)
        before = database.sealing.shards
        report = await database.scrubbing.scrub_now()
        assert any(name in finding.file for finding in report.findings) and report.damaged == ()
        assert database.sealing.shards is not before
        assert len(await everything(database)) == COUNT
        await insert(database, {"_id": "more"})
        await database.sealing.seal_now()
        assert all(not shard.is_rebuilt for shard in database.sealing.shards.shards), "the seal wrote it anew"
        assert (await database.scrubbing.scrub_now()).findings == ()


async def test_without_record_checksums_damage_is_told_and_not_guessed():
    disk = MemoryDisk()
    async with opened(disk, crc=False, **NEVER) as engine:
        database = await sealed_database(engine)
        path, offset, length = place_of(database, 9)
        flip(disk, path, offset + length - 1)
        report = await database.scrubbing.scrub_now()
        [finding] = report.damaged
        assert finding.file == path and "no record's checksum" in finding.what and "seed" in finding.next_step


async def test_a_damaged_commit_log_is_told():
    disk = MemoryDisk()
    async with opened(disk, **NEVER) as engine:
        database = await sealed_database(engine)
        await insert(database, {"_id": "after the seal"})
        path, _ = database.log.segments[-1]
        flip(disk, path, 96 + 60)
        report = await database.scrubbing.scrub_now()
        [finding] = report.damaged
        assert finding.file == path and finding.severity is Severity.ERROR


async def test_a_seal_that_meets_damage_goes_on_after_the_repair(autojump_clock):
    disk = MemoryDisk()
    async with opened(disk, **NEVER) as engine:
        database = await sealed_database(engine)
        database.read_sealed_now(database.catalog.ids["things"], canonical(4))  # the hot cache has it
        path, offset, length = place_of(database, 4)
        flip(disk, path, offset + length - 1)
        await replace(database, 4, text="new")
        with trio.fail_after(60):
            await database.sealing.seal_now()
        assert database.sealing.failures == 1 and database.scrubbing.report.repaired == 1


async def test_find_record_looks_in_memtables_logs_and_files():
    async with opened(MemoryDisk(), **NEVER) as engine:
        database = await sealed_database(engine)
        number = database.catalog.ids["things"]
        record = database.sealing.shards.find(number, canonical(8))
        wanted = Wanted(number, hash64(number, record.id), HEADER_BYTES + len(record.id) + len(record.doc), False, record.seq)
        assert await find_record(database, wanted) == record, "the shard log has it"
        assert await find_record(database, wanted._replace(hash=0, seq=record.seq, row=record.row)) == record, "the log has it"
        assert await find_record(database, wanted._replace(seq_max=record.seq - 1)) is None
        assert await find_record(database, wanted._replace(length=wanted.length + 1)) is None
        await replace(database, 8, text="newer than the others")
        assert await find_record(database, wanted) == record, "what a memtable has newer does not hide it"
        seq = database.position.seq
        document = await database.view().get(number, canonical(8))
        newer = await find_record(database, wanted._replace(length=HEADER_BYTES + len(record.id) + len(document), seq_max=seq))
        assert newer is not None and (newer.seq, newer.doc) == (seq, document), "a memtable has it"


async def test_passes_come_by_themselves(autojump_clock):
    async with opened(MemoryDisk(), scrub_interval_s=2400.0, scrub_bytes_per_s=100) as engine:
        database = await sealed_database(engine)
        await trio.sleep(110.0)
        assert database.scrubbing.report.running
        await trio.sleep(200.0)
        assert database.scrubbing.report.passes == 1
        await trio.sleep(2400.0)
        assert database.scrubbing.report.passes == 2


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_a_lost_sector_is_put_right_as_far_as_anybody_has_it(seed: int):
    trio.run(lose_a_sector, seed)


async def lose_a_sector(seed: int) -> None:
    """Headers, documents, and superseded records that nobody has any more: the state hash is the judge."""
    disk = MemoryDisk()
    async with opened(disk, shards=1, cache_bytes=0, **NEVER) as engine:
        database = await sealed_database(engine)
        for number in range(0, COUNT, 3):
            await replace(database, number, text="new" * (number % 5))
        await database.sealing.seal_now()
        expected = await everything(database)
        peer = Peer(database)
        shards = database.sealing.shards
        [log] = shards.shards[0].logs.values()
        live = {row[:2] for batch in shards.scan(database.catalog.ids["things"]) for row in batch}
        peer._records = [record for record in peer._records if (record.seq, record.row) in live]
        await without_log(database)
        database.scrubbing.peers = peer.as_source
        first = 200 + seed % (log.entry.length - 900)
        disk.overwrite(log.path, first, bytes(512))
        report = await database.scrubbing.scrub_now()
        assert report.damaged == (), report.damaged
        assert await everything(database) == expected
        verified = await database.view().state_hash()
        assert verified == database.sealing.checkpoint.state_hash


async def test_a_wrong_document_is_refused_by_the_state_hash_too():
    disk = MemoryDisk()
    async with opened(disk, shards=1, cache_bytes=0, **NEVER) as engine:
        database = await sealed_database(engine)
        path, old, length = place_of(database, 5)
        await replace(database, 5, text="new")
        await database.sealing.seal_now()
        peer = Peer(database, changed_document)
        peer._records = [record for record in peer._records if record.id != canonical(5)]
        await without_log(database)
        flip(disk, path, old + 3)
        same, at, _ = place_of(database, 9)
        flip(disk, same, at + 3)
        damaged = all_logs(disk)
        database.scrubbing.peers = peer.as_source
        assert len((await database.scrubbing.scrub_now()).damaged) == 1 and all_logs(disk) == damaged
        peer._change = lambda record: record
        assert (await database.scrubbing.scrub_now()).damaged == ()
        assert len(await everything(database)) == COUNT


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("step", range(1, 12))
def test_a_crash_within_a_repair_loses_nothing_and_it_can_be_done_again(step: int, power: bool):
    """INV-7: the damaged bytes stand in the file or in salvage/, at every step."""
    platter = Platter(random.Random(step))
    disk = platter.mount()
    disk.make_dir("db")
    disk.sync_dir("")
    file = disk.create("db/shard_000.db")
    file.append(b"before damaged after")
    file.sync()
    disk.sync_dir("db")
    disk.crash_in(step)
    try:
        put_in_place(disk, "db", "shard_000.db", 7, b"sounder")
    except SimCrash:
        if power:
            platter.power_cut()
    disk.kill()
    disk = platter.mount()
    content = disk.read_file("db/shard_000.db")
    kept = [disk.read_file(f"db/salvage/{name}") for name in disk.list_dir("db/salvage")]
    assert content == b"before damaged after" or b"damaged" in kept
    assert (content[:7], content[14:]) == (b"before ", b" after"), "nothing else is touched"
    put_in_place(disk, "db", "shard_000.db", 7, b"sounder")
    assert disk.read_file("db/shard_000.db") == b"before sounder after"


async def test_what_two_peers_have_together_is_judged_together():
    disk = MemoryDisk()
    async with opened(disk, shards=1, **NEVER) as engine:
        database = await sealed_database(engine)
        before = all_logs(disk)
        peer = Peer(database)
        await without_log(database)
        places = [place_of(database, identity) for identity in (5, 9)]
        for path, offset, _ in places:
            flip(disk, path, offset + 3)
        database.scrubbing.peers = lambda: [(name, Only(peer, canonical(key)).ask) for name, key in (("b", 5), ("c", 9))]
        assert (await database.scrubbing.scrub_now()).repaired == 2
        assert all_logs(disk) == before
