"""The offline checker: reads everything a database directory holds and yields what is not as it was written.

    python -m storage.check DIR      DIR: a node's data directory, or one database in it
    exit 0 clean (notes at most), 1 findings, 2 could not check

Read-only; works on copies; shares the codecs with the engine. Checks identity, every checkpoint with the checksums of all its
files, every record of the newest valid checkpoint, its index segments against an index worked out from the logs, its catalog
and state hash against the live documents (INV-6), and every frame and the chain of the commit log (INV-2). A database in use
is written to meanwhile: stop its node or check a copy.

Costs: about 6 µs and 300 bytes of memory a record of the largest shard.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from . import identity as identities
from .check_log import check_log
from .commit.codec import CATALOG, Op
from .disk import Disk, OsDisk
from .errors import DamagedRecord, NewerFormat, TwinlogError
from .finding import Finding, Severity
from .identity import Identity
from .index.primary import GENERATION_SHIFT, Segment, live_columns
from .shard import checkpoint as checkpoints
from .shard.checkpoint import Checkpoint
from .shard.logfile import ShardLog
from .shard.rebuild import HashKey
from .shard.record import FileHeader, ShardRecord, record_bytes
from .values.keys import hash64
from .versions.statehash import CollectionState, catalog_entry, hash_document

__all__ = ["Finding", "Severity", "check_database", "check_node", "main"]

PUT_BACK = "put back a copy from a peer or a backup"
REPAIR = "repair this database from a standby or a backup"
REBUILT = "nothing is lost: the index is rebuilt at the next opening and written by the next seal"


def check_database(disk: Disk, directory: str, *, hash_key: HashKey = hash64) -> Iterator[Finding]:
    """Blocking. Raises NewerFormat, and OSError when a file cannot be read at all."""
    identity = None
    try:
        identity = identities.read(disk, directory)
    except FileNotFoundError:
        yield Finding(Severity.ERROR, f"{directory}/{identities.FILE}", -1, "missing", PUT_BACK)
    except DamagedRecord as error:
        yield Finding(Severity.ERROR, f"{directory}/{identities.FILE}", 0, _bare(error, f"{directory}/{identities.FILE}"), PUT_BACK)
    sound: list[Checkpoint] = []
    yield from _check_checkpoints(disk, directory, identity, sound)
    newest = sound[-1] if sound else None
    if newest is not None:
        yield from _ContentCheck(disk, directory, newest, hash_key).run()
    uuid = identity.uuid if identity is not None else bytes.fromhex(newest.uuid) if newest is not None else None
    if uuid is not None:
        yield from check_log(disk, directory, uuid, sound)
    for name in checkpoints.orphans(disk, directory, sound):
        yield Finding(Severity.NOTE, f"{directory}/{name}", -1, "no sound checkpoint names it", "the next seal removes it")


def check_node(disk: Disk) -> Iterator[Finding]:
    """Every database below a node's data directory."""
    for name in database_names(disk):
        yield from check_database(disk, name)


def database_names(disk: Disk) -> list[str]:
    return [name for name in disk.list_dir("") if _is_database(disk, name)]


def _is_database(disk: Disk, directory: str) -> bool:
    marks = (identities.FILE, checkpoints.DIRECTORY, "commit")
    return any(disk.exists(f"{directory}/{mark}") for mark in marks)


