"""The scrub's jobs: one small piece of one file held against what it must be. Pure of loop and clock; reads only.

    read_crc      a piece of a shard log, into the crc32c that the manifest has of all of it (1 GB/s)
    inspect       a piece of a shard log that is known to be damaged: which records, and what the index knows of them (5 µs a record)
    sum_live      the part of a collection's state hash that stands in a piece of a log, patches in place (5 µs a record)
    check_index   a primary index segment against the manifest's xxh3
    check_frames  a piece of a commit log segment: frame crcs and chain
    check_manifest

A file whose crc is the manifest's is what was written, so its records are not looked at one by one. inspect() finds its way by the headers
and, where one is damaged, by the index: every record that counts stands there with offset, length, hash of its key and collection. Each
call takes STEP_BYTES at most, so that whoever shares the worker waits for 0.1 s, more where the device is slow.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import google_crc32c
import numpy as np

from ..commit.codec import (
    BODY_BYTES_MAX,
    DELETE,
    DOCUMENT_BYTES_MAX,
    HEAD_BYTES,
    ID_BYTES_MAX,
    PUT,
    following_frames,
)
from ..commit.scan import is_reserved
from ..commit.segment import HEADER_BYTES as SEGMENT_HEADER_BYTES
from ..commit.segment import decode_header
from ..disk import Disk, File
from ..errors import DamagedRecord
from ..index.primary import GENERATION_SHIFT, LENGTH_MASK, OFFSET_MASK, TOMBSTONE, Segment
from ..values.keys import hash64
from ..versions.statehash import hash_document
from . import checkpoint as checkpoints
from .bases import OpenBases
from .checkpoint import LogFile, ShardFiles
from .rebuild import HashKey
from .record import (
    BODY_UNCHECKED,
    FILE_HEADER_BYTES,
    HEADER,
    HEADER_BYTES,
    FileHeader,
    decode,
    encode_file_header,
)

STEP_BYTES = 16 * 2**20
INSPECT_BYTES = 2 * 2**20  # of small records: those are what takes time
READ_BYTES = 2**20
SECTOR_BYTES = 4_096  # what a device gives or refuses as one

Patch = tuple[int, bytes]  # offset in the file, and what shall stand there


class Standing(Enum):
    """What damage costs."""

    LIVE = "live"  # reads of that key fail until it is repaired
    SUPERSEDED = "superseded"  # nothing reads it; a copy by files takes it along; compaction drops it
    UNKNOWN = "unknown"  # the index is damaged too
    FILE = "file"  # not one record: a header, or the file as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes of a shard log that are not what was written.

    head: the record's header when that is sound. collection, hash, is_deletion: by the index or a sound header; -1 when
    neither knows. key: only when it is sound.
    """

    file: str  # relative to the database's directory
    offset: int
    length: int  # 0: not known, or the whole file
    what: str
    standing: Standing
    head: bytes = b""
    collection: int = -1
    hash: int = -1
    is_deletion: bool = False
    key: bytes = b""

    @property
    def is_one_record(self) -> bool:
        """Whether its place and length are known, so that a record can be put there."""
        return self.length >= HEADER_BYTES and (self.hash >= 0 or bool(self.head))

    @property
    def place(self) -> tuple[int, int]:
        """(seq, row) by the header; (0, 0) when that is damaged."""
        if not self.head:
            return 0, 0
        fields = HEADER.unpack(self.head)
        return fields[8], fields[7]


class Inspected(NamedTuple):
    """next_offset: where the next piece begins; the log's length when there is none."""

    next_offset: int
    damages: tuple[Damage, ...]


class FramesChecked(NamedTuple):
    """How far a segment is sound, and what is wrong there. is_done: nothing more to look at."""

    offset: int
    seq: int
    chain: int
    is_done: bool
    fault: str = ""


def read_crc(disk: Disk, path: str, start: int, end: int, crc: int, patches: Sequence[Patch] = ()) -> int | None:
    """crc, carried over bytes start to end as they would be with the patches in place; None when the file ends before."""
    file = disk.open_read(path)
    try:
        for offset in range(start, end, READ_BYTES):
            chunk = read_what_is_there(file, offset, min(READ_BYTES, end - offset))
            if len(chunk) < min(READ_BYTES, end - offset):
                return None
            crc = google_crc32c.extend(crc, _patched(chunk, offset, patches))
        return crc
    finally:
        file.close()


