"""The naive evaluator says what MongoDB's manual says: its examples and its known surprises."""

from __future__ import annotations

import pytest

from tests.query.naive import filters, pipeline, sorting, updates
from tests.query.naive.values import Refused

NAN = float("nan")


@pytest.mark.parametrize(
    ("document", "spec", "matches"),
    [
        ({}, {"a": None}, True),
        ({"a": [{"b": 1}, {}]}, {"a.b": None}, True),
        ({"a": [1, 2]}, {"a.b": None}, False),
        ({"a": []}, {"a.b": None}, False),
        ({"a": 5}, {"a.b": None}, True),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({"a": [[1, 2]]}, {"a": [1, 2]}, True),
        ({"a": [[1, 2]]}, {"a": 1}, False),
        ({"a": [[1, 2]]}, {"a.0": 1}, False),
        ({"a": [{"b": 4}]}, {"a.0.b": None}, True),
        ({"a": [1, 9]}, {"a": {"$gt": 5, "$lt": 3}}, True),
        ({"a": [1, 9]}, {"a": {"$elemMatch": {"$gt": 5, "$lt": 3}}}, False),
        ({"a": [1, 9]}, {"a": {"$ne": 1}}, False),
        ({"a": "5"}, {"a": {"$gt": 1}}, False),
        ({}, {"a": {"$not": {"$gt": 1}}}, True),
        ({}, {"a": {"$gte": None}}, True),
        ({"a": NAN}, {"a": {"$lt": 1}}, False),
        ({"a": NAN}, {"a": {"$gte": NAN}}, True),
        ({"a": 2**53 + 1}, {"a": float(2**53)}, False),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, False),
        ({"a": [1]}, {"a": {"$all": []}}, False),
        ({"a": []}, {"a": {"$size": 0}}, True),
        ({"a": -5}, {"a": {"$mod": [3, -2]}}, True),
        ({"a": -1}, {"a": {"$bitsAllSet": [100]}}, True),
        ({"a": 1}, {"a": {"$type": "number"}}, True),
    ],
)
def test_filters(document: dict, spec: dict, matches: bool) -> None:
    assert filters.matches(document, spec) is matches


@pytest.mark.parametrize(
    ("document", "update", "after"),
    [
        ({}, {"$set": {"b": 1, "a.10": 1, "a.2": 1}}, {"a": {"2": 1, "10": 1}, "b": 1}),
        ({"a": [1]}, {"$set": {"a.3": 4}}, {"a": [1, None, None, 4]}),
        ({"a": [1, 2]}, {"$unset": {"a.0": ""}}, {"a": [None, 2]}),
        ({}, {"$mul": {"a": 2.5}}, {"a": 0.0}),
        ({"a": [3, 1]}, {"$push": {"a": {"$each": [2], "$sort": 1, "$slice": -2}}}, {"a": [2, 3]}),
        ({"a": [1, 2, 3]}, {"$push": {"a": {"$each": [9], "$position": -1}}}, {"a": [1, 2, 9, 3]}),
        ({"a": [{"b": 1, "c": 2}, {"b": 2}]}, {"$pull": {"a": {"b": 1}}}, {"a": [{"b": 2}]}),
        ({"a": [1]}, {"$addToSet": {"a": 1.0}}, {"a": [1]}),
        ({"a": {"b": 1}}, {"$rename": {"a.b": "c"}}, {"a": {}, "c": 1}),
        ({"a": 5}, {"$max": {"a": "x"}}, {"a": "x"}),
    ],
)
def test_updates(document: dict, update: dict, after: dict) -> None:
    found = updates.updated(document, update)
    assert found == after
    assert list(found) == list(after)


@pytest.mark.parametrize(
    ("document", "update", "code"),
    [
        ({}, {"$set": {"a": 1, "a.b": 1}}, 40),
        ({"a": 1}, {"$set": {"a.b": 1}}, 28),
        ({"a": "x"}, {"$inc": {"a": 1}}, 14),
        ({"a": 2**63 - 1}, {"$inc": {"a": 1}}, 2),
        ({"_id": 1}, {"$set": {"_id": 2}}, 66),
        ({}, {"$set": {"a..b": 1}}, 56),
        ({}, {"$nonsense": {"a": 1}}, 9),
    ],
)
def test_refused_updates(document: dict, update: dict, code: int) -> None:
    with pytest.raises(Refused) as caught:
        updates.updated(document, update)
    assert caught.value.code == code


def test_sorts() -> None:
    documents = [{"a": [1, 9]}, {"a": 5}, {}, {"a": []}, {"a": "x"}]
    assert sorting.ordered(documents, {"a": 1}) == [{"a": []}, {}, {"a": [1, 9]}, {"a": 5}, {"a": "x"}]
    assert sorting.ordered(documents, {"a": -1}) == [{"a": "x"}, {"a": [1, 9]}, {"a": 5}, {}, {"a": []}]
    pairs = [{"p": [{"x": 1, "y": 9}, {"x": 2, "y": 0}]}, {"p": {"x": 1, "y": 5}}]
    assert sorting.ordered(pairs, [["p.x", 1], ["p.y", 1]]) == pairs[::-1]
    with pytest.raises(Refused):
        sorting.ordered([{"a": [1], "b": [2]}], {"a": 1, "b": 1})


def test_pipelines() -> None:
    sales = [{"_id": 1, "item": "abc", "sizes": ["S", "M"]}, {"_id": 2, "item": "xyz", "sizes": []}, {"_id": 3, "item": "abc", "sizes": "L"}]
    assert pipeline.run(sales, [{"$unwind": "$sizes"}, {"$sortByCount": "$item"}], {}) == [{"_id": "abc", "count": 3}]
    joined = pipeline.run(sales[:1], [{"$lookup": {"from": "all", "localField": "item", "foreignField": "item", "as": "d"}}], {"all": sales})
    assert [row["_id"] for row in joined[0]["d"]] == [1, 3]
