"""Promises of storage/query/upserts.py: what an upsert takes from its filter."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from bson import Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.query.filters import compile_filter
from storage.query.updates import compile_update
from storage.query.upserts import upsert_document
from tests.values.generated import int64s, same


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {}),
        ({"a": 1}, {"a": 1}),
        ({"a": None}, {"a": None}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {}}, {"a": {}}),
        ({"a": [1, 2]}, {"a": [1, 2]}),
        ({"a.b": 1, "a.c": 2}, {"a": {"b": 1, "c": 2}}),
        ({"a.0": 1}, {"a": {"0": 1}}),
        ({"b": 1, "_id": 5}, {"_id": 5, "b": 1}),
        ({"a": {"$eq": 1}}, {"a": 1}),
        ({"a": {"$eq": 1, "$gt": 0}}, {"a": 1}),
        ({"a": {"$in": [1]}}, {"a": 1}),
        ({"a": {"$in": [1, 2]}}, {}),
        ({"a": {"$in": []}}, {}),
        ({"a": {"$all": [1]}}, {"a": 1}),
        ({"a": {"$all": [{"$elemMatch": {"b": 1}}]}}, {}),
        ({"a": {"$gt": 1}, "b": {"$ne": 1}, "c": {"$exists": True}}, {}),
        ({"a": {"$not": {"$eq": 1}}}, {}),
        ({"a": {"$elemMatch": {"b": 1}}}, {}),
        ({"a": Regex("x")}, {}),
        ({"a": {"$in": [Regex("x")]}}, {}),
        ({"$and": [{"a": 1}, {"$and": [{"b": 2}]}]}, {"a": 1, "b": 2}),
        ({"$or": [{"a": 1}]}, {"a": 1}),
        ({"$or": [{"a": 1}, {"b": 1}]}, {}),
        ({"$nor": [{"a": 1}]}, {}),
        ({"a": {"$ref": "c", "$id": 1}}, {"a": {"$ref": "c", "$id": 1}}),
        ({"a": (1, 2)}, {"a": [1, 2]}),
    ],
)
def test_equalities_become_fields(spec: dict, expected: dict) -> None:
    found = upsert_document(spec)
    assert same(found, expected)


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"a": 1, "$and": [{"a": 1}]}, 54),
        ({"a": 1, "a.b": 1}, 54),
        ({"a.b": 1, "a": {"c": 1}}, 54),
        ({"a.b.c": 1, "a.b": {"c": 1}}, 54),
        ({"a": {"$all": [1, 2]}}, 54),
        ({"a": {"$eq": 1, "$in": [1]}}, 54),
        ({"_id.a": 1}, 111),
    ],
)
def test_what_is_pinned_twice_is_not_guessed(spec: dict, code: int) -> None:
    with pytest.raises(BadQuery) as caught:
        upsert_document(spec)
    assert caught.value.code == code


def test_a_filter_without_end_is_refused() -> None:
    spec: dict = {"a": 1}
    for _ in range(5000):
        spec = {"$and": [spec]}
    with pytest.raises(BadQuery):
        upsert_document(spec)


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)


@given(st.dictionaries(paths, int64s | st.text(max_size=3) | st.booleans(), max_size=4))
def test_the_new_document_matches_the_filter_it_came_from(spec: dict[str, Any]) -> None:
    try:
        found = upsert_document(spec)
    except BadQuery as refused:
        assert refused.code == 54
        return
    assert compile_filter(spec)(found)


def test_an_upsert_in_whole() -> None:
    document = upsert_document({"_id": 4, "a": {"$gt": 3}, "b.c": 1})
    update = compile_update({"$set": {"b.d": 2}, "$inc": {"n": 1}, "$setOnInsert": {"made": True}})
    found = update.apply(
        document, position=None, is_insert=True, now=datetime.datetime(2024, 1, 1), now_timestamp=Timestamp(1, 1)
    )
    assert same(found, {"_id": 4, "b": {"c": 1, "d": 2}, "made": True, "n": 1})
