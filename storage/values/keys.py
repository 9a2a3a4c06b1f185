"""Canonical keys: one byte string for all `_id`s that MongoDB holds equal. Pure; knows no document.

    tag │ payload            equal ids ⇔ equal keys: 1, 1.0, Int64(1) and Decimal128("1.00") all give 11 8000000000000001

    05 MinKey        08 null           40 binary: subtype u8, data (a UUID is subtype 4)      7f MaxKey
    10 NaN           20 text: UTF-8    50 ObjectId: 12 bytes
    11 whole number  30 map            58 false, 59 true
    12 double        38 array          60 date: ms i64        70 regex: pattern, NUL, options
    13 decimal                         68 timestamp: u32 u32  75 code: UTF-8

    11  any number that is whole and fits int64, big-endian with the sign bit flipped (so keys of ints sort)
    12  any other number a double holds exactly: IEEE bits, big-endian
    13  what only a decimal can hold: sign, digits without trailing zeros, "E", exponent
    30  count u32, then for each pair: key length u32, key, value. Key order matters, as in MongoDB
    38  count u32, then the values; only inside maps: an array or a regex is refused as `_id`

Inside maps and arrays, text, binary, decimal, regex and code carry their length (u32) after the tag.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import struct
import uuid
from collections.abc import Mapping

import xxhash
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from .. import native
from ..columns import Column, check_slices, read_columns
from ..errors import BadDocument
from .decimals import to_decimal
from .extensions import INT64_MAX, INT64_MIN, milliseconds, regex_parts, simpler

KEY_BYTES_MAX = 8_192
_DEPTH_MAX = 100
_SIGN_FLIP = 2**63
_INT64_DIGITS = 19
_DOUBLE = struct.Struct(">d")
_COUNT = struct.Struct(">I")
_COLLECTION = struct.Struct("<I")
_TIMESTAMP = struct.Struct(">II")


def canonical(id_value: object) -> bytes:
    """The key of an `_id`. Raises BadDocument for an array, a regex, a key over 8,192 bytes, or no document value."""
    kind = type(id_value)
    if kind is ObjectId:
        return b"\x50" + id_value.binary
    if kind is int and INT64_MIN <= id_value <= INT64_MAX:
        return b"\x11" + (id_value + _SIGN_FLIP).to_bytes(8, "big")
    if kind is str:
        key = b"\x20" + _utf8(id_value)
        if len(key) > KEY_BYTES_MAX:
            raise _too_long(len(key))
        return key
    if isinstance(id_value, (list, tuple)):
        raise BadDocument("_id must not be an array: wrap it in a map or store it in another field")
    if isinstance(id_value, (Regex, re.Pattern)):
        raise BadDocument("_id must not be a regular expression: store its pattern as text")
    if isinstance(id_value, Mapping):
        parts: list[bytes] = []
        _append(parts, id_value, 1)
        key = b"".join(parts)
    else:
        tag, payload, _ = _scalar(id_value)
        key = tag + payload
    if len(key) > KEY_BYTES_MAX:
        raise _too_long(len(key))
    return key


def canonical_part(value: object) -> bytes:
    """The key of one value beside others: unlike an `_id` it may be an array or a regex, and of any length; no such
    key is the beginning of another. Raises BadDocument for no document value."""
    kind = type(value)
    if kind is str:
        text = _utf8(value)
        return b"\x20" + _COUNT.pack(len(text)) + text
    if kind is int and INT64_MIN <= value <= INT64_MAX:
        return b"\x11" + (value + _SIGN_FLIP).to_bytes(8, "big")
    parts: list[bytes] = []
    _append(parts, value, 0, math.inf)
    return b"".join(parts)


def canonical_object_id(data: bytes | memoryview) -> bytes:
    """The key of an ObjectId given as its 12 bytes."""
    return b"\x50" + data


def hash64(collection_id: int, key: bytes) -> int:
    """What places a document: shard = hash64 % shards. xxh3_64 of the collection id (u32 little-endian) and the key."""
    return xxhash.xxh3_64_intdigest(_COLLECTION.pack(collection_id) + key)


def _hash_keys(blob: bytes, at: Column, key_len: Column, collection: Column) -> bytes:
    """hash64 of the keys blob[at : at + key_len], a column of u64. at: u64; key_len, collection: u32 (see columns.py)."""
    starts, lengths, collections = read_columns("QII", at, key_len, collection)
    check_slices(len(blob), starts, lengths)
    hashes = [hash64(number, bytes(blob[a : a + n])) for a, n, number in zip(starts, lengths, collections)]
    return struct.pack(f"<{len(hashes)}Q", *hashes)


hash_keys = native.choose("hash_keys", _hash_keys)


def number_key(number: float | decimal.Decimal) -> tuple[bytes, bytes]:
    """(tag, payload), equal for equal numbers whatever their type; every NaN is one number, and -0 is 0."""
    if number != number:
        return b"\x10", b""
    if _is_whole_int64(number):
        return b"\x11", (int(number) + _SIGN_FLIP).to_bytes(8, "big")
    nearest = _as_double(number)
    if nearest == number:
        return b"\x12", _DOUBLE.pack(nearest)
    if not isinstance(number, decimal.Decimal):
        number = decimal.Decimal(number)
    sign, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    exponent += len(text) - len(stripped)
    return b"\x13", f"{'-' if sign else ''}{stripped}E{exponent}".encode()


def _is_whole_int64(number: float | decimal.Decimal) -> bool:
    if isinstance(number, int):
        return INT64_MIN <= number <= INT64_MAX
    if isinstance(number, float):
        return number.is_integer() and INT64_MIN <= number <= INT64_MAX
    if not number.is_finite() or (number and number.adjusted() >= _INT64_DIGITS):
        return False
    return not number or (INT64_MIN <= number <= INT64_MAX and number == int(number))


def _as_double(number: float | decimal.Decimal) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _scalar(value: object) -> tuple[bytes, bytes, bool]:
    """(tag, payload, whether the payload's length varies)."""
    if isinstance(value, Code):
        if value.scope is not None:
            raise BadDocument("bson.Code with a scope cannot be stored")
        return b"\x75", _utf8(value), True
    if isinstance(value, str):
        return b"\x20", _utf8(value), True
    if isinstance(value, bool):
        return (b"\x59" if value else b"\x58"), b"", False
    if isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise BadDocument("integers must fit 64 bits with sign: store larger ones as Decimal128 or text")
        return b"\x11", (int(value) + _SIGN_FLIP).to_bytes(8, "big"), False
    if isinstance(value, (float, Decimal128, decimal.Decimal)):
        tag, payload = number_key(to_decimal(value.bid) if isinstance(value, Decimal128) else value)
        return tag, payload, tag == b"\x13"
    if isinstance(value, ObjectId):
        return b"\x50", value.binary, False
    if isinstance(value, uuid.UUID):
        return b"\x40", b"\x04" + value.bytes, True
    if isinstance(value, (bytes, bytearray)):
        subtype = value.subtype if isinstance(value, Binary) else 0
        return b"\x40", bytes([subtype]) + value, True
    if isinstance(value, (datetime.datetime, DatetimeMS)):
        ms = milliseconds(value)
        if not INT64_MIN <= ms <= INT64_MAX:
            raise BadDocument(f"a date of {ms} ms is outside 64 bits")
        return b"\x60", (ms + _SIGN_FLIP).to_bytes(8, "big"), False
    return _rare_scalar(value)


def _rare_scalar(value: object) -> tuple[bytes, bytes, bool]:
    if value is None:
        return b"\x08", b"", False
    if isinstance(value, Timestamp):
        return b"\x68", _TIMESTAMP.pack(value.time, value.inc), False
    if isinstance(value, (Regex, re.Pattern)):
        pattern, letters = regex_parts(value)
        return b"\x70", _utf8(pattern) + b"\0" + letters.encode(), True
    if isinstance(value, MinKey):
        return b"\x05", b"", False
    if isinstance(value, MaxKey):
        return b"\x7f", b"", False
    simpler(value)  # raises BadDocument naming the type
    raise BadDocument(f"{type(value).__name__} cannot be an _id")


def _append(parts: list[bytes], value: object, depth: int, parts_max: float = KEY_BYTES_MAX) -> None:
    if depth > _DEPTH_MAX:
        raise BadDocument(f"_id: maps and arrays nest deeper than {_DEPTH_MAX}")
    if len(parts) > parts_max:
        raise _too_long(len(parts))
    if isinstance(value, Mapping):
        parts.append(b"\x30" + _COUNT.pack(len(value)))
        for key, child in value.items():
            if not isinstance(key, str):
                raise BadDocument(f"_id: keys must be text, not {type(key).__name__}")
            name = _utf8(key)
            parts.append(_COUNT.pack(len(name)) + name)
            _append(parts, child, depth + 1, parts_max)
    elif isinstance(value, (list, tuple)):
        parts.append(b"\x38" + _COUNT.pack(len(value)))
        for child in value:
            _append(parts, child, depth + 1, parts_max)
    else:
        tag, payload, varies = _scalar(value)
        parts.append(tag + _COUNT.pack(len(payload)) + payload if varies else tag + payload)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadDocument("_id: text must be valid Unicode, without lone surrogates") from None


def _too_long(size: int) -> BadDocument:
    return BadDocument(f"the _id's key has {size} bytes or more, the limit is {KEY_BYTES_MAX}: use a shorter _id")
