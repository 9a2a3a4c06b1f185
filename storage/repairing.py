"""One damaged record put right: found elsewhere as it was written, judged by the manifest's hash, written in its old place.

    damage ── what is wanted (key hash, length, seq) ──> own commit log, peers ──> record ── encode ──> bytes for that place
           ── crc32c of the whole file with them in place == the manifest's ? ──> salvage/ ── overwrite ── read again

Shard logs are not alike on two nodes, but a record is a pure function of what was committed, so whoever has the commit can give it. Nobody is
believed: the file with the bytes in place must have the manifest's crc32c. When other damage in the same file keeps it from that (superseded
records that nobody has any more), a record must be the one whose sound header, crc of key and document included, stands there, or make the
documents of its collection add up to the manifest's state hash (seq, row and time are then the peer's word). Nothing else ever
writes into an existing file.
Answers are looked up here too (find_record), for this node and for its peers. Knows no peer and no link.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import trio

from .commit.codec import DELETE, HEAD_BYTES, PUT, check_body, decode_body, decode_head
from .commit.memtable import Memtable, Version
from .disk import Disk
from .errors import DamagedRecord
from .recovery import keep
from .shard.checkpoint import Checkpoint, LogFile
from .shard.record import BODY_UNCHECKED, HEADER_BYTES, FileHeader, ShardRecord, encode, encode_file_header
from .shard.scrub import (
    INSPECT_BYTES,
    STEP_BYTES,
    Damage,
    Patch,
    Standing,
    read_crc,
    read_what_is_there,
    sum_live,
)
from .shard.shardset import ShardSet
from .values.keys import hash64

if TYPE_CHECKING:
    from .database import Database


OFFERED_BYTES_MAX = 64 * 2**20  # of one file's records that are held to be judged together


class Wanted(NamedTuple):
    """A record as a peer is asked for it. seq and row are 0 when the damaged header hides them: then it is the newest write of that
    key up to seq_max. length: of the whole record."""

    collection: int
    hash: int
    length: int
    is_deletion: bool
    seq_max: int
    seq: int = 0
    row: int = 0


Source = Callable[[Wanted], Awaitable[ShardRecord | None]]


def wanted(damage: Damage, seq_max: int) -> Wanted:
    """What to ask for. damage.is_one_record holds."""
    seq, row = damage.place
    return Wanted(damage.collection, max(damage.hash, 0), damage.length, damage.is_deletion, seq_max, seq, row)


def fits(record: ShardRecord, asked: Wanted) -> bool:
    """Whether a record can be the one that was asked for; the judge then says whether it is."""
    return (
        record.collection == asked.collection
        and record.op == (DELETE if asked.is_deletion else PUT)
        and HEADER_BYTES + len(record.id) + len(record.doc) == asked.length
        and record.seq <= asked.seq_max
        and (not asked.hash or hash64(record.collection, record.id) == asked.hash)
        and (not asked.seq or (record.seq, record.row) == (asked.seq, asked.row))
    )


# Looking one up.


async def find_record(database: Database, asked: Wanted) -> ShardRecord | None:
    """The record as it was written, from this node's log, memtables or shard logs; None when it is in none of them, sound."""
    found = await _in_log(database, asked) if asked.seq else None
    if found is None and asked.hash:
        shards, memtables = database.sealing.pinned()
        tables = [(memtable, memtable.keys(asked.collection)) for memtable in memtables]  # copies: writers go on
        found = await database.seams.disk.run(_in_memory_or_files, tables, shards, asked)
    return found


async def _in_log(database: Database, asked: Wanted) -> ShardRecord | None:
    try:
        run = await database.log.read(asked.seq - 1, min(asked.seq, database.log.written_seq), HEAD_BYTES)
        if run is None or not run.data:
            return None
        head = decode_head(run.data)
        if head is None or head.seq != asked.seq or head.record_count <= asked.row:
            return None
        body = run.data[HEAD_BYTES : head.frame_len]
        check_body(head, body)
        record = decode_body(head.record_count, body)[asked.row]
    except DamagedRecord:
        return None
    found = ShardRecord(record.op, record.collection, head.seq, asked.row, head.time_us, record.id, record.doc)
    return found if fits(found, asked) else None


