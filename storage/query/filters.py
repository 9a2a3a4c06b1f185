"""Filters: a MongoDB filter document to a predicate over decoded documents. Pure; knows no index and no storage.

A predicate is given what documents.decode returns, so values have exactly the types that gives.

    filter      {field: literal | {operator: argument, ...}, "$and" | "$or" | "$nor": [filter, ...], ...}    all must hold
    operators   $eq $ne $gt $gte $lt $lte $in $nin $exists $not

Rules kept from MongoDB: numbers compare by value across types; ranges only see values of the argument's own type, but
`$gt: MinKey` and `$lt: MaxKey` see all; null also matches a missing field; a field that holds an array matches when an
element or the whole array does; `$ne`, `$nin`, `$not` and `$nor` are exact negations; maps are equal with equal key
order; NaN equals NaN and is in no range. A map whose first key begins with "$" holds operators (but `$ref`, `$id` and
`$db` begin a reference, a plain value). Everything unknown raises BadQuery with its name.

Regular expressions match only as values ($eq), never against text: there is no engine here that could not be made to
run for hours by a hostile pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bson import Decimal128, MaxKey, MinKey, Regex

from ..errors import BadDocument, BadQuery
from ..values.keys import canonical
from ..values.order import NAN_KEY, NULL_KEY, RANK_MAX_KEY, RANK_MIN_KEY, sort_key
from .paths import MISSING, Path, Test

DEPTH_MAX = 100  # of operators inside each other, and of $and, $or and $nor
Predicate = Callable[[dict], bool]
_NUMBERS = frozenset((int, float))
_REFERENCE_KEYS = frozenset(("$ref", "$id", "$db"))


class Filter:
    """A compiled filter: call it with a decoded document to learn whether that matches."""

    __slots__ = ("_matches", "point", "spec")

    def __init__(self, spec: Mapping[str, Any]) -> None:
        """Raises BadQuery."""
        self.spec = spec
        self.point = id_point(spec)  # (True, canonical key) when at most the document with that `_id` can match
        self._matches = _compile(spec, 1)

    def __call__(self, document: dict) -> bool:
        return self._matches(document)


def compile_filter(spec: Mapping[str, Any]) -> Filter:
    """The filter of a MongoDB filter document. Raises BadQuery."""
    return Filter(spec)


def id_point(spec: Mapping[str, Any]) -> tuple[bool, bytes | None]:
    """(True, canonical key) when at most the document with that `_id` can match: read it, then apply the filter.

    (False, None) for all other filters, and for values that no `_id` can have. Raises BadQuery only for what is no map.
    """
    value = pinned_id(spec)
    if value is MISSING:
        return False, None
    try:
        return True, canonical(value)
    except BadDocument:
        return False, None


def pinned_id(spec: Mapping[str, Any]) -> Any:
    """The one value `_id` must equal for the filter to match, or MISSING: an upsert takes its `_id` from here."""
    if not isinstance(spec, Mapping):
        raise _not_a_map(spec)
    found = _pinned(spec["_id"]) if "_id" in spec else MISSING
    clauses = spec.get("$and")
    for clause in clauses if isinstance(clauses, (list, tuple)) else ():
        if found is MISSING and isinstance(clause, Mapping) and "_id" in clause:
            found = _pinned(clause["_id"])
    return found


def _pinned(condition: Any) -> Any:
    if not _holds_operators(condition):
        return condition
    if "$eq" in condition:
        return condition["$eq"]
    choices = condition.get("$in")
    return choices[0] if isinstance(choices, (list, tuple)) and len(choices) == 1 else MISSING


def _compile(spec: Any, depth: int) -> Predicate:
    if not isinstance(spec, Mapping):
        raise _not_a_map(spec)
    if depth > DEPTH_MAX:
        raise _too_deep()
    clauses = []
    for name, argument in spec.items():
        if not isinstance(name, str):
            raise BadQuery(f"a field name must be text, not {type(name).__name__}")
        if name.startswith("$"):
            clauses.append(_logical(name, argument, depth))
        else:
            clauses.append(_field(name, argument))
    if len(clauses) == 1:
        return clauses[0]
    return lambda document: all(clause(document) for clause in clauses)


def _logical(name: str, argument: Any, depth: int) -> Predicate:
    if name not in ("$and", "$or", "$nor"):
        raise BadQuery(f"unknown top-level operator {name}: $and, $or and $nor take filters, all others stand under a field")
    if not isinstance(argument, (list, tuple)) or not argument:
        raise BadQuery(f"{name} takes a non-empty array of filters")
    parts = [_compile(part, depth + 1) for part in argument]
    if name == "$and":
        return lambda document: all(part(document) for part in parts)
    if name == "$or":
        return lambda document: any(part(document) for part in parts)
    return lambda document: not any(part(document) for part in parts)


def _field(name: str, condition: Any) -> Predicate:
    path = Path(name)
    if not _holds_operators(condition):
        if isinstance(condition, (Regex, re.Pattern)):
            raise BadQuery(f"field {name!r}: regular expressions cannot be matched against text in this version")
        return _reaching(path, _equals(condition))
    return _operators(path, condition, 1)


def _operators(path: Path, condition: Mapping[str, Any], depth: int) -> Predicate:
    if depth > DEPTH_MAX:
        raise _too_deep()
    clauses = [_operator(path, name, argument, depth) for name, argument in condition.items()]
    if len(clauses) == 1:
        return clauses[0]
    return lambda document: all(clause(document) for clause in clauses)


def _operator(path: Path, name: Any, argument: Any, depth: int) -> Predicate:
    field = ".".join(path.parts)
    make = _TESTS.get(name)
    if make is not None:
        return _reaching(path, make(field, argument))
    if name == "$ne":
        _refuse_regex(field, name, argument)
        return _negated(_reaching(path, _equals(argument)))
    if name == "$nin":
        return _negated(_reaching(path, _one_of(field, argument)))
    if name == "$exists":
        exists = _reaching(path, _is_present)
        return exists if _is_true(argument) else _negated(exists)
    if name == "$not":
        if not _holds_operators(argument):
            raise BadQuery(f"field {field!r}: $not takes a map of operators that is not empty")
        return _negated(_operators(path, argument, depth + 1))
    raise BadQuery(f"field {field!r}: unknown operator {name}", operator=str(name))


def _reaching(path: Path, test: Test) -> Predicate:
    """The predicate "any value at the path passes"; one part, the usual case, goes without the walk."""
    if len(path.parts) > 1:
        return lambda document: path.any_value(document, test)
    name = path.parts[0]

    def matches(document: dict) -> bool:
        value = document.get(name, MISSING)
        if type(value) is list:
            return any(map(test, value)) or test(value)
        return test(value)

    return matches


def _negated(predicate: Predicate) -> Predicate:
    return lambda document: not predicate(document)


def _is_present(value: Any) -> bool:
    return value is not MISSING


def _equals(argument: Any) -> Test:
    kind = type(argument)
    if kind is str:
        return lambda value: type(value) is str and value == argument
    if argument is None:
        return lambda value: value is None or value is MISSING
    key = _key(argument)
    if key == NAN_KEY or kind not in _NUMBERS:
        return lambda value: value is not MISSING and sort_key(value) == key

    def matches(value: Any) -> bool:
        kind = type(value)
        if kind is int or kind is float:
            return value == argument
        return kind is Decimal128 and sort_key(value) == key

    return matches


def _equals_operator(field: str, argument: Any) -> Test:
    return _equals(argument)


def _one_of(field: str, argument: Any) -> Test:
    if not isinstance(argument, (list, tuple)):
        raise BadQuery(f"field {field!r}: $in and $nin take an array")
    for choice in argument:
        if _holds_operators(choice):
            raise BadQuery(f"field {field!r}: $in and $nin take plain values, not operators such as {next(iter(choice))}")
        _refuse_regex(field, "$in", choice)
    wants_null = any(choice is None for choice in argument)
    texts = frozenset(choice for choice in argument if type(choice) is str)
    others = frozenset(_key(choice) for choice in argument if type(choice) is not str)
    if not others:
        return lambda value: type(value) is str and value in texts

    def matches(value: Any) -> bool:
        if value is MISSING:
            return wants_null
        if type(value) is str:
            return value in texts
        return sort_key(value) in others

    return matches


def _greater(field: str, argument: Any) -> Test:
    return _range(field, "$gt", argument, lambda a, b: a > b, equal_counts=False)


def _greater_or_equal(field: str, argument: Any) -> Test:
    return _range(field, "$gte", argument, lambda a, b: a >= b, equal_counts=True)


def _less(field: str, argument: Any) -> Test:
    return _range(field, "$lt", argument, lambda a, b: a < b, equal_counts=False)


def _less_or_equal(field: str, argument: Any) -> Test:
    return _range(field, "$lte", argument, lambda a, b: a <= b, equal_counts=True)


def _range(field: str, name: str, argument: Any, holds: Callable[[Any, Any], bool], *, equal_counts: bool) -> Test:
    """Type bracketing: only values of the argument's rank, except against MinKey and MaxKey, which bound everything."""
    _refuse_regex(field, name, argument)
    if isinstance(argument, (MinKey, MaxKey)):
        bound = (RANK_MIN_KEY if isinstance(argument, MinKey) else RANK_MAX_KEY,)
        return lambda value: holds(NULL_KEY if value is MISSING else sort_key(value), bound)
    key = _key(argument)
    if key in (NAN_KEY, NULL_KEY):
        return _equals(argument) if equal_counts else _never
    rank = key[0]
    is_number = type(argument) in _NUMBERS
    is_text = type(argument) is str

    def matches(value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return is_text and holds(value, argument)
        if is_number and (kind is int or kind is float):
            return holds(value, argument)
        if value is MISSING:
            return False
        found = sort_key(value)
        return found[0] == rank and found != NAN_KEY and holds(found, key)

    return matches


def _never(value: Any) -> bool:
    return False


_TESTS: Mapping[str, Callable[[str, Any], Test]] = MappingProxyType(
    {
        "$eq": _equals_operator,
        "$in": _one_of,
        "$gt": _greater,
        "$gte": _greater_or_equal,
        "$lt": _less,
        "$lte": _less_or_equal,
    }
)


def _holds_operators(condition: Any) -> bool:
    if not isinstance(condition, Mapping):
        return False
    first = next(iter(condition), "")
    return isinstance(first, str) and first.startswith("$") and first not in _REFERENCE_KEYS


def _is_true(argument: Any) -> bool:
    """As MongoDB reads flags: everything is true but false, null and zero."""
    return argument is not None and argument is not False and sort_key(argument) != sort_key(0)


def _key(argument: Any) -> tuple[Any, ...]:
    try:
        return sort_key(argument)
    except BadDocument as cause:
        raise BadQuery(cause.message) from None
    except RecursionError:
        raise _too_deep() from None


def _refuse_regex(field: str, name: str, argument: Any) -> None:
    if isinstance(argument, (Regex, re.Pattern)):
        raise BadQuery(f"field {field!r}: {name} does not take a regular expression")


def _too_deep() -> BadQuery:
    return BadQuery(f"the filter nests deeper than {DEPTH_MAX}")


def _not_a_map(spec: Any) -> BadQuery:
    return BadQuery(f"a filter must be a map, not {type(spec).__name__}")
