"""Promises of MongoDB's operators on fields: one row a rule, those that surprise first among them."""

from __future__ import annotations

import datetime
import re
import uuid

import pytest
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.query import filters
from storage.query.filters import Filter, compile_filter
from tests.values.generated import documents, values

NAN, INFINITY = float("nan"), float("inf")
D = Decimal128

# filter, documents that match, documents that do not
TYPES = [
    ({"a": {"$type": "int"}}, [{"a": 5}, {"a": -(2**31)}, {"a": ["x", 5]}], [{"a": 2**31}, {"a": 5.0}, {"a": True}, {}]),
    ({"a": {"$type": "long"}}, [{"a": 2**31}], [{"a": 5}]),
    ({"a": {"$type": "number"}}, [{"a": 5}, {"a": 2**40}, {"a": 0.5}, {"a": D("1")}], [{"a": "5"}, {"a": True}]),
    ({"a": {"$type": 2}}, [{"a": "x"}], [{"a": Code("x")}, {"a": 1}]),
    ({"a": {"$type": 2.0}}, [{"a": "x"}], [{"a": 1}]),
    ({"a": {"$type": D("2")}}, [{"a": "x"}], [{"a": 1}]),
    ({"a": {"$type": ["string", 8]}}, [{"a": "x"}, {"a": False}], [{"a": 1}]),
    ({"a": {"$type": "array"}}, [{"a": []}, {"a": [1]}, {"a": [[]]}], [{"a": 1}, {}]),
    ({"a.0": {"$type": "array"}}, [{"a": [[1]]}], [{"a": [1]}]),
    ({"a": {"$type": "null"}}, [{"a": None}, {"a": [None]}], [{}]),
    ({"a": {"$type": "object"}}, [{"a": {}}, {"a": [{}]}], [{"a": []}]),
    ({"a": {"$type": -1}}, [{"a": MinKey()}], [{"a": MaxKey()}]),
    ({"a": {"$type": 127}}, [{"a": MaxKey()}], [{"a": MinKey()}]),
    ({"a": {"$type": "binData"}}, [{"a": b"x"}, {"a": Binary(b"x", 5)}, {"a": uuid.UUID(int=1)}], [{"a": "x"}]),
    ({"a": {"$type": "date"}}, [{"a": datetime.datetime(2020, 1, 1)}, {"a": DatetimeMS(2**60)}], [{"a": Timestamp(1, 1)}]),
    ({"a": {"$type": "regex"}}, [{"a": Regex("x")}], [{"a": "x"}]),
    ({"a": {"$type": "objectId"}}, [{"a": ObjectId()}], [{"a": "0" * 24}]),
    ({"a": {"$type": ["javascript", "timestamp", "decimal"]}}, [{"a": Code("x")}, {"a": Timestamp(1, 1)}, {"a": D("1")}], [{"a": 1.0}]),
    ({"a": {"$type": "undefined"}}, [], [{}, {"a": None}]),
]
REGEXES = [
    ({"a": Regex("^ab")}, [{"a": "abc"}, {"a": ["x", "abc"]}, {"a": Regex("^ab")}], [{"a": "xab"}, {"a": 5}, {}, {"a": Regex("^ab", "i")}]),
    ({"a": re.compile("AB", re.IGNORECASE)}, [{"a": "xabc"}], [{"a": Code("ab")}]),
    ({"a": {"$regex": "B", "$options": "i"}}, [{"a": "abc"}], [{"a": "ac"}]),
    ({"a": {"$options": "i", "$regex": "B"}}, [{"a": "abc"}], [{"a": "ac"}]),
    ({"a": {"$regex": Regex("b", "i")}}, [{"a": "aBc"}], [{"a": "ac"}]),
    ({"a": {"$regex": Regex("b"), "$options": "i"}}, [{"a": "aBc"}], [{"a": "ac"}]),
    ({"a": {"$regex": re.compile("b"), "$options": "i"}}, [{"a": "aBc"}], [{"a": "ac"}]),
    ({"a": {"$regex": "b", "$gt": "b"}}, [{"a": "bb"}, {"a": ["ab", "x"]}], [{"a": "ab"}]),
    ({"a": {"$in": [1, Regex("^x")]}}, [{"a": 1}, {"a": "xy"}, {"a": [2, "x"]}], [{"a": "yx"}, {}]),
    ({"a": {"$in": [Regex("^x")]}}, [{"a": "xy"}], [{"a": "yx"}]),
    ({"a": {"$nin": [1, Regex("^x")]}}, [{"a": 2}, {}, {"a": "yx"}], [{"a": 1}, {"a": ["y", "x"]}]),
    ({"a": {"$not": Regex("^x")}}, [{"a": "yx"}, {}, {"a": 5}], [{"a": "x"}, {"a": ["y", "x"]}]),
    ({"a": {"$not": {"$regex": "^X", "$options": "i"}}}, [{"a": "yx"}, {}], [{"a": "x"}]),
    ({"a": {"$all": [Regex("x"), Regex("y")]}}, [{"a": "xy"}, {"a": ["x", "y"]}], [{"a": "x"}]),
    ({"a": {"$elemMatch": {"$regex": "x"}}}, [{"a": ["x"]}], [{"a": "x"}, {"a": [["x"]]}]),
    ({"a": {"$regex": ""}}, [{"a": ""}, {"a": "x"}], [{"a": 1}]),
]
NUMBERS = [
    ({"a": {"$mod": [4, 1]}}, [{"a": 5}, {"a": 5.9}, {"a": D("9.5")}, {"a": [0, 1]}], [{"a": 4}, {"a": -3}, {"a": "5"}, {}, {"a": True}]),
    ({"a": {"$mod": [4, -3]}}, [{"a": -3}, {"a": -7}, {"a": -7.9}], [{"a": 1}, {"a": 5}]),
    ({"a": {"$mod": [-4, 1]}}, [{"a": 5}], [{"a": -5}]),
    ({"a": {"$mod": [4.9, 1.9]}}, [{"a": 5}], [{"a": 6}]),
    ({"a": {"$mod": [D("4.5"), 0]}}, [{"a": 8}], [{"a": 9}]),
    ({"a": {"$mod": [2, 0]}}, [{"a": 0}, {"a": 1e15}, {"a": -0.0}], [{"a": NAN}, {"a": INFINITY}, {"a": 1e300}, {"a": D("NaN")}, {"a": D("1E+6144")}]),
    ({"a": {"$mod": [-1, 0]}}, [{"a": -(2**63)}, {"a": 2**63 - 1}], [{"a": 2.0**63}]),
    ({"a": {"$size": 2}}, [{"a": [1, 2]}, {"a": [[1], []]}], [{"a": []}, {"a": [[1, 2]]}, {"a": "ab"}, {"a": {"0": 1, "1": 2}}, {}]),
    ({"a": {"$size": 0}}, [{"a": []}], [{}, {"a": None}, {"a": [[]]}]),
    ({"a": {"$size": 2.0}}, [{"a": [1, 2]}], [{"a": [1]}]),
    ({"a.b": {"$size": 1}}, [{"a": {"b": [1]}}, {"a": [{"b": [1]}, {"b": []}]}], [{"a": {"b": [[1, 2], 3]}}, {"a": [{"b": 1}]}]),
    ({"a.0": {"$size": 1}}, [{"a": [[5]]}], [{"a": [5]}]),
    ({"a": {"$not": {"$size": 1}}}, [{}, {"a": 1}, {"a": []}], [{"a": [1]}]),
]
BITS = [
    ({"a": {"$bitsAllSet": 5}}, [{"a": 5}, {"a": 7}, {"a": 5.0}, {"a": -1}, {"a": D("5")}, {"a": b"\x05"}, {"a": [0, 5]}], [{"a": 4}, {"a": 5.5}, {"a": "5"}, {}, {"a": NAN}]),
    ({"a": {"$bitsAllSet": [0, 2]}}, [{"a": 5}], [{"a": 4}]),
    ({"a": {"$bitsAllSet": b"\x05"}}, [{"a": 5}], [{"a": 4}]),
    ({"a": {"$bitsAllSet": [200]}}, [{"a": -1}, {"a": -(2**63)}, {"a": b"\0" * 25 + b"\x01"}], [{"a": 2**63 - 1}, {"a": b"\xff"}]),
    ({"a": {"$bitsAllClear": [200]}}, [{"a": 1}, {"a": b"\xff"}], [{"a": -1}]),
    ({"a": {"$bitsAllClear": 6}}, [{"a": 1}, {"a": 9}], [{"a": 2}, {"a": -1}, {"a": 1e30}]),
    ({"a": {"$bitsAnySet": 6}}, [{"a": 2}, {"a": -2}], [{"a": 1}, {"a": 0}]),
    ({"a": {"$bitsAnyClear": [1, 2]}}, [{"a": 2}, {"a": 0}], [{"a": 6}, {"a": 7}]),
    ({"a": {"$bitsAllSet": 0}}, [{"a": 0}, {"a": b""}], [{}, {"a": "x"}]),
    ({"a": {"$bitsAnySet": []}}, [], [{"a": 7}]),
    ({"a": {"$bitsAllSet": 8.0}}, [{"a": 8}], [{"a": 7}]),
    ({"a": {"$bitsAllSet": [8]}}, [{"a": Binary(b"\x00\x01", 5)}, {"a": 256}], [{"a": b"\x01\x00"}]),
]
ARRAYS = [
    ({"a": {"$all": [1, 2]}}, [{"a": [2, 1.0, 3]}, {"a": [1, 2]}], [{"a": [1]}, {"a": 1}, {}]),
    ({"a": {"$all": [1]}}, [{"a": 1}, {"a": [0, 1]}], [{"a": [[1]]}]),
    ({"a": {"$all": []}}, [], [{}, {"a": []}, {"a": 1}]),
    ({"a": {"$all": [[1, 2]]}}, [{"a": [1, 2]}, {"a": [[1, 2]]}], [{"a": [1, 2, 3]}, {"a": [2, 1]}]),
    ({"a": {"$all": [None]}}, [{}, {"a": None}, {"a": [None, 1]}], [{"a": []}, {"a": [1]}]),
    ({"a": {"$not": {"$all": []}}}, [{}, {"a": 1}], []),
    ({"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}}, [{"a": [{"b": 2}, {"b": 1}]}], [{"a": [{"b": 1}]}, {"a": {"b": 1}}]),
    ({"a": {"$elemMatch": {"b": 1, "c": 2}}}, [{"a": [{"b": 1, "c": 2}]}], [{"a": [{"b": 1}, {"c": 2}]}, {"a": {"b": 1, "c": 2}}, {}]),
    ({"a": {"$elemMatch": {"$gt": 1, "$lt": 3}}}, [{"a": [0, 2]}], [{"a": [0, 5]}, {"a": 2}, {"a": [[2]]}]),
    ({"a": {"$elemMatch": {}}}, [{"a": [{}]}, {"a": [[]]}, {"a": [1, {"b": 1}]}], [{"a": []}, {"a": [1]}, {"a": {}}]),
    ({"a": {"$elemMatch": {"0": 1}}}, [{"a": [[1, 2]]}, {"a": [{"0": 1}]}], [{"a": [1]}, {"a": [[2, 1]]}]),
    ({"a": {"$elemMatch": {"$elemMatch": {"$eq": 1}}}}, [{"a": [[1]]}], [{"a": [1]}, {"a": [[[1]]]}]),
    ({"a": {"$elemMatch": {"$eq": [1]}}}, [{"a": [[1]]}], [{"a": [1]}]),
    ({"a": {"$elemMatch": {"$size": 2}}}, [{"a": [[1, 2]]}], [{"a": [1, 2]}]),
    ({"a": {"$elemMatch": {"$not": {"$gt": 1}}}}, [{"a": [5, 1]}, {"a": ["x"]}], [{"a": [5]}, {"a": []}]),
    ({"a": {"$elemMatch": {"$nin": [1, 2]}}}, [{"a": [1, 3]}], [{"a": [1, 2]}, {"a": 3}]),
    ({"a": {"$elemMatch": {"$in": [1, Regex("^x")]}}}, [{"a": ["xy"]}, {"a": [1]}], [{"a": ["yx"]}, {"a": 1}]),
    ({"a": {"$elemMatch": {"$ne": None}}}, [{"a": [1]}], [{"a": [None]}, {"a": []}]),
    ({"a": {"$elemMatch": {"$or": [{"b": 1}, {"c": 2}]}}}, [{"a": [{"c": 2}]}], [{"a": [{"b": 2}]}]),
    ({"a": {"$elemMatch": {"b": {"$exists": False}}}}, [{"a": [{"c": 1}]}], [{"a": [{"b": 1}]}, {"a": [1]}]),
    ({"a": {"$elemMatch": {"b": None}}}, [{"a": [{}]}, {"a": [[]]}], [{"a": [1]}, {"a": []}]),
    ({"a": {"$elemMatch": {"b.c": 1}}}, [{"a": [{"b": [{"c": 1}]}]}], [{"a": {"b": {"c": 1}}}]),
    ({"a.b": {"$elemMatch": {"$gt": 1}}}, [{"a": [{"b": [0, 2]}]}, {"a": {"b": [2]}}], [{"a": [{"b": 2}]}]),
    ({"a": {"$not": {"$elemMatch": {"$gt": 1}}}}, [{}, {"a": 5}, {"a": [0]}], [{"a": [5]}]),
    ({"a": {"$elemMatch": {"$id": 5}}}, [{"a": [{"$ref": "c", "$id": 5}]}], [{"a": [{"$id": 6}]}]),
]
SURPRISES = [
    ({"a": {"$ne": [1]}}, [{"a": [1, 2]}, {"a": 1}], [{"a": [1]}, {"a": [[1], 5]}]),
    ({"a.b": {"$ne": 1}}, [{"a": [{"b": 2}, {}]}, {}, {"a": []}], [{"a": [{"b": 2}, {"b": 1}]}]),
    ({"a.b": {"$ne": None}}, [{"a": []}, {"a": [5]}, {"a": {"b": 1}}], [{"a": {}}, {"a": [{}]}, {"a": [{"b": 1}, {}]}]),
    ({"a.b": {"$exists": False}}, [{"a": []}, {"a": [1]}], [{"a": [{"b": None}]}]),
    ({"a.0.b": {"$exists": True}}, [{"a": [{"b": 1}]}], [{"a": [1, {"b": 1}]}]),
    ({"a": {"$in": [[1, 2]]}}, [{"a": [1, 2]}, {"a": [[1, 2]]}], [{"a": [1]}]),
    ({"a": {"$in": [None, 1]}}, [{}, {"a": None}, {"a": 1.0}], [{"a": 2}]),
    ({"a": {"$in": [-0.0]}}, [{"a": 0}, {"a": D("-0")}], [{"a": False}]),
    ({"a": {"$in": [2**53 + 1]}}, [{"a": 2**53 + 1}], [{"a": 2.0**53}]),
    ({"a": {"$eq": Regex("x")}}, [{"a": Regex("x")}], [{"a": "x"}]),
    ({"a": {"$gte": [1]}}, [{"a": [1]}, {"a": [[1]]}, {"a": [2]}], [{"a": 5}, {"a": [0]}]),
    ({"a": {"$lt": "b", "$gt": 5}}, [{"a": ["a", 6]}], [{"a": "a"}, {"a": 6}]),
    ({"$comment": "why", "a": 1}, [{"a": 1}], [{"a": 2}]),
    ({"$comment": {"$foo": 1}}, [{}], []),
    ({"$alwaysTrue": 1}, [{}], []),
    ({"$alwaysFalse": 1.0}, [], [{}]),
    ({"$or": [{"$alwaysFalse": 1}, {"a": 1}]}, [{"a": 1}], [{}]),
    ({"$nor": [{"a": 1}]}, [{}], [{"a": [1]}]),
    ({"$nor": [{"a": 1}, {"a": 2}]}, [{"a": 3}], [{"a": 1}, {"a": [2, 3]}]),
    ({"$or": [{"a": {"$in": [1, 2]}}, {"a": 3}, {"b": 1}]}, [{"a": 3}, {"a": 1}, {"b": 1}], [{"a": 4}]),
    ({"$or": [{}]}, [{}, {"a": 1}], []),
    ({"$nor": [{}]}, [], [{}, {"a": 1}]),
]


@pytest.mark.parametrize(("spec", "matching", "others"), TYPES + REGEXES + NUMBERS + BITS + ARRAYS + SURPRISES)
def test_rule(spec: dict, matching: list[dict], others: list[dict]) -> None:
    matches = compile_filter(spec)
    for document in matching:
        assert matches(document) is True, document
    for document in others:
        assert matches(document) is False, document


REFUSED = [
    ({"a": {"$type": "text"}}, 2),
    ({"a": {"$type": 0}}, 2),
    ({"a": {"$type": 2.5}}, 2),
    ({"a": {"$type": []}}, 9),
    ({"a": {"$type": {}}}, 14),
    ({"a": {"$type": True}}, 14),
    ({"a": {"$regex": 5}}, 2),
    ({"a": {"$regex": "x", "$options": 5}}, 2),
    ({"a": {"$options": "i"}}, 2),
    ({"a": {"$regex": "x", "$options": "g"}}, 51108),
    ({"a": {"$regex": Regex("x", "i"), "$options": "m"}}, 51075),
    ({"a": {"$regex": "("}}, 51091),
    ({"a": {"$in": [Regex("(")]}}, 51091),
    ({"a": {"$regex": "x\0"}}, 2),
    ({"a": {"$regex": "x" * 32_765}}, 2),
    ({"a": {"$ne": Regex("x")}}, 2),
    ({"a": {"$gt": Regex("x")}}, 2),
    ({"a": {"$mod": 5}}, 2),
    ({"a": {"$mod": [1]}}, 2),
    ({"a": {"$mod": [1, 2, 3]}}, 2),
    ({"a": {"$mod": ["x", 1]}}, 2),
    ({"a": {"$mod": [1, True]}}, 2),
    ({"a": {"$mod": [0, 1]}}, 2),
    ({"a": {"$mod": [0.5, 1]}}, 2),
    ({"a": {"$mod": [NAN, 1]}}, 2),
    ({"a": {"$mod": [1, INFINITY]}}, 2),
    ({"a": {"$mod": [1e300, 1]}}, 2),
    ({"a": {"$size": "1"}}, 2),
    ({"a": {"$size": 1.5}}, 2),
    ({"a": {"$size": -1}}, 2),
    ({"a": {"$size": {"$gt": 1}}}, 2),
    ({"a": {"$all": 1}}, 2),
    ({"a": {"$all": [{"$gt": 1}]}}, 2),
    ({"a": {"$all": [{"$elemMatch": {"b": 1}}, 1]}}, 2),
    ({"a": {"$elemMatch": 1}}, 2),
    ({"a": {"$elemMatch": {"$gt": 1, "b": 2}}}, 2),
    ({"a": {"$elemMatch": {"b": 2, "$gt": 1}}}, 2),
    ({"a": {"$elemMatch": {"$expr": 1}}}, 2),
    ({"a": {"$elemMatch": {"b": 1, "$expr": 1}}}, 2),
    ({"a": {"$bitsAllSet": -1}}, 9),
    ({"a": {"$bitsAllSet": 1.5}}, 9),
    ({"a": {"$bitsAllSet": "1"}}, 2),
    ({"a": {"$bitsAllSet": [-1]}}, 2),
    ({"a": {"$bitsAllSet": ["1"]}}, 2),
    ({"a": {"$bitsAllSet": [2**31 - 1]}}, 2),
    ({"a": {"$near": [0, 0]}}, 2),
    ({"a": {"$geoWithin": {}}}, 2),
    ({"$text": {"$search": "x"}}, 2),
    ({"$where": "1"}, 2),
    ({"$jsonSchema": {}}, 2),
    ({"$sampleRate": 0.5}, 2),
    ({"$alwaysTrue": 2}, 9),
    ({"$alwaysTrue": True}, 9),
    ({"a": {"$not": 5}}, 2),
    ({"a": {"$not": {"b": 5}}}, 2),
]


@pytest.mark.parametrize(("spec", "code"), REFUSED)
def test_what_is_refused_is_refused_by_name(spec: dict, code: int) -> None:
    with pytest.raises(BadQuery) as refused:
        compile_filter(spec)
    assert refused.value.code == code
    assert "'a'" in refused.value.message or "$" in refused.value.message or "regular expression" in refused.value.message


def nested(step, levels: int) -> dict:
    spec: dict = {"a": 1}
    for _ in range(levels):
        spec = step(spec)
    return spec


@pytest.mark.parametrize(
    "step",
    [
        lambda spec: {"$or": [spec, {"b": 1}]},
        lambda spec: {"a": {"$elemMatch": spec}},
        lambda spec: {"a": {"$all": [{"$elemMatch": spec}]}},
        lambda spec: {"a": {"$not": {"$elemMatch": spec}}},
    ],
)
def test_deep_filters_are_compiled_or_refused(step) -> None:
    assert compile_filter(nested(step, 40))({"z": 1}) in (True, False)
    document: object = {"a": 1}
    for _ in range(95):
        document = {"a": [document]}
    matches = compile_filter(nested(step, 49))
    assert matches(document) in (True, False)
    with pytest.raises(BadQuery, match="deeper than 100"):
        compile_filter(nested(step, 10_000))


def test_ten_thousand_branches_are_one_look_up() -> None:
    matches = compile_filter({"$or": [{"a.b": n} for n in range(10_000)]})
    assert matches.tree.op == "$in" and len(matches.tree.argument) == 10_000
    assert matches({"a": {"b": 9_999.0}}) and not matches({"a": {"b": -1}})
    others = compile_filter({"$or": [{f"f{n}": n} for n in range(10_000)]})
    assert others({"f9999": 9_999}) and not others({})


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3), st.just([1])), st.integers(0, 2)), min_size=16, max_size=24),
    st.one_of(st.none(), st.integers(0, 4), st.floats(0, 4), st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=3)),
    st.integers(0, 3),
)
def test_many_branches_of_two_conditions(branches: list[tuple], a: object, b: int) -> None:
    specs = [{"a": x, "b": y} for x, y in branches]
    for document in ({"a": a, "b": b}, {"b": b}):
        expected = any(compile_filter(spec)(document) for spec in specs)
        assert compile_filter({"$or": specs})(document) is expected
        assert compile_filter({"$or": [*specs, {"c": 1}]})({**document, "c": 1}) is True
        assert compile_filter({"$nor": specs})(document) is not expected


