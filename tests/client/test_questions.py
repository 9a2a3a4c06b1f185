"""Aggregation, distinct, counts, time limits and explain with PyMongo's names, over every face of a real engine."""

from __future__ import annotations

import pytest

import twinlog
from twinlog import errors

from .fake_server import FakeNode

ORDERS = [{"_id": number, "item": "abc"[number % 3], "price": number, "tags": ["x", number % 2]} for number in range(12)]


@pytest.fixture
def orders(engine_client):
    made = engine_client["shop"]["orders"]
    made.insert_many([dict(order) for order in ORDERS])
    return made


def test_aggregate_groups_and_sorts(orders):
    stages = [{"$match": {"price": {"$gte": 3}}}, {"$group": {"_id": "$item", "sum": {"$sum": "$price"}}}, {"$sort": {"_id": 1}}]
    assert orders.aggregate(stages).to_list() == [{"_id": "a", "sum": 18}, {"_id": "b", "sum": 21}, {"_id": "c", "sum": 24}]


def test_aggregate_gives_its_documents_over_many_batches(orders):
    with orders.aggregate([{"$sort": {"_id": 1}}], batchSize=5) as cursor:
        assert [document["_id"] for document in cursor] == list(range(12))
        assert cursor.retrieved == 12 and not cursor.alive
    cursor = orders.aggregate([], batch_size=5).batch_size(3)
    assert cursor.alive and cursor.cursor_id
    assert len(cursor.to_list(4)) == 4
    cursor.close()
    assert cursor.to_list() == []


def test_aggregate_takes_variables_and_looks_up_others(orders):
    orders.database["items"].insert_many([{"_id": "a", "name": "tea"}, {"_id": "b", "name": "salt"}])
    stages = [
        {"$match": {"$expr": {"$lt": ["$_id", "$$below"]}}},
        {"$lookup": {"from": "items", "localField": "item", "foreignField": "_id", "as": "of"}},
        {"$sort": {"_id": 1}},
        {"$project": {"names": "$of.name"}},
    ]
    found = orders.aggregate(stages, let={"below": 3}, allowDiskUse=True, comment="why").to_list()
    assert found == [{"_id": 0, "names": ["tea"]}, {"_id": 1, "names": ["salt"]}, {"_id": 2, "names": []}]


def test_out_and_merge_are_done_when_the_call_returns(orders):
    cursor = orders.aggregate([{"$match": {"item": "a"}}, {"$out": "of_a"}])
    assert cursor.to_list() == [] and not cursor.alive
    of_a = orders.database["of_a"]
    assert sorted(order["_id"] for order in of_a.find()) == [0, 3, 6, 9]
    orders.aggregate([{"$match": {"item": "b"}}, {"$merge": {"into": "of_a"}}])
    assert of_a.count_documents({}) == 8


def test_what_is_wrong_with_a_pipeline_is_said_at_the_call(orders):
    for stages, code in (([{"$nonsense": 1}], 40324), ([{"$match": {"a": {"$nonsense": 1}}}], 2), ([{"$out": "a"}, {"$limit": 1}], 40601)):
        with pytest.raises(errors.OperationFailure) as refused:
            orders.aggregate(stages)
        assert refused.value.code == code, stages
    for wrong in ({"$match": {}}, "x", 5):
        with pytest.raises(TypeError, match="list of stages"):
            orders.aggregate(wrong)
    with pytest.raises(TypeError, match="collation"):
        orders.aggregate([], collation={"locale": "de"})
    with pytest.raises(TypeError, match="let"):
        orders.aggregate([], let=[1])


def test_distinct_values_of_a_collection_and_of_a_cursor(orders):
    assert sorted(orders.distinct("item")) == ["a", "b", "c"]
    assert orders.distinct("price", {"_id": 7}) == [7]
    assert sorted(map(str, orders.distinct("tags"))) == ["0", "1", "x"]
    assert sorted(orders.find({"price": {"$gt": 9}}).distinct("item")) == ["b", "c"]
    assert orders.distinct("none") == []
    with pytest.raises(TypeError, match="key"):
        orders.distinct(5)


def test_counts_with_skip_and_limit(orders):
    assert orders.count_documents({"item": "a"}) == 4
    assert orders.count_documents({"item": "a"}, skip=1, limit=2) == 2
    assert orders.count_documents({"item": "a"}, skip=3, limit=2) == 1
    assert orders.count_documents({}, maxTimeMS=60_000, hint="_id_") == 12
    assert orders.estimated_document_count() == 12
    with pytest.raises(ValueError, match="negative"):
        orders.count_documents({}, skip=-1)
    with pytest.raises(TypeError, match="maxtime"):
        orders.count_documents({}, maxtime=1)


def test_a_cursor_takes_its_options_and_clones_keep_them(orders):
    cursor = orders.find({"item": "a"}).max_time_ms(60_000).hint([("item", 1)]).comment("why").sort("_id")
    assert [order["_id"] for order in cursor.clone()] == [0, 3, 6, 9]
    assert next(cursor)["_id"] == 0
    with pytest.raises(errors.InvalidOperation):
        cursor.max_time_ms(5)
    with pytest.raises(TypeError):
        orders.find().hint(5)
    with pytest.raises(ValueError, match="negative"):
        orders.find(max_time_ms=-1)
    assert len(orders.find(max_time_ms=60_000, hint="item_1").to_list()) == 12


def test_explain_tells_the_plan_and_what_it_took(orders):
    found = orders.find({"item": "a"}).sort("price", -1).limit(2).explain()
    assert found["queryPlanner"]["namespace"] == "shop.orders"
    assert found["executionStats"]["nReturned"] == 2
    assert orders.find({"_id": 3}).explain()["queryPlanner"]["winningPlan"]["stage"] == "IDHACK"


def test_a_query_that_takes_too_long_ends_by_name(orders):
    # A view of a position that never comes is the one wait whose length does not depend on the machine.
    ahead = orders.database.client.read_from("primary", min_position=(10**6, 0))
    with pytest.raises(errors.ExecutionTimeout) as refused:
        ahead["shop"]["orders"].find(max_time_ms=1).to_list()
    assert refused.value.code == 50


def test_a_collection_that_is_not_there_has_no_documents(engine_client):
    nothing = engine_client["none"]["c"]
    assert nothing.aggregate([]).to_list() == []
    assert nothing.distinct("a") == []
    assert nothing.estimated_document_count() == 0
    assert nothing.index_information() == {}
    nothing.drop_indexes()
    assert engine_client.list_database_names() == []


def test_the_documents_of_an_aggregation_are_asked_of_the_node_that_has_its_cursor():
    with FakeNode() as node, twinlog.connect(node.address) as client:
        things = client["shop"]["things"]
        things.insert_many([{"_id": number} for number in range(10)])
        cursor = things.aggregate([], batch_size=4)
        assert cursor.address == node.address
        assert [document["_id"] for document in cursor] == list(range(10))
        assert things.estimated_document_count() == 10


def test_a_scrub_says_what_it_read_and_that_all_is_sound(orders):
    report = orders.database.scrub()
    assert report["findings"] == report["damaged"] == [] and report["running"] is False
    assert report["passes"] >= 1 and report["files"] >= 1


def test_a_scrub_of_a_database_that_is_not_there_is_refused(engine_client):
    with pytest.raises(errors.OperationFailure):
        engine_client["nowhere"].scrub()
