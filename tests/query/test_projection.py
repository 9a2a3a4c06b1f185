"""Promises of storage/query/projection.py: what MongoDB shows of a document, and the codes of what it refuses."""

from __future__ import annotations

import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.query.filters import compile_filter
from storage.query.paths import MISSING
from storage.query.projection import compile_projection
from tests.values.generated import documents


def stub_expression(spec: object):
    """Stands in for the aggregation's compiler: "$field", {"$add": [number, ...]} and plain values."""
    if isinstance(spec, str) and spec.startswith("$$"):
        return lambda document, variables: variables[spec[2:]]
    if isinstance(spec, str) and spec.startswith("$"):
        return lambda document, variables: document.get(spec[1:], MISSING)
    if isinstance(spec, dict) and "$add" in spec:
        return lambda document, variables: sum(spec["$add"])
    return lambda document, variables: spec


DOC = {
    "_id": 1,
    "a": {"b": 1, "c": {"d": 2, "e": 3}},
    "list": [{"x": 1, "y": 2}, 5, [{"x": 3, "y": 4}], {}],
    "z": None,
}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, DOC),
        ({}, DOC),
        ([], {"_id": 1}),
        (["z"], {"_id": 1, "z": None}),
        ({"z": 1}, {"_id": 1, "z": None}),
        ({"z": True, "_id": 0}, {"z": None}),
        ({"_id": 1}, {"_id": 1}),
        ({"_id": 0}, {k: v for k, v in DOC.items() if k != "_id"}),
        ({"z": 0, "list": 0.0}, {"_id": 1, "a": DOC["a"]}),
        ({"z": 0, "list": False, "_id": 0}, {"a": DOC["a"]}),
        ({"z": 0, "list": False, "_id": 1}, {"_id": 1, "a": DOC["a"]}),
        ({"a.b": 1}, {"_id": 1, "a": {"b": 1}}),
        ({"a.c.d": 1, "a.b": 1}, {"_id": 1, "a": {"b": 1, "c": {"d": 2}}}),
        ({"a.x": 1}, {"_id": 1, "a": {}}),
        ({"z.x": 1}, {"_id": 1}),
        ({"list.x": 1}, {"_id": 1, "list": [{"x": 1}, [{"x": 3}], {}]}),
        ({"list.x": 0, "a": 0, "z": 0}, {"_id": 1, "list": [{"y": 2}, 5, [{"y": 4}], {}]}),
        ({"a.c": 0, "list": 0, "z.x": 0}, {"_id": 1, "a": {"b": 1}, "z": None}),
        ({"absent": 1}, {"_id": 1}),
        ({"absent": 0}, DOC),
        ({"z": Decimal128("1")}, {"_id": 1, "z": None}),
    ],
)
def test_projection(spec: object, expected: dict) -> None:
    before = repr(DOC)
    found = compile_projection(spec)(DOC)
    assert found == expected
    assert list(found) == list(expected)
    assert repr(DOC) == before


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"a": 1, "b": 0}, "only _id"),
        ({"a": 0, "b": 1, "_id": 0}, "only _id"),
        ({"a": 1, "a.b": 1}, "a.b|'a'"),
        ({"a.b": 1, "a": 1}, "'a'"),
        ({"a.b.c": 0, "a.b": 0}, "'a.b'"),
        ({"a": {"$slice": "x"}}, "'a'"),
        ({"a.$": 1}, "filter"),
        ({"$a": 1}, "begin"),
        ({"": 1}, "field name"),
        ({1: 1}, "field name"),
        ([1], "field name"),
        ("a", "str"),
        (5, "int"),
    ],
)
def test_projections_that_are_refused(spec: object, named: str) -> None:
    with pytest.raises(BadQuery, match=named):
        compile_projection(spec)


def refused_code(spec: object, matches: object = None) -> int:
    with pytest.raises(BadQuery) as refused:
        compile_projection(spec, matches, compile_expression=stub_expression)
    return refused.value.code


