"""Stages that fold many documents into few: $group $bucket $bucketAuto $sortByCount $count. Pure.

Groups stand in memory, within memory.py's bound; groups come out in the order of their first documents, buckets in theirs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import BadQuery
from ..values.order import SortKey
from .accumulators import Accumulation, compile_accumulator
from .arithmetic import is_number, whole_number
from .expression_operands import Compiled, Constant, Scope, order_key
from .memory import Held, size_of
from .paths import MISSING
from .pipeline import Context, Item, Rows, in_batches
from .sorting import compile_sort
from .stage_order import OrderStage, Runs
from .type_names import type_name

_GROUP_BYTES = 300  # of a group's own, and of each accumulator
_NULL = order_key(None)
BUCKETS_MAX = 2**31 - 1


def read_accumulations(fields: Mapping[str, Any], scope: Scope) -> list[tuple[str, Accumulation]]:
    """[(field, accumulation)] of {field: {accumulator: operand}}. Raises BadQuery."""
    found = []
    for field, spec in fields.items():
        if "." in field:
            raise BadQuery(f"$group: field {field!r} must not hold '.'", code=40235)
        if field.startswith("$"):
            raise BadQuery(f"$group: field {field!r} must not begin with '$'", code=40236)
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$group: field {field!r} must be a map with one accumulator, such as {{$sum: 1}}", code=40234)
        if len(spec) != 1:
            raise BadQuery(f"$group: field {field!r} must have exactly one accumulator, not {len(spec)}", code=40238)
        (name, argument), *_ = spec.items()
        found.append((field, compile_accumulator(name, argument, scope)))
    return found


class Fold:
    """Groups that are being filled. finish() gives their documents."""

    def __init__(self, stage: str, fields: Sequence[tuple[str, Accumulation]]) -> None:
        self._names = [name for name, _ in fields]
        self._operands = [accumulation.operand for _, accumulation in fields]
        self._begins = [accumulation.begin for _, accumulation in fields]
        self._held = Held(stage)
        self._groups: dict[Any, tuple[Any, list[Any]]] = {}

    def add(self, identity: Any, value: Any, document: dict, variables: dict) -> None:
        """identity: what tells groups apart; value: the `_id` of a new one."""
        group = self._groups.get(identity)
        if group is None:
            group = self._groups[identity] = (value, [begin() for begin in self._begins])
            self._held.add(_GROUP_BYTES * (1 + len(self._begins)) + 2 * size_of(value))
        for operand, accumulator in zip(self._operands, group[1]):
            grown = accumulator.add(operand(document, variables))
            if grown:
                self._held.add(grown)

    def identities(self) -> list[Any]:
        return list(self._groups)

    def document(self, identity: Any) -> dict:
        value, accumulators = self._groups[identity]
        made = {"_id": None if value is MISSING else value}
        for name, accumulator in zip(self._names, accumulators):
            found = accumulator.value()
            made[name] = None if found is MISSING else found
        return made


class Group:
    """$group. key_spec and fields: as they stood in the query, for whoever answers it from an index."""

    is_repeatable = False

    def __init__(self, spec: Any, scope: Scope) -> None:
        """Raises BadQuery."""
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$group takes a map of fields, not {type_name(spec)}", code=15947)
        if "_id" not in spec:
            raise BadQuery("$group needs an _id: the expression to group by, or null for one group of all", code=15955)
        self.spec = spec
        self.key_spec = spec["_id"]
        self._key = scope.compile(self.key_spec)
        self.fields = read_accumulations({name: part for name, part in spec.items() if name != "_id"}, scope)

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        key, variables = self._key, context.variables
        fold = Fold("$group", self.fields)
        for item in items:
            if type(item) is Rows:
                yield item
                continue
            for document in item:
                value = key(document, variables)
                fold.add(_NULL if value is MISSING else order_key(value), value, document, variables)
            yield []
        yield from in_batches(map(fold.document, fold.identities()))


class Bucket:
    """$bucket: groups by the boundaries between which a value lies, in their order."""

    is_repeatable = False

    def __init__(self, spec: Any, scope: Scope) -> None:
        """Raises BadQuery."""
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$bucket takes a map, not {type_name(spec)}", code=40201)
        for name in spec:
            if name not in ("groupBy", "boundaries", "default", "output"):
                raise BadQuery(f"$bucket has no argument {name!r}", code=40197)
        if "groupBy" not in spec or "boundaries" not in spec:
            raise BadQuery("$bucket needs groupBy and boundaries", code=40198)
        self.spec = spec
        self._key = _grouping(spec["groupBy"], scope, "$bucket", 40202)
        self._boundaries = _boundaries(spec["boundaries"], scope)
        self._keys = [order_key(value) for value in self._boundaries]
        self._default = MISSING
        if "default" in spec:
            self._default = _default(spec["default"], scope, self._keys)
        self.fields = _output(spec.get("output"), scope, "$bucket", 40196)

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        variables = context.variables
        fold = Fold("$bucket", self.fields)
        for item in items:
            if type(item) is Rows:
                yield item
                continue
            for document in item:
                place = self._place(order_key(self._key(document, variables)))
                fold.add(place, self._default if place < 0 else self._boundaries[place], document, variables)
            yield []
        places = sorted(fold.identities())
        if places and places[0] < 0 and order_key(self._default) > self._keys[0]:
            places.append(places.pop(0))
        yield from in_batches(map(fold.document, places))

    def _place(self, key: SortKey) -> int:
        """The boundary that begins the value's bucket; -1 for the default bucket."""
        if self._keys[0] <= key < self._keys[-1]:
            return bisect_right(self._keys, key) - 1
        if self._default is MISSING:
            raise BadQuery("$bucket: a document lies outside all boundaries, and there is no default; give one", code=40066)
        return -1


