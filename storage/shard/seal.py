"""Sealing: a range of the commit log becomes shard records, index segments and a new checkpoint. Pure of loop and clock.

    read base ── net effect of every key ── what it supersedes ── fold the state hash
         ── append to shard logs, sync ── index segments, sync ── sync directory ── checkpoint (replace_file)

Runs in the worker process, or here in memory mode and in the simulator; never twice at once in one database. The caller has
synced the log up to to_seq. Until the checkpoint is written nothing that an older checkpoint names has changed: shard logs
only grew past the lengths it gives, everything else is a new file. So a crash at any step leaves the database as it was, and
sealing again gives the same content and state hash (INV-5, INV-6). A shard log whose size is not what the base says (an
unfinished seal, a rewind) is never written again; the next generation takes over.

Rows of a collection that the catalog no longer names at to_seq are left out; the rows it had before become unreachable.
Costs: about 8 µs an insert and 15 µs an update (200 bytes, one core); memory for the net effect of the range, which the memtable's bound keeps small (INV-8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import google_crc32c
import numpy as np

from ..commit.codec import CATALOG, Head, Op, decode_body, first_chain
from ..commit.scan import read_commits
from ..disk import Disk, File
from ..errors import DamagedRecord, InternalError
from ..finding import Finding
from ..index.primary import (
    GENERATION_MAX,
    GENERATION_SHIFT,
    NONE,
    TOMBSTONE,
    Columns,
    Segment,
    SegmentInfo,
    build,
    checksum,
    columns_from_rows,
    merge_columns,
)
from ..position import History, Reign
from ..values.keys import hash64
from ..versions.statehash import StateFold, States, catalog_entry, state_hash
from . import checkpoint as checkpoints
from . import record as codec
from .checkpoint import (
    REQUEST_ANSWER_BYTES_MAX,
    REQUEST_ANSWERS_BYTES_MAX,
    REQUESTS_MAX,
    Checkpoint,
    CollectionEntry,
    IndexFile,
    LogFile,
    RequestKept,
    ShardFiles,
    empty_checkpoint,
)
from .rebuild import HashKey
from .record import ShardRecord
from .shardset import ShardSet

APPEND_BYTES = 4 * 2**20  # handed to the kernel at a time
MERGE_SEGMENTS_MIN = 4  # neighbours of similar size that become one
TIER_RATIO = 4  # sizes within this factor are similar
SEGMENTS_MAX = 24  # of one shard; at this number all become one

ReadCommits = Callable[[Disk, list[str], int, int], Iterable[tuple[Head, bytes]]]


@dataclass(frozen=True, slots=True)
class SealPlan:
    """What to seal: commits base_seq + 1 to to_seq, from the log segments (paths relative to the disk's root, in order).

    base_seq: a checkpoint that validates; None when there is none yet. uuid in hex."""

    base_seq: int | None
    to_seq: int
    shards: int
    crc: bool
    uuid: str
    segments: list[str]


@dataclass(frozen=True, slots=True)
class SealResult:
    """What was done; the checkpoint itself is on disk under `seq`."""

    seq: int
    state_hash: str
    records: int  # written to shard logs
    bytes: int  # written to shard logs
    files: tuple[str, ...]  # new ones, relative to the database's directory
    findings: tuple[Finding, ...] = ()  # about the base


class Effect(NamedTuple):
    """The last write to one key in the range."""

    op: int
    doc: bytes
    seq: int
    row: int
    time_us: int


Key = tuple[int, bytes]  # collection, canonical key


@dataclass(slots=True)
class Range:
    """What the commits of the range come to. `effects` stands in the order of (seq, row)."""

    effects: dict[Key, Effect]
    history: History
    requests: list[RequestKept]
    next_collection_id: int
    chain: int
    epoch: int
    time_us: int
    last_seq: int


def seal(
    disk: Disk,
    directory: str,
    plan: SealPlan,
    *,
    read: ReadCommits = read_commits,
    hash_key: HashKey = hash64,
) -> SealResult:
    """Blocking. Raises OSError as the disk gives it, DamagedRecord when log or base do not hold what they should."""
    base = _base_of(disk, directory, plan)
    before = ShardSet.open(disk, directory, base, hash_key=hash_key)
    if plan.to_seq == base.seq and plan.base_seq is not None:
        return SealResult(base.seq, base.state_hash, 0, 0, (), tuple(before.findings))
    gathered = gather(base, read(disk, plan.segments, base.seq, plan.to_seq))
    if gathered.last_seq != plan.to_seq:
        raise DamagedRecord(f"{directory}: the log ends at commit {gathered.last_seq}, {plan.to_seq} was to be sealed")
    shares, states = _split(before, base, gathered, hash_key, plan.shards)
    writer = _Writer(disk, directory, base, plan)
    try:
        written = [writer.write_shard(before, number, share) for number, share in enumerate(shares)]
        disk.make_dir(f"{directory}/{checkpoints.DIRECTORY}")
        disk.sync_dir(directory)
    except OSError:
        writer.discard()
        raise
    checkpoint = Checkpoint(
        uuid=plan.uuid,
        seq=gathered.last_seq,
        epoch=gathered.epoch,
        chain=gathered.chain,
        time_us=gathered.time_us,
        history=gathered.history,
        next_collection_id=gathered.next_collection_id,
        collections={name: CollectionEntry(number, s.count, s.total) for number, (name, s) in states.items()},
        state_hash=state_hash(states.values()),
        shards=tuple(written),
        requests=tuple(_newest_requests(gathered.requests)),
    )
    checkpoints.write(disk, directory, checkpoint)
    return SealResult(
        checkpoint.seq, checkpoint.state_hash, writer.records, writer.bytes, tuple(writer.made), tuple(before.findings)
    )


def _base_of(disk: Disk, directory: str, plan: SealPlan) -> Checkpoint:
    if plan.base_seq is None:
        return empty_checkpoint(plan.uuid, chain=first_chain(bytes.fromhex(plan.uuid)), shards=plan.shards)
    base = checkpoints.load(disk, directory, plan.base_seq)
    if base.uuid != plan.uuid or len(base.shards) != plan.shards or plan.to_seq < base.seq:
        raise InternalError(
            f"{directory}: checkpoint {base.seq} of database {base.uuid} with {len(base.shards)} shards is no base for "
            f"sealing {plan.uuid} with {plan.shards} shards up to {plan.to_seq}"
        )
    return base


def gather(base: Checkpoint, commits: Iterable[tuple[Head, bytes]]) -> Range:
    """The net effect of commits that follow the base without a gap. Raises DamagedRecord when they do not."""
    found = Range(
        {}, base.history, list(base.requests), base.next_collection_id, base.chain, base.epoch, base.time_us, base.seq
    )
    effects = found.effects
    for head, body in commits:
        if head.seq != found.last_seq + 1:
            raise DamagedRecord(f"commit {head.seq} stands after {found.last_seq} in the log", seq=head.seq)
        seq, time_us = head.seq, head.time_us
        for row, record in enumerate(decode_body(head.record_count, body)):
            op = record.op
            if op == Op.PUT or op == Op.DELETE:
                key = (record.collection, record.id)
                effects.pop(key, None)  # so that the dict's order is that of last writes
                effects[key] = Effect(op, record.doc, seq, row, time_us)
                if record.collection == CATALOG and op == Op.PUT:
                    number = catalog_entry(record.doc)[1]
                    found.next_collection_id = max(found.next_collection_id, number + 1)
            elif op == Op.REIGN:
                reign = Reign(head.epoch, int.from_bytes(record.doc, "little"), seq, found.chain)
                found.history = (*found.history, reign)
            elif op == Op.REQUEST:
                found.requests.append(RequestKept(record.id, record.doc))
        found.last_seq, found.chain, found.epoch, found.time_us = seq, head.chain, head.epoch, time_us
    return found


def _newest_requests(requests: Sequence[RequestKept]) -> list[RequestKept]:
    """As many of the newest as the bounds allow (INV-8), oldest first; long answers are forgotten, their ids are not."""
    kept: dict[bytes, RequestKept] = {}
    room = REQUEST_ANSWERS_BYTES_MAX
    for request in reversed(requests[-2 * REQUESTS_MAX :]):
        if request.id in kept:
            continue
        if len(request.answer) > min(room, REQUEST_ANSWER_BYTES_MAX):
            request = RequestKept(request.id, b"")
        room -= len(request.answer)
        kept[request.id] = request
        if len(kept) == REQUESTS_MAX:
            break
    return list(reversed(kept.values()))


class Placed(NamedTuple):
    """One record to be written, and the location of what it supersedes (NONE when nothing)."""

    hash: int
    collection: int
    key: bytes
    effect: Effect
    prev: int


def _split(
    before: ShardSet, base: Checkpoint, gathered: Range, hash_key: HashKey, shards: int
) -> tuple[list[list[Placed]], States]:
    """The records of each shard in the order of writing, and the states after them."""
    keys: list[list[Key]] = [[] for _ in range(shards)]
    hashes: list[list[int]] = [[] for _ in range(shards)]
    for key in gathered.effects:
        hashed = hash_key(*key)
        keys[hashed % shards].append(key)
        hashes[hashed % shards].append(hashed)
    older = [
        before.newest_of_many(number, np.array(hashes[number], np.uint64), keys[number]) for number in range(shards)
    ]
    fold = StateFold(base.states())
    for number in range(shards):
        for key, old in zip(keys[number], older[number]):
            _fold(fold, key[0], gathered.effects[key], old[1] if old is not None else None)
    states = fold.states()
    _check_named(gathered, states)
    shares = [
        list(_placed(keys[number], hashes[number], older[number], gathered.effects, states)) for number in range(shards)
    ]
    return shares, states


def _fold(fold: StateFold, collection: int, effect: Effect, old: ShardRecord | None) -> None:
    new_doc = effect.doc if effect.op == Op.PUT else None
    old_doc = old.doc if old is not None and old.op == Op.PUT else None
    fold.change(collection, new_doc, old_doc)


def _check_named(gathered: Range, states: States) -> None:
    """Every collection written to is in the catalog, or was: otherwise its rows would be in no state hash."""
    for (collection, _), effect in gathered.effects.items():
        if collection >= gathered.next_collection_id and collection not in states:
            raise InternalError(
                f"commit {effect.seq} writes to collection {collection}, which no catalog record up to "
                f"{gathered.last_seq} has named"
            )


def _placed(
    keys: Sequence[Key],
    hashes: Sequence[int],
    older: Sequence[tuple[int, ShardRecord] | None],
    effects: dict[Key, Effect],
    states: States,
) -> Iterator[Placed]:
    for key, hashed, old in zip(keys, hashes, older):
        collection = key[0]
        if collection != CATALOG and collection not in states:
            continue
        effect = effects[key]
        if effect.op == Op.DELETE and (old is None or old[1].op == Op.DELETE):
            continue
        yield Placed(hashed, collection, key[1], effect, NONE if old is None else old[0])


@dataclass(slots=True)
class _Writer:
    """Writes one seal's files. `made`: names of new files, which nothing names until the checkpoint is written."""

    disk: Disk
    directory: str
    base: Checkpoint
    plan: SealPlan
    made: list[str] = field(default_factory=list)
    records: int = 0
    bytes: int = 0
    _generations: dict[int, int] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = [name for name, _ in checkpoints.files_of(self.base)]
        names = self.disk.list_dir(self.directory) + named
        self._generations, self._numbers = checkpoints.highest_numbers(names)

    def write_shard(self, before: ShardSet, number: int, share: Sequence[Placed]) -> ShardFiles:
        """The shard's files after the seal."""
        shard = before.shards[number]
        logs, rows = shard.files.logs, []
        if share:
            logs, rows = self._append_log(number, logs, share)
        elif not shard.is_rebuilt:
            return shard.files
        index = self._write_index(number, list(reversed(shard.segments)), shard.files.index, rows, rebuilt=shard.is_rebuilt)
        return ShardFiles(logs, index)

    def _append_log(
        self, number: int, logs: tuple[LogFile, ...], share: Sequence[Placed]
    ) -> tuple[tuple[LogFile, ...], list[tuple[int, int, int, int, int]]]:
        file, entry = self._log_to_extend(number, logs)
        crc, length = entry.crc32c, entry.length
        rows, parts, size = [], [], 0
        if length == 0:
            header = codec.FileHeader(number, entry.generation, self.plan.shards, bytes.fromhex(self.plan.uuid))
            parts.append(codec.encode_file_header(header))
            size = length = codec.FILE_HEADER_BYTES
        top = entry.generation << GENERATION_SHIFT
        with_crc = self.plan.crc
        for placed in share:
            op, doc, seq, row, time_us = placed.effect
            data = codec.encode(op, placed.collection, placed.key, doc, seq=seq, row=row, time_us=time_us, crc=with_crc)
            mark = TOMBSTONE if op == Op.DELETE else 0
            rows.append((placed.hash, top | length, placed.prev, len(data) | mark, placed.collection))
            parts.append(data)
            length += len(data)
            size += len(data)
            if size >= APPEND_BYTES:
                crc = _append(file, parts, crc)
                parts, size = [], 0
        crc = _append(file, parts, crc)
        file.sync()
        file.close()
        self.records += len(share)
        self.bytes += length - entry.length
        grown = entry._replace(length=length, crc32c=crc)
        kept = logs[:-1] if logs and logs[-1].file == entry.file else logs
        return (*kept, grown), rows

    def _log_to_extend(self, number: int, logs: tuple[LogFile, ...]) -> tuple[File, LogFile]:
        """The last log of the shard if it ends where the base says, else a new generation."""
        if logs:
            path = f"{self.directory}/{logs[-1].file}"
            if self.disk.exists(path) and self.disk.size(path) == logs[-1].length:
                return self.disk.open_append(path), logs[-1]
        generation = self._generations[number] = self._generations.get(number, 0) + 1
        if generation > GENERATION_MAX:
            raise InternalError(f"{self.directory}: shard {number} has used all {GENERATION_MAX} log generations: export it")
        entry = LogFile(checkpoints.log_name(number, generation), generation, 0, 0)
        return self._create(entry.file), entry

    def _write_index(
        self,
        number: int,
        segments: list[Segment],
        files: tuple[IndexFile, ...],
        rows: list[tuple[int, int, int, int, int]],
        *,
        rebuilt: bool,
    ) -> tuple[IndexFile, ...]:
        """Add a segment of the new rows (oldest first everywhere), merging neighbours where the tiers ask for it."""
        new = columns_from_rows(rows)
        sizes = [segment.count for segment in segments] + [len(rows)]
        keep = 0 if rebuilt else merge_from(sizes)
        columns: Columns = new
        first = self.base.seq
        if keep < len(segments):
            merging = [segment.columns for segment in segments[keep:]] + [new]
            columns = merge_columns(merging, drop_tombstones=True)
            first = segments[keep].info.first
        info = SegmentInfo(bytes.fromhex(self.plan.uuid), number, first, self.plan.to_seq)
        data = build(columns, info)
        self._numbers[number] = self._numbers.get(number, 0) + 1
        name = checkpoints.index_name(number, self._numbers[number])
        file = self._create(name)
        file.append(data)
        file.sync()
        file.close()
        kept = () if rebuilt else files[:keep]
        return (*kept, IndexFile(name, len(data), checksum(data)))

    def _create(self, name: str) -> File:
        file = self.disk.create(f"{self.directory}/{name}")
        self.made.append(name)
        return file

    def discard(self) -> None:
        """After a failure before the checkpoint: give the space of new files back, as far as the disk lets us."""
        for name in self.made:
            try:
                self.disk.remove(f"{self.directory}/{name}")
            except OSError:
                return  # the next successful seal's clean-up finds them
        self.made.clear()


def _append(file: File, parts: list[bytes], crc: int) -> int:
    data = b"".join(parts)
    file.append(data)
    return google_crc32c.extend(crc, data)


def merge_from(sizes: Sequence[int]) -> int:
    """Which segments (entries of each, oldest first, the new one last) become one: all from the returned index on.

    Neighbours count as similar while none is of a higher tier (power of TIER_RATIO) than the newest; MERGE_SEGMENTS_MIN of
    them are merged, and the result is compared with what stands before it again. So a shard of n seals has about
    3 × log4(n) segments and every entry is rewritten about log4(n) times.
    """
    if len(sizes) > SEGMENTS_MAX:
        return 0
    start = len(sizes) - 1
    total = sizes[start]
    while True:
        tier = _tier(total)
        lowest = start
        while lowest > 0 and _tier(sizes[lowest - 1]) <= tier:
            lowest -= 1
        merged_here = 1  # what stands from start on counts as one
        if start - lowest + merged_here < MERGE_SEGMENTS_MIN:
            return start
        total += sum(sizes[lowest:start])
        start = lowest


def _tier(entries: int) -> int:
    tier = 0
    while entries >= TIER_RATIO:
        entries //= TIER_RATIO
        tier += 1
    return tier
