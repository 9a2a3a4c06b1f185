"""Promises of storage/query/filters.py: MongoDB's matching rules, one row a rule."""

from __future__ import annotations

import datetime

import pytest
from bson import Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.query.filters import compile_filter, id_point, pinned_id
from storage.query.paths import MISSING
from storage.values.keys import canonical
from storage.values.order import equal, sort_key
from tests.values.generated import documents, ids, scalars, values

NAN = float("nan")
D = Decimal128
DAY = datetime.datetime(2020, 1, 1)

# filter, documents that match, documents that do not
EQUALITY = [
    ({}, [{}, {"a": 1}], []),
    ({"a": 1}, [{"a": 1}, {"a": 1.0}, {"a": D("1.00")}, {"a": [0, 1]}], [{"a": "1"}, {"a": True}, {}, {"a": [[1]]}]),
    ({"a": D("0.1")}, [{"a": D("0.10")}], [{"a": 0.1}]),
    ({"a": 0.5}, [{"a": D("0.5")}], [{"a": 1}]),
    ({"a": 2**53 + 1}, [{"a": 2**53 + 1}], [{"a": 2.0**53}]),
    ({"a": NAN}, [{"a": NAN}, {"a": D("NaN")}, {"a": [NAN]}], [{"a": 0}, {}]),
    ({"a": True}, [{"a": True}], [{"a": 1}]),
    ({"a": "x"}, [{"a": "x"}, {"a": ["y", "x"]}], [{"a": Code("x")}, {"a": b"x"}, {"a": {"x": 1}}]),
    ({"a": None}, [{}, {"a": None}, {"a": [None]}, {"a": [1, None]}], [{"a": 0}, {"a": []}, {"a": [1]}]),
    ({"a": []}, [{"a": []}, {"a": [[]]}], [{}, {"a": [1]}, {"a": None}]),
    ({"a": [1, 2]}, [{"a": [1, 2]}, {"a": [1.0, D("2")]}, {"a": [[1, 2], 3]}], [{"a": [2, 1]}, {"a": [1, 2, 3]}, {"a": 1}]),
    ({"a": {"b": 1, "c": 2}}, [{"a": {"b": 1.0, "c": 2}}, {"a": [{"b": 1, "c": 2}]}], [{"a": {"c": 2, "b": 1}}, {"a": {"b": 1}}]),
    ({"a": {}}, [{"a": {}}], [{}, {"a": {"b": 1}}]),
    ({"a": {"$ref": "c", "$id": 1}}, [{"a": {"$ref": "c", "$id": 1}}], [{"a": {"$ref": "c"}}]),
    ({"a": {"b": 1, "$gt": 2}}, [{"a": {"b": 1, "$gt": 2}}], [{"a": {"b": 1}}]),
    ({"a": {"$eq": Regex("x")}}, [{"a": Regex("x")}], [{"a": "x"}]),
    ({"a": {"$eq": {"$x": 1}}}, [{"a": {"$x": 1}}], [{"a": 1}]),
    ({"a": {"$ne": 1}}, [{}, {"a": 2}, {"a": []}, {"a": "1"}], [{"a": 1}, {"a": [1, 2]}, {"a": D("1")}]),
    ({"a": {"$ne": None}}, [{"a": 0}, {"a": []}], [{}, {"a": None}, {"a": [None, 1]}]),
    ({"a": 1, "b": 2}, [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}]),
]
RANGES = [
    ({"a": {"$gt": 1}}, [{"a": 1.5}, {"a": D("1.1")}, {"a": [0, 2]}], [{"a": 1}, {"a": "2"}, {}, {"a": None}, {"a": True}, {"a": NAN}]),
    ({"a": {"$gte": 1}}, [{"a": 1.0}], [{"a": 0}, {"a": MaxKey()}]),
    ({"a": {"$lt": 1}}, [{"a": 0}, {"a": float("-inf")}], [{"a": 1}, {"a": None}, {}, {"a": NAN}, {"a": D("NaN")}, {"a": MinKey()}]),
    ({"a": {"$gt": 2.0**53}}, [{"a": 2**53 + 1}], [{"a": 2**53}]),
    ({"a": {"$lte": "b"}}, [{"a": "a"}, {"a": "b"}], [{"a": "ba"}, {"a": 1}, {"a": Code("a")}]),
    ({"a": {"$gt": 1, "$lt": 3}}, [{"a": 2}, {"a": [0, 5]}], [{"a": 1}, {"a": [0, 1]}]),
    ({"a": {"$gte": None}}, [{}, {"a": None}], [{"a": 1}, {"a": []}]),
    ({"a": {"$lte": None}}, [{}, {"a": None}], [{"a": 1}]),
    ({"a": {"$gt": None}}, [], [{}, {"a": None}, {"a": 1}]),
    ({"a": {"$gte": NAN}}, [{"a": NAN}], [{"a": 1}, {}]),
    ({"a": {"$lt": NAN}}, [], [{"a": NAN}, {"a": 1}]),
    ({"a": {"$gt": MinKey()}}, [{}, {"a": 1}, {"a": None}, {"a": MaxKey()}], [{"a": MinKey()}]),
    ({"a": {"$lt": MaxKey()}}, [{}, {"a": 1}, {"a": "x"}], [{"a": MaxKey()}]),
    ({"a": {"$gt": MaxKey()}}, [], [{"a": 1}, {"a": MaxKey()}]),
    ({"a": {"$gte": MaxKey()}}, [{"a": MaxKey()}], [{"a": 1}]),
    ({"a": {"$lte": MinKey()}}, [{"a": MinKey()}], [{"a": 1}, {}]),
    ({"a": {"$gt": DAY}}, [{"a": datetime.datetime(2021, 1, 1)}], [{"a": DAY}, {"a": Timestamp(2**31, 0)}]),
    ({"a": {"$gt": [1, 2]}}, [{"a": [1, 3]}, {"a": [[2], 0]}], [{"a": [1, 2]}, {"a": 5}]),
    ({"a": {"$lt": {"b": 2}}}, [{"a": {"b": 1}}], [{"a": {"b": 2}}, {"a": 1}]),
    ({"a": {"$gt": False}}, [{"a": True}], [{"a": 1}]),
    ({"a": {"$gt": ObjectId("0" * 24)}}, [{"a": ObjectId("f" * 24)}], [{"a": "f" * 24}]),
]
SETS_AND_LOGIC = [
    ({"a": {"$in": [1, "x"]}}, [{"a": 1.0}, {"a": "x"}, {"a": [5, "x"]}, {"a": D("1")}], [{"a": 2}, {}, {"a": "y"}]),
    ({"a": {"$in": [None]}}, [{}, {"a": None}], [{"a": 1}]),
    ({"a": {"$in": []}}, [], [{}, {"a": 1}]),
    ({"a": {"$in": ["x", "y"]}}, [{"a": "y"}], [{"a": b"y"}, {}]),
    ({"a": {"$in": [[1]]}}, [{"a": [1]}, {"a": [[1]]}], [{"a": 1}]),
    ({"a": {"$in": [NAN]}}, [{"a": NAN}], [{"a": 1}]),
    ({"a": {"$nin": [1, None]}}, [{"a": 2}], [{"a": 1}, {}, {"a": [2, 1]}]),
    ({"a": {"$exists": True}}, [{"a": None}, {"a": []}], [{}]),
    ({"a": {"$exists": 1}}, [{"a": 0}], [{}]),
    ({"a": {"$exists": False}}, [{}], [{"a": None}]),
    ({"a": {"$exists": 0.0}}, [{}], [{"a": None}]),
    ({"a": {"$exists": None}}, [{}], [{"a": None}]),
    ({"a": {"$exists": ""}}, [{"a": None}], [{}]),
    ({"a": {"$not": {"$gt": 5}}}, [{}, {"a": 5}, {"a": "x"}], [{"a": 6}, {"a": [1, 6]}]),
    ({"a": {"$not": {"$gt": 5, "$lt": 7}}}, [{"a": 5}, {"a": 8}], [{"a": 6}, {"a": [0, 9]}]),
    ({"a": {"$not": {"$not": {"$eq": 1}}}}, [{"a": 1}], [{"a": 2}]),
    ({"$or": [{"a": 1}, {"b": 2}]}, [{"a": 1}, {"b": 2}], [{"a": 2}, {}]),
    ({"$and": [{"a": 1}, {"b": 2}]}, [{"a": 1, "b": 2}], [{"a": 1}]),
    ({"$nor": [{"a": 1}, {"b": 2}]}, [{}, {"a": 2}], [{"a": 1}, {"b": 2}]),
    ({"$or": [{"$and": [{"a": 1}, {"b": 1}]}], "c": None}, [{"a": 1, "b": 1}], [{"a": 1, "b": 1, "c": 1}]),
]
PATHS = [
    ({"a.b": 1}, [{"a": {"b": 1}}, {"a": [{"b": 1}]}, {"a": {"b": [1]}}, {"a": [{"b": [0, 1]}]}], [{"a": 1}, {"a": [[{"b": 1}]]}, {"a.b": 1}]),
    ({"a.b": None}, [{}, {"a": {}}, {"a": 5}, {"a": [{}]}, {"a": [{"b": 1}, {}]}], [{"a": []}, {"a": [None]}, {"a": [1, 2]}, {"a": {"b": 4}}]),
    ({"a.b": {"$exists": False}}, [{}, {"a": 5}, {"a": []}, {"a": [1]}, {"a": [{}]}], [{"a": {"b": None}}, {"a": [{}, {"b": 1}]}]),
    ({"a.0": 1}, [{"a": [1]}, {"a": {"0": 1}}, {"a": [{"0": 1}]}], [{"a": [0, 1]}, {"a": [[1]]}, {"a": 1}]),
    ({"a.1": [2, 4]}, [{"a": [5, [2, 4]]}], [{"a": [[2, 4]]}]),
    ({"a.00": 1}, [{"a": {"00": 1}}], [{"a": [1]}]),
    ({"a.0.b": 1}, [{"a": [{"b": 1}]}, {"a": {"0": {"b": 1}}}, {"a": [[{"b": 1}]]}], [{"a": [{}, {"b": 1}]}]),
    ({"a.0.0": 1}, [{"a": [[1]]}], [{"a": [1]}, {"a": [[2], [1]]}]),
    ({"a.b.c": 1}, [{"a": [{"b": [{"c": 1}]}]}], [{"a": [{"b": [[{"c": 1}]]}]}]),
    ({"a.b": {"$gt": 1, "$lt": 3}}, [{"a": [{"b": 0}, {"b": 5}]}], [{"a": [{"b": 0}]}]),
    ({"a.0": None}, [{}, {"a": [None]}, {"a": [{"b": 1}]}], [{"a": []}, {"a": [1]}]),
    ({"": 1}, [{"": 1}], [{}]),
    ({"a.": 1}, [{"a": {"": 1}}], [{"a": 1}]),
]


