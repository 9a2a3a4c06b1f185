"""Opening a database directory: newest checkpoint that validates, then the log's whole commits after it (INV-2, INV-5).

    checkpoint ── scan the log ── WHOLE ────────────────────────────── replay
                                  TORN ──── salvage the tail, cut ──── replay
                                  DAMAGED ─ leave everything as it is, replay up to it, open read-only

Everything here blocks and runs behind the disk seam. An unfinished rewind is finished first (INV-7: what a cut removes is kept in
salvage/). A log that ends below the checkpoint goes on in a new segment after it.

A copy of a live directory (its newest segment carries another file's inode) has files of different moments: a checkpoint counts there only if
its shard logs' checksums hold, and what does not continue the log was written after the copy began: a tear. That it is a copy is noted
before anything is changed, until everything is settled. See copied.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from . import identity as identities
from .catalog import Catalog
from .commit.anew import without_reserve, write_anew
from .commit.codec import CATALOG, DELETE, REIGN, REQUEST, Head, Record, decode_body, first_chain
from .commit.memtable import Memtable
from .commit.scan import LogEnd, LogScanner, LogVerdict, list_segments
from .commit.segment import SPARE
from .commit.synced import begin_anew, heard
from .copied import forget_copy, is_copied, note_copy, settle_copy
from .disk import Disk
from .errors import OUT_OF_SPACE, DamagedRecord
from .fields.opened import load_state
from .fields.sealing import FieldsPlan
from .identity import Identity
from .position import History, Reign
from .rewinding import CLOSED_FILE, REWIND_FILE, finish_rewind
from .shard import checkpoint as checkpoints
from .shard.checkpoint import Checkpoint, logs_digest
from .shard.seal import SealPlan, seal
from .shard.shardset import MISSING, ShardSet
from .values.keys import canonical

REQUESTS_MAX = 10_000
REQUESTS_SPARE = 2_000  # beyond it, so that they go many at a time: in a dict a first key costs a walk over what went before

Requests = dict[bytes, bytes]  # request id -> remembered answer, oldest first


@dataclass(slots=True)
class Recovered:
    """A database as it was found. `findings`: what an operator should read. frozen: what came before the memtable, if that was too much for one;
    it is to be sealed."""

    identity: Identity
    checkpoint: Checkpoint | None
    memtable: Memtable
    catalog: Catalog
    history: History
    last_seq: int
    chain: int
    time_us: int
    requests: Requests
    segments: list[tuple[str, int]]
    damaged: str = ""
    clean: bool = False
    wants_space: bool = False  # damaged only in that a full disk kept it from being mended: open it again later
    findings: list[str] = field(default_factory=list)
    frozen: Memtable | None = None


def recover(disk: Disk, directory: str, *, records_max: int, bytes_max: int = sys.maxsize) -> Recovered:
    """records_max, bytes_max: of a memtable. Raises DamagedRecord when nothing can be opened, NewerFormat when it must not be."""
    identity = identities.read(disk, directory)
    is_read_only = disk.is_read_only()
    copied = is_copied(disk, directory)
    is_noted = not copied or is_read_only or _could_note_copy(disk, directory)
    may_seal = is_noted and not is_read_only
    if may_seal:
        finish_rewind(disk, directory, identity)
        if disk.exists(f"{directory}/commit/{SPARE}"):
            disk.remove(f"{directory}/commit/{SPARE}")
    elif is_read_only and disk.exists(f"{directory}/{REWIND_FILE}"):
        raise DamagedRecord(f"{directory}: a rewind has to be finished first, and the file system is read-only")
    found, findings = checkpoints.newest_valid(disk, directory, verify=copied)
    state = _from_checkpoint(identity, found, [str(finding) for finding in findings])
    said = 0 if copied else heard(disk, directory, identity.uuid)
    scanner = LogScanner(disk, directory, identity.uuid, state.last_seq, state.chain, copied=copied, synced_seq=said)
    vouched = said
    for head, body in scanner:
        if not scanner.is_followed:
            vouched = max(vouched, head.synced_seq)
        _replay(state, head, decode_body(head.record_count, body))
        state.last_seq, state.chain, state.time_us = head.seq, head.chain, head.time_us
        state.memtable.last_seq = head.seq
        if (state.memtable.records >= records_max or state.memtable.bytes >= bytes_max) and may_seal:
            may_seal = state.frozen is None or _sealed_while_replaying(disk, directory, state, state.frozen.last_seq)
            if may_seal:
                state.frozen, state.memtable = state.memtable, Memtable(state.last_seq)
    verdict = scanner.verdict
    if is_read_only:
        state.damaged = "the file system is read-only; mount it for writing, then restart the node"
    elif not is_noted:
        state.wants_space = True
        state.damaged = "the disk is full: there is no space to settle what a copying program left; free some, writing begins by itself"
    elif verdict.end is LogEnd.TORN:
        _cut_if_space(disk, directory, verdict, scanner.after_bad, state)
    elif verdict.end is LogEnd.DAMAGED:
        state.damaged = (
            f"{verdict.bad_path} at offset {verdict.bad_offset}: {verdict.reason}; commits from "
            f"{state.last_seq + 1} on had been synced and are not readable: reseed from a peer or restore a backup"
        )
    if state.damaged:
        state.findings.append(state.damaged)
    elif not is_read_only:
        for path in verdict.empty:
            disk.remove(path)
    state.segments = [(path, name.first_seq) for path, name in list_segments(disk, directory)]
    state.clean = not is_read_only and _was_closed(disk, directory, state) and not copied
    if not state.damaged:
        _settle(disk, directory, state, verdict, vouched, copied=copied)
    elif not is_read_only:  # it is shown all the same, and what a process that was killed had acknowledged is in there
        _sync_as_found(disk, directory, verdict)
    return state


def _could_note_copy(disk: Disk, directory: str) -> bool:
    """False when the disk is too full for it: then the copy is shown as it is, and nothing of it is changed."""
    try:
        note_copy(disk, directory)
    except OSError as error:
        if error.errno not in OUT_OF_SPACE or disk.exists(f"{directory}/{REWIND_FILE}"):
            raise
        return False
    return True


def _settle(disk: Disk, directory: str, state: Recovered, verdict: LogVerdict, vouched: int, *, copied: bool) -> None:
    """What was recovered is durable when this returns, and nothing beside it could be taken for it later. vouched: of a directory that is no
    copy, up to where its own frames say that they were synced."""
    base_seq = state.checkpoint.seq if state.checkpoint is not None else None
    if copied:
        vouched = 0
        state.findings += settle_copy(disk, directory, base_seq)
    else:
        vouched = state.last_seq if state.clean else max(vouched, base_seq or 0)
    if _made_durable(disk, directory, verdict, vouched):
        begin_anew(disk, directory, state.identity.uuid, state.last_seq)
    if copied:
        forget_copy(disk, directory)


def _made_durable(disk: Disk, directory: str, verdict: LogVerdict, vouched: int) -> bool:
    """What was recovered must survive a power cut before anyone is shown it (INV-1).

    Segments with commits beyond `vouched`, the last seq that is known to have been synced, are written anew: the last owner
    may have died of a failed sync, and then the page cache calls clean what the device never took. So are those with reserved space
    left, without it. False when a full disk left it at the page cache's word for one of them.
    """
    is_certain = True
    for segment in verdict.segments:
        is_sound = segment.last_seq <= vouched and disk.size(segment.path) == segment.end
        if is_sound or not _could_write_anew(disk, segment.path, segment.end):
            is_certain = is_certain and segment.last_seq <= vouched
            disk.open_append(segment.path).sync()
    disk.sync_dir(f"{directory}/commit")
    return is_certain


def _sync_as_found(disk: Disk, directory: str, verdict: LogVerdict) -> None:
    """For a database that a full disk or damage keeps read-only: nothing is written anew, but what readers are shown from here is durable (INV-1)."""
    for segment in verdict.segments:
        file = disk.open_append(segment.path)
        file.sync()
        file.close()
    disk.sync_dir(f"{directory}/commit")


def _could_write_anew(disk: Disk, path: str, end: int) -> bool:
    """False when the disk is too full for it: then a sync has to do, so that a full node can still be opened and read."""
    try:
        write_anew(disk, path, disk.read_file(path)[:end])
    except OSError as error:
        if error.errno not in OUT_OF_SPACE:
            raise
        if disk.exists(f"{path}.new"):
            disk.remove(f"{path}.new")
        return False
    return True


def _from_checkpoint(identity: Identity, found: Checkpoint | None, findings: list[str]) -> Recovered:
    if found is None:
        chain = first_chain(identity.uuid)
        return Recovered(identity, None, Memtable(0), Catalog(), (), 0, chain, 0, {}, [], findings=findings)
    if found.uuid != identity.uuid.hex():
        raise DamagedRecord(f"checkpoint {found.seq} belongs to database {found.uuid}, not {identity.uuid.hex()}")
    ids = {name: entry.id for name, entry in found.collections.items()}
    return Recovered(
        identity,
        found,
        Memtable(found.seq),
        Catalog(ids, found.next_collection_id),
        found.history,
        found.seq,
        found.chain,
        found.time_us,
        {kept.id: kept.answer for kept in found.requests},
        [],
        findings=findings,
    )


def _replay(state: Recovered, head: Head, records: Sequence[Record]) -> None:
    """One commit into memory, as Database does it."""
    state.memtable.put_run(records, head.seq, head.time_us)
    special = [record for record in records if record.op > DELETE or record.collection == CATALOG]
    remember(state.requests, [(record.id, record.doc) for record in special if record.op == REQUEST])
    for record in special:
        if record.op <= DELETE:
            state.catalog = state.catalog.after(record)
        elif record.op == REIGN:
            reign = Reign(head.epoch, int.from_bytes(record.doc, "little"), head.seq, state.chain)
            state.history = (*state.history, reign)


def read_catalog(state: Recovered, shards: ShardSet) -> None:
    """What the catalog documents say beyond names and ids, which are all that a checkpoint's manifest has. Blocking."""
    docs = []
    for name in state.catalog.ids:
        key = canonical(name)
        if any(memtable is not None and memtable.newest(CATALOG, key) is not None for memtable in (state.memtable, state.frozen)):
            continue  # replayed
        try:
            record = shards.find(CATALOG, key)
        except DamagedRecord as error:
            record, reason = MISSING, str(error)
        else:
            reason = "it is not there"
        if record is MISSING:
            state.damaged = state.damaged or (
                f"the catalog document of collection {name!r} cannot be read ({reason}), so its unique indexes are not known: "
                "reseed from a peer or restore a backup"
            )
            state.findings.append(state.damaged)
            continue
        docs.append(record.doc)
    state.catalog = state.catalog.with_entries(docs)


