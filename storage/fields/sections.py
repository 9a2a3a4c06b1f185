"""Section files: named arrays written one behind the other, read in place from a mapping. The format of all field index files.

Little-endian. `fields.rows.N`, `fields.svidx.N`, `fields.sgidx.N` and `fields.stidx.N` differ in `content` and in their sections.

    0       8         10           12        16           20      24      32     40     56     64
    ├───────┼─────────┼────────────┼─────────┼────────────┼───────┼───────┼──────┼──────┼──────┤ sections, each
    │ magic │ version │ header_len │ content │ collection │ zeros │ first │ last │ uuid │ rows │ at a multiple of 64 ...
    └───────┴─────────┴────────────┴─────────┴────────────┴───────┴───────┴──────┴──────┴──────┘
     8       u16       u16          u32       u32          u32     u64     u64    16     u64

    footer, at a multiple of 64:  block_crc u32 × blocks
                                  name 16 │ type 8 │ field u32 │ zeros u32 │ offset u64 │ length u64    × sections
                                  length u32 │ UTF-8                                                     × fields
    trailer, at the end:          footer u64 │ blocks u32 │ sections u32 │ fields u32 │ crc u32 │ magic 8

    first, last   the seqs whose rows the segment holds: (first, last]
    block_crc     CRC32C of each MiB before the footer
    type          numpy's name of the array's type; |V1 for plain bytes
    field         index into the field names; a segment's own sections (its row table) have 0xFFFFFFFF
    crc           CRC32C of header, footer and the trailer up to here: with it all lengths and places can be trusted at once

A reader skips sections whose name it does not know, so later ones need no new version. Blocks are checked by check(); before that,
damage within a section can give wrong numbers, never reads outside the file.
Writing streams: nothing is held back but 256 KiB, so that small sections share a write, and 4 bytes a MiB. INV-5: all of it can be rebuilt from the logs.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import google_crc32c
import numpy as np

from ..disk import Disk
from ..errors import DamagedRecord, NewerFormat

assert sys.byteorder == "little", "index columns are mapped in place: little-endian machines only"

MAGIC = b"TWFIELD\n"
VERSION = 1
HEADER = struct.Struct("<8sHHIIIQQ16sQ")
SECTION = struct.Struct("<16s8sIIQQ")
TRAILER = struct.Struct("<QIIII8s")
NAME_LENGTH = struct.Struct("<I")
ALIGN = 64
BLOCK_BYTES = 2**20
HELD_BYTES = 2**18  # written at once
NO_FIELD = 0xFFFFFFFF
TRAILER_CRC_AT = TRAILER.size - 12
assert HEADER.size == 64 and SECTION.size == 48 and TRAILER.size == 32, "the drawing says 64, 48, 32"

Buffer = bytes | bytearray | memoryview | np.ndarray


class Content(IntEnum):
    """Which of the four files it is."""

    ROWS = 1
    VALUES = 2
    GROUPS = 3
    TEXTS = 4


class SegmentInfo(NamedTuple):
    """Which rows of which database a segment holds: those of seqs first < seq <= last in one collection."""

    uuid: bytes
    collection: int
    first: int
    last: int
    rows: int


class SectionWriter:
    """Writes one file from front to back. finish() makes it whole; a file without it never opens."""

    def __init__(self, disk: Disk, path: str, content: Content, info: SegmentInfo) -> None:
        self.path = path
        self._file = disk.create(path)
        self._crcs: list[int] = []
        self._crc = 0
        self._table: list[bytes] = []
        self._fields: list[bytes] = []
        self._header = HEADER.pack(
            MAGIC, VERSION, HEADER.size, content, info.collection, 0, info.first, info.last, info.uuid, info.rows
        )
        self._at = 0  # held bytes included
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._put(self._header)

    def field(self, name: str) -> int:
        """The number of a new field."""
        self._fields.append(name.encode())
        return len(self._fields) - 1

    def put(self, name: str, array: np.ndarray, field: int = NO_FIELD) -> None:
        """One section of a whole array."""
        self.put_chunks(name, array.dtype.str, [np.ascontiguousarray(array)], field)

    def put_chunks(self, name: str, type_name: str, chunks: Iterable[Buffer], field: int = NO_FIELD) -> None:
        """One section in pieces, of the elements named by numpy's type_name."""
        self._align()
        start = self._at
        for chunk in chunks:
            self._put(chunk)
        encoded = name.encode(), type_name.encode()
        assert len(encoded[0]) <= 16 and len(encoded[1]) <= 8, f"section {name} of {type_name}: names are short"
        self._table.append(SECTION.pack(*encoded, field, 0, start, self._at - start))

    @property
    def size(self) -> int:
        return self._at

    def finish(self, *, is_synced: bool) -> None:
        """Write the footer and, if asked, sync the file. The directory is the caller's to sync."""
        self._align()
        place = self._at
        self._write_held()
        if place % BLOCK_BYTES:
            self._crcs.append(self._crc)
        names = b"".join(NAME_LENGTH.pack(len(name)) + name for name in self._fields)
        footer = b"".join((struct.pack(f"<{len(self._crcs)}I", *self._crcs), *self._table, names))
        trailer = TRAILER.pack(place, len(self._crcs), len(self._table), len(self._fields), 0, MAGIC)
        crc = google_crc32c.value(self._header + footer + trailer[:TRAILER_CRC_AT])
        self._file.append(footer + trailer[:TRAILER_CRC_AT] + crc.to_bytes(4, "little") + MAGIC)
        if is_synced:
            self._file.sync()
        self.close()

    def close(self) -> None:
        self._file.close()

    def _align(self) -> None:
        self._put(bytes(-self._at % ALIGN))

    def _put(self, data: Buffer) -> None:
        view = memoryview(data)
        if not view.nbytes:
            return
        view = view.cast("B")
        for start in range(0, len(view), HELD_BYTES):
            piece = bytes(view[start : start + HELD_BYTES])
            self._held.append(piece)
            self._held_bytes += len(piece)
            self._at += len(piece)
            if self._held_bytes >= HELD_BYTES:
                self._write_held()

    def _write_held(self) -> None:
        held, at = b"".join(self._held), self._at - self._held_bytes
        self._held.clear()
        self._held_bytes = 0
        while held:
            room = BLOCK_BYTES - at % BLOCK_BYTES
            piece, held = held[:room], held[room:]
            self._file.append(piece)
            self._crc = google_crc32c.extend(self._crc, piece)
            at += len(piece)
            if not at % BLOCK_BYTES:
                self._crcs.append(self._crc)
                self._crc = 0


