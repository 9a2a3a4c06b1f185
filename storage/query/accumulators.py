"""Accumulators: what $group and its kin fold many documents into. Pure.

    compile_accumulator(name, argument, scope) ──> Accumulation
        .operand(root, variables)  one document's part
        .begin()                   a fresh Accumulator: add(part) for each document, then value()

add() returns how many bytes more the accumulator now holds, about, so that whoever runs it can keep its bound; most hold none.

Rules kept from MongoDB: $sum and $avg pass over what is no number, $min and $max over null and missing, $push and $addToSet over missing;
$first and $last take what is there, a missing value as null. Among documents that sort alike, $top takes the first that came, $bottom the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from ..errors import BadQuery
from ..values.order import SortKey
from .arithmetic import is_number
from .expression_arrays import wanted_count
from .expression_operands import Compiled, Constant, Scope, is_nullish, named_specs, order_key
from .memory import size_of
from .numbers import Total, as_float
from .paths import MISSING
from .sorting import compile_sort
from .type_names import type_name


class Accumulator(Protocol):
    """One running fold."""

    def add(self, value: Any) -> int: ...

    def value(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Accumulation:
    """A compiled accumulator. name and argument: as they stood in the query, for whoever answers it from an index."""

    name: str
    argument: Any
    operand: Compiled
    begin: Callable[[], Accumulator]


class Sum:
    """$sum, and $avg when told so."""

    __slots__ = ("_count", "_is_mean", "_total")

    def __init__(self, *, is_mean: bool = False) -> None:
        self._total = Total()
        self._count = 0
        self._is_mean = is_mean

    def add(self, value: Any) -> int:
        if is_number(value):
            self._count += 1
            self._total.add(value)
        return 0

    def value(self) -> Any:
        if not self._is_mean:
            return self._total.value()
        return self._total.mean(self._count) if self._count else None


class Extreme:
    """$min and $max."""

    __slots__ = ("_found", "_is_largest", "_key")

    def __init__(self, *, is_largest: bool) -> None:
        self._is_largest = is_largest
        self._key: SortKey | None = None
        self._found: Any = None

    def add(self, value: Any) -> int:
        if is_nullish(value):
            return 0
        key = order_key(value)
        if self._key is None or (key > self._key if self._is_largest else key < self._key):
            self._key, self._found = key, value
        return 0

    def value(self) -> Any:
        return self._found


class First:
    """$first."""

    __slots__ = ("_found", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._found: Any = None

    def add(self, value: Any) -> int:
        if self._is_set:
            return 0
        self._is_set, self._found = True, value
        return size_of(value)

    def value(self) -> Any:
        return self._found


class Last:
    """$last."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: Any = None

    def add(self, value: Any) -> int:
        grown = size_of(value) - size_of(self._found)
        self._found = value
        return grown

    def value(self) -> Any:
        return self._found


class Push:
    """$push."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[Any] = []

    def add(self, value: Any) -> int:
        if value is MISSING:
            return 0
        self._found.append(value)
        return 8 + size_of(value)

    def value(self) -> Any:
        return self._found


class AddToSet:
    """$addToSet, in the order of first sight."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[SortKey, Any] = {}

    def add(self, value: Any) -> int:
        if value is MISSING:
            return 0
        key = order_key(value)
        if key in self._found:
            return 0
        self._found[key] = value
        return 200 + 2 * size_of(value)

    def value(self) -> Any:
        return list(self._found.values())


class Merge:
    """$mergeObjects."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def add(self, value: Any) -> int:
        if is_nullish(value):
            return 0
        if type(value) is not dict:
            raise BadQuery(f"$mergeObjects takes maps, not {type_name(value)}", code=40400)
        self._found.update(value)
        return size_of(value)

    def value(self) -> Any:
        return self._found


class Deviation:
    """$stdDevPop and $stdDevSamp, by Welford's running mean and sum of squares."""

    __slots__ = ("_count", "_is_sample", "_mean", "_squares")

    def __init__(self, *, is_sample: bool) -> None:
        self._is_sample = is_sample
        self._count = 0
        self._mean = self._squares = 0.0

    def add(self, value: Any) -> int:
        if is_number(value):
            number = as_float(value)
            self._count += 1
            delta = number - self._mean
            self._mean += delta / self._count
            self._squares += delta * (number - self._mean)
        return 0

    def value(self) -> Any:
        divisor = self._count - 1 if self._is_sample else self._count
        if divisor <= 0:
            return None
        return math.sqrt(self._squares / divisor) if self._squares == self._squares else math.nan


class Ends:
    """$firstN and $lastN."""

    __slots__ = ("_count", "_found", "_from_end")

    def __init__(self, count: int, *, from_end: bool) -> None:
        self._count = count
        self._from_end = from_end
        self._found: list[Any] = []

    def add(self, value: Any) -> int:
        if not self._from_end and len(self._found) == self._count:
            return 0
        self._found.append(None if value is MISSING else value)
        if len(self._found) >= 2 * self._count + 64:
            del self._found[: -self._count]
        return 8 + size_of(value) if len(self._found) <= self._count else 0

    def value(self) -> Any:
        return self._found[-self._count :] if self._from_end else self._found


