"""A history: transactions with what each read and wrote, as its client saw it. Pure.

Every write puts a value that no other write puts, so a read names the write that it saw; a key that was never written is read as None.
Positions are optional: `snapshot` is the seq that a transaction read at, `commit` the seq of what it wrote.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

Key = Hashable
Value = Hashable
INITIAL: Value = None


class Outcome(Enum):
    """How a transaction ended, as far as its client knows."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"  # the answer was lost: it counts as committed if anybody saw what it wrote


class Read(NamedTuple):
    key: Key
    value: Value


class Write(NamedTuple):
    key: Key
    value: Value


@dataclass(slots=True)
class Transaction:
    """session: whose; its transactions stand in the history in the order in which they were run. None: of no session."""

    operations: list[Read | Write] = field(default_factory=list)
    outcome: Outcome = Outcome.COMMITTED
    session: Hashable = None
    snapshot: int | None = None
    commit: int | None = None


class Anomaly(Enum):
    """What snapshot isolation does not allow, by Adya's and Elle's names."""

    GARBAGE = "garbage read: a value that nobody wrote"
    DIRTY = "dirty read (G1a): a value of an aborted transaction"
    INTERMEDIATE = "intermediate read (G1b): a value that its transaction wrote over"
    INTERNAL = "internal: a transaction did not read its own write, or read two values of one key"
    LOST_UPDATE = "lost update: two transactions replaced the same version"
    CIRCULAR = "circular information flow (G1c)"
    READ_SKEW = "read skew (G-single): a cycle with one anti-dependency"
    LONG_FORK = "long fork (G-nonadjacent): a cycle of anti-dependencies none of which follows another"
    NOT_AT_SNAPSHOT = "a read that is not the state at its snapshot"


class Finding(NamedTuple):
    """transactions: their places in the history, in the order of the cycle where there is one."""

    anomaly: Anomaly
    transactions: tuple[int, ...]
    what: str

    def __str__(self) -> str:
        return f"{self.anomaly.value}: {self.what} (transactions {', '.join(map(str, self.transactions))})"
