"""Links that fail: what vanishes is held one way, both ways, and given on when the link heals."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from ops.drills.relay import HOST, Relay

WAIT_S = 60


@pytest.fixture
async def link():
    """(relay, dialler's stream, peer's stream) of a link from a to b."""
    relay = Relay()
    send, receive = trio.open_memory_channel(1)
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)

    async def accept(stream: trio.SocketStream) -> None:
        await send.send(stream)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, accept, [listener]))
        port = await relay.listen("a", "b", listener.socket.getsockname()[1])
        await nursery.start(relay.run)
        near = await trio.open_tcp_stream(HOST, port)
        far = await receive.receive()
        yield relay, near, far
        nursery.cancel_scope.cancel()


async def heard(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(WAIT_S):
        return await stream.receive_some(100)


async def silent(stream: trio.SocketStream) -> bool:
    """Whether nothing has arrived by the time that something else, sent later, has gone through."""
    with trio.move_on_after(0.05) as waiting:
        await stream.receive_some(100)
    return waiting.cancelled_caught


async def test_a_whole_link_carries_both_ways_and_ends_with_either_end(link):
    _, near, far = link
    await near.send_all(b"to b")
    assert await heard(far) == b"to b"
    await far.send_all(b"to a")
    assert await heard(near) == b"to a"
    await near.aclose()
    assert await heard(far) == b""


async def test_one_way_vanishes_the_other_arrives_and_healing_gives_on_what_was_held(link):
    relay, near, far = link
    relay.vanish(("a", "b"))
    await near.send_all(b"held")
    await far.send_all(b"arrives")
    assert await heard(near) == b"arrives"
    assert await silent(far)
    relay.heal()
    assert await heard(far) == b"held"


async def test_a_cut_link_carries_nothing_not_even_its_end(link):
    relay, near, far = link
    relay.vanish(("a", "b"), ("b", "a"))
    await far.send_all(b"held")
    await near.aclose()
    assert await silent(far), "the end of a stream is a packet too"
    relay.heal()
    assert await heard(far) == b""


async def test_a_dial_through_a_cut_link_reaches_nobody():
    relay = Relay()
    reached = []
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, lambda stream: _note(reached, stream), [listener]))
        port = await relay.listen("a", "b", listener.socket.getsockname()[1])
        relay.vanish(("b", "a"))
        await nursery.start(relay.run)
        near = await trio.open_tcp_stream(HOST, port)
        assert await silent(near) and reached == []
        relay.heal()
        with trio.fail_after(WAIT_S):
            await near.send_all(b"x")
            assert await near.receive_some(1) == b"!"
        nursery.cancel_scope.cancel()


async def _note(reached: list[int], stream: trio.SocketStream) -> None:
    reached.append(1)
    await stream.receive_some(1)
    await stream.send_all(b"!")
