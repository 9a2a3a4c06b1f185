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

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..errors import BadDocument
from ..values.extensions import Ext, milliseconds, refusal
from .values import Kind, kind_of

Extension = msgspec.msgpack.Ext


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
    """Entries being written down as Python values; they become arrays all at once, type by type."""

    __slots__ = ("_base", "many", "rows", "values")

    def __init__(self, base: int) -> None:
        """base: the length of the blob that `more` continues."""
        self._base = base
        self.rows: list[int] = []
        self.values: list[object] = []
        self.many: list[int] = []

    def add(self, row: int, values: Sequence[object], *, through_array: bool) -> None:
        """All entries of one row; rows must come in order."""
        self.rows += [row] * len(values)
        self.values += values
        if through_array or len(values) != 1:
            self.many.append(row)

    def add_plain(self, first: int, values: Sequence[object]) -> None:
        """One plain entry for each row from first on."""
        self.rows += range(first, first + len(values))
        self.values += values

    def entries(self, rows: int, blob: bytes | memoryview) -> Entries:
        """What was written, of that many documents. Raises BadDocument for an integer beyond 64 bits."""
        size = len(self.values)
        arrays = np.zeros(size, np.uint8), np.zeros(size, np.uint64), np.zeros(size, np.uint32)
        more = bytearray()
        types = list(map(type, self.values))
        found = set(types)
        for each in found:
            if len(found) == 1:
                where, values = np.arange(size), self.values
            else:
                where = np.array([i for i, kind in enumerate(types) if kind is each])
                values = [self.values[i] for i in where.tolist()]
            _WRITERS.get(each, _write_any)(values, where, arrays, more, self._base)
        is_plain = not self.many and size == rows
        row = None if is_plain else np.array(self.rows, np.uint32)
        return Entries(rows, row, *arrays, np.array(self.many, np.uint32), blob, bytes(more))


# Writers of values of one type: into kind, payload and length where they stand, and their bytes behind those in `more`.

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def _write_integers(values: list[int], where: np.ndarray, arrays: Arrays, more: bytearray, base: int) -> None:
    try:
        arrays[1][where] = np.array(values, np.int64).view(np.uint64)
    except OverflowError:
        raise BadDocument("an integer of a stored document does not fit 64 bits with sign") from None
    arrays[0][where] = Kind.NUMBER


def _write_doubles(values: list[float], where: np.ndarray, arrays: Arrays, more: bytearray, base: int) -> None:
    doubles = np.array(values, np.float64)
    is_number = doubles == doubles
    arrays[0][where] = np.where(is_number, Kind.NUMBER, Kind.NAN)
    arrays[1][where] = np.where(is_number, doubles.view(np.uint64), 0)
    arrays[2][where] = is_number


def _write_strings(values: list[str], where: np.ndarray, arrays: Arrays, more: bytearray, base: int) -> None:
    arrays[0][where] = Kind.STRING
    _write_bytes([value.encode("utf-8") for value in values], where, arrays, more, base)


def _write_bytes(values: list[bytes], where: np.ndarray, arrays: Arrays, more: bytearray, base: int) -> None:
    sizes = np.array(list(map(len, values)), np.uint64)
    arrays[1][where] = np.cumsum(sizes) - sizes + np.uint64(base + len(more))
    arrays[2][where] = sizes
    more += b"".join(values)


def _write_bools(values: list[bool], where: np.ndarray, arrays: Arrays, more: bytearray, base: int) -> None:
    arrays[0][where] = Kind.BOOL
    arrays[1][where] = values


def _write_extensions(values: list[Extension], where: np.ndarray, arrays: Arrays, more: bytearray, base: int) -> None:
    """Of MessagePack, as they were read: building dates and ids takes longer than all the rest."""
    codes = np.array([value.code for value in values], np.int16)
    for code in np.unique(codes).tolist():
        kind, chosen = _KIND_OF_EXTENSION.get(code), np.flatnonzero(codes == code)
        data = [bytes(values[i].data) for i in chosen.tolist()]
        reason = next(filter(None, map(partial(refusal, code), data)), None)
        if reason is not None:
            raise BadDocument(f"a stored document holds what is no document type: {reason}")
        arrays[0][where[chosen]] = kind
        if kind is Kind.DATE:
            arrays[1][where[chosen]] = np.frombuffer(b"".join(data), ">u8")
        elif kind in (Kind.OBJECT_ID, Kind.UUID):
            _write_bytes(data, where[chosen], arrays, more, base)


def _write_any(values: list[Any], where: np.ndarray, arrays: Arrays, more: bytearray, base: int) -> None:
    kinds = np.array(list(map(kind_of, values)), np.uint8)
    arrays[0][where] = kinds
    for kind in np.unique(kinds).tolist():
        chosen = np.flatnonzero(kinds == kind)
        same, places = [values[i] for i in chosen.tolist()], where[chosen]
        if kind == Kind.DATE:
            arrays[1][places] = np.array(list(map(milliseconds, same)), np.int64).view(np.uint64)
        elif kind == Kind.OBJECT_ID:
            _write_bytes([value.binary for value in same], places, arrays, more, base)
        elif kind == Kind.UUID:
            _write_bytes([value.bytes for value in same], places, arrays, more, base)
        elif kind == Kind.STRING:
            _write_strings([str.__str__(value) for value in same], places, arrays, more, base)
        elif kind == Kind.NUMBER:
            writer = _write_doubles if isinstance(same[0], float) else _write_integers
            writer(same, places, arrays, more, base)


_WRITERS = {
    int: _write_integers,
    float: _write_doubles,
    str: _write_strings,
    bool: _write_bools,
    Extension: _write_extensions,
}
_KIND_OF_EXTENSION = {
    Ext.DATETIME: Kind.DATE,
    Ext.OBJECT_ID: Kind.OBJECT_ID,
    Ext.UUID: Kind.UUID,
    Ext.DECIMAL128: Kind.DECIMAL,
    Ext.TIMESTAMP: Kind.TIMESTAMP,
    Ext.REGEX: Kind.REGEX,
    Ext.MIN_KEY: Kind.MIN_KEY,
    Ext.MAX_KEY: Kind.MAX_KEY,
    Ext.BINARY: Kind.BINARY,
    Ext.CODE: Kind.CODE,
}


def entries_of_values(rows: Sequence[Sequence[object]], through_array: Iterable[int] = ()) -> Entries:
    """Entries given as Python values, a sequence for each row. through_array: rows that belong to `many` although they have
    one entry."""
    gathered = Gathered(0)
    arrays = frozenset(through_array)
    for row, values in enumerate(rows):
        gathered.add(row, values, through_array=row in arrays)
    return gathered.entries(len(rows), b"")
