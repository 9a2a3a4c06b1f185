"""Expressions on maps: $mergeObjects, $getField to $unsetField, $objectToArray and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import BadQuery
from .expression_arrays import array
from .expression_operands import (
    Compiled,
    Constant,
    Make,
    Scope,
    exactly,
    is_nullish,
    named,
    null_if_nullish,
    positional,
)
from .paths import MISSING
from .type_names import type_name


def _merge(*values: Any) -> dict:
    """One operand that is an array stands for its elements."""
    if len(values) == 1 and type(values[0]) is list:
        values = tuple(values[0])
    found: dict[str, Any] = {}
    for value in values:
        if is_nullish(value):
            continue
        if type(value) is not dict:
            raise BadQuery(f"$mergeObjects takes maps, not {type_name(value)}", code=40400)
        found.update(value)
    return found


def _get_field(name: str, argument: Any, scope: Scope) -> Compiled:
    if isinstance(argument, Mapping) and ("field" in argument or "input" in argument):
        if "field" not in argument:
            raise BadQuery("$getField needs the argument 'field'", code=3041702)
        parts = named(name, argument, scope, required=("field", "input"), code=3041701, missing_code=3041703)
        field, source = parts["field"], parts["input"]
    else:
        field, source = scope.compile(argument), scope.compile("$$CURRENT")
    _check_constant_field(name, field, 5654600)

    def evaluate(root: dict, variables: dict) -> Any:
        key = field(root, variables)
        if type(key) is not str:
            raise BadQuery(f"$getField: field must be text, not {type_name(key)}", code=3041704)
        value = source(root, variables)
        if is_nullish(value):
            return value
        return value.get(key, MISSING) if type(value) is dict else MISSING

    return evaluate


def _check_constant_field(name: str, field: Compiled, code: int) -> None:
    if isinstance(field, Constant) and type(field.value) is not str:
        raise BadQuery(f"{name}: field must be text, not {type_name(field.value)}", code=code)


def _set_field(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(name, argument, scope, required=("field", "input", "value"), code=4161100, unknown_code=4161101, missing_code=4161102)
    return _with_field(name, parts["field"], parts["input"], parts["value"])


def _unset_field(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(name, argument, scope, required=("field", "input"), code=4161110, unknown_code=4161101, missing_code=4161109)
    return _with_field(name, parts["field"], parts["input"], Constant(MISSING))


def _with_field(name: str, field: Compiled, source: Compiled, new: Compiled) -> Compiled:
    if not isinstance(field, Constant):
        raise BadQuery(f"{name}: field must be the same text for every document, not an expression", code=4161106)
    _check_constant_field(name, field, 4161107)
    key = field.value

    def evaluate(root: dict, variables: dict) -> Any:
        value = source(root, variables)
        if is_nullish(value):
            return None
        if type(value) is not dict:
            raise BadQuery(f"{name}: input must be a map, not {type_name(value)}", code=4161105)
        found = dict(value)
        made = new(root, variables)
        if made is MISSING:
            found.pop(key, None)
        else:
            found[key] = made
        return found

    return evaluate


def _to_array(value: Any) -> list:
    if type(value) is not dict:
        raise BadQuery(f"$objectToArray takes a map, not {type_name(value)}", code=40390)
    return [{"k": key, "v": child} for key, child in value.items()]


def _from_array(value: Any) -> dict:
    found: dict[str, Any] = {}
    pairs = array("$arrayToObject", value, 40386)
    for pair in pairs:
        if type(pair) is not type(pairs[0]):
            raise BadQuery("$arrayToObject: all elements must be pairs, or all must be maps with k and v", code=40396)
        if type(pair) is list:
            if len(pair) != 2:
                raise BadQuery(f"$arrayToObject: a pair has 2 elements, not {len(pair)}", code=40397)
            key, child, code = pair[0], pair[1], 40395
        elif type(pair) is dict:
            if len(pair) != 2:
                raise BadQuery(f"$arrayToObject: an element has the two fields k and v, not {len(pair)}", code=40392)
            if "k" not in pair or "v" not in pair:
                raise BadQuery("$arrayToObject: an element has the fields k and v", code=40393)
            key, child, code = pair["k"], pair["v"], 40394
        else:
            raise BadQuery(f"$arrayToObject takes pairs or maps with k and v, not {type_name(pair)}", code=40398)
        if type(key) is not str:
            raise BadQuery(f"$arrayToObject: a key must be text, not {type_name(key)}", code=code)
        if "\0" in key:
            raise BadQuery("$arrayToObject: a key must not hold NUL", code=4940400)
        found[key] = child
    return found


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$mergeObjects": positional(_merge, 0),
        "$getField": _get_field,
        "$setField": _set_field,
        "$unsetField": _unset_field,
        "$objectToArray": exactly(1, null_if_nullish(_to_array)),
        "$arrayToObject": exactly(1, null_if_nullish(_from_array)),
    }
)
