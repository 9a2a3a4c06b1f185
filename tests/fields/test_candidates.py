"""Candidates hold every row whose text meets the need, by every way of reading them."""

from __future__ import annotations

import numpy as np
import pytest
import re2
from hypothesis import example, given
from hypothesis import strategies as st

from storage.fields import candidates as rows_of
from storage.fields.candidates import SPARSE_ROWS, candidates
from storage.fields.text import Text, build_text
from storage.query.literals import ANYTHING, required
from tests.fields.test_text import text_of
from tests.query.needs import is_met

vocabulary = [
    "foo",
    "Foo",
    "bar",
    "foobar",
    "bär",
    "xfoo",
    "fo",
    "o",
    "as\u212a",
    "ASK",
    "ſfoo",
    "fooß",
    "BÄR",
    "foo\u212a",
    "q_1",
    "y" * 70,
    "z" * 130 + "foo",
]
strings = st.lists(st.sampled_from(vocabulary), max_size=4).flatmap(
    lambda words: st.sampled_from([" ", "-", "\n", ", ", ""]).map(lambda between: between.join(words))
)
rows_of_strings = st.lists(st.lists(strings, max_size=2), max_size=12)
PATTERNS = [
    "foo",
    "^foo",
    "foo$",
    r"\bfoo\b",
    "foo bar",
    "oo-f",
    "(foo|bar).*q",
    "ask",
    "a",
    "nothing",
    "b.r",
    "fo{2}bar",
    "foo|ba",
    "y{3}z",
    "-",
    "[fF]oo bar",
    r"\bfoo",
    r"foo\b",
    "bär",
    "ß",
]
specs = st.tuples(st.sampled_from(PATTERNS), st.sampled_from(["", "i"]))


def every_way(text: Text, need: object) -> list[list[int]]:
    """The candidates as each way gives them; each walk's arrays are ascending and disjoint blocks."""
    ways = []
    for block_rows in (1, 3, 65_536):
        for descending in (False, True):
            blocks = [
                block.tolist() for block in candidates(text, need, text.rows).blocks(descending=descending, block_rows=block_rows)
            ]
            assert all(blocks) and all(len(block) <= block_rows for block in blocks)
            ways.append([row for block in (reversed(blocks) if descending else blocks) for row in block])
    found = candidates(text, need, text.rows)
    ways.append(np.flatnonzero(found.test(np.arange(text.rows, dtype=np.uint32))).tolist())
    if found.rows is not None:
        assert found.rows.dtype == np.uint32
        ways.append(found.rows.tolist())
    assert found.estimate >= len(ways[0])
    return ways


@pytest.mark.parametrize("sparse_rows", [SPARSE_ROWS, 0])
def test_no_row_that_matches_is_missed_and_all_ways_agree(sparse_rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows_of, "SPARSE_ROWS", sparse_rows)  # few rows as many: the walks by blocks

    @given(rows_of_strings, specs)
    @example([["y" * 70 + "zfoo"]], ("y{3}z", ""))
    def holds(rows: list[list[str]], spec: tuple[str, str]):
        need = required(*spec)
        text = text_of(rows)
        ways = every_way(text, need)
        assert all(way == ways[0] for way in ways)
        pattern = re2.compile(f"(?{spec[1]}){spec[0]}" if spec[1] else spec[0])
        assert {row for row, of_row in enumerate(rows) if any(map(pattern.search, of_row))} <= set(ways[0])

    holds()


@given(rows_of_strings, specs)
@example([["barfoo"]], ("foo bar", ""))
def test_within_short_words_candidates_are_the_rows_whose_words_would_do(rows: list[list[str]], spec: tuple[str, str]):
    """Beyond false friends (words that need not stand beside each other) nothing else is a candidate: rows of one word match."""
    rows = [[string for string in of_row if string.isalnum() and len(string) < 60][:1] for of_row in rows]
    need = required(*spec)
    found = candidates(text_of(rows), need, len(rows))
    expected = {row for row, of_row in enumerate(rows) if any(is_met(need, string) for string in of_row)}
    if not found.says_nothing:
        has_letters = spec[0] in ("(foo|bar).*q", "b.r", "oo-f")  # single ones, which are passed over
        has_letters |= " " in spec[0]  # two words' halves may stand in one: barfoo ends with foo and begins with bar
        has_edges = "\\b" in spec[0] and spec[1] == "i"  # of which the model knows nothing
        assert has_letters or expected >= set(found.rows.tolist())
        assert has_edges or expected <= set(found.rows.tolist())