ANY_A = compile_filter({"a": 1})


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"a": 0, "b": 1}, 31253),
        ({"a": 1, "b": 0}, 31254),
        ({"a": 0, "b": {"$add": [1]}}, 31252),
        ({"a": 0, "b": "x"}, 31310),
        ({"a": 1, "a.b": 1}, 31249),
        ({"a.b": 1, "a": 1}, 31250),
        ({"a": {"b": 1}, "a.b": 1}, 31250),
        ({"a.$": 1, "b.$": 1}, 31276),
        ({"b.$": 1}, 31277),
        ({"a.$.$": 1}, 31287),
        ({"a.$.b": 1}, 31394),
        ({"a.$": {"b": 1}}, 31271),
        ({"a.$": "x"}, 31308),
        ({"a.$": 1, "b": {"$elemMatch": {"c": 1}}}, 31255),
        ({"b": {"$elemMatch": {"c": 1}}, "a.$": 1}, 31255),
        ({"a": {"$elemMatch": 1}}, 31274),
        ({"a.b": {"$elemMatch": {"c": 1}}}, 31275),
        ({"a": {"$slice": [1]}}, 31272),
        ({"a": {"$slice": [1, "x"]}}, 31258),
        ({"a": {"$slice": [1, 0]}}, 31259),
        ({"a": {"$slice": [1, -1]}}, 31259),
        ({"a": {"$slice": "x"}}, 31273),
        ({"a": {}}, 51270),
        ({"a": {"$meta": "textScore"}}, 2),
        ({"": 1}, 40352),
        ({"a..b": 1}, 15998),
        ({"a.": 1}, 15998),
        ({"$a": 1}, 16410),
        ({"a.$b": 1}, 16410),
    ],
)
def test_the_codes_of_refused_projections(spec: dict, code: int) -> None:
    assert refused_code(spec, ANY_A) == code


def test_expressions_are_the_aggregation_s_own() -> None:
    document = {"_id": 1, "a": 2, "c": [1, 2]}
    assert compile_projection({"s": {"$add": ["$a", 1]}, "n": None, "c": {"$slice": ["$c", 1]}})(document) == {"_id": 1, "c": [1], "s": 3, "n": None}
    with pytest.raises(BadQuery, match="foo") as refused:
        compile_projection({"a": {"$foo": 1}})
    assert refused.value.code == 31325


def test_a_deep_projection_is_refused() -> None:
    spec: dict = {"a": 1}
    for _ in range(10_000):
        spec = {"a": spec}
    assert refused_code(spec) == 2


ARRAYS = {"_id": 1, "x": 0, "a": [1, 2, 3, 4], "o": {"l": [1, 2, 3]}, "m": [{"l": [1, 2], "k": 5}, 7]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"a": {"$slice": 1}}, {**ARRAYS, "a": [1]}),
        ({"a": {"$slice": -3}}, {**ARRAYS, "a": [2, 3, 4]}),
        ({"a": {"$slice": 0}}, {**ARRAYS, "a": []}),
        ({"a": {"$slice": [1, 2]}}, {**ARRAYS, "a": [2, 3]}),
        ({"a": {"$slice": [-2, 1]}}, {**ARRAYS, "a": [3]}),
        ({"a": {"$slice": [-9, 2]}}, {**ARRAYS, "a": [1, 2]}),
        ({"a": {"$slice": [9, 2]}}, {**ARRAYS, "a": []}),
        ({"a": {"$slice": 1.9}}, {**ARRAYS, "a": [1]}),
        ({"x": {"$slice": 1}}, ARRAYS),
        ({"o.l": {"$slice": 1}}, {**ARRAYS, "o": {"l": [1]}}),
        ({"m.l": {"$slice": 1}}, {**ARRAYS, "m": [{"l": [1], "k": 5}, 7]}),
        ({"_id": 0, "a": {"$slice": 1}}, {k: v for k, v in {**ARRAYS, "a": [1]}.items() if k != "_id"}),
        ({"_id": 1, "a": {"$slice": 1}}, {"_id": 1, "a": [1]}),
        ({"x": 1, "a": {"$slice": 1}}, {"_id": 1, "x": 0, "a": [1]}),
        ({"x": 0, "a": {"$slice": 1}}, {k: v for k, v in {**ARRAYS, "a": [1]}.items() if k != "x"}),
        ({"a": {"$elemMatch": {"$gt": 2}}}, {"_id": 1, "a": [3]}),
        ({"a": {"$elemMatch": {"$gt": 9}}}, {"_id": 1}),
        ({"x": {"$elemMatch": {"$gt": 2}}}, {"_id": 1}),
        ({"m": {"$elemMatch": {"k": 5}}, "x": 1}, {"_id": 1, "x": 0, "m": [{"l": [1, 2], "k": 5}]}),
        ({"_id": 0, "a": {"$elemMatch": {"$gt": 2}}}, {"a": [3]}),
        ({"o": {"l": 1}}, {"_id": 1, "o": {"l": [1, 2, 3]}}),
        ({"o": {"l": 0}, "a": 0, "m": 0}, {"_id": 1, "x": 0, "o": {}}),
        ({"y": "$x"}, {"_id": 1, "y": 0}),
        ({"y": "$absent", "x": 1}, {"_id": 1, "x": 0}),
        ({"y": {"$add": [1, 2]}, "a": 1}, {"_id": 1, "a": [1, 2, 3, 4], "y": 3}),
        ({"y": "text", "_id": 0}, {"y": "text"}),
        ({"o.y": "$x"}, {"_id": 1, "o": {"y": 0}}),
        ({"o.y": "$x", "o.l": 1}, {"_id": 1, "o": {"l": [1, 2, 3], "y": 0}}),
        ({"m.y": "$x"}, {"_id": 1, "m": [{"y": 0}]}),
        ({"x.y": "$x"}, {"_id": 1, "x": {"y": 0}}),
        ({"y": "$$NOW"}, {"_id": 1, "y": 5}),
        ({"o": ["$x", 1]}, {"_id": 1, "o": ["$x", 1]}),
    ],
)
def test_arrays_and_computed_fields(spec: dict, expected: dict) -> None:
    before = repr(ARRAYS)
    found = compile_projection(spec, compile_expression=stub_expression, variables={"NOW": 5})(ARRAYS)
    assert found == expected
    assert list(found) == list(expected)
    assert repr(ARRAYS) == before


