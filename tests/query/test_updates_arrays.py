"""Promises of storage/query/array_operators.py: MongoDB's operators on arrays, one row a rule."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from bson import Decimal128, Regex, Timestamp

from storage.errors import BadQuery
from storage.query.updates import compile_update
from tests.values.generated import same

NOW, STAMP = datetime.datetime(2024, 1, 1), Timestamp(1, 1)
D = Decimal128
NAN = math.nan


def updated(document: dict, spec: dict) -> dict:
    return compile_update(spec).apply(document, position=None, is_insert=False, now=NOW, now_timestamp=STAMP)


# the argument, the array (None: no such field), the array after it
PUSH = [
    (1, None, [1]),
    (1, [0], [0, 1]),
    ([1, 2], [0], [0, [1, 2]]),
    ({"b": 1}, [0], [0, {"b": 1}]),
    ({"$slice": 1}, [0], [0, {"$slice": 1}]),
    ({"$each": []}, None, []),
    ({"$each": [1, 2]}, None, [1, 2]),
    ({"$each": [1, [2]]}, [0], [0, 1, [2]]),
    ({"$each": [8, 9], "$position": 0}, [1, 2], [8, 9, 1, 2]),
    ({"$each": [8, 9], "$position": 1}, [1, 2], [1, 8, 9, 2]),
    ({"$each": [8, 9], "$position": 7.0}, [1, 2], [1, 2, 8, 9]),
    ({"$each": [8, 9], "$position": -1}, [1, 2], [1, 8, 9, 2]),
    ({"$each": [90, 80], "$position": -2}, [50, 60, 20, 30, 70, 100], [50, 60, 20, 30, 90, 80, 70, 100]),
    ({"$each": [8, 9], "$position": -7}, [1, 2], [8, 9, 1, 2]),
    ({"$each": [8], "$position": D("1")}, [1, 2], [1, 8, 2]),
    ({"$each": [3, 4], "$slice": 3}, [1, 2], [1, 2, 3]),
    ({"$each": [3, 4], "$slice": -3}, [1, 2], [2, 3, 4]),
    ({"$each": [3, 4], "$slice": 0}, [1, 2], []),
    ({"$each": [3, 4], "$slice": 0}, None, []),
    ({"$each": [], "$slice": -9}, [1, 2], [1, 2]),
    ({"$each": [], "$slice": -(2**63)}, [1, 2], [1, 2]),
    ({"$each": [2, 9], "$sort": 1}, [5, 1], [1, 2, 5, 9]),
    ({"$each": [2, 9], "$sort": -1}, [5, 1], [9, 5, 2, 1]),
    ({"$each": [], "$sort": 1}, ["x", None, 2, {}, [1], NAN], [None, NAN, 2, "x", {}, [1]]),
    ({"$slice": -2, "$sort": 1, "$each": [3]}, [5, 4], [4, 5]),
    ({"$each": [7], "$position": 0, "$slice": 1, "$sort": -1}, [9, 1], [9]),
    (
        {"$each": [{"a": 1, "n": 3}], "$sort": {"a": 1}},
        [{"a": 2}, {"a": 1, "n": 1}],
        [{"a": 1, "n": 1}, {"a": 1, "n": 3}, {"a": 2}],
    ),
    (
        {"$each": [], "$sort": {"a": -1}},
        [{"a": 1, "n": 1}, {"a": 2}, {"a": 1, "n": 2}],
        [{"a": 2}, {"a": 1, "n": 1}, {"a": 1, "n": 2}],
    ),
    (
        {"$each": [], "$sort": {"a": 1, "b": -1}},
        [{"a": 1, "b": 1}, {"a": 0}, {"a": 1, "b": 2}],
        [{"a": 0}, {"a": 1, "b": 2}, {"a": 1, "b": 1}],
    ),
    (
        {"$each": [], "$sort": {"a.b": 1}},
        [{"a": {"b": 2}}, {"a": {"b": 1}}, {"a": 5}],
        [{"a": 5}, {"a": {"b": 1}}, {"a": {"b": 2}}],
    ),
    ({"$each": [], "$sort": {"a": 1}}, [{"a": 1}, 7, {}, {"a": -1}], [7, {}, {"a": -1}, {"a": 1}]),
    # a query's sort would take the smallest element of an array; $push compares arrays as they are
    ({"$each": [], "$sort": {"a": 1}}, [{"a": [0]}, {"a": 3}], [{"a": 3}, {"a": [0]}]),
    ({"$each": [], "$sort": {"a.0": 1}}, [{"a": [5, 0]}, {"a": [3]}], [{"a": [3]}, {"a": [5, 0]}]),
]

ADD_TO_SET = [
    (1, None, [1]),
    (1, [1], [1]),
    (1.0, [1], [1]),
    (D("1.00"), [1], [1]),
    (NAN, [NAN], [NAN]),
    (True, [1], [1, True]),
    ([1, 2], [1, 2], [1, 2, [1, 2]]),
    ({"a": 1, "b": 2}, [{"a": 1.0, "b": 2}], [{"a": 1.0, "b": 2}]),
    ({"b": 2, "a": 1}, [{"a": 1, "b": 2}], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
    ({"$each": []}, None, []),
    ({"$each": [1, 2, 1]}, None, [1, 2]),
    ({"$each": [3, 1, 3.0, "x"]}, [1, 1], [1, 1, 3, "x"]),
    ({"a": 1, "$each": [1]}, [], [{"a": 1, "$each": [1]}]),
]

PULL = [
    (1, None, None),
    (1, [1, 2, 1.0, "1", True], [2, "1", True]),
    (9, [1], [1]),
    (None, [None, 0], [0]),
    ([1, 2], [[1, 2], 1, 2, [2, 1]], [1, 2, [2, 1]]),
    ({"$gte": 6}, [1, 6, 9, "x"], [1, "x"]),
    ({"$in": ["a", 2]}, ["a", "b", 2], ["b"]),
    ({"$ne": 1}, [1, 2], [1]),
    ({"$eq": {"a": 1}}, [{"a": 1}, {"a": 1, "b": 2}], [{"a": 1, "b": 2}]),
    ({"$exists": True}, [1, {}], []),
    ({"a": 1}, [{"a": 1, "b": 2}, {"a": 2}, 1, [{"a": 1}]], [{"a": 2}, 1, [{"a": 1}]]),
    ({"a": {"$gt": 1}, "b": 2}, [{"a": 2, "b": 2}, {"a": 2}], [{"a": 2}]),
    ({"a.b": 1}, [{"a": [{"b": 1}]}, {"a": 1}], [{"a": 1}]),
    ({"$or": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}, {"a": 3}, 1], [{"a": 3}, 1]),
    ({"a": None}, [{}, {"a": 1}, 5], [{"a": 1}, 5]),
    ({}, [{}, {"a": 1}, 5], [5]),
]

PULL_ALL = [
    ([1], None, None),
    ([], [1], [1]),
    ([0, 5], [0, 2, 5, 5, 1, 0.0], [2, 1]),
    ([{"a": 1}], [{"a": 1.0}, {"a": 1, "b": 1}], [{"a": 1, "b": 1}]),
    ([None, [1]], [None, 1, [1]], [1]),
]

POP = [
    (1, None, None),
    (1, [], []),
    (1, [1, 2, 3], [1, 2]),
    (-1, [1, 2, 3], [2, 3]),
    (1.0, [1], []),
    (D("-1"), [1, 2], [2]),
]

ROWS = [
    (operator, *row)
    for operator, rows in (("$push", PUSH), ("$addToSet", ADD_TO_SET), ("$pull", PULL), ("$pullAll", PULL_ALL), ("$pop", POP))
    for row in rows
]


@pytest.mark.parametrize(("operator", "argument", "array", "expected"), ROWS)
@pytest.mark.parametrize("path", ["a", "x.a"])
def test_operators_on_arrays(operator: str, argument: Any, array: list | None, expected: list | None, path: str) -> None:
    def holding(value: list | None) -> dict:
        inner = {} if value is None else {"a": value}
        return {"_id": 1, **inner} if path == "a" else {"_id": 1, "x": inner}

    document = holding(array)
    found = updated(document, {operator: {path: argument}})
    assert same(found, holding(expected)), found
    assert same(document, holding(array))


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"$push": {"a": {"$each": 5}}}, 2),
        ({"$push": {"a": {"$each": [1], "$foo": 1}}}, 2),
        ({"$push": {"a": {"$each": [1], "b": 1}}}, 2),
        ({"$push": {"a": {"$each": [1], "$slice": 1.5}}}, 2),
        ({"$push": {"a": {"$each": [1], "$slice": "1"}}}, 2),
        ({"$push": {"a": {"$each": [1], "$slice": None}}}, 2),
        ({"$push": {"a": {"$each": [1], "$position": True}}}, 2),
        ({"$push": {"a": {"$each": [1], "$position": D("1E+6000")}}}, 2),
        ({"$push": {"a": {"$each": [1], "$position": math.inf}}}, 2),
        ({"$push": {"a": {"$each": [1], "$sort": 2}}}, 2),
        ({"$push": {"a": {"$each": [1], "$sort": "a"}}}, 2),
        ({"$push": {"a": {"$each": [1], "$sort": {}}}}, 2),
        ({"$push": {"a": {"$each": [1], "$sort": {"a": 0}}}}, 2),
        ({"$push": {"a": {"$each": [1], "$sort": {"a..b": 1}}}}, 2),
        ({"$push": {"a": {"$each": [1], "$sort": {"": 1}}}}, 2),
        ({"$push": {"a": {"$each": [1], "$sort": {"$a": 1}}}}, 2),
        ({"$push": {"a": {"$each": [object()]}}}, 2),
        ({"$addToSet": {"a": {"$each": 5}}}, 14),
        ({"$addToSet": {"a": {"$each": [5], "$slice": 1}}}, 2),
        ({"$pullAll": {"a": 5}}, 2),
        ({"$pullAll": {"a": {"b": 1}}}, 2),
        ({"$pull": {"a": {"$foo": 1}}}, 2),
        ({"$pull": {"a": {"b": {"$foo": 1}}}}, 2),
        ({"$pop": {"a": 0}}, 9),
        ({"$pop": {"a": 2}}, 9),
        ({"$pop": {"a": 1.5}}, 9),
        ({"$pop": {"a": "1"}}, 9),
        ({"$pop": {"a": True}}, 9),
        ({"$pop": {"a": NAN}}, 9),
    ],
)
def test_bad_arguments_are_refused_at_once(spec: dict, code: int) -> None:
    with pytest.raises(BadQuery) as caught:
        compile_update(spec)
    assert caught.value.code == code, caught.value.message


@pytest.mark.parametrize("held", [5, None, "x", {"0": 1}, Regex("x")])
@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"$push": {"a": 1}}, 2),
        ({"$push": {"a": {"$each": []}}}, 2),
        ({"$addToSet": {"a": 1}}, 2),
        ({"$pull": {"a": 1}}, 2),
        ({"$pullAll": {"a": [1]}}, 2),
        ({"$pop": {"a": 1}}, 14),
    ],
)
def test_only_arrays_are_changed(spec: dict, code: int, held: Any) -> None:
    with pytest.raises(BadQuery) as caught:
        updated({"_id": "key", "a": held}, spec)
    assert caught.value.code == code
    assert "'a'" in caught.value.message
    assert "'key'" in caught.value.message


def test_large_sets_are_not_compared_pair_by_pair() -> None:
    many = list(range(30_000))
    document = {"_id": 1, "a": many}
    assert updated(document, {"$addToSet": {"a": {"$each": many}}}) is document
    assert updated(document, {"$pullAll": {"a": many}}) == {"_id": 1, "a": []}
