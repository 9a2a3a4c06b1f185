"""Compaction: the live records of one shard, copied from all logs that a checkpoint names into one new log. Blocks; knows no loop.

    checkpoint B ── index: live locations ──> logs, in the order of writing ── check ──> shard_000.g7.db, synced every SYNC_BYTES
                                                                            └─────────> shard_000.g7.moves: location before -> after

Nothing of the database changes by it: two files that nothing names are written beside it, and the next seal takes them up (seal.py):
the new log then stands in front of what was written since B. Superseded records, deletions and records of dropped collections stay behind: a
deletion goes because everything older for its key goes too. Records are copied as they are, in their order, each checked against its
crcs and its index entry first: a live one that is damaged ends the job with DamagedRecord and nothing is taken up; a dead one is never read.

Whoever plans it sees to it that no seal extends these logs meanwhile, that the checkpoint stays, and that nobody else uses the generation.
Costs (one core, records of 200 bytes, page cache): about 1 µs a live record; memory: a chunk of records, and 60 bytes a live one for
its columns (INV-8).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import google_crc32c
import numpy as np

from ..commit.codec import CATALOG, PUT
from ..commit.columns import structures_at
from ..disk import Disk, File
from ..errors import DamagedRecord, InternalError
from ..index.moves import Moves, open_moves, write_moves
from ..index.primary import GENERATION_MAX, GENERATION_SHIFT, OFFSET_MASK, live_columns
from ..values.keys import hash64
from . import checkpoint as checkpoints
from . import record as codec
from .checkpoint import Checkpoint, LogFile, ShardFiles
from .logfile import ShardLog, damage
from .older import check_records, read_chunks
from .rebuild import HashKey
from .record import FILE_HEADER_BYTES, HEADER_BYTES, HEADER_TYPE
from .shardset import Shard, open_shard

SYNC_BYTES = 8 * 2**20  # so that one sync never holds the device for long


@dataclass(frozen=True, slots=True)
class CompactPlan:
    """Which shard, as the checkpoint at seq has it, and the generation of its new log. uuid in hex."""

    uuid: str
    seq: int
    shard: int
    generation: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a job has written: `log` holds the live records of `replaced`, the logs that the shard had then."""

    uuid: str
    shard: int
    replaced: tuple[LogFile, ...]
    log: LogFile
    moves: str
    records: int

    @property
    def bytes_before(self) -> int:
        return sum(log.length for log in self.replaced)

    @property
    def bytes_after(self) -> int:
        return self.log.length


def plan_compaction(disk: Disk, directory: str, checkpoint: Checkpoint, shard: int) -> CompactPlan:
    """With a generation that no file has. Blocking."""
    names = disk.list_dir(directory) + [name for name, _ in checkpoints.files_of(checkpoint)]
    generation = checkpoints.highest_numbers(names)[0].get(shard, 0) + 1
    if generation > GENERATION_MAX:
        raise InternalError(f"{directory}: shard {shard} has used all {GENERATION_MAX} log generations: export it")
    return CompactPlan(checkpoint.uuid, checkpoint.seq, shard, generation)


def files_of_plan(plan: CompactPlan) -> tuple[str, str]:
    """The log and the moves that the job writes."""
    return checkpoints.log_name(plan.shard, plan.generation), checkpoints.moves_name(plan.shard, plan.generation)


def live_bytes(shard: Shard, collections: np.ndarray) -> int:
    """Bytes of the live records of these collections in the shard's logs: 100 ns an index entry."""
    live = live_columns(shard.segments)
    return int(live.length[np.isin(live.collection, collections)].sum(dtype=np.int64))


def stale_bytes(files: ShardFiles) -> int | None:
    """What a compaction would save; None when the checkpoint does not say."""
    if files.live is None:
        return None
    return sum(log.length - FILE_HEADER_BYTES for log in files.logs) - files.live


def compact(disk: Disk, directory: str, plan: CompactPlan, *, hash_key: HashKey = hash64) -> Compacted:
    """Raises DamagedRecord when a live record is not what was written, OSError as the disk gives it: then no file is left."""
    checkpoint = checkpoints.load(disk, directory, plan.seq)
    if checkpoint.uuid != plan.uuid:
        raise InternalError(f"{directory}: checkpoint {plan.seq} is of database {checkpoint.uuid}, not {plan.uuid}")
    shard = open_shard(disk, directory, checkpoint, plan.shard, hash_key=hash_key)
    log_name, moves_name = files_of_plan(plan)
    file = disk.create(f"{directory}/{log_name}")
    try:
        try:
            header = codec.FileHeader(plan.shard, plan.generation, len(checkpoint.shards), bytes.fromhex(plan.uuid))
            entry, before, after = _copy(shard, file, LogFile(log_name, plan.generation, 0, 0), header, _named(checkpoint))
        finally:
            file.close()
        write_moves(
            disk,
            f"{directory}/{moves_name}",
            uuid=header.uuid,
            shard=plan.shard,
            generation=plan.generation,
            before=before,
            after=after,
        )
    except (OSError, DamagedRecord):
        for name in (log_name, moves_name):
            with suppress(OSError):  # not there, or a disk that refuses: the next seal's clean-up finds it
                disk.remove(f"{directory}/{name}")
        raise
    return Compacted(plan.uuid, plan.shard, shard.files.logs, entry, moves_name, len(before))


