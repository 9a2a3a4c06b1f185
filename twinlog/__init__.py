"""Twinlog's client library: open() an embedded database, connect() to a cluster, connect_async() on trio, open_kv() for keys and values.

    with twinlog.connect("twinlog://localhost:6900/shop") as client:
        orders = client["shop"]["orders"]
        orders.insert_one({"item": "tea", "count": 3})
        for order in orders.find({"item": "tea"}).sort("count", -1).limit(10):
            print(order)

Names, shapes and errors are PyMongo's (errors.py has the list). Without a key file a connection is plain; with one
(`key=FILE` or TWINLOG_KEY_FILE) every packet is encrypted. Reads and writes that lose their connection are sent again for
up to retry_s; a write carries an id, so it is applied once.
"""

from __future__ import annotations

from . import errors
from .async_client import AsyncClient
from .async_collection import AsyncCollection
from .async_command_cursor import AsyncCommandCursor
from .async_cursor import AsyncCursor
from .async_database import AsyncDatabase
from .async_transaction import AsyncTransaction
from .changes import ReturnDocument
from .client import Client
from .collection import Collection
from .command_cursor import CommandCursor
from .connecting import connect, connect_async
from .cursor import Cursor
from .database import Database
from .embedded import open, open_async
from .errors import TwinlogError
from .indexes import IndexModel
from .kv import KeyValueStore, open_kv
from .options import ASCENDING, DESCENDING, HASHED, TEXT
from .results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult
from .transaction import Transaction
from .transport import set_client_logging
from .url import ReadFrom
from .writes import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne

__all__ = [
    "ASCENDING",
    "DESCENDING",
    "HASHED",
    "TEXT",
    "AsyncClient",
    "AsyncCollection",
    "AsyncCommandCursor",
    "AsyncCursor",
    "AsyncDatabase",
    "AsyncTransaction",
    "BulkWriteResult",
    "Client",
    "Collection",
    "CommandCursor",
    "Cursor",
    "Database",
    "DeleteMany",
    "DeleteOne",
    "DeleteResult",
    "IndexModel",
    "InsertManyResult",
    "InsertOne",
    "InsertOneResult",
    "KeyValueStore",
    "ReadFrom",
    "ReplaceOne",
    "ReturnDocument",
    "Transaction",
    "TwinlogError",
    "UpdateMany",
    "UpdateOne",
    "UpdateResult",
    "connect",
    "connect_async",
    "errors",
    "open",
    "open_async",
    "open_kv",
    "set_client_logging",
]
