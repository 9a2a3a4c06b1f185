"""The native kernel takes only documents that validate takes, and says of them what validate says."""

from __future__ import annotations

import struct

import msgpack
import msgspec
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from storage import native
from storage.errors import BadDocument, DocumentTooLarge
from storage.values import documents
from tests.values.generated import documents as any_documents

kernel = native.KERNEL
pytestmark = pytest.mark.skipif(kernel is None, reason="the kernel is not built")

OBJECT_ID = b"\xc7\x0c\x02" + bytes(range(12))


def look(data: bytes) -> tuple | None:
    """What the kernel gives for the bytes, held to the rule: sound for it means sound for validate, with the same answers."""
    [found] = kernel.prepare([data])
    try:
        value, key = documents.validate(data)
    except (BadDocument, DocumentTooLarge):
        assert found is None, data[:200]
    else:
        if found is not None:
            assert found == (key, documents.encode_value(value), data)
            assert found[2] is data
            assert documents.has_id_first(data)
    return found


def wide(data: object) -> bytes:
    """MessagePack of plain values with every header as wide as it can be."""
    match data:
        case bool() | None | float():
            return msgpack.packb(data)
        case int():
            return b"\xd3" + struct.pack(">q", data)
        case str():
            return b"\xdb" + struct.pack(">I", len(data.encode())) + data.encode()
        case bytes():
            return b"\xc6" + struct.pack(">I", len(data)) + data
        case list():
            return b"\xdd" + struct.pack(">I", len(data)) + b"".join(map(wide, data))
        case dict():
            pairs = b"".join((b"\xa3_id" if key == "_id" else wide(key)) + wide(value) for key, value in data.items())
            return b"\xdf" + struct.pack(">I", len(data)) + pairs
    raise AssertionError(type(data))


plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=40), st.binary(max_size=20),
        st.builds(msgpack.ExtType, st.integers(0, 11), st.binary(max_size=18)),
        st.builds(msgpack.ExtType, st.sampled_from([1, 2, 3, 4, 5, 9, 10]), st.sampled_from([bytes(8), bytes(12), b"\4" * 16, b"\4" * 17])),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
usual_ids = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**n + d for n in (5, 7, 8, 15, 16, 31, 32, 62) for d in (-1, 0)]),
    st.text(max_size=300), st.binary(min_size=12, max_size=12).map(lambda data: msgpack.ExtType(2, data)),
)  # fmt: skip


@given(usual_ids, st.dictionaries(st.text(max_size=4), plain, max_size=6))
def test_generated_maps(identity: object, fields: dict):
    look(msgpack.packb({"_id": identity, **fields}))


@given(any_documents)
def test_every_document_type(document: dict):
    look(documents.encode({"_id": 5, **{key: value for key, value in document.items() if key != "_id"}}))
    look(documents.encode(document))


usual_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=40) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(usual_ids, st.dictionaries(st.text("abc_é", min_size=1, max_size=4), usual_values, max_size=6))
def test_usual_documents_are_taken(identity: object, fields: dict):
    fields.pop("_id", None)
    assert look(msgpack.packb({"_id": identity, **fields})) is not None
    if type(identity) in (int, str):
        assert look(wide({"_id": identity, **fields})) is not None


@given(st.binary(max_size=60), st.integers(1, 15))
def test_random_bytes_behind_a_good_beginning(data: bytes, fields: int):
    look(data)
    look(bytes([0x80 | fields]) + b"\xa3_id\x01" + data)
    look(bytes([0x80 | fields]) + b"\xa3_id" + data)


SAMPLE = documents.encode(
    {"_id": ObjectId(bytes(12)), "é": "ünï", "n": [1, -1, 300, -300, 2**40, 1.5, None, True], "m": {"a": {"b": b"bin"}}}
)


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255), st.integers(0, len(SAMPLE) - 1))
def test_damaged_bytes(place: int, value: int, other: int):
    damaged = bytearray(SAMPLE)
    damaged[place] = value
    look(bytes(damaged))
    damaged[other] ^= value
    look(bytes(damaged))


def test_every_cut_is_left():
    assert look(SAMPLE) is not None
    for cut in range(len(SAMPLE)):
        assert look(SAMPLE[:cut]) is None
    assert look(SAMPLE + b"\0") is None


def nested(depth: int, *, opening: bytes, end: bytes) -> bytes:
    return b"\x82\xa3_id\x01\xa1a" + opening * (depth - 1) + end


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"])
def test_depth(opening: bytes):
    for depth, is_taken in ((99, True), (100, True), (101, False), (102, False)):
        assert (look(nested(depth, opening=opening, end=b"\x01")) is not None) is is_taken


