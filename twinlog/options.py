"""PyMongo's options that the calls share: which are known, which need nothing here, and in which spelling they come. Pure.

MongoDB's `hint` helps its planner and `comment` its logs; every field is indexed here by itself, so a hint is no more than looked at
and a comment dropped. `allow_disk_use` is dropped too. What is not known is refused, so that no option is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ASCENDING = 1
DESCENDING = -1
TEXT = "text"
HASHED = "hashed"

Sort = str | Sequence[str | tuple[str, int]] | Mapping[str, int]
Hint = str | Sequence[str | tuple[str, Any]] | Mapping[str, Any]

_SPELLED = {"maxTimeMS": "max_time_ms", "batchSize": "batch_size", "allowDiskUse": "allow_disk_use"}
_DROPPED = frozenset(("comment", "hint"))
_NUMBERS = frozenset(("max_time_ms", "batch_size"))


def read_options(operation: str, given: Mapping[str, Any], *known: str) -> dict[str, int]:
    """The numbers among the options, 0 where there is none. known: what the operation takes besides hint and comment.

    Raises TypeError for an option that it has not, naming it; TypeError or ValueError for a wrong value.
    """
    read = dict.fromkeys((name for name in known if name in _NUMBERS), 0)
    for option, value in given.items():
        name = _SPELLED.get(option, option)
        if name not in _DROPPED and name not in known:
            raise TypeError(f"{operation} has no option {option!r}; it has {', '.join(sorted({*known, *_DROPPED}))}")
        if name == "hint":
            hint_value(value)
        elif name in _NUMBERS and value is not None:
            read[name] = natural(option, value)
    return read


def natural(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, it is {value}")
    return value


def limit_of(value: int) -> int:
    """0 means no limit; a negative one means its absolute value, as in PyMongo."""
    return natural("limit", abs(value) if isinstance(value, int) else value)


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def sort_list(key_or_list: Sort, direction: int | None = None) -> list[tuple[str, int]]:
    """PyMongo's ways to name a sort order as one list. Raises TypeError, ValueError."""
    pairs = key_list(key_or_list, direction, what="sort")
    for field, way in pairs:
        if way not in (ASCENDING, DESCENDING):
            raise ValueError(f"sort: direction {way!r} of {field!r} must be 1 (ascending) or -1 (descending)")
    return pairs


def key_list(key_or_list: Hint, direction: Any = None, *, what: str) -> list[tuple[str, Any]]:
    """A field, a list of fields or (field, kind), or a map of field to kind, as one list of (field, kind)."""
    if isinstance(key_or_list, str):
        pairs: list[Any] = [(key_or_list, ASCENDING if direction is None else direction)]
    elif isinstance(key_or_list, Mapping):
        pairs = list(key_or_list.items())
    else:
        pairs = [(item, ASCENDING) if isinstance(item, str) else tuple(item) for item in key_or_list]
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(f"{what}: {pair!r} is not (field, direction)")
    return pairs


def hint_value(hint: Hint | None) -> str | list[list[Any]] | None:
    """A hint as the wire carries it: an index's name, or its keys."""
    if hint is None or isinstance(hint, str):
        return hint
    if not isinstance(hint, (Sequence, Mapping)):
        raise TypeError(f"hint must be an index's name or its keys, not {type(hint).__name__}")
    return [list(pair) for pair in key_list(hint, what="hint")]
