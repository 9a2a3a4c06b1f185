"""Every operation on documents: which requests to send, and what their answers mean. Pure.

One request is a Call (call.py). More are a plan: a generator that yields Exchanges. The backend carries each one (over a
blocking or trio connection, or to the engine in this process) and resumes the plan, which reads exchange.answers. So the
collections of all transports share this code. Requests that write carry a write id of 16 random bytes: a resend after a
lost connection applies once.

Bounds (INV-8): an Insert or Bulk request takes CHUNK_WRITES_MAX writes or CHUNK_BYTES_MAX bytes, whichever comes first
(one larger document goes alone); unordered chunks go out CHUNK_WINDOW at a time, ordered ones one by one, because a chunk
must not be applied after one that failed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

from bson import Regex
from msgspec import Raw

from node.wire import Answer, Count, Delete, Failure, Find, Get, Insert, Replace, Reply, Request, is_absent

from . import answers
from .call import Call, failure_of, noted
from .errors import BulkWriteError, InvalidOperation, TwinlogError, from_failure
from .exchange import Exchange, Kind
from .results import DeleteResult, InsertManyResult, InsertOneResult, UpdateResult
from .scope import Scope
from .values import document_bytes, encoded_documents, read_document, read_value, value_bytes, with_id

T = TypeVar("T")
Plan = Generator[Exchange, None, T]

CHUNK_WRITES_MAX = 5_000
CHUNK_BYTES_MAX = 8 * 2**20
CHUNK_WINDOW = 4


def ask(scope: Scope, kind: Kind, request: Request, *, db: str = "", node: str | None = None) -> Plan[Exchange]:
    """One request to its answer, which is a Reply: a Failure is raised as its error."""
    exchange = Exchange(
        kind, iter((request,)), db=db, read_from=scope.read_from, node=node, timeout_s=scope.timeout_s
    )
    yield exchange
    reply_of(exchange, scope)
    return exchange


def reply_of(exchange: Exchange, scope: Scope) -> Reply:
    """The newest answer; its position is noted. Raises the error of a Failure: after AckTimeout the write is kept too."""
    return noted(scope, exchange.db, exchange.answers[-1])


# Inserting.


def insert_one(scope: Scope, db: str, collection: str, document: MutableMapping[str, Any]) -> Call[InsertOneResult]:
    inserted_id = with_id(document)
    request = Insert(0, db, collection, [document_bytes(document)], True, scope.write_id())

    def result(reply: Reply) -> InsertOneResult:
        refused = answers.read(answers.INSERTED, reply).errors
        if refused:
            _, code, name, message, fields = refused[0]
            error = from_failure(name, code, message, fields)
            error.details.update(_key_value(name, fields))
            raise error
        return InsertOneResult(inserted_id, (reply.epoch, reply.seq))

    return Call(Kind.WRITE, scope, db, request, result)


def insert_many(
    scope: Scope, db: str, collection: str, documents: Iterable[MutableMapping[str, Any]], *, ordered: bool
) -> Plan[InsertManyResult]:
    if isinstance(documents, (Mapping, str, bytes)) or not isinstance(documents, Iterable):
        raise TypeError(f"insert_many takes a list of documents, not {type(documents).__name__}")
    ids: list[Any] = []
    chunk_starts: list[int] = []

    def requests() -> Iterator[Request]:
        for chunk in chunks(encoded_documents(documents, ids)):
            chunk_starts.append(chunk_starts[-1] + lengths[-1] if chunk_starts else 0)
            lengths.append(len(chunk))
            yield Insert(0, db, collection, chunk, ordered, scope.write_id())

    lengths: list[int] = []
    exchange = Exchange(
        Kind.WRITE,
        requests(),
        db=db,
        window=1 if ordered else CHUNK_WINDOW,
        stop_after=_stops_ordered if ordered else _stops_unordered,
        timeout_s=scope.timeout_s,
    )
    try:
        yield exchange
    except TwinlogError as error:
        done = [answer for answer in exchange.answers if isinstance(answer, Reply)]
        error.details["nInserted"] = sum(answers.read(answers.INSERTED, answer).n for answer in done)
        raise
    if not exchange.answers:
        raise InvalidOperation("insert_many needs at least one document")
    inserted = 0
    errors: list[dict[str, Any]] = []
    for start, answer in zip(chunk_starts, exchange.answers):
        if isinstance(answer, Failure):
            error = failure_of(answer)
            error.details["nInserted"] = inserted
            raise error
        scope.positions.observe(db, answer.epoch, answer.seq)
        result = answers.read(answers.INSERTED, answer)
        inserted += result.n
        errors += [write_error(row, start, documents) for row in result.errors]
    if errors:
        raise BulkWriteError(bulk_details(errors, nInserted=inserted))
    newest = exchange.answers[-1]
    return InsertManyResult(ids, (newest.epoch, newest.seq))


def chunks(encoded: Iterable[bytes]) -> Iterator[list[Raw]]:
    """Cut by the bounds of one request."""
    chunk: list[Raw] = []
    size = 0
    for data in encoded:
        size += len(data)
        if chunk and (len(chunk) >= CHUNK_WRITES_MAX or size > CHUNK_BYTES_MAX):
            yield chunk
            chunk, size = [], len(data)
        chunk.append(Raw(data))
    if chunk:
        yield chunk


def write_error(row: answers.WriteErrorRow, start: int, given: Any) -> dict[str, Any]:
    """One row [index, code, name, message, fields] of an answer, in PyMongo's shape. start: the chunk's first index."""
    index, code, name, message, fields = row
    error = {"index": start + index, "code": code, "errmsg": message, "name": name, "fields": fields}
    error.update(_key_value(name, fields))
    if isinstance(given, Sequence):
        error["op"] = given[start + index]
    return error


def _key_value(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """PyMongo's keyPattern and keyValue: which values of which index were there already."""
    if name != "DuplicateKey":
        return {}
    if isinstance(key := fields.get("key"), bytes):
        return {"keyPattern": {"_id": 1}, "keyValue": {"_id": read_value(key)}}
    given = {"keyPattern": fields.get("key_pattern"), "keyValue": fields.get("key_value")}
    return {shown: read_value(value) for shown, value in given.items() if isinstance(value, bytes)}


