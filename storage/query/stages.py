"""Stages: a MongoDB aggregation pipeline to compiled stages. Pure; validates everything before the first document is read.

    parse_pipeline([{"$match": ...}, {"$group": ...}, ...])  ──> Pipeline (pipeline.py), which runs
    compile_update_pipeline([{"$set": ...}, ...])            ──> update(document, variables) -> document

    $match $project $addFields $set $unset $group $sort $limit $skip $unwind $count $lookup $facet $bucket $bucketAuto $sortByCount
    $replaceRoot $replaceWith $sample $unionWith; $out and $merge at the end

Everything else that MongoDB has is refused by name, what it has not with code 40324.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ..errors import BadQuery
from .arithmetic import is_number, whole_number
from .expression_operands import Scope
from .expressions import UNSTORABLE, check_field_name, check_variable_name, refusal, scope_of
from .growth import UPDATE_STEPS_MAX, Growth, Steps, measured
from .paths import MISSING
from .pipeline import Limit, Match, PerDocument, Pipeline, Skip, Stage, depth_of, wanted_of
from .reshaping import compile_add_fields, compile_project, compile_unset
from .sorting import compile_sort
from .stage_groups import Bucket, BucketAuto, Count, Group, sort_by_count
from .stage_joins import EqualityLookup, Facet, PipelineLookup, UnionWith, read_let
from .stage_order import OrderStage, Sample
from .stage_outputs import read_merge, read_out
from .stage_unwind import Unwind
from .type_names import type_name

STAGES_MAX = 1000
PIPELINES_MAX = 20  # inside each other
NESTED_STAGES_MAX = 200  # that run inside each other, through all pipelines around them; neighbours that see one document count as one
_INVALID_OPTIONS = 72
_UPDATE_STAGES = frozenset(("$set", "$addFields", "$unset", "$project", "$replaceRoot", "$replaceWith"))
_OUTPUTS = frozenset(("$out", "$merge"))
_HOLDING = frozenset(("$match", "$group", "$bucket", "$bucketAuto", "$sortByCount"))  # these make nothing large, or measure what they hold

Update = Callable[[dict, dict], dict]


def parse_pipeline(stages: Any, names: Iterable[str] = ()) -> Pipeline:
    """The compiled pipeline. names: the user's variables (let) that will be given when it runs. Raises BadQuery."""
    try:
        return _Reader(scope_of(names), 1).pipeline(stages)
    except RecursionError:
        raise BadQuery("the pipeline nests too deep; cut it into several") from None


def compile_update_pipeline(stages: Any, names: Iterable[str] = ()) -> Update:
    """What makes the new document of (document, variables): a pipeline of the stages that see one document. Raises BadQuery."""
    try:
        return _update(stages, scope_of(names))
    except RecursionError:
        raise BadQuery("the pipeline nests too deep; cut it into several") from None


def _update(stages: Any, scope: Scope) -> Update:
    reader = _Reader(replace(scope, steps=Steps(UPDATE_STEPS_MAX)), 1)
    steps = []
    growth = Growth()
    for name, spec in _named(stages):
        if name not in _UPDATE_STAGES:
            raise BadQuery(f"{name} has no place in an update; there are {', '.join(sorted(_UPDATE_STAGES))}", code=_INVALID_OPTIONS)
        (stage,) = reader.stages(name, spec)
        assert isinstance(stage, PerDocument)
        steps.append(stage.apply)
        if growth.needs_measuring(spec):
            steps.append(_measured_document)

    def update(document: dict, variables: dict) -> dict:
        try:
            for step in steps:
                document = step(document, variables)
        except UNSTORABLE as cause:
            raise refusal(cause) from None
        return document

    return update


def _measured_document(document: dict, variables: dict) -> dict:
    measured(document)
    return document


def _named(stages: Any) -> list[tuple[str, Any]]:
    """(name, spec) of each stage."""
    if not isinstance(stages, (list, tuple)):
        raise BadQuery(f"a pipeline must be an array of stages, not {type_name(stages)}", code=14)
    if len(stages) > STAGES_MAX:
        raise BadQuery(f"a pipeline of {len(stages)} stages is too long, the limit is {STAGES_MAX}", code=7749501)
    found = []
    for stage in stages:
        if not isinstance(stage, Mapping):
            raise BadQuery(f"a stage must be a map such as {{$match: ...}}, not {type_name(stage)}", code=14)
        if len(stage) != 1:
            raise BadQuery(f"a stage must have exactly one key, its name; one has {len(stage)}", code=40323)
        found.extend(stage.items())
    return found