def _in_memory_or_files(
    tables: Sequence[tuple[Memtable, Sequence[bytes]]], shards: ShardSet | None, asked: Wanted
) -> ShardRecord | None:
    for memtable, keys in tables:
        for key in keys:
            if hash64(asked.collection, key) == asked.hash:
                found = _version_as_record(memtable.at_listed(asked.collection, key, asked.seq_max), key, asked)
                if found is not None:
                    return found
    if shards is None:
        return None
    shard = shards.shards[asked.hash % len(shards.shards)]
    for segment in shard.segments:
        for location, length, _ in segment.find(asked.hash):
            if length != asked.length:
                continue
            try:
                record = shard.read(location, length)
            except DamagedRecord:
                continue  # this copy has the same trouble
            if fits(record, asked):
                return record
    return None


def _version_as_record(version: Version | None, key: bytes, asked: Wanted) -> ShardRecord | None:
    while version is not None:
        seq, row, op, doc, time_us, older = version
        record = ShardRecord(op, asked.collection, seq, row, time_us, key, doc)
        if fits(record, asked):
            return record
        version = older if asked.seq else None
    return None


# Putting it in place.


class Repair:
    """The repair of one shard log."""

    def __init__(self, database: Database, checkpoint: Checkpoint, number: int, entry: LogFile) -> None:
        self._database = database
        self._checkpoint = checkpoint
        self._number = number  # of the shard
        self._entry = entry
        self._path = f"{database.directory}/{entry.file}"

    async def run(self, damages: Sequence[Damage], sources: Sequence[tuple[str, Source]]) -> dict[Damage, str]:
        """What was repaired, and from where. Sources are asked one after the other, each for what the ones before could not give."""
        repaired: dict[Damage, str] = {}
        pool: dict[Damage, bytes] = {}  # what one could not give another may
        for name, source in (("its shard and generation", None), *sources):
            left = [damage for damage in damages if damage not in repaired]
            if not left:
                break
            offered = await self._offers(left, source)
            pool = {damage: data for damage, data in (pool | offered).items() if damage in left}
            accepted = await self._judge(left, pool) if offered else {}
            if accepted:
                await self._write(accepted)
                repaired.update(dict.fromkeys(accepted, name))
        return repaired

    async def _offers(self, damages: Sequence[Damage], source: Source | None) -> dict[Damage, bytes]:
        offered: dict[Damage, bytes] = {}
        room = OFFERED_BYTES_MAX
        for damage in damages:
            if damage.is_one_record:
                room -= damage.length
                if room < 0 and offered:
                    break  # the next pass goes on with what is left (INV-8)
            if damage.standing is Standing.FILE and damage.offset == 0 and damage.length:
                offered[damage] = encode_file_header(header_of(self._checkpoint, self._number, self._entry))
            elif damage.is_one_record and source is not None:
                asked = wanted(damage, self._checkpoint.seq)
                record = await source(asked)
                if record is not None and fits(record, asked):
                    offered[damage] = self._encoded(record)
        return offered

    def _encoded(self, record: ShardRecord) -> bytes:
        return encode(
            record.op, record.collection, record.id, record.doc,
            seq=record.seq, row=record.row, time_us=record.time_us, crc=self._database.identity.crc,
        )  # fmt: skip

    async def _judge(self, damages: Sequence[Damage], offered: Mapping[Damage, bytes]) -> dict[Damage, bytes]:
        """What of the offered bytes is proved to be what was written."""
        is_whole = len(offered) == len(damages)
        if is_whole and await self._crc_with(offered) == self._entry.crc32c:
            return dict(offered)
        accepted = {damage: data for damage, data in offered.items() if is_vouched(damage, data)}
        headless = {damage: data for damage, data in offered.items() if not damage.head and _counts(damage)}
        if is_whole:
            return accepted  # the file's hash has spoken
        for collection in {damage.collection for damage in headless}:
            here = {damage: data for damage, data in headless.items() if damage.collection == collection}
            if await self._sum_agrees(collection, accepted | here):
                accepted |= here
        return accepted

    async def _sum_agrees(self, collection: int, offered: Mapping[Damage, bytes]) -> bool:
        """INV-6 as the judge: the live documents of the collection, the offered ones among them, add up to the manifest's state hash."""
        entries = {entry.id: entry for entry in self._checkpoint.collections.values()}
        if collection not in entries:
            return False  # the catalog has no sum of its own
        patches: list[Patch] = [(damage.offset, data) for damage, data in offered.items()]
        count = total = 0
        workers = self._database.seams.index_workers
        for files in self._checkpoint.shards:
            for entry in files.logs:
                here = patches if entry.file == self._entry.file else ()
                for start in range(0, entry.length, INSPECT_BYTES):
                    end = min(start + INSPECT_BYTES, entry.length)
                    mine = [patch for patch in here if start <= patch[0] < end]
                    piece = (files, entry, collection, start, end, mine)
                    try:
                        more, part = await workers.run(sum_live, self._database.directory, *piece)
                    except DamagedRecord:
                        return False  # there is more damage of it elsewhere: that comes first
                    count, total = count + more, total + part
        return (count, total % 2**256) == (entries[collection].count, entries[collection].total)

    async def _crc_with(self, offered: Mapping[Damage, bytes]) -> int | None:
        seams = self._database.seams
        patches: list[Patch] = [(damage.offset, data) for damage, data in offered.items()]
        crc: int | None = 0
        for start in range(0, self._entry.length, STEP_BYTES):
            end = min(start + STEP_BYTES, self._entry.length)
            mine = [(at, data) for at, data in patches if at < end and at + len(data) > start]
            crc = await seams.index_workers.run(read_crc, self._path, start, end, crc, mine)
            if crc is None:
                return None
        return crc

    async def _write(self, accepted: Mapping[Damage, bytes]) -> None:
        disk = self._database.seams.disk
        for damage, data in accepted.items():
            with trio.CancelScope(shield=True):
                await disk.run(put_in_place, disk, self._database.directory, self._entry.file, damage.offset, data)
            if damage.key:
                self._database.cache.forget([(damage.collection, damage.key)])