def _grouping(spec: Any, scope: Scope, stage: str, code: int) -> Compiled:
    if not (isinstance(spec, str) and spec.startswith("$")) and not isinstance(spec, Mapping):
        raise BadQuery(f"{stage}: groupBy must be a path that begins with '$', or an expression", code=code)
    return scope.compile(spec)


def _boundaries(spec: Any, scope: Scope) -> list[Any]:
    if not isinstance(spec, (list, tuple)):
        raise BadQuery(f"$bucket: boundaries must be an array, not {type_name(spec)}", code=40200)
    if len(spec) < 2:
        raise BadQuery("$bucket: there must be at least 2 boundaries", code=40192)
    values = []
    for part in spec:
        compiled = scope.compile(part)
        if not isinstance(compiled, Constant):
            raise BadQuery("$bucket: boundaries must be constants", code=40191)
        values.append(compiled.value)
    keys = [order_key(value) for value in values]
    if len({key[0] for key in keys}) > 1:
        raise BadQuery("$bucket: boundaries must all be of one type", code=40193)
    if any(after <= before for before, after in zip(keys, keys[1:])):
        raise BadQuery("$bucket: boundaries must ascend", code=40194)
    return values


def _default(spec: Any, scope: Scope, keys: list[SortKey]) -> Any:
    compiled = scope.compile(spec)
    if not isinstance(compiled, Constant):
        raise BadQuery("$bucket: default must be a constant", code=40195)
    if keys[0] <= order_key(compiled.value) < keys[-1]:
        raise BadQuery("$bucket: default must lie outside the boundaries", code=40199)
    return compiled.value


def _output(spec: Any, scope: Scope, stage: str, code: int) -> list[tuple[str, Accumulation]]:
    if spec is None:
        spec = {"count": {"$sum": 1}}
    if not isinstance(spec, Mapping):
        raise BadQuery(f"{stage}: output must be a map of accumulators, not {type_name(spec)}", code=code)
    return read_accumulations(spec, scope)


