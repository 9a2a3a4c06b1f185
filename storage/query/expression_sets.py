"""Expressions on arrays as sets: $setUnion to $allElementsTrue. Pure.

Order and repetition do not count; equality is that of values/order.py. Results stand in the order of values, so that equal sets come out as
equal arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import BadQuery
from ..values.order import SortKey
from .expression_arrays import array
from .expression_operands import Make, exactly, is_nullish, is_true, null_if_nullish, order_key, positional


def _as_set(name: str, value: Any, code: int) -> dict[SortKey, Any]:
    found: dict[SortKey, Any] = {}
    for element in array(name, value, code):
        found.setdefault(order_key(element), element)
    return found


def _ordered(found: dict[SortKey, Any]) -> list:
    return [found[key] for key in sorted(found)]


def _union(*values: Any) -> Any:
    found: dict[SortKey, Any] = {}
    for value in values:
        if is_nullish(value):
            return None
        for key, element in _as_set("$setUnion", value, 17043).items():
            found.setdefault(key, element)
    return _ordered(found)


def _intersection(*values: Any) -> Any:
    found: dict[SortKey, Any] | None = None
    for value in values:
        if is_nullish(value):
            return None
        other = _as_set("$setIntersection", value, 17047)
        found = other if found is None else {key: element for key, element in found.items() if key in other}
    return _ordered(found or {})


def _difference(left: Any, right: Any) -> list:
    taken = _as_set("$setDifference: the second operand", right, 17049)
    found = _as_set("$setDifference: the first operand", left, 17048)
    return [element for key, element in found.items() if key not in taken]


def _equals(*values: Any) -> bool:
    if len(values) < 2:
        raise BadQuery("$setEquals needs at least two arrays", code=17045)
    first, *others = [_as_set("$setEquals", value, 17044).keys() for value in values]
    return all(first == other for other in others)


def _is_subset(left: Any, right: Any) -> bool:
    part = _as_set("$setIsSubset: the first operand", left, 17046)
    return part.keys() <= _as_set("$setIsSubset: the second operand", right, 17042).keys()


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$setUnion": positional(_union, 0),
        "$setIntersection": positional(_intersection, 0),
        "$setDifference": exactly(2, null_if_nullish(_difference)),
        "$setEquals": positional(_equals, 2),
        "$setIsSubset": exactly(2, _is_subset),
        "$anyElementTrue": exactly(1, lambda value: any(map(is_true, array("$anyElementTrue", value, 17041)))),
        "$allElementsTrue": exactly(1, lambda value: all(map(is_true, array("$allElementsTrue", value, 17040)))),
    }
)
