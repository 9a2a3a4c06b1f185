"""The two sessions talk to each other without a link: every message that is out of place ends it, and bounds hold."""

from __future__ import annotations

import itertools

import pytest

from replication import primary_session, standby_session
from replication.links import FRAMES_BYTES_MAX
from replication.matching import Verdict
from replication.messages import (
    Ack,
    DatabaseState,
    FetchTail,
    Follow,
    Frames,
    Instruct,
    MarkHash,
    Order,
    SeedBegin,
    SeedChunk,
    SeedEnd,
    SeedNeed,
    Stopped,
    Tail,
)
from replication.primary_session import PrimarySession, ShipChunk, ShipLog
from replication.standby_session import Append, SeedComplete, StandbySession
from storage import PeerError

U = b"u" * 16
V = b"v" * 16


def state(uuid: bytes = U, seq: int = 0) -> DatabaseState:
    return DatabaseState("d", uuid, {}, [[1, 1, 1, 0]] if seq else [], 1, seq, 0, seq)


BEGIN = SeedBegin(U, "d", {}, 9, b"manifest", [("f", 3)])


def standby_in(phase: standby_session.Phase) -> StandbySession:
    session = StandbySession()
    phases = standby_session.Phase
    session.follow(state())
    if phase is phases.STREAMING:
        session.receive(Instruct(U, Order.STREAM, 0, "", state()))
    elif phase is phases.BUSY:
        session.receive(Instruct(U, Order.REWIND, 0, "", state()))
    elif phase in (phases.SEED_ORDERED, phases.SEEDING):
        session.receive(Instruct(U, Order.SEED, 0, "", state()))
        if phase is phases.SEEDING:
            session.receive(BEGIN)
            session.need(BEGIN, {"f": 0})
    elif phase is phases.STOPPED:
        session.stop(U, "test")
    assert session.phase(U) is phase
    return session


TO_STANDBY = {
    "stream": Instruct(U, Order.STREAM, 0, "", state()),
    "rewind": Instruct(U, Order.REWIND, 0, "", state()),
    "seed": Instruct(U, Order.SEED, 0, "", state()),
    "refuse": Instruct(U, Order.REFUSE, 0, "no", state()),
    "frames": Frames(U, b"data", 0),
    "begin": BEGIN,
    "chunk": SeedChunk(U, "f", 0, b"abc"),
    "tail": FetchTail(U, 3),
}
ALLOWED = {
    standby_session.Phase.ASKED: {"stream", "rewind", "seed", "refuse", "tail"},
    standby_session.Phase.STREAMING: {"seed", "refuse", "frames"},
    standby_session.Phase.BUSY: set(),
    standby_session.Phase.SEED_ORDERED: {"begin"},
    standby_session.Phase.SEEDING: {"chunk"},
    standby_session.Phase.STOPPED: set(),
}


@pytest.mark.parametrize(("phase", "name"), list(itertools.product(standby_session.Phase, TO_STANDBY)))
def test_a_standby_takes_each_message_only_in_its_place(phase: standby_session.Phase, name: str) -> None:
    session = standby_in(phase)
    if name in ALLOWED[phase]:
        assert session.receive(TO_STANDBY[name]) is not None
    elif phase is standby_session.Phase.STOPPED:
        assert session.receive(TO_STANDBY[name]) is None, "what was on its way is dropped"
    else:
        with pytest.raises(PeerError):
            session.receive(TO_STANDBY[name])


@pytest.mark.parametrize("message", [Ack(U, 1, 1, 0), Follow(state(), True), SeedNeed(U, {}), MarkHash(U, 1, 0, "")])
def test_a_standby_refuses_what_only_a_standby_sends(message: object) -> None:
    with pytest.raises(PeerError):
        standby_in(standby_session.Phase.STREAMING).receive(message)


@pytest.mark.parametrize("message", [Frames(U, b"", 0), SeedEnd(U), BEGIN, FetchTail(U, 1)])
def test_a_primary_refuses_what_only_a_primary_sends(message: object) -> None:
    with pytest.raises(PeerError):
        PrimarySession(window_bytes=10, seed_chunk_bytes=2).receive(message)


def leading(*uuids: bytes, window: int = 100) -> PrimarySession:
    session = PrimarySession(window_bytes=window, seed_chunk_bytes=2)
    for uuid in uuids:
        session.receive(Follow(state(uuid), True))
        session.instruct(uuid, Verdict(Order.STREAM, 0), state(uuid))
    return session