class SectionFile:
    """An open file. Its arrays are views of the mapping, which lives as long as one of them does."""

    __slots__ = ("_crcs", "_end", "_sections", "content", "data", "fields", "info", "path")

    def __init__(self, path: str, data: bytes | memoryview) -> None:
        """Raises DamagedRecord, NewerFormat. Looks at header and footer only."""
        self.path = path
        self.data = data = memoryview(data)
        if len(data) < HEADER.size + TRAILER.size or data[:8] != MAGIC:
            raise self._damaged(0, "not a field index file")
        _, version, header_len, content, collection, _, first, last, uuid, rows = HEADER.unpack_from(data)
        if version > VERSION:
            raise NewerFormat(f"{path}: field index of format {version}, this program knows {VERSION}: use a newer one")
        end = len(data) - TRAILER.size
        place, blocks, sections, fields, crc, magic = TRAILER.unpack_from(data, end)
        if magic != MAGIC:
            raise self._damaged(end, "the end is missing")
        if not HEADER.size <= place <= end or header_len != HEADER.size:
            raise self._damaged(end, "the trailer points outside the file")
        if google_crc32c.value(bytes(data[: HEADER.size]) + bytes(data[place : end + TRAILER_CRC_AT])) != crc:
            raise self._damaged(place, "checksum of header and footer differs")
        try:
            self.content = Content(content)
        except ValueError:
            raise self._damaged(12, f"content {content} is unknown") from None
        self.info = SegmentInfo(uuid, collection, first, last, rows)
        self._end = place
        self._read_footer(place, blocks, sections, fields)

    @classmethod
    def open(cls, disk: Disk, path: str) -> SectionFile:
        """The file at path. Raises DamagedRecord (also when it is missing), NewerFormat."""
        try:
            return cls(path, disk.map(path))
        except FileNotFoundError as error:
            raise DamagedRecord(f"{path}: missing", file=path, offset=0) from error

    def _read_footer(self, place: int, blocks: int, sections: int, fields: int) -> None:
        """Places within the file were written by us: the checksum over them has been held."""
        self._crcs = struct.unpack_from(f"<{blocks}I", self.data, place)
        place += 4 * blocks
        self._sections: dict[tuple[int, str], tuple[str, int, int]] = {}
        table = self.data[place : place + sections * SECTION.size]
        for name, kind, field, _, offset, length in SECTION.iter_unpack(table):
            self._sections[field, _unpadded(name)] = _unpadded(kind), offset, length
        place += len(table)
        self.fields: list[str] = []
        for _ in range(fields):
            (length,) = NAME_LENGTH.unpack_from(self.data, place)
            place += NAME_LENGTH.size
            self.fields.append(str(self.data[place : place + length], "utf-8"))
            place += length

    def has(self, name: str, field: int = NO_FIELD) -> bool:
        return (field, name) in self._sections

    def array(self, name: str, field: int = NO_FIELD) -> np.ndarray:
        """A section as the array it was written as. Raises DamagedRecord when it is not there."""
        found = self._sections.get((field, name))
        if found is None:
            raise self._damaged(self._end, f"section {name} is missing")
        kind, offset, length = found
        return np.frombuffer(self.data[offset : offset + length], np.dtype(kind))

    def bytes_of(self, name: str, field: int = NO_FIELD) -> memoryview:
        """A section as plain bytes."""
        return self.array(name, field).data.cast("B")

    def names(self, field: int) -> list[str]:
        """The sections of a field, in the order in which they were written."""
        return [name for owner, name in self._sections if owner == field]

    def check(self) -> Iterator[None]:
        """Hold one block after the other against its checksum; a step for each. Raises DamagedRecord."""
        for number, expected in enumerate(self._crcs):
            offset = number * BLOCK_BYTES
            if google_crc32c.value(bytes(self.data[offset : min(offset + BLOCK_BYTES, self._end)])) != expected:
                raise self._damaged(offset, "a block's checksum differs")
            yield

    def _damaged(self, offset: int, what: str) -> DamagedRecord:
        return DamagedRecord(f"{self.path}: {what}; the index is rebuilt from the log", file=self.path, offset=offset)


@lru_cache(maxsize=256)
def _unpadded(name: bytes) -> str:
    """The same few names stand in every footer."""
    return name.rstrip(b"\0").decode()