def remember(requests: Requests, answers: Iterable[tuple[bytes, bytes]]) -> None:
    """Keep the answers (request id, answer) of requests; the oldest go when there are too many (INV-8)."""
    requests.update(answers)
    over = len(requests) - REQUESTS_MAX
    if over > REQUESTS_SPARE:
        for gone in list(islice(requests, over)):
            del requests[gone]


def _sealed_while_replaying(disk: Disk, directory: str, state: Recovered, to_seq: int) -> bool:
    """A log far longer than what two memtables may hold: seal as we go, so that memory stays bounded. False when the disk is too full for it:
    then the memtable grows as long as the log is."""
    try:
        _seal_while_replaying(disk, directory, state, to_seq)
    except OSError as error:
        if error.errno not in OUT_OF_SPACE:
            raise
        return False
    return True


def _fields_of(disk: Disk, directory: str, state: Recovered) -> FieldsPlan | None:
    """The field index of the checkpoint goes on with the seal: built anew, it would keep the queries of a large database scanning for minutes."""
    if state.checkpoint is None:
        return None
    try:
        found = load_state(disk, directory, state.identity.uuid.hex(), state.checkpoint.seq, logs_digest(state.checkpoint.shards))
    except OSError:
        return None
    if found.state is None:
        return None
    return FieldsPlan(found.state, {number: dict(entry.fields) for number, entry in found.fields.items()}, found.next_number)


