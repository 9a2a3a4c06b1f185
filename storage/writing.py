"""The writing verbs: insert, replace, delete, bulk, drop. Used by the node's service and the embedded client alike.

Every verb checks keys at the appended end and commits within one wake-up, with no await between (INV-2). insert_now() works in
place or says it cannot (None: cold data, no room, or too much work for one slice); insert() is the general form. A
request id, remembered in the commit, makes a retry answer what the first try answered. None of them waits for
durability: the caller waits for `result.seq`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import compress, repeat

import trio
from bson import ObjectId

from .catalog import creation, removal
from .commit.codec import COMMIT_BYTES_MAX, COMMIT_RECORDS_MAX, PUT, Op, Record
from .database import Database
from .errors import BadRequest, DuplicateKey, ImmutableField, Overloaded, TwinlogError
from .matching import find_rows
from .names import check_collection_name
from .query.filters import MISSING, Filter, compile_filter, pinned_id
from .results import WriteError, WriteResult
from .shard.shardset import COLD
from .values.documents import decode, decode_value, encode_value, has_id_first, normalise, validate
from .values.documents import prepare as prepare_documents
from .values.keys import canonical

NOW_DOCUMENTS_MAX = 500  # about 2 ms of validation
NOW_BYTES_MAX = 2**20
SLICE_DOCUMENTS = 500
ROOM_WAIT_S_MAX = 30.0
WARM_TRIES_MAX = 16  # of reading cold data until it is still in memory when it is needed
RETRIES_MAX = 100  # of a replace whose document keeps changing under it

Prepared = tuple[bytes, bytes, bytes]  # key, encoded `_id`, document


def insert_now(
    db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool = True, request: bytes = b""
) -> WriteResult | None:
    """Insert in place, or None when it takes more than this wake-up."""
    if len(docs) > NOW_DOCUMENTS_MAX or not db.sealing.has_room or db.sealing.pause_s(len(docs)) or sum(map(len, docs)) > NOW_BYTES_MAX:
        return None
    if request and request in db.requests:
        return WriteResult.recall(db.requests[request])
    db.check_writable()
    if collection not in db.catalog.ids:
        check_collection_name(collection)
    prepared, errors = prepare(db, docs, ordered=ordered)
    return _insert_group(db, collection, prepared, errors, db.end_now, ordered=ordered, request=request)


async def insert(
    db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool = True, request: bytes = b""
) -> WriteResult:
    """Insert any number of documents: sliced, cut into commits, waiting for room and cold data."""
    check_collection_name(collection)
    total = WriteResult()
    for number, (start, group) in enumerate(_groups(docs)):
        part_request = part_of(request, number)
        await room(db, len(group))
        if part_request and part_request in db.requests:
            total.add(WriteResult.recall(db.requests[part_request]), start)
        else:
            total.add(await _insert_waiting(db, collection, group, ordered=ordered, request=part_request), start)
        if ordered and total.errors:
            break
    return total


async def _insert_waiting(
    db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool, request: bytes
) -> WriteResult:
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
        look = db.end_now if attempt < WARM_TRIES_MAX else db.end_blocking
        result = _insert_group(db, collection, prepared, errors, look, ordered=ordered, request=request)
        if result is not None:
            return result
        await _warm(db, collection, [row[0] for row in prepared if row is not None])
    raise AssertionError("a blocking look-up has an answer")


def _groups(docs: Sequence[bytes]) -> list[tuple[int, Sequence[bytes]]]:
    """Runs of documents that fit one commit."""
    groups, start, size = [], 0, 0
    for number, doc in enumerate(docs):
        if number > start and (number - start >= COMMIT_RECORDS_MAX or size + len(doc) > COMMIT_BYTES_MAX):
            groups.append((start, docs[start:number]))
            start, size = number, 0
        size += len(doc)
    return [*groups, (start, docs[start:])] if docs else []


def part_of(request: bytes, number: int) -> bytes:
    """The request id of one part of a request: the id itself for part 0."""
    if not request or number == 0:
        return request
    return hashlib.blake2b(request + number.to_bytes(4, "little"), digest_size=16).digest()


def prepare(db: Database, docs: Sequence[bytes], *, ordered: bool) -> tuple[list[Prepared | None], list[WriteError]]:
    """Validate documents; a bad one leaves None in its place, and ends an ordered batch."""
    prepared: list[Prepared | None] = prepare_documents(docs)
    errors: list[WriteError] = []
    if None not in prepared:
        return prepared, errors
    for index, row in enumerate(prepared):
        if row is not None:
            continue
        doc = docs[index]
        try:
            doc = doc if has_id_first(doc) else normalise(doc, lambda: new_object_id(db))
            id_value, key = validate(doc)
            prepared[index] = (key, encode_value(id_value), doc)
        except TwinlogError as error:
            errors.append(WriteError(index, error))
            if ordered:
                return prepared[: index + 1], errors
    return prepared, errors


def new_object_id(db: Database) -> ObjectId:
    """An ObjectId made by the node for a client that sent none: its own clock and entropy."""
    seconds = db.seams.time_us() // 1_000_000 % 2**32
    return ObjectId(seconds.to_bytes(4, "big") + db.seams.random_bytes(8))


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
    if request and request in db.requests:  # the same request came again while this one waited
        return WriteResult.recall(db.requests[request])
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
        _commit(db, records, result, request)
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


def unsure(db: Database, collection_id: int, keys: Sequence[bytes]) -> Sequence[int]:
    """The indexes of keys that the appended end may hold; all others it does not. Database.end_now() decides each."""
    doubtful: set[int] = set()
    for memtable in db.sealing.pinned()[1]:
        table = memtable.rows.get(collection_id)
        if table and not table.keys().isdisjoint(keys):
            doubtful.update(index for index, key in enumerate(keys) if key in table)
    shards = db.sealing.shards
    if shards is not None:
        if shards.filter is None:
            return range(len(keys))
        may_hold = shards.filter.may_hold(collection_id, keys)
        if 1 in may_hold:
            doubtful.update(compress(range(len(keys)), may_hold))
    return sorted(doubtful)


def later_ones(values: Sequence[bytes]) -> set[int]:
    """Every index whose value stands at a lower one too."""
    seen: set[bytes] = set()
    later = set()
    for index, value in enumerate(values):
        if value in seen:
            later.add(index)
        seen.add(value)
    return later


def collection_for_write(db: Database, collection: str) -> tuple[int, list[Record]]:
    """The collection's id, and the record that creates it if it is new."""
    known = db.catalog.ids.get(collection)
    if known is not None:
        return known, []
    return db.catalog.next_id, [creation(collection, db.catalog.next_id)]


