"""Hypothesis strategies whose documents, filters, updates and pipelines collide: few fields, few values, all types.

Mostly valid, sometimes wrong: both sides must then refuse.
"""

from __future__ import annotations

import datetime
import uuid

from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

FIELDS = ["a", "b", "c"]
PATHS = ["a", "a", "a", "b", "b", "c", "a.b", "a.b", "a.c", "b.a", "a.0", "a.1", "a.b.c", "a.0.b", "a.b.0", "_id"]
NUMBERS = [0, 1, 1.0, -1, 2, 2**53, 2**53 + 1, float(2**53), 0.5, -0.5, float("nan"), Decimal128("1"), float("inf")]
TEXTS = ["", "a", "ab", "B"]
OTHERS = [
    None,
    True,
    False,
    datetime.datetime(2020, 1, 1),
    datetime.datetime(1969, 12, 31, 23, 59, 59, 999000),
    ObjectId("0123456789abcdef01234567"),
    ObjectId("ffffffffffffffffffffffff"),
    uuid.UUID(int=5),
    b"",
    b"\x05",
    Regex("^a", ""),
    Regex("b", "i"),
    Timestamp(1, 2),
    MinKey(),
    MaxKey(),
]
few = st.sampled_from([0, 1, 1.0, 2, "a", "ab", None])
scalars = st.one_of(few, st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(OTHERS))
fields, paths = st.sampled_from(FIELDS), st.sampled_from(PATHS)
depth_1 = st.one_of(scalars, st.lists(few, max_size=3), st.dictionaries(fields, few, max_size=2))
depth_2 = st.one_of(scalars, st.lists(depth_1, max_size=3), st.dictionaries(fields, depth_1, max_size=3))
_values = st.one_of(few, scalars, depth_1, st.lists(depth_2, max_size=3), st.dictionaries(fields, depth_2, max_size=3))
values = st.deferred(lambda: _values)  # a short name of its own: the whole one is long
documents = st.builds(
    lambda key, rest: {"_id": key, **rest}, st.integers(0, 9), st.dictionaries(fields, values, min_size=1, max_size=3)
)

# Filters.

counts = st.one_of(st.integers(0, 3), st.sampled_from([1.0, 2.0, 1.5, -1, "a"]))
type_names = st.sampled_from(
    ["number", "int", "long", "double", "decimal", "string", "object", "array", "null", "bool", "date", "regex", "binData", "minKey"]
    + [1, 2, 3, 4, 8, 10, 16, 18, 19, 127, -1]
    + ["nonsense", 99, None]
)
masks = st.one_of(st.sampled_from([0, 1, 2, 5, 5.0, 2**40, -1, 0.5, "a"]), st.lists(st.integers(0, 70), max_size=3), st.just(b"\x05"))
moduli = st.one_of(
    st.tuples(st.sampled_from([1, 2, 3, -2, 2.5, 2.0]), st.sampled_from([0, 1, -1, 1.0])).map(list),
    st.sampled_from([[0, 1], [1], [1, 2, 3], "a", [2, "a"], [float("nan"), 1]]),
)
patterns = st.sampled_from(["a", "^a", "b$", "A", "", "^ab?$", "[ab]", "("])
regexes = st.builds(lambda pattern, flags: Regex(pattern, flags), patterns, st.sampled_from(["", "i"]))


def operators(inner: st.SearchStrategy, filters: st.SearchStrategy) -> st.SearchStrategy:
    """One operator with its argument; inner makes operator maps, filters whole filters."""
    plain = st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), values)
    return st.one_of(
        plain,
        plain,
        st.tuples(st.sampled_from(["$in", "$nin", "$all"]), st.one_of(st.lists(st.one_of(values, regexes), max_size=3), few)),
        st.tuples(st.just("$exists"), st.one_of(st.booleans(), few)),
        st.tuples(st.just("$type"), st.one_of(type_names, st.lists(type_names, max_size=2))),
        st.tuples(st.just("$size"), counts),
        st.tuples(st.just("$mod"), moduli),
        st.tuples(st.just("$regex"), st.one_of(patterns, regexes, st.just(1))),
        st.tuples(st.sampled_from(["$bitsAllSet", "$bitsAnySet", "$bitsAllClear", "$bitsAnyClear"]), masks),
        st.tuples(st.just("$not"), st.one_of(inner, regexes, few)),
        st.tuples(st.just("$elemMatch"), st.one_of(inner, filters, few)),
        st.tuples(st.just("$all"), st.lists(inner.map(lambda spec: {"$elemMatch": spec}), min_size=1, max_size=2)),
        st.tuples(st.sampled_from(["$nonsense"]), few),
    )


