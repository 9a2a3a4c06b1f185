"""Overlay: what one memtable holds of one collection, as rows in commit order that queries evaluate like a segment's.

    memtable ── since(seq) ──> take (on the loop) ──> absorb (anywhere, one at a time) ──> rows: key, document, begin, end
                                                                                           masks: older rows, elsewhere, that ended
    rows ── runs of CHUNK_ROWS_MIN and more ──> Chunk: columns and texts, built when a query first asks for them
         └─ the newest few                  ──> loose: looked at one by one

A row's place in the world is its *order*, seq << 16 | row: it names the row whatever segment, chunk or memtable holds it, and stays when
segments are merged or the memtable is sealed. A **mask** (order, from) says that the row of that order is superseded for views at
`from` or later. Rows and masks are only ever appended, and an end is only ever set for commits newer than every view that has looked, so a
query that took a Glance may go on reading it in a thread while the next commits are absorbed (INV-2, INV-3).

Costs: take 0.1 µs a new row; absorb about 1 µs, 6 µs for one that supersedes a sealed row; a chunk's columns about 0.3 µs a row and field. Bound: the
memtable's own (INV-8); small chunks are rebuilt in tiers, so that every row is built three times at most.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..commit.codec import PUT
from ..commit.memtable import Memtable, Version
from .build import build_column
from .column import Column
from .entries import Entries
from .extract import extract
from .indexed import Fields, text_of
from .text import Text
from .values import COLUMN, WORDS

CHUNK_ROWS_MIN = 512
CHUNK_RATIO = 4  # a new chunk takes in the ones before it that are not this many times larger,
CHUNK_ROWS_MAX = 8_192  # nor have so many rows: those are never built again
ROW_BITS = 16
NEVER = 2**64 - 1
FIRST_ROOM = 1024

Superseded = Callable[[Sequence[bytes]], Sequence[int]]  # keys -> orders of the rows that held them below the memtable, -1 for none


def order_of(seq: int, row: int) -> int:
    """One number for a row of the commit log."""
    return seq << ROW_BITS | row


class _Growing:
    """A numpy column that grows at its end. Whoever has `view(n)` keeps reading that memory after it has grown."""

    __slots__ = ("_room", "size")

    def __init__(self) -> None:
        self._room = np.empty(FIRST_ROOM, np.uint64)
        self.size = 0

    def extend(self, values: Sequence[int]) -> None:
        wanted = self.size + len(values)
        if wanted > len(self._room):
            room = np.empty(2 * wanted, np.uint64)
            room[: self.size] = self._room[: self.size]
            self._room = room
        self._room[self.size : wanted] = values
        self.size = wanted

    def __setitem__(self, at: int, value: int) -> None:
        self._room[at] = value

    def view(self, size: int) -> np.ndarray:
        return self._room[:size]


class Chunk:
    """Rows start to stop (not included) of an overlay. Immutable; columns are made when asked for, by whichever thread comes first."""

    def __init__(self, start: int, order: np.ndarray, keys: Sequence[bytes], docs: Sequence[bytes]) -> None:
        self.start = start
        self.rows = len(docs)
        self.stop = start + self.rows
        self.order = order
        self.keys = keys
        self.docs = docs
        self._columns: dict[str, Column] = {}
        self._kinds: dict[str, Column] = {}
        self._texts: dict[str, Text] = {}

    def make_ready(self, fields: Fields) -> None:
        """Build what queries have not asked for yet, in one walk through the documents."""
        paths = [path for path, uses in fields.items() if not self._has(path, uses)]
        for path, entries in zip(paths, self._entries(*paths)):
            uses = fields[path]
            if uses & COLUMN and path not in self._columns:
                self._columns[path] = build_column(entries)
            if uses & WORDS and path not in self._texts:
                self._texts[path] = text_of(entries)
            if not uses & COLUMN and path not in self._kinds:
                self._kinds[path] = build_column(entries, is_hollow=True)

    def _has(self, path: str, uses: int) -> bool:
        return path in (self._columns if uses & COLUMN else self._kinds) and (path in self._texts or not uses & WORDS)

    def column(self, path: str) -> Column:
        found = self._columns.get(path)
        if found is None:
            found = self._columns[path] = build_column(*self._entries(path))
        return found

    def kinds(self, path: str) -> Column:
        """A column that keeps no strings."""
        found = self._kinds.get(path)
        if found is None:
            found = self._kinds[path] = build_column(*self._entries(path), is_hollow=True)
        return found

    def text(self, path: str) -> Text:
        found = self._texts.get(path)
        if found is None:
            found = self._texts[path] = text_of(*self._entries(path))
        return found

    def _entries(self, *paths: str) -> list[Entries]:
        if not paths:
            return []
        lengths = np.fromiter(map(len, self.docs), np.uint32, self.rows)
        at = np.cumsum(lengths, dtype=np.uint64) - lengths
        return extract(b"".join(self.docs), at, lengths, paths)


@dataclass(frozen=True, slots=True)
class Glance:
    """An overlay as it was when a query looked: chunks, then loose rows up to `rows`; and its masks."""

    overlay: Overlay
    chunks: tuple[Chunk, ...]
    rows: int
    masks: int

    @property
    def loose_from(self) -> int:
        return self.chunks[-1].stop if self.chunks else 0

    def ended(self, start: int, stop: int, seq: int) -> np.ndarray:
        """bool for the rows start to stop: not there for a view at seq, superseded by it or written after it."""
        begins = self.overlay.order.view(stop)[start:] >> np.uint64(ROW_BITS)
        return (self.overlay.ends.view(stop)[start:] <= np.uint64(seq)) | (begins > np.uint64(seq))

    def masked(self, seq: int) -> np.ndarray:
        """The orders of rows below that this memtable superseded, for a view at seq. No particular order, none twice."""
        orders, since = self.overlay.mask_orders.view(self.masks), self.overlay.mask_since.view(self.masks)
        return orders if self.overlay.last_mask_since <= seq else orders[since <= np.uint64(seq)]


class Overlay:
    """Grows with its memtable. take() belongs to the loop; absorb() may run elsewhere, but never twice at once."""

    def __init__(self, memtable: Memtable, collection: int) -> None:
        self._memtable = memtable
        self._collection = collection
        self._taken_seq = memtable.base_seq
        self._pending: list[list[tuple[bytes, Version]]] = []
        self._pending_after: list[int] = []
        self.order = _Growing()
        self.ends = _Growing()
        self.mask_orders = _Growing()
        self.mask_since = _Growing()
        self.last_mask_since = 0
        self.keys: list[bytes] = []
        self.docs: list[bytes] = []
        self._orders: list[int] = []  # order once more, for bisection one by one
        self._chunks: tuple[Chunk, ...] = ()

    @property
    def pending_rows(self) -> int:
        return sum(map(len, self._pending))

    def take(self) -> None:
        """Note what the memtable got since the last time."""
        fresh = self._memtable.since(self._collection, self._taken_seq)
        if fresh:
            self._pending.append(fresh)
            self._pending_after.append(self._taken_seq)
            self._taken_seq = fresh[0][1][0]

    def needs_absorbing(self, close: bool) -> bool:  # noqa: FBT001 - see absorb()
        return bool(self._pending) or (close and self._chunked < len(self.docs))

    def absorb(self, superseded: Superseded, *, close: bool) -> None:
        """Make rows and masks of what was taken. superseded: which rows below the memtable some keys had. close: the memtable
        is frozen, leave no row loose."""
        while self._pending:
            self._absorb(self._pending[0], self._pending_after[0], superseded)
            del self._pending[0], self._pending_after[0]
        loose = len(self.docs) - self._chunked
        if loose >= CHUNK_ROWS_MIN or (close and loose):
            self._chunk()

    def _absorb(self, fresh: Sequence[tuple[bytes, Version]], after: int, superseded: Superseded) -> None:
        rows: list[tuple[int, bytes, bytes, int]] = []  # order, key, document, end
        new_here: list[tuple[bytes, int]] = []
        for key, version in reversed(fresh):
            end, older = NEVER, version
            while older is not None and older[0] > after:
                if older[2] == PUT:
                    rows.append((order_of(older[0], older[1]), key, older[3], end))
                end, older = older[0], older[5]
            if older is None:
                new_here.append((key, end))
            elif older[2] == PUT:
                self.ends[bisect_left(self._orders, order_of(older[0], older[1]))] = end
        rows.sort()
        below = superseded([key for key, _ in new_here])  # before anything is added: a read that fails leaves all of it to the next try
        self._append(rows)
        self._mask(new_here, below)

    def _append(self, rows: Sequence[tuple[int, bytes, bytes, int]]) -> None:
        if rows:
            orders, keys, docs, ends = zip(*rows)
            self.order.extend(orders)
            self.ends.extend(ends)
            self._orders += orders
            self.keys += keys
            self.docs += docs

    def _mask(self, new_here: Sequence[tuple[bytes, int]], below: Sequence[int]) -> None:
        masks = [(order, since) for order, (_, since) in zip(below, new_here) if order >= 0]
        if masks:
            orders, since = zip(*masks)
            self.last_mask_since = max(self.last_mask_since, *since)
            self.mask_since.extend(since)
            self.mask_orders.extend(orders)

    @property
    def _chunked(self) -> int:
        return self._chunks[-1].stop if self._chunks else 0

    def _chunk(self) -> None:
        """One chunk of all rows behind the last one, and of the chunks before that are not much larger."""
        kept = list(self._chunks)
        stop = len(self.docs)
        while kept and kept[-1].rows < min(CHUNK_RATIO * (stop - kept[-1].stop), CHUNK_ROWS_MAX):
            kept.pop()
        start = kept[-1].stop if kept else 0
        chunk = Chunk(start, self.order.view(stop)[start:], self.keys[start:stop], self.docs[start:stop])
        self._chunks = (*kept, chunk)

    def glance(self) -> Glance:
        """What a query may read from now on. Only when nothing is being absorbed."""
        return Glance(self, self._chunks, len(self.docs), self.mask_orders.size)


Overlays = Mapping[int, Overlay]  # by collection