# -- the position of the match


@pytest.mark.parametrize(
    ("spec", "document", "place"),
    [
        ({"a": 2}, {"a": [1, 2, 2]}, 1),
        ({"a": 2}, {"a": 2}, None),
        ({"a": [1, 2]}, {"a": [1, 2]}, None),
        ({"a": [1, 2]}, {"a": [0, [1, 2]]}, 1),
        ({"a.b": 2}, {"a": [{"b": 1}, {"b": [2]}]}, 1),
        ({"a.b": 2}, {"a": {"b": [1, 2]}}, 1),
        ({"a.1": 5}, {"a": [0, 5]}, 1),
        ({"a.1.b": 5}, {"a": [0, {"b": [3, 5]}]}, 1),
        ({"a.1.b": 5}, {"a": [0, {"b": 5}]}, None),  # an index in the path is no traversal
        ({"a": {"$gt": 1, "$lt": 1}}, {"a": [1, 2, 0]}, 2),
        ({"a": 1, "b": 2}, {"a": [0, 1], "b": [2]}, 0),
        ({"b": 2, "a": 1}, {"a": [0, 1], "b": [2]}, 1),
        ({"b": [9, 2, 2], "a": 1}, {"a": [0, 1], "b": [9, 2, 2]}, 1),
        ({"$and": [{"a": 1}, {"b": 1}]}, {"a": [0, 1], "b": 1}, 1),
        ({"$or": [{"a": 1}, {"b": 1}]}, {"a": [0, 1]}, None),
        ({"$or": [{"a": 1}, {"a": 2}]}, {"a": [0, 1]}, 1),
        ({"a": {"$ne": 5}}, {"a": [0, 1]}, None),
        ({"a": {"$elemMatch": {"b": 2}}}, {"a": [{"b": 1}, {"b": 2}]}, 1),
        ({"a": {"$elemMatch": {"$gt": 1}}}, {"a": [0, 1, 2]}, 2),
        ({"a.b": {"$elemMatch": {"$gt": 1}}}, {"a": [{"b": [0]}, {"b": [0, 0, 2]}]}, 1),
        ({"a": {"$all": [1, 3]}}, {"a": [1, 2, 3]}, 2),
        ({"a": {"$size": 2}}, {"a": [5, 6]}, None),
        ({"a": {"$exists": True}}, {"a": [5, 6]}, 0),
        ({"a": None}, {}, None),
        ({}, {"a": [1]}, None),
    ],
)
def test_the_place_of_the_match(spec: dict, document: dict, place: int | None) -> None:
    matches = compile_filter(spec)
    assert matches(document)
    assert matches.position(document) == place


