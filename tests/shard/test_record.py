"""The shard record codec: every flipped bit is seen, every cut is an unfinished record, and the bytes are as drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.commit.codec import Op
from storage.errors import DamagedRecord, NewerFormat
from storage.shard.record import (
    FILE_HEADER_BYTES,
    HEADER_BYTES,
    FileHeader,
    ShardRecord,
    decode,
    decode_file_header,
    encode,
    encode_file_header,
    iterate,
    length_at,
    record_bytes,
)

GOLDEN = encode(Op.PUT, 7, b"\x20key", b"\x81\xa3_id\xa3key", seq=258, row=3, time_us=1_700_000_000_000_000)
HEADER = FileHeader(shard=3, generation=2, shards=8, uuid=bytes(range(16)))


def test_the_layout_is_the_one_drawn():
    assert GOLDEN[8:12] == (9).to_bytes(4, "little"), "doc_len"
    assert GOLDEN[12:14] == (4).to_bytes(2, "little"), "id_len"
    assert GOLDEN[14:16] == bytes([Op.PUT, 0])
    assert GOLDEN[16:24] == (7).to_bytes(4, "little") + (3).to_bytes(4, "little"), "collection, row"
    assert GOLDEN[24:40] == (258).to_bytes(8, "little") + (1_700_000_000_000_000).to_bytes(8, "little")
    assert GOLDEN[40:] == b"\x20key\x81\xa3_id\xa3key"
    assert GOLDEN[:8].hex() == GOLDEN_CRCS, "format 1 as first released"


GOLDEN_CRCS = "9fc7225be73b0b11"


@given(
    st.integers(0, 2**32 - 1), st.binary(max_size=20), st.binary(max_size=50), st.integers(0, 2**64 - 1), st.booleans()
)
def test_what_is_written_is_read(collection: int, key: bytes, doc: bytes, seq: int, crc: bool):
    data = encode(Op.PUT, collection, key, doc, seq=seq, row=9, time_us=seq, crc=crc)
    found = decode(b"before" + data + b"after", 6)
    assert found == ShardRecord(Op.PUT, collection, seq, 9, seq, key, doc)
    assert record_bytes(found) == length_at(data) == len(data)


def test_every_flipped_bit_is_damage():
    for bit in range(len(GOLDEN) * 8):
        damaged = bytearray(GOLDEN + bytes(100))
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecord):
            decode(damaged)


def test_every_cut_is_an_unfinished_record():
    for end in range(len(GOLDEN)):
        assert decode(GOLDEN[:end]) is None
    assert length_at(GOLDEN[: HEADER_BYTES - 1]) is None


def test_without_crc_only_the_header_is_guarded():
    data = bytearray(encode(Op.PUT, 7, b"key", b"document", seq=1, row=0, time_us=1, crc=False))
    data[-1] ^= 1
    assert decode(data).doc == b"documenu"
    data[20] ^= 1
    with pytest.raises(DamagedRecord, match="header"):
        decode(data)


def test_unverified_reading_still_checks_the_header():
    data = bytearray(GOLDEN)
    data[-1] ^= 1
    assert decode(data, verify=False).id == b"\x20key"
    data[9] ^= 1
    with pytest.raises(DamagedRecord, match="header"):
        decode(data, verify=False)


@pytest.mark.parametrize("op, doc", [(0, b""), (Op.DELETE, b"x"), (Op.MARK, b""), (Op.REQUEST, b"x")])
def test_a_sound_crc_over_nonsense_is_damage(op: int, doc: bytes):
    with pytest.raises(DamagedRecord, match="impossible"):
        decode(encode(op, 1, b"k", doc, seq=1, row=0, time_us=1))


def test_iterate_stops_at_the_first_short_record():
    deletion = encode(Op.DELETE, 7, b"key", b"", seq=259, row=0, time_us=1)
    data = GOLDEN + deletion + GOLDEN[:-1]
    assert [(offset, found.op) for offset, found in iterate(data)] == [(0, Op.PUT), (len(GOLDEN), Op.DELETE)]


def test_the_file_header():
    data = encode_file_header(HEADER)
    assert len(data) == FILE_HEADER_BYTES
    assert decode_file_header(data + b"records") == HEADER
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecord):
            decode_file_header(bytes(damaged))
    with pytest.raises(DamagedRecord):
        decode_file_header(data[:-1])


def test_a_newer_file_is_said_to_be_newer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("storage.shard.record.FILE_VERSION", 2)
    newer = encode_file_header(HEADER)
    monkeypatch.undo()
    with pytest.raises(NewerFormat):
        decode_file_header(newer)
