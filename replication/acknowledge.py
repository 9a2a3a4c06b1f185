"""When a commit counts as acknowledged, and the one queue of those who wait for it. Pure: time comes in as numbers.

INV-1: with acks k a commit is acknowledged once it is durable here and on k standbys, each at its own level. Waiters stand
in one queue a database ordered by seq, not in one task each (INV-8: at most `limit` of them). After ack_timeout either the
waiter is told (BLOCK) or the database goes on with the primary alone until the standbys have caught up (DEGRADE).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum

from storage import AckTimeout, Overloaded, TwinlogError

Callback = Callable[[TwinlogError | None], None]


class OnAckTimeout(Enum):
    """What happens to writes when too few standbys confirm them in time."""

    BLOCK = "block"  # the write fails with AckTimeout (it is kept, and may still be confirmed)
    DEGRADE = "degrade"  # it is acknowledged with the primary's durability alone, and an alarm is raised


def acknowledged_seq(own_durable: int, standby_durables: Iterable[int], acks: int) -> int:
    """The highest seq that is durable here and on at least `acks` standbys."""
    if acks == 0:
        return own_durable
    ranked = sorted(standby_durables, reverse=True)
    return min(own_durable, ranked[acks - 1]) if len(ranked) >= acks else 0


class _Waiter:
    __slots__ = ("seq", "deadline", "callback")

    def __init__(self, seq: int, deadline: float, callback: Callback) -> None:
        self.seq = seq
        self.deadline = deadline
        self.callback: Callback | None = callback


class AckQueue:
    """The waiters of one database. Invariant: each callback is called exactly once, in seq order within one release."""

    def __init__(self, name: str, *, limit: int, on_timeout: OnAckTimeout) -> None:
        self._name = name
        self._limit = limit
        self._on_timeout = on_timeout
        self._by_seq: list[tuple[int, int, _Waiter]] = []
        self._by_deadline: deque[_Waiter] = deque()  # the timeout is one for all, so arrival order is deadline order
        self._count = 0
        self._arrivals = 0
        self._confirmed = 0
        self.degraded = False

    def __len__(self) -> int:
        return self._count

    def add(self, seq: int, deadline: float, callback: Callback) -> None:
        """Wait for seq. Raises Overloaded at the bound."""
        self.check_room()
        waiter = _Waiter(seq, deadline, callback)
        self._arrivals += 1
        self._count += 1
        heapq.heappush(self._by_seq, (seq, self._arrivals, waiter))
        self._by_deadline.append(waiter)

    def check_room(self) -> None:
        """Raises Overloaded when nobody more may wait."""
        if self._count >= self._limit:
            raise Overloaded(
                f"database {self._name!r}: {self._limit} writes already wait for their acknowledgement; try again soon",
                bound="ack_queue",
                limit=self._limit,
                retry_after_ms=100,
            )

    def settled(self, seq: int, own_durable: int) -> bool:
        """Whether a write up to seq needs no waiting now."""
        return seq <= (own_durable if self.degraded else min(self._confirmed, own_durable))

    def advance(self, confirmed: int, own_durable: int) -> list[Callback]:
        """New positions: confirmed by acknowledged_seq, own by this node alone. Returns who is to be told now."""
        self._confirmed = max(self._confirmed, confirmed)
        if self.degraded and self._confirmed >= own_durable:
            self.degraded = False
        reached = own_durable if self.degraded else min(self._confirmed, own_durable)
        done = []
        while self._by_seq and (self._by_seq[0][0] <= reached or self._by_seq[0][2].callback is None):
            waiter = heapq.heappop(self._by_seq)[2]
            if waiter.callback is not None:
                done.append(self._take(waiter))
        self._trim()
        return done

    def next_deadline(self) -> float | None:
        self._trim()
        return self._by_deadline[0].deadline if self._by_deadline else None

    def postpone(self, deadline: float) -> None:
        """Everybody who waits does so until then at least: the time that has passed says nothing about the standbys."""
        for waiter in self._by_deadline:
            waiter.deadline = max(waiter.deadline, deadline)

    def expire(self, now: float, own_durable: int, epoch: int, acks: int) -> list[tuple[Callback, TwinlogError | None]]:
        """Who has waited too long, and what to tell each. In DEGRADE what is not yet durable here goes on waiting."""
        told: list[tuple[Callback, TwinlogError | None]] = []
        late = []
        while self._by_deadline and (self._by_deadline[0].callback is None or self._by_deadline[0].deadline <= now):
            waiter = self._by_deadline.popleft()
            if waiter.callback is not None:
                late.append(waiter)
        if late and self._on_timeout is OnAckTimeout.DEGRADE and own_durable > self._confirmed:
            self.degraded = True
            late = [waiter for waiter in late if waiter.seq > own_durable]
            told.extend((callback, None) for callback in self.advance(0, own_durable))
        for waiter in late:
            error = AckTimeout(
                f"commit {waiter.seq} of database {self._name!r} is kept here but {acks} standbys did not confirm it in "
                "time; read it back before writing it again",
                epoch=epoch,
                seq=waiter.seq,
            )
            told.append((self._take(waiter), error))
        return told

    def fail_all(self, make_error: Callable[[int], TwinlogError]) -> list[tuple[Callback, TwinlogError]]:
        """Everybody is told an error (a demotion, a dropped database); the queue starts over."""
        told = [(self._take(w), make_error(w.seq)) for _, _, w in sorted(self._by_seq, key=lambda e: e[:2]) if w.callback]
        self._by_seq.clear()
        self._by_deadline.clear()
        self._confirmed = 0
        self.degraded = False
        return told

    def _take(self, waiter: _Waiter) -> Callback:
        callback = waiter.callback
        assert callback is not None, "a waiter is told once"
        waiter.callback = None
        self._count -= 1
        return callback

    def _trim(self) -> None:
        while self._by_deadline and self._by_deadline[0].callback is None:
            self._by_deadline.popleft()
