"""Which rows of a segment may match a regular expression, by the index of its text. Pure.

    candidates(text, required(pattern, options), rows_max)

A Need (query/literals.py) becomes sets of terms combined by all and any. A literal is cut at its non-word bytes: "two
words-" needs a term that ends in "two" and the term "words", and both behind each other as far as joints tell (joints.py); "ord" needs a term that
holds it. The rows of a set of terms are the union of their postings. Rows with a word too long to be one term (Text.long_rows) are candidates always.

The rows are a superset of those that match: whoever asks verifies them. Two ways lead to them:

    rows      all at once, when the estimate is small: ascending, each once
    blocks    from either end, a block of row numbers at a time, so that "the newest 50" touches as many postings as it needs

Costs, for a vocabulary of 60,000 words: finding the terms 0.1 ms (a word) to 0.5 ms (two common letters), for 440,000 up
to 1.5 and 8 ms; a block of 262,144 rows about 0.1 ms and 1 ns for each of its postings, the first one more
for each term (0.1 µs). A TextCandidates belongs to one thread; each walk has its own state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from .. import native
from ..query.literals import And, Edge, Literal, Need, Or
from .joints import halves, joints_between
from .text import Text, distinct
from .words import split_words

PLENTY_SHARE = 8  # candidates in more than one row of so many: reading all rows in order is quicker
SORTED_SHARE = 32  # a union of fewer postings is sorted, a larger one marked in a byte for every row
SEARCHING_COSTS = 4  # finding a row in postings takes as long as going through so many of them
BLOCK_ROWS_MIN = 4_096  # the first block of a walk; each is twice the one before, up to what the caller says
BLOCK_ROWS = 262_144
SPARSE_ROWS = 32_768  # up to so many candidates a walk makes them all at once
NARROWING_MAX = 256  # a part of "all" with so many times the rows of the smallest one is not worth reading


class TextCandidates:
    """The rows that may match, as yet unread."""

    def __init__(self, text: Text, node: _Node | None, rows_max: int) -> None:
        self._text = text
        self._node = node
        self.says_nothing = node is None  # every row is a candidate
        # No more rows than this are candidates.
        self.estimate = text.rows if node is None else min(node.estimate + len(text.long_rows), text.rows)
        self.is_plenty = self.estimate * PLENTY_SHARE > text.rows
        self._rows_max = rows_max
        self._rows: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray | None:
        """All candidates (u32, ascending, distinct), or None when they are unknown, may be more than rows_max, or several words have to stand in each
        and they are not few: then most of the work is in vain for whoever wants only some."""
        if self._node is None or self.estimate > (min(self._rows_max, SPARSE_ROWS) if isinstance(self._node, _All) else self._rows_max):
            return None
        return self._all_rows(self._node)

    def _all_rows(self, node: _Node) -> np.ndarray:
        if self._rows is None:
            rows = node.rows(self._text)
            long_rows = self._text.long_rows
            self._rows = distinct(np.concatenate((rows, long_rows))) if len(long_rows) else rows
        return self._rows

    def test(self, rows: np.ndarray) -> np.ndarray:
        """Which of these rows (u32, ascending) are candidates, as bools."""
        if self._node is None:
            return np.ones(len(rows), bool)
        found = self._node.test(self._text, rows)
        return found | _is_among(rows, self._text.long_rows) if len(self._text.long_rows) else found

    def blocks(self, *, descending: bool, block_rows: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
        """The candidates by blocks of rows from the first or the last row on. Each array is ascending and not empty; nothing
        is in two of them; every step is bounded by block_rows and the number of terms."""
        rows = self._text.rows
        if self._node is not None and self.estimate <= SPARSE_ROWS:
            every = self._all_rows(self._node)
            for first, last in _spans(len(every), block_rows, descending=descending):
                yield every[first:last]
            return
        walk = None
        if self._node is not None:
            walk = _Any([self._node, _Fixed(self._text.long_rows)]).walk(self._text, descending=descending)
        for first, last in _spans(rows, block_rows, descending=descending):
            if walk is None:
                yield np.arange(first, last, dtype=np.uint32)
                continue
            marks = np.zeros(last - first, np.uint8)
            walk.mark(first, last, marks)
            found = np.flatnonzero(marks.view(bool))
            if len(found):
                yield (found + first).astype(np.uint32)


def candidates(text: Text, need: Need, rows_max: int) -> TextCandidates:
    """The rows that may meet the need; `rows` gives them while they are at most rows_max."""
    return TextCandidates(text, _node_of(text, need), rows_max)


def _spans(rows: int, block_rows: int, *, descending: bool) -> Iterator[tuple[int, int]]:
    """[first, last) of growing blocks from one end to the other."""
    size, done = min(BLOCK_ROWS_MIN, block_rows), 0
    while done < rows:
        until = min(done + size, rows)
        yield (rows - until, rows - done) if descending else (done, until)
        done, size = until, min(2 * size, block_rows)


# The need over this text. None is a need that says nothing.


def _node_of(text: Text, need: Need) -> _Node | None:
    match need:
        case Literal():
            return _literal_node(text, need)
        case And(parts):
            return _all_of([_node_of(text, part) for part in parts])
        case Or(parts):
            return _any_of(text, [_node_of(text, part) for part in parts])
    return None


def _literal_node(text: Text, literal: Literal) -> _Node | None:
    words = split_words(literal.text)
    nodes: list[_Node | None] = []
    for word, is_first, is_last in words:
        at_start = literal.at_start if is_first else Edge.TERM
        at_end = literal.at_end if is_last else Edge.TERM
        if len(word) == 1 and Edge.TERM not in (at_start, at_end):
            continue  # a letter somewhere in a word: nearly every row
        terms = text.containing(word, at_start=at_start, at_end=at_end, ignore_case=literal.ignore_case)
        nodes.append(_Terms(text, terms))
    joints = 0 if literal.ignore_case or text.joints is None else joints_between([word for word, _, _ in words])
    return _all_of(nodes, joints)


def _all_of(nodes: Sequence[_Node | None], joints: int = 0) -> _Node | None:
    known = sorted((node for node in nodes if node is not None), key=lambda node: node.estimate)
    return None if not known else known[0] if len(known) == 1 else _All(known, joints)


def _any_of(text: Text, nodes: Sequence[_Node | None]) -> _Node | None:
    known = [node for node in nodes if node is not None]
    if len(known) < len(nodes):
        return None
    if all(isinstance(node, _Terms) for node in known):
        return _Terms(text, distinct(np.concatenate([node.terms for node in known])))
    return known[0] if len(known) == 1 else _Any(known)


class _Terms:
    """The rows that hold one of several terms."""

    def __init__(self, text: Text, terms: np.ndarray) -> None:
        self.terms = terms
        self.postings = int(text.counts(terms).sum())
        self.estimate = min(self.postings, text.rows)

    def rows(self, text: Text) -> np.ndarray:
        if len(self.terms) == 1:
            return text.postings(int(self.terms[0]))
        if self.postings * SORTED_SHARE > text.rows:
            return np.flatnonzero(self._marked(text)).astype(np.uint32)
        return distinct(_gathered(text, self.terms))

    def _marked(self, text: Text) -> np.ndarray:
        """For every row whether it holds one of them."""
        marks = np.zeros(text.rows, np.uint8)
        self.walk(text, descending=False).mark(0, text.rows, marks)
        return marks.view(bool)  # which numpy looks through three times as fast as numbers

    def test(self, text: Text, rows: np.ndarray) -> np.ndarray:
        if len(self.terms) > 1 and len(self.terms) * len(rows) * SEARCHING_COSTS > self.postings:
            return self._marked(text)[rows] if self.postings * SORTED_SHARE > text.rows else _is_among(rows, self.rows(text))
        found = np.zeros(len(rows), bool)
        for term in self.terms:
            found |= _is_among(rows, text.postings(int(term)))
        return found

    def walk(self, text: Text, *, descending: bool) -> _TermsWalk:
        return _TermsWalk(text, self.terms, descending=descending)


class _Fixed:
    """Rows that are known."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self.estimate = len(rows)

    def rows(self, text: Text) -> np.ndarray:
        return self._rows

    def test(self, text: Text, rows: np.ndarray) -> np.ndarray:
        return _is_among(rows, self._rows)

    def walk(self, text: Text, *, descending: bool) -> _FixedWalk:
        return _FixedWalk(self._rows)


