"""The hub: one task that owns all client sockets through one epoll descriptor. A seam: sockets live here and in links.py.

A turn: trio says the epoll descriptor is readable; every ready socket is read once into one reused buffer; what can be
answered is answered in place; databases written to are flushed; then each connection with answers gets one send. Answers
of tasks and of the sync thread wake a second small task, which does the second half of a turn.

Bounds (INV-8), each counted in metrics when reached: connections (more are refused by name, after their handshake),
bytes buffered on one connection (it is not read from) and on all (pressure.py says who goes on), time without requests, time
without taking answers, time for the handshake. What one connection does wrong ends that connection and no other. Nothing here holds
the loop for more than a few milliseconds: a turn stops at SLICE_S and goes on in the next (INV-9).
"""

from __future__ import annotations

import logging
import resource
import select
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import NamedTuple

import trio

from storage import errors

from . import wire
from .config import Limits
from .conversation import Conversation
from .links import OUT_OF_DESCRIPTORS
from .metrics import Metrics
from .pressure import RELIEF_S, Pressure, overdue, to_cut
from .service import Service

log = logging.getLogger(__name__)

RECEIVE_BYTES_MAX = 262_144  # taken from one socket in one turn
SEND_BYTES_MAX = 1_048_576  # sealed for one socket in one step
SEND_STEPS_MAX = 4  # steps for one socket in one turn
EVENTS_MAX = 256
ROUNDS_MAX = 16  # looks at the sockets in one turn
ROUND_REQUESTS = 128  # begun at once, and a chunk of a socket more: 1 ms, or 3 without the native kernel
LINGER_LOOKS = 100
LINGER_ROUND_MAX = 2
LINGER_TRIES_EVERY = 64
LINGER_WEIGHT = 0.1  # of the newest experience
EVENTS_BETWEEN_LOOKS = 8  # at the clock, within a round
ACCEPTS_MAX = 64  # in one turn
RELEASED_MAX = 256  # connections in one turn that go on after the pressure fell
CROWD_MAX = 64  # connections over the limit that are being told so
SLICE_S = 0.004
HOUSEKEEPING_S = 1.0
LOOKED_AT_ONCE = 1_000  # connections, a millisecond or two
LINGER_S = 2.0  # how long a closed connection may take to read the last answer
DESCRIPTORS_KEPT = 128  # for the engine's files and the peers' links, whatever clients do
TELL_EVERY_S = 60.0
RETRY_AFTER_MS = 1_000
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close drops what was not sent
BUG = "%s: serving this connection met a bug; it is closed"

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR


class Fullest(NamedTuple):
    """The most that any one connection holds, as the house was kept last."""

    in_flight: int
    answer_bytes: int