REFUSED = {
    "empty": b"",
    "no map": b"\x90",
    "no field": b"\x80",
    "no _id": b"\x81\xa1a\x01",
    "_id is second": b"\x82\xa1a\x01\xa3_id\x01",
    "_id in long form": b"\x81\xd9\x03_id\x01",
    "key twice": b"\x83\xa3_id\x01\xa1a\x01\xa1a\x02",
    "_id twice": b"\x82\xa3_id\x01\xa3_id\x01",
    "key twice inside": b"\x82\xa3_id\x01\xa1m\x82\xa1a\x01\xd9\x01a\x02",
    "dollar": b"\x82\xa3_id\x01\xa2$a\x01",
    "NUL in a key": b"\x82\xa3_id\x01\xa2a\0\x01",
    "NUL in a key inside": b"\x82\xa3_id\x01\xa1m\x81\xa1\0\x01",
    "key is no text": b"\x82\xa3_id\x01\xc4\x01a\x01",
    "key is a number inside": b"\x82\xa3_id\x01\xa1m\x81\x05\x01",
    "over 63 bits": b"\x82\xa3_id\x01\xa1a\xcf" + b"\x80" + bytes(7),
    "_id over 63 bits": b"\x81\xa3_id\xcf" + b"\xff" * 8,
    "never used": b"\x82\xa3_id\x01\xa1a\xc1",
    "own timestamp": b"\x82\xa3_id\x01\xa1a\xd6\xff" + bytes(4),
    "ObjectId of 8": b"\x82\xa3_id\x01\xa1a\xd7\x02" + bytes(8),
    "binary of subtype 0": b"\x82\xa3_id\x01\xa1a\xd5\x09\0a",
    "UUID as binary": b"\x82\xa3_id\x01\xa1a\xc7\x11\x09\x04" + bytes(16),
    "code is no UTF-8": b"\x82\xa3_id\x01\xa1a\xd4\x0a\xff",
    "array claims too many": b"\x82\xa3_id\x01\xa1a\xdd\xff\xff\xff\xff\x01",
    "map claims too many": b"\xdf\xff\xff\xff\xff\xa3_id\x01",
    "text claims too much": b"\x82\xa3_id\x01\xa1a\xdb\xff\xff\xff\xffa",
    "long text as _id": b"\x81\xa3_id\xda\x20\x00" + b"a" * 8192,
    "array as _id": b"\x81\xa3_id\x91\x01",
}
NO_UTF8 = (b"\xff", b"\x80", b"\xc1\x81", b"\xc3", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\xc3\x28")  # fmt: skip


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_left_to_python(data: bytes):
    assert look(data) is None


def test_text_that_is_no_utf8_is_left():
    for bad in NO_UTF8:
        for before in (b"", b"12345678", b"1234567"):
            text = bytes([0xA0 | len(before + bad)]) + before + bad
            assert look(b"\x82\xa3_id\x01\xa1a" + text) is None
            assert look(b"\x82\xa3_id\x01" + text + b"\x01") is None
            assert look(b"\x81\xa3_id" + text) is None


def test_the_longest_text_as_id_and_many_keys():
    assert look(b"\x81\xa3_id\xda\x1f\xff" + b"a" * 8191) is not None
    for count, is_taken in ((24, True), (25, False)):
        data = msgpack.packb({"_id": 1, **{f"f{n}": n for n in range(count - 1)}})
        assert (look(data) is not None) is is_taken


def test_the_largest_document():
    start = b"\x82\xa3_id\x01\xa1a\xc6"
    size = documents.DOCUMENT_BYTES_MAX - len(start) - 4
    assert look(start + struct.pack(">I", size) + bytes(size)) is not None
    assert look(start + struct.pack(">I", size + 1) + bytes(size + 1)) is None


def test_ids_are_written_shortest():
    for head, number in ((b"\xd3", 1), (b"\xcf", 1), (b"\xd3", -33), (b"\xd3", -(2**31) - 1), (b"\xd3", -128), (b"\xd3", -129)):
        found = look(b"\x81\xa3_id" + head + struct.pack(">q", number))
        assert found[1] == msgspec.msgpack.encode(number)
    assert look(b"\x81\xa3_id" + OBJECT_ID)[:2] == (b"\x50" + bytes(range(12)), OBJECT_ID)


def test_what_is_no_bytes():
    assert kernel.prepare([bytearray(SAMPLE), None, "text", SAMPLE]) == [None, None, None, kernel.prepare((SAMPLE,))[0]]
    with pytest.raises(TypeError):
        kernel.prepare(5)


@given(any_documents)
def test_the_pure_one(document: dict):
    data = documents.encode(document)
    value, key = documents.validate(data)
    assert documents._prepare([data, b"", data[:-1]]) == [(key, documents.encode_value(value), data), None, None]