@pytest.mark.parametrize(("spec", "matching", "others"), EQUALITY + RANGES + SETS_AND_LOGIC + PATHS)
def test_rule(spec: dict, matching: list[dict], others: list[dict]) -> None:
    matches = compile_filter(spec)
    for document in matching:
        assert matches(document) is True, document
    for document in others:
        assert matches(document) is False, document


def deep(step: str, levels: int) -> dict:
    spec: dict = {"a": 1}
    for _ in range(levels):
        spec = {step: [spec]}
    return spec


def deep_value(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def deep_not(levels: int) -> dict:
    condition: dict = {"$eq": 1}
    for _ in range(levels):
        condition = {"$not": condition}
    return {"a": condition}


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ([], "list"),
        ({1: 2}, "int"),
        ({"$foo": 1}, r"\$foo"),
        ({"$where": "1"}, r"\$where"),
        ({"$gt": 1}, r"\$gt"),
        ({"a": {"$foo": 1}}, r"'a'.*\$foo"),
        ({"a": {"$gt": 1, "b": 2}}, "'a'.*b"),
        ({"$and": []}, r"\$and"),
        ({"$or": {"a": 1}}, r"\$or"),
        ({"$nor": [1]}, "int"),
        ({"$and": [{"$foo": 1}]}, r"\$foo"),
        ({"a": {"$in": 1}}, r"\$in"),
        ({"a": {"$nin": "x"}}, r"\$nin"),
        ({"a": {"$in": [{"$gt": 1}]}}, r"\$gt"),
        ({"a": {"$not": 1}}, r"\$not"),
        ({"a": {"$not": {}}}, r"\$not"),
        ({"a": {"$not": {"$foo": 1}}}, r"\$foo"),
        ({"a": {"$ne": Regex("x")}}, "regular expression"),
        ({"a": {"$gt": Regex("x")}}, "regular expression"),
        ({"a": {1}}, "set"),
        ({"a\0": 1}, "NUL"),
        ({".".join("a" * 201): 1}, "200"),
        (deep("$and", 10_000), "deeper than 100"),
        (deep_not(10_000), "deeper than 100"),
        ({"a": deep_value(10_000)}, "deeper than 100"),
    ],
)
def test_refused_with_the_name_of_what_is_unknown(spec: object, named: str) -> None:
    with pytest.raises(BadQuery, match=named):
        compile_filter(spec)


