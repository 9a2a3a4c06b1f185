"""The directory that mongodump writes and mongorestore reads: names of its files, and a collection's metadata. Pure.

    <directory>/<database>/<collection>.bson             its documents (bson_stream.py)
    <directory>/<database>/<collection>.metadata.json    {"options", "indexes": [{"v", "key", "name", ...}], "collectionName", "type"}, canonical JSON

With --gzip each name ends in .gz besides. A collection's name stands percent-encoded in them where it holds what no file name may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from ..errors import BadDocument
from .extjson import parse_line, to_json

DOCUMENTS, METADATA, PACKED = ".bson", ".metadata.json", ".gz"
NOT_COLLECTIONS = frozenset(("oplog",))  # written beside them by --oplog
_SAFE = " !$&'()*+,;=@~-_."
_ID_INDEX = "_id_"
_NO_OPTIONS = frozenset(("v", "ns", "key", "background"))


@dataclass(frozen=True, slots=True)
class DumpedIndex:
    """One declared index. keys: (field, kind) in order; options as create_index takes them."""

    keys: tuple[tuple[str, Any], ...]
    options: Mapping[str, Any]


def file_stem(collection: str) -> str:
    """A name that leads nowhere: "." and ".." are encoded too."""
    stem = quote(collection, safe=_SAFE)
    return stem.replace(".", "%2E") if stem.strip(".") == "" else stem


def collection_of(file_name: str) -> str | None:
    """The collection whose documents a file holds; None for any other file."""
    stem = file_name.removesuffix(PACKED)
    if not stem.endswith(DOCUMENTS):
        return None
    name = unquote(stem.removesuffix(DOCUMENTS))
    return None if name in NOT_COLLECTIONS or not name else name


def metadata(collection: str, indexes: Iterable[Mapping[str, Any]]) -> bytes:
    """A metadata file. indexes: as list_indexes() gives them."""
    found = {"options": {}, "indexes": [dict(index) for index in indexes], "collectionName": collection, "type": "collection"}
    return to_json(found, canonical=True).encode()


def indexes_of(data: bytes, where: str) -> list[DumpedIndex]:
    """The declared indexes of a metadata file, that of `_id` left out. Raises BadDocument; where: for the message."""
    try:
        found = parse_line(data)
        rows = found.get("indexes", [])
        if not isinstance(rows, list):
            raise BadDocument('"indexes" is no array')
        indexes = []
        for row in rows:
            if not isinstance(row, dict) or not isinstance(row.get("key"), dict) or not row["key"]:
                raise BadDocument('an index has no "key"')
            if row.get("name") != _ID_INDEX:
                keys = tuple((field, int(kind) if isinstance(kind, (int, float)) else kind) for field, kind in row["key"].items())
                indexes.append(DumpedIndex(keys, {name: value for name, value in row.items() if name not in _NO_OPTIONS}))
    except BadDocument as error:
        raise BadDocument(f"{where}: {error.message}") from error
    return indexes
