"""SimNetwork: streams between named hosts in virtual time, with everything a network may do to them.

An address is "host/service". Each direction of a connection is one Pipe: a bounded buffer (a sender at the bound waits, as
over TCP) whose chunks arrive in order after the route's delay and bandwidth, in pieces of random size.

Faults, per pair of hosts:
    cut      streams between them end at once with an error on both sides, new dials are refused
    silence  one way or both: bytes stay in flight, dials hang; after heal some streams go on and some are reset
    slow     more delay, less bandwidth
    reset    one stream ends with an error on both sides
and per host:
    vanish(kill)   the kernel says so: every stream is reset
    vanish(power)  half-open: the peer's bytes disappear and nobody tells; a send after the host is back resets the stream

Knows no message and no node. All chance comes from the one random.Random it is given.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

BUFFER_BYTES_MAX = 64 * 1024
RECEIVE_BYTES_MAX = 64 * 1024
BACKLOG_MAX = 64
DIAL_TIMEOUT_S = 10.0

Handler = Callable[["SimStream"], Awaitable[None]]


@dataclass
class Route:
    """What one direction between two hosts is like now."""

    delay_s: float = 0.0005
    bytes_per_s: float = 100e6
    silent: bool = False
    cut: bool = False


class Pipe:
    """One direction of one connection."""

    def __init__(self, network: SimNetwork, source: str, target: str) -> None:
        self.network = network
        self.source = source
        self.target = target
        self.buffered_bytes = 0
        self.broken = False  # both ends see an error
        self.stale = False  # the receiving process died without a word; its host is up again
        self.reader_gone = False
        self.dead = False  # one host lost its power: nothing arrives
        self._chunks: deque[tuple[float, memoryview]] = deque()
        self._end_at: float | None = None
        self._last_arrival = 0.0
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def route(self) -> Route:
        return self.network.route(self.source, self.target)

    def wake(self) -> None:
        self._changed.unpark_all()

    def break_now(self) -> None:
        self.broken = True
        self._chunks.clear()
        self.buffered_bytes = 0
        self.wake()

    def _arrival(self, length: int) -> float:
        route, rng = self.route, self.network.rng
        soonest = max(trio.current_time() + route.delay_s * rng.uniform(0.5, 2.0), self._last_arrival)
        self._last_arrival = soonest + length / route.bytes_per_s
        return self._last_arrival

    def end(self) -> None:
        """No more bytes will be sent."""
        if self._end_at is None:
            self._end_at = self._arrival(0)
            self.wake()

    async def put(self, data: memoryview, closed: Callable[[], bool]) -> None:
        while data:
            if closed():
                raise trio.ClosedResourceError("this stream was closed here")
            if self.broken or self.reader_gone:
                raise trio.BrokenResourceError("the connection was reset")
            room = BUFFER_BYTES_MAX - self.buffered_bytes
            if room <= 0:
                await self._changed.park()
                continue
            piece, data = data[:room], data[room:]
            self.buffered_bytes += len(piece)
            self.network.sent_bytes += len(piece)
            self._chunks.append((self._arrival(len(piece)), piece))
            self.wake()

    async def take(self, bytes_max: int, closed: Callable[[], bool]) -> bytes:
        while True:
            if closed():
                raise trio.ClosedResourceError("this stream was closed here")
            if self.broken:
                raise trio.BrokenResourceError("the connection was reset")
            now = trio.current_time()
            due = math.inf
            if not (self.route.silent or self.dead):
                if self._chunks:
                    due = self._chunks[0][0]
                    if due <= now:
                        return self._pop(bytes_max, now)
                elif self._end_at is not None:
                    due = self._end_at
                    if due <= now:
                        return b""
            if due == math.inf:
                await self._changed.park()
                continue
            with trio.move_on_at(due):
                await self._changed.park()

    def _pop(self, bytes_max: int, now: float) -> bytes:
        """Everything that has arrived, up to a bound that is sometimes tiny."""
        rng = self.network.rng
        if rng.random() < 0.05:
            bytes_max = min(bytes_max, rng.randint(1, 64))
        parts = []
        while self._chunks and bytes_max > 0 and self._chunks[0][0] <= now:
            arrived, piece = self._chunks.popleft()
            parts.append(bytes(piece[:bytes_max]))
            if len(piece) > bytes_max:
                self._chunks.appendleft((arrived, piece[bytes_max:]))
            bytes_max -= len(parts[-1])
        data = b"".join(parts)
        self.buffered_bytes -= len(data)
        self.wake()
        return data

    @property
    def in_flight(self) -> bool:
        return bool(self._chunks)


class SimStream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    def __init__(self, outgoing: Pipe, incoming: Pipe) -> None:
        self.outgoing = outgoing
        self.incoming = incoming
        self._closed = False
        self._ended = False
        self._sending = False
        self._receiving = False

    @property
    def peer(self) -> str:
        return self.outgoing.target

    def _is_closed(self) -> bool:
        return self._closed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            if self._closed or self._ended:
                raise trio.ClosedResourceError("this stream was closed here")
            if self.outgoing.stale:
                self.reset()
            if self.outgoing.broken or self.outgoing.reader_gone:
                raise trio.BrokenResourceError("the connection was reset")
            await self.outgoing.put(memoryview(bytes(data)), self._is_closed)
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        await trio.lowlevel.checkpoint()
        if self._closed or self._ended:
            raise trio.ClosedResourceError("this stream was closed here")

    async def send_eof(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed here")
        self._ended = True
        self.outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is None:
            max_bytes = RECEIVE_BYTES_MAX
        if not isinstance(max_bytes, int):
            raise TypeError("max_bytes must be an integer")
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            return await self.incoming.take(max_bytes, self._is_closed)
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        self.close_now()
        await trio.lowlevel.checkpoint()

    def close_now(self) -> None:
        if not self._closed:
            self._closed = True
            self.outgoing.end()
            self.outgoing.wake()
            self.incoming.reader_gone = True
            self.incoming.wake()
            self.outgoing.network.forget(self)

    def fall_silent(self) -> None:
        """This end's host lost its power: nothing it sent will arrive any more, nothing sent to it is read."""
        self._closed = True
        self.outgoing.dead = self.incoming.dead = True
        self.outgoing.wake()
        self.incoming.wake()

    def reset(self) -> None:
        """Both ends get an error."""
        self.outgoing.break_now()
        self.incoming.break_now()
        self.outgoing.network.forget(self)


