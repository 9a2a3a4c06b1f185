"""Promises of storage/values/documents.py: lossless round trips of every type, and refusals that name the place."""

from __future__ import annotations

import datetime
import decimal
import re
import struct
import uuid
from types import MappingProxyType

import msgpack
import pytest
from bson import SON, Binary, Code, DBRef, Decimal128, Int64, ObjectId, Regex
from bson.datetime_ms import DatetimeMS
from hypothesis import example, given
from hypothesis import strategies as st

from storage.errors import BadDocument, DocumentTooLarge
from storage.values import documents
from storage.values.keys import canonical
from storage.values.order import equal

from .generated import documents as any_document
from .generated import ids, same, values


@given(any_document)
def test_every_document_comes_back_the_same_bit_for_bit(doc: dict) -> None:
    data = documents.encode(doc)
    assert same(documents.decode(data), doc)
    assert documents.encode(documents.decode(data)) == data


@given(any_document)
def test_what_encode_writes_validate_accepts(doc: dict) -> None:
    id_value, key = documents.validate(documents.encode(doc))
    assert equal(id_value, doc["_id"])
    assert key == canonical(doc["_id"])


@given(values)
def test_every_bare_value_comes_back_the_same(value: object) -> None:
    assert same(documents.decode_value(documents.encode_value(value)), value)


@given(ids)
def test_validate_gives_the_id_with_its_type(id_value: object) -> None:
    assert same(documents.validate(documents.encode({"_id": id_value}))[0], id_value)


UTC = datetime.UTC
PLUS_TWO = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize(
    ("given_value", "stored"),
    [
        (Int64(7), 7),
        ((1, (2,)), [1, [2]]),
        (Binary(b"x", 0), b"x"),
        (Binary(b"0123456789abcdef", 4), uuid.UUID(bytes=b"0123456789abcdef")),
        (bytearray(b"x"), b"x"),
        (decimal.Decimal("1.50"), Decimal128("1.50")),
        (re.compile("^a", re.I), Regex("^a", "iu")),
        (Regex(b"a", "m"), Regex("a", "m")),
        (SON([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (DBRef("c", 1), {"$ref": "c", "$id": 1}),
        (datetime.datetime(2020, 1, 1, 2, tzinfo=PLUS_TWO), datetime.datetime(2020, 1, 1)),
        (datetime.datetime(2020, 1, 1, 0, 0, 0, 1999), datetime.datetime(2020, 1, 1, 0, 0, 0, 1000)),
        (datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000)),
        (datetime.datetime(1, 1, 1, tzinfo=PLUS_TWO), DatetimeMS(-62_135_596_800_000 - 7_200_000)),
        (DatetimeMS(0), datetime.datetime(1970, 1, 1)),
    ],
)
def test_other_spellings_become_the_stored_type(given_value: object, stored: object) -> None:
    assert same(documents.decode(documents.encode({"_id": 1, "v": given_value}))["v"], stored)
    assert same(documents.decode_value(documents.encode_value(given_value)), stored)


def test_the_id_is_moved_first_and_the_rest_keeps_its_order() -> None:
    assert list(documents.decode(documents.encode({"b": 1, "a": 2, "_id": 3}))) == ["_id", "b", "a"]


def nested(depth: int) -> dict:
    doc: dict = {"_id": 1}
    inner = doc
    for _ in range(depth - 1):
        inner["a"] = inner = {}
    return doc


def circle() -> dict:
    doc: dict = {"_id": 1}
    doc["self"] = [doc]
    return doc


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ({"a": 1}, "_id"),
        ([1], "map"),
        ({"_id": 1, "a": {"b": [1, {2}]}}, "'a.b.1'.*set"),
        ({"_id": 1, "a": {"b": object()}}, "'a.b'.*object"),
        ({"_id": 1, "a": 2**63}, "'a'.*64 bits"),
        ({"_id": 1, "a": [-(2**63) - 1]}, "'a.0'.*64 bits"),
        ({"_id": 1, "a": [2**70]}, "'a.0'.*64 bits"),
        ({"_id": 1, 2: 3}, "keys must be text"),
        ({"_id": 1, "a": ({2: 3},)}, "'a.0'.*keys must be text"),
        ({"_id": 1, "a": {b"k": 3}}, "'a'.*keys must be text"),
        ({"_id": 1, "a": {(1, 2): 3}}, "'a'.*keys must be text"),
        ({"_id": 1, "$set": 1}, r"\$set"),
        ({"_id": 1, "a\0b": 1}, "NUL"),
        ({"_id": 1, "a": {"b\0": 1}}, "'a'.*NUL"),
        ({"_id": 1, "a": "\ud800"}, "'a'.*surrogate"),
        ({"_id": 1, "a": {"\ud800": 1}}, "surrogate"),
        ({"_id": 1, "a": Code("f", {})}, "'a'.*scope"),
        ({"_id": 1, "a": decimal.Decimal(10) ** 7000}, "'a'.*Decimal128"),
        ({"_id": 1, "a": Regex("a\0")}, "'a'.*NUL"),
        ({"_id": 1, "a": re.compile("a", re.A)}, "'a'.*flags"),
        (nested(101), "deeper than 100"),
        (nested(10_000), "deeper than 100"),
        (circle(), "deeper than 100"),
    ],
)
def test_encode_refuses_and_names_the_place(doc: dict, expected: str) -> None:
    with pytest.raises(BadDocument, match=expected):
        documents.encode(doc)


