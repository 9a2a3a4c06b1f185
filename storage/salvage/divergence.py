"""The commits of a log after a point, read as often as needed, and which of their writes are the newest of their document.

    base checkpoint ── catalog, chain ──> common point ── survey: counts, names, reigns ──> end
                                                       ── newest(): a bit for each write
                                                       ── commits(): them again, in order

Memory: one segment of the log, a bit for each write, and the keys of KEYS_AT_ONCE writes: where there are more, the log is read
once more for each further lot of them. Costs: about 1 µs a record and reading. Blocking. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import xxhash

from ..catalog import Catalog
from ..commit.codec import CATALOG, DELETE, REIGN, Head, Record, decode_body, first_chain
from ..commit.scan import LogEnd, LogScanner
from ..disk import Disk
from ..identity import Identity
from ..shard.checkpoint import Checkpoint

KEYS_AT_ONCE = 250_000  # about 50 MB


@dataclass(slots=True)
class Survey:
    """What a first reading found after the common point. names: of each collection id, the last it had; changes: of the catalog, as
    (seq, "made" or "dropped", name)."""

    commits: int = 0
    writes: int = 0  # records that put or delete a document, the engine's own included
    first: Head | None = None
    last: Head | None = None
    reigns: list[tuple[int, int, int]] = field(default_factory=list)  # epoch, id, first seq
    names: dict[int, str] = field(default_factory=dict)
    changes: list[tuple[int, str, str]] = field(default_factory=list)
    dropped_at: dict[int, int] = field(default_factory=dict)  # collection id -> number of the first write after its drop
    why: str = ""  # not all bytes after the point could be read as commits


class Divergence:
    """Make it by `find`. chain: that of the common point."""

    def __init__(self, disk: Disk, directory: str, identity: Identity, to_seq: int, epoch: int, chain: int, catalog: Catalog) -> None:
        self._disk, self._directory, self._identity = disk, directory, identity
        self.to_seq, self.epoch, self.chain = to_seq, epoch, chain
        self.survey = self._look(catalog)

    @classmethod
    def find(cls, disk: Disk, directory: str, identity: Identity, base: Checkpoint | None, to_seq: int) -> Divergence | None:
        """None when the base and the log do not reach to_seq."""
        if base is None:
            seq, epoch, chain, catalog = 0, 0, first_chain(identity.uuid), Catalog()
        else:
            ids = {name: entry.id for name, entry in base.collections.items()}
            seq, epoch, chain, catalog = base.seq, base.epoch, base.chain, Catalog(ids, base.next_collection_id)
        if seq < to_seq:
            for head, body in LogScanner(disk, directory, identity.uuid, seq, chain):
                for record in decode_body(head.record_count, body):
                    if record.collection == CATALOG and record.op <= DELETE:
                        catalog = catalog.after(record)
                seq, epoch, chain = head.seq, head.epoch, head.chain
                if seq >= to_seq:
                    break
        return cls(disk, directory, identity, to_seq, epoch, chain, catalog) if seq == to_seq else None

    def commits(self) -> Iterator[tuple[Head, list[Record]]]:
        """Those after the point, as far as they can be read."""
        for head, body in self._scanner():
            yield head, decode_body(head.record_count, body)

    def newest(self) -> bytearray:
        """A bit for each write: no later one of these commits is of the same document, and its collection was not dropped since."""
        survey = self.survey
        bits = bytearray(survey.writes // 8 + 1)
        lots = max(1, -(-survey.writes // KEYS_AT_ONCE))
        for lot in range(lots):
            last: dict[tuple[int, bytes], int] = {}
            number = 0
            for _, records in self.commits():
                for record in records:
                    if not is_write(record):
                        continue
                    if lots == 1 or xxhash.xxh3_64_intdigest(record.id) % lots == lot:
                        last[record.collection, record.id] = number
                    number += 1
            for (collection, _), number in last.items():
                if number >= survey.dropped_at.get(collection, 0):
                    bits[number >> 3] |= 1 << (number & 7)
        return bits

    def _scanner(self) -> LogScanner:
        return LogScanner(self._disk, self._directory, self._identity.uuid, self.to_seq, self.chain)

    def _look(self, catalog: Catalog) -> Survey:
        survey = Survey(names={number: name for name, number in catalog.ids.items()})
        scanner = self._scanner()
        for head, body in scanner:
            records = decode_body(head.record_count, body)
            survey.first = survey.first or head
            survey.last = head
            survey.commits += 1
            survey.writes += sum(map(is_write, records))
            before = catalog
            for record in records:
                if record.op == REIGN:
                    survey.reigns.append((head.epoch, int.from_bytes(record.doc, "little"), head.seq))
                elif record.collection == CATALOG and record.op <= DELETE:
                    catalog = catalog.after(record)
            if catalog is not before:
                self._compare(survey, head.seq, before, catalog)
        if scanner.verdict.end is not LogEnd.WHOLE and (scanner.verdict.bad_bytes or scanner.after_bad):
            survey.why = f"{scanner.verdict.bad_path} at offset {scanner.verdict.bad_offset}: {scanner.verdict.reason}"
        return survey

    @staticmethod
    def _compare(survey: Survey, seq: int, before: Catalog, after: Catalog) -> None:
        survey.names.update((number, name) for name, number in after.ids.items())
        old, new = set(before.ids.values()), set(after.ids.values())
        for number in sorted(old - new):
            survey.dropped_at[number] = survey.writes
        survey.changes += [(seq, "made", survey.names[number]) for number in sorted(new - old)]
        survey.changes += [(seq, "dropped", survey.names[number]) for number in sorted(old - new)]


def is_write(record: Record) -> bool:
    """Whether the record puts or deletes a document of a collection."""
    return record.op <= DELETE and record.collection != CATALOG