def operator_maps(filters: st.SearchStrategy) -> st.SearchStrategy:
    shallow = st.dictionaries(st.sampled_from(["$eq", "$gt", "$lt", "$ne"]), values, min_size=1, max_size=2)
    one = st.lists(operators(shallow, filters), min_size=1, max_size=2).map(dict)
    return st.lists(operators(one, filters), min_size=1, max_size=2).map(dict)


shallow_filters = st.dictionaries(st.sampled_from(["a", "b", "a.b", "0"]), st.one_of(values, st.builds(lambda v: {"$gte": v}, values)), max_size=2)
_conditions = st.one_of(values, operator_maps(shallow_filters), operator_maps(shallow_filters), regexes)
conditions = st.deferred(lambda: _conditions)
field_filters = st.dictionaries(paths, conditions, min_size=1, max_size=2)
valid_filters = st.recursive(
    field_filters,
    lambda inner: st.one_of(
        st.builds(lambda name, parts: {name: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda a, b: {**a, **b}, inner, inner),
    ),
    max_leaves=4,
)
wrong_filters = st.sampled_from(
    [{"$and": []}, {"$or": {}}, {"$nor": [1]}, {"$nonsense": 1}, {"a": {"$gt": 1, "b": 2}}, {"a": {"$not": {}}}, {"a": {"$options": "i"}}]
)
filters = st.deferred(lambda: st.one_of(*[valid_filters] * 12, wrong_filters, st.just({})))

# Sorts and projections.

sort_paths = st.sampled_from(["a", "b", "c", "a.b", "a.c", "b.a", "a.0", "_id"])
sorts = st.dictionaries(sort_paths, st.sampled_from([1, -1]), min_size=1, max_size=3).map(lambda d: list(map(list, d.items())))
projection_paths = st.sampled_from(["a", "b", "c", "a.b", "a.c", "b.a", "a.b.c", "_id"])
projections = st.one_of(
    st.dictionaries(projection_paths, st.sampled_from([1, True, 1.0]), min_size=1, max_size=3),
    st.dictionaries(projection_paths, st.sampled_from([0, False]), min_size=1, max_size=3),
    st.builds(lambda spec: {**spec, "_id": 0}, st.dictionaries(projection_paths, st.just(1), min_size=1, max_size=3)),
    st.dictionaries(projection_paths, st.sampled_from([0, 1]), min_size=1, max_size=3),
)

# Updates.

update_paths = st.sampled_from(
    ["a", "a", "b", "b", "c", "d", "e.f", "a.b", "a.c", "b.a", "a.0", "a.2", "a.10", "a.b.c", "a.0.b", "a.$[]", "a.$[].b", "a.$[x]", "a.$[x].b"]
    + ["_id", "a..b", "$a", "a.$x"]
)
plain_paths = st.sampled_from(["a", "b", "c", "d", "a.b", "a.0", "b.a"])
steps = st.sampled_from([1, -1, 0, 0.5, 2, 2**53, 2**63 - 1, -(2**63), Decimal128("1"), 1.0, "a"])
each = st.lists(depth_1, max_size=3)
pushes = st.one_of(
    depth_2,
    st.builds(
        lambda items, more: {"$each": items, **more},
        each,
        st.fixed_dictionaries(
            {},
            optional={
                "$slice": st.sampled_from([0, 1, 2, -1, -2, 1.0, "a"]),
                "$position": st.sampled_from([0, 1, -1, -2, 5]),
                "$sort": st.sampled_from([1, -1, {"b": 1}, {"a": -1, "b": 1}, {"a.b": 1}, 0, {}]),
            },
        ),
    ),
)
pulls = st.one_of(values, conditions, shallow_filters)


def changes_at(at: st.SearchStrategy, *, most: int) -> st.SearchStrategy:
    """One operator with its map of fields."""

    def fields_of(argument: st.SearchStrategy) -> st.SearchStrategy:
        return st.dictionaries(at, argument, min_size=1, max_size=most)

    bits = st.dictionaries(st.sampled_from(["and", "or", "xor", "not"]), st.sampled_from([0, 1, 5, 2**40, 1.0]), max_size=2)
    return st.one_of(
        st.tuples(st.sampled_from(["$set", "$set", "$min", "$max", "$setOnInsert"]), fields_of(values)),
        st.tuples(st.just("$unset"), fields_of(st.just(""))),
        st.tuples(st.sampled_from(["$inc", "$mul"]), fields_of(steps)),
        st.tuples(st.just("$push"), fields_of(pushes)),
        st.tuples(st.just("$push"), fields_of(pushes)),
        st.tuples(st.just("$addToSet"), fields_of(st.one_of(values, each.map(lambda items: {"$each": items})))),
        st.tuples(st.just("$pull"), fields_of(pulls)),
        st.tuples(st.just("$pullAll"), fields_of(st.one_of(each, each, few))),
        st.tuples(st.just("$pop"), fields_of(st.sampled_from([1, -1, 1.0, 2, "a"]))),
        st.tuples(st.just("$bit"), fields_of(bits)),
        st.tuples(st.just("$rename"), st.dictionaries(plain_paths, st.one_of(plain_paths, few), min_size=1, max_size=1)),
    )


updates = st.one_of(
    st.lists(changes_at(update_paths, most=2), min_size=1, max_size=3).map(dict),
    st.sampled_from([{"$nonsense": {"a": 1}}, {"a": 1}, {"$set": 5}, {}]),
)
single_updates = changes_at(plain_paths, most=1).map(lambda change: dict([change]))
double_updates = st.builds(lambda a, b: dict([a, b]), changes_at(st.sampled_from(["d", "a.b", "c.d"]), most=1), changes_at(plain_paths, most=1))
arrays = st.lists(st.one_of(few, depth_1, st.dictionaries(fields, few, min_size=1, max_size=2)), max_size=4)
array_documents = st.builds(lambda document, a: {**document, "a": a}, documents, arrays)
array_filters = st.one_of(
    st.builds(lambda condition: [{"x": condition}], st.one_of(values, st.builds(lambda v: {"$gte": v}, values))),
    st.builds(lambda condition: [{"x.b": condition}], st.one_of(few, st.builds(lambda v: {"$gte": v}, few))),
)
positional_filters = st.builds(
    lambda path, condition: {path: condition},
    st.sampled_from(["a", "a.b"]),
    st.one_of(few, st.builds(lambda v: {"$gte": v}, few), st.builds(lambda v: {"$elemMatch": {"$gte": v}}, few)),
)
positional_changes = st.builds(
    lambda operator, path, value: {operator: {path: value}},
    st.sampled_from(["$set", "$unset", "$min", "$max"]),
    st.sampled_from(["a.$", "a.$.b"]),
    few,
)

# Pipelines.

references = st.sampled_from(["$a", "$b", "$c", "$a.b", "$a.c", "$b.a", "$nothing", "$$ROOT", "$_id"])
plain_operands = st.one_of(references, references, st.sampled_from([0, 1, 2, 0.5, None, "ab"]))


def with_operators(inner: st.SearchStrategy) -> st.SearchStrategy:
    pair = st.lists(inner, min_size=2, max_size=2)
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda name, given: {name: given}, st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp"]), pair),
        st.builds(lambda name, given: {name: given}, st.sampled_from(["$add", "$multiply", "$concat", "$concatArrays"]), several),
        st.builds(lambda name, given: {name: given}, st.sampled_from(["$subtract", "$divide", "$mod", "$ifNull"]), pair),
        st.builds(lambda wanted, array: {"$in": [wanted, array]}, inner, references),
        st.builds(lambda name, given: {name: given}, st.sampled_from(["$and", "$or", "$sum", "$avg", "$min", "$max"]), several),
        st.builds(
            lambda name, given: {name: [given]},
            st.sampled_from(["$not", "$abs", "$ceil", "$floor", "$isArray", "$type", "$first", "$last", "$reverseArray", "$isNumber"]),
            inner,
        ),
        st.builds(lambda array, index: {"$arrayElemAt": [array, index]}, inner, st.integers(-2, 2)),
        st.builds(lambda given: {"$size": {"$ifNull": [given, []]}}, inner),
        st.builds(lambda i, t, e: {"$cond": [i, t, e]}, inner, inner, inner),
        st.builds(lambda c, t: {"$switch": {"branches": [{"case": c, "then": t}], "default": "other"}}, inner, inner),
        st.builds(lambda array, v: {"$filter": {"input": array, "as": "x", "cond": {"$gte": ["$$x", v]}}}, inner, inner),
        st.builds(lambda array, v: {"$map": {"input": array, "as": "x", "in": [v, "$$x"]}}, inner, inner),
        st.builds(lambda v, body: {"$let": {"vars": {"x": v}, "in": {"p": "$$x", "q": body}}}, inner, inner),
        st.builds(lambda v: {"p": v, "q": "$b"}, inner),
        st.lists(inner, max_size=2),
    )


