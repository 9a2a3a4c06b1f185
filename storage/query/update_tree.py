"""The tree of an update: which operator stands at the end of which path, and its walk over a document. Pure.

    {"$set": {"a.b": 1}, "$inc": {"a.l.$[x].n": 2}}

    Fields ── a ── Fields ── b ── Leaf $set
                        └── l ── Elements ── x ── Fields ── n ── Leaf $inc

Paths are sorted by the tree, so that operators apply in the order of their paths, whatever their order in the update:
names by code point, array positions by number. Two paths that meet are refused: with code 40 while the tree is built
when they meet for every document, while it is applied when it takes a document to see ("a.$" and "a.0").

A node is given the value at its place (MISSING when there is none) and gives the new one: the very same object when
nothing changed, MISSING when it is to go. Containers are copied only on the way to a change, so that everything else is
shared with the document that was given, which is never changed.

Rules of the walk, MongoDB's: a missing container becomes a map, also for a number; an array grows with null up to the
position that is set (at most PADDING_MAX at once); an array element that is removed becomes null; a path that leads
into a scalar, or by a name into an array, is not viable (code 28).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bson import Timestamp

from ..errors import BadQuery, DocumentTooLarge
from ..values.documents import DOCUMENT_BYTES_MAX
from .filters import Filter
from .paths import MISSING, NO_INDEX, Path
from .type_names import type_name

PADDING_MAX = 1_500_000
POSITIONAL = "$"
_EVERY_ELEMENT = "$[]"
_MERGED_MAX = 256  # merged nodes that one place keeps; beyond this it starts anew
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_BAD_VALUE, _PATH_NOT_VIABLE, _CANNOT_BACKFILL, _CONFLICT = 2, 28, 34, 40


@dataclass(slots=True)
class Application:
    """One update of one document: what operators may ask beyond the value in front of them."""

    root: dict
    position: int | None  # in the array that made the filter match: what "$" stands for
    is_insert: bool
    now: datetime.datetime
    now_timestamp: Timestamp
    variables: Mapping[str, Any] | None = None
    added_bytes: int = 0

    def add_bytes(self, size: int) -> None:
        """Count what will stand in the result. A small value set in each of a million elements is shared here, but
        would be written out a million times: it is refused before anyone tries. Raises DocumentTooLarge."""
        self.added_bytes += size
        if self.added_bytes > DOCUMENT_BYTES_MAX:
            raise DocumentTooLarge(
                f"the update adds more than {DOCUMENT_BYTES_MAX} bytes, the limit of a document", size=self.added_bytes
            )


Change = Callable[[Any, Application], Any]  # (value or MISSING) -> new value, the same object, or MISSING


@dataclass(frozen=True, slots=True)
class Leaf:
    """An operator at the end of its path."""

    operator: str
    path: str
    change: Change
    is_harmless: bool = False  # does nothing, instead of failing, where its path is not viable
    needs_insert: bool = False

    def applied(self, value: Any, application: Application) -> Any:
        if self.needs_insert and not application.is_insert:
            return value
        return self.change(value, application)

    def blocked(self, holder: Any, name: str, application: Application) -> None:
        """The path ends early, at a value that cannot have the field `name`."""
        if self.is_harmless or (self.needs_insert and not application.is_insert):
            return
        raise BadQuery(
            f"{self.operator} {shown(self.path)}: cannot create field {shown(name)} in a value of type {type_name(holder)}; "
            "a path can only lead through documents, and by position through arrays",
            code=_PATH_NOT_VIABLE,
        )


class Fields:
    """What happens below the fields of a map, or the positions of an array."""

    __slots__ = ("_merged", "_sorted", "children", "path", "positional")

    def __init__(self, path: str) -> None:
        self.path = path
        self.children: dict[str, Node] = {}
        self.positional: Node | None = None
        self._sorted: list[tuple[str, int, Node]] | None = None
        self._merged: dict[str, Node] = {}

    def child(self, part: str) -> Node | None:
        return self.positional if part == POSITIONAL else self.children.get(part)

    def put(self, part: str, node: Node) -> None:
        if part == POSITIONAL:
            self.positional = node
        else:
            self.children[part] = node

    def applied(self, value: Any, application: Application) -> Any:
        if type(value) is dict:
            return self._in_map(value, application)
        if type(value) is list:
            return self._in_array(value, application)
        if value is MISSING:
            return self._in_map(_NOTHING, application) or MISSING
        for name, _, child in self._steps(application):
            child.blocked(value, name, application)
        return value

    def blocked(self, holder: Any, name: str, application: Application) -> None:
        for _, _, child in self._steps(application):
            child.blocked(holder, name, application)

    def _in_map(self, value: Mapping[str, Any], application: Application) -> Mapping[str, Any]:
        changed = None
        for name, _, child in self._steps(application):
            old = value.get(name, MISSING)
            new = child.applied(old, application)
            if new is old:
                continue
            if changed is None:
                changed = dict(value)
            if new is MISSING:
                del changed[name]
            else:
                changed[name] = new
        return value if changed is None else changed

    def _in_array(self, value: list, application: Application) -> list:
        array = value
        for name, position, child in self._steps(application):
            if position == NO_INDEX:
                child.blocked(value, name, application)
                continue
            old = array[position] if position < len(array) else MISSING
            new = child.applied(old, application)
            if new is old:
                continue
            if array is value:
                array = list(value)
            if old is MISSING:
                _pad(array, position, f"{self.path}.{name}", application)
                array.append(new)
            else:
                array[position] = None if new is MISSING else new
        return array

    def _steps(self, application: Application) -> list[tuple[str, int, Node]]:
        """(name, the same as array position or NO_INDEX, node) in the order of application."""
        if self._sorted is None:
            names = sorted(self.children, key=_path_order)
            self._sorted = [(name, position_of(name), self.children[name]) for name in names]
        if self.positional is None:
            return self._sorted
        if application.position is None:
            raise BadQuery(
                f"{shown(self.path + '.$')}: the positional operator did not find the match needed from the query; "
                "the filter must name the array",
                code=_BAD_VALUE,
            )
        name = str(application.position)
        steps = [step for step in self._sorted if step[0] != name]
        steps.append((name, application.position, self._positional_at(name)))
        steps.sort(key=lambda step: _path_order(step[0]))
        return steps

    def _positional_at(self, name: str) -> Node:
        if name not in self.children:
            return self.positional
        if name not in self._merged:
            self._merged[name] = merged(self.children[name], self.positional, f"{self.path}.{name}")
        return self._merged[name]


class Elements:
    """What happens to the elements of an array: to every one, and to those that array filters choose."""

    __slots__ = ("_filters", "_merged", "children", "path")

    def __init__(self, path: str, filters: Mapping[str, Filter]) -> None:
        self.path = path
        self.children: dict[str, Node] = {}  # by "$[]" or "$[identifier]"
        self._filters = filters  # by identifier
        self._merged: dict[tuple[str, ...], Node] = {}

    def child(self, part: str) -> Node | None:
        return self.children.get(part)

    def put(self, part: str, node: Node) -> None:
        self.children[part] = node

    def applied(self, value: Any, application: Application) -> Any:
        if value is MISSING:
            raise self._must_exist()
        if type(value) is not list:
            raise BadQuery(
                f"{shown(self.path)} is of type {type_name(value)}: array updates cannot be applied to a value that is no array",
                code=_BAD_VALUE,
            )
        array = value
        for position, element in enumerate(value):
            node = self._chosen(element, position)
            if node is None:
                continue
            new = node.applied(element, application)
            if new is not element:
                if array is value:
                    array = list(value)
                array[position] = None if new is MISSING else new
        return array

    def blocked(self, holder: Any, name: str, application: Application) -> None:
        raise self._must_exist()

    def _must_exist(self) -> BadQuery:
        return BadQuery(
            f"the path {shown(self.path)} must exist in the document in order to apply array updates", code=_BAD_VALUE
        )

    def _chosen(self, element: Any, position: int) -> Node | None:
        parts = tuple([part for part in self.children if part == _EVERY_ELEMENT or self._matches(part[2:-1], element)])
        if len(parts) < 2:
            return self.children[parts[0]] if parts else None
        if parts not in self._merged:
            if len(self._merged) >= _MERGED_MAX:
                self._merged.clear()
            node = self.children[parts[0]]
            for part in parts[1:]:
                node = merged(node, self.children[part], f"{self.path}.{position}")
            self._merged[parts] = node
        return self._merged[parts]

    def _matches(self, identifier: str, element: Any) -> bool:
        return self._filters[identifier]({identifier: element})


Node = Leaf | Fields | Elements


class RenameTarget(Leaf):
    """Where $rename puts the value: what lies at the source decides before the target's own path does."""

    __slots__ = ()

    def blocked(self, holder: Any, name: str, application: Application) -> None:
        if self.change(MISSING, application) is not MISSING:
            super().blocked(holder, name, application)


