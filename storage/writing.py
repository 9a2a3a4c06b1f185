"""Inserts, and dropping a collection. Used by the node's service and the embedded client alike.

Every verb checks keys at the appended end and commits within one wake-up, with no await between (INV-2). insert_now() works in
place or says it cannot (None: cold data, no room, or too much work for one slice); insert() is the general form. A
request id, remembered in the commit, makes a retry answer what the first try answered. None of them waits for
durability: the caller waits for `result.seq`. Collections with unique indexes go another way (inserting_unique.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat

import trio

from .appended import WARM_TRIES_MAX, room, unsure, warm
from .catalog import drops
from .commit.codec import COMMIT_BYTES_MAX, COMMIT_RECORDS_MAX, PUT
from .committing import Prepared, collection_for_write, commit_answer, duplicate, part_of, prepare, recalled
from .database import Database
from .inserting_unique import insert_unique, insert_unique_now
from .names import check_collection_name
from .results import WriteError, WriteResult
from .shard.shardset import COLD
from .transaction_scope import refuse_inside

NOW_DOCUMENTS_MAX = 500  # about 2 ms of validation
NOW_BYTES_MAX = 2**20
SLICE_DOCUMENTS = 500


def insert_now(
    db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool = True, request: bytes = b""
) -> WriteResult | None:
    """Insert in place, or None when it takes more than this wake-up."""
    if len(docs) > NOW_DOCUMENTS_MAX or not db.sealing.has_room or db.sealing.pause_s(len(docs)) or sum(map(len, docs)) > NOW_BYTES_MAX:
        return None
    known = recalled(db, request)
    if known is not None:
        return known
    db.check_writable()
    collection_id = db.catalog.ids.get(collection)
    if collection_id is None:
        check_collection_name(collection)
    elif collection_id in db.catalog.unique:
        return insert_unique_now(db, collection, docs, ordered=ordered, request=request)
    prepared, errors = prepare(db, docs, ordered=ordered)
    return _insert_group(db, collection, prepared, errors, db.end_now, ordered=ordered, request=request)


async def insert(
    db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool = True, request: bytes = b""
) -> WriteResult:
    """Insert any number of documents: sliced, cut into commits, waiting for room and cold data."""
    check_collection_name(collection)
    if _is_unique(db, collection):
        return await insert_unique(db, collection, docs, ordered=ordered, request=request)
    total = WriteResult()
    for number, (start, group) in enumerate(_groups(docs)):
        part_request = part_of(request, number)
        await room(db, len(group))
        part = recalled(db, part_request)
        if part is None:
            part = await insert_one_commit(db, collection, group, ordered=ordered, request=part_request)
        total.add(part, start)
        if ordered and total.errors:
            break
    return total


async def insert_one_commit(
    db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool, request: bytes
) -> WriteResult:
    """Insert documents that fit one commit."""
    prepared: list[Prepared | None] = []
    errors: list[WriteError] = []
    for start in range(0, len(docs), SLICE_DOCUMENTS):
        some, bad = prepare(db, docs[start : start + SLICE_DOCUMENTS], ordered=ordered)
        prepared += some
        errors += [WriteError(start + row.index, row.error) for row in bad]
        await trio.lowlevel.checkpoint()
        if errors and ordered:
            break
    for attempt in range(WARM_TRIES_MAX + 1):
        db.check_writable()
        if _is_unique(db, collection):  # perhaps since a moment ago
            return await insert_unique(db, collection, docs, ordered=ordered, request=request)
        look = db.end_now if attempt < WARM_TRIES_MAX else db.end_blocking
        result = _insert_group(db, collection, prepared, errors, look, ordered=ordered, request=request)
        if result is not None:
            return result
        number = db.catalog.ids.get(collection, 0)
        await warm(db, [(number, row[0]) for row in prepared if row is not None])
    raise AssertionError("a blocking look-up has an answer")


def _is_unique(db: Database, collection: str) -> bool:
    """Whether what is inserted has entries in unique indexes."""
    return db.catalog.ids.get(collection) in db.catalog.unique


def _groups(docs: Sequence[bytes]) -> list[tuple[int, Sequence[bytes]]]:
    """Runs of documents that fit one commit."""
    groups, start, size = [], 0, 0
    for number, doc in enumerate(docs):
        if number > start and (number - start >= COMMIT_RECORDS_MAX or size + len(doc) > COMMIT_BYTES_MAX):
            groups.append((start, docs[start:number]))
            start, size = number, 0
        size += len(doc)
    return [*groups, (start, docs[start:])] if docs else []


def _insert_group(
    db: Database,
    collection: str,
    prepared: Sequence[Prepared | None],
    errors: Sequence[WriteError],
    look: Callable[[int, bytes], object],
    *,
    ordered: bool,
    request: bytes,
) -> WriteResult | None:
    """Check and commit at the appended end, in place. None: a key's record is cold. look: db.end_now or end_blocking."""
    known = recalled(db, request)
    if known is not None:  # the same request came again while this one waited
        return known
    collection_id, records = collection_for_write(db, collection)
    end = errors[0].index if ordered and errors else len(prepared)
    places = [place for place in range(end) if prepared[place] is not None]
    keys = [prepared[place][0] for place in places]
    held = _held(db, collection_id, keys, look)
    if held is None:
        return None
    result = WriteResult(errors=list(errors))
    if held:
        if ordered:
            keys, held = keys[: held[0]], held[:1]
        for number in held:
            place = places[number]
            result.errors.append(WriteError(place, duplicate(db, collection, prepared[place][1])))
        result.errors.sort(key=lambda row: row.index)
        gone = set(held)
        places = [place for number, place in enumerate(places[: len(keys)]) if number not in gone]
    if places:
        _, ids, docs = zip(*[prepared[place] for place in places])
        keys = [prepared[place][0] for place in places]
        records += zip(repeat(PUT), repeat(collection_id), keys, docs)  # plain tuples: what is read by name is never among them
        result.ids = list(ids)
        result.inserted = len(ids)
        commit_answer(db, records, result, request)
    return result


def _held(
    db: Database, collection_id: int, keys: Sequence[bytes], look: Callable[[int, bytes], object]
) -> list[int] | None:
    """The indexes, in order, of keys that the appended end holds or that stand earlier in keys. None: one is cold."""
    held = set()
    for number in unsure(db, collection_id, keys):
        found = look(collection_id, keys[number])
        if found is COLD:
            return None
        if found is not None:
            held.add(number)
    if len(set(keys)) < len(keys):
        held |= later_ones(keys)
    return sorted(held)


def later_ones(values: Sequence[bytes]) -> set[int]:
    """Every index whose value stands at a lower one too."""
    seen: set[bytes] = set()
    later = set()
    for index, value in enumerate(values):
        if value in seen:
            later.add(index)
        seen.add(value)
    return later


async def drop_collection(db: Database, collection: str, *, request: bytes = b"") -> WriteResult:
    """Drop a collection and everything in it; deleted is 1 when it existed."""
    refuse_inside(db, "dropping a collection")
    check_collection_name(collection)
    known = recalled(db, request)
    if known is not None:
        return known
    db.check_writable(frees_space=True)
    result = WriteResult(deleted=int(collection in db.catalog.ids))
    if result.deleted:
        commit_answer(db, drops(db.catalog, collection), result, request, frees_space=True)
    return result