@given(values, documents)
def test_the_place_holds_what_was_looked_for(value: object, document: dict) -> None:
    if filters.is_regex(value) or filters.holds_operators(value):
        return
    for field, held in document.items():
        if "." in field or field.startswith("$") or "\0" in field or not isinstance(held, list):
            continue
        matches = compile_filter({field: value})
        place = matches.position(document) if matches(document) else None
        if place is not None:
            assert compile_filter({"x": {"$elemMatch": {"$eq": value}}})({"x": [held[place]]})


# -- laws


@given(st.lists(values, max_size=4), documents, st.sampled_from(["a", "b", "a.b", "a.0"]))
def test_sets_are_what_they_are_made_of(choices: list, document: dict, field: str) -> None:
    plain = [choice for choice in choices if not filters.is_regex(choice) and not filters.holds_operators(choice)]
    each = [compile_filter({field: choice})(document) for choice in plain]
    assert compile_filter({field: {"$in": plain}})(document) is any(each)
    assert compile_filter({field: {"$all": plain}})(document) is (bool(plain) and all(each))
    if plain:
        branches = [{field: choice} for choice in plain]
        assert compile_filter({"$or": branches})(document) is any(each)
        assert compile_filter({"$nor": branches})(document) is not any(each)
        assert compile_filter({"$and": branches})(document) is all(each)


