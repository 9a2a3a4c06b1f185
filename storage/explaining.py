"""The verb explain: how a query is answered, and what answering it took. It runs the query.

    {queryPlanner: {namespace, winningPlan}, executionStats: {nReturned, executionTimeMillis, totalDocsExamined, totalKeysExamined},
     parts: [...]}    in MongoDB's words where it has them; parts are the segments and memtable chunks, the oldest first
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio

from . import plan
from .aggregating import check_distinct_path
from .compiling import compiled
from .database import Database
from .errors import BadRequest
from .matching import count_rows, find_rows, standing_for, stepped
from .names import check_collection_name
from .query.filters import Filter, compile_filter
from .query.sorting import Sort, compile_sort
from .query.stages import parse_pipeline
from .values.extensions import INT64_MAX
from .views import View

VERBS = ("find", "count", "distinct", "aggregate")


async def explain(db: Database, collection: str, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """verb: find, count, distinct or aggregate. arguments: filter, sort, skip, limit; path (distinct); pipeline (aggregate: what its leading
    $match asks of the collection is explained). Raises BadRequest, BadQuery."""
    check_collection_name(collection)
    if verb not in VERBS:
        raise BadRequest(f"{verb!r} cannot be explained, only {', '.join(VERBS)}")
    spec = arguments.get("filter") or {}
    if verb == "aggregate":
        pipeline = await compiled(db, parse_pipeline, arguments.get("pipeline") or [])
        spec = pipeline.leading_filter()[0]
    matches = await compiled(db, compile_filter, spec)
    order = compile_sort(arguments["sort"]) if arguments.get("sort") else None
    path = arguments.get("path") if verb == "distinct" else None
    if verb == "distinct":
        check_distinct_path(path)
    limit, skip = _rows_of(arguments, "limit"), _rows_of(arguments, "skip")
    wanted = limit + skip if limit else 0
    view = db.view()
    number = view.catalog.ids.get(collection)
    began = trio.current_time()
    counters = plan.Counters()
    found: dict[str, Any] = {"winningPlan": {"stage": "EOF"}, "parts": []}
    if number is not None:
        found = await _explained(view, number, verb, matches, order, wanted, path, counters)
    stats = {
        "nReturned": counters.returned,
        "executionTimeMillis": int((trio.current_time() - began) * 1000),
        "totalDocsExamined": counters.docs_examined,
        "totalKeysExamined": counters.keys_examined,
    }
    planner = {"namespace": f"{db.name}.{collection}", "winningPlan": found["winningPlan"]}
    return {"queryPlanner": planner, "executionStats": stats, "parts": found["parts"]}


def _rows_of(arguments: Mapping[str, Any], name: str) -> int:
    given = arguments.get(name) or 0
    if type(given) is not int or not 0 <= given <= INT64_MAX:
        raise BadRequest(f"explain: {name} is a whole number that is not negative, not {given!r:.40}")
    return given


async def _explained(
    view: View,
    collection: int,
    verb: str,
    matches: Filter,
    order: Sort | None,
    wanted: int,
    path: str | None,
    counters: plan.Counters,
) -> dict[str, Any]:
    if matches.point[0]:
        counters.docs_examined = counters.keys_examined = 1
        counters.returned = await count_rows(view, collection, matches)
        return {"winningPlan": {"stage": "IDHACK"}, "parts": []}
    standing = await standing_for(view, collection, plan.wanted_fields(matches, order, distinct_path=path))
    if standing is None:
        async for batch in find_rows(view, collection, matches, sort=order, wanted=wanted):
            counters.returned += len(batch)
        counters.docs_examined = await view.count(collection)
        return {"winningPlan": {"stage": "COLLSCAN", "direction": "forward"}, "parts": []}
    parts, loose = standing
    steps: dict[str, Callable[[], Any]] = {
        "count": lambda: plan.count(parts, loose, matches, counters=counters),
        "distinct": lambda: plan.distinct(parts, loose, path, matches, counters=counters),
    }
    run = steps.get(verb, lambda: plan.find(parts, loose, matches, order, wanted, counters=counters))
    async for _ in stepped(view, run()):
        pass
    return await view.run(lambda: plan.explain(parts, matches, order, wanted))
