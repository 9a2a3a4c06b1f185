"""Promises of the stages: MongoDB's documented results and codes, and laws ($group equals a naive fold, $sort is stable, $unwind and
$group give each other back)."""

from __future__ import annotations

import itertools
import random

import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery, QueryTooLarge
from storage.query.pipeline import Context, Match, run_over
from storage.query.stages import compile_update_pipeline, parse_pipeline
from storage.values.order import sort_key
from tests.values.generated import values

SALES = [
    {"_id": 1, "item": "abc", "price": 10, "qty": 2, "tags": ["a", "b"]},
    {"_id": 2, "item": "jkl", "price": 20, "qty": 1, "tags": []},
    {"_id": 3, "item": "xyz", "price": 5, "qty": 10},
    {"_id": 4, "item": "xyz", "price": 5.5, "qty": 20, "tags": "c"},
    {"_id": 5, "item": "abc", "price": Decimal128("10"), "qty": 10, "tags": None},
]


def run(documents: list[dict], *stages: dict, others: dict | None = None, **variables: object) -> list[dict]:
    chance = random.Random(7)
    context = Context(chance.randbytes, variables)
    return run_over(parse_pipeline(list(stages), variables), {"c": documents, **(others or {})}, "c", context)


TABLE = [
    ([{"$match": {"price": {"$gte": 10}}}, {"$project": {"_id": 1}}], [{"_id": 1}, {"_id": 2}, {"_id": 5}]),
    ([{"$match": {"$expr": {"$gt": ["$qty", "$price"]}}}, {"$project": {"qty": 1, "_id": 0}}], [{"qty": 10}, {"qty": 20}]),
    ([{"$project": {"_id": 0, "total": {"$multiply": ["$qty", 2]}}}, {"$limit": 1}], [{"total": 4}]),
    ([{"$project": {"tags": 0, "price": 0, "item": 0}}, {"$skip": 4}], [{"_id": 5, "qty": 10}]),
    ([{"$addFields": {"x.y": "$qty", "price": "$$REMOVE"}}, {"$limit": 1}],
     [{"_id": 1, "item": "abc", "qty": 2, "tags": ["a", "b"], "x": {"y": 2}}]),
    ([{"$set": {"tags": {"first": 1}}}, {"$project": {"tags": 1}}, {"$limit": 1}],
     [{"_id": 1, "tags": [{"first": 1}, {"first": 1}]}]),
    ([{"$unset": ["tags", "item"]}, {"$limit": 1}], [{"_id": 1, "price": 10, "qty": 2}]),
    ([{"$group": {"_id": "$item", "n": {"$sum": "$qty"}, "items": {"$push": "$_id"}}}],
     [{"_id": "abc", "n": 12, "items": [1, 5]}, {"_id": "jkl", "n": 1, "items": [2]}, {"_id": "xyz", "n": 30, "items": [3, 4]}]),
    ([{"$group": {"_id": None, "least": {"$min": "$price"}, "most": {"$max": "$price"}, "n": {"$count": {}}, "mean": {"$avg": "$qty"}}}],
     [{"_id": None, "least": 5, "most": 20, "n": 5, "mean": 8.6}]),
    ([{"$group": {"_id": "$none", "first": {"$first": "$tags"}, "last": {"$last": "$none"}}}],
     [{"_id": None, "first": ["a", "b"], "last": None}]),
    ([{"$group": {"_id": {"t": "$tags"}}}, {"$count": "groups"}], [{"groups": 5}]),
    ([{"$group": {"_id": None, "s": {"$addToSet": "$item"}, "d": {"$stdDevPop": "$none"}}}],
     [{"_id": None, "s": ["abc", "jkl", "xyz"], "d": None}]),
    ([{"$group": {"_id": None, "best": {"$topN": {"n": 2, "sortBy": {"qty": -1}, "output": "$_id"}},
                  "worst": {"$bottom": {"sortBy": {"qty": -1}, "output": ["$_id", "$qty"]}}}}],
     [{"_id": None, "best": [4, 3], "worst": [2, 1]}]),
    ([{"$group": {"_id": None, "f": {"$firstN": {"n": 2, "input": "$_id"}}, "l": {"$lastN": {"n": 2, "input": "$none"}},
                  "x": {"$maxN": {"n": 2, "input": "$qty"}}, "m": {"$minN": {"n": 1, "input": "$tags"}}}}],
     [{"_id": None, "f": [1, 2], "l": [None, None], "x": [20, 10], "m": ["c"]}]),
    ([{"$sort": {"price": -1, "qty": 1}}, {"$project": {"_id": 1}}], [{"_id": 2}, {"_id": 1}, {"_id": 5}, {"_id": 4}, {"_id": 3}]),
    ([{"$sort": {"qty": 1}}, {"$skip": 1}, {"$limit": 2}, {"$project": {"_id": 1}}], [{"_id": 1}, {"_id": 3}]),
    ([{"$unwind": "$tags"}, {"$project": {"tags": 1}}], [{"_id": 1, "tags": "a"}, {"_id": 1, "tags": "b"}, {"_id": 4, "tags": "c"}]),
    ([{"$unwind": {"path": "$tags", "includeArrayIndex": "i", "preserveNullAndEmptyArrays": True}}, {"$project": {"tags": 1, "i": 1}}],
     [{"_id": 1, "tags": "a", "i": 0}, {"_id": 1, "tags": "b", "i": 1}, {"_id": 2, "i": None}, {"_id": 3, "i": None},
      {"_id": 4, "tags": "c", "i": None}, {"_id": 5, "tags": None, "i": None}]),
    ([{"$match": {"qty": 99}}, {"$count": "n"}], []),
    ([{"$sortByCount": "$item"}], [{"_id": "abc", "count": 2}, {"_id": "xyz", "count": 2}, {"_id": "jkl", "count": 1}]),
    ([{"$replaceRoot": {"newRoot": {"v": "$qty"}}}, {"$limit": 1}], [{"v": 2}]),
    ([{"$replaceWith": {"$mergeObjects": [{"x": 1}, {"i": "$item"}]}}, {"$limit": 1}], [{"x": 1, "i": "abc"}]),
    ([{"$bucket": {"groupBy": "$price", "boundaries": [0, 10, 15], "default": "Other", "output": {"ids": {"$push": "$_id"}}}}],
     [{"_id": 0, "ids": [3, 4]}, {"_id": 10, "ids": [1, 5]}, {"_id": "Other", "ids": [2]}]),
    ([{"$bucketAuto": {"groupBy": "$qty", "buckets": 2}}],
     [{"_id": {"min": 1, "max": 20}, "count": 4}, {"_id": {"min": 20, "max": 20}, "count": 1}]),
    ([{"$facet": {"n": [{"$count": "n"}], "none": [{"$match": {"x": 1}}], "top": [{"$sort": {"qty": -1}}, {"$limit": 1}, {"$project": {"_id": 1}}]}}],
     [{"n": [{"n": 5}], "none": [], "top": [{"_id": 4}]}]),
    ([{"$match": {"item": "abc"}}, {"$facet": {"a": [{"$group": {"_id": None, "n": {"$sum": 1}}}]}}, {"$unwind": "$a"}],
     [{"a": {"_id": None, "n": 2}}]),
    ([{"$sort": {"_id": -1}}, {"$limit": 2}, {"$facet": {"ids": [{"$project": {"_id": 1}}]}}], [{"ids": [{"_id": 5}, {"_id": 4}]}]),
    ([{"$limit": 1}, {"$project": {"_id": 1}}, {"$unionWith": {"coll": "more", "pipeline": [{"$match": {"k": 2}}]}}],
     [{"_id": 1}, {"_id": 12, "k": 2}, {"_id": 13, "k": [2, 3]}]),
    ([{"$limit": 1}, {"$project": {"_id": 1}}, {"$unionWith": "nothing"}], [{"_id": 1}]),
]  # fmt: skip
MORE = [{"_id": 11, "k": 1}, {"_id": 12, "k": 2}, {"_id": 13, "k": [2, 3]}, {"_id": 14}, {"_id": 15, "k": None}]


