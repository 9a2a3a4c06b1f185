"""Update operators on arrays: their arguments checked, then the change each makes to the array at its path. Pure.

    $push       value, or {$each: [...], $position, $sort, $slice}: put in, then sort, then cut
    $addToSet   value, or {$each: [...]}: what the array does not hold yet, at its end
    $pull       value, {operator: argument} or {field: condition}: elements that match go
    $pullAll    [value, ...]: elements that equal one of them go
    $pop        -1: the first element goes; 1: the last

$push and $addToSet make a missing array; the others leave a missing field alone. Equality is that of all types (1 and
1.0 are one element, the order of keys counts). `$pull` takes a map that begins with an operator as a condition on the
element, any other map as a filter that elements which are documents must match.

Cost: $addToSet, $pullAll and $pull by value make one key an element; nothing is compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bson import Regex

from ..errors import BadQuery
from ..values.order import NULL_KEY, SortKey, sort_key
from .arithmetic import is_number, whole_number
from .filters import compile_filter
from .paths import MISSING, NO_INDEX, Path
from .type_names import type_name
from .update_operators import Argument, identity, stored
from .update_tree import Application, Change, Leaf, shown

_BAD_VALUE, _FAILED_TO_PARSE, _TYPE_MISMATCH = 2, 9, 14
_PUSH_CLAUSES = frozenset(("$each", "$position", "$sort", "$slice"))
_WHOLE_FILTERS = frozenset(("$and", "$or", "$nor", "$expr", "$comment", "$jsonSchema", "$where", "$text"))
_REFERENCE_KEYS = frozenset(("$ref", "$id", "$db"))
_ELEMENT = "element"  # the name under which a single element is shown to a filter
Arrange = Callable[[list], list]


def push(operator: str, path: str, argument: Any) -> list[Leaf]:
    if not isinstance(argument, Mapping) or "$each" not in argument:
        return [Leaf(operator, path, _pushing(path, [stored(operator, path, argument)], None, None))]
    for clause in argument:
        if clause not in _PUSH_CLAUSES:
            raise BadQuery(f"$push {shown(path)}: unknown clause {clause!r:.40} beside $each", code=_BAD_VALUE)
    added = _each(operator, path, argument["$each"], _BAD_VALUE)
    position = _clause_number(path, "$position", argument) if "$position" in argument else None
    arrange: list[Arrange] = []
    if "$sort" in argument:
        arrange.append(_sorting(path, argument["$sort"]))
    if "$slice" in argument:
        arrange.append(_slicing(_clause_number(path, "$slice", argument)))
    return [Leaf(operator, path, _pushing(path, added, position, arrange or None))]


def _each(operator: str, path: str, given: Any, code: int) -> list[Argument]:
    if not isinstance(given, (list, tuple)):
        raise BadQuery(f"{operator} {shown(path)}: $each must be an array, not of type {_given_type(given)}", code=code)
    return [stored(operator, path, value) for value in given]


def _given_type(given: Any) -> str:
    name = type_name(given)
    return type(given).__name__ if name == "missing" else name


def _clause_number(path: str, clause: str, argument: Mapping[str, Any]) -> int:
    given = argument[clause]
    number = whole_number(given) if is_number(given) else None
    if number is None:
        raise BadQuery(f"$push {shown(path)}: the value of {clause} must be an integer, not {given!r:.40}", code=_BAD_VALUE)
    return number


def _pushing(path: str, added: list[Argument], position: int | None, arrange: list[Arrange] | None) -> Change:
    values = [argument.value for argument in added]
    size = sum(argument.size for argument in added)
    sizes = {id(argument.value): argument.size for argument in added}  # the values stay alive as long as this

    def change(old: Any, application: Application) -> Any:
        array = _array_at("$push", path, old, application)
        at = len(array) if position is None else position  # Python's slices read negative ones as MongoDB does
        found = [*array[:at], *values, *array[at:]]
        if arrange is None:
            application.add_bytes(size)
            return found
        for step in arrange:
            found = step(found)
        application.add_bytes(sum([sizes.get(id(element), 0) for element in found]))
        return found

    return change


def _array_at(operator: str, path: str, old: Any, application: Application) -> list:
    if old is MISSING:
        return []
    if type(old) is not list:
        raise BadQuery(
            f"{operator}: field {shown(path)} must be an array, but is of type {type_name(old)} in the document with "
            f"{identity(application)}",
            code=_BAD_VALUE,
        )
    return old


def _slicing(count: int) -> Arrange:
    if count >= 0:
        return lambda array: array[:count]
    return lambda array: array[count:]


def _sorting(path: str, order: Any) -> Arrange:
    if not isinstance(order, Mapping):
        is_descending = _is_descending(path, order)
        return lambda array: sorted(array, key=sort_key, reverse=is_descending)
    if not order:
        raise BadQuery(f"$push {shown(path)}: $sort needs at least one field", code=_BAD_VALUE)
    fields = []
    for name, direction in order.items():
        if not isinstance(name, str) or not all(name.split(".")) or name.startswith("$"):
            raise BadQuery(f"$push {shown(path)}: $sort field {name!r:.40} is no field name", code=_BAD_VALUE)
        fields.append((_key_at(Path(name)), _is_descending(path, direction)))

    def arranged(array: list) -> list:
        found = list(array)
        for key, is_descending in reversed(fields):  # list.sort keeps ties in order, so the least significant goes first
            found.sort(key=key, reverse=is_descending)
        return found

    return arranged


def _is_descending(path: str, direction: Any) -> bool:
    number = whole_number(direction) if is_number(direction) else None
    if number not in (1, -1):
        raise BadQuery(
            f"$push {shown(path)}: $sort must be 1 or -1 for whole elements, or {{field: 1 or -1}}, not {direction!r:.40}",
            code=_BAD_VALUE,
        )
    return number == -1


def _key_at(path: Path) -> Callable[[Any], SortKey]:
    """Unlike a query's sort, $push compares what the path names as a whole, also an array; what is not there is null."""

    def key(element: Any) -> SortKey:
        for part, position in zip(path.parts, path.indexes):
            if type(element) is dict and part in element:
                element = element[part]
            elif type(element) is list and position != NO_INDEX and position < len(element):
                element = element[position]
            else:
                return NULL_KEY
        return sort_key(element)

    # An element that is itself an array has no field of any name, not even a number.
    return lambda element: key(element) if type(element) is dict else NULL_KEY


