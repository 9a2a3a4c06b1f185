"""MongoDB Extended JSON: one document to text and back. Pure.

Reads version 2, relaxed and canonical, and the shapes older exports wrote:

    {"$oid": "24 hex digits"}         {"$numberLong": "1"}, {"$numberInt": "1"}      {"$binary": "base64", "$type": "00"}
    {"$date": "2009-04-01T00:00:00.000-0700"} or {"$date": 1238569200000}            {"$regex": "^a", "$options": "i"}
    {"$timestamp": {"t": 1, "i": 1}}  {"$undefined": true} (null)   {"$symbol": "x"} (text)   {"$ref": .., "$id": ..} (a map)

Writes version 2. Text read back gives the same document, except that a document may hold a map that looks like one of
these shapes ({"$oid": "..."} as a map): Extended JSON cannot tell the two apart. Dates keep their milliseconds exactly
(bson.json_util goes through a float there, and so is not used).

Refused, with the reason: bare NaN and Infinity (no JSON), numbers beyond 64 bits or a double's range, keys that stand
twice, text that is not UTF-8, nesting deeper than documents may have, a known shape with a wrong or an extra part.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from ..errors import BadDocument
from ..values.decimals import to_decimal
from ..values.documents import DEPTH_MAX, decode_value, encode_value
from ..values.extensions import INT64_MAX, INT64_MIN, milliseconds, moment, regex_parts

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_UINT32_MAX = 2**32 - 1
_ISO_DATE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:Z|([+-])(\d\d)(?::?(\d\d))?)?", re.ASCII
)
_DOUBLE_TEXT = re.compile(r"[+-]?(?:Infinity|NaN|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1)
_OPTION_LETTERS = frozenset("ilmsux")
_OLD_SUBTYPE_DIGITS = 8  # old exports wrote the subtype as a negative 32-bit number: ffffff80


def parse_line(text: str | bytes) -> dict[str, Any]:
    """The document of one piece of Extended JSON. Raises BadDocument with the reason."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as cause:
            raise BadDocument(f"text must be UTF-8: byte {cause.start} is {cause.object[cause.start]:#04x}") from None
    try:
        found = _decoder.decode(text)
    except json.JSONDecodeError as cause:
        raise BadDocument(f"not JSON: {cause.msg} at character {cause.pos}") from None
    except RecursionError:
        raise BadDocument(f"maps and arrays nest deeper than {DEPTH_MAX}") from None
    if type(found) is not dict:
        raise BadDocument(f"a document must be a map, not {type(found).__name__}")
    if text.count("{") + text.count("[") > DEPTH_MAX or "\\ud" in text or "\\uD" in text:
        encode_value(found)  # too deep or a lone surrogate: raises BadDocument with the path
    return found


def to_json(doc: Mapping[str, Any], *, canonical: bool = False) -> str:
    """One line of Extended JSON version 2, without a line end. Raises BadDocument for what cannot be stored either."""
    try:
        plain = _plain(doc, canonical=canonical)
    except RecursionError:
        raise BadDocument(f"maps and arrays nest deeper than {DEPTH_MAX}") from None
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


# Reading.


def _integer(text: str) -> int:
    # 19 digits and a sign; longer ones are refused before Python would spend quadratic time on them.
    value = int(text) if len(text) <= 20 else INT64_MAX + 1
    if not INT64_MIN <= value <= INT64_MAX:
        raise BadDocument(f"integer {text[:24]} does not fit 64 bits: write it as $numberDecimal or as text")
    return value


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadDocument(f"number {text[:24]} is beyond a double: write it as $numberDecimal")
    return value


def _constant(text: str) -> float:
    raise BadDocument(f'{text} is not JSON: write {{"$numberDouble": "{text}"}}')


