"""Upserts: the document an upsert begins with, out of the equalities of its filter. Pure.

    {"a": 1, "b.c": {"$eq": 2}, "$and": [{"d": {"$in": [3]}}], "e": {"$gt": 4}}   ->   {"a": 1, "b": {"c": 2}, "d": 3}

Taken are bare values, $eq, $in and $all of one value, below $and and below an $or of one filter; a regular expression is no
equality. Two equalities that speak of one place are refused, even when they agree: MongoDB does not guess either.
Numbers in a path become names of maps, for there is no array yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bson import Regex

from ..errors import BadDocument, BadQuery
from ..values.documents import decode_value, encode_value
from .paths import Path
from .update_tree import shown

DEPTH_MAX = 100
_NOT_SINGLE_VALUE_FIELD, _NOT_EXACT_VALUE_FIELD = 54, 111
_REFERENCE_KEYS = frozenset(("$ref", "$id", "$db"))


def upsert_document(filter_spec: Mapping[str, Any]) -> dict:
    """A new document with the fields that the filter pins, `_id` first when it is among them. Raises BadQuery.

    The filter itself must have been compiled before: what is wrong with it is not told here.
    """
    document: dict = {}
    pinned: dict[str, Any] = {}
    leaves: dict[str, Any] = {}  # paths as a tree; a pinned one ends in None
    for name, value in _equalities(filter_spec, 1):
        parts = Path(name).parts
        if parts[0] == "_id" and len(parts) > 1:
            raise BadQuery(
                f"an upsert must know _id exactly, but the filter has its part {shown(name)}", code=_NOT_EXACT_VALUE_FIELD
            )
        _claim(leaves, parts, name)
        try:
            pinned[name] = decode_value(encode_value(value))
        except BadDocument as cause:
            raise BadQuery(f"filter field {shown(name)}: {cause.message}") from None
    for name in sorted(pinned, key=lambda name: name != "_id"):
        *outer, last = Path(name).parts
        holder = document
        for part in outer:
            holder = holder.setdefault(part, {})
        holder[last] = pinned[name]
    return document


def _equalities(spec: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    if depth > DEPTH_MAX:
        raise BadQuery(f"the filter nests deeper than {DEPTH_MAX}")
    for name, condition in spec.items():
        if name == "$and" or (name == "$or" and len(condition) == 1):
            for clause in condition:
                yield from _equalities(clause, depth + 1)
        elif not name.startswith("$"):
            for value in _pinned_values(condition):
                yield name, value


def _pinned_values(condition: Any) -> list[Any]:
    if isinstance(condition, (Regex, re.Pattern)):
        return []
    if not isinstance(condition, Mapping):
        return [condition]
    first = next(iter(condition), "")
    if not first.startswith("$") or first in _REFERENCE_KEYS:
        return [condition]
    found = [condition["$eq"]] if "$eq" in condition else []
    if len(choices := condition.get("$in", ())) == 1 and not isinstance(choices[0], (Regex, re.Pattern)):
        found.append(choices[0])
    return found + [value for value in condition.get("$all", ()) if not _is_no_value(value)]


def _is_no_value(member: Any) -> bool:
    """Whether a member of $all is a condition: a regular expression or an $elemMatch."""
    return isinstance(member, (Regex, re.Pattern)) or (isinstance(member, Mapping) and next(iter(member), "") == "$elemMatch")


def _claim(leaves: dict[str, Any], parts: tuple[str, ...], name: str) -> None:
    node = leaves
    for depth, part in enumerate(parts):
        is_last = depth + 1 == len(parts)
        if part in node and (is_last or node[part] is None):
            other = ".".join(parts[: depth + 1])
            raise BadQuery(
                f"cannot infer query fields to set: the filter pins {shown(name)} and also something at {shown(other)}; "
                "name it once",
                code=_NOT_SINGLE_VALUE_FIELD,
            )
        node = node.setdefault(part, None if is_last else {})
