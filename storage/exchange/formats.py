"""The formats by name, and how a stream tells which one it is in. Pure.

    alos    line 1: {"version": 1, "database": .., "created_at": .., "collections": [names]}; then {"collection": .., "doc": {..}} a line
    jsonl   a document a line; of a database: line 1 {"__alos_export": true, ..}, and every document carries "__collection"
    json    one array of documents; of a database: one object whose "collections" maps each name to such an array
    mongo   a document a line, as mongoexport writes and mongoimport reads them (also with --jsonArray): relaxed Extended JSON
    zip     <collection>/<id>.json, a document each
    skv     one object whose "records" is an array of {"key", "value", "encoding": "text" or "base64"}
    bson    BSON documents one after the other: a collection's file of mongodump

Every JSON in them is Extended JSON version 2 (extjson.py), so that no type is lost. The first three and zip are those of ALOS DB.
jsonl and mongo of one collection are the same bytes, so a stream of lines without a header is told to be jsonl.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Any

from ..errors import BadRequest
from .bson_stream import looks_like_bson

VERSION = 1
EXPORT_MARK = "__alos_export"
COLLECTION_MARK = "__collection"
HEAD_BYTES = 64 * 2**10  # looked at to tell the format; a header is far shorter
ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_TOKEN = re.compile(rb'[ \t\r\n]*+(?:("(?:[^"\\]|\\.)*+")|([{}\[\],:])|([^\s"{}\[\],:]++))', re.DOTALL)


class Format(Enum):
    """What a stream is written in."""

    ALOS = "alos"
    JSONL = "jsonl"
    JSON = "json"
    MONGO = "mongo"
    ZIP = "zip"
    SKV = "skv"
    BSON = "bson"


EXTENSIONS = {".alos": Format.ALOS, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".json": Format.JSON, ".zip": Format.ZIP, ".bson": Format.BSON}


def format_of(name: str) -> Format:
    """Raises BadRequest for a name that is none. "mongojl" is the reference's name for mongo."""
    wanted = name.lower().removeprefix("format")
    try:
        return Format("mongo" if wanted == "mongojl" else wanted)
    except ValueError:
        raise BadRequest(f"there is no format {name!r}; there are {', '.join(one.value for one in Format)}") from None


def detect(head: bytes) -> Format:
    """The format of the stream that begins with head (HEAD_BYTES of it, or all there is). Never fails: what is nothing else is lines."""
    if head.startswith(ZIP_BEGINNINGS):
        return Format.ZIP
    if looks_like_bson(head):
        return Format.BSON
    head = head.removeprefix(_BOM).lstrip(_BLANK)
    if head.startswith(b"["):
        return Format.JSON
    first = _first_object(head)
    if first is not None:
        if first.get(EXPORT_MARK) is True:
            return Format.JSONL
        if is_alos_header(first):
            return Format.ALOS
    keys = _outer_keys(head)
    if keys.get("collections") == b"{" and not keys.keys().isdisjoint(("version", "database", EXPORT_MARK, "created_at")):
        return Format.JSON
    if keys.get("records") == b"[" and "version" in keys:
        return Format.SKV
    return Format.JSONL


def is_alos_header(first: dict[str, Any]) -> bool:
    """Whether a first line is a header of ALOS's format rather than a document."""
    return "version" in first and "database" in first and "_id" not in first and isinstance(first.get("collections", []), list)


def _first_object(head: bytes) -> dict[str, Any] | None:
    """The first line, if it is one whole object."""
    line = head.split(b"\n", 1)[0]
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _outer_keys(head: bytes) -> dict[str, bytes]:
    """The keys of the object that head begins with, as far as they can be seen, each with the first token of its value."""
    keys: dict[str, bytes] = {}
    depth, key, at = 0, "", 0
    expects_key = False
    while (token := _TOKEN.match(head, at)) is not None:
        at = token.end()
        text, mark, scalar = token.groups()
        if depth == 1 and key and mark != b":":
            keys[key], key = mark or text or scalar, ""
        elif depth == 1 and expects_key and text is not None:
            key = text[1:-1].decode("utf-8", "replace")
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
        expects_key = depth == 1 and mark in (b"{", b",") or (expects_key and mark is None and text is None)
        if depth == 0:
            break
    return keys
