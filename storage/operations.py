"""The verbs on documents, in one place for those who call the engine: writing (writing.py) and reading (reading.py)."""

from __future__ import annotations

from .inserting import EACH_MAX, insert_each
from .reading import Cursor, count, find, get, get_key_now, get_keys_now, get_now, list_collections
from .results import WriteError, WriteResult
from .shard.shardset import COLD
from .writing import bulk, delete, drop_collection, insert, insert_now, replace_one, room

__all__ = [
    "COLD",
    "EACH_MAX",
    "Cursor",
    "WriteError",
    "WriteResult",
    "bulk",
    "count",
    "delete",
    "drop_collection",
    "find",
    "get",
    "get_key_now",
    "get_keys_now",
    "get_now",
    "insert",
    "insert_each",
    "insert_now",
    "list_collections",
    "replace_one",
    "room",
]
