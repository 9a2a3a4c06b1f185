"""Frames come out whole, in order and the same however the stream was cut; bad lengths are refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.wire import MessageTooLong
from node.wire.frames import PREFIX, FrameReader

LENGTH_MAX = 300


def reader() -> FrameReader:
    return FrameReader(what="thing", length_min=1, length_max=LENGTH_MAX, error=MessageTooLong)


def framed(bodies: list[bytes]) -> bytes:
    return b"".join(PREFIX.pack(len(body)) + body for body in bodies)


bodies_lists = st.lists(st.binary(min_size=1, max_size=40) | st.binary(min_size=200, max_size=LENGTH_MAX), max_size=20)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in zip(marks, marks[1:])]


@given(bodies=bodies_lists, places=st.lists(st.integers(0, 10_000), max_size=30), eager=st.booleans())
def test_any_cut_gives_the_same_frames(bodies: list[bytes], places: list[int], eager: bool) -> None:
    frames = reader()
    got: list[bytes] = []
    for chunk in cut(framed(bodies), places):
        frames.feed(chunk)
        if eager:
            while (frame := frames.next_frame()) is not None:
                got.append(frame)
    while (frame := frames.next_frame()) is not None:
        got.append(frame)
    assert got == bodies
    assert frames.missing_bytes == 0
    assert frames.buffered_bytes == 0


@given(bodies=bodies_lists, places=st.lists(st.integers(0, 10_000), max_size=30), at_once=st.integers(1, 7))
def test_taking_many_is_taking_one_many_times(bodies: list[bytes], places: list[int], at_once: int) -> None:
    frames = reader()
    got: list[bytes] = []
    for chunk in cut(framed(bodies), places):
        frames.feed(chunk)
        while taken := frames.take_frames(at_once):
            assert len(taken) <= at_once
            got += taken
    assert got == bodies


def test_byte_by_byte_and_what_is_missing() -> None:
    data = framed([b"hello"])
    frames = reader()
    for at in range(len(data) - 1):
        frames.feed(data[at : at + 1])
        assert frames.next_frame() is None
        assert frames.missing_bytes == (3 - at if at < 3 else len(data) - 1 - at)
        assert frames.buffered_bytes == at + 1
    frames.feed(data[-1:])
    assert frames.next_frame() == b"hello"


def test_trailing_bytes_wait_for_their_rest() -> None:
    frames = reader()
    frames.feed(framed([b"one"]) + b"\x03\x00")
    assert frames.next_frame() == b"one"
    assert frames.next_frame() is None
    assert frames.missing_bytes == 2
    frames.feed(b"\x00\x00two")
    assert frames.next_frame() == b"two"


@pytest.mark.parametrize("length", [0, LENGTH_MAX + 1, 2**32 - 1])
@pytest.mark.parametrize("pieces", [1, 4])
def test_a_bad_length_is_refused_before_its_body_comes(length: int, pieces: int) -> None:
    frames = reader()
    prefix = PREFIX.pack(length)
    for at in range(0, 4, 4 // pieces):
        frames.feed(prefix[at : at + 4 // pieces])
        if at + 4 // pieces < 4:
            assert frames.next_frame() is None
    for _ in range(2):
        with pytest.raises(MessageTooLong) as caught:
            frames.next_frame()
        assert caught.value.fields == {"length": length, "limit": LENGTH_MAX}


@pytest.mark.parametrize("bad_apart", [False, True])
def test_good_frames_before_a_bad_one_are_given_out_first(bad_apart: bool) -> None:
    frames = reader()
    good, bad = framed([b"a", b"b"]), PREFIX.pack(0)
    if bad_apart:
        frames.feed(good + bad[:2])
        frames.feed(bad[2:])
    else:
        frames.feed(good + bad)
    assert frames.take_frames(10) == [b"a", b"b"]
    with pytest.raises(MessageTooLong):
        frames.take_frames(10)


def test_longest_and_shortest_frames_pass() -> None:
    frames = reader()
    frames.feed(framed([b"x", b"y" * LENGTH_MAX]))
    assert frames.take_frames(9) == [b"x", b"y" * LENGTH_MAX]
