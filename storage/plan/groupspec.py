"""GroupSpec: a `$group` that columns can answer. Pure; knows no index.

    {"_id": "$a"}                one field; missing and null are one group
    {"_id": {"x": "$a", ...}}    several, or one with a name; a missing field is left out of the group's `_id`
    {"_id": None}                all documents together

with $sum of a field or of a constant number, $avg, $min and $max of a field, and $count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..query.expressions import path_parts

_FOLDS = frozenset({"$sum", "$avg", "$min", "$max", "$count"})
_KEYS_MAX = 8


@dataclass(frozen=True, slots=True)
class Fold:
    """One accumulator: of a field (path), or of a constant."""

    name: str
    operator: str
    path: str | None
    constant: int | float = 1


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """keys: (name, path) of each key field; the name is None when `_id` is the field itself. No keys: one group of all."""

    keys: tuple[tuple[str | None, str], ...]
    folds: tuple[Fold, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All fields that are read, each once."""
        return tuple(dict.fromkeys([path for _, path in self.keys] + [fold.path for fold in self.folds if fold.path is not None]))

    @property
    def is_bare(self) -> bool:
        return len(self.keys) == 1 and self.keys[0][0] is None

    @classmethod
    def read(cls, spec: Mapping[str, Any]) -> GroupSpec | None:
        """From the argument of a valid `$group`; None for one that columns cannot answer."""
        keys = _keys(spec.get("_id"))
        if keys is None:
            return None
        folds = []
        for name, part in spec.items():
            if name == "_id":
                continue
            fold = _fold(name, part)
            if fold is None:
                return None
            folds.append(fold)
        return cls(keys, tuple(folds))


def _keys(key: Any) -> tuple[tuple[str | None, str], ...] | None:
    if key is None:
        return ()
    if isinstance(key, Mapping):
        found = [(name, _path(part)) for name, part in key.items()]
        is_plain = 0 < len(found) <= _KEYS_MAX and all(path is not None and not name.startswith("$") for name, path in found)
        return tuple(found) if is_plain else None
    path = _path(key)
    return None if path is None else ((None, path),)


def _fold(name: str, part: Any) -> Fold | None:
    if not isinstance(part, Mapping) or len(part) != 1:
        return None
    ((operator, argument),) = part.items()
    if operator not in _FOLDS:
        return None
    if operator == "$count":
        return Fold(name, operator, None)
    if operator == "$sum" and type(argument) is int:
        return Fold(name, operator, None, argument)
    path = _path(argument)
    return None if path is None else Fold(name, operator, path)


def _path(spec: Any) -> str | None:
    """The path of "$a.b"."""
    if not isinstance(spec, str) or not spec.startswith("$") or spec.startswith("$$"):
        return None
    return ".".join(path_parts(spec[1:]))
