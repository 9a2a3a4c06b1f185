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


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes at which a query changes its way. Answers do not depend on them."""

    fetch_rows: int = 512  # documents read in one step
    window_rows_min: int = 16_384  # rows looked at in one step, at first and at most
    window_rows_max: int = 2**21  # not more: see weights.py
    gathered_always: int = 2_048  # rows that are ordered at once whatever else might be cheaper
    gathered_max: int = 2**21  # more are walked in batches
    batch_places_min: int = 1_024  # postings of a sort field walked in one step, at first and at most
    batch_places_max: int = 2**20
    tied_rows_max: int = 65_536  # rows of equal value that are ordered in one batch; more are a walk of their own
    candidates_at_once: int = 100_000  # candidates by words that are made at once; more only if they must
    pattern_values: int = 2_000  # distinct strings that a pattern is tried on before documents are looked at
    many_unsure: int = 10_000  # rows with several entries that are rather read than tested by range
    dense_groups: int = 2**21  # combinations of keys that get a number each; more are numbered as they come
    weighed_by_row: int = 4  # with so many times more codes than rows, rows are weighed instead of codes


SCALE = Scale()
Loose = Sequence[tuple[int, int, bytes, bytes]]  # (seq, row, canonical key, stored document), in commit order


class Found(NamedTuple):
    """One document that matches: its canonical key, its stored bytes, and what they decode to (the caller's own copy; a bare find leaves it
    out where nobody had to look: {})."""

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

    def kinds(self, path: str) -> Column | None:
        """The index of a field even if it keeps no strings (Column.is_hollow), which column() does not give."""
        ...

    def text(self, path: str) -> Text | None:
        """The words of a field; None when they are not indexed."""
        ...

    def fetch(self, rows: np.ndarray, needles: tuple[bytes, ...] = ()) -> list[tuple[bytes, bytes] | None]:
        """(canonical key, stored document) of these rows, in the order asked; None for a document that does not contain all the
        needles. Blocks; a microsecond or two a row."""
        ...


@dataclass(slots=True)
class Counters:
    """What a query has done so far: MongoDB's numbers in `explain`."""

    docs_examined: int = 0  # documents read
    keys_examined: int = 0  # index entries looked at to find them
    returned: int = 0
    parts_used: set[int] = field(default_factory=set)  # parts (by number) from which anything was read
