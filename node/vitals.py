"""What the admin port may say of a node at any moment: how far its start is, its status once it is up, and whether the loop turns.

The pulse is a task of its own beside those that serve. Asked for a turn, it is woken through the scheduler and answers; so an answer to
/livez was made by the loop after it had run another task, and a loop that is stuck makes none: the prober's time limit tells that. The
pulse also sleeps BEAT_S again and again and notes by how much it overslept, so that a stall is seen after it is over (INV-9).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from .health import Seen, Turn

BEAT_S = 0.5
LATE_WINDOW_S = 60.0
TURN_S_MAX = 5.0  # that /livez waits for its turn


class Pulse:
    """Runs for as long as the admin port does."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self._late: deque[tuple[float, float]] = deque()  # (when, by how much); as many as beats go into LATE_WINDOW_S
        self._bell = trio.Event()
        self._turned = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            due = trio.current_time() + BEAT_S
            while trio.current_time() < due:
                with trio.move_on_at(due):
                    await self._bell.wait()
                self._bell = trio.Event()
                self._turned.set()
                self._turned = trio.Event()
            self._note(trio.current_time() - due)

    def _note(self, late_s: float) -> None:
        now = trio.current_time()
        self._late.append((now, late_s))
        while self._late[0][0] < now - LATE_WINDOW_S:
            self._late.popleft()

    @property
    def late_s(self) -> float:
        """By how much the loop was late at worst within the last LATE_WINDOW_S."""
        return max((late_s for _, late_s in self._late), default=0.0)

    async def turn(self, s_max: float = TURN_S_MAX) -> Turn:
        """Wait for one turn of the loop through the pulse's task."""
        began, turned = trio.current_time(), self._turned
        self._bell.set()
        with trio.move_on_after(s_max):
            await turned.wait()
        now = trio.current_time()
        return Turn(turned.is_set(), now - began, self.late_s, now - self.began)


class Vitals:
    """doing: what the node does while it has no status. status: its view of itself, while it is up."""

    def __init__(self, node: str) -> None:
        self.pulse = Pulse()
        self.doing = "is starting: its databases are being opened"
        self.status: Callable[[], dict[str, Any]] | None = None
        self._node = node

    def is_up(self, status: Callable[[], dict[str, Any]]) -> None:
        self.status = status

    def is_ending(self) -> None:
        self.doing, self.status = "is stopping: its databases are being closed", None

    def seen(self) -> Seen:
        return Seen(self._node, self.status() if self.status else None, self.doing)

    def named(self) -> Seen:
        """Without looking at the node."""
        return Seen(self._node, None, self.doing)
