"""The commit codec: round trips, every cut and every flipped bit of a frame is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.commit import codec
from storage.commit.codec import Op, Record
from storage.errors import DamagedRecord

records = st.lists(
    st.builds(
        Record,
        st.sampled_from([int(op) for op in Op]),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=40),
        st.binary(max_size=300),
    ),
    max_size=8,
)


def frame_of(rows: list[Record], *, seq: int = 1, chain: int = 7) -> tuple[bytes, int]:
    body = codec.encode_body(rows)
    return codec.encode(
        body, record_count=len(rows), epoch=3, seq=seq, synced_seq=0, time_us=5, chain_before=chain
    )


@given(records)
def test_what_was_encoded_is_decoded(rows: list[Record]) -> None:
    frame, chain = frame_of(rows)
    [(offset, head, body)] = list(codec.frames(frame))
    assert (offset, head.seq, head.epoch, head.chain) == (0, 1, 3, chain)
    assert codec.decode_body(head.record_count, body) == rows
    assert codec.check_chain(head, frame, 7)
    assert not codec.check_chain(head, frame, 8)


def test_frames_follow_one_another_and_a_short_one_ends_them() -> None:
    first, chain = frame_of([Record(Op.PUT, 1, b"k", b"document")])
    second, _ = frame_of([Record(Op.DELETE, 1, b"k", b"")], seq=2, chain=chain)
    log = first + second
    for cut in range(len(log)):
        seqs = [head.seq for _, head, _ in codec.frames(log[:cut])]
        assert seqs == ([1] if cut >= len(first) else [])


def test_every_flipped_bit_of_a_frame_is_noticed() -> None:
    frame, _ = frame_of([Record(Op.PUT, 1, b"k1", b"a document"), Record(Op.PUT, 1, b"k2", b"another")])
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecord):
            list(codec.frames(bytes(damaged)))


def test_a_table_that_lies_about_its_bytes_is_damage_even_under_a_good_crc() -> None:
    body = codec.encode_body([Record(Op.PUT, 1, b"k", b"document")])
    lying = codec.ENTRY.pack(Op.PUT, 0, 1, 1, 9) + body[codec.ENTRY_BYTES :]
    with pytest.raises(DamagedRecord):
        codec.decode_body(1, lying)
