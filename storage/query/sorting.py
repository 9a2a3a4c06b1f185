"""Sorts and projections: compiled once, then applied to each decoded document. Pure.

A sort field that reaches several values (an array) counts as its smallest when ascending, its largest when descending,
as in MongoDB; a missing field is null, an empty array comes before null. Where two sort fields lie in one array, each
takes its own smallest element (MongoDB takes both from one element).

A projection names either the fields to keep or the fields to leave out; `_id` stays unless it is left out by name.
Dotted fields go through maps and through every element of arrays. Kept fields stay in the document's own order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bson import Decimal128

from ..errors import BadDocument, BadQuery
from ..values.order import NULL_KEY, RANK_EMPTY_ARRAY, SortKey, sort_key
from .paths import Path

SORT_FIELDS_MAX = 32
ASCENDING, DESCENDING = 1, -1
_EMPTY_ARRAY_KEY = (RANK_EMPTY_ARRAY,)
_KEEP = None  # in a tree of fields: the whole value is meant
_Tree = dict[str, Any]


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
        self.fields = tuple(fields)  # (dotted path, ASCENDING or DESCENDING), the most significant first
        self._key = key

    def __call__(self, document: dict) -> Any:
        return self._key(document)


def compile_sort(spec: Iterable[Sequence[Any]]) -> Sort:
    """The sort of [[field, 1 or -1], ...]. Raises BadQuery."""
    if isinstance(spec, (str, bytes, Mapping)) or not isinstance(spec, Iterable):
        raise BadQuery("a sort must be a list of [field, 1 or -1]")
    fields: list[Callable[[dict], Any]] = []
    names: dict[str, int] = {}
    for entry in spec:
        if isinstance(entry, (str, bytes)) or not isinstance(entry, Sequence) or len(entry) != 2:
            raise BadQuery("a sort must be a list of [field, 1 or -1]")
        name, direction = entry
        if not isinstance(name, str) or not name or name.startswith("$"):
            raise BadQuery(f"sort field {name!r} must be a field name that does not begin with '$'")
        if isinstance(direction, bool) or direction not in (ASCENDING, DESCENDING):
            raise BadQuery(f"sort field {name!r}: the direction must be 1 or -1, not {direction!r}")
        if name in names:
            raise BadQuery(f"sort field {name!r} stands twice")
        names[name] = direction
        fields.append(_ascending(Path(name)) if direction == ASCENDING else _descending(Path(name)))
    if not fields:
        raise BadQuery("a sort needs at least one field")
    if len(fields) > SORT_FIELDS_MAX:
        raise BadQuery(f"a sort has {len(fields)} fields, the limit is {SORT_FIELDS_MAX}")
    named = [(name, int(direction)) for name, direction in names.items()]
    if len(fields) == 1:
        return Sort(named, fields[0])
    return Sort(named, lambda document: tuple([field(document) for field in fields]))


def _ascending(path: Path) -> Callable[[dict], SortKey]:
    return lambda document: min(_sort_keys(document, path, 0))


def _descending(path: Path) -> Callable[[dict], _Descending]:
    return lambda document: _Descending(max(_sort_keys(document, path, 0)))


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
            keys = [key for element in value if type(element) is dict for key in _sort_keys(element, path, at)]
            if not value or any(type(element) is not dict for element in value):
                keys.append(NULL_KEY)
            return keys
        if type(value) is not dict or parts[at] not in value:
            return [NULL_KEY]
        value = value[parts[at]]
        at += 1
    if type(value) is list:
        return [sort_key(element) for element in value] or [_EMPTY_ARRAY_KEY]
    return [sort_key(value)]


def compile_projection(spec: Mapping[str, Any] | Sequence[str] | None) -> Callable[[dict], dict]:
    """What reshapes each found document. None or an empty spec keeps all of it. Raises BadQuery."""
    if spec is None:
        return _whole
    if isinstance(spec, Mapping):
        chosen = {_field_name(name): _is_kept(name, flag) for name, flag in spec.items()}
    elif isinstance(spec, Sequence) and not isinstance(spec, (str, bytes)):
        chosen = {_field_name(name): True for name in spec} or {"_id": True}
    else:
        raise BadQuery(f"a projection must be a map or a list of field names, not {type(spec).__name__}")
    if not chosen:
        return _whole
    keeps_id = chosen.pop("_id", None)
    kinds = set(chosen.values())
    if len(kinds) == 2:
        raise BadQuery("a projection either names fields to keep or fields to leave out; only _id may differ")
    if kinds == {True} or (not kinds and keeps_id):
        names = [*chosen, "_id"] if keeps_id is not False else list(chosen)
        tree = _tree(names)
        return lambda document: _kept(document, tree)
    tree = _tree([*chosen, "_id"] if keeps_id is False else list(chosen))
    return lambda document: _left(document, tree)


def _whole(document: dict) -> dict:
    return document


def _field_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise BadQuery(f"projection field {name!r} must be a field name")
    if name.startswith("$") or ".$" in name:
        raise BadQuery(f"projection field {name!r}: positional projections are not in this version")
    return name


def _is_kept(name: Any, flag: Any) -> bool:
    if not isinstance(flag, (bool, int, float, Decimal128)):
        raise BadQuery(f"projection field {name!r}: only 1 (keep) and 0 (leave out) are known, not {flag!r:.40}")
    try:
        return sort_key(flag) not in (sort_key(0), sort_key(False))
    except BadDocument as cause:
        raise BadQuery(cause.message) from None


def _tree(names: Iterable[str]) -> _Tree:
    """{"a.b", "c"} as {"a": {"b": _KEEP}, "c": _KEEP}. Raises BadQuery when one name lies inside another."""
    root: _Tree = {}
    for name in names:
        *outer, last = Path(name).parts
        node = root
        for part in outer:
            node = node.setdefault(part, {})
            if node is _KEEP:
                raise BadQuery(f"projection field {name!r} lies inside another one")
        if last in node:
            raise BadQuery(f"projection field {name!r} collides with another one")
        node[last] = _KEEP
    return root


def _kept(document: dict, tree: _Tree) -> dict:
    found = {}
    for key, value in document.items():
        if key not in tree:
            continue
        inner = tree[key]
        if inner is _KEEP:
            found[key] = value
        elif type(value) is dict:
            found[key] = _kept(value, inner)
        elif type(value) is list:
            found[key] = _kept_elements(value, inner)
    return found


def _kept_elements(array: list, tree: _Tree) -> list:
    found: list[Any] = []
    for element in array:
        if type(element) is dict:
            found.append(_kept(element, tree))
        elif type(element) is list:
            found.append(_kept_elements(element, tree))
    return found


def _left(document: dict, tree: _Tree) -> dict:
    found = {}
    for key, value in document.items():
        if key not in tree:
            found[key] = value
        elif tree[key] is not _KEEP:
            found[key] = _left_value(value, tree[key])
    return found


def _left_value(value: Any, tree: _Tree) -> Any:
    if type(value) is dict:
        return _left(value, tree)
    if type(value) is list:
        return [_left_value(element, tree) for element in value]
    return value