expressions = st.deferred(lambda: st.recursive(plain_operands, with_operators, max_leaves=4))
accumulators = st.one_of(
    st.builds(
        lambda name, given: {name: given},
        st.sampled_from(["$sum", "$avg", "$min", "$max", "$first", "$last", "$push", "$mergeObjects"]),
        st.one_of(references, expressions),
    ),
    st.sampled_from([{"$sum": 1}, {"$count": {}}, {"$nonsense": 1}]),
)
group_fields = st.dictionaries(st.sampled_from(["x", "y"]), accumulators, max_size=2)
new_fields = st.dictionaries(st.sampled_from(["a", "b", "d", "a.b", "d.e"]), expressions, min_size=1, max_size=2).filter(
    lambda spec: not ({"a", "a.b"} <= set(spec) or {"d", "d.e"} <= set(spec))
)
local_fields = st.sampled_from(["a", "b", "a.b", "_id"])
simple_stages = st.one_of(
    filters.map(lambda spec: {"$match": spec}),
    expressions.map(lambda spec: {"$match": {"$expr": spec}}),
    projections.map(lambda spec: {"$project": spec}),
    st.builds(lambda keep, more: {"$project": {keep: 1, **{f"{k[0]}x": v for k, v in more.items()}}}, fields, new_fields),
    new_fields.map(lambda spec: {"$addFields": spec}),
    st.sampled_from(["a", "b", "a.b"]).map(lambda path: {"$unset": path}),
    st.builds(lambda key, more: {"$group": {"_id": key, **more}}, expressions, group_fields),
    sorts.map(lambda spec: {"$sort": dict(map(tuple, spec))}),
    st.sampled_from([{"$limit": 1}, {"$limit": 3}, {"$limit": 0}, {"$skip": 1}, {"$skip": 0}, {"$skip": -1}, {"$count": "n"}]),
    st.builds(
        lambda path, more: {"$unwind": {"path": path, **more}},
        st.sampled_from(["$a", "$b", "$a.b"]),
        st.fixed_dictionaries({}, optional={"preserveNullAndEmptyArrays": st.booleans(), "includeArrayIndex": st.sampled_from(["i", "b.i"])}),
    ),
    expressions.map(lambda key: {"$sortByCount": key}),
    st.builds(lambda spec: {"$replaceRoot": {"newRoot": spec}}, st.one_of(st.just("$a"), expressions.map(lambda v: {"z": v}))),
    st.builds(
        lambda key, bounds, more: {"$bucket": {"groupBy": key, "boundaries": bounds, **more}},
        references,
        st.sampled_from([[0, 1, 2], [None, 0, "a"], [1, 0], ["", "b"]]),
        st.fixed_dictionaries({}, optional={"default": st.sampled_from(["other", -1, 1]), "output": group_fields}),
    ),
)
stages = st.one_of(
    *[st.deferred(lambda: simple_stages)] * 6,
    st.builds(
        lambda local, foreign: {"$lookup": {"from": "others", "localField": local, "foreignField": foreign, "as": "d"}},
        local_fields,
        local_fields,
    ),
    st.lists(simple_stages, max_size=2).map(lambda inner: {"$facet": {"x": inner, "y": [{"$count": "n"}]}}),
    st.one_of(st.just("others"), st.builds(lambda inner: {"coll": "others", "pipeline": [inner]}, simple_stages)).map(
        lambda spec: {"$unionWith": spec}
    ),
    st.just({"$nonsense": {}}),
)
pipelines = st.lists(stages, min_size=1, max_size=3)
collections = st.lists(documents, max_size=5, unique_by=lambda document: document["_id"])