class Best:
    """$top, $bottom, $minN and theirs: the first or last `count` of (key, output) in key order, ties in order of arrival."""

    __slots__ = ("_count", "_from_end", "_held", "_is_single")

    def __init__(self, count: int, *, from_end: bool, is_single: bool = False) -> None:
        self._count = count
        self._from_end = from_end
        self._is_single = is_single
        self._held: list[tuple[Any, Any]] = []

    def add(self, value: Any) -> int:
        if value is MISSING:  # $minN and $maxN have nothing to add
            return 0
        self._held.append(value)
        if len(self._held) >= 2 * self._count + 64:
            self._cut()
        return 100 + size_of(value[1]) if len(self._held) <= self._count else 0

    def _cut(self) -> None:
        self._held.sort(key=lambda row: row[0])
        if self._from_end:
            del self._held[: -self._count]
        else:
            del self._held[self._count :]

    def value(self) -> Any:
        self._cut()
        found = [None if output is MISSING else output for _, output in self._held]
        return (found[0] if found else None) if self._is_single else found


def compile_accumulator(name: str, argument: Any, scope: Scope) -> Accumulation:
    """The accumulator of {name: argument}. Raises BadQuery (15952 for one that is not known)."""
    begin = _SIMPLE.get(name)
    if begin is not None:
        if isinstance(argument, (list, tuple)):
            raise BadQuery(f"the accumulator {name} takes one operand, not an array of them", code=40237)
        return Accumulation(name, argument, scope.compile(argument), begin)
    if name == "$count":
        if not isinstance(argument, Mapping) or argument:
            raise BadQuery("the accumulator $count takes an empty map", code=9)
        return Accumulation(name, argument, Constant(1), Sum)
    make = _OF_SEVERAL.get(name)
    if make is None:
        reason = "no JavaScript runs in this server" if name == "$accumulator" else "it is not known"
        raise BadQuery(f"unknown accumulator {name}: {reason}", code=15952, operator=name)
    return make(name, argument, scope)


def _count_of(name: str, spec: Any, scope: Scope) -> int:
    count = scope.compile(spec)
    if not isinstance(count, Constant):
        raise BadQuery(f"{name}: n must be a number here, not an expression that differs by group", code=5787902)
    return min(wanted_count(name, count.value), 2**31)


def _ends(name: str, argument: Any, scope: Scope) -> Accumulation:
    specs = named_specs(name, argument, required=("n", "input"), code=5787801)
    count, from_end = _count_of(name, specs["n"], scope), name == "$lastN"
    return Accumulation(name, argument, scope.compile(specs["input"]), lambda: Ends(count, from_end=from_end))


def _extremes(name: str, argument: Any, scope: Scope) -> Accumulation:
    specs = named_specs(name, argument, required=("n", "input"), code=5787900)
    count, source = _count_of(name, specs["n"], scope), scope.compile(specs["input"])
    turn: Callable[[SortKey], Any] = _Descending if name == "$maxN" else lambda key: key

    def operand(root: dict, variables: dict) -> Any:
        value = source(root, variables)
        return MISSING if is_nullish(value) else (turn(order_key(value)), value)

    return Accumulation(name, argument, operand, lambda: Best(count, from_end=False))


class _Descending:
    """Turns a key around for list.sort."""

    __slots__ = ("key",)

    def __init__(self, key: SortKey) -> None:
        self.key = key

    def __lt__(self, other: _Descending) -> bool:
        return other.key < self.key


def _by_order(name: str, argument: Any, scope: Scope) -> Accumulation:
    is_single = name in ("$top", "$bottom")
    required = ("sortBy", "output") if is_single else ("n", "sortBy", "output")
    specs = named_specs(name, argument, required=required, code=5788001, missing_code=5788005)
    if not isinstance(specs["sortBy"], Mapping):
        raise BadQuery(f"{name}: sortBy must be a map of fields", code=10065)
    key = compile_sort([[field, direction] for field, direction in specs["sortBy"].items()])
    output = scope.compile(specs["output"])
    count = 1 if is_single else _count_of(name, specs["n"], scope)
    from_end = name in ("$bottom", "$bottomN")
    return Accumulation(
        name,
        argument,
        lambda root, variables: (key(root), output(root, variables)),
        lambda: Best(count, from_end=from_end, is_single=is_single),
    )


_SIMPLE: Mapping[str, Callable[[], Accumulator]] = MappingProxyType(
    {
        "$sum": Sum,
        "$avg": lambda: Sum(is_mean=True),
        "$min": lambda: Extreme(is_largest=False),
        "$max": lambda: Extreme(is_largest=True),
        "$first": First,
        "$last": Last,
        "$push": Push,
        "$addToSet": AddToSet,
        "$mergeObjects": Merge,
        "$stdDevPop": lambda: Deviation(is_sample=False),
        "$stdDevSamp": lambda: Deviation(is_sample=True),
    }
)
_OF_SEVERAL: Mapping[str, Callable[[str, Any, Scope], Accumulation]] = MappingProxyType(
    {
        "$firstN": _ends,
        "$lastN": _ends,
        "$minN": _extremes,
        "$maxN": _extremes,
        "$top": _by_order,
        "$bottom": _by_order,
        "$topN": _by_order,
        "$bottomN": _by_order,
    }
)
