"""Texts hold every word of every string, find what terms hold, merge to what building gives; the kernel and its twins agree."""

from __future__ import annotations

import random
import re
import sysconfig
import unicodedata
import zlib
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.fields import text as texts
from storage.fields import text_merge
from storage.fields.text import TERM_BYTES_MAX, Text, build_text, pack_terms
from storage.fields.text_merge import merge_texts
from storage.fields.words import split_words
from storage.query.literals import Edge, fold_case

SOURCE = Path(__file__).resolve().parents[2] / "storage" / "text.c"

words = st.text("abkKsSiI_0éÉß\u212aſıİ漢", max_size=4)
strings = (
    st.lists(words, max_size=5).map(" ".join) | st.text("ab .-\n\0é", max_size=12) | st.integers(60, 140).map(lambda n: "a" * n)
)
rows_of_strings = st.lists(st.lists(strings, max_size=2), max_size=8)  # the strings of each row
edges = st.sampled_from(list(Edge))


def test_the_extension_is_built_where_it_can_be():
    can_build = which("cc") or which("gcc") or which("clang")
    if not can_build or not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        pytest.skip("no compiler or no headers of Python")
    try:
        from storage import _text
    except ImportError as error:
        pytest.fail(f"a compiler is here, the extension is not: python setup.py build_ext --inplace ({error})")
    assert zlib.crc32(SOURCE.read_bytes()) == _text.SOURCE, "text.c has changed: python setup.py build_ext --inplace"