class _All:
    """The rows of all parts, which stand from the smallest estimate on, that may have all these joints."""

    def __init__(self, parts: Sequence[_Node], joints: int) -> None:
        self.parts = [part for part in parts if part.estimate <= parts[0].estimate * NARROWING_MAX]
        self.estimate = parts[0].estimate
        self._joints = [(half, np.uint64(bits)) for half, bits in enumerate(halves(joints)) if bits]

    def _has_joints(self, text: Text, rows: np.ndarray) -> np.ndarray | None:
        """None where they say nothing."""
        if not self._joints:
            return None
        assert text.joints is not None, "asked of a text that has them"
        return np.logical_and.reduce([text.joints[rows, half] & bits == bits for half, bits in self._joints])

    def rows(self, text: Text) -> np.ndarray:
        rows = self.parts[0].rows(text)
        has_joints = self._has_joints(text, rows)
        rows = rows if has_joints is None else rows[has_joints]
        for part in self.parts[1:]:
            rows = rows[part.test(text, rows)]
        return rows

    def test(self, text: Text, rows: np.ndarray) -> np.ndarray:
        has_joints = self._has_joints(text, rows)
        found = np.ones(len(rows), bool) if has_joints is None else has_joints
        for part in self.parts:
            found[found] = part.test(text, rows[found])
        return found

    def walk(self, text: Text, *, descending: bool) -> _AllWalk:
        return _AllWalk([part.walk(text, descending=descending) for part in self.parts], partial(self._has_joints, text))


