"""The blocking transport: connections, a pool for each node, and carrying plans over them. Many threads may share it.

It moves bytes and decides nothing: plans say what to ask (verbs.py), carrying.py which node and whether again, and a
Conversation what the bytes mean. A pool hands out its slots first in, first out, which is round robin; a slot belongs to one
thread while an exchange is carried, so no lock is held over the network. A connection that failed is closed and its
slot connects again at its next use.

Bounds (INV-8): `pool` connections to a node; a thread waits at most timeout_s for a free one.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from node.wire import Answer, Key, Request

from . import transport
from .call import Call, goes_elsewhere
from .carrying import Attempt, Made, Outcome, Patience, carry
from .conversation import Conversation, ReadFailed
from .errors import (
    ConnectionFailure,
    DocumentTooLarge,
    InvalidOperation,
    NetworkTimeout,
    TwinlogError,
    WaitQueueTimeoutError,
)
from .exchange import Exchange
from .nodes import Nodes
from .url import Settings
from .verbs import Plan

T = TypeVar("T")


LOOK_AFTER_S = 0.01  # a connection that was idle for less is not looked at before its next use


class Connection:
    """One socket, opened and ready. Only one thread uses it at a time."""

    def __init__(self, node: str, settings: Settings, key: Key | None) -> None:
        """Dial, shake hands, log in. Raises ConnectionFailure; Refused when trying again cannot help."""
        self.node = node
        self._fresh_until = 0.0
        until = transport.monotonic() + settings.connect_timeout_s
        self._conversation = Conversation(
            key=key, user=settings.user, password=settings.password, random_bytes=transport.random_bytes
        )
        self._socket = transport.dial(node, settings.connect_timeout_s)
        try:
            self._send(until)
            while not self._conversation.advance_opening():
                self._send(until)
                self._conversation.receive_data(self._socket.receive(until - transport.monotonic()))
        except BaseException:
            self.close()
            raise

    @property
    def role(self) -> str:
        """What the node said it is."""
        return str(self._conversation.hello.get("role", ""))

    def is_stale(self) -> bool:
        """Whether it ended while nobody used it."""
        return self._socket.is_stale()

    @property
    def is_fresh(self) -> bool:
        """Whether it answered so lately that looking at it is not worth the time."""
        return transport.monotonic() < self._fresh_until

    def ask(self, request: Request, timeout_s: float) -> Answer:
        """One request to its answer. After any exception but DocumentTooLarge the connection is unusable."""
        data = self._conversation.ask(request)
        began = transport.monotonic()
        self._socket.send_all(data, timeout_s)
        answer = self._conversation.answer(self._socket.receive(timeout_s))
        while answer is None:
            left = began + timeout_s - transport.monotonic()
            answer = self._conversation.answer(self._socket.receive(left))
        self._fresh_until = transport.monotonic() + LOOK_AFTER_S
        return answer

    def carry(self, exchange: Exchange, timeout_s: float) -> None:
        """Until the exchange is paused; each answer may take timeout_s. After any exception the connection is unusable."""
        until = transport.monotonic() + timeout_s
        answered = len(exchange.answers)
        while not self._conversation.advance(exchange):
            self._send(until)
            exchange.draw()
            self._conversation.receive_data(self._socket.receive(until - transport.monotonic()))
            if len(exchange.answers) > answered:
                answered = len(exchange.answers)
                until = transport.monotonic() + timeout_s
        exchange.answered_by = self.node

    def close(self) -> None:
        self._socket.close()

    def _send(self, until: float) -> None:
        data = self._conversation.data_to_send()
        if data:
            self._socket.send_all(data, until - transport.monotonic())


class Slot:
    """A place for one connection in a pool."""

    def __init__(self) -> None:
        self.connection: Connection | None = None

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Pool:
    """The connections to one node. Taking and giving back are single operations on a deque: a lock is only for waiting."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: deque[Slot] = deque(Slot() for _ in range(size))
        self._given_back = transport.new_condition()
        self._waiting = 0  # changed under the condition; raised before the waiter looks at the deque once more

    def take(self, timeout_s: float) -> Slot:
        try:
            return self._idle.popleft()
        except IndexError:
            return self._wait(timeout_s)

    def give_back(self, slot: Slot) -> None:
        self._idle.append(slot)
        if self._waiting:
            with self._given_back:
                self._given_back.notify()

    def close_idle(self) -> None:
        """Connections in use are closed by whoever uses them."""
        for _ in range(self._size):
            try:
                slot = self._idle.popleft()
            except IndexError:
                return
            slot.drop()
            self.give_back(slot)

    def _wait(self, timeout_s: float) -> Slot:
        until = transport.monotonic() + timeout_s
        with self._given_back:
            self._waiting += 1
            try:
                while not self._idle and (left := until - transport.monotonic()) > 0:
                    self._given_back.wait(left)
                return self._idle.popleft()
            except IndexError:
                raise WaitQueueTimeoutError(
                    f"all {self._size} connections of the pool were in use for {timeout_s:g} s: raise `pool`, or use fewer threads"
                ) from None
            finally:
                self._waiting -= 1


