"""Zip archives: <collection>/<id>.json, one document each, two blanks a level, the fastest deflate.

An `_id` that is safe as a file name is the name; every other one is "~" and the base64url of its Extended JSON, so that ids of any type come
back and no two share a name (a text that begins with "~" is written that way too). The document carries its `_id` as well; the name is
for people. Written to any stream, also one that cannot seek; read from a file that can.

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
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from ..errors import BadDocument
from ..values.documents import decode
from .encoded import texts
from .extjson import parse_line, to_json
from .jsonl import LINE_BYTES_MAX, BadLine
from .reading import Item
from .writing import pretty

_SAFE = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}(?<!\.)\Z")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.IGNORECASE)  # names that Windows keeps for devices
_CODED = "~"
_SUFFIX = ".json"
READ_BYTES = 2**16


class _Sink:
    """What the archive writes goes to `write`; it cannot seek, so sizes stand after each entry."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._at = 0

    def write(self, data: bytes) -> int:
        self._write(bytes(data))
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        pass

    def seekable(self) -> bool:
        return False


class ZipWriter:
    """Hands the archive's bytes to `write` as they come. Held: about 400 bytes a document, for the directory at the end."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._zip = zipfile.ZipFile(_Sink(write), "w", zipfile.ZIP_DEFLATED, compresslevel=1)  # type: ignore[arg-type]

    def document(self, collection: str, document: Mapping[str, Any]) -> None:
        """Raises BadDocument."""
        self._add(collection, document, (pretty(to_json(document)) + "\n").encode())

    def packed(self, collection: str, data: bytes) -> None:
        """The same of a document as it is stored."""
        text, taken = texts((data,), 0, b"", b"\n", b"", False, False, 0)
        document = decode(data)
        if taken:
            self._add(collection, document, text)
        else:
            self.document(collection, document)

    def _add(self, collection: str, document: Mapping[str, Any], text: bytes) -> None:
        entry = zipfile.ZipInfo(f"{file_name(collection)}/{file_name(document.get('_id'))}{_SUFFIX}")
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o640 << 16
        self._zip.writestr(entry, text)

    def close(self) -> None:
        self._zip.close()


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


def read_zip(file: BinaryIO, *, line_bytes_max: int = LINE_BYTES_MAX) -> Iterator[Item]:
    """Every document of the archive; the line is the entry's number. Raises BadDocument when it is no archive."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, OSError, struct.error) as error:
        raise BadDocument(f"not a zip archive that can be read: {error}") from error
    with archive:
        for number, entry in enumerate(archive.infolist(), 1):
            if not entry.is_dir():
                yield _read_entry(archive, entry, number, line_bytes_max)


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
