"""One seed, one run: virtual time, a scheduler that follows the seed, and the verdict."""

from __future__ import annotations

import gc
import logging
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import hypothesis  # noqa: F401 - importing it makes trio's scheduler deterministic
import trio

from tests.sim.checkers import Record, broken_promises
from tests.sim.clock import VirtualClock
from tests.sim.faults import innermost, shown
from tests.sim.trace import Trace

WALL_S_MAX = 120
WORLDS = ("cluster", "roles", "engine")  # roles: a cluster that changes roles all the time and has little to keep


class World(Protocol):
    trace: Trace

    async def play(self) -> None: ...

    @property
    def record(self) -> Record: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a seed. digest: equal for equal runs."""

    seed: int
    broken: list[str]
    digest: str
    commits: int
    acknowledged: int
    views: int
    trace: list[str]

    def without_trace(self) -> Verdict:
        """For the way between processes."""
        return replace(self, trace=[])


def make_world(kind: str, seed: int, *, verbose: bool = False) -> World:
    """kind: one of WORLDS."""
    from tests.sim.engine_world import EngineWorld
    from tests.sim.sizes import draw_role_sizes
    from tests.sim.world import World as ClusterWorld

    if kind == "engine":
        return EngineWorld(seed, verbose=verbose)
    return ClusterWorld(seed, verbose=verbose, sizes=draw_role_sizes(random.Random(seed)) if kind == "roles" else None)


def play_seed(world: World, seed: int, *, wall_s_max: int = WALL_S_MAX) -> Verdict:
    """As run_seed, but whatever goes wrong, a run that hangs included, is a failed verdict."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(wall_s_max)
    try:
        return run_seed(world, seed)
    except Exception as error:
        return Verdict(seed, [f"the run itself failed: {shown(innermost(error))}"], "", 0, 0, 0, list(world.trace.lines))
    finally:
        signal.alarm(0)
        gc.collect()


def _too_long(_number: int, _frame: object) -> None:
    raise TimeoutError("the run took too long on the wall clock")


def run_seed(world: World, seed: int) -> Verdict:
    """Play the world to its end and check every promise."""
    logging.disable(logging.CRITICAL)
    was_collecting = gc.isenabled()
    gc.disable()  # finalisers at moments of their own would make equal seeds differ
    try:
        _seed_scheduler(seed)
        trio.run(_undisturbed, world.play, clock=VirtualClock())
        record = world.record
        broken = broken_promises(record)
    finally:
        if was_collecting:
            gc.enable()
        logging.disable(logging.NOTSET)
    seen = record.observations
    return Verdict(
        seed,
        broken,
        world.trace.digest,
        len(record.tree.commits),
        len(seen.acknowledged),
        len(seen.seen),
        list(world.trace.lines),
    )


class _NoDevices:
    """In the place of trio's epoll: nothing in a simulated world waits for a descriptor, and asking the kernel on every pass of the loop took a
    tenth of a run."""

    def __init__(self, asked: Any) -> None:
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._asked, name)

    def get_events(self, timeout: float) -> list[Any]:
        return self._asked.get_events(timeout) if timeout > 0 else []


async def _undisturbed(play: Callable[[], Awaitable[None]]) -> None:
    """trio has no public name for its own loop either; without this one runs are only slower."""
    from trio._core import _run

    runner = _run.GLOBAL_RUN_CONTEXT.runner
    runner.io_manager = _NoDevices(runner.io_manager)
    await play()


def _seed_scheduler(seed: int) -> None:
    """trio shuffles each batch of runnable tasks by a random of its own; seeding it gives every seed an order of its own.

    trio has no public name for it; test_determinism.py fails if it goes away.
    """
    from trio._core import _run

    assert _run._ALLOW_DETERMINISTIC_SCHEDULING, "hypothesis has not told trio to schedule deterministically"
    _run._r.seed(random.Random(seed).getrandbits(64))
