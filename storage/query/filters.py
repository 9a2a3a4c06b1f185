"""Filters: a MongoDB filter document to its tree and a predicate over decoded documents. Pure; knows no index, no storage.

    filter      {field: condition, "$and" | "$or" | "$nor": [filter, ...], "$expr": expression, "$comment": any, ...}
                                     all must hold; conditions are read by "conditions"

    spec ── read ──> tree (what it asks: a planner reads it) ── compile ──> predicate, position

A predicate is given what documents.decode returns, so values have exactly the types that gives.

Rules kept from MongoDB: null also matches a missing field; a field that holds an array matches when an element or the
whole array does; `$ne`, `$nin`, `$not` and `$nor` are exact negations. Everything unknown raises BadQuery with its
name; `$where`, `$text`, `$jsonSchema` and `$sampleRate` are known and refused.

Costs: a filter is compiled once, in time proportional to its size; `$in`, and an `$or` of equalities on one path, is
one look-up for each value however many choices it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadDocument, BadQuery
from ..values.keys import canonical
from .conditions import DEPTH_MAX, REFERENCE_KEYS, Reader, holds_operators, is_regex, read_condition, too_deep
from .paths import MISSING
from .predicates import Position, compile_position, compile_predicate
from .tree import ALWAYS, NEVER, Node, Nor, Or, Whole, all_of, any_of, negated

__all__ = ["MISSING", "Filter", "compile_filter", "id_point", "pinned_id"]

Expression = Callable[[dict, dict], Any]  # (document, variables) -> value
CompileExpression = Callable[[Any], "Expression"]
IsTrue = Callable[[Any], bool]
BRANCHES = ("$and", "$or", "$nor")
CONSTANTS = {"$alwaysTrue": ALWAYS, "$alwaysFalse": NEVER}
REFUSED = {
    "$where": "runs program text; say it with $expr or ordinary operators",
    "$text": "is not there; use $regex, which text indexes answer",
    "$jsonSchema": "is not there; use $type and $exists",
    "$sampleRate": "is not there; use the stage $sample",
}
QUERY_FEATURE_NOT_ALLOWED = 224


class Filter:
    """A compiled filter: call it with a decoded document to learn whether that matches."""

    __slots__ = ("_locate", "_matches", "point", "spec", "tree")

    def __init__(self, spec: Mapping[str, Any], variables: Mapping[str, Any] | None = None) -> None:
        """variables: what `$expr` sees beside the document ("NOW", names of a `let`). Raises BadQuery."""
        self.spec = spec
        self.point = id_point(spec)  # (True, canonical key) when at most the document with that `_id` can match
        self._locate: Position | None = None
        try:
            self.tree = read_filter(spec, 1, variables={} if variables is None else dict(variables))
            self._matches = compile_predicate(self.tree)
        except RecursionError:
            raise too_deep() from None

    def __call__(self, document: dict) -> bool:
        try:
            return self._matches(document)
        except RecursionError:
            raise too_deep() from None

    def position(self, document: dict) -> int | None:
        """What `$` stands for in an update or a projection of this document, which must match: the place in the
        array that the last condition went through (an `$or`, `$nor` or `$not` counts for none); None without one."""
        if self._locate is None:
            self._locate = compile_position(self.tree)
        return self._locate(document)


def compile_filter(spec: Mapping[str, Any], variables: Mapping[str, Any] | None = None) -> Filter:
    """The filter of a MongoDB filter document. Raises BadQuery."""
    return Filter(spec, variables)


def id_point(spec: Mapping[str, Any]) -> tuple[bool, bytes | None]:
    """(True, canonical key) when at most the document with that `_id` can match: read it, then apply the filter.

    (False, None) for all other filters, and for values that no `_id` can have. Raises BadQuery only for what is no map.
    """
    value = pinned_id(spec)
    if value is MISSING:
        return False, None
    try:
        return True, canonical(value)
    except BadDocument:
        return False, None


def pinned_id(spec: Mapping[str, Any]) -> Any:
    """The one value `_id` must equal for the filter to match, or MISSING: an upsert takes its `_id` from here."""
    if not isinstance(spec, Mapping):
        raise _not_a_map(spec)
    found = _pinned(spec["_id"]) if "_id" in spec else MISSING
    clauses = spec.get("$and")
    for clause in clauses if isinstance(clauses, (list, tuple)) else ():
        if found is MISSING and isinstance(clause, Mapping) and "_id" in clause:
            found = _pinned(clause["_id"])
    return found


def _pinned(condition: Any) -> Any:
    if is_regex(condition):
        return MISSING
    if not holds_operators(condition):
        return condition
    if "$eq" in condition:
        return condition["$eq"]
    choices = condition.get("$in")
    if isinstance(choices, (list, tuple)) and len(choices) == 1 and not is_regex(choices[0]):
        return choices[0]
    return MISSING


def read_filter(spec: Any, depth: int, *, variables: dict[str, Any] | None) -> Node:
    """The tree of a filter. variables: None inside an `$elemMatch`, where `$expr` has no place. Raises BadQuery."""
    if not isinstance(spec, Mapping):
        raise _not_a_map(spec)
    if depth > DEPTH_MAX:
        raise too_deep()
    parts = []
    for name, argument in spec.items():
        if not isinstance(name, str):
            raise BadQuery(f"a field name must be text, not {type(name).__name__}")
        if not name.startswith("$") or name in REFERENCE_KEYS:
            parts.append(read_condition(Reader(name, name, depth, _read_element_filter), argument))
        elif name != "$comment":
            parts.append(_top_level(name, argument, depth, variables))
    return all_of(parts)


def _read_element_filter(spec: Any, depth: int) -> Node:
    return read_filter(spec, depth, variables=None)


def read_element_match(field: str, argument: Mapping[str, Any]) -> Node:
    """The tree of {field: {"$elemMatch": argument}}, as a projection asks it."""
    return read_condition(Reader(field, field, 1, _read_element_filter), {"$elemMatch": argument})


def _top_level(name: str, argument: Any, depth: int, variables: dict[str, Any] | None) -> Node:
    if name in BRANCHES:
        if not isinstance(argument, (list, tuple)) or not argument:
            raise BadQuery(f"{name} takes a non-empty array of filters")
        return _joined(name, [read_filter(part, depth + 1, variables=variables) for part in argument])
    if name == "$expr":
        if variables is None:
            raise BadQuery("$expr has no place inside $elemMatch: put it at the top of the filter")
        return expression_node(argument, variables)
    if name in CONSTANTS:
        if isinstance(argument, bool) or argument != 1:
            raise BadQuery(f"{name} takes 1 and nothing else", code=9)
        return CONSTANTS[name]
    if name in REFUSED:
        raise BadQuery(f"{name} {REFUSED[name]}", operator=name)
    raise BadQuery(f"unknown top-level operator {name}: a condition on a field stands under the field's name", operator=name)


def _joined(name: str, parts: list[Node]) -> Node:
    if name == "$and":
        return all_of(parts)
    if name == "$or":
        return any_of(parts)
    joined = any_of(parts)
    return Nor(joined.parts) if isinstance(joined, Or) else negated(joined)


def expression_node(
    spec: Any,
    variables: dict[str, Any],
    compile_expression: CompileExpression | None = None,
    is_true: IsTrue | None = None,
) -> Node:
    """`$expr`: the document matches when the expression's value is true. The compiler is the aggregation's own."""
    if compile_expression is None or is_true is None:
        from .expressions import compile_expression, is_true

        evaluate, truth = compile_expression(spec, variables), is_true
    else:
        evaluate, truth = compile_expression(spec), is_true
    return Whole("$expr", lambda document: truth(evaluate(document, variables)))


def _not_a_map(spec: Any) -> BadQuery:
    return BadQuery(f"a filter must be a map, not {type(spec).__name__}")
