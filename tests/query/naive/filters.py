"""Filters: matches(document, filter). Pure; one function an operator, each makes a test of one value out of its argument.

A path shows its test one value after another: the elements of an array at its end and then the array itself; an array on the way
shows the fields of its maps, and the element at a position where the path's next part is a number. A map on the way without the field shows
MISSING; scalars inside an array on the way show nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import ROUND_DOWN
from numbers import Real

from bson import Decimal128, Regex

from . import expressions
from .values import (
    INT64,
    MISSING,
    OTHER_TYPE_NAMES,
    TYPES,
    Refused,
    compare,
    equal,
    exact,
    is_nan,
    is_number,
    rank,
    regex_parts,
    type_name,
)

Test = Callable[[object], bool]
Positions = list  # the index in the array that made a condition match, the last one counts


def matches(document: dict, spec: dict, positions: Positions | None = None) -> bool:
    return parsed(spec)(document, [] if positions is None else positions)


# A filter of whole documents.


def parsed(spec: object) -> Callable[[dict, Positions], bool]:
    if not isinstance(spec, dict):
        raise Refused("a filter is a map")
    parts = [parsed_part(name, argument) for name, argument in spec.items()]
    return lambda document, positions: all(part(document, positions) for part in parts)


def parsed_part(name: str, argument: object) -> Callable[[dict, Positions], bool]:
    if name == "$comment":
        return lambda document, positions: True
    if name == "$expr":
        return lambda document, positions: expressions.is_true(expressions.value(argument, document))
    if name in ("$and", "$or", "$nor"):
        if not isinstance(argument, list) or not argument:
            raise Refused(f"{name} takes a list that is not empty", 2)
        if not all(isinstance(item, dict) for item in argument):
            raise Refused(f"{name} takes filters", 2)
        parts = [parsed(item) for item in argument]
        if name == "$and":
            return lambda document, positions: all(part(document, positions) for part in parts)
        if name == "$or":
            return lambda document, positions: any(part(document, positions) for part in parts)
        return lambda document, positions: not any(part(document, []) for part in parts)
    if name.startswith("$"):
        raise Refused(f"no operator {name} at the top", 2)
    return field_condition(name.split("."), argument)


def field_condition(parts: list[str], argument: object) -> Callable[[dict, Positions], bool]:
    conditions = conditions_of(argument)
    return lambda document, positions: all(condition.over(document, parts, positions) for condition in conditions)


class Some:
    """Some value that the path shows passes the test. A test that looks for an element says (True, its index)."""

    def __init__(self, test: Test, *, sees_elements: bool = True) -> None:
        self.test, self.sees_elements = test, sees_elements

    def over(self, document: dict, parts: list[str], positions: Positions) -> bool:
        for value, position in shown(document, parts, self.sees_elements):
            found = self.test(value)
            if found is not False:
                inner = [found[1]] if isinstance(found, tuple) else []
                positions.extend(inner if position is None else [position])
                return True
        return False

    def of(self, value: object) -> bool:
        """Asked about one element, as $elemMatch does: no array is gone into."""
        return self.test(value) is not False


class Not:
    """Not all of the conditions hold."""

    def __init__(self, conditions: list) -> None:
        self.conditions = conditions

    def over(self, document: dict, parts: list[str], positions: Positions) -> bool:
        return not all(condition.over(document, parts, []) for condition in self.conditions)

    def of(self, value: object) -> bool:
        return not all(condition.of(value) for condition in self.conditions)


def shown(document: dict, parts: list[str], goes_into_array: bool) -> Iterator[tuple[object, int | None]]:
    value: object = document
    for place, name in enumerate(parts):
        if not isinstance(value, dict):
            yield MISSING, None
            return
        value = value.get(name, MISSING)
        if isinstance(value, list):
            rest = parts[place + 1 :]
            if rest:
                yield from shown_inside(value, rest, goes_into_array)
            else:
                if goes_into_array:
                    yield from ((item, index) for index, item in enumerate(value))
                yield value, None
            return
    yield value, None


def shown_inside(array: list, rest: list[str], goes_into_array: bool) -> Iterator[tuple[object, int | None]]:
    for index, item in enumerate(array):
        is_named = rest[0] == str(index)
        if isinstance(item, dict):
            for value, _ in shown(item, rest, goes_into_array):
                yield value, index
        if is_named and len(rest) == 1:
            yield item, None
        elif is_named and isinstance(item, dict):
            yield from shown(item, rest[1:], goes_into_array)
        elif is_named and isinstance(item, list):
            yield from shown_inside(item, rest[1:], goes_into_array)


# The conditions on one field.


def is_operators(argument: object) -> bool:
    return isinstance(argument, dict) and bool(argument) and next(iter(argument)).startswith("$")


def conditions_of(argument: object) -> list[Some | Not]:
    if isinstance(argument, Regex | re.Pattern):
        return [Some(regex_test(*regex_parts(argument)))]
    if not is_operators(argument):
        return [Some(eq(argument))]
    return [found for name, value in argument.items() for found in conditions_by(name, value, argument)]


def conditions_by(name: str, value: object, siblings: dict) -> list[Some | Not]:
    if name in ("$comment", "$options"):
        if name == "$options" and "$regex" not in siblings:
            raise Refused("$options without $regex", 2)
        return []
    if name == "$not":
        return [not_(value)]
    if name == "$ne":
        if isinstance(value, Regex | re.Pattern):
            raise Refused("$ne takes no regex", 2)
        return [Not([Some(eq(value))])]
    if name == "$nin":
        return [Not([Some(in_(value))])]
    if name == "$exists":
        return [Some(exists) if truth(value) else Not([Some(exists)])]
    if name == "$all":
        return all_(value)
    if name == "$regex":
        return [Some(regex_operator(value, siblings.get("$options")))]
    if name in ARRAY_TESTS:
        return [Some(ARRAY_TESTS[name](value), sees_elements=False)]
    if name in VALUE_TESTS:
        return [Some(VALUE_TESTS[name](value))]
    raise Refused(f"no operator {name}", 2)


def not_(value: object) -> Not:
    if isinstance(value, Regex | re.Pattern):
        return Not([Some(regex_test(*regex_parts(value)))])
    if not is_operators(value):
        raise Refused("$not takes a regex or operators", 2)
    return Not(conditions_of(value))


# One function an operator.


def eq(argument: object) -> Test:
    if argument is None:
        return lambda value: value is MISSING or value is None
    return lambda value: value is not MISSING and equal(value, argument)


def compared(passes: Callable[[int], bool], *, with_equal: bool, above: bool) -> Callable[[object], Test]:
    def operator(argument: object) -> Test:
        if isinstance(argument, Regex | re.Pattern):
            raise Refused("a regex has no order here", 2)

        def test(value: object) -> bool:
            if rank(value) != rank(argument):
                if argument is None and value is MISSING:
                    return with_equal
                return type_name(argument) == ("minKey" if above else "maxKey")
            if is_nan(value) or is_nan(argument):
                return with_equal and is_nan(value) and is_nan(argument)
            return passes(compare(value, argument))

        return test

    return operator


def in_(argument: object) -> Test:
    if not isinstance(argument, list):
        raise Refused("$in takes a list", 2)
    if any(is_operators(item) for item in argument):
        raise Refused("no operators inside $in", 2)
    tests = [regex_test(*regex_parts(i)) if isinstance(i, Regex | re.Pattern) else eq(i) for i in argument]
    return lambda value: any(test(value) for test in tests)


def exists(value: object) -> bool:
    return value is not MISSING


def truth(value: object) -> bool:
    if value is None or value is False:
        return False
    return not (is_number(value) and exact(value) == 0)


def all_(argument: object) -> list[Some]:
    if not isinstance(argument, list):
        raise Refused("$all takes a list", 2)
    if not argument:
        return [Some(lambda value: False)]
    if is_operators(argument[0]) and next(iter(argument[0])) == "$elemMatch":
        if not all(is_operators(item) and next(iter(item)) == "$elemMatch" for item in argument):
            raise Refused("$all takes values or $elemMatch, not both", 2)
        return [Some(elem_match(item["$elemMatch"]), sees_elements=False) for item in argument]
    if any(is_operators(item) for item in argument):
        raise Refused("no operators inside $all", 2)
    return [found for item in argument for found in conditions_of(item)]


def regex_operator(value: object, options: object) -> Test:
    if isinstance(value, Regex | re.Pattern):
        pattern, letters = regex_parts(value)
    elif isinstance(value, str):
        pattern, letters = value, ""
    else:
        raise Refused("$regex takes text or a regex", 2)
    if options is not None:
        if not isinstance(options, str):
            raise Refused("$options takes text", 2)
        if letters:
            raise Refused("options stand in the regex and in $options", 51074)
        letters = options
    return regex_test(pattern, letters)


def regex_test(pattern: str, letters: str) -> Test:
    if set(letters) - set("imsxu"):
        raise Refused("no such regex option", 51108)
    flags = sum({getattr(re, letter.upper()) for letter in letters if letter != "u"})
    try:
        regex = re.compile(pattern, flags)
    except re.error as cause:
        raise Refused("a bad regex", 51091) from cause
    own = (pattern, "".join(sorted(letters)))

    def test(value: object) -> bool:
        if type_name(value) == "regex":
            return regex_parts(value) == own
        return type_name(value) == "string" and regex.search(value) is not None

    return test


def mod(argument: object) -> Test:
    if not isinstance(argument, list) or len(argument) != 2:
        raise Refused("$mod takes divisor and remainder", 2)
    divisor, remainder = (whole_part(item) if is_number(item) else None for item in argument)
    if divisor is None or remainder is None or divisor == 0:
        raise Refused("$mod takes a divisor that is not 0, and a remainder", 2)

    def test(value: object) -> bool:
        whole = whole_part(value) if is_number(value) else None
        if whole is None:
            return False
        left = abs(whole) % abs(divisor)
        return (-left if whole < 0 else left) == remainder

    return test


def whole_part(number: Real | Decimal128) -> int | None:
    """A number without its fraction, None where int64 does not hold it."""
    try:
        found = exact(number)
        whole = int(found.to_integral_value(ROUND_DOWN)) if isinstance(number, Decimal128) else int(found)
    except (ValueError, OverflowError):
        return None
    return whole if whole in INT64 else None


def type_(argument: object) -> Test:
    wanted = argument if isinstance(argument, list) else [argument]
    if not wanted:
        raise Refused("$type takes at least one type", 9)
    names: set[str] = set()
    for item in wanted:
        names |= named_types(item)
    return lambda value: value is not MISSING and type_name(value) in names


def named_types(item: object) -> set[str]:
    if item == "number" and isinstance(item, str):
        return {"double", "int", "long", "decimal"}
    if isinstance(item, str):
        if (item not in TYPES or item == "missing") and item not in OTHER_TYPE_NAMES:
            raise Refused(f"no type {item}", 2)
        return {item}
    if not is_number(item):
        raise Refused("a type is a name or a number", 14)
    found = {name for name, (number, _) in TYPES.items() if number is not None and exact(item) == number}
    if not found and exact(item) not in OTHER_TYPE_NAMES.values():
        raise Refused(f"no type {item}", 2)
    return found


def size(argument: object) -> Test:
    if not is_number(argument) or is_nan(argument) or whole_part(argument) != exact(argument) or exact(argument) < 0:
        raise Refused("$size takes a count")
    wanted = exact(argument)
    return lambda value: isinstance(value, list) and len(value) == wanted


def elem_match(argument: object) -> Test:
    """True comes back as (True, index), for the positional operator."""
    if not isinstance(argument, dict):
        raise Refused("$elemMatch takes a map", 2)
    logical = ("$and", "$or", "$nor", "$expr", "$comment")
    if is_operators(argument) and next(iter(argument)) not in logical:
        conditions = conditions_of(argument)

        def one(item: object) -> bool:
            return all(condition.of(item) for condition in conditions)
    else:
        whole = parsed(argument)

        def one(item: object) -> bool:
            if isinstance(item, list):
                item = {str(index): inner for index, inner in enumerate(item)}
            return isinstance(item, dict) and whole(item, [])

    def test(value: object) -> bool | tuple:
        if isinstance(value, list):
            for index, item in enumerate(value):
                if one(item):
                    return True, index
        return False

    return test


def bits(passes: Callable[[list[bool]], bool]) -> Callable[[object], Test]:
    def operator(argument: object) -> Test:
        places = bit_places(argument)

        def test(value: object) -> bool:
            if isinstance(value, bytes) or type_name(value) == "binData":
                data = bytes(value) if isinstance(value, bytes) else value.bytes
                return passes([place < 8 * len(data) and bool(data[place // 8] >> place % 8 & 1) for place in places])
            if not is_number(value) or is_nan(value):
                return False
            whole = whole_part(value)
            if whole is None or whole != exact(value):
                return False
            return passes([bool(whole >> min(place, 63) & 1) for place in places])

        return test

    return operator


def bit_places(argument: object) -> list[int]:
    if isinstance(argument, list):
        if not all(is_number(p) and whole_part(p) == exact(p) and exact(p) >= 0 for p in argument):
            raise Refused("bit positions are counts")
        return [int(exact(place)) for place in argument]
    if type_name(argument) == "binData":
        data = bytes(argument) if isinstance(argument, bytes) else argument.bytes
        return [place for place in range(8 * len(data)) if data[place // 8] >> place % 8 & 1]
    if is_number(argument) and not is_nan(argument) and whole_part(argument) == exact(argument) and exact(argument) >= 0:
        return [place for place in range(63) if int(exact(argument)) >> place & 1]
    raise Refused("bits are a mask, a list of positions, or binary")


VALUE_TESTS: dict[str, Callable[[object], Test]] = {
    "$eq": eq,
    "$gt": compared(lambda c: c > 0, with_equal=False, above=True),
    "$gte": compared(lambda c: c >= 0, with_equal=True, above=True),
    "$lt": compared(lambda c: c < 0, with_equal=False, above=False),
    "$lte": compared(lambda c: c <= 0, with_equal=True, above=False),
    "$in": in_,
    "$mod": mod,
    "$type": type_,
    "$bitsAllSet": bits(all),
    "$bitsAnySet": bits(any),
    "$bitsAllClear": bits(lambda found: not any(found)),
    "$bitsAnyClear": bits(lambda found: not all(found)),
}
ARRAY_TESTS: dict[str, Callable[[object], Test]] = {"$size": size, "$elemMatch": elem_match}
