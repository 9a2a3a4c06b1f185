"""Projections: projected(document, projection, filter). Pure. Fields are kept, or left out; $slice and $elemMatch shape arrays."""

from __future__ import annotations

from collections.abc import Callable

from . import expressions, filters
from .values import MISSING, Refused, exact, is_number


def projected(document: dict, projection: dict) -> dict:
    tree, kind, shapes, computed = understood(projection)
    shaped = document
    if kind == "include":
        shaped = included(document, tree)
    elif kind == "exclude":
        shaped = excluded(document, tree)
    for name, value in computed:
        shaped = with_value(shaped, name.split("."), lambda spec=value: expressions.value(spec, document))
    for name, operator, argument in shapes:
        shaped = SHAPES[operator](document, shaped, name, argument)
    return shaped


def dotted(spec: dict, before: str = "") -> list[tuple[str, object]]:
    """The fields of a map of new fields; {a: {b: 1}} says the same as {"a.b": 1}."""
    found = []
    for name, value in spec.items():
        if isinstance(value, dict) and value and not next(iter(value)).startswith("$"):
            found += dotted(value, f"{before}{name}.")
        else:
            found.append((before + name, value))
    return found


def understood(projection: dict) -> tuple[dict, str, list, list]:
    """The tree of the named fields, whether they are kept or left out, the array shapes, and the computed fields."""
    keeps, drops, shapes, computed = [], [], [], []
    id_is_kept = None
    for name, value in dotted(projection):
        if name == "_id" and (isinstance(value, bool) or is_number(value)):
            id_is_kept = bool(exact(value))
        elif isinstance(value, bool) or is_number(value):
            (keeps if exact(value) else drops).append(name)
        elif isinstance(value, dict) and next(iter(value), None) in SHAPES:
            operator = next(iter(value))
            shapes.append((name, operator, value[operator]))
            if operator == "$elemMatch":
                keeps.append(name)
        else:
            computed.append((name, value))
    if keeps and drops or computed and drops:
        raise Refused("fields are either kept or left out", None)
    is_inclusion = bool(keeps or computed) or (id_is_kept is True and not drops and len(projection) == 1)
    names = keeps + ["_id"] * (id_is_kept is not False) if is_inclusion else drops + ["_id"] * (id_is_kept is False)
    if is_inclusion:
        names += [name for name, operator, _ in shapes if operator == "$slice"]
    return tree_of(names), "include" if is_inclusion else "exclude", shapes, computed


def tree_of(names: list[str]) -> dict:
    tree: dict = {}
    for name in names:
        at = tree
        *way, last = name.split(".")
        for part in way:
            at = at.setdefault(part, {})
            if at is True:
                raise Refused(f"{name} collides with a field above it", 31249)
        if isinstance(at.get(last), dict):
            raise Refused(f"{name} collides with a field below it", 31250)
        at[last] = True
    return tree


def included(value: object, tree: dict) -> object:
    if isinstance(value, list):
        return [kept for item in value if (kept := included(item, tree)) is not MISSING]
    if not isinstance(value, dict):
        return MISSING
    found = {}
    for name, inner in value.items():
        if name in tree:
            kept = inner if tree[name] is True else included(inner, tree[name])
            if kept is not MISSING:
                found[name] = kept
    return found


def excluded(value: object, tree: dict) -> object:
    if isinstance(value, list):
        return [excluded(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: inner if name not in tree else excluded(inner, tree[name])
        for name, inner in value.items()
        if tree.get(name) is not True
    }


def with_value(value: object, parts: list[str], computed: Callable[[], object]) -> object:
    """A computed field: into every element of an array, so not worked out for an empty one; what is no map is replaced by one."""
    if not parts:
        return computed()
    if isinstance(value, list):
        return [with_value(item, parts, computed) for item in value]
    found = dict(value) if isinstance(value, dict) else {}
    inner = with_value(found.get(parts[0], MISSING), parts[1:], computed)
    if inner is MISSING:
        found.pop(parts[0], None)
    else:
        found[parts[0]] = inner
    return found


def sliced(document: dict, shaped: dict, name: str, argument: object) -> dict:
    if isinstance(argument, list):
        skip, count = argument
    else:
        skip, count = (0, argument) if argument >= 0 else (argument, -argument)

    def cut(value: object) -> object:
        if not isinstance(value, list):
            return value
        start = skip if skip >= 0 else max(0, len(value) + skip)
        return value[start : start + count]

    return {key: cut(value) if key == name else value for key, value in shaped.items()}


def elem_matched(document: dict, shaped: dict, name: str, argument: object) -> dict:
    """The first element that matches, after the other kept fields."""
    found = {key: value for key, value in shaped.items() if key != name}
    test = filters.elem_match(argument)
    if (match := test(document.get(name, MISSING))) is not False:
        found[name] = [document[name][match[1]]]
    return found


SHAPES = {"$slice": sliced, "$elemMatch": elem_matched}
