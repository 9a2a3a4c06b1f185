"""The memtable: commits after the newest checkpoint, in memory, several versions a document. Pure.

A version is a plain tuple `(seq, row, op, doc, time_us, older)`, newest first, so that a read view at any seq walks back
to what it may see (INV-3). One memtable is active; at most one more is frozen while it is being sealed (INV-8). The keys of a
collection stand in the order of their last writes, so that what came after a seq is found from the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import native
from .codec import DELETE, PUT, Op, Record

Version = tuple[int, int, int, bytes, int, Any]

VERSION_COST_BYTES = 252  # beyond document and key: dict slot, tuple, object headers; tracemalloc, CPython 3.11



def _put_run(
    rows: dict[int, dict[bytes, Version]], records: Sequence[Record], seq: int, first_row: int, time_us: int
) -> tuple[int, int]:
    """Put the documents and deletions of one commit's records, the first of them its row first_row.

    Gives how many were put and the bytes of their keys and documents.
    """
    count = size = 0
    for row, (op, collection, key, doc) in enumerate(records, first_row):
        if op != PUT and op != DELETE:
            continue
        table = rows.get(collection)
        if table is None:
            table = rows[collection] = {}
        table[key] = (seq, row, op, doc, time_us, table.pop(key, None))
        count += 1
        size += len(doc) + len(key)
    return count, size


_put_records = native.choose("put_run", _put_run)


class Memtable:
    """Invariant: seqs of versions added never fall; base_seq < every seq in it <= last_seq."""

    def __init__(self, base_seq: int) -> None:
        self.base_seq = base_seq
        self.last_seq = base_seq
        self.rows: dict[int, dict[bytes, Version]] = {}
        self.records = 0
        self.bytes = 0

    def put(self, collection: int, key: bytes, seq: int, row: int, op: int, doc: bytes, time_us: int) -> None:
        table = self.rows.get(collection)
        if table is None:
            table = self.rows[collection] = {}
        table[key] = (seq, row, op, doc, time_us, table.pop(key, None))
        self.records += 1
        self.bytes += len(doc) + len(key) + VERSION_COST_BYTES
        self.last_seq = seq

    def put_run(self, records: Sequence[Record], seq: int, time_us: int) -> int:
        """put() for every document and deletion of one commit, all its records given in order; others only count rows.
        Returns how many were put."""
        count, size = _put_records(self.rows, records, seq, 0, time_us)
        self.records += count
        self.bytes += size + count * VERSION_COST_BYTES
        if count:
            self.last_seq = seq
        return count

    def newest(self, collection: int, key: bytes) -> Version | None:
        table = self.rows.get(collection)
        return None if table is None else table.get(key)

    def at(self, collection: int, key: bytes, seq: int) -> Version | None:
        """The newest version at or before seq; a deletion is a version with op DELETE."""
        version = self.newest(collection, key)
        while version is not None and version[0] > seq:
            version = version[5]
        return version

    def at_listed(self, collection: int, key: bytes, seq: int) -> Version | None:
        """at() for a key that keys() gave, from another thread than the writer's: a key that is written again is out of its table
        for a moment."""
        version = None
        while version is None:
            version = self.newest(collection, key)
        while version is not None and version[0] > seq:
            version = version[5]
        return version

    def since(self, collection: int, seq: int) -> list[tuple[bytes, Version]]:
        """(key, newest version) of every key last written after seq, the latest first."""
        table = self.rows.get(collection)
        found: list[tuple[bytes, Version]] = []
        if table is not None:
            for entry in reversed(table.items()):
                if entry[1][0] <= seq:
                    break
                found.append(entry)
        return found

    def keys(self, collection: int) -> list[bytes]:
        """A copy: writers go on while a scan walks it."""
        return list(self.rows.get(collection, ()))


def is_live(version: Version) -> bool:
    return version[2] == Op.PUT
