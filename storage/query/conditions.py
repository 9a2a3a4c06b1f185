"""Conditions on one field: {operator: argument, ...} to nodes of a filter's tree. Pure; sees no document.

    literal                     equality; a regular expression is searched for instead
    {"$op": argument, ...}      all must hold
    operators                   $eq $ne $gt $gte $lt $lte $in $nin $exists $type $regex $options $mod $all $size
                                $elemMatch $not $bitsAllSet $bitsAllClear $bitsAnySet $bitsAnyClear

A map whose first key begins with "$" holds operators (but `$ref`, `$id` and `$db` begin a reference, a plain value).
Every argument is checked here, so that the rest can trust it. Codes are MongoDB's. Everything unknown raises BadQuery
with its name; what MongoDB has and this does not (`$near`, `$geoWithin`, ...) is refused as such.

The filter inside an `$elemMatch` is read by the function that `Reader` carries: "filters" reads documents.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bson import Binary, Decimal128, Regex

from ..errors import BadDocument, BadQuery
from ..values.extensions import regex_parts
from ..values.order import sort_key
from .paths import parsed_path
from .regex import Matcher, compile_regex
from .tree import NEVER, Elements, Node, Test, all_of, any_of, negated
from .value_tests import integral, key_of

DEPTH_MAX = 100  # of operators inside each other, and of $and, $or, $nor and $elemMatch
BIT_POSITION_MAX = 2**19 - 1
FAILED_TO_PARSE, TYPE_MISMATCH = 9, 14
OPTIONS_TWICE = 51075

COMPARISONS = frozenset(("$eq", "$gt", "$gte", "$lt", "$lte"))
BITS = frozenset(("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"))
ABSENT_OPERATORS = frozenset(
    ("$near", "$nearSphere", "$geoWithin", "$geoIntersects", "$within", "$geoNear", "$maxDistance", "$minDistance")
)
LOGICAL = frozenset(("$and", "$or", "$nor", "$where"))  # these begin a filter inside an $elemMatch, not operators
REFERENCE_KEYS = frozenset(("$ref", "$id", "$db"))
_PLAIN = frozenset((int, float, str, bool, type(None)))  # values that are nothing else, whatever they are
_TYPE_CODES = {
    -1: "minKey", 1: "double", 2: "string", 3: "object", 4: "array", 5: "binData", 6: "undefined", 7: "objectId",
    8: "bool", 9: "date", 10: "null", 11: "regex", 12: "dbPointer", 13: "javascript", 14: "symbol",
    15: "javascriptWithScope", 16: "int", 17: "timestamp", 18: "long", 19: "decimal", 127: "maxKey",
}  # fmt: skip
_TYPE_NAMES = frozenset(_TYPE_CODES.values())
_NUMBER_TYPES = frozenset(("int", "long", "double", "decimal"))


class Reader(NamedTuple):
    """Where a condition stands: the field's name for messages, the path its Tests get, how deep, and who reads filters."""

    field: str
    path: str | None  # None: the element of an $elemMatch
    depth: int
    read_filter: Callable[[Any, int], Node]  # (filter document, depth) -> tree, inside an $elemMatch

    def deeper(self) -> Reader:
        if self.depth >= DEPTH_MAX:
            raise too_deep()
        return self._replace(depth=self.depth + 1)

    def error(self, message: str, **fields: Any) -> BadQuery:
        return BadQuery(f"field {self.field!r}: {message}", **fields)


def too_deep() -> BadQuery:
    return BadQuery(f"the filter nests deeper than {DEPTH_MAX}")


def read_condition(reader: Reader, condition: Any) -> Node:
    """What a filter asks of one field."""
    if reader.path is not None:
        parsed_path(reader.path)  # for its rules
    if is_regex(condition):
        return Test(reader.path, "$regex", _matcher(reader, condition, ""))
    if not holds_operators(condition):
        key_of(condition)
        return Test(reader.path, "$eq", condition)
    return read_operators(reader, condition)


def read_operators(reader: Reader, condition: Mapping[str, Any]) -> Node:
    parts = [_operator(reader, name, argument, condition) for name, argument in condition.items()]
    return all_of([part for part in parts if part is not None])


def holds_operators(condition: Any) -> bool:
    if not isinstance(condition, Mapping):
        return False
    first = next(iter(condition), "")
    return isinstance(first, str) and first.startswith("$") and first not in REFERENCE_KEYS


def is_regex(value: Any) -> bool:
    return isinstance(value, (Regex, re.Pattern))