def test_shipping_stops_at_the_window_and_goes_on_with_acknowledgements() -> None:
    session = leading(U, window=100)
    session.news(U, 10)
    assert session.next_step() == ShipLog(U, 0)
    session.shipped(U, b"x" * 60, 2)
    assert session.next_step() == ShipLog(U, 2)
    session.shipped(U, b"x" * 60, 4)
    assert session.next_step() is None and session.unacked_bytes == 120
    session.receive(Ack(U, 4, 1, 0))
    assert session.next_step() is None, "received is not durable"
    session.receive(Ack(U, 4, 2, 0))
    assert session.next_step() == ShipLog(U, 4) and session.unacked_bytes == 60
    session.stop(U)
    assert session.next_step() is None and session.unacked_bytes == 0


def test_databases_take_turns() -> None:
    session = leading(U, V, window=1000)
    for uuid in (U, V):
        session.news(uuid, 10)
    turns = []
    for _ in range(4):
        step = session.next_step()
        turns.append(step.uuid)
        session.shipped(step.uuid, b"x", session.shipment(step.uuid).sent_seq + 1)
    assert turns == [U, V, U, V]


@pytest.mark.parametrize("ack", [Ack(U, 5, 1, 0), Ack(U, 1, 1, 0), Ack(U, 3, 1, 0)])
def test_impossible_acknowledgements_end_the_link(ack: Ack) -> None:
    session = leading(U)
    session.news(U, 10)
    session.shipped(U, b"x", 4)
    session.receive(Ack(U, 3, 2, 0))
    with pytest.raises(PeerError):
        session.receive(ack)


def test_late_answers_after_a_stop_mean_nothing() -> None:
    session = leading(U)
    session.stop(U)
    for message in (Ack(U, 0, 0, 0), SeedNeed(U, {}), SeedNeed(V, {}), Tail(V, b"", 0, True)):
        assert session.receive(message) is None
    assert session.receive(Stopped(U, "so")) is not None
    assert session.receive(Follow(state(), True)) is not None, "it may ask again"


def test_a_large_commit_travels_in_parts_and_arrives_whole() -> None:
    primary, standby = leading(U, window=2**30), standby_in(standby_session.Phase.STREAMING)
    data = bytes(range(256)) * (FRAMES_BYTES_MAX // 100)
    primary.news(U, 1)
    messages = primary.shipped(U, data, 1)
    assert len(messages) > 1 and all(len(message.data) <= FRAMES_BYTES_MAX for message in messages)
    events = [standby.receive(message) for message in messages]
    assert events == [None] * (len(messages) - 1) + [Append(U, data)]


def test_a_seed_goes_from_order_to_follow() -> None:
    primary = PrimarySession(window_bytes=100, seed_chunk_bytes=2)
    standby = StandbySession()
    primary.receive(standby.follow(state()))
    standby.receive(primary.instruct(U, Verdict(Order.SEED, 0, "test"), state()))
    begin = standby.receive(primary.offer(BEGIN))
    primary.receive(standby.need(begin, {"f": 1}))
    step = primary.next_step()
    assert isinstance(step, ShipChunk) and (step.chunk.offset, step.chunk.length) == (1, 2)
    standby.receive(SeedChunk(U, "f", 1, b"bc"))
    assert primary.next_step() == ShipChunk(U, None)
    primary.seeded(U)
    assert standby.receive(SeedEnd(U)) == SeedComplete(U)
    primary.receive(standby.follow(state(seq=9)))
    order = primary.instruct(U, Verdict(Order.STREAM, 9), state(seq=9))
    standby.receive(order)
    primary.news(U, 10)
    assert primary.next_step() == ShipLog(U, 9)
    assert standby.ack(U, 9, 9, 0) == Ack(U, 9, 9, 0) and standby.ack(U, 9, 9, 0) is None


def test_a_seed_that_ends_early_is_refused() -> None:
    session = standby_in(standby_session.Phase.SEEDING)
    with pytest.raises(PeerError):
        session.receive(SeedEnd(U))


@pytest.mark.parametrize("phase", [phase for phase in primary_session.Phase if phase is not primary_session.Phase.STOPPED])
def test_a_primary_takes_follow_only_when_it_expects_one(phase: primary_session.Phase) -> None:
    phases = primary_session.Phase
    session = PrimarySession(window_bytes=100, seed_chunk_bytes=2)
    session.receive(Follow(state(), True))
    if phase is phases.STREAMING:
        session.instruct(U, Verdict(Order.STREAM, 0), state())
    elif phase is not phases.ASKED:
        session.instruct(U, Verdict(Order.SEED, 0), state())
        if phase is not phases.ORDERED:
            session.offer(BEGIN)
        if phase is phases.SEEDING:
            session.receive(SeedNeed(U, {"f": 0}))
    assert session.shipment(U).phase is phase
    if phase is phases.ORDERED:
        assert session.receive(Follow(state(), True)) is not None
    else:
        with pytest.raises(PeerError):
            session.receive(Follow(state(), True))