class BlockingBackend:
    """Carries plans to the nodes of a cluster. run() may be called by many threads."""

    def __init__(self, settings: Settings, key: Key | None) -> None:
        self.settings = settings
        self.nodes = Nodes(settings.nodes)
        self._key = key
        self._pools: dict[str, Pool] = {}
        self._lock = transport.new_lock()
        self._closed = transport.new_event()

    def run(self, plan: Plan[T]) -> T:
        """The plan's result. Raises TwinlogError."""
        try:
            exchange = next(plan)
            while True:
                try:
                    self._carry(exchange)
                except TwinlogError as error:
                    exchange = plan.throw(error)
                else:
                    exchange = next(plan)
        except StopIteration as finished:
            return finished.value

    def ask(self, call: Call[T]) -> T:
        """The call's result: straight from the primary, or carried further. Raises TwinlogError."""
        node = self.nodes.primary
        if node is None or not call.is_for_primary or self._closed.is_set():
            exchange = call.exchange()
            self._carry(exchange, None)
            return call.finish(exchange.answers[-1])
        outcome = self._ask_straight(node, call)
        lost = isinstance(outcome, ConnectionFailure)
        if lost or goes_elsewhere(outcome):
            exchange = call.exchange_after(outcome)
            self._carry(exchange, Made(node, outcome if lost else None))
            outcome = exchange.answers[-1]
        return call.finish(outcome)

    def addresses(self) -> tuple[str, ...]:
        return self.nodes.addresses

    def primary(self) -> str | None:
        return self.nodes.primary

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.close_idle()

    def _ask_straight(self, node: str, call: Call[T]) -> Answer | ConnectionFailure:
        """One attempt at one node; the request's id says whether it left."""
        timeout_s = call.scope.timeout_s
        if timeout_s is None:
            timeout_s = self.settings.timeout_s
        pool = self._pools.get(node) or self._pool(node)
        try:
            slot = pool.take(timeout_s)
        except WaitQueueTimeoutError as failure:
            return failure
        try:
            connection = slot.connection
            if connection is None or not connection.is_fresh:
                try:
                    connection = self._connected(slot, node)
                except ConnectionFailure as failure:
                    transport.log_connect_failed(node, failure)
                    return failure
            try:
                return connection.ask(call.request, timeout_s)
            except (ReadFailed, NetworkTimeout) as failure:
                slot.drop()
                transport.log_read_failed(node, failure)
                return failure
        except DocumentTooLarge:  # nothing was sent
            raise
        except BaseException:
            slot.drop()
            raise
        finally:
            if self._closed.is_set():
                slot.drop()
            pool.give_back(slot)

    def _carry(self, exchange: Exchange, made: Made | None = None) -> None:
        patience = Patience(self.settings.retry_s, transport.monotonic, transport.random_byte)
        steps = carry(exchange, self.nodes, patience, made)
        outcome: Outcome = None
        while True:
            if self._closed.is_set():
                raise InvalidOperation("the client is closed")
            try:
                step = steps.send(outcome)
            except StopIteration:
                return
            outcome = None
            if isinstance(step, Attempt):
                outcome = self._attempt(step.node, exchange)
            else:
                self._closed.wait(step.seconds)

    def _attempt(self, node: str, exchange: Exchange) -> Outcome:
        """None when the connection did its part, else what ended it."""
        timeout_s = self.settings.timeout_s if exchange.timeout_s is None else exchange.timeout_s
        pool = self._pool(node)
        try:
            slot = pool.take(timeout_s)
        except WaitQueueTimeoutError as failure:
            return failure
        try:
            return self._attempt_on(slot, node, exchange, timeout_s)
        except BaseException as error:
            # An unanswered request would be taken for the next caller's: only a clean connection may be used again.
            if exchange.unanswered or not isinstance(error, TwinlogError):
                slot.drop()
            raise
        finally:
            if self._closed.is_set():
                slot.drop()
            pool.give_back(slot)

    def _attempt_on(self, slot: Slot, node: str, exchange: Exchange, timeout_s: float) -> Outcome:
        try:
            connection = self._connected(slot, node)
        except ConnectionFailure as failure:
            transport.log_connect_failed(node, failure)
            return failure
        if not self.nodes.serves(node, exchange):
            return None
        try:
            connection.carry(exchange, timeout_s)
        except (ReadFailed, NetworkTimeout) as failure:
            slot.drop()
            transport.log_read_failed(node, failure)
            return failure
        return None

    def _connected(self, slot: Slot, node: str) -> Connection:
        """The slot's connection, made anew when it ended while idle or when the node's role is not known any more."""
        if slot.connection is not None and (self.nodes.role(node) is None or slot.connection.is_stale()):
            slot.drop()
        if slot.connection is None:
            slot.connection = Connection(node, self.settings, self._key)
            self.nodes.learn_role(node, slot.connection.role)
        return slot.connection

    def _pool(self, node: str) -> Pool:
        with self._lock:
            pool = self._pools.get(node)
            if pool is None:
                pool = self._pools[node] = Pool(self.settings.pool)
            return pool
