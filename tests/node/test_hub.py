"""The hub over real loopback sockets: one connection's bounds and errors, and that no other connection feels them."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from msgspec import Raw

import storage
from node import links, wire
from node.hub import Hub
from node.section import Address
from storage import errors

from .fakes import BareClient, Rig, document, open_rig, value

MIB = 1_048_576


@asynccontextmanager
async def _hub(rig: Rig):
    listeners = await links.bind(Address("127.0.0.1", 0), "listen.client")
    address = links.bound_address(listeners)
    async with trio.open_nursery() as nursery:
        hub = Hub(listeners, rig.service, rig.session, rig.limits, rig.metrics)
        await nursery.start(hub.run)
        yield hub, address
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _client(address: Address):
    async with await trio.open_tcp_stream(*address) as stream:
        yield await BareClient(stream).open()


def _gauge(rig: Rig, name: str) -> float:
    for family in rig.metrics.collect():
        if family.name == f"twinlog_{name}":
            return family.samples[0].value
    raise AssertionError(f"no metric {name}")


async def _until(condition) -> None:
    with trio.fail_after(120):
        while not condition():
            await trio.lowlevel.checkpoint()


async def test_many_pipelined_requests_are_all_answered():
    async with open_rig() as rig, _hub(rig) as (_, address), _client(address) as client:
        ids = []
        for i in range(1000):
            request = wire.Insert(i + 1, "chat", "m", [document(id=i)])
            client._session.send_message(wire.encode_request(request))
            ids.append(request.id)
        await client.flush()
        for request_id in ids:
            assert isinstance(await client.answer(request_id), wire.Reply)
        assert await client.call(wire.Count, "chat", "m", value({})) == {"n": 1000}
        assert rig.metrics.requests["insert"] == 1000


async def test_large_answers_arrive_whole_while_others_are_served():
    async with open_rig() as rig, _hub(rig) as (_, address), _client(address) as big, _client(address) as small:
        text = "x" * (8 * MIB)
        assert (await big.call(wire.Insert, "chat", "m", [document(id=1, text=text)]))["n"] == 1
        waiting = await big.send(wire.Get, "chat", "m", value(1))
        assert await small.call(wire.Ping) == {}
        answer = await big.answer(waiting)
        assert storage.decode_value(bytes(answer.result))["doc"]["text"] == text


async def test_a_connection_that_takes_no_answers_is_not_read_from_and_others_go_on():
    async with open_rig(connection_buffer_bytes=64 * 1024, in_flight_max=65_536) as rig:
        async with _hub(rig) as (_, address), _client(address) as greedy, _client(address) as modest:
            await modest.call(wire.Insert, "chat", "m", [document(id=1, text="x" * 100_000)])
            requests = 2000  # 200 MB of answers that nobody takes

            async def ask_without_reading(nursery) -> None:
                for _ in range(requests):
                    await greedy.send(wire.Get, "chat", "m", value(1))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_without_reading, nursery)
                held = 0.0
                for _ in range(50):
                    assert await modest.call(wire.Ping) == {}
                    held = max(held, _gauge(rig, "buffered_bytes"))
                nursery.cancel_scope.cancel()
            assert 0 < held < 4 * MIB
            assert rig.metrics.requests["get"] < requests


async def test_requests_beyond_in_flight_max_wait_for_room():
    async with open_rig(in_flight_max=2, position_timeout_ms=600_000) as rig:
        async with _hub(rig) as (_, address), _client(address) as client:
            await client.call(wire.Insert, "chat", "m", [document(id=1)])
            db = rig.engine.database("chat")
            wanted = [db.visible.epoch, db.visible.seq + 1]
            waiting = [await client.send(wire.Get, "chat", "m", value(1), min_position=wanted) for _ in range(2)]
            ping = await client.send(wire.Ping)
            await _until(lambda: rig.service.under_way == 2)
            assert rig.metrics.requests["ping"] == 0
            await storage.operations.insert(db, "m", [bytes(document(id=2))])
            db.flush()
            for request_id in (*waiting, ping):
                assert isinstance(await client.answer(request_id), wire.Reply)


async def test_connections_beyond_the_limit_are_refused_by_name():
    async with open_rig(connections_max=2) as rig, _hub(rig) as (_, address):
        async with _client(address) as one, _client(address) as two:
            await one.call(wire.Ping)
            await two.call(wire.Ping)
            async with _client(address) as third:
                with pytest.raises(errors.Overloaded) as refused:
                    await third.call(wire.Ping)
                await third.ended()
            assert refused.value.fields["bound"] == "connections_max" and rig.metrics.bounds["connections_max"] == 1
            assert await one.call(wire.Ping) == {}
        await _until(lambda: _gauge(rig, "connections") == 0)
        async with _client(address) as again:
            assert await again.call(wire.Ping) == {}


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "NotTwinlog"),
        (b"TWL1" + bytes([2, 0]) + struct.pack("<H", 1) + bytes(16), "PortRefused"),
        (b"TWL1" + bytes([1, 0]) + struct.pack("<H", 99) + bytes(16), "VersionRefused"),
        (b"TWL1" + bytes([1, 0]) + struct.pack("<H", 1) + bytes(16) + struct.pack("<I", 2**31), "MessageTooLong"),
        (b"TWL1" + bytes([1, 0]) + struct.pack("<H", 1) + bytes(16) + struct.pack("<I", 3) + b"\xc1\xc1\xc1", "BadMessage"),
    ],
)
async def test_garbage_ends_its_own_connection_only(garbage, reason):
    async with open_rig() as rig, _hub(rig) as (_, address), _client(address) as other:
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(garbage)
            with trio.fail_after(120):
                while await stream.receive_some():
                    pass
        await _until(lambda: rig.metrics.closed[reason] == 1)
        assert await other.call(wire.Ping) == {}


async def test_a_wrong_request_with_an_id_is_answered_and_the_connection_lives():
    async with open_rig() as rig, _hub(rig) as (_, address), _client(address) as client:
        client._session.send_message(bytes(wire.encode_fields(["launch", 77])))
        await client.flush()
        answer = await client.answer(77)
        assert (answer.name, answer.id) == ("BadRequest", 77)
        assert await client.call(wire.Ping) == {}


async def test_a_client_that_resets_frees_everything():
    async with open_rig(position_timeout_ms=600_000) as rig, _hub(rig) as (_, address):
        async with _client(address) as client:
            await client.call(wire.Insert, "chat", "m", [document(id=1)])
            await client.send(wire.Get, "chat", "m", value(1), min_position=[1, 10**6])
            await _until(lambda: rig.service.under_way == 1)
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await _until(lambda: _gauge(rig, "connections") == 0 and rig.service.under_way == 0)
        assert rig.metrics.closed["lost"] == 1 and _gauge(rig, "buffered_bytes") == 0


async def test_timeouts_cut_silent_handshakes_idle_connections_and_slow_readers(monkeypatch):
    settings = {"handshake_timeout_s": 1, "idle_timeout_s": 1, "slow_client_timeout_s": 1}
    async with open_rig(**settings) as rig, _hub(rig) as (_, address):
        silent = await trio.open_tcp_stream(*address)
        slow_stream = await trio.open_tcp_stream(*address)
        async with _client(address) as idle, silent, slow_stream:
            slow = await BareClient(slow_stream).open()
            await slow.call(wire.Insert, "chat", "m", [document(id=1, text="x" * (8 * MIB))])
            await slow.send(wire.Get, "chat", "m", value(1))
            await slow.send(wire.Get, "chat", "m", value(1))
            with trio.fail_after(120):
                await idle.ended()
                assert await silent.receive_some() == b""
            await _until(lambda: rig.metrics.closed["slow_client_timeout_s"] == 1)
        closed = rig.metrics.closed
        assert (closed["handshake_timeout_s"], closed["idle_timeout_s"]) == (1, 1)


async def test_over_the_total_limit_nothing_is_read_until_the_largest_part_goes():
    limits = {"total_buffer_bytes": MIB, "connection_buffer_bytes": MIB, "slow_client_timeout_s": 3600}
    async with open_rig(**limits) as rig, _hub(rig) as (_, address), _client(address) as other:
        async with await trio.open_tcp_stream(*address) as stream:
            hog = await BareClient(stream).open()
            part = struct.pack("<I", 8 * MIB) + bytes(4 * MIB)  # half a message, never finished
            with trio.fail_after(120), pytest.raises(trio.BrokenResourceError):
                while True:
                    await hog.stream.send_all(part)
        assert rig.metrics.closed["total_buffer_bytes"] == 1
        with trio.fail_after(120):
            assert await other.call(wire.Ping) == {}
        assert _gauge(rig, "buffered_bytes") == 0


async def test_stopping_closes_the_port_first_and_the_connections_last():
    async with open_rig() as rig, _hub(rig) as (hub, address), _client(address) as client:
        await client.call(wire.Ping)
        hub.stop_accepting()
        with pytest.raises(OSError):
            await trio.open_tcp_stream(*address)
        assert await client.call(wire.Ping) == {}
        await hub.flushed()


async def test_a_bug_met_by_one_connection_closes_that_one(caplog):
    async with open_rig() as rig, _hub(rig) as (_, address), _client(address) as other:

        class Broken(wire.ServerSession):
            def next_event(self) -> wire.Event:
                raise ZeroDivisionError("a bug")

        whole = rig.session
        rig_session = partial(
            Broken, lambda key_id: None, wire.PortRole.CLIENT, plain_allowed=True, random_bytes=lambda size: bytes(size)
        )
        async with _hub_with(rig, rig_session) as broken_address:
            async with await trio.open_tcp_stream(*broken_address) as stream:
                await stream.send_all(b"TWL1")
                assert await stream.receive_some() == b""
        assert rig.metrics.closed["bug"] == 1
        assert await other.call(wire.Ping) == {} and whole() is not None


@asynccontextmanager
async def _hub_with(rig: Rig, make_session):
    listeners = await links.bind(Address("127.0.0.1", 0), "listen.client")
    async with trio.open_nursery() as nursery:
        await nursery.start(Hub(listeners, rig.service, make_session, rig.limits, rig.metrics).run)
        yield links.bound_address(listeners)
        nursery.cancel_scope.cancel()


async def test_an_insert_of_many_documents_is_taken_in_one_request():
    async with open_rig() as rig, _hub(rig) as (_, address), _client(address) as client:
        docs = [Raw(storage.encode_document({"_id": i, "n": i})) for i in range(12_000)]
        result = await client.call(wire.Insert, "chat", "m", docs)
        assert result["n"] == 12_000 and result["ids"][-1] == 11_999


async def test_pipelined_gets_of_large_documents_are_all_answered_within_the_bounds():
    async with open_rig(connection_buffer_bytes=MIB) as rig, _hub(rig) as (_, address), _client(address) as client:
        await client.call(wire.Insert, "chat", "m", [document(id=i, pad="x" * 300_000) for i in range(10)])
        ids = list(range(1000, 1100))
        for i in ids:
            client._session.send_message(wire.encode_request(wire.Get(i, "chat", "m", value(i % 10))))
        await client.flush()
        largest = 0
        for request_id in ids:
            largest = max(largest, _gauge(rig, "buffered_bytes"))
            answer = await client.answer(request_id)
            assert isinstance(answer, wire.Reply) and len(bytes(answer.result)) > 300_000
        assert largest < 4 * MIB, "and not 30 MB of answers"
        assert rig.service.under_way == 0


async def test_a_bug_in_beginning_a_round_closes_the_connections_of_that_round_only(monkeypatch, caplog):
    async with open_rig() as rig, _hub(rig) as (_, address), _client(address) as quiet:
        assert await quiet.call(wire.Ping) == {}
        async with _client(address) as client:
            monkeypatch.setattr(rig.service, "begin_round", lambda *_: 1 // 0)
            await client.send(wire.Ping)
            await _until(lambda: rig.metrics.closed["bug"] == 1)
            monkeypatch.undo()
        assert await quiet.call(wire.Ping) == {}
