"""Fetching: the documents that a query wants, from their places in shard logs, many in one call. Blocking, unless told not to wait.

    shard, location, length of each row ──> Files ──> (key, document) of each, checked; None for one that lacks what it must contain

What a document must contain is bytes: a regular expression that needs "two words" somewhere in a text needs them in the bytes of the
document, since strings are stored as they are. So most documents that an index of words only guessed at are turned away here, at
one to three microseconds each, before an object is made of them.

With the kernel (storage/fetching.c) a record that is in memory costs 1 to 2.5 µs; records that are not are asked for together before they are waited
for. The pure twin reads one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import native
from ..commit.codec import Op
from ..errors import DamagedRecord
from ..index.primary import GENERATION_SHIFT, OFFSET_MASK
from . import record as codec

if TYPE_CHECKING:
    from .shardset import Shard

Fetched = list[tuple[bytes, bytes] | None]
_NO_FILE = -1
_PUT = int(Op.PUT)


class WouldWait(Exception):
    """Some record is not in memory, and the caller may not wait for the device."""


class Files:
    """The shard logs of one checkpoint, for fetching. Holds them open."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._generations = 1 + max((generation for shard in shards for generation in shard.logs), default=0)
        self._descriptors = self._numbered() if native.FETCHING is not None else None

    def _numbered(self) -> np.ndarray | None:
        """A descriptor for every shard and generation; None where files have none."""
        found = np.full(len(self._shards) * self._generations, _NO_FILE, np.int32)
        for number, shard in enumerate(self._shards):
            for generation, log in shard.logs.items():
                descriptor = getattr(log.file, "descriptor", None)
                if descriptor is None:
                    return None
                found[number * self._generations + generation] = descriptor
        return found

    def fetch(
        self, shard: np.ndarray, location: np.ndarray, length: np.ndarray, needles: tuple[bytes, ...] = (), *, waits: bool = True
    ) -> Fetched:
        """(key, document) of the records at these places, in that order; None for one whose document lacks one of the needles. Raises DamagedRecord,
        OSError, and WouldWait when it may not wait and would have to."""
        if self._descriptors is None:
            return self._one_by_one(shard, location, length, needles, waits=waits)
        generation = (location >> np.uint64(GENERATION_SHIFT)).astype(np.uint32)
        files = shard.astype(np.uint32) * np.uint32(self._generations) + generation
        if len(files) and (int(generation.max()) >= self._generations or (self._descriptors[files] == _NO_FILE).any()):
            return self._one_by_one(shard, location, length, needles, waits=waits)  # which says what is wrong
        offsets = location & np.uint64(OFFSET_MASK)
        lengths = np.ascontiguousarray(length, np.uint32)
        found: Fetched = []
        while True:
            done = len(found)
            some = native.FETCHING.fetch(self._descriptors, files[done:], offsets[done:], lengths[done:], waits, needles)
            if some is None:
                raise WouldWait
            found += some
            done = len(found)
            if done == len(files):
                return found
            one = slice(done, done + 1)  # not sound: the error says of what
            found += self._one_by_one(shard[one], location[one], length[one], needles, waits=waits)

    def _one_by_one(
        self, shard: np.ndarray, location: np.ndarray, length: np.ndarray, needles: tuple[bytes, ...], *, waits: bool
    ) -> Fetched:
        found: Fetched = []
        for number, at, size in zip(shard.tolist(), location.tolist(), length.tolist()):
            record = self._read(number, at, size, waits=waits)
            found.append((record.id, record.doc) if all(needle in record.doc for needle in needles) else None)
        return found

    def _read(self, number: int, location: int, length: int, *, waits: bool) -> codec.ShardRecord:
        log, offset = self._shards[number].log_of(location), location & OFFSET_MASK
        data = log.file.read_at(offset, length) if waits else log.file.read_now(offset, length)
        if data is None:
            raise WouldWait
        record = log.decode(data, 0, offset)
        if record.op != _PUT or codec.record_bytes(record) != length:
            raise DamagedRecord(f"{log.path} at offset {offset}: the field index takes this record for another one", file=log.path, offset=offset)
        return record
