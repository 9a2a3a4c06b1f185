"""A plain task that carries one conversation over any stream, in place of the hub: for the simulator and for tests.

Same sessions, same service, same bounds; only the sockets are missing. Every choice is the conversation's.
"""

from __future__ import annotations

import trio

from . import wire
from .config import Limits
from .conversation import Conversation
from .service import Service

SEND_BYTES_MAX = 1_048_576


async def carry(
    stream: trio.abc.Stream,
    service: Service,
    session: wire.ServerSession,
    limits: Limits,
    *,
    peer: str,
) -> str:
    """Until the client ends, breaks the protocol or is lost; returns the reason. The stream is closed."""
    work = _Work()
    conversation = Conversation(
        session,
        service,
        peer=peer,
        in_flight_max=limits.in_flight_max,
        output_bytes_max=limits.connection_buffer_bytes,
        on_output=work.set,
    )
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(_receive, stream, conversation, service, work)
        try:
            await _send(stream, conversation, service, work)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            conversation.finish("lost")
        finally:
            conversation.finish("cancelled")
            nursery.cancel_scope.cancel()
    return conversation.reason


class _Work:
    """Wakes the sending task, which also pumps."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self.taken = trio.Event()  # set whenever bytes left, for the receiving task to look again

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()

    def tell_taken(self) -> None:
        self.taken.set()
        self.taken = trio.Event()


async def _receive(stream: trio.abc.Stream, conversation: Conversation, service: Service, work: _Work) -> None:
    while not conversation.finished:
        if not conversation.reading:
            await work.taken.wait()
            continue
        try:
            data = await stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            conversation.finish("lost")
            work.set()
            return
        messages = conversation.receive_now(data)
        if messages:
            service.begin_round([conversation] * len(messages), messages)
        service.end_of_wakeup()
        work.set()


async def _send(stream: trio.abc.Stream, conversation: Conversation, service: Service, work: _Work) -> None:
    while True:
        while data := conversation.data_to_send(SEND_BYTES_MAX):
            await stream.send_all(data)
        service.room.settle(0)  # each stream pushes back by itself
        if conversation.can_pump:
            conversation.pump()
            service.end_of_wakeup()
            await trio.lowlevel.checkpoint()
            continue
        work.tell_taken()
        if conversation.finished:
            return
        await work.wait()
