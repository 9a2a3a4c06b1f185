"""Promises of storage/query/sorting.py: MongoDB's sort of arrays and missing fields."""

from __future__ import annotations

import heapq

import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
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
    ],
)
def test_sorts_that_are_refused(spec: object) -> None:
    with pytest.raises(BadQuery):
        compile_sort(spec)


def order(spec: object, *documents: dict) -> list[dict]:
    return sorted(documents, key=compile_sort(spec))


@pytest.mark.parametrize("direction", [1, 1.0, Decimal128("1"), -1, -1.0, Decimal128("-1")])
def test_a_map_and_a_list_say_the_same_in_any_number(direction: object) -> None:
    of_map, of_list = compile_sort({"a": direction, "b.c": 1}), compile_sort([["a", direction], ("b.c", 1)])
    assert of_map.fields == of_list.fields == (("a", int(float(str(direction)))), ("b.c", 1))


def test_fields_in_one_array_are_taken_from_one_element() -> None:
    # MongoDB compares (0, 3) and (0, 2): the element with the least b, and of those the one with the greatest c.
    a = {"n": 1, "a": [{"b": 1, "c": 9}, {"b": 0, "c": 3}, {"b": 0, "c": 1}]}
    b = {"n": 2, "a": [{"b": 0, "c": 2}]}
    assert order({"a.b": 1, "a.c": -1}, b, a) == [a, b]
    assert order({"a.b": 1, "a.c": 1}, b, a) == [a, b]
    c = {"n": 3, "a": [{"b": 0, "c": 4}, {"b": 5, "c": 0}]}
    assert order({"a.b": 1, "a.c": 1}, c, a) == [a, c]  # (0, 1) before (0, 4), though c has a 0


@pytest.mark.parametrize(
    "document",
    [{"a": [1, 2], "b": [1, 2]}, {"a": [1], "b": []}, {"a": {"x": [1]}, "b": [{"y": 1}]}],
)
def test_two_arrays_cannot_be_sorted_by(document: dict) -> None:
    key = compile_sort({"a": 1, "b": 1} if type(document["a"]) is list else {"a.x": 1, "b.y": -1})
    with pytest.raises(BadQuery, match="parallel arrays") as refused:
        key(document)
    assert refused.value.code == 2


@given(st.lists(st.fixed_dictionaries({"b": st.integers(0, 2), "c": st.integers(0, 2)}), min_size=1, max_size=4))
def test_the_joint_key_is_the_least_of_the_elements(elements: list[dict]) -> None:
    least = min((element["b"], -element["c"]) for element in elements)
    key = compile_sort({"a.b": 1, "n": 1, "a.c": -1})
    alone = key({"a": {"b": least[0], "c": -least[1]}, "n": 7})
    assert key({"a": elements, "n": 7}) == alone


def test_natural_order_and_its_reverse() -> None:
    documents = [{"n": n} for n in (3, 1, 2)]
    assert compile_sort({"$natural": 1}).fields == (("$natural", 1),)
    assert order({"$natural": 1}, *documents) == documents
    assert compile_sort([["$natural", -1]]).fields == (("$natural", -1),)
    assert order([["$natural", -1]], *documents) == documents[::-1]
    with pytest.raises(BadQuery, match="alone"):
        compile_sort({"$natural": 1, "a": 1})


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"a": "1"}, 15974),
        ({"a": None}, 15974),
        ({"a": True}, 15974),
        ({"a": 2}, 15975),
        ({"a": 0}, 15975),
        ({"a": float("nan")}, 15975),
        ({"a": {"$meta": "textScore"}}, 17312),
        ({"": 1}, 40352),
        ({"$a": 1}, 16410),
    ],
)
def test_the_codes_of_refused_sorts(spec: dict, code: int) -> None:
    with pytest.raises(BadQuery) as refused:
        compile_sort(spec)
    assert refused.value.code == code