class _Any:
    """The rows of any part."""

    def __init__(self, parts: Sequence[_Node]) -> None:
        self.parts = parts
        self.estimate = sum(part.estimate for part in parts)

    def rows(self, text: Text) -> np.ndarray:
        return distinct(np.concatenate([part.rows(text) for part in self.parts]))

    def test(self, text: Text, rows: np.ndarray) -> np.ndarray:
        found = np.zeros(len(rows), bool)
        for part in self.parts:
            found |= part.test(text, rows)
        return found

    def walk(self, text: Text, *, descending: bool) -> _AnyWalk:
        return _AnyWalk([part.walk(text, descending=descending) for part in self.parts])


_Node = _Terms | _Fixed | _All | _Any


# Walks: each is asked for neighbouring blocks from one end on, and sets marks[row - first] for its rows in [first, last).


class _TermsWalk:
    """What is unread of each term's postings is [low, high); blocks are read off one end, so that each is looked at once."""

    def __init__(self, text: Text, terms: np.ndarray, *, descending: bool) -> None:
        self._postings = text.posting_rows
        self._low = text.starts[:-1][terms]
        self._high = text.starts[1:][terms]
        self._descending = descending

    def mark(self, first: int, last: int, marks: np.ndarray) -> None:
        _mark(self._postings, self._low, self._high, first, marks, self._descending)


class _FixedWalk:
    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def mark(self, first: int, last: int, marks: np.ndarray) -> None:
        low, high = np.searchsorted(self._rows, np.array((first, last), np.uint32))
        marks[self._rows[low:high] - np.uint32(first)] = 1


class _AllWalk:
    def __init__(self, parts: Sequence[_Walk], has_joints: Callable[[np.ndarray], np.ndarray | None]) -> None:
        self._parts = parts
        self._has_joints = has_joints

    def mark(self, first: int, last: int, marks: np.ndarray) -> None:
        every = np.ones(len(marks), np.uint8)
        for part in self._parts:
            of_part = np.zeros(len(marks), np.uint8)
            part.mark(first, last, of_part)
            every &= of_part
        rows = np.flatnonzero(every.view(bool))
        has_joints = self._has_joints(rows + first)
        marks[rows if has_joints is None else rows[has_joints]] = 1


class _AnyWalk:
    def __init__(self, parts: Sequence[_Walk]) -> None:
        self._parts = parts

    def mark(self, first: int, last: int, marks: np.ndarray) -> None:
        for part in self._parts:
            part.mark(first, last, marks)


_Walk = _TermsWalk | _FixedWalk | _AllWalk | _AnyWalk


def _mark_pure(postings: np.ndarray, low: np.ndarray, high: np.ndarray, first: int, marks: np.ndarray, descending: int) -> None:
    """Marks the rows from first on, as many as there are marks, in postings[low:high] of every term, and takes them from that:
    from its end when descending (it holds no later rows), else from its beginning (no earlier ones)."""
    for term, (begin, end) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        rows = postings[begin:end]
        if descending:
            cut = begin + int(np.searchsorted(rows, np.uint32(first)))
            taken, high[term] = postings[cut:end], cut
        else:
            cut = begin + int(np.searchsorted(rows, np.uint32(first + len(marks))))
            taken, low[term] = postings[begin:cut], cut
        marks[taken - np.uint32(first)] = 1


_mark = native.choose("text_mark", _mark_pure)


def _gathered(text: Text, terms: np.ndarray) -> np.ndarray:
    """The postings of several terms, one term's after the other's."""
    counts = text.counts(terms).astype(np.int64)
    before = np.cumsum(counts) - counts
    places = np.repeat(text.starts[:-1][terms].astype(np.int64) - before, counts)
    places += np.arange(len(places))
    return text.posting_rows[places]


def _is_among(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Which of the rows are in `among` (ascending)."""
    if not len(among):
        return np.zeros(len(rows), bool)
    places = np.minimum(np.searchsorted(among, rows), len(among) - 1)
    return among[places] == rows
