"""Carries one scenario out on one target, under load, and brings home the facts.

    cluster well ── plant a loss ── writers, reader, watch ── steps ── writers stop ── repairs ── hashes at one MARK ── every document

A step that does not come to pass within STATE_SECONDS_MAX is a problem, not the end: the rest is done, so that there is always a report. A loss is
planted first, a write that was acknowledged and then deleted: a verdict that does not miss it could not see any other either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

import twinlog
from twinlog.errors import ConnectionFailure, TwinlogError, WTimeoutError

from .ending import prove, read_copies
from .records import Event, Facts, Outcome
from .scenarios import FAULTS, ORDERS, PRIMARY, RELIEF_OF, RELIEFS, Act, Scenario, State, Step
from .targets.protocol import Target
from .verdict import newest_epoch, tells
from .watch import Watch
from .writers import READS_MAX, Book, Load, latest_stop, plant_loss, read_steadily, write_steadily

READY_SECONDS_MAX = 120.0
STATE_SECONDS_MAX = 60.0
ORDER_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0  # for calls that are under way when the writers shall stop
LOOK_S = 0.02
RESUMED_WRITES = 20
REFUSED = "PromotionRefused"


class NotReady(Exception):
    """The target's cluster did not become well; nothing has been done to it."""


@dataclass(frozen=True, slots=True)
class Plan:
    scenario: Scenario
    seconds: float  # of each steady phase
    load: Load


