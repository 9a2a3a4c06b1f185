"""The stages that write: $out and $merge, as they stand in a query. Pure: aggregating.py carries them out.

    $out    "name" or {db, coll}                                      the collection's content is replaced
    $merge  "name" or {into, on, whenMatched, whenNotMatched, let}    documents go in one by one
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..errors import BadQuery
from .expression_operands import Compiled, Scope
from .expressions import check_variable_name
from .type_names import type_name

Update = Callable[[dict, dict], dict]


class WhenMatched(Enum):
    """What $merge does with a document that is there already."""

    REPLACE = "replace"
    KEEP_EXISTING = "keepExisting"
    MERGE = "merge"
    FAIL = "fail"
    PIPELINE = "pipeline"


class WhenNotMatched(Enum):
    """What $merge does with a document that is not there."""

    INSERT = "insert"
    DISCARD = "discard"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Target:
    """A collection; database None is the one that is read."""

    database: str | None
    collection: str


@dataclass(frozen=True, slots=True)
class Out:
    """$out."""

    target: Target


@dataclass(frozen=True, slots=True)
class Merge:
    """$merge. update: with PIPELINE, what makes the new document of the old one and variables, "new" among them."""

    target: Target
    on: tuple[str, ...] = ("_id",)
    when_matched: WhenMatched = WhenMatched.MERGE
    when_not_matched: WhenNotMatched = WhenNotMatched.INSERT
    update: Update | None = None
    let: list[tuple[str, Compiled]] = field(default_factory=list)


def read_out(spec: Any) -> Out:
    """Raises BadQuery."""
    if isinstance(spec, str):
        return Out(Target(None, spec))
    if not isinstance(spec, Mapping):
        raise BadQuery(f"$out takes a collection's name or a map with db and coll, not {type_name(spec)}", code=16990)
    if "timeseries" in spec:
        raise BadQuery("$out: time series collections are not there; write to an ordinary one", code=9)
    for name in spec:
        if name not in ("db", "coll"):
            raise BadQuery(f"$out has no argument {name!r}; it takes db and coll", code=16994)
    return Out(_target(spec, "$out"))


def _target(spec: Mapping[str, Any], stage: str) -> Target:
    database, collection = spec.get("db"), spec.get("coll")
    if not isinstance(collection, str) or not (database is None or isinstance(database, str)):
        raise BadQuery(f"{stage} names its collection as {{db: text, coll: text}}", code=9)
    return Target(database, collection)


def read_merge(spec: Any, scope: Scope, compile_update: Callable[[Sequence[Any], Scope], Update]) -> Merge:
    """Raises BadQuery (51178 to 51199 as MongoDB, else 9)."""
    if isinstance(spec, str):
        return Merge(Target(None, spec))
    if not isinstance(spec, Mapping):
        raise BadQuery(f"$merge takes a collection's name or a map with into, not {type_name(spec)}", code=51182)
    for name in spec:
        if name not in ("into", "on", "let", "whenMatched", "whenNotMatched"):
            raise BadQuery(f"$merge has no argument {name!r}", code=40415)
    if "into" not in spec:
        raise BadQuery("$merge needs into", code=40414)
    into = spec["into"]
    if isinstance(into, str):
        target = Target(None, into)
    elif isinstance(into, Mapping):
        target = _target(into, "$merge")
    else:
        raise BadQuery(f"$merge: into must be a collection's name or a map, not {type_name(into)}", code=51178)
    matched, update, let = WhenMatched.MERGE, None, []
    given = spec.get("whenMatched", "merge")
    if isinstance(given, (list, tuple)):
        matched = WhenMatched.PIPELINE
        wanted = spec.get("let", {"new": "$$ROOT"})
        let = _let(wanted, scope)
        update = compile_update(given, scope.knowing("new", *wanted))
    else:
        matched = _choice(WhenMatched, given, "whenMatched")
        if "let" in spec:
            raise BadQuery("$merge: let goes with a pipeline in whenMatched only", code=51199)
    not_matched = _choice(WhenNotMatched, spec.get("whenNotMatched", "insert"), "whenNotMatched")
    if not_matched is not WhenNotMatched.INSERT and matched in (WhenMatched.KEEP_EXISTING, WhenMatched.FAIL):
        raise BadQuery(
            f"$merge: whenMatched {matched.value} goes with whenNotMatched insert, not {not_matched.value}", code=51181
        )
    return Merge(target, _on(spec.get("on", "_id")), matched, not_matched, update, let)


def _choice(kind: type[Enum], given: Any, name: str) -> Any:
    choices = [choice.value for choice in kind if choice is not WhenMatched.PIPELINE]
    if given not in choices:
        raise BadQuery(f"$merge: {name} must be one of {', '.join(choices)}, not {given!r:.40}", code=2 if isinstance(given, str) else 51191)
    return kind(given)


def _on(given: Any) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise BadQuery("$merge: on must be a field's name or an array of them", code=51186)
    if not names:
        raise BadQuery("$merge: on must name at least one field", code=51187)
    if len(set(names)) < len(names):
        raise BadQuery("$merge: on names a field twice", code=31465)
    return tuple(names)


def _let(spec: Any, scope: Scope) -> list[tuple[str, Compiled]]:
    if not isinstance(spec, Mapping):
        raise BadQuery("$merge: let must be a map of variables", code=9)
    for name in spec:
        check_variable_name(name)
    if "new" in spec and spec["new"] != "$$ROOT":
        raise BadQuery("$merge: let may not give new another meaning; choose another name", code=51273)
    return [(name, scope.compile(part)) for name, part in spec.items()]