def _seal_while_replaying(disk: Disk, directory: str, state: Recovered, to_seq: int) -> None:
    paths = [path for path, _ in list_segments(disk, directory)]
    for path in paths:
        disk.open_append(path).sync()
    base = state.checkpoint.seq if state.checkpoint else None
    plan = SealPlan(
        base_seq=base,
        to_seq=to_seq,
        shards=state.identity.shards,
        crc=state.identity.crc,
        uuid=state.identity.uuid.hex(),
        segments=paths,
        fields=_fields_of(disk, directory, state),
    )
    seal(disk, directory, plan)
    state.checkpoint = checkpoints.load(disk, directory, to_seq)


def _cut_if_space(disk: Disk, directory: str, verdict: LogVerdict, after_bad: list[str], state: Recovered) -> None:
    try:
        _cut(disk, directory, verdict, after_bad, state)
    except OSError as error:
        if error.errno not in OUT_OF_SPACE:
            raise
        state.wants_space = True
        state.damaged = "the disk is full: there is no space to set the torn end of the commit log aside; free some, writing begins by itself"


def _cut(disk: Disk, directory: str, verdict: LogVerdict, after_bad: list[str], state: Recovered) -> None:
    """The torn tail and all later segments go to salvage/; the good prefix becomes a new file. Safe to repeat.

    A tear of no bytes (reserved space, a segment that was only begun) is cut without a word: nothing was in it.
    """
    data = disk.read_file(verdict.bad_path)
    offset = verdict.bad_offset
    held = {segment.path: segment.end for segment in verdict.segments}
    label = f"torn-{verdict.last_seq + 1:020d}"
    if verdict.bad_bytes:
        tail = without_reserve(data)[held.get(verdict.bad_path, 0) :]
        keep(disk, directory, f"{label}.bin", tail)
        state.findings.append(
            f"{verdict.bad_path}: {verdict.reason}; {len(tail)} bytes from offset {offset} kept in salvage/{label}.bin"
        )
    for number, path in enumerate(after_bad):
        keep(disk, directory, f"{label}.{number}.log", without_reserve(disk.read_file(path)))
    for path in reversed(after_bad):
        disk.remove(path)
    if verdict.bad_path in held:
        if not _could_write_anew(disk, verdict.bad_path, held[verdict.bad_path]):
            file = disk.open_append(verdict.bad_path)  # what is cut off has been kept
            file.cut(held[verdict.bad_path])
            file.close()
    else:
        disk.remove(verdict.bad_path)
    disk.sync_dir(f"{directory}/commit")


