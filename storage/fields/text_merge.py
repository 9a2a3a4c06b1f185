"""Several texts of one field as one, in place of those of neighbouring segments. Pure.

    merge_texts([(text, keep), ...])     keep: a bool for each row, those that stay; None keeps all

The rows of the parts stand one part's after the other's, without those that go; a term that is left with no row goes. The result
equals what building from the strings of the rows that stay would give. Its sections come in pieces, postings first, so that
they can be written as they come: a piece is the postings of neighbouring terms, PIECE_POSTINGS of them or one term's.

Knows no file. Costs with the kernel (storage/text.c) about 5 ns a posting, 15 ns where rows go; in memory are a piece, all terms
with 16 bytes each for every part, and 4 bytes for every row of a part that loses rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import native
from .text import Text, narrow_offsets, pack_terms

PIECE_POSTINGS = 2_000_000  # 8 MB
GONE = 2**32 - 1  # the rank of a row that does not stay


class _Source:
    """One part: its text, and where its rows and terms go."""

    def __init__(self, text: Text, keep: np.ndarray | None, base: int) -> None:
        self.text = text
        self.base = base  # rows of the parts before it
        self.to = np.empty(0, np.uint32)  # the number in the union of each of its terms
        self.ranks: np.ndarray | None = None  # the number of each row among those that stay, or GONE
        self.rows = text.rows
        if keep is not None and not keep.all():
            if len(keep) != text.rows:
                raise ValueError(f"{len(keep)} rows are said to stay or go, the text has {text.rows}")
            self.rows = int(np.count_nonzero(keep))
            self.ranks = np.cumsum(keep, dtype=np.uint32) - np.uint32(1)
            self.ranks[~keep] = GONE

    def counts(self, first: int, last: int) -> np.ndarray:
        """How many rows that stay each of its terms first..last-1 has, as u64."""
        starts = self.text.starts[first : last + 1]
        if self.ranks is None:
            return starts[1:] - starts[:-1]
        stays = self.ranks[self.text.posting_rows[int(starts[0]) : int(starts[-1])]] != GONE
        until = np.concatenate((np.zeros(1, np.uint64), np.cumsum(stays, dtype=np.uint64)))
        at_starts = until[(starts - starts[0]).astype(np.int64)]
        return at_starts[1:] - at_starts[:-1]

    def long_rows(self) -> np.ndarray:
        rows = self.text.long_rows if self.ranks is None else self.ranks[self.text.long_rows]
        return rows[rows != GONE] + np.uint32(self.base)

    def joints(self) -> np.ndarray:
        assert self.text.joints is not None, "all texts have joints"
        return self.text.joints if self.ranks is None else self.text.joints[self.ranks != GONE]


class MergedText:
    """What merge_texts gives: the sections of a Text, made while they are asked for."""

    def __init__(self, sources: Sequence[_Source]) -> None:
        self._sources = sources
        self.rows = sum(source.rows for source in sources)

    def sections(self) -> Iterator[tuple[str, memoryview]]:
        """(name, bytes); pairs of one name follow each other and are pieces of one section."""
        pairs = tuple((source.text.term_blob, source.text.term_offsets.astype(np.uint64)) for source in self._sources)
        offsets_bytes, blob_bytes, maps = _union(pairs)
        offsets, blob = np.frombuffer(offsets_bytes, np.uint64), np.frombuffer(blob_bytes, np.uint8)
        terms = len(offsets) - 1
        postings_max = np.zeros(terms, np.uint64)  # of each term, were all rows to stay
        for source, to in zip(self._sources, maps, strict=True):
            source.to = np.frombuffer(to, np.uint32)
            postings_max[source.to] += source.text.starts[1:] - source.text.starts[:-1]
        counts = np.zeros(terms, np.uint64)
        yield "posting_rows", memoryview(b"")
        for first, last in _pieces(postings_max):
            yield "posting_rows", _bytes_of(self._piece(first, last, counts))
        stays = counts > 0
        if not stays.all():
            offsets, blob = _without(offsets, blob, stays)
            counts = counts[stays]
        yield "starts", _bytes_of(np.concatenate((np.zeros(1, np.uint64), np.cumsum(counts, dtype=np.uint64))))
        yield "term_offsets", _bytes_of(narrow_offsets(offsets))
        yield "term_blob", _bytes_of(blob)
        long_rows = [source.long_rows() for source in self._sources]
        yield "long_rows", _bytes_of(np.concatenate(long_rows) if long_rows else np.empty(0, np.uint32))
        if all(source.text.joints is not None for source in self._sources):
            yield "joints", memoryview(b"")
            for source in self._sources:
                yield "joints", _bytes_of(source.joints())

    def _piece(self, first: int, last: int, counts: np.ndarray) -> np.ndarray:
        """The postings of the union's terms first..last-1; sets their counts."""
        of_sources = []
        for source in self._sources:
            low, high = map(int, np.searchsorted(source.to, np.array((first, last), np.uint32)))
            if low < high:
                staying = source.counts(low, high)
                counts[source.to[low:high]] += staying
                of_sources.append((source, low, high, staying))
        of_terms = counts[first:last]
        place_of_term = np.cumsum(of_terms, dtype=np.uint64) - of_terms
        out = np.empty(int(of_terms.sum()), np.uint32)
        for source, low, high, staying in of_sources:
            numbers = source.to[low:high] - np.uint32(first)
            place = place_of_term[numbers]
            place_of_term[numbers] += staying
            text = source.text
            _move(out, place, text.starts[low : high + 1], text.posting_rows, source.ranks, source.base)
        return out

    def text(self) -> Text:
        """All of it in memory."""
        pieces: dict[str, list[memoryview]] = {}
        for name, piece in self.sections():
            pieces.setdefault(name, []).append(piece)
        return Text.from_sections({name: b"".join(parts) for name, parts in pieces.items()}, self.rows)


