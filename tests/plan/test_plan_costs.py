"""What a query does not look at: documents that an index answers for, parts that cannot hold what is wanted. And what explain says."""

from __future__ import annotations

import pytest
from bson import Regex

from storage.fields.values import COLUMN, WORDS
from storage.plan import (
    Counters,
    GroupSpec,
    Scale,
    can_group,
    count,
    distinct,
    explain,
    find,
    group,
    wanted_fields,
)
from storage.query.filters import compile_filter
from storage.query.sorting import compile_sort
from storage.values.documents import decode
from tests.plan.worlds import World

ROWS = 3_000
FIELDS = {"time": COLUMN, "channel": COLUMN, "text": WORDS, "tags": COLUMN}


def messages(first_loose: int = ROWS) -> World:
    documents = [
        {"_id": i, "time": 1000 + i, "channel": i % 7, "text": f"word{i % 100} and more", "tags": [i % 5, "x"]} for i in range(ROWS)
    ]
    return World(documents, [1000, 2000], [False] * ROWS, [FIELDS] * 3, ROWS - first_loose)


def run(steps) -> list:
    return [found for batch in steps for found in (batch or ())]


NEWEST = compile_sort([["time", -1]])


@pytest.mark.parametrize("spec", [{}, {"channel": 3}, {"channel": {"$in": [1, 2]}}, {"time": {"$gte": 1500}, "channel": {"$ne": 4}}])
def test_the_newest_few_are_read_from_the_newest_part_alone(spec: dict):
    world, counters = messages(), Counters()
    found = run(find(world.parts, [], compile_filter(spec), NEWEST, 10, counters=counters))
    assert [one.document["time"] for one in found] == sorted((one.document["time"] for one in found), reverse=True)
    assert counters.docs_examined == counters.returned == len(found) == 10
    assert counters.parts_used == {2}


@pytest.mark.parametrize(
    "spec", [{}, {"channel": 3}, {"time": {"$gte": 1500, "$lt": 2600}}, {"channel": 3, "time": {"$lt": 1800}}, {"tags": 3}, {"tags": None}, {"text": {"$exists": False}}]
)
def test_counting_reads_nothing_where_the_index_knows(spec: dict):
    world, counters = messages(), Counters()
    matches = compile_filter(spec)
    assert list(count(world.parts, [], matches, counters=counters))[-1] == sum(matches(document) for _, document in world.live)
    assert counters.docs_examined == 0


def test_groups_and_distinct_values_read_nothing_where_the_index_knows():
    world, counters = messages(), Counters()
    spec = GroupSpec.read({"_id": "$channel", "n": {"$sum": 1}, "last": {"$max": "$time"}})
    found = run(group(world.parts, [], compile_filter({"time": {"$gte": 1010}}), spec, counters=counters))
    assert len(found) == 7
    assert max(one["last"] for one in found) == 999 + ROWS
    assert sum(one["n"] for one in found) == ROWS - 10
    assert run(distinct(world.parts, [], "channel", compile_filter({}), counters=counters)) == list(range(7))
    assert counters.docs_examined == 0


def test_a_rare_word_is_found_by_reading_only_where_it_stands():
    world, counters = messages(), Counters()
    found = run(find(world.parts, [], compile_filter({"text": {"$regex": "word42 and"}}), counters=counters))
    assert len(found) == counters.docs_examined == ROWS // 100


def test_loose_rows_are_the_newest():
    world = messages(first_loose=2_990)
    found = run(find(world.parts, world.loose, compile_filter({"channel": 3}), NEWEST, 3))
    assert [one.document["_id"] for one in found] == [2999, 2992, 2985]


def test_wanted_fields_are_those_that_would_be_used():
    matches = compile_filter(
        {
            "a": 1,
            "$or": [{"b": {"$regex": "x"}}, {"c.d": {"$ne": 2}}],
            "e": {"$elemMatch": {"f": {"$gt": 1}, "0": 5}},
            "$expr": {"$gt": ["$g", 1]},
        }
    )
    order = compile_sort([["time", -1], ["a", 1]])
    spec = GroupSpec.read({"_id": {"x": "$k"}, "n": {"$avg": "$v"}})
    found = wanted_fields(matches, order, spec, "w")
    assert found == dict.fromkeys(["a", "c.d", "e", "e.f", "time", "k", "v", "w"], COLUMN) | {"b": WORDS}
    assert wanted_fields(compile_filter({}), compile_sort([["$natural", -1]])) == {}


