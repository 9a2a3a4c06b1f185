"""Expressions on types: $type $isNumber $convert and its short forms ($toInt, $toString, ...). Pure.

What cannot be converted is refused with code 241, or gives onError. null and missing give null, or onNull. Integers have 64 bits here: to "int"
only checks that 32 bits hold the result.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bson import Decimal128, ObjectId, Timestamp

from ..errors import BadQuery
from ..values.extensions import INT64_MAX, INT64_MIN, milliseconds, moment
from .arithmetic import as_decimal, is_number, whole_number
from .dates_as_text import parse_date
from .expression_operands import Compiled, Constant, Make, Scope, exactly, is_date, is_nullish, is_true, named
from .expression_strings import date_text, number_text
from .numbers import DECIMAL, as_float
from .type_names import type_name

CONVERSION_FAILED = 241
_INTEGER_TEXT = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_NUMBER_TEXT = re.compile(r"[+-]?(?:inf(?:inity)?|nan|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.ASCII | re.IGNORECASE)
_HEX_24 = re.compile(r"[0-9a-fA-F]{24}", re.ASCII)
_CODES: Mapping[int, str] = MappingProxyType(
    {1: "double", 2: "string", 7: "objectId", 8: "bool", 9: "date", 16: "int", 18: "long", 19: "decimal"}
)


def _failed(value: Any, target: str, why: str = "") -> BadQuery:
    reason = f": {why}" if why else ""
    return BadQuery(f"{type_name(value)} cannot be converted to {target}{reason}; give $convert an onError", code=CONVERSION_FAILED)


def _to_double(value: Any) -> float:
    if is_number(value):
        found = as_float(value)
        if math.isinf(found) and as_decimal(value).is_finite():
            raise _failed(value, "double", "it is out of range")
        return found
    if type(value) is bool:
        return float(value)
    if is_date(value):
        return float(milliseconds(value))
    if type(value) is str and _NUMBER_TEXT.fullmatch(value):
        found = float(value)
        if math.isinf(found) and "inf" not in value.lower():
            raise _failed(value, "double", "it is out of range")
        return found
    raise _failed(value, "double", "the text is no number" if type(value) is str else "")


def _to_decimal(value: Any) -> Decimal128:
    if type(value) is Decimal128:
        return value
    if is_number(value):
        return Decimal128(as_decimal(value))
    if type(value) is bool:
        return Decimal128("1" if value else "0")
    if is_date(value):
        return Decimal128(str(milliseconds(value)))
    if type(value) is str and _NUMBER_TEXT.fullmatch(value):
        try:
            found = Decimal128(DECIMAL.create_decimal(value))
        except (decimal.DecimalException, ValueError):
            raise _failed(value, "decimal", "it is out of range") from None
        if found.to_decimal().is_infinite() and "inf" not in value.lower():
            raise _failed(value, "decimal", "it is out of range")
        return found
    raise _failed(value, "decimal", "the text is no number" if type(value) is str else "")


def _to_whole(value: Any, target: str, least: int, most: int) -> int:
    if type(value) is str and _INTEGER_TEXT.fullmatch(value) or type(value) is bool:
        found = int(value)
    elif is_number(value):
        number = as_decimal(value) if type(value) is Decimal128 else value
        if type(number) is not int and (number != number or number in (math.inf, -math.inf)):
            raise _failed(value, target, "it is not finite")
        if type(number) is decimal.Decimal and number.adjusted() > 40:
            raise _failed(value, target, "it is out of range")
        found = int(number)
    else:
        raise _failed(value, target, "the text is no whole number" if type(value) is str else "")
    if not least <= found <= most:
        raise _failed(value, target, "it is out of range")
    return found


def _to_int(value: Any) -> int:
    return _to_whole(value, "int", -(2**31), 2**31 - 1)


def _to_long(value: Any) -> int:
    return milliseconds(value) if is_date(value) else _to_whole(value, "long", INT64_MIN, INT64_MAX)


def _to_text(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if is_number(value):
        return number_text(value)
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, datetime.datetime):
        return date_text(value)
    raise _failed(value, "string")


def _to_bool(value: Any) -> bool:
    if is_number(value) or type(value) is bool:
        return is_true(value)
    if type(value) is str or is_date(value) or isinstance(value, ObjectId):
        return True
    raise _failed(value, "bool")


def _to_date(value: Any) -> Any:
    if is_date(value):
        return value
    if isinstance(value, ObjectId):
        return moment(int.from_bytes(value.binary[:4], "big") * 1000)
    if isinstance(value, Timestamp):
        return moment(value.time * 1000)
    if is_number(value):
        return moment(_to_whole(value, "date", INT64_MIN, INT64_MAX))
    if type(value) is str:
        found = parse_date(value)
        if found is not None:
            return found
        raise _failed(value, "date", f"{value[:40]!r} is no ISO 8601 date")
    raise _failed(value, "date")


def _to_object_id(value: Any) -> ObjectId:
    if isinstance(value, ObjectId):
        return value
    if type(value) is str and _HEX_24.fullmatch(value):
        return ObjectId(value)
    raise _failed(value, "objectId", "the text must be 24 hexadecimal digits" if type(value) is str else "")


_TO: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "double": _to_double,
        "string": _to_text,
        "objectId": _to_object_id,
        "bool": _to_bool,
        "date": _to_date,
        "int": _to_int,
        "long": _to_long,
        "decimal": _to_decimal,
    }
)


def _target(to: Any) -> Callable[[Any], Any] | None:
    if is_nullish(to):
        return None
    code = whole_number(to) if is_number(to) else None
    found = _TO.get(to) if type(to) is str else _TO.get(_CODES.get(code, ""))
    if found is None:
        raise BadQuery(f"$convert: there is no type {to!r:.40} to convert to; there are {', '.join(_TO)}", code=2)
    return found


def _convert(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(name, argument, scope, required=("input", "to"), optional=("onError", "onNull"), code=9)
    source, to = parts["input"], parts["to"]
    on_error, on_null = parts.get("onError"), parts.get("onNull", Constant(None))
    fixed = _target(to.value) if isinstance(to, Constant) else None

    def evaluate(root: dict, variables: dict) -> Any:
        value = source(root, variables)
        convert = fixed or _target(to(root, variables))
        if is_nullish(value):
            return on_null(root, variables)
        if convert is None:
            return None
        if on_error is None:
            return convert(value)
        try:
            return convert(value)
        except BadQuery as refused:
            if refused.code not in (CONVERSION_FAILED, 18537):
                raise
            return on_error(root, variables)

    return evaluate


def _short(convert: Callable[[Any], Any]) -> Make:
    return exactly(1, lambda value: None if is_nullish(value) else convert(value))


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$type": exactly(1, type_name),
        "$isNumber": exactly(1, is_number),
        "$convert": _convert,
        "$toDouble": _short(_to_double),
        "$toString": _short(_to_text),
        "$toObjectId": _short(_to_object_id),
        "$toBool": _short(_to_bool),
        "$toDate": _short(_to_date),
        "$toInt": _short(_to_int),
        "$toLong": _short(_to_long),
        "$toDecimal": _short(_to_decimal),
    }
)
