"""A Disk whose files are encrypted, over any other Disk. The format is seal_format.py's, the keys are seal_keys.py's. Blocking.

Contents are encrypted, names and sizes are not. A file that is not encrypted is read as it is: what was made before there was a key stays readable. Nothing of
a file is handed out before its chunk was authenticated. An encrypted file is written once, to its end, in the memory of one chunk; like an object in a
bucket it is whole when it was closed after a sync(), and one that never was is found to be unfinished (`puts_whole_files`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..disk import Disk, File
from . import seal_format, spooled
from .seal_format import HEADER_BYTES, SALT_BYTES, TAG_BYTES, Chunks, Header
from .seal_keys import KeyRing

T = TypeVar("T")

HELD_CHUNKS_MAX = 32  # decrypted, of one open file
RUN_CHUNKS = 16  # decrypted at a time


class SealedDisk:
    """ring: the keys as they are now; asked for when something is encrypted or decrypted."""

    puts_whole_files = True

    def __init__(self, disk: Disk, ring: Callable[[], KeyRing], random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self.inner = disk
        self._ring = ring
        self._random_bytes = random_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)  # what has to do with names alone

    def keys(self) -> KeyRing:
        """As they are now. Raises OSError (ENOKEY)."""
        return self._ring()

    def create(self, path: str) -> SealedWriter:
        chunks = self._new_chunks(path)
        file = self.inner.create(path)
        try:
            return SealedWriter(file, chunks)
        except OSError:
            file.close()
            raise

    def open_append(self, path: str) -> File:
        raise OSError(errno.EOPNOTSUPP, "an encrypted file is written once, to its end", path)

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        raise OSError(errno.EOPNOTSUPP, "an encrypted file is written once, to its end", path)

    def open_read(self, path: str) -> File:
        """Raises DamagedRecord, NewerFormat, OSError (ENOKEY) for a key that is not there."""
        file = self.inner.open_read(path)
        try:
            head = file.read_at(0, HEADER_BYTES)
            if not seal_format.is_sealed(head):
                return file
            header = seal_format.decode(head, path)
            return SealedReader(file, Chunks(self._ring().of(header.key_id, path), header, path), path)
        except BaseException:
            file.close()
            raise

    def map(self, path: str) -> memoryview:
        file = self.open_read(path)
        try:
            return spooled.view(file) if isinstance(file, SealedReader) else self.inner.map(path)
        finally:
            file.close()

    def read_file(self, path: str) -> bytes:
        file = self.open_read(path)
        try:
            return file.read_at(0, file.size)
        finally:
            file.close()

    def replace_file(self, path: str, data: bytes) -> None:
        chunks = self._new_chunks(path)
        step = chunks.header.chunk_bytes
        starts = range(0, max(1, len(data)), step)
        sealed = [chunks.encrypt(number, data[at : at + step], is_last=at == starts[-1]) for number, at in enumerate(starts)]
        self.inner.replace_file(path, b"".join([chunks.header.encode(), *sealed]))

    def size(self, path: str) -> int:
        """Of what was encrypted, as the length of the file tells it. Raises DamagedRecord."""
        file = self.inner.open_read(path)
        try:
            head = file.read_at(0, HEADER_BYTES)
            return seal_format.shape(file.size, seal_format.decode(head, path).chunk_bytes, path)[0] if seal_format.is_sealed(head) else file.size
        finally:
            file.close()

    def sync_all(self, files: Sequence[File]) -> None:
        for file in files:
            file.sync()

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        return await self.inner.run(call, *args)

    def _new_chunks(self, path: str) -> Chunks:
        key = self._ring().first
        return Chunks(key, Header(seal_format.key_id(key), self._random_bytes(SALT_BYTES)), path)


class SealedWriter:
    """An encrypted file that is being written. Holds back what the last chunk may be made of until it is closed."""

    def __init__(self, file: File, chunks: Chunks) -> None:
        self.path = file.path
        self.size = 0
        self._file: File | None = file
        self._chunks = chunks
        self._held = bytearray()
        self._number = 0
        self._synced_size = -1
        file.append(chunks.header.encode())

    def append(self, data: bytes | Sequence[bytes]) -> None:
        joined = data if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)
        if self._file is None:
            raise OSError(errno.EBADF, "the file is closed", self.path)
        step = self._chunks.header.chunk_bytes
        view = memoryview(joined)
        self.size += len(view)
        while len(self._held) + len(view) > step:
            taken = step - len(self._held)
            self._held += view[:taken]
            view = view[taken:]
            self._file.append(self._chunks.encrypt(self._number, bytes(self._held), is_last=False))
            self._number += 1
            self._held.clear()
        self._held += view

    def sync(self) -> float:
        """What was encrypted so far survives a power cut; the file does so when it is closed."""
        if self._file is None:
            raise OSError(errno.EBADF, "the file is closed", self.path)
        took = self._file.sync()
        self._synced_size = self.size
        return took

    def close(self) -> None:
        """Finished and synced, or, when something was appended since the last sync(), left unfinished."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if self._synced_size == self.size:
                file.append(self._chunks.encrypt(self._number, bytes(self._held), is_last=True))
                file.sync()
        finally:
            file.close()

    def read_at(self, offset: int, length: int) -> bytes:
        raise OSError(errno.EBADF, "the file is open for writing", self.path)

    def read_now(self, offset: int, length: int) -> bytes | None:
        return None

    def reserve(self, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no space is reserved for an encrypted file", self.path)

    trim = cut = inode = reserve


class SealedReader:
    """An encrypted file that is read, anywhere in it. For one thread at a time."""

    def __init__(self, file: File, chunks: Chunks, path: str) -> None:
        self.path = path
        self._file = file
        self._chunks = chunks
        self._step = chunks.header.chunk_bytes
        self.size, self._count = seal_format.shape(file.size, self._step, path)
        self._held: dict[int, bytes] = {}

    def read_at(self, offset: int, length: int) -> bytes:
        """Raises DamagedRecord."""
        end = min(self.size, offset + length)
        if not self.size:
            self._plain(0, 1)  # nothing to hand out, but it must be the file's whole content
        if end <= offset:
            return b""
        first, last = offset // self._step, (end - 1) // self._step
        pieces, number = [], first
        while number <= last:
            pieces += self._plain(number, min(last, number + RUN_CHUNKS - 1) + 1)
            number = first + len(pieces)
        joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return joined[offset - first * self._step : end - first * self._step]

    def _plain(self, first: int, end: int) -> list[bytes]:
        """Chunks first to end, decrypted."""
        if not all(number in self._held for number in range(first, end)):
            stride = self._step + TAG_BYTES
            sealed = self._file.read_at(HEADER_BYTES + first * stride, (end - first) * stride)
            found = {}
            for number in range(first, end):
                piece = sealed[(number - first) * stride : (number - first + 1) * stride]
                found[number] = self._chunks.decrypt(number, piece, is_last=number == self._count - 1)
            kept = [pair for pair in self._held.items() if pair[0] not in found][-(HELD_CHUNKS_MAX - RUN_CHUNKS) :]
            self._held = dict(kept) | found
        return [self._held[number] for number in range(first, end)]

    def read_now(self, offset: int, length: int) -> bytes | None:
        return None

    def inode(self) -> int:
        return self._file.inode()

    def close(self) -> None:
        self._file.close()

    def append(self, data: bytes | Sequence[bytes]) -> None:
        raise OSError(errno.EBADF, "the file is open for reading", self.path)

    def sync(self) -> float:
        return 0.0

    def reserve(self, length: int) -> None:
        raise OSError(errno.EBADF, "the file is open for reading", self.path)

    trim = cut = reserve
