"""Dead rows of a part: those that a view must not see, although the part holds them. Pure."""

from __future__ import annotations

import numpy as np

NO_ROWS = np.empty(0, np.uint32)


class Dead:
    """count: how many rows are dead; rows: which, ascending (found when asked for)."""

    __slots__ = ("_rows", "bits", "count")

    def __init__(self, bits: np.ndarray | None, count: int) -> None:
        """bits: bool a row, or None when no row is dead."""
        self.bits = bits
        self.count = count
        self._rows = NO_ROWS if bits is None else None

    @classmethod
    def of(cls, bits: np.ndarray) -> Dead:
        count = int(np.count_nonzero(bits))
        return cls(bits, count) if count else NONE_DEAD

    @property
    def rows(self) -> np.ndarray:
        """u32, ascending."""
        if self._rows is None:
            self._rows = np.flatnonzero(self.bits).astype(np.uint32)
        return self._rows

    def test(self, rows: np.ndarray) -> np.ndarray:
        """bool: which of these rows are dead."""
        return np.zeros(len(rows), bool) if self.bits is None else self.bits[rows]


NONE_DEAD = Dead(None, 0)
