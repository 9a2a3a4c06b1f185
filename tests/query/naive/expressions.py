"""Aggregation expressions: value(expression, document). Pure; one function an operator. MISSING is the value of what is not there."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR

from bson import Decimal128

from .numbers import DECIMAL128, added, as_decimal, average, multiplied, total
from .values import (
    INT64,
    MISSING,
    NUMBERS,
    Refused,
    compare,
    equal,
    exact,
    is_nan,
    is_number,
    milliseconds,
    type_name,
)

Variables = dict[str, object]


def value(expression: object, document: dict, variables: Variables | None = None) -> object:
    variables = {"ROOT": document, "CURRENT": document, "REMOVE": MISSING} if variables is None else variables
    if isinstance(expression, str) and expression.startswith("$"):
        return path_value(expression, variables)
    if isinstance(expression, list):
        return [nothing_is_null(value(item, document, variables)) for item in expression]
    if not isinstance(expression, dict):
        return expression
    if len(expression) == 1 and next(iter(expression)).startswith("$"):
        [(name, argument)] = expression.items()
        if name in LAZY:
            return LAZY[name](argument, lambda inner, more=None: value(inner, document, {**variables, **(more or {})}))
        if name not in OPERATORS:
            raise Refused(f"no expression {name}", 168)
        given = argument if isinstance(argument, list) else [argument]
        return OPERATORS[name]([value(item, document, variables) for item in given])
    if any(name.startswith("$") for name in expression):
        raise Refused("an expression has one operator", None)
    found = {name: value(inner, document, variables) for name, inner in expression.items()}
    return {name: inner for name, inner in found.items() if inner is not MISSING}


def is_true(found: object) -> bool:
    if found is MISSING or found is None or found is False:
        return False
    return not (is_number(found) and exact(found) == 0)


def is_nothing(found: object) -> bool:
    return found is None or found is MISSING


def nothing_is_null(found: object) -> object:
    return None if found is MISSING else found


def path_value(expression: str, variables: Variables) -> object:
    if expression.startswith("$$"):
        name, *path = expression[2:].split(".")
        if name not in variables:
            raise Refused(f"no variable {name}", 17276)
        return walked(variables[name], path)
    return walked(variables["CURRENT"], expression[1:].split("."))


def walked(found: object, path: list[str]) -> object:
    """The maps of an array are gone through; what is not there in one, and what is no map, leaves no trace."""
    if not path:
        return found
    if isinstance(found, list):
        inner = [walked(item, path) for item in found if isinstance(item, dict)]
        return [item for item in inner if item is not MISSING]
    return walked(found.get(path[0], MISSING), path[1:]) if isinstance(found, dict) else MISSING


# Numbers.


def numbers_in_turn(given: list) -> list | None:
    """The operands, looked at one after another: a null ends it with null, before what stands behind it is looked at."""
    for item in given:
        if is_nothing(item):
            return None
        if not is_number(item):
            raise Refused("a number is needed")
    return given


def two_numbers(given: list) -> list | None:
    """Two operands, or None when either is null or missing."""
    pair = exactly(given, 2)
    if any(is_nothing(item) for item in pair):
        return None
    if not all(is_number(item) for item in pair):
        raise Refused("a number is needed")
    return pair


def one_number(given: list) -> object:
    [operand] = exactly(given, 1)
    return None if numbers_in_turn([operand]) is None else operand


def exactly(given: list, count: int) -> list:
    if len(given) != count:
        raise Refused(f"takes {count} operands, not {len(given)}", 16020)
    return given


def int_or_double(number: object) -> object:
    return float(number) if isinstance(number, int) and number not in INT64 else number


def add(given: list) -> object:
    dates = [item for item in given if type_name(item) == "date"]
    if not dates:
        found = numbers_in_turn(given)
        return None if found is None else total(found)
    if len(dates) > 1 and not any(is_nothing(item) for item in given):
        raise Refused("$add takes one date", 16612)
    found = numbers_in_turn([0 if type_name(item) == "date" else item for item in given])
    return None if found is None else moved(dates[0], total(found))


def moved(date: object, by: object) -> datetime.datetime:
    """A date so many milliseconds later."""
    if not isinstance(by, int) or abs(by) > 10**12:
        refusal = Refused("how parts of milliseconds are rounded, and dates far away, are not this evaluator's to say")
        refusal.is_spared = True
        raise refusal
    return date + datetime.timedelta(milliseconds=by)


def subtract(given: list) -> object:
    a, b = exactly(given, 2)
    if type_name(a) == "date" and type_name(b) == "date":
        return milliseconds(a) - milliseconds(b)
    if type_name(a) == "date" and is_number(b):
        return moved(a, -b if isinstance(b, int) else b)
    found = two_numbers(given)
    if found is None:
        return None
    if isinstance(a, Decimal128) or isinstance(b, Decimal128):
        return Decimal128(DECIMAL128.subtract(as_decimal(a), as_decimal(b)))
    return int_or_double(added(a, -b))


def multiply(given: list) -> object:
    found = numbers_in_turn(given)
    if found is None:
        return None
    product: object = 1
    for number in found:
        product = int_or_double(multiplied(product, number))
    return product


def divide(given: list) -> object:
    found = two_numbers(given)
    if found is None:
        return None
    a, b = found
    if exact(b) == 0:
        raise Refused("division by zero", None)
    if isinstance(a, Decimal128) or isinstance(b, Decimal128):
        return Decimal128(DECIMAL128.divide(as_decimal(a), as_decimal(b)))
    return float(a) / float(b)


def mod(given: list) -> object:
    found = two_numbers(given)
    if found is None:
        return None
    a, b = found
    if exact(b) == 0:
        raise Refused("modulo by zero")
    if isinstance(a, Decimal128) or isinstance(b, Decimal128):
        return Decimal128(DECIMAL128.remainder(as_decimal(a), as_decimal(b)))
    if isinstance(a, int) and isinstance(b, int):
        return int(math.copysign(1, a)) * (abs(a) % abs(b))
    return math.nan if math.isinf(float(a)) else math.fmod(float(a), float(b))


def absolute(given: list) -> object:
    number = one_number(given)
    if number is None:
        return None
    return Decimal128(abs(number.to_decimal())) if isinstance(number, Decimal128) else abs(number)


def rounding(plain: Callable[[float], float], decimal_mode: str) -> Callable[[list], object]:
    def operator(given: list) -> object:
        number = one_number(given)
        if number is None or isinstance(number, int):
            return number
        if isinstance(number, Decimal128):
            return Decimal128(number.to_decimal().to_integral_value(decimal_mode)) if not is_nan(number) else number
        return float(plain(number)) if math.isfinite(number) else number

    return operator


# Comparison and logic.


def comparison(passes: Callable[[int], bool]) -> Callable[[list], bool]:
    def operator(given: list) -> bool:
        a, b = exactly(given, 2)
        return passes(compare(a, b))

    return operator


def not_(given: list) -> bool:
    [operand] = exactly(given, 1)
    return not is_true(operand)


def cond(argument: object, ask: Callable) -> object:
    if isinstance(argument, dict):
        if set(argument) != {"if", "then", "else"}:
            raise Refused("$cond takes if, then, else", None)
        argument = [argument["if"], argument["then"], argument["else"]]
    condition, then, otherwise = exactly(argument if isinstance(argument, list) else [argument], 3)
    return ask(then) if is_true(ask(condition)) else ask(otherwise)


def if_null(argument: object, ask: Callable) -> object:
    if not isinstance(argument, list) or len(argument) < 2:
        raise Refused("$ifNull takes two operands or more", None)
    for inner in argument:
        found = ask(inner)
        if not is_nothing(found):
            return found
    return found


def switch(argument: dict, ask: Callable) -> object:
    for branch in argument["branches"]:
        if is_true(ask(branch["case"])):
            return ask(branch["then"])
    if "default" not in argument:
        raise Refused("no branch of $switch is true and there is no default", 40066)
    return ask(argument["default"])


# Text.


def concat(given: list) -> object:
    for item in given:
        if is_nothing(item):
            return None
        if type_name(item) != "string":
            raise Refused("$concat takes text", 16702)
    return "".join(given)


def cased(change: Callable[[str], str]) -> Callable[[list], str]:
    """Text alone is tested: dates and numbers would become text first."""

    def operator(given: list) -> str:
        [operand] = exactly(given, 1)
        return "" if is_nothing(operand) else change(operand)

    return operator


def str_len(given: list) -> int:
    [operand] = exactly(given, 1)
    if type_name(operand) != "string":
        raise Refused("$strLenCP takes text", 34471)
    return len(operand)


def split(given: list) -> object:
    text, separator = exactly(given, 2)
    if is_nothing(text) or is_nothing(separator):
        return None
    if type_name(text) != "string":
        raise Refused("$split takes text", 40085)
    return text.split(separator)


# Arrays and maps.


def array_or_null(operand: object, code: int | None) -> list | None:
    if is_nothing(operand):
        return None
    if not isinstance(operand, list):
        raise Refused("an array is needed", code)
    return operand


def size(given: list) -> int:
    [operand] = exactly(given, 1)
    if not isinstance(operand, list):
        raise Refused("$size takes an array", 17124)
    return len(operand)


def element_at(given: list) -> object:
    array, index = exactly(given, 2)
    if is_nothing(array) or is_nothing(index):
        return None
    array = array_or_null(array, 28689)
    return array[index] if -len(array) <= index < len(array) else MISSING


def end_of(index: int) -> Callable[[list], object]:
    def operator(given: list) -> object:
        [operand] = exactly(given, 1)
        array = array_or_null(operand, 28689)
        return None if array is None else array[index] if array else MISSING

    return operator


def slice_(given: list) -> object:
    if any(is_nothing(item) for item in given):
        return None
    array = array_or_null(given[0], 28724)
    if len(given) == 2:
        return array[: given[1]] if given[1] >= 0 else array[given[1] :]
    start = given[1] if given[1] >= 0 else max(0, len(array) + given[1])
    if given[2] <= 0:
        raise Refused("$slice takes a count above 0", 28729)
    return array[start : start + given[2]]


def concat_arrays(given: list) -> object:
    arrays = []
    for item in given:
        array = array_or_null(item, 28664)
        if array is None:
            return None
        arrays += array
    return arrays


def in_(given: list) -> bool:
    wanted, array = exactly(given, 2)
    if not isinstance(array, list):
        raise Refused("$in takes an array", 40081)
    return any(compare(wanted, item) == 0 for item in array)


def index_of(given: list) -> object:
    array = array_or_null(given[0], 40090)
    if array is None:
        return None
    return next((place for place, item in enumerate(array) if compare(item, given[1]) == 0), -1)


def reverse(given: list) -> object:
    [operand] = exactly(given, 1)
    array = array_or_null(operand, 34435)
    return None if array is None else array[::-1]


def filter_(argument: dict, ask: Callable) -> object:
    array = array_or_null(ask(argument["input"]), 28651)
    name = argument.get("as", "this")
    return None if array is None else [item for item in array if is_true(ask(argument["cond"], {name: item}))]


def map_(argument: dict, ask: Callable) -> object:
    array = array_or_null(ask(argument["input"]), 16883)
    name = argument.get("as", "this")
    return None if array is None else [nothing_is_null(ask(argument["in"], {name: item})) for item in array]


def reduce_(argument: dict, ask: Callable) -> object:
    array = array_or_null(ask(argument["input"]), 40080)
    if array is None:
        return None
    found = ask(argument["initialValue"])
    for item in array:
        found = ask(argument["in"], {"value": found, "this": item})
    return found


def let(argument: dict, ask: Callable) -> object:
    return ask(argument["in"], {name: ask(inner) for name, inner in argument["vars"].items()})


def merge_objects(given: list) -> object:
    found: dict = {}
    for item in given:
        if is_nothing(item):
            continue
        if not isinstance(item, dict):
            raise Refused("$mergeObjects takes maps", 40400)
        found.update(item)
    return found


def object_to_array(given: list) -> object:
    [operand] = exactly(given, 1)
    if is_nothing(operand):
        return None
    if not isinstance(operand, dict):
        raise Refused("$objectToArray takes a map", 40390)
    return [{"k": name, "v": inner} for name, inner in operand.items()]



def set_equals(given: list) -> bool:
    a, b = given
    if not isinstance(a, list) or not isinstance(b, list):
        raise Refused("$setEquals takes arrays", 17044)
    return all(any(equal(x, y) for y in b) for x in a) and all(any(equal(x, y) for y in a) for x in b)


def set_is_subset(given: list) -> bool:
    a, b = exactly(given, 2)
    if not isinstance(a, list) or not isinstance(b, list):
        raise Refused("$setIsSubset takes arrays", None)
    return all(any(equal(x, y) for y in b) for x in a)


# What accumulators do, over a list of operands or over one array.


def operands(given: list) -> list:
    return given[0] if len(given) == 1 and isinstance(given[0], list) else given


def sum_(given: list) -> object:
    return total([item for item in operands(given) if type_name(item) in NUMBERS])


def avg(given: list) -> object:
    return average([item for item in operands(given) if type_name(item) in NUMBERS])


def least(given: list, sign: int = 1) -> object:
    found = None
    for item in operands(given):
        if not is_nothing(item) and (found is None or compare(item, found) * sign < 0):
            found = item
    return found


def greatest(given: list) -> object:
    return least(given, -1)


def type_(given: list) -> str:
    [operand] = exactly(given, 1)
    return type_name(operand)


def is_array(given: list) -> bool:
    [operand] = exactly(given, 1)
    return isinstance(operand, list)


def is_number_(given: list) -> bool:
    [operand] = exactly(given, 1)
    return is_number(operand)


LAZY: dict[str, Callable[[object, Callable], object]] = {
    "$literal": lambda argument, ask: argument,
    "$cond": cond,
    "$ifNull": if_null,
    "$switch": switch,
    "$filter": filter_,
    "$map": map_,
    "$reduce": reduce_,
    "$let": let,
    "$and": lambda argument, ask: all(is_true(ask(i)) for i in (argument if isinstance(argument, list) else [argument])),
    "$or": lambda argument, ask: any(is_true(ask(i)) for i in (argument if isinstance(argument, list) else [argument])),
}
OPERATORS: dict[str, Callable[[list], object]] = {
    "$add": add,
    "$subtract": subtract,
    "$multiply": multiply,
    "$divide": divide,
    "$mod": mod,
    "$abs": absolute,
    "$ceil": rounding(math.ceil, ROUND_CEILING),
    "$floor": rounding(math.floor, ROUND_FLOOR),
    "$eq": comparison(lambda c: c == 0),
    "$ne": comparison(lambda c: c != 0),
    "$gt": comparison(lambda c: c > 0),
    "$gte": comparison(lambda c: c >= 0),
    "$lt": comparison(lambda c: c < 0),
    "$lte": comparison(lambda c: c <= 0),
    "$cmp": comparison(lambda c: c),
    "$not": not_,
    "$concat": concat,
    "$toUpper": cased(str.upper),
    "$toLower": cased(str.lower),
    "$strLenCP": str_len,
    "$split": split,
    "$size": size,
    "$arrayElemAt": element_at,
    "$first": end_of(0),
    "$last": end_of(-1),
    "$slice": slice_,
    "$concatArrays": concat_arrays,
    "$in": in_,
    "$indexOfArray": index_of,
    "$isArray": is_array,
    "$reverseArray": reverse,
    "$mergeObjects": merge_objects,
    "$objectToArray": object_to_array,
    "$setEquals": set_equals,
    "$setIsSubset": set_is_subset,
    "$sum": sum_,
    "$avg": avg,
    "$min": least,
    "$max": greatest,
    "$type": type_,
    "$isNumber": is_number_,
}
