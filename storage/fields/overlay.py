"""Overlay: what one memtable holds of one collection, as rows in commit order that queries evaluate like a segment's.

    memtable ── since(seq) ──> take (on the loop) ──> absorb (anywhere, one at a time) ──> rows: key, document, begin, end
                                                                                           masks: older rows, elsewhere, that ended
    rows ── runs of CHUNK_ROWS_MIN and more ──> Chunk: columns and texts, built when a query first asks for them
         │                                        └─ many ── merged(), made ready, put() ──> one larger Chunk: each costs every query its share
         └─ the newest few                  ──> loose: looked at one by one

A row's place in the world is its *order*, seq << 16 | row: it names the row whatever segment, chunk or memtable holds it, and stays when
segments are merged or the memtable is sealed. A **mask** (order, from) says that the row of that order is superseded for views at
`from` or later. Rows and masks are only ever appended, and an end is only ever set for commits newer than every view that has looked, so a
query that took a Glance may go on reading it in a thread while the next commits are absorbed (INV-2, INV-3).

Costs: take 0.1 µs a new row; absorb about 1 µs, 6 µs for one that supersedes a sealed row; a chunk's columns about 0.3 µs a row and field. Bound: the
memtable's own (INV-8); small chunks are rebuilt in tiers, so that every row is built three or four times.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TypeVar

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
CHUNK_ROWS_MAX = 2_048  # nor have so many rows: those are never built again, and their texts would take 2 ms
MERGED_ROWS_MIN = 16_384  # so many rows of chunks that are not built again become one, made ready before anybody asks for it
ROW_BITS = 16
NEVER = 2**64 - 1
FIRST_ROOM = 1024

T = TypeVar("T")
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

    def extend(self, values: np.ndarray) -> None:
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
    """Rows start to stop (not included) of an overlay. Immutable; columns and texts are made when asked for, by whichever thread comes first: others wait
    for what it makes. Texts take longest and have a lock of their own."""

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
        self._making, self._making_texts = Lock(), Lock()

    def make_ready(self, fields: Fields) -> None:
        """Build what queries have not asked for yet, in one walk through the documents."""
        with self._making:
            paths = [path for path, uses in fields.items() if not self._has_all(path, uses)]
            found = dict(zip(paths, self._entries(*paths)))
            for path, entries in found.items():
                if fields[path] & COLUMN and path not in self._columns:
                    self._columns[path] = build_column(entries)
                if not fields[path] & COLUMN and path not in self._kinds:
                    self._kinds[path] = build_column(entries, is_hollow=True)
        for path, entries in found.items():
            if fields[path] & WORDS:
                with self._making_texts:
                    if path not in self._texts:
                        self._texts[path] = text_of(entries)

    def has(self, path: str, use: int) -> bool:
        """Whether what column (COLUMN), text (WORDS) or kinds (neither) would return is made already."""
        return path in (self._columns if use == COLUMN else self._texts if use == WORDS else self._kinds)

    def _has_all(self, path: str, uses: int) -> bool:
        return self.has(path, uses & COLUMN) and (not uses & WORDS or self.has(path, WORDS))

    def column(self, path: str) -> Column:
        return self._made(self._columns, self._making, path, build_column)

    def kinds(self, path: str) -> Column:
        """A column that keeps no strings."""
        return self._made(self._kinds, self._making, path, partial(build_column, is_hollow=True))

    def text(self, path: str) -> Text:
        return self._made(self._texts, self._making_texts, path, text_of)

    def _made(self, made: dict[str, T], lock: Lock, path: str, make: Callable[[Entries], T]) -> T:
        """What was made of a path already, or else is made here and now."""
        if (found := made.get(path)) is not None:
            return found
        with lock:
            if path not in made:
                made[path] = make(*self._entries(path))
            return made[path]

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
        orders: list[int] = []
        keys: list[bytes] = []
        docs: list[bytes] = []
        ends: list[int] = []
        new_keys: list[bytes] = []
        new_since: list[int] = []
        for key, version in reversed(fresh):
            end, older = NEVER, version
            while older is not None and older[0] > after:
                if older[2] == PUT:
                    orders.append(older[0] << ROW_BITS | older[1])
                    keys.append(key)
                    docs.append(older[3])
                    ends.append(end)
                end, older = older[0], older[5]
            if older is None:
                new_keys.append(key)
                new_since.append(end)
            elif older[2] == PUT:
                self.ends[bisect_left(self._orders, order_of(older[0], older[1]))] = end
        below = superseded(new_keys)  # before anything is added: a read that fails leaves all of it to the next try
        self._append(np.array(orders, np.uint64), keys, docs, np.array(ends, np.uint64))
        self._mask(new_since, np.array(below, np.int64))

    def _append(self, orders: np.ndarray, keys: list[bytes], docs: list[bytes], ends: np.ndarray) -> None:
        if (orders[1:] < orders[:-1]).any():  # some key has several versions
            places = np.argsort(orders)
            orders, ends = orders[places], ends[places]
            keys, docs = [keys[place] for place in places.tolist()], [docs[place] for place in places.tolist()]
        self.order.extend(orders)
        self.ends.extend(ends)
        self._orders += orders.tolist()
        self.keys += keys
        self.docs += docs

    def _mask(self, since: Sequence[int], below: np.ndarray) -> None:
        """since: of each key that was new here; below: the order of the row that it had, -1 for none."""
        masked = np.flatnonzero(below >= 0)
        if len(masked):
            begins = np.array(since, np.uint64)[masked]
            self.last_mask_since = max(self.last_mask_since, int(begins.max()))
            self.mask_since.extend(begins)
            self.mask_orders.extend(below[masked].astype(np.uint64))

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

    def merged(self) -> Chunk | None:
        """One chunk in place of the first neighbours that are not built again, to be made ready and then put(). None while there are few."""
        run: list[Chunk] = []
        for chunk in self._chunks:
            if chunk.rows < CHUNK_ROWS_MAX:
                return None  # the newest
            run = [*run, chunk] if chunk.rows < MERGED_ROWS_MIN else []
            if sum(chunk.rows for chunk in run) >= MERGED_ROWS_MIN:
                start, stop = run[0].start, run[-1].stop
                return Chunk(start, self.order.view(stop)[start:], self.keys[start:stop], self.docs[start:stop])
        return None

    def put(self, merged: Chunk) -> None:
        """In place of those chunks whose rows it has. Only when nothing is being absorbed; who has glanced keeps what it saw."""
        before = [chunk for chunk in self._chunks if chunk.stop <= merged.start]
        self._chunks = (*before, merged, *[chunk for chunk in self._chunks if chunk.start >= merged.stop])

    def glance(self) -> Glance:
        """What a query may read from now on. Only when nothing is being absorbed."""
        return Glance(self, self._chunks, len(self.docs), self.mask_orders.size)


Overlays = Mapping[int, Overlay]  # by collection
