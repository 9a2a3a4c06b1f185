"""How far behind a standby may be, as a health check's address says it: `?lag=10MB`, `?lag=5s`, `?lag=100c`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

RULE = "lag is a whole number of bytes (1048576, 10MB, 16MiB), of seconds (5s, 500ms) or of commits (100c)"
SHOWN_CHARS_MAX = 40  # of a value that is refused

# What a unit counts, and how many of these it is.
UNITS = {
    "": ("bytes", 1.0),
    "B": ("bytes", 1.0),
    **{f"{letter}B": ("bytes", 1000.0**power) for power, letter in enumerate("kMGT", 1)},
    **{f"{letter}iB": ("bytes", 1024.0**power) for power, letter in enumerate("KMGT", 1)},
    "KB": ("bytes", 1000.0),
    "s": ("seconds", 1.0),
    "ms": ("seconds", 0.001),
    "c": ("commits", 1.0),
}
_WRITTEN = re.compile(r"([0-9]{1,15})([A-Za-z]{0,3})")


@dataclass(frozen=True, slots=True)
class LagLimit:
    """At most `most` bytes, seconds or commits. text: as it was asked."""

    counts: str
    most: float
    text: str


def read_lag_limit(text: str) -> LagLimit:
    """Raises ValueError with the rule."""
    found = _WRITTEN.fullmatch(text)
    if found is None or found[2] not in UNITS:
        raise ValueError(f"lag={text[:SHOWN_CHARS_MAX]!r} cannot be read: {RULE}")
    counts, each = UNITS[found[2]]
    return LagLimit(counts, int(found[1]) * each, text)
