"""Replacing, updating and deleting documents, one call each; the document before or after it too. Pure.

A write carries a write id of 16 random bytes: a resend after a lost connection applies once and gets the first answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from msgspec import Raw

from node.wire import ABSENT, Delete, FindAndModify, Replace, Reply, Update, is_absent

from . import answers
from .call import Call
from .exchange import Kind
from .options import Sort, flag, read_options, sort_list
from .results import DeleteResult, UpdateResult
from .scope import Scope
from .values import document_bytes, read_document, read_value, value_bytes
from .verbs import filter_bytes, projection_bytes

Change = Mapping[str, Any] | Sequence[Mapping[str, Any]]  # operators, or a pipeline
ArrayFilters = Sequence[Mapping[str, Any]]


class ReturnDocument:
    """Which document find_one_and_update() and find_one_and_replace() return: PyMongo's two values."""

    BEFORE = False
    AFTER = True


class Action(Enum):
    """What find_one_and() does; the value is the wire's word."""

    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


def replace_one(
    scope: Scope,
    db: str,
    collection: str,
    filter: Mapping[str, Any],
    replacement: Mapping[str, Any],
    *,
    upsert: bool,
    sort: Sort | None,
    options: Mapping[str, Any],
) -> Call[UpdateResult]:
    read_options("replace_one", options)
    request = Replace(
        0,
        db,
        collection,
        filter_bytes(filter),
        replacement_bytes(replacement),
        flag("upsert", upsert),
        scope.write_id(),
        sort_bytes(sort),
    )
    return Call(Kind.WRITE, scope, db, request, _updated, is_write_command=True)


def update(
    scope: Scope,
    db: str,
    collection: str,
    filter: Mapping[str, Any],
    change: Change,
    *,
    many: bool,
    upsert: bool,
    array_filters: ArrayFilters | None,
    sort: Sort | None = None,
    options: Mapping[str, Any],
) -> Call[UpdateResult]:
    read_options("update_many" if many else "update_one", options)
    request = Update(
        0,
        db,
        collection,
        filter_bytes(filter),
        change_bytes(change),
        many,
        flag("upsert", upsert),
        array_filters_bytes(array_filters),
        sort_bytes(sort),
        scope.write_id(),
    )
    return Call(Kind.WRITE, scope, db, request, _updated, is_write_command=True)


def _updated(reply: Reply) -> UpdateResult:
    result = answers.read(answers.REPLACED, reply)
    return UpdateResult(result.matched, result.modified, read_value(result.upserted), (reply.epoch, reply.seq))


def find_one_and(
    scope: Scope,
    db: str,
    collection: str,
    filter: Mapping[str, Any],
    action: Action,
    change: Any,
    *,
    projection: Any,
    sort: Sort | None,
    upsert: bool = False,
    after: bool = ReturnDocument.BEFORE,
    array_filters: ArrayFilters | None = None,
    options: Mapping[str, Any],
) -> Call[dict[str, Any] | None]:
    """change: operators or a pipeline to update, a document to replace, None to delete."""
    read_options(f"find_one_and_{action.value}", options)
    request = FindAndModify(
        0,
        db,
        collection,
        filter_bytes(filter),
        action.value,
        _ENCODED[action](change),
        sort_bytes(sort),
        projection_bytes(projection),
        flag("upsert", upsert),
        flag("return_document", after),
        array_filters_bytes(array_filters),
        scope.write_id(),
    )
    return Call(Kind.WRITE, scope, db, request, _found)


def _found(reply: Reply) -> dict[str, Any] | None:
    doc = answers.read(answers.GOT, reply).doc
    return None if is_absent(doc) else read_document(doc)


def delete(
    scope: Scope, db: str, collection: str, filter: Mapping[str, Any], *, many: bool, options: Mapping[str, Any]
) -> Call[DeleteResult]:
    read_options("delete_many" if many else "delete_one", options)
    request = Delete(0, db, collection, filter_bytes(filter), many, scope.write_id())
    return Call(Kind.WRITE, scope, db, request, _deleted, is_write_command=True)


def _deleted(reply: Reply) -> DeleteResult:
    return DeleteResult(answers.read(answers.NUMBER, reply).n, (reply.epoch, reply.seq))


# What they carry.


def replacement_bytes(replacement: Mapping[str, Any]) -> Raw:
    """A replacement may leave out its `_id`: it then takes that of the document it replaces."""
    if not isinstance(replacement, Mapping):
        raise TypeError(f"replacement must be a mapping, not {type(replacement).__name__}")
    for key in replacement:
        if isinstance(key, str) and key.startswith("$"):
            raise ValueError(f"replacement has the key {key!r}: a replacement is a whole document, without operators")
    return document_bytes(replacement) if "_id" in replacement else value_bytes(replacement)


def change_bytes(change: Change) -> Raw:
    """What an update does. Raises TypeError, ValueError for what cannot be one."""
    if isinstance(change, Mapping):
        if not change:
            raise ValueError("update must not be empty: give operators, as {'$set': {...}}")
        first = next(iter(change))
        if not (isinstance(first, str) and first.startswith("$")):
            raise ValueError(f"update has the key {first!r}: it takes operators, as $set; replace_one takes a document")
        return value_bytes(change)
    if isinstance(change, Sequence) and not isinstance(change, (str, bytes)):
        if not change:
            raise ValueError("update must not be empty: a pipeline has at least one stage")
        return value_bytes(list(change))
    raise TypeError(f"update must be a mapping of operators or a list of stages, not {type(change).__name__}")


def array_filters_bytes(array_filters: ArrayFilters | None) -> Raw:
    if array_filters is None:
        return ABSENT
    if not isinstance(array_filters, Sequence) or isinstance(array_filters, (str, bytes)):
        raise TypeError(f"array_filters must be a list of mappings, not {type(array_filters).__name__}")
    return value_bytes(list(array_filters))


def sort_bytes(sort: Sort | None) -> Raw:
    return value_bytes([list(pair) for pair in sort_list(sort)]) if sort else ABSENT


def _nothing(change: None) -> Raw:
    return ABSENT


_ENCODED = {Action.UPDATE: change_bytes, Action.REPLACE: replacement_bytes, Action.DELETE: _nothing}
