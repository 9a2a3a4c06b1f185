"""Commit codec: bytes to Commit and back. Pure; knows no file and no clock.

One frame a commit, little-endian:

    0          4          8          12             16      20      24    32           40        48      56       56+body_len
    ├──────────┼──────────┼──────────┼──────────────┼───────┼───────┼─────┼────────────┼─────────┼───────┼────────┤
    │ head_crc │ body_crc │ body_len │ record_count │ epoch │ flags │ seq │ synced_seq │ time_us │ chain │ body   │
    └──────────┴──────────┴──────────┴──────────────┴───────┴───────┴─────┴────────────┴─────────┴───────┴────────┘
     u32        u32        u32        u32            u32     u32     u64   u64          u64       u64

    head_crc    crc32c of bytes 4 to 56, so that a damaged length is never taken for a torn tail
    body_crc    crc32c of the body
    chain       xxh3_64 of bytes 4 to 48 and the body, seeded by the chain of the commit before (INV-6)
    synced_seq  the highest seq known synced by its writer when the frame was written: on that node a bad frame at or below a later
                valid frame's synced_seq is damage (see commit/scan.py)

The body is a table of record_count entries followed by their bytes, so that a batch is decoded by columns:

    ├── record_count × 12 bytes ──────────────────────────┼─ id_len ─┼─ doc_len ─┼─ ... ─┤
    │ op u8 │ reserved u8 │ id_len u16 │ collection u32 │ doc_len u32 │ ...  │ id bytes │ doc bytes │  ...  │

Ids are canonical keys (values/keys.py); documents are MessagePack with `_id` first, as the client sent them.
Short input is an append that never finished: decode_head returns None. So it does for 56 zeros: a segment may have space reserved
behind its last frame (commit/log.py), and no frame has head_crc 0 over zeros. Any other crc that differs raises DamagedRecord.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

import google_crc32c
import xxhash

from .. import native
from ..errors import DamagedRecord

HEAD = struct.Struct("<IIIIIIQQQQ")
_HEAD_AFTER_CRC = struct.Struct("<IIIIIQQQQ")
_CHAINED = struct.Struct("<IIIIIQQQ")
_LENGTH_AND_SEQ = struct.Struct("<I12xQ")  # from byte 8 of a frame
_LENGTH_AND_TIME = struct.Struct("<I28xQ")  # likewise
ENTRY = struct.Struct("<BBHII")
HEAD_BYTES = 56
ENTRY_BYTES = 12
assert HEAD.size == HEAD_BYTES, "the drawing says 56"
assert ENTRY.size == ENTRY_BYTES, "the drawing says 12"

COMMIT_RECORDS_MAX = 5_000
COMMIT_BYTES_MAX = 16 * 2**20  # of documents; ids and headers come on top
DOCUMENT_BYTES_MAX = 16 * 2**20
ID_BYTES_MAX = 8_192
BODY_BYTES_MAX = COMMIT_BYTES_MAX + COMMIT_RECORDS_MAX * (ENTRY_BYTES + ID_BYTES_MAX)


class Op(IntEnum):
    """What one record does."""

    PUT = 1  # full post-image of a document
    DELETE = 2
    MARK = 3  # every node works out its state hash at this seq; id and document empty
    REIGN = 4  # document: the reign's 8-byte id, little-endian; the epoch is the frame's
    REQUEST = 5  # id: a client's request id (16 bytes), document: MessagePack of the answer it got


PUT, DELETE, MARK, REIGN, REQUEST = (int(op) for op in Op)  # plain numbers for the paths of every record

CATALOG = 0  # collection id of the catalog: its documents are {"_id": name, "id": collection id, ...}


class Record(NamedTuple):
    """One write. `doc` is empty for a deletion."""

    op: int
    collection: int
    id: bytes
    doc: bytes


class Head(NamedTuple):
    """A frame's header, its crc checked. (Named tuples: made for every record, at a quarter of a frozen dataclass's cost.)"""

    body_crc: int
    body_len: int
    record_count: int
    epoch: int
    flags: int
    seq: int
    synced_seq: int
    time_us: int
    chain: int

    @property
    def frame_len(self) -> int:
        return HEAD_BYTES + self.body_len


def _encode_body(records: Sequence[Record]) -> bytes:
    pack = ENTRY.pack
    parts = [pack(op, 0, len(key), collection, len(doc)) for op, collection, key, doc in records]
    for _, _, key, doc in records:
        parts += (key, doc)
    return b"".join(parts)


encode_body = native.choose("encode_body", _encode_body)


def encode(
    body: bytes, *, record_count: int, epoch: int, seq: int, synced_seq: int, time_us: int, chain_before: int
) -> tuple[bytes, int]:
    """The frame of one commit and the chain after it."""
    body_crc = google_crc32c.value(body)
    chained = _CHAINED.pack(body_crc, len(body), record_count, epoch, 0, seq, synced_seq, time_us)
    chain = next_chain(chain_before, chained, body)
    after_crc = chained + chain.to_bytes(8, "little")
    return b"".join((google_crc32c.value(after_crc).to_bytes(4, "little"), after_crc, body)), chain


def next_chain(chain_before: int, chained: bytes, body: bytes) -> int:
    """chained: bytes 4 to 48 of the frame."""
    return xxhash.xxh3_64_intdigest(b"".join((chained, body)), seed=chain_before)


def first_chain(database_uuid: bytes) -> int:
    """The chain before the first commit of a database."""
    return xxhash.xxh3_64_intdigest(database_uuid)


def decode_head(buffer: bytes | memoryview, offset: int = 0) -> Head | None:
    """The header at offset, or None when there are too few bytes for one or only zeros. Raises DamagedRecord."""
    if len(buffer) - offset < HEAD_BYTES:
        return None
    head_crc, *fields = HEAD.unpack_from(buffer, offset)
    if google_crc32c.value(bytes(buffer[offset + 4 : offset + HEAD_BYTES])) != head_crc:
        if head_crc == 0 and not any(fields):
            return None
        raise DamagedRecord(f"commit header at offset {offset}: crc differs", offset=offset)
    head = Head(*fields)
    if head.body_len > BODY_BYTES_MAX or head.body_len < head.record_count * ENTRY_BYTES:
        raise DamagedRecord(f"commit header at offset {offset}: impossible lengths", offset=offset)
    return head


def check_body(head: Head, body: bytes | memoryview) -> None:
    """Raises DamagedRecord when the body is not the one that was written."""
    if len(body) != head.body_len or google_crc32c.value(bytes(body)) != head.body_crc:
        raise DamagedRecord(f"body of commit {head.seq}: crc differs", seq=head.seq)


def check_chain(head: Head, frame: bytes | memoryview, chain_before: int) -> bool:
    """Whether the frame follows the commit whose chain is given. frame: the whole frame."""
    return next_chain(chain_before, bytes(frame[4:48]), bytes(frame[HEAD_BYTES:])) == head.chain


def _decode_body(record_count: int, body: bytes, record: type[Record]) -> list[Record] | None:
    """None when the table and the bytes disagree."""
    records = []
    at = record_count * ENTRY_BYTES
    if at > len(body):
        return None
    for op, _, id_len, collection, doc_len in ENTRY.iter_unpack(body[:at]):
        middle = at + id_len
        end = middle + doc_len
        records.append(record(op, collection, body[at:middle], body[middle:end]))
        at = end
    return records if at == len(body) else None


_records_of = native.choose("decode_body", _decode_body)


def decode_body(record_count: int, body: bytes) -> list[Record]:
    """The records of a checked body. Raises DamagedRecord if the table and the bytes disagree (a forged crc)."""
    records = _records_of(record_count, body, Record)
    if records is None:
        raise DamagedRecord(f"commit body of {len(body)} bytes: its table of {record_count} records names others")
    return records


HeadRow = tuple[int, int, int, int, int, int, int, int, int]  # the fields of Head, in their order


def _following_frames(
    data: bytes, offset: int, seq: int, epoch: int, chain: int, limit: int
) -> tuple[list[tuple[HeadRow, int, int]], int, int]:
    """The run of whole, sound frames at offset that continue commit (seq, epoch, chain).

    Gives (head's fields, start, end) of each, the offset after them and the chain after them. Head crc, order, epoch and chain are
    checked; the chain covers all that the body's crc does. Stops before the first frame that does not fit, whatever is
    wrong with it, and after `limit` bytes or a frame more; never raises for bad bytes.
    """
    rows: list[tuple[HeadRow, int, int]] = []
    start = offset
    while offset - start < limit and len(data) - offset >= HEAD_BYTES:
        head_crc, *head = HEAD.unpack_from(data, offset)
        body = offset + HEAD_BYTES
        end = body + head[1]
        if head[5] != seq + 1 or head[3] != epoch or end > len(data):
            break
        if not head[2] * ENTRY_BYTES <= head[1] <= BODY_BYTES_MAX:
            break
        if google_crc32c.value(data[offset + 4 : body]) != head_crc:
            break
        if next_chain(chain, data[offset + 4 : offset + 48], data[body:end]) != head[8]:
            break
        rows.append((tuple(head), offset, end))
        offset, seq, chain = end, head[5], head[8]
    return rows, offset, chain


following_frames = native.choose("frames", _following_frames)


def frames(buffer: bytes, offset: int = 0) -> Iterator[tuple[int, Head, bytes]]:
    """Whole, sound frames one after the other: (offset, head, body). Stops at the first short one."""
    while (head := decode_head(buffer, offset)) is not None:
        end = offset + head.frame_len
        if end > len(buffer):
            return
        body = buffer[offset + HEAD_BYTES : end]
        check_body(head, body)
        yield offset, head, body
        offset = end


def frames_until(data: bytes, offset: int, time_us: int) -> tuple[int, int | None]:
    """Over the whole frames from offset on whose commit time is at most time_us: the offset after them, and the commit time of the next
    one, None when there is none. By their lengths and times as they stand there: for choosing frames, not for believing them.
    A frame that says impossible things is stepped over, for whoever takes it to refuse.
    """
    while len(data) - offset >= HEAD_BYTES:
        body_len, found_us = _LENGTH_AND_TIME.unpack_from(data, offset + 8)
        if found_us > time_us:
            return offset, found_us
        offset = min(len(data), offset + HEAD_BYTES + body_len)
    return len(data), None


def step_over(data: bytes, offset: int, seq: int, to_seq: int, limit: int) -> tuple[int, int]:
    """Over the whole frames seq, seq + 1, ... up to to_seq that end at or before limit: (offset after them, last seq).

    By their lengths, each vouched for by the seq that stands where it says; stops where it does not. For finding one's way
    in a log, at a fifth of decode_head()'s cost, not for believing it.
    """
    length_and_seq, last_head = _LENGTH_AND_SEQ.unpack_from, min(limit, len(data)) - HEAD_BYTES
    while seq <= to_seq and offset <= last_head:
        body_len, found = length_and_seq(data, offset + 8)
        after = offset + HEAD_BYTES + body_len
        if found != seq or after > limit:
            break
        offset = after
        seq += 1
    return offset, seq - 1
