"""Live-row bitmaps: which rows of a segment are not superseded at a checkpoint. Pure but for reading and writing its file.

`fields.live.N`, little-endian:

    0       8      16       24              24 + bytes
    ├───────┼──────┼────────┼───────────────┤
    │ magic │ rows │ xxh3   │ bitmap        │     bit k of byte j is row 8 j + k; 1 = live; the last byte's spare bits are 0
    └───────┴──────┴────────┴───────────────┘
     8       u64    u64      (rows + 7) // 8

Written once, never changed: a seal that supersedes rows writes a new one (2 MB for 16 million rows).
"""

from __future__ import annotations

import struct

import numpy as np
import xxhash

from ..disk import Disk
from ..errors import DamagedRecord
from .state import SegmentEntry

HEADER = struct.Struct("<8sQQ")
MAGIC = b"TWLIVE1\n"
assert HEADER.size == 24, "the drawing says 24"


def file_name(number: int) -> str:
    return f"fields.live.{number}"


def all_live(rows: int) -> np.ndarray:
    """The bitmap (u8) of a segment without dead rows."""
    return np.packbits(np.ones(rows, bool), bitorder="little")


def clear(bits: np.ndarray, rows: np.ndarray) -> None:
    """Mark rows dead, in place; a row may be named twice or be dead already."""
    rows = rows.astype(np.int64)
    np.bitwise_and.at(bits, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))


def count(bits: np.ndarray, rows: int) -> int:
    """How many rows are live."""
    return int(np.unpackbits(bits, count=rows, bitorder="little").sum(dtype=np.int64))


def as_bools(bits: np.ndarray, rows: int) -> np.ndarray:
    """One bool a row."""
    return np.unpackbits(bits, count=rows, bitorder="little").view(bool)


def write(disk: Disk, directory: str, number: int, bits: np.ndarray, rows: int) -> None:
    """A new file. It is not synced: load() looks at every byte."""
    data = bits.tobytes()
    file = disk.create(f"{directory}/{file_name(number)}")
    try:
        file.append(HEADER.pack(MAGIC, rows, xxhash.xxh3_64_intdigest(data)) + data)
    finally:
        file.close()


def load(disk: Disk, directory: str, entry: SegmentEntry) -> np.ndarray:
    """The bitmap of a segment that has one, the caller's own copy. Raises DamagedRecord."""
    assert entry.live is not None, "a segment without a bitmap has only live rows"
    path = f"{directory}/{file_name(entry.live)}"
    try:
        data = disk.read_file(path)
    except FileNotFoundError as error:
        raise DamagedRecord(f"{path} is missing", file=path, offset=0) from error
    if len(data) != HEADER.size + (entry.rows + 7) // 8:
        raise DamagedRecord(f"{path} has {len(data)} bytes, a bitmap of {entry.rows} rows was expected", file=path, offset=0)
    magic, rows, digest = HEADER.unpack_from(data)
    if magic != MAGIC or rows != entry.rows or xxhash.xxh3_64_intdigest(data[HEADER.size :]) != digest:
        raise DamagedRecord(f"{path} does not validate", file=path, offset=0)
    return np.frombuffer(bytearray(data[HEADER.size :]), np.uint8)
