"""Commit log segments: their names and headers. Pure.

A segment is `commit/<epoch 8 hex>-<reign id 16 hex>-<first seq 20 digits>.log`: a 96-byte header, then frames of one
reign without a gap (commit/codec.py). Little-endian:

    0       8         12      16     32         40          48             56      64      65           92    96
    ├───────┼─────────┼───────┼──────┼──────────┼───────────┼──────────────┼───────┼───────┼────────────┼─────┤
    │ magic │ version │ epoch │ uuid │ reign id │ first_seq │ chain_before │ inode │ flags │ zeros (27) │ crc │
    └───────┴─────────┴───────┴──────┴──────────┴───────────┴──────────────┴───────┴───────┴────────────┴─────┘
     8s      u32       u32     16s    u64        u64         u64            u64     u8                   u32

    inode  the file's own number when it was made: a copied directory is recognised by it
    flags  FOLLOWED 1: the frames were received from another node, and synced_seq in them is that node's word, not this one's;
           what this node has synced is said beside the segments (synced.py). 0 in what was written before there were flags
    crc    crc32c of bytes 0 to 92
Behind the last frame there may be zeros up to the end of the file: space reserved for frames that never came (sync mode), given back
when a segment is finished or the database closed, and left over by a crash. `commit/next.reserved` is such space that no segment
has yet: renamed to a segment's name when one begins, removed at closing and opening.
A segment that was cut is never written on: the good prefix becomes a new file, and every opening of a database begins a
new segment at its first commit.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from operator import eq

import google_crc32c

from ..errors import DamagedRecord, NewerFormat
from ..position import Reign

HEADER = struct.Struct("<8sII16sQQQQB27xI")
HEADER_BYTES = 96
FOLLOWED = 1
NAMED_BYTES = 48  # of a header: what its file's name and its database say already
ALIKE_BYTES_MIN = 36  # so many of them are there when a header has rotted; of zeros or another file's bytes fewer are
SPARE = "next.reserved"
MAGIC = b"TWLOG\r\n\0"
VERSION = 1
assert HEADER.size == HEADER_BYTES, "the drawing says 96"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself."""

    epoch: int
    uuid: bytes
    reign_id: int
    first_seq: int
    chain_before: int
    inode: int
    flags: int = 0

    @property
    def is_followed(self) -> bool:
        return bool(self.flags & FOLLOWED)

    def encode(self) -> bytes:
        bare = HEADER.pack(
            MAGIC, VERSION, self.epoch, self.uuid, self.reign_id, self.first_seq, self.chain_before, self.inode, self.flags, 0
        )
        return bare[:92] + google_crc32c.value(bare[:92]).to_bytes(4, "little")


def decode_header(data: bytes, path: str) -> SegmentHeader | None:
    """The header, or None when the file is too short for one. Raises DamagedRecord, NewerFormat."""
    if len(data) < HEADER_BYTES:
        return None
    magic, version, epoch, uuid, reign_id, first_seq, chain, inode, flags, crc = HEADER.unpack_from(data)
    if magic != MAGIC or google_crc32c.value(bytes(data[:92])) != crc:
        raise DamagedRecord(f"{path}: the segment header is damaged", file=path, offset=0)
    if version > VERSION:
        raise NewerFormat(f"{path}: log format {version}, this Twinlog reads up to {VERSION}; open it with a newer one")
    return SegmentHeader(epoch, uuid, reign_id, first_seq, chain, inode, flags)


def has_rotted(data: bytes, uuid: bytes, name: SegmentName) -> bool:
    """Of a header that cannot be read: whether it is one with wrong bits, rather than one that never came to the device."""
    written = SegmentHeader(name.epoch, uuid, name.reign_id, name.first_seq, 0, 0).encode()[:NAMED_BYTES]
    return sum(map(eq, written, data)) >= ALIKE_BYTES_MIN


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """A segment's file name, ordered by first seq, then epoch."""

    first_seq: int
    epoch: int
    reign_id: int

    def __str__(self) -> str:
        return f"{self.epoch:08x}-{self.reign_id:016x}-{self.first_seq:020d}.log"

    @classmethod
    def of(cls, reign: Reign, first_seq: int) -> SegmentName:
        return cls(first_seq, reign.epoch, reign.id)

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        stem, dot, ending = name.partition(".")
        parts = stem.split("-")
        if ending != "log" or not dot or [len(part) for part in parts] != [8, 16, 20]:
            return None
        try:
            return cls(int(parts[2]), int(parts[0], 16), int(parts[1], 16))
        except ValueError:
            return None