@pytest.mark.parametrize(
    ("spec", "projection", "document", "expected"),
    [
        ({"a": 3}, {"a.$": 1}, {"_id": 1, "a": [1, 3, 3]}, {"_id": 1, "a": [3]}),
        ({"a": {"$gt": 1}}, {"a.$": 1, "b": 1}, {"b": 5, "a": [1, 2, 3], "c": 1}, {"b": 5, "a": [2]}),
        ({"a.b": 2}, {"a.$": 1}, {"a": [{"b": 1}, {"b": 2, "c": 3}]}, {"a": [{"b": 2, "c": 3}]}),
        ({"a.b": 2}, {"a.b.$": 1}, {"a": [{"b": 1}, {"b": 2, "c": 3}]}, {"a": [{"b": 2}]}),
        ({"a": {"$elemMatch": {"b": 2}}}, {"a.$": 1}, {"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 2}]}),
        ({"o.a": 2}, {"o.a.$": 1}, {"o": {"a": [1, 2], "z": 1}}, {"o": {"a": [2]}}),
        ({"a": 3}, {"a.$": 1}, {"_id": 1, "a": 3}, {"_id": 1, "a": 3}),
        ({"a": 1, "b": 2}, {"a.$": 1}, {"a": [0, 5, 1], "b": [2, 1]}, {"a": [0]}),  # the last condition decides
    ],
)
def test_the_element_that_matched(spec: dict, projection: dict, document: dict, expected: dict) -> None:
    matches = compile_filter(spec)
    assert matches(document)
    assert compile_projection(projection, matches)(document) == expected


@pytest.mark.parametrize(
    ("spec", "document", "code"),
    [
        ({"$or": [{"a": 1}, {"b": 1}]}, {"a": [1, 2]}, 51246),
        ({"a": [1, 2]}, {"a": [1, 2]}, 51246),
        ({"a": {"$exists": True}, "b": 1}, {"a": [1], "b": [0, 1]}, 51247),
    ],
)
def test_an_element_that_is_not_known(spec: dict, document: dict, code: int) -> None:
    matches = compile_filter(spec)
    project = compile_projection({"a.$": 1}, matches)
    assert matches(document)
    with pytest.raises(BadQuery) as refused:
        project(document)
    assert refused.value.code == code


@given(documents, st.sets(st.sampled_from(["a", "b", "c", "_id"])))
def test_what_is_kept_and_what_is_left_out_make_the_whole(document: dict, names: set[str]) -> None:
    kept = compile_projection(dict.fromkeys(names, 1) | ({} if "_id" in names else {"_id": 0}))(document) if names else {}
    left = compile_projection(dict.fromkeys(names, 0))(document)
    assert {key for key in document if key in names} == set(kept)
    assert {key for key in document if key not in names} == set(left)
    assert all(document[key] is value for key, value in (kept | left).items())
