"""Questions about many documents at once: aggregate, distinct, count, and how a query would be answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from node.wire import BATCH_ROWS_DEFAULT, Aggregate, Count, Distinct, EstimatedCount, Explain

from . import answers
from .batches import Batches
from .call import Call
from .exchange import Kind
from .options import natural, read_options
from .scope import Scope
from .values import read_value, value_bytes
from .verbs import Plan, filter_bytes

_WRITING_STAGES = frozenset(("$out", "$merge"))


def aggregate(
    scope: Scope,
    db: str,
    collection: str,
    pipeline: Sequence[Mapping[str, Any]],
    *,
    let: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Plan[Batches]:
    """Asked at once. A pipeline that writes is not sent again when its outcome is unknown."""
    if not isinstance(pipeline, Sequence) or isinstance(pipeline, (str, bytes)):
        raise TypeError(f"pipeline must be a list of stages, not {type(pipeline).__name__}")
    if let is not None and not isinstance(let, Mapping):
        raise TypeError(f"let must be a mapping, not {type(let).__name__}")
    read = read_options("aggregate", options, "max_time_ms", "batch_size", "allow_disk_use")
    request = Aggregate(
        0,
        db,
        collection,
        value_bytes(list(pipeline)),
        read["batch_size"] or BATCH_ROWS_DEFAULT,
        read["max_time_ms"],
        min_position=scope.least_position(db),
    )
    if let is not None:
        request.let = value_bytes(let)
    is_writing = any(isinstance(stage, Mapping) and not _WRITING_STAGES.isdisjoint(stage) for stage in pipeline)
    kind = Kind.ONCE if is_writing else Kind.READ
    batches = Batches(scope, db, lambda: request, kind=kind, batch_size=read["batch_size"])
    yield from batches.begin()
    return batches


def distinct(
    scope: Scope, db: str, collection: str, key: str, filter: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Call[list[Any]]:
    if not isinstance(key, str):
        raise TypeError(f"key must be a field's name, not {type(key).__name__}")
    read = read_options("distinct", options, "max_time_ms")
    request = Distinct(
        0, db, collection, key, filter_bytes(filter), read["max_time_ms"], scope.least_position(db)
    )
    return Call(Kind.READ, scope, db, request, lambda reply: read_value(answers.read(answers.VALUES, reply).values))


def count_documents(
    scope: Scope,
    db: str,
    collection: str,
    filter: Mapping[str, Any],
    *,
    skip: int,
    limit: int,
    options: Mapping[str, Any],
) -> Call[int]:
    read = read_options("count_documents", options, "max_time_ms")
    request = Count(
        0,
        db,
        collection,
        filter_bytes(filter),
        scope.least_position(db),
        natural("skip", skip),
        natural("limit", limit),
        read["max_time_ms"],
    )
    return Call(Kind.READ, scope, db, request, lambda reply: answers.read(answers.NUMBER, reply).n)


def estimated_document_count(
    scope: Scope, db: str, collection: str, options: Mapping[str, Any]
) -> Call[int]:
    read_options("estimated_document_count", options, "max_time_ms")
    request = EstimatedCount(0, db, collection, scope.least_position(db))
    return Call(Kind.READ, scope, db, request, lambda reply: answers.read(answers.NUMBER, reply).n)


def explain(
    scope: Scope, db: str, collection: str, verb: str, arguments: Mapping[str, Any], *, max_time_ms: int = 0
) -> Call[dict[str, Any]]:
    """verb: the name of another request, arguments: its fields."""
    request = Explain(0, db, collection, verb, value_bytes(arguments), scope.least_position(db), max_time_ms)
    return Call(Kind.READ, scope, db, request, lambda reply: read_value(answers.read(answers.EXPLAINED, reply).explain))