@pytest.mark.parametrize(("stages", "expected"), TABLE, ids=lambda part: repr(part)[:60])
def test_a_pipeline_gives_what_mongodb_documents(stages: list[dict], expected: list[dict]) -> None:
    found = run(SALES, *stages, others={"more": MORE})
    assert found == expected
    assert [list(document) for document in found] == [list(document) for document in expected], "the order of fields"


@pytest.mark.parametrize(
    ("local", "expected"),
    [(1, [11]), (1.0, [11]), (2, [12, 13]), ([1, 3], [11, 13]), (None, [14, 15]), ([], [14, 15]), ("x", []), ([[2, 3]], [13])],
)
def test_lookup_matches_elements_of_arrays_and_null_what_is_missing(local: object, expected: list[int]) -> None:
    lookup = {"$lookup": {"from": "more", "localField": "v", "foreignField": "k", "as": "found"}}
    (document,) = run([{"_id": 1, "v": local}], lookup, others={"more": MORE})
    assert [row["_id"] for row in document["found"]] == expected


def test_lookup_by_pipeline_sees_variables_of_each_document() -> None:
    stages = [
        {"$match": {"$expr": {"$and": [{"$eq": ["$k", "$$wanted"]}, {"$gt": ["$_id", 0]}]}}},
        {"$project": {"_id": 1, "from": "$$wanted", "outer": "$$given"}},
    ]
    lookup = {"$lookup": {"from": "more", "let": {"wanted": "$v"}, "pipeline": stages, "as": "a.b"}}
    found = run([{"_id": 1, "v": 2}, {"_id": 2, "v": 1}, {"_id": 3}, {"_id": 4, "v": 2}], lookup, others={"more": MORE}, given=9)
    assert [document["a"]["b"] for document in found] == [
        [{"_id": 12, "from": 2, "outer": 9}],
        [{"_id": 11, "from": 1, "outer": 9}],
        [{"_id": 14, "outer": 9}],
        [{"_id": 12, "from": 2, "outer": 9}],
    ]
    both = {"from": "more", "localField": "v", "foreignField": "k", "pipeline": [{"$sort": {"_id": -1}}, {"$limit": 1}], "as": "x"}
    (document,) = run([{"_id": 1, "v": 2}], {"$lookup": both}, others={"more": MORE})
    assert document["x"] == [{"_id": 13, "k": [2, 3]}]
    plain = {"$lookup": {"from": "more", "pipeline": [{"$match": {"k": 1}}], "as": "x"}}
    assert [document["x"] for document in run([{"_id": 1}, {"_id": 2}], plain, others={"more": MORE})] == [[{"_id": 11, "k": 1}]] * 2


