"""The row table of a segment: which record each row is and where it lies. Pure; knows no file and no document.

Rows stand in commit order, by (seq, row): seq of the commit, row the place of the record in it. `location` is that of the primary
index (index/primary.py: file generation << 48 | offset) in the logs of `shard`; compaction moves records, so a table with new
locations may take the place of this one, with the same rows; dead rows, of which it leaves nothing, then have location NONE.

Costs 20 bytes a row; a look-up is one bisection by seq and a short one by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..index.moves import Moves

_SEQ_32_END = 2**32
NOWHERE = -1


@dataclass(frozen=True, slots=True, eq=False)
class RowTable:
    """Columns of one length, by row."""

    seq_first: int
    seq: np.ndarray  # u32 (u64 when a segment spans over 2^32 commits): seq - seq_first; never falls
    row: np.ndarray  # u16; ascends within one seq
    shard: np.ndarray  # u16
    location: np.ndarray  # u64
    length: np.ndarray  # u32: bytes of the whole record

    def __len__(self) -> int:
        return len(self.row)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.seq, self.row, self.shard, self.location, self.length

    def seqs(self, lo: int, hi: int) -> np.ndarray:
        """The seqs of rows lo..hi-1, as u64."""
        return self.seq[lo:hi].astype(np.uint64) + np.uint64(self.seq_first)

    def slice(self, lo: int, hi: int) -> RowTable:
        """Rows lo..hi-1 as a table of views."""
        return RowTable(self.seq_first, *(column[lo:hi] for column in self.columns))

    def kept(self, keep: np.ndarray) -> RowTable:
        """The rows where keep (bool) is set."""
        return RowTable(self.seq_first, *(column[keep] for column in self.columns))

    def moved(self, moves: Mapping[int, Moves]) -> RowTable | None:
        """The table after compactions, by shard; None when no row of it has moved."""
        location = None
        for shard, each in moves.items():
            mine = np.flatnonzero(self.shard == shard)
            mine = mine[each.touches(self.location[mine])]
            if len(mine):
                location = self.location.copy() if location is None else location
                location[mine] = each.apply(self.location[mine])
        return None if location is None else RowTable(self.seq_first, self.seq, self.row, self.shard, location, self.length)

    def place_of(self, seqs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The rows of the segment (int64) that have these (seq, row); NOWHERE for those that are not here."""
        wanted = seqs.astype(np.int64) - self.seq_first
        size = len(self.seq)
        if not size:
            return np.full(len(wanted), NOWHERE, np.int64)
        is_here = (wanted >= 0) & (wanted <= int(self.seq[-1]))
        # In the column's own type, or numpy would widen all of it first.
        wanted = np.where(is_here, wanted, 0).astype(self.seq.dtype)
        lo = self.seq.searchsorted(wanted, "left")
        end = self.seq.searchsorted(wanted, "right")
        hi = end.copy()
        while (is_open := lo < hi).any():
            middle = (lo + hi) >> 1
            is_less = is_open & (self.row[np.minimum(middle, size - 1)] < rows)
            hi = np.where(is_open & ~is_less, middle, hi)
            lo = np.where(is_less, middle + 1, lo)
        is_here &= (lo < end) & (self.row[np.minimum(lo, size - 1)] == rows)
        return np.where(is_here, lo, NOWHERE)


def row_table(
    seqs: np.ndarray, rows: np.ndarray, shards: np.ndarray, locations: np.ndarray, lengths: np.ndarray
) -> RowTable:
    """The table of rows that stand in commit order."""
    seq_first = int(seqs[0]) if len(seqs) else 0
    delta = seqs.astype(np.uint64) - np.uint64(seq_first)
    is_long = bool(len(delta)) and int(delta[-1]) >= _SEQ_32_END
    return RowTable(
        seq_first,
        delta if is_long else delta.astype(np.uint32),
        np.asarray(rows, np.uint16),
        np.asarray(shards, np.uint16),
        np.asarray(locations, np.uint64),
        np.asarray(lengths, np.uint32),
    )


def merge_tables(parts: Sequence[tuple[RowTable, np.ndarray | None]]) -> RowTable:
    """One table of neighbours in commit order; keep (bool, None: all) says which rows of each go on."""
    tables = [table if keep is None else table.kept(keep) for table, keep in parts]
    tables = [table for table in tables if len(table)]
    if not tables:
        nothing = np.empty(0, np.uint64)
        return row_table(nothing, nothing, nothing, nothing, nothing)
    first = tables[0].seq_first + int(tables[0].seq[0])
    last = tables[-1].seq_first + int(tables[-1].seq[-1])
    kind = np.uint64 if last - first >= _SEQ_32_END else np.uint32
    seq = np.concatenate([(table.seq.astype(np.int64) + (table.seq_first - first)).astype(kind) for table in tables])
    return RowTable(first, seq, *(np.concatenate(columns) for columns in zip(*(table.columns[1:] for table in tables))))