def read_what_is_there(file: File, offset: int, length: int) -> bytes:
    """read_at(), with zeros for the sectors that the device does not give back: they are damaged like others. Raises other OSErrors."""
    try:
        return file.read_at(offset, length)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    first_end = offset - offset % SECTOR_BYTES + SECTOR_BYTES
    bounds = [offset, *range(first_end, offset + length, SECTOR_BYTES), offset + length]
    return b"".join(_sector(file, start, end - start) for start, end in zip(bounds, bounds[1:]))


def _sector(file: File, offset: int, length: int) -> bytes:
    try:
        return file.read_at(offset, length)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return bytes(max(0, min(length, file.size - offset)))


def _patched(chunk: bytes, offset: int, patches: Sequence[Patch]) -> bytes:
    changed: bytearray | None = None
    for at, data in patches:
        low, high = max(at, offset), min(at + len(data), offset + len(chunk))
        if low < high:
            changed = changed or bytearray(chunk)
            changed[low - offset : high - offset] = data[low - at : high - at]
    return bytes(changed) if changed is not None else chunk


def check_index(disk: Disk, path: str, xxh3: int) -> str:
    """What is wrong with an index segment; empty when it is the one that is meant."""
    try:
        Segment.open(disk, path, xxh3)
    except DamagedRecord as error:
        return error.message.removeprefix(f"{path}: ")
    return ""


def check_manifest(disk: Disk, directory: str, seq: int) -> str:
    """What is wrong with a checkpoint manifest."""
    try:
        checkpoints.load(disk, directory, seq)
    except DamagedRecord as error:
        return error.message.removeprefix(f"{checkpoints.path_of(directory, seq)}: ")
    return ""


def forget_base(_disk: Disk, directory: str, *, bases: OpenBases | None = None) -> None:
    """What the sealing worker keeps open of a database: the next seal begins from the files, and writes a damaged index anew."""
    if bases is not None:
        bases.take(directory, b"")


def check_frames(disk: Disk, path: str, uuid: bytes, at: tuple[int, int, int] | None, to_seq: int) -> FramesChecked:
    """The frames from `at` (offset, seq and chain before it) on, about STEP_BYTES of them; None: from the segment's header on."""
    file = disk.open_read(path)
    try:
        header = decode_header(file.read_at(0, SEGMENT_HEADER_BYTES), path)
        if header is None or header.uuid != uuid:
            return FramesChecked(0, 0, 0, True, "the segment's header is cut short or another database's")
        offset, seq, chain = at or (SEGMENT_HEADER_BYTES, header.first_seq - 1, header.chain_before)
        wanted = STEP_BYTES
        while seq < to_seq:
            data = file.read_at(offset, wanted)
            _, done, chain = following_frames(data, 0, seq, header.epoch, chain, wanted)
            if done:
                seq = _last_seq(data, done, seq)
                return FramesChecked(offset + done, seq, chain, seq >= to_seq)
            if is_reserved(data, 0):
                return FramesChecked(offset, seq, chain, True)
            if len(data) < wanted or wanted > BODY_BYTES_MAX + HEAD_BYTES:
                return FramesChecked(offset, seq, chain, True, f"the frame after commit {seq} is not what was written")
            wanted = min(4 * wanted, BODY_BYTES_MAX + HEAD_BYTES + 1)
        return FramesChecked(offset, seq, chain, True)
    except DamagedRecord as error:
        return FramesChecked(0, 0, 0, True, error.message.removeprefix(f"{path}: "))
    finally:
        file.close()


def _last_seq(data: bytes, end: int, seq: int) -> int:
    """The seq of the last of the sound frames in data[:end], by their lengths."""
    offset = 0
    while offset < end:
        offset += HEAD_BYTES + int.from_bytes(data[offset + 8 : offset + 12], "little")
        seq += 1
    return seq


class _Entry(NamedTuple):
    """What the index says of one record."""

    length: int
    hash: int
    collection: int
    is_deletion: bool
    is_reachable: bool


