"""What a node is doing, in one word: the table from facts to phase. Pure; knows no peer, database, link or clock.

Rows are tried from the top and the last one takes what is left, so every combination of facts has one phase. What binds an operator's
hands stands first (fenced, frozen), then what needs them (failed), then what passes (switching), then the work of the role. Two phases of a
standby are told apart by CLOSE_S; how the facts are found is facts.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from .lag import Lag
from .roles import Role

CLOSE_S = 5.0  # a copy that is further behind than this is catching up
FENCED = "fenced"  # by the role's name


class Phase(Enum):
    """The value is the name shown in status, health and metrics."""

    FENCED = "fenced"  # an operator has fenced it: it leads and follows nobody
    FROZEN = "frozen"  # it met another primary of its own epoch
    FAILED = "failed"  # a disk failed, a database is damaged, or following one was given up with an alarm
    SWITCHING = "switching"  # the office is being handed over, offered, or taken
    PRIMARY = "primary"
    JOINING = "joining"  # a standby without a primary: it has met none yet, or that one is away
    SEEDING = "seeding"  # it is receiving the files of a checkpoint
    CATCHING_UP = "catching-up"  # a copy is not streamed yet, or is more than CLOSE_S behind
    STANDBY = "standby"  # it streams every database, close behind


class Copies(Enum):
    """How the copies of a standby are, by the one that is worst off."""

    NO_PRIMARY = "no primary is linked"
    SEEDING = "files of a copy are being received"
    BEHIND = "a copy is not streamed, or is far behind"
    CLOSE = "all stream, close behind"


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one node, as somebody knows it. copies says nothing unless the role is standby."""

    role: Role
    fenced: bool
    failed: bool
    switching: bool
    copies: Copies


_OF_COPIES = {
    Copies.NO_PRIMARY: Phase.JOINING,
    Copies.SEEDING: Phase.SEEDING,
    Copies.BEHIND: Phase.CATCHING_UP,
    Copies.CLOSE: Phase.STANDBY,
}


def phase_of(facts: Facts) -> Phase:
    """The table."""
    for holds, phase in (
        (facts.fenced, Phase.FENCED),
        (facts.role is Role.FROZEN, Phase.FROZEN),
        (facts.failed, Phase.FAILED),
        (facts.switching, Phase.SWITCHING),
        (facts.role is Role.PRIMARY, Phase.PRIMARY),
    ):
        if holds:
            return phase
    return _OF_COPIES[facts.copies]


def worst(copies: Iterable[Copies]) -> Copies:
    """The one that stands first in Copies; CLOSE for a standby that has nothing to copy."""
    found = set(copies)
    return next((copy for copy in Copies if copy in found), Copies.CLOSE)


def is_close(lag: Lag | None, *, delay_s: float = 0.0) -> bool:
    """Whether a copy that streams counts as close behind. None: its lag is not known yet. delay_s: by how much it is late on purpose."""
    return lag is not None and lag.seconds <= CLOSE_S + delay_s
