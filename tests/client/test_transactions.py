"""Transactions with PyMongo's names over every face of a real engine: snapshots, own writes, conflicts, all or nothing."""

from __future__ import annotations

import threading

import pytest
import trio

import twinlog
from twinlog import errors

from .conftest import connected_async

PEOPLE = [{"_id": number, "name": f"p{number}", "age": 20 + number, "team": "ab"[number % 2]} for number in range(6)]


@pytest.fixture
def db(engine_client):
    made = engine_client["shop"]
    made["people"].insert_many([dict(person) for person in PEOPLE])
    return made


def ages(collection):
    return {person["_id"]: person["age"] for person in collection.find({})}


def test_all_that_was_written_is_there_after_the_block_and_nothing_before(db):
    with db.transaction() as tx:
        people = tx["people"]
        people.insert_one({"_id": 10, "age": 1})
        people.insert_many([{"_id": 11, "age": 2}, {"_id": 12, "age": 3}])
        people.update_many({"team": "a"}, {"$inc": {"age": 100}})
        people.replace_one({"_id": 1}, {"age": 7})
        assert people.find_one_and_update({"_id": 10}, {"$inc": {"age": 1}}, return_document=True)["age"] == 2
        assert people.find_one_and_delete({"_id": 3})["age"] == 23
        assert people.delete_many({"_id": 5}).deleted_count == 1
        people.bulk_write([twinlog.UpdateOne({"_id": 11}, {"$set": {"age": 50}}), twinlog.InsertOne({"_id": 13, "age": 4})])
        tx["new"].insert_one({"_id": 1})
        inside = ages(people)
        assert inside == {0: 120, 1: 7, 2: 122, 4: 124, 10: 2, 11: 50, 12: 3, 13: 4}
        assert ages(db["people"]) == {person["_id"]: person["age"] for person in PEOPLE}
        assert db["new"].count_documents({}) == 0
        assert tx["new"].count_documents({}) == 1
    assert ages(db["people"]) == inside
    assert db["new"].find_one(1) == {"_id": 1}
    assert tx.position == db.last_position()


def test_what_is_read_is_one_moment(db):
    with db.transaction() as tx:
        assert tx["people"].find_one(1)["age"] == 21
        db["people"].update_many({}, {"$set": {"age": 0}})
        db["people"].insert_one({"_id": 99, "age": 0})
        db["people"].delete_one({"_id": 2})
        assert ages(tx["people"]) == {person["_id"]: person["age"] for person in PEOPLE}
        assert tx["people"].count_documents({"age": {"$gt": 0}}) == 6
        assert tx["people"].estimated_document_count() == 6
        assert sorted(tx["people"].distinct("team")) == ["a", "b"]
        stages = [{"$group": {"_id": "$team", "age": {"$sum": "$age"}}}, {"$sort": {"_id": 1}}]
        assert tx["people"].aggregate(stages).to_list() == [{"_id": "a", "age": 66}, {"_id": "b", "age": 69}]
        assert tx["people"].find_one({"age": 25})["_id"] == 5
    assert ages(db["people"])[99] == 0


def test_an_exception_and_abort_leave_nothing(db):
    before = ages(db["people"])
    with pytest.raises(KeyError):
        with db.transaction() as tx:
            tx["people"].delete_many({})
            raise KeyError
    with db.transaction() as tx:
        tx["people"].insert_one({"_id": 50})
        tx.abort()
        with pytest.raises(errors.InvalidOperation, match="aborted"):
            tx["people"].find_one(50)
    assert ages(db["people"]) == before


def test_the_first_committer_wins_and_the_other_is_told_which_document(db):
    with pytest.raises(errors.WriteConflict, match="people") as raised:
        with db.transaction() as tx:
            tx["people"].update_one({"_id": 1}, {"$inc": {"age": 1}})
            db["people"].update_one({"_id": 1}, {"$inc": {"age": 10}})
    assert raised.value.details["keyValue"] == {"_id": 1} and raised.value.details["fields"]["collection"] == "shop.people"
    assert raised.value.code == 112 and raised.value.has_error_label("TransientTransactionError")
    assert db["people"].find_one(1)["age"] == 31
    with db.transaction() as tx:
        tx["people"].update_one({"_id": 2}, {"$inc": {"age": 1}})
        db["people"].update_one({"_id": 1}, {"$inc": {"age": 10}})
    assert (db["people"].find_one(1)["age"], db["people"].find_one(2)["age"]) == (41, 23)


def test_a_duplicate_inside_is_told_and_the_transaction_goes_on(db):
    with db.transaction() as tx:
        with pytest.raises(errors.DuplicateKeyError):
            tx["people"].insert_one({"_id": 1})
        with pytest.raises(errors.BulkWriteError) as raised:
            tx["people"].insert_many([{"_id": 30}, {"_id": 30}, {"_id": 31}], ordered=False)
        assert raised.value.details["nInserted"] == 2
        tx["people"].update_one({"_id": 1}, {"$set": {"age": 1}})
    assert db["people"].find_one(1)["age"] == 1
    assert db["people"].count_documents({"_id": {"$in": [30, 31]}}) == 2


