"""Checkpoints: the manifest of the immutable files that hold a database at one position.

`checkpoints/<seq, 20 digits>.json`, one line of canonical JSON (sorted keys, no blanks), so that every byte counts:

    checksum            hex BLAKE2b-256 of the same JSON without this field
    format              1
    database            the database's UUID in hex
    seq, epoch, chain   the position and the chain after its commit
    time_us             of that commit
    history             [[epoch, id, first_seq, chain], ...], oldest first
    next_collection_id  collection ids are never reused
    collections         {name: {"id", "count", "total" (hex)}}, as in versions/statehash.py
    state_hash          of exactly these collections (INV-6)
    shards              [{"logs": [{"file", "generation", "length", "crc32c"}, ...],
                          "index": [{"file", "length", "xxh3"}, ...],
                          "live": bytes of live records, may be left out}, ...]; both checksums cover the length
    requests            [[request id (hex), answer (hex)], ...], oldest first

File names are relative to the database's directory. A log entry means the first `length` bytes of the file, which may
have grown since. Logs stand in the order of writing (not of generation: compaction puts a newer
file in front), index segments from the oldest to the newest.

A manifest is written once with replace_file and never changed (INV-5: one that does not validate is passed over for the
one before). Knows no record and no index format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import google_crc32c
import xxhash

from ..disk import Disk
from ..errors import DamagedRecord, NewerFormat
from ..finding import Finding, Severity
from ..position import History, Position, history_from_lists
from ..versions.statehash import CollectionState, States, state_hash

FORMAT = 1
DIRECTORY = "checkpoints"
READ_CHUNK_BYTES = 2**20
REQUESTS_MAX = 10_000
REQUEST_ANSWERS_BYTES_MAX = 2**20  # of all answers together
REQUEST_ANSWER_BYTES_MAX = 4_096  # a longer answer is kept as b"": known to be applied, details forgotten
CHECKSUM_BYTES = 32
_AFTER_CHECKSUM = b',"collections":'  # the fields stand in the order of their names
_AFTER_REQUESTS = b',"seq":'
_CHECKSUM = re.compile(rb'\{"chain":\d+(,"checksum":"([0-9a-f]{64})"),"collections":')
_NAME = re.compile(r"(\d{20})\.json\Z")


class LogFile(NamedTuple):
    """The first `length` bytes of a shard log."""

    file: str
    generation: int
    length: int
    crc32c: int


class IndexFile(NamedTuple):
    """A whole primary index segment."""

    file: str
    length: int
    xxh3: int


class ShardFiles(NamedTuple):
    """One shard: logs in order of writing, index segments oldest first. live: bytes of the records in its logs that are live here; None
    in a manifest that does not say."""

    logs: tuple[LogFile, ...] = ()
    index: tuple[IndexFile, ...] = ()
    live: int | None = None


class CollectionEntry(NamedTuple):
    """A collection of the catalog: its id, and its part of the state hash."""

    id: int
    count: int
    total: int


class RequestKept(NamedTuple):
    """A client's request that was applied, so that sending it again changes nothing; dict() of them maps id to answer."""

    id: bytes
    answer: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One manifest. INV-6: state_hash is that of `collections`, checked when written and when read."""

    uuid: str
    seq: int
    epoch: int
    chain: int
    time_us: int
    history: History
    next_collection_id: int
    collections: Mapping[str, CollectionEntry]
    state_hash: str
    shards: tuple[ShardFiles, ...]
    requests: tuple[RequestKept, ...] = ()

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.seq)

    def states(self) -> States:
        """Collection id -> (name, state), fresh values."""
        return {e.id: (name, CollectionState(e.count, e.total)) for name, e in self.collections.items()}


def empty_checkpoint(uuid: str, *, chain: int, shards: int) -> Checkpoint:
    """The state before the first commit. chain: codec.first_chain of the UUID."""
    return Checkpoint(uuid, 0, 0, chain, 0, (), 1, {}, state_hash(()), (ShardFiles(),) * shards)


def path_of(directory: str, seq: int) -> str:
    return f"{directory}/{DIRECTORY}/{seq:020d}.json"


def encode(checkpoint: Checkpoint) -> bytes:
    """The manifest's bytes."""
    assert checkpoint.state_hash == state_hash(checkpoint.states().values()), "INV-6: the manifest contradicts itself"
    fields = {
        "format": FORMAT,
        "database": checkpoint.uuid,
        "seq": checkpoint.seq,
        "epoch": checkpoint.epoch,
        "chain": checkpoint.chain,
        "time_us": checkpoint.time_us,
        "history": [reign.as_list() for reign in checkpoint.history],
        "next_collection_id": checkpoint.next_collection_id,
        "collections": {
            name: {"id": e.id, "count": e.count, "total": f"{e.total:x}"} for name, e in checkpoint.collections.items()
        },
        "state_hash": checkpoint.state_hash,
        "shards": [_shard_fields(shard) for shard in checkpoint.shards],
    }
    requests = ",".join([f'["{request_id.hex()}","{answer.hex()}"]' for request_id, answer in checkpoint.requests])
    without = _canonical(fields)
    at = without.rindex(_AFTER_REQUESTS)  # no shard's field has that name, so the last is the right one
    without = b"".join((without[:at], b',"requests":[', requests.encode(), b"]", without[at:]))
    at = without.index(_AFTER_CHECKSUM)  # what stands before it is a number, so the first is the right one
    checksum = hashlib.blake2b(without, digest_size=CHECKSUM_BYTES).hexdigest()
    return b"".join((without[:at], b',"checksum":"', checksum.encode(), b'"', without[at:]))


