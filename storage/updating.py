"""The verbs that change documents which are there: replace, update, delete, find-and-modify. Used by the node's service and the
embedded client alike.

What an update says is compiled before anything is looked for (query/updates.py), so a bad one is refused whatever the filter
finds. Results are MongoDB's: `matched` counts what the filter found, `modified` what got other bytes. A request id makes a retry answer what the
first try answered. None of them waits for durability: the caller waits for `result.seq`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from bson import Timestamp

from .appended import room
from .changing import Asked, Shape, change_many, change_one, first_error, first_match
from .committing import new_object_id, prepare, recalled
from .compiling import compiled
from .database import Database
from .errors import BadQuery, ImmutableField, Overloaded
from .names import check_collection_name
from .query.filters import MISSING, Filter, compile_filter, pinned_id
from .query.projection import compile_projection
from .query.sorting import compile_sort
from .query.updates import Update, compile_update
from .query.upserts import upsert_document
from .reading import encode_projected
from .results import WriteResult
from .values.documents import decode, encode, encode_value, has_id_first, normalise, validate
from .values.keys import canonical

_EPOCH = datetime.datetime(1970, 1, 1)
_FAILED_TO_PARSE = 9
_UPSERT_TRIES_MAX = 16

Sorting = Sequence[Sequence] | Mapping[str, Any] | None


class Action(Enum):
    """What find_one_and does to the document."""

    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


class _Updating:
    """Change: the operators of an update."""

    frees_space = False

    def __init__(self, db: Database, where: str, matches: Filter, update: Update) -> None:
        self._db = db
        self._where = where
        self._matches = matches
        self._update = update
        time_us = db.seams.time_us()
        self._now = _EPOCH + datetime.timedelta(milliseconds=time_us // 1000)
        self._timestamp = Timestamp(time_us // 1_000_000 % 2**32, time_us % 1_000_000 + 1)

    def _applied(self, document: dict, *, position: int | None, is_insert: bool) -> dict:
        return self._update.apply(
            document, position=position, is_insert=is_insert, now=self._now, now_timestamp=self._timestamp
        )

    def of(self, document: dict, data: bytes) -> bytes:
        position = self._matches.position(document) if self._update.needs_position else None
        changed = self._applied(document, position=position, is_insert=False)
        if changed is document:
            return data
        new = encode(changed)
        if new == data or new == encode(document):  # a client may have written the same otherwise
            return data
        if canonical(changed["_id"]) != canonical(document["_id"]):
            raise ImmutableField(f"{self._where}: an update cannot change _id (held: {document['_id']!r})")
        return new

    def inserted(self) -> tuple[bytes, bytes, bytes]:
        document = self._applied(upsert_document(self._matches.spec), position=None, is_insert=True)
        if "_id" not in document:
            document = {"_id": new_object_id(self._db), **document}
        return canonical(document["_id"]), encode_value(document["_id"]), encode(document)


class _Replacing:
    """Change: another document in the place of the one that was found, under its `_id`."""

    frees_space = False

    def __init__(self, db: Database, where: str, spec: Mapping[str, Any], doc: bytes) -> None:
        self._db = db
        self._where = where
        self._spec = spec
        self._doc = doc

    def of(self, document: dict, data: bytes) -> bytes:
        held = document["_id"]
        new = self._doc if has_id_first(self._doc) else normalise(self._doc, lambda: held)
        if validate(new)[1] != canonical(held):
            raise ImmutableField(
                f"{self._where}: a replacement cannot change _id (held: {held!r}); leave _id out or delete and insert"
            )
        return new

    def inserted(self) -> tuple[bytes, bytes, bytes]:
        doc, wanted = self._doc, pinned_id(self._spec)
        if wanted is not MISSING:
            doc = doc if has_id_first(doc) else normalise(doc, lambda: wanted)
            if validate(doc)[1] != canonical(wanted):
                raise ImmutableField(f"{self._where}: the filter and the replacement name different _id values")
        [row], errors = prepare(self._db, [doc], ordered=True)
        if row is None:
            raise errors[0].error
        return row


class Deleting:
    """Change: the document goes."""

    frees_space = True

    def of(self, document: dict, data: bytes) -> None:
        return None

    def inserted(self) -> tuple[bytes, bytes, bytes]:
        raise AssertionError("a deletion inserts nothing")


async def _asked(db: Database, collection: str, spec: Mapping[str, Any], sort: Sorting, request: bytes) -> Asked:
    check_collection_name(collection)
    order = compile_sort(sort) if sort else None
    matches = await compiled(db, compile_filter, spec)
    return Asked(db=db, collection=collection, matches=matches, order=order, request=request)


async def replace_one(
    db: Database,
    collection: str,
    spec: dict,
    doc: bytes,
    *,
    upsert: bool = False,
    sort: Sorting = None,
    request: bytes = b"",
) -> WriteResult:
    """Replace the first document that matches (of the sort, if any); upsert inserts when none does."""
    asked = await _asked(db, collection, spec, sort, request)
    return await _one(asked, _Replacing(db, asked.where, spec, doc), upsert=upsert)


async def update(
    db: Database,
    collection: str,
    spec: dict,
    change: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    many: bool = False,
    upsert: bool = False,
    array_filters: Sequence[Mapping[str, Any]] | None = None,
    sort: Sorting = None,
    request: bytes = b"",
) -> WriteResult:
    """Change the first document that matches (of the sort, if any), or all that do, by operators or by a pipeline."""
    return first_error(
        await update_until_error(
            db, collection, spec, change, many=many, upsert=upsert, array_filters=array_filters, sort=sort, request=request
        )
    )


async def update_until_error(
    db: Database,
    collection: str,
    spec: dict,
    change: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    many: bool = False,
    upsert: bool = False,
    array_filters: Sequence[Mapping[str, Any]] | None = None,
    sort: Sorting = None,
    request: bytes = b"",
) -> WriteResult:
    """update(); but what ends an update of many documents half way is in the result's errors, beside what was done."""
    if many and sort:
        raise BadQuery("an update of many documents takes no sort", code=_FAILED_TO_PARSE)
    asked = await _asked(db, collection, spec, sort, request)
    updating = _Updating(db, asked.where, asked.matches, await compiled(db, compile_update, change, array_filters))
    if not many:
        return await _one(asked, updating, upsert=upsert)
    for _ in range(_UPSERT_TRIES_MAX):
        db.check_writable()
        result = await change_many(asked, updating)
        if result.matched or result.errors or result.upserted or not upsert:
            return result
        if await first_match(asked, is_sure=True) is None:
            return await _one(asked, updating, upsert=True)
    raise Overloaded(
        f"{asked.where}: documents that match came and went {_UPSERT_TRIES_MAX} times meanwhile; try again",
        bound="upsert_tries", limit=_UPSERT_TRIES_MAX, retry_after_ms=20,
    )  # fmt: skip


