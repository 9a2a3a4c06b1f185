"""Update operators on single fields: their arguments checked, then the change each makes to the value at its path. Pure.

    $set $setOnInsert     the argument, whatever stood there
    $unset                nothing stays; its argument is ignored
    $inc $mul             arithmetic.py; a missing field counts as 0
    $min $max             the smaller or larger of argument and value, in the order of all types; missing: the argument
    $bit                  {and|or|xor: int}, one after the other; a missing field counts as 0
    $currentDate          true, {$type: "date"} or {$type: "timestamp"}
    $rename               two leaves: the source goes, the target takes its value. Neither path may lead through an array

A maker is called once, when the update is compiled, with the path and the argument as they were given, and plants its
leaves. Arguments are brought into the form of decoded documents there, so that no later step meets a foreign type.
Operators on arrays are in array_operators.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import BadDocument, BadQuery
from ..values.documents import decode_value, encode_value
from ..values.order import sort_key
from .arithmetic import add, is_number, multiply, zero_like
from .paths import MISSING
from .type_names import type_name
from .update_tree import Application, Change, Leaf, RenameTarget, is_element_part, position_of, shown

_BAD_VALUE, _TYPE_MISMATCH, _PATH_NOT_VIABLE = 2, 14, 28
_MOMENT_BYTES = 10  # of a date in a document


class Argument(NamedTuple):
    """A value to store, and how many bytes it takes in a document."""

    value: Any
    size: int


def stored(operator: str, path: str, argument: Any) -> Argument:
    """An argument as a decoded document would hold it. Raises BadQuery for what cannot be stored."""
    try:
        data = encode_value(argument)
        return Argument(decode_value(data), len(data))
    except BadDocument as cause:
        raise BadQuery(f"{operator} {shown(path)}: {cause.message}", code=cause.code) from None


def set_value(operator: str, path: str, argument: Any) -> list[Leaf]:
    """$set, and $setOnInsert, which only acts on an upsert that inserts."""
    value, size = stored(operator, path, argument)

    def change(old: Any, application: Application) -> Any:
        application.add_bytes(size)
        return value

    return [Leaf(operator, path, change, needs_insert=operator == "$setOnInsert")]


def unset(operator: str, path: str, argument: Any) -> list[Leaf]:
    return [Leaf(operator, path, lambda old, application: MISSING, is_harmless=True)]


def increment(operator: str, path: str, argument: Any) -> list[Leaf]:
    by = _number_argument(operator, path, argument)
    return [Leaf(operator, path, _computed(operator, path, lambda old: by if old is MISSING else add(old, by)))]


def multiplied(operator: str, path: str, argument: Any) -> list[Leaf]:
    by = _number_argument(operator, path, argument)
    return [Leaf(operator, path, _computed(operator, path, lambda old: zero_like(by) if old is MISSING else multiply(old, by)))]


def _number_argument(operator: str, path: str, argument: Any) -> Any:
    number = stored(operator, path, argument).value
    if not is_number(number):
        raise BadQuery(
            f"{operator} {shown(path)}: the argument must be a number, not of type {type_name(number)}", code=_TYPE_MISMATCH
        )
    return number


def _computed(operator: str, path: str, compute: Callable[[Any], Any]) -> Change:
    def change(old: Any, application: Application) -> Any:
        if old is not MISSING and not is_number(old):
            raise BadQuery(
                f"cannot apply {operator} to a value of non-numeric type: field {shown(path)} of the document with "
                f"{identity(application)} is of type {type_name(old)}",
                code=_TYPE_MISMATCH,
            )
        try:
            return compute(old)
        except OverflowError:
            raise BadQuery(
                f"failed to apply {operator} to field {shown(path)} of the document with {identity(application)}: the result "
                f"of {old} does not fit 64 bits; make the field a double or a Decimal128 first",
                code=_BAD_VALUE,
            ) from None

    return change


def identity(application: Application) -> str:
    """The document in a message: its `_id`, never its content."""
    return f"_id {application.root['_id']!r:.60}" if "_id" in application.root else "no _id"


def minimum(operator: str, path: str, argument: Any) -> list[Leaf]:
    return _bounded(operator, path, argument, lambda new, old: new < old)


def maximum(operator: str, path: str, argument: Any) -> list[Leaf]:
    return _bounded(operator, path, argument, lambda new, old: new > old)


def _bounded(operator: str, path: str, argument: Any, replaces: Callable[[Any, Any], bool]) -> list[Leaf]:
    value, size = stored(operator, path, argument)
    key = sort_key(value)

    def change(old: Any, application: Application) -> Any:
        if old is not MISSING and not replaces(key, sort_key(old)):
            return old
        application.add_bytes(size)
        return value

    return [Leaf(operator, path, change)]


_BITWISE: Mapping[str, Callable[[int, int], int]] = {
    "and": lambda old, mask: old & mask,
    "or": lambda old, mask: old | mask,
    "xor": lambda old, mask: old ^ mask,
}


def bitwise(operator: str, path: str, argument: Any) -> list[Leaf]:
    if not isinstance(argument, Mapping) or not argument:
        raise BadQuery(
            f"$bit {shown(path)}: give at least one operation, as {{and: n}}, {{or: n}} or {{xor: n}}", code=_BAD_VALUE
        )
    steps = []
    for name, given in argument.items():
        if name not in _BITWISE:
            raise BadQuery(f"$bit {shown(path)}: only 'and', 'or' and 'xor' are known, not {name!r:.40}", code=_BAD_VALUE)
        mask = stored(operator, path, given).value
        if type(mask) is not int:
            raise BadQuery(
                f"$bit {shown(path)}: the operand of {name!r} must be an integer, not of type {type_name(mask)}", code=_BAD_VALUE
            )
        steps.append((_BITWISE[name], mask))

    def change(old: Any, application: Application) -> Any:
        value = 0 if old is MISSING else old
        if type(value) is not int:
            raise BadQuery(
                f"cannot apply $bit to a value of non-integral type: field {shown(path)} of the document with "
                f"{identity(application)} is of type {type_name(old)}",
                code=_BAD_VALUE,
            )
        for combine, mask in steps:
            value = combine(value, mask)
        return value

    return [Leaf(operator, path, change)]


def current_date(operator: str, path: str, argument: Any) -> list[Leaf]:
    if isinstance(argument, Mapping):
        unknown = [name for name in argument if name != "$type"]
        if unknown:
            raise BadQuery(f"$currentDate {shown(path)}: unknown option {unknown[0]!r:.40}; only $type is known", code=_BAD_VALUE)
        kind = argument.get("$type")
        if kind not in ("date", "timestamp"):
            raise BadQuery(f"$currentDate {shown(path)}: $type must be 'date' or 'timestamp'", code=_BAD_VALUE)
    elif isinstance(argument, bool):
        kind = "date"
    else:
        raise BadQuery(
            f"$currentDate {shown(path)}: the argument must be true or {{$type: 'date' | 'timestamp'}}, not {argument!r:.40}",
            code=_BAD_VALUE,
        )

    def change(old: Any, application: Application) -> Any:
        application.add_bytes(_MOMENT_BYTES)
        return application.now if kind == "date" else application.now_timestamp

    return [Leaf(operator, path, change)]


def rename(operator: str, path: str, argument: Any) -> list[Leaf]:
    if not isinstance(argument, str):
        raise BadQuery(f"$rename {shown(path)}: the new name must be text, not {argument!r:.40}", code=_BAD_VALUE)
    source, target = path.split("."), argument.split(".")
    if path == argument:
        raise BadQuery(f"$rename {shown(path)}: source and target must differ", code=_BAD_VALUE)
    shorter = min(len(source), len(target))
    if source[:shorter] == target[:shorter]:
        raise BadQuery(
            f"$rename {shown(path)} to {shown(argument)}: source and target must not be on the same path", code=_BAD_VALUE
        )
    for what, parts in (("source", source), ("target", target)):
        if any(part == "$" or is_element_part(part) for part in parts):
            raise BadQuery(f"$rename {shown(path)} to {shown(argument)}: the {what} must not be positional", code=_BAD_VALUE)

    def taken(old: Any, application: Application) -> Any:
        value = _source_value(source, path, application)
        if value is MISSING:
            return old
        _refuse_arrays(target, argument, application)
        return value

    # A field that is not there is left alone, and one that is there is always moved or the update refused: so the source
    # goes by itself, without asking what became of the target.
    gone = Leaf(operator, path, lambda old, application: MISSING, is_harmless=True)
    return [gone, RenameTarget(operator, argument, taken)]


def _source_value(parts: list[str], path: str, application: Application) -> Any:
    value: Any = application.root
    through_array = False
    for depth, part in enumerate(parts):
        if type(value) is dict:
            value = value.get(part, MISSING)
        elif type(value) is list and position_of(part) >= 0:
            through_array = True
            position = position_of(part)
            value = value[position] if position < len(value) else MISSING
        else:
            raise BadQuery(
                f"$rename {shown(path)}: cannot use the part {part!r:.40} to traverse a value of type {type_name(value)}",
                code=_PATH_NOT_VIABLE,
            )
        if value is MISSING:
            return MISSING
        if through_array and depth + 1 == len(parts):
            raise BadQuery(
                f"$rename {shown(path)}: the source cannot be an array element, as it is in the document with "
                f"{identity(application)}",
                code=_BAD_VALUE,
            )
    return value


def _refuse_arrays(parts: list[str], path: str, application: Application) -> None:
    value: Any = application.root
    for part in parts:
        if type(value) is list:
            raise BadQuery(
                f"$rename to {shown(path)}: the target cannot be an array element, as it would be in the document with "
                f"{identity(application)}",
                code=_BAD_VALUE,
            )
        if type(value) is not dict or part not in value:
            return
        value = value[part]
