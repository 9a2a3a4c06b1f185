"""Pushing down: the first stages of a pipeline answered by the field index, so that no document is read for what columns know.

    $match ... $group    by fields, with $sum $avg $min $max $count ──> plan.group
    $match ... $count                                               ──> count_rows
    distinct(path)                                                  ──> plan.distinct

None wherever that does not fit: then documents go through the stages one by one. The answer is the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from . import plan
from .matching import count_rows, last_of, standing_for
from .query.filters import Filter
from .query.pipeline import Pipeline
from .query.stage_groups import Count, Group
from .views import View


async def pushed_down(view: View, collection: int, pipeline: Pipeline, variables: dict) -> tuple[list[dict], Pipeline] | None:
    """What an index answers for the pipeline's first stages, and the stages that are left."""
    matches, place = pipeline.leading(variables)
    if place >= len(pipeline.stages):
        return None
    stage = pipeline.stages[place]
    if type(stage) is Group:
        documents = await _grouped(view, collection, matches, stage)
    elif type(stage) is Count:
        number = await count_rows(view, collection, matches)
        documents = [{stage.name: number}] if number else []
    else:
        return None
    return None if documents is None else (documents, Pipeline(pipeline.stages[place + 1 :], pipeline.output))


async def _grouped(view: View, collection: int, matches: Filter, stage: Group) -> list[dict] | None:
    group = plan.GroupSpec.read(stage.spec)
    if group is None or matches.point[0]:
        return None
    standing = await standing_for(view, collection, plan.wanted_fields(matches, group=group))
    if standing is None:
        return None
    if not plan.can_group(standing.parts, group):
        return None
    return await last_of(view, standing, partial(plan.group, standing.parts, standing.loose, matches, group)) or []


async def distinct_values(view: View, collection: int, path: str, matches: Filter) -> list[Any] | None:
    """The different values of a path in the documents that match, in MongoDB's order."""
    if matches.point[0]:
        return None
    standing = await standing_for(view, collection, plan.wanted_fields(matches, distinct_path=path))
    if standing is None:
        return None
    return await last_of(view, standing, partial(plan.distinct, standing.parts, standing.loose, path, matches)) or []