def keep(disk: Disk, directory: str, name: str, data: bytes) -> str:
    """Put bytes into salvage/ under a name that is not taken; returns the path. Equal content is kept once."""
    disk.make_dir(f"{directory}/salvage")
    taken = set(disk.list_dir(f"{directory}/salvage"))
    stem, dot, ending = name.rpartition(".")
    number, candidate = 1, name
    while candidate in taken:
        if disk.read_file(f"{directory}/salvage/{candidate}") == data:
            return f"{directory}/salvage/{candidate}"
        number += 1
        candidate = f"{stem}~{number}{dot}{ending}"
    path = f"{directory}/salvage/{candidate}"
    disk.replace_file(path, data)
    disk.sync_dir(directory)
    return path


def _was_closed(disk: Disk, directory: str, state: Recovered) -> bool:
    """Whether the last owner closed the database at exactly this state. The note is removed: it speaks once."""
    path = f"{directory}/{CLOSED_FILE}"
    if not disk.exists(path):
        return state.last_seq == 0
    try:
        note = json.loads(disk.read_file(path))
        clean = (note["seq"], note["chain"]) == (state.last_seq, state.chain)
    except (ValueError, KeyError, TypeError):
        clean = False
    disk.remove(path)
    disk.sync_dir(directory)
    return clean


def note_closed(disk: Disk, directory: str, seq: int, chain: int) -> None:
    """Written last by an orderly close."""
    disk.replace_file(f"{directory}/{CLOSED_FILE}", json.dumps({"seq": seq, "chain": chain}).encode())
