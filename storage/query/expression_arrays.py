"""Expressions on arrays as a whole: $size to $sortArray. Pure; those that run over elements are expression_loops.py's.

A null or missing array gives null, except where MongoDB refuses it ($size, $in).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import BadQuery
from .arithmetic import is_number, whole_number
from .expression_operands import (
    Compiled,
    Constant,
    Make,
    Scope,
    exactly,
    is_nullish,
    named,
    named_specs,
    null_if_nullish,
    order_key,
    positional,
    whole_32,
)
from .paths import MISSING
from .sorting import compile_sort
from .type_names import type_name

CONCATENATED_MAX = 16 * 2**20  # elements; each takes a byte at least
RANGE_ELEMENTS_A_STEP = 8  # of a loop
ELEMENTS_MAX = 1_000_000  # of an array that $range or $zip makes


def array(name: str, value: Any, code: int) -> list:
    """The value, which must be an array."""
    if type(value) is not list:
        raise BadQuery(f"{name} takes an array, not {type_name(value)}", code=code)
    return value


def _element_at(value: Any, index: Any) -> Any:
    array("$arrayElemAt", value, 28689)
    if not is_number(index):
        raise BadQuery(f"$arrayElemAt: the position must be a number, not {type_name(index)}", code=28690)
    place = whole_32(index)
    if place is None:
        raise BadQuery("$arrayElemAt: the position must be a whole number of 32 bits", code=28691)
    return value[place] if -len(value) <= place < len(value) else MISSING


def _first(value: Any) -> Any:
    return value[0] if array("$first", value, 28689) else MISSING


def _last(value: Any) -> Any:
    return value[-1] if array("$last", value, 28689) else MISSING


def _slice(value: Any, *numbers: Any) -> Any:
    array("$slice", value, 28724)
    places = []
    for number, (kind_code, whole_code) in zip(numbers, ((28725, 28726), (28727, 28728))):
        if not is_number(number):
            raise BadQuery(f"$slice: positions must be numbers, not {type_name(number)}", code=kind_code)
        place = whole_32(number)
        if place is None:
            raise BadQuery("$slice: positions must be whole numbers of 32 bits", code=whole_code)
        places.append(place)
    if len(places) == 1:
        return value[: places[0]] if places[0] >= 0 else value[places[0] :]
    start, count = places
    if count <= 0:
        raise BadQuery(f"$slice: the number of elements must be positive, not {count}", code=28729)
    if start < 0:
        start = max(0, len(value) + start)
    return value[start : start + count]


def _concat_arrays(*values: Any) -> Any:
    found: list[Any] = []
    for value in values:
        if is_nullish(value):
            return None
        found += array("$concatArrays", value, 28664)
        if len(found) > CONCATENATED_MAX:
            raise BadQuery(f"$concatArrays would make more than {CONCATENATED_MAX} elements, which no document can hold", code=10334)
    return found


def _in(name: str, argument: Any, scope: Scope) -> Compiled:
    def holds(wanted: Any, value: Any) -> bool:
        key = order_key(wanted)
        return any(order_key(element) == key for element in array("$in: the second operand", value, 40081))

    if isinstance(argument, (list, tuple)) and len(argument) == 2:
        second = scope.compile(argument[1])
        if isinstance(second, Constant) and type(second.value) is list:
            keys = frozenset(order_key(element) for element in second.value)
            first = scope.compile(argument[0])
            return lambda root, variables: order_key(first(root, variables)) in keys
    return exactly(2, holds)(name, argument, scope)


def _index_of(value: Any, wanted: Any, start: Any = 0, end: Any = None) -> Any:
    if is_nullish(value):
        return None
    array("$indexOfArray", value, 40090)
    first = _index(start)
    last = len(value) if end is None else min(_index(end), len(value))
    key = order_key(wanted)
    return next((place for place in range(first, last) if order_key(value[place]) == key), -1)


def _index(value: Any) -> int:
    found = whole_32(value) if is_number(value) else None
    if found is None:
        raise BadQuery(f"$indexOfArray: a position must be a whole number of 32 bits, not {type_name(value)}", code=40096)
    if found < 0:
        raise BadQuery("$indexOfArray: a position must not be negative", code=40097)
    return found


def _range(start: Any, end: Any, step: Any = 1) -> list[int]:
    places = []
    for number, what, (kind_code, whole_code) in (
        (start, "start", (34443, 34444)),
        (end, "end", (34445, 34446)),
        (step, "step", (34447, 34448)),
    ):
        if not is_number(number):
            raise BadQuery(f"$range: the {what} must be a number, not {type_name(number)}", code=kind_code)
        place = whole_32(number)
        if place is None:
            raise BadQuery(f"$range: the {what} must be a whole number of 32 bits", code=whole_code)
        places.append(place)
    if not places[2]:
        raise BadQuery("$range: the step must not be zero", code=34449)
    made = range(*places)
    if len(made) > ELEMENTS_MAX:
        raise BadQuery(f"$range would make {len(made)} elements, the limit is {ELEMENTS_MAX}", code=146)
    return list(made)


def _counted_range(name: str, argument: Any, scope: Scope) -> Compiled:
    """The elements count as steps: a range within a loop makes as many again at every turn."""
    made = positional(_range, 2, 3)(name, argument, scope)

    def evaluate(root: dict, variables: dict) -> Any:
        found = made(root, variables)
        scope.steps.take(root, len(found) // RANGE_ELEMENTS_A_STEP)
        return found

    return evaluate


def _zip(name: str, argument: Any, scope: Scope) -> Compiled:
    specs = named_specs(
        name,
        argument,
        required=("inputs",),
        optional=("useLongestLength", "defaults"),
        code=34460,
        unknown_code=34464,
        missing_code=34465,
    )
    inputs, defaults = specs["inputs"], specs.get("defaults", ())
    is_longest = specs.get("useLongestLength", False)
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise BadQuery("$zip: inputs must be an array of at least one expression", code=34461)
    if not isinstance(is_longest, bool):
        raise BadQuery("$zip: useLongestLength must be true or false", code=34462)
    if not isinstance(defaults, (list, tuple)):
        raise BadQuery("$zip: defaults must be an array", code=34463)
    if defaults and not is_longest:
        raise BadQuery("$zip: defaults are used with useLongestLength: true only", code=34466)
    if defaults and len(defaults) != len(inputs):
        raise BadQuery(f"$zip: {len(inputs)} inputs need as many defaults, not {len(defaults)}", code=34467)
    sources = [scope.compile(part) for part in inputs]
    fillers = [scope.compile(part) for part in defaults]

    def evaluate(root: dict, variables: dict) -> Any:
        arrays = [source(root, variables) for source in sources]
        if any(map(is_nullish, arrays)):
            return None
        lengths = [len(array("$zip", value, 34468)) for value in arrays]
        count = max(lengths) if is_longest else min(lengths)
        if count * len(arrays) > ELEMENTS_MAX:
            raise BadQuery(f"$zip would make {count * len(arrays)} elements, the limit is {ELEMENTS_MAX}", code=146)
        filling = [filler(root, variables) for filler in fillers] or [None] * len(arrays)
        filling = [None if value is MISSING else value for value in filling]
        return [
            [value[place] if place < len(value) else other for value, other in zip(arrays, filling)] for place in range(count)
        ]

    return evaluate


def _sort_array(name: str, argument: Any, scope: Scope) -> Compiled:
    specs = named_specs(name, argument, required=("input", "sortBy"), code=2942500, unknown_code=2942501, missing_code=2942502)
    source, order = scope.compile(specs["input"]), specs["sortBy"]
    if isinstance(order, Mapping):
        by_fields = compile_sort([[field, direction] for field, direction in order.items()])
        turned = False

        def key(value: Any) -> Any:
            return by_fields(value if type(value) is dict else {})

    else:
        direction = whole_number(order) if is_number(order) else None
        if direction not in (1, -1):
            raise BadQuery(f"$sortArray: sortBy must be 1, -1 or a map of fields, not {order!r:.40}", code=15974)
        key, turned = order_key, direction == -1

    def evaluate(root: dict, variables: dict) -> Any:
        value = source(root, variables)
        if is_nullish(value):
            return None
        return sorted(array("$sortArray", value, 2942504), key=key, reverse=turned)

    return evaluate


def _first_of_order(name: str, argument: Any, scope: Scope) -> Compiled:
    """$firstN $lastN $minN $maxN of an array."""
    parts = named(name, argument, scope, required=("n", "input"), code=5787801)
    count, source = parts["n"], parts["input"]

    def evaluate(root: dict, variables: dict) -> list:
        number = wanted_count(name, count(root, variables))
        value = array(f"{name}: input", source(root, variables), 5788200)
        if name == "$firstN":
            return value[:number]
        if name == "$lastN":
            return value[-number:]
        kept = [element for element in value if element is not None]
        return sorted(kept, key=order_key, reverse=name == "$maxN")[:number]

    return evaluate


def wanted_count(name: str, value: Any) -> int:
    """n of $firstN and its kin."""
    found = whole_number(value) if is_number(value) else None
    if found is None:
        raise BadQuery(f"{name}: n must be a whole number, not {type_name(value)}", code=5787902)
    if found <= 0:
        raise BadQuery(f"{name}: n must be positive, not {found}", code=5787908)
    return found


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$size": exactly(1, lambda value: len(array("$size", value, 17124))),
        "$isArray": exactly(1, lambda value: type(value) is list),
        "$arrayElemAt": exactly(2, null_if_nullish(_element_at)),
        "$first": exactly(1, null_if_nullish(_first)),
        "$last": exactly(1, null_if_nullish(_last)),
        "$slice": positional(null_if_nullish(_slice), 2, 3),
        "$concatArrays": positional(_concat_arrays, 0),
        "$in": _in,
        "$indexOfArray": positional(_index_of, 2, 4),
        "$reverseArray": exactly(1, null_if_nullish(lambda value: array("$reverseArray", value, 34435)[::-1])),
        "$range": _counted_range,
        "$zip": _zip,
        "$sortArray": _sort_array,
        "$firstN": _first_of_order,
        "$lastN": _first_of_order,
        "$minN": _first_of_order,
        "$maxN": _first_of_order,
    }
)
