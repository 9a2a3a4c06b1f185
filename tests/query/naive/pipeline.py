"""Pipelines: run(documents, stages, collections). Pure; one function a stage, each makes a list of documents out of a list."""

from __future__ import annotations

from collections.abc import Callable

from . import expressions, filters, projections, sorting
from .accumulators import accumulated, checked
from .values import MISSING, Refused, compare, equal, exact, is_number, rank

SPARING = ("$match", "$limit")  # what a later one of these would drop need not be worked out, and then is not refused
Documents = list[dict]
Collections = dict[str, Documents]


def run(documents: Documents, stages: list[dict], collections: Collections) -> Documents:
    for place, stage in enumerate(stages):
        if not isinstance(stage, dict) or len(stage) != 1:
            raise Refused("a stage has one name", 40323)
        [(name, argument)] = stage.items()
        if name not in STAGES:
            raise Refused(f"no stage {name}", 40324)
        try:
            documents = STAGES[name](documents, argument, collections)
        except Refused as refusal:
            refusal.is_spared |= any(later in SPARING for later in map(first_name, stages[place + 1 :]))
            raise
    return documents


def first_name(stage: object) -> object:
    return next(iter(stage), None) if isinstance(stage, dict) else None


def match(documents: Documents, spec: dict, _: Collections) -> Documents:
    test = filters.parsed(spec)
    return [document for document in documents if test(document, [])]


def project(documents: Documents, spec: dict, _: Collections) -> Documents:
    if not isinstance(spec, dict) or not spec:
        raise Refused("$project takes a map that is not empty", None)
    projections.understood(spec)
    return [projections.projected(document, spec) for document in documents]


def add_fields(documents: Documents, spec: dict, _: Collections) -> Documents:
    found = []
    for document in documents:
        new = document
        for name, expression in projections.dotted(spec):
            new = projections.with_value(
                new, name.split("."), lambda spec=expression, document=document: expressions.value(spec, document)
            )
        found.append(new)
    return found


def unset(documents: Documents, spec: str | list[str], _: Collections) -> Documents:
    tree = projections.tree_of([spec] if isinstance(spec, str) else spec)
    return [projections.excluded(document, tree) for document in documents]


def group(documents: Documents, spec: dict, _: Collections) -> Documents:
    """Groups in the order in which they were first met; a missing _id is null."""
    if "_id" not in spec:
        raise Refused("$group needs _id", 15955)
    fields = checked({name: inner for name, inner in spec.items() if name != "_id"})
    groups: list[tuple[object, Documents]] = []
    for document in documents:
        key = expressions.nothing_is_null(expressions.value(spec["_id"], document))
        for other, members in groups:
            if equal(key, other):
                members.append(document)
                break
        else:
            groups.append((key, [document]))
    return [{"_id": k, **{name: accumulated(f, members) for name, f in fields.items()}} for k, members in groups]


def sort(documents: Documents, spec: dict, _: Collections) -> Documents:
    return sorting.ordered(documents, spec)


def limit(documents: Documents, count: object, _: Collections) -> Documents:
    if not is_number(count) or exact(count) <= 0:
        raise Refused("$limit takes a count above 0", None)
    return documents[: int(count)]


def skip(documents: Documents, count: object, _: Collections) -> Documents:
    if not is_number(count) or exact(count) < 0:
        raise Refused("$skip takes a count", None)
    return documents[int(count) :]


def unwind(documents: Documents, spec: str | dict, _: Collections) -> Documents:
    options = spec if isinstance(spec, dict) else {"path": spec}
    path, index_field = options["path"][1:].split("."), options.get("includeArrayIndex")
    keeps = options.get("preserveNullAndEmptyArrays", False)
    found = []
    for document in documents:
        value: object = document
        for part in path:
            value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
        if isinstance(value, list) and value:
            rows = [(put(document, path, item), index) for index, item in enumerate(value)]
        elif isinstance(value, list):
            rows = [(put(document, path, MISSING), None)] if keeps else []
        elif expressions.is_nothing(value):
            rows = [(document, None)] if keeps else []
        else:
            rows = [(document, None)]
        for row, index in rows:
            found.append(put(row, index_field.split("."), index) if index_field else row)
    return found


def put(value: object, path: list[str], inner: object) -> object:
    """A value at a path; what is no map on the way, an array too, is replaced by one."""
    if not path:
        return inner
    found = dict(value) if isinstance(value, dict) else {}
    if len(path) == 1 and inner is MISSING:
        found.pop(path[0], None)
    else:
        found[path[0]] = put(found.get(path[0], MISSING), path[1:], inner)
    return found


