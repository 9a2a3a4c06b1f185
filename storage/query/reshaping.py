"""Reshaping one document: what $project, $addFields and $unset do. Pure.

    compile_project(spec, scope)      {field: 1 | 0 | expression | nested spec, ...}    keep or leave out; computed fields beside kept ones
    compile_add_fields(spec, scope)   {field: expression | nested spec, ...}
    compile_unset(names)              the fields to leave out

All three are trees of field names. A tree goes through maps and through every element of arrays. Kept and replaced fields stay at their place,
new ones come after in the order of the spec; a computed value that is MISSING takes its field away. Unchanged parts are shared with the
document given, which is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bson import Decimal128

from ..errors import BadQuery
from .expression_operands import Compiled, Scope, is_true
from .expressions import path_parts
from .paths import MISSING

Reshape = Callable[[dict, dict], dict]
_KEEP = True
_FLAGS = (bool, int, float, Decimal128)


class _Tree:
    """Fields and what is to happen to each: _KEEP (a mark; its meaning is the tree's user's), a compiled value or a deeper tree."""

    __slots__ = ("computed", "fields")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.computed: list[str] = []  # names of fields that hold a compiled value, or a tree in which something is computed

    def put(self, path: tuple[str, ...], what: Any) -> None:
        """Raises BadQuery when one path lies in another (31249, 31250)."""
        node = self
        for place, part in enumerate(path[:-1]):
            if what is not _KEEP and part not in node.computed:
                node.computed.append(part)
            deeper = node.fields.setdefault(part, _Tree())
            if not isinstance(deeper, _Tree):
                raise _collision(path, place)
            node = deeper
        last = path[-1]
        if last in node.fields:
            raise _collision(path, len(path) - 1)
        node.fields[last] = what
        if what is not _KEEP:
            node.computed.append(last)


def _collision(path: tuple[str, ...], place: int) -> BadQuery:
    code = 31250 if place == len(path) - 1 else 31249
    return BadQuery(f"field {'.'.join(path)!r} collides with another path of the same stage; name each field once", code=code)


def compile_project(spec: Any, scope: Scope) -> Reshape:
    """Raises BadQuery: 51272 for an empty spec, 31253 and 31254 for keeping and leaving out in one spec."""
    if not isinstance(spec, Mapping):
        raise BadQuery("$project takes a map of fields", code=15969)
    if not spec:
        raise BadQuery("$project needs at least one field", code=51272)
    entries = list(_entries(spec, ()))
    id_flag = next((is_true(what) for path, what in entries if path == ("_id",) and _is_flag(what)), None)
    entries = [(path, what) for path, what in entries if not (path == ("_id",) and _is_flag(what))]
    keeps = None
    for path, what in entries:
        kept = not _is_flag(what) or is_true(what)
        if keeps is None:
            keeps = kept
        elif kept != keeps:
            raise _mixed(path, what, keeps=keeps)
    if keeps is None:
        keeps = bool(id_flag)
    return _keeping(entries, scope, keeps_id=id_flag is not False) if keeps else _leaving(entries, leaves_id=id_flag is False)


def _mixed(path: tuple[str, ...], what: Any, *, keeps: bool) -> BadQuery:
    name = ".".join(path)
    if keeps:
        return BadQuery(f"$project keeps the fields it names, so {name!r} cannot be left out by name; leave it unnamed", code=31254)
    if _is_flag(what):
        return BadQuery(f"$project leaves out the fields it names, so {name!r} cannot be kept by name", code=31253)
    return BadQuery(f"$project leaves out the fields it names, so {name!r} cannot be computed; use $addFields", code=31252)


def _is_flag(what: Any) -> bool:
    return isinstance(what, _FLAGS)


def _entries(
    spec: Mapping[str, Any], outer: tuple[str, ...], empty_code: int = 51270
) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Every leaf: (path, flag or expression). A map that begins with no operator is a spec of deeper fields."""
    for name, what in spec.items():
        if not isinstance(name, str):
            raise BadQuery(f"a field name must be text, not {type(name).__name__}")
        path = (*outer, *path_parts(name))
        if isinstance(what, Mapping) and not _begins_with_operator(what):
            if not what:
                raise BadQuery(f"field {'.'.join(path)!r}: an empty map is no value here; write {{$literal: {{}}}}", code=empty_code)
            yield from _entries(what, path, empty_code)
        else:
            yield path, what


