"""What a drill notes while it runs, as plain values. Pure.

Every time is in seconds of one monotonic clock, the drill's own; nothing is compared with a clock of the cluster.

    Write      one numbered write of one writer: when it was sent, when and how its call ended, the position answered
    Read       one read of a document that had been acknowledged
    Event      something the drill did: a fault, its relief, an order, a state it waited for
    Sighting   what one node said of itself and its links, noted when it changed
    Copy       one node's documents at the end: name of a write -> how often it was applied
    Proof      the state hashes of all nodes at one MARK
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from .scenarios import Act

PLANTED = "planted"  # the name of the write that the drill itself makes disappear; see conductor.py


class Outcome(Enum):
    """How a write's call ended, as far as its client can know."""

    ACKNOWLEDGED = "acknowledged"
    UNCONFIRMED = "unconfirmed"  # AckTimeout: kept on the primary, and too few standbys have confirmed it
    REFUSED = "refused"  # by name, by a node that did nothing
    UNKNOWN = "unknown"  # lost connection, no answer in time, nobody to take it: it may be there or not


@dataclass(frozen=True, slots=True)
class Write:
    """`error` is the error's name, "" when acknowledged. Position: (epoch, seq)."""

    writer: int
    number: int
    sent: float
    ended: float
    outcome: Outcome
    error: str = ""
    position: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return write_name(self.writer, self.number)


def write_name(writer: int, number: int) -> str:
    """The `_id` of the document that the write makes."""
    return f"w{writer}-{number}"


class Sight(Enum):
    """What became of a read of an acknowledged document. A plain read may be answered from an earlier state, by a standby or by an old primary that
    does not know yet; one that names the write's position may not (min_position)."""

    FOUND = "found"
    STALE = "stale"  # not there by a plain read, and there by one that named the position
    MISSING = "missing"  # not there by a read that named the position
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Read:
    began: float
    ended: float
    sight: Sight


@dataclass(frozen=True, slots=True)
class Event:
    """act None: the drill's own business, such as the last repairs. forced: of a promotion."""

    act: Act | None
    began: float
    ended: float
    text: str
    node: str = ""
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Sighting:
    """links: peer -> whether the node is connected with it; follows: peers that this primary streams everything to."""

    at: float
    node: str
    reachable: bool
    role: str = ""
    epoch: int = 0
    links: Mapping[str, bool] = field(default_factory=dict)
    follows: frozenset[str] = frozenset()
    degraded: bool = False
    alarms: frozenset[str] = frozenset()

    def same_as(self, other: Sighting) -> bool:
        """Equal but for the time."""
        mine = (self.node, self.reachable, self.role, self.epoch, self.links, self.follows, self.degraded, self.alarms)
        return mine == (other.node, other.reachable, other.role, other.epoch, other.links, other.follows, other.degraded, other.alarms)


@dataclass(frozen=True, slots=True)
class Copy:
    node: str
    role: str
    documents: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Proof:
    """answers: node -> (seq, chain, state hash). equal None: there was nothing to compare."""

    seq: int
    equal: bool | None
    answers: Mapping[str, tuple[int, str, str]]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the verdict is made from. problems: what did not go as the scenario says, in words."""

    nodes: tuple[str, ...]
    writes: tuple[Write, ...]
    reads: tuple[Read, ...]
    events: tuple[Event, ...]
    sightings: tuple[Sighting, ...]
    writing_began: float
    writing_ended: float
    copies: tuple[Copy, ...]
    proof: Proof | None
    salvaged: Mapping[str, tuple[str, ...]]  # node -> files that it set aside
    problems: tuple[str, ...] = ()
