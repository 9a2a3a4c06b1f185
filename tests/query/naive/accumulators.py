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


def checked(fields: dict) -> dict:
    """The fields of a $group, each with one accumulator that there is."""
    for spec in fields.values():
        if not isinstance(spec, dict) or len(spec) != 1:
            raise Refused("a field of $group has one accumulator")
        [(name, expression)] = spec.items()
        if name not in ACCUMULATORS:
            raise Refused(f"no accumulator {name}")
        if isinstance(expression, list):
            raise Refused("an accumulator takes one operand", 40237)
        if name == "$count" and expression != {}:
            raise Refused("$count takes an empty map")
    return fields


def accumulated(spec: dict, documents: list[dict]) -> object:
    """The value of one field of $group."""
    [(name, expression)] = spec.items()
    return ACCUMULATORS[name]([expressions.value(expression, document) for document in documents])
