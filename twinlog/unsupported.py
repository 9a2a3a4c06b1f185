"""PyMongo's operations that this release does not have: one honest refusal each, naming what to use. Pure."""

from __future__ import annotations

from .errors import OperationFailure

NOT_SUPPORTED_CODE = 115  # MongoDB's CommandNotSupported

INSTEAD = {
    "Database.aggregate": "aggregate() of one of its collections; stages that need none, as $currentOp, are not there",
}


def unsupported(operation: str) -> OperationFailure:
    """The error to raise."""
    message = f"{operation} is not in this release; use instead: {INSTEAD[operation]}"
    return OperationFailure(message, NOT_SUPPORTED_CODE, {"name": "NotSupported", "errmsg": message, "fields": {}})
