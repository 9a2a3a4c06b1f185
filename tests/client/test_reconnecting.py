"""Lost connections, other nodes, time-outs, keys and logins, against fake nodes; on the blocking and the trio transport."""

from __future__ import annotations

import logging
import os
import threading

import pytest
import trio

import twinlog
from node import wire
from storage import errors as engine_errors
from twinlog import errors

from .fake_server import FakeNode, Fault, Store


def connect(*nodes, **options):
    return twinlog.connect(",".join(node.address for node in nodes), **options)


@pytest.fixture
def node():
    with FakeNode() as made:
        yield made


@pytest.fixture
def words(caplog):
    """The client's log lines."""
    caplog.set_level(logging.WARNING, logger="twinlog.client")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "twinlog.client"]


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
def test_a_write_applies_once_when_its_connection_is_cut(node, fault):
    with connect(node) as client:
        things = client["shop"]["things"]
        for write in (
            lambda: things.insert_one({"_id": 1}),
            lambda: things.insert_many([{"_id": 2}, {"_id": 3}]),
            lambda: things.replace_one({"_id": 1}, {"a": 1}),
            lambda: things.delete_one({"_id": {"$gte": 2}}),
            lambda: things.bulk_write([twinlog.InsertOne({"_id": 4})]),
        ):
            node.faults.append(fault)
            write()
        assert things.count_documents({}) == 3
    first, again = node.seen(wire.Insert)[:2]
    assert first.request == again.request
    assert len(first.request) == 16


def test_reads_are_asked_again(node):
    with connect(node) as client:
        things = client["shop"]["things"]
        things.insert_many([{"_id": number} for number in range(5)])
        for read in (lambda: things.find_one(1), lambda: things.find().to_list(), lambda: things.count_documents({})):
            node.faults.append(Fault.CUT_AFTER)
            assert read()


def test_a_pipelined_insert_survives_cuts_in_the_middle(node):
    documents = [{"_id": number, "x": "y" * 2000} for number in range(twinlog.verbs.CHUNK_WRITES_MAX * 3)]
    with connect(node) as client:
        node.faults.extend([None, Fault.CUT_AFTER, Fault.CUT_BEFORE])
        client["shop"]["things"].insert_many(documents, ordered=False)
        assert client["shop"]["things"].count_documents({}) == len(documents)


def test_a_drop_of_unknown_outcome_is_not_repeated(node):
    with connect(node) as client:
        node.faults.append(Fault.CUT_AFTER)
        with pytest.raises(errors.AutoReconnect, match="unknown"):
            client["shop"].drop_collection("things")
    assert len(node.seen(wire.DropCollection)) == 1


def test_a_cursor_is_not_resumed_over_a_lost_connection(node):
    with connect(node) as client:
        things = client["shop"]["things"]
        things.insert_many([{"_id": number} for number in range(10)])
        cursor = things.find(batch_size=2)
        next(cursor)
        next(cursor)
        node.faults.append(Fault.CUT_AFTER)
        with pytest.raises(errors.AutoReconnect):
            next(cursor)


def test_closing_a_cursor_of_a_node_that_is_gone_neither_fails_nor_waits(words):
    with FakeNode() as node:
        client = connect(node, retry_s=60)
        client["shop"]["things"].insert_many([{"_id": number} for number in range(10)])
        cursor = client["shop"]["things"].find(batch_size=2)
        next(cursor)
    with client:
        cursor.close()
        assert not cursor.alive
    assert len(words()) == 1


def test_connections_that_ended_while_idle_are_replaced_in_silence(node, words):
    with connect(node, pool=2) as client:
        for _ in range(4):
            client.ping()
        assert node.connections == 2
        node.cut_connections()
        client["shop"].drop_collection("things")  # it would not be sent twice
        assert not words()


def test_the_pool_goes_round(node):
    with connect(node, pool=3) as client:
        for _ in range(10):
            client.ping()
    assert node.connections == 3


def test_many_threads_share_a_client(node):
    with connect(node, pool=2) as client:
        things = client["shop"]["things"]

        def work(start):
            for number in range(start, start + 50):
                things.insert_one({"_id": number})
                assert things.find_one(number) == {"_id": number}

        threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 400, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert things.count_documents({}) == 400
        assert client.last_position("shop") == (1, 400)
    assert node.connections == 2


def test_a_lost_connection_is_logged_with_its_cause(node, words):
    with connect(node) as client:
        node.faults.append(Fault.CUT_BEFORE)
        client.ping()
        node.faults.append(Fault.NO_ANSWER)
        with pytest.raises(errors.NetworkTimeout):
            client.with_options(timeout_s=0.05).ping()
    assert len(words()) == 2
    assert words()[0].startswith(f"READ_LEN_FAILED err=EOF node={node.address}")
    assert words()[1].startswith(f"READ_LEN_FAILED err=i/o timeout node={node.address}")