def plant(root: Fields, leaf: Leaf, filters: Mapping[str, Filter]) -> None:
    """Put a leaf at the end of its path. Raises BadQuery with code 40 where another path is in the way."""
    parts = leaf.path.split(".")
    node: Node = root
    for depth, part in enumerate(parts):
        if isinstance(node, Leaf) or isinstance(node, Elements) != is_element_part(part):
            raise _conflict(leaf.path, ".".join(parts[:depth]))
        child = node.child(part)
        if depth + 1 == len(parts):
            if child is not None:
                raise _conflict(leaf.path, leaf.path)
            node.put(part, leaf)
            return
        if child is None:
            path = ".".join(parts[: depth + 1])
            child = Elements(path, filters) if is_element_part(parts[depth + 1]) else Fields(path)
            node.put(part, child)
        node = child


def position_of(part: str) -> int:
    """The array position that a part of a path names, or NO_INDEX."""
    return Path(part).indexes[0] if "0" <= part[:1] <= "9" else NO_INDEX


def is_element_part(part: str) -> bool:
    """Whether a part of an update path is "$[]" or "$[identifier]"."""
    return part.startswith("$[") and part.endswith("]")


def merged(left: Node, right: Node, path: str) -> Node:
    """One node that does what two do at the same place. Raises BadQuery with code 40 when they touch the same field."""
    if isinstance(left, Fields) and isinstance(right, Fields):
        both: Fields | Elements = Fields(path)
        both.positional = _merged_child(left.positional, right.positional, f"{path}.$")
    elif isinstance(left, Elements) and isinstance(right, Elements):
        both = Elements(path, left._filters)
    else:
        raise BadQuery(f"the update touches {shown(path)} by two of its paths: a conflict; name it once", code=_CONFLICT)
    for part in {**left.children, **right.children}:
        both.children[part] = _merged_child(left.children.get(part), right.children.get(part), f"{path}.{part}")
    return both


def _merged_child(left: Node | None, right: Node | None, path: str) -> Node | None:
    if left is None or right is None:
        return left or right
    return merged(left, right, path)


def shown(path: str) -> str:
    """A path in quotes for a message, cut when it is long."""
    return repr(path) if len(path) <= 80 else f"{path[:80]!r}..."


def _conflict(path: str, at: str) -> BadQuery:
    return BadQuery(f"Updating the path {shown(path)} would create a conflict at {shown(at)}: name it once", code=_CONFLICT)


def _path_order(name: str) -> tuple[int, int, str]:
    """Code points, but array positions among each other by number; names like "1a" come after all positions."""
    position = position_of(name)
    if position != NO_INDEX:
        return (1, position, "")
    return (0 if name < "0" else 2, 0, name)


def _pad(array: list, position: int, path: str, application: Application) -> None:
    missing = position - len(array)
    if missing > PADDING_MAX:
        raise BadQuery(
            f"{shown(path)}: the array has {len(array)} elements, and at most {PADDING_MAX} may be filled with null at once",
            code=_CANNOT_BACKFILL,
        )
    application.add_bytes(missing)
    array.extend([None] * missing)
