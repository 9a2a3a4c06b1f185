"""Plays fresh seeds under each planted fault until a checker tells it, and writes the table for docs/testing.md."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import pytest

from tests.sim.planted.rules import PLANTED, Planted
from tests.sim.run_seed import play_seed

SEEDS_MAX = 300
FRESH_BELOW = 2**40
LINE_SHOWN = 110
WALL_S_MAX = 20  # of one run: some faults make a cluster turn in circles
TIMED_OUT = "the run itself failed: TimeoutError"


class Told(NamedTuple):
    """After how many seeds a planted fault was told, by which line; 0: never."""

    seeds: int
    line: str


def seek(planted: Planted, seeds: Iterable[int]) -> Told:
    """Play seeds until some checker says what it must."""
    with pytest.MonkeyPatch.context() as patch:
        planted.plant(patch)
        for number, seed in enumerate(seeds, 1):
            for line in play_seed(planted.make(seed), seed, wall_s_max=WALL_S_MAX).broken:
                if line.startswith(planted.tells) and not line.startswith(TIMED_OUT):  # a slow machine is no checker
                    return Told(number, line)
    return Told(0, "")


def _seek_fresh(number: int, seeds_max: int) -> Told:
    first = secrets.randbelow(FRESH_BELOW)
    return seek(PLANTED[number], range(first, first + seeds_max))


def tell_all(seeds_max: int | None, *, jobs: int, say: Callable[[str], None]) -> int:
    """The table; 1 when some fault was not told within the bound."""
    seeds_max = seeds_max or SEEDS_MAX
    missed = 0
    say("| rule switched off | told after seeds | by |\n|---|---|---|")
    with ProcessPoolExecutor(jobs) as pool:
        running = [pool.submit(_seek_fresh, number, seeds_max) for number in range(len(PLANTED))]
        for planted, future in zip(PLANTED, running):
            told = future.result()
            missed += not told.seeds
            by = told.line[:LINE_SHOWN].replace("|", "/").partition(":")[0] if told.seeds else ""
            say(f"| {planted.rule} | {told.seeds or f'not in {seeds_max}'} | {by} |")
    return 1 if missed else 0
