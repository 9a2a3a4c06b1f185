"""Shard record codec: bytes to ShardRecord and back, and the header of a shard log file. Pure; knows no file.

A shard log is its header followed by records without gaps, all little-endian. The header:

    0       8         10           12      16           20       24     40         60    64
    ├───────┼─────────┼────────────┼───────┼────────────┼────────┼──────┼──────────┼─────┤
    │ magic │ version │ header_len │ shard │ generation │ shards │ uuid │ reserved │ crc │
    └───────┴─────────┴────────────┴───────┴────────────┴────────┴──────┴──────────┴─────┘
     8       u16       u16          u32     u32          u32      16     zeros      u32

    uuid   of the database; crc   crc32c of bytes 0 to 60

A record:

    0          4          8         12       14   15      16           20    24    32        40
    ├──────────┼──────────┼─────────┼────────┼────┼───────┼────────────┼─────┼─────┼─────────┼─ id_len ─┼─ doc_len ─┤
    │ head_crc │ body_crc │ doc_len │ id_len │ op │ flags │ collection │ row │ seq │ time_us │ id       │ doc       │
    └──────────┴──────────┴─────────┴────────┴────┴───────┴────────────┴─────┴─────┴─────────┴──────────┴───────────┘
     u32        u32        u32       u16      u8   u8      u32          u32   u64   u64

    head_crc   crc32c of bytes 4 to 40, so that lengths can be trusted before the body is read
    body_crc   crc32c of id and doc; 0 and not looked at when flags has BODY_UNCHECKED (`--disable-crc`)
    op         PUT or DELETE of commit/codec.Op; a deletion has no doc
    row        index of the record within its commit; (seq, row) is the order of writing and unique in a database
    id, doc    the canonical key and the document, as in the commit log

Short input is data that never came: decode returns None. Any crc that differs raises DamagedRecord.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import google_crc32c
import numpy as np

from .. import native
from ..columns import Column, check_slices, read_columns
from ..commit.codec import DOCUMENT_BYTES_MAX, ID_BYTES_MAX, Op
from ..errors import DamagedRecord, NewerFormat

FILE_HEADER = struct.Struct("<8sHHIII16s20s")
FILE_HEADER_BYTES = 64
FILE_MAGIC = b"TWSHARD\n"
FILE_VERSION = 1
HEADER = struct.Struct("<IIIHBBIIQQ")
_AFTER_HEAD_CRC = struct.Struct("<IIHBBIIQQ")
HEADER_BYTES = 40
BODY_UNCHECKED = 1  # flags
_ID_LEN_MAX = 2**16 - 1
assert FILE_HEADER.size + 4 == FILE_HEADER_BYTES, "the drawing says 64"
HEADER_TYPE = np.dtype(  # the same for many records at once
    [
        ("head_crc", "<u4"),
        ("body_crc", "<u4"),
        ("doc_len", "<u4"),
        ("id_len", "<u2"),
        ("op", "u1"),
        ("flags", "u1"),
        ("collection", "<u4"),
        ("row", "<u4"),
        ("seq", "<u8"),
        ("time_us", "<u8"),
    ]
)
assert HEADER.size == HEADER_TYPE.itemsize == HEADER_BYTES, "the drawing says 40"

_crc = google_crc32c.value
_PUT, _DELETE = int(Op.PUT), int(Op.DELETE)  # plain ints: decoding is the inner loop of every scan


class ShardRecord(NamedTuple):
    """The newest state of one key at some point. `doc` is empty for a deletion."""

    op: int
    collection: int
    seq: int
    row: int
    time_us: int
    id: bytes
    doc: bytes


class FileHeader(NamedTuple):
    """Which file this is, whatever it is called."""

    shard: int
    generation: int
    shards: int
    uuid: bytes


def encode_file_header(header: FileHeader) -> bytes:
    fields = FILE_HEADER.pack(
        FILE_MAGIC, FILE_VERSION, FILE_HEADER_BYTES, header.shard, header.generation, header.shards, header.uuid, bytes(20)
    )
    return fields + _crc(fields).to_bytes(4, "little")


def decode_file_header(data: bytes) -> FileHeader:
    """Raises DamagedRecord, or NewerFormat for a version this code does not know."""
    if len(data) < FILE_HEADER_BYTES or data[:8] != FILE_MAGIC:
        raise DamagedRecord("not a shard log: its header is missing", offset=0)
    if int.from_bytes(data[60:64], "little") != _crc(bytes(data[:60])):
        raise DamagedRecord("shard log header: crc differs", offset=0)
    _, version, _, shard, generation, shards, uuid, _ = FILE_HEADER.unpack_from(data)
    if version > FILE_VERSION:
        raise NewerFormat(f"shard log of format {version}, this program knows {FILE_VERSION}: use a newer one")
    return FileHeader(shard, generation, shards, uuid)


def encode(
    op: int, collection: int, key: bytes, doc: bytes, *, seq: int, row: int, time_us: int, crc: bool = True
) -> bytes:
    """The bytes of one record."""
    body = key + doc
    fields = _AFTER_HEAD_CRC.pack(
        _crc(body) if crc else 0, len(doc), len(key), op, 0 if crc else BODY_UNCHECKED, collection, row, seq, time_us
    )
    return _crc(fields).to_bytes(4, "little") + fields + body


def _shard_records(
    blob: bytes, op: Column, collection: Column, at: Column, key_len: Column, doc_len: Column,
    seq: Column, row: Column, time_us: Column, *, crc: bool,
) -> bytes:  # fmt: skip
    """The bytes of many records, one after the other. Of each, key and document stand in blob from `at` on.

    op: u8; at, seq, time_us: u64; collection, key_len, doc_len, row: u32 (see columns.py). Raises ValueError.
    """
    columns = read_columns("BIQIIQIQ", op, collection, at, key_len, doc_len, seq, row, time_us)
    check_slices(len(blob), columns[2], columns[3], columns[4])
    if max(columns[3], default=0) > _ID_LEN_MAX:
        raise ValueError(f"a key of {max(columns[3])} bytes is too long")
    heads = np.zeros(len(columns[0]), HEADER_TYPE)
    for name, column in zip(("op", "collection", "id_len", "doc_len", "seq", "row", "time_us"), columns[:2] + columns[3:]):
        heads[name] = column
    bodies = [bytes(blob[start : start + keys + docs]) for start, keys, docs in zip(*columns[2:5])]
    if crc:
        heads["body_crc"] = [_crc(body) for body in bodies]
    else:
        heads["flags"] = BODY_UNCHECKED
    places = range(0, heads.nbytes, HEADER_BYTES)
    without = heads.tobytes()
    heads["head_crc"] = [_crc(without[place + 4 : place + HEADER_BYTES]) for place in places]
    whole = heads.tobytes()
    parts: list[bytes] = [b""] * (2 * len(bodies))
    parts[::2] = [whole[place : place + HEADER_BYTES] for place in places]
    parts[1::2] = bodies
    return b"".join(parts)


shard_records = native.choose("shard_records", _shard_records)


def decode(buffer: bytes | memoryview, offset: int = 0, *, verify: bool = True) -> ShardRecord | None:
    """The record at offset, or None when the buffer ends before it does. Raises DamagedRecord.

    verify=False leaves the body's crc alone; the header's is always checked.
    """
    start = offset + HEADER_BYTES
    if len(buffer) < start:
        return None
    head_crc, body_crc, doc_len, id_len, op, flags, collection, row, seq, time_us = HEADER.unpack_from(buffer, offset)
    if _crc(bytes(buffer[offset + 4 : start])) != head_crc:
        raise DamagedRecord("shard record header: crc differs", offset=offset)
    middle = start + id_len
    end = middle + doc_len
    if op != _PUT and (op != _DELETE or doc_len) or id_len > ID_BYTES_MAX or doc_len > DOCUMENT_BYTES_MAX:
        raise DamagedRecord(f"shard record header: impossible op {op} or lengths", offset=offset)
    if len(buffer) < end:
        return None
    if verify and not flags & BODY_UNCHECKED and _crc(bytes(buffer[start:end])) != body_crc:
        raise DamagedRecord("shard record body: crc differs", offset=offset)
    return ShardRecord(op, collection, seq, row, time_us, bytes(buffer[start:middle]), bytes(buffer[middle:end]))


def _live_rows(buffer: bytes | memoryview, places: Column, collection: int) -> list[tuple[int, int, bytes, bytes]]:
    """(seq, row, id, document) of the records at these places (u64) of a buffer, up to the first that is not whole, sound and a PUT of the
    collection: what is wrong with that one, decode() says. Raises nothing for any bytes."""
    found = []
    for place in read_columns("Q", places)[0]:
        try:
            record = decode(buffer, int(place))
        except DamagedRecord:
            break
        if record is None or record.op != _PUT or record.collection != collection:
            break
        found.append((record.seq, record.row, record.id, record.doc))
    return found


live_rows = native.choose("live_rows", _live_rows)


def record_bytes(record: ShardRecord) -> int:
    """How long the record is in its file."""
    return HEADER_BYTES + len(record.id) + len(record.doc)


def iterate(buffer: bytes | memoryview, offset: int = 0, *, verify: bool = True) -> Iterator[tuple[int, ShardRecord]]:
    """(offset, record) one after the other up to the end of the buffer or the first short one."""
    while (record := decode(buffer, offset, verify=verify)) is not None:
        yield offset, record
        offset += record_bytes(record)


def length_at(buffer: bytes | memoryview, offset: int = 0) -> int | None:
    """How long the record at offset is, once its header is there. Raises DamagedRecord."""
    if len(buffer) - offset < HEADER_BYTES:
        return None
    head_crc, _, doc_len, id_len, *_ = HEADER.unpack_from(buffer, offset)
    if _crc(bytes(buffer[offset + 4 : offset + HEADER_BYTES])) != head_crc:
        raise DamagedRecord("shard record header: crc differs", offset=offset)
    return HEADER_BYTES + id_len + doc_len
