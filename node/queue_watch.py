"""Watches how full the node's queues are: a metric for each, and a word in the log when one nears its bound.

A queue is looked at, not told: once a second its fill is read and set against its bound. From NEARLY_FULL of the bound on it is
called nearly full, until it is below RELAXED again; both are logged once, and not more often than every WARN_EVERY_S for one
queue of one owner, so that a queue which flaps does not fill the log. What queues there are stands in queues.py.
Cost: one look a second, below a millisecond; nothing where requests are served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from .metrics import Metrics, QueueFill

log = logging.getLogger(__name__)

NEARLY_FULL = 0.8
RELAXED = 0.6
WARN_EVERY_S = 60.0
LOOK_EVERY_S = 1.0

Fill = tuple[str, float, float]  # owner (a database, a standby; "" where there is one for the node), value, bound


@dataclass(frozen=True, slots=True)
class Queue:
    """One row of the table. at_bound: what happens there, for the operator."""

    name: str
    holds: str
    at_bound: str
    read: Callable[[], Iterable[Fill]]


class QueueWatch:
    """The table and its alarms. A bound of 0 means that there is none to watch just now."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._queues: dict[str, Queue] = {}
        self._nearly_full: dict[tuple[str, str], bool] = {}  # those that are; whether that was logged
        self._warned_at: dict[tuple[str, str], float] = {}
        metrics.watch_queues(self.fills)

    def add(self, name: str, holds: str, at_bound: str, value: Callable[[], float], bound: Callable[[], float]) -> None:
        """A queue of which the node has one."""
        self.add_each(name, holds, at_bound, lambda: [("", value(), bound())])

    def add_each(self, name: str, holds: str, at_bound: str, read: Callable[[], Iterable[Fill]]) -> None:
        """A queue of which each database, or each standby, has one."""
        assert name not in self._queues, f"the queue {name} stands in the table already"
        self._queues[name] = Queue(name, holds, at_bound, read)

    @property
    def queues(self) -> list[Queue]:
        return list(self._queues.values())

    def fills(self) -> list[QueueFill]:
        """Every queue of every owner, as full as it is now."""
        return [
            QueueFill(queue.name, queue.holds, owner, value, bound)
            for queue in self._queues.values()
            for owner, value, bound in queue.read()
        ]

    def look(self) -> None:
        """Say which queues have become nearly full since the last look, and which are at ease again."""
        now = trio.current_time()
        seen = set()
        for fill in self.fills():
            key = (fill.name, fill.owner)
            seen.add(key)
            share = fill.value / fill.bound if fill.bound else 0.0
            if share >= NEARLY_FULL and key not in self._nearly_full:
                self._metrics.nearly_full[fill.name] += 1
                self._nearly_full[key] = said = now - self._warned_at.get(key, -WARN_EVERY_S) >= WARN_EVERY_S
                if said:
                    self._warned_at[key] = now
                    self._warn(fill, share)
            elif share < RELAXED and self._nearly_full.pop(key, False):
                log.warning("queue %s%s is at ease again: %s", fill.name, _of(fill.owner), _full(fill, share))
        for gone in [key for key in self._nearly_full if key not in seen]:  # a dropped database, a standby that left
            del self._nearly_full[gone]
        self._warned_at = {key: at for key, at in self._warned_at.items() if now - at < WARN_EVERY_S or key in self._nearly_full}

    def _warn(self, fill: QueueFill, share: float) -> None:
        queue = self._queues[fill.name]
        log.warning(
            "queue %s%s is nearly full: %s (%s); at its bound %s",
            fill.name, _of(fill.owner), _full(fill, share), queue.holds, queue.at_bound,
        )  # fmt: skip

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look every LOOK_EVERY_S, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self.look()


def _of(owner: str) -> str:
    return f" of {owner}" if owner else ""


def _full(fill: QueueFill, share: float) -> str:
    return f"{fill.value:.0f} of {fill.bound:.0f}, {share:.0%}"
