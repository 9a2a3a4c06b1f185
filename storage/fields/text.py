"""The text index of one field of one segment: its terms, and the rows in which each occurs. Immutable.

    term_blob      \\n one \\n three \\n two \\n        terms ascending by their bytes, a newline before and after each
    term_offsets     1     5       11    15         term t is term_blob[term_offsets[t] : term_offsets[t + 1] - 1]
    starts         0 2 3 7                          u64; rows of term t are posting_rows[starts[t] : starts[t + 1]],
    posting_rows   4 9 | 4 | 0 1 4 9                u32; ascending, each once
    long_rows      9                                u32; ascending: rows that hold a word of more than TERM_BYTES_MAX bytes
    joints         0x41.. 0x00.. ...                two u64 a row: which words stand next to each other, see joints.py; older ones have none

A *word* is a longest run of word bytes in the UTF-8 of a string (words.py): A-Z a-z 0-9 _ and every byte from 0x80 on. Case is kept. A word
of up to TERM_BYTES_MAX bytes is a term; a longer one is cut into terms of that length, so that what stands across a cut is
in no term: whoever searches takes long_rows as candidates always. A newline is no word byte: no search can run from one
term into the next, and a newline in a needle is a term's edge.

Knows no file, no regular expression and no document: it is built from strings (a blob, and where each lies) and is stored as
named sections (`sections`, `from_sections`). Which terms a pattern needs is fields/candidates.py's; merging is text_merge.py's.

Costs with the kernel (storage/text.c): building 1 to 1.5 µs a text of 15 words; searching all terms for two letters about
0.6 ms a megabyte of term_blob, for four about half of that, and 0.1 µs a term found; 4 bytes a posting, terms of a vocabulary of 300,000 about 6 MB.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from .. import native
from ..query.literals import Edge, fold_case, folds_surely
from .joints import halves, joints_of
from .words import words_of

TERM_BYTES_MAX = 64
BLOCKS_FROM_BYTES = 2**19  # of terms: fewer are gone through as quickly
SEARCHES_KEPT = 64  # of a text
KEPT_TERMS_MAX = 2**14  # that a search which is kept has found, 64 KiB
_EDGE = ord("\n")
_NOT_ASCII = 0x80

SECTIONS = ("term_offsets", "term_blob", "starts", "posting_rows", "long_rows", "joints")


class Text:
    """The text index of one field of one segment; see the module. Arrays may be read in place from a mapping."""

    def __init__(
        self,
        rows: int,
        term_offsets: np.ndarray,
        term_blob: np.ndarray,
        starts: np.ndarray,
        posting_rows: np.ndarray,
        long_rows: np.ndarray,
        joints: np.ndarray | None = None,
    ) -> None:
        self.rows = rows  # of the segment
        self.terms = len(starts) - 1
        self.term_offsets = term_offsets  # u32, or u64 when the blob has 4 GiB or more
        self.term_blob = term_blob  # u8
        self.starts = starts
        self.posting_rows = posting_rows
        self.long_rows = long_rows
        self.joints = joints  # u64, rows × 2
        self._searched: dict[tuple, np.ndarray] = {}

    def term(self, number: int) -> bytes:
        return self.term_blob[int(self.term_offsets[number]) : int(self.term_offsets[number + 1]) - 1].tobytes()

    def count(self, term: int) -> int:
        return int(self.starts[term + 1]) - int(self.starts[term])

    def counts(self, terms: np.ndarray) -> np.ndarray:
        return self.starts[1:][terms] - self.starts[:-1][terms]

    def postings(self, term: int) -> np.ndarray:
        return self.posting_rows[int(self.starts[term]) : int(self.starts[term + 1])]

    def containing(self, literal: bytes, *, at_start: Edge, at_end: Edge, ignore_case: bool) -> np.ndarray:
        """The numbers (u32, ascending) of the terms that hold the literal, with such edges beside it.

        The literal consists of word bytes; it is folded (literals.fold_case) when case is ignored. Edge.WORD is a term's end or a
        byte from 0x80 on: letters beyond ASCII count as word to one engine and not to another. Of a long text the last searches are kept.
        """
        if len(self.term_blob) < BLOCKS_FROM_BYTES:
            return self._search(literal, at_start, at_end, ignore_case=ignore_case)
        asked = (literal, at_start, at_end, ignore_case)
        found = self._searched.get(asked)
        if found is None:
            found = self._search(literal, at_start, at_end, ignore_case=ignore_case)
            if len(found) <= KEPT_TERMS_MAX:  # never changed in place: of two threads one may lose its entry, no more
                self._searched = dict([*self._searched.items(), (asked, found)][-SEARCHES_KEPT:])
        return found

    def _search(self, literal: bytes, at_start: Edge, at_end: Edge, *, ignore_case: bool) -> np.ndarray:
        if ignore_case:
            return self._containing_folded(literal, at_start, at_end)
        if at_start is Edge.TERM:
            return self._beginning_with(literal, at_end)
        return _find(self.term_blob, self.term_offsets, *_needle(literal, at_start, at_end), self._blocks)

    @cached_property
    def _blocks(self) -> bytes | None:
        """Which blocks of a long term_blob hold which letters; an eighth of its size, made by the first search, 2 ms a megabyte."""
        return _blocks(self.term_blob) if len(self.term_blob) >= BLOCKS_FROM_BYTES else None

    def _beginning_with(self, literal: bytes, at_end: Edge) -> np.ndarray:
        first = bisect_left(range(self.terms), literal, key=self.term)
        size = len(literal)
        if at_end is Edge.TERM:
            return np.arange(first, first + (first < self.terms and self.term(first) == literal), dtype=np.uint32)
        last = bisect_left(range(self.terms), 1, lo=first, key=lambda number: self.term(number)[:size] > literal)
        found = np.arange(first, last, dtype=np.uint32)
        if at_end is Edge.FREE or not len(found):
            return found
        after = self.term_blob[self.term_offsets[found].astype(np.int64) + size]
        return found[(after == _EDGE) | (after >= _NOT_ASCII)]

    def _containing_folded(self, literal: bytes, at_start: Edge, at_end: Edge) -> np.ndarray:
        needle, *edges = _needle(literal, at_start, at_end)
        found = _find(self._small, self.term_offsets, needle, *edges)
        numbers, offsets, blob, unsure = self._folded
        # What was a byte from 0x80 on may be a letter of ASCII there: beside it a word's edge is not seen any more.
        beyond_ascii = numbers[_find(blob, offsets, needle, Edge.FREE, Edge.FREE)]
        beyond_ascii = np.concatenate((beyond_ascii, unsure))
        return distinct(np.concatenate((found, beyond_ascii))) if len(beyond_ascii) else found

    @cached_property
    def _small(self) -> np.ndarray:
        """term_blob with ASCII's letters small. Made, as _folded, by the first search that ignores case: 2 ms a megabyte, and up
        to 40 for letters beyond ASCII. Both stay in memory as long as the text."""
        return np.frombuffer(self.term_blob.tobytes().lower(), np.uint8)

    @cached_property
    def _folded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The terms with bytes beyond ASCII, folded: (numbers, offsets, blob), and the numbers of those that may match whatever
        is searched. A term may have been cut inside a character."""
        places = np.flatnonzero(self.term_blob >= _NOT_ASCII)
        found = np.searchsorted(self.term_offsets, places.astype(self.term_offsets.dtype), side="right") - 1
        numbers = distinct(found).astype(np.uint32)
        begins, ends = self.term_offsets[numbers].astype(np.int64), self.term_offsets[1:][numbers].astype(np.int64)
        before = np.cumsum(ends - begins) - (ends - begins)
        held = np.repeat(begins - before, ends - begins)
        held += np.arange(len(held))
        terms = self.term_blob[held].tobytes().decode("utf-8", "surrogateescape")
        unsure = {char for char in set(terms) if not folds_surely(char)}
        is_unsure = np.array([not unsure.isdisjoint(term) for term in terms.split("\n")[:-1]] if unsure else [], bool)
        blob = np.frombuffer(("\n" + fold_case(terms)).encode("utf-8", "surrogateescape"), np.uint8)
        offsets = (np.flatnonzero(blob == _EDGE) + 1).astype(np.uint64)
        return numbers, offsets, blob, numbers[np.flatnonzero(is_unsure)]

    def sections(self) -> Iterator[tuple[str, memoryview]]:
        """(name, bytes) of everything but `rows`, in the order in which they are best stored."""
        for name in SECTIONS if self.joints is not None else SECTIONS[:-1]:
            yield name, memoryview(np.ascontiguousarray(getattr(self, name)).reshape(-1).view(np.uint8))

    @classmethod
    def from_sections(cls, sections: Mapping[str, Any], rows: int) -> Text:
        """Reads in place what `sections` gave. Raises ValueError when the sizes do not belong together."""
        starts = np.frombuffer(sections["starts"], np.uint64)
        terms = len(starts) - 1
        wide = len(sections["term_offsets"]) == 8 * (terms + 1)
        offsets = np.frombuffer(sections["term_offsets"], np.uint64 if wide else np.uint32)
        blob = np.frombuffer(sections["term_blob"], np.uint8)
        postings = np.frombuffer(sections["posting_rows"], np.uint32)
        if len(offsets) != terms + 1 or len(blob) != offsets[-1] or len(postings) != starts[-1]:
            raise ValueError(f"{terms} terms, {len(blob)} bytes of them and {len(postings)} postings do not belong together")
        joints = None
        if "joints" in sections:
            if len(sections["joints"]) != 16 * rows:
                raise ValueError(f"{len(sections['joints'])} bytes are not the joints of {rows} rows")
            joints = np.frombuffer(sections["joints"], np.uint64).reshape(rows, 2)
        return cls(rows, offsets, blob, starts, postings, np.frombuffer(sections["long_rows"], np.uint32), joints)


