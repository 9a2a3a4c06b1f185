"""What an application may rely on, on every transport: the same calls, the same answers, the same errors."""

from __future__ import annotations

import datetime
import uuid

import bson
import pytest

from twinlog import DeleteMany, DeleteOne, InsertOne, ReplaceOne, errors, verbs


@pytest.fixture
def things(client):
    return client["shop"]["things"]


def ids(documents):
    return [document["_id"] for document in documents]


def test_insert_one_adds_an_id_to_the_callers_document(things):
    document = {"name": "tea"}
    result = things.insert_one(document)
    assert isinstance(result.inserted_id, bson.ObjectId)
    assert document == {"name": "tea", "_id": result.inserted_id}
    stored = things.find_one(result.inserted_id)
    assert stored == document
    assert next(iter(stored)) == "_id"


def test_an_id_that_is_there_already_is_refused_by_name(things):
    things.insert_one({"_id": 1})
    with pytest.raises(errors.DuplicateKeyError) as caught:
        things.insert_one({"_id": 1.0})
    assert caught.value.code == 11000
    assert caught.value.details["name"] == "DuplicateKey"
    assert caught.value.details["keyValue"] == {"_id": 1}


def test_every_kind_of_value_comes_back_as_it_was_given(things):
    document = {
        "_id": "all",
        "null": None, "true": True, "int": -(2**63), "double": 1.5, "string": "grün\0", "bytes": b"\0\xff",
        "list": [1, [2], {"a": []}], "map": {"": 1, "b": {"c": None}},
        "date": datetime.datetime(2026, 2, 3, 4, 5, 6, 789000),
        "object_id": bson.ObjectId("0123456789abcdef01234567"), "uuid": uuid.UUID(int=7),
        "decimal": bson.Decimal128("1.10"), "timestamp": bson.Timestamp(5, 6), "regex": bson.Regex("a.*", "i"),
        "min": bson.MinKey(), "max": bson.MaxKey(), "binary": bson.Binary(b"x", 128),
    }  # fmt: skip
    things.insert_one(document)
    assert things.find_one({"_id": "all"}) == document


def test_a_document_that_cannot_be_stored_is_refused_before_it_is_sent(things):
    with pytest.raises(errors.InvalidDocument) as caught:
        things.insert_one({"_id": 1, "a": {"b": object()}})
    assert "a.b" in str(caught.value)
    assert things.count_documents({}) == 0


def test_a_document_over_the_limit_is_refused(things):
    with pytest.raises(errors.DocumentTooLarge):
        things.insert_one({"_id": 1, "a": b"x" * (16 * 2**20 + 1)})


def test_insert_many_takes_any_iterable_and_gives_ids_in_order(things):
    result = things.insert_many({"_id": number} for number in range(10))
    assert result.inserted_ids == list(range(10))
    assert things.count_documents({}) == 10


def test_insert_many_is_cut_by_count_and_all_of_it_arrives(things):
    count = verbs.CHUNK_WRITES_MAX * 2 + 1
    result = things.insert_many([{"_id": number} for number in range(count)], ordered=False)
    assert len(result.inserted_ids) == count
    assert things.estimated_document_count() == count


def test_a_document_in_a_batch_that_cannot_be_stored_is_named_with_what_went_before_it(things):
    count = verbs.CHUNK_WRITES_MAX + 2
    documents = [{"_id": number} for number in range(count - 1)] + [{"_id": "bad", "a": object()}]
    with pytest.raises(errors.InvalidDocument) as caught:
        things.insert_many(documents)
    assert caught.value.details["index"] == count - 1
    assert caught.value.details["nInserted"] == things.count_documents({}) == verbs.CHUNK_WRITES_MAX


def test_insert_many_refuses_what_is_no_list_of_documents(things):
    with pytest.raises(errors.InvalidOperation):
        things.insert_many([])
    with pytest.raises(TypeError):
        things.insert_many({"_id": 1})
    with pytest.raises(TypeError):
        things.insert_many([{"_id": 1}, "no document"])


@pytest.mark.parametrize(("ordered", "kept"), [(True, [1, 2]), (False, [1, 2, 3])])
def test_a_batch_with_a_bad_document_says_which_and_keeps_the_good_ones(things, ordered, kept):
    with pytest.raises(errors.BulkWriteError) as caught:
        things.insert_many([{"_id": 1}, {"_id": 2}, {"_id": 2}, {"_id": 3}], ordered=ordered)
    details = caught.value.details
    assert caught.value.code == 65
    assert details["nInserted"] == len(kept)
    assert [(error["index"], error["code"], error["op"]) for error in details["writeErrors"]] == [(2, 11000, {"_id": 2})]
    assert sorted(ids(things.find())) == kept


