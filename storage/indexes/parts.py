"""Parts: what a query evaluates, one after the other, in commit order: sealed segments, then chunks of memtable rows. Pure but for fetch.

    part      rows, column(path), text(path), dead, fetch(rows)       as storage/plan asks for them
    dead      rows that are not there for the view: dead in the checkpoint's bitmap, masked by a memtable, ended within one

Made for one query and cheap to make: what depends on the view is only `dead`. fetch reads shard logs and blocks: it runs behind the disk
seam like the whole query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..fields.column import Column
from ..fields.dead import Dead
from ..fields.indexed import Fields
from ..fields.opened import OpenSegment, seqs_and_rows
from ..fields.overlay import Chunk, Glance, order_of
from ..fields.text import Text
from ..fields.values import COLUMN, WORDS
from ..shard.fetching import Fetched, WouldWait
from ..shard.shardset import ShardSet


class LooseRow(NamedTuple):
    """A memtable's row that is in no chunk."""

    seq: int
    row: int
    key: bytes
    data: bytes


class SegmentPart:
    """A sealed segment as one view sees it."""

    __slots__ = ("_segment", "_shards", "dead", "rows", "waits")

    def __init__(self, segment: OpenSegment, shards: ShardSet, masked: np.ndarray) -> None:
        """masked: ascending orders of rows that memtables superseded, those of other segments too."""
        self._segment = segment
        self._shards = shards
        self.rows = segment.rows
        self.dead = _dead_of_segment(segment, masked)
        self.waits = True  # for the device, if a document is not in memory; else fetch raises WouldWait

    def column(self, path: str) -> Column | None:
        found = self._segment.columns.get(path)
        return None if found is None or found.is_hollow else found

    def kinds(self, path: str) -> Column | None:
        return self._segment.columns.get(path)

    def text(self, path: str) -> Text | None:
        return self._segment.texts.get(path)

    def fetch(self, rows: np.ndarray, needles: tuple[bytes, ...] = ()) -> Fetched:
        """Raises DamagedRecord, OSError, WouldWait."""
        table = self._segment.table
        return self._shards.fetch(table.shard[rows], table.location[rows], table.length[rows], needles, waits=self.waits)


class ChunkPart:
    """A run of memtable rows as one view sees it."""

    __slots__ = ("_chunk", "_fields", "dead", "rows", "waits")

    def __init__(self, chunk: Chunk, glance: Glance, seq: int, masked: np.ndarray, fields: Fields) -> None:
        self._chunk = chunk
        self._fields = fields
        self.rows = chunk.rows
        self.dead = _dead_of_rows(chunk.order, glance.ended(chunk.start, chunk.stop, seq), masked)
        self.waits = True  # until a column or text is made; else asking for one that is not raises WouldWait

    def column(self, path: str) -> Column | None:
        """Raises WouldWait."""
        return self._made(path, COLUMN).column(path) if self._fields.get(path, 0) & COLUMN else None

    def make_ready(self) -> None:
        """Build all that the chunk will be asked for."""
        self._chunk.make_ready(self._fields)

    def kinds(self, path: str) -> Column | None:
        """Raises WouldWait."""
        if (uses := self._fields.get(path, 0)) & COLUMN:
            return self._made(path, COLUMN).column(path)
        return self._made(path, 0).kinds(path) if uses else None

    def text(self, path: str) -> Text | None:
        """Raises WouldWait."""
        return self._made(path, WORDS).text(path) if self._fields.get(path, 0) & WORDS else None

    def _made(self, path: str, use: int) -> Chunk:
        """The chunk, unless what it is asked for has to be made and this may not wait."""
        if not self.waits and not self._chunk.has(path, use):
            raise WouldWait
        return self._chunk

    def fetch(self, rows: np.ndarray, needles: tuple[bytes, ...] = ()) -> Fetched:
        keys, docs = self._chunk.keys, self._chunk.docs
        if not needles:
            return [(keys[row], docs[row]) for row in rows.tolist()]
        return [(keys[row], docs[row]) if all(needle in docs[row] for needle in needles) else None for row in rows.tolist()]


Part = SegmentPart | ChunkPart


class Topmost(NamedTuple):
    """What a transaction wrote: rows above all others, too few and too short-lived for chunks."""

    masked: np.ndarray  # ascending orders of the rows below that it superseded
    rows: list[LooseRow]


class Standing(NamedTuple):
    """All that a query stands on: parts in commit order, then the loose rows."""

    parts: list[Part]
    loose: list[LooseRow]

    def wait_for_all(self, *, waits: bool) -> None:
        """Whether what is not in memory is waited for: documents, and columns and texts of new rows that nobody made yet. Else reading them raises
        WouldWait."""
        for part in self.parts:
            part.waits = waits


def standing(
    segments: Sequence[OpenSegment],
    shards: ShardSet | None,
    glances: Sequence[Glance],
    seq: int,
    fields: Fields,
    topmost: Topmost | None = None,
) -> Standing:
    """What a view at seq stands on. glances: of its memtables, the oldest first; only the last one may have loose rows. fields: what
    chunks show of themselves."""
    masks = [glance.masked(seq) for glance in glances if glance.masks]
    if topmost is not None:
        masks.append(topmost.masked)
    masked = np.sort(np.concatenate(masks)) if masks else np.empty(0, np.uint64)
    parts: list[Part] = []
    if shards is not None:
        parts += [SegmentPart(segment, shards, masked) for segment in segments]
    for glance in glances:
        parts += [ChunkPart(chunk, glance, seq, masked, fields) for chunk in glance.chunks]
    loose = _loose(glances[-1], seq) if glances else []
    if topmost is not None:
        gone = frozenset(topmost.masked.tolist())
        loose = [row for row in loose if order_of(row.seq, row.row) not in gone] + topmost.rows
    assert all(glance.loose_from == glance.rows for glance in glances[:-1]), "a frozen memtable's rows are all in chunks"
    return Standing(parts, loose)


def _loose(glance: Glance, seq: int) -> list[LooseRow]:
    start, stop = glance.loose_from, glance.rows
    if start == stop:
        return []
    overlay = glance.overlay
    ended = glance.ended(start, stop, seq).tolist()
    orders = overlay.order.view(stop)[start:].tolist()
    keys, docs = overlay.keys, overlay.docs
    return [
        LooseRow(order >> 16, order & 0xFFFF, keys[start + i], docs[start + i])
        for i, (order, is_ended) in enumerate(zip(orders, ended))
        if not is_ended
    ]


def _dead_of_segment(segment: OpenSegment, masked: np.ndarray) -> Dead:
    """What its bitmap says, and what memtables superseded."""
    if len(masked):
        low, high = np.searchsorted(masked, segment.order_range)
        if low < high:
            places = segment.table.place_of(*seqs_and_rows(masked[low:high]))
            places = places[places >= 0]
            bits = np.zeros(segment.rows, bool) if segment.dead.bits is None else segment.dead.bits.copy()
            bits[places] = True
            return Dead.of(bits)
    return segment.dead


def _dead_of_rows(order: np.ndarray, ended: np.ndarray, masked: np.ndarray) -> Dead:
    """ended: bool a row, changed here."""
    if len(masked):
        at = np.searchsorted(order, masked)
        within = at < len(order)
        at, masked = at[within], masked[within]
        ended[at[order[at] == masked]] = True
    return Dead.of(ended)
