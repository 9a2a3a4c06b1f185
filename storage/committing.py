"""What all writing verbs do alike: documents from clients made ready, the collection found or made, the commit with the answer that
a retry gets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bson import ObjectId

from .catalog import creation
from .commit.codec import Op, Record
from .database import Database
from .errors import DiskFailed, DuplicateKey, TwinlogError
from .results import WriteError, WriteResult
from .unique import duplicate_message
from .values.documents import decode_value, encode_value, has_id_first, normalise, validate
from .values.documents import prepare as prepare_documents

Prepared = tuple[bytes, bytes, bytes]  # key, encoded `_id`, document


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


def collection_for_write(db: Database, collection: str) -> tuple[int, list[Record]]:
    """The collection's id, and the record that creates it if it is new."""
    known = db.catalog.ids.get(collection)
    if known is not None:
        return known, []
    return db.catalog.next_id, [creation(collection, db.catalog.next_id)]


def commit_answer(
    db: Database, records: list[Record], result: WriteResult, request: bytes, *, frees_space: bool = False
) -> None:
    """Commit, with the result remembered for the request."""
    result.seq = db.position.seq + 1
    if request:
        records.append(Record(Op.REQUEST, 0, request, result.remembered()))
    result.seq = db.commit(records, frees_space=frees_space)  # within a transaction: its snapshot's


def recalled(db: Database, request: bytes) -> WriteResult | None:
    """What the same request was answered when it came before; None when it did not. Raises DiskFailed: the device may have lost
    what it did, so it is not said to be done once more (INV-1)."""
    if not request or request not in db.requests:
        return None
    if isinstance(db.refusal, DiskFailed):
        raise db.refusal
    return WriteResult.recall(db.requests[request])


def part_of(request: bytes, number: int) -> bytes:
    """The request id of one part of a request: the id itself for part 0."""
    if not request or number == 0:
        return request
    return hashlib.blake2b(request + number.to_bytes(4, "little"), digest_size=16).digest()


def step_of(request: bytes, number: int) -> bytes:
    """The request id of one commit of a part that takes several: the part's own for number 0. No part_of() is equal to it."""
    return part_of(request + b"step", number) if request and number else request


def duplicate(db: Database, collection: str, id_value: bytes) -> DuplicateKey:
    """The refusal of an `_id` (encoded) that is there already."""
    where = f"{db.name}.{collection}"
    message = duplicate_message(where, "_id_", [("_id", decode_value(id_value))])
    return DuplicateKey(message, collection=where, index="_id_", key=id_value)
