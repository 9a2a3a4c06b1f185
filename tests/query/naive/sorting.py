"""Sorting: ordered(documents, sort), stable. Pure.

A document stands where its least key (under the sort itself) puts it. An array at the end of a path gives one key an element, an empty
one a key below null; an array on the way gives the keys of its maps. Fields below one array are taken from the same element; two arrays
beside each other are refused. A missing field is null.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from .values import MISSING, Refused, compare, is_number

Sort = list[tuple[str, int]]


def checked(sort: Iterable) -> Sort:
    fields = list(sort.items()) if isinstance(sort, dict) else [tuple(item) for item in sort]
    for field, direction in fields:
        if not is_number(direction) or direction not in (1, -1):
            raise Refused(f"{field}: a direction is 1 or -1")
    return fields


def ordered(documents: list[dict], sort: Iterable) -> list[dict]:
    fields = checked(sort)
    directions = [direction for _, direction in fields]

    def before(a: tuple, b: tuple) -> int:
        for direction, left, right in zip(directions, a, b, strict=True):
            if difference := compare(left, right):
                return difference * int(direction)
        return 0

    key = functools.cmp_to_key(before)
    paths = [field.split(".") for field, _ in fields]
    return sorted(documents, key=lambda document: min(map(key, keys(document, paths))))


def keys(document: dict, paths: list[list[str]]) -> list[tuple]:
    return expanded([None] * len(paths), [(document, path) for path in paths])


def expanded(done: list, left: list[tuple[object, list[str]] | None]) -> list[tuple]:
    """Every key: done holds the values of fields that are at their end, left the value and the rest of the path of the others."""
    done, left = list(done), list(left)
    arrays = []
    for place, found in enumerate(left):
        if found is None:
            continue
        value, path = walked(*found)
        if isinstance(value, list):
            arrays.append((place, value, path))
        else:
            done[place], left[place] = None if value is MISSING else value, None
    if not arrays:
        return [tuple(done)]
    first = arrays[0][1]
    if any(value is not first for _, value, _ in arrays):
        raise Refused("two arrays beside each other cannot be sorted by", 2)
    if not first:
        for place, _, path in arrays:
            done[place], left[place] = None if path else MISSING, None
        return [tuple(done)]
    found = []
    for item in first:
        for place, _, path in arrays:
            if path:
                left[place] = (item if isinstance(item, dict) else {}, path)
            else:
                done[place], left[place] = item, None
        found += expanded(done, left)
    return found


def walked(value: object, path: list[str]) -> tuple[object, list[str]]:
    """Down to the first array that has no element at the path's next part, or to the end."""
    while path:
        if isinstance(value, list):
            if not path[0].isdigit() or int(path[0]) >= len(value):
                return value, path
            value, path = value[int(path[0])], path[1:]
        else:
            value, path = value.get(path[0], MISSING) if isinstance(value, dict) else MISSING, path[1:]
    return value, path

