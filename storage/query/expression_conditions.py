"""Expressions that compare and choose: $eq to $cmp, $and $or $not, $cond $ifNull $switch. Pure.

Values of any two types compare, in the order of values/order.py; a missing value comes before null and is not equal to it, unlike in
filters. $and, $or, $cond, $ifNull and $switch evaluate no more operands than they need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..errors import BadQuery
from .expression_operands import (
    Compiled,
    Make,
    Scope,
    exactly,
    is_nullish,
    is_true,
    named,
    operands,
    order_key,
)
from .type_names import type_name

_SIMPLE = frozenset((int, str))  # where Python's own comparison of two values of one type is the right one


def _comparison(holds: Callable[[Any, Any], bool]) -> Make:
    def compare(left: Any, right: Any) -> bool:
        kind = type(left)
        if kind is type(right) and kind in _SIMPLE:
            return holds(left, right)
        return holds(order_key(left), order_key(right))

    return exactly(2, compare)


def _sign(left: Any, right: Any) -> int:
    one, other = order_key(left), order_key(right)
    return (one > other) - (one < other)


def _and(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = operands(name, argument, scope, 0, None)
    return lambda root, variables: all(is_true(part(root, variables)) for part in parts)


def _or(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = operands(name, argument, scope, 0, None)
    return lambda root, variables: any(is_true(part(root, variables)) for part in parts)


def _cond(name: str, argument: Any, scope: Scope) -> Compiled:
    if isinstance(argument, Mapping):
        keys = ("if", "then", "else")
        for key, code in zip(keys, (17080, 17081, 17082)):
            if key not in argument:
                raise BadQuery(f"$cond needs the argument {key!r}", code=code)
        parts = named(name, argument, scope, required=keys, unknown_code=17083)
        condition, then, otherwise = (parts[key] for key in keys)
    else:
        condition, then, otherwise = operands(name, argument, scope, 3, 3)

    def evaluate(root: dict, variables: dict) -> Any:
        return then(root, variables) if is_true(condition(root, variables)) else otherwise(root, variables)

    return evaluate


def _if_null(name: str, argument: Any, scope: Scope) -> Compiled:
    given = argument if isinstance(argument, (list, tuple)) else [argument]
    if len(given) < 2:
        raise BadQuery(f"$ifNull takes at least 2 operands, {len(given)} were given", code=1257300)
    *earlier, last = [scope.compile(part) for part in given]

    def evaluate(root: dict, variables: dict) -> Any:
        for part in earlier:
            value = part(root, variables)
            if not is_nullish(value):
                return value
        return last(root, variables)

    return evaluate


def _switch(name: str, argument: Any, scope: Scope) -> Compiled:
    if not isinstance(argument, Mapping):
        raise BadQuery(f"$switch takes a map with branches and default, not {type_name(argument)}", code=40060)
    for key in argument:
        if key not in ("branches", "default"):
            raise BadQuery(f"$switch has no argument {key!r}; it takes branches and default", code=40067)
    given = argument.get("branches", [])
    if not isinstance(given, (list, tuple)):
        raise BadQuery(f"$switch: branches must be an array, not {type_name(given)}", code=40061)
    if not given:
        raise BadQuery("$switch needs at least one branch", code=40068)
    branches = [_branch(part, scope) for part in given]
    default = scope.compile(argument["default"]) if "default" in argument else None

    def evaluate(root: dict, variables: dict) -> Any:
        for case, then in branches:
            if is_true(case(root, variables)):
                return then(root, variables)
        if default is None:
            raise BadQuery("$switch: no branch is true for a document, and there is no default; give one", code=40066)
        return default(root, variables)

    return evaluate


def _branch(part: Any, scope: Scope) -> tuple[Compiled, Compiled]:
    if not isinstance(part, Mapping):
        raise BadQuery(f"$switch: a branch must be a map with case and then, not {type_name(part)}", code=40062)
    for key in part:
        if key not in ("case", "then"):
            raise BadQuery(f"$switch: a branch has no argument {key!r}; it takes case and then", code=40063)
    for key, code in (("case", 40064), ("then", 40065)):
        if key not in part:
            raise BadQuery(f"$switch: a branch needs the argument {key!r}", code=code)
    return scope.compile(part["case"]), scope.compile(part["then"])


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$eq": _comparison(lambda a, b: a == b),
        "$ne": _comparison(lambda a, b: a != b),
        "$gt": _comparison(lambda a, b: a > b),
        "$gte": _comparison(lambda a, b: a >= b),
        "$lt": _comparison(lambda a, b: a < b),
        "$lte": _comparison(lambda a, b: a <= b),
        "$cmp": exactly(2, _sign),
        "$and": _and,
        "$or": _or,
        "$not": exactly(1, lambda value: not is_true(value)),
        "$cond": _cond,
        "$ifNull": _if_null,
        "$switch": _switch,
    }
)