class SimNetwork:
    """All hosts and the routes between them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sent_bytes = 0
        self.default_route = Route()
        self._routes: dict[tuple[str, str], Route] = {}
        self._listeners: dict[str, trio.MemorySendChannel[SimStream]] = {}
        self._streams: dict[SimStream, None] = {}  # one end of each is enough to find its pipes
        self._half_open: dict[str, list[SimStream]] = {}
        self._down: set[str] = set()
        self._healed = trio.lowlevel.ParkingLot()

    def route(self, source: str, target: str) -> Route:
        found = self._routes.get((source, target))
        if found is None:
            default = self.default_route
            found = self._routes[source, target] = Route(default.delay_s, default.bytes_per_s)
        return found

    def forget(self, stream: SimStream) -> None:
        self._streams.pop(stream, None)

    # What nodes and clients use.

    async def dial(self, source: str, address: str) -> SimStream:
        """A stream to the service; OSError when refused, cut off, or after DIAL_TIMEOUT_S of silence."""
        target = address.partition("/")[0]
        there, back = self.route(source, target), self.route(target, source)
        with trio.move_on_after(DIAL_TIMEOUT_S):
            await trio.sleep(there.delay_s + back.delay_s)
            while there.silent or back.silent or target in self._down:
                await self._healed.park()
            accepting = self._listeners.get(address)
            if there.cut or back.cut or accepting is None:
                raise ConnectionRefusedError(f"{address}: connection refused")
            forth, home = Pipe(self, source, target), Pipe(self, target, source)
            near, far = SimStream(forth, home), SimStream(home, forth)
            try:
                accepting.send_nowait(far)
            except (trio.WouldBlock, trio.BrokenResourceError):
                raise ConnectionRefusedError(f"{address}: connection refused") from None
            self._streams[near] = self._streams[far] = None
            return near
        raise TimeoutError(f"{address}: no answer in {DIAL_TIMEOUT_S} s")

    async def serve(
        self,
        address: str,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections for address, each handled in a task of its own; the stream is closed after it."""
        if address in self._listeners:
            raise OSError(f"{address}: address in use")
        entering, accepted = trio.open_memory_channel[SimStream](BACKLOG_MAX)
        self._listeners[address] = entering
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                async for stream in accepted:
                    nursery.start_soon(self._handle, handler, stream)
        finally:
            if self._listeners.get(address) is entering:
                del self._listeners[address]
            accepted.close()

    async def _handle(self, handler: Handler, stream: SimStream) -> None:
        try:
            await handler(stream)
        finally:
            stream.close_now()

    # What the nemesis uses.

    def _between(self, one: str, other: str) -> list[SimStream]:
        return [s for s in self._streams if {s.outgoing.source, s.outgoing.target} == {one, other}]

    def _wake_all(self) -> None:
        for stream in list(self._streams):
            stream.outgoing.wake()
            stream.incoming.wake()
        self._healed.unpark_all()

    def cut(self, one: str, other: str) -> None:
        self.route(one, other).cut = self.route(other, one).cut = True
        for stream in self._between(one, other):
            stream.reset()

    def silence(self, source: str, target: str) -> None:
        """One way: what source sends does not arrive."""
        self.route(source, target).silent = True

    def slow(self, one: str, other: str, *, delay_s: float, bytes_per_s: float) -> None:
        for route in (self.route(one, other), self.route(other, one)):
            route.delay_s, route.bytes_per_s = delay_s, bytes_per_s

    def reset_one(self) -> bool:
        if not self._streams:
            return False
        self.rng.choice(list(self._streams)).reset()
        return True

    def heal(self, one: str, other: str) -> None:
        default = self.default_route
        was_silent = self.route(one, other).silent or self.route(other, one).silent
        for pair in ((one, other), (other, one)):
            self._routes[pair] = Route(default.delay_s, default.bytes_per_s)
        if was_silent:
            for stream in self._between(one, other):
                if self.rng.random() < 0.5:
                    stream.reset()
        self._wake_all()

    def heal_all(self) -> None:
        for one, other in sorted({(min(pair), max(pair)) for pair in self._routes}):
            self.heal(one, other)

    def vanish(self, host: str, *, power: bool) -> None:
        """The host's processes are gone: all streams reset, or, without power, silently half-open."""
        for address in [a for a in self._listeners if a.partition("/")[0] == host]:
            del self._listeners[address]
        for stream in list(self._streams):
            if stream.outgoing.source == host and power:
                stream.fall_silent()
                self._half_open.setdefault(host, []).append(stream)
            elif host in (stream.outgoing.source, stream.outgoing.target) and not power:
                stream.reset()
        if power:
            self._down.add(host)

    def back(self, host: str) -> None:
        """The host runs again: what its peers still send to the old streams is answered with a reset."""
        self._down.discard(host)
        for stream in self._half_open.pop(host, []):
            stream.incoming.stale = True
            if stream.incoming.in_flight:
                stream.reset()
        self._wake_all()
