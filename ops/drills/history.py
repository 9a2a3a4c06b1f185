"""Earlier drills below one directory, and how each compares with those of its kind before it.

A kind is scenario, target and acks: nothing else is compared with one another. A report that cannot be read is named, not passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .report import FORMAT, JSON_FILE

TREND_MEASURES = ("lost_writes", "recovered_s", "longest_gap_s")
RUNS_COMPARED = 10  # the newest ones before


@dataclass(frozen=True, slots=True)
class PastRun:
    """One report. trend: measure -> this value over the median of the runs of its kind before it; left out where there is nothing to divide."""

    directory: str
    plain: Mapping[str, Any]
    trend: Mapping[str, float]

    def as_plain(self) -> dict[str, Any]:
        return {
            "directory": self.directory,
            **{name: self.plain[name] for name in ("scenario", "target", "began", "passed", "exit_code", "settings", "measures", "missed", "problems")},
            "trend": dict(self.trend),
        }


def read_history(out: Path) -> tuple[list[PastRun], list[str]]:
    """Oldest first; and each report that could not be read, with why."""
    found, unreadable = [], []
    for file in sorted(out.glob(f"*/{JSON_FILE}")):
        try:
            plain = json.loads(file.read_text())
            if plain["format"] != FORMAT:
                raise ValueError(f"format {plain['format']}, this program reads {FORMAT}")
            _kind(plain), plain["measures"], plain["began"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            unreadable.append(f"{file}: {type(error).__name__}: {error}")
            continue
        found.append((file.parent.name, plain))
    return with_trends(sorted(found, key=lambda one: one[1]["began"])), unreadable


def with_trends(reports: Iterable[tuple[str, Mapping[str, Any]]]) -> list[PastRun]:
    """Reports in the order of their times, each beside the ones of its kind before it."""
    before: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    runs = []
    for directory, plain in reports:
        earlier = before.setdefault(_kind(plain), [])
        runs.append(PastRun(directory, plain, _trend(plain["measures"], earlier[-RUNS_COMPARED:])))
        earlier.append(plain["measures"])
    return runs


def _kind(plain: Mapping[str, Any]) -> tuple[Any, ...]:
    return plain["scenario"], plain["target"], plain["settings"]["acks"], plain["settings"]["on_ack_timeout"]


def _trend(measures: Mapping[str, Any], earlier: list[Mapping[str, Any]]) -> dict[str, float]:
    trend = {}
    for name in TREND_MEASURES:
        usual = [one[name] for one in earlier if one.get(name) is not None]
        if measures.get(name) is not None and usual and median(usual) > 0:
            trend[name] = round(measures[name] / median(usual), 3)
    return trend
