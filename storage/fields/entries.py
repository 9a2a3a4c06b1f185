"""Entries: the values of one path in many documents, as arrays. Pure; made by extract.py, made into columns by build.py.

    kind      payload               length
    NUMBER    int64, or a double    0, or 1
    STRING    offset in the blob    bytes
    OBJECT_ID, UUID  offset in the blob    -
    BOOL, DATE       0 or 1, ms            -

Offsets up to len(blob) are in `blob` (the documents themselves, nothing is copied); those from there on are in `more`, into which
values were written that were found by decoding. Entries of one row stand together, rows ascend.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..values.extensions import milliseconds
from .values import Kind, kind_of

_INT64 = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")
_UINT64_MASK = 2**64 - 1


class Entries(NamedTuple):
    """Columns of equal length, one row an entry."""

    rows: int  # documents that were looked at
    row: np.ndarray | None  # u32, ascending: whose entry it is. None: entry i is that of row i
    kind: np.ndarray  # u8
    payload: np.ndarray  # u64
    length: np.ndarray  # u32
    many: np.ndarray  # u32, ascending: rows with no entry, several, or one that was reached through an array
    blob: bytes | memoryview
    more: bytes


class Gathered:
    """Entries being written down one by one."""

    __slots__ = ("_base", "_bytes", "kinds", "lengths", "many", "payloads", "rows")

    def __init__(self, base: int) -> None:
        """base: the length of the blob that `more` continues."""
        self._base = base
        self._bytes = bytearray()
        self.rows: list[int] = []
        self.kinds: list[int] = []
        self.payloads: list[int] = []
        self.lengths: list[int] = []
        self.many: list[int] = []

    def add(self, row: int, values: Iterable[object], *, through_array: bool) -> None:
        """All entries of one row; rows must come in order."""
        before = len(self.rows)
        for value in values:
            kind = kind_of(value)
            payload, length = self._payload(kind, value)
            self.rows.append(row)
            self.kinds.append(kind)
            self.payloads.append(payload)
            self.lengths.append(length)
        if through_array or len(self.rows) != before + 1:
            self.many.append(row)

    def _payload(self, kind: Kind, value: object) -> tuple[int, int]:
        if kind is Kind.NUMBER:
            if isinstance(value, float):
                return int.from_bytes(_DOUBLE.pack(value), "little"), 1
            return int(value) & _UINT64_MASK, 0
        if kind is Kind.STRING:
            return self._keep(value.encode("utf-8"))
        if kind is Kind.OBJECT_ID:
            return self._keep(value.binary)
        if kind is Kind.UUID:
            return self._keep(value.bytes)
        if kind is Kind.DATE:
            return milliseconds(value) & _UINT64_MASK, 0
        return (int(value), 0) if kind is Kind.BOOL else (0, 0)

    def _keep(self, data: bytes) -> tuple[int, int]:
        at = self._base + len(self._bytes)
        self._bytes += data
        return at, len(data)

    def entries(self, rows: int, blob: bytes | memoryview) -> Entries:
        """What was written, of that many documents."""
        is_plain = not self.many and len(self.rows) == rows
        return Entries(
            rows,
            None if is_plain else np.array(self.rows, np.uint32),
            np.array(self.kinds, np.uint8),
            np.array(self.payloads, np.uint64),
            np.array(self.lengths, np.uint32),
            np.array(self.many, np.uint32),
            blob,
            bytes(self._bytes),
        )


def entries_of_values(rows: Sequence[Sequence[object]], through_array: Iterable[int] = ()) -> Entries:
    """Entries given as Python values, a sequence for each row. through_array: rows that belong to `many` although they have
    one entry."""
    gathered = Gathered(0)
    arrays = frozenset(through_array)
    for row, values in enumerate(rows):
        gathered.add(row, values, through_array=row in arrays)
    return gathered.entries(len(rows), b"")


def merged(plain: Entries, found: Gathered) -> Entries:
    """Entries of plain rows and of the other rows of the same documents, in one; rows with neither are among found.many."""
    rest = found.entries(plain.rows, plain.blob)
    row = np.concatenate((plain.row, rest.row))
    order = np.argsort(row, kind="stable")
    return Entries(
        plain.rows,
        row[order],
        np.concatenate((plain.kind, rest.kind))[order],
        np.concatenate((plain.payload, rest.payload))[order],
        np.concatenate((plain.length, rest.length))[order],
        rest.many,
        plain.blob,
        rest.more,
    )
