"""The blocking transport: connections, a pool for each node, and carrying plans over them. Many threads may share it.

It moves bytes and decides nothing: plans say what to ask (verbs.py), carrying.py which node and whether again, and a
Conversation what the bytes mean. A pool hands out its slots first in, first out, which is round robin; a slot belongs to one
thread while an exchange is carried, so no lock is held over the network. A connection that failed is closed and its
slot connects again at its next use.

Bounds (INV-8): `pool` connections to a node; a thread waits at most timeout_s for a free one.
"""

from __future__ import annotations

import queue
from typing import TypeVar

from node.wire import Key

from . import transport
from .carrying import Attempt, Outcome, Patience, carry
from .conversation import Conversation, ReadFailed
from .errors import ConnectionFailure, InvalidOperation, NetworkTimeout, TwinlogError, WaitQueueTimeoutError
from .exchange import Exchange
from .nodes import Nodes
from .url import Settings
from .verbs import Plan

T = TypeVar("T")


class Connection:
    """One socket, opened and ready. Only one thread uses it at a time."""

    def __init__(self, node: str, settings: Settings, key: Key | None) -> None:
        """Dial, shake hands, log in. Raises ConnectionFailure; Refused when trying again cannot help."""
        self.node = node
        until = transport.monotonic() + settings.connect_timeout_s
        self._conversation = Conversation(
            key=key, user=settings.user, password=settings.password, random_bytes=transport.random_bytes
        )
        self._socket = transport.dial(node, settings.connect_timeout_s)
        try:
            self._send(until)
            while not self._conversation.advance_opening():
                self._send(until)
                self._conversation.receive_data(transport.receive(self._socket, until))
        except BaseException:
            self.close()
            raise

    @property
    def role(self) -> str:
        """What the node said it is."""
        return str(self._conversation.hello.get("role", ""))

    def is_stale(self) -> bool:
        return transport.is_stale(self._socket.fileno())

    def carry(self, exchange: Exchange, timeout_s: float) -> None:
        """Until the exchange is paused; each answer may take timeout_s. After any exception the connection is unusable."""
        until = transport.monotonic() + timeout_s
        answered = len(exchange.answers)
        while not self._conversation.advance(exchange):
            self._send(until)
            exchange.draw()
            self._conversation.receive_data(transport.receive(self._socket, until))
            if len(exchange.answers) > answered:
                answered = len(exchange.answers)
                until = transport.monotonic() + timeout_s
        exchange.answered_by = self.node

    def close(self) -> None:
        self._socket.close()

    def _send(self, until: float) -> None:
        data = self._conversation.data_to_send()
        if data:
            transport.send_all(self._socket, data, until)


class Slot:
    """A place for one connection in a pool."""

    def __init__(self) -> None:
        self.connection: Connection | None = None

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Pool:
    """The connections to one node."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: queue.Queue[Slot] = queue.Queue()
        for _ in range(size):
            self._idle.put(Slot())

    def take(self, timeout_s: float) -> Slot:
        try:
            return self._idle.get(timeout=timeout_s)
        except queue.Empty:
            raise WaitQueueTimeoutError(
                f"all {self._size} connections of the pool were in use for {timeout_s:g} s: raise `pool`, or use fewer threads"
            ) from None

    def give_back(self, slot: Slot) -> None:
        self._idle.put(slot)

    def close_idle(self) -> None:
        """Connections in use are closed by whoever uses them."""
        for _ in range(self._size):
            try:
                slot = self._idle.get_nowait()
            except queue.Empty:
                return
            slot.drop()
            self._idle.put(slot)


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

    def _carry(self, exchange: Exchange) -> None:
        patience = Patience(self.settings.retry_s, transport.monotonic, transport.random_byte)
        steps = carry(exchange, self.nodes, patience)
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