def _counts(damage: Damage) -> bool:
    """Whether it is a document that its collection's state hash covers."""
    return damage.standing is Standing.LIVE and not damage.is_deletion


def header_of(checkpoint: Checkpoint, number: int, entry: LogFile) -> FileHeader:
    """The header that a shard log of a checkpoint must have."""
    return FileHeader(number, entry.generation, len(checkpoint.shards), bytes.fromhex(checkpoint.uuid))


def is_vouched(damage: Damage, data: bytes) -> bool:
    """Whether the record's own header, which is sound, says that these are its bytes: it has their crc."""
    if damage.standing is Standing.FILE:
        return True  # there is only one header that this file can have
    return bool(damage.head) and data[:HEADER_BYTES] == damage.head and not damage.head[15] & BODY_UNCHECKED


def put_in_place(disk: Disk, directory: str, file: str, offset: int, data: bytes) -> None:
    """Write over damaged bytes; they are in salvage/ first (INV-7). Blocking. A crash within leaves damage that is found again.

    Raises DamagedRecord when the bytes do not stay."""
    path = f"{directory}/{file}"
    keep(disk, directory, f"{file}-{offset}.bin", _read(disk, path, offset, len(data), strictly=False))
    disk.overwrite(path, offset, data)
    if _read(disk, path, offset, len(data), strictly=True) != data:
        raise DamagedRecord(
            f"{path} at offset {offset}: what was written over damage does not stay: replace the device", file=path, offset=offset
        )


def _read(disk: Disk, path: str, offset: int, length: int, *, strictly: bool) -> bytes:
    file = disk.open_read(path)
    try:
        return file.read_at(offset, length) if strictly else read_what_is_there(file, offset, length)
    finally:
        file.close()