class Conductor:
    """One run. `tell` is called with a line for people, as things happen."""

    def __init__(self, plan: Plan, target: Target, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._target = target
        self._tell = tell
        self._book = Book()
        self._watch = Watch(target.addresses())
        self._events: list[Event] = []
        self._problems: list[str] = []
        self._broken: dict[tuple[Act, str], Act] = {}  # fault and node -> its relief
        self._began = 0.0  # when writing began

    async def run(self) -> Facts:
        """The facts. Raises NotReady, and what the target raises when it cannot do a fault."""
        stop, unwatched = trio.Event(), trio.Event()
        async with trio.open_nursery() as watching:
            watching.start_soon(self._watch.run, unwatched)
            try:
                await self._make_ready()
                began = self._began = trio.current_time()
                async with trio.open_nursery() as writing:
                    for writer in range(self._plan.load.writers):
                        writing.start_soon(write_steadily, self._target.url(), self._plan.load, writer, self._book, stop)
                    writing.start_soon(read_steadily, self._target.url(), self._plan.load, self._book, stop)
                    try:
                        await self._play()
                    finally:
                        stop.set()
                        writing.cancel_scope.deadline = trio.current_time() + STOP_SECONDS_MAX
                ended = trio.current_time()
                await self._repair()
                return await self._gather(began, ended)
            finally:
                unwatched.set()

    # Before and after.

    async def _make_ready(self) -> None:
        with trio.move_on_after(READY_SECONDS_MAX) as waiting:
            await self._wait(lambda: all(self._watch.follows(node) for node in self._target.nodes[1:]) and self._leads(self._target.nodes[0]))
            await self._planted()
            await self._wait(lambda: all(self._watch.follows(node) for node in self._target.nodes[1:]))
        if waiting.cancelled_caught:
            seen = ", ".join(f"{node} {told.role if told.reachable else 'silent'}" for node, told in self._watch.newest.items())
            raise NotReady(f"the cluster is not well after {READY_SECONDS_MAX:.0f} s ({seen or 'nobody answers'}): nothing was done to it")
        self._tell(f"the cluster is well: {self._target.nodes[0]} is primary, the others follow; writing begins at 0.00 s")

    def _leads(self, node: str) -> bool:
        primary = self._watch.primary()
        return primary is not None and primary.node == node

    async def _planted(self) -> None:
        while True:
            try:
                return await plant_loss(self._target.url(), self._plan.load)
            except (ConnectionFailure, WTimeoutError):
                await trio.sleep(LOOK_S)

    async def _repair(self) -> None:
        """Undo what is still broken, so that every copy can be compared."""
        for (fault, node), relief in list(self._broken.items()):
            began = trio.current_time()
            try:
                text = await self._target.apply(relief, self._name(node), self._peer(node))
            except OSError as error:
                self._problems.append(f"afterwards: {relief.value} {self._name(node)} could not be done: {error}")
                continue
            del self._broken[fault, node]
            self._note(Event(None, began, trio.current_time(), f"afterwards: {relief.value} {self._name(node)}: {text}"))

    async def _gather(self, began: float, ended: float) -> Facts:
        self._tell(f"{self._now():7.2f} s  waiting for all copies to be equal")
        addresses = self._target.addresses()
        proof, why = await prove(addresses)
        copies, problems = await read_copies(addresses)
        if self._book.full:
            problems.append(f"the writers stopped at their bound, {len(self._book.writes)} writes: drill with fewer seconds")
        if self._watch.full or len(self._book.reads) >= READS_MAX:
            problems.append("the watch or the reader came to its bound: drill with fewer seconds")
        return Facts(
            nodes=self._target.nodes,
            writes=tuple(self._book.writes),
            reads=tuple(self._book.reads),
            events=tuple(self._events),
            sightings=tuple(self._watch.changes),
            writing_began=began,
            writing_ended=ended,
            copies=tuple(copies),
            proof=proof,
            salvaged={node: await self._target.salvaged(node) for node in self._target.nodes},
            problems=(*self._problems, *([why] if why else []), *problems),
        )

    # Steps.

    async def _play(self) -> None:
        for step in self._plan.scenario.steps:
            if step.with_acks and not self._target.settings.acks:
                continue
            if step.act is Act.STEADY:
                await trio.sleep(self._plan.seconds)
            elif step.act is Act.UNTIL:
                await self._until(step)
            elif step.act in ORDERS:
                await self._order(step)
            elif not await self._done(step):
                return

    async def _done(self, step: Step) -> bool:
        """A fault or a relief. Where the target cannot do it now, the steps after it would show nothing."""
        began = trio.current_time()
        node = self._name(step.node)
        try:
            text = await self._target.apply(step.act, node, self._peer(step.node))
        except OSError as error:
            self._problems.append(f"{step.act.value} {node} could not be done, and no step after it was: {error}")
            return False
        if step.act in FAULTS:
            self._broken[step.act, step.node] = RELIEF_OF[step.act]
        else:
            assert step.act in RELIEFS, step
            self._broken = {key: relief for key, relief in self._broken.items() if (relief, key[1]) != (step.act, step.node)}
        self._note(Event(step.act, began, trio.current_time(), f"{step.act.value} {node}: {text}", node))
        return True

    async def _order(self, step: Step) -> None:
        """A promotion or switchover through the client, as the operator's commands do it."""
        began = trio.current_time()
        node = self._name(step.node)
        forced = False
        try:
            with trio.fail_after(ORDER_SECONDS_MAX):
                if step.act is Act.SWITCHOVER:
                    text = await self._switch_over(node)
                else:
                    text, forced = await self._promote(node)
        except (TwinlogError, trio.TooSlowError) as error:
            text = f"failed: {type(error).__name__}: {error or f'no answer within {ORDER_SECONDS_MAX:.0f} s'}"
            self._problems.append(f"{step.act.value} {node} {text}")
        self._note(Event(step.act, began, trio.current_time(), f"{step.act.value} {node}: {text}", node, forced))

    async def _promote(self, node: str) -> tuple[str, bool]:
        """Without force first; a refusal is answered with force, as an operator does whose primary is gone, and is reported."""
        url, address = self._target.addresses()[node]
        async with await twinlog.connect_async(url, **self._plan.load.options()) as client:
            try:
                answer = await client.promote(address, automatic=True)
            except TwinlogError as error:
                if error.details.get("name") != REFUSED:
                    raise
                answer = await client.promote(address, force=True, automatic=True)
                return f"epoch {answer['epoch']}, by force; without it: {error}", True
        return f"epoch {answer['epoch']}", False

    async def _switch_over(self, node: str) -> str:
        async with await twinlog.connect_async(self._target.url(), **self._plan.load.options()) as client:
            patient = client.with_options(timeout_s=ORDER_SECONDS_MAX)
            answer: dict[str, Any] = await patient.switchover(node, automatic=True)
        return f"epoch {answer['epoch']}; no node took writes for {answer['stopped_s'] * 1000:.0f} ms"

    async def _until(self, step: Step) -> None:
        assert step.state is not None, step
        began = trio.current_time()
        with trio.move_on_after(STATE_SECONDS_MAX) as waiting:
            await self._wait(lambda: self._is(step.state, self._name(step.node) if step.node else ""))
        who = f"{self._name(step.node)}: " if step.node else ""
        if waiting.cancelled_caught:
            self._problems.append(f"{who}not within {STATE_SECONDS_MAX:.0f} s: {step.state.value}")
        text = f"{who}{step.state.value}"
        self._note(Event(Act.UNTIL, began, trio.current_time(), f"NOT {text}" if waiting.cancelled_caught else text))

    # States.

    def _is(self, state: State, node: str) -> bool:
        deeds = [event for event in self._events if event.act in FAULTS | RELIEFS | ORDERS]
        faults = [event for event in deeds if event.act in FAULTS]
        if state is State.DETECTED:
            return any(tells(faults[-1], sighting) for sighting in self._watch.newest.values() if sighting.at > faults[-1].began)
        if state is State.WRITES_STOP:
            return latest_stop(self._book, faults[-1].began)
        if state is State.WRITES_GO_ON:
            return self._goes_on(deeds)
        if state is State.STEPPED_DOWN:
            told = self._watch.newest.get(node)
            return told is not None and told.reachable and told.role != "primary"
        return self._watch.follows(node) and self._watch.newest[node].at > deeds[-1].began

    def _goes_on(self, deeds: list[Event]) -> bool:
        """RESUMED_WRITES sent after the newest deed, in the epoch of the newest order."""
        acknowledged = [write for write in self._book.writes if write.outcome is Outcome.ACKNOWLEDGED]
        orders = [event for event in deeds if event.act in ORDERS]
        epoch = newest_epoch(acknowledged, orders[-1].began) if orders else -1
        return sum(1 for write in acknowledged if write.sent >= deeds[-1].began and write.position and write.position[0] > epoch) >= RESUMED_WRITES

    async def _wait(self, holds: Callable[[], bool]) -> None:
        """The watch and the book change by themselves; nothing rings when they do."""
        while True:
            if holds():
                return
            await trio.sleep(LOOK_S)

    def _name(self, role: str) -> str:
        return self._target.nodes[0 if role == PRIMARY else 1]

    def _peer(self, role: str) -> str:
        return self._target.nodes[1 if role == PRIMARY else 0]

    def _note(self, event: Event) -> None:
        self._events.append(event)
        self._tell(f"{event.began - self._began:7.2f} s  {event.text} ({event.ended - event.began:.2f} s)")

    def _now(self) -> float:
        return trio.current_time() - self._began
