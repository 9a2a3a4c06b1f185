"""Conditions: which codes of a column pass a filter's test. Pure.

    codes_passing(test, column, scale) -> (may, must)      ranges of codes; None when the column says nothing

An entry whose code is in `must` passes; one whose code is not in `may` does not. Between them are entries of kinds that keep no
values (decimals among numbers, arrays, maps, binary): only the document can say. Rules are those of query/tree.py: a
scalar sees entries of its own type, null sees missing fields too, NaN is in no range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import BadQuery
from ..fields.column import Column
from ..fields.values import KINDS, Kind, kind_of
from ..query.tree import Test
from .parts import Scale
from .rowsets import Ranges, joined

Codes = list[tuple[int, int]]
Passing = tuple[Codes, Codes]

_OPAQUE_BESIDE: Mapping[Kind, Kind] = MappingProxyType(
    # Kinds that share a type with one that keeps values: an entry there may equal or be in the range of the argument.
    {Kind.NUMBER: Kind.DECIMAL, Kind.DECIMAL: Kind.DECIMAL, Kind.UUID: Kind.BINARY}
)
_EXACT_INT_MAX = 2**53
_ORDERED = frozenset({Kind.NUMBER, Kind.DECIMAL, Kind.STRING, Kind.UUID, Kind.OBJECT_ID, Kind.BOOL, Kind.DATE})
_KINDS_OF_TYPE: Mapping[str, tuple[tuple[Kind, ...], tuple[Kind, ...]]] = MappingProxyType(
    # (kinds whose every entry is of the type, kinds that hold others besides)
    {
        "double": ((Kind.NAN,), (Kind.NUMBER,)),
        "int": ((), (Kind.NUMBER,)),
        "long": ((), (Kind.NUMBER,)),
        "decimal": ((Kind.DECIMAL,), ()),
        "string": ((Kind.STRING,), ()),
        "object": ((Kind.MAP,), ()),
        "array": ((), (Kind.ARRAY,)),
        "binData": ((Kind.BINARY, Kind.UUID), ()),
        "objectId": ((Kind.OBJECT_ID,), ()),
        "bool": ((Kind.BOOL,), ()),
        "date": ((Kind.DATE,), ()),
        "null": ((Kind.NULL,), ()),
        "regex": ((Kind.REGEX,), ()),
        "javascript": ((Kind.CODE,), ()),
        "timestamp": ((Kind.TIMESTAMP,), ()),
        "minKey": ((Kind.MIN_KEY,), ()),
        "maxKey": ((Kind.MAX_KEY,), ()),
    }
)
_NUMBER_TYPES = frozenset({"double", "int", "long"})


def codes_passing(test: Test, column: Column, scale: Scale) -> tuple[Ranges, Ranges] | None:
    """(may, must) of a test whose path is the column's; None when the column says nothing of it."""
    if test.op == "$regex":
        found: Passing | None = _matching(column, test.argument, scale.pattern_values)
    else:
        find = _BY_OPERATOR.get(test.op)
        found = find(column, test.argument) if find is not None else None
    if found is None:
        return None
    may = joined(found[0])
    must = may if found[0] is found[1] else joined(found[1])
    return (may, may) if may == must else (may, must)


def _equal(column: Column, value: Any) -> Passing | None:
    try:
        kind = kind_of(value)
    except TypeError:
        return None
    if kind in (Kind.NULL, Kind.MISSING):
        found = [column.kind_range(Kind.MISSING), column.kind_range(Kind.NULL)]
        return found, found
    if kind is Kind.BINARY:
        return [column.kind_range(Kind.BINARY), column.kind_range(Kind.UUID)], []
    if _is_nan(value, kind):
        found = [column.kind_range(Kind.NAN)]
        return [*found, column.kind_range(Kind.DECIMAL)], found
    try:
        found = [column.bounds(value)]
    except TypeError:
        return [column.kind_range(kind)], []
    beside = _OPAQUE_BESIDE.get(kind)
    return found if beside is None else [*found, column.kind_range(beside)], found


def _is_nan(value: Any, kind: Kind) -> bool:
    return kind is Kind.NAN or (kind is Kind.DECIMAL and str(value).lstrip("-").lower().startswith(("nan", "snan")))


def _one_of(column: Column, values: Any) -> Passing | None:
    numbers, others = [], values
    if column.remainders is None:
        numbers = [value for value in values if _is_usual_number(value)]
        others = [value for value in values if not _is_usual_number(value)] if len(numbers) < len(values) else ()
    must = _number_codes(column, numbers)
    lo, hi = column.kind_range(Kind.DECIMAL)
    if not others and lo == hi:
        return must, must
    may = [*must, (lo, hi)] if numbers else []
    for value in others:
        found = _equal(column, value)
        if found is None:
            return None
        may += found[0]
        must += found[1]
    return may, must


