"""What every family of expression operators is made of: scopes, operands, names of types. Pure; knows no operator.

    compile(spec, scope) ──> Compiled(root, variables) ──> value, or MISSING where there is none
    a family's table:  operator name ──> Make(name, argument, scope) ──> Compiled

A family never imports the compiler: its scope brings it, so the table of all operators can stand above the families. Operands are
compiled once; arity is checked then (codes 16020 and 28667, as MongoDB's).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bson import Decimal128
from bson.datetime_ms import DatetimeMS

from ..errors import BadQuery
from ..values.decimals import to_decimal
from ..values.order import SortKey, sort_key
from .arithmetic import whole_number
from .growth import Steps
from .paths import MISSING
from .type_names import type_name

DEPTH_MAX = 100  # of expressions inside each other
_MISSING_KEY = (1,)  # after MinKey, before null
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1

Compiled = Callable[[dict, dict], Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands: the user's variables that are known there, and the compiler itself."""

    compiler: Callable[[Any, Scope], Compiled]
    names: frozenset[str] = frozenset()
    depth: int = 1
    steps: Steps = field(default_factory=Steps)  # of the loops of all expressions of this query

    def compile(self, spec: Any) -> Compiled:
        """Raises BadQuery, also when expressions nest too deep."""
        if self.depth > DEPTH_MAX:
            raise BadQuery(f"expressions nest deeper than {DEPTH_MAX}; cut the expression into several stages")
        return self.compiler(spec, replace(self, depth=self.depth + 1))

    def knowing(self, *names: str) -> Scope:
        """The same place with these variables known as well."""
        return replace(self, names=self.names | set(names))


Make = Callable[[str, Any, Scope], Compiled]


class Constant:
    """A compiled expression that is always the same value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, root: dict, variables: dict) -> Any:
        return self.value


def operands(name: str, argument: Any, scope: Scope, least: int, most: int | None) -> list[Compiled]:
    """The compiled operands of an operator that takes a list; one operand may stand without brackets."""
    given = list(argument) if isinstance(argument, (list, tuple)) else [argument]
    if least == most and len(given) != least:
        raise BadQuery(f"{name} takes exactly {least} operands, {len(given)} were given", code=16020)
    if len(given) < least or (most is not None and len(given) > most):
        bound = f"at least {least}" if most is None else f"{least} to {most}"
        raise BadQuery(f"{name} takes {bound} operands, {len(given)} were given", code=28667)
    return [scope.compile(part) for part in given]


def positional(function: Callable[..., Any], least: int, most: int | None = None) -> Make:
    """An operator of so many operands that is a function of their values."""

    def make(name: str, argument: Any, scope: Scope) -> Compiled:
        parts = operands(name, argument, scope, least, most)
        if len(parts) == 1:
            first = parts[0]
            return lambda root, variables: function(first(root, variables))
        if len(parts) == 2:
            first, second = parts
            return lambda root, variables: function(first(root, variables), second(root, variables))
        return lambda root, variables: function(*[part(root, variables) for part in parts])

    return make


def exactly(count: int, function: Callable[..., Any]) -> Make:
    """positional() with exactly so many operands."""
    return positional(function, count, count)


def null_if_nullish(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but null as soon as one operand is null or missing."""

    def apply(*values: Any) -> Any:
        for value in values:
            if value is None or value is MISSING:
                return None
        return function(*values)

    return apply


def named(
    name: str,
    argument: Any,
    scope: Scope,
    *,
    required: Iterable[str],
    optional: Iterable[str] = (),
    code: int = 9,
    unknown_code: int | None = None,
    missing_code: int | None = None,
) -> dict[str, Compiled]:
    """The compiled operands of an operator that takes a map of named ones."""
    fields = named_specs(
        name, argument, required=required, optional=optional, code=code, unknown_code=unknown_code, missing_code=missing_code
    )
    return {key: scope.compile(part) for key, part in fields.items()}


def named_specs(
    name: str,
    argument: Any,
    *,
    required: Iterable[str],
    optional: Iterable[str] = (),
    code: int = 9,
    unknown_code: int | None = None,
    missing_code: int | None = None,
) -> Mapping[str, Any]:
    """The same, not yet compiled: for operators that compile some of their operands in a scope of their own."""
    required, optional = tuple(required), tuple(optional)
    if not isinstance(argument, Mapping):
        raise BadQuery(f"{name} takes a map with {', '.join(required)}, not {type_name(argument)}", code=code)
    for key in argument:
        if key not in required and key not in optional:
            raise BadQuery(f"{name} has no argument {key!r}; it takes {', '.join(required + optional)}", code=unknown_code or code)
    for key in required:
        if key not in argument:
            raise BadQuery(f"{name} needs the argument {key!r}", code=missing_code or code)
    return argument


def is_nullish(value: Any) -> bool:
    return value is None or value is MISSING


def is_true(value: Any) -> bool:
    """As MongoDB reads conditions: false are false, null, missing and zero; NaN, "" and [] are true."""
    if value is True or value is False:
        return value
    if value is None or value is MISSING:
        return False
    kind = type(value)
    if kind is int or kind is float:
        return value != 0
    return not (kind is Decimal128 and to_decimal(value.bid) == 0)


def reached(value: Any, parts: tuple[str, ...], at: int = 0) -> Any:
    """The value at a path; an array on the way becomes the array of what its maps hold there."""
    while at < len(parts):
        if type(value) is dict:
            value = value.get(parts[at], MISSING)
            at += 1
        elif type(value) is list:
            inside = [reached(element, parts, at) for element in value if type(element) is dict]
            return [found for found in inside if found is not MISSING]
        else:
            return MISSING
    return value


def is_date(value: Any) -> bool:
    kind = type(value)
    return kind is datetime.datetime or kind is DatetimeMS


def order_key(value: Any) -> SortKey:
    """sort_key() with a place for MISSING, between MinKey and null."""
    return _MISSING_KEY if value is MISSING else sort_key(value)


def whole_32(value: Any) -> int | None:
    """whole_number(), and None beyond 32 bits."""
    found = whole_number(value)
    return found if found is not None and _INT32_MIN <= found <= _INT32_MAX else None
