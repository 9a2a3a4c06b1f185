"""Promises of the aggregation expressions but dates: tables of MongoDB's documented results and error codes, and laws."""

from __future__ import annotations

import math

import pytest
from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.query.expressions import compile_expression, is_true
from storage.query.paths import MISSING
from storage.values.order import equal, sort_key
from tests.values.generated import values

BIG = 2**63 - 1
DOC = {
    "a": 1,
    "n": None,
    "t": "text",
    "l": [3, 1, 2],
    "m": {"x": 1, "y": {"z": [1, 2]}},
    "ms": [{"x": 1}, {"y": 2}, {"x": 3}, 5, [{"x": 9}]],
}


def value(spec: object, document: dict | None = None, **variables: object) -> object:
    return compile_expression(spec, variables)(DOC if document is None else document, variables)


def same(found: object, expected: object) -> bool:
    """Equal, and of the same types all the way down."""
    if found is MISSING or expected is MISSING:
        return found is expected
    if isinstance(found, float) and isinstance(expected, float) and math.isnan(expected):
        return math.isnan(found)
    if isinstance(found, float) and isinstance(expected, float):
        return found == expected or math.isclose(found, expected, rel_tol=1e-12)
    return type(found) is type(expected) and repr(found) == repr(expected)


TABLE = [
    # Paths, variables, literals, maps and arrays.
    ("$a", 1),
    ("$none", MISSING),
    ("$m.y.z", [1, 2]),
    ("$ms.x", [1, 3]),
    ("$l.0", []),
    ("$$ROOT.a", 1),
    ("$$CURRENT.t", "text"),
    ("$$REMOVE", MISSING),
    ("text", "text"),
    ({"$literal": "$a"}, "$a"),
    ({"$literal": {"$add": [1, 2]}}, {"$add": [1, 2]}),
    ({"x": "$a", "y": "$none", "z": [1, "$none"]}, {"x": 1, "z": [1, None]}),
    (["$a", "$none", "$n"], [1, None, None]),
    ({"$let": {"vars": {"v": {"$add": ["$a", 1]}, "w": 5}, "in": {"$multiply": ["$$v", "$$w"]}}}, 10),
    ({"$let": {"vars": {"CURRENT": "$m"}, "in": "$x"}}, 1),
    ({"$let": {"vars": {"v": {"p": [{"q": 1}]}}, "in": "$$v.p.q"}}, [1]),
    # Arithmetic: int, double and Decimal128.
    ({"$add": [1, 2]}, 3),
    ({"$add": [1, 2.0]}, 3.0),
    ({"$add": [0.1, 0.2, 0.3]}, 0.6),
    ({"$add": []}, 0),
    ({"$add": [1, None]}, None),
    ({"$add": [1, "$none"]}, None),
    ({"$add": [BIG, 1]}, 2.0**63),
    ({"$add": [Decimal128("1.10"), 1]}, Decimal128("2.10")),
    ({"$subtract": [5, 7]}, -2),
    ({"$subtract": [-BIG, 2]}, -(2.0**63)),
    ({"$multiply": [2, 3, 4]}, 24),
    ({"$multiply": [BIG, 2]}, 2.0**64),
    ({"$multiply": [2, Decimal128("0.5")]}, Decimal128("1.0")),
    ({"$divide": [4, 2]}, 2.0),
    ({"$divide": [1, Decimal128("4")]}, Decimal128("0.25")),
    ({"$mod": [7, 3]}, 1),
    ({"$mod": [-7, 3]}, -1),
    ({"$mod": [7, -3]}, 1),
    ({"$mod": [80, 7.5]}, 5.0),
    ({"$abs": -5}, 5),
    ({"$abs": None}, None),
    ({"$ceil": 7.2}, 8.0),
    ({"$ceil": -0.5}, -0.0),
    ({"$floor": -2.8}, -3.0),
    ({"$floor": 5}, 5),
    ({"$floor": Decimal128("2.7")}, Decimal128("2")),
    ({"$round": [10.5]}, 10.0),
    ({"$round": [11.5, 0]}, 12.0),
    ({"$round": [19.25, 1]}, 19.2),
    ({"$round": [28.73, 1]}, 28.7),
    ({"$round": [12.5, -1]}, 10.0),
    ({"$round": [1250, -2]}, 1200),
    ({"$trunc": [19.25, 1]}, 19.2),
    ({"$trunc": [-7.8]}, -7.0),
    ({"$trunc": [1999, -2]}, 1900),
    ({"$pow": [5, 2]}, 25),
    ({"$pow": [5, -2]}, 0.04),
    ({"$pow": [2, 63]}, 2.0**63),
    ({"$pow": [-5, 0.5]}, math.nan),
    ({"$sqrt": 25}, 5.0),
    ({"$exp": 0}, 1.0),
    ({"$ln": math.e}, 1.0),
    ({"$log": [100, 10]}, 2.0),
    ({"$log10": 1000}, 3.0),
    ({"$sum": "$l"}, 6),
    ({"$sum": ["$l", 1]}, 1),
    ({"$sum": "$t"}, 0),
    ({"$avg": "$l"}, 2.0),
    ({"$avg": []}, None),
    ({"$max": "$l"}, 3),
    ({"$min": ["$a", None, "b"]}, 1),
    ({"$stdDevPop": [[1, 3]]}, 1.0),
    ({"$stdDevSamp": [[1]]}, None),
    # Comparison over all types; missing before null, and not equal to it.
    ({"$eq": [1, 1.0]}, True),
    ({"$eq": ["$none", None]}, False),
    ({"$lt": ["$none", None]}, True),
    ({"$gt": ["$none", MinKey()]}, True),
    ({"$gt": ["a", 5]}, True),
    ({"$lt": [{"a": 1}, [1]]}, True),
    ({"$cmp": [2, 10]}, -1),
    ({"$cmp": ["b", "a"]}, 1),
    ({"$ne": [2**53 + 1, float(2**53)]}, True),
    # Conditions.
    ({"$and": []}, True),
    ({"$and": [1, "x", [None]]}, True),
    ({"$and": [1, 0]}, False),
    ({"$or": []}, False),
    ({"$or": [None, 0, "$none", 3]}, True),
    ({"$not": [[False]]}, False),
    ({"$not": "$none"}, True),
    ({"$cond": ["$a", "yes", "no"]}, "yes"),
    ({"$cond": {"if": "$n", "then": 1, "else": "$none"}}, MISSING),
    ({"$cond": [True, 1, {"$divide": ["$a", 0]}]}, 1),
    ({"$ifNull": ["$none", "$n", 3]}, 3),
    ({"$ifNull": ["$none", "$n"]}, None),
    ({"$switch": {"branches": [{"case": {"$eq": ["$a", 2]}, "then": 2}, {"case": True, "then": 3}]}}, 3),
    ({"$switch": {"branches": [{"case": False, "then": 2}], "default": "d"}}, "d"),
    # Text.
    ({"$concat": ["a", "$t"]}, "atext"),
    ({"$concat": ["a", "$n"]}, None),
    ({"$toUpper": "aé1"}, "Aé1"),
    ({"$toLower": "$none"}, ""),
    ({"$toLower": 12.0}, "12"),
    ({"$strcasecmp": ["abc", "ABD"]}, -1),
    ({"$substrCP": ["cafétéria", 3, 2]}, "ét"),
    ({"$substrBytes": ["cafétéria", 5, 4]}, "tér"),
    ({"$substr": ["abc", 1, -1]}, "bc"),
    ({"$substr": ["abc", 5, 1]}, ""),
    ({"$strLenBytes": "$$x"}, 8),
    ({"$strLenCP": "$$x"}, 3),
    ({"$split": ["June-15-2013", "-"]}, ["June", "15", "2013"]),
    ({"$split": ["headphone jack", "x"]}, ["headphone jack"]),
    ({"$trim": {"input": "  \n good  bye \t  "}}, "good  bye"),
    ({"$ltrim": {"input": "ggggoodbyeeee", "chars": "e"}}, "ggggoodbyeeee"),
    ({"$trim": {"input": " ggggoodbyeeeee", "chars": " gd"}}, "oodbyeeeee"),
    ({"$rtrim": {"input": "$n"}}, None),
    ({"$indexOfBytes": ["cafeteria", "e"]}, 3),
    ({"$indexOfCP": ["vanilla", "ll", 0, 2]}, -1),
    ({"$indexOfCP": ["vanilla", "l", 5]}, 5),
    ({"$indexOfBytes": ["$none", "x"]}, None),
    ({"$indexOfCP": ["abc", "c", 3, 1]}, -1),
    ({"$replaceOne": {"input": "a.b.c", "find": ".", "replacement": "-"}}, "a-b.c"),
    ({"$replaceAll": {"input": "a.b.c", "find": ".", "replacement": ""}}, "abc"),
    ({"$replaceAll": {"input": "abc", "find": "$n", "replacement": ""}}, None),
    ({"$regexMatch": {"input": "Line one", "regex": "^line", "options": "i"}}, True),
    ({"$regexMatch": {"input": "$none", "regex": "x"}}, False),
    ({"$regexFind": {"input": "cafétéria", "regex": Regex("t(é)(x)?")}}, {"match": "té", "idx": 4, "captures": ["é", None]}),
    ({"$regexFind": {"input": "abc", "regex": "z"}}, None),
    (
        {"$regexFindAll": {"input": "a1b22", "regex": "[0-9]+"}},
        [{"match": "1", "idx": 1, "captures": []}, {"match": "22", "idx": 3, "captures": []}],
    ),
    # Arrays.
    ({"$size": "$l"}, 3),
    ({"$isArray": [[1]]}, True),
    ({"$isArray": "$t"}, False),
    ({"$arrayElemAt": ["$l", -1]}, 2),
    ({"$arrayElemAt": ["$l", 9]}, MISSING),
    ({"$first": "$l"}, 3),
    ({"$last": [[]]}, MISSING),
    ({"$slice": ["$l", 2]}, [3, 1]),
    ({"$slice": ["$l", -2]}, [1, 2]),
    ({"$slice": ["$l", -9, 1]}, [3]),
    ({"$slice": ["$l", 3, 5]}, []),
    ({"$concatArrays": ["$l", [4]]}, [3, 1, 2, 4]),
    ({"$concatArrays": ["$l", "$n"]}, None),
    ({"$in": [1.0, "$l"]}, True),
    ({"$in": ["x", ["y"]]}, False),
    ({"$indexOfArray": ["$l", 2]}, 2),
    ({"$indexOfArray": ["$l", 2, 0, 2]}, -1),
    ({"$indexOfArray": ["$none", 2]}, None),
    ({"$reverseArray": "$l"}, [2, 1, 3]),
    ({"$range": [0, 10, 3]}, [0, 3, 6, 9]),
    ({"$range": [3, 0, -2]}, [3, 1]),
    ({"$filter": {"input": "$l", "as": "e", "cond": {"$gte": ["$$e", 2]}}}, [3, 2]),
    ({"$filter": {"input": "$l", "cond": True, "limit": 2}}, [3, 1]),
    ({"$map": {"input": "$l", "in": {"$add": ["$$this", "$a"]}}}, [4, 2, 3]),
    ({"$map": {"input": "$n", "in": 1}}, None),
    ({"$reduce": {"input": ["a", "b"], "initialValue": "", "in": {"$concat": ["$$value", "$$this"]}}}, "ab"),
    ({"$zip": {"inputs": [[1, 2], ["a"]]}}, [[1, "a"]]),
    ({"$zip": {"inputs": [[1, 2], ["a"]], "useLongestLength": True, "defaults": [0, "-"]}}, [[1, "a"], [2, "-"]]),
    ({"$sortArray": {"input": "$l", "sortBy": -1}}, [3, 2, 1]),
    ({"$sortArray": {"input": [{"a": 2}, {"a": 1, "b": 1}], "sortBy": {"a": 1}}}, [{"a": 1, "b": 1}, {"a": 2}]),
    ({"$setUnion": [[1, 2], [2.0, "a"]]}, [1, 2, "a"]),
    ({"$setIntersection": [["a", "b"], ["b", "a", "c"]]}, ["a", "b"]),
    ({"$setDifference": [[3, 1, 1], [2, 3]]}, [1]),
    ({"$setEquals": [["a", "b", "a"], ["b", "a"]]}, True),
    ({"$setIsSubset": [["a"], ["b", "a"]]}, True),
    ({"$anyElementTrue": [[False, 0, "x"]]}, True),
    ({"$allElementsTrue": [[]]}, True),
    ({"$allElementsTrue": [[1, None]]}, False),
    ({"$firstN": {"n": 2, "input": "$l"}}, [3, 1]),
    ({"$lastN": {"n": 2, "input": "$l"}}, [1, 2]),
    ({"$maxN": {"n": 2, "input": [1, None, 3, 2]}}, [3, 2]),
    ({"$minN": {"n": 5, "input": [1, None, 3, 2]}}, [1, 2, 3]),
    # Maps.
    ({"$mergeObjects": [{"a": 1, "b": 1}, None, {"b": 2}]}, {"a": 1, "b": 2}),
    ({"$mergeObjects": [[{"a": 1}, {"b": 2}]]}, {"a": 1, "b": 2}),
    ({"$getField": "a"}, 1),
    ({"$getField": {"field": {"$literal": "$p.q"}, "input": {"$literal": {"$p.q": 3}}}}, 3),
    ({"$setField": {"field": "x.y", "input": "$m.none", "value": 1}}, None),
    ({"$setField": {"field": "x.y", "input": {"k": 1}, "value": 2}}, {"k": 1, "x.y": 2}),
    ({"$unsetField": {"field": "x", "input": {"x": 1, "y": 2}}}, {"y": 2}),
    ({"$objectToArray": {"a": 1, "b": [2]}}, [{"k": "a", "v": 1}, {"k": "b", "v": [2]}]),
    ({"$arrayToObject": [[["a", 1], ["b", 2], ["a", 3]]]}, {"a": 3, "b": 2}),
    ({"$arrayToObject": [[{"k": "a", "v": 1}]]}, {"a": 1}),
    # Types.
    ({"$type": "$none"}, "missing"),
    ({"$type": 2**40}, "long"),
    ({"$type": Decimal128("1")}, "decimal"),
    ({"$type": [[]]}, "array"),
    ({"$type": MaxKey()}, "maxKey"),
    ({"$type": Timestamp(1, 1)}, "timestamp"),
    ({"$isNumber": 1.5}, True),
    ({"$isNumber": "1"}, False),
    ({"$toInt": "-5"}, -5),
    ({"$toInt": 5.9}, 5),
    ({"$toLong": True}, 1),
    ({"$toDouble": "-5.5"}, -5.5),
    ({"$toDecimal": 2.5}, Decimal128("2.50000000000000")),
    ({"$toDecimal": "1E+3"}, Decimal128("1E+3")),
    ({"$toString": 2.5}, "2.5"),
    ({"$toString": 2.0}, "2"),
    ({"$toString": True}, "true"),
    ({"$toString": ObjectId("5ab9cbfa31c2ab715d42129e")}, "5ab9cbfa31c2ab715d42129e"),
    ({"$toBool": "false"}, True),
    ({"$toBool": 0.0}, False),
    ({"$toObjectId": "5ab9cbfa31c2ab715d42129e"}, ObjectId("5ab9cbfa31c2ab715d42129e")),
    ({"$toInt": "$n"}, None),
    ({"$convert": {"input": "x", "to": "int", "onError": "bad"}}, "bad"),
    ({"$convert": {"input": "$none", "to": "int", "onNull": 0}}, 0),
    ({"$convert": {"input": "7", "to": 16}}, 7),
]


