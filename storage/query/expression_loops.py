"""Expressions that run over the elements of an array: $map $filter $reduce. Pure.

Each element is a variable of its own while its expression runs; the variables around it stay visible. Steps are counted and what they make is
measured (growth.py), for a few loops inside each other would never end.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import BadQuery
from .arithmetic import is_number
from .expression_arrays import array
from .expression_operands import Compiled, Make, Scope, is_nullish, is_true, named_specs, whole_32
from .growth import MEASURED_BYTES, Growing, measured
from .paths import MISSING
from .type_names import type_name

_DEFAULT_NAME = "this"


def _element_name(name: str, specs: Mapping[str, Any]) -> str:
    given = specs.get("as", _DEFAULT_NAME)
    if not isinstance(given, str) or not given or not (given[0].islower() or ord(given[0]) > 127):
        raise BadQuery(f"{name}: as must be a variable's name that begins with a small letter, not {given!r:.40}", code=9)
    return given


def _map(name: str, argument: Any, scope: Scope) -> Compiled:
    for key, code in (("input", 16880), ("in", 16882)):
        if isinstance(argument, Mapping) and key not in argument:
            raise BadQuery(f"$map needs the argument {key!r}", code=code)
    specs = named_specs(name, argument, required=("input", "in"), optional=("as",), code=16878, unknown_code=16879)
    element = _element_name(name, specs)
    source, body = scope.compile(specs["input"]), scope.knowing(element).compile(specs["in"])
    take, names = scope.steps.loop(specs["in"])

    def evaluate(root: dict, variables: dict) -> Any:
        value = source(root, variables)
        if is_nullish(value):
            return None
        inside = dict(variables)
        made = []
        take(root, len(array("$map", value, 16883)))
        for inside[element] in value:
            found = body(root, inside)
            made.append(None if found is MISSING else found)
        if names:
            scope.steps.take(root, measured(made) // MEASURED_BYTES)
        return made

    return evaluate


def _filter(name: str, argument: Any, scope: Scope) -> Compiled:
    for key, code in (("input", 28648), ("cond", 28650)):
        if isinstance(argument, Mapping) and key not in argument:
            raise BadQuery(f"$filter needs the argument {key!r}", code=code)
    specs = named_specs(name, argument, required=("input", "cond"), optional=("as", "limit"), code=28646, unknown_code=28647)
    element = _element_name(name, specs)
    source, condition = scope.compile(specs["input"]), scope.knowing(element).compile(specs["cond"])
    take, _ = scope.steps.loop(specs["cond"])
    limit = scope.compile(specs["limit"]) if "limit" in specs else None

    def evaluate(root: dict, variables: dict) -> Any:
        value = source(root, variables)
        if is_nullish(value):
            return None
        take(root, len(array("$filter", value, 28651)))
        wanted = len(value) if limit is None else _limit(limit(root, variables), len(value))
        inside = dict(variables)
        kept: list[Any] = []
        for found in value:
            if len(kept) == wanted:
                break
            inside[element] = found
            if is_true(condition(root, inside)):
                kept.append(found)
        return kept

    return evaluate


def _limit(value: Any, all_of_them: int) -> int:
    if is_nullish(value):
        return all_of_them
    found = whole_32(value) if is_number(value) else None
    if found is None:
        raise BadQuery(f"$filter: limit must be a whole number of 32 bits, not {type_name(value)}", code=327391)
    if found <= 0:
        raise BadQuery(f"$filter: limit must be positive, not {found}", code=327392)
    return found


def _reduce(name: str, argument: Any, scope: Scope) -> Compiled:
    for key, code in (("input", 40077), ("initialValue", 40078), ("in", 40079)):
        if isinstance(argument, Mapping) and key not in argument:
            raise BadQuery(f"$reduce needs the argument {key!r}", code=code)
    specs = named_specs(name, argument, required=("input", "initialValue", "in"), code=40075, unknown_code=40076)
    source, initial = scope.compile(specs["input"]), scope.compile(specs["initialValue"])
    body = scope.knowing("this", "value").compile(specs["in"])
    take, names = scope.steps.loop(specs["in"])

    def evaluate(root: dict, variables: dict) -> Any:
        elements = source(root, variables)
        if is_nullish(elements):
            return None
        inside = dict(variables)
        inside["value"] = initial(root, variables)
        take(root, len(array("$reduce", elements, 40080)))
        growing = Growing(names)
        for inside["this"] in elements:
            inside["value"] = value = body(root, inside)
            growing.step(value)
        return inside["value"]

    return evaluate


OPERATORS: Mapping[str, Make] = MappingProxyType({"$map": _map, "$filter": _filter, "$reduce": _reduce})