class _Places:
    """The index's entries in one log from one offset to another, and where the one after them stands."""

    def __init__(self, segments: Sequence[Segment], generation: int, start: int, end: int, length: int) -> None:
        base = np.uint64(generation << GENERATION_SHIFT)
        low, high, last = (base + np.uint64(offset) for offset in (start, end, length))
        prev = [s.columns.prev[(s.columns.prev >= low) & (s.columns.prev < high)] for s in segments]
        superseded = np.concatenate(prev) if prev else np.empty(0, np.uint64)
        self.entries: dict[int, _Entry] = {}
        beyond = int(last)
        for segment in segments:
            columns = segment.columns
            after = columns.location[(columns.location >= high) & (columns.location < last)]
            beyond = min(beyond, int(after.min())) if len(after) else beyond
            mine = np.flatnonzero((columns.location >= low) & (columns.location < high))
            location = columns.location[mine]
            live = ~np.isin(location, superseded)
            parts = (location, columns.length[mine], columns.hash[mine], columns.collection[mine], live)
            for where, size, hashed, collection, reachable in zip(*(part.tolist() for part in parts)):
                self.entries[where & OFFSET_MASK] = _Entry(
                    size & LENGTH_MASK, hashed, collection, size >= TOMBSTONE, reachable
                )
        self._offsets = sorted(self.entries)
        self._beyond = beyond & OFFSET_MASK if beyond != int(last) else length

    def after(self, offset: int) -> int:
        """The first entry's offset after the given one."""
        at = bisect_right(self._offsets, offset)
        return self._offsets[at] if at < len(self._offsets) else self._beyond


def inspect(
    disk: Disk,
    directory: str,
    header: FileHeader,
    files: ShardFiles,
    entry: LogFile,
    start: int,
    step: int = INSPECT_BYTES,
    hash_key: HashKey = hash64,
) -> Inspected:
    """The damaged records that begin in about `step` bytes from `start` on, which is where a record begins, or 0 for the file's header.

    header: what the file's own must be. Raises FileNotFoundError.
    """
    end = min(max(start, FILE_HEADER_BYTES) + step, entry.length)
    try:
        segments = [Segment.open(disk, f"{directory}/{index.file}", index.xxh3) for index in files.index]
        places = _Places(segments, entry.generation, max(start, FILE_HEADER_BYTES), end, entry.length)
    except DamagedRecord:
        places = None
    file = disk.open_read(f"{directory}/{entry.file}")
    try:
        if file.size < entry.length:
            what = f"the file ends at {file.size}, the checkpoint needs {entry.length} bytes"
            return Inspected(entry.length, (_of_file(entry, file.size, 0, what),))
        damages = []
        if start == 0 and read_what_is_there(file, 0, FILE_HEADER_BYTES) != encode_file_header(header):
            damages.append(_of_file(entry, 0, FILE_HEADER_BYTES, "the file's header is not what was written"))
        walk = _Walk(file, entry, places, hash_key)
        damages += walk.run(max(start, FILE_HEADER_BYTES), end)
        return Inspected(walk.offset, tuple(damages))
    finally:
        file.close()


def sum_live(
    disk: Disk, directory: str, files: ShardFiles, entry: LogFile, collection: int, start: int, end: int, patches: Sequence[Patch] = ()
) -> tuple[int, int]:
    """(count, sum of h) of the live documents of a collection whose records begin in bytes start to end. Raises DamagedRecord."""
    segments = [Segment.open(disk, f"{directory}/{index.file}", index.xxh3) for index in files.index]
    places = _Places(segments, entry.generation, start, end, entry.length)
    file = disk.open_read(f"{directory}/{entry.file}")
    count = total = 0
    try:
        for offset, known in places.entries.items():
            if known.collection != collection or known.is_deletion or not known.is_reachable:
                continue
            record = decode(_patched(read_what_is_there(file, offset, known.length), offset, patches))
            if record is None or record.collection != collection:
                raise DamagedRecord(f"{entry.file} at offset {offset}: another record stands here", file=entry.file, offset=offset)
            count += 1
            total += hash_document(record.doc)
    finally:
        file.close()
    return count, total


