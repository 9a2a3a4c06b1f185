"""The trio transport: connections, a pool for each node, and carrying plans over them. The blocking one's twin.

It too moves bytes and decides nothing. A task that is cancelled in the middle of an exchange closes that connection,
because its answer would come to the next task; the slot connects again at its next use. No task of its own runs, so a
client needs no nursery.

Bounds (INV-8): `pool` connections to a node; a task waits at most timeout_s for a free one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

import trio

from node.wire import Answer, Key, Request

from . import transport
from .call import Call, goes_elsewhere
from .carrying import Attempt, Made, Outcome, Patience, carry
from .conversation import Conversation, ReadCause, ReadFailed
from .errors import (
    ConnectionFailure,
    DocumentTooLarge,
    InvalidOperation,
    NetworkTimeout,
    TwinlogError,
    WaitQueueTimeoutError,
)
from .exchange import Exchange
from .nodes import Nodes, role_in
from .url import Settings
from .verbs import Plan

T = TypeVar("T")


class TrioConnection:
    """One stream, opened and ready. Only one task uses it at a time."""

    def __init__(self, node: str, stream: trio.SocketStream, conversation: Conversation) -> None:
        self.node = node
        self._stream = stream
        self._conversation = conversation

    @classmethod
    async def open(cls, node: str, settings: Settings, key: Key | None) -> TrioConnection:
        """Dial, shake hands, log in. Raises ConnectionFailure; Refused when trying again cannot help."""
        with trio.move_on_after(settings.connect_timeout_s):
            stream = await transport.dial_trio(node)
            conversation = Conversation(
                key=key, user=settings.user, password=settings.password, random_bytes=transport.random_bytes
            )
            connection = cls(node, stream, conversation)
            try:
                await connection._send()
                while not conversation.advance_opening():
                    await connection._send()
                    await connection._receive()
            except BaseException:
                connection.close()
                raise
            return connection
        raise ConnectionFailure(f"i/o timeout: no connection within {settings.connect_timeout_s:g} s")

    @property
    def role(self) -> str:
        """What the node said it is."""
        return role_in(self._conversation.hello)

    def is_stale(self) -> bool:
        return transport.is_stale(self._stream.socket.fileno())

    async def carry(self, exchange: Exchange, timeout_s: float) -> None:
        """Until the exchange is paused; each answer may take timeout_s. After any exception the connection is unusable."""
        answered = len(exchange.answers)
        with trio.CancelScope(deadline=trio.current_time() + timeout_s) as scope:
            while not self._conversation.advance(exchange):
                await self._send()
                exchange.draw()
                await self._receive()
                if len(exchange.answers) > answered:
                    answered = len(exchange.answers)
                    scope.deadline = trio.current_time() + timeout_s
        if scope.cancelled_caught:
            raise NetworkTimeout(f"no answer within {timeout_s:g} s")
        exchange.answered_by = self.node

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """One request to its answer. After any exception but DocumentTooLarge the connection is unusable."""
        data = self._conversation.ask(request)
        with trio.CancelScope(deadline=trio.current_time() + timeout_s):
            try:
                await self._stream.send_all(data)
                while True:
                    answer = self._conversation.answer(await self._stream.receive_some(transport.RECEIVE_BYTES))
                    if answer is not None:
                        return answer
            except trio.BrokenResourceError as error:
                raise _read_failed(error) from error
        raise NetworkTimeout(f"no answer within {timeout_s:g} s")

    def close(self) -> None:
        self._stream.socket.close()

    async def _send(self) -> None:
        data = self._conversation.data_to_send()
        if data:
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError as error:
                raise _read_failed(error) from error

    async def _receive(self) -> None:
        try:
            self._conversation.receive_data(await self._stream.receive_some(transport.RECEIVE_BYTES))
        except trio.BrokenResourceError as error:
            raise _read_failed(error) from error


class TrioSlot:
    """A place for one connection in a pool."""

    def __init__(self) -> None:
        self.connection: TrioConnection | None = None

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class TrioPool:
    """The connections to one node. A channel of idle slots: first in, first out."""

    def __init__(self, size: int) -> None:
        self._give, self._take = trio.open_memory_channel[TrioSlot](size)
        self.slots = [TrioSlot() for _ in range(size)]
        for slot in self.slots:
            self._give.send_nowait(slot)

    async def take(self, timeout_s: float) -> TrioSlot:
        with suppress(trio.WouldBlock):
            return self._take.receive_nowait()  # no checkpoint: sending and receiving are two
        with trio.move_on_after(timeout_s):
            return await self._take.receive()
        raise WaitQueueTimeoutError(
            f"all {len(self.slots)} connections of the pool were in use for {timeout_s:g} s: raise `pool`, or start fewer tasks"
        )

    def give_back(self, slot: TrioSlot) -> None:
        self._give.send_nowait(slot)


class TrioBackend:
    """Carries plans to the nodes of a cluster. run() may be called by many tasks."""

    def __init__(self, settings: Settings, key: Key | None) -> None:
        self.settings = settings
        self.nodes = Nodes(settings.nodes)
        self._key = key
        self._pools: dict[str, TrioPool] = {}
        self._closed = False

    async def run(self, plan: Plan[T]) -> T:
        """The plan's result. Raises TwinlogError."""
        try:
            exchange = next(plan)
            while True:
                try:
                    await self._carry(exchange)
                except TwinlogError as error:
                    exchange = plan.throw(error)
                else:
                    exchange = next(plan)
        except StopIteration as finished:
            return finished.value

    async def ask(self, call: Call[T]) -> T:
        """The call's result: straight from the primary, or carried further. Raises TwinlogError."""
        node = call.node or self.nodes.primary
        if node is None or not call.is_for_primary or self._closed:
            exchange = call.exchange()
            await self._carry(exchange)
            call.node = exchange.answered_by
            return call.finish(exchange.answers[-1])
        outcome = await self._ask_straight(node, call)
        lost = isinstance(outcome, ConnectionFailure)
        if lost or goes_elsewhere(outcome):
            exchange = call.exchange_after(outcome)
            await self._carry(exchange, Made(node, outcome if lost else None))
            outcome = exchange.answers[-1]
            node = exchange.answered_by
        call.node = node
        return call.finish(outcome)

    def addresses(self) -> tuple[str, ...]:
        return self.nodes.addresses

    def primary(self) -> str | None:
        return self.nodes.primary

    async def close(self) -> None:
        self._closed = True
        for pool in self._pools.values():
            for slot in pool.slots:
                slot.drop()
        await trio.lowlevel.checkpoint()

    async def _ask_straight(self, node: str, call: Call[T]) -> Answer | ConnectionFailure:
        """One attempt at one node; the request's id says whether it left."""
        timeout_s = call.scope.timeout_s
        if timeout_s is None:
            timeout_s = self.settings.timeout_s
        pool = self._pool(node)
        try:
            slot = await pool.take(timeout_s)
        except WaitQueueTimeoutError as failure:
            return failure
        try:
            try:
                connection = await self._connected(slot, node)
            except ConnectionFailure as failure:
                transport.log_connect_failed(node, failure)
                return failure
            try:
                return await connection.ask(call.request, timeout_s)
            except (ReadFailed, NetworkTimeout) as failure:
                slot.drop()
                transport.log_read_failed(node, failure)
                return failure
        except DocumentTooLarge:  # nothing was sent
            raise
        except trio.ClosedResourceError:
            slot.drop()
            raise InvalidOperation("the client was closed while the call was under way") from None
        except BaseException:
            slot.drop()
            raise
        finally:
            if self._closed:
                slot.drop()
            pool.give_back(slot)

    async def _carry(self, exchange: Exchange, made: Made | None = None) -> None:
        patience = Patience(self.settings.retry_s, trio.current_time, transport.random_byte)
        steps = carry(exchange, self.nodes, patience, made)
        outcome: Outcome = None
        while True:
            if self._closed:
                raise InvalidOperation("the client is closed")
            try:
                step = steps.send(outcome)
            except StopIteration:
                return
            outcome = None
            if isinstance(step, Attempt):
                outcome = await self._attempt(step.node, exchange)
            else:
                await trio.sleep(step.seconds)

    async def _attempt(self, node: str, exchange: Exchange) -> Outcome:
        """None when the connection did its part, else what ended it."""
        timeout_s = self.settings.timeout_s if exchange.timeout_s is None else exchange.timeout_s
        pool = self._pool(node)
        try:
            slot = await pool.take(timeout_s)
        except WaitQueueTimeoutError as failure:
            return failure
        try:
            return await self._attempt_on(slot, node, exchange, timeout_s)
        except BaseException as error:
            # An unanswered request would be taken for the next caller's: only a clean connection may be used again.
            if exchange.unanswered or not isinstance(error, TwinlogError):
                slot.drop()
            raise
        finally:
            if self._closed:
                slot.drop()
            pool.give_back(slot)

    async def _attempt_on(self, slot: TrioSlot, node: str, exchange: Exchange, timeout_s: float) -> Outcome:
        try:
            connection = await self._connected(slot, node)
        except ConnectionFailure as failure:
            transport.log_connect_failed(node, failure)
            return failure
        if not self.nodes.serves(node, exchange):
            return None
        try:
            await connection.carry(exchange, timeout_s)
        except (ReadFailed, NetworkTimeout) as failure:
            slot.drop()
            transport.log_read_failed(node, failure)
            return failure
        except trio.ClosedResourceError:
            raise InvalidOperation("the client was closed while the call was under way") from None
        return None

    def _pool(self, node: str) -> TrioPool:
        pool = self._pools.get(node)
        if pool is None:
            pool = self._pools[node] = TrioPool(self.settings.pool)
        return pool

    async def _connected(self, slot: TrioSlot, node: str) -> TrioConnection:
        """The slot's connection, made anew when it ended while idle or when the node's role is not known any more."""
        if slot.connection is not None and (self.nodes.role(node) is None or slot.connection.is_stale()):
            slot.drop()
        if slot.connection is None:
            slot.connection = await TrioConnection.open(node, self.settings, self._key)
            self.nodes.learn_role(node, slot.connection.role)
        return slot.connection


def _read_failed(error: trio.BrokenResourceError) -> ReadFailed:
    cause = error.__cause__
    return ReadFailed(str(cause) if isinstance(cause, OSError) else str(error), ReadCause.RESET)