def test_a_hundred_levels_are_allowed() -> None:
    doc = nested(100)
    assert documents.decode(documents.encode(doc)) == doc


def test_sixteen_mebibytes_are_the_limit_to_the_byte() -> None:
    overhead = len(documents.encode({"_id": 1, "a": b"x" * 70_000})) - 70_000
    most = b"x" * (documents.DOCUMENT_BYTES_MAX - overhead)
    assert documents.validate(documents.encode({"_id": 1, "a": most}))[0] == 1
    with pytest.raises(DocumentTooLarge):
        documents.encode({"_id": 1, "a": most + b"x"})
    with pytest.raises(DocumentTooLarge):
        documents.validate(msgpack.packb({"_id": 1, "a": most + b"x"}))


ID_1 = b"\xa3_id\x01"
UINT64_MAX = b"\xcf" + b"\xff" * 8


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not MessagePack"),
        (b"\x81", "not MessagePack"),
        (b"\xc1", "not MessagePack"),
        (b"\xc0", "map"),
        (b"\x91\x01", "map"),
        (b"\x80", "_id"),
        (b"\x81\xa1a\x01", "_id"),
        (b"\x82\xa1a\x01" + ID_1, "first key"),
        (b"\x81" + ID_1 + b"\x00", "trailing"),
        (b"\x82" + ID_1 + ID_1, "'_id' stands twice"),
        (b"\x83" + ID_1 + b"\xa1a\x01\xa1a\x02", "'a' stands twice"),
        (b"\x82" + ID_1 + b"\xa1a\x91\x82\xa1b\x01\xa1b\x02", "'a.0'.*'b' stands twice"),
        (b"\x82" + ID_1 + b"\x01\x01", "text keys"),
        (b"\x82" + ID_1 + b"\xc4\x01a\x01", "text keys"),
        (b"\x82" + ID_1 + b"\xa1a\x81\x01\x01", "'a'.*keys must be text"),
        (b"\x82" + ID_1 + b"\xa1a\x81\x90\x01", "'a'.*keys must be text"),
        (b"\x82" + ID_1 + b"\xa1a\x81\x80\x01", "not MessagePack|keys"),
        (b"\x82" + ID_1 + b"\xa1a" + UINT64_MAX, "'a'.*64 bits"),
        (b"\x82" + ID_1 + b"\xa1a\x91" + UINT64_MAX, "'a.0'.*64 bits"),
        (b"\x81\xa3_id" + UINT64_MAX, "'_id'.*64 bits"),
        (b"\x82" + ID_1 + b"\xa1a\xa1\xff", "UTF-8"),
        (b"\x82" + ID_1 + b"\xa1\xff\x01", "UTF-8"),
        (b"\x82" + ID_1 + b"\xa1a\xa3\xed\xa0\x80", "UTF-8"),
        (b"\x82" + ID_1 + b"\xa2a\0\x01", "NUL"),
        (b"\x82" + ID_1 + b"\xa2$a\x01", r"'\$a'"),
        (b"\x82" + ID_1 + b"\xa1a\xd6\xff\0\0\0\0", "'a'.*timestamp"),
        (b"\x82" + ID_1 + b"\xa1a\xd4\x0b\0", "'a'.*extension 11"),
        (b"\x82" + ID_1 + b"\xa1a\xd4\x02\0", "'a'.*OBJECT_ID takes 12"),
        (b"\x82" + ID_1 + b"\xa1a\x91\xd6\x05\0\0\0\0", "'a.0'.*TIMESTAMP takes 8"),
        (b"\x82" + ID_1 + b"\xa1a\xd4\x07\0", "'a'.*MIN_KEY takes 0"),
        (b"\x82" + ID_1 + b"\xa1a\xd4\x06a", "'a'.*REGEX"),
        (b"\x82" + ID_1 + b"\xa1a\xc7\x04\x06a\0mi", "'a'.*in that order"),
        (b"\x82" + ID_1 + b"\xa1a\xc7\x03\x06a\0g", "'a'.*letters"),
        (b"\x82" + ID_1 + b"\xa1a\xd4\x06\xff", "'a'.*UTF-8"),
        (b"\x82" + ID_1 + b"\xa1a\xd4\x0a\xff", "'a'.*UTF-8"),
        (b"\x82" + ID_1 + b"\xa1a\xc7\x00\x09", "'a'.*subtype"),
        (b"\x82" + ID_1 + b"\xa1a\xd5\x09\x00a", "'a'.*subtype 0"),
        (b"\x82" + ID_1 + b"\xa1a\xc7\x11\x09\x04" + b"u" * 16, "'a'.*UUID"),
        (b"\x82" + ID_1 + b"\xa1a" + b"\x91" * 100 + b"\xc0", "deeper than 100"),
        (b"\x82" + ID_1 + b"\xa1a" + b"\x91" * 10_000 + b"\xc0", "deeper than 100"),
        (b"\x82" + ID_1 + b"\xa1a" + b"\x81\xa1a" * 10_000 + b"\xc0", "deeper than 100"),
        (b"\x82" + ID_1 + b"\xa1a" + b"\xdd\x00\xff\xff\xff" * 200, "not MessagePack"),
        (b"\x81\xa3_id\x91\x01", "array"),
        (b"\x81\xa3_id\xc7\x03\x06a\0i", "regular expression"),
        (b"\x81\xa3_id\xda\x20\x00" + b"a" * 8_192, "8192"),
    ],
)
def test_validate_refuses_and_names_the_place(data: bytes, expected: str) -> None:
    with pytest.raises(BadDocument, match=expected):
        documents.validate(data)