REFUSALS = [
    ([{"$nope": 1}], 40324),
    ([{"$graphLookup": {}}], 40324),
    ([{"$match": {}, "$limit": 1}], 40323),
    ({"$match": {}}, 14),
    ([1], 14),
    ([{"$match": 1}], 15959),
    ([{"$match": {"$expr": "$$nobody"}}], 17276),
    ([{"$project": {}}], 51272),
    ([{"$project": {"a": 1, "b": 0}}], 31254),
    ([{"$project": {"a": 0, "b": 1}}], 31253),
    ([{"$project": {"a": 0, "b": "$c"}}], 31252),
    ([{"$project": {"a": 1, "a.b": 1}}], 31249),
    ([{"$project": {"a.b": 1, "a": 1}}], 31250),
    ([{"$group": {"n": {"$sum": 1}}}], 15955),
    ([{"$group": {"_id": 1, "n": 1}}], 40234),
    ([{"$group": {"_id": 1, "n": {"$sum": 1, "$avg": 1}}}], 40238),
    ([{"$group": {"_id": 1, "n.m": {"$sum": 1}}}], 40235),
    ([{"$group": {"_id": 1, "n": {"$nope": 1}}}], 15952),
    ([{"$group": {"_id": 1, "n": {"$sum": [1, 2]}}}], 40237),
    ([{"$sort": {}}], 15976),
    ([{"$limit": 0}], 15958),
    ([{"$limit": -1}], 2107201),
    ([{"$skip": -1}], 5107200),
    ([{"$unwind": "tags"}], 28818),
    ([{"$unwind": {"path": "$a", "x": 1}}], 28811),
    ([{"$count": "$x"}], 40158),
    ([{"$replaceRoot": {"newRoot": "$item"}}], 40228),
    ([{"$bucket": {"groupBy": "$a", "boundaries": [2, 1]}}], 40194),
    ([{"$bucket": {"groupBy": "$a", "boundaries": [1, "a"]}}], 40193),
    ([{"$bucket": {"groupBy": "$price", "boundaries": [1, 2]}}], 40066),
    ([{"$bucketAuto": {"groupBy": "$a", "buckets": 0}}], 40243),
    ([{"$facet": {}}], 40169),
    ([{"$facet": {"a": [{"$facet": {"b": []}}]}}], 40600),
    ([{"$facet": {"a": [{"$out": "x"}]}}], 40600),
    ([{"$out": "x"}, {"$limit": 1}], 40601),
    ([{"$lookup": {"from": "x", "as": "y"}}], 9),
    ([{"$lookup": {"from": "x", "as": "y", "pipeline": [{"$merge": "z"}]}}], 51047),
    ([{"$merge": {"into": "x", "whenMatched": "fail", "whenNotMatched": "discard"}}], 51181),
    ([{"$merge": {"into": "x", "whenMatched": [{"$group": {"_id": 1}}]}}], 72),
    ([{"$sortByCount": "item"}], 40148),
]