def build_text(blob: Any, at: np.ndarray, length: np.ndarray, row: np.ndarray, rows: int) -> Text:
    """The text index of a segment of so many rows. The strings are blob[at : at + length] (u64, u32) in UTF-8, ordered by their
    row (u32); several may belong to one row. Raises ValueError for a string outside the blob, a row that is not there, and rows in another order."""
    at = np.ascontiguousarray(at, np.uint64)
    length, row = np.ascontiguousarray(length, np.uint32), np.ascontiguousarray(row, np.uint32)
    if (row[1:] < row[:-1]).any():
        raise ValueError("strings must stand in the order of their rows")
    offsets, terms, starts, postings, long_rows, joints = _build(blob, at, length, row, rows)
    return Text(
        rows,
        np.frombuffer(offsets, np.uint32),
        np.frombuffer(terms, np.uint8),
        np.frombuffer(starts, np.uint64),
        np.frombuffer(postings, np.uint32),
        np.frombuffer(long_rows, np.uint32),
        np.frombuffer(joints, np.uint64).reshape(rows, 2),
    )


def pack_terms(terms: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(offsets, blob) of the terms as they stand in a Text."""
    sizes = np.fromiter(map(len, terms), np.uint64, len(terms)) + np.uint64(1)
    offsets = np.concatenate((np.ones(1, np.uint64), np.cumsum(sizes, dtype=np.uint64) + np.uint64(1)))
    blob = b"\n" + b"".join(term + b"\n" for term in terms)
    return narrow_offsets(offsets), np.frombuffer(blob, np.uint8)


def narrow_offsets(offsets: np.ndarray) -> np.ndarray:
    return offsets.astype(np.uint32) if offsets[-1] < 2**32 else offsets


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Ascending and each once; sorts in place. (For some ten thousand numbers np.unique takes ten times as long.)"""
    numbers.sort()
    return numbers[np.append(numbers[:-1] != numbers[1:], True)] if len(numbers) else numbers


def _needle(literal: bytes, at_start: Edge, at_end: Edge) -> tuple[bytes, Edge, Edge]:
    """A term's edge is a newline of the needle."""
    needle = b"\n" * (at_start is Edge.TERM) + literal + b"\n" * (at_end is Edge.TERM)
    return needle, _but_term(at_start), _but_term(at_end)


def _but_term(edge: Edge) -> Edge:
    return Edge.FREE if edge is Edge.TERM else edge


def _build_pure(blob: Any, at: np.ndarray, length: np.ndarray, row: np.ndarray, rows: int) -> tuple[Any, Any, Any, Any, Any, Any]:
    view = memoryview(blob)
    joints = [0] * rows
    codes: dict[bytes, int] = {}
    code_of, row_of, long_rows = [], [], []
    for begin, size, number in zip(at.tolist(), length.tolist(), row.tolist(), strict=True):
        if begin + size > len(view) or number >= rows:
            raise ValueError(f"a string at {begin} of {size} bytes lies outside the blob of {len(view)}, or there is no row {number}")
        joints[number] |= joints_of(bytes(view[begin : begin + size]))
        for word in words_of(bytes(view[begin : begin + size])):
            if len(word) > TERM_BYTES_MAX:
                long_rows.append(number)
            for cut in range(0, len(word), TERM_BYTES_MAX):
                code_of.append(codes.setdefault(word[cut : cut + TERM_BYTES_MAX], len(codes)))
                row_of.append(number)
    terms = sorted(codes)
    place_of = np.empty(len(terms), np.uint64)
    place_of[[codes[term] for term in terms]] = np.arange(len(terms), dtype=np.uint64)
    pairs = np.unique(place_of[code_of] << np.uint64(32) | np.array(row_of, np.uint64)) if terms else np.empty(0, np.uint64)
    counts = np.bincount((pairs >> np.uint64(32)).astype(np.int64), minlength=len(terms))
    starts = np.concatenate((np.zeros(1, np.uint64), np.cumsum(counts, dtype=np.uint64)))
    return *pack_terms(terms), starts, pairs.astype(np.uint32), np.unique(np.array(long_rows, np.uint32)), np.array([halves(of_row) for of_row in joints], np.uint64)


def _blocks_pure(blob: Any) -> None:
    """Nothing: the pure search goes through all terms."""


def _find_pure(blob: Any, offsets: np.ndarray, needle: bytes, before: int, after: int, blocks: bytes | None = None) -> Any:
    """The terms (u32, ascending) in which the needle stands; where an edge is WORD, beside a term's end or a byte from 0x80
    on."""
    data = bytes(blob)
    places = []
    place = data.find(needle)
    while place >= 0:
        if _is_edge(data, place - 1, before) and _is_edge(data, place + len(needle), after):
            places.append(place + (needle[:1] == b"\n"))
        place = data.find(needle, place + 1)
    found = np.searchsorted(offsets, np.array(places, offsets.dtype), side="right") - 1
    return distinct(found).astype(np.uint32)


def _is_edge(data: bytes, place: int, edge: int) -> bool:
    return edge == Edge.FREE or data[place] == _EDGE or data[place] >= _NOT_ASCII


_build = native.choose("text_build", _build_pure)
_native_find = native.choose("text_find", _find_pure)
_blocks = native.choose("text_blocks", _blocks_pure)


def _find(
    blob: np.ndarray, offsets: np.ndarray, needle: bytes, before: Edge, after: Edge, blocks: bytes | None = None
) -> np.ndarray:
    if len(needle) > len(blob):
        return np.empty(0, np.uint32)
    return np.frombuffer(_native_find(blob, offsets, needle, int(before), int(after), blocks), np.uint32)