def _map(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise BadDocument(f"key {twice!r} stands twice in one map")
    if _NAMES.isdisjoint(found):
        return found
    name = next(key for key in found if key in _NAMES)
    try:
        return _READERS[name](found)
    except (ValueError, TypeError, ArithmeticError, KeyError):
        raise BadDocument(f"{name} is malformed: {_shown(found)}") from None


def _shown(found: dict) -> str:
    text = repr(found)
    return text if len(text) <= 120 else text[:117] + "..."


def _only(found: dict, *names: str) -> Any:
    """The value under the first name; no key may stand beside the names."""
    if not found.keys() <= set(names):
        raise ValueError
    return found[names[0]]


def _parts(value: Any, *names: str) -> dict:
    """A map with exactly these keys."""
    if type(value) is not dict or value.keys() != set(names):
        raise ValueError
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _object_id(found: dict) -> ObjectId:
    text = _text(_only(found, "$oid"))
    data = bytes.fromhex(text)
    if len(text) != 24 or len(data) != 12:
        raise ValueError
    return ObjectId(data)


def _date(found: dict) -> Any:
    value = _only(found, "$date")
    if type(value) is int:
        return moment(value)
    match = _ISO_DATE.fullmatch(_text(value))
    if match is None:
        raise ValueError
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups()
    local = datetime.datetime(*map(int, (year, month, day, hour, minute, second or "0")))
    ms = (local - _EPOCH) // datetime.timedelta(milliseconds=1) + int((fraction or "").ljust(3, "0")[:3])
    zone_ms = (int(zone_hours or 0) * 60 + int(zone_minutes or 0)) * 60_000
    return moment(ms + zone_ms if sign == "-" else ms - zone_ms)


def _binary(found: dict) -> Any:
    value = _only(found, "$binary", "$type")
    if isinstance(value, dict):
        if "$type" in found:
            raise ValueError
        _parts(value, "base64", "subType")
        encoded, subtype = _text(value["base64"]), _text(value["subType"])
        if not 1 <= len(subtype) <= 2:
            raise ValueError
    else:
        encoded, subtype = _text(value), found["$type"]
    if type(subtype) is not int:
        subtype = int(subtype[-2:] if len(_text(subtype)) == _OLD_SUBTYPE_DIGITS else subtype, 16)
    return _of_subtype(base64.b64decode(encoded, validate=True), subtype)


def _of_subtype(data: bytes, subtype: int) -> Any:
    if subtype == 0:
        return data
    if subtype == 4 and len(data) == 16:
        return uuid.UUID(bytes=data)
    if not 0 < subtype <= 255:
        raise ValueError
    return Binary(data, subtype)


def _timestamp(found: dict) -> Timestamp:
    value = _parts(_only(found, "$timestamp"), "t", "i")
    if not all(type(part) is int and 0 <= part <= _UINT32_MAX for part in value.values()):
        raise ValueError
    return Timestamp(value["t"], value["i"])


def _regex(found: dict) -> Any:
    pattern = found["$regex"]
    if type(pattern) is not str or not found.keys() <= {"$regex", "$options"}:
        return found  # a stored query with the operator $regex, not an old export's regular expression
    return _regex_of(pattern, found.get("$options", ""))


def _regular_expression(found: dict) -> Regex:
    value = _parts(_only(found, "$regularExpression"), "pattern", "options")
    return _regex_of(_text(value["pattern"]), value["options"])


def _regex_of(pattern: str, options: Any) -> Regex:
    if not _OPTION_LETTERS.issuperset(_text(options)) or "\0" in pattern:
        raise ValueError
    return Regex(pattern, options)


def _code(found: dict) -> Code:
    if "$scope" in found:
        raise BadDocument("code with a $scope cannot be stored: store the scope as a field of its own")
    return Code(_text(_only(found, "$code")))


def _long(found: dict, name: str) -> int:
    value = _only(found, name)
    if type(value) is int:
        return value
    if re.fullmatch(r"[+-]?\d+", _text(value), re.ASCII) is None:
        raise ValueError
    return _integer(value)


def _number_double(found: dict) -> float:
    value = _only(found, "$numberDouble")
    if type(value) in (int, float):
        return float(value)
    if _DOUBLE_TEXT.fullmatch(_text(value)) is None:
        raise ValueError
    return float(value) if value[-1] in "yN" else _double(value)


def _undefined(found: dict) -> None:
    _only(found, "$undefined")


def _key_mark(found: dict, name: str, made: Callable[[], Any]) -> Any:
    if _only(found, name) != 1:
        raise ValueError
    return made()


def _pointer(found: dict) -> dict:
    return _parts(_only(found, "$dbPointer"), "$ref", "$id")


_READERS: Mapping[str, Callable[[dict], Any]] = MappingProxyType(
    {
        "$oid": _object_id,
        "$date": _date,
        "$binary": _binary,
        "$uuid": lambda found: uuid.UUID(_text(_only(found, "$uuid"))),
        "$timestamp": _timestamp,
        "$regex": _regex,
        "$regularExpression": _regular_expression,
        "$code": _code,
        "$numberInt": lambda found: _long(found, "$numberInt"),
        "$numberLong": lambda found: _long(found, "$numberLong"),
        "$numberDouble": _number_double,
        "$numberDecimal": lambda found: Decimal128(_text(_only(found, "$numberDecimal"))),
        "$minKey": lambda found: _key_mark(found, "$minKey", MinKey),
        "$maxKey": lambda found: _key_mark(found, "$maxKey", MaxKey),
        "$undefined": _undefined,
        "$symbol": lambda found: _text(_only(found, "$symbol")),
        "$dbPointer": _pointer,
    }
)
_NAMES = frozenset(_READERS)
_decoder = json.JSONDecoder(
    object_pairs_hook=_map, parse_int=_integer, parse_float=_double, parse_constant=_constant
)


# Writing.


def _plain(value: Any, *, canonical: bool) -> Any:
    """What json.dumps writes as Extended JSON."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if not canonical and INT64_MIN <= value <= INT64_MAX:
            return value
        return _plain_integer(value)
    if kind is float:
        return value if not canonical and math.isfinite(value) else {"$numberDouble": _double_text(value)}
    if kind is dict:
        return {key: _plain(child, canonical=canonical) for key, child in value.items()}
    if kind is list:
        return [_plain(child, canonical=canonical) for child in value]
    if kind is datetime.datetime and value.tzinfo is None:
        return _plain_date(value, canonical=canonical)
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value)
    return _plain(decode_value(encode_value(value)), canonical=canonical)


def _plain_integer(value: int) -> dict:
    if _INT32_MIN <= value <= _INT32_MAX:
        return {"$numberInt": str(value)}
    if INT64_MIN <= value <= INT64_MAX:
        return {"$numberLong": str(value)}
    raise BadDocument("integers must fit 64 bits with sign: store larger ones as Decimal128 or text")


def _double_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _plain_date(value: datetime.datetime, *, canonical: bool) -> dict:
    if canonical or value < _EPOCH:
        return {"$date": {"$numberLong": str(milliseconds(value))}}
    return {"$date": value.isoformat(timespec="milliseconds" if value.microsecond else "seconds") + "Z"}


def _plain_binary(data: bytes, subtype: int) -> dict:
    return {"$binary": {"base64": binascii.b2a_base64(data, newline=False).decode("ascii"), "subType": f"{subtype:02x}"}}


def _plain_regex(value: Regex) -> dict:
    pattern, options = regex_parts(value)
    return {"$regularExpression": {"pattern": pattern, "options": options}}


def _plain_code(value: Code) -> dict:
    if value.scope is not None:
        raise BadDocument("bson.Code with a scope cannot be stored")
    return {"$code": str(value)}


_WRITERS: Mapping[type, Callable[[Any], dict]] = MappingProxyType(
    {
        ObjectId: lambda v: {"$oid": str(v)},
        DatetimeMS: lambda v: {"$date": {"$numberLong": str(int(v))}},
        bytes: lambda v: _plain_binary(v, 0),
        Binary: lambda v: _plain_binary(v, v.subtype),
        uuid.UUID: lambda v: _plain_binary(v.bytes, 4),
        Decimal128: lambda v: {"$numberDecimal": str(to_decimal(v.bid))},
        Timestamp: lambda v: {"$timestamp": {"t": v.time, "i": v.inc}},
        Regex: _plain_regex,
        Code: _plain_code,
        MinKey: lambda _: {"$minKey": 1},
        MaxKey: lambda _: {"$maxKey": 1},
    }
)