@given(st.lists(st.one_of(st.integers(-9, 9), st.floats(-9, 9), st.lists(st.integers(0, 3), max_size=2)), max_size=4), st.integers(-5, 5))
def test_an_element_that_passes_alone_passes_in_its_array(array: list, bound: int) -> None:
    for condition in ({"$gt": bound}, {"$mod": [3, 1]}, {"$type": "int"}, {"$bitsAllSet": 1}, {"$in": [bound, None]}):
        alone = [not isinstance(element, list) and compile_filter({"a": condition})({"a": element}) for element in array]
        assert compile_filter({"a": {"$elemMatch": condition}})({"a": array}) is any(alone)
        assert compile_filter({"a": condition})({"a": array}) is any(alone)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1))
def test_bit_operators_agree_with_each_other(number: int, mask: int) -> None:
    def bits(op: str, value: object) -> bool:
        return compile_filter({"a": {op: mask}})({"a": value})

    assert bits("$bitsAllSet", number) is not bits("$bitsAnyClear", number)
    assert bits("$bitsAllClear", number) is not bits("$bitsAnySet", number)
    if number >= 0:
        stored = number.to_bytes(8, "little")
        assert all(bits(op, stored) is bits(op, number) for op in ("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"))


# -- $expr, with a stand-in for the aggregation's compiler


