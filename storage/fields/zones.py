"""Zones: which stretch of a segment's rows a range of codes can lie in, for columns that nearly ascend. Pure; numpy.

    rows    0 ───────── 4096 ───────── 8192 ──────── ...
    code    lowest 0        lowest 3_990                       messages come nearly in the order of their times: a range of an hour
            highest 4_310   highest 8_300                      lies in a few zones, and only those at its edges need a look

Made of a column when a wide range of it is first asked for, 0.7 ns a row, and only if a few samples say that it is worth it. Rows
without exactly one plain entry have no code to compare: a column with such rows has no zones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .column import Column

ZONE_ROWS = 4_096
ROWS_MIN = 16 * ZONE_ROWS  # a smaller segment is compared as quickly
SAMPLES = 16
SAMPLE_ROWS = 256
SPREAD_MAX = 8  # a sample's codes lie within one in so many of all


class Zones(NamedTuple):
    """The lowest and the highest code of every ZONE_ROWS rows."""

    lowest: np.ndarray
    highest: np.ndarray
    rows: int

    def span(self, a: int, b: int) -> tuple[int, int]:
        """Rows lo..hi-1 outside of which no code of a..b-1 stands."""
        found = np.flatnonzero((self.highest >= a) & (self.lowest < b))
        if not len(found):
            return 0, 0
        return int(found[0]) * ZONE_ROWS, min((int(found[-1]) + 1) * ZONE_ROWS, self.rows)

    def inner(self, a: int, b: int, lo: int, hi: int) -> tuple[int, int]:
        """Rows of lo..hi-1 in the middle of which every code is one of a..b-1; (lo, lo) when no zone is."""
        first, last = -(-lo // ZONE_ROWS), hi // ZONE_ROWS
        within = np.flatnonzero((self.lowest[first:last] >= a) & (self.highest[first:last] < b))
        if not len(within) or within[-1] - within[0] + 1 != len(within):
            return lo, lo
        return (first + int(within[0])) * ZONE_ROWS, (first + int(within[-1]) + 1) * ZONE_ROWS


def zones_of(column: Column) -> Zones | None:
    """None where they would not narrow anything."""
    codes = column.code_of
    if codes is None or len(column.many) or column.rows < ROWS_MIN or not _is_clustered(codes, column.codes):
        return None
    starts = np.arange(0, column.rows, ZONE_ROWS)
    return Zones(np.minimum.reduceat(codes, starts), np.maximum.reduceat(codes, starts), column.rows)


def _is_clustered(codes: np.ndarray, count: int) -> bool:
    starts = np.linspace(0, len(codes) - SAMPLE_ROWS, SAMPLES).astype(np.int64)
    samples = [codes[start : start + SAMPLE_ROWS] for start in starts.tolist()]
    spread = sum(int(sample.max()) - int(sample.min()) for sample in samples)
    return spread * SPREAD_MAX < count * SAMPLES
