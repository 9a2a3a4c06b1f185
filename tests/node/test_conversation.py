"""A conversation without any stream: bytes in whatever pieces, bounds on what it takes, and its ends."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node import wire
from node.conversation import Conversation

from .fakes import Rig, open_rig, value


def _conversation(rig: Rig, woken: list[int] | None = None, **bounds: int) -> Conversation:
    named = {"in_flight_max": 8, "output_bytes_max": 1_000_000, **bounds}
    return Conversation(
        rig.session(), rig.service, peer="10.0.0.1", on_output=lambda: woken.append(1) if woken is not None else None, **named
    )


def _requests(count: int, kind=wire.Ping, *values) -> bytes:
    session = wire.ClientSession(None, wire.PortRole.CLIENT, random_bytes=bytes)
    opening = session.start()
    session.receive_data(b"TWL1\x00\x00\x00")
    assert isinstance(session.next_event(), wire.HandshakeDone)
    session.send_messages(wire.encode_request(kind(number + 1, *values)) for number in range(count))
    return opening + session.data_to_send()


def _answers(sent: bytes) -> list[int]:
    session = wire.ClientSession(None, wire.PortRole.CLIENT, random_bytes=bytes)
    session.start()
    session.receive_data(sent)
    assert isinstance(session.next_event(), wire.HandshakeDone)
    return [wire.decode_answer(message).id for message in session.take_messages(10_000)]


async def _exchange(pieces: list[bytes]) -> bytes:
    sent = b""
    async with open_rig() as rig:
        conversation = _conversation(rig)
        for piece in pieces:
            conversation.receive_data(piece)
            conversation.pump()
            sent += conversation.data_to_send(1 << 20)
            assert conversation.reading
        assert conversation.in_flight == 0 and conversation.buffered_bytes < 64
    return sent


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, 200), max_size=12))
def test_requests_cut_anywhere_get_the_same_answers(cuts):
    data = _requests(20)
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    pieces = [data[start:end] for start, end in zip(edges, edges[1:])]
    assert _answers(trio.run(_exchange, pieces)) == list(range(1, 21))


def test_requests_byte_by_byte_get_the_same_answers():
    data = _requests(3)
    assert _answers(trio.run(_exchange, [data[i : i + 1] for i in range(len(data))])) == [1, 2, 3]


async def test_it_stops_reading_at_in_flight_max_and_goes_on_when_answers_leave():
    async with open_rig() as rig:
        woken: list[int] = []
        conversation = _conversation(rig, woken, in_flight_max=2)
        await rig.engine.create_database("chat")
        rig.member.held = True
        conversation.receive_data(_requests(5, wire.Insert, "chat", "m", [value({"a": 1})]))
        conversation.pump()
        rig.service.end_of_wakeup()
        assert conversation.in_flight == 2 and not conversation.reading and not conversation.can_pump
        rig.member.held = False
        rig.member.release()
        assert woken and conversation.in_flight == 0 and conversation.can_pump


async def test_it_stops_at_the_output_limit_and_goes_on_when_bytes_leave():
    async with open_rig() as rig:
        conversation = _conversation(rig, output_bytes_max=200)
        conversation.receive_data(_requests(100))
        conversation.pump()
        assert not conversation.reading and rig.metrics.requests["ping"] < 100
        sent = b""
        while conversation.can_pump or conversation.sendable_bytes:
            sent += conversation.data_to_send(1 << 20)
            conversation.pump()
            assert conversation.sendable_bytes < 300
        assert _answers(sent) == list(range(1, 101)) and conversation.reading


async def test_a_turn_ends_in_time_and_is_taken_up_again():
    async with open_rig() as rig:
        conversation = _conversation(rig)
        conversation.receive_data(_requests(10))
        conversation.pump(ends_at=trio.current_time() - 1)
        assert rig.metrics.requests["ping"] == 1 and conversation.can_pump
        conversation.pump()
        assert rig.metrics.requests["ping"] == 10 and conversation.reading


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "ended"), (_requests(0) + b"\x09\x00\x00\x00\x93", "StreamCut"), (b"TWL1", "StreamCut")],
    ids=["nothing", "inside a message", "inside the opening"],
)
async def test_how_a_stream_ends_is_told_apart(data, reason):
    async with open_rig() as rig:
        conversation = _conversation(rig)
        if data:
            conversation.receive_data(data)
            conversation.pump()
        conversation.receive_data(b"")
        conversation.pump()
        assert conversation.finished and conversation.reason == reason


async def test_answers_for_a_finished_conversation_are_dropped():
    async with open_rig() as rig:
        conversation = _conversation(rig)
        await rig.engine.create_database("chat")
        rig.member.held = True
        conversation.receive_data(_requests(1, wire.Insert, "chat", "m", [value({"a": 1})]))
        conversation.pump()
        rig.service.end_of_wakeup()
        conversation.data_to_send(1 << 20)
        conversation.finish("lost")
        rig.member.held = False
        rig.member.release()
        assert rig.service.under_way == 0 and conversation.data_to_send(1 << 20) == b""
        assert (await rig.engine.database("chat").view().count(1)) == 1, "the write itself stands"


async def test_a_refused_connection_is_told_why_at_its_first_request():
    async with open_rig() as rig:
        from storage import errors

        conversation = Conversation(
            rig.session(), rig.service, peer="p", in_flight_max=8, output_bytes_max=1000, on_output=lambda: None,
            refusal=errors.Overloaded("full", bound="connections_max", limit=1, retry_after_ms=1000),
        )  # fmt: skip
        conversation.receive_data(_requests(2, wire.Get, "chat", "m", value(1)))
        conversation.pump()
        assert conversation.finished and conversation.reason == "refused"
        assert _answers(conversation.data_to_send(1 << 20)) == [1]
