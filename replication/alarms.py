"""What an operator must look at: kept until it is no longer so, at most ALARMS_MAX of them. Pure.

A difference in chain or hash (INV-6) stays until an operator clears it; the rest go when the link or copy is well again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

ALARMS_MAX = 256


class AlarmKind(Enum):
    """What is wrong. The value is the name shown to operators and metrics."""

    CHAIN_DIFFERS = "chain-differs"
    HASH_DIFFERS = "hash-differs"
    REFUSED_COPY = "refused-copy"
    UNKNOWN_TO_PRIMARY = "unknown-to-primary"
    TWO_PRIMARIES = "two-primaries"
    COPIED_NODE = "copied-node"
    TAIL_LOST = "tail-lost"
    DEGRADED = "degraded"
    NO_REIGN = "no-reign"
    STANDBY_FAILED = "standby-failed"
    DAMAGED = "damaged"
    LOG_OUTRUN = "log-outrun"
    DELAY_SHORT = "delay-short"


@dataclass(frozen=True, slots=True)
class Alarm:
    """database and peer are names, empty when the alarm is not about one. passes: what it tells of goes by itself, as a full disk does."""

    kind: AlarmKind
    database: str
    peer: str
    message: str
    since_us: int
    passes: bool = False


class Alarms:
    """Alarms by (kind, database, peer). Invariant: one of each, and never more than ALARMS_MAX (`left_out` counts)."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[AlarmKind, str, str], Alarm] = {}
        self.left_out = 0

    def put(
        self, kind: AlarmKind, message: str, *, now_us: int, database: str = "", peer: str = "", passes: bool = False
    ) -> bool:
        """Whether it is new (worth a log line)."""
        key = (kind, database, peer)
        old = self._by_key.get(key)
        if old is None and len(self._by_key) >= ALARMS_MAX:
            self.left_out += 1
            return False
        self._by_key[key] = Alarm(kind, database, peer, message, old.since_us if old else now_us, passes)
        return old is None

    def clear(self, kind: AlarmKind, *, database: str = "", peer: str = "") -> None:
        self._by_key.pop((kind, database, peer), None)

    def has(self, kind: AlarmKind, *, database: str = "", peer: str = "") -> bool:
        return (kind, database, peer) in self._by_key

    def all(self) -> list[Alarm]:
        return list(self._by_key.values())
