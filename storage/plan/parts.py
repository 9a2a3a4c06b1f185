"""Parts: what a query runs over. Pure; these are the shapes, whoever holds a read view makes the things.

    part 0 ── part 1 ── ... ── part n ── loose        one sequence of rows, in commit order: the natural order

A part is a stretch of rows with an index (a segment, or a chunk of the memtable); its rows are numbered from 0. Loose rows are
the newest ones, too few to be worth an index; they are read one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from ..fields.column import Column
from ..fields.text import Text

SORT_BYTES_MAX = 100 * 2**20  # of documents that a query holds at once to put them in order

Loose = Sequence[tuple[int, int, bytes, bytes]]  # (seq, row, canonical key, stored document), in commit order


class Found(NamedTuple):
    """One document that matches: its canonical key, its stored bytes, and what they decode to (the caller's own copy)."""

    key: bytes
    data: bytes
    document: dict


class Dead(Protocol):
    """The rows of a part that are deleted or superseded for this view."""

    count: int
    rows: np.ndarray  # u32, ascending

    def test(self, rows: np.ndarray) -> np.ndarray:
        """Which of these rows are dead."""
        ...


class Part(Protocol):
    """An indexed stretch of rows; it does not change while a query runs."""

    rows: int
    dead: Dead

    def column(self, path: str) -> Column | None:
        """The index of a field; None when there is none."""
        ...

    def text(self, path: str) -> Text | None:
        """The words of a field; None when they are not indexed."""
        ...

    def fetch(self, rows: np.ndarray) -> list[tuple[bytes, bytes]]:
        """(canonical key, stored document) of these rows, in the order asked. Blocks; a few microseconds a row."""
        ...


@dataclass(slots=True)
class Counters:
    """What a query has done so far: MongoDB's numbers in `explain`."""

    docs_examined: int = 0  # documents read
    keys_examined: int = 0  # index entries looked at to find them
    returned: int = 0
    parts_used: set[int] = field(default_factory=set)  # parts (by number) from which anything was read
