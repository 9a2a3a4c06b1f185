"""The results inside Reply, one shape for each operation. Pure.

Documents and `_id`s stay Raw until they are wanted: values.py reads them. Fields that a newer node adds are passed over.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from node.wire import Reply

from .errors import OperationFailure

T = TypeVar("T")

WriteErrorRow = tuple[int, int, str, str, dict[str, Any]]  # index, code, name, message, fields


class Inserted(msgspec.Struct):
    """Of Insert. The client knows the ids already."""

    n: int
    errors: list[WriteErrorRow]


class Got(msgspec.Struct):
    """Of Get and FindAndModify; nil when there is no such document."""

    doc: Raw


class Found(msgspec.Struct):
    """Of Find, Aggregate and More. cursor 0: these were the last."""

    docs: list[Raw]
    cursor: int


class BackupPage(msgspec.Struct):
    """Of ReadBackup. next: where the next page begins; nil: this was the last."""

    docs: list[Raw]
    next: list[int] | None


class Number(msgspec.Struct):
    """Of Count, EstimatedCount and Delete."""

    n: int


class Replaced(msgspec.Struct):
    """Of Replace and Update. upserted: the new `_id`, or nil."""

    matched: int
    modified: int
    upserted: Raw


class BulkDone(msgspec.Struct):
    """Of Bulk. upserted: the `_id`s that upserts made, by the index of the write within its request."""

    inserted: int
    matched: int
    modified: int
    deleted: int
    upserted: dict[int, Raw]
    errors: list[WriteErrorRow]


class Values(msgspec.Struct):
    """Of Distinct: a list of values."""

    values: Raw


class Explained(msgspec.Struct):
    """Of Explain: a map."""

    explain: Raw


class IndexNames(msgspec.Struct):
    """Of CreateIndexes."""

    names: list[str]


class Indexes(msgspec.Struct):
    """Of ListIndexes: a list of maps."""

    indexes: Raw


class Begun(msgspec.Struct):
    """Of Begin."""

    transaction: bytes


class Databases(msgspec.Struct):
    databases: list[str]


class Collections(msgspec.Struct):
    collections: list[str]


def _decoder(shape: type[T]) -> msgspec.msgpack.Decoder[T]:
    return msgspec.msgpack.Decoder(shape)


# A Decoder keeps nothing between calls, so these may be shared.
INSERTED = _decoder(Inserted)
GOT = _decoder(Got)
FOUND = _decoder(Found)
BACKUP_PAGE = _decoder(BackupPage)
NUMBER = _decoder(Number)
REPLACED = _decoder(Replaced)
BULK_DONE = _decoder(BulkDone)
VALUES = _decoder(Values)
EXPLAINED = _decoder(Explained)
INDEX_NAMES = _decoder(IndexNames)
INDEXES = _decoder(Indexes)
BEGUN = _decoder(Begun)
DATABASES = _decoder(Databases)
COLLECTIONS = _decoder(Collections)
FACTS = _decoder(dict[str, Any])  # of ping, status and other results without documents


def read(decoder: msgspec.msgpack.Decoder[T], reply: Reply) -> T:
    """Raises OperationFailure (details["name"] PeerError) for a result of another shape."""
    try:
        return decoder.decode(reply.result)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"the node's answer has another shape than this client knows ({error}): use a client of the node's release"
        raise OperationFailure(message, 17, {"name": "PeerError", "errmsg": message, "fields": {}}) from error
