"""Updates: updated(document, update, ...) gives the new document. Pure.

An update is read into (path, operator, argument), all paths are made plain (`$`, `$[]` and `$[x]` become positions), and applied in the order
of the paths: names by their characters, numbers by size. So new fields come in that order, whichever operator makes them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from . import filters
from .update_operators import CREATING, IGNORES_BAD_PATHS, OPERATORS
from .values import MISSING, Refused, equal, type_name

PADDING_MAX = 1_500_000
Change = tuple[list[str], str, object]


def updated(
    document: dict,
    update: dict,
    *,
    filter: dict | None = None,
    array_filters: list[dict] | None = None,
    is_insert: bool = False,
) -> dict:
    changes = read(update)
    named = read_array_filters(array_filters or [], changes)
    positions: list = []
    if filter is not None:
        filters.matches(document, filter, positions)
    check_conflicts([path for path, operator, _ in changes if operator != "$rename"], renames(changes))
    new = copy.deepcopy(document)
    plain: list[Change] = []
    for path, operator, argument in changes:
        for found in plain_paths(document, [], path, positions, named):
            plain.append((found, operator, argument))
    check_conflicts([path for path, operator, _ in plain if operator != "$rename"], renames(plain))
    for path, operator, argument in sorted(plain, key=place_of):
        if operator == "$setOnInsert" and not is_insert:
            continue  # its paths are looked at all the same
        apply(new, path, operator, argument)
    if "_id" in document and not same_id(document, new):
        raise Refused("_id cannot change", 66)
    return new


def same_id(old: dict, new: dict) -> bool:
    return "_id" in new and equal(old["_id"], new["_id"]) and type_name(old["_id"]) == type_name(new["_id"])


# Reading.


def read(update: object) -> list[Change]:
    if not isinstance(update, dict) or not update:
        raise Refused("an update is a map of operators", 9)
    changes: list[Change] = []
    for operator, fields in update.items():
        if operator not in OPERATORS and operator != "$rename":
            raise Refused(f"no update operator {operator}", 9)
        if not isinstance(fields, dict):
            raise Refused(f"{operator} takes a map of fields", 9)
        for name, argument in fields.items():
            path = read_path(name)
            if operator == "$rename":
                check_rename(path, argument)
            else:
                argument = OPERATORS[operator].read(argument)
            changes.append((path, operator, argument))
    return changes


def read_path(name: str) -> list[str]:
    path = name.split(".")
    if not all(path):
        raise Refused("empty field names cannot be updated", 56)
    for part in path:
        if part.startswith("$") and part != "$" and not part.startswith("$["):
            raise Refused(f"{part} begins with a dollar", 52)
    if path[0].startswith("$"):
        raise Refused("a positional operator needs an array before it", 2)
    if path.count("$") > 1:
        raise Refused("one positional operator at most", 2)
    return path


def check_rename(path: list[str], to: object) -> None:
    if not isinstance(to, str):
        raise Refused("$rename takes the new name", 2)
    target = read_path(to)
    shorter = min(len(path), len(target))
    if path[:shorter] == target[:shorter]:
        raise Refused("$rename: the names are the same or lie on one path", 2)
    if any(part.startswith("$") for part in path + target):
        raise Refused("$rename takes plain paths", 2)


def renames(changes: list[Change]) -> list[list[str]]:
    found = []
    for path, operator, argument in changes:
        if operator == "$rename":
            found += [path, argument.split(".")]
    return found


def read_array_filters(array_filters: list[dict], changes: list[Change]) -> dict[str, dict]:
    named: dict[str, dict] = {}
    for spec in array_filters:
        names = {name.split(".")[0] for name in spec}
        if len(names) != 1:
            raise Refused("an array filter names one identifier", 9)
        name = names.pop()
        if name in named:
            raise Refused(f"{name} has two array filters", 9)
        filters.parsed(spec)
        named[name] = spec
    used = {part[2:-1] for path, _, _ in changes for part in path if part.startswith("$[")} - {""}
    if used - set(named):
        raise Refused("an identifier has no array filter", 2)
    if set(named) - used:
        raise Refused("an array filter is not used", 9)
    return named


def check_conflicts(paths: list[list[str]], renamed: list[list[str]]) -> None:
    """No path may be another one or its beginning. A position operator and a name below one field conflict too."""
    every = paths + renamed
    for place, one in enumerate(every):
        for other in every[:place]:
            shorter = min(len(one), len(other))
            if one[:shorter] == other[:shorter]:
                raise Refused(f"{'.'.join(one)} and {'.'.join(other)} conflict", 40)
            split = next(i for i in range(shorter) if one[i] != other[i])
            kinds = {part.startswith("$[") for part in (one[split], other[split])}
            if len(kinds) == 2:
                raise Refused(f"{'.'.join(one)} and {'.'.join(other)} conflict", 40)


# Paths.


def plain_paths(value: object, before: list[str], rest: list[str], positions: list, named: dict) -> list[list[str]]:
    if not rest:
        return [before]
    part, after = rest[0], rest[1:]
    if part == "$":
        if not positions:
            raise Refused("the positional operator did not find the match needed", 2)
        part = str(positions[-1])
    elif part.startswith("$["):
        if not isinstance(value, list):
            raise Refused("the path must be an array for array updates", 2)
        found = []
        for index, item in enumerate(value):
            if part == "$[]" or filters.matches({part[2:-1]: item}, named[part[2:-1]]):
                found += plain_paths(item, [*before, str(index)], after, positions, named)
        return found
    return plain_paths(child(value, part), [*before, part], after, positions, named)


def child(value: object, name: str) -> object:
    if isinstance(value, dict):
        return value.get(name, MISSING)
    if isinstance(value, list) and name.isdigit() and int(name) < len(value):
        return value[int(name)]
    return MISSING


def place_of(change: Change) -> list[tuple[int, int, str]]:
    path, operator, argument = change
    if operator == "$rename":
        path = argument.split(".")
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path]


# Applying.


def apply(document: dict, path: list[str], operator: str, argument: object) -> None:
    if operator == "$rename":
        rename(document, path, argument.split("."))
        return
    change = OPERATORS[operator].change
    ignores = operator in IGNORES_BAD_PATHS
    put(document, path, lambda value: change(value, argument), creates=operator in CREATING, ignores_bad_paths=ignores)


def put(
    document: dict, path: list[str], change: Callable[[object], object], *, creates: bool, ignores_bad_paths: bool = False
) -> None:
    """change gets the value at the path, or MISSING, and gives the new one, or MISSING to take it away."""
    at: object = document
    for part in path[:-1]:
        inner = child(at, part)
        if inner is MISSING:
            if not is_viable(at, part):
                if ignores_bad_paths:
                    return
                raise Refused(f"{part} cannot be made inside {at!r}", 28)
            if not creates:
                return
            inner = {}
            store(at, part, inner)
        at = inner
    if not is_viable(at, path[-1]):
        if ignores_bad_paths:
            return
        raise Refused(f"{path[-1]} cannot be made inside {at!r}", 28)
    value = child(at, path[-1])
    if value is MISSING and not creates:
        return
    store(at, path[-1], change(value))


def is_viable(value: object, name: str) -> bool:
    return isinstance(value, dict) or isinstance(value, list) and name.isdigit()


def store(at: dict | list, name: str, value: object) -> None:
    if isinstance(at, dict):
        if value is MISSING:
            at.pop(name, None)
        else:
            at[name] = value
        return
    index = int(name)
    if index - len(at) > PADDING_MAX:
        raise Refused("too many nulls would be filled in")
    at.extend([None] * (index + 1 - len(at)))
    at[index] = None if value is MISSING else value


def rename(document: dict, source: list[str], target: list[str]) -> None:
    at: object = document
    for part in source:
        if isinstance(at, list) and not part.isdigit() or not isinstance(at, dict | list):
            raise Refused("$rename from a path that is not viable", 28)
        if isinstance(at, list) and child(at, part) is not MISSING:
            raise Refused("$rename from inside an array", 2)
        at = child(at, part)
        if at is MISSING:
            return
    inside: object = document
    for part in target[:-1]:
        inside = child(inside, part)
        if isinstance(inside, list):
            raise Refused("$rename into an array", None)
    value = at
    put(document, target, lambda _: value, creates=True)
    put(document, source, lambda _: MISSING, creates=False)
