"""One JSON object with long arrays in it, read in constant memory: an export of a database, a backup of SKV. Pure.

    {"version": 1, "database": "shop", "collections": {"users": [ .. ], "orders": [ .. ]}}
    {"version": "1.0", "total_records": 2, "records": [ .. ]}

Documents stand in arrays: at "collections" one for each name, at "records" one. All other values are small and are kept as the
header. A bad document is a BadLine and the next one follows; where the object around them is not JSON, the reading ends with a BadLine,
since nothing after it could be told apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from .encoded import Packing
from .jsonl import CHUNK_BYTES, LINE_BYTES_MAX, BadLine, Elements, Found

HEADER_VALUE_BYTES_MAX = 2**20
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"

Named = tuple[str | None, int, Any]  # collection, line, document or BadLine or Packed


class _NotJson(Exception):
    """The object around the documents is broken. args: what was wrong."""


class JsonObject:
    """`header` has the small values that were read so far."""

    def __init__(self, stream: BinaryIO, line_bytes_max: int = LINE_BYTES_MAX, packing: Packing | None = None) -> None:
        self.header: dict[str, Any] = {}
        self._stream = stream
        self._line_bytes_max = line_bytes_max
        self._packing = packing
        self._chunk = stream.read(CHUNK_BYTES).removeprefix(_BOM)
        self._at = 0
        self._line = 1

    def read(self) -> Iterator[Named]:
        try:
            self._expect(b"{")
            for key in self._keys():
                if key == "collections" and self._next() == b"{":
                    self._at += 1
                    for name in self._keys():
                        yield from self._array(name)
                elif key == "records" and self._next() == b"[":
                    yield from self._array(None)
                else:
                    self.header[key] = self._value()
            if self._next():
                yield None, self._line, BadLine(self._line, "text follows the object's closing bracket: it was not read")
        except _NotJson as error:
            yield None, self._line, BadLine(self._line, f"{error}; nothing after it was read")

    def _array(self, name: str | None) -> Iterator[Named]:
        if self._next() != b"[":
            raise _NotJson(f"an array of documents must stand here, not {self._next()!r}")
        elements = Elements(self._stream, self._chunk[self._at :], self._line, self._line_bytes_max, self._packing)
        found: Found
        for found in elements.read():
            yield name, *found
        self._chunk, self._line = elements.rest
        self._at = 0

    def _keys(self) -> Iterator[str]:
        """The keys up to the closing bracket; the caller takes each one's value before the next."""
        if self._next() == b"}":
            self._at += 1
            return
        while True:
            if self._next() != b'"':
                raise _NotJson("a key in quotes must stand here")
            key = self._value()
            self._expect(b":")
            yield key
            mark = self._next()
            self._at += 1
            if mark == b"}":
                return
            if mark != b",":
                raise _NotJson(f"a comma or a closing bracket must stand here, not {mark!r}" if mark else "the stream ends inside the object")

    def _expect(self, mark: bytes) -> None:
        if self._next() != mark:
            raise _NotJson(f"{mark.decode()!r} must stand here")
        self._at += 1

    def _next(self) -> bytes:
        """The next byte that is no white space, not taken; b"" at the end."""
        while True:
            while self._at < len(self._chunk):
                byte = self._chunk[self._at : self._at + 1]
                if byte not in (b" ", b"\t", b"\r", b"\n"):
                    return byte
                self._line += byte == b"\n"
                self._at += 1
            self._chunk, self._at = self._stream.read(CHUNK_BYTES), 0
            if not self._chunk:
                return b""

    def _value(self) -> Any:
        """A small value, taken."""
        self._next()
        decoder = json.JSONDecoder()
        while True:
            text = self._chunk[self._at :]
            try:
                value, end = decoder.raw_decode(text.decode("utf-8", "surrogateescape"))
            except (ValueError, RecursionError):
                value, end = None, 0
            taken = len(text.decode("utf-8", "surrogateescape")[:end].encode("utf-8", "surrogateescape"))
            if end and (taken < len(text) or isinstance(value, (str, dict, list))):
                self._line += text[:taken].count(b"\n")
                self._at += taken
                return value
            more = self._stream.read(CHUNK_BYTES) if len(text) <= HEADER_VALUE_BYTES_MAX else b""
            if not more:
                raise _NotJson("a value here is not JSON, cut off, or too long for a header")
            self._chunk, self._at = text + more, 0
