"""The native kernel's part of the commit path is the pure one's equal: bodies, frames, rows of the memtable."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import native
from storage.commit import codec, memtable
from storage.commit.codec import Op, Record
from storage.errors import DamagedRecord

kernel = native.KERNEL
pytestmark = pytest.mark.skipif(kernel is None, reason="the kernel is not built")

record_of_any_op = st.builds(
    Record,
    st.sampled_from([*Op, 1, 2, 255]),
    st.sampled_from([0, 1, 2, 2**32 - 1]),
    st.sampled_from([b"", b"a", b"b", b"key" * 40]),
    st.binary(max_size=40),
)
some_records = st.lists(record_of_any_op, max_size=12)


@given(some_records)
def test_bodies_go_both_ways(records: list[Record]):
    body = kernel.encode_body(records)
    assert body == codec._encode_body(records) == kernel.encode_body(tuple(map(tuple, records)))
    back = kernel.decode_body(len(records), body, Record)
    assert back == records == codec._decode_body(len(records), body, Record)
    assert all(type(record) is Record for record in back)
    assert codec.decode_body(len(records), body) == records


@given(some_records, st.data())
def test_a_damaged_body_is_never_read(records: list[Record], data: st.DataObject):
    body = bytearray(codec._encode_body(records))
    for _ in range(data.draw(st.integers(0, 3))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))]) + data.draw(st.binary(max_size=3))
    for found in (bytes(body), cut):
        for count in (len(records), data.draw(st.integers(0, 2**40))):
            assert kernel.decode_body(count, found, Record) == codec._decode_body(count, found, Record)


def test_a_table_that_disagrees_is_damage():
    body = codec.encode_body([Record(1, 1, b"a", b"b")])
    for count, bad in ((1, body + b"x"), (1, body[:-1]), (2, body), (0, body), (1, b"short")):
        with pytest.raises(DamagedRecord):
            codec.decode_body(count, bad)


@pytest.mark.parametrize(
    "bad", [(256, 1, b"", b""), (-1, 1, b"", b""), (1, 2**32, b"", b""), (1, 1, bytes(2**16), b"")], ids=range(4)
)
def test_what_the_table_cannot_say_is_refused(bad: tuple):
    for encode_body in (kernel.encode_body, codec._encode_body):
        with pytest.raises((ValueError, OverflowError, struct.error)):
            encode_body([Record(1, 1, b"fine", b""), bad])


def test_what_is_no_record_is_refused():
    for bad in ([(1, 1, b"a")], [[1, 1, b"a", b"b"]], [(1, 1, "a", b"b")], [("1", 1, b"a", b"b")], [None], 7):
        with pytest.raises(TypeError):
            kernel.encode_body(bad)
        with pytest.raises(TypeError):
            kernel.put_run({}, bad, 1, 0, 1)
    with pytest.raises(TypeError):
        kernel.put_run({1: None}, [(1, 1, b"a", b"b")], 1, 0, 1)
    with pytest.raises(TypeError):
        kernel.put_run([], [], 1, 0, 1)
    for kind in (tuple, list, 5):
        with pytest.raises(TypeError):
            kernel.decode_body(0, b"", kind)


@given(st.lists(some_records, max_size=4), st.integers(0, 5))
def test_the_memtable_after_runs(commits: list[list[Record]], first_row: int):
    natively, purely, one_by_one = {}, {}, memtable.Memtable(0)
    in_runs = memtable.Memtable(0)
    for seq, records in enumerate(commits, 1):
        time_us = 2**50 + seq
        given_back = kernel.put_run(natively, records, seq, first_row, time_us)
        assert given_back == memtable._put_run(purely, records, seq, first_row, time_us)
        in_runs.put_run(records, seq, time_us)
        for row, (op, collection, key, doc) in enumerate(records):
            if op in (Op.PUT, Op.DELETE):
                one_by_one.put(collection, key, seq, row, op, doc, time_us)
    assert natively == purely
    assert [list(table) for table in natively.values()] == [list(table) for table in purely.values()]
    assert vars(in_runs) == vars(one_by_one)


# Frames.

FIRST_CHAIN = 77


def log_of(sizes: list[int], *, epoch: int = 3) -> tuple[bytes, list[int]]:
    """(frames of one record each from seq 1, where each ends)."""
    log, ends, chain = b"", [], FIRST_CHAIN
    for seq, size in enumerate(sizes, 1):
        body = codec.encode_body([Record(1, 1, b"key%d" % seq, bytes([seq % 256]) * size)])
        frame, chain = codec.encode(
            body, record_count=1, epoch=epoch, seq=seq, synced_seq=0, time_us=1000 + seq, chain_before=chain
        )
        log += frame
        ends.append(len(log))
    return log, ends


def both(*arguments: object) -> tuple:
    found = kernel.frames(*arguments)
    assert found == codec._following_frames(*arguments)
    return found


@given(st.lists(st.integers(0, 600), max_size=8), st.binary(max_size=20), st.binary(max_size=100), st.integers(0, 3000))
def test_a_run_of_frames(sizes: list[int], before: bytes, behind: bytes, limit: int):
    log, ends = log_of(sizes)
    rows, offset, chain = both(before + log + behind, len(before), 0, 3, FIRST_CHAIN, limit)
    wanted = list(codec.frames(log))
    taken = sum(end - size < limit for end, size in zip(ends, [head.frame_len for _, head, _ in wanted]))
    assert [(fields, start - len(before)) for fields, start, _ in rows] == [
        (tuple(head), start) for start, head, _ in wanted[:taken]
    ]
    assert offset == (rows[-1][2] if rows else len(before))
    assert chain == (rows[-1][0][8] if rows else FIRST_CHAIN)


def test_every_cut_and_every_flipped_byte_ends_the_run():
    log, ends = log_of([5, 0, 30])
    for cut in range(len(log)):
        rows, offset, _ = both(log[:cut], 0, 0, 3, FIRST_CHAIN, 2**20)
        assert offset == max([0, *(end for end in ends if end <= cut)])
    starts = [0, *ends]
    for place in range(len(log)):
        damaged = bytearray(log)
        damaged[place] ^= 0x40
        rows, offset, _ = both(bytes(damaged), 0, 0, 3, FIRST_CHAIN, 2**20)
        assert offset == max(start for start in starts if start <= place)


@pytest.mark.parametrize(
    "seq, epoch, chain", [(1, 3, FIRST_CHAIN), (0, 4, FIRST_CHAIN), (0, 3, FIRST_CHAIN + 1), (2**64 - 1, 3, FIRST_CHAIN)]
)
def test_frames_that_do_not_follow_are_left(seq: int, epoch: int, chain: int):
    log, _ = log_of([5, 6])
    assert both(log, 0, seq, epoch, chain, 2**20) == ([], 0, chain)
    assert both(log, len(log) + 9, 2, 3, chain, 2**20) == ([], len(log) + 9, chain)


def test_an_impossible_length_with_a_sound_crc_is_left():
    for body_len, count in ((codec.BODY_BYTES_MAX + 1, 0), (11, 1), (2**32 - 1, 2**32 - 1)):
        rest = struct.pack("<IIIIIQQQQ", 0, body_len, count, 3, 0, 1, 0, 1, 0)
        log = kernel.crc32c(rest).to_bytes(4, "little") + rest + bytes(40)
        assert both(log, 0, 0, 3, FIRST_CHAIN, 2**20)[0] == []