@given(documents, values)
def test_negations_are_exact(document: dict, value: object) -> None:
    if isinstance(value, Regex):
        return
    for operator, opposite in (("$eq", "$ne"), ("$in", "$nin")):
        argument = value if operator == "$eq" else ([value] if not _is_operators(value) else [1])
        for field in [*document, "absent", "a.b"]:
            if "\0" in field or field.startswith("$"):
                continue
            yes, no = compile_filter({field: {operator: argument}}), compile_filter({field: {opposite: argument}})
            assert yes(document) is not no(document)


def _is_operators(value: object) -> bool:
    return isinstance(value, dict) and next(iter(value), "").startswith("$")


@given(scalars, scalars)
def test_ranges_agree_with_the_order_of_values(a: object, b: object) -> None:
    if isinstance(b, (Regex, MinKey, MaxKey)) or a is None or b is None:
        return
    x, y = sort_key(a), sort_key(b)
    either_nan = sort_key(NAN) in (x, y)
    comparable = x[0] == y[0] and not either_nan
    document = {"a": a}
    assert compile_filter({"a": {"$gt": b}})(document) == (comparable and x > y)
    assert compile_filter({"a": {"$lt": b}})(document) == (comparable and x < y)
    assert compile_filter({"a": {"$gte": b}})(document) == ((comparable and x >= y) or (either_nan and x == y))
    assert compile_filter({"a": {"$lte": b}})(document) == ((comparable and x <= y) or (either_nan and x == y))
    assert compile_filter({"a": {"$eq": b}})(document) == (x == y)
    assert compile_filter({"a": {"$in": [b]}})(document) == (x == y)