def test_a_unique_index_holds_inside_and_between(db):
    db["people"].create_index("name", unique=True)
    with db.transaction() as tx:
        with pytest.raises(errors.DuplicateKeyError):
            tx["people"].insert_one({"_id": 20, "name": "p1"})
        tx["people"].update_one({"_id": 1}, {"$set": {"name": "other"}})
        tx["people"].insert_one({"_id": 20, "name": "p1"})
    assert db["people"].find_one({"name": "p1"})["_id"] == 20
    with pytest.raises((errors.WriteConflict, errors.DuplicateKeyError)):
        with db.transaction() as tx:
            tx["people"].insert_one({"_id": 21, "name": "wanted"})
            db["people"].insert_one({"_id": 22, "name": "wanted"})
    assert [person["_id"] for person in db["people"].find({"name": "wanted"})] == [22]


def test_cursors_stay_at_their_moment_and_end_with_the_transaction(db):
    db["many"].insert_many([{"_id": number} for number in range(500)])
    with db.transaction() as tx:
        cursor = tx["many"].find({}).sort("_id", 1).batch_size(100)
        assert next(cursor)["_id"] == 0
        db["many"].delete_many({})
        assert [document["_id"] for document in cursor] == list(range(1, 500))
        left = tx["many"].find({}).batch_size(100)
        next(left)
    with pytest.raises(errors.InvalidOperation):
        left.to_list()


def test_out_and_merge_are_refused_inside(db):
    with db.transaction() as tx:
        for stage in ({"$out": "copy"}, {"$merge": {"into": "copy"}}):
            with pytest.raises(errors.OperationFailure) as refused:
                tx["people"].aggregate([stage])
            assert refused.value.code == 263
        tx["people"].delete_one({"_id": 0})
    assert db["copy"].count_documents({}) == 0
    assert db["people"].count_documents({}) == 5


def test_a_transaction_may_begin_in_a_database_that_is_not_there_yet(engine_client):
    db = engine_client["fresh"]
    with db.transaction() as tx:
        tx["things"].insert_one({"_id": 1})
        tx["things"].update_one({"_id": 1}, {"$set": {"a": 1}}, upsert=True)
        tx["things"].update_one({"_id": 2}, {"$set": {"a": 2}}, upsert=True)
    assert db["things"].find({}).sort("_id", 1).to_list() == [{"_id": 1, "a": 1}, {"_id": 2, "a": 2}]


def test_too_much_for_one_commit_is_refused_at_the_write(db):
    with db.transaction() as tx:
        with pytest.raises(errors.TransactionTooLarge):
            tx["many"].insert_many({"_id": number} for number in range(6_000))
        tx.abort()
    assert db["many"].count_documents({}) == 0


def test_its_time_is_limited(db):
    with pytest.raises(errors.NoSuchTransaction) as raised:
        with db.transaction(max_time_ms=1) as tx:
            while True:  # until the engine's own task has ended it
                tx["people"].find_one(1)
    assert raised.value.has_error_label("TransientTransactionError")


def test_a_session_sees_what_its_transaction_committed(engine_client):
    session = engine_client.session()
    db = session["shop"]
    db["people"].insert_one({"_id": 1})
    with db.transaction() as tx:
        assert tx["people"].find_one(1) == {"_id": 1}
        tx["people"].insert_one({"_id": 2})
    assert db["people"].find_one(2) == {"_id": 2}


@pytest.mark.parametrize("place", ["embedded", "node"])
def test_a_bank_keeps_its_total_whatever_its_threads_do(place, request):
    accounts, threads, transfers = 5, 8, 15
    url = request.getfixturevalue("node_url") if place == "node" else None
    with twinlog.connect(url) if url else twinlog.open(":memory:") as client:
        client.drop_database("bank")
        bank = client["bank"]
        bank["accounts"].insert_many([{"_id": number, "balance": 100} for number in range(accounts)])
        totals, failures = [], []

        def work(me):
            def transfer(tx):
                source, target = me % accounts, (me * 3 + 1) % accounts
                if source == target:
                    target = (target + 1) % accounts
                amount = tx["accounts"].find_one(source)["balance"] // 4
                tx["accounts"].update_one({"_id": source}, {"$inc": {"balance": -amount}})
                tx["accounts"].update_one({"_id": target}, {"$inc": {"balance": amount}})
                tx["journal"].insert_one({"from": source, "to": target, "amount": amount})

            try:
                for _ in range(transfers):
                    bank.run_transaction(transfer)
                    with bank.transaction() as tx:
                        totals.append(sum(account["balance"] for account in tx["accounts"].find({})))
            except BaseException as error:
                failures.append(error)

        running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert failures == []
        assert set(totals) == {100 * accounts}
        assert bank["journal"].count_documents({}) == threads * transfers
        ledger = dict.fromkeys(range(accounts), 100)
        for entry in bank["journal"].find({}):
            ledger[entry["from"]] -= entry["amount"]
            ledger[entry["to"]] += entry["amount"]
        assert {account["_id"]: account["balance"] for account in bank["accounts"].find({})} == ledger


@pytest.mark.parametrize("place", ["embedded", "node"])
async def test_tasks_that_count_up_together_lose_no_update(place, request):
    url = request.getfixturevalue("node_url") if place == "node" else None
    async with connected_async(url) if url else twinlog.open_async(":memory:") as client:
        await client.drop_database("bank")
        bank = client["bank"]
        await bank["counters"].insert_one({"_id": 1, "n": 0})

        async def count_up(tx):
            n = (await tx["counters"].find_one(1))["n"] + 1
            await tx["counters"].replace_one({"_id": 1}, {"n": n})
            return n

        counted = []

        async def work():
            for _ in range(5):
                counted.append(await bank.run_transaction(count_up))

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(work)
        assert sorted(counted) == list(range(1, 31))
        assert (await bank["counters"].find_one(1))["n"] == 30