def bulk_details(errors: list[dict[str, Any]], **counts: Any) -> dict[str, Any]:
    """The details of BulkWriteError and BulkWriteResult: all the counts, those not given are 0."""
    zeros = {"nInserted": 0, "nMatched": 0, "nModified": 0, "nRemoved": 0, "nUpserted": 0, "upserted": []}
    errors = sorted(errors, key=lambda error: error["index"])
    return {"writeErrors": errors, "writeConcernErrors": [], **zeros, **counts}


def _stops_ordered(answer: Answer) -> bool:
    return isinstance(answer, Failure) or bool(answers.read(answers.INSERTED, answer).errors)


def _stops_unordered(answer: Answer) -> bool:
    return isinstance(answer, Failure)


# Reading.


def find_one(
    scope: Scope,
    db: str,
    collection: str,
    filter: Any,
    *,
    sort: Sequence[tuple[str, int]] | None,
    projection: Any,
    skip: int,
) -> Call[dict[str, Any] | None]:
    """filter: a mapping, None for any document, or the `_id` itself."""
    if filter is not None and type(filter) is not dict and not isinstance(filter, Mapping):
        filter = {"_id": filter}
    least = scope.least_position(db)
    if filter is not None and not (sort or projection or skip) and _is_one_id(filter):
        get = Get(0, db, collection, value_bytes(filter["_id"]), least)
        return Call(Kind.READ, scope, db, get, _got)
    find = find_request(
        db, collection, filter, limit=1, batch_size=1, least_position=least, sort=sort, projection=projection, skip=skip
    )
    return Call(Kind.READ, scope, db, find, _first_found)


