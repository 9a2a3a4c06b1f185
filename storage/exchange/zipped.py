"""Zip archives: <collection>/<id>.json, one document each, two blanks a level, the fastest deflate.

An `_id` that is safe as a file name is the name; every other one is "~" and the base64url of its Extended JSON, so that ids of any type come
back and no two share a name (a text that begins with "~" is written that way too). The document carries its `_id` as well; the name is
for people. Written to any stream, also one that cannot seek; read from a file that can. Memory is constant: the directory of entries waits in a
temporary file while one is written (zip_entries.py), and is read piece by piece (zip_slices.py).

Refused when read: names that lead out of the archive (an absolute path, "..", a backslash, a drive), entries that are no .json or stand
deeper than one directory, documents beyond the bound on a line, whatever the archive says of their size, encrypted entries.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Self

from ..errors import BadDocument
from ..values.documents import decode
from .encoded import texts
from .extjson import parse_line, to_json
from .jsonl import LINE_BYTES_MAX, BadLine
from .reading import Item
from .writing import pretty
from .zip_entries import ZipEntries
from .zip_slices import SLICE_BYTES, Slice, find_directory, slices

_SAFE = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}(?<!\.)\Z")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.IGNORECASE)  # names that Windows keeps for devices
_CODED = "~"
_SUFFIX = ".json"
READ_BYTES = 2**16


class ZipWriter:
    """An archive on its way: every call gives the bytes that come next. Memory: the documents of one call; the directory waits in a temporary file."""

    def __init__(self) -> None:
        self._entries = ZipEntries()

    def __enter__(self) -> Self:
        self._entries.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._entries.__exit__(*error)

    def document(self, collection: str, document: Mapping[str, Any]) -> bytes:
        """Raises BadDocument."""
        return self._entry(collection, document, (pretty(to_json(document)) + "\n").encode())

    def packed(self, collection: str, documents: Iterable[bytes]) -> bytes:
        """The same of documents as they are stored."""
        pieces = []
        for data in documents:
            text, taken = texts((data,), 0, b"", b"\n", b"", False, False, 0)
            document = decode(data)
            pieces.append(self._entry(collection, document, text) if taken else self.document(collection, document))
        return b"".join(pieces)

    def _entry(self, collection: str, document: Mapping[str, Any], text: bytes) -> bytes:
        return self._entries.entry(f"{file_name(collection)}/{file_name(document.get('_id'))}{_SUFFIX}", text)

    def end(self) -> Iterator[bytes]:
        """What ends the archive, in pieces."""
        return self._entries.end()


def file_name(value: Any) -> str:
    """A name that is safe in any file system, and whose value named() gives back. ids that differ only in case stay apart only where
    the file system tells case apart; in the archive they always do."""
    if type(value) is str and _SAFE.match(value) and not _RESERVED.match(value):
        return value
    text = to_json({"": value})
    return _CODED + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def named(name: str) -> Any:
    """The value that file_name() made a name of. Raises BadDocument."""
    if not name.startswith(_CODED):
        return name
    coded = name[len(_CODED) :]
    try:
        return parse_line(base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)))[""]
    except (ValueError, KeyError) as error:
        raise BadDocument(f"the name {name[:80]!r} begins with {_CODED!r} and holds no value: {error}") from None


def read_zip(file: BinaryIO, *, line_bytes_max: int = LINE_BYTES_MAX, slice_bytes: int = SLICE_BYTES) -> Iterator[Item]:
    """Every document of the archive; the line is the entry's number. Raises BadDocument when it is no archive. slice_bytes: of its directory, held at a time."""
    try:
        directory = find_directory(file)
    except (zipfile.BadZipFile, OSError) as error:
        raise BadDocument(f"not a zip archive that can be read: {error}") from error
    number = 1
    try:
        for some in slices(file, directory, slice_bytes):
            yield from _read_slice(some, number, line_bytes_max)
            number += len(some.ends)
    except zipfile.BadZipFile as error:
        yield None, number, BadLine(number, f"the archive cannot be read from its entry {number} on: {error}; what comes after is left out")


def _read_slice(some: Slice, number: int, line_bytes_max: int) -> Iterator[Item]:
    try:
        archive = some.opened()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        if len(some.ends) == 1:
            yield None, number, BadLine(number, f"the entry {number} cannot be read: {error}")
            return
        left, right = some.halves()
        yield from _read_slice(left, number, line_bytes_max)
        yield from _read_slice(right, number + len(left.ends), line_bytes_max)
        return
    with archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                yield _read_entry(archive, entry, number, line_bytes_max)
            number += 1


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, number: int, line_bytes_max: int) -> Item:
    shown = repr(entry.filename[:120])
    parts = entry.filename.split("/")
    unsafe = "\\" in entry.filename or ":" in parts[0] or any(part in ("", ".", "..") for part in parts)
    if unsafe or len(parts) > 2 or not parts[-1].endswith(_SUFFIX):
        return None, number, BadLine(number, f"the entry {shown} is no <collection>/<id>.json; it was left alone")
    try:
        collection = named(parts[0]) if len(parts) == 2 else None
        if collection is not None and not isinstance(collection, str):
            raise BadDocument("a directory names a collection")
        with archive.open(entry) as stream:
            data = b""
            while more := stream.read(READ_BYTES):
                data += more
                if len(data) > line_bytes_max:
                    raise BadDocument(f"longer than {line_bytes_max} bytes, the limit of one document's text")
        document = parse_line(data)
        if "_id" not in document:
            document = {"_id": named(parts[-1].removesuffix(_SUFFIX)), **document}
        return collection, number, document
    except BadDocument as error:
        return None, number, BadLine(number, f"the entry {shown}: {error.message}")
    # zipfile says RuntimeError of an encrypted entry and NotImplementedError of a compression that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, json.JSONDecodeError) as error:
        return None, number, BadLine(number, f"the entry {shown} cannot be read: {error}")
