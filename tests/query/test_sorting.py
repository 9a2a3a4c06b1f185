"""Promises of storage/query/sorting.py: MongoDB's sort of arrays and missing fields, and its projections."""

from __future__ import annotations

import heapq

import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.query.projection import compile_projection
from storage.query.sorting import compile_sort
from storage.values.order import sort_key
from tests.values.generated import values


@given(st.lists(values, max_size=8))
def test_a_sort_of_plain_values_is_their_order(found: list) -> None:
    documents = [{"a": {"x": value}} for value in found if not isinstance(value, list)]
    ascending = sorted(documents, key=compile_sort([["a.x", 1]]))
    assert [sort_key(d["a"]["x"]) for d in ascending] == sorted(sort_key(d["a"]["x"]) for d in documents)
    descending = sorted(documents, key=compile_sort([["a.x", -1]]))
    assert [sort_key(d["a"]["x"]) for d in descending] == sorted((sort_key(d["a"]["x"]) for d in documents), reverse=True)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)), max_size=12))
def test_fields_after_the_first_break_ties_and_order_is_kept_beyond_them(rows: list[tuple[int, int, int]]) -> None:
    documents = [{"a": a, "b": b, "n": n} for a, b, n in rows]
    key = compile_sort([("a", 1), ("b", -1)])
    expected = sorted(documents, key=lambda d: (d["a"], -d["b"]))
    assert sorted(documents, key=key) == expected
    assert heapq.nsmallest(5, documents, key=key) == expected[:5]


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("a", {"a": []}, {}),
        ("a", {"a": []}, {"a": None}),
        ("a", {}, {"a": 0}),
        ("a", {"a": [9, 1]}, {"a": 2}),
        ("a", {"a": float("nan")}, {"a": float("-inf")}),
        ("a", {"a": 5}, {"a": "0"}),
        ("a", {"a": [3]}, {"a": [[0]]}),
        ("a.b", {"a": [{"b": 5}, {}]}, {"a": {"b": 0}}),
        ("a.b", {"a": [{"b": 5}, {"b": 1}]}, {"a": {"b": 2}}),
        ("a.b", {"a": []}, {"a": {"b": 0}}),
        ("a.1", {"a": [9, 1]}, {"a": [0, 2]}),
        ("a.1.b", {"a": [{"b": 9}, {"b": 1}]}, {"a": [{"b": 0}, {"b": 2}]}),
    ],
)
def test_ascending(field: str, low: dict, high: dict) -> None:
    key = compile_sort([[field, 1]])
    assert key(low) < key(high)


def test_missing_and_null_sort_alike() -> None:
    key = compile_sort([["a", 1]])
    assert key({}) == key({"a": None})


def test_descending_takes_the_largest_of_an_array() -> None:
    key = compile_sort([["a", -1.0]])
    documents = [{"a": 5}, {"a": [1, 9]}, {"a": 7}, {}]
    assert sorted(documents, key=key) == [{"a": [1, 9]}, {"a": 7}, {"a": 5}, {}]


@pytest.mark.parametrize(
    "spec",
    [
        [],
        {},
        "a",
        5,
        ["a"],
        ["ab"],
        [["a"]],
        [["a", 2]],
        [["a", True]],
        [["a", "1"]],
        [["", 1]],
        [["$a", 1]],
        [[1, 1]],
        [["a", 1], ["a", -1]],
        [[f"f{n}", 1] for n in range(33)],
        [["a", [1]]],
        [["a", Decimal128("1")]],
    ],
)
def test_sorts_that_are_refused(spec: object) -> None:
    with pytest.raises(BadQuery):
        compile_sort(spec)


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
        ({"a": "$b"}, "'a'"),
        ({"a": {"$slice": 1}}, "'a'"),
        ({"a": None}, "'a'"),
        ({"a.$": 1}, "positional"),
        ({"$a": 1}, "positional"),
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