def is_true(argument: Any) -> bool:
    """As MongoDB reads flags: everything is true but false, null and zero."""
    return argument is not None and argument is not False and key_of(argument) != sort_key(0)


def _operator(reader: Reader, name: Any, argument: Any, condition: Mapping[str, Any]) -> Node | None:
    """The node of one operator; None for `$options`, which `$regex` reads."""
    read = _READERS.get(name)
    if read is not None:
        return read(reader, name, argument)
    if name == "$regex":
        return Test(reader.path, "$regex", _matcher(reader, argument, condition.get("$options", "")))
    if name == "$options":
        if "$regex" not in condition:
            raise reader.error("$options needs a $regex beside it")
        return None
    if name in ABSENT_OPERATORS:
        raise reader.error(f"{name} is not there: Twinlog has no geospatial queries", operator=name)
    raise reader.error(f"unknown operator {name}", operator=str(name))


def _comparison(reader: Reader, name: str, argument: Any) -> Node:
    if name != "$eq":
        _refuse_regex(reader, name, argument)
    key_of(argument)
    return Test(reader.path, name, argument)


def _not_equal(reader: Reader, name: str, argument: Any) -> Node:
    _refuse_regex(reader, name, argument)
    key_of(argument)
    return negated(Test(reader.path, "$eq", argument))


def _refuse_regex(reader: Reader, name: str, argument: Any) -> None:
    if is_regex(argument):
        raise reader.error(f"{name} does not take a regular expression; use $regex, or $not with $regex")


def _in(reader: Reader, name: str, argument: Any) -> Node:
    """Values go into one Test; each regular expression is a Test of its own beside it."""
    if not isinstance(argument, (list, tuple)):
        raise reader.error("$in and $nin take an array")
    if all([type(choice) in _PLAIN for choice in argument]):
        return Test(reader.path, "$in", tuple(argument))
    values, regexes = [], []
    for choice in argument:
        if holds_operators(choice):
            raise reader.error(f"$in and $nin take plain values, not operators such as {next(iter(choice))}")
        if is_regex(choice):
            regexes.append(Test(reader.path, "$regex", _matcher(reader, choice, "")))
        else:
            key_of(choice)
            values.append(choice)
    if not regexes:
        return Test(reader.path, "$in", tuple(values))
    return any_of([Test(reader.path, "$in", tuple(values)), *regexes] if values else regexes)


def _not_in(reader: Reader, name: str, argument: Any) -> Node:
    return negated(_in(reader, name, argument))


def _exists(reader: Reader, name: str, argument: Any) -> Node:
    exists = Test(reader.path, "$exists", True)
    return exists if is_true(argument) else negated(exists)


def _not(reader: Reader, name: str, argument: Any) -> Node:
    if is_regex(argument):
        return negated(Test(reader.path, "$regex", _matcher(reader, argument, "")))
    if not isinstance(argument, Mapping):
        raise reader.error("$not takes a regular expression or a map of operators")
    if not argument:
        raise reader.error("$not takes a map of operators that is not empty")
    return negated(read_operators(reader.deeper(), argument))


def _type(reader: Reader, name: str, argument: Any) -> Node:
    wanted = argument if isinstance(argument, (list, tuple)) else [argument]
    if not wanted:
        raise reader.error("$type must name at least one type", code=FAILED_TO_PARSE)
    names: set[str] = set()
    for entry in wanted:
        if isinstance(entry, str):
            if entry not in _TYPE_NAMES and entry != "number":
                raise reader.error(f"$type does not know the type name {entry!r}")
            names |= _NUMBER_TYPES if entry == "number" else {entry}
        elif isinstance(entry, (int, float, Decimal128)) and not isinstance(entry, bool):
            number = integral(entry, truncate=False)
            if number not in _TYPE_CODES:
                raise reader.error(f"$type does not know the type number {entry}")
            names.add(_TYPE_CODES[number])
        else:
            raise reader.error("$type takes type names and type numbers", code=TYPE_MISMATCH)
    return Test(reader.path, "$type", frozenset(names))


def _matcher(reader: Reader, pattern: Any, options: Any) -> Matcher:
    if not isinstance(options, str):
        raise reader.error("$options has to be text")
    if is_regex(pattern):
        try:
            text, own = regex_parts(pattern)
        except BadDocument as cause:
            raise reader.error(cause.message) from None
        if own.replace("u", "") and options:
            raise reader.error("options are set both in $regex and in $options", code=OPTIONS_TWICE)
        return compile_regex(text, options or own)
    if not isinstance(pattern, str):
        raise reader.error("$regex has to be text or a regular expression")
    return compile_regex(pattern, options)


