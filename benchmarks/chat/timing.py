"""One question put again and again, with new parameters each time: how long each answer took. Reads the clock; knows no server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Execution = Callable[[], object]


@dataclass(frozen=True)
class Budget:
    """Executions of one question: `enough` of them, or what fits into `seconds`; but `least`, or what fits into `seconds_max`."""

    enough: int
    seconds: float
    least: int
    seconds_max: float
    warmup: int = 3  # not counted

    def is_spent(self, executions: int, seconds: float) -> bool:
        if executions < self.least:
            return executions > 0 and seconds > self.seconds_max
        return executions >= self.enough or seconds > self.seconds


@dataclass(frozen=True)
class Timings:
    """Milliseconds of the executions of one question."""

    ms: tuple[float, ...]

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.ms, share))


def time_one(execution: Execution) -> float:
    began = time.perf_counter()
    execution()
    return (time.perf_counter() - began) * 1000


def time_all(prepare: Callable[[], Execution], budget: Budget) -> Timings:
    """prepare draws the parameters, which is not counted."""
    for _ in range(budget.warmup):
        if time_one(prepare()) > budget.seconds * 1000:
            break
    found: list[float] = []
    began = time.monotonic()
    while not budget.is_spent(len(found), time.monotonic() - began):
        found.append(time_one(prepare()))
    return Timings(tuple(found))