def add_to_set(operator: str, path: str, argument: Any) -> list[Leaf]:
    if isinstance(argument, Mapping) and next(iter(argument), None) == "$each":
        if len(argument) > 1:
            raise BadQuery(f"$addToSet {shown(path)}: nothing may stand beside $each", code=_BAD_VALUE)
        added = _each(operator, path, argument["$each"], _TYPE_MISMATCH)
    else:
        added = [stored(operator, path, argument)]
    by_key: dict[SortKey, Argument] = {}
    for value in added:
        by_key.setdefault(sort_key(value.value), value)

    def change(old: Any, application: Application) -> Any:
        array = _array_at(operator, path, old, application)
        held = {sort_key(element) for element in array}
        new = [value for key, value in by_key.items() if key not in held]
        if not new and old is not MISSING:
            return old
        application.add_bytes(sum([value.size for value in new]))
        return [*array, *[value.value for value in new]]

    return [Leaf(operator, path, change)]


def pull(operator: str, path: str, argument: Any) -> list[Leaf]:
    value = stored(operator, path, argument).value
    if type(value) is dict:
        first = next(iter(value), "")
        if first.startswith("$") and first not in _WHOLE_FILTERS and first not in _REFERENCE_KEYS:
            goes = _matching_element(value)
        else:
            matches = compile_filter(value)

            def goes(element: Any) -> bool:
                return type(element) is dict and matches(element)

    elif type(value) is Regex:
        goes = _matching_element(value)
    else:
        key = sort_key(value)

        def goes(element: Any) -> bool:
            return sort_key(element) == key

    return [_culling(operator, path, goes)]


def _matching_element(condition: Any) -> Callable[[Any], bool]:
    matches = compile_filter({_ELEMENT: condition})
    return lambda element: matches({_ELEMENT: element})


def pull_all(operator: str, path: str, argument: Any) -> list[Leaf]:
    if not isinstance(argument, (list, tuple)):
        raise BadQuery(
            f"$pullAll {shown(path)}: the argument must be an array, not of type {_given_type(argument)}", code=_BAD_VALUE
        )
    keys = frozenset(sort_key(value) for value in stored(operator, path, argument).value)
    return [_culling(operator, path, lambda element: sort_key(element) in keys)]


def _culling(operator: str, path: str, goes: Callable[[Any], bool]) -> Leaf:
    def change(old: Any, application: Application) -> Any:
        if old is MISSING:
            return old
        array = _array_at(operator, path, old, application)
        kept = [element for element in array if not goes(element)]
        return old if len(kept) == len(array) else kept

    return Leaf(operator, path, change)


def pop(operator: str, path: str, argument: Any) -> list[Leaf]:
    number = whole_number(argument) if is_number(argument) else None
    if number not in (1, -1):
        raise BadQuery(
            f"$pop {shown(path)}: the argument must be 1 (last) or -1 (first), not {argument!r:.40}", code=_FAILED_TO_PARSE
        )

    def change(old: Any, application: Application) -> Any:
        if old is MISSING:
            return old
        if type(old) is not list:
            raise BadQuery(
                f"$pop: field {shown(path)} is of type {type_name(old)}, not an array, in the document with "
                f"{identity(application)}",
                code=_TYPE_MISMATCH,
            )
        if not old:
            return old
        return old[:-1] if number == 1 else old[1:]

    return [Leaf(operator, path, change)]