def _of_file(entry: LogFile, offset: int, length: int, what: str) -> Damage:
    return Damage(file=entry.file, offset=offset, length=length, what=what, standing=Standing.FILE)


class _Walk:
    """From record to record of one log. `offset`: where it stands."""

    def __init__(self, file: File, entry: LogFile, places: _Places | None, hash_key: HashKey) -> None:
        self._file = file
        self._entry = entry
        self._places = places
        self._hash_key = hash_key
        self._buffer = b""
        self._at = 0
        self.offset = 0

    def _read(self, offset: int, length: int) -> bytes:
        start = offset - self._at
        if start < 0 or start + length > len(self._buffer):
            self._buffer = read_what_is_there(self._file, offset, min(max(length, READ_BYTES), self._entry.length - offset))
            self._at, start = offset, 0
        return self._buffer[start : start + length]

    def run(self, start: int, end: int) -> Iterator[Damage]:
        """Damage of the records that begin before end."""
        self.offset = start
        while self.offset < end:
            known = self._places.entries.get(self.offset) if self._places is not None else None
            head = self._read(self.offset, HEADER_BYTES)
            length = self._length_by(head, known)
            if length:
                found = self._check_body(head, length, known)
                if found is not None:
                    yield found
                self.offset += length
                continue
            if self._places is None:
                yield self._damage(self._entry.length - self.offset, "a record's header is damaged, and so is the index", known)
                self.offset = self._entry.length
                return
            length = known.length if known is not None else self._places.after(self.offset) - self.offset
            yield self._damage(length, "the record's header is not what was written", known)
            self.offset += length

    def _length_by(self, head: bytes, known: _Entry | None) -> int:
        """The record's length by its header; 0 when that is damaged, or is another record's."""
        if len(head) < HEADER_BYTES or google_crc32c.value(head[4:]) != int.from_bytes(head[:4], "little"):
            return 0
        _, _, doc_len, id_len, op, _, collection, *_ = HEADER.unpack(head)
        length = HEADER_BYTES + id_len + doc_len
        if op not in (PUT, DELETE) or id_len > ID_BYTES_MAX or doc_len > DOCUMENT_BYTES_MAX:
            return 0
        if known is not None and (known.length, known.collection, known.is_deletion) != (length, collection, op == DELETE):
            return 0
        next_one = self._places.after(self.offset) if self._places is not None else self._entry.length
        return length if self.offset + length <= next_one else 0

    def _check_body(self, head: bytes, length: int, known: _Entry | None) -> Damage | None:
        body = self._read(self.offset + HEADER_BYTES, length - HEADER_BYTES)
        _, body_crc, _, id_len, op, flags, collection, *_ = HEADER.unpack(head)
        key = body[:id_len]
        is_sound = bool(flags & BODY_UNCHECKED) or google_crc32c.value(body) == body_crc
        if known is None:
            hashed = self._hash_key(collection, key) if is_sound else -1
        else:
            hashed = known.hash
        if is_sound and (known is None or self._hash_key(collection, key) == known.hash):
            return None
        if is_sound and not flags & BODY_UNCHECKED:  # a whole record, but another one's: its header says nothing
            return self._damage(length, "another record stands here", known)
        if known is None or self._hash_key(collection, key) != known.hash:
            key = b""
        what = "the record's key or document is not what was written"
        found = self._damage(length, what, known or _Entry(length, hashed, collection, op == DELETE, is_reachable=False))
        return Damage(
            file=found.file, offset=found.offset, length=length, what=what, standing=found.standing,
            head=head, collection=collection, hash=hashed, is_deletion=op == DELETE, key=key,
        )  # fmt: skip

    def _damage(self, length: int, what: str, known: _Entry | None) -> Damage:
        if self._places is None:
            standing = Standing.UNKNOWN
        else:
            standing = Standing.LIVE if known is not None and known.is_reachable else Standing.SUPERSEDED
        return Damage(
            file=self._entry.file,
            offset=self.offset,
            length=length,
            what=what,
            standing=standing,
            collection=known.collection if known is not None else -1,
            hash=known.hash if known is not None else -1,
            is_deletion=known.is_deletion if known is not None else False,
        )