class _Reader:
    """Compiles the stages of one pipeline. depth: how many pipelines stand around each other here; above: the stages of those
    around it."""

    def __init__(self, scope: Scope, depth: int, above: int = 0) -> None:
        self._scope = scope
        self._depth = depth
        self._above = above

    def pipeline(self, stages: Any, inside: str = "") -> Pipeline:
        """inside: the stage that this pipeline is an argument of."""
        if self._depth > PIPELINES_MAX:
            raise BadQuery(f"pipelines nest deeper than {PIPELINES_MAX}", code=5166)
        named = _named(stages)
        self._above += len(named)
        made: list[Stage] = []
        output = None
        growth = Growth()
        for place, (name, spec) in enumerate(named):
            if name in _OUTPUTS:
                if inside:
                    code = 40600 if inside == "$facet" else 51047
                    raise BadQuery(f"{name} has no place inside {inside}: a pipeline writes at its own end only", code=code)
                if place + 1 < len(named):
                    raise BadQuery(f"{name} must be the last stage", code=40601)
                output = read_out(spec) if name == "$out" else read_merge(spec, self._scope, _update)
            elif inside == "$facet" and name == "$facet":
                raise BadQuery("$facet has no place inside $facet", code=40600)
            else:
                made += self.stages(name, spec)
                if name not in _HOLDING and growth.needs_measuring(spec):
                    made.append(PerDocument({}, _measured_document))
        for place, stage in enumerate(made):
            if isinstance(stage, OrderStage):
                stage.wanted = wanted_of(made[place + 1 :])
        if self._above - len(named) + depth_of(made) > NESTED_STAGES_MAX:
            raise BadQuery(f"over {NESTED_STAGES_MAX} stages would run inside each other; cut the pipeline into several", code=7749501)
        return Pipeline(made, output)

    def stages(self, name: Any, spec: Any) -> list[Stage]:
        """What a stage is made of; one but for $sortByCount."""
        make = _STAGES.get(name)
        if make is None:
            reason = _REFUSED.get(name, "there is no such stage")
            raise BadQuery(f"unknown stage {name}: {reason}", code=40324, stage=str(name))
        made = make(self, spec)
        return made if isinstance(made, list) else [made]

    def _inner(self, stages: Any, inside: str, names: Iterable[str] = ()) -> Pipeline:
        return _Reader(self._scope.knowing(*names), self._depth + 1, self._above).pipeline(stages, inside)

    def match(self, spec: Any) -> Stage:
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$match takes a filter, not {type_name(spec)}", code=15959)
        return Match(spec, self._scope.names)

    def project(self, spec: Any) -> Stage:
        return PerDocument(spec, compile_project(spec, self._scope))

    def add_fields(self, spec: Any) -> Stage:
        return PerDocument(spec, compile_add_fields(spec, self._scope))

    def unset(self, spec: Any) -> Stage:
        return PerDocument(spec, compile_unset(spec))

    def replace_root(self, spec: Any) -> Stage:
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$replaceRoot takes a map with newRoot, not {type_name(spec)}", code=40229)
        for name in spec:
            if name != "newRoot":
                raise BadQuery(f"$replaceRoot has no argument {name!r}; it takes newRoot", code=40415)
        if "newRoot" not in spec:
            raise BadQuery("$replaceRoot needs newRoot", code=40231)
        return self.replace_with(spec["newRoot"])

    def replace_with(self, spec: Any) -> Stage:
        new = self._scope.compile(spec)

        def apply(document: dict, variables: dict) -> dict:
            value = new(document, variables)
            if type(value) is not dict:
                found = "missing" if value is MISSING else type_name(value)
                raise BadQuery(f"$replaceRoot: the new root of a document must be a map, not {found}", code=40228)
            return value

        return PerDocument(spec, apply)

    def group(self, spec: Any) -> Stage:
        return Group(spec, self._scope)

    def bucket(self, spec: Any) -> Stage:
        return Bucket(spec, self._scope)

    def bucket_auto(self, spec: Any) -> Stage:
        return BucketAuto(spec, self._scope)

    def sort_by_count(self, spec: Any) -> list[Stage]:
        return sort_by_count(spec, self._scope)

    def count(self, spec: Any) -> Stage:
        return Count(spec)

    def sort(self, spec: Any) -> Stage:
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$sort takes a map of fields, not {type_name(spec)}", code=15973)
        if not spec:
            raise BadQuery("$sort needs at least one field", code=15976)
        return OrderStage(spec, compile_sort([[field, direction] for field, direction in spec.items()]))

    def limit(self, spec: Any) -> Stage:
        count = _count("$limit", spec, 2107201)
        if count == 0:
            raise BadQuery("$limit must be positive", code=15958)
        return Limit(count)

    def skip(self, spec: Any) -> Stage:
        return Skip(_count("$skip", spec, 5107200))

    def unwind(self, spec: Any) -> Stage:
        return Unwind(spec)

    def sample(self, spec: Any) -> Stage:
        return Sample(spec)

    def lookup(self, spec: Any) -> Stage:
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$lookup takes a map, not {type_name(spec)}", code=40319)
        for name, given in spec.items():
            if name not in ("from", "localField", "foreignField", "as", "let", "pipeline"):
                raise BadQuery(f"$lookup has no argument {name!r}", code=9)
            if name not in ("let", "pipeline") and not isinstance(given, str):
                raise BadQuery(f"$lookup: {name} must be text, not {type_name(given)}", code=40321)
        for name in ("from", "as"):
            if not spec.get(name):
                raise BadQuery(f"$lookup needs {name}", code=9)
        has_fields = "localField" in spec, "foreignField" in spec
        if has_fields[0] != has_fields[1] or not (has_fields[0] or "pipeline" in spec):
            raise BadQuery("$lookup needs localField and foreignField, or a pipeline, or all of them", code=9)
        if "let" in spec and "pipeline" not in spec:
            raise BadQuery("$lookup: let goes with a pipeline only", code=9)
        let = read_let(spec.get("let", {}), self._scope, check_variable_name)
        inside = None
        if "pipeline" in spec:
            inside = self._inner(spec["pipeline"], "$lookup", [name for name, _ in let])
        if has_fields[0]:
            return EqualityLookup(spec, inside, let)
        assert inside is not None
        return PipelineLookup(spec, inside, let)

    def union_with(self, spec: Any) -> Stage:
        if isinstance(spec, str):
            return UnionWith(spec, spec, Pipeline(()))
        if not isinstance(spec, Mapping):
            raise BadQuery(f"$unionWith takes a collection's name or a map, not {type_name(spec)}", code=9)
        for name in spec:
            if name not in ("coll", "pipeline"):
                raise BadQuery(f"$unionWith has no argument {name!r}; it takes coll and pipeline", code=40415)
        if not isinstance(spec.get("coll"), str) or not spec["coll"]:
            raise BadQuery("$unionWith needs coll, a collection's name", code=9)
        return UnionWith(spec, spec["coll"], self._inner(spec.get("pipeline", []), "$unionWith"))

    def facet(self, spec: Any) -> Stage:
        if not isinstance(spec, Mapping) or not spec:
            raise BadQuery("$facet takes a map of pipelines that is not empty", code=40169)
        for name, stages in spec.items():
            check_field_name(name)
            if not isinstance(stages, (list, tuple)):
                raise BadQuery(f"$facet: {name!r} must be a pipeline, not {type_name(stages)}", code=40170)
        return Facet({name: self._inner(stages, "$facet") for name, stages in spec.items()}, spec)


