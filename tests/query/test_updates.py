"""Promises of storage/query/updates.py: MongoDB's update language, one row a rule."""

from __future__ import annotations

import copy
import datetime
import math
from typing import Any

import pytest
from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from storage.errors import BadQuery, DocumentTooLarge, ImmutableField, TwinlogError
from storage.query.updates import PATHS_MAX, compile_update
from tests.values.generated import same

NOW = datetime.datetime(2024, 5, 6, 7, 8, 9, 10_000)
STAMP = Timestamp(1714979289, 3)
NAN = math.nan
D = Decimal128
MAX, MIN = 2**63 - 1, -(2**63)


def updated(document: dict, spec: Any, *, filters: Any = None, position: int | None = None, is_insert: bool = False) -> dict:
    before = copy.deepcopy(document)
    update = compile_update(spec, filters)
    found = update.apply(document, position=position, is_insert=is_insert, now=NOW, now_timestamp=STAMP)
    assert same(document, before), "apply changed what it was given"
    return found


def refusal(document: dict, spec: Any, **options: Any) -> TwinlogError:
    with pytest.raises(TwinlogError) as caught:
        updated(document, spec, **options)
    return caught.value


# update, document, the document after it (exactly: types and order of fields count)
FIELDS = [
    ({"$set": {"a": 1}}, {}, {"a": 1}),
    ({"$set": {"a": 1}}, {"a": 0, "b": 2}, {"a": 1, "b": 2}),
    ({"$set": {"b": 1, "a": 2}}, {"z": 0}, {"z": 0, "a": 2, "b": 1}),
    ({"$set": {"a.b.c": 1}}, {}, {"a": {"b": {"c": 1}}}),
    ({"$set": {"a.10": "x", "a.2": "y"}}, {}, {"a": {"2": "y", "10": "x"}}),
    ({"$set": {"a": {"$gt": 1}}}, {}, {"a": {"$gt": 1}}),
    ({"$set": {"a.$id": 1}}, {"a": {"$ref": "c", "$id": 0}}, {"a": {"$ref": "c", "$id": 1}}),
    ({"$set": {}}, {"a": 1}, {"a": 1}),
    ({"$set": {"a": 1.0}}, {"a": 1}, {"a": 1.0}),
    ({"$set": {"a.1": "x"}}, {"a": [0, 1, 2]}, {"a": [0, "x", 2]}),
    ({"$set": {"a.3": "x"}}, {"a": [0]}, {"a": [0, None, None, "x"]}),
    ({"$set": {"a.1.b": "x"}}, {"a": [0]}, {"a": [0, {"b": "x"}]}),
    ({"$set": {"a.3": "x", "a.1": "y"}}, {"a": []}, {"a": [None, "y", None, "x"]}),
    ({"$set": {"a.0": 1, "b.c": 2}, "$unset": {"d": 1}}, {"d": 1, "a": [0]}, {"a": [1], "b": {"c": 2}}),
    ({"$unset": {"a": ""}}, {"a": 1, "b": 2}, {"b": 2}),
    ({"$unset": {"a.b": 1}}, {"a": {"b": 1}}, {"a": {}}),
    ({"$unset": {"a.b.c": 1}}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ({"$unset": {"a.b.c": 1, "a.x": 1}}, {"a": 5}, {"a": 5}),
    ({"$unset": {"a.0": 1}}, {"a": [1, 2]}, {"a": [None, 2]}),
    ({"$unset": {"a.7": 1, "a.x": 1}}, {"a": [1, 2]}, {"a": [1, 2]}),
    ({"$setOnInsert": {"a": 1}}, {"b": 1}, {"b": 1}),
    ({"$setOnInsert": {"b.c": 1}}, {"b": 1}, {"b": 1}),
    ({"$currentDate": {"a": True, "b": {"$type": "date"}, "c": {"$type": "timestamp"}}}, {}, {"a": NOW, "b": NOW, "c": STAMP}),
    ({"$currentDate": {"a": False}}, {"a": "x"}, {"a": NOW}),
]

NUMBERS = [
    ({"$inc": {"a": 2}}, {}, {"a": 2}),
    ({"$inc": {"a.b": 2}}, {"a": {"b": -5}}, {"a": {"b": -3}}),
    ({"$inc": {"a": 1}}, {"a": 2**31 - 1}, {"a": 2**31}),
    ({"$inc": {"a": -1}}, {"a": MAX}, {"a": MAX - 1}),
    ({"$inc": {"a": 1.5}}, {"a": 1}, {"a": 2.5}),
    ({"$inc": {"a": 1}}, {"a": 1.0}, {"a": 2.0}),
    ({"$inc": {"a": 1.0}}, {"a": MAX}, {"a": 2.0**63}),
    ({"$inc": {"a": 1e308}}, {"a": 1e308}, {"a": math.inf}),
    ({"$inc": {"a": D("0.1")}}, {"a": 1}, {"a": D("1.1")}),
    ({"$inc": {"a": 1}}, {"a": D("0.10")}, {"a": D("1.10")}),
    ({"$inc": {"a": D("1")}}, {"a": 0.1}, {"a": D("1.100000000000000")}),
    ({"$inc": {"a": D("1E+6144")}}, {"a": D("9.9E+6144")}, {"a": D("Infinity")}),
    ({"$inc": {"a": D("NaN")}}, {"a": 1}, {"a": D("NaN")}),
    ({"$inc": {"a": NAN}}, {"a": 1}, {"a": NAN}),
    ({"$mul": {"a": 3}}, {"a": 5}, {"a": 15}),
    ({"$mul": {"a": 3}}, {}, {"a": 0}),
    ({"$mul": {"a": 3.5}}, {}, {"a": 0.0}),
    ({"$mul": {"a": D("3")}}, {}, {"a": D("0")}),
    ({"$mul": {"a": D("0.5")}}, {"a": 3}, {"a": D("1.5")}),
    ({"$mul": {"a": 1.5}}, {"a": 3}, {"a": 4.5}),
    ({"$min": {"a": 3}}, {"a": 5}, {"a": 3}),
    ({"$min": {"a": 5}}, {"a": 5.0}, {"a": 5.0}),
    ({"$min": {"a": 5}}, {"a": "x"}, {"a": 5}),
    ({"$min": {"a": 5}}, {"a": None}, {"a": None}),
    ({"$min": {"a": 5}}, {}, {"a": 5}),
    ({"$min": {"a": NAN}}, {"a": -math.inf}, {"a": NAN}),
    ({"$max": {"a": 5}}, {"a": 3.5}, {"a": 5}),
    ({"$max": {"a": 3}}, {"a": 5}, {"a": 5}),
    ({"$max": {"a": D("5.5")}}, {"a": 5}, {"a": D("5.5")}),
    ({"$max": {"a": NOW}}, {"a": "x"}, {"a": NOW}),
    ({"$max": {"a": MaxKey()}}, {"a": [1]}, {"a": MaxKey()}),
    ({"$max": {"a": MinKey()}}, {"a": None}, {"a": None}),
    ({"$max": {"a": {"x": 2}}}, {"a": {"x": 1, "y": 9}}, {"a": {"x": 2}}),
    ({"$bit": {"a": {"and": 10}}}, {"a": 13}, {"a": 8}),
    ({"$bit": {"a": {"or": 5}}}, {"a": 3}, {"a": 7}),
    ({"$bit": {"a": {"xor": 5}}}, {"a": 1}, {"a": 4}),
    ({"$bit": {"a": {"or": 6, "and": 3}}}, {}, {"a": 2}),
    ({"$bit": {"a": {"xor": -1}}}, {"a": MAX}, {"a": MIN}),
]

RENAMES = [
    ({"$rename": {"a": "b"}}, {"a": 1}, {"b": 1}),
    ({"$rename": {"a": "b"}}, {"b": 0, "a": 1, "c": 2}, {"b": 1, "c": 2}),
    ({"$rename": {"a": "b"}}, {"c": 2}, {"c": 2}),
    ({"$rename": {"a.b": "c.d"}}, {"a": {"b": 1, "x": 2}}, {"a": {"x": 2}, "c": {"d": 1}}),
    ({"$rename": {"a.b": "a.c"}}, {"a": {"b": [1]}}, {"a": {"c": [1]}}),
    ({"$rename": {"a.b": "c"}}, {"a": {}}, {"a": {}}),
    ({"$rename": {"a": "b.c"}}, {"b": 5}, {"b": 5}),
    ({"$rename": {"a": "b"}, "$set": {"c": 1}}, {"a": 1}, {"b": 1, "c": 1}),
    ({"$rename": {"a.5": "b"}}, {"a": [1]}, {"a": [1]}),
]


@pytest.mark.parametrize(("spec", "document", "expected"), FIELDS + NUMBERS + RENAMES)
def test_operators_on_fields(spec: dict, document: dict, expected: dict) -> None:
    found = updated({"_id": 7, **document}, spec)
    assert same(found, {"_id": 7, **expected}), found


@pytest.mark.parametrize(
    ("spec", "filters", "position", "document", "expected"),
    [
        ({"$set": {"a.$": 9}}, None, 1, {"a": [1, 2]}, {"a": [1, 9]}),
        ({"$inc": {"a.$.n": 1}}, None, 0, {"a": [{"n": 1}, {"n": 1}]}, {"a": [{"n": 2}, {"n": 1}]}),
        ({"$unset": {"a.$": 1}}, None, 0, {"a": [1, 2]}, {"a": [None, 2]}),
        ({"$set": {"a.$.x": 1, "a.1.y": 2}}, None, 1, {"a": [{}, {}]}, {"a": [{}, {"x": 1, "y": 2}]}),
        ({"$set": {"a.$.b.$[]": 0}}, None, 1, {"a": [0, {"b": [1, 2]}]}, {"a": [0, {"b": [0, 0]}]}),
        ({"$set": {"a.$[]": 0}}, None, None, {"a": [1, [2], None]}, {"a": [0, 0, 0]}),
        ({"$set": {"a.$[]": 0}}, None, None, {"a": []}, {"a": []}),
        ({"$inc": {"a.$[].b.$[]": 1}}, None, None, {"a": [{"b": [1]}, {"b": [2, 3]}]}, {"a": [{"b": [2]}, {"b": [3, 4]}]}),
        ({"$set": {"a.$[x]": 100}}, [{"x": {"$gte": 100}}], None, {"a": [95, 102, 90, 150]}, {"a": [95, 100, 90, 100]}),
        (
            {"$set": {"a.$[x].mean": 0}, "$inc": {"a.$[y].n": 1}},
            [{"x.g": {"$gt": 1}}, {"$or": [{"y.g": 1}, {"y.g": 3}]}],
            None,
            {"a": [{"g": 1}, {"g": 2}, {"g": 3}]},
            {"a": [{"g": 1, "n": 1}, {"g": 2, "mean": 0}, {"g": 3, "mean": 0, "n": 1}]},
        ),
        ({"$unset": {"a.$[x]": 1}}, [{"x": 2}], None, {"a": [1, 2]}, {"a": [1, None]}),
        ({"$push": {"a.$[x].l": 1}}, [{"x.k": 1}], None, {"a": [{"k": 1}, {"k": 2}]}, {"a": [{"k": 1, "l": [1]}, {"k": 2}]}),
        ({"$set": {"a.$[x].$[y]": 0}}, [{"x": 2}, {"y": {"$gt": 1}}], None, {"a": [[1, 2], [1]]}, {"a": [[1, 0], [1]]}),
    ],
)
def test_positional_paths(spec: dict, filters: Any, position: int | None, document: dict, expected: dict) -> None:
    found = updated({"_id": 7, **document}, spec, filters=filters, position=position)
    assert same(found, {"_id": 7, **expected}), found


def test_only_paths_with_a_dollar_need_the_position() -> None:
    assert compile_update({"$set": {"a.$": 1}}).needs_position
    assert not compile_update({"$set": {"a.$[]": 1, "b": 2}}).needs_position
    assert not compile_update({"$set": {"a": 1}}).is_replacement


def test_an_insert_takes_everything_and_puts_the_id_first() -> None:
    spec = {"$setOnInsert": {"_id": 5, "n": 0}, "$set": {"a": 1}}
    found = updated({"k": 1}, spec, is_insert=True)
    assert same(found, {"_id": 5, "k": 1, "a": 1, "n": 0})
    assert list(found)[0] == "_id"


def test_a_document_that_needs_no_change_is_given_back_and_the_rest_is_shared() -> None:
    document = {"_id": 1, "a": {"x": 1}, "b": [1, {}]}
    assert updated(document, {"$unset": {"c.d": 1}, "$max": {"a.x": 0}, "$pull": {"b": 5}}) is document
    found = updated(document, {"$set": {"a.y": 1}})
    assert found["b"] is document["b"]
    assert found["a"] is not document["a"]


@pytest.mark.parametrize("spec", [{"$set": {"_id": 1}}, {"$max": {"_id": 0}}, {"$inc": {"_id": 0}}, {"$unset": {"_id.x": 1}}])
def test_the_id_may_be_named_when_it_stays(spec: dict) -> None:
    assert updated({"_id": 1, "a": 1}, spec) == {"_id": 1, "a": 1}


@pytest.mark.parametrize(
    "spec",
    [
        {"$set": {"_id": 2}},
        {"$set": {"_id": 1.0}},
        {"$unset": {"_id": 1}},
        {"$inc": {"_id": 1}},
        {"$rename": {"_id": "b"}},
        {"$rename": {"a": "_id"}},
        {"$currentDate": {"_id": True}},
    ],
)
@pytest.mark.parametrize("is_insert", [False, True])
def test_the_id_is_immutable(spec: dict, is_insert: bool) -> None:
    found = refusal({"_id": 1, "a": 2}, spec, is_insert=is_insert)
    assert isinstance(found, ImmutableField)
    assert found.code == 66


# update, the code of the refusal; no document is needed to see it
HOPELESS = [
    ({}, 9),
    ({"a": 1}, 9),
    (5, 9),
    ({"$foo": {"a": 1}}, 9),
    ({"$set": {"a": 1}, "b": 1}, 9),
    ({"$set": 5}, 9),
    ({"$set": [["a", 1]]}, 9),
    ({5: {"a": 1}}, 9),
    ({"$set": {5: 1}}, 9),
    ({"$set": {"": 1}}, 56),
    ({"$set": {".": 1}}, 56),
    ({"$set": {"a..b": 1}}, 56),
    ({"$unset": {"a.": 1}}, 56),
    ({"$rename": {"a": ""}}, 56),
    ({"$rename": {"a": "b..c"}}, 56),
    ({"$set": {"$a": 1}}, 52),
    ({"$set": {"a.$b": 1}}, 52),
    ({"$set": {"a.$[x": 1}}, 52),
    ({"$set": {"$id": 1}}, 52),
    ({"$rename": {"a": "$b"}}, 52),
    ({"$set": {"a\0": 1}}, 2),
    ({"$set": {"$": 1}}, 2),
    ({"$set": {"$.a": 1}}, 2),
    ({"$set": {"$[]": 1}}, 2),
    ({"$set": {"a.$.b.$": 1}}, 2),
    ({"$set": {"a.$[x]": 1}}, 2),
    ({"$set": {".".join("a" * 101): 1}}, 2),
    ({"$set": {".".join("a" * 200): 1}}, 2),
    ({"$set": {"a": object()}}, 2),
    ({"$set": {"a": 2**63}}, 2),
    ({"$set": {"a": "\ud800"}}, 2),
    ({"$inc": {"a": "1"}}, 14),
    ({"$inc": {"a": True}}, 14),
    ({"$inc": {"a": None}}, 14),
    ({"$mul": {"a": [1]}}, 14),
    ({"$bit": {"a": 1}}, 2),
    ({"$bit": {"a": {}}}, 2),
    ({"$bit": {"a": {"not": 1}}}, 2),
    ({"$bit": {"a": {"and": 1.0}}}, 2),
    ({"$currentDate": {"a": 1}}, 2),
    ({"$currentDate": {"a": {"$type": "time"}}}, 2),
    ({"$currentDate": {"a": {"type": "date"}}}, 2),
    ({"$currentDate": {"a": {}}}, 2),
    ({"$rename": {"a": "a"}}, 2),
    ({"$rename": {"a": 5}}, 2),
    ({"$rename": {"a": "a.b"}}, 2),
    ({"$rename": {"a.b": "a"}}, 2),
    ({"$rename": {"a.$": "b"}}, 2),
    ({"$rename": {"a": "b.$[]"}}, 2),
    ({"$rename": {"a": "b\0"}}, 2),
]


@pytest.mark.parametrize(("spec", "code"), HOPELESS)
def test_what_no_document_could_take_is_refused_at_once(spec: Any, code: int) -> None:
    with pytest.raises(BadQuery) as caught:
        compile_update(spec)
    assert caught.value.code == code, caught.value.message


@pytest.mark.parametrize(
    ("filters", "code"),
    [
        ([{"x": 1}, {"y": 1}], 9),
        ([{"x": 1}, {"x": 2}], 9),
        ([{"X": 1}], 2),
        ([{"x_y": 1}], 2),
        ([{}], 9),
        ([{"$and": [{}]}], 9),
        ([{"x": 1, "y": 2}], 9),
        ([{"$expr": True}], 9),
        ([5], 14),
        ({"x": 1}, 14),
        ([{"x": {"$foo": 1}}], 2),
        ([{"x": 1}] * 101, 2),
    ],
)
def test_array_filters_that_make_no_sense(filters: Any, code: int) -> None:
    with pytest.raises(BadQuery) as caught:
        compile_update({"$set": {"a.$[x]": 1}}, filters)
    assert caught.value.code == code, caught.value.message


def test_array_filters_do_not_go_with_a_pipeline() -> None:
    with pytest.raises(BadQuery) as caught:
        compile_update([{"$set": {"a": 1}}], [{"x": 1}])
    assert caught.value.code == 9


def test_an_array_filter_that_nests_without_end_is_refused() -> None:
    spec: dict = {"x": 1}
    for _ in range(5000):
        spec = {"$and": [spec]}
    with pytest.raises(BadQuery):
        compile_update({"$set": {"a.$[x]": 1}}, [spec])


# update, document, code; `position` is 0
REFUSED = [
    ({"$set": {"a.b": 1}}, {"a": 5}, 28),
    ({"$set": {"a.b": 1}}, {"a": None}, 28),
    ({"$set": {"a.b": 1}}, {"a": [1]}, 28),
    ({"$set": {"a.00": 1}}, {"a": [1]}, 28),
    ({"$set": {"a.-1": 1}}, {"a": [1]}, 28),
    ({"$set": {"a.b.c.d": 1}}, {"a": {"b": "x"}}, 28),
    ({"$inc": {"a.0.b": 1}}, {"a": [1]}, 28),
    ({"$push": {"a.b": 1}}, {"a": 1}, 28),
    ({"$pull": {"a.b": 1}}, {"a": 1}, 28),
    ({"$pop": {"a.b": 1}}, {"a": 1}, 28),
    ({"$pullAll": {"a.b": [1]}}, {"a": [1]}, 28),
    ({"$set": {"a.$[].b": 1}}, {"a": [1]}, 28),
    ({"$rename": {"a.b": "c"}}, {"a": 5}, 28),
    ({"$rename": {"a.b": "c"}}, {"a": [{"b": 1}]}, 28),
    ({"$rename": {"a": "b.c"}}, {"a": 1, "b": 5}, 28),
    ({"$rename": {"a.0": "c"}}, {"a": [1]}, 2),
    ({"$rename": {"a.0.b": "c"}}, {"a": [{"b": 1}]}, 2),
    ({"$rename": {"a": "b.0"}}, {"a": 1, "b": [1]}, 2),
    ({"$rename": {"a": "b.x"}}, {"a": 1, "b": [1]}, 2),
    ({"$set": {f"a.{1_500_001}": 1}}, {"a": []}, 34),
    ({"$set": {"a.$[]": 1}}, {}, 2),
    ({"$set": {"a.b.$[]": 1}}, {}, 2),
    ({"$set": {"a.b.$[]": 1}}, {"a": 5}, 2),
    ({"$set": {"a.$[]": 1}}, {"a": {"b": 1}}, 2),
    ({"$unset": {"a.$[]": 1}}, {}, 2),
    ({"$set": {"a.$": 1, "a.0": 2}}, {"a": [1]}, 40),
    ({"$set": {"a.$": 1, "a.0.b": 2}}, {"a": [1]}, 40),
    ({"$inc": {"a": 1}}, {"a": "1"}, 14),
    ({"$inc": {"a": 1}}, {"a": None}, 14),
    ({"$inc": {"a": 1}}, {"a": True}, 14),
    ({"$mul": {"a": 1}}, {"a": []}, 14),
    ({"$inc": {"a": 1}}, {"a": MAX}, 2),
    ({"$inc": {"a": -1}}, {"a": MIN}, 2),
    ({"$mul": {"a": 2}}, {"a": 2**62}, 2),
    ({"$bit": {"a": {"or": 1}}}, {"a": 1.0}, 2),
    ({"$bit": {"a": {"or": 1}}}, {"a": None}, 2),
]


@pytest.mark.parametrize(("spec", "document", "code"), REFUSED)
def test_what_this_document_cannot_take(spec: dict, document: dict, code: int) -> None:
    found = refusal({"_id": ObjectId(), **document}, spec, position=0)
    assert isinstance(found, BadQuery)
    assert found.code == code, found.message


def test_a_positional_path_needs_a_match() -> None:
    found = refusal({"_id": 1, "a": [1]}, {"$set": {"a.$": 1}})
    assert found.code == 2
    assert "did not find the match needed from the query" in found.message


def test_an_array_filter_sees_an_element_as_a_field_of_its_name() -> None:
    # So an element that is an array is opened, as the array of a field is.
    document = {"_id": 1, "a": [[1, 5], [2], 5]}
    assert updated(document, {"$set": {"a.$[x]": 0}}, filters=[{"x": 5}]) == {"_id": 1, "a": [0, [2], 0]}


def test_filters_that_choose_one_element_twice_conflict_only_there() -> None:
    spec, filters = {"$inc": {"a.$[x]": 1, "a.$[y]": 2}}, [{"x": {"$lt": 3}}, {"y": {"$gt": 5}}]
    assert updated({"_id": 1, "a": [1, 9]}, spec, filters=filters) == {"_id": 1, "a": [2, 11]}
    found = refusal({"_id": 1, "a": [1]}, {"$inc": {"a.$[x]": 1, "a.$[]": 2}}, filters=filters[:1])
    assert found.code == 40


CONFLICTS = [
    ("a", "a"),
    ("a", "a.b"),
    ("a.b", "a.b.c.d"),
    ("a.$", "a"),
    ("a.$", "a.$.b"),
    ("a.$[]", "a.b"),
    ("a.$[]", "a.$"),
    ("a.$[]", "a.0"),
    ("a.$[].b", "a.$[].b.c"),
]


@pytest.mark.parametrize(("first", "second"), CONFLICTS)
def test_conflicts_are_seen_in_either_order_and_across_operators(first: str, second: str) -> None:
    for one, other in ((first, second), (second, first)):
        with pytest.raises(BadQuery) as caught:
            compile_update({"$set": {one: 1}, "$unset": {other: 1}})
        assert caught.value.code == 40
        assert "conflict" in caught.value.message


def test_a_conflict_is_told_in_the_words_that_drivers_know() -> None:
    with pytest.raises(BadQuery, match=r"Updating the path 'a\.b' would create a conflict at 'a'"):
        compile_update({"$set": {"a": 1, "a.b": 2}})
    with pytest.raises(BadQuery, match=r"would create a conflict at 'b'"):
        compile_update({"$set": {"b": 1}, "$rename": {"a": "b"}})


def test_padding_up_to_the_limit_is_done() -> None:
    found = updated({"_id": 1, "a": []}, {"$set": {"a.1500000": 1}})
    assert len(found["a"]) == 1_500_001
    assert found["a"][-2:] == [None, 1]


def test_padding_over_and_over_is_refused_before_the_memory_is_gone() -> None:
    paths = {f"a{n}.1500000": 1 for n in range(PATHS_MAX)}
    document = {"_id": 1, **{f"a{n}": [] for n in range(PATHS_MAX)}}
    update = compile_update({"$set": paths})
    with pytest.raises(DocumentTooLarge):
        update.apply(document, position=None, is_insert=False, now=NOW, now_timestamp=STAMP)


@pytest.mark.parametrize(
    "change",
    [
        {"$set": {"a.$[]": "x" * 2**16}},
        {"$max": {"a.$[]": "x" * 2**16}},
        {"$push": {"a.$[]": "x" * 2**16}},
        {"$push": {"a.$[]": {"$each": ["x" * 2**16], "$slice": -1}}},
        {"$addToSet": {"a.$[]": "x" * 2**16}},
    ],
)
def test_one_large_value_for_many_elements_is_refused_before_it_is_written_out(change: dict) -> None:
    elements: list = [[]] if "$push" in change or "$addToSet" in change else [1]
    assert isinstance(refusal({"_id": 1, "a": elements * 1000}, change), DocumentTooLarge)


def test_pushing_what_is_cut_off_again_is_no_growth() -> None:
    found = updated({"_id": 1, "a": [[]] * 1000}, {"$push": {"a.$[]": {"$each": ["x" * 2**16], "$slice": 0}}})
    assert found == {"_id": 1, "a": [[]] * 1000}


def test_many_paths_are_done_and_too_many_refused() -> None:
    update = compile_update({"$inc": {f"f{n}.x": n for n in range(PATHS_MAX)}})
    found = update.apply({"_id": 1}, position=None, is_insert=False, now=NOW, now_timestamp=STAMP)
    assert len(found) == PATHS_MAX + 1
    assert found["f77"] == {"x": 77}
    with pytest.raises(BadQuery, match="10000"):
        compile_update({"$inc": {f"f{n}": n for n in range(PATHS_MAX)}, "$set": {"x": 1}})


def test_values_without_end_are_refused_by_name() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    for operator in ("$set", "$push", "$addToSet", "$pull", "$max"):
        with pytest.raises(BadQuery, match="deeper"):
            compile_update({operator: {"a": deep}})


def test_arguments_become_what_a_document_would_hold() -> None:
    moment = datetime.datetime(2020, 1, 1, 12, 0, 0, 1_999, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    found = updated({"_id": 1}, {"$set": {"a": (1, 2), "b": moment, "c": Regex("x", "i")}})
    assert same(found, {"_id": 1, "a": [1, 2], "b": datetime.datetime(2020, 1, 1, 11, 0, 0, 1_000), "c": Regex("x", "i")})
