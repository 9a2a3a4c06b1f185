"""SecureLink over streams in memory and over loopback: messages whole and in order, refusals by name, ends told apart."""

from __future__ import annotations

import os
from functools import partial

import pytest
import trio

from node import links, wire
from node.section import Address
from storage import errors

KEY = wire.Key(b"\x01" * 16, b"\x02" * 32)
RING = wire.KeyRing((KEY,))
OTHER = wire.Key(b"\x01" * 16, b"\x03" * 32)


async def _pair(key=KEY, ring=RING, *, plain_allowed=False):
    near, far = trio.testing.memory_stream_pair()
    ends = {}

    async def dial() -> None:
        ends["near"] = await links.SecureLink.dialled(near, key, os.urandom, peer="far")

    async def accept() -> None:
        ends["far"] = await links.SecureLink.accepted(far, ring, os.urandom, plain_allowed=plain_allowed, peer="near")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(accept)
    return ends["near"], ends["far"], near


@pytest.mark.parametrize("secure", [True, False])
async def test_messages_of_any_size_arrive_whole_and_in_order_both_ways(secure):
    near, far, _ = await _pair(*((KEY, RING) if secure else (None, None)), plain_allowed=not secure)
    messages = [b"a", b"b" * 1_048_577, os.urandom(17 * 2**20), b"end"]
    for source, target in ((near, far), (far, near)):
        async with trio.open_nursery() as nursery:

            async def send_all(source=source) -> None:
                for message in messages:
                    await source.send(message)

            nursery.start_soon(send_all)
            assert [await target.receive() for _ in messages] == messages
    await near.aclose()
    assert await far.receive() is None


async def test_sends_of_several_tasks_do_not_mix():
    near, far, _ = await _pair()
    async with trio.open_nursery() as nursery:
        for letter in b"abcdef":
            nursery.start_soon(near.send, bytes([letter]) * 300_000)
        got = [await far.receive() for _ in range(6)]
    assert sorted({message[0] for message in got}) == list(b"abcdef")
    assert all(len(set(message)) == 1 and len(message) == 300_000 for message in got)


@pytest.mark.parametrize(
    ("key", "ring"),
    [(OTHER, RING), (None, RING), (wire.Key(b"\x09" * 16, KEY.psk), RING), (KEY, None)],
    ids=["other key", "plain", "unknown id", "no keys"],
)
async def test_the_wrong_key_is_a_peer_error_at_both_ends(key, ring):
    with trio.fail_after(120):
        near, far = trio.testing.memory_stream_pair()
        outcomes = []

        async def note(call) -> None:
            try:
                await call()
            except errors.PeerError as error:
                outcomes.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, partial(links.SecureLink.dialled, near, key, os.urandom, peer="far"))
            accept = partial(links.SecureLink.accepted, far, ring, os.urandom, plain_allowed=False, peer="near")
            nursery.start_soon(note, accept)
    assert len(outcomes) == 2 and all(error.fields["cause"] for error in outcomes)


async def test_altered_bytes_end_the_link_with_a_peer_error():
    near, far, stream = await _pair()
    await stream.send_all(b"\x20\x00\x00\x00" + bytes(32))
    with pytest.raises(errors.PeerError) as refused:
        await far.receive()
    assert refused.value.fields["cause"] == "BadPacket"


async def test_a_link_cut_inside_a_message_is_no_good_end():
    near, far, stream = await _pair()
    await stream.send_all(b"\x20\x00\x00\x00" + bytes(8))
    await stream.aclose()
    with pytest.raises(errors.PeerError):
        await far.receive()


async def test_the_listener_hands_over_links_and_outlives_bad_ones():
    listeners = await links.bind(Address("127.0.0.1", 0), "listen.cluster")
    address = links.bound_address(listeners)

    async def echo(link: links.SecureLink) -> None:
        while (message := await link.receive()) is not None:
            await link.send(message)

    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(
                links.serve, listeners, RING, echo, os.urandom, plain_allowed=False, handshake_timeout_s=5, links_max=2
            )
        )
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"nonsense")
            with trio.fail_after(120):
                while await stream.receive_some():
                    pass
        with pytest.raises(errors.PeerError):
            await links.dial(address, OTHER, os.urandom)
        link = await links.dial(address, KEY, os.urandom)
        await link.send(b"hello")
        assert await link.receive() == b"hello"
        await link.aclose()
        nursery.cancel_scope.cancel()


async def test_more_links_than_links_max_are_closed_at_once():
    listeners = await links.bind(Address("127.0.0.1", 0), "listen.cluster")
    address = links.bound_address(listeners)

    async def hold(link: links.SecureLink) -> None:
        assert await link.receive() is None

    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(
                links.serve, listeners, RING, hold, os.urandom, plain_allowed=False, handshake_timeout_s=5, links_max=1
            )
        )
        link = await links.dial(address, KEY, os.urandom)
        with pytest.raises((errors.PeerError, trio.BrokenResourceError)):
            await links.dial(address, KEY, os.urandom)
        await link.aclose()
        nursery.cancel_scope.cancel()


async def test_dialling_nobody_is_an_os_error_that_names_the_address():
    listeners = await links.bind(Address("127.0.0.1", 0), "listen.cluster")
    address = links.bound_address(listeners)
    for listener in listeners:
        listener.close()
    with pytest.raises(OSError, match=str(address.port)):
        await links.dial(address, KEY, os.urandom)
