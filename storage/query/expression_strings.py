"""Expressions on text: $concat to $replaceAll. Pure; regular expressions are expression_matching.py's.

CP operators count code points, Bytes operators bytes of UTF-8. Positions beyond the end give "" or -1, as in MongoDB; a cut inside a code
point is refused.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bson import Code, Decimal128, Timestamp

from ..errors import BadQuery
from ..values.documents import DOCUMENT_BYTES_MAX
from ..values.extensions import milliseconds
from .arithmetic import is_number
from .expression_operands import (
    Compiled,
    Make,
    Scope,
    exactly,
    is_date,
    is_nullish,
    named,
    null_if_nullish,
    positional,
    whole_32,
)
from .paths import MISSING
from .type_names import type_name

# What MongoDB trims by default: Unicode's white space and NUL.
WHITE_SPACE = "\0\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"


def as_text(value: Any) -> str:
    """The text that $toLower, $toUpper, $substr and $strcasecmp see: numbers and dates are written out, null is empty."""
    if type(value) is str:
        return value
    if value is None or value is MISSING:
        return ""
    if is_number(value):
        return number_text(value)
    if is_date(value):
        return date_text(value)
    if isinstance(value, (Code, Timestamp)):
        return str(value)
    raise BadQuery(f"{type_name(value)} cannot be read as text; convert it with $toString where that is possible", code=16007)


def number_text(value: Any) -> str:
    """A number as MongoDB writes it: doubles with their shortest digits, whole ones without a point."""
    if type(value) is int:
        return str(value)
    if type(value) is Decimal128:
        return str(value)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 1e15:
        return "-0" if value == 0 and str(value).startswith("-") else str(int(value))
    return repr(value)


def date_text(value: Any) -> str:
    """ISO 8601 with milliseconds and Z."""
    if not isinstance(value, datetime.datetime):
        raise BadQuery(f"date {milliseconds(value)} ms is outside the years 1 to 9999 and has no text", code=18537)
    return f"{value.year:04}-{value.month:02}-{value.day:02}T{value:%H:%M:%S}.{value.microsecond // 1000:03}Z"


def check_length(size: int) -> None:
    """Raises BadQuery for text that no document could hold."""
    if size > DOCUMENT_BYTES_MAX:
        raise BadQuery(f"an expression would make a value of {size} bytes, the limit is {DOCUMENT_BYTES_MAX}", code=10334)


def _concat(*values: Any) -> Any:
    for value in values:
        if value is None or value is MISSING:
            return None
        if type(value) is not str:
            raise BadQuery(f"$concat takes text, not {type_name(value)}; convert it with $toString", code=16702)
    check_length(sum(map(len, values)))
    return "".join(values)


def _text(name: str, value: Any, code: int) -> str:
    if type(value) is not str:
        raise BadQuery(f"{name} takes text, not {type_name(value)}", code=code)
    return value


def _lower(value: Any) -> str:
    """Only ASCII letters, as MongoDB's."""
    return "".join([char.lower() if char.isascii() else char for char in as_text(value)])


def _upper(value: Any) -> str:
    return "".join([char.upper() if char.isascii() else char for char in as_text(value)])


def _compare_ignoring_case(left: Any, right: Any) -> int:
    one, other = _upper(left), _upper(right)
    return (one > other) - (one < other)


def _substring_bytes(value: Any, start: Any, length: Any) -> str:
    data = as_text(value).encode()
    if not is_number(start):
        raise BadQuery(f"$substrBytes: the start must be a number, not {type_name(start)}", code=16034)
    if not is_number(length):
        raise BadQuery(f"$substrBytes: the length must be a number, not {type_name(length)}", code=16035)
    at, count = _truncated(start), _truncated(length)
    if at < 0:
        raise BadQuery("$substrBytes: the start must not be negative", code=50752)
    end = len(data) if count < 0 else min(len(data), at + count)
    if at < len(data) and data[at] & 0xC0 == 0x80:
        raise BadQuery("$substrBytes: the start lies inside a character; use $substrCP", code=28656)
    if at < end < len(data) and data[end] & 0xC0 == 0x80:
        raise BadQuery("$substrBytes: the end lies inside a character; use $substrCP", code=28657)
    return data[at:end].decode()


def _truncated(number: Any) -> int:
    if type(number) is int:
        return number
    found = float(number.to_decimal()) if type(number) is Decimal128 else number
    return 0 if found != found else int(max(-(2.0**62), min(2.0**62, found)))


