"""A number that only grows, and those who wait for it. Knows nothing of what the number means.

Used for durable seqs, finished MARKs and published checkpoints: waiting costs one event for all waiters, not a task each.
"""

from __future__ import annotations

from collections.abc import Callable

import trio


class Advance:
    """Invariant: value never falls. After fail() every wait raises that error, until recover()."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self.error: BaseException | None = None
        self._changed = trio.Event()
        self._subscribers: list[Callable[[int], None]] = []

    def set(self, value: int) -> None:
        assert value >= self.value, f"an advance went back from {self.value} to {value}"
        if value == self.value:
            return
        self.value = value
        self._wake()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self._wake()

    def recover(self) -> None:
        self.error = None

    def subscribe(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """callback(value) runs in place at every change and failure; it must not raise. Returns unsubscribe."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def wait_past(self, value: int) -> int:
        """Until self.value > value; returns it."""
        while self.value <= value:
            if self.error is not None:
                raise self.error
            await self._changed.wait()
        return self.value

    async def wait_for(self, value: int) -> int:
        """Until self.value >= value; returns it."""
        return await self.wait_past(value - 1)

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        for callback in tuple(self._subscribers):
            callback(self.value)
