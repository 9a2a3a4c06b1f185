"""The accumulators of $group: each is a function of the list of values that its expression had, in order. Pure."""

from __future__ import annotations

from collections.abc import Callable

from . import expressions
from .numbers import average, total
from .values import MISSING, NUMBERS, Refused, equal, type_name


def sum_(found: list) -> object:
    return total([item for item in found if type_name(item) in NUMBERS])


def avg(found: list) -> object:
    return average([item for item in found if type_name(item) in NUMBERS])


def least(found: list) -> object:
    return expressions.least([*found, None])


def greatest(found: list) -> object:
    return expressions.greatest([*found, None])


def first(found: list) -> object:
    return expressions.nothing_is_null(found[0])


def last(found: list) -> object:
    return expressions.nothing_is_null(found[-1])


def push(found: list) -> list:
    return [item for item in found if item is not MISSING]


def add_to_set(found: list) -> list:
    kept: list = []
    for item in push(found):
        if not any(equal(item, other) for other in kept):
            kept.append(item)
    return kept


def merge_objects(found: list) -> object:
    return expressions.merge_objects(found)


ACCUMULATORS: dict[str, Callable[[list], object]] = {
    "$sum": sum_,
    "$avg": avg,
    "$min": least,
    "$max": greatest,
    "$first": first,
    "$last": last,
    "$push": push,
    "$addToSet": add_to_set,
    "$mergeObjects": merge_objects,
    "$count": len,
}


def accumulated(spec: object, documents: list[dict]) -> object:
    """The value of one field of $group."""
    if not isinstance(spec, dict) or len(spec) != 1:
        raise Refused("a field of $group has one accumulator", None)
    [(name, expression)] = spec.items()
    if name not in ACCUMULATORS:
        raise Refused(f"no accumulator {name}", None)
    if name == "$count" and expression != {}:
        raise Refused("$count takes an empty map", None)
    return ACCUMULATORS[name]([expressions.value(expression, document) for document in documents])