def merge_texts(parts: Sequence[tuple[Text, np.ndarray | None]]) -> MergedText:
    """One text in place of several, whose rows stand in that order. Raises ValueError for a keep of another length."""
    sources, base = [], 0
    for text, keep in parts:
        sources.append(_Source(text, keep, base))
        base += sources[-1].rows
    return MergedText(sources)


def _pieces(postings: np.ndarray) -> Iterator[tuple[int, int]]:
    """Neighbouring terms [first, last) with at most PIECE_POSTINGS postings, or a single one with more."""
    until = np.cumsum(postings, dtype=np.uint64)
    first = 0
    while first < len(postings):
        before = int(until[first - 1]) if first else 0
        last = max(int(np.searchsorted(until, np.uint64(before + PIECE_POSTINGS), side="right")), first + 1)
        yield first, last
        first = last


def _without(offsets: np.ndarray, blob: np.ndarray, stays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The terms that stay."""
    sizes = (offsets[1:] - offsets[:-1]).astype(np.int64)
    kept = blob[np.concatenate((np.ones(1, bool), np.repeat(stays, sizes)))]
    return np.concatenate((np.ones(1, np.uint64), np.cumsum(sizes[stays]).astype(np.uint64) + np.uint64(1))), kept


def _bytes_of(array: np.ndarray) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _union_pure(pairs: tuple[tuple[np.ndarray, np.ndarray], ...]) -> tuple[Any, Any, Sequence[Any]]:
    """The terms of all (blob, offsets), each once and in order: (offsets, blob, the number there of each term of each source)."""
    every = [blob.tobytes().split(b"\n")[1:-1] for blob, _ in pairs]
    terms = sorted(set().union(*every))
    number_of = {term: number for number, term in enumerate(terms)}
    offsets, blob = pack_terms(terms)
    maps = [np.fromiter(map(number_of.__getitem__, of_source), np.uint32, len(of_source)) for of_source in every]
    return offsets.astype(np.uint64), blob, maps


def _move_pure(
    out: np.ndarray, place: np.ndarray, starts: np.ndarray, postings: np.ndarray, ranks: np.ndarray | None, base: int
) -> None:
    """Puts the rows that stay of each term, postings[starts[i] : starts[i + 1]], as their ranks plus base at out[place[i]] and
    behind it."""
    rows = postings[int(starts[0]) : int(starts[-1])]
    until = (starts - starts[0]).astype(np.int64)
    if ranks is not None:
        rows = ranks[rows]
        stays = rows != GONE
        until = np.concatenate((np.zeros(1, np.int64), np.cumsum(stays)))[until]
        rows = rows[stays]
    places = np.repeat(place.astype(np.int64) - until[:-1], until[1:] - until[:-1])
    places += np.arange(len(rows))
    out[places] = rows + np.uint32(base)


_union = native.choose("text_union", _union_pure)
_move = native.choose("text_move", _move_pure)
