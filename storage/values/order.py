"""Which value comes first, and which are equal, across all types: MongoDB's order. Pure.

    rank  type             compared by
    0     MinKey           (all equal)
    10    null, missing    (all equal)
    20    int, double,     exact value, whatever the type: NaN first and equal to itself, -0 = 0, 2^53 + 1 > 2.0^53
          Decimal128
    30    text             UTF-8 bytes, which is the order of code points
    40    map              field by field: type, then name, then value; then the shorter one first. Order of keys matters
    50    array            element by element; then the shorter one first
    60    binary, UUID     length, subtype, bytes
    70    ObjectId         bytes
    80    bool             false first
    90    date             milliseconds
    100   timestamp        time, then increment
    110   regex            pattern, then options
    120   code             UTF-8 bytes
    127   MaxKey           (all equal)

A sort key is a tuple that starts with the rank, so that two payloads only meet when their types compare. It can be
hashed, and equal values have equal hashes (Python hashes 1, 1.0 and Decimal("1") alike).
"""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from ..errors import BadDocument
from .decimals import to_decimal
from .extensions import milliseconds, regex_parts

RANK_MIN_KEY = 0
RANK_EMPTY_ARRAY = 5  # where a sort puts a field that holds an empty array: before null
RANK_NULL = 10
RANK_NUMBER = 20
RANK_TEXT = 30
RANK_MAP = 40
RANK_ARRAY = 50
RANK_MAX_KEY = 127
NULL_KEY = (RANK_NULL,)
NAN_KEY = (RANK_NUMBER, 0)
SortKey = tuple[Any, ...]


def sort_key(value: object) -> SortKey:
    """A key that compares with the key of any other value. Raises BadDocument for what cannot be stored."""
    make = _BY_TYPE.get(type(value))
    if make is None:
        make = next((found for kind, found in _BY_KIND if isinstance(value, kind)), None)
        if make is None:
            raise BadDocument(f"{type(value).__module__}.{type(value).__qualname__} is no document type: it has no order")
    return make(value)


def equal(a: object, b: object) -> bool:
    """MongoDB's equality: numbers by value, maps with their key order, NaN equal to NaN."""
    return sort_key(a) == sort_key(b)


def _number(value: float | decimal.Decimal) -> SortKey:
    return (RANK_NUMBER, 1, value) if value == value else NAN_KEY


def _decimal(value: decimal.Decimal) -> SortKey:
    return NAN_KEY if value.is_nan() else (RANK_NUMBER, 1, value)


def _map(value: Mapping[str, Any]) -> SortKey:
    fields = []
    for name, child in value.items():
        key = sort_key(child)
        fields.append((key[0], name, key))
    return (RANK_MAP, tuple(fields))


def _array(value: list | tuple) -> SortKey:
    return (RANK_ARRAY, tuple([sort_key(child) for child in value]))


def _binary(value: bytes) -> SortKey:
    subtype = value.subtype if isinstance(value, Binary) else 0
    return (60, len(value), subtype, bytes(value))


def _regex(value: Regex | re.Pattern) -> SortKey:
    return (110, *regex_parts(value))


_BY_TYPE: Mapping[type, Callable[[Any], SortKey]] = MappingProxyType(
    {
        type(None): lambda _: NULL_KEY,
        int: lambda v: (RANK_NUMBER, 1, v),
        float: _number,
        str: lambda v: (RANK_TEXT, v),
        dict: _map,
        list: _array,
        bytes: _binary,
        ObjectId: lambda v: (70, v.binary),
        bool: lambda v: (80, v),
        datetime.datetime: lambda v: (90, milliseconds(v)),
    }
)
# First match wins: Code is a str, bool is an int and Binary is bytes.
_BY_KIND = (
    (Code, lambda v: (120, str(v))),
    (uuid.UUID, lambda v: (60, 16, 4, v.bytes)),
    (Decimal128, lambda v: _decimal(to_decimal(v.bid))),
    (decimal.Decimal, _decimal),
    (Timestamp, lambda v: (100, v.time, v.inc)),
    ((Regex, re.Pattern), _regex),
    (MinKey, lambda _: (RANK_MIN_KEY,)),
    (MaxKey, lambda _: (RANK_MAX_KEY,)),
    ((datetime.datetime, DatetimeMS), lambda v: (90, milliseconds(v))),
    (ObjectId, lambda v: (70, v.binary)),
    ((bytes, bytearray), _binary),
    (str, lambda v: (RANK_TEXT, str.__str__(v))),
    (int, lambda v: (RANK_NUMBER, 1, int(v))),
    (float, lambda v: _number(float(v))),
    ((list, tuple), _array),
    (Mapping, _map),
)
