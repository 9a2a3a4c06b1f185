"""Joints never turn away a row in which the words stand behind each other, and turn away most of the others."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import native
from storage.fields import text as texts
from storage.fields.candidates import candidates
from storage.fields.joints import halves, joints_between, joints_of
from storage.fields.text import Text
from storage.fields.text_merge import merge_texts
from storage.fields.words import split_words, words_of
from storage.query.literals import required
from tests.fields.test_text import text_of

strings = st.text(st.sampled_from("abAB9_ä \n-.\u212a"), max_size=24)
rows_of_strings = st.lists(st.lists(strings, max_size=3), max_size=8)


@given(rows_of_strings)
def test_a_row_has_the_joints_of_all_its_texts(rows: list[list[str]]):
    expected = []
    for of_row in rows:
        expected.append(0)
        for string in of_row:
            expected[-1] |= joints_of(string.encode())
    assert text_of(rows).joints.tolist() == [[*halves(joints)] for joints in expected]


@given(strings, st.data())
def test_a_text_has_the_joints_of_every_piece_of_it(string: str, data: st.DataObject):
    text = string.encode()
    begin = data.draw(st.integers(0, len(text)))
    piece = text[begin : data.draw(st.integers(begin, len(text)))]
    asked = joints_between([word for word, _, _ in split_words(piece)])
    assert asked & joints_of(text) == asked


def test_words_of_one_byte_have_none():
    assert joints_between([b"a", b"word"]) == joints_between([b"word", b"a"]) == joints_between([b"word"]) == joints_between([]) == 0
    assert joints_between([b"red", b"fox"]) == joints_between([b"bored", b"foxes"]) != joints_between([b"fox", b"red"])
    assert words_of(b"red-fox, r\xc3\xa4n") == [b"red", b"fox", b"r\xc3\xa4n"]


def test_most_rows_that_hold_both_words_apart_are_turned_away():
    rng = random.Random(4)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(3, 9))) for _ in range(2_000)]
    others = [rng.choices(words, k=13) for _ in range(4_000)]
    rows = [[" ".join([*some[:4], "red", *some[4:9], "fox", *some[9:]])] for some in others]
    rows[7] = ["a red fox ran"]
    found = candidates(text_of(rows), required("red fox"), 10_000)
    assert 7 in found.rows.tolist()
    assert 4_000 / 50 < len(found.rows) < 4_000 / 12, "about one in twenty"
    assert len(candidates(text_of(rows), required("red.*fox"), 10_000).rows) == 4_000


def without_joints(text: Text) -> Text:
    return Text.from_sections({name: part for name, part in text.sections() if name != "joints"}, text.rows)


def test_texts_of_older_programs_have_none_and_are_searched_all_the_same():
    rows = [["red fox"], ["fox red"], ["red"], ["the red foxes"]]
    old, new = without_joints(text_of(rows)), text_of(rows)
    assert old.joints is None
    assert candidates(old, required("red fox"), 10).rows.tolist() == [0, 1, 3]
    assert candidates(new, required("red fox"), 10).rows.tolist() == [0, 3]
    assert candidates(new, required("red (?i:fox)"), 10).rows.tolist() == [0, 1, 3]
    assert candidates(new, required("red fox", "i"), 10).rows.tolist() == [0, 1, 3]
    merged = merge_texts([(new, None), (old, None)]).text()
    assert merged.joints is None
    assert candidates(merged, required("red fox"), 10).rows.tolist() == [0, 1, 3, 4, 5, 7]
    assert merge_texts([(new, None), (new, np.array([True, False, False, True]))]).text().joints.tolist() == new.joints[[0, 1, 2, 3, 0, 3]].tolist()


def test_joints_of_another_number_of_rows_are_refused():
    sections = dict(text_of([["red fox"], ["x"]]).sections())
    with pytest.raises(ValueError, match="16 bytes are not the joints of 2 rows"):
        Text.from_sections({**sections, "joints": bytes(16)}, 2)


@pytest.mark.parametrize("build", [texts._build, texts._build_pure], ids=["chosen", "pure"])
@pytest.mark.parametrize(("row", "rows"), [([1], 1), ([0], 0), ([0, 7], 7)])
def test_a_row_that_is_not_there_is_refused(build, row: list[int], rows: int):
    at, length = np.zeros(len(row), np.uint64), np.full(len(row), 7, np.uint32)
    with pytest.raises(ValueError):
        build(b"red fox", at, length, np.array(row, np.uint32), rows)


@pytest.mark.skipif(native.TEXT is None, reason="the kernel is not built")
def test_the_kernel_refuses_what_is_no_number_of_rows():
    nothing = np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty(0, np.uint32)
    for rows in (-1, 2**32):
        with pytest.raises(ValueError):
            native.TEXT.text_build(b"", *nothing, rows)
    for arguments in ((), ("1",)):
        with pytest.raises(TypeError):
            native.TEXT.text_build(b"", *nothing, *arguments)
