"""SimStream keeps trio's stream rules, and each network fault does what it says."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, check_two_way_stream

from tests.sim.links import BUFFER_BYTES_MAX, DIAL_TIMEOUT_S, SimNetwork, SimStream


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def pair(network: SimNetwork, nursery: trio.Nursery) -> tuple[SimStream, SimStream]:
    """(a's end, b's end) of a connection from a to b."""
    arrived: list[SimStream] = []
    done = trio.Event()

    async def keep(stream: SimStream) -> None:
        arrived.append(stream)
        done.set()
        await trio.sleep_forever()

    await nursery.start(network.serve, "b/x", keep)
    near = await network.dial("a", "b/x")
    await done.wait()
    return near, arrived[0]


def with_pair(seed: int = 1) -> Callable[[Callable[..., Awaitable[None]]], None]:
    def play(scene: Callable[..., Awaitable[None]]) -> None:
        async def run() -> None:
            network = SimNetwork(random.Random(seed))
            async with trio.open_nursery() as nursery:
                await scene(network, *await pair(network, nursery))
                nursery.cancel_scope.cancel()

        trio.run(run, clock=MockClock(autojump_threshold=0))

    return play


async def test_trio_stream_rules(autojump_clock: MockClock) -> None:
    network = SimNetwork(random.Random(2))
    numbers = iter(range(1000))

    async def make() -> tuple[SimStream, SimStream]:
        arrived: list[SimStream] = []
        done = trio.Event()

        async def keep(stream: SimStream) -> None:
            arrived.append(stream)
            done.set()
            await trio.sleep_forever()

        address = f"b/{next(numbers)}"
        await nursery.start(network.serve, address, keep)
        near = await network.dial("a", address)
        await done.wait()
        return near, arrived[0]

    async with trio.open_nursery() as nursery:
        with trio.fail_after(1000):  # virtual; without a deadline somewhere a deadlock would spin for ever
            await check_two_way_stream(make, None)
        nursery.cancel_scope.cancel()


def test_bytes_arrive_in_order_after_the_delay() -> None:
    @with_pair()
    async def scene(network: SimNetwork, near: SimStream, far: SimStream) -> None:
        network.slow("a", "b", delay_s=1.0, bytes_per_s=1000)
        began = trio.current_time()
        await near.send_all(b"a" * 1000)
        await near.send_all(b"b" * 1000)
        got = b""
        while len(got) < 2000:
            got += await far.receive_some()
        assert got == b"a" * 1000 + b"b" * 1000
        assert trio.current_time() - began > 2.0


def test_a_sender_waits_at_the_bound() -> None:
    @with_pair()
    async def scene(network: SimNetwork, near: SimStream, far: SimStream) -> None:
        with trio.move_on_after(60) as waiting:
            await near.send_all(b"x" * (2 * BUFFER_BYTES_MAX))
        assert waiting.cancelled_caught
        assert near.outgoing.buffered_bytes == BUFFER_BYTES_MAX


def test_cut_ends_streams_and_refuses_dials_until_healed() -> None:
    @with_pair()
    async def scene(network: SimNetwork, near: SimStream, far: SimStream) -> None:
        network.cut("a", "b")
        for stream in (near, far):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        with pytest.raises(OSError):
            await network.dial("a", "b/x")
        network.heal("a", "b")
        await network.dial("a", "b/x")


def test_silence_holds_bytes_and_dials() -> None:
    @with_pair(seed=3)
    async def scene(network: SimNetwork, near: SimStream, far: SimStream) -> None:
        network.silence("a", "b")
        await near.send_all(b"hello")
        with trio.move_on_after(30) as waiting:
            await far.receive_some()
        assert waiting.cancelled_caught
        await far.send_all(b"other way")
        assert await near.receive_some() == b"other way"
        began = trio.current_time()
        with pytest.raises(OSError):
            await network.dial("a", "b/x")
        assert trio.current_time() - began >= DIAL_TIMEOUT_S


def test_after_silence_streams_go_on_or_are_reset() -> None:
    outcomes = set()
    for seed in range(20):

        @with_pair(seed=seed)
        async def scene(network: SimNetwork, near: SimStream, far: SimStream) -> None:
            network.silence("a", "b")
            await near.send_all(b"hello")
            network.heal("a", "b")
            try:
                outcomes.add((await far.receive_some())[:1])
            except trio.BrokenResourceError:
                outcomes.add("reset")

    assert outcomes == {b"h", "reset"}


def test_killed_host_resets() -> None:
    @with_pair()
    async def scene(network: SimNetwork, near: SimStream, far: SimStream) -> None:
        network.vanish("b", power=False)
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()
        with pytest.raises(OSError):
            await network.dial("a", "b/x")


def test_host_without_power_is_half_open_until_it_is_back() -> None:
    @with_pair()
    async def scene(network: SimNetwork, near: SimStream, far: SimStream) -> None:
        network.vanish("b", power=True)
        with trio.move_on_after(60) as waiting:
            await near.receive_some()
        assert waiting.cancelled_caught
        network.back("b")
        with trio.move_on_after(60) as waiting:
            await near.receive_some()
        assert waiting.cancelled_caught, "nobody tells before something is sent"
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"anyone there?")
