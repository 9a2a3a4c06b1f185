"""Links between local nodes that can fail: each node dials its peer through a port of the drill.

    a ──dials──> 127.0.0.1:relay(a,b) ──> cluster port of b         and the same for (b, a)

While packets from a to b "vanish", what a sends is held and given on once the link has healed, as TCP would by sending again; so is the end of a
stream. A dial needs both directions, as its first packets do. Needs no root. Knows bytes and directions, nothing of what they say.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import trio

CHUNK_BYTES = 2**16
DIAL_SECONDS_MAX = 5.0  # a dial that does not get through is given up
HOST = "127.0.0.1"
Direction = tuple[str, str]  # from, to


class Relay:
    """Ports in front of nodes; `run` it in a nursery. Bound: a held direction holds one chunk and the kernel's buffers a link."""

    def __init__(self) -> None:
        self._listeners: list[tuple[Direction, int, trio.SocketListener]] = []
        self._vanishing: set[Direction] = set()
        self._healed = trio.Event()

    async def listen(self, dialler: str, peer: str, peer_port: int) -> int:
        """The port at which this node shall dial that peer."""
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        self._listeners.append(((dialler, peer), peer_port, listener))
        return int(listener.socket.getsockname()[1])

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            for direction, port, listener in self._listeners:
                nursery.start_soon(trio.serve_listeners, partial(self._carry, direction, port), [listener])
            task_status.started()

    def vanish(self, *directions: Direction) -> None:
        """From now on nothing arrives that goes these ways."""
        self._vanishing.update(directions)

    def heal(self) -> None:
        self._vanishing.clear()
        self._healed.set()
        self._healed = trio.Event()

    async def _passable(self, *directions: Direction) -> None:
        while self._vanishing.intersection(directions):
            await self._healed.wait()

    async def _carry(self, direction: Direction, port: int, near: trio.SocketStream) -> None:
        back = (direction[1], direction[0])
        with trio.move_on_after(DIAL_SECONDS_MAX) as waiting:
            await self._passable(direction, back)
        if waiting.cancelled_caught:
            return
        try:
            far = await trio.open_tcp_stream(HOST, port)
        except OSError:
            return  # the peer is down; the dialler's stream is closed by the server, as a refusal would
        async with far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, near, far, direction)
            nursery.start_soon(self._pump, far, near, back)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, direction: Direction) -> None:
        """One way, until the stream ends; its end is passed on as its bytes are, and then the whole link is over."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(CHUNK_BYTES):
                await self._passable(direction)
                await sink.send_all(data)
        await self._passable(direction)
        await trio.aclose_forcefully(sink)