def open_compacted(disk: Disk, directory: str, compacted: Compacted, base: Checkpoint) -> Moves:
    """Of a compaction that can be taken up upon base. Raises DamagedRecord when it cannot."""
    logs = base.shards[compacted.shard].logs
    path = f"{directory}/{compacted.log.file}"
    if base.uuid != compacted.uuid or logs[: len(compacted.replaced)] != compacted.replaced:
        raise DamagedRecord(f"{path} stands for other logs than those of checkpoint {base.seq}", file=path, offset=0)
    if not disk.exists(path) or disk.size(path) < compacted.log.length:
        raise DamagedRecord(f"{path} is not there whole", file=path, offset=0)
    return open_moves(
        disk,
        f"{directory}/{compacted.moves}",
        uuid=bytes.fromhex(compacted.uuid),
        shard=compacted.shard,
        generation=compacted.log.generation,
        generations=[log.generation for log in compacted.replaced],
    )


def _named(checkpoint: Checkpoint) -> np.ndarray:
    """Collections whose records count: the catalog and what it names."""
    return np.array([CATALOG, *(entry.id for entry in checkpoint.collections.values())], np.uint32)


def _copy(
    shard: Shard, file: File, entry: LogFile, header: codec.FileHeader, named: np.ndarray
) -> tuple[LogFile, np.ndarray, np.ndarray]:
    """Fill the new log; returns its entry, and the locations before, ascending, and after."""
    live = live_columns(shard.segments)
    mine = np.isin(live.collection, named)
    location, length, collection = live.location[mine], live.length[mine].astype(np.int64), live.collection[mine]
    del live, mine
    order = np.argsort(location)
    location, length, collection = location[order], length[order], collection[order]
    after = np.empty(len(location), np.uint64)
    head = codec.encode_file_header(header)
    file.append(head)
    crc, at, synced = google_crc32c.value(head), len(head), 0
    for generation, log in shard.logs.items():  # in the order of writing
        bounds = np.array([generation << GENERATION_SHIFT, (generation + 1) << GENERATION_SHIFT], np.uint64)
        low, high = np.searchsorted(location, bounds).tolist()
        if low == high:
            continue
        ends = at + np.cumsum(length[low:high])
        after[low:high] = (np.uint64(entry.generation << GENERATION_SHIFT) + (ends - length[low:high]).astype(np.uint64))
        offsets = (location[low:high] & np.uint64(OFFSET_MASK)).astype(np.int64)
        for data in _checked(log, offsets, length[low:high], collection[low:high]):
            file.append(data)
            crc = google_crc32c.extend(crc, data)
            at += len(data)
            if at - synced >= SYNC_BYTES:
                file.sync()
                synced = at
        assert at == int(ends[-1]), "every record was copied"
    file.sync()
    return entry._replace(length=at, crc32c=crc), location, after


def _checked(log: ShardLog, offsets: np.ndarray, lengths: np.ndarray, collections: np.ndarray) -> Iterator[bytes]:
    """The bytes of the records of one log, offsets ascending, in chunks."""
    for first, end, buffer, at in read_chunks(log, offsets, lengths):
        some = slice(first, end)
        heads = structures_at(buffer, HEADER_TYPE, at)
        check_records(log, buffer, at, heads, offsets[some], lengths[some])
        sizes = HEADER_BYTES + heads["id_len"].astype(np.int64) + heads["doc_len"]
        is_meant = (sizes == lengths[some]) & (heads["collection"] == collections[some]) & (heads["op"] == PUT)
        if not is_meant.all():
            offset = int(offsets[some][np.argmin(is_meant)])
            raise damage(log.path, offset, "the index takes this record for another one")
        ends = at + sizes
        begins = np.flatnonzero(np.append(True, at[1:] != ends[:-1]))  # of runs of neighbours
        stops = np.append(begins[1:], len(at)) - 1
        yield b"".join([buffer[start:stop] for start, stop in zip(at[begins].tolist(), ends[stops].tolist())])