def _begins_with_operator(spec: Mapping[str, Any]) -> bool:
    first = next(iter(spec), "")
    return isinstance(first, str) and first.startswith("$")


def _keeping(entries: list[tuple[tuple[str, ...], Any]], scope: Scope, *, keeps_id: bool) -> Reshape:
    tree = _Tree()
    if keeps_id and not any(path[0] == "_id" for path, _ in entries):
        tree.put(("_id",), _KEEP)
    for path, what in entries:
        tree.put(path, _KEEP if _is_flag(what) else scope.compile(what))
    if not tree.computed:
        return lambda document, variables: _kept(document, tree)
    return lambda document, variables: _computed(_kept(document, tree), tree, document, variables)


def _leaving(entries: list[tuple[tuple[str, ...], Any]], *, leaves_id: bool) -> Reshape:
    tree = _Tree()
    for path, _ in entries:
        tree.put(path, _KEEP)
    if leaves_id:
        tree.put(("_id",), _KEEP)
    if not tree.fields:
        return lambda document, variables: document
    return lambda document, variables: _left(document, tree)


def compile_unset(names: Any) -> Reshape:
    """Raises BadQuery (31001 and its kin) for what is not a name or a list of names."""
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, (list, tuple)) or not given:
        raise BadQuery("$unset takes a field's name or an array of at least one", code=31119 if given == [] else 31002)
    for name in given:
        if not isinstance(name, str):
            raise BadQuery("$unset takes field names as text", code=31120)
    return _leaving([(path_parts(name), _KEEP) for name in given], leaves_id=False)


def compile_add_fields(spec: Any, scope: Scope, stage: str = "$addFields") -> Reshape:
    """Raises BadQuery."""
    if not isinstance(spec, Mapping):
        raise BadQuery(f"{stage} takes a map of fields", code=40272)
    tree = _Tree()
    for path, what in _entries(spec, (), empty_code=40180):
        tree.put(path, scope.compile(what))
    if all(not isinstance(what, _Tree) for what in tree.fields.values()):
        parts = list(tree.fields.items())

        def add(document: dict, variables: dict) -> dict:
            found = dict(document)
            for name, part in parts:
                value = part(document, variables)
                if value is MISSING:
                    found.pop(name, None)
                else:
                    found[name] = value
            return found

        return add
    return lambda document, variables: _computed(document, tree, document, variables)


def _kept(document: dict, tree: _Tree) -> dict:
    found = {}
    fields = tree.fields
    for name, value in document.items():
        what = fields.get(name)
        if what is _KEEP:
            found[name] = value
        elif type(what) is _Tree:
            if type(value) is dict:
                found[name] = _kept(value, what)
            elif type(value) is list:
                found[name] = _kept_elements(value, what)
            elif name in tree.computed:
                found[name] = value  # its place; what is computed below takes the value's place
    return found


def _kept_elements(array: list, tree: _Tree) -> list:
    found: list[Any] = []
    for element in array:
        if type(element) is dict:
            found.append(_kept(element, tree))
        elif type(element) is list:
            found.append(_kept_elements(element, tree))
        elif tree.computed:
            found.append({})
    return found


def _left(document: dict, tree: _Tree) -> dict:
    found = {}
    for name, value in document.items():
        what = tree.fields.get(name)
        if what is None:
            found[name] = value
        elif type(what) is _Tree:
            found[name] = _left_value(value, what)
    return found


def _left_value(value: Any, tree: _Tree) -> Any:
    if type(value) is dict:
        return _left(value, tree)
    if type(value) is list:
        return [_left_value(element, tree) for element in value]
    return value


def _computed(found: dict, tree: _Tree, root: dict, variables: dict) -> dict:
    """The map with what the tree computes; a scalar that stands where a map is needed is replaced."""
    made = dict(found)
    for name in tree.computed:
        what: Compiled | _Tree = tree.fields[name]
        if type(what) is _Tree:
            made[name] = _computed_value(made.get(name, MISSING), what, root, variables)
            continue
        value = what(root, variables)
        if value is MISSING:
            made.pop(name, None)
        else:
            made[name] = value
    return made


def _computed_value(value: Any, tree: _Tree, root: dict, variables: dict) -> Any:
    if type(value) is list:
        return [_computed_value(element, tree, root, variables) for element in value]
    return _computed(value if type(value) is dict else {}, tree, root, variables)