class BucketAuto:
    """$bucketAuto: so many buckets of about equally many documents; equal values never lie in two."""

    is_repeatable = False

    def __init__(self, spec: Any, scope: Scope) -> None:
        """Raises BadQuery."""
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$bucketAuto takes a map, not {type_name(spec)}", code=40240)
        for name in spec:
            if name == "granularity":
                raise BadQuery("$bucketAuto: granularity is not there; leave it out", code=40257)
            if name not in ("groupBy", "buckets", "output"):
                raise BadQuery(f"$bucketAuto has no argument {name!r}", code=40245)
        if "groupBy" not in spec or "buckets" not in spec:
            raise BadQuery("$bucketAuto needs groupBy and buckets", code=40246)
        self.spec = spec
        self._key = _grouping(spec["groupBy"], scope, "$bucketAuto", 40239)
        if not is_number(spec["buckets"]):
            raise BadQuery(f"$bucketAuto: buckets must be a number, not {type_name(spec['buckets'])}", code=40241)
        count = whole_number(spec["buckets"])
        if count is None or abs(count) > BUCKETS_MAX:
            raise BadQuery("$bucketAuto: buckets must be a whole number of 32 bits", code=40242)
        if count <= 0:
            raise BadQuery(f"$bucketAuto: buckets must be positive, not {count}", code=40243)
        self._count = count
        self.fields = _output(spec.get("output"), scope, "$bucketAuto", 40244)

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        key, variables = self._key, context.variables
        runs = Runs("$bucketAuto", 0)
        total = 0
        for item in items:
            if type(item) is Rows:
                yield item
                continue
            found = [(value := key(document, variables), document) for document in item]
            runs.add([(_NULL if value is MISSING else order_key(value), (value, document)) for value, document in found])
            total += len(item)
            yield []
        fold = Fold("$bucketAuto", self.fields)
        size = max(1, int(total / self._count + 0.5))
        ends: list[list[Any]] = []  # of each bucket: smallest and largest value
        filled, last_key = 0, None
        for number, (sort_key, (value, document)) in enumerate(runs.merged()):
            is_full = filled >= size and sort_key != last_key and len(ends) < self._count
            if not ends or is_full:
                ends.append([value, value])
                filled = 0
            fold.add(len(ends) - 1, None, document, variables)
            ends[-1][1] = value
            filled, last_key = filled + 1, sort_key
            if number % 64 == 63:
                yield []
        for place, following in enumerate(ends[1:]):
            ends[place][1] = following[0]
        yield from in_batches(
            {**fold.document(place), "_id": {"min": _stored(low), "max": _stored(high)}} for place, (low, high) in enumerate(ends)
        )


def _stored(value: Any) -> Any:
    return None if value is MISSING else value


def sort_by_count(spec: Any, scope: Scope) -> list[Any]:
    """The two stages that $sortByCount is. Raises BadQuery."""
    if isinstance(spec, Mapping):
        first = next(iter(spec), "")
        if not (isinstance(first, str) and first.startswith("$")):
            raise BadQuery("$sortByCount takes a path that begins with '$', or an expression", code=40147)
    elif not isinstance(spec, str):
        raise BadQuery("$sortByCount takes a path that begins with '$', or an expression", code=40149)
    elif not spec.startswith("$"):
        raise BadQuery(f"$sortByCount: the path {spec!r:.60} must begin with '$'", code=40148)
    return [Group({"_id": spec, "count": {"$sum": 1}}, scope), OrderStage({"count": -1}, compile_sort([["count", -1]]))]


class Count:
    """$count: one document with the number, or none at all when nothing came."""

    is_repeatable = False

    def __init__(self, name: Any) -> None:
        """Raises BadQuery."""
        if not isinstance(name, str):
            raise BadQuery(f"$count takes a field's name, not {type_name(name)}", code=40156)
        if not name:
            raise BadQuery("$count: the field's name must not be empty", code=40157)
        if name.startswith("$"):
            raise BadQuery(f"$count: the field's name {name!r:.60} must not begin with '$'", code=40158)
        if "\0" in name:
            raise BadQuery("$count: the field's name must not hold NUL", code=40159)
        if "." in name:
            raise BadQuery(f"$count: the field's name {name!r:.60} must not hold '.'", code=40160)
        self.spec = self.name = name

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        total = 0
        for item in items:
            if type(item) is Rows:
                yield item
            else:
                total += len(item)
                yield []
        if total:
            yield [{self.name: total}]
