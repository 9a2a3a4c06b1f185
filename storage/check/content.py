"""The checker's second part: every record of one checkpoint, the index and state hash that they must come to (INV-5, INV-6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..commit.codec import CATALOG, Op
from ..disk import Disk
from ..errors import DamagedRecord
from ..finding import Finding, Severity
from ..index.primary import GENERATION_SHIFT, Segment, live_columns
from ..shard import checkpoint as checkpoints
from ..shard.checkpoint import Checkpoint
from ..shard.logfile import ShardLog
from ..shard.rebuild import HashKey
from ..shard.record import FileHeader, ShardRecord, record_bytes
from ..versions.statehash import CollectionState, catalog_entry, hash_document
from .files import REPAIR, bare


@dataclass(slots=True)
class _Live:
    """A key's live record: where it is, its place in the index, its part of the state hash."""

    location: int
    length: int
    hash: int
    content: int  # h of versions/statehash.py


@dataclass(slots=True)
class ContentCheck:
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
                yield Finding(Severity.ERROR, log.path, error.fields["offset"], bare(error, log.path), REPAIR)
        for (collection, _), kept in live.items():
            self.states.setdefault(collection, CollectionState()).add(kept.content)

    def _check_header(self, log: ShardLog, expected: FileHeader) -> Iterator[Finding]:
        try:
            if log.header() != expected:
                yield Finding(Severity.ERROR, log.path, 0, f"its header says {log.header()}, not {expected}", REPAIR)
        except DamagedRecord as error:
            yield Finding(Severity.ERROR, log.path, 0, bare(error, log.path), REPAIR)

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
