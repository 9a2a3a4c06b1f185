"""The blocking transport: connections, a pool for each node, and carrying plans over them. Many threads may share it.

It moves bytes and decides nothing: plans say what to ask (verbs.py), carrying.py which node and whether again, and a
Conversation what the bytes mean. A pool hands out its slots first in, first out, which is round robin. A slot belongs to one
thread while an exchange is carried, and to many while they ask calls of one request (connection.py): when no slot is idle,
the next one that asks joins them instead of waiting. A connection that failed is closed and its slot connects again at
its next use.

Bounds (INV-8): `pool` connections to a node, ASKERS_MAX threads on each; a thread waits at most timeout_s for a place.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from node.wire import Answer, Key

from . import transport
from .call import Call, goes_elsewhere
from .carrying import Attempt, Made, Outcome, Patience, carry
from .connection import ASKERS_MAX, Connection
from .conversation import ReadFailed
from .errors import (
    ConnectionFailure,
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

class Slot:
    """A place for one connection in a pool."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.askers = 0  # threads that share the connection; changed under the pool's lock

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Waiting:
    """A thread that waits for a slot; woken with one. may_share: a slot on which others ask will do."""

    __slots__ = ("may_share", "slot", "shares", "wake")

    def __init__(self, *, may_share: bool) -> None:
        self.may_share = may_share
        self.slot: Slot | None = None
        self.shares = False
        self.wake = transport.new_lock()
        self.wake.acquire()


