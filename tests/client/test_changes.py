"""Updates, find-and-modify and declared indexes with PyMongo's names, results and errors, over every face of a real engine."""

from __future__ import annotations

import pytest

import twinlog
from twinlog import (
    DESCENDING,
    DeleteOne,
    IndexModel,
    InsertOne,
    ReplaceOne,
    ReturnDocument,
    UpdateMany,
    UpdateOne,
    errors,
)

from .fake_server import FakeNode, Fault


@pytest.fixture
def things(engine_client):
    return engine_client["shop"]["things"]


def test_update_one_changes_the_first_that_matches_of_the_sort(things):
    things.insert_many([{"_id": number, "n": number} for number in range(5)])
    result = things.update_one({"n": {"$gt": 1}}, {"$inc": {"n": 10}, "$set": {"new": True}}, sort={"_id": -1})
    assert (result.matched_count, result.modified_count, result.upserted_id) == (1, 1, None)
    assert things.find_one(4) == {"_id": 4, "n": 14, "new": True}
    result = things.update_one({"_id": 4}, {"$set": {"new": True}})
    assert (result.matched_count, result.modified_count) == (1, 0)
    assert things.update_one({"_id": 99}, {"$set": {"a": 1}}).matched_count == 0
    assert result.position <= things.database.client.last_position("shop")


def test_update_many_changes_all_and_upserts_none_or_one(things):
    things.insert_many([{"_id": number, "odd": number % 2} for number in range(1200)])
    result = things.update_many({"odd": 1}, [{"$set": {"twice": {"$multiply": ["$_id", 2]}}}])
    assert (result.matched_count, result.modified_count) == (600, 600)
    assert things.find_one(7)["twice"] == 14
    result = things.update_many({"kind": "new"}, {"$set": {"a": 1}}, upsert=True)
    assert result.matched_count == 0 and result.did_upsert
    assert things.find_one(result.upserted_id) == {"_id": result.upserted_id, "kind": "new", "a": 1}
    assert result.raw_result["upserted"] == result.upserted_id


def test_array_filters_reach_the_elements_they_name(things):
    things.insert_one({"_id": 1, "grades": [80, 95, 100]})
    things.update_one({"_id": 1}, {"$set": {"grades.$[best]": "A"}}, array_filters=[{"best": {"$gte": 95}}])
    assert things.find_one(1)["grades"] == [80, "A", "A"]


def test_find_one_and_update_returns_the_document_before_or_after(things):
    things.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 1}])
    before = things.find_one_and_update({"n": 1}, {"$inc": {"n": 1}}, sort=[("_id", DESCENDING)])
    assert before == {"_id": 2, "n": 1}
    after = things.find_one_and_update(
        {"_id": 2}, {"$inc": {"n": 1}}, {"n": 1, "_id": 0}, return_document=ReturnDocument.AFTER
    )
    assert after == {"n": 3}
    assert things.find_one_and_update({"_id": 3}, {"$set": {"n": 1}}) is None
    assert things.find_one_and_update({"_id": 3}, {"$set": {"n": 1}}, upsert=True) is None
    made = things.find_one_and_update({"_id": 4}, {"$set": {"n": 1}}, upsert=True, return_document=True)
    assert made == {"_id": 4, "n": 1}


def test_find_one_and_replace_and_delete(things):
    things.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 2}])
    assert things.find_one_and_replace({"n": 1}, {"new": True}) == {"_id": 1, "n": 1}
    assert things.find_one_and_replace({"n": 2}, {"x": 1}, return_document=True) == {"_id": 2, "x": 1}
    assert things.find_one_and_delete({}, {"_id": 1}, [("_id", -1)]) == {"_id": 2}
    assert things.find_one_and_delete({"_id": 2}) is None
    assert things.find().to_list() == [{"_id": 1, "new": True}]


def test_replace_one_takes_the_first_of_a_sort(things):
    things.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 2}])
    assert things.replace_one({}, {"put": True}, sort={"n": -1}).modified_count == 1
    assert things.find_one(2) == {"_id": 2, "put": True}