def _commit(
    db: Database, records: list[Record], result: WriteResult, request: bytes, *, frees_space: bool = False
) -> None:
    result.seq = db.position.seq + 1
    if request:
        records.append(Record(Op.REQUEST, 0, request, result.remembered()))
    seq = db.commit(records, frees_space=frees_space)
    assert seq == result.seq


def duplicate(db: Database, collection: str, id_value: bytes) -> DuplicateKey:
    shown = decode_value(id_value)
    return DuplicateKey(
        f"E11000 duplicate key error collection: {db.name}.{collection} index: _id_ dup key: {{ _id: {shown!r} }}",
        collection=f"{db.name}.{collection}",
        index="_id_",
        key=id_value,
    )


async def room(db: Database, records: int = 1) -> None:
    """Wait, for a bounded time, until the memtable can take more; wait a little, too, while it fills faster than the one
    before is sealed (INV-8)."""
    pause_s = db.sealing.pause_s(records)
    if pause_s:
        await trio.sleep(pause_s)
    if db.sealing.has_room:
        return
    with trio.move_on_after(ROOM_WAIT_S_MAX) as waited:
        await db.wait_room()
    if waited.cancelled_caught:
        raise Overloaded(
            f"{db.name}: sealing has not kept up for {ROOM_WAIT_S_MAX:.0f} s; try again later",
            bound="memtable_records_max",
            retry_after_ms=1000,
        )


