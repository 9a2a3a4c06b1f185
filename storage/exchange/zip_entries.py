"""A zip archive written as a stream: its entries one after the other, its directory from a temporary file.

The format is PKWARE's APPNOTE 6.3.9: local headers (4.3.7) that know their sizes, since every entry is compressed whole before it is
written; central directory records (4.3.12), which wait in a temporary file (in memory while they are few); the end records, zip64 ones
(4.3.14, 4.3.15) where a count or an offset is too large for the old one. Nothing here knows what the entries hold.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator
from typing import Self

from ..errors import BadDocument

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_OFFSET_64 = struct.Struct("<2HQ")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_VERSION, _VERSION_64 = 20, 45
_UNIX = 3 << 8
_UTF8 = 0x800  # the flag of a name that is no ASCII
_DEFLATED, _RAW, _FASTEST = 8, -15, 1
_TIME, _DATE = 0, 1 << 5 | 1  # 1980-01-01: equal content is equal bytes
_MODE = 0o100640 << 16  # of a regular file
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF
NAME_BYTES_MAX = _MAX_16
HELD_BYTES = 2**20  # of the directory, before it goes to a file; also of a piece of it


class ZipEntries:
    """Every call gives the bytes that come next; end() must be read to its end. Leaving the context lets the temporary file go.

    at: bytes that stand before the first entry."""

    def __init__(self, at: int = 0) -> None:
        self._directory = tempfile.SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 - closed by __exit__
        self._count = 0
        self._at = at

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.close()

    def entry(self, name: str, data: bytes) -> bytes:
        """One file of the archive. Raises BadDocument for a name or a content that the format has no room for; OSError."""
        coded = name.encode()
        flags = 0 if name.isascii() else _UTF8
        packed = zlib.compress(data, _FASTEST, _RAW)
        if len(coded) > NAME_BYTES_MAX or max(len(data), len(packed)) >= _MAX_32:
            raise BadDocument(f"a zip archive has no room for the entry {name[:80]!r}: a name has {NAME_BYTES_MAX} bytes at most, a document under 4 GiB")
        sizes = (zlib.crc32(data), len(packed), len(data), len(coded))
        head = _LOCAL.pack(b"PK\3\4", _VERSION, flags, _DEFLATED, _TIME, _DATE, *sizes, 0)
        far = self._at >= _MAX_32
        needed, extra = (_VERSION_64, _OFFSET_64.pack(1, 8, self._at)) if far else (_VERSION, b"")
        record = _CENTRAL.pack(
            b"PK\1\2", _UNIX | needed, needed, flags, _DEFLATED, _TIME, _DATE, *sizes, len(extra), 0, 0, 0, _MODE, _MAX_32 if far else self._at
        )
        self._keep(record + coded + extra)
        self._count += 1
        self._at += len(head) + len(coded) + len(packed)
        return head + coded + packed

    def _keep(self, record: bytes) -> None:
        try:
            self._directory.write(record)
        except OSError as error:
            place = tempfile.gettempdir()
            raise OSError(
                error.errno, f"{error.strerror}: the archive's directory of entries waits in a temporary file there; set TMPDIR to where there is more room", place
            ) from error

    def end(self) -> Iterator[bytes]:
        """The directory, in pieces."""
        size = self._directory.tell()
        self._directory.seek(0)
        while piece := self._directory.read(HELD_BYTES):
            yield piece
        yield self._end_records(size)

    def _end_records(self, size: int) -> bytes:
        count, start = self._count, self._at
        records = b""
        if count >= _MAX_16 or size >= _MAX_32 or start >= _MAX_32:
            length = _END_64.size - 12  # of what follows the length itself
            records = _END_64.pack(b"PK\6\6", length, _UNIX | _VERSION_64, _VERSION_64, 0, 0, count, count, size, start)
            records += _LOCATOR_64.pack(b"PK\6\7", 0, start + size, 1)
        few = min(count, _MAX_16)
        return records + _END.pack(b"PK\5\6", 0, 0, few, few, min(size, _MAX_32), min(start, _MAX_32), 0)
