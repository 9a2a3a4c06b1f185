"""The drills, as plain values: what is done to which node, and which states are waited for in between. Pure.

PRIMARY and STANDBY are the nodes that had these roles when the drill began, whatever they are by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PRIMARY, STANDBY = "primary", "standby"


class Act(Enum):
    """One step. The value is how reports name it."""

    STEADY = "steady"  # writers go on for the drill's seconds
    KILL = "kill"
    FREEZE = "freeze"
    CUT = "cut"  # packets between the nodes vanish, both ways
    MUTE = "mute"  # packets from the node to its peer vanish, the others arrive
    FILL = "fill"
    START = "start"
    THAW = "thaw"
    HEAL = "heal"
    FREE = "free"
    PROMOTE = "promote"
    SWITCHOVER = "switchover"
    UNTIL = "until"


RELIEF_OF = {Act.KILL: Act.START, Act.FREEZE: Act.THAW, Act.CUT: Act.HEAL, Act.MUTE: Act.HEAL, Act.FILL: Act.FREE}
FAULTS = frozenset(RELIEF_OF)
RELIEFS = frozenset(RELIEF_OF.values())
ORDERS = frozenset({Act.PROMOTE, Act.SWITCHOVER})


class State(Enum):
    """What a step can wait for."""

    DETECTED = "the cluster says that something is wrong"
    WRITES_STOP = "writes are not acknowledged any more"
    WRITES_GO_ON = "writes are acknowledged again"
    STEPPED_DOWN = "the node is no longer primary"
    FOLLOWS = "the node follows the primary with everything, and no write goes without it"


@dataclass(frozen=True, slots=True)
class Step:
    """with_acks: left out when no standby has to confirm writes, for then nothing stops."""

    act: Act
    node: str = ""
    state: State | None = None
    with_acks: bool = False


class OnTimeout(Enum):
    """The setting on_ack_timeout."""

    BLOCK = "block"
    DEGRADE = "degrade"


@dataclass(frozen=True, slots=True)
class Scenario:
    """acks and on_timeout: the settings it is meant for. needs_acks: without them it would show nothing."""

    name: str
    title: str
    on_timeout: OnTimeout
    steps: tuple[Step, ...]
    acks: int = 1
    needs_acks: bool = False

    def faults(self) -> frozenset[Act]:
        return frozenset(step.act for step in self.steps) & FAULTS


def _until(state: State, node: str = "", *, with_acks: bool = False) -> Step:
    return Step(Act.UNTIL, node, state, with_acks)


STEADY = Step(Act.STEADY)
DETECTED = _until(State.DETECTED)
WRITES_STOP = _until(State.WRITES_STOP, with_acks=True)
WRITES_GO_ON = _until(State.WRITES_GO_ON)


def _failover(lost: str, heir: str) -> tuple[Step, ...]:
    """One node dies, the other takes over and is written to."""
    return (Step(Act.KILL, lost), DETECTED, Step(Act.PROMOTE, heir), WRITES_GO_ON, STEADY)


def _return(node: str) -> tuple[Step, ...]:
    return (Step(Act.START, node), _until(State.FOLLOWS, node), STEADY)


def _separated(fault: Act, relief: Act) -> tuple[Step, ...]:
    """The nodes lose each other; the standby is promoted, and the old primary, which is still there, hears of it only afterwards."""
    return (
        STEADY, Step(fault, PRIMARY), DETECTED, WRITES_STOP, Step(Act.PROMOTE, STANDBY), STEADY, Step(relief, PRIMARY),
        _until(State.STEPPED_DOWN, PRIMARY), _until(State.FOLLOWS, PRIMARY), WRITES_GO_ON, STEADY,
    )  # fmt: skip


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "kill-primary", "kill -9 of the primary, failover to the standby", OnTimeout.DEGRADE,
            (STEADY, *_failover(PRIMARY, STANDBY)),
        ),
        Scenario(
            "freeze-primary", "the primary stands still, failover, and it wakes up as if nothing had been", OnTimeout.BLOCK,
            _separated(Act.FREEZE, Act.THAW),
        ),
        Scenario(
            "partition", "the nodes cannot reach each other, clients reach both; failover, then the link heals", OnTimeout.BLOCK,
            _separated(Act.CUT, Act.HEAL),
        ),
        Scenario(
            "half-open", "what the primary sends to the standby vanishes, the other way works; failover, then the link heals",
            OnTimeout.BLOCK, _separated(Act.MUTE, Act.HEAL),
        ),
        Scenario(
            "disk-full", "the primary's disk fills up: writes are refused, reads go on; then space is freed", OnTimeout.BLOCK,
            (STEADY, Step(Act.FILL, PRIMARY), DETECTED, _until(State.WRITES_STOP), STEADY, Step(Act.FREE, PRIMARY), WRITES_GO_ON, STEADY),
        ),
        Scenario(
            "primary-returns", "the primary dies with commits that only it has, failover; it comes back, rewinds and follows",
            OnTimeout.BLOCK,
            (STEADY, Step(Act.CUT, PRIMARY), DETECTED, WRITES_STOP, Step(Act.KILL, PRIMARY), Step(Act.HEAL, PRIMARY),
             Step(Act.PROMOTE, STANDBY), Step(Act.START, PRIMARY), _until(State.FOLLOWS, PRIMARY), WRITES_GO_ON, STEADY),
        ),
        Scenario(
            "double-failover", "the primary dies, failover; it comes back; the new primary dies, failover back", OnTimeout.DEGRADE,
            (STEADY, *_failover(PRIMARY, STANDBY), *_return(PRIMARY), *_failover(STANDBY, PRIMARY), *_return(STANDBY)),
        ),
        Scenario(
            "switchover", "the office goes to the standby and back, under load", OnTimeout.BLOCK,
            (STEADY, Step(Act.SWITCHOVER, STANDBY), WRITES_GO_ON, _until(State.FOLLOWS, PRIMARY), STEADY,
             Step(Act.SWITCHOVER, PRIMARY), WRITES_GO_ON, _until(State.FOLLOWS, STANDBY), STEADY),
        ),
        Scenario(
            "standby-lost-block", "the only standby dies: writes wait, reads go on; it comes back", OnTimeout.BLOCK,
            (STEADY, Step(Act.KILL, STANDBY), DETECTED, WRITES_STOP, STEADY, Step(Act.START, STANDBY), WRITES_GO_ON,
             _until(State.FOLLOWS, STANDBY), STEADY),
            needs_acks=True,
        ),
        Scenario(
            "standby-lost-degrade", "the only standby dies: writes go on without it, with an alarm; it comes back", OnTimeout.DEGRADE,
            (STEADY, Step(Act.KILL, STANDBY), DETECTED, WRITES_GO_ON, STEADY, Step(Act.START, STANDBY), _until(State.FOLLOWS, STANDBY),
             STEADY),
            needs_acks=True,
        ),
    )
}  # fmt: skip