def _check_checkpoints(
    disk: Disk, directory: str, identity: Identity | None, sound: list[Checkpoint]
) -> Iterator[Finding]:
    """Manifests and the bytes of the files they name. Appends to `sound` those whose logs are whole, oldest first."""
    checked: dict[tuple[str, int], int | None] = {}
    seqs = checkpoints.list_seqs(disk, directory)
    for seq in seqs:
        path = checkpoints.path_of(directory, seq)
        try:
            checkpoint = checkpoints.load(disk, directory, seq)
        except DamagedRecord as error:
            yield Finding(Severity.WARNING, path, 0, _bare(error, path), "it is passed over for the one before; the next seal replaces it")
            continue
        if identity is not None and (checkpoint.uuid, len(checkpoint.shards)) != (identity.uuid.hex(), identity.shards):
            yield Finding(Severity.ERROR, path, 0, "it belongs to another database than database.json says", REPAIR)
            continue
        fault = checkpoints.missing_log(disk, directory, checkpoint)
        if fault is not None:
            yield Finding(Severity.ERROR, path, 0, f"checkpoint {seq} cannot be opened: {fault}", REPAIR)
            continue
        sound.append(checkpoint)
        for shard in checkpoint.shards:
            for log in shard.logs:
                file = f"{directory}/{log.file}"
                if (file, log.length) not in checked:
                    checked[file, log.length] = crc = checkpoints.log_checksum(disk, file, log.length)
                    if crc != log.crc32c:
                        what = f"its first {log.length} bytes are not those that checkpoint {seq} names"
                        yield Finding(Severity.ERROR, file, -1, what, REPAIR)
            for index in shard.index:
                file = f"{directory}/{index.file}"
                if (file, index.xxh3) not in checked:
                    checked[file, index.xxh3] = None
                    yield from _check_segment(disk, file, index.xxh3)
    if seqs and not sound:
        yield Finding(Severity.ERROR, f"{directory}/{checkpoints.DIRECTORY}", -1, "no checkpoint validates", REPAIR)


def _bare(error: DamagedRecord, path: str) -> str:
    """The error's message without what the finding says itself: the place in front and the advice at the end."""
    place = f"{path} at offset {error.fields.get('offset')}: "
    return error.message.removeprefix(place).removeprefix(f"{path}: ").partition("; ")[0]


def _check_segment(disk: Disk, file: str, xxh3: int) -> Iterator[Finding]:
    try:
        Segment.open(disk, file, xxh3)
    except DamagedRecord as error:
        yield Finding(Severity.WARNING, file, -1, _bare(error, file), REBUILT)


@dataclass(slots=True)
class _Live:
    """A key's live record: where it is, its place in the index, its part of the state hash."""

    location: int
    length: int
    hash: int
    content: int  # h of versions/statehash.py