@pytest.mark.parametrize(
    ("spec", "pinned"),
    [
        ({"_id": 1}, 1),
        ({"_id": 1.0, "a": 2}, 1),
        ({"_id": {"$eq": "x"}}, "x"),
        ({"_id": {"$eq": "x", "$gt": "a"}}, "x"),
        ({"_id": {"$in": [5]}}, 5),
        ({"_id": {"a": 1}}, {"a": 1}),
        ({"_id": None}, None),
        ({"$and": [{"a": 1}, {"_id": 7}]}, 7),
    ],
)
def test_filters_that_name_one_id(spec: dict, pinned: object) -> None:
    assert id_point(spec) == (True, canonical(pinned))
    assert equal(pinned_id(spec), pinned)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"a": 1},
        {"_id": {"$gt": 1}},
        {"_id": {"$ne": 1}},
        {"_id": {"$in": [1, 2]}},
        {"_id": {"$in": []}},
        {"_id": {"$not": {"$eq": 1}}},
        {"_id": [1]},
        {"_id": Regex("x")},
        {"_id.a": 1},
        {"_id": "x" * 9_000},
        {"_id": deep_value(10_000)},
        {"$or": [{"_id": 1}]},
        {"$nor": [{"_id": 1}]},
    ],
)
def test_filters_that_do_not(spec: dict) -> None:
    assert id_point(spec) == (False, None)


def test_without_an_equality_no_id_is_pinned() -> None:
    assert pinned_id({"_id": {"$gt": 1}}) is MISSING
    assert pinned_id({"a": 1}) is MISSING
    assert pinned_id({"_id": [1]}) == [1]


@given(ids, ids)
def test_a_pinned_id_is_the_only_one_the_filter_can_match(wanted: object, other: object) -> None:
    if _is_operators(wanted):
        return
    is_point, key = id_point({"_id": wanted})
    assert is_point and key == canonical(wanted)
    assert compile_filter({"_id": wanted})({"_id": wanted})
    if canonical(other) != key:
        assert not compile_filter({"_id": wanted})({"_id": other})


@given(st.dictionaries(st.sampled_from(["a", "$and", "$eq", "$not", "a.b", "$in"]), values, max_size=3), documents)
def test_any_filter_is_compiled_or_refused(spec: dict, document: dict) -> None:
    try:
        matches = compile_filter(spec)
    except BadQuery as refused:
        assert refused.message
    else:
        assert matches(document) in (True, False)