async def _warm(db: Database, collection: str, keys: Sequence[bytes]) -> None:
    """Read what is cold through the disk seam, so that the next try finds it in memory."""
    collection_id = db.catalog.ids.get(collection)
    view = db.end_view()
    if collection_id is not None:
        await db.seams.disk.run(lambda: [view.get_blocking(collection_id, key) for key in keys])


async def _end_document(db: Database, collection_id: int, key: bytes) -> bytes | None:
    """A document at the appended end. The last look is in place: no await follows it before the caller acts."""
    for _ in range(WARM_TRIES_MAX):
        held = db.end_now(collection_id, key)
        if held is not COLD:
            return held
        view = db.end_view()
        await db.seams.disk.run(view.get_blocking, collection_id, key)
    return db.end_blocking(collection_id, key)


async def _first_match(db: Database, collection: str, spec: dict) -> tuple[int, bytes, bytes] | None:
    """(collection id, key, document) of one document that matches at the appended end; no await follows the last check, that
    the collection is still the one that was looked through included."""
    matches = compile_filter(spec)
    pinned, key = matches.point
    for _ in range(RETRIES_MAX):
        collection_id = db.catalog.ids.get(collection)
        if collection_id is None:
            return None
        if not pinned:
            key = await _candidate(db, collection_id, matches)
            if key is None:
                return None
        held = await _end_document(db, collection_id, key)
        if db.catalog.ids.get(collection) != collection_id:
            continue
        if held is not None and matches(decode(held)):
            return collection_id, key, held
        if pinned:
            return None
    raise Overloaded(f"{db.name}.{collection}: the matching document changed {RETRIES_MAX} times meanwhile; try again")


async def _candidate(db: Database, collection_id: int, matches: Filter) -> bytes | None:
    """The key of the first document that matched at the appended end when this began."""
    async for batch in find_rows(db.end_view(), collection_id, matches, wanted=1):
        return batch[0].key
    return None


async def replace_one(
    db: Database, collection: str, spec: dict, doc: bytes, *, upsert: bool = False, request: bytes = b""
) -> WriteResult:
    """Replace the first document that matches; upsert inserts when none does."""
    check_collection_name(collection)
    if request and request in db.requests:
        return WriteResult.recall(db.requests[request])
    await room(db)
    found = await _first_match(db, collection, spec)
    if request and request in db.requests:  # the same request came again while this one waited
        return WriteResult.recall(db.requests[request])
    db.check_writable()
    if found is None:
        if not upsert:
            return WriteResult()
        return await _upsert(db, collection, spec, doc, request)
    collection_id, key, held = found
    old_id = decode(held)["_id"]
    new = doc if has_id_first(doc) else normalise(doc, lambda: old_id)
    _, new_key = validate(new)
    if new_key != key:
        raise ImmutableField(
            f"{db.name}.{collection}: a replacement cannot change _id (held: {old_id!r}); leave _id out or delete and insert"
        )
    result = WriteResult(matched=1, modified=int(new != held))
    if result.modified:
        _commit(db, [Record(Op.PUT, collection_id, key, new)], result, request)
    return result


async def _upsert(db: Database, collection: str, spec: dict, doc: bytes, request: bytes) -> WriteResult:
    wanted = pinned_id(spec)
    if wanted is not MISSING:
        doc = doc if has_id_first(doc) else normalise(doc, lambda: wanted)
        if validate(doc)[1] != canonical(wanted):
            raise ImmutableField(f"{db.name}.{collection}: the filter and the replacement name different _id values")
    [row], errors = prepare(db, [doc], ordered=True)
    if row is None:
        raise errors[0].error
    key, id_value, new = row
    while True:
        looked_in = collection_for_write(db, collection)[0]
        held = await _end_document(db, looked_in, key)
        collection_id, records = collection_for_write(db, collection)
        if collection_id == looked_in:
            break
    if request and request in db.requests:  # the same request came again while this one waited
        return WriteResult.recall(db.requests[request])
    db.check_writable()
    if held is not None:
        raise duplicate(db, collection, id_value)
    result = WriteResult(upserted={0: id_value})
    _commit(db, [*records, Record(Op.PUT, collection_id, key, new)], result, request)
    return result