def _got(reply: Reply) -> dict[str, Any] | None:
    doc = answers.read(answers.GOT, reply).doc
    return None if is_absent(doc) else read_document(doc)


def _first_found(reply: Reply) -> dict[str, Any] | None:
    docs = answers.read(answers.FOUND, reply).docs
    return read_document(docs[0]) if docs else None


def find_request(
    db: str,
    collection: str,
    filter: Mapping[str, Any] | None,
    *,
    sort: Sequence[tuple[str, int]] | None = None,
    projection: Any = None,
    skip: int = 0,
    limit: int = 0,
    batch_size: int = 0,
    least_position: list[int] | None = None,
) -> Find:
    request = Find(0, db, collection, filter_bytes(filter), min_position=least_position)
    if sort:
        request.sort = value_bytes([[field, direction] for field, direction in sort])
    if projection is not None:
        request.projection = value_bytes(projection if isinstance(projection, Mapping) else list(projection))
    request.skip = skip
    request.limit = limit
    if batch_size:
        request.batch = batch_size
    return request


def filter_bytes(filter: Mapping[str, Any] | None) -> Raw:
    if filter is not None and not isinstance(filter, Mapping):
        raise TypeError(f"filter must be a mapping, not {type(filter).__name__}")
    return value_bytes(filter or {})


def count_documents(scope: Scope, db: str, collection: str, filter: Mapping[str, Any]) -> Call[int]:
    request = Count(0, db, collection, filter_bytes(filter), scope.least_position(db))
    return Call(Kind.READ, scope, db, request, lambda reply: answers.read(answers.NUMBER, reply).n)


def _is_one_id(filter: Mapping[str, Any]) -> bool:
    """Whether the filter names one `_id` by a plain value: what a Get can do."""
    return len(filter) == 1 and "_id" in filter and not _is_operator(filter["_id"])


def _is_operator(value: Any) -> bool:
    """Values that mean more than equality in a filter, or that no `_id` can be."""
    return isinstance(value, (Mapping, list, tuple, Regex)) or hasattr(value, "fullmatch")


# Replacing and deleting.


def replace_one(
    scope: Scope, db: str, collection: str, filter: Mapping[str, Any], replacement: Mapping[str, Any], *, upsert: bool
) -> Call[UpdateResult]:
    request = Replace(
        0, db, collection, filter_bytes(filter), replacement_bytes(replacement), upsert, scope.write_id()
    )
    return Call(Kind.WRITE, scope, db, request, _replaced)


def _replaced(reply: Reply) -> UpdateResult:
    result = answers.read(answers.REPLACED, reply)
    return UpdateResult(result.matched, result.modified, read_value(result.upserted), (reply.epoch, reply.seq))


def replacement_bytes(replacement: Mapping[str, Any]) -> Raw:
    """A replacement may leave out its `_id`: it then takes that of the document it replaces."""
    if not isinstance(replacement, Mapping):
        raise TypeError(f"replacement must be a mapping, not {type(replacement).__name__}")
    for key in replacement:
        if isinstance(key, str) and key.startswith("$"):
            raise ValueError(f"replacement has the key {key!r}: replace_one takes a whole document, no operators")
    return document_bytes(replacement) if "_id" in replacement else value_bytes(replacement)


def delete(
    scope: Scope, db: str, collection: str, filter: Mapping[str, Any], *, many: bool
) -> Call[DeleteResult]:
    request = Delete(0, db, collection, filter_bytes(filter), many, scope.write_id())
    return Call(Kind.WRITE, scope, db, request, _deleted)


def _deleted(reply: Reply) -> DeleteResult:
    return DeleteResult(answers.read(answers.NUMBER, reply).n, (reply.epoch, reply.seq))
