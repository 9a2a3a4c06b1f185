"""Walking: the live rows of a row set in row order, window by window, from either end. Pure.

Windows grow, so that "the first 50" looks at little and "all" at much in one step. What a window costs is at most Scale.window_rows_max
cheap row operations for each set that it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .parts import Dead, Scale
from .rowsets import RowSet

_STEP_ROWS = 2**19  # looked at in vain: an empty step is worth reporting
_GROWTH = 4
_MARGIN = 2  # rows lie unevenly: the first window is larger than the estimate asks for


def walk(rows: RowSet, dead: Dead, wanted: int, scale: Scale, *, descending: bool = False) -> Iterator[np.ndarray]:
    """The live rows (u32), in the order asked for. wanted: how many are likely to be taken (0: all). An empty array is a step
    that found nothing."""
    done, span = 0, rows.hi - rows.lo
    size = _first_window(rows, wanted, scale)
    in_vain = 0
    while done < span:
        until = min(done + size, span)
        lo, hi = (rows.hi - until, rows.hi - done) if descending else (rows.lo + done, rows.lo + until)
        found = live(rows.within(lo, hi), dead)
        in_vain += hi - lo
        if len(found) or in_vain >= _STEP_ROWS:
            in_vain = 0
            yield found[::-1] if descending else found
        done, size = until, min(size * _GROWTH, scale.window_rows_max)


def live(rows: np.ndarray, dead: Dead) -> np.ndarray:
    """Those of the rows that are not dead."""
    return rows[~dead.test(rows)] if dead.count and len(rows) else rows


def _first_window(rows: RowSet, wanted: int, scale: Scale) -> int:
    if not wanted:
        return scale.window_rows_max
    density = max(rows.likely, 1.0) / max(rows.hi - rows.lo, 1)
    return int(min(max(_MARGIN * wanted / density, scale.window_rows_min), scale.window_rows_max))
