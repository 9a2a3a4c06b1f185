"""What requests carry undecoded (filters, sorts, changes, pipelines, bulk writes), turned into what the verbs take. Pure.

Documents to be stored stay bytes: storage checks them in its own single pass. Raises BadDocument for bytes that are no
values and BadQuery for values of the wrong shape; what the shapes mean is storage's to say.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from storage import decode_value, errors

BULK_KINDS = {"insert": (1, 1), "replace": (2, 3), "update": (2, 3), "delete": (1, 2)}  # fewest and most arguments
WRITING_STAGES = frozenset(("$out", "$merge"))
_EXPLAINED = (
    ("filter", dict, "a map"),
    ("path", str, "text"),
    ("pipeline", list, "a list"),
    ("skip", int, "a number"),
    ("limit", int, "a number"),
)
_FAILED_TO_PARSE = 9
_TYPE_MISMATCH = 14


def filter_of(raw: Raw) -> dict[str, Any]:
    """A filter is a map."""
    value = decode_value(bytes(raw))
    if not isinstance(value, dict):
        raise errors.BadQuery(f"a filter is a map of field to condition, not {type(value).__name__}")
    return value


def sort_of(raw: Raw) -> list[list[Any]] | None:
    """A sort is a list of [field, 1 or -1]; nil is none."""
    return _sort(decode_value(bytes(raw)))


def _sort(value: Any) -> list[list[Any]] | None:
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


def change_of(raw: Raw) -> dict[str, Any] | list[Any]:
    """What an update does: a map of operators, or a pipeline."""
    value = decode_value(bytes(raw))
    if isinstance(value, (dict, list)):
        return value
    raise errors.BadQuery(
        f"an update is a map of operators or a list of stages, not {type(value).__name__}", code=_FAILED_TO_PARSE
    )


def array_filters_of(raw: Raw) -> list[Any] | None:
    """A list of filters; nil is none."""
    return _array_filters(decode_value(bytes(raw)))


def _array_filters(value: Any) -> list[Any] | None:
    if value is None or (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
        return value
    raise errors.BadQuery("array filters are a list of maps", code=_TYPE_MISMATCH)


def pipeline_of(raw: Raw) -> list[Any]:
    """A pipeline is a list of stages."""
    value = decode_value(bytes(raw))
    if isinstance(value, list):
        return value
    raise errors.BadQuery(f"a pipeline is a list of stages, not {type(value).__name__}", code=_TYPE_MISMATCH)


def is_writing(pipeline: list[Any]) -> bool:
    """Whether it writes ($out, $merge). Where such a stage may stand is storage's to say."""
    return any(isinstance(stage, dict) and not WRITING_STAGES.isdisjoint(stage) for stage in pipeline)


def let_of(raw: Raw) -> dict[str, Any] | None:
    """Variables for expressions are a map; nil is none."""
    value = decode_value(bytes(raw))
    if value is None or isinstance(value, dict):
        return value
    raise errors.BadQuery(f"let is a map of variables, not {type(value).__name__}", code=_TYPE_MISMATCH)


def check_hint(raw: Raw) -> None:
    """A hint names an index or its keys. It is not needed here, but a wrong one is a mistake to be told."""
    value = decode_value(bytes(raw))
    if value is not None and not isinstance(value, (str, dict, list)):
        raise errors.BadQuery(
            f"a hint is an index's name or its keys, not {type(value).__name__}", code=_FAILED_TO_PARSE
        )


def index_of(keys: Raw, options: Raw) -> tuple[Any, dict[str, Any]]:
    """The keys and options of an index; what they may be is storage's to say."""
    decoded = decode_value(bytes(options))
    if decoded is not None and not isinstance(decoded, dict):
        raise errors.BadRequest(f"the options of an index are a map, not {type(decoded).__name__}")
    return decode_value(bytes(keys)), decoded or {}


def explained_of(raw: Raw) -> dict[str, Any]:
    """The fields of the request that is to be explained: those that it has are of their kinds."""
    value = decode_value(bytes(raw))
    if not isinstance(value, dict):
        raise errors.BadRequest(f"what is to be explained is a map of a request's fields, not {type(value).__name__}")
    _sort(value.get("sort"))
    for name, kind, what in _EXPLAINED:
        given = value.get(name)
        if given is not None and (not isinstance(given, kind) or isinstance(given, bool)):
            raise errors.BadRequest(f"the {name} of what is to be explained must be {what}, not {type(given).__name__}")
    if any((value.get(name) or 0) < 0 for name in ("skip", "limit")):
        raise errors.BadRequest("the skip and limit of what is to be explained must not be negative")
    return value


def bulk_of(writes: list[list[Raw]]) -> list[tuple[Any, ...]]:
    """[kind, arguments...] each: insert doc; replace filter doc [upsert]; update filter change [options]; delete filter [many]."""
    return [_bulk_write(index, write) for index, write in enumerate(writes)]


def _bulk_write(index: int, write: list[Raw]) -> tuple[Any, ...]:
    kind = decode_value(bytes(write[0])) if write else None
    arguments = write[1:]
    if not isinstance(kind, str) or kind not in BULK_KINDS:
        raise errors.BadRequest(f"bulk write {index}: {kind!r} is not one of {', '.join(BULK_KINDS)}", index=index)
    fewest, most = BULK_KINDS[kind]
    if not fewest <= len(arguments) <= most:
        raise errors.BadRequest(
            f"bulk write {index}: {kind} takes {fewest} to {most} arguments, not {len(arguments)}", index=index
        )
    if kind == "insert":
        return (kind, bytes(arguments[0]))
    last = decode_value(bytes(arguments[fewest])) if len(arguments) > fewest else None
    if kind == "update":
        if last is not None and not isinstance(last, dict):
            raise errors.BadRequest(f"bulk write {index}: the last argument of update must be a map", index=index)
        options = last or {}
        checked = {"sort": _sort(options.get("sort")), "array_filters": _array_filters(options.get("array_filters"))}
        return (kind, filter_of(arguments[0]), change_of(arguments[1]), {**options, **checked})
    if last is not None and not isinstance(last, bool):
        raise errors.BadRequest(f"bulk write {index}: the last argument of {kind} must be true or false", index=index)
    if kind == "replace":
        return (kind, filter_of(arguments[0]), bytes(arguments[1]), bool(last))
    return (kind, filter_of(arguments[0]), bool(last))