@pytest.mark.parametrize(("spec", "expected"), TABLE, ids=lambda part: repr(part)[:60])
def test_an_expression_has_the_value_that_mongodb_documents(spec: object, expected: object) -> None:
    found = value(spec, x="寿司é")
    assert same(found, expected), f"{spec!r} gave {found!r}"


REFUSALS = [
    ({"$nope": 1}, 168),
    ({"$rand": {}}, 168),
    ({"$add": [1], "$subtract": [1]}, 15983),
    ("$", 16872),
    ("$a.", 40353),
    ("$a..b", 15998),
    ("$a.$b", 16410),
    ("$$nobody", 17276),
    ({"a.b": 1}, 16412),
    ({"a": 1, "$b": 1}, 16410),
    ({"$let": {"vars": {"X": 1}, "in": 1}}, 9),
    ({"$let": {"in": 1}}, 16876),
    ({"$subtract": [1]}, 16020),
    ({"$round": [1, 2, 3]}, 28667),
    ({"$add": ["x", 1]}, 14),
    ({"$subtract": ["x", 1]}, 14),
    ({"$multiply": [[], 1]}, 14),
    ({"$divide": [1, 0]}, 2),
    ({"$mod": [1, 0]}, 16610),
    ({"$mod": ["x", 1]}, 16611),
    ({"$abs": "x"}, 28765),
    ({"$sqrt": -1}, 28714),
    ({"$ln": 0}, 28766),
    ({"$log10": -1}, 28761),
    ({"$log": [1, 1]}, 28759),
    ({"$pow": [0, -1]}, 28764),
    ({"$round": [1.5, 101]}, 51083),
    ({"$concat": [1]}, 16702),
    ({"$substrCP": ["x", -1, 1]}, 34455),
    ({"$substrBytes": ["é", 1, 1]}, 28656),
    ({"$strLenCP": None}, 34471),
    ({"$split": ["a", ""]}, 40087),
    ({"$trim": {"input": 1}}, 50699),
    ({"$replaceOne": {"input": "a", "find": 1, "replacement": ""}}, 51745),
    ({"$regexMatch": {"input": 1, "regex": "x"}}, 51104),
    ({"$regexFind": {"input": "x", "regex": "x", "options": "y"}}, 51108),
    ({"$size": None}, 17124),
    ({"$arrayElemAt": ["$t", 0]}, 28689),
    ({"$slice": ["$l", 1, 0]}, 28729),
    ({"$in": [1, "$t"]}, 40081),
    ({"$range": [0, 1, 0]}, 34449),
    ({"$range": [0, 2**31 - 1]}, 146),
    ({"$filter": {"input": 1, "cond": 1}}, 28651),
    ({"$filter": {"input": []}}, 28650),
    ({"$map": {"input": "$t", "in": 1}}, 16883),
    ({"$reduce": {"input": 1, "initialValue": 1, "in": 1}}, 40080),
    ({"$zip": {"inputs": []}}, 34461),
    ({"$setUnion": [1]}, 17043),
    ({"$mergeObjects": [1]}, 40400),
    ({"$arrayToObject": [[["a"]]]}, 40397),
    ({"$objectToArray": 1}, 40390),
    ({"$toInt": "1.5"}, 241),
    ({"$toInt": 2**31}, 241),
    ({"$toDouble": [[]]}, 241),
    ({"$toObjectId": "x"}, 241),
    ({"$convert": {"input": 1, "to": "nothing"}}, 2),
    ({"$cond": {"if": 1, "then": 1}}, 17082),
    ({"$switch": {"branches": []}}, 40068),
    ({"$switch": {"branches": [{"case": False, "then": 1}]}}, 40066),
    ({"$ifNull": [1]}, 1257300),
]