async def delete(
    db: Database, collection: str, spec: dict, *, many: bool = False, request: bytes = b""
) -> WriteResult:
    """Delete the first document that matches, or all that do."""
    check_collection_name(collection)
    if request and request in db.requests:
        return WriteResult.recall(db.requests[request])
    db.check_writable(frees_space=True)
    if not many:
        await room(db)
        found = await _first_match(db, collection, spec)
        if request and request in db.requests:
            return WriteResult.recall(db.requests[request])
        result = WriteResult(deleted=int(found is not None))
        if found is not None:
            gone = Record(Op.DELETE, found[0], found[1], b"")
            _commit(db, [gone], result, request, frees_space=True)
        return result
    return await _delete_many(db, collection, spec, request)


async def _delete_many(db: Database, collection: str, spec: dict, request: bytes) -> WriteResult:
    matches = compile_filter(spec)
    collection_id = db.catalog.ids.get(collection)
    total = WriteResult()
    if collection_id is None:
        return total
    keys: list[bytes] = []
    async for batch in find_rows(db.end_view(), collection_id, matches):
        keys += [found.key for found in batch]
    for number, start in enumerate(range(0, len(keys), COMMIT_RECORDS_MAX)):
        group = keys[start : start + COMMIT_RECORDS_MAX]
        await room(db)
        await _warm(db, collection, group)
        if db.catalog.ids.get(collection) != collection_id:
            break  # dropped meanwhile, and everything that matched with it
        if part_of(request, number) in db.requests:
            total.add(WriteResult.recall(db.requests[part_of(request, number)]), 0)
            continue
        records = []
        for key in group:
            held = db.end_now(collection_id, key)
            held = db.end_view().get_blocking(collection_id, key) if held is COLD else held
            if held is not None and matches(decode(held)):
                records.append(Record(Op.DELETE, collection_id, key, b""))
        part = WriteResult(deleted=len(records))
        if records:
            _commit(db, records, part, part_of(request, number), frees_space=True)
            db.flush()
        total.add(part, 0)
    return total


async def bulk(
    db: Database, collection: str, writes: Sequence[Sequence], *, ordered: bool = True, request: bytes = b""
) -> WriteResult:
    """A list of ["insert", doc], ["replace", filter, doc, upsert], ["delete", filter, many]; documents as bytes."""
    total = WriteResult()
    for index, write in enumerate(writes):
        try:
            part = await _one_of_bulk(db, collection, write, part_of(request, index))
        except TwinlogError as error:
            part = WriteResult(errors=[WriteError(0, error)])
        total.add(part, index)
        if total.errors and ordered:
            break
    return total


async def _one_of_bulk(db: Database, collection: str, write: Sequence, request: bytes) -> WriteResult:
    match write:
        case ["insert", doc]:
            await room(db)
            if request and request in db.requests:
                return WriteResult.recall(db.requests[request])
            return await _insert_waiting(db, collection, [doc], ordered=True, request=request)
        case ["replace", spec, doc, upsert]:
            return await replace_one(db, collection, spec, doc, upsert=bool(upsert), request=request)
        case ["delete", spec, many]:
            return await delete(db, collection, spec, many=bool(many), request=request)
    raise BadRequest(f"a bulk write {write[:1]!r} is not insert, replace or delete, or has the wrong number of parts")


async def drop_collection(db: Database, collection: str, *, request: bytes = b"") -> WriteResult:
    """Drop a collection and everything in it; deleted is 1 when it existed."""
    if request and request in db.requests:
        return WriteResult.recall(db.requests[request])
    db.check_writable(frees_space=True)
    result = WriteResult(deleted=int(collection in db.catalog.ids))
    if result.deleted:
        _commit(db, [removal(collection)], result, request, frees_space=True)
    return result
