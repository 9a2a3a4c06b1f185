"""What this node knows of each other node of its cluster: values that sessions write and decisions read. Pure.

Positions are what was last heard, and stay after a link is gone: the floor and a promotion's check need them then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .lag import LagMeter
from .messages import Hello
from .pausing import NEVER, PauseWord
from .roles import Role

MARKS_KEPT = 32  # of each database and peer


@dataclass(slots=True)
class CopyKnown:
    """One database's copy on one peer, as a primary knows it. durable_seq None: unknown in this history.

    Invariant: durable_seq counts commits of this node's own history, never seqs of a copy that diverged.
    """

    received_seq: int = 0
    durable_seq: int | None = None
    chain: int = 0
    checked_seq: int = 0  # up to where the chain was compared
    streaming: bool = False
    seed_bytes_left: int = 0
    stopped: str = ""  # why the standby gave it up, while it has not asked again
    marks: dict[int, tuple[int, str]] = field(default_factory=dict)  # seq -> (chain, state hash)
    compared_mark: int = 0
    mark_equal: bool | None = None

    def put_mark(self, seq: int, chain: int, state_hash: str) -> None:
        self.marks[seq] = (chain, state_hash)
        while len(self.marks) > MARKS_KEPT:
            del self.marks[min(self.marks)]


@dataclass(slots=True)
class Peer:
    """One other node. role and epoch are the last ones heard; conversation is the link in use, if any."""

    name: str
    address: str
    conversation: object | None = None
    hello: Hello | None = None
    role: Role = Role.STANDBY
    epoch: int = 0
    heard_at: float = 0.0
    led_at: float | None = None  # when it last said that it is primary
    positions: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)
    copies: dict[bytes, CopyKnown] = field(default_factory=dict)
    meters: dict[bytes, LagMeter] = field(default_factory=dict)
    last_error: str = ""
    delay_s: int = 0  # a delayed standby: it counts for no acknowledgement and is not promoted unless forced
    pause: PauseWord = NEVER  # the newest word that it has told
    unfit: str = ""  # why it could not lead, by its own word

    def copy(self, uuid: bytes) -> CopyKnown:
        return self.copies.setdefault(uuid, CopyKnown())

    def durable(self, uuid: bytes) -> int:
        """What counts towards acknowledgements and floors: 0 while unknown."""
        known = self.copies.get(uuid)
        return known.durable_seq or 0 if known else 0

    def forget_database(self, uuid: bytes) -> None:
        for table in (self.positions, self.copies, self.meters):
            table.pop(uuid, None)