def _modulo(reader: Reader, name: str, argument: Any) -> Node:
    if not isinstance(argument, (list, tuple)):
        raise reader.error("$mod takes an array [divisor, remainder]")
    if len(argument) != 2:
        raise reader.error(f"$mod takes an array of two numbers, [divisor, remainder], not of {len(argument)}")
    numbers = []
    for part, value in zip(("divisor", "remainder"), argument):
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal128)):
            raise reader.error(f"the {part} of $mod must be a number")
        whole = integral(value, truncate=True)
        if whole is None:
            raise reader.error(f"the {part} of $mod must be a finite number within 64 bits, not {value}")
        numbers.append(whole)
    if numbers[0] == 0:
        raise reader.error("the divisor of $mod cannot be 0")
    return Test(reader.path, "$mod", tuple(numbers))


def _whole_number(reader: Reader, name: str, argument: Any, *, code: int) -> int:
    if isinstance(argument, bool) or not isinstance(argument, (int, float, Decimal128)):
        raise reader.error(f"{name} takes a number, not {type(argument).__name__}", code=code)
    whole = integral(argument, truncate=False)
    if whole is None:
        raise reader.error(f"{name} takes a whole number within 64 bits, not {argument}", code=code)
    if whole < 0:
        raise reader.error(f"{name} takes a number that is not negative, not {argument}", code=code)
    return whole


def _size(reader: Reader, name: str, argument: Any) -> Node:
    return Test(reader.path, "$size", _whole_number(reader, name, argument, code=BadQuery.code))


def _bits(reader: Reader, name: str, argument: Any) -> Node:
    if isinstance(argument, (list, tuple)):
        mask = 0
        for entry in argument:
            position = _whole_number(reader, f"a bit position of {name}", entry, code=BadQuery.code)
            if position > BIT_POSITION_MAX:
                raise reader.error(f"{name} takes bit positions up to {BIT_POSITION_MAX}, not {position}")
            mask |= 1 << position
    elif isinstance(argument, (bytes, Binary)):
        mask = int.from_bytes(argument, "little")
    elif isinstance(argument, uuid.UUID):
        mask = int.from_bytes(argument.bytes, "little")
    elif isinstance(argument, (int, float, Decimal128)) and not isinstance(argument, bool):
        mask = _whole_number(reader, name, argument, code=FAILED_TO_PARSE)
    else:
        raise reader.error(f"{name} takes a number, an array of bit positions or binary data")
    return Test(reader.path, name, mask)


def _all(reader: Reader, name: str, argument: Any) -> Node:
    """Every value must be found; an empty array finds nothing."""
    if not isinstance(argument, (list, tuple)):
        raise reader.error("$all takes an array")
    if not argument:
        return NEVER
    has_elements = [holds_operators(entry) and next(iter(entry)) == "$elemMatch" for entry in argument]
    if any(has_elements) and not all(has_elements):
        raise reader.error("$all takes either values or $elemMatch conditions, not both")
    parts: list[Node] = []
    for entry in argument:
        if has_elements[0]:
            if len(entry) > 1:
                raise reader.error("an $elemMatch within $all must stand alone")
            parts.append(_element_match(reader, "$elemMatch", entry["$elemMatch"]))
        elif holds_operators(entry):
            raise reader.error(f"$all takes plain values or $elemMatch, not operators such as {next(iter(entry))}")
        else:
            parts.append(read_condition(reader, entry))
    return all_of(parts)


def _element_match(reader: Reader, name: str, argument: Any) -> Node:
    if not isinstance(argument, Mapping):
        raise reader.error("$elemMatch takes a map")
    inner = reader.deeper()
    if holds_operators(argument) and next(iter(argument)) not in LOGICAL:
        parts = read_operators(inner._replace(path=None), argument)
        return Test(reader.path, "$elemMatch", Elements.VALUES, parts)
    return Test(reader.path, "$elemMatch", Elements.DOCUMENTS, inner.read_filter(argument, inner.depth))


_READERS: Mapping[Any, Callable[[Reader, str, Any], Node]] = {
    **dict.fromkeys(COMPARISONS, _comparison),
    **dict.fromkeys(BITS, _bits),
    "$ne": _not_equal,
    "$in": _in,
    "$nin": _not_in,
    "$exists": _exists,
    "$not": _not,
    "$type": _type,
    "$mod": _modulo,
    "$size": _size,
    "$all": _all,
    "$elemMatch": _element_match,
}
