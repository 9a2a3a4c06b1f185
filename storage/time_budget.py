"""The time that one query may work, given by whoever asks it (max_time_ms): spent over all its batches, not between them.

A budget cuts at trio's checkpoints, which long work passes every few milliseconds (INV-9): it may be overspent by one slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from .errors import MaxTimeMSExpired


class TimeBudget:
    """max_time_ms 0: no limit."""

    def __init__(self, max_time_ms: int = 0) -> None:
        self._max_time_ms = max_time_ms
        self._left_s = max_time_ms / 1000 if max_time_ms else math.inf

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Work within what is left. Raises MaxTimeMSExpired when that is used up before the work is done."""
        if self._left_s == math.inf:
            yield
            return
        began = trio.current_time()
        try:
            with trio.fail_after(max(0.0, self._left_s)):
                yield
        except trio.TooSlowError:
            raise MaxTimeMSExpired(
                f"the query was not done within its {self._max_time_ms} ms (max_time_ms); narrow it, or give it more time",
                max_time_ms=self._max_time_ms,
            ) from None
        finally:
            self._left_s -= trio.current_time() - began
