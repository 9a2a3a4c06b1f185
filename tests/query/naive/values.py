"""Values: their types by MongoDB's names, their order and their equality. Pure; written from the manual's page on comparison order.

    MinKey < missing < null < numbers < text < maps < arrays < binary < ObjectId < booleans < dates < timestamps < regexes < code < MaxKey
"""

from __future__ import annotations

import datetime
import math
import re
import uuid
from decimal import Decimal

from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS


class Refused(Exception):
    """What was asked for is not in the language; code is MongoDB's number, None where it is not certain. is_spared: an evaluator
    that works out less than this one may answer."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.is_spared = False


class Missing:
    """The value of a field that is not there."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()
EPOCH = datetime.datetime(1970, 1, 1)
INT32 = range(-(2**31), 2**31)
INT64 = range(-(2**63), 2**63)

# name, number, rank in the order between types
TYPES = {
    "minKey": (-1, -1),
    "missing": (None, 0),
    "null": (10, 5),
    "double": (1, 10),
    "int": (16, 10),
    "long": (18, 10),
    "decimal": (19, 10),
    "string": (2, 15),
    "object": (3, 20),
    "array": (4, 25),
    "binData": (5, 30),
    "objectId": (7, 35),
    "bool": (8, 40),
    "date": (9, 45),
    "timestamp": (17, 47),
    "regex": (11, 50),
    "javascript": (13, 60),
    "maxKey": (127, 127),
}
OTHER_TYPE_NAMES = {"undefined": 6, "dbPointer": 12, "symbol": 14, "javascriptWithScope": 15}
NUMBERS = {"double", "int", "long", "decimal"}


def type_name(value: object) -> str:
    """MongoDB's name of a value's type. An int is an "int" when 32 bits hold it, else a "long"."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in INT32 else "long"
    if isinstance(value, Code):
        return "javascript"
    by_class = (
        (Missing, "missing"),
        (type(None), "null"),
        (float, "double"),
        (Decimal128, "decimal"),
        (str, "string"),
        (dict, "object"),
        (list, "array"),
        ((bytes, uuid.UUID), "binData"),
        (ObjectId, "objectId"),
        ((datetime.datetime, DatetimeMS), "date"),
        (Timestamp, "timestamp"),
        ((Regex, re.Pattern), "regex"),
        (MinKey, "minKey"),
        (MaxKey, "maxKey"),
    )
    for cls, name in by_class:
        if isinstance(value, cls):
            return name
    raise TypeError(f"{value!r} is no document value")


def rank(value: object) -> int:
    return TYPES[type_name(value)][1]


def is_number(value: object) -> bool:
    return type_name(value) in NUMBERS


def is_nan(value: object) -> bool:
    if isinstance(value, Decimal128):
        return value.to_decimal().is_nan()
    return isinstance(value, float) and math.isnan(value)


def exact(number: int | float | Decimal128) -> int | float | Decimal:
    return number.to_decimal() if isinstance(number, Decimal128) else number


def milliseconds(date: datetime.datetime | DatetimeMS) -> int:
    if isinstance(date, DatetimeMS):
        return int(date)
    return (date - EPOCH) // datetime.timedelta(milliseconds=1)


def regex_parts(regex: Regex | re.Pattern) -> tuple[str, str]:
    """A regex's pattern and its option letters."""
    letters = ((re.I, "i"), (re.L, "l"), (re.M, "m"), (re.S, "s"), (re.U, "u"), (re.X, "x"))
    flags = regex.flags & ~re.U if isinstance(regex, re.Pattern) else regex.flags
    return regex.pattern, "".join(letter for flag, letter in letters if flags & flag)


def three_way(a: object, b: object) -> int:
    return (a > b) - (a < b)


def compare(a: object, b: object) -> int:
    """-1, 0 or 1: the order over all types, in which NaN is equal to itself and below all numbers."""
    if rank(a) != rank(b):
        return three_way(rank(a), rank(b))
    name = type_name(a)
    if name in NUMBERS:
        if is_nan(a) or is_nan(b):
            return three_way(not is_nan(a), not is_nan(b))
        return three_way(exact(a), exact(b))
    if name == "object":
        return compare_pairs(list(a.items()), list(b.items()))
    if name == "array":
        return compare_pairs([("", item) for item in a], [("", item) for item in b])
    return three_way(scalar_key(a, name), scalar_key(b, name))


def compare_pairs(a: list[tuple[str, object]], b: list[tuple[str, object]]) -> int:
    """Field by field: the type first, then the name, then the value; the shorter one is less."""
    for (name_a, value_a), (name_b, value_b) in zip(a, b, strict=False):
        for difference in (
            three_way(rank(value_a), rank(value_b)),
            three_way(name_a.encode(), name_b.encode()),
            compare(value_a, value_b),
        ):
            if difference:
                return difference
    return three_way(len(a), len(b))


def scalar_key(value: object, name: str) -> object:
    if name in ("string", "javascript"):
        return str(value).encode("utf-8", "surrogatepass")
    if name == "binData":
        data = value.bytes if isinstance(value, uuid.UUID) else bytes(value)
        subtype = 4 if isinstance(value, uuid.UUID) else value.subtype if isinstance(value, Binary) else 0
        return len(data), subtype, data
    if name == "objectId":
        return value.binary
    if name == "date":
        return milliseconds(value)
    if name == "timestamp":
        return value.time, value.inc
    if name == "regex":
        return regex_parts(value)
    return value if name == "bool" else 0  # null, missing and the two keys are equal to themselves


def equal(a: object, b: object) -> bool:
    return compare(a, b) == 0
