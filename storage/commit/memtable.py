"""The memtable: commits after the newest checkpoint, in memory, several versions a document. Pure.

A version is a plain tuple `(seq, row, op, doc, time_us, older)`, newest first, so that a read view at any seq walks back
to what it may see (INV-3). One memtable is active; at most one more is frozen while it is being sealed (INV-8).
"""

from __future__ import annotations

from typing import Any

from .codec import Op

Version = tuple[int, int, int, bytes, int, Any]

VERSION_COST_BYTES = 252  # beyond document and key: dict slot, tuple, object headers; tracemalloc, CPython 3.11


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
        table[key] = (seq, row, op, doc, time_us, table.get(key))
        self.records += 1
        self.bytes += len(doc) + len(key) + VERSION_COST_BYTES
        self.last_seq = seq

    def newest(self, collection: int, key: bytes) -> Version | None:
        table = self.rows.get(collection)
        return None if table is None else table.get(key)

    def at(self, collection: int, key: bytes, seq: int) -> Version | None:
        """The newest version at or before seq; a deletion is a version with op DELETE."""
        version = self.newest(collection, key)
        while version is not None and version[0] > seq:
            version = version[5]
        return version

    def keys(self, collection: int) -> list[bytes]:
        """A copy: writers go on while a scan walks it."""
        return list(self.rows.get(collection, ()))


def is_live(version: Version) -> bool:
    return version[2] == Op.PUT