def many_terms(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(offsets, blob) of so many terms, over several blocks."""
    rng = random.Random(seed)
    made = {"".join(rng.choices("aeionrst", k=rng.randrange(1, 12))).encode() for _ in range(count)}
    return pack_terms(sorted(made))


MANY_TERMS = [many_terms(seed, count) for seed, count in ((1, 6_000), (2, 2_000), (3, 20), (4, 30_000))]


def columns_of(rows: list[list[str]]) -> tuple[bytes, np.ndarray, np.ndarray, np.ndarray]:
    encoded = [(number, string.encode()) for number, of_row in enumerate(rows) for string in of_row]
    length = np.array([len(string) for _, string in encoded], np.uint32)
    at = np.cumsum(length, dtype=np.uint64) - length
    return b"".join(string for _, string in encoded), at, length, np.array([number for number, _ in encoded], np.uint32)


def text_of(rows: list[list[str]]) -> Text:
    return build_text(*columns_of(rows), len(rows))


def naive_terms(rows: list[list[str]]) -> tuple[dict[bytes, list[int]], list[int]]:
    found: dict[bytes, set[int]] = {}
    long_rows = set()
    for number, of_row in enumerate(rows):
        for string in of_row:
            for word in re.findall(rb"[A-Za-z0-9_\x80-\xff]+", string.encode()):
                if len(word) > TERM_BYTES_MAX:
                    long_rows.add(number)
                for cut in range(0, len(word), TERM_BYTES_MAX):
                    found.setdefault(word[cut : cut + TERM_BYTES_MAX], set()).add(number)
    return {term: sorted(found[term]) for term in sorted(found)}, sorted(long_rows)


def as_dict(text: Text) -> tuple[dict[bytes, list[int]], list[int]]:
    return {text.term(n): text.postings(n).tolist() for n in range(text.terms)}, text.long_rows.tolist()


def as_arrays(built: tuple) -> list[bytes]:
    return [bytes(memoryview(part)) for part in built]


@given(rows_of_strings)
@example([])
@example([["a" * 64], ["a" * 65], ["a" * 128], [" " * 70]])
def test_it_holds_the_terms_of_every_string(rows: list[list[str]]):
    text = text_of(rows)
    assert as_dict(text) == naive_terms(rows)
    assert list(as_dict(text)[0]) == sorted(as_dict(text)[0])
    assert text.counts(np.arange(text.terms)).tolist() == [text.count(n) for n in range(text.terms)]


@given(rows_of_strings)
def test_the_kernel_builds_what_the_pure_function_builds(rows: list[list[str]]):
    columns = columns_of(rows)
    assert as_arrays(texts._build(*columns, len(rows))) == as_arrays(texts._build_pure(*columns, len(rows)))


def test_many_words_widen_the_tables():
    rows = [[" ".join(f"{n * 31 % 9973:x}{'y' * (n % 23)}" for n in range(k, k + 40))] for k in range(0, 6_000, 20)]
    columns = columns_of(rows)
    assert as_arrays(texts._build(*columns, len(rows))) == as_arrays(texts._build_pure(*columns, len(rows)))


@pytest.mark.parametrize("build", [texts._build, texts._build_pure])
@pytest.mark.parametrize(("at", "length"), [(5, 1), (2**64 - 1, 2), (0, 6)])
def test_a_string_outside_the_blob_is_refused(build: object, at: int, length: int):
    with pytest.raises(ValueError):
        build(b"a b c", np.array([at], np.uint64), np.array([length], np.uint32), np.array([0], np.uint32), 1)


def test_rows_out_of_order_are_refused():
    with pytest.raises(ValueError):
        build_text(b"ab", np.array([0, 1]), np.array([1, 1]), np.array([1, 0]), 2)


def naive_holds(term: bytes, literal: bytes, at_start: Edge, at_end: Edge, ignore_case: bool) -> bool:
    if ignore_case:
        if not term.isascii():
            at_start, at_end = (Edge.TERM if edge is Edge.TERM else Edge.FREE for edge in (at_start, at_end))
        term = fold_case(term.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    before = {Edge.FREE: b"", Edge.WORD: rb"(?<![\x00-\x7f])", Edge.TERM: rb"\A"}[at_start]
    after = {Edge.FREE: b"", Edge.WORD: rb"(?![\x00-\x7f])", Edge.TERM: rb"\Z"}[at_end]
    return re.search(before + re.escape(literal) + after, term) is not None


@given(rows_of_strings, st.text("abkKsSiIéÉßſ_", min_size=1, max_size=3), edges, edges, st.booleans())
@example([["éab ab"], ["abé"], ["xab", "a b"]], "ab", Edge.WORD, Edge.WORD, False)
@example([["\u212aab kab"], ["KAB"]], "kAb", Edge.TERM, Edge.TERM, True)
@example([["aab aéab"]], "ab", Edge.WORD, Edge.FREE, False)
def test_containing_finds_every_term_that_holds_a_literal(rows, literal, at_start, at_end, ignore_case):
    if ignore_case:
        literal = fold_case(literal)
    text = text_of(rows)
    found = text.containing(literal.encode(), at_start=at_start, at_end=at_end, ignore_case=ignore_case)
    expected = [n for n in range(text.terms) if naive_holds(text.term(n), literal.encode(), at_start, at_end, ignore_case)]
    assert found.tolist() == expected
    assert found.dtype == np.uint32


def test_terms_with_characters_of_no_known_case_may_match_anything_where_case_is_ignored():
    unassigned = next(char for char in map(chr, range(0x378, 0x110000)) if unicodedata.category(char) == "Cn")
    text = text_of([["foo"], [f"x{unassigned}"], ["éa"]])
    found = text.containing(b"foo", at_start=Edge.TERM, at_end=Edge.FREE, ignore_case=True)
    assert [text.term(number) for number in found] == [b"foo", f"x{unassigned}".encode()]


@given(
    st.lists(st.text("abc", min_size=1, max_size=6), unique=True, max_size=30),
    st.text("abc\n", min_size=1, max_size=3),
    st.booleans(),
)
def test_the_kernel_searches_as_the_pure_function_does(terms: list[str], needle: str, is_wide: bool):
    offsets, blob = pack_terms([term.encode() for term in sorted(terms)])
    offsets = offsets.astype(np.uint64 if is_wide else np.uint32)
    if "\n" in needle[1:-1] or needle == "\n":
        return
    for before in (0, int(needle[0] != "\n")):
        for after in (0, int(needle[-1] != "\n")):
            for blocks in (None, texts._blocks(blob)):
                ours = np.frombuffer(texts._native_find(blob, offsets, needle.encode(), before, after, blocks), np.uint32)
                assert ours.tolist() == texts._find_pure(blob, offsets, needle.encode(), before, after).tolist()


@given(st.integers(1, 9), st.data())
def test_a_search_by_blocks_finds_what_going_through_all_finds(seed: int, data: st.DataObject):
    offsets, blob = MANY_TERMS[seed % len(MANY_TERMS)]
    place = data.draw(st.integers(0, len(blob) - 1) | st.integers(0, len(blob) // 4096).map(lambda block: max(0, 4096 * block - 3)))
    needle = blob[place : place + data.draw(st.integers(1, 12))].tobytes()
    if b"\n" in needle[1:-1] or needle == b"\n":
        needle = needle.replace(b"\n", b"e")
    if data.draw(st.booleans()):
        needle += b"zq"  # of letters that stand beside each other nowhere
    blocks = texts._blocks(blob)
    ours = np.frombuffer(texts._native_find(blob, offsets, needle, 0, 0, blocks), np.uint32)
    assert ours.tolist() == texts._find_pure(blob, offsets, needle, 0, 0).tolist()


def test_blocks_of_other_terms_are_refused():
    offsets, blob = MANY_TERMS[0]
    if texts._blocks(blob) is None:
        pytest.skip("the pure search has no blocks")
    with pytest.raises(ValueError, match="other terms"):
        texts._native_find(blob, offsets, b"abc", 0, 0, texts._blocks(np.zeros(600_000, np.uint8)))


@given(rows_of_strings)
def test_sections_read_back_in_place(rows: list[list[str]]):
    text = text_of(rows)
    sections = dict(text.sections())
    again = Text.from_sections(sections, text.rows)
    assert (as_dict(again), again.rows) == (as_dict(text), text.rows)
    for name in ("term_offsets", "term_blob", "posting_rows") if text.terms else ():
        longer = bytes(sections[name]) + b"\0\0\0\0"
        with pytest.raises(ValueError):
            Text.from_sections({**sections, name: longer}, text.rows)


@given(st.lists(st.lists(st.tuples(st.lists(strings, max_size=2), st.booleans()), max_size=5), max_size=4))
def test_merging_gives_what_building_gives(parts: list[list[tuple[list[str], bool]]]):
    built = [text_of([row for row, _ in part]) for part in parts]
    keeps = [np.array([stays for _, stays in part], bool) for part in parts]
    merged = merge_texts(list(zip(built, keeps, strict=True)))
    whole = text_of([row for part in parts for row, stays in part if stays])
    assert merged.rows == whole.rows
    assert {name: bytes(part) for name, part in merged.text().sections()} == {n: bytes(p) for n, p in whole.sections()}
    everything = merge_texts([(text, None) for text in built]).text()
    assert as_dict(everything) == as_dict(text_of([row for part in parts for row, _ in part]))


def test_pieces_end_between_terms(monkeypatch: pytest.MonkeyPatch):
    postings = np.array([3, 0, 1, 9, 2, 2], np.uint64)
    monkeypatch.setattr(text_merge, "PIECE_POSTINGS", 4)
    assert list(text_merge._pieces(postings)) == [(0, 3), (3, 4), (4, 6)]
    rows = [["a b c"], ["b c"], ["c d", "e"], ["f c"], ["c"]]
    merged = merge_texts([(text_of(rows), None), (text_of(rows), np.array([True, False, True, True, False]))])
    assert len([name for name, _ in merged.sections() if name == "posting_rows"]) > 3
    assert as_dict(merged.text()) == as_dict(text_of(rows + [rows[0], rows[2], rows[3]]))


def test_a_keep_of_another_length_is_refused():
    with pytest.raises(ValueError):
        merge_texts([(text_of([["a"]]), np.zeros(2, bool))])


@given(rows_of_strings, rows_of_strings)
def test_the_kernel_unites_as_the_pure_function_does(one: list[list[str]], other: list[list[str]]):
    pairs = tuple((text.term_blob, text.term_offsets.astype(np.uint64)) for text in (text_of(one), text_of(other)))
    offsets, blob, maps = text_merge._union(pairs)
    pure_offsets, pure_blob, pure_maps = text_merge._union_pure(pairs)
    assert (bytes(offsets), bytes(blob)) == (bytes(pure_offsets), bytes(pure_blob))
    assert [bytes(to) for to in maps] == [bytes(to) for to in pure_maps]


@given(rows_of_strings, st.data())
def test_the_kernel_moves_as_the_pure_function_does(rows: list[list[str]], data: st.DataObject):
    text = text_of(rows)
    stays = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    ranks = np.where(stays, np.cumsum(stays) - 1, text_merge.GONE).astype(np.uint32)
    place = text.starts[:-1] + np.arange(text.terms, dtype=np.uint64)  # one place left free behind each term
    for of_rows in (ranks, None):
        outs = [np.full(len(text.posting_rows) + text.terms, 7, np.uint32) for _ in range(2)]
        for out, move in zip(outs, (text_merge._move, text_merge._move_pure), strict=True):
            move(out, place, text.starts, text.posting_rows, of_rows, 100)
        assert outs[0].tolist() == outs[1].tolist()


@pytest.mark.skipif(text_merge._move is text_merge._move_pure, reason="the kernel is not built")
def test_the_kernel_reads_and_writes_within_its_buffers_only():
    text = text_of([["a b"], ["b"]])
    u64, u32 = np.uint64, np.uint32
    room, place = np.zeros(3, u32), np.array([0, 1], u64)
    bad = [
        (room[:2], place, text.starts, text.posting_rows, None, 0),
        (room, np.array([0, 9], u64), text.starts, text.posting_rows, None, 0),
        (room, place, np.array([0, 1, 9], u64), text.posting_rows, None, 0),
        (room, place, np.array([0, 2, 1], u64), text.posting_rows, None, 0),
        (room, place, text.starts[:2], text.posting_rows, None, 0),
        (room, place, text.starts, text.posting_rows, np.zeros(1, u32), 0),
    ]
    for arguments in bad:
        with pytest.raises(ValueError):
            text_merge._move(*arguments)
    for offsets in ([1, 90, 95], [5, 3, 5], [2**63, 2**63 + 1, 5]):
        with pytest.raises(ValueError):
            text_merge._union(((text.term_blob, np.array(offsets, u64)),))
        assert isinstance(texts._native_find(text.term_blob, np.array(offsets, u64), b"b", 0, 0, None), bytes)


def test_words_of_a_literal_know_where_they_stand():
    assert split_words(b"two words") == [(b"two", True, False), (b"words", False, True)]
    assert split_words(b"-foo-") == [(b"foo", False, False)]
    assert split_words("é1_".encode()) == [("é1_".encode(), True, True)]
    assert split_words(b" -") == []


def test_a_search_that_is_asked_again_gives_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(texts, "BLOCKS_FROM_BYTES", 1)
    monkeypatch.setattr(texts, "SEARCHES_KEPT", 3)
    text = text_of([["foo bar"], ["Food"], ["xfoo"], ["é foo"]])
    asked = [
        (literal, at_start, at_end, ignore_case)
        for literal in (b"foo", b"ba", b"zz")
        for at_start in Edge
        for at_end in Edge
        for ignore_case in (False, True)
    ]
    first = [text.containing(one, at_start=a, at_end=b, ignore_case=c).tolist() for one, a, b, c in asked]
    assert len(text._searched) == 3
    for _ in range(2):
        assert [text.containing(one, at_start=a, at_end=b, ignore_case=c).tolist() for one, a, b, c in asked] == first
        assert [text.containing(one, at_start=a, at_end=b, ignore_case=c).tolist() for one, a, b, c in asked[-3:] * 2] == first[-3:] * 2
    monkeypatch.setattr(texts, "KEPT_TERMS_MAX", 0)
    again = text_of([["foo"]])
    assert again.containing(b"foo", at_start=Edge.FREE, at_end=Edge.FREE, ignore_case=False).tolist() == [0]
    assert not again._searched
