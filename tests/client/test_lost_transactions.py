"""Transactions whose connections, answers or nodes are lost: what is run again, what is asked again, and what is raised."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import twinlog
from node import wire
from storage import errors as engine_errors
from twinlog import errors

from .fake_server import FakeNode, Fault, Store

CONFLICT = engine_errors.WriteConflict("shop.things: 1 was changed")


@pytest.fixture
def node():
    with FakeNode() as made:
        yield made


@pytest.fixture
def db(node):
    with twinlog.connect(node.address, pool=1) as client:
        client["shop"]["things"].insert_one({"_id": 1, "n": 0})
        yield client["shop"]


def add_one(tx):
    tx["things"].update_one({"_id": 1}, {"$inc": {"n": 1}})
    return tx["things"].find_one(1)["n"]


def test_what_is_written_inside_is_seen_inside_and_after_the_commit(node, db):
    with db.transaction() as tx:
        assert add_one(tx) == 1
        assert db["things"].find_one(1)["n"] == 0
        assert repr(tx) == "Transaction('shop', open)"
    assert db["things"].find_one(1)["n"] == 1
    assert node.connections == 1, "a transaction pins no connection"
    assert node.transactions == {}


def test_an_exception_aborts(node, db):
    with pytest.raises(KeyError):
        with db.transaction() as tx:
            add_one(tx)
            raise KeyError("mine")
    assert db["things"].find_one(1)["n"] == 0
    assert len(node.seen(wire.Abort)) == 1 and node.transactions == {}


def test_a_conflict_is_raised_and_run_again_by_run_transaction(node, db):
    node.faults.extend([None, None, None, CONFLICT])
    with pytest.raises(errors.WriteConflict) as raised:
        with db.transaction() as tx:
            add_one(tx)
    assert raised.value.has_error_label("TransientTransactionError") and raised.value.code == 112
    node.faults.clear()
    node.faults.extend([None, None, None, CONFLICT, None] * 3)
    assert db.run_transaction(add_one) == 1
    assert db["things"].find_one(1)["n"] == 1


def test_attempts_are_bounded(node, db):
    calls = []

    def conflict(tx):
        calls.append(tx)
        raise_conflict()

    def raise_conflict():
        error = errors.WriteConflict("again", 112, {"name": "WriteConflict"})
        error.add_error_label(errors.TRANSIENT)
        raise error

    with pytest.raises(errors.WriteConflict):
        db.run_transaction(conflict, attempts=4)
    assert len(calls) == 4
    with pytest.raises(errors.WriteConflict):
        db.run_transaction(conflict, max_time_ms=0)
    assert len(calls) == 5
    with pytest.raises(ValueError, match="attempts"):
        db.run_transaction(conflict, attempts=0)


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
def test_a_connection_lost_inside_is_the_end_of_the_transaction(node, db, fault):
    node.faults.extend([None, fault])
    with pytest.raises(errors.InvalidOperation, match="run it again") as raised:
        with db.transaction() as tx:
            with pytest.raises(errors.AutoReconnect) as lost:
                add_one(tx)
            tx["things"].find_one(1)  # the error may be caught, the transaction is over all the same
    assert lost.value.has_error_label("TransientTransactionError")
    assert raised.value.has_error_label("TransientTransactionError")
    assert db["things"].find_one(1)["n"] == 0


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_run_transaction_applies_once_whatever_is_lost(node, db, fault, at):
    """At 0 the begin, at 1 and 2 a request inside, at 3 the commit."""
    node.faults.extend([None] * at + [fault])
    assert db.run_transaction(add_one) == 1
    assert db["things"].find_one(1)["n"] == 1
    commits = node.seen(wire.Commit)
    assert len({commit.request for commit in commits}) == 1, "the commit is asked again under its own id"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([None, None, None, Fault.CUT_BEFORE, Fault.CUT_AFTER, CONFLICT]), max_size=25))
def test_run_transaction_applies_once_whatever_is_lost_how_often(faults):
    with FakeNode() as node, twinlog.connect(node.address, pool=1) as client:
        client["shop"]["things"].insert_one({"_id": 1, "n": 0})
        node.faults.extend(faults)
        assert [client["shop"].run_transaction(add_one) for _ in range(3)] == [1, 2, 3]
        node.faults.clear()
        assert client["shop"]["things"].find_one(1)["n"] == 3


def test_a_commit_of_unknown_outcome_can_be_asked_again(node, db):
    short = db.with_options(timeout_s=0.2)
    node.faults.extend([None, None, None, Fault.NO_ANSWER])
    tx = short.transaction()
    with pytest.raises(errors.NetworkTimeout) as raised:
        with tx:
            add_one(tx)
    assert raised.value.has_error_label("UnknownTransactionCommitResult")
    with pytest.raises(errors.InvalidOperation, match="commit"):
        tx["things"].find_one(1)
    with pytest.raises(errors.InvalidOperation, match="commit"):
        tx.abort()
    tx.commit()
    tx.commit()
    assert db["things"].find_one(1)["n"] == 1
    assert len(node.seen(wire.Commit)) == 2
    node.faults.extend([None, None, None, Fault.NO_ANSWER])
    assert short.run_transaction(add_one) == 2


def test_a_commit_that_standbys_did_not_confirm_is_kept_and_not_run_again(node, db):
    late = engine_errors.AckTimeout("too few standbys confirmed it", epoch=1, seq=9)
    node.faults.extend([None, None, None, late])
    with pytest.raises(errors.WTimeoutError) as raised:
        db.run_transaction(add_one)
    assert not raised.value.has_error_label("TransientTransactionError")
    assert len(node.seen(wire.Begin)) == 1 and db.last_position() >= (1, 9)
    tx = db.transaction()
    node.faults.extend([None, None, None, late])
    with pytest.raises(errors.WTimeoutError), tx:
        add_one(tx)
    assert tx.position == (1, 9) and "committed" in repr(tx)
    assert node.seen(wire.Abort) == []


def test_an_abort_that_is_refused_or_lost_is_not_waited_for(node, db):
    for fault in (engine_errors.ShuttingDown("stopping"), Fault.CUT_BEFORE):
        node.faults.extend([None, fault])
        with db.transaction() as tx:
            tx.abort()
    assert len(node.seen(wire.Abort)) == 2, "once each"


def test_a_failover_in_the_middle_is_run_again_at_the_new_primary():
    store = Store()
    with FakeNode(store=store) as first, FakeNode(store=store, role="standby", primary=first.address) as second:
        with twinlog.connect(f"{first.address},{second.address}", pool=1) as client:
            db = client["shop"]
            db["things"].insert_one({"_id": 1, "n": 0})
            calls = []

            def fail_over(tx):
                found = add_one(tx)
                if not calls:
                    first.role, second.role, first.primary = "standby", "primary", second.address
                calls.append(found)
                return found

            assert db.run_transaction(fail_over) == 1
            assert len(calls) == 2
            assert db["things"].find_one(1)["n"] == 1
            assert len(second.seen(wire.Begin)) == 1

            def fail_back(tx):
                if len(calls) == 2:
                    first.role, second.role, second.primary = "primary", "standby", first.address
                calls.append(0)
                return add_one(tx)

            assert db.run_transaction(fail_back) == 2
            assert client.primary == first.address


def test_writing_in_a_transaction_of_a_standby_is_refused_at_once():
    store = Store()
    with FakeNode(store=store) as first, FakeNode(store=store, role="standby", primary=first.address) as second:
        with twinlog.connect(f"{first.address},{second.address}") as client:
            client["shop"]["things"].insert_one({"_id": 1, "n": 0})
            db = client.read_from("standby")["shop"]
            with db.transaction() as tx:
                assert tx["things"].find_one(1) == {"_id": 1, "n": 0}
            assert len(second.seen(wire.Begin)) == 1
            with pytest.raises(errors.NotPrimaryError):
                db.run_transaction(add_one)
            assert len(second.seen(wire.Begin)) == 2
            with client.read_from("any")["shop"].transaction() as tx:
                assert add_one(tx) == 1


def test_a_transaction_that_wrote_nothing_cannot_fail_at_its_end(node, db):
    node.faults.extend([None, None, Fault.CUT_BEFORE])
    with db.transaction() as tx:
        assert tx["things"].find_one(1) == {"_id": 1, "n": 0}
    assert db["things"].count_documents({}) == 1


def test_batches_go_one_at_a_time_and_cursors_stay_inside(node, db):
    with db.transaction() as tx:
        tx["things"].insert_many(({"_id": n} for n in range(100, 12_100)), ordered=False)
        assert len(list(tx["things"].find().batch_size(5_000))) == 12_001
        with tx["things"].find().batch_size(10) as cursor:
            next(cursor)
    assert len(node.seen_inside(wire.Insert)) == 3
    assert len(node.seen_inside(wire.More)) >= 2 and node.seen(wire.More) == []
    assert len(node.seen_inside(wire.KillCursor)) == 1
    assert db["things"].count_documents({}) == 12_001


def test_what_has_no_place_inside_is_refused_by_name(node, db):
    with db.transaction() as tx:
        things = tx["things"]
        for call, name in (
            (lambda: things.create_index("a"), "create_index"),
            (lambda: things.drop_index("a_1"), "drop_index"),
            (lambda: things.list_indexes(), "list_indexes"),
            (things.drop, "drop"),
            (lambda: things.find().explain(), "explain"),
        ):
            with pytest.raises(errors.OperationFailure, match=name) as refused:
                call()
            assert refused.value.code == 263
        assert things.count_documents({}) == 1
    assert not node.seen(wire.CreateIndexes)


def test_a_transaction_is_used_in_its_order(db):
    tx = db.transaction()
    for use in (tx.commit, lambda: tx["things"].find_one(1)):
        with pytest.raises(errors.InvalidOperation, match="has not begun"):
            use()
    with tx:
        with pytest.raises(errors.InvalidOperation, match="begin again"):
            with tx:
                pass
        tx.abort()
        tx.abort()
        with pytest.raises(errors.InvalidOperation, match="is aborted"):
            tx.commit()
    with db.transaction() as tx:
        tx.commit()
        with pytest.raises(errors.InvalidOperation, match="is committed"):
            tx.abort()
    with pytest.raises(ValueError, match="max_time_ms"):
        db.transaction(max_time_ms=-1)


async def test_on_trio_the_same(node):
    async with await twinlog.connect_async(node.address) as client:
        db = client["shop"]
        await db["things"].insert_one({"_id": 1, "n": 0})

        async def add(tx):
            await tx["things"].update_one({"_id": 1}, {"$inc": {"n": 1}})
            return (await tx["things"].find_one(1))["n"]

        for at in range(4):
            node.faults.extend([None] * at + [Fault.CUT_AFTER])
            assert await db.run_transaction(add) == at + 1
        node.faults.extend([None, None, None, CONFLICT])
        assert await db.run_transaction(add) == 5
        node.transactions.clear()  # the one whose begin was not heard of
        with trio.move_on_after(5) as cancelled:
            async with db.transaction() as tx:
                await add(tx)
                cancelled.cancel()
                await trio.lowlevel.checkpoint()
        assert cancelled.cancelled_caught
        assert node.transactions == {}, "a cancelled one is aborted"
        assert (await db["things"].find_one(1))["n"] == 5
