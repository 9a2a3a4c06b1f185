"""Hypothesis strategies for what nobody should send: nested nonsense made of the language's own words, and sound requests with a part replaced.

Everything here can come over the wire: keys are text, integers fit 64 bits, nothing nests deeper than documents may.
"""

from __future__ import annotations

import copy
import datetime
import uuid
from collections.abc import Iterator
from typing import Any

from bson import Binary, Code, DatetimeMS, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

from storage.query import conditions, stages, updates
from storage.query.accumulators import _OF_SEVERAL, _SIMPLE
from storage.query.expressions import operators_known
from tests.query import strategies as some

ACCUMULATORS = sorted({*_SIMPLE, *_OF_SEVERAL})
ARGUMENT_NAMES = [
    "input", "as", "in", "cond", "vars", "if", "then", "else", "branches", "default", "case", "date", "format", "timezone", "unit", "amount",
    "startDate", "endDate", "regex", "options", "find", "replacement", "chars", "sortBy", "n", "output", "newRoot", "path", "from", "let",
    "pipeline", "localField", "foreignField", "coll", "into", "on", "whenMatched", "groupBy", "boundaries", "buckets", "initialValue",
    "includeArrayIndex", "preserveNullAndEmptyArrays", "size", "$each", "$slice", "$sort", "$position", "and", "or", "xor", "method", "p",
    "$ref", "$id", "$db", "$comment", "$options", "to", "onError", "onNull", "field", "value", "dateString", "year", "bounds", "defaults", "inputs",
    "useLongestLength", "granularity", "k", "v", "key", "name", "unique", "sparse", "expireAfterSeconds", "partialFilterExpression",
]  # fmt: skip
OPERATORS = sorted(
    {*conditions._READERS, *updates._MAKERS, *stages._STAGES, *stages._REFUSED, *operators_known(), *ACCUMULATORS}
    | {"$and", "$or", "$nor", "$expr", "$where", "$text", "$jsonSchema", "$regex", "$alwaysTrue", "$out", "$merge", "$meta", "$near"}
)
NAMES = ["a", "b", "c", "_id", "a.b", "a.0", "a.$", "a.$[]", "a.$[x]", "a.$[x].b", "x", "x.b", "d", "", ".", "a.", ".a", "a..b", "$", "$$", "$a", "a.$b", "0"]
NAMES += ["a\0", "é", "$natural", "$[]", "$[x]", "$**", "a" * 300, ".".join("a" * 150), ".".join("0" * 30)]
TEXTS = [
    "$a", "$b", "$a.b", "$$ROOT", "$$NOW", "$$REMOVE", "$$x", "$$CURRENT.a", "$$new", "$nonsense", "$", "$$", "$.", "$a.", "\0", "(", "(a+)+$", "[", "a{2,1}", "*",
    "\\", "imsx", "q", "%Y-%m-%d", "%", "UTC", "Europe/Berlin", "+25:00", "day", "week", "nonsense", "2020-01-01T00:00:00Z", "9" * 400, "1e400", "x" * 2000,
    "int", "object", "replace", "merge", "asc", "R5", "POWERSOF2", "others", "system.x", "$out", "é" * 50,
]  # fmt: skip
LEAVES = [
    *some.NUMBERS, *some.OTHERS, *TEXTS, 2**63 - 1, -(2**63), 2**31, -1, 3, 16, 100, 1e308, -1e308, 1e19, 5e-324, -0.0, float("-inf"),
    Decimal128("NaN"), Decimal128("Infinity"), Decimal128("1E6111"), Decimal128("9.9"), DatetimeMS(2**63 - 1), DatetimeMS(-(2**63)),
    datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31), Binary(b"ab", 7), Binary(b"", 3), Code("x"), Regex("(", ""), Regex("(a+)+$", "x"),
    Regex("a", "imsx"), Timestamp(2**32 - 1, 2**32 - 1), b"\xff" * 40, uuid.UUID(int=2**128 - 1), ObjectId("0" * 24), MinKey(), MaxKey(),
]  # fmt: skip

