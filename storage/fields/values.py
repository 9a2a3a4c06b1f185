"""Kinds: what a value becomes in an index. Pure; knows single values and arrays of them, no document, no column.

    kind                                  an entry keeps            compared by
    NUMBER                                (d, r)                    d, then r: exact over int64 and double
    STRING                                UTF-8 bytes               bytes
    OBJECT_ID, UUID                       12, 16 bytes              bytes
    BOOL, DATE                            0 or 1, ms as int64       number
    MIN_KEY MISSING NULL NAN MAX_KEY      the kind alone            all equal, so the kind says everything
    DECIMAL MAP ARRAY BINARY TIMESTAMP    the kind alone            not here: whoever finds one reads the document
    REGEX CODE

The members of Kind stand in MongoDB's order of types, with these liberties that a reader of the index must know: MISSING and
NULL are one value to a sort, a DECIMAL stands among numbers, and BINARY and UUID are one type.

(d, r) of a number: d is the largest double that is not above it, r what is left, as a u16. r is 0 for every double and for every
integer that a double holds; doubles near 2^63 stand 1,024 apart, so r stays below that. -0.0 is kept as 0.0.
"""

from __future__ import annotations

import datetime
import math
import re
import uuid
from collections.abc import Mapping
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final

import numpy as np
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from ..query.paths import MISSING
from ..values.decimals import to_decimal

# What of a field is indexed: its values, or the words of its strings (then its column keeps no strings: they would double the
# size of long texts), or both.
COLUMN = 1
WORDS = 2


class Kind(IntEnum):
    """What an entry is, in MongoDB's order of types."""

    MIN_KEY = 0
    MISSING = 1
    NULL = 2
    NAN = 3
    NUMBER = 4
    DECIMAL = 5
    STRING = 6
    MAP = 7
    ARRAY = 8
    BINARY = 9
    UUID = 10
    OBJECT_ID = 11
    BOOL = 12
    DATE = 13
    TIMESTAMP = 14
    REGEX = 15
    CODE = 16
    MAX_KEY = 17


KINDS: Final = 18
TYPED: Final = frozenset({Kind.NUMBER, Kind.STRING, Kind.UUID, Kind.OBJECT_ID, Kind.BOOL, Kind.DATE})  # values are kept
SINGLE: Final = frozenset({Kind.MIN_KEY, Kind.MISSING, Kind.NULL, Kind.NAN, Kind.MAX_KEY})  # one value each
EXACT: Final = TYPED | SINGLE  # the code of an entry says its value; of the other kinds it says only the kind

INT64_END = 2.0**63
_KIND_OF: Mapping[type, Kind] = MappingProxyType(
    {
        type(None): Kind.NULL,
        type(MISSING): Kind.MISSING,
        int: Kind.NUMBER,
        str: Kind.STRING,
        dict: Kind.MAP,
        list: Kind.ARRAY,
        bytes: Kind.BINARY,
        uuid.UUID: Kind.UUID,
        ObjectId: Kind.OBJECT_ID,
        bool: Kind.BOOL,
        datetime.datetime: Kind.DATE,
        DatetimeMS: Kind.DATE,
        Decimal128: Kind.DECIMAL,
        Timestamp: Kind.TIMESTAMP,
        Regex: Kind.REGEX,
        MinKey: Kind.MIN_KEY,
        MaxKey: Kind.MAX_KEY,
        Code: Kind.CODE,
        Binary: Kind.BINARY,
    }
)
# First match wins: Code is a str, Binary is bytes.
_BY_CLASS = (
    (Code, Kind.CODE),
    ((bytes, bytearray), Kind.BINARY),
    ((list, tuple), Kind.ARRAY),
    (Mapping, Kind.MAP),
    (re.Pattern, Kind.REGEX),
    (datetime.datetime, Kind.DATE),
    (Decimal, Kind.DECIMAL),
    (ObjectId, Kind.OBJECT_ID),
    (str, Kind.STRING),
    (int, Kind.NUMBER),
)


def kind_of(value: object) -> Kind:
    """The kind of a decoded value (or MISSING). Raises TypeError for what no document holds."""
    kind = _KIND_OF.get(type(value))
    if kind is not None:
        return kind
    if isinstance(value, float):
        return Kind.NAN if value != value else Kind.NUMBER
    found = next((kind for kinds, kind in _BY_CLASS if isinstance(value, kinds)), None)
    if found is None:
        raise TypeError(f"{type(value).__name__} is no document type")
    return found


def number_key(value: float) -> tuple[float, int]:
    """(d, r) of an int within 64 bits or a double that is not NaN."""
    if isinstance(value, float):
        return value + 0.0, 0  # -0.0 + 0.0 is 0.0
    d = _floor(value)
    return d, value - int(d)


def number_between(value: float | Decimal | Decimal128) -> tuple[float, int, int]:
    """Where any number stands among keys: (d, low, high). Keys below it are those below (d, low), keys not above it those
    up to (d, high); it is a key itself exactly when low == high. Takes what is no int64 and no double as well. Never NaN."""
    if type(value) is int and -(2**53) <= value <= 2**53:
        return float(value), 0, 0
    if isinstance(value, Decimal128):
        value = to_decimal(value.bid)
    if isinstance(value, float):
        return value + 0.0, 0, 0
    if isinstance(value, Decimal) and value.is_infinite():
        return math.copysign(math.inf, value), 0, 0
    if isinstance(value, Decimal) and value.adjusted() < -400:
        # Not zero and nearer to it than any double; as a fraction it could have 6,000 digits.
        return (0.0, 0, 0) if not value else (0.0, 1, 0) if value > 0 else (-math.ulp(0.0), 1, 0)
    d = _floor(value)
    if math.isinf(d):  # beyond all finite doubles, yet below infinity
        return (-math.inf, 1, 0) if d < 0 else (d, 0, -1)
    left = Fraction(value) - Fraction(d)
    return d, min(math.ceil(left), 0xFFFF), min(math.floor(left), 0xFFFF - (left > 0xFFFF))


def _floor(value: int | Decimal) -> float:
    """The largest double that is not above value; -inf or inf where the finite ones end."""
    try:
        d = float(value)
    except OverflowError:
        d = math.inf if value > 0 else -math.inf
    if math.isinf(d):
        return d
    return math.nextafter(d, -math.inf) if Fraction(d) > Fraction(value) else d


def number_keys(ints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(d as float64, r as u16) of int64 values."""
    d = ints.astype(np.float64)
    over = d >= INT64_END  # rounded up out of the range of int64, where the comparison below would not hold
    back = np.where(over, 0.0, d).astype(np.int64)
    over |= back > ints
    if over.any():
        d = np.where(over, np.nextafter(d, -np.inf), d)
        back = d.astype(np.int64)
    return d, (ints - back).astype(np.uint16)


def ordered_bits(d: np.ndarray) -> np.ndarray:
    """Doubles as u64 that compare as they do (no NaN, no -0.0)."""
    bits = np.ascontiguousarray(d, np.float64).view(np.uint64)
    sign = (bits >> np.uint64(63)).astype(bool)
    return np.where(sign, ~bits, bits | np.uint64(1 << 63))


def doubles_of(bits: np.ndarray) -> np.ndarray:
    """The reverse of ordered_bits."""
    top = np.uint64(1 << 63)
    return np.where(bits >= top, bits ^ top, ~bits).view(np.float64)
