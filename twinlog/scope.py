"""What a client, database or collection object carries into each call: where reads go, from which position, how long. Pure.

Positions are (epoch, seq), one for each database. A plain client notes what it saw but asks for nothing; a session's reads
ask for at least what the session saw (`consistent`), so that they see its own writes and never go back in time, also
on a standby.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from .results import Position
from .url import ReadFrom

WRITE_ID_BYTES = 16


class Positions:
    """The highest position seen of each database. guard: a lock when several threads share it."""

    def __init__(self, guard: AbstractContextManager[object]) -> None:
        self._guard = guard
        self._seen: dict[str, Position] = {}

    def observe(self, db: str, epoch: int, seq: int) -> None:
        """Invariant: a database's position never falls."""
        with self._guard:
            if (epoch, seq) > self._seen.get(db, (0, 0)):
                self._seen[db] = (epoch, seq)

    def of(self, db: str) -> Position | None:
        return self._seen.get(db)


@dataclass(frozen=True, slots=True)
class Scope:
    """timeout_s None: the client's setting. min_position: asked of every read, whatever else was seen."""

    positions: Positions
    random_bytes: Callable[[int], bytes]
    read_from: ReadFrom = ReadFrom.PRIMARY
    consistent: bool = False
    min_position: Position | None = None
    timeout_s: float | None = None

    def least_position(self, db: str) -> list[int] | None:
        """What a read of db must ask for."""
        seen = self.positions.of(db) if self.consistent else None
        asked = max((position for position in (seen, self.min_position) if position is not None), default=None)
        return None if asked is None else list(asked)

    def write_id(self) -> bytes:
        """By this the primary knows a resent write."""
        return self.random_bytes(WRITE_ID_BYTES)