@dataclass(slots=True)
class _ContentCheck:
    """The records of one checkpoint, shard by shard, and what they add up to."""

    disk: Disk
    directory: str
    checkpoint: Checkpoint
    hash_key: HashKey
    states: dict[int, CollectionState] = field(default_factory=dict)
    is_damaged: bool = False

    def run(self) -> Iterator[Finding]:
        for number in range(len(self.checkpoint.shards)):
            live: dict[tuple[int, bytes], _Live] = {}
            yield from self._check_logs(number, live)
            if not self.is_damaged:
                yield from self._check_index(number, live)
        if not self.is_damaged:
            yield from self._check_states()

    def _check_logs(self, number: int, live: dict[tuple[int, bytes], _Live]) -> Iterator[Finding]:
        """Every record of a shard, in order; leaves in `live` its live keys and adds them to the states."""
        shards = len(self.checkpoint.shards)
        before = (0, -1)
        for entry in self.checkpoint.shards[number].logs:
            log = ShardLog.open(self.disk, self.directory, entry)
            faults: list[DamagedRecord] = []
            yield from self._check_header(log, FileHeader(number, entry.generation, shards, bytes.fromhex(self.checkpoint.uuid)))
            for offset, found in log.records(on_damage=faults.append):
                key = (found.collection, found.id)
                hashed = self.hash_key(*key)
                what = self._fault_of(found, before, is_misplaced=hashed % shards != number)
                if what:
                    yield Finding(Severity.ERROR, log.path, offset, what, REPAIR)
                before = (found.seq, found.row)
                if found.op == Op.DELETE:
                    live.pop(key, None)
                else:
                    location = entry.generation << GENERATION_SHIFT | offset
                    live[key] = _Live(location, record_bytes(found), hashed, hash_document(found.doc))
                    yield from self._note_catalog(log.path, offset, found)
            for error in faults:
                self.is_damaged = True
                yield Finding(Severity.ERROR, log.path, error.fields["offset"], _bare(error, log.path), REPAIR)
        for (collection, _), kept in live.items():
            self.states.setdefault(collection, CollectionState()).add(kept.content)

    def _check_header(self, log: ShardLog, expected: FileHeader) -> Iterator[Finding]:
        try:
            if log.header() != expected:
                yield Finding(Severity.ERROR, log.path, 0, f"its header says {log.header()}, not {expected}", REPAIR)
        except DamagedRecord as error:
            yield Finding(Severity.ERROR, log.path, 0, _bare(error, log.path), REPAIR)

    def _fault_of(self, found: ShardRecord, before: tuple[int, int], *, is_misplaced: bool) -> str | None:
        if is_misplaced:
            return "the record belongs to another shard"
        if (found.seq, found.row) <= before:
            return f"record ({found.seq}, {found.row}) stands after {before}"
        if found.seq > self.checkpoint.seq:
            return f"the record is of commit {found.seq}, after the checkpoint's {self.checkpoint.seq}"
        return None

    def _note_catalog(self, path: str, offset: int, found: ShardRecord) -> Iterator[Finding]:
        if found.collection == CATALOG:
            try:
                catalog_entry(found.doc)
            except DamagedRecord as error:
                yield Finding(Severity.ERROR, path, offset, error.message, REPAIR)

    def _check_index(self, number: int, live: dict[tuple[int, bytes], _Live]) -> Iterator[Finding]:
        """The live rows that the segments give, compared with those of the logs."""
        files = self.checkpoint.shards[number].index
        try:
            segments = [Segment.open(self.disk, f"{self.directory}/{file.file}", file.xxh3) for file in files]
        except DamagedRecord:
            return  # told already
        columns = live_columns(segments)
        order = np.argsort(columns.location)
        indexed = zip(*(c[order].tolist() for c in (columns.location, columns.length, columns.hash, columns.collection)))
        expected = sorted((found.location, found.length, found.hash, key[0]) for key, found in live.items())
        if list(indexed) != expected:
            names = ", ".join(file.file for file in files) or "none"
            yield Finding(
                Severity.ERROR,
                f"{self.directory}/{names}",
                -1,
                f"the index of shard {number} names {len(columns.location)} live records that are not the {len(expected)} "
                f"of its logs",
                "remove these index files: they are rebuilt at the next opening",
            )

    def _check_states(self) -> Iterator[Finding]:
        path = checkpoints.path_of(self.directory, self.checkpoint.seq)
        catalog = self.states.get(CATALOG, CollectionState())
        if catalog.count != len(self.checkpoint.collections):
            what = f"it names {len(self.checkpoint.collections)} collections, the catalog {catalog.count}"
            yield Finding(Severity.ERROR, path, -1, what, REPAIR)
        for number, (name, state) in self.checkpoint.states().items():
            found = self.states.get(number, CollectionState())
            if found.count != state.count:
                what = f"collection {name!r} has {found.count} live documents, the checkpoint says {state.count}"
                yield Finding(Severity.ERROR, path, -1, what, REPAIR)
            elif found.total != state.total:
                what = f"the documents of collection {name!r} do not add up to the checkpoint's state hash"
                yield Finding(Severity.ERROR, path, -1, what, REPAIR)


def main(arguments: list[str]) -> int:
    """Print findings, one a line. Returns the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m storage.check DIR   (a node's data directory, or one database in it)\n")
        return 2
    path = os.path.abspath(arguments[0])
    parent, name = os.path.split(path)
    try:
        if _is_database(OsDisk(parent), name):
            disk, names = OsDisk(parent), [name]
        else:
            disk = OsDisk(path)
            names = database_names(disk)
        if not names:
            sys.stderr.write(f"{path}: no database here\n")
            return 2
        return _print_findings(disk, names)
    except (OSError, TwinlogError) as error:
        newer = "newer format: " if isinstance(error, NewerFormat) else ""
        sys.stderr.write(f"{path}: cannot be checked: {newer}{error}\n")
        return 2


def _print_findings(disk: Disk, names: list[str]) -> int:
    code = 0
    for name in names:
        count = 0
        for finding in check_database(disk, name):
            sys.stdout.write(f"{finding}\n")
            count += 1
            if finding.severity is not Severity.NOTE:
                code = 1
        sys.stdout.write(f"{name}: {count} finding{'s' if count != 1 else ''}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
