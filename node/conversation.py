"""One client's connection: bytes in, requests to the service, answers, bytes out. No socket, no epoll, no task.

    receive_data ──> session ──> pump ──> service.begin ──> answer ──> session ──> data_to_send

The hub drives it over a socket, a plain task (carrier.py) over any stream. Bounds (INV-8): at most in_flight_max requests
are under way, and while output_bytes_max of answers wait no further request is begun and `reading` is False: the
driver then stops taking bytes from the client, who waits.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable

import trio

from storage import errors

from . import wire
from .answer_room import FIRST_SHARE, AnswerRoom
from .service import Service, cancel_all
from .users import Role

log = logging.getLogger(__name__)

TURN_REQUESTS_MAX = 256  # begun in one pump, so that one connection cannot hold the loop (INV-9)
TAKEN_MAX = 64  # messages taken from the session at once


def _nobody() -> None:
    """Who is told of output once the driver is gone."""


class Conversation:
    """Made at accept. After `finished` nothing is begun any more; what data_to_send() still gives is to be sent.

    on_output is called when there may be something to send or to pump that the driver does not know of.
    """

    def __init__(
        self,
        session: wire.ServerSession,
        service: Service,
        *,
        peer: str,
        in_flight_max: int,
        output_bytes_max: int,
        on_output: Callable[[], None],
        refusal: errors.TwinlogError | None = None,
    ) -> None:
        self.role = Role.NONE
        self.owner = ""
        self.peer = peer
        self.scopes: set[trio.CancelScope] = set()
        self.room = AnswerRoom(output_bytes_max, FIRST_SHARE * output_bytes_max, output_bytes_max / in_flight_max)
        self.opened = False  # the handshake is done
        self.finished = False
        self.reason = ""  # why it finished, for logs and metrics
        self.in_flight = 0
        self._session = session
        self._service = service
        self._in_flight_max = in_flight_max
        self._output_bytes_max = output_bytes_max
        self._on_output = on_output
        self._refusal = refusal
        self._taken: deque[bytes] = deque()
        self._taken_bytes = 0
        self._more = False  # the last pump stopped at a bound, not for want of bytes
        self._key = ""

    # For the driver.

    def receive_data(self, data: bytes) -> None:
        """Bytes of the client; b"" when its stream ended. Then pump()."""
        if not self.finished:
            self._session.receive_data(data)
            self._more = True

    def receive_now(self, data: bytes, ends_at: float = math.inf) -> list[bytes] | None:
        """receive_data() and pump() in one. The usual chunk, whole requests on a quiet connection, takes a short way: they are given
        back, count as under way, and must all be handed to service.begin_round(). None: everything was done here."""
        if not self.opened or self.finished or self._more or self._taken or self._refusal is not None:
            self.receive_data(data)
            self.pump(ends_at)
            return None
        try:
            messages = self._session.receive_now(data)
        except wire.WireError as error:
            self._break_off(error)
            return None
        if messages is None:
            self._more = True
            self.pump(ends_at)
            return None
        in_flight = self.in_flight + len(messages)
        if in_flight > self._in_flight_max or self._session.pending_bytes >= self._output_bytes_max:
            self._taken.extend(messages)
            self._taken_bytes += sum(map(len, messages))
            self._more = True
            self.pump(ends_at)
            return None
        self.in_flight = in_flight
        return messages

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to pump, to send or to account for: the driver may leave this connection alone."""
        return (
            not self._more
            and not self._taken
            and self._session.is_idle
            and self.in_flight < self._in_flight_max
            and not self.finished
        )

    @property
    def can_pump(self) -> bool:
        """Whether pump() could begin something now."""
        return self._more and not self.finished and self._has_room

    @property
    def reading(self) -> bool:
        """Whether the driver may take more bytes from the client."""
        return not self.finished and not self._more and self._has_room

    @property
    def _has_room(self) -> bool:
        return self.in_flight < self._in_flight_max and self._session.pending_bytes < self._output_bytes_max

    @property
    def answer_bytes(self) -> int:
        """Of the answers that wait to be sent."""
        return self._session.pending_bytes

    @property
    def sendable_bytes(self) -> int:
        return self._session.sendable_bytes

    @property
    def buffered_bytes(self) -> int:
        """Everything held here: requests not begun, answers not sent."""
        return self._session.received_bytes + self._taken_bytes + self._session.pending_bytes

    def data_to_send(self, bytes_max: int) -> bytes:
        """About bytes_max of what is ready; b"" when there is nothing. Must be sent whole and in order."""
        data = self._session.data_to_send(bytes_max)
        if self.room.is_used:
            self.room.settle(self._session.pending_bytes)
        return data

    def pump(self, ends_at: float = math.inf) -> None:
        """Begin requests until a bound, this turn's share or the time ends_at; ask can_pump whether to come again."""
        begun = 0
        try:
            while self.can_pump and begun < TURN_REQUESTS_MAX:
                if self._taken:
                    self._begin(self._taken.popleft())
                    begun += 1
                    if trio.current_time() > ends_at:
                        return
                elif not self._take():
                    return
        except wire.WireError as error:
            self._break_off(error)

    def finish(self, reason: str) -> None:
        """Nothing more will be taken; reads under way are given up, writes are finished and their answers dropped."""
        if self.finished:
            return
        self.finished = True
        self.reason = reason
        self._taken.clear()
        self._taken_bytes = 0
        cancel_all(self.scopes)

    def let_go(self) -> None:
        """The connection is closed: nothing that waited here can be sent any more. Call it after finish()."""
        self._session.discard()
        self._on_output = _nobody

    # For the service.

    def answer(self, message: bytes) -> None:
        """The answer to one request that was begun here."""
        self.in_flight -= 1
        assert self.in_flight >= 0, "every request is answered once"
        if not self.finished:
            self._session.send_message(message)
            self._on_output()

    def answer_frames(self, frames: bytes, count: int) -> None:
        """The answers, framed, to so many requests that were begun here."""
        self.in_flight -= count
        assert self.in_flight >= 0, "every request is answered once"
        if not self.finished:
            self._session.send_frames(frames)
            self._on_output()

    def abandon(self, error: wire.WireError, unbegun: int) -> None:
        """A request cannot even be answered: the connection cannot go on, nor can the unbegun ones after it."""
        self.in_flight -= unbegun
        self._break_off(error)

    def put_back(self, message: bytes) -> None:
        """A request that was handed over with many others and not begun: it waits its turn in pump(), within the bounds."""
        self.in_flight -= 1
        if not self.finished:
            self._taken.append(message)
            self._taken_bytes += len(message)
            self._more = True
            self._on_output()

    def become(self, user: str, role: Role) -> None:
        """Somebody logged in."""
        self.role = role
        self.owner = f"{self._key}/{user}"

    # Inside.

    def _break_off(self, error: wire.WireError) -> None:
        log.info("%s: %s: %s", self.peer, error.name, error.message)
        self.finish(error.name)

    def _take(self) -> bool:
        """Get what the session has; False when it needs data or is over."""
        if self.opened:
            messages = self._session.take_messages(TAKEN_MAX)
            if messages:
                self._taken.extend(messages)
                self._taken_bytes += sum(map(len, messages))
                return True
        event = self._session.next_event()
        if event is wire.NEED_DATA:
            self._more = False
            return False
        if isinstance(event, wire.Ended):
            self.finish("ended")
            return False
        if isinstance(event, wire.HandshakeDone):
            self.opened = True
            self.role = self._service.first_role
            self._key = self.owner = event.key_id.hex()
        else:
            self._taken.append(event.data)
            self._taken_bytes += len(event.data)
        return True

    def _begin(self, message: bytes) -> None:
        self._taken_bytes -= len(message)
        self.in_flight += 1
        if self._refusal is not None:
            self._service.refuse(self, message, self._refusal)
            self.finish("refused")
            return
        try:
            self._service.begin(self, message)
        except wire.BadMessage:
            self.in_flight -= 1
            raise