def test_many_fields_are_checked_for_keys_that_stand_twice() -> None:
    pairs = b"".join(b"\xa3" + f"k{n:02}".encode() + b"\x01" for n in range(94))
    assert documents.validate(b"\xde\x00\x5f" + ID_1 + pairs)[0] == 1
    with pytest.raises(BadDocument, match="'k05' stands twice"):
        documents.validate(b"\xde\x00\x60" + ID_1 + pairs + b"\xa3k05\x02")


def test_bytes_that_only_look_like_a_large_integer_are_fine() -> None:
    doc = {"_id": 1, "greek": "Ϗϐ", "n": 2**63 - 1}
    assert b"\xcf" in documents.encode(doc)
    assert documents.validate(documents.encode(doc)) == (1, canonical(1))


def test_the_other_number_widths_are_accepted() -> None:
    data = b"\x83\xa3_id\xd3\0\0\0\0\0\0\0\x05\xa1f\xca" + struct.pack(">f", 1.5) + b"\xa1u\xcf\0\0\0\0\0\0\0\x07"
    assert documents.validate(data) == (5, canonical(5))
    assert documents.decode(data) == {"_id": 5, "f": 1.5, "u": 7}


@given(st.binary(max_size=60))
@example(b"\x81\xa3_id\xc7\x00\x01")
def test_no_bytes_make_anything_but_a_refusal(data: bytes) -> None:
    for read in (documents.validate, documents.decode, documents.decode_value, lambda d: documents.normalise(d, ObjectId)):
        try:
            read(data)
        except BadDocument as refused:
            assert refused.message


@given(any_document, st.data())
def test_no_flipped_byte_passes_validation_and_then_fails_to_decode(doc: dict, data: st.DataObject) -> None:
    raw = bytearray(documents.encode(doc))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        _, key = documents.validate(bytes(raw))
    except BadDocument:
        return
    again = documents.decode(bytes(raw))
    assert canonical(again["_id"]) == key
    assert same(documents.decode(documents.encode(again)), again)


@given(any_document, st.integers(0, 20))
def test_normalise_moves_the_id_first_and_keeps_every_other_byte(doc: dict, place: int) -> None:
    id_value = doc.pop("_id")
    items = list(doc.items())
    mixed = dict([*items[:place], ("_id", id_value), *items[place:]])
    data = documents.encode_value(mixed)
    found = documents.normalise(data, ObjectId)
    assert documents.has_id_first(found)
    assert len(found) == len(data)
    assert same(documents.decode(found), {"_id": id_value, **doc})
    documents.validate(found)


@pytest.mark.parametrize("count", [0, 1, 14, 15, 16, 200])
def test_normalise_adds_a_missing_id(count: int) -> None:
    doc = {f"k{n}": n for n in range(count)}
    made = ObjectId()
    found = documents.normalise(documents.encode_value(doc), lambda: made)
    assert documents.decode(found) == {"_id": made, **doc}
    assert documents.validate(found)[0] == made


@pytest.mark.parametrize("data", [b"", b"\x91\x01", b"\x82\xa1a", b"\x81\xa1a" + b"\x91" * 10_000, b"\xc1"])
def test_normalise_refuses_what_is_no_map(data: bytes) -> None:
    with pytest.raises(BadDocument):
        documents.normalise(data, ObjectId)