@pytest.mark.parametrize(
    "key, part",
    [
        ({"$toLower": "$a"}, {"$sum": 1}),
        ("$$ROOT", {"$sum": 1}),
        ({"x": {"y": "$a"}}, {"$sum": 1}),
        (5, {"$sum": 1}),
        ("$a", {"$push": "$b"}),
        ("$a", {"$sum": {"$add": ["$b", 1]}}),
        ("$a", {"$sum": 0.5}),
    ],
)
def test_groups_that_columns_cannot_answer_are_left_to_others(key: object, part: dict):
    assert GroupSpec.read({"_id": key, "n": part}) is None


def test_a_group_without_any_column_is_left_to_others():
    world = messages()
    assert not can_group(world.parts, GroupSpec.read({"_id": "$other", "n": {"$sum": 1}}))


def stages(plan: dict) -> list[str]:
    found = []
    stage = plan["winningPlan"]
    while stage is not None:
        found.append(stage["stage"])
        stage = stage.get("inputStage")
    return found


@pytest.mark.parametrize(
    "spec, order, wanted, expected",
    [
        ({}, None, 0, ["COLLSCAN"]),
        ({"channel": 3}, None, 0, ["FETCH", "IXSCAN"]),
        ({"other": 3}, None, 5, ["LIMIT", "COLLSCAN"]),
        ({"channel": 3}, [["time", -1]], 5, ["LIMIT", "SORT_MERGE", "FETCH", "IXSCAN"]),
        ({"channel": 3}, [["other", -1]], 0, ["SORT", "FETCH", "IXSCAN"]),
        ({"text": {"$regex": "word42"}}, None, 0, ["FETCH", "IXSCAN"]),
    ],
)
def test_explain_names_the_stages(spec: dict, order: list | None, wanted: int, expected: list[str]):
    world = messages()
    plan = explain(world.parts, compile_filter(spec), compile_sort(order) if order else None, wanted)
    assert stages(plan) == expected
    assert len(plan["parts"]) == 3


def test_explain_tells_what_running_it_took():
    world, counters = messages(), Counters()
    matches = compile_filter({"channel": 3})
    run(find(world.parts, [], matches, NEWEST, 10, counters=counters))
    stats = explain(world.parts, matches, NEWEST, 10, counters=counters)["executionStats"]
    assert (stats["nReturned"], stats["totalDocsExamined"], stats["partsRead"]) == (10, 10, [2])


def test_documents_that_only_the_words_fit_are_not_decoded():
    rows = [{"_id": i, "text": "red wine" if i % 50 == 0 else "wine that is red"} for i in range(500)]
    world = World(rows, [], [False] * 500, [{"text": WORDS}], 0)
    seen: list[bytes] = []

    def decoded(data: bytes) -> dict:
        seen.append(data)
        return decode(data)

    counters = Counters()
    found = run(find(world.parts, [], compile_filter({"text": {"$regex": "red wine"}}), decode=decoded, counters=counters))
    assert [one.document["_id"] for one in found] == list(range(0, 500, 50))
    assert (counters.docs_examined, len(seen)) == (500, 10)


@pytest.mark.parametrize(
    ("pattern", "options"), [("red wine", "i"), ("red (wine|beer)", ""), ("re[d] w(ine)", ""), ("(red )?wine", ""), ("RED WINE", "i"), ("d w", ""), ("^red wine$", "m")]
)
def test_what_a_pattern_may_do_without_is_not_asked_of_the_bytes(pattern: str, options: str):
    texts = ["red wine", "Red Wine", "red beer", "wine", "red\nwine", "a red wine b", "red wine\nor", "redwine"]
    rows = [*({"_id": i, "text": text} for i, text in enumerate(texts * 10)), {"_id": 99, "text": Regex(pattern, options)}]
    for cuts in ([], [40]):
        world = World(rows, cuts, [False] * len(rows), [{"text": COLUMN | WORDS}] * 2, 0)
        spec = {"text": {"$regex": pattern, "$options": options}}
        found = run(find(world.parts, [], compile_filter(spec), scale=Scale(pattern_values=0)))
        matches = compile_filter(spec)
        assert [one.key for one in found] == [key for key, document in world.live if matches(document)]


def test_a_bare_find_decodes_only_what_must_be_asked():
    world = messages()

    def refused(data: bytes) -> dict:
        raise AssertionError("it was decoded")

    found = run(find(world.parts, [], compile_filter({"channel": 3}), NEWEST, 10, decode=refused, is_bare=True))
    expected = run(find(world.parts, [], compile_filter({"channel": 3}), NEWEST, 10))
    assert [(one.key, one.data) for one in found] == [(one.key, one.data) for one in expected]