def _substring(value: Any, start: Any, length: Any) -> str:
    text = as_text(value)
    places = []
    for number, what, codes in ((start, "start", (34450, 34451, 34455)), (length, "length", (34452, 34453, 34454))):
        if not is_number(number):
            raise BadQuery(f"$substrCP: the {what} must be a number, not {type_name(number)}", code=codes[0])
        place = whole_32(number)
        if place is None:
            raise BadQuery(f"$substrCP: the {what} must be a whole number of 32 bits", code=codes[1])
        if place < 0:
            raise BadQuery(f"$substrCP: the {what} must not be negative", code=codes[2])
        places.append(place)
    at, count = places
    return text[at : at + count]


def _split(value: Any, separator: Any) -> list[str]:
    _text("$split", value, 40085)
    _text("$split: the separator", separator, 40086)
    if not separator:
        raise BadQuery("$split: the separator must not be empty", code=40087)
    return value.split(separator)


def _trim(strip: Callable[[str, str], str]) -> Make:
    def make(name: str, argument: Any, scope: Scope) -> Compiled:
        parts = named(
            name, argument, scope, required=("input",), optional=("chars",), code=50696, unknown_code=50694, missing_code=50695
        )
        source, chars = parts["input"], parts.get("chars")

        def evaluate(root: dict, variables: dict) -> Any:
            text = source(root, variables)
            if is_nullish(text):
                return None
            _text(f"{name}: input", text, 50699)
            if chars is None:
                return strip(text, WHITE_SPACE)
            cut = chars(root, variables)
            if is_nullish(cut):
                return None
            return strip(text, _text(f"{name}: chars", cut, 50700))

        return evaluate

    return make


def _index_of(name: str, codes: tuple[int, int], *, by_bytes: bool) -> Make:
    def apply(value: Any, wanted: Any, start: Any = 0, end: Any = None) -> Any:
        if is_nullish(value):
            return None
        _text(name, value, codes[0])
        _text(f"{name}: what is looked for", wanted, codes[1])
        text, part = (value.encode(), wanted.encode()) if by_bytes else (value, wanted)
        first = _index(name, start)
        last = len(text) if end is None else min(_index(name, end), len(text))
        return text.find(part, first, last) if first <= last else -1

    return positional(apply, 2, 4)


def _index(name: str, value: Any) -> int:
    found = whole_32(value) if is_number(value) else None
    if found is None:
        raise BadQuery(f"{name}: a position must be a whole number of 32 bits, not {type_name(value)}", code=40096)
    if found < 0:
        raise BadQuery(f"{name}: a position must not be negative", code=40097)
    return found


def _replacing(count: int) -> Make:
    keys = (("input", 51749, 51746), ("find", 51748, 51745), ("replacement", 51747, 51744))

    def make(name: str, argument: Any, scope: Scope) -> Compiled:
        for key, code, _ in keys:
            if isinstance(argument, Mapping) and key not in argument:
                raise BadQuery(f"{name} needs the argument {key!r}", code=code)
        parts = named(name, argument, scope, required=[key for key, _, _ in keys], code=51751, unknown_code=51750)
        compiled = [(key, parts[key], code) for key, _, code in keys]

        def evaluate(root: dict, variables: dict) -> Any:
            values = []
            for key, part, code in compiled:
                value = part(root, variables)
                if not is_nullish(value):
                    _text(f"{name}: {key}", value, code)
                values.append(value)
            if any(map(is_nullish, values)):
                return None
            text, wanted, new = values
            if count < 0:
                check_length(len(text) + (text.count(wanted) if wanted else len(text) + 1) * len(new))
            return text.replace(wanted, new, count)

        return evaluate

    return make


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$concat": positional(_concat, 0),
        "$toLower": exactly(1, _lower),
        "$toUpper": exactly(1, _upper),
        "$strcasecmp": exactly(2, _compare_ignoring_case),
        "$substr": exactly(3, _substring_bytes),
        "$substrBytes": exactly(3, _substring_bytes),
        "$substrCP": exactly(3, _substring),
        "$strLenBytes": exactly(1, lambda value: len(_text("$strLenBytes", value, 34473).encode())),
        "$strLenCP": exactly(1, lambda value: len(_text("$strLenCP", value, 34471))),
        "$split": exactly(2, null_if_nullish(_split)),
        "$trim": _trim(str.strip),
        "$ltrim": _trim(str.lstrip),
        "$rtrim": _trim(str.rstrip),
        "$indexOfBytes": _index_of("$indexOfBytes", (40091, 40092), by_bytes=True),
        "$indexOfCP": _index_of("$indexOfCP", (40093, 40094), by_bytes=False),
        "$replaceOne": _replacing(1),
        "$replaceAll": _replacing(-1),
    }
)