def test_bulk_write_mixes_updates_with_the_rest(things):
    result = things.bulk_write(
        [
            InsertOne({"_id": 1, "a": [1, 5]}),
            InsertOne({"_id": 2, "a": [7]}),
            UpdateOne({"_id": 1}, {"$set": {"a.$[big]": 0}}, array_filters=[{"big": {"$gt": 4}}]),
            UpdateMany({}, {"$set": {"seen": True}}),
            UpdateOne({"_id": "made"}, {"$set": {"b": 1}}, upsert=True),
            UpdateOne({"seen": True}, [{"$set": {"last": True}}], sort={"_id": -1}),
            ReplaceOne({"_id": 3}, {"c": 1}, upsert=True),
            DeleteOne({"_id": 3}),
        ]
    )
    assert (result.inserted_count, result.matched_count, result.modified_count) == (2, 4, 4)
    assert (result.upserted_count, result.upserted_ids, result.deleted_count) == (2, {4: "made", 6: 3}, 1)
    assert things.find_one(1) == {"_id": 1, "a": [1, 0], "seen": True}
    assert things.find_one(2) == {"_id": 2, "a": [7], "seen": True, "last": True}


def test_an_update_that_cannot_be_says_mongodbs_code(things):
    things.insert_one({"_id": 1, "text": "x"})
    for change, code in (
        ({"$inc": {"text": 1}}, 14),
        ({"$set": {"_id": 2}}, 66),
        ({"$set": {"a": 1, "a.b": 2}}, 40),
        ({"$nonsense": {"a": 1}}, 9),
    ):
        with pytest.raises(errors.WriteError) as refused:
            things.update_one({"_id": 1}, change)
        assert refused.value.code == code, change
        with pytest.raises(errors.OperationFailure) as refused:
            things.find_one_and_update({"_id": 1}, change)
        assert refused.value.code == code, change
    with pytest.raises(errors.WriteError):
        things.delete_many({"a": {"$nonsense": 1}})
    assert things.find_one(1) == {"_id": 1, "text": "x"}


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda things: things.update_one({}, {}), ValueError, "empty"),
        (lambda things: things.update_one({}, []), ValueError, "empty"),
        (lambda things: things.update_one({}, {"a": 1}), ValueError, "replace_one"),
        (lambda things: things.update_many({}, "x"), TypeError, "str"),
        (lambda things: things.update_many({}, {"$set": {"a": 1}}, upsert="yes"), TypeError, "upsert"),
        (lambda things: things.update_one({}, {"$set": {"a": 1}}, array_filters={"x": 1}), TypeError, "array_filters"),
        (lambda things: things.update_one({}, {"$set": {"a": 1}}, collation={"locale": "de"}), TypeError, "collation"),
        (lambda things: things.update_one({}, {"$set": {"a": 1}}, hint=5), TypeError, "hint"),
        (lambda things: things.find_one_and_replace({}, {"$set": {"a": 1}}), ValueError, "without operators"),
        (lambda things: things.find_one_and_update({}, {"$set": {"a": 1}}, return_document=2), TypeError, "return_document"),
        (lambda things: things.bulk_write([UpdateOne({}, {"a": 1})]), ValueError, "replace_one"),
        (lambda things: things.create_index([]), ValueError, "at least one"),
        (lambda things: things.create_index(5), TypeError, "int"),
        (lambda things: things.create_indexes(["a"]), TypeError, "IndexModel"),
        (lambda things: things.create_indexes([]), ValueError, "at least one"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(call, kind, match):
    with twinlog.open(":memory:") as client:
        with pytest.raises(kind, match=match):
            call(client["shop"]["things"])
        assert client.list_database_names() == []


def test_hints_and_comments_are_taken_and_change_nothing(things):
    things.insert_one({"_id": 1})
    assert things.update_one({"_id": 1}, {"$set": {"a": 1}}, hint="_id_", comment="why").modified_count == 1
    assert things.find_one({"a": 1}, hint=[("a", 1)], comment="why") == {"_id": 1, "a": 1}
    assert things.delete_many({}, hint={"a": 1}, comment="why").deleted_count == 1


# Declared indexes.


def test_a_unique_index_refuses_a_second_one_by_its_keys(things):
    assert things.create_index([("email", 1), ("shop", -1)], unique=True) == "email_1_shop_-1"
    things.insert_one({"_id": 1, "email": "a@b", "shop": 1})
    things.insert_one({"_id": 2, "email": "a@b", "shop": 2})

    def same(error: errors.TwinlogError) -> None:
        assert isinstance(error, errors.DuplicateKeyError) and error.code == 11000
        assert error.details["keyPattern"] == {"email": 1, "shop": -1}
        assert error.details["keyValue"] == {"email": "a@b", "shop": 1}
        assert "email_1_shop_-1" in str(error)

    for write in (
        lambda: things.insert_one({"email": "a@b", "shop": 1}),
        lambda: things.update_one({"_id": 2}, {"$set": {"shop": 1}}),
        lambda: things.replace_one({"_id": 2}, {"email": "a@b", "shop": 1}),
        lambda: things.find_one_and_update({"_id": 2}, {"$set": {"shop": 1}}),
    ):
        with pytest.raises(errors.DuplicateKeyError) as refused:
            write()
        same(refused.value)
    with pytest.raises(errors.BulkWriteError) as refused:
        things.bulk_write([UpdateOne({"_id": 2}, {"$set": {"shop": 1}})])
    [row] = refused.value.details["writeErrors"]
    assert (row["index"], row["code"]) == (0, 11000)
    assert (row["keyPattern"], row["keyValue"]) == ({"email": 1, "shop": -1}, {"email": "a@b", "shop": 1})
    assert things.count_documents({}) == 2


def test_a_duplicate_id_has_its_key_pattern_too(things):
    things.insert_one({"_id": 1})
    with pytest.raises(errors.DuplicateKeyError) as refused:
        things.insert_one({"_id": 1})
    assert (refused.value.details["keyPattern"], refused.value.details["keyValue"]) == ({"_id": 1}, {"_id": 1})


def test_indexes_are_listed_described_and_dropped(things):
    assert things.list_indexes().to_list() == []
    names = things.create_indexes(
        [IndexModel("a"), IndexModel([("b", -1)], name="by b", sparse=True), IndexModel("seen", expireAfterSeconds=60)]
    )
    assert names == ["a_1", "by b", "seen_1"]
    assert things.create_index("a") == "a_1"
    assert [index["name"] for index in things.list_indexes()] == ["_id_", "a_1", "by b", "seen_1"]
    described = things.index_information()
    assert described["_id_"] == {"v": 2, "key": [("_id", 1)]}
    assert described["by b"] == {"v": 2, "key": [("b", -1)], "sparse": True}
    assert described["seen_1"]["expireAfterSeconds"] == 60
    things.drop_index([("a", 1)])
    with pytest.raises(errors.OperationFailure) as refused:
        things.drop_index("a_1")
    assert refused.value.code == 27
    things.drop_indexes()
    assert list(things.index_information()) == ["_id_"]


def test_an_index_that_cannot_be_is_refused_by_name(things):
    things.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 1}])
    with pytest.raises(errors.DuplicateKeyError) as refused:
        things.create_index("a", unique=True)
    assert refused.value.details["keyValue"] == {"a": 1}
    assert list(things.index_information()) == ["_id_"]
    things.create_index("a", name="first")
    with pytest.raises(errors.OperationFailure) as refused:
        things.create_index("a", name="second")
    assert refused.value.code == 85
    with pytest.raises(errors.OperationFailure, match="2dsphere"):
        things.create_index([("place", "2dsphere")])


# Lost connections.


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
def test_an_update_whose_connection_was_lost_is_sent_again_and_applied_once(fault):
    with FakeNode() as node, twinlog.connect(node.address) as client:
        things = client["shop"]["things"]
        things.insert_one({"_id": 1, "n": 0})
        node.faults.append(fault)
        assert things.update_one({"_id": 1}, {"$inc": {"n": 1}}).modified_count == 1
        node.faults.append(fault)
        assert things.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}}, return_document=True) == {"_id": 1, "n": 2}
        assert things.find_one(1)["n"] == 2


def test_a_pipeline_that_writes_is_not_sent_again_when_its_outcome_is_unknown():
    with FakeNode() as node, twinlog.connect(node.address) as client:
        things = client["shop"]["things"]
        things.insert_one({"_id": 1})
        node.faults.append(Fault.CUT_AFTER)
        assert things.aggregate([{"$match": {}}]).to_list() == [{"_id": 1}]
        node.faults.append(Fault.CUT_AFTER)
        with pytest.raises(errors.AutoReconnect, match="unknown"):
            things.aggregate([{"$match": {}}, {"$out": "other"}])