names = st.one_of(st.sampled_from(NAMES), st.sampled_from(OPERATORS), st.sampled_from(OPERATORS), st.sampled_from(ARGUMENT_NAMES))
leaves = st.one_of(st.sampled_from(LEAVES), some.few)
garbage = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3), st.dictionaries(names, inner, max_size=1)), max_leaves=8
)


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """Every place in a nested value."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


@st.composite
def damaged(draw: st.DrawFn, sound: st.SearchStrategy) -> Any:
    """Something sound with up to two parts replaced, renamed, wrapped or repeated."""
    whole = [copy.deepcopy(draw(sound))]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        *outer, key = draw(st.sampled_from([at for at in places(whole) if at]))
        holder: Any = whole
        for step in outer:
            holder = holder[step]
        match draw(st.sampled_from(["replace", "replace", "rename", "wrap", "list", "repeat"])):
            case "rename" if isinstance(holder, dict):
                holder[draw(names)] = holder.pop(key)
            case "wrap":
                holder[key] = {draw(names): holder[key]}
            case "list":
                holder[key] = [holder[key]]
            case "repeat" if isinstance(holder, dict):
                holder[draw(names)] = copy.deepcopy(holder[key])
            case _:
                holder[key] = draw(garbage)
    return whole[0]


operands = st.one_of(leaves, some.references, some.expressions)
named_operands = st.dictionaries(st.sampled_from(ARGUMENT_NAMES), operands, min_size=1, max_size=5)
arguments = st.one_of(operands, st.lists(operands, min_size=1, max_size=3), st.lists(operands, min_size=1, max_size=3), named_operands, garbage)
expression_calls = st.builds(lambda name, given: {name: given}, st.sampled_from(sorted(operators_known())), arguments)
group_calls = st.builds(lambda name, given: {"_id": None, "x": {name: given}}, st.sampled_from(ACCUMULATORS), arguments)
stage_calls = st.builds(lambda name, given: {name: given}, st.sampled_from(sorted({*stages._STAGES, "$merge", "$out"})), garbage)
filter_calls = st.builds(lambda path, name, given: {path: {name: given}}, st.sampled_from(NAMES), st.sampled_from(OPERATORS), arguments)
update_calls = st.builds(lambda name, path, given: {name: {path: given}}, st.sampled_from(sorted(updates._MAKERS)), st.sampled_from(NAMES), arguments)

filters = st.one_of(damaged(some.valid_filters), damaged(some.valid_filters), filter_calls, expression_calls.map(lambda spec: {"$expr": spec}), garbage)
changes = st.one_of(
    damaged(some.updates), damaged(some.updates), update_calls, expression_calls.map(lambda spec: [{"$set": {"z": spec}}]),
    st.lists(stage_calls, max_size=2), garbage,
)  # fmt: skip
array_filters = st.one_of(st.none(), st.none(), some.array_filters, damaged(some.array_filters), st.lists(garbage, max_size=2))
pipelines = st.one_of(
    damaged(some.pipelines), damaged(some.pipelines), st.lists(stage_calls, min_size=1, max_size=2), group_calls.map(lambda spec: [{"$group": spec}]),
    expression_calls.map(lambda spec: [{"$project": {"z": spec}}]), expression_calls.map(lambda spec: [{"$addFields": {"z": spec}}, {"$sort": {"z": 1}}]),
    garbage,
)  # fmt: skip
sorts = st.one_of(st.none(), some.sorts, damaged(some.sorts), damaged(some.sorts.map(lambda pairs: dict(map(tuple, pairs)))), garbage)
projections = st.one_of(st.none(), some.projections, damaged(some.projections), expression_calls.map(lambda spec: {"z": spec}), garbage)
index_keys = st.one_of(damaged(some.sorts), damaged(some.sorts.map(lambda pairs: dict(map(tuple, pairs)))), garbage)
index_options = st.one_of(
    garbage,
    damaged(st.builds(lambda unique, spec: {"unique": unique, "partialFilterExpression": spec}, st.booleans(), some.field_filters)),
    damaged(st.builds(lambda after: {"expireAfterSeconds": after, "name": "n"}, st.integers(0, 10))),
)