def test_what_says_nothing_is_every_row():
    text = text_of([["a"], [], ["b"]])
    for need in (ANYTHING, required("a"), required("-")):
        found = candidates(text, need, 10)
        assert (found.says_nothing, found.rows, found.estimate, found.is_plenty) == (True, None, 3, True)
        assert [block.tolist() for block in found.blocks(descending=True, block_rows=2)] == [[1, 2], [0]]


def test_rows_are_given_up_to_the_bound_only():
    text = text_of([["foo"]] * 10 + [["bar"]] * 90)
    foo, bar = required("foo"), required("bar")
    assert candidates(text, foo, 10).rows.tolist() == list(range(10))
    assert candidates(text, foo, 9).rows is None
    assert (candidates(text, foo, 10).estimate, candidates(text, foo, 10).is_plenty) == (10, False)
    assert candidates(text, bar, 10).is_plenty


def test_all_words_of_a_phrase_narrow():
    text = text_of([["foo bar"], ["foo"], ["bar"], ["bar foo"], ["foos bar"], ["foo bars"], ["xfoo bar"]])
    assert candidates(text, required("foo bar"), 100).rows.tolist() == [0, 5, 6], "in the other order they are no phrase"
    assert candidates(text, required("^foo bar$"), 100).rows.tolist() == [0]
    assert candidates(text, required("foo.*bar"), 100).rows.tolist() == [0, 3, 4, 5, 6]
    assert candidates(text, required("foo.*xfoo"), 100).rows.tolist() == [6]


def test_a_walk_over_many_blocks_equals_all_at_once():
    numbers = np.random.default_rng(5).integers(0, 40, (30_000, 3))
    strings = [b" ".join(b"word%d" % n for n in row) for row in numbers.tolist()]
    length = np.array([len(string) for string in strings], np.uint32)
    at = np.cumsum(length, dtype=np.uint64) - length
    text = build_text(b"".join(strings), at, length, np.arange(30_000, dtype=np.uint32), 30_000)
    for pattern in ("word1", r"word3\b", "word1 word2", "d7|d8", "word2.*d35"):
        found = candidates(text, required(pattern), text.rows)
        expected = found.rows.tolist()
        assert found.estimate > 0 and expected
        for descending in (False, True):
            walk = rows_of._AnyWalk([found._node.walk(text, descending=descending)])
            seen = []
            for first, last in rows_of._spans(text.rows, 8_192, descending=descending):
                marks = np.zeros(last - first, np.uint8)
                walk.mark(first, last, marks)
                seen.append((np.flatnonzero(marks) + first).tolist())
            assert [row for block in (reversed(seen) if descending else seen) for row in block] == expected


@given(st.lists(st.sets(st.integers(0, 29)), max_size=4), st.booleans())
def test_the_kernel_marks_as_the_pure_function_does(lists: list[set[int]], descending: bool):
    postings = np.array([row for rows in lists for row in sorted(rows)], np.uint32)
    until = np.cumsum([0, *map(len, lists)]).astype(np.uint64)
    states = [(until[:-1].copy(), until[1:].copy()) for _ in range(2)]
    for first in (20, 10, 0) if descending else (0, 10, 20):
        marks = [np.zeros(10, np.uint8) for _ in range(2)]
        for (low, high), of_state, mark in zip(states, marks, (rows_of._mark, rows_of._mark_pure), strict=True):
            mark(postings, low, high, first, of_state, descending)
        assert marks[0].tolist() == marks[1].tolist() == [int(any(first + n in rows for rows in lists)) for n in range(10)]
    assert [array.tolist() for array in states[0]] == [array.tolist() for array in states[1]]


@pytest.mark.skipif(rows_of._mark is rows_of._mark_pure, reason="the kernel is not built")
def test_the_kernel_marks_within_its_buffers_only():
    postings, marks = np.array([0, 5, 2**32 - 1], np.uint32), np.zeros(4, np.uint8)
    for low, high in ((0, 4), (2, 1), (0, 2**63)):
        with pytest.raises(ValueError):
            rows_of._mark(postings, np.array([low], np.uint64), np.array([high], np.uint64), 0, marks, False)
    rows_of._mark(postings, np.array([0], np.uint64), np.array([3], np.uint64), 0, marks, True)
    assert marks.tolist() == [1, 0, 0, 0]
