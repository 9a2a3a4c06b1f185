"""bulk_write as a plan: mixed writes cut into Bulk requests, and their answers added up. Pure.

On the wire one write is a list of MessagePack values, its kind first:

    ["insert", document]    ["replace", filter, document, upsert]    ["delete", filter, many]
    ["update", filter, operators or pipeline, {many, upsert, array_filters, sort}]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Raw

from node.wire import Answer, Bulk, Failure, Request, encode_fields

from . import answers
from .call import failure_of
from .changes import change_bytes, replacement_bytes
from .errors import BulkWriteError, InvalidOperation
from .exchange import Exchange, Kind
from .options import flag, sort_list
from .results import BulkWriteResult
from .scope import Scope
from .values import document_bytes, read_value, value_bytes, with_id
from .verbs import (
    CHUNK_BYTES_MAX,
    CHUNK_WINDOW,
    CHUNK_WRITES_MAX,
    Plan,
    bulk_details,
    filter_bytes,
    write_error,
)
from .writes import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne, Write

_INSERT = encode_fields("insert")
_REPLACE = encode_fields("replace")
_UPDATE = encode_fields("update")
_DELETE = encode_fields("delete")
_TRUE = encode_fields(True)
_FALSE = encode_fields(False)


def bulk_write(
    scope: Scope, db: str, collection: str, writes: Iterable[Write], *, ordered: bool
) -> Plan[BulkWriteResult]:
    given = list(writes)
    if not given:
        raise InvalidOperation("bulk_write needs at least one write")
    starts: list[int] = []

    def requests() -> Iterator[Request]:
        start = 0
        for chunk in _chunks(given):
            starts.append(start)
            start += len(chunk)
            yield Bulk(0, db, collection, chunk, ordered, scope.write_id())

    exchange = Exchange(
        Kind.WRITE,
        requests(),
        db=db,
        window=1 if ordered else CHUNK_WINDOW,
        stop_after=_stops_ordered if ordered else _stops_unordered,
        timeout_s=scope.timeout_s,
    )
    yield exchange
    totals = dict.fromkeys(("nInserted", "nMatched", "nModified", "nRemoved"), 0)
    upserted: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for start, answer in zip(starts, exchange.answers):
        if isinstance(answer, Failure):
            error = failure_of(answer)
            error.details.update(totals)
            raise error
        scope.positions.observe(db, answer.epoch, answer.seq)
        part = answers.read(answers.BULK_DONE, answer)
        totals["nInserted"] += part.inserted
        totals["nMatched"] += part.matched
        totals["nModified"] += part.modified
        totals["nRemoved"] += part.deleted
        upserted += [{"index": start + index, "_id": read_value(key)} for index, key in part.upserted.items()]
        errors += [write_error(row, start, given) for row in part.errors]
    details = bulk_details(errors, **totals, nUpserted=len(upserted), upserted=upserted)
    if errors:
        raise BulkWriteError(details)
    newest = exchange.answers[-1]
    return BulkWriteResult(details, (newest.epoch, newest.seq))


def _chunks(writes: list[Write]) -> Iterator[list[list[Raw]]]:
    chunk: list[list[Raw]] = []
    size = 0
    for write in writes:
        parts = _encoded(write)
        length = sum(memoryview(part).nbytes for part in parts)
        if chunk and (len(chunk) >= CHUNK_WRITES_MAX or size + length > CHUNK_BYTES_MAX):
            yield chunk
            chunk, size = [], 0
        chunk.append(parts)
        size += length
    if chunk:
        yield chunk


def _encoded(write: Write) -> list[Raw]:
    if isinstance(write, InsertOne):
        with_id(write.document)
        return [_INSERT, document_bytes(write.document)]
    if isinstance(write, ReplaceOne):
        upsert = _TRUE if write.upsert else _FALSE
        return [_REPLACE, filter_bytes(write.filter), replacement_bytes(write.replacement), upsert]
    if isinstance(write, (UpdateOne, UpdateMany)):
        return [_UPDATE, filter_bytes(write.filter), change_bytes(write.update), _update_options(write)]
    if isinstance(write, DeleteOne):
        return [_DELETE, filter_bytes(write.filter), _FALSE]
    if isinstance(write, DeleteMany):
        return [_DELETE, filter_bytes(write.filter), _TRUE]
    raise TypeError(
        "bulk_write takes InsertOne, ReplaceOne, UpdateOne, UpdateMany, DeleteOne and DeleteMany, "
        f"not {type(write).__name__}"
    )


def _update_options(write: UpdateOne | UpdateMany) -> Raw:
    options: dict[str, Any] = {}
    if isinstance(write, UpdateMany):
        options["many"] = True
    elif write.sort:
        options["sort"] = [list(pair) for pair in sort_list(write.sort)]
    if flag("upsert", write.upsert):
        options["upsert"] = True
    if write.array_filters is not None:
        options["array_filters"] = list(write.array_filters)
    return value_bytes(options)


def _stops_ordered(answer: Answer) -> bool:
    return isinstance(answer, Failure) or bool(answers.read(answers.BULK_DONE, answer).errors)


def _stops_unordered(answer: Answer) -> bool:
    return isinstance(answer, Failure)