def _count(stage: str, spec: Any, code: int) -> int:
    found = whole_number(spec) if is_number(spec) else None
    if found is None or found < 0:
        raise BadQuery(f"{stage} takes a whole number that is not negative, not {spec!r:.40}", code=code)
    return found


_STAGES: Mapping[str, Callable[[_Reader, Any], Stage | list[Stage]]] = MappingProxyType(
    {
        "$match": _Reader.match,
        "$project": _Reader.project,
        "$addFields": _Reader.add_fields,
        "$set": _Reader.add_fields,
        "$unset": _Reader.unset,
        "$replaceRoot": _Reader.replace_root,
        "$replaceWith": _Reader.replace_with,
        "$group": _Reader.group,
        "$bucket": _Reader.bucket,
        "$bucketAuto": _Reader.bucket_auto,
        "$sortByCount": _Reader.sort_by_count,
        "$count": _Reader.count,
        "$sort": _Reader.sort,
        "$limit": _Reader.limit,
        "$skip": _Reader.skip,
        "$unwind": _Reader.unwind,
        "$sample": _Reader.sample,
        "$lookup": _Reader.lookup,
        "$unionWith": _Reader.union_with,
        "$facet": _Reader.facet,
    }
)
_NOT_THERE = "it is not in this version"
_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "$graphLookup": f"{_NOT_THERE}; follow the graph with several $lookup stages, or in the application",
        "$setWindowFields": f"{_NOT_THERE}; use $group, or compute windows in the application",
        "$redact": f"{_NOT_THERE}; use $match and $project",
        "$geoNear": "there are no geographic indexes",
        "$densify": _NOT_THERE,
        "$fill": f"{_NOT_THERE}; use $ifNull in $addFields",
        "$documents": f"{_NOT_THERE}; insert the documents into a collection",
        "$collStats": _NOT_THERE,
        "$indexStats": _NOT_THERE,
        "$changeStream": _NOT_THERE,
        "$search": "there is no search engine beside the database; use $match with $regex",
    }
)
