"""Documents in a stream of JSON: one a line (JSONL, mongoexport) or all in one array (mongoexport --jsonArray). Pure.

The first byte that is no white space decides: "[" is an array, anything else is lines. A bad document never ends the
reading: it comes out as a BadLine with its line number (of an array, the line it starts on) and the reason, and the
next one follows. Memory: one chunk and one document, whatever the length of the stream.

Knows a stream by its `read(n)` alone; the stream's own errors pass through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import BadDocument
from .encoded import Packed, Packing
from .extjson import parse_line

LINE_BYTES_MAX = 64 * 2**20
CHUNK_BYTES = 256 * 2**10
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\],]', re.DOTALL)  # a whole text, or one mark
_IN_TEXT = re.compile(rb'["\\]')


@dataclass(frozen=True, slots=True)
class BadLine:
    """A document that could not be read. `line` counts from 1."""

    line: int
    reason: str


Found = tuple[int, dict[str, Any] | BadLine | Packed]


def read_documents(stream: BinaryIO, *, line_bytes_max: int = LINE_BYTES_MAX, packing: Packing | None = None) -> Iterator[Found]:
    """(line number, document or BadLine) for every document of the stream, in order; with a packing also Packed, for many of them."""
    start = b""
    lines_before = 0
    while not start:
        chunk = stream.read(CHUNK_BYTES)
        if not chunk:
            return
        if not lines_before and chunk.startswith(_BOM[:1]):
            while len(chunk) < len(_BOM) and (more := stream.read(len(_BOM) - len(chunk))):
                chunk += more
            chunk = chunk.removeprefix(_BOM)
        start = chunk.lstrip(_BLANK)
        lines_before += chunk[: len(chunk) - len(start)].count(b"\n")
    if start.startswith(b"["):
        elements = Elements(stream, start, 1 + lines_before, line_bytes_max, packing)
        yield from elements.read()
        yield from elements.after_array()
    else:
        yield from _lines(stream, start, 1 + lines_before, line_bytes_max, packing)


def _lines(stream: BinaryIO, chunk: bytes, line: int, line_bytes_max: int, packing: Packing | None) -> Iterator[Found]:
    """chunk: what was read already."""
    parts: list[bytes] = []  # of the line that is not whole yet
    held = 0
    while chunk:
        at = 0
        while True:
            if packing is not None and not held:
                run, at, line = packing.lines(chunk, at, line, line_bytes_max)
                if run.documents:
                    yield run.lines[0], run
                    continue
            end = chunk.find(b"\n", at)
            if end < 0:
                break
            held += end - at
            if held <= line_bytes_max:
                parts.append(chunk[at:end])
            yield from _document(line, b"".join(parts), held, line_bytes_max)
            parts.clear()
            held = 0
            line += 1
            at = end + 1
        rest = chunk[at:]
        held += len(rest)
        if held <= line_bytes_max:
            parts.append(rest)
        else:
            parts.clear()
        chunk = stream.read(CHUNK_BYTES)
    yield from _document(line, b"".join(parts), held, line_bytes_max)


def _document(line: int, text: bytes, size: int, line_bytes_max: int) -> Iterator[Found]:
    """One line's result; none for a blank line. size: the line's bytes, also those no longer held."""
    if size > line_bytes_max:
        yield line, BadLine(line, f"longer than {line_bytes_max} bytes, the limit of one document's text")
        return
    text = text.strip(_BLANK)
    if not text:
        return
    try:
        yield line, parse_line(text)
    except BadDocument as cause:
        yield line, BadLine(line, cause.message)


class Elements:
    """Cuts one JSON array into its elements by counting brackets outside of text, without reading them.

    Invariant: `_parts` holds the current element's bytes before `_at`, or nothing once it is over the limit.
    """

    @property
    def rest(self) -> tuple[bytes, int]:
        """After read() has ended: what was read from the stream beyond the array, and the line on which that begins."""
        return self._chunk[self._at :], self._line

    def __init__(self, stream: BinaryIO, chunk: bytes, line: int, line_bytes_max: int, packing: Packing | None = None) -> None:
        """chunk begins with the opening bracket, which is on the given line."""
        self._stream = stream
        self._chunk = chunk
        self._at = 1
        self._line = line
        self._line_bytes_max = line_bytes_max
        self._parts: list[bytes] = []
        self._held = 0
        self._first_line = 0  # of the current element; 0 before its first byte
        self._depth = 0
        self._in_text = False
        self._after_comma = False
        self._packing = packing

    def read(self) -> Iterator[Found]:
        scan = self._at  # everything before it has been looked at
        while True:
            if self._packing is not None and scan == self._at and not (self._first_line or self._in_text or self._depth):  # before an element
                run, self._at, self._line = self._packing.elements(self._chunk, scan, self._line, self._line_bytes_max)
                if run.documents:
                    scan, self._after_comma = self._at, True
                    yield run.lines[0], run
                    continue
            match = (_IN_TEXT if self._in_text else _STRUCTURE).search(self._chunk, scan)
            if match is None:
                if not self._next_chunk():
                    yield self._line, BadLine(self._line, "the array has no closing bracket: the stream ends inside it")
                    return
                scan = 0
                continue
            mark = match.group()
            scan = match.end()
            if self._in_text:
                if mark == b'"':
                    self._in_text = False
                elif scan < len(self._chunk):
                    scan += 1  # the escaped byte, which may be a quote
                else:
                    scan = 1 if self._next_chunk() else 0
            elif self._depth == 0 and mark in (b",", b"]"):
                self._take(match.start())
                yield from self._element(is_last=mark == b"]")
                self._at = scan
                if mark == b"]":
                    return
            elif mark == b'"':
                self._in_text = True
            elif mark in (b"{", b"["):
                self._depth += 1
            elif mark in (b"}", b"]"):
                self._depth = max(0, self._depth - 1)

    def _next_chunk(self) -> bool:
        self._take(len(self._chunk))
        self._chunk = self._stream.read(CHUNK_BYTES)
        self._at = 0
        return bool(self._chunk)

    def _take(self, end: int) -> None:
        piece = self._chunk[self._at : end]
        self._at = end
        if not self._first_line:
            started = piece.lstrip(_BLANK)
            self._line += piece[: len(piece) - len(started)].count(b"\n")
            if not started:
                return
            piece = started
            self._first_line = self._line
        self._line += piece.count(b"\n")
        self._held += len(piece)
        if self._held <= self._line_bytes_max:
            self._parts.append(piece)
        else:
            self._parts.clear()

    def _element(self, *, is_last: bool) -> Iterator[Found]:
        line = self._first_line or self._line
        if self._first_line:
            yield from _document(line, b"".join(self._parts), self._held, self._line_bytes_max)
        elif self._after_comma or not is_last:
            yield line, BadLine(line, "an element is missing at a comma")
        self._after_comma = not is_last
        self._parts.clear()
        self._held = self._first_line = 0

    def after_array(self) -> Iterator[Found]:
        """Nothing but white space may follow."""
        while True:
            rest = self._chunk[self._at :]
            before = rest[: len(rest) - len(rest.lstrip(_BLANK))]
            self._line += before.count(b"\n")
            if len(before) < len(rest):
                yield self._line, BadLine(self._line, "text follows the array's closing bracket: it was not read")
                return
            self._at = len(self._chunk)
            if not self._next_chunk():
                return