def test_a_node_that_is_down_is_logged_and_named(words):
    with FakeNode() as gone:
        address = gone.address
    with pytest.raises(errors.ConnectionFailure, match=address):
        twinlog.connect(address, retry_s=0)
    assert words() == [f"CONNECT_FAILED err=connection refused node={address}"]


def test_set_client_logging_writes_the_lines_to_standard_error(capsys):
    with FakeNode() as gone:
        address = gone.address
    twinlog.set_client_logging(True)
    twinlog.set_client_logging(True)
    try:
        with pytest.raises(errors.ConnectionFailure):
            twinlog.connect(address, retry_s=0)
    finally:
        twinlog.set_client_logging(False)
    assert capsys.readouterr().err.count("CONNECT_FAILED") == 1
    with pytest.raises(errors.ConnectionFailure):
        twinlog.connect(address, retry_s=0)
    assert capsys.readouterr().err.count("twinlog.client WARNING CONNECT_FAILED") == 0


def test_a_node_that_comes_back_is_found_again():
    with FakeNode() as first:
        client = connect(first, retry_s=5)
        client["shop"]["things"].insert_one({"_id": 1})
        port, store = first.port, first.store
    revived = FakeNode(port=port, store=store)
    timer = threading.Timer(0.1, revived.__enter__)
    timer.start()
    with client:
        assert client["shop"]["things"].find_one(1) == {"_id": 1}
    timer.join()
    revived.__exit__()


def test_an_answer_nobody_asked_for_ends_the_connection_not_the_call(node, words):
    with connect(node) as client:
        node.faults.append(Fault.NO_SUCH_ID)
        assert client.ping() == {}
    assert words()[0].startswith("READ_LEN_FAILED err=protocol error")


@pytest.fixture
def pair():
    """A standby first, then its primary, over one store."""
    store = Store()
    with FakeNode(store=store) as primary, FakeNode(role="standby", primary=primary.address, store=store) as standby:
        yield standby, primary


def test_writes_find_the_primary(pair):
    standby, primary = pair
    with connect(standby) as client:
        assert client.primary is None
        client["shop"]["things"].insert_one({"_id": 1})
        assert client.primary == primary.address
        client["shop"]["things"].insert_one({"_id": 2})
    assert len(standby.seen(wire.Insert)) == 1
    assert len(primary.seen(wire.Insert)) == 2


def test_writes_follow_a_promotion(pair):
    standby, primary = pair
    with connect(primary, standby) as client:
        client["shop"]["things"].insert_one({"_id": 1})
        client.promote(standby.address)
        primary.role, primary.primary = "standby", standby.address
        client["shop"]["things"].insert_one({"_id": 2})
        assert client.primary == standby.address
        assert client["shop"]["things"].count_documents({}) == 2


def test_reads_go_to_standbys_when_asked_and_say_so_when_there_is_none(pair):
    standby, primary = pair
    with connect(primary, standby, read="standby", retry_s=0.2) as client:
        client["shop"]["things"].insert_one({"_id": 1})
        for _ in range(4):
            assert client["shop"]["things"].find_one(1) == {"_id": 1}
        assert not primary.seen(wire.Get)
        assert len(standby.seen(wire.Get)) == 4
    with connect(primary, retry_s=0.2) as client:
        with pytest.raises(errors.ServerSelectionTimeoutError, match="standby"):
            client.read_from("standby")["shop"]["things"].find_one(1)


def test_reads_of_the_primary_are_never_answered_by_another_node(pair):
    standby, primary = pair
    with connect(primary, standby) as client:
        client["shop"]["things"].insert_one({"_id": 1})
        primary.role = "standby"  # and nobody has told this client
        with pytest.raises(errors.NotPrimaryError):
            client.with_options(timeout_s=0.5)["shop"]["things"].find_one(1)
        assert client.read_from("any")["shop"]["things"].find_one(1) == {"_id": 1}
        standby.role = "primary"
        assert client["shop"]["things"].find_one(1) == {"_id": 1}
        assert client["shop"]["things"].count_documents({}) == 1
        assert client.primary == standby.address
    with connect(primary) as client:
        primary.primary = standby.address
        assert client["shop"].list_collection_names() is not None
        assert client.primary == standby.address


def test_a_session_asks_standbys_for_its_own_writes(pair):
    standby, primary = pair
    with connect(primary, standby) as client:
        session = client.session(read_from="standby")
        position = session["shop"]["things"].insert_one({"_id": 1}).position
        assert session["shop"]["things"].find_one(1) == {"_id": 1}
        client.read_from("standby")["shop"]["things"].find_one(1)
    assert [get.min_position for get in standby.seen(wire.Get)] == [list(position), None]


