"""The verbs on documents, in one place for those who call the engine: inserts (writing.py, inserting.py), changes (updating.py, bulk.py),
declared indexes (declaring.py) and reading (reading.py)."""

from __future__ import annotations

from .appended import room
from .bulk import bulk
from .declaring import create_index, drop_index, list_indexes
from .inserting import EACH_MAX, insert_each
from .reading import Cursor, count, find, get, get_key_now, get_keys_now, get_now, list_collections
from .results import WriteError, WriteResult
from .shard.shardset import COLD
from .updating import Action, delete, find_one_and, replace_one, update
from .writing import drop_collection, insert, insert_now

__all__ = [
    "COLD",
    "EACH_MAX",
    "Action",
    "Cursor",
    "WriteError",
    "WriteResult",
    "bulk",
    "count",
    "create_index",
    "delete",
    "drop_collection",
    "drop_index",
    "find",
    "find_one_and",
    "get",
    "get_key_now",
    "get_keys_now",
    "get_now",
    "insert",
    "insert_each",
    "insert_now",
    "list_collections",
    "list_indexes",
    "replace_one",
    "room",
    "update",
]
