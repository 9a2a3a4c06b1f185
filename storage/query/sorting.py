"""Sorts: compiled once to a key function, then applied to each decoded document. Pure.

    [[path, 1 | -1], ...] or {path: 1 | -1, ...} ── compile_sort ──> Sort(document) -> key

MongoDB's rules: a field that reaches several values (an array) counts as its smallest when ascending, its largest when
descending; a missing field is null, an empty array comes before null. Where several sort fields lie in one array, its
elements are compared as wholes and one element gives all their values; where they lie in different arrays the document
cannot be sorted (BadQuery).

`{"$natural": 1}` is the order in which documents were last written, -1 its reverse; see Sort.fields.

Costs: one walk a field; the rule about arrays costs nothing until two fields of one document meet arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bson import Decimal128

from ..errors import BadQuery
from ..values.order import NULL_KEY, RANK_EMPTY_ARRAY, SortKey, sort_key
from .paths import MISSING, Path

SORT_FIELDS_MAX = 32
ASCENDING, DESCENDING = 1, -1
NATURAL = "$natural"
NOT_A_DIRECTION, BAD_DIRECTION, NO_META, EMPTY_NAME, DOLLAR_NAME = 15974, 15975, 17312, 40352, 16410
_EMPTY_ARRAY_KEY = (RANK_EMPTY_ARRAY,)


class _Descending:
    """Turns a sort key around: `list.sort` and `heapq` only ask for less-than and equality."""

    __slots__ = ("key",)

    def __init__(self, key: SortKey) -> None:
        self.key = key

    def __lt__(self, other: _Descending) -> bool:
        return other.key < self.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


class Sort:
    """A compiled sort: call it with a decoded document for its key, for `list.sort` and `heapq.nsmallest`."""

    __slots__ = ("_key", "fields")

    def __init__(self, fields: Sequence[tuple[str, int]], key: Callable[[dict], Any]) -> None:
        # (dotted path, ASCENDING or DESCENDING), the most significant first; or ("$natural", ...) alone: the keys of a
        # descending one count down, so ask for each document's once, in natural order, and for one query only.
        self.fields = tuple(fields)
        self._key = key

    def __call__(self, document: dict) -> Any:
        return self._key(document)


def compile_sort(spec: Mapping[str, Any] | Iterable[Sequence[Any]]) -> Sort:
    """The sort of [[field, 1 or -1], ...] or {field: 1 or -1, ...}. Raises BadQuery."""
    fields: list[tuple[str, int]] = []
    for name, direction in _entries(spec):
        _check_name(name)
        number = _direction(name, direction)
        if any(name == other for other, _ in fields):
            raise BadQuery(f"sort field {name!r} stands twice")
        fields.append((name, number))
        if len(fields) > SORT_FIELDS_MAX:
            raise BadQuery(f"a sort has more than {SORT_FIELDS_MAX} fields", code=13103)
    if not fields:
        raise BadQuery("a sort needs at least one field")
    if any(name == NATURAL for name, _ in fields):
        return _natural(fields)
    parts = [(Path(name), number) for name, number in fields]
    if len(parts) == 1:
        (path, number) = parts[0]
        return Sort(fields, _ascending(path) if number == ASCENDING else _descending(path))
    return Sort(fields, _compound(parts))


def _entries(spec: Any) -> list[tuple[Any, Any]]:
    if isinstance(spec, Mapping):
        return list(spec.items())
    if isinstance(spec, (str, bytes)) or not isinstance(spec, Iterable):
        raise BadQuery("a sort must be a list of [field, 1 or -1], or a map {field: 1 or -1}")
    found = []
    for entry in spec:
        if isinstance(entry, (str, bytes)) or not isinstance(entry, Sequence) or len(entry) != 2:
            raise BadQuery("a sort must be a list of [field, 1 or -1], or a map {field: 1 or -1}")
        found.append((entry[0], entry[1]))
    return found


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise BadQuery(f"sort field {name!r} must be a field name")
    if not name or name.startswith(".") or name.endswith(".") or ".." in name:
        raise BadQuery(f"sort field {name!r} must be a field name without empty parts", code=EMPTY_NAME)
    if name.startswith("$") and name != NATURAL:
        raise BadQuery(f"sort field {name!r} must be a field name that does not begin with '$'", code=DOLLAR_NAME)


def _direction(name: str, direction: Any) -> int:
    if isinstance(direction, Mapping):
        raise BadQuery(f"sort field {name!r}: $meta is not there, only 1 and -1 are", code=NO_META)
    if isinstance(direction, Decimal128):
        direction = float(str(direction))
    if isinstance(direction, bool) or not isinstance(direction, (int, float)):
        raise BadQuery(f"sort field {name!r}: the direction must be 1 or -1, not {direction!r:.40}", code=NOT_A_DIRECTION)
    if direction not in (ASCENDING, DESCENDING):
        raise BadQuery(f"sort field {name!r}: the direction must be 1 or -1, not {direction!r:.40}", code=BAD_DIRECTION)
    return int(direction)


def _natural(fields: list[tuple[str, int]]) -> Sort:
    if len(fields) > 1:
        raise BadQuery("$natural in a sort must stand alone")
    direction = fields[0][1]
    if direction == ASCENDING:
        return Sort(fields, lambda document: 0)
    down = itertools.count(0, -1)
    return Sort(fields, lambda document: next(down))


def _ascending(path: Path) -> Callable[[dict], SortKey]:
    return lambda document: min(_sort_keys(document, path, 0))


def _descending(path: Path) -> Callable[[dict], _Descending]:
    return lambda document: _Descending(max(_sort_keys(document, path, 0)))


def _compound(parts: list[tuple[Path, int]]) -> Callable[[dict], Any]:
    """The key of several fields. Fields that give one key each, the usual case, are done with one walk each."""

    def key(document: dict) -> tuple[Any, ...]:
        found = []
        arrays = 0
        for path, direction in parts:
            keys = _sort_keys(document, path, 0)
            if type(keys) is _Spread:
                arrays += 1
            if direction == ASCENDING:
                found.append(min(keys))
            else:
                found.append(_Descending(max(keys)))
        return tuple(found) if arrays < 2 else min(_joint_keys(parts, document))

    return key


class _Spread(list):
    """Keys that came out of an array, however many."""


def _sort_keys(value: Any, path: Path, at: int) -> list[SortKey]:
    """The keys of all values the path reaches; never empty. An index is only an index, a number on a map only a key."""
    parts = path.parts
    while at < len(parts):
        if type(value) is list:
            index = path.indexes[at]
            if 0 <= index < len(value):
                value = value[index]
                at += 1
                continue
            keys = _Spread(key for element in value if type(element) is dict for key in _sort_keys(element, path, at))
            if not value or any(type(element) is not dict for element in value):
                keys.append(NULL_KEY)
            return keys
        if type(value) is not dict or parts[at] not in value:
            return [NULL_KEY]
        value = value[parts[at]]
        at += 1
    if type(value) is list:
        return _Spread([sort_key(element) for element in value] or [_EMPTY_ARRAY_KEY])
    return [sort_key(value)]


class _Open(NamedTuple):
    """An array that a path has come to, and the part of the path that its elements are entered with."""

    array: list
    at: int


def _joint_keys(parts: list[tuple[Path, int]], document: dict) -> list[tuple[Any, ...]]:
    """The keys of all elements of the one array in which several fields lie. Raises BadQuery when there are two arrays."""
    return _expand(parts, [_until_array(path, document, 0) for path, _ in parts])


def _expand(parts: list[tuple[Path, int]], states: list[SortKey | _Open]) -> list[tuple[Any, ...]]:
    inside = [place for place, state in enumerate(states) if isinstance(state, _Open)]
    if not inside:
        signed = zip(states, parts)
        return [tuple([state if direction == ASCENDING else _Descending(state) for state, (_, direction) in signed])]
    array = states[inside[0]].array
    if any(states[place].array is not array for place in inside):
        names = " and ".join(repr(".".join(path.parts)) for path, _ in (parts[place] for place in inside))
        raise BadQuery(f"cannot sort with keys that are parallel arrays: {names}; sort by one of them")
    found = []
    for element in array or [MISSING]:
        inner = list(states)
        for place in inside:
            inner[place] = _within(parts[place][0], element, states[place].at)
        found += _expand(parts, inner)
    return found


def _within(path: Path, element: Any, at: int) -> SortKey | _Open:
    """Only one level of an array is opened: an array inside it counts as itself, or as null when a path leads on."""
    if at == len(path.parts):
        return _EMPTY_ARRAY_KEY if element is MISSING else sort_key(element)
    return _until_array(path, element, at) if type(element) is dict else NULL_KEY


def _until_array(path: Path, value: Any, at: int) -> SortKey | _Open:
    parts = path.parts
    while at < len(parts):
        if type(value) is list:
            index = path.indexes[at]
            if not 0 <= index < len(value):
                return _Open(value, at)
            value = value[index]
        elif type(value) is dict and parts[at] in value:
            value = value[parts[at]]
        else:
            return NULL_KEY
        at += 1
    return _Open(value, at) if type(value) is list else sort_key(value)
