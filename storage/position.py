"""Positions, reigns and histories: which state of the world a copy of a database is. Pure.

A position is `(epoch, seq)`, ordered; together with the chain it names one state. A reign is one unbroken run of a
primary over a database: it begins with a REIGN record at `first_seq`. A history is the tuple of reigns, oldest first;
its epochs never fall and its first_seqs grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """Where a copy is: the epoch of its newest commit and that commit's seq. (0, 0) is an empty database."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Reign:
    """One unbroken run of a primary. chain: the chain before first_seq, so that equal prefixes can be told."""

    epoch: int
    id: int
    first_seq: int
    chain: int

    @property
    def name(self) -> str:
        """How log segments of this reign are named: epoch, then id, in hex."""
        return f"{self.epoch:08x}-{self.id:016x}"

    def as_list(self) -> list[int]:
        return [self.epoch, self.id, self.first_seq, self.chain]


History = tuple[Reign, ...]


def history_from_lists(rows: list[list[int]]) -> History:
    return tuple(Reign(*row) for row in rows)