class _Connection:
    """One socket and its conversation. `out` is what a send left over."""

    __slots__ = (
        "sock", "descriptor", "conversation", "out", "mask", "accounted", "accepted_at", "received_at", "sent_at",
        "lingers_until", "taken",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        self.conversation: Conversation  # set by the hub before anything else happens
        self.out: memoryview | None = None
        self.mask = READ
        self.accounted = self.taken = 0
        self.accepted_at = self.received_at = self.sent_at = now
        self.lingers_until: float | None = None


def _descriptors_max() -> int:
    """From this number on a descriptor is not for a client."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - min(DESCRIPTORS_KEPT, limit // 4)


class Hub:
    """Made with bound sockets; serves while `run` runs. `make_session` gives a fresh session for each connection."""

    def __init__(
        self,
        listeners: list[socket.socket],
        service: Service,
        make_session: Callable[[], wire.ServerSession],
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._service = service
        self._make_session = make_session
        self._limits = limits
        self._metrics = metrics
        self._epoll = select.epoll()
        self._buffer = memoryview(bytearray(RECEIVE_BYTES_MAX))
        self._connections: dict[int, _Connection] = {}
        self._dirty: dict[_Connection, None] = {}  # may have something to send or to pump
        self._work = trio.Event()
        self._settled: trio.Event | None = None  # set at the end of a turn, when somebody waits for it
        self._round_size = 0
        self._lingers = 0
        self._worth_lingering = 0.0
        self._callers: list[Conversation] = []  # of the messages read in this round, one for each
        self._messages: list[bytes] = []
        self._in_turn = False
        self._now = 0.0  # of the round under way
        self._turn_ends_at = 0.0
        self.buffered_bytes = 0  # requests and answers, on all connections
        self.fullest = Fullest(0, 0)
        self._pressure = Pressure(limits.total_buffer_bytes)
        self._held_back: dict[_Connection, None] = {}  # would be read from or pumped, were it not for the pressure
        self._released: dict[_Connection, None] = {}  # were held back, and are to be looked at now that it has fallen
        self._accepting = False
        self._descriptors_max = _descriptors_max()
        self._tells_descriptors_at = 0.0
        metrics.watch("connections", "Client connections", lambda: len(self._connections))
        metrics.watch("buffered_bytes", "Requests and answers waiting on all connections", lambda: self.buffered_bytes)

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then every socket is closed."""
        for descriptor in self._listeners:
            self._epoll.register(descriptor, READ)
        self._accepting = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._poll)
                nursery.start_soon(self._deliver)
                nursery.start_soon(self._keep_house)
                task_status.started()
        finally:
            self.stop_accepting()
            for connection in list(self._connections.values()):
                self._close(connection, "stopped")
            self._epoll.close()

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections go on."""
        listeners, self._listeners = self._listeners, {}
        for descriptor, listener in listeners.items():
            if self._accepting:
                self._epoll.unregister(descriptor)
            listener.close()
        self._accepting = False

    async def flushed(self) -> None:
        """Until no answer waits to be sent."""
        while any(c.out is not None or c.conversation.sendable_bytes for c in self._connections.values()):
            if self._settled is None:
                self._settled = trio.Event()
            await self._settled.wait()

    # Turns.

    async def _poll(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._metrics.wakeups += 1
            self._in_turn = True
            self._turn_ends_at = trio.current_time() + SLICE_S
            for _ in range(ROUNDS_MAX):  # who sends again at once is served without a way through the scheduler
                if not self._serve_ready(self._epoll.poll(0, EVENTS_MAX) or self._linger()):
                    break
            self._in_turn = False

    def _linger(self) -> list[tuple[int, int]]:
        """Look again and again for a moment, about 0.1 ms, after a round of one or two connections, where that lately found something
        more often than not: to sleep and be woken costs a lone client more than that. Elsewhere only now and then, to learn of a change."""
        if self._round_size > LINGER_ROUND_MAX:
            return []
        self._lingers += 1
        if self._worth_lingering < 0.5 and self._lingers % LINGER_TRIES_EVERY:
            return []
        poll, found = self._epoll.poll, []
        for _ in range(LINGER_LOOKS):
            found = poll(0, EVENTS_MAX)
            if found:
                break
        self._worth_lingering += ((1.0 if found else 0.0) - self._worth_lingering) * LINGER_WEIGHT
        return found

    def _serve_ready(self, events: list[tuple[int, int]]) -> bool:
        """One round over the sockets that are ready; False when there are none, or this turn's time is over."""
        self._metrics.rounds += 1
        self._round_size = len(events)
        if not events:
            if self._dirty:
                self._settle()
            return False
        self._now = trio.current_time()
        first = self._metrics.rounds % len(events)  # epoll begins with the same ones every time
        connections = self._connections
        for number, (descriptor, mask) in enumerate(events[first:] + events[:first] if first else events, 1):
            connection = connections.get(descriptor)
            if mask == READ and connection is not None:
                try:
                    self._receive(connection)
                except Exception:
                    log.exception(BUG, connection.conversation.peer)
                    self._close(connection, "bug")
            else:
                self._on_event(descriptor, mask)
            enough = len(self._messages) >= ROUND_REQUESTS
            if enough:
                self._begin_round()
            if (enough or number % EVENTS_BETWEEN_LOOKS == 0) and trio.current_time() > self._turn_ends_at:
                break  # what was not looked at is ready still in the next turn
        self._begin_round()
        self._settle()
        return trio.current_time() < self._turn_ends_at

    def _begin_round(self) -> None:
        """Begin what was read from all connections, at once."""
        callers, messages = self._callers, self._messages
        if messages:
            self._callers, self._messages = [], []
            try:
                self._service.begin_round(callers, messages)
            except Exception:
                log.exception("beginning %d requests met a bug; the connections they came over are closed", len(messages))
                for connection in [c for c in self._connections.values() if c.conversation in callers]:
                    self._close(connection, "bug")

    async def _deliver(self) -> None:
        """The second half of a turn, for answers that came from elsewhere and for what a turn left over."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            self._in_turn = True
            self._now = trio.current_time()
            self._turn_ends_at = self._now + SLICE_S
            if self._released:
                self._release()
            for connection in list(self._dirty):
                self._guard(connection, self._pump)
                if trio.current_time() > self._turn_ends_at:
                    break
            self._settle()
            self._in_turn = False

    def _on_event(self, descriptor: int, mask: int) -> None:
        if descriptor in self._listeners:
            self._accept(self._listeners[descriptor])
            return
        connection = self._connections.get(descriptor)
        if connection is None:
            return
        if mask & READ:
            self._guard(connection, self._receive)
        elif mask & GONE:
            self._close(connection, "lost")
        if mask & WRITE:
            self._dirty[connection] = None

    def _receive(self, connection: _Connection) -> None:
        if self._pressure.level and connection.lingers_until is None and not self._pressure.allows(connection.accounted, connection.taken):
            self._hold_back(connection)
            return
        try:
            size = connection.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection, "lost")
            return
        if connection.lingers_until is not None:
            if not size:
                self._close(connection, connection.conversation.reason)
            return
        self._metrics.received_bytes += size
        connection.received_at = self._now
        self._dirty[connection] = None
        conversation = connection.conversation
        messages = conversation.receive_now(bytes(self._buffer[:size]), self._turn_ends_at)
        if messages:
            self._callers += [conversation] * len(messages)
            self._messages += messages

    def _pump(self, connection: _Connection) -> None:
        if connection.conversation.can_pump and self._pressure.allows(connection.accounted, connection.taken):
            connection.conversation.pump(self._turn_ends_at)

    def _hold_back(self, connection: _Connection) -> None:
        """Neither read nor pumped until the pressure has fallen."""
        self._held_back[connection] = None
        self._set_mask(connection)

    def _settle(self) -> None:
        """Flush, then send what there is: one send a connection, unless its answers are very large."""
        self._service.end_of_wakeup()
        dirty, self._dirty = self._dirty, {}
        connections = self._connections
        for connection in dirty:
            if connections.get(connection.descriptor) is not connection:
                continue
            try:
                self._send(connection)
            except Exception:
                log.exception(BUG, connection.conversation.peer)
                self._close(connection, "bug")
            quiet = connection.mask == READ and connection.out is None and not connection.accounted
            if not (quiet and connection.conversation.is_idle):
                self._guard(connection, self._look_again)
        self._watch_total()
        self._service.room.settle(self.buffered_bytes)
        if self._settled is not None:
            settled, self._settled = self._settled, None
            settled.set()

    def _guard(self, connection: _Connection, step: Callable[[_Connection], None]) -> None:
        """A bug met while serving one connection ends that connection and no other."""
        if self._connections.get(connection.descriptor) is not connection:
            return
        try:
            step(connection)
        except Exception:
            log.exception(BUG, connection.conversation.peer)
            self._close(connection, "bug")

    def _send(self, connection: _Connection) -> None:
        conversation = connection.conversation
        for _ in range(SEND_STEPS_MAX):
            data = connection.out or conversation.data_to_send(SEND_BYTES_MAX)
            if not data:
                break
            try:
                sent = connection.sock.send(data)
            except BlockingIOError:
                connection.out = memoryview(data)
                break
            except OSError:
                self._close(connection, "lost")
                return
            self._metrics.sent_bytes += sent
            connection.sent_at = self._now
            connection.taken += sent
            if sent < len(data):
                connection.out = memoryview(data)[sent:]
                break
            connection.out = None
            if not conversation.sendable_bytes:
                break
        if conversation.finished and connection.out is None and not conversation.sendable_bytes:
            self._end(connection)

    def _look_again(self, connection: _Connection) -> None:
        """After a connection was served: account for it, decide what to wait for on it, and whether to come again."""
        conversation = connection.conversation
        held = conversation.buffered_bytes + (len(connection.out) if connection.out is not None else 0)
        self.buffered_bytes += held - connection.accounted
        connection.accounted = held
        if conversation.can_pump and self._pressure.allows(held, connection.taken):
            self._dirty[connection] = None
            self._work.set()
        self._set_mask(connection)

    def _set_mask(self, connection: _Connection) -> None:
        conversation = connection.conversation
        mask = 0
        if connection.lingers_until is not None:
            mask |= READ
        elif not self._pressure.allows(connection.accounted, connection.taken):
            self._held_back[connection] = None
        else:
            if self._held_back:
                self._held_back.pop(connection, None)
            if conversation.reading:
                mask |= READ
        if connection.out is not None or conversation.sendable_bytes:
            mask |= WRITE
        if mask != connection.mask:
            self._epoll.modify(connection.descriptor, mask)
            connection.mask = mask

    def _on_output(self, connection: _Connection) -> None:
        self._dirty[connection] = None
        if not self._in_turn:
            self._work.set()

    # Beginning and ending.

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self._rest_accepting()
                    return
                continue  # that client is gone again
            self._metrics.connections_accepted += 1
            if sock.fileno() >= self._descriptors_max:  # numbers are given from below: nearly all are taken
                self._metrics.closed["descriptors"] += 1
                sock.close()
                self._rest_accepting()
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._admit(sock, str(address[0]))

    def _admit(self, sock: socket.socket, peer: str) -> None:
        refusal = None
        if len(self._connections) >= self._limits.connections_max:
            if len(self._connections) >= self._limits.connections_max + CROWD_MAX:
                self._metrics.bounds["connections_max"] += 1
                self._metrics.closed["connections_max"] += 1
                sock.close()
                return
            refusal = errors.Overloaded(
                f"this node has {self._limits.connections_max} connections, its limit (limits.connections_max);"
                f" close some, or try again later",
                bound="connections_max", limit=self._limits.connections_max, retry_after_ms=RETRY_AFTER_MS,
            )  # fmt: skip
        connection = _Connection(sock, trio.current_time())
        connection.conversation = Conversation(
            self._make_session(),
            self._service,
            peer=peer,
            in_flight_max=self._limits.in_flight_max,
            output_bytes_max=self._limits.connection_buffer_bytes,
            on_output=partial(self._on_output, connection),
            refusal=refusal,
        )
        self._connections[connection.descriptor] = connection
        self._epoll.register(connection.descriptor, READ)
        self._set_mask(connection)

    def _end(self, connection: _Connection) -> None:
        """Everything was sent: say so, and give the client a moment to read it before the socket goes."""
        if connection.conversation.reason == "ended":
            self._close(connection, "ended")
            return
        if connection.lingers_until is None:
            connection.lingers_until = trio.current_time() + LINGER_S
            try:
                connection.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._close(connection, connection.conversation.reason)

    def _close(self, connection: _Connection, reason: str) -> None:
        if self._connections.pop(connection.descriptor, None) is None:
            return
        self._held_back.pop(connection, None)
        self._released.pop(connection, None)
        self._metrics.closed[reason] += 1
        self.buffered_bytes -= connection.accounted
        connection.accounted = 0
        connection.conversation.finish(reason)
        connection.conversation.let_go()
        self._epoll.unregister(connection.descriptor)
        if connection.out is not None:  # nobody takes it: what the kernel holds of it goes now, too
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.out = None
        connection.sock.close()

    # Bounds that are watched from time to time.

    def _watch_total(self) -> None:
        pressure = self._pressure
        was = pressure.level
        if not pressure.measure(self.buffered_bytes, self._now):
            return
        if pressure.is_full:
            self._metrics.bounds["total_buffer_bytes"] += 1
        if pressure.level < was:
            self._released.update(self._held_back)
            self._held_back.clear()
            self._work.set()

    def _release(self) -> None:
        """Let connections that were held back go on, some in a turn; those that may not yet are held back again."""
        for connection in list(islice(self._released, RELEASED_MAX)):
            del self._released[connection]
            self._dirty[connection] = None
        if self._released:
            self._work.set()

    def _rest_accepting(self) -> None:
        """No descriptor is left: look again when the house is kept."""
        self._metrics.bounds["descriptors"] += 1
        now = trio.current_time()
        if now >= self._tells_descriptors_at:
            self._tells_descriptors_at = now + TELL_EVERY_S
            log.warning("no file descriptor is left for new connections; raise the limit (ulimit -n) or lower connections_max")
        for descriptor in self._listeners:
            self._epoll.modify(descriptor, 0)

    async def _keep_house(self) -> None:
        kept_at = -HOUSEKEEPING_S
        while True:
            await trio.sleep(RELIEF_S if self._pressure.level else HOUSEKEEPING_S)
            self._now = trio.current_time()
            if self._pressure.level:
                self._relieve()
            if self._now - kept_at >= HOUSEKEEPING_S:
                kept_at = self._now
                for descriptor in self._listeners:
                    self._epoll.modify(descriptor, READ)
                await self._look_at_all()

    async def _look_at_all(self) -> None:
        """Cut who is overdue, and see which connections hold most; some at a time (INV-9)."""
        in_flight = answer_bytes = 0
        for number, connection in enumerate(list(self._connections.values()), 1):
            if number % LOOKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if self._connections.get(connection.descriptor) is not connection:
                continue
            reason = overdue(connection, self._limits, self._now)
            if reason is not None:
                if reason != "linger":
                    self._metrics.bounds[reason] += 1
                self._close(connection, reason)
                continue
            in_flight = max(in_flight, connection.conversation.in_flight)
            answer_bytes = max(answer_bytes, connection.conversation.answer_bytes)
        self.fullest = Fullest(in_flight, answer_bytes)

    def _relieve(self) -> None:
        """Under pressure: cut those that hold most and take nothing, as many as it takes to be at ease."""
        cut = to_cut(self._connections.values(), self._pressure, self.buffered_bytes, self._now)
        if cut:
            log.warning(
                "%d connections that held %d bytes and took nothing are cut, the largest of %s: total_buffer_bytes is nearly used up",
                len(cut), sum(connection.accounted for connection in cut), cut[0].conversation.peer,
            )  # fmt: skip
        for connection in cut:
            self._close(connection, "total_buffer_bytes")
        self._watch_total()
