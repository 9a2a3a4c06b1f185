"""Sealing: a range of the commit log becomes shard records, index segments and a new checkpoint. Pure of loop and clock.

    read base ── last write to every key (gather.py) ── what it supersedes (older.py) ── fold the state hash
         ── append to shard logs, sync ── index segments, sync ── sync directory ── checkpoint (replace_file)

Runs in the worker process, or here in memory mode and in the simulator; never twice at once in one database. The caller has
synced the log up to to_seq. Until the checkpoint is written nothing that an older checkpoint names has changed: shard logs
only grew past the lengths it gives, everything else is a new file. So a crash at any step leaves the database as it was, and
sealing again gives the same content and state hash (INV-5, INV-6). Where a compaction has copied the logs that a shard had, its log takes their
place in front of the list, and the indexes are made to name the new places. A shard log whose size is not what the base says (an
unfinished seal, a rewind) is never written again; the next generation takes over.

Everything goes by columns: no object is made for a document. Rows of a collection that the catalog no longer names at to_seq
are left out; the rows it had before become unreachable. Costs (one core, 200 bytes, 64,000 at a
time): with the kernel 1.5 to 2.5 µs an insert, 5 µs an update of a record in the page cache; without it 5 and 10. Memory: the bytes
and columns of the range, which the memtable's bound keeps small (INV-8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import google_crc32c
import numpy as np

from ..commit.codec import CATALOG, DELETE, PUT, first_chain
from ..commit.scan import read_frames
from ..disk import Disk, File
from ..errors import DamagedRecord, InternalError
from ..fields.sealing import FieldsPlan, FieldsSealed, Written, seal_fields
from ..finding import Finding, Severity
from ..index.moves import Moves, moved_index
from ..index.primary import (
    GENERATION_MAX,
    GENERATION_SHIFT,
    NO_COLUMNS,
    NONE,
    TOMBSTONE,
    Columns,
    Segment,
    SegmentInfo,
    build,
    checksum,
    merge_columns,
    merge_from,
)
from ..values.keys import hash64
from ..versions.statehash import StateFold, States, fold, state_hash
from . import checkpoint as checkpoints
from . import record as codec
from .bases import Base, OpenBases
from .checkpoint import Checkpoint, CollectionEntry, IndexFile, LogFile, ShardFiles, empty_checkpoint
from .compaction import Compacted, live_bytes, open_compacted
from .gather import Range, Rows, distinct, gather
from .older import Older, older_records
from .rebuild import HashKey
from .record import HEADER_BYTES
from .shardset import Shard, ShardSet

APPEND_BYTES = 4 * 2**20  # handed to the kernel at a time, but always one record


@dataclass(frozen=True, slots=True)
class SealPlan:
    """What to seal: commits base_seq + 1 to to_seq, from the log segments (paths relative to the disk's root, in order); and what
    compaction (compaction.py) wants of it.

    base_seq: a checkpoint that validates; None when there is none yet. uuid in hex. fields: what of the field index goes on with it."""

    base_seq: int | None
    to_seq: int
    shards: int
    crc: bool
    uuid: str
    segments: list[str]
    fields: FieldsPlan | None = None
    closed: frozenset[str] = frozenset()  # shard logs that a compaction is copying: not extended
    reserved: Mapping[int, int] = field(default_factory=dict)  # shard -> generation that a compaction has taken
    compacted: tuple[Compacted, ...] = ()  # to be taken up, at most one of a shard


@dataclass(frozen=True, slots=True)
class SealResult:
    """What was done. checkpoint: as it is on disk under `seq`, but its requests, which only an opening needs, left out."""

    seq: int
    state_hash: str
    records: int  # written to shard logs
    bytes: int  # written to shard logs
    files: tuple[str, ...]  # new ones, relative to the database's directory
    findings: tuple[Finding, ...]  # about the base
    checkpoint: Checkpoint
    fields: FieldsSealed | None = None  # None: without an index, or it failed and must be built anew
    compacted: tuple[Compacted, ...] = ()  # what of the plan's was taken up


def seal(
    disk: Disk, directory: str, plan: SealPlan, *, hash_key: HashKey = hash64, bases: OpenBases | None = None
) -> SealResult:
    """Blocking. Raises OSError as the disk gives it, DamagedRecord when log or base do not hold what they should.

    bases: what the caller keeps open from one seal to the next."""
    base, before = _open_base(disk, directory, plan, hash_key, bases)
    if plan.to_seq == base.seq and plan.base_seq is not None:
        slim = replace(base, requests=())
        return SealResult(base.seq, base.state_hash, 0, 0, (), tuple(before.findings), slim)
    frames = read_frames(disk, plan.segments, base.seq, plan.to_seq, base.chain)
    gathered = gather(base, frames, hash_key)
    shares, states, superseded = _split(before, base, gathered, plan.shards)
    taken = _take_up(disk, directory, plan, base, before)
    writer = _Writer(disk, directory, base, plan, taken)
    live = _live_before(before, base, frozenset(states))
    try:
        written = [
            writer.write_shard(before, number, share)._replace(live=live[number] + share.live_change)
            for number, share in enumerate(shares)
        ]
        writer.sync()
        disk.make_dir(f"{directory}/{checkpoints.DIRECTORY}")
        disk.sync_dir(directory)
    except (OSError, DamagedRecord):
        writer.discard()
        raise
    fields = None
    if plan.fields is not None:
        digest = checkpoints.logs_digest(written)
        fields = _seal_fields(writer, gathered, superseded, before, frozenset(states), digest)
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
        requests=gathered.requests,
    )
    manifest = checkpoints.write(disk, directory, checkpoint)
    if bases is not None:
        bases.keep(directory, Base(manifest, checkpoint, before))
    return SealResult(
        seq=checkpoint.seq,
        state_hash=checkpoint.state_hash,
        records=writer.records,
        bytes=writer.bytes,
        files=tuple(writer.made),
        findings=tuple(before.findings),
        checkpoint=replace(checkpoint, requests=()),
        fields=fields,
        compacted=tuple(compacted for compacted, _ in taken.values()),
    )


def _open_base(
    disk: Disk, directory: str, plan: SealPlan, hash_key: HashKey, bases: OpenBases | None
) -> tuple[Checkpoint, ShardSet]:
    """The checkpoint to seal upon and its open files."""
    if plan.base_seq is None:
        base = empty_checkpoint(plan.uuid, chain=first_chain(bytes.fromhex(plan.uuid)), shards=plan.shards)
        return base, ShardSet.open(disk, directory, base, hash_key=hash_key)
    path = checkpoints.path_of(directory, plan.base_seq)
    manifest = disk.read_file(path)
    kept = bases.take(directory, manifest) if bases is not None else None
    base = kept.checkpoint if kept is not None else checkpoints.parse(manifest, path)
    if base.uuid != plan.uuid or len(base.shards) != plan.shards or not base.seq == plan.base_seq <= plan.to_seq:
        raise InternalError(
            f"{directory}: checkpoint {base.seq} of database {base.uuid} with {len(base.shards)} shards is no base for "
            f"sealing {plan.uuid} with {plan.shards} shards from {plan.base_seq} up to {plan.to_seq}"
        )
    previous = kept.segments if kept is not None else None
    return base, ShardSet.open(disk, directory, base, previous, hash_key=hash_key)


Taken = dict[int, tuple[Compacted, Moves]]  # by shard


def _take_up(disk: Disk, directory: str, plan: SealPlan, base: Checkpoint, before: ShardSet) -> Taken:
    """The compactions that fit the base. One that does not must not keep the seal from ending: it is told as a finding."""
    taken: Taken = {}
    for compacted in plan.compacted:
        try:
            taken[compacted.shard] = compacted, open_compacted(disk, directory, compacted, base)
        except (DamagedRecord, OSError) as error:
            what = f"the compaction of shard {compacted.shard} was not taken up: {error}"
            before.findings.append(Finding(Severity.WARNING, directory, -1, what, "it is done again"))
    return taken


def _live_before(before: ShardSet, base: Checkpoint, named: frozenset[int]) -> list[int]:
    """Bytes of the base's live records by shard, those of collections that are not named any more left out."""
    known = np.array([CATALOG, *(entry.id for entry in base.collections.values())], np.uint32)
    gone = known[1:][~np.isin(known[1:], np.array([*named], np.uint32))]
    found = []
    for shard in before.shards:
        live = live_bytes(shard, known) if shard.files.live is None else shard.files.live
        found.append(live - (live_bytes(shard, gone) if len(gone) else 0))
    return found


@dataclass(frozen=True, slots=True)
class Share:
    """The records of one shard in the order of writing, and the locations of what they supersede (NONE when nothing). live_change:
    what they add to the bytes of live records, less what they supersede."""

    rows: Rows
    prev: np.ndarray
    live_change: int


Superseded = list[tuple[np.ndarray, np.ndarray]]  # (collections, orders) of documents that were live until now


def _split(
    before: ShardSet, base: Checkpoint, gathered: Range, shards: int
) -> tuple[list[Share], States, Superseded]:
    """The records of each shard, the states after them, and which documents they supersede."""
    rows = gathered.rows
    shard_of = rows.hash % np.uint64(shards)
    prev = np.full(len(shard_of), NONE, np.uint64)
    was_live = np.zeros(len(shard_of), bool)
    change = np.where(rows.op == PUT, rows.key_len.astype(np.int64) + rows.doc_len + HEADER_BYTES, 0)
    state = StateFold(base.states())
    names = _CatalogChanges(rows)
    superseded: Superseded = []
    for number in range(shards):
        mine = np.flatnonzero(shard_of == number)
        for older in older_records(before.shards[number], rows.take(mine)) if len(mine) else ():
            which = mine[older.which]
            prev[which] = older.location
            was_live[which] = older.op == PUT
            change[which] -= np.where(older.op == PUT, rows.key_len[which].astype(np.int64) + older.doc_len + HEADER_BYTES, 0)
            superseded.append((rows.collection[which][older.op == PUT], older.order[older.op == PUT]))
            names.note(which, older)
            _subtract(state, rows.collection[which], older)
    names.apply(state)
    states = state.states()
    _check_named(gathered, states)
    is_put = rows.op == PUT
    is_named = np.isin(rows.collection, np.array([CATALOG, *states], np.uint32))
    keep = is_named & (is_put | was_live)
    _add(state, rows, is_put & is_named)
    of_shard = [np.flatnonzero(keep & (shard_of == number)) for number in range(shards)]
    shares = [Share(rows.take(mine), prev[mine], int(change[mine].sum())) for mine in of_shard]
    return shares, state.states(), superseded


def _seal_fields(
    writer: _Writer,
    gathered: Range,
    superseded: Superseded,
    before: ShardSet,
    living: frozenset[int],
    logs: str,
) -> FieldsSealed | None:
    """The field index's part. It is a cache (INV-5): whatever is wrong with it must not keep the seal from ending."""
    disk, directory, plan = writer.disk, writer.directory, writer.plan
    wanted = plan.fields.wanted.keys() | plan.fields.state.collections.keys()
    try:
        dead = {
            number: np.concatenate([orders[collection == number] for collection, orders in superseded])
            for number in wanted
            if superseded
        }
        written = {number: rows for number in wanted & living if (rows := _written(writer, number)) is not None}
        empty = frozenset(number for number in wanted if before.count(number) == 0)
        moves = {number: moves for number, (_, moves) in writer.taken.items()}
        return seal_fields(
            disk, directory, plan.fields, gathered.last_seq, gathered.rows.blob, written, dead, empty, living, logs, moves
        )
    except Exception as error:  # noqa: BLE001 - told as a finding; the index is then built anew
        before.findings.append(
            Finding(Severity.WARNING, directory, -1, f"the field index was not sealed: {error!r}", "it is built anew")
        )
        return None


def _written(writer: _Writer, collection: int) -> Written | None:
    """The documents of a collection that were written to the shard logs, in commit order."""
    parts = []
    for shard, rows, new in writer.added:
        mine = np.flatnonzero((rows.collection == collection) & (rows.op == PUT))
        if len(mine):
            order = rows.seq[mine] << np.uint64(16) | rows.row[mine]
            parts.append(
                Written(
                    order,
                    np.full(len(mine), shard, np.uint16),
                    new.location[mine],
                    new.length[mine],
                    rows.at[mine] + rows.key_len[mine],
                    rows.doc_len[mine],
                )
            )
    if not parts:
        return None
    together = Written(*(np.concatenate(columns) for columns in zip(*parts)))
    by_order = np.argsort(together.order)
    return Written(*(column[by_order] for column in together))


class _CatalogChanges:
    """What happens to the catalog's documents: few, so one by one."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._old: dict[int, bytes | None] = dict.fromkeys(np.flatnonzero(rows.collection == CATALOG).tolist())

    def note(self, which: np.ndarray, older: Older) -> None:
        if not self._old:
            return
        for at in np.flatnonzero((self._rows.collection[which] == CATALOG) & (older.op == PUT)).tolist():
            start = int(older.doc_at[at])
            self._old[int(which[at])] = older.blob[start : start + int(older.doc_len[at])]

    def apply(self, state: StateFold) -> None:
        for number, old_doc in self._old.items():
            new_doc = self._rows.doc(number) if self._rows.op[number] == PUT else None
            state.change(CATALOG, new_doc, old_doc)


def _subtract(state: StateFold, collection: np.ndarray, older: Older) -> None:
    """Take the superseded documents out of the state."""
    is_live = (older.op == PUT) & (collection != CATALOG)
    for number in distinct(collection[is_live]):
        mine = is_live & (collection == number)
        total = fold(older.blob, older.doc_at[mine], older.doc_len[mine])
        state.shift(number, -int(mine.sum()), -total)


def _add(state: StateFold, rows: Rows, is_put: np.ndarray) -> None:
    """Put the new documents into the state."""
    doc_at = rows.at + rows.key_len
    for number in distinct(rows.collection[is_put]):
        if number != CATALOG:
            mine = is_put & (rows.collection == number)
            state.shift(number, int(mine.sum()), fold(rows.blob, doc_at[mine], rows.doc_len[mine]))


def _check_named(gathered: Range, states: States) -> None:
    """Every collection written to is in the catalog, or was: otherwise its rows would be in no state hash."""
    rows = gathered.rows
    is_unknown = (rows.collection >= gathered.next_collection_id) & ~np.isin(rows.collection, np.array([*states], np.uint32))
    if is_unknown.any():
        at = int(np.argmax(is_unknown))
        raise InternalError(
            f"commit {rows.seq[at]} writes to collection {rows.collection[at]}, which no catalog record up to "
            f"{gathered.last_seq} has named"
        )


@dataclass(slots=True)
class _Writer:
    """Writes one seal's files. `made`: names of new files, which nothing names until the checkpoint is written."""

    disk: Disk
    directory: str
    base: Checkpoint
    plan: SealPlan
    taken: Taken
    made: list[str] = field(default_factory=list)
    added: list[tuple[int, Rows, Columns]] = field(default_factory=list)  # shard, its new records, their index rows
    records: int = 0
    bytes: int = 0
    _written: list[File] = field(default_factory=list)
    _generations: dict[int, int] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = [name for name, _ in checkpoints.files_of(self.base)]
        names = self.disk.list_dir(self.directory) + named
        self._generations, self._numbers = checkpoints.highest_numbers(names)
        for shard, generation in self.plan.reserved.items():
            self._generations[shard] = max(self._generations.get(shard, 0), generation)

    def write_shard(self, before: ShardSet, number: int, share: Share) -> ShardFiles:
        """The shard's files after the seal."""
        shard = before.shards[number]
        compacted, moves = self.taken.get(number, (None, None))
        logs, new = shard.files.logs, NO_COLUMNS
        if compacted is not None:
            logs = (compacted.log, *logs[len(compacted.replaced) :])
        if len(share.prev):
            logs, new = self._append_log(number, logs, share)
            self.added.append((number, share.rows, new))
        elif not shard.is_rebuilt and moves is None:
            return shard.files
        if moves is not None:
            return ShardFiles(logs, self._move_index(number, shard, moves, new))
        index = self._write_index(number, list(reversed(shard.segments)), shard.files.index, new, rebuilt=shard.is_rebuilt)
        return ShardFiles(logs, index)

    def _append_log(
        self, number: int, logs: tuple[LogFile, ...], share: Share
    ) -> tuple[tuple[LogFile, ...], Columns]:
        file, entry = self._log_to_extend(number, logs)
        rows = share.rows
        crc, start = entry.crc32c, entry.length
        if start == 0:
            header = codec.FileHeader(number, entry.generation, self.plan.shards, bytes.fromhex(self.plan.uuid))
            data = codec.encode_file_header(header)
            file.append(data)
            crc, start = google_crc32c.extend(crc, data), len(data)
        sizes = rows.key_len.astype(np.int64) + rows.doc_len + HEADER_BYTES
        ends = np.cumsum(sizes)
        done = 0
        while done < len(sizes):
            written = int(ends[done - 1]) if done else 0
            upto = max(done + 1, int(np.searchsorted(ends, written + APPEND_BYTES, "right")))
            some = slice(done, upto)
            data = codec.shard_records(
                rows.blob,
                *(rows.op[some], rows.collection[some], rows.at[some], rows.key_len[some], rows.doc_len[some]),
                *(rows.seq[some], rows.row[some], rows.time_us[some]),
                crc=self.plan.crc,
            )
            file.append(data)
            crc = google_crc32c.extend(crc, data)
            done = upto
        self._written.append(file)
        length = start + int(ends[-1])
        self.records += len(sizes)
        self.bytes += length - entry.length
        grown = entry._replace(length=length, crc32c=crc)
        kept = logs[:-1] if logs and logs[-1].file == entry.file else logs
        mark = np.where(rows.op == DELETE, np.uint32(TOMBSTONE), np.uint32(0))
        locations = (entry.generation << GENERATION_SHIFT | start) + (ends - sizes)
        return (*kept, grown), Columns(
            rows.hash, locations.astype(np.uint64), share.prev, sizes.astype(np.uint32) | mark, rows.collection
        )

    def _log_to_extend(self, number: int, logs: tuple[LogFile, ...]) -> tuple[File, LogFile]:
        """The last log of the shard if it ends where the base says, else a new generation."""
        if logs and logs[-1].file not in self.plan.closed:
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
        new: Columns,
        *,
        rebuilt: bool,
    ) -> tuple[IndexFile, ...]:
        """Add a segment of the new rows (oldest first everywhere), merging neighbours where the tiers ask for it."""
        sizes = [segment.count for segment in segments] + [len(new.hash)]
        keep = 0 if rebuilt else merge_from(sizes)
        columns = new
        first = self.base.seq
        if keep < len(segments):
            if not rebuilt:
                self._check_unchanged(segments[keep:], files[keep:])
            merging = [segment.columns for segment in segments[keep:]] + [new]
            columns = merge_columns(merging, drop_tombstones=True)
            first = segments[keep].info.first
        kept = () if rebuilt else files[:keep]
        return (*kept, self._write_segment(number, columns, first, self.plan.to_seq))

    def _move_index(self, number: int, shard: Shard, moves: Moves, new: Columns) -> tuple[IndexFile, ...]:
        """All of the base's segments in one, with the records where a compaction has put them; the new rows in one of their own, so that who
        keeps a filter of the keys has only those to add."""
        segments = list(reversed(shard.segments))
        if not shard.is_rebuilt:
            self._check_unchanged(segments, shard.files.index)
        kept, new = moved_index([segment.columns for segment in segments] or [NO_COLUMNS], moves, new)
        files = [self._write_segment(number, kept, 0, self.base.seq)] if len(kept.hash) else []
        if len(new.hash):
            files.append(self._write_segment(number, new, self.base.seq, self.plan.to_seq))
        return tuple(files)

    def _write_segment(self, number: int, columns: Columns, first: int, last: int) -> IndexFile:
        data = build(columns, SegmentInfo(bytes.fromhex(self.plan.uuid), number, first, last))
        self._numbers[number] = self._numbers.get(number, 0) + 1
        name = checkpoints.index_name(number, self._numbers[number])
        file = self._create(name)
        file.append(data)
        self._written.append(file)
        return IndexFile(name, len(data), checksum(data))

    def _check_unchanged(self, segments: Sequence[Segment], files: Sequence[IndexFile]) -> None:
        """A segment may have been open for long: what was scribbled on it since must not become part of a sound one (INV-5).
        Raises DamagedRecord; the next seal opens the base anew."""
        for segment, file in zip(segments, files):
            if checksum(segment.data) != file.xxh3:
                path = f"{self.directory}/{file.file}"
                raise DamagedRecord(f"{path}: changed while it was open; sealing again rebuilds it", file=path, offset=0)

    def _create(self, name: str) -> File:
        file = self.disk.create(f"{self.directory}/{name}")
        self.made.append(name)
        return file

    def sync(self) -> None:
        """Everything that was written survives a power cut when this returns."""
        self.disk.sync_all(self._written)
        self.close()

    def close(self) -> None:
        while self._written:
            self._written.pop().close()

    def discard(self) -> None:
        """After a failure before the checkpoint: give the space of new files back, as far as the disk lets us."""
        self.close()
        for name in self.made:
            try:
                self.disk.remove(f"{self.directory}/{name}")
            except OSError:
                return  # the next successful seal's clean-up finds them
        self.made.clear()
