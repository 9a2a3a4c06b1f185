"""Documents as an export of one format: pieces of text, for whoever writes them somewhere. Pure.

    begin() ── for each collection: collection(name), documents(...)... ── end()

Every call gives the bytes that come next. Memory: the documents of one call. Of one collection (`database` None) jsonl, json and mongo
carry nothing but the documents; a whole database has the header of formats.py and names every document's collection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadDocument, BadRequest
from ..values.documents import decode
from . import skv
from .bson_stream import encode
from .encoded import texts
from .extjson import to_json
from .formats import COLLECTION_MARK, EXPORT_MARK, VERSION, Format

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is exported. created_at: RFC 3339 in UTC. total: documents in all, which only skv needs."""

    format: Format
    collections: Sequence[str]
    created_at: str
    database: str | None = None  # None: one collection alone
    pretty: bool = False  # json: two blanks a level
    canonical: bool = False  # canonical Extended JSON instead of relaxed
    total: int = 0


@dataclass(slots=True)
class Writer:
    """One export on its way. Raises BadRequest for what the format cannot say."""

    asked: Asked
    _written: int = 0  # documents of the collection that is open
    _collections: int = 0
    _name: str = ""
    _head: str = field(default="", init=False)

    def __post_init__(self) -> None:
        asked = self.asked
        if asked.format is Format.ZIP:
            raise BadRequest("a zip archive is not written as text; it has functions of its own")
        if asked.format in (Format.MONGO, Format.BSON) and asked.database is not None:
            raise BadRequest(
                f"a {asked.format.value} stream holds one collection: export each to a file of its own, a whole database as a dump directory, or choose jsonl or alos"
            )
        if asked.format is Format.SKV and len(asked.collections) != 1:
            raise BadRequest("SKV's format holds one key-value collection: name one")
        if asked.pretty and asked.format is not Format.JSON:
            raise BadRequest(f"only json can be pretty; {asked.format.value} has a document a line")

    def begin(self) -> bytes:
        asked = self.asked
        header = {"version": VERSION, "database": asked.database or "", "created_at": asked.created_at}
        names = {"collections": list(asked.collections)}
        match asked.format:
            case Format.ALOS:
                return _line(header | names)
            case Format.JSONL if asked.database is not None:
                return _line({EXPORT_MARK: True} | header | names)
            case Format.JSON if asked.database is not None:
                inner = as_json(header)[1:-1]
                return (f"{{\n  {_spaced(inner)},\n  \"collections\": {{" if asked.pretty else f'{{{inner},"collections":{{').encode()
            case Format.SKV:
                return skv.begin(asked.created_at, asked.total).encode()
        return b""

    def collection(self, name: str) -> bytes:
        """What ends the collection before and begins this one."""
        asked = self.asked
        ended = self._end_collection()
        self._name, self._written = name, 0
        self._collections += 1
        if asked.format is Format.JSON and asked.database is not None:
            comma = "," if self._collections > 1 else ""
            return ended + (f"{comma}\n    {as_json(name)}: [" if asked.pretty else f"{comma}{as_json(name)}:[").encode()
        self._head = {
            Format.ALOS: f'{{"collection":{as_json(name)},"doc":',
            Format.JSONL: f'{{"{COLLECTION_MARK}":{as_json(name)},' if asked.database is not None else "",
        }.get(asked.format, "")
        return ended + (b"[" if asked.format is Format.JSON else b"")

    def documents(self, documents: Iterable[Document]) -> bytes:
        """Some documents of the collection that is open. Raises BadDocument."""
        if self.asked.format is Format.BSON:
            return b"".join(map(encode, documents))
        write = _ONE[self.asked.format]
        parts = []
        for document in documents:
            parts.append(write(self, document))
            self._written += 1
        return "".join(parts).encode()

    def packed(self, documents: Sequence[bytes]) -> bytes:
        """The same of documents as they are stored. Raises BadDocument."""
        asked, parts, at = self.asked, [], 0
        if asked.format in (Format.BSON, Format.SKV):
            return self.documents(map(decode, documents))
        before, after, tabooed, indent = self._around()
        while at < len(documents):
            text, end = texts(documents, at, before, after, tabooed, bool(tabooed), asked.canonical, indent)
            if asked.format is Format.JSON and not self._written:
                text = text[1:]  # the comma
            self._written += end - at
            parts.append(text)
            if (at := end) < len(documents):
                parts.append(self.documents((decode(documents[at]),)))
                at += 1
        return b"".join(parts)

    def _around(self) -> tuple[bytes, bytes, bytes, int]:
        """What stands before and after each document, the key that none may have, the column of a document that is indented (else -1)."""
        asked, head = self.asked, self._head.encode()
        if asked.format is Format.ALOS:
            return head, b"}\n", b"", -1
        if asked.format is not Format.JSON:
            return head, b"\n", COLLECTION_MARK.encode() if head else b"", -1
        if not asked.pretty:
            return b",", b"", b"", -1
        column = self._column()
        return b",\n" + b" " * column, b"", b"", column

    def _column(self) -> int:
        """Of json's documents."""
        return 6 if self.asked.database is not None else 2

    def end(self) -> bytes:
        ended, asked = self._end_collection(), self.asked
        if asked.format is Format.SKV:
            return ended + skv.end(is_empty=not self._written).encode()
        if asked.format is Format.JSON and asked.database is not None:
            return ended + (b"\n  }\n}\n" if asked.pretty else b"}}\n")
        return ended + (b"\n" if asked.format is Format.JSON else b"")

    def _end_collection(self) -> bytes:
        if self.asked.format is not Format.JSON or not self._collections:
            return b""
        indent = "    " if self.asked.database is not None else ""
        return f"\n{indent}]".encode() if self._written and self.asked.pretty else b"]"

    def _json(self, document: Document) -> str:
        return to_json(document, canonical=self.asked.canonical)

    def _tagged(self, document: Document) -> str:
        return f"{self._head}{self._json(document)}}}\n"

    def _lined(self, document: Document) -> str:
        text = self._json(document)
        if not self._head:
            return f"{text}\n"
        if COLLECTION_MARK in document:
            raise BadDocument(
                f"the document {document.get('_id')!r} has a field {COLLECTION_MARK!r}, which this format needs for itself: choose alos"
            )
        return f"{self._head}{text[1:]}\n" if len(text) > 2 else f"{self._head[:-1]}}}\n"

    def _element(self, document: Document) -> str:
        comma = "," if self._written else ""
        if not self.asked.pretty:
            return f"{comma}{self._json(document)}"
        indent = "\n" + " " * self._column()
        return f"{comma}{indent}{pretty(self._json(document), indent)}"

    def _record(self, document: Document) -> str:
        return skv.record(document, is_first=not self._written)


def pretty(text: str, line: str = "\n") -> str:
    """The same JSON with two blanks a level; line: a line end with the blanks of the level that it stands on."""
    return json.dumps(json.loads(text), ensure_ascii=False, indent=2).replace("\n", line)


def as_json(value: object) -> str:
    """As the headers and tags of an export are written."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _line(value: object) -> bytes:
    return as_json(value).encode() + b"\n"


def _spaced(inner: str) -> str:
    """The header's keys, each on a line of its own."""
    fields = json.loads(f"{{{inner}}}")
    return ",\n  ".join(f"{as_json(key)}: {as_json(value)}" for key, value in fields.items())


_ONE = {
    Format.ALOS: Writer._tagged,
    Format.JSONL: Writer._lined,
    Format.MONGO: Writer._lined,
    Format.JSON: Writer._element,
    Format.SKV: Writer._record,
}