def test_an_expression_sees_the_document_and_the_variables() -> None:
    def compile_expression(spec: str):
        return lambda document, variables: document.get(spec) or variables.get(spec)

    node = filters.expression_node("a", {"b": 5}, compile_expression, bool)
    assert node.name == "$expr"
    assert node.predicate({"a": 1}) is True and node.predicate({}) is False
    assert filters.expression_node("b", {"b": 5}, compile_expression, bool).predicate({}) is True


def test_a_filter_keeps_its_spec_and_its_point() -> None:
    matches = Filter({"_id": 5, "$comment": "x"})
    assert matches.spec == {"_id": 5, "$comment": "x"} and matches.point[0]
    assert Filter({"_id": Regex("x")}).point == (False, None)
    assert Filter({"_id": {"$in": [Regex("x")]}}).point == (False, None)


def test_expressions_are_the_aggregation_s_own() -> None:
    matches = compile_filter({"$expr": {"$gt": ["$a", "$b"]}, "c": 1})
    assert matches({"a": 2, "b": 1, "c": 1}) and not matches({"a": 1, "b": 2, "c": 1})
    assert compile_filter({"$expr": {"$eq": ["$a", "$$x"]}}, {"x": 5})({"a": 5.0})
    with pytest.raises(BadQuery):
        compile_filter({"$expr": {"$foo": 1}})
