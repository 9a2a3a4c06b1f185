"""Documents and values to bytes and back, as the engine writes them, with the client's errors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any

from bson import ObjectId
from msgspec import Raw

from node.wire import encode_fields
from storage import TwinlogError as EngineError
from storage import decode_document, decode_documents, decode_value, encode_document, encode_value

from .errors import TwinlogError, from_failure

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def with_id(document: MutableMapping[str, Any]) -> Any:
    """The document's `_id`; a new ObjectId is put into the caller's document when it has none."""
    if type(document) is not dict and not isinstance(document, MutableMapping):  # a dict is told sooner so
        raise TypeError(f"a document must be a dict or another mutable mapping, not {type(document).__name__}")
    if "_id" not in document:
        document["_id"] = ObjectId()
    return document["_id"]


def document_bytes(document: Mapping[str, Any]) -> Raw:
    """A document with its `_id`, written first. Raises InvalidDocument, DocumentTooLarge."""
    try:
        return Raw(encode_document(document))
    except EngineError as error:
        raise from_engine(error) from error


def encoded_documents(documents: Iterable[MutableMapping[str, Any]], ids: list[Any]) -> Iterator[bytes]:
    """The bytes of many documents, their `_id`s put into ids. Raises as document_bytes, with details["index"]."""
    for document in documents:
        if type(document) is bytes:  # an import's, encoded already
            ids.append(None)
            yield document
            continue
        ids.append(document["_id"] if type(document) is dict and "_id" in document else with_id(document))
        try:
            data = encode_document(document)
        except EngineError as error:
            refused = from_engine(error)
            refused.details["index"] = len(ids) - 1
            raise refused from error
        yield data


def value_bytes(value: Any) -> Raw:
    """One value: an `_id`, a filter, a sort. Raises InvalidDocument."""
    if type(value) is int and INT64_MIN <= value <= INT64_MAX:
        return encode_fields(value)  # the commonest key by far, in the same bytes
    try:
        return Raw(encode_value(value))
    except EngineError as error:
        raise from_engine(error) from error


def read_value(data: Raw | bytes) -> Any:
    """Raises InvalidDocument for bytes that are no value: a node would have to be broken to send them."""
    try:
        return decode_value(bytes(data))
    except EngineError as error:
        raise from_engine(error) from error


def read_document(data: Raw) -> dict[str, Any]:
    """A whole document or what a projection left of it. Raises InvalidDocument."""
    try:
        return decode_document(data)
    except EngineError as error:
        raise from_engine(error) from error


def read_documents(documents: Iterable[Raw], into: MutableSequence[dict[str, Any]]) -> None:
    """read_document() of each, appended; those before a bad one are in when it raises."""
    try:
        decode_documents(documents, into)
    except EngineError as error:
        raise from_engine(error) from error


def from_engine(error: EngineError) -> TwinlogError:
    """The client's error for one that the engine raised in this process."""
    return refusal(error.name, error.code, error.message, error.fields)


def refusal(name: str, code: int, message: str, fields: Mapping[str, Any]) -> TwinlogError:
    """The error to raise for a refusal; of a duplicate or a conflict, its details say of what."""
    error = from_failure(name, code, message, fields)
    error.details.update(duplicated(name, fields))
    return error


def duplicated(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """PyMongo's keyPattern and keyValue: which values of which index were there already, or which document met a conflict."""
    if name not in ("DuplicateKey", "WriteConflict"):
        return {}
    if isinstance(key := fields.get("key"), bytes):
        return {"keyPattern": {"_id": 1}, "keyValue": {"_id": read_value(key)}}
    given = {"keyPattern": fields.get("key_pattern"), "keyValue": fields.get("key_value")}
    return {shown: read_value(value) for shown, value in given.items() if isinstance(value, bytes)}
