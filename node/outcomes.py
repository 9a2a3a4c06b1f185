"""What a verb gives back to the service: an answer that is ready, or a write that waits for its acknowledgement. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from storage import errors

ERRORS_BYTES_MAX = 4 * 2**20  # of messages and fields in one result; later errors carry index, code and name only
ERROR_BYTES = 200  # what an error costs beside its message, about
_PLAIN = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True, slots=True)
class Done:
    """Answer now. epoch, seq: the database's position as the answer saw it; (0, 0) where there is none."""

    result: Raw
    epoch: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """Answer when `seq` of `db` is acknowledged (INV-1)."""

    db: Any
    result: Raw
    epoch: int
    seq: int


def error_rows(found: list[Any]) -> list[list[Any]]:
    """[index, code, name, message, fields] for each refused write of a batch, bounded in bytes (INV-8)."""
    rows = []
    spent = 0
    for write_error in found:
        error = write_error.error
        spent += ERROR_BYTES + 2 * len(error.message)
        if spent <= ERRORS_BYTES_MAX:
            rows.append([write_error.index, error.code, error.name, error.message, plain_fields(error)])
        else:
            rows.append([write_error.index, error.code, error.name, "", {}])
    return rows


def plain_fields(error: errors.TwinlogError) -> dict[str, Any]:
    """The error's fields as the wire can carry them: what is not plain is told in words."""
    return {name: _plain(value) for name, value in error.fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