@pytest.mark.parametrize(("spec", "code"), REFUSALS, ids=lambda part: repr(part)[:60])
def test_a_wrong_expression_is_refused_with_mongodbs_code(spec: object, code: int) -> None:
    with pytest.raises(BadQuery) as refused:
        value(spec)
    assert refused.value.code == code
    assert len(refused.value.message) > 10


def test_what_is_hostile_is_refused_by_name() -> None:
    deep: object = 1
    for _ in range(5_000):
        deep = {"$not": [deep]}
    with pytest.raises(BadQuery):
        value(deep)
    nest = {"$reduce": {"input": {"$range": [0, 5_000]}, "initialValue": 1, "in": ["$$value"]}}
    with pytest.raises(BadQuery):
        value({"$eq": [nest, 1]})
    with pytest.raises(BadQuery):
        value({"$regexFind": {"input": "a" * 10_000, "regex": "(a+)+$(?!x)\\1y"}})
    with pytest.raises(BadQuery):
        value({"$add": [object(), 1]})
    assert value({"$replaceAll": {"input": "aa", "find": "", "replacement": "b"}}) == "babab"


@pytest.mark.parametrize(
    ("found", "truth"),
    [(MISSING, False), (None, False), (0, False), (0.0, False), (Decimal128("0E+5"), False), (math.nan, True), ("", True), ([], True)],
)
def test_truth_is_mongodbs(found: object, truth: bool) -> None:
    assert is_true(found) is truth


numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6))
def test_integers_are_added_exactly_or_become_a_double(parts: list[int]) -> None:
    found = value({"$add": [{"$literal": part} for part in parts]})
    total = sum(parts)
    assert same(found, total if -(2**63) <= total < 2**63 else float(total))
    assert same(found, value({"$sum": [{"$literal": part} for part in parts]}))


@given(values, values)
def test_comparison_is_the_order_of_values(left: object, right: object) -> None:
    one, other = sort_key(left), sort_key(right)
    found = value({"$cmp": ["$x", "$y"]}, {"x": left, "y": right})
    assert found == (one > other) - (one < other)
    assert value({"$eq": ["$x", "$y"]}, {"x": left, "y": right}) is equal(left, right)
    assert value({"$lte": ["$x", "$y"]}, {"x": left, "y": right}) is (one <= other)


@given(st.dictionaries(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4), values, max_size=5))
def test_a_map_becomes_an_array_and_a_map_again(found: dict) -> None:
    again = value({"$arrayToObject": {"$objectToArray": "$m"}}, {"m": found})
    assert list(again) == list(found)
    assert equal(again, found)


@given(values)
def test_no_value_breaks_an_operator_of_one_operand(found: object) -> None:
    for name in ("$abs", "$toInt", "$toString", "$toDate", "$year", "$size", "$toLower", "$type", "$not", "$reverseArray", "$sum", "$exp"):
        try:
            compile_expression({name: "$x"})({"x": found}, {})
        except BadQuery as refused:
            assert refused.message