def count(documents: Documents, name: str, _: Collections) -> Documents:
    return [{name: len(documents)}] if documents else []


def lookup(documents: Documents, spec: dict, collections: Collections) -> Documents:
    foreign = collections.get(spec["from"], [])
    found = []
    for document in documents:
        joined = foreign
        if "localField" in spec:
            wanted = local_values(document, spec["localField"].split("."))
            joined = [row for row in foreign if any(joins(row, spec["foreignField"], value) for value in wanted)]
        if "pipeline" in spec:
            joined = run(joined, spec["pipeline"], collections)
        found.append(put(document, spec["as"].split("."), joined))
    return found


def joins(row: dict, path: str, value: object) -> bool:
    return filters.matches(row, {path: {"$eq": value}})


def local_values(value: object, path: list[str]) -> list:
    """All values at a path, arrays gone through also at its end; null when there is none."""
    found = list(values_at(value, path))
    return found or [None]


def values_at(value: object, path: list[str]) -> list:
    if not path:
        return value if isinstance(value, list) else [value]
    if isinstance(value, list):
        return [inner for item in value if isinstance(item, dict) for inner in values_at(item, path)]
    if isinstance(value, dict) and path[0] in value:
        return values_at(value[path[0]], path[1:])
    return []


def facet(documents: Documents, spec: dict, collections: Collections) -> Documents:
    return [{name: run(documents, stages, collections) for name, stages in spec.items()}]


def bucket(documents: Documents, spec: dict, _: Collections) -> Documents:
    bounds = spec["boundaries"]
    if len(bounds) < 2 or any(compare(a, b) >= 0 for a, b in zip(bounds, bounds[1:], strict=False)):
        raise Refused("boundaries ascend", None)
    if len({rank(bound) for bound in bounds}) > 1:
        raise Refused("boundaries are of one type", 40193)
    if "default" in spec and compare(bounds[0], spec["default"]) <= 0 > compare(spec["default"], bounds[-1]):
        raise Refused("the default lies outside of the boundaries", 40199)
    output = checked(spec.get("output", {"count": {"$sum": 1}}))
    members: list[tuple[object, Documents]] = []
    for document in documents:
        value = expressions.value(spec["groupBy"], document)
        inside = [low for low, high in zip(bounds, bounds[1:], strict=False) if compare(low, value) <= 0 > compare(value, high)]
        if not inside and "default" not in spec:
            raise Refused("a value is in no bucket and there is no default", None)
        key = inside[0] if inside else spec["default"]
        for other, rows in members:
            if equal(other, key):
                rows.append(document)
                break
        else:
            members.append((key, [document]))
    groups = [{"_id": key, **{name: accumulated(f, rows) for name, f in output.items()}} for key, rows in members]
    return sorting.ordered(groups, {"_id": 1})


def sort_by_count(documents: Documents, expression: object, collections: Collections) -> Documents:
    is_operator = isinstance(expression, dict) and len(expression) == 1 and next(iter(expression)).startswith("$")
    if not is_operator and not (isinstance(expression, str) and expression.startswith("$")):
        raise Refused("$sortByCount takes a path or an operator", None)
    groups = group(documents, {"_id": expression, "count": {"$sum": 1}}, collections)
    return sorting.ordered(groups, {"count": -1})


def replace_root(documents: Documents, spec: dict, _: Collections) -> Documents:
    return replace_with(documents, spec["newRoot"], {})


def replace_with(documents: Documents, expression: object, _: Collections) -> Documents:
    found = [expressions.value(expression, document) for document in documents]
    if not all(isinstance(item, dict) for item in found):
        raise Refused("the new root is a map", None)
    return found


def union_with(documents: Documents, spec: str | dict, collections: Collections) -> Documents:
    options = spec if isinstance(spec, dict) else {"coll": spec}
    others = run(collections.get(options["coll"], []), options.get("pipeline", []), collections)
    return documents + others


STAGES: dict[str, Callable[[Documents, object, Collections], Documents]] = {
    "$match": match,
    "$project": project,
    "$addFields": add_fields,
    "$set": add_fields,
    "$unset": unset,
    "$group": group,
    "$sort": sort,
    "$limit": limit,
    "$skip": skip,
    "$unwind": unwind,
    "$count": count,
    "$lookup": lookup,
    "$facet": facet,
    "$bucket": bucket,
    "$sortByCount": sort_by_count,
    "$replaceRoot": replace_root,
    "$replaceWith": replace_with,
    "$unionWith": union_with,
}
