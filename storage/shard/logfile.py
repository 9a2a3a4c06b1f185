"""One shard log as a checkpoint sees it: the first `length` bytes of a file, read by offset or from front to back.

Knows the record codec and adds to its verdicts which file and offset they are about. Knows no index and no key. The file
may grow past `length` meanwhile (a later seal): those bytes are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..disk import Disk, File
from ..errors import DamagedRecord
from . import record as codec
from .checkpoint import LogFile
from .record import FILE_HEADER_BYTES, FileHeader, ShardRecord

READ_CHUNK_BYTES = 2**20
GAP_BYTES_MAX = 64 * 2**10  # a gap between wanted records that is cheaper to read over than to seek past


def damage(path: str, offset: int, reason: str) -> DamagedRecord:
    """The error for bytes that are not what was written."""
    return DamagedRecord(
        f"{path} at offset {offset}: {reason}; repair this database from a standby or a backup", file=path, offset=offset
    )


Row = tuple[int, int, bytes, bytes]  # seq, row, id, document


class ShardLog:
    """An open shard log. Closed when the last shard set that shares it goes."""

    __slots__ = ("entry", "file", "path")

    def __init__(self, file: File, path: str, entry: LogFile) -> None:
        self.file = file
        self.path = path
        self.entry = entry

    @classmethod
    def open(cls, disk: Disk, directory: str, entry: LogFile) -> ShardLog:
        """Raises DamagedRecord when the file is missing or shorter than the checkpoint says."""
        path = f"{directory}/{entry.file}"
        try:
            file = disk.open_read(path)
        except FileNotFoundError as error:
            raise damage(path, 0, "the file is missing") from error
        if file.size < entry.length:
            raise damage(path, file.size, f"the file ends here, the checkpoint needs {entry.length} bytes")
        return cls(file, path, entry)

    def extended(self, entry: LogFile) -> ShardLog:
        """The same open file under a later checkpoint."""
        return ShardLog(self.file, self.path, entry)

    def header(self) -> FileHeader:
        """Raises DamagedRecord."""
        try:
            return codec.decode_file_header(self.file.read_at(0, FILE_HEADER_BYTES))
        except DamagedRecord as error:
            raise damage(self.path, 0, error.message) from error

    def read(self, offset: int, length: int) -> ShardRecord:
        """The record at offset, checked. May wait for the device. Raises DamagedRecord."""
        return self.decode(self.file.read_at(offset, length), 0, offset)

    def decode(self, buffer: bytes, at: int, offset: int) -> ShardRecord:
        """The record at `at` in a buffer, which stands at `offset` in the file. Raises DamagedRecord."""
        try:
            found = codec.decode(buffer, at)
        except DamagedRecord as error:
            raise damage(self.path, offset, error.message) from error
        if found is None:
            raise damage(self.path, offset, "the record is cut short, or the index names a wrong length")
        return found

    def records(
        self, *, on_damage: Callable[[DamagedRecord], None] | None = None
    ) -> Iterator[tuple[int, ShardRecord]]:
        """(offset, record) of every record up to the checkpoint's length. Blocking.

        Raises DamagedRecord; or, with on_damage, tells it and goes on with the next record, as long as headers are sound.
        """
        report = on_damage or _raise
        at = FILE_HEADER_BYTES
        need = codec.HEADER_BYTES
        while at < self.entry.length:
            wanted = min(max(need, READ_CHUNK_BYTES), self.entry.length - at)
            buffer = self.file.read_at(at, wanted)
            if len(buffer) < wanted or need > wanted:
                report(damage(self.path, at, "the file or the checkpoint's length ends within this record"))
                return
            done = 0
            try:
                while (length := codec.length_at(buffer, done)) is not None and done + length <= len(buffer):
                    try:
                        yield at + done, self.decode(buffer, done, at + done)
                    except DamagedRecord as error:
                        report(error)
                    done += length
            except DamagedRecord as error:
                if "file" in error.fields:
                    raise
                report(damage(self.path, at + done, error.message))
                return
            at += done
            need = length or codec.HEADER_BYTES

    def records_at(
        self, offsets: np.ndarray, lengths: np.ndarray, chunk_bytes: int
    ) -> Iterator[list[tuple[int, ShardRecord]]]:
        """(offset, record) of the named records, offsets ascending, in lists of about chunk_bytes of file. Blocking. Raises DamagedRecord."""
        decode = self.decode
        for start, buffer, some in self._chunks(offsets, lengths, chunk_bytes):
            yield [(offset, decode(buffer, offset - start, offset)) for offset in some.tolist()]

    def rows_at(self, offsets: np.ndarray, lengths: np.ndarray, chunk_bytes: int, collection: int) -> Iterator[list[Row]]:
        """(seq, row, id, document) of the same, which must be live records of a collection. Raises DamagedRecord."""
        for start, buffer, some in self._chunks(offsets, lengths, chunk_bytes):
            rows = codec.live_rows(buffer, (some - start).astype(np.uint64), collection)
            if len(rows) < len(some):
                offset = int(some[len(rows)])
                self.decode(buffer, offset - start, offset)
                raise damage(self.path, offset, "the index takes this record for a live one of another collection")
            yield rows

    def _chunks(self, offsets: np.ndarray, lengths: np.ndarray, chunk_bytes: int) -> Iterator[tuple[int, bytes, np.ndarray]]:
        """(where it begins, the bytes, the offsets in it): reads neighbours together and seeks past long gaps."""
        ends = offsets + lengths
        breaks = np.append(np.flatnonzero(offsets[1:] > ends[:-1] + GAP_BYTES_MAX) + 1, len(offsets))
        first = 0
        while first < len(offsets):
            start = int(offsets[first])
            last = int(np.searchsorted(ends, start + chunk_bytes, "right"))
            last = min(max(last, first + 1), int(breaks[np.searchsorted(breaks, first, "right")]))
            buffer = self.file.read_at(start, int(ends[last - 1]) - start)
            yield start, buffer, offsets[first:last]
            first = last


def _raise(error: DamagedRecord) -> None:
    raise error
