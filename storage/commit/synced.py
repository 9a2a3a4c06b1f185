"""This node's own word on how far it has synced a log: `commit/synced`, beside the segments.

A frame's synced_seq is the word of the node that wrote it. In frames received from another node (segment.py, FOLLOWED) it says
nothing of this node's device, so this node says it here. Entries of 16 bytes, appended one after the other, little-endian:

    0     8           12    16
    ├─────┼───────────┼─────┤
    │ seq │ zeros (4) │ crc │    every commit up to seq had been synced by this node when this was written
    └─────┴───────────┴─────┘
     u64               u32

    crc    crc32c of the database's UUID, this file's own inode (u64) and the entry's bytes 0 to 12

An entry is written after the sync that it tells of, and is never synced itself: one that a power cut loses makes recovery less strict, one
that is there is true. The largest seq of the sound entries counts; unsound ones are stepped over. In a copied file none is sound.
At SYNCED_BYTES_MAX the file begins anew. It may only go on while its log is never cut below what it says: whoever cuts removes it first
(forget()). Knows no segment; what the word decides is scan.py's.
"""

from __future__ import annotations

import contextlib
import struct

import google_crc32c

from ..disk import Disk, File

FILE = "synced"
ENTRY = struct.Struct("<QII")
ENTRY_BYTES = 16
SYNCED_BYTES_MAX = 1024 * ENTRY_BYTES
_SEQ = struct.Struct("<Q4x")
_INODE = struct.Struct("<Q")
assert ENTRY.size == ENTRY_BYTES, "the drawing says 16"


def path_of(directory: str) -> str:
    return f"{directory}/commit/{FILE}"


def encode_entry(uuid: bytes, inode: int, seq: int) -> bytes:
    return ENTRY.pack(seq, 0, google_crc32c.value(uuid + _INODE.pack(inode) + _SEQ.pack(seq)))


def largest(data: bytes, uuid: bytes, inode: int) -> int:
    """What the sound entries of a file come to; 0 when there is none."""
    said = 0
    for (seq, *_), offset in zip(ENTRY.iter_unpack(data[: len(data) // ENTRY_BYTES * ENTRY_BYTES]), range(0, len(data), ENTRY_BYTES)):
        if seq > said and data[offset : offset + ENTRY_BYTES] == encode_entry(uuid, inode, seq):
            said = seq
    return said


def heard(disk: Disk, directory: str, uuid: bytes) -> int:
    """Up to where this node has said that its log is synced; 0 when it has said nothing, or it cannot be read: then it counts for nothing."""
    path = path_of(directory)
    if not disk.exists(path):
        return 0
    try:
        file = disk.open_read(path)
    except OSError:
        return 0
    try:
        return largest(file.read_at(0, SYNCED_BYTES_MAX), uuid, file.inode())
    except OSError:
        return 0
    finally:
        file.close()


def begin_anew(disk: Disk, directory: str, uuid: bytes, seq: int) -> None:
    """For a log of which every commit, the last is seq, is durable. Of an empty one there is nothing to say."""
    if not seq:
        return
    word = SyncedWord(disk, directory, uuid)
    word.say(seq, anew=True)
    word.close()


def forget(disk: Disk, directory: str) -> None:
    """Before the log is cut: durable when it returns, also where the file had been removed before without a sync."""
    if disk.exists(path_of(directory)):
        disk.remove(path_of(directory))
    if disk.exists(f"{directory}/commit"):
        disk.sync_dir(f"{directory}/commit")


class SyncedWord:
    """The writing end. seq: the last that was said here; 0 before that."""

    def __init__(self, disk: Disk, directory: str, uuid: bytes) -> None:
        self._disk = disk
        self._path = path_of(directory)
        self._uuid = uuid
        self._file: File | None = None
        self.seq = 0

    def say(self, seq: int, *, anew: bool = False) -> None:
        """Every commit up to seq is synced. Cheap on the loop. What a full or failing disk does not take is not said: nothing but a
        stricter recovery depends on it. anew: what was said before goes."""
        with contextlib.suppress(OSError):
            file = self._file = self._file or self._open()
            if anew or file.size % ENTRY_BYTES or file.size >= SYNCED_BYTES_MAX:
                file.cut(0)
            file.append(encode_entry(self._uuid, file.inode(), seq))
            self.seq = seq

    def _open(self) -> File:
        return self._disk.open_append(self._path) if self._disk.exists(self._path) else self._disk.create(self._path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