def test_an_ordered_batch_stops_at_the_chunk_that_failed(things):
    count = verbs.CHUNK_WRITES_MAX + 1
    things.insert_one({"_id": 0})
    with pytest.raises(errors.BulkWriteError) as caught:
        things.insert_many([{"_id": number} for number in range(count)])
    assert caught.value.details["nInserted"] == 0
    assert things.count_documents({}) == 1


def test_indexes_of_errors_count_over_all_chunks(things):
    count = verbs.CHUNK_WRITES_MAX + 10
    things.insert_one({"_id": count - 1})
    with pytest.raises(errors.BulkWriteError) as caught:
        things.insert_many([{"_id": number} for number in range(count)], ordered=False)
    assert [error["index"] for error in caught.value.details["writeErrors"]] == [count - 1]
    assert things.count_documents({}) == count


def test_find_one_by_id_by_filter_and_for_nothing(things):
    things.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 2}])
    assert things.find_one(2) == {"_id": 2, "a": 2}
    assert things.find_one({"_id": 2}) == {"_id": 2, "a": 2}
    assert things.find_one({"_id": {"$gt": 1}}) == {"_id": 2, "a": 2}
    assert things.find_one({"a": 1}, {"a": 1, "_id": 0}) == {"a": 1}
    assert things.find_one(sort=[("a", -1)])["_id"] == 2
    assert things.find_one({"a": 3}) is None
    assert things.find_one("no such id") is None


def test_a_cursor_gives_every_document_once_over_many_batches(things):
    things.insert_many([{"_id": number} for number in range(250)])
    cursor = things.find(batch_size=7)
    assert sorted(ids(cursor)) == list(range(250))
    assert cursor.retrieved == 250
    assert not cursor.alive


def test_sort_skip_limit_and_projection_chain(things):
    things.insert_many([{"_id": number, "n": -number, "x": 0} for number in range(10)])
    cursor = things.find({"_id": {"$gte": 2}}).sort("n", 1).skip(1).limit(3).projection({"x": 0})
    assert cursor.to_list() == [{"_id": 8, "n": -8}, {"_id": 7, "n": -7}, {"_id": 6, "n": -6}]
    assert ids(things.find(sort=[("x", 1), ("_id", -1)], limit=2)) == [9, 8]
    assert ids(things.find({}, ["n"], 8, sort="_id")) == [8, 9]


def test_a_cursor_that_has_begun_keeps_its_options_until_it_is_rewound(things):
    things.insert_many([{"_id": number} for number in range(5)])
    cursor = things.find().sort("_id").batch_size(2)
    assert next(cursor)["_id"] == 0
    with pytest.raises(errors.InvalidOperation):
        cursor.limit(1)
    cursor.rewind()
    assert ids(cursor.limit(2)) == [0, 1]
    assert ids(cursor.clone().limit(4)) == [0, 1, 2, 3]


def test_a_closed_cursor_ends(things):
    things.insert_many([{"_id": number} for number in range(50)])
    with things.find(batch_size=2) as cursor:
        next(cursor)
        assert cursor.alive
    assert not cursor.alive
    assert cursor.to_list() == []


def test_to_list_takes_only_so_many(things):
    things.insert_many([{"_id": number} for number in range(10)])
    cursor = things.find().sort("_id")
    assert ids(cursor.to_list(3)) == [0, 1, 2]
    assert ids(cursor.to_list()) == list(range(3, 10))


def test_wrong_options_are_refused_at_the_call(things):
    with pytest.raises(TypeError):
        things.find(1)
    with pytest.raises(TypeError):
        things.find(skip="1")
    with pytest.raises(ValueError, match="negative"):
        things.find(skip=-1)
    with pytest.raises(ValueError, match="direction"):
        things.find().sort("a", 2)


def test_a_query_the_node_does_not_know_is_refused_with_its_name(things):
    things.insert_one({"_id": 1})
    with pytest.raises(errors.OperationFailure) as caught:
        things.find({"a": {"$nonsense": 1}}).to_list()
    assert caught.value.details["name"] == "BadQuery"
    assert "$nonsense" in str(caught.value)


