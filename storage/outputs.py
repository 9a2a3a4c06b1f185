"""Where an aggregation's documents go: $out and $merge, carried out.

    $out     documents ──> a hidden collection "$out.<reign>.<random>" with the target's declared indexes ──> one commit gives it the target's name
    $merge   documents ──> one change at the appended end each (changing.py), unique indexes included

A $out is seen whole or not at all (INV-2): readers find the old content until that last commit. One that ends half way takes its hidden collection
away; what a crash leaves is taken away by the next $out of a later reign. Each document of a $merge is a commit of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import trio

from .appended import room
from .catalog import HIDDEN, creation, drops, entries_name, removal
from .changing import Asked, change_one
from .commit.codec import COMMIT_BYTES_MAX, Record
from .committing import new_object_id
from .database import Database
from .declared import IndexSpec
from .errors import BadQuery, DuplicateKey, ImmutableField, TwinlogError
from .names import check_collection_name
from .query.expression_operands import is_nullish
from .query.filters import compile_filter
from .query.paths import MISSING
from .query.pipeline import Context
from .query.stage_outputs import Merge, Out, Target, WhenMatched, WhenNotMatched
from .transaction_scope import refuse_inside
from .values.documents import encode, encode_value
from .values.keys import canonical
from .writing import SLICE_DOCUMENTS, insert_one_commit

GROUP_BYTES_MAX = 2**20
SLICE_MERGED = 16  # documents, about 2 ms (INV-9)
_STAGED = f"{HIDDEN}out."
_CHANGED_MEANWHILE = 125
_NO_MATCH = 13113
_ON_MISSING = 51132
_ON_NOT_UNIQUE = 51183

Batches = AsyncIterator[list[dict]]


async def write_out(db: Database, output: Out | Merge, batches: Batches, context: Context) -> int:
    """Put the documents where the pipeline says. Returns the seq of the last commit."""
    refuse_inside(db, "$out" if isinstance(output, Out) else "$merge")
    collection = _own(db, output.target)
    db.check_writable()
    async with aclosing(batches):
        if isinstance(output, Out):
            return await _replace_content(db, collection, batches)
        return await _merge_in(db, collection, output, batches, context)


def _own(db: Database, target: Target) -> str:
    if target.database is not None and target.database != db.name:
        raise BadQuery(f"a pipeline writes to its own database {db.name}, not to {target.database}; copy it from there with a client")
    return check_collection_name(target.collection)


# $out


async def _replace_content(db: Database, collection: str, batches: Batches) -> int:
    _drop_leftovers(db)
    declared = _declared(db, collection)
    staged = f"{_STAGED}{db.history[-1].name}.{db.seams.random_bytes(8).hex()}"
    db.commit(_staging(db, staged, declared))
    try:
        await _fill(db, staged, batches)
        return _swap(db, staged, collection, declared)
    finally:
        if staged in db.catalog.ids:  # it went wrong, or was given up
            _drop(db, staged)
        db.flush()


def _declared(db: Database, collection: str) -> tuple[IndexSpec, ...]:
    specs = db.catalog.indexes.get(db.catalog.ids.get(collection, 0), ())
    if any(spec.is_building for spec in specs):
        raise BadQuery(f"$out: an index of {collection} is being built; try again when it is ready", code=_CHANGED_MEANWHILE)
    return specs


def _staging(db: Database, staged: str, declared: tuple[IndexSpec, ...]) -> list[Record]:
    """The records that make the hidden collection, its unique indexes with entries of their own."""
    number = db.catalog.next_id
    specs, records = [], []
    for spec in declared:
        if spec.is_unique:
            entries = number + 1 + len(records)
            records.append(creation(entries_name(number, spec.name), entries))
            spec = spec.changed(number=entries)
        specs.append(dict(spec.entry))
    return [creation(staged, number, indexes=specs), *records]


async def _fill(db: Database, staged: str, batches: Batches) -> None:
    group: list[bytes] = []
    size = 0
    async for batch in batches:
        for document in batch:
            data = encode(document if "_id" in document else {"_id": new_object_id(db), **document})
            if group and (len(group) == SLICE_DOCUMENTS or size + len(data) > min(GROUP_BYTES_MAX, COMMIT_BYTES_MAX)):
                await _insert(db, staged, group)
                group, size = [], 0
            group.append(data)
            size += len(data)
    if group:
        await _insert(db, staged, group)


async def _insert(db: Database, staged: str, group: list[bytes]) -> None:
    await room(db, len(group))
    result = await insert_one_commit(db, staged, group, ordered=True, request=b"")
    db.flush()
    if result.errors:
        raise result.errors[0].error


def _swap(db: Database, staged: str, collection: str, declared: tuple[IndexSpec, ...]) -> int:
    """The one commit that readers see. In place: nothing comes between the look at the catalog and the commit."""
    catalog = db.catalog
    old, new = catalog.ids.get(collection), catalog.ids[staged]
    if catalog.indexes.get(old or 0, ()) != declared:
        raise BadQuery(f"$out: the indexes of {collection} changed meanwhile; run it again", code=_CHANGED_MEANWHILE)
    more = {key: value for key, value in catalog.entries.get(new, {}).items() if key not in ("_id", "id")}
    gone = drops(catalog, collection)[1:] if old is not None else []
    return db.commit([removal(staged), *gone, creation(collection, new, **more)])


def _drop_leftovers(db: Database) -> None:
    """Hidden collections of earlier reigns: whoever filled them is gone."""
    mine = f"{_STAGED}{db.history[-1].name}."
    for name in [name for name in db.catalog.ids if name.startswith(_STAGED) and not name.startswith(mine)]:
        _drop(db, name)


def _drop(db: Database, name: str) -> None:
    try:
        db.commit(drops(db.catalog, name), frees_space=True)
    except TwinlogError:
        return  # no longer writable here: the next $out of a later reign takes it away


# $merge


async def _merge_in(db: Database, collection: str, merge: Merge, batches: Batches, context: Context) -> int:
    written = 0
    async for batch in batches:
        for number, document in enumerate(batch):
            _check_unique(db, collection, merge.on)
            if "_id" not in document and "_id" in merge.on:
                document = {"_id": new_object_id(db), **document}
            written = max(written, await _merge_one(db, collection, merge, document, context))
            if number % SLICE_MERGED == SLICE_MERGED - 1:
                db.flush()
                await trio.lowlevel.checkpoint()
        db.flush()
    return written


def _check_unique(db: Database, collection: str, on: tuple[str, ...]) -> None:
    if on == ("_id",):
        return
    for spec in db.catalog.indexes.get(db.catalog.ids.get(collection, 0), ()):
        if spec.is_unique and not spec.is_building and {field for field, _ in spec.keys} == set(on) and not spec.entry.get("partialFilterExpression"):
            return
    raise BadQuery(
        f"$merge: {', '.join(on)} of {collection} are in no unique index together; create one, or merge on _id", code=_ON_NOT_UNIQUE
    )


async def _merge_one(db: Database, collection: str, merge: Merge, document: dict, context: Context) -> int:
    spec = {field: {"$eq": _on_value(document, field)} for field in merge.on}
    asked = Asked(db=db, collection=collection, matches=compile_filter(spec))
    change = _Merging(db, asked, merge, document, context)
    inserts = merge.when_not_matched is WhenNotMatched.INSERT
    await room(db)
    try:
        result = await change_one(asked, change, upsert=inserts)
    except DuplicateKey:
        if not inserts or merge.when_matched is WhenMatched.FAIL:
            raise
        result = await change_one(asked, change, upsert=inserts)  # it came in between: once more, and it matches
    if not inserts and merge.when_not_matched is WhenNotMatched.FAIL and not result.matched:
        raise BadQuery(f"$merge: no document of {collection} matches {spec!r:.200}, and whenNotMatched is fail", code=_NO_MATCH)
    return result.seq


def _on_value(document: dict, field: str) -> Any:
    value: Any = document
    for part in field.split("."):
        value = value.get(part, MISSING) if type(value) is dict else MISSING
    if is_nullish(value) or type(value) is list:
        raise BadQuery(f"$merge: the field {field!r} of on is missing, null or an array in a document", code=_ON_MISSING)
    return value


class _Merging:
    """Change: a document of the pipeline goes into the one that is there, or becomes a new one."""

    frees_space = False

    def __init__(self, db: Database, asked: Asked, merge: Merge, document: dict, context: Context) -> None:
        self._db = db
        self._where = asked.where
        self._merge = merge
        self._document = document
        self._context = context

    def of(self, document: dict, data: bytes) -> bytes:
        made = self._made(document)
        if made is document:
            return data
        if "_id" not in made:
            made = {"_id": document["_id"], **made}
        elif canonical(made["_id"]) != canonical(document["_id"]):
            raise ImmutableField(f"{self._where}: $merge cannot change _id (held: {document['_id']!r}); leave _id out with $unset")
        new = encode(made)
        return data if new == encode(document) else new  # a client may have written the same otherwise

    def _made(self, document: dict) -> Mapping[str, Any]:
        match self._merge.when_matched:
            case WhenMatched.KEEP_EXISTING:
                return document
            case WhenMatched.REPLACE:
                return self._document
            case WhenMatched.MERGE:
                return {**document, **self._document}
            case WhenMatched.FAIL:
                raise _there_already(self._where, self._merge.on, document)
        assert self._merge.update is not None
        variables = self._context.variables
        inner = {name: part(self._document, variables) for name, part in self._merge.let}
        return self._merge.update(document, {**variables, "new": self._document, **inner})

    def inserted(self) -> tuple[bytes, bytes, bytes]:
        document = self._document
        if "_id" not in document:
            document = {"_id": new_object_id(self._db), **document}
        return canonical(document["_id"]), encode_value(document["_id"]), encode(document)


def _there_already(where: str, on: tuple[str, ...], document: dict) -> DuplicateKey:
    return DuplicateKey(
        f"E11000 duplicate key error collection: {where} index: {'_'.join(f'{field}_' if field == '_id' else f'{field}_1' for field in on)} "
        f"dup key: {{ {', '.join(f'{field}: {_on_value(document, field)!r:.100}' for field in on)} }}",
        collection=where,
        key=encode_value(document["_id"]),
    )
