"""What requests carry undecoded (filters, sorts, projections, bulk writes), turned into what the verbs take. Pure.

Documents to be stored stay bytes: storage checks them in its own single pass. Raises BadDocument for bytes that are no
values and BadQuery for values of the wrong shape; what the shapes mean is storage's to say.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from storage import decode_value, errors

BULK_KINDS = {"insert": 1, "replace": 3, "delete": 2}  # and how many arguments each has at most


def filter_of(raw: Raw) -> dict[str, Any]:
    """A filter is a map."""
    value = decode_value(bytes(raw))
    if not isinstance(value, dict):
        raise errors.BadQuery(f"a filter is a map of field to condition, not {type(value).__name__}")
    return value


def sort_of(raw: Raw) -> list[list[Any]] | None:
    """A sort is a list of [field, 1 or -1]; nil is none."""
    value = decode_value(bytes(raw))
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and pair[1] in (1, -1) for pair in value
    ):
        raise errors.BadQuery("a sort is a list of [field, 1 or -1]")
    return value or None


def projection_of(raw: Raw) -> dict[str, Any] | list[str] | None:
    """A projection is a map of field to inclusion, or a list of fields; nil is none."""
    value = decode_value(bytes(raw))
    if value is None or isinstance(value, (dict, list)):
        return value
    raise errors.BadQuery(f"a projection is a map or a list of fields, not {type(value).__name__}")


def bulk_of(writes: list[list[Raw]]) -> list[tuple[Any, ...]]:
    """[kind, arguments...] each: insert doc; replace filter doc [upsert]; delete filter [many]."""
    return [_bulk_write(index, write) for index, write in enumerate(writes)]


def _bulk_write(index: int, write: list[Raw]) -> tuple[Any, ...]:
    kind = decode_value(bytes(write[0])) if write else None
    arguments = write[1:]
    if not isinstance(kind, str) or kind not in BULK_KINDS:
        raise errors.BadRequest(f"bulk write {index}: {kind!r} is not one of {', '.join(BULK_KINDS)}", index=index)
    fewest = 2 if kind == "replace" else 1
    if not fewest <= len(arguments) <= BULK_KINDS[kind]:
        raise errors.BadRequest(
            f"bulk write {index}: {kind} takes {fewest} to {BULK_KINDS[kind]} arguments, not {len(arguments)}", index=index
        )
    if kind == "insert":
        return (kind, bytes(arguments[0]))
    flag = decode_value(bytes(arguments[fewest])) if len(arguments) > fewest else False
    if not isinstance(flag, bool):
        raise errors.BadRequest(f"bulk write {index}: the last argument of {kind} must be true or false", index=index)
    if kind == "replace":
        return (kind, filter_of(arguments[0]), bytes(arguments[1]), flag)
    return (kind, filter_of(arguments[0]), flag)