async def _one(asked: Asked, change: Any, *, upsert: bool = False, shape: Shape | None = None) -> WriteResult:
    known = recalled(asked.db, asked.request)
    if known is not None:
        return known
    asked.db.check_writable(frees_space=change.frees_space)
    await room(asked.db)
    return await change_one(asked, change, upsert=upsert, shape=shape)


async def delete(
    db: Database, collection: str, spec: dict, *, many: bool = False, sort: Sorting = None, request: bytes = b""
) -> WriteResult:
    """Delete the first document that matches (of the sort, if any), or all that do."""
    if many and sort:
        raise BadQuery("a deletion of many documents takes no sort", code=_FAILED_TO_PARSE)
    asked = await _asked(db, collection, spec, sort, request)
    if not many:
        return await _one(asked, Deleting())
    db.check_writable(frees_space=True)
    return first_error(await change_many(asked, Deleting()))


async def find_one_and(
    db: Database,
    collection: str,
    spec: dict,
    *,
    action: Action,
    change: Mapping[str, Any] | Sequence[Mapping[str, Any]] | bytes | None = None,
    sort: Sorting = None,
    projection: object = None,
    upsert: bool = False,
    after: bool = False,
    array_filters: Sequence[Mapping[str, Any]] | None = None,
    request: bytes = b"",
) -> tuple[WriteResult, bytes | None]:
    """Change one document and answer it, encoded and projected, as it was before or as it is after; None where there is none.

    change: operators or a pipeline, a document's bytes for REPLACE, nothing for DELETE. Raises AnswerForgotten when the request came before
    and its document was too large to be remembered."""
    asked = await _asked(db, collection, spec, sort, request)
    doing = await _change_of(asked, action, change, array_filters, is_plain=not (upsert or after))
    # The document after the change need not match the filter, so no element of it is the one that matched.
    seen = None if after else asked.matches
    project = await compiled(db, compile_projection, projection, seen) if projection else None

    def shape(old: bytes | None, new: bytes | None) -> bytes | None:
        data = new if after else old
        return data if data is None or project is None else encode_projected(project(decode(data)))

    result = await _one(asked, doing, upsert=upsert, shape=shape)
    return result, result.answered_document()


async def _change_of(asked: Asked, action: Action, change: Any, array_filters: Any, *, is_plain: bool) -> Any:
    if array_filters and action is not Action.UPDATE:
        raise BadQuery(f"array filters belong to an update, not to {action.value}", code=_FAILED_TO_PARSE)
    if action is Action.DELETE:
        if change is not None or not is_plain:
            raise BadQuery("a deletion takes no change, no upsert and no document after it", code=_FAILED_TO_PARSE)
        return Deleting()
    if action is Action.REPLACE:
        if not isinstance(change, bytes):
            raise BadQuery("a replacement must be a document", code=_FAILED_TO_PARSE)
        return _Replacing(asked.db, asked.where, asked.matches.spec, change)
    update = await compiled(asked.db, compile_update, change, array_filters)
    return _Updating(asked.db, asked.where, asked.matches, update)
