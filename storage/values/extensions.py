"""The types MessagePack lacks, as its extension types. Pure; knows single values, not documents.

    code  type        bytes
    1     datetime    ms since 1970 UTC, i64 big-endian
    2     ObjectId    12 bytes
    3     UUID        16 bytes (RFC 4122 order)
    4     Decimal128  16 bytes, little-endian BID as in BSON
    5     Timestamp   time u32, increment u32, big-endian
    6     Regex       pattern UTF-8, NUL, option letters out of "ilmsux"
    7     MinKey      empty
    8     MaxKey      empty
    9     Binary      subtype u8, data; never subtype 0 (that is MessagePack's bin), nor 16 bytes of subtype 4 (a UUID)
    10    Code        JavaScript source, UTF-8

Every value has exactly one form. `refusal` says what is wrong with bytes from a client without building the value.
"""

from __future__ import annotations

import datetime
import decimal
import re
import struct
import uuid
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

import msgpack
from bson import Binary, Code, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from ..errors import BadDocument
from .decimals import DECIMAL128_BYTES

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
UUID_SUBTYPE = 4
_delta = datetime.timedelta
_INT64 = struct.Struct(">q")
_TIMESTAMP = struct.Struct(">II")
_EPOCH = datetime.datetime(1970, 1, 1)
_EPOCH_UTC = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)
_FLAG_LETTERS = (
    (re.IGNORECASE, "i"),
    (re.LOCALE, "l"),
    (re.MULTILINE, "m"),
    (re.DOTALL, "s"),
    (re.UNICODE, "u"),
    (re.VERBOSE, "x"),
)
_FLAGS_KNOWN = re.I | re.L | re.M | re.S | re.U | re.X


class Ext(IntEnum):
    """MessagePack extension codes."""

    DATETIME = 1
    OBJECT_ID = 2
    UUID = 3
    DECIMAL128 = 4
    TIMESTAMP = 5
    REGEX = 6
    MIN_KEY = 7
    MAX_KEY = 8
    BINARY = 9
    CODE = 10


# Plain ints: an IntEnum member is slow to compare, and these run for every value of every document.
_FIXED_BYTES: Mapping[int, int] = MappingProxyType({1: 8, 2: 12, 3: 16, 4: DECIMAL128_BYTES, 5: 8, 7: 0, 8: 0})


def milliseconds(moment: datetime.datetime | DatetimeMS) -> int:
    """Milliseconds since 1970 UTC, rounded down. A moment without a zone is UTC."""
    if isinstance(moment, DatetimeMS):
        return int(moment)
    epoch = _EPOCH if moment.tzinfo is None or moment.utcoffset() is None else _EPOCH_UTC
    if epoch is _EPOCH and moment.tzinfo is not None:
        moment = moment.replace(tzinfo=None)
    return (moment - epoch) // _MILLISECOND


def moment(ms: int) -> datetime.datetime | DatetimeMS:
    """The reverse, without a zone; outside the years 1 to 9999 a DatetimeMS."""
    try:
        return _EPOCH + _delta(0, 0, ms * 1000)  # microseconds: quicker than by keyword
    except OverflowError:
        return DatetimeMS(ms)


def regex_parts(regex: Regex | re.Pattern) -> tuple[str, str]:
    """(pattern, option letters in order). Raises BadDocument for what MongoDB's regular expressions cannot say."""
    pattern, flags = regex.pattern, regex.flags
    if isinstance(pattern, bytes):
        try:
            pattern = pattern.decode("utf-8")
        except UnicodeDecodeError:
            raise BadDocument("a regular expression's pattern must be UTF-8") from None
    if "\0" in pattern:
        raise BadDocument("a regular expression's pattern must not hold NUL")
    if flags & ~_FLAGS_KNOWN:
        raise BadDocument(f"a regular expression's flags must be among i l m s u x, not {flags & ~_FLAGS_KNOWN:#x}")
    return pattern, "".join([letter for flag, letter in _FLAG_LETTERS if flags & flag])


def simpler(value: object) -> object:
    """What the packer shall write in place of a value it does not know. Raises BadDocument naming the type."""
    writer = _WRITERS.get(type(value))
    if writer is None:
        writer = next((write for kind, write in _BY_KIND if isinstance(value, kind)), None)
    if writer is None:
        raise BadDocument(
            f"{type(value).__module__}.{type(value).__qualname__} cannot be stored: convert it to one of the document types"
        )
    return writer(value)


def _datetime(value: datetime.datetime | DatetimeMS) -> msgpack.ExtType:
    ms = milliseconds(value)
    if not INT64_MIN <= ms <= INT64_MAX:
        raise BadDocument(f"a date of {ms} ms is outside 64 bits")
    return msgpack.ExtType(1, _INT64.pack(ms))