def test_a_cursor_stays_with_its_node(pair):
    standby, primary = pair
    with connect(primary, standby, read="any") as client:
        things = client["shop"]["things"]
        things.insert_many([{"_id": number} for number in range(9)])
        for _ in range(2):
            assert len(things.find(batch_size=2).to_list()) == 9
    assert {len(made.seen(wire.Find)) for made in pair} == {1}


def test_a_full_node_is_waited_for(node):
    with connect(node) as client:
        node.faults.append(engine_errors.Overloaded("queue is full", bound="queue", limit=1, retry_after_ms=10))
        assert client["shop"]["things"].insert_one({"_id": 1}).inserted_id == 1


def test_a_refusal_keeps_the_engines_name_and_fields(node):
    with connect(node) as client:
        node.faults.append(engine_errors.AckTimeout("kept here, 0 of 1 standbys confirmed", epoch=1, seq=7))
        with pytest.raises(errors.WTimeoutError) as caught:
            client["shop"]["things"].insert_one({"_id": 1})
        assert caught.value.code == 64
        assert caught.value.details["name"] == "AckTimeout"
        assert caught.value.details["fields"] == {"epoch": 1, "seq": 7}
        assert client.last_position("shop") == (1, 7)


def test_all_connections_in_use_is_an_error_after_a_while(node):
    with connect(node, pool=1, timeout_s=5) as client:
        node.faults.append(Fault.NO_ANSWER)
        holder = threading.Thread(target=client.ping)
        holder.start()
        assert node.met_fault.wait(5)
        with pytest.raises(errors.WaitQueueTimeoutError, match="pool"):
            client.with_options(timeout_s=0.05).ping()
        node.cut_connections()
        holder.join()
        assert client.ping() == {}


def test_a_closed_client_says_so(node):
    client = connect(node)
    client.close()
    with pytest.raises(errors.InvalidOperation, match="closed"):
        client.ping()


def test_the_wrong_key_and_a_missing_one_are_refused_at_once(key_file, tmp_path):
    path, key = key_file
    other = tmp_path / "other.key"
    other.write_text(wire.format_keys((wire.new_key(os.urandom),)))
    with FakeNode(key=key) as node:
        with connect(node, key=path) as client:
            client["shop"]["things"].insert_one({"_id": 1, "x": b"y" * 3_000_000})
            assert len(client["shop"]["things"].find_one(1)["x"]) == 3_000_000
        for wrong in ({"key": str(other)}, {}):
            with pytest.raises(errors.OperationFailure) as caught:
                connect(node, **wrong)
            assert caught.value.code == 18
            assert caught.value.details["name"] == "AuthenticationFailed"
    with pytest.raises(errors.ConfigurationError, match="nowhere.key"):
        twinlog.connect("localhost", key="nowhere.key")


def test_users_log_in():
    with FakeNode(users={"ann": "secret"}) as node:
        with twinlog.connect(f"twinlog://ann:secret@{node.address}/shop") as client:
            client.get_database()["things"].insert_one({"_id": 1})
        with pytest.raises(errors.OperationFailure) as caught:
            twinlog.connect(f"twinlog://ann:wrong@{node.address}")
        assert caught.value.code == 18


async def test_a_cancelled_task_does_not_spoil_the_connection_for_the_next(node):
    async with await twinlog.connect_async(node.address, pool=1) as client:
        things = client["shop"]["things"]
        node.faults.append(Fault.NO_ANSWER)
        with trio.move_on_after(0.05) as scope:
            await things.find_one(1)
        assert scope.cancelled_caught
        await things.insert_one({"_id": 1})
        assert await things.find_one(1) == {"_id": 1}


async def test_trio_times_out_reconnects_and_logs_the_same(node, words):
    async with await twinlog.connect_async(node.address) as client:
        node.faults.append(Fault.NO_ANSWER)
        with pytest.raises(errors.NetworkTimeout):
            await client.with_options(timeout_s=0.05)["shop"]["things"].find_one(1)
        node.faults.append(Fault.CUT_AFTER)
        await client["shop"]["things"].insert_one({"_id": 1})
        assert await client["shop"]["things"].count_documents({}) == 1
    assert [line.split()[0] for line in words()] == ["READ_LEN_FAILED", "READ_LEN_FAILED"]
    with FakeNode() as gone:
        address = gone.address
    with pytest.raises(errors.ConnectionFailure, match="connection refused"):
        await twinlog.connect_async(address, retry_s=0)
    assert words()[-1].startswith("CONNECT_FAILED")


async def test_many_tasks_share_a_trio_client(node):
    async with await twinlog.connect_async(node.address, pool=3) as client:
        things = client["shop"]["things"]

        async def work(number):
            await things.insert_one({"_id": number})
            assert await things.find_one(number) == {"_id": number}

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(work, number)
        assert [document["_id"] async for document in things.find().sort("_id")] == list(range(60))
    assert node.connections == 3
