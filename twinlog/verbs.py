"""Inserting and finding documents: which requests to send, and what their answers mean. Pure. changes.py and aggregation.py have the rest.

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

from node.wire import ABSENT, Answer, Failure, Find, Get, Insert, Reply, Request, is_absent

from . import answers
from .call import Call, failure_of, noted
from .errors import BulkWriteError, InvalidOperation, TwinlogError
from .exchange import Exchange, Kind
from .results import InsertManyResult, InsertOneResult
from .scope import Scope
from .values import (
    document_bytes,
    duplicated,
    encoded_documents,
    read_document,
    refusal,
    value_bytes,
    with_id,
)

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
            raise refusal(name, code, message, fields)
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
    error.update(duplicated(name, fields))
    if isinstance(given, Sequence):
        error["op"] = given[start + index]
    return error


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
    max_time_ms: int = 0,
    hint: Any = None,
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
    find.max_time_ms = max_time_ms
    if hint is not None:
        find.hint = value_bytes(hint)
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
    request.projection = projection_bytes(projection)
    request.skip = skip
    request.limit = limit
    if batch_size:
        request.batch = batch_size
    return request


def projection_bytes(projection: Mapping[str, Any] | Sequence[str] | None) -> Raw:
    if projection is None:
        return ABSENT
    return value_bytes(projection if isinstance(projection, Mapping) else list(projection))


def filter_bytes(filter: Mapping[str, Any] | None) -> Raw:
    if filter is not None and not isinstance(filter, Mapping):
        raise TypeError(f"filter must be a mapping, not {type(filter).__name__}")
    return value_bytes(filter or {})


def _is_one_id(filter: Mapping[str, Any]) -> bool:
    """Whether the filter names one `_id` by a plain value: what a Get can do."""
    return len(filter) == 1 and "_id" in filter and not _is_operator(filter["_id"])


def _is_operator(value: Any) -> bool:
    """Values that mean more than equality in a filter, or that no `_id` can be."""
    return isinstance(value, (Mapping, list, tuple, Regex)) or hasattr(value, "fullmatch")
