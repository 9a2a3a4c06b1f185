"""Explaining: what a query would do, in MongoDB's words, and which indexes it would like to have. Pure; reads no document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..fields.values import COLUMN, WORDS
from ..query.filters import Filter
from ..query.sorting import Sort
from ..query.tree import Always, And, Node, Nor, Not, Or, Test
from .clauses import Clause, clause_of, inner_path
from .finding import natural_direction
from .groupspec import GroupSpec
from .ordering import is_gathered
from .parts import SCALE, Counters, Part
from .ranks import odd_rows, sort_columns
from .rowsets import Everything


def wanted_fields(
    matches: Filter | None = None,
    order: Sort | None = None,
    group: GroupSpec | None = None,
    distinct_path: str | None = None,
) -> dict[str, int]:
    """The fields whose index the query would use, and what of it: COLUMN, WORDS or both."""
    wanted: dict[str, int] = {}
    if matches is not None:
        for path, needs_text in _fields_of(matches.tree, None):
            wanted[path] = wanted.get(path, 0) | (WORDS if needs_text else COLUMN)
    if order is not None and not natural_direction(order):
        for path, _ in order.fields:
            wanted[path] = wanted.get(path, 0) | COLUMN
    for path in (*(group.paths if group is not None else ()), *((distinct_path,) if distinct_path is not None else ())):
        wanted[path] = wanted.get(path, 0) | COLUMN
    return wanted


def _fields_of(node: Node, outer: str | None) -> Iterator[tuple[str, bool]]:
    """outer: the path of the `$elemMatch` around."""
    match node:
        case Test():
            path = node.path if outer is None else inner_path(outer, node.path)
            if path is None:
                return
            yield path, node.op == "$regex"
            if node.parts is not None:
                yield from _fields_of(node.parts, path)
        case And(parts) | Or(parts) | Nor(parts):
            for part in parts:
                yield from _fields_of(part, outer)
        case Not(part):
            yield from _fields_of(part, outer)


def explain(
    parts: Sequence[Part],
    matches: Filter,
    order: Sort | None = None,
    wanted: int = 0,
    counters: Counters | None = None,
) -> dict[str, Any]:
    """The stages of find, the outermost first. counters: what running it has come to."""
    plans = [_part_plan(part, clause_of(matches.tree, part), matches.tree, order, wanted) for part in parts]
    if not plans or all(plan["stage"] == "COLLSCAN" for plan in plans):
        stage: dict[str, Any] = {"stage": "COLLSCAN", "direction": "backward" if natural_direction(order) < 0 else "forward"}
    else:
        names = list(dict.fromkeys(name for plan in plans for name in plan.get("indexNames", ())))
        stage = {"stage": "FETCH", "inputStage": {"stage": "IXSCAN", "indexNames": names}}
    if order is not None and not natural_direction(order):
        if not all(plan.get("providesSort") for plan in plans):
            stage = {"stage": "SORT", "sortPattern": dict(order.fields), "inputStage": stage}
        else:
            stage = {"stage": "SORT_MERGE", "sortPattern": dict(order.fields), "inputStage": stage}
    if wanted:
        stage = {"stage": "LIMIT", "limitAmount": wanted, "inputStage": stage}
    found = {"winningPlan": stage, "parts": plans}
    if counters is not None:
        found["executionStats"] = {
            "nReturned": counters.returned,
            "totalDocsExamined": counters.docs_examined,
            "totalKeysExamined": counters.keys_examined,
            "partsRead": sorted(counters.parts_used),
        }
    return found


def _part_plan(part: Part, clause: Clause, tree: Node, order: Sort | None, wanted: int) -> dict[str, Any]:
    used = [path for path, _ in dict(_fields_of(tree, None)).items() if part.column(path) is not None]
    is_scan = isinstance(tree, Always) or isinstance(clause.may, Everything)
    plan: dict[str, Any] = {
        "rows": part.rows,
        "deadRows": part.dead.count,
        "estimate": clause.may.estimate,
        "isExact": clause.is_exact,
    }
    if order is not None and not natural_direction(order):
        fields = sort_columns(part, order)
        if fields is not None:
            used += [field.path for field in fields]
            plan["providesSort"] = True
            plan["oddRows"] = odd_rows([field.column for field in fields], part.rows).estimate
            gathers = is_gathered(clause.may, fields, wanted, SCALE)
            plan["sortedBy"] = "gathering" if gathers else "walking"
            is_scan = False
    names = list(dict.fromkeys(used))
    return {"stage": "COLLSCAN" if is_scan else "IXSCAN", **({} if is_scan else {"indexNames": names}), **plan}