@pytest.mark.parametrize(("stages", "code"), REFUSALS, ids=lambda part: repr(part)[:60])
def test_a_wrong_pipeline_is_refused_with_mongodbs_code(stages: list[dict], code: int) -> None:
    with pytest.raises(BadQuery) as refused:
        run_over(parse_pipeline(stages), {"c": SALES}, "c", Context(bytes))
    assert refused.value.code == code


def test_a_pipeline_that_is_hostile_is_refused() -> None:
    nested: list[dict] = []
    for _ in range(1_000):
        nested = [{"$unionWith": {"coll": "c", "pipeline": nested}}]
    wide: list[dict] = []
    for _ in range(15):
        wide = [{"$skip": 0}] * 100 + [{"$unionWith": {"coll": "c", "pipeline": wide}}]
    for stages in (nested, wide, [{"$limit": 1}] * 1_001, [{"$limit": 1}] * 300):
        with pytest.raises(BadQuery):
            parse_pipeline(stages)
    deepest = [{"$limit": 9}] * 100
    for _ in range(15):
        deepest = [*deepest[:2], {"$lookup": {"from": "c", "pipeline": deepest, "as": "x"}}, {"$skip": 4}]
    assert run(SALES, *deepest)[0]["_id"] == 5
    many = run(SALES, *[{"$set": {f"f{number}": "$_id"}} for number in range(900)])
    assert len(many) == 5 and len(many[0]) == 905


def test_what_is_held_has_a_bound() -> None:
    text = "x" * 2_000_000  # one text in all documents: it weighs on each, but the test holds it once
    documents = [{"_id": number, "text": text} for number in range(200)]
    for stage in ({"$sort": {"_id": 1}}, {"$group": {"_id": "$_id", "t": {"$push": "$text"}}}, {"$sample": {"size": 150}}):
        with pytest.raises(QueryTooLarge) as refused:
            run(documents, {"$addFields": {"x": 1}}, stage)
        assert refused.value.code == 292
    few = run(documents, {"$addFields": {"x": 1}}, {"$sort": {"_id": -1}}, {"$limit": 3}, {"$project": {"_id": 1}})
    assert few == [{"_id": 199}, {"_id": 198}, {"_id": 197}]


def test_leading_stages_are_asked_of_the_source() -> None:
    asked = parse_pipeline([{"$match": {"a": 1}}, {"$match": {"b": 2}}, {"$sort": {"c": 1}}, {"$skip": 2}, {"$limit": 3}])
    request = next(asked.items("c", Context(bytes)))
    assert (request.matches.spec, request.sort.fields, request.wanted) == ({"$and": [{"a": 1}, {"b": 2}]}, (("c", 1),), 5)
    assert asked.leading_filter() == ({"$and": [{"a": 1}, {"b": 2}]}, 2)
    assert next(parse_pipeline([{"$limit": 7}]).items("c", Context(bytes))).wanted == 7
    assert isinstance(asked.stages[0], Match)


def test_a_limit_asks_for_no_more_than_it_needs() -> None:
    asked = 0
    items = parse_pipeline([{"$match": {}}, {"$addFields": {"x": 1}}, {"$limit": 70}]).items("c", Context(bytes))
    found: list[dict] = []
    for item in items:
        if type(item) is list:
            found += item
        else:
            asked += 1
            item.batch = [{"_id": number} for number in range(64)]
    assert (len(found), asked) == (70, 2)


def test_an_update_by_pipeline_sees_one_document() -> None:
    update = compile_update_pipeline([{"$set": {"a": {"$add": ["$a", "$$by"]}}}, {"$unset": "b"}, {"$replaceWith": {"n": "$$ROOT"}}], ["by"])
    before = {"_id": 1, "a": 1, "b": {"c": [1]}}
    assert update(before, {"by": 5}) == {"n": {"_id": 1, "a": 6}}
    assert before == {"_id": 1, "a": 1, "b": {"c": [1]}}
    with pytest.raises(BadQuery) as refused:
        compile_update_pipeline([{"$match": {}}])
    assert refused.value.code == 72


