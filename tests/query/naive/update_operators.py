"""The update operators: each reads its argument (or refuses it) and changes one value. Pure.

change(value, argument) gives the new value; value is MISSING where there is none, and MISSING as an answer takes the field away.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from .filters import conditions_of, is_operators, parsed, whole_part
from .numbers import added, multiplied
from .values import INT64, MISSING, Refused, compare, equal, exact, is_nan, is_number, type_name


class Operator(NamedTuple):
    read: Callable[[object], object]
    change: Callable[[object, object], object]


def as_is(argument: object) -> object:
    return argument


def set_(value: object, argument: object) -> object:
    return argument


def unset(value: object, argument: object) -> object:
    return MISSING


def number_argument(argument: object) -> object:
    if not is_number(argument):
        raise Refused("a number is needed", 14)
    return argument


def in_int64(number: object) -> object:
    if isinstance(number, int) and number not in INT64:
        raise Refused("the result is beyond 64 bits", 2)
    return number


def inc(value: object, argument: object) -> object:
    if value is MISSING:
        return argument
    if not is_number(value):
        raise Refused("$inc of what is no number", 14)
    return in_int64(added(value, argument))


def mul(value: object, argument: object) -> object:
    if value is MISSING:
        value = 0
    if not is_number(value):
        raise Refused("$mul of what is no number", 14)
    return in_int64(multiplied(value, argument))


def min_(value: object, argument: object) -> object:
    return argument if value is MISSING or compare(argument, value) < 0 else value


def max_(value: object, argument: object) -> object:
    return argument if value is MISSING or compare(argument, value) > 0 else value


# Arrays.


def push_argument(argument: object) -> dict:
    if not (isinstance(argument, dict) and "$each" in argument):
        return {"$each": [argument]}
    if set(argument) - {"$each", "$slice", "$sort", "$position"}:
        raise Refused("$push has no such modifier", 2)
    if not isinstance(argument["$each"], list):
        raise Refused("$each takes a list", 2)
    for name in ("$slice", "$position"):
        if name in argument:
            number = argument[name]
            if not is_number(number) or is_nan(number) or whole_part(number) != exact(number):
                raise Refused(f"{name} takes an integer", 2)
    check_sort(argument.get("$sort", 1))
    return argument


def check_sort(sort: object) -> None:
    directions = list(sort.values()) if isinstance(sort, dict) else [sort]
    if not directions or not all(is_number(d) and exact(d) in (1, -1) for d in directions):
        raise Refused("$sort takes 1 or -1", 2)
    if isinstance(sort, dict) and not all(all(name.split(".")) for name in sort):
        raise Refused("$sort takes named fields", 2)


def push(value: object, argument: dict) -> list:
    if value is MISSING:
        value = []
    if not isinstance(value, list):
        raise Refused("$push to what is no array", 2)
    position = int(exact(argument.get("$position", 2**62)))
    found = list(value)
    place = max(0, len(found) + position) if position < 0 else min(position, len(found))
    found[place:place] = argument["$each"]
    if "$sort" in argument:
        found.sort(key=functools.cmp_to_key(before(argument["$sort"])))
    if "$slice" in argument:
        count = int(exact(argument["$slice"]))
        found = found[:count] if count >= 0 else found[count:]
    return found


def before(sort: object) -> Callable[[object, object], int]:
    def compared(a: object, b: object) -> int:
        if not isinstance(sort, dict):
            return compare(a, b) * int(exact(sort))
        for field, direction in sort.items():
            if difference := compare(sort_value(a, field), sort_value(b, field)):
                return difference * int(exact(direction))
        return 0

    return compared


def sort_value(value: object, field: str) -> object:
    """The value of a dotted field of an element, null where there is none; arrays are not gone through but by position."""
    for part in field.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return None
    return value


def add_to_set_argument(argument: object) -> list:
    if isinstance(argument, dict) and next(iter(argument), None) == "$each":
        if not isinstance(argument["$each"], list):
            raise Refused("$each takes a list", 14)
        if len(argument) > 1:
            raise Refused("$addToSet has $each alone", 2)
        return argument["$each"]
    return [argument]


def add_to_set(value: object, argument: list) -> list:
    if value is MISSING:
        value = []
    if not isinstance(value, list):
        raise Refused("$addToSet to what is no array", 2)
    found = list(value)
    for item in argument:
        if not any(equal(item, other) for other in found):
            found.append(item)
    return found


def pull_argument(argument: object) -> Callable[[object], bool]:
    """Which elements go: operators and regexes are asked about the element itself, a map is a filter of maps, the rest must be equal."""
    is_condition = is_operators(argument) and next(iter(argument)) not in ("$and", "$or", "$nor", "$expr", "$comment")
    if is_condition or type_name(argument) == "regex":
        conditions = conditions_of(argument)
        return lambda item: all(condition.over({"": item}, [""], []) for condition in conditions)
    if isinstance(argument, dict):
        whole = parsed(argument)
        return lambda item: isinstance(item, dict) and whole(item, [])
    return lambda item: equal(item, argument)


def pull(value: object, goes: Callable[[object], bool]) -> list:
    if not isinstance(value, list):
        raise Refused("$pull from what is no array", 2)
    return [item for item in value if not goes(item)]


def list_argument(argument: object) -> list:
    if not isinstance(argument, list):
        raise Refused("$pullAll takes a list", 2)
    return argument


def pull_all(value: object, argument: list) -> list:
    return pull(value, lambda item: any(equal(item, other) for other in argument))


def pop_argument(argument: object) -> int:
    if not is_number(argument) or exact(argument) not in (1, -1):
        raise Refused("$pop takes 1 or -1", 9)
    return int(exact(argument))


def pop(value: object, argument: int) -> list:
    if not isinstance(value, list):
        raise Refused("$pop from what is no array", 14)
    return value[:-1] if argument == 1 else value[1:]


def bit_argument(argument: object) -> dict:
    if not isinstance(argument, dict) or not argument:
        raise Refused("$bit takes and, or, xor", 2)
    for name, number in argument.items():
        if name not in ("and", "or", "xor") or type_name(number) not in ("int", "long"):
            raise Refused("$bit takes and, or, xor with integers", 2)
    return argument


def bit(value: object, argument: dict) -> int:
    if value is MISSING:
        value = 0
    if type_name(value) not in ("int", "long"):
        raise Refused("$bit of what is no integer", 2)
    for name, number in argument.items():
        value = value & number if name == "and" else value | number if name == "or" else value ^ number
    return value


OPERATORS = {
    "$set": Operator(as_is, set_),
    "$setOnInsert": Operator(as_is, set_),
    "$unset": Operator(as_is, unset),
    "$inc": Operator(number_argument, inc),
    "$mul": Operator(number_argument, mul),
    "$min": Operator(as_is, min_),
    "$max": Operator(as_is, max_),
    "$push": Operator(push_argument, push),
    "$addToSet": Operator(add_to_set_argument, add_to_set),
    "$pull": Operator(pull_argument, pull),
    "$pullAll": Operator(list_argument, pull_all),
    "$pop": Operator(pop_argument, pop),
    "$bit": Operator(bit_argument, bit),
}
CREATING = {"$set", "$setOnInsert", "$inc", "$mul", "$min", "$max", "$push", "$addToSet", "$bit"}
IGNORES_BAD_PATHS = {"$unset"}
