"""The verbs on documents, in one place for those who call the engine: inserts (writing.py, inserting.py), changes (updating.py, bulk.py),
declared indexes (declaring.py), reading (reading.py) and aggregation (aggregating.py)."""

from __future__ import annotations

from .aggregating import aggregate, distinct
from .appended import room
from .bulk import bulk
from .declaring import create_index, drop_index, list_indexes
from .explaining import explain
from .inserting import EACH_MAX, insert_each
from .reading import (
    Cursor,
    count,
    estimated_count,
    find,
    get,
    get_key_now,
    get_keys_now,
    get_now,
    list_collections,
)
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
    "aggregate",
    "bulk",
    "count",
    "create_index",
    "delete",
    "distinct",
    "drop_collection",
    "drop_index",
    "estimated_count",
    "explain",
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
