"""PyMongo's operations that this release does not have: one honest refusal each, naming what to use. Pure."""

from __future__ import annotations

from .errors import OperationFailure

NOT_SUPPORTED_CODE = 115  # MongoDB's CommandNotSupported

INSTEAD = {
    "update_one": "read the document, change it and put it back with replace_one",
    "update_many": "read the documents, change them and put them back with bulk_write([ReplaceOne(...), ...])",
    "aggregate": "find() with a filter, sort and projection, and compute in the program",
}


def unsupported(operation: str) -> OperationFailure:
    """The error to raise."""
    message = f"{operation} is not in this release; use instead: {INSTEAD[operation]}"
    return OperationFailure(message, NOT_SUPPORTED_CODE, {"name": "NotSupported", "errmsg": message, "fields": {}})