small = st.sampled_from([None, 0, 1, 1.0, Decimal128("1"), "a", True, [1], {"x": 1}, 2**53, 2**53 + 1, float(2**53)])
rows = st.lists(st.fixed_dictionaries({}, optional={"k": small, "v": values}), max_size=30)


@given(rows)
def test_group_equals_a_naive_fold(documents: list[dict]) -> None:
    found = run(documents, {"$group": {"_id": "$k", "n": {"$sum": 1}, "all": {"$push": "$v"}, "least": {"$min": "$v"}}})
    keyed = [(sort_key(document.get("k")), document) for document in documents]
    assert sorted(sort_key(group["_id"]) for group in found) == sorted({key for key, _ in keyed})
    for group in found:
        mine = [document for key, document in keyed if key == sort_key(group["_id"])]
        assert group["n"] == len(mine)
        held = [document["v"] for document in mine if "v" in document]
        assert sort_key(group["all"]) == sort_key(held)
        kept = [value for value in held if value is not None]
        assert sort_key(group["least"]) == (min(map(sort_key, kept)) if kept else sort_key(None))


@given(st.lists(st.integers(0, 4), max_size=200), st.integers(0, 40))
def test_sort_is_stable_with_and_without_a_limit(keys: list[int], limit: int) -> None:
    documents = [{"_id": number, "k": key} for number, key in enumerate(keys)]
    expected = sorted(documents, key=lambda document: document["k"])
    first = {"$addFields": {"k": "$k"}}  # so that the stage sorts and not the source
    assert run(documents, first, {"$sort": {"k": 1}}) == expected
    if limit:
        assert run(documents, first, {"$sort": {"k": 1}}, {"$limit": limit}) == expected[:limit]
    descending = run(documents, first, {"$sort": {"k": -1}})
    assert descending == sorted(documents, key=lambda document: -document["k"])


def test_a_sort_of_many_with_a_small_limit_cuts_what_it_holds() -> None:
    chance = random.Random(3)
    documents = [{"_id": number, "k": chance.randrange(100)} for number in range(6_000)]
    expected = sorted(documents, key=lambda document: document["k"])[:10]
    assert run(documents, {"$addFields": {"k": "$k"}}, {"$sort": {"k": 1}}, {"$limit": 10}) == expected


@given(st.lists(st.lists(values, min_size=1, max_size=4), max_size=8))
def test_unwind_and_group_give_each_other_back(arrays: list[list]) -> None:
    documents = [{"_id": number, "v": array} for number, array in enumerate(arrays)]
    again = run(documents, {"$unwind": "$v"}, {"$group": {"_id": "$_id", "v": {"$push": "$v"}}})
    assert [(row["_id"], sort_key(row["v"])) for row in again] == [(row["_id"], sort_key(row["v"])) for row in documents]


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 6))
def test_bucket_auto_splits_no_value_and_loses_none(keys: list[int], buckets: int) -> None:
    documents = [{"_id": number, "k": key} for number, key in enumerate(keys)]
    found = run(documents, {"$bucketAuto": {"groupBy": "$k", "buckets": buckets, "output": {"k": {"$addToSet": "$k"}, "n": {"$sum": 1}}}})
    assert len(found) <= buckets and sum(row["n"] for row in found) == len(keys)
    assert all(not set(one["k"]) & set(other["k"]) for one, other in itertools.combinations(found, 2))
    assert all(before["_id"]["max"] == after["_id"]["min"] for before, after in itertools.pairwise(found))


@given(st.integers(0, 60), st.integers(0, 20))
def test_a_sample_holds_different_documents(total: int, size: int) -> None:
    documents = [{"_id": number} for number in range(total)]
    found = run(documents, {"$sample": {"size": size}})
    assert len(found) == min(total, size) == len({row["_id"] for row in found})


@given(rows, st.sampled_from(["$k", {"$type": "$v"}, {"$ifNull": ["$k", "none"]}]))
def test_stages_do_not_change_the_documents_given(documents: list[dict], key: object) -> None:
    before = repr(documents)
    run(
        documents,
        {"$set": {"v.x": 1, "k.y.z": key}},
        {"$unwind": {"path": "$v", "preserveNullAndEmptyArrays": True, "includeArrayIndex": "at.i"}},
        {"$lookup": {"from": "c", "localField": "k", "foreignField": "k", "as": "v.same"}},
        {"$group": {"_id": key, "m": {"$mergeObjects": "$v"}}},
    )
    assert repr(documents) == before