def _decimal(value: decimal.Decimal) -> msgpack.ExtType:
    try:
        return msgpack.ExtType(4, Decimal128(value).bid)
    except (decimal.DecimalException, ValueError):
        raise BadDocument(f"{value} does not fit Decimal128 (34 digits, exponent -6176 to 6111)") from None


def _binary(value: Binary) -> msgpack.ExtType | bytes:
    if value.subtype == 0:
        return bytes(value)
    if value.subtype == UUID_SUBTYPE and len(value) == 16:
        return msgpack.ExtType(3, bytes(value))
    return msgpack.ExtType(9, bytes([value.subtype]) + value)


def _regex(value: Regex | re.Pattern) -> msgpack.ExtType:
    pattern, letters = regex_parts(value)
    return msgpack.ExtType(6, _utf8(pattern) + b"\0" + letters.encode())


def _code(value: Code) -> msgpack.ExtType:
    if value.scope is not None:
        raise BadDocument("bson.Code with a scope cannot be stored: store the scope as a field of its own")
    return msgpack.ExtType(10, _utf8(value))


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadDocument("text must be valid Unicode, without lone surrogates") from None


def _reference(value: DBRef) -> dict:
    return dict(value.as_doc())


_WRITERS = MappingProxyType(
    {
        ObjectId: lambda v: msgpack.ExtType(2, v.binary),
        datetime.datetime: _datetime,
        uuid.UUID: lambda v: msgpack.ExtType(3, v.bytes),
        tuple: list,
    }
)
# First match wins: Code is a str and Binary is bytes, so they stand before those.
_BY_KIND = (
    (Code, _code),
    (Binary, _binary),
    (ObjectId, lambda v: msgpack.ExtType(2, v.binary)),
    ((datetime.datetime, DatetimeMS), _datetime),
    (Decimal128, lambda v: msgpack.ExtType(4, v.bid)),
    (decimal.Decimal, _decimal),
    (uuid.UUID, lambda v: msgpack.ExtType(3, v.bytes)),
    (Timestamp, lambda v: msgpack.ExtType(5, _TIMESTAMP.pack(v.time, v.inc))),
    ((Regex, re.Pattern), _regex),
    (MinKey, lambda _: msgpack.ExtType(7, b"")),
    (MaxKey, lambda _: msgpack.ExtType(8, b"")),
    (DBRef, _reference),
    (str, str.__str__),
    (int, lambda v: int(v)),
    (float, lambda v: float(v)),
    ((bytes, bytearray), bytes),
    ((list, tuple), list),
    (Mapping, dict),
)


def refusal(code: int, data: bytes | memoryview) -> str | None:
    """Why extension bytes from a client are not one of the types above; None when they are."""
    length = len(data)
    expected = _FIXED_BYTES.get(code)
    if expected is not None:
        return None if length == expected else f"{Ext(code).name} takes {expected} bytes, not {length}"
    if code == 9:
        if not length:
            return "BINARY needs its subtype byte"
        if data[0] == 0 or (data[0] == UUID_SUBTYPE and length == 17):
            return "BINARY of subtype 0 is written as MessagePack bin, a UUID as extension 3"
        return None
    if code not in (6, 10):
        return f"MessagePack extension {code} is no document type"
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError:
        return f"{Ext(code).name} must be UTF-8"
    if code == 10:
        return None
    pattern, separator, letters = text.partition("\0")
    if not separator or "\0" in letters:
        return "REGEX is a pattern, one NUL, options"
    if list(letters) != [letter for _, letter in _FLAG_LETTERS if letter in letters]:
        return "REGEX options are letters out of ilmsux, in that order, each once"
    return None


def build(code: int, data: bytes | memoryview) -> object:
    """The Python value of extension bytes. Raises BadDocument."""
    data = bytes(data)
    if code == 1 and len(data) == 8:  # the commonest of all: without the ways round
        return moment(_INT64.unpack(data)[0])
    if code == 2 and len(data) == 12:
        return ObjectId(data)
    reason = refusal(code, data)
    if reason is not None:
        raise BadDocument(reason)
    return _BUILDERS[code](data)


def _build_regex(data: bytes) -> Regex:
    pattern, _, letters = data.decode("utf-8").partition("\0")
    return Regex(pattern, letters)


_BUILDERS = MappingProxyType(
    {
        1: lambda data: moment(_INT64.unpack(data)[0]),
        2: ObjectId,
        3: lambda data: uuid.UUID(bytes=data),
        4: Decimal128.from_bid,
        5: lambda data: Timestamp(*_TIMESTAMP.unpack(data)),
        6: _build_regex,
        7: lambda _: MinKey(),
        8: lambda _: MaxKey(),
        9: lambda data: Binary(data[1:], data[0]),
        10: lambda data: Code(data.decode("utf-8")),
    }
)
