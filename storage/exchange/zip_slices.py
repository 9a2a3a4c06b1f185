"""The entries of a zip archive of any length, some thousands at a time, each time as an archive of the standard library's own.

`zipfile` holds the whole directory of what it opens. So it is given the archive again and again, each time with another piece of the
directory behind the entries, and end records that fit the piece:

    the file     entries ............................ | record record record record record record ... | end
    slice 1      entries (the same bytes of the file) | record record | end
    slice 2      entries                              | record record | end

What is walked here are the lengths of the directory's records and nothing else of them (APPNOTE 6.3.9, 4.3.12); reading an entry and all
its checks are the library's.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_RECORD = struct.Struct("<4s24x3H12x")  # of the directory: mark, lengths of name, extra field and comment
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_COMMENT_BYTES_MAX = 2**16
_FROM_START, _FROM_HERE, _FROM_END = 0, 1, 2  # of a seek
SLICE_BYTES = 2**18  # of the directory; the longest record has 196,651


class Directory(NamedTuple):
    """Where it is: [start, end) in the file; `stated` is the offset that the archive says, less when something stands before it."""

    start: int
    end: int
    stated: int


class Slice(NamedTuple):
    """Entries whose records stand one after the other; they begin at the file's directory.start, whichever slice it is."""

    file: BinaryIO
    directory: Directory
    records: bytes
    ends: list[int]  # of each record in `records`

    def opened(self) -> zipfile.ZipFile:
        """Raises BadZipFile, NotImplementedError, struct.error and ValueError (a name that is not the UTF-8 it says) for a record that the library does not take."""
        return zipfile.ZipFile(_View(self))  # type: ignore[arg-type]

    def halves(self) -> tuple[Slice, Slice]:
        """To find the record that is not taken."""
        middle = len(self.ends) // 2
        at = self.ends[middle - 1]
        left = self._replace(records=self.records[:at], ends=self.ends[:middle])
        return left, self._replace(records=self.records[at:], ends=[end - at for end in self.ends[middle:]])


def find_directory(file: BinaryIO) -> Directory:
    """Raises BadZipFile when the file ends in none."""
    size = file.seek(0, _FROM_END)
    begins = max(0, size - _END_64.size - _LOCATOR_64.size - _END.size - _COMMENT_BYTES_MAX)
    file.seek(begins)
    tail = file.read(size - begins)
    found = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - _END.size + 4))
    if found < 0:
        raise zipfile.BadZipFile("no end of a zip archive stands at its end; it may have been cut off")
    _, disk, _, _, _, length, stated, _ = _END.unpack_from(tail, found)
    end = begins + found
    if found >= _LOCATOR_64.size + _END_64.size:
        mark, _, _, disks = _LOCATOR_64.unpack_from(tail, found - _LOCATOR_64.size)
        if mark == b"PK\6\7":
            disk = max(disk, disks - 1)
            at = found - _LOCATOR_64.size - _END_64.size
            mark, *_, far_length, far_stated = _END_64.unpack_from(tail, at)
            if mark == b"PK\6\6":
                end, length, stated = begins + at, far_length, far_stated
    if disk:
        raise zipfile.BadZipFile("it is one of several volumes")
    start = end - length
    if start < stated or start < 0:
        raise zipfile.BadZipFile("its directory does not stand where the end says")
    return Directory(start, end, stated)


def slices(file: BinaryIO, directory: Directory, slice_bytes: int = SLICE_BYTES) -> Iterator[Slice]:
    """Raises BadZipFile where a record is damaged: how long it is, and so where the next one begins, is then not known."""
    at = directory.start
    while at < directory.end:
        file.seek(at)
        data = file.read(min(slice_bytes, directory.end - at))
        ends: list[int] = []
        end = 0
        while end + _RECORD.size <= len(data):
            mark, name, extra, comment = _RECORD.unpack_from(data, end)
            if mark != b"PK\1\2":
                break
            after = end + _RECORD.size + name + extra + comment
            if after > len(data):
                break
            ends.append(after)
            end = after
        if not ends:
            raise zipfile.BadZipFile(f"its directory is damaged at byte {at}")
        yield Slice(file, directory, data[:end], ends)
        at += end


class _View:
    """The file up to its directory, and then the slice's piece of it with end records of its own."""

    def __init__(self, piece: Slice) -> None:
        count, size, (start, _, stated) = len(piece.ends), len(piece.records), piece.directory
        far = _END_64.pack(b"PK\6\6", _END_64.size - 12, 45, 45, 0, 0, count, count, size, stated)
        locator = _LOCATOR_64.pack(b"PK\6\7", 0, stated + size, 1)
        self._file = piece.file
        self._start = start
        self._end = piece.records + far + locator + _END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        self._at = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = _FROM_START) -> int:
        base = {_FROM_START: 0, _FROM_HERE: self._at, _FROM_END: self._start + len(self._end)}[whence]
        if base + offset < 0:
            raise OSError(f"seek to {base + offset}")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        if self._at < self._start:
            self._file.seek(self._at)
            data = self._file.read(self._start - self._at if size < 0 else min(size, self._start - self._at))
            self._at += len(data)
            if len(data) == size or not data:
                return data
            return data + self.read(size - len(data) if size >= 0 else -1)
        begin = self._at - self._start
        data = self._end[begin:] if size < 0 else self._end[begin : begin + size]
        self._at += len(data)
        return data
