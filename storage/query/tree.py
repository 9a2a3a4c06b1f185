"""A filter's parsed form: what it asks, as frozen values that a planner can read. Pure; knows no document and no index.

    And(parts)  Or(parts)  Nor(parts)  Not(part)      parts are nodes, never empty
    Test(path, op, argument, parts)                   a condition on what a dotted path reaches
    Whole(name, predicate)                            a condition that only the whole document answers ($expr)
    ALWAYS  NEVER                                     true, or false, of every document

A Test is true when any value that the path reaches passes ("paths" draws which values that are); `$size` and
`$elemMatch` are shown only the value that the path names, not the elements of an array there.

    op                     argument
    $eq                    a value; None also means a missing field; a Regex means that very value
    $gt $gte $lt $lte      a value; only values of its own kind pass (all kinds for MinKey and MaxKey)
    $in                    a tuple of values, without regular expressions
    $exists                True
    $type                  a frozenset of BSON type names ("int", "string", ...; "number" is spelt out)
    $regex                 a regex.Matcher: .pattern, .options, .search(text)
    $mod                   (divisor, remainder), two ints
    $size                  an int
    $elemMatch             Elements.DOCUMENTS: `parts` is a tree that an element, a map or an array, must pass as a document
                           Elements.VALUES: `parts` is a tree whose paths are None, the element itself, as it stands: an
                           array there is not opened
    $bitsAllSet $bitsAllClear $bitsAnySet $bitsAnyClear       a mask, an int of any length, not negative

What is not here is said by these: `$ne`, `$nin` and `{"$exists": False}` are Not(Test); `$all` is And; `$in` with
regular expressions is Or of Tests; equalities on one path within an `$or` are one `$in`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

EQUALITIES = ("$eq", "$in")


class Elements(Enum):
    """What an `$elemMatch` asks of an element."""

    DOCUMENTS = "conditions on its fields"
    VALUES = "conditions on the element itself"


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Nor:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True, eq=False)
class Test:
    path: str | None
    op: str
    argument: Any
    parts: Node | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    name: str
    predicate: Callable[[dict], bool] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Always:
    pass


@dataclass(frozen=True, slots=True)
class Never:
    pass


Node = And | Or | Nor | Not | Test | Whole | Always | Never
ALWAYS: Final = Always()
NEVER: Final = Never()


def all_of(parts: Sequence[Node]) -> Node:
    """And, in its simplest form: an And inside it is taken apart, ALWAYS is left out, one NEVER decides."""
    kept: list[Node] = []
    for part in parts:
        if part is NEVER:
            return NEVER
        if isinstance(part, And):
            kept += part.parts
        elif part is not ALWAYS:
            kept.append(part)
    if not kept:
        return ALWAYS
    return kept[0] if len(kept) == 1 else And(tuple(kept))


def any_of(parts: Sequence[Node]) -> Node:
    """Or, in its simplest form: an Or inside it is taken apart, and all equalities on one path become one `$in`."""
    kept: list[Node] = []
    places: dict[str | None, int] = {}  # path: where its equalities stand in kept
    choices: dict[str | None, list[Any]] = {}
    for part in _flat(parts):
        if part is ALWAYS:
            return ALWAYS
        if part is NEVER:
            continue
        if not isinstance(part, Test) or part.op not in EQUALITIES:
            kept.append(part)
            continue
        if part.path not in places:
            places[part.path] = len(kept)
            choices[part.path] = []
            kept.append(part)
        choices[part.path] += part.argument if part.op == "$in" else (part.argument,)
    for path, values in choices.items():
        if len(values) > 1:
            kept[places[path]] = Test(path, "$in", tuple(values))
    if not kept:
        return NEVER
    return kept[0] if len(kept) == 1 else Or(tuple(kept))


def _flat(parts: Sequence[Node]) -> list[Node]:
    found: list[Node] = []
    for part in parts:
        if isinstance(part, Or):
            found += part.parts
        else:
            found.append(part)
    return found


def negated(part: Node) -> Node:
    """Not, in its simplest form."""
    if part is ALWAYS:
        return NEVER
    if part is NEVER:
        return ALWAYS
    return part.part if isinstance(part, Not) else Not(part)


def fields_of(node: Node) -> set[str]:
    """The first parts of all paths that the tree's conditions stand on."""
    if isinstance(node, Test):
        return set() if node.path is None else {node.path.partition(".")[0]}
    if isinstance(node, Not):
        return fields_of(node.part)
    if isinstance(node, (And, Or, Nor)):
        return set().union(*map(fields_of, node.parts))
    return set()
