"""BSON documents one after the other, as mongodump writes a collection's .bson file and mongorestore reads it. Pure.

    ├─ length i32 ─┼─ elements ... ─┼─ 0 ─┤ ├─ length i32 ─┼─ ...      little-endian (bsonspec.org)

bson (PyMongo's) does the work within a document. A document whose inside is damaged comes out as a BadLine with its number, and the
next one follows; a length that cannot be one ends the reading, since where the next begins is not known any more. What BSON has and a
document here has not comes out as it does from Extended JSON: undefined is null, a symbol is text, a DBRef a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from ..errors import BadDocument
from .jsonl import BadLine, Found

LENGTH_BYTES = 4
DOCUMENT_BYTES_MIN = 5
CHUNK_BYTES = 2**20
_WRITING: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
_READING: CodecOptions[dict[str, Any]] = CodecOptions(  # subtype 4 stays a Binary: not every one has the 16 bytes of a UUID
    uuid_representation=UuidRepresentation.UNSPECIFIED, datetime_conversion=DatetimeConversion.DATETIME_AUTO, tz_aware=False
)


def looks_like_bson(head: bytes) -> bool:
    """Whether a stream that begins so is one. Text has no zero byte, and a document's length always has one."""
    if len(head) < DOCUMENT_BYTES_MIN:
        return False
    length = int.from_bytes(head[:LENGTH_BYTES], "little", signed=True)
    return length >= DOCUMENT_BYTES_MIN and head[3] == 0 and (length > len(head) or head[length - 1] == 0)


def encode(document: Mapping[str, Any]) -> bytes:
    """Raises BadDocument for what BSON cannot hold."""
    try:
        return bson.encode(document, codec_options=_WRITING)
    except (BSONError, OverflowError, UnicodeError, RecursionError, TypeError, ValueError) as error:
        raise BadDocument(f"the document {document.get('_id')!r} cannot be written as BSON: {error}") from error


def read_bson(stream: BinaryIO, document_bytes_max: int) -> Iterator[Found]:
    """(number of the document, counted from 1; the document or a BadLine) in order. Memory: a chunk and a document."""
    data, at, number = b"", 0, 0
    while True:
        if len(data) - at < LENGTH_BYTES:
            data, at = data[at:] + stream.read(CHUNK_BYTES), 0
            if not data:
                return
        number += 1
        length = int.from_bytes(data[at : at + LENGTH_BYTES], "little", signed=True) if len(data) - at >= LENGTH_BYTES else 0
        if not DOCUMENT_BYTES_MIN <= length <= document_bytes_max:
            told = f"a length of {length} bytes" if len(data) - at >= LENGTH_BYTES else "the stream ends inside its length"
            yield number, BadLine(number, f"document {number} of the BSON cannot be one: {told} (5 to {document_bytes_max}); nothing after it was read")
            return
        while len(data) - at < length and (more := stream.read(max(CHUNK_BYTES, length - (len(data) - at)))):
            data, at = data[at:] + more, 0
        if len(data) - at < length:
            yield number, BadLine(number, f"document {number} of the BSON is cut off: {len(data) - at} of {length} bytes are there")
            return
        yield number, _decode(data[at : at + length], number)
        at += length


def _decode(data: bytes, number: int) -> dict[str, Any] | BadLine:
    try:
        found = bson.decode(data, codec_options=_READING)
    except (BSONError, UnicodeError, OverflowError, RecursionError, ValueError) as error:
        return BadLine(number, f"document {number} of the BSON cannot be read: {error}")
    if len(bson.encode(found, codec_options=_WRITING)) < len(data):
        return BadLine(number, f"document {number} of the BSON has a key that stands twice, or a type that is no longer in use")
    return found
