"""Many threads asking on one connection: every answer reaches its own thread, whatever happens to the others."""

from __future__ import annotations

import threading

import pytest

import twinlog
from node import wire
from twinlog import errors

from .fake_server import FakeNode, Fault


@pytest.fixture
def node():
    with FakeNode() as made:
        yield made


def in_threads(count, work):
    """work(number) in so many threads at once; what they raised."""
    raised = []
    begun = threading.Barrier(count)

    def run(number):
        begun.wait()
        try:
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread that asked was forgotten"
    return raised


@pytest.mark.parametrize("pool", [1, 4])
def test_every_thread_gets_its_own_answers(node, pool):
    with twinlog.connect(node.address, pool=pool) as client:
        things = client["shop"]["things"]

        def work(number):
            for turn in range(40):
                key = number * 1000 + turn
                assert things.insert_one({"_id": key}).inserted_id == key
                assert things.find_one(key) == {"_id": key}
                assert things.find_one(-1) is None

        assert in_threads(16, work) == []
        assert things.count_documents({}) == 16 * 40
    assert node.connections <= pool


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.NO_SUCH_ID])
def test_writes_of_many_threads_apply_once_over_lost_connections(node, fault):
    with twinlog.connect(node.address, pool=2) as client:
        things = client["shop"]["things"]
        node.faults.extend([None] * 9 + [fault] + [None] * 20 + [fault] + [None] * 60 + [fault, fault])

        def work(number):
            for turn in range(20):
                things.insert_one({"_id": number * 1000 + turn})

        assert in_threads(12, work) == []
        assert things.count_documents({}) == 12 * 20
    assert len({request.request for request in node.seen(wire.Insert)}) == 12 * 20


def test_a_request_that_is_not_answered_holds_nobody_else_up(node):
    with twinlog.connect(node.address, pool=1) as client:
        things = client["shop"]["things"]
        things.insert_one({"_id": 1})
        node.faults.append(Fault.NO_ANSWER)
        outcome = []

        def wait_for_nothing():
            try:
                client.with_options(timeout_s=2)["shop"]["things"].find_one(1)
            except errors.NetworkTimeout as error:
                outcome.append(error)

        holder = threading.Thread(target=wait_for_nothing)
        holder.start()
        assert node.met_fault.wait(5)
        for _ in range(20):
            assert things.find_one(1) == {"_id": 1}
        assert holder.is_alive()
        holder.join(10)
        assert len(outcome) == 1
        assert things.find_one(1) == {"_id": 1}
    assert node.connections == 2, "the connection that still owes an answer is not used again"


def test_those_who_give_up_take_no_other_with_them(node):
    with twinlog.connect(node.address, pool=2, timeout_s=1) as client:
        things = client["shop"]["things"]
        things.insert_one({"_id": 1})
        node.faults.extend([None] * 20 + [Fault.NO_ANSWER] + [None] * 10 + [Fault.NO_ANSWER, Fault.NO_ANSWER])
        gave_up = []

        def work(number):
            for _ in range(20):
                try:
                    assert things.find_one(1) == {"_id": 1}
                except errors.NetworkTimeout as error:
                    gave_up.append(error)

        assert in_threads(8, work) == []
        assert len(gave_up) == 3
        assert things.find_one(1) == {"_id": 1}


def test_a_document_that_is_too_large_fails_alone(node):
    with twinlog.connect(node.address, pool=1) as client:
        things = client["shop"]["things"]
        many = {"_id": {"$gte": "x" * 18_000_000}}  # a filter has no limit but that of a message

        def work(number):
            for turn in range(10):
                if number == 0:
                    with pytest.raises(errors.DocumentTooLarge):
                        things.delete_one(many)
                else:
                    things.insert_one({"_id": number * 100 + turn})

        assert in_threads(6, work) == []
        assert things.count_documents({}) == 50
    assert node.connections == 1


def test_a_batch_gets_a_connection_although_others_never_stop_asking(node):
    with twinlog.connect(node.address, pool=1) as client:
        things = client["shop"]["things"]
        done = threading.Event()

        def work(number):
            if number == 0:
                things.insert_many([{"_id": turn} for turn in range(100)])
                done.set()
            while not done.is_set():
                things.find_one(0)

        assert in_threads(6, work) == []
        assert things.count_documents({}) == 100


def test_a_loss_is_logged_once_for_all_who_shared_it(node, caplog):
    with twinlog.connect(node.address, pool=1) as client:
        things = client["shop"]["things"]
        things.insert_one({"_id": 1})
        begun = threading.Barrier(5)
        node.faults.extend([Fault.NO_ANSWER] * 4)

        def work(number):
            begun.wait()
            if number < 4:
                assert things.find_one(1) == {"_id": 1}
                return
            while len(node.seen(wire.Get)) < 4:
                node.met_fault.wait(0.001)
            node.cut_connections()

        assert in_threads(5, work) == []
    assert len([record for record in caplog.records if "READ_LEN_FAILED" in record.getMessage()]) == 1