class Pool:
    """The connections to one node. A thread takes an idle slot; one that asks and finds none joins others who ask.

    Taking an idle slot and giving it back are single operations on a deque; the lock is for sharing and for waiting. Who
    waits goes first, and while somebody waits for a slot of his own nobody joins, so that one comes free. Measured with 16
    threads: connections of their own cost the client least, and joining costs it far less than waiting for a free one.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._slots = tuple(Slot() for _ in range(size))
        self._idle: deque[Slot] = deque(self._slots)
        self._lock = transport.new_lock()
        self._waiting: deque[Waiting] = deque()  # changed under the lock, as the next; looked at without it
        self._wait_alone = 0  # of those who wait, how many may not share

    def enter(self, timeout_s: float) -> tuple[Slot, bool]:
        """A slot to ask on: True with one on which others ask already. Raises WaitQueueTimeoutError."""
        if not self._waiting:
            try:
                return self._idle.popleft(), False
            except IndexError:
                pass  # none is idle: join, or wait
        with self._lock:
            slot = self._joined()
        if slot is not None:
            return slot, True
        waiting = Waiting(may_share=True)
        return self._wait(waiting, timeout_s), waiting.shares

    def share(self, slot: Slot) -> None:
        """Open a slot that was taken, and is connected, to others that ask."""
        with self._lock:
            slot.askers = 1
        if self._waiting:
            self._serve_waiting()

    def leave(self, slot: Slot) -> bool:
        """Stop asking there. True: it was the last one, who now has the slot for itself."""
        with self._lock:
            slot.askers -= 1
            return not slot.askers

    def take(self, timeout_s: float) -> Slot:
        """A slot for one thread alone. Raises WaitQueueTimeoutError."""
        if not self._waiting:
            try:
                return self._idle.popleft()
            except IndexError:
                pass  # none is idle: wait
        return self._wait(Waiting(may_share=False), timeout_s)

    def give_back(self, slot: Slot) -> None:
        self._idle.append(slot)
        if self._waiting:
            self._serve_waiting()

    def close_idle(self) -> None:
        """Connections in use are closed by whoever uses them."""
        for _ in range(self._size):
            try:
                slot = self._idle.popleft()
            except IndexError:
                return
            slot.drop()
            self.give_back(slot)

    def _joined(self) -> Slot | None:
        """Under the lock: one more asks on the slot with the fewest who do, if there is room."""
        if self._wait_alone:
            return None
        slot = min(self._slots, key=_by_askers)
        connection = slot.connection
        if not 0 < slot.askers < ASKERS_MAX or connection is None or connection.retired:
            return None
        slot.askers += 1
        return slot

    def _wait(self, waiting: Waiting, timeout_s: float) -> Slot:
        with self._lock:
            self._waiting.append(waiting)
            self._wait_alone += not waiting.may_share
        try:
            self._serve_waiting()  # one may have come free since we looked
            waiting.wake.acquire(True, timeout_s)
        except BaseException:
            slot = self._stop_waiting(waiting)
            if slot is not None and (not waiting.shares or self.leave(slot)):
                self.give_back(slot)
            raise
        slot = self._stop_waiting(waiting)
        if slot is None:
            raise WaitQueueTimeoutError(
                f"all {self._size} connections of the pool were in use for {timeout_s:g} s: raise `pool`, or use fewer threads"
            )
        return slot

    def _stop_waiting(self, waiting: Waiting) -> Slot | None:
        """The slot that it was woken with."""
        with self._lock:
            if waiting.slot is None:
                self._waiting.remove(waiting)
                self._wait_alone -= not waiting.may_share
        if waiting.slot is None and self._waiting:
            self._serve_waiting()  # others may join, if it was the one who kept them from it
        return waiting.slot

    def _serve_waiting(self) -> None:
        """Idle slots to those who wait, the longest first; then let join who may."""
        with self._lock:
            while self._waiting:
                waiting = self._waiting[0]
                try:
                    slot = self._idle.popleft()
                except IndexError:
                    slot = self._joined()
                    if slot is None:
                        return
                    waiting.shares = True
                self._waiting.popleft()
                self._wait_alone -= not waiting.may_share
                waiting.slot = slot
                waiting.wake.release()


def _by_askers(slot: Slot) -> int:
    """Slots on which nobody may join count as full: idle, used by one alone, or to be closed."""
    connection = slot.connection
    return slot.askers if slot.askers and connection is not None and not connection.retired else ASKERS_MAX


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
        node = call.node or self.nodes.primary
        if node is None or not call.is_for_primary or self._closed.is_set():
            exchange = call.exchange()
            self._carry(exchange, None)
            call.node = exchange.answered_by
            return call.finish(exchange.answers[-1])
        outcome = self._ask_straight(node, call)
        lost = isinstance(outcome, ConnectionFailure)
        if lost or goes_elsewhere(outcome):
            exchange = call.exchange_after(outcome)
            self._carry(exchange, Made(node, outcome if lost else None))
            outcome = exchange.answers[-1]
            node = exchange.answered_by
        call.node = node
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
            slot, joined = pool.enter(timeout_s)
        except WaitQueueTimeoutError as failure:
            return failure
        if not joined:
            try:
                self._share(pool, slot, node)
            except ConnectionFailure as failure:
                transport.log_connect_failed(node, failure)
                return failure
        connection = slot.connection
        assert connection is not None, "a slot that is shared is connected"
        try:
            return connection.ask(call.request, timeout_s)
        except (ReadFailed, NetworkTimeout) as failure:
            if isinstance(failure, NetworkTimeout) or connection.is_first_to_tell():
                transport.log_read_failed(node, failure)
            return failure
        finally:
            if pool.leave(slot):
                if connection.retired or self._closed.is_set():
                    slot.drop()
                pool.give_back(slot)

    def _share(self, pool: Pool, slot: Slot, node: str) -> None:
        """Open a slot that was taken to others, connected. Raises ConnectionFailure, and gives the slot back."""
        try:
            connection = slot.connection
            if connection is None or connection.retired or connection.fresh_until < transport.monotonic():
                self._connected(slot, node)
        except BaseException:
            pool.give_back(slot)
            raise
        pool.share(slot)

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
        connection = slot.connection
        if connection is not None and (connection.retired or self.nodes.role(node) is None or connection.is_stale()):
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
