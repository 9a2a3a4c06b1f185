"""Virtual time: whenever every task waits, the clock stands at the next deadline.

trio asks its clock how long to sleep only when nothing can run; the answer here is to be there already. trio's own MockClock comes
to the same moments by an idle pass of the loop for each jump, a tenth of a run's time. Nothing outside the loop may wake a task: the
seams of a simulated world use no thread.
"""

from __future__ import annotations

import math

import trio

HANG_S = 3600.0  # with no deadline at all nothing will ever happen again: sleep until the alarm of the run


class VirtualClock(trio.abc.Clock):
    """Begins at 0."""

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline == math.inf:
            return HANG_S
        self._now = max(self._now, deadline)
        return 0.0