def _shard_fields(shard: ShardFiles) -> dict[str, Any]:
    fields: dict[str, Any] = {"logs": [log._asdict() for log in shard.logs], "index": [each._asdict() for each in shard.index]}
    return fields if shard.live is None else {**fields, "live": shard.live}


def parse(data: bytes, name: str = "checkpoint") -> Checkpoint:
    """The checkpoint of a manifest's bytes. Raises DamagedRecord (with what is wrong) or NewerFormat. name: for the message."""
    is_sound = _is_sound(data)
    try:
        fields = json.loads(data)
        found_format = fields["format"]
        checksum = fields.pop("checksum")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedRecord(f"{name}: not a checkpoint manifest ({error})", file=name, offset=0) from error
    if isinstance(found_format, int) and found_format > FORMAT and (is_sound or checksum == _checksum(fields)):
        raise NewerFormat(f"{name}: checkpoint of format {found_format}, this program knows {FORMAT}: use a newer one")
    if not is_sound:
        raise DamagedRecord(f"{name}: checksum differs", file=name, offset=0)
    try:
        checkpoint = _from_fields(fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedRecord(f"{name}: impossible fields ({error})", file=name, offset=0) from error
    if checkpoint.state_hash != state_hash(checkpoint.states().values()):
        raise DamagedRecord(f"{name}: state hash is not that of its collections", file=name, offset=0)
    return checkpoint


def _from_fields(fields: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        uuid=fields["database"],
        seq=fields["seq"],
        epoch=fields["epoch"],
        chain=fields["chain"],
        time_us=fields["time_us"],
        history=history_from_lists(fields["history"]),
        next_collection_id=fields["next_collection_id"],
        collections={
            name: CollectionEntry(e["id"], e["count"], int(e["total"], 16)) for name, e in fields["collections"].items()
        },
        state_hash=fields["state_hash"],
        shards=tuple(
            ShardFiles(
                tuple(LogFile(**log) for log in shard["logs"]),
                tuple(IndexFile(**i) for i in shard["index"]),
                shard.get("live"),
            )
            for shard in fields["shards"]
        ),
        requests=tuple(RequestKept(bytes.fromhex(i), bytes.fromhex(a)) for i, a in fields["requests"]),
    )


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _is_sound(data: bytes) -> bool:
    """Whether the checksum, which stands second, is that of all other bytes: seen without writing the JSON again."""
    found = _CHECKSUM.match(data)
    if found is None:
        return False
    without = data[: found.start(1)] + data[found.end(1) :]
    return hashlib.blake2b(without, digest_size=CHECKSUM_BYTES).hexdigest().encode() == found[2]


def _checksum(fields: dict[str, Any]) -> str:
    try:
        return hashlib.blake2b(_canonical(fields), digest_size=CHECKSUM_BYTES).hexdigest()
    except (ValueError, UnicodeEncodeError, RecursionError):
        return "none: the fields have no canonical form"


def write(disk: Disk, directory: str, checkpoint: Checkpoint) -> bytes:
    """Publish: after it returns the checkpoint is there for good. The files it names must be synced already.

    Returns the manifest's bytes."""
    data = encode(checkpoint)
    disk.replace_file(path_of(directory, checkpoint.seq), data)
    return data


def load(disk: Disk, directory: str, seq: int) -> Checkpoint:
    """Raises DamagedRecord, NewerFormat, or FileNotFoundError."""
    path = path_of(directory, seq)
    checkpoint = parse(disk.read_file(path), path)
    if checkpoint.seq != seq:
        raise DamagedRecord(f"{path}: holds the checkpoint of seq {checkpoint.seq}", file=path, offset=0)
    return checkpoint


def list_seqs(disk: Disk, directory: str) -> list[int]:
    """Of every manifest that is there, lowest first; sound or not."""
    matches = (_NAME.match(name) for name in disk.list_dir(f"{directory}/{DIRECTORY}"))
    return [int(match[1]) for match in matches if match]


def files_of(checkpoint: Checkpoint) -> list[tuple[str, int]]:
    """(path relative to the database's directory, length) of every file the checkpoint needs, itself left out."""
    found: list[tuple[str, int]] = []
    for shard in checkpoint.shards:
        found.extend((log.file, log.length) for log in shard.logs)
        found.extend((index.file, index.length) for index in shard.index)
    return found


def logs_digest(shards: Sequence[ShardFiles]) -> str:
    """Names which shard logs these are, up to their lengths: two seals up to one seq may have written different ones, and only locations in
    the right ones mean anything."""
    named = [[list(log) for log in shard.logs] for shard in shards]
    return hashlib.blake2b(json.dumps(named).encode(), digest_size=16).hexdigest()


def newest_valid(disk: Disk, directory: str, *, verify: bool = False) -> tuple[Checkpoint | None, list[Finding]]:
    """The newest checkpoint whose checksum holds and whose shard logs are there with at least their lengths, and, to verify, with the
    checksums that it names.

    Index segments may be missing: they are rebuilt (INV-5). Raises NewerFormat rather than fall back past a manifest
    of a newer program.
    """
    findings = []
    for seq in reversed(list_seqs(disk, directory)):
        path = path_of(directory, seq)
        try:
            checkpoint = load(disk, directory, seq)
        except DamagedRecord as error:
            fault = error.message
        else:
            fault = missing_log(disk, directory, checkpoint) or (other_log(disk, directory, checkpoint) if verify else None)
            if fault is None:
                return checkpoint, findings
        findings.append(
            Finding(Severity.WARNING, path, -1, f"checkpoint {seq} does not validate: {fault}", "the one before is used")
        )
    return None, findings


def missing_log(disk: Disk, directory: str, checkpoint: Checkpoint) -> str | None:
    """What is wrong with the presence or length of its shard logs, or None."""
    for shard in checkpoint.shards:
        for log in shard.logs:
            path = f"{directory}/{log.file}"
            if not disk.exists(path):
                return f"{path} is missing"
            if (size := disk.size(path)) < log.length:
                return f"{path} has {size} bytes, {log.length} are needed"
    return None


def other_log(disk: Disk, directory: str, checkpoint: Checkpoint) -> str | None:
    """Which of its shard logs holds other bytes than it names, or None. Reads them whole."""
    for shard in checkpoint.shards:
        for log in shard.logs:
            if log_checksum(disk, f"{directory}/{log.file}", log.length) != log.crc32c:
                return f"the first {log.length} bytes of {directory}/{log.file} are others"
    return None


def verify_files(disk: Disk, directory: str, checkpoint: Checkpoint) -> None:
    """Compare every file's bytes with the manifest: for copies that came over a link or from a backup. Blocking, reads
    everything once. Raises DamagedRecord naming the first file that differs."""
    for shard in checkpoint.shards:
        for log in shard.logs:
            if log_checksum(disk, f"{directory}/{log.file}", log.length) != log.crc32c:
                raise _differs(f"{directory}/{log.file}")
        for index in shard.index:
            try:
                view = disk.map(f"{directory}/{index.file}")
            except FileNotFoundError as error:
                raise _differs(f"{directory}/{index.file}") from error
            if len(view) != index.length or xxhash.xxh3_64_intdigest(view) != index.xxh3:
                raise _differs(f"{directory}/{index.file}")


def log_checksum(disk: Disk, path: str, length: int) -> int | None:
    """crc32c of the first length bytes, or None when there are not so many."""
    try:
        file = disk.open_read(path)
    except FileNotFoundError:
        return None
    try:
        crc = 0
        for offset in range(0, length, READ_CHUNK_BYTES):
            wanted = min(READ_CHUNK_BYTES, length - offset)
            chunk = file.read_at(offset, wanted)
            if len(chunk) < wanted:
                return None
            crc = google_crc32c.extend(crc, chunk)
        return crc
    finally:
        file.close()


def _differs(path: str) -> DamagedRecord:
    return DamagedRecord(f"{path} is not what the checkpoint names: copy it again", file=path, offset=0)


def orphans(disk: Disk, directory: str, kept: Sequence[Checkpoint]) -> list[str]:
    """Names of shard logs, index segments and moves in the directory that none of the given checkpoints needs: replaced ones, and
    leftovers of an unfinished seal or compaction. The caller knows what else may pin them, and that neither is running."""
    needed = {file for checkpoint in kept for file, _ in files_of(checkpoint)}
    return [name for name in disk.list_dir(directory) if SHARD_FILE.match(name) and name not in needed]


SHARD_FILE = re.compile(r"shard_(\d{3,4})(?:\.g(\d+))?\.(?:db|moves)\Z|shard_(\d{3,4})\.sidx\.(\d+)\Z")


def log_name(shard: int, generation: int) -> str:
    """shard_000.db, shard_000.g2.db, ..."""
    return f"shard_{shard:03d}.db" if generation == 1 else f"shard_{shard:03d}.g{generation}.db"


def moves_name(shard: int, generation: int) -> str:
    """Of what a compaction says about the log of that generation (index/moves.py): shard_000.g2.moves."""
    return f"shard_{shard:03d}.g{generation}.moves"


def index_name(shard: int, number: int) -> str:
    return f"shard_{shard:03d}.sidx.{number}"


def highest_numbers(names: list[str]) -> tuple[dict[int, int], dict[int, int]]:
    """(highest log generation by shard, highest index number by shard) among file names, so that new ones are fresh."""
    generations: dict[int, int] = {}
    numbers: dict[int, int] = {}
    for name in names:
        match = SHARD_FILE.match(name)
        if match is None:
            continue
        if match[1] is not None:
            shard = int(match[1])
            generations[shard] = max(generations.get(shard, 0), int(match[2] or 1))
        else:
            shard = int(match[3])
            numbers[shard] = max(numbers.get(shard, 0), int(match[4]))
    return generations, numbers
