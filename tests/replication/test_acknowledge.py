"""INV-1: when a commit counts as acknowledged, and that every waiter is told exactly once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.acknowledge import AckQueue, OnAckTimeout, acknowledged_seq
from storage import AckTimeout, Overloaded


def test_acknowledged_seq_enumerated() -> None:
    for own, standbys, acks in itertools.product(range(4), itertools.product(range(4), repeat=3), range(5)):
        seq = acknowledged_seq(own, standbys, acks)
        for candidate in range(5):
            holds = own >= candidate and sum(durable >= candidate for durable in standbys) >= acks
            assert (candidate <= seq) == holds or candidate == 0


def make(limit: int = 100, on_timeout: OnAckTimeout = OnAckTimeout.BLOCK) -> AckQueue:
    return AckQueue("d", limit=limit, on_timeout=on_timeout)


def test_a_full_queue_refuses_by_name() -> None:
    queue = make(limit=2)
    for seq in (1, 2):
        queue.add(seq, 1.0, lambda error: None)
    with pytest.raises(Overloaded) as caught:
        queue.add(3, 1.0, lambda error: None)
    assert caught.value.fields["bound"] == "ack_queue"
    assert len(queue.advance(1, 5)) == 1
    queue.add(3, 1.0, lambda error: None)


@pytest.mark.parametrize("on_timeout", OnAckTimeout)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 20)),
            st.tuples(st.just("own"), st.integers(1, 20)),
            st.tuples(st.just("confirm"), st.integers(1, 20)),
            st.tuples(st.just("time"), st.integers(1, 5)),
        ),
        max_size=60,
    )
)
def test_every_waiter_is_told_once_and_never_too_early(on_timeout: OnAckTimeout, steps: list) -> None:
    queue = make(on_timeout=on_timeout)
    told: dict[int, list] = {}
    ends = {"own": 0, "confirmed": 0}
    now = 0.0
    added = 0
    for kind, value in steps:
        if kind == "add":
            number = added = added + 1
            told[number] = []

            def callback(error: object, number: int = number, seq: int = value) -> None:
                told[number].append(error)
                if error is None and on_timeout is OnAckTimeout.BLOCK:
                    assert seq <= ends["confirmed"]
                if error is None:
                    assert seq <= ends["own"]

            queue.add(value, now + 3, callback)
        elif kind == "own":
            ends["own"] = max(ends["own"], value)
        elif kind == "confirm":
            ends["confirmed"] = max(ends["confirmed"], value)
        else:
            now += value
            for callback, error in queue.expire(now, ends["own"], 1, 1):
                callback(error)
        for callback in queue.advance(min(ends.values()), ends["own"]):
            callback(None)
        assert all(len(answers) <= 1 for answers in told.values())
        assert len(queue) == sum(not answers for answers in told.values())
    for callback, error in queue.fail_all(lambda seq: AckTimeout("gone", seq=seq)):
        callback(error)
    assert all(len(answers) == 1 for answers in told.values())


def test_degraded_lasts_until_the_standbys_have_caught_up() -> None:
    queue = make(on_timeout=OnAckTimeout.DEGRADE)
    answers: list = []
    queue.add(5, 1.0, answers.append)
    for callback, error in queue.expire(1.0, 5, 1, 1):
        callback(error)
    assert answers == [None] and queue.degraded
    assert queue.settled(6, own_durable=6), "while degraded the primary alone is enough"
    queue.advance(5, 6)
    assert queue.degraded
    queue.advance(6, 6)
    assert not queue.degraded and not queue.settled(7, own_durable=7)
