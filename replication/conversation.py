"""Carries messages of one link: one task receives, one sends, one beats. Every choice is the part's.

A conversation lasts as long as neither end changes its role: when a role changes, all links are ended and dialled anew,
so a part never has to ask whom it is talking to. A link that says nothing for SILENCE_HEARTBEATS ends (both ends watch).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from storage import PeerError

from .links import OUTBOX_MESSAGES_MAX, SILENCE_HEARTBEATS, MessageLink
from .messages import Heartbeat, Message, decode, encode

CLOSE_S = 0.5


class Part(Protocol):
    """What one end does on a link: lead, follow or just listen."""

    async def run(self) -> None:
        """Background work of this part; may return early. Cancelled with the link."""

    async def on_message(self, message: Message) -> None: ...

    async def next_messages(self) -> list[Message]:
        """What to send when nothing else waits; empty until `wake` is called."""

    def on_beat(self) -> None:
        """Called once a heartbeat."""


class Conversation:
    """One link. Invariant: at most OUTBOX_MESSAGES_MAX messages wait, beyond what the part makes on demand."""

    def __init__(
        self,
        link: MessageLink,
        *,
        dialled: bool,
        heartbeat_s: float,
        make_heartbeat: Callable[[], Heartbeat],
        heard: Callable[[Message], None],
    ) -> None:
        self.dialled = dialled
        self.running = False  # past the Hellos
        self.gone = trio.Event()
        self.scope = trio.CancelScope()
        self.peer = ""
        self._link = link
        self._heartbeat_s = heartbeat_s
        self._make_heartbeat = make_heartbeat
        self._heard = heard
        self._outbox: deque[Message] = deque()
        self._beat_due = False
        self._bell = trio.Event()
        self._heard_at = trio.current_time()
        self._handling = False  # while a message is taken in, nobody listens, so silence proves nothing

    @property
    def silence_s(self) -> float:
        return self._heartbeat_s * SILENCE_HEARTBEATS

    def cancel(self) -> None:
        """End this link soon. Safe to call from anywhere, more than once."""
        self.scope.cancel()

    def post(self, message: Message) -> None:
        """Queue a control message. Raises PeerError when the peer has not taken the ones before."""
        if len(self._outbox) >= OUTBOX_MESSAGES_MAX:
            raise PeerError(f"{self.peer} does not take messages: {OUTBOX_MESSAGES_MAX} are waiting")
        self._outbox.append(message)
        self.wake()

    def wake(self) -> None:
        """The part may have something to send."""
        self._bell.set()

    async def exchange(self, hello: Message) -> Message:
        """Send the first message and receive the peer's, at the same time. Raises PeerError."""
        received: list[bytes | None] = []

        async def receive() -> None:
            received.append(await self._link.receive())

        with trio.move_on_after(self.silence_s) as waited:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await self._link.send(encode(hello))
        if waited.cancelled_caught:
            raise PeerError(f"no Hello within {self.silence_s:g} s")
        if received[0] is None:
            raise PeerError("the peer closed the link instead of saying Hello")
        self._heard_at = trio.current_time()
        return decode(received[0])

    async def run(self, part: Part) -> None:
        """Until the peer closes, or an error ends it. Raises PeerError, BrokenResourceError or what the part raises."""
        self._heard_at = trio.current_time()
        self.running = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(part.run)
            nursery.start_soon(self._send, part)
            nursery.start_soon(self._beat, part)
            while (data := await self._link.receive()) is not None:
                self._heard_at = trio.current_time()
                message = decode(data)
                self._heard(message)
                self._handling = True
                await part.on_message(message)
                self._handling = False
                self._heard_at = trio.current_time()
            nursery.cancel_scope.cancel()

    async def close(self) -> None:
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_S, shield=True):
            await self._link.aclose()

    async def _send(self, part: Part) -> None:
        while True:
            self._bell = trio.Event()
            if self._outbox:
                await self._link.send(encode(self._outbox.popleft()))
            elif self._beat_due:
                self._beat_due = False
                await self._link.send(encode(self._make_heartbeat()))
            elif messages := await part.next_messages():
                for message in messages:
                    await self._link.send(encode(message))
            else:
                await self._bell.wait()

    async def _beat(self, part: Part) -> None:
        while True:
            silent_s = trio.current_time() - self._heard_at
            if silent_s > self.silence_s and not self._handling:
                raise PeerError(f"{self.peer} has been silent for {silent_s:.1f} s, limit {self.silence_s:g} s")
            part.on_beat()
            self._beat_due = True
            self.wake()
            await trio.sleep(self._heartbeat_s)
