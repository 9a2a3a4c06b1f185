"""An export of any format as one stream of documents, each with its collection. Pure but for the stream's own read.

    stream ── detect ──> format ──> (collection or None, line, document or BadLine), in order, in constant memory

The collection is None where the format names none (one collection's export): the caller knows where it goes. A bad document never ends
the reading. Zip archives are no streams: zipped.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from ..errors import BadDocument
from . import skv
from .ahead import Ahead
from .bson_stream import read_bson
from .encoded import Packed, Packing
from .formats import COLLECTION_MARK, EXPORT_MARK, HEAD_BYTES, Format, detect, is_alos_header
from .json_object import JsonObject
from .jsonl import LINE_BYTES_MAX, BadLine, Found, read_documents
from .writing import as_json

Item = tuple[str | None, int, dict[str, Any] | BadLine | Packed]  # collection, line, what stands there; Packed: from there on


class Export:
    """A stream that is being read. `format`: what it is; `header`: its metadata, as far as read."""

    def __init__(
        self, stream: BinaryIO, hint: Format | None = None, *, line_bytes_max: int = LINE_BYTES_MAX, packing: Packing | None = None
    ) -> None:
        """hint: the format to take it for; without one its first bytes decide. A zip archive is told, not read. packing: many documents may
        come together, as they are stored."""
        self.stream = Ahead(stream)  # at its beginning, whatever was looked at
        head = self.stream.peek(HEAD_BYTES)
        found = detect(head)
        self.format = found if hint is None else hint
        self.header: dict[str, Any] = {}
        self._is_object = found in (Format.JSON, Format.SKV) and not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        self._line_bytes_max = line_bytes_max
        self._packing = packing

    def items(self) -> Iterator[Item]:
        """Everything in it, once."""
        assert self.format is not Format.ZIP, "zipped.py reads those"
        if self._is_object and self.format in (Format.JSON, Format.SKV):
            return self._of_object()
        if self.format is Format.BSON:
            return ((None, number, found) for number, found in read_bson(self.stream, self._line_bytes_max))
        if self.format is Format.ALOS:
            return self._tagged()
        return self._of_lines()

    def _of_object(self) -> Iterator[Item]:
        if self._packing is not None:
            self._packing.is_open = self.format is Format.JSON
        outer = JsonObject(self.stream, self._line_bytes_max, self._packing)
        self.header = outer.header
        for name, line, found in outer.read():
            if self.format is Format.SKV and isinstance(found, dict):
                found = _or_bad(line, skv.document_of, found)
            yield name, line, found

    def _tagged(self) -> Iterator[Item]:
        """Lines of {"collection": .., "doc": {..}} after a header."""
        last = None
        for number, (line, found) in enumerate(self._lines()):
            if isinstance(found, Packed):
                yield last, line, found
            elif isinstance(found, BadLine):
                yield None, line, found
            elif number == 0 and is_alos_header(found):
                self.header = found
            else:
                name, doc = found.get("collection"), found.get("doc")
                if isinstance(name, str) and isinstance(doc, dict):
                    last = name
                    self._expect(f'{{"collection":{as_json(name)},"doc":', "}", "")
                    yield name, line, doc
                else:
                    yield None, line, BadLine(line, 'a line of this format is {"collection": name, "doc": {..}}')

    def _of_lines(self) -> Iterator[Item]:
        """Documents as they are, or each with its collection's tag when a header says so."""
        is_tagged = False
        last = None
        for number, (line, found) in enumerate(self._lines()):
            if number == 0 and isinstance(found, dict) and found.get(EXPORT_MARK) is True:
                self.header, is_tagged = found, True
            elif isinstance(found, Packed):
                yield last, line, found
            elif is_tagged and isinstance(found, dict):
                name = found.pop(COLLECTION_MARK, None)
                if isinstance(name, str):
                    last = name
                    self._expect(f'{{"{COLLECTION_MARK}":{as_json(name)},', "", COLLECTION_MARK)
                    yield name, line, found
                else:
                    yield None, line, BadLine(line, f'the document has no "{COLLECTION_MARK}", which names its collection')
            else:
                if not is_tagged:
                    self._expect("", "", "")
                yield None, line, found

    def _lines(self) -> Iterator[Found]:
        return read_documents(self.stream, line_bytes_max=self._line_bytes_max, packing=self._packing)

    def _expect(self, head: str, tail: str, tabooed: str) -> None:
        """What stands around the documents of the lines that follow, as around this one's."""
        packing = self._packing
        if packing is not None:
            packing.head, packing.tail, packing.tabooed = head.encode(), tail.encode(), tabooed.encode()
            packing.is_open = True


def _or_bad(line: int, call: Any, found: dict[str, Any]) -> dict[str, Any] | BadLine:
    try:
        return call(found)
    except BadDocument as error:
        return BadLine(line, error.message)