def test_replace_one_replaces_misses_and_upserts(things):
    things.insert_one({"_id": 1, "a": 1})
    result = things.replace_one({"a": 1}, {"b": 2})
    assert (result.matched_count, result.modified_count, result.upserted_id) == (1, 1, None)
    assert things.find_one(1) == {"_id": 1, "b": 2}
    assert things.replace_one({"_id": 2}, {"c": 3}).matched_count == 0
    result = things.replace_one({"_id": 2}, {"c": 3}, upsert=True)
    assert (result.matched_count, result.upserted_id, result.did_upsert) == (0, 2, True)
    with pytest.raises(ValueError, match="operators"):
        things.replace_one({}, {"$set": {"a": 1}})


def test_delete_one_and_many(things):
    things.insert_many([{"_id": number, "even": number % 2 == 0} for number in range(10)])
    assert things.delete_one({"even": True}).deleted_count == 1
    assert things.delete_many({"even": True}).deleted_count == 4
    assert things.delete_many({"even": True}).deleted_count == 0
    assert things.count_documents({}) == 5


def test_bulk_write_mixes_writes_and_adds_up(things):
    things.insert_many([{"_id": number} for number in range(5)])
    result = things.bulk_write(
        [InsertOne({"_id": "new"}), ReplaceOne({"_id": 0}, {"a": 1}), ReplaceOne({"_id": "up"}, {"b": 1}, upsert=True),
         DeleteOne({"_id": 1}), DeleteMany({"_id": {"$gte": 3}})]
    )  # fmt: skip
    assert (result.inserted_count, result.matched_count, result.modified_count) == (1, 1, 1)
    assert (result.deleted_count, result.upserted_count, result.upserted_ids) == (3, 1, {2: "up"})
    assert things.count_documents({}) == 4


@pytest.mark.parametrize(("ordered", "inserted"), [(True, 1), (False, 2)])
def test_bulk_write_says_what_failed(things, ordered, inserted):
    with pytest.raises(errors.BulkWriteError) as caught:
        things.bulk_write([InsertOne({"_id": 1}), InsertOne({"_id": 1}), InsertOne({"_id": 2})], ordered=ordered)
    assert caught.value.details["nInserted"] == inserted
    assert [error["index"] for error in caught.value.details["writeErrors"]] == [1]


def test_bulk_write_refuses_what_is_no_write(things):
    with pytest.raises(errors.InvalidOperation):
        things.bulk_write([])
    with pytest.raises(TypeError):
        things.bulk_write([{"insert": 1}])


def test_collections_and_databases_are_listed_and_dropped(client):
    client["a"]["one"].insert_one({})
    client["a"]["two"].insert_one({})
    client.b.three.four.insert_one({})
    assert client["a"].list_collection_names() == ["one", "two"]
    assert client["b"].list_collection_names() == ["three.four"]
    assert client.list_database_names() == ["a", "b"]
    client["a"].drop_collection("one")
    assert client["a"].list_collection_names() == ["two"]
    client["a"]["two"].drop()
    assert client["a"].list_collection_names() == []
    client.drop_database("b")
    assert client.list_database_names() == ["a"]


def test_what_this_release_lacks_names_what_to_use(things):
    with pytest.raises(errors.OperationFailure, match="use instead"):
        things.database.aggregate([{"$currentOp": {}}])
    with pytest.raises(TypeError, match="no method 'map_reduce'"):
        things.map_reduce("a")


def test_positions_grow_with_writes_and_sessions_read_at_them(client):
    first = client["shop"]["things"].insert_one({"_id": 1}).position
    assert client.last_position("shop") == first
    session = client.session()
    second = session["shop"]["things"].insert_one({"_id": 2}).position
    assert second > first
    assert session.last_position("shop") == second
    assert session["shop"]["things"].count_documents({}) == 2
    behind = client.read_from("primary", min_position=(second[0] + 1, 0))
    with pytest.raises(errors.ExecutionTimeout) as caught:
        behind["shop"]["things"].find_one(1)
    assert caught.value.details["name"] == "PositionTimeout"


def test_compaction_says_what_it_saved_and_changes_nothing(client):
    things = client["shop"]["things"]
    for value in range(3):
        things.delete_many({})
        things.insert_many([{"_id": number, "value": value} for number in range(20)])
    report = client["shop"].compact()
    assert report.keys() == {"before", "after", "seconds", "shards", "findings"}
    assert report["before"] >= report["after"] and report["findings"] == []
    assert things.count_documents({"value": 2}) == 20


def test_ping_and_status_answer(client):
    assert client.ping() == {}
    assert "role" in client.status()