def _is_usual_number(value: Any) -> bool:
    """A number that is a double, so that many are looked up at once."""
    kind = type(value)
    return (kind is int and -_EXACT_INT_MAX <= value <= _EXACT_INT_MAX) or (kind is float and value == value)


def _number_codes(column: Column, values: list[Any]) -> Codes:
    if not values:
        return []
    start, _ = column.kind_range(Kind.NUMBER)
    wanted = np.unique(np.array(values, np.float64))
    lo, hi = column.numbers.searchsorted(wanted) + start, column.numbers.searchsorted(wanted, "right") + start
    is_there = hi > lo
    return list(zip(lo[is_there].tolist(), hi[is_there].tolist()))


def _range(column: Column, value: Any, name: str) -> Passing | None:
    try:
        kind = kind_of(value)
    except TypeError:
        return None
    if kind in (Kind.MIN_KEY, Kind.MAX_KEY):
        return None
    if kind is Kind.NULL or _is_nan(value, kind):
        return _equal(column, value) if name in ("$gte", "$lte") else ([], [])
    if kind is Kind.BINARY:
        return [column.kind_range(Kind.BINARY), column.kind_range(Kind.UUID)], []
    if kind not in _ORDERED:
        return [column.kind_range(kind)], []
    start, end = column.kind_range(Kind.NUMBER if kind is Kind.DECIMAL else kind)
    lo, hi = column.bounds(value)
    found = [{"$gt": (hi, end), "$gte": (lo, end), "$lt": (start, lo), "$lte": (start, hi)}[name]]
    beside = _OPAQUE_BESIDE.get(kind)
    return found if beside is None else [*found, column.kind_range(beside)], found


def _ranged(name: str) -> Callable[[Column, Any], Passing | None]:
    return lambda column, value: _range(column, value, name)


def _exists(column: Column, argument: Any) -> Passing | None:
    if argument is not True:
        return None
    lo, hi = column.kind_range(Kind.MISSING)
    found = [(0, lo), (hi, column.codes)]
    return found, found


def _typed(column: Column, names: Any) -> Passing | None:
    may: Codes = []
    must: Codes = []
    for name in names:
        known = _KINDS_OF_TYPE.get(name)
        if known is None:
            continue  # a type that no document here can hold
        certain = [column.kind_range(kind) for kind in known[0]]
        must += certain
        may += certain
        may += [column.kind_range(kind) for kind in known[1]]
    if names >= _NUMBER_TYPES:
        must.append(column.kind_range(Kind.NUMBER))
    return may, must


def _kinds(*kinds: Kind) -> Callable[[Column, Any], Passing]:
    """Only entries of these kinds can pass, and nothing more is known."""
    return lambda column, _: ([column.kind_range(kind) for kind in kinds], [])


def _matching(column: Column, pattern: Any, values_max: int) -> Passing:
    """A pattern, tried on each string where they are few; a regular expression as a value may match as well."""
    start, end = column.kind_range(Kind.STRING)
    regexes = column.kind_range(Kind.REGEX)
    if end - start > values_max:
        return [(start, end), regexes], []
    may: Codes = [regexes]
    must: Codes = []
    for code in range(start, end):
        try:
            is_match = pattern.search(column.strings.get(code - start))
        except BadQuery:  # it took too long; perhaps no document with this string is asked in the end
            may.append((code, code + 1))
            continue
        if is_match:
            must.append((code, code + 1))
    return may + must, must


_BY_OPERATOR: Mapping[str, Callable[[Column, Any], Passing | None]] = MappingProxyType(
    {
        "$eq": _equal,
        "$in": _one_of,
        "$gt": _ranged("$gt"),
        "$gte": _ranged("$gte"),
        "$lt": _ranged("$lt"),
        "$lte": _ranged("$lte"),
        "$exists": _exists,
        "$type": _typed,
        "$mod": _kinds(Kind.NUMBER, Kind.DECIMAL),
        "$size": _kinds(Kind.ARRAY),
        "$elemMatch": _kinds(Kind.ARRAY),
        **{
            name: _kinds(Kind.NUMBER, Kind.DECIMAL, Kind.BINARY, Kind.UUID)
            for name in ("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear")
        },
    }
)
assert len(Kind) == KINDS, "a new kind needs a place in the tables above"
