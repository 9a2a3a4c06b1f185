"""A machine: one disk, a clock that is not quite right, and one process life after the other on it.

    start ── life(seams) runs ──> kill (kill -9) | power cut | planned crash at a disk operation | orderly stop ──> restart

After a sync that failed the machine is restarted whole, as its operator must: what the kernel's page cache still shows may
not be on the device. When a life is killed its disk raises SimCrash out of every call, so its clean-up code changes nothing; then its tasks are
cancelled. Any other exception that ends a living process is a failure of the run.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from storage import Seams, WorkHere
from tests.sim.disk import Platter, SimCrash, SimDisk
from tests.sim.trace import Trace

STARTED_US = 1_750_000_000_000_000

Life = Callable[[Seams], Awaitable[None]]


class Machine:
    """Invariant: at most one life at a time; `disk` is that life's, or the last one's."""

    def __init__(self, name: str, rng: random.Random, trace: Trace) -> None:
        self.name = name
        self.rng = rng
        self.trace = trace
        self.platter = Platter(random.Random(rng.getrandbits(64)))
        self.disk: SimDisk | None = None
        self.lives = 0
        self.power_cuts: list[float] = []  # and failed syncs: moments that what is not synced may not outlive
        self.platter.on_failed_sync = self._at_risk
        self._unsettled_s: float | None = None  # when a life ended whose bytes nobody has synced since
        self.on_down: Callable[[bool], None] = lambda power: None  # told as a life ends; True when without power
        self._entropy = random.Random(rng.getrandbits(64))
        self._skew_us = rng.randint(-2_000_000, 2_000_000)
        self._scope: trio.CancelScope | None = None
        self._lifelines: dict[trio.CancelScope, None] = {}
        self._ended = trio.Event()
        self._ended.set()
        self._lost_power = False

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    @property
    def alive(self) -> bool:
        return self.running and self.disk is not None and not self.disk.dead

    def jump_clock(self, by_us: int) -> None:
        """Somebody sets the wall clock, or a battery is empty."""
        self._skew_us = max(self._skew_us + by_us, -STARTED_US)
        self.trace.note("nemesis", "sets the clock of", self.name, "by", by_us // 10**6)

    def time_us(self) -> int:
        """A wall clock that is wrong by seconds and is set back now and then."""
        if self.rng.random() < 0.001:
            self._skew_us = self.rng.randint(-2_000_000, 2_000_000)
        return STARTED_US + self._skew_us + int(trio.current_time() * 1e6)

    async def run(self, life: Life) -> None:
        """One life, from start to whatever ends it."""
        assert not self.running, f"{self.name} runs already"
        self.lives += 1
        self._lost_power = False
        failed_syncs = self.platter.failed_syncs
        disk = self.disk = self.platter.mount(self._crashed)
        seams = Seams(disk, self.time_us, self._entropy.randbytes, WorkHere(disk))
        self._ended = trio.Event()
        self.trace.note(self.name, "starts", self.lives)
        try:
            with trio.CancelScope() as self._scope:
                await self._guarded(life, seams, disk)
        finally:
            disk.kill()
            if self.platter.failed_syncs > failed_syncs:
                self.trace.note(self.name, "is restarted whole after a failed sync")
                self._at_risk()
                self._lost_power = True
            if self._unsettled_s is None:
                self._unsettled_s = trio.current_time()
            if self._lost_power:
                self._at_risk()
                self.platter.power_cut()
            self._end_tasks(power=self._lost_power)
            self.trace.note(self.name, "ended")
            self._ended.set()

    async def _guarded(self, life: Life, seams: Seams, disk: SimDisk) -> None:
        """SimCrash ends here. What a dying process raises besides is nobody's business."""
        try:
            await life(seams)
        except BaseExceptionGroup as group:
            _, rest = group.split((SimCrash, trio.Cancelled))
            if rest is not None and not disk.dead:
                raise
            cancelled, _ = group.split(trio.Cancelled)
            if cancelled is not None:
                raise cancelled from None
        except SimCrash:
            pass

    def _crashed(self) -> None:
        self.trace.note(self.name, "crashes at a planned disk operation")
        self._end_tasks()

    def _end_tasks(self, *, power: bool = False) -> None:
        self.on_down(power)
        if self._scope is not None:
            self._scope.cancel()
        for scope in self._lifelines:
            scope.cancel()

    @contextmanager
    def lifeline(self) -> Iterator[trio.CancelScope]:
        """For a call from outside into the process: cancelled when the life ends."""
        with trio.CancelScope() as scope:
            self._lifelines[scope] = None
            try:
                yield scope
            finally:
                del self._lifelines[scope]

    def kill(self) -> None:
        """kill -9: what was written stays."""
        if self.alive:
            self.trace.note(self.name, "is killed")
            self.disk.kill()
            self._end_tasks()

    def cut_power(self) -> None:
        """What was not synced is at risk. Applied once the life's tasks are gone."""
        if self.running:
            self.trace.note(self.name, "loses power")
            self._lost_power = True
            self._at_risk()
            self.disk.kill()
            self._end_tasks(power=True)

    def _at_risk(self) -> None:
        """What is not synced may be lost from here: written in this life, or in one before that nobody has recovered."""
        self.power_cuts.append(trio.current_time())
        if self._unsettled_s is not None:
            self.power_cuts.append(self._unsettled_s)

    def settled(self) -> None:
        """The life has opened its database: what it found is durable from now on (INV-1). One that stays closed settles nothing."""
        self._unsettled_s = None

    def spare(self) -> None:
        """No crash that is due at a later operation comes any more."""
        if self.disk is not None:
            self.disk.crash_in(None)

    def crash_in(self, steps: int) -> None:
        if self.alive:
            self.disk.crash_in(steps)

    def power_goes_with_it(self) -> None:
        """Whatever ends this life, the power goes with it."""
        self._lost_power = self._lost_power or self.alive

    def stop(self) -> None:
        """An orderly end: the life's tasks are cancelled and may use the disk while they end."""
        if self.alive:
            self.trace.note(self.name, "is stopped")
            for scope in (self._scope, *self._lifelines):
                scope.cancel()

    async def wait_ended(self) -> None:
        await self._ended.wait()
