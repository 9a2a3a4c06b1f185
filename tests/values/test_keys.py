"""Promises of storage/values/keys.py: equal under MongoDB's equality means equal bytes, and the other way round."""

from __future__ import annotations

import itertools
import uuid

import pytest
import xxhash
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from hypothesis import example, given
from hypothesis import strategies as st

from storage.errors import BadDocument
from storage.values.keys import KEY_BYTES_MAX, canonical, canonical_part, hash64
from storage.values.order import equal

from .generated import ids, numbers


def spellings(value: object) -> list[object]:
    """The value in every number type that holds it exactly."""
    found = [value]
    if type(value) is int:
        found += [Int64(value), Decimal128(str(value))]
        if int(float(value)) == value:
            found.append(float(value))
    if isinstance(value, dict):
        found += [{key: spellings(child)[-1] for key, child in value.items()}]
    return found


@given(ids, ids)
@example(2**53 + 1, float(2**53))
@example(2**63 - 1, float(2**63))
@example(float(2**63), Decimal128(str(2**63)))
@example(0.1, Decimal128("0.1"))
@example(0.5, Decimal128("0.50"))
@example(float("nan"), Decimal128("-NaN"))
@example(float("inf"), Decimal128("Infinity"))
@example({"a": 1, "b": 2}, {"b": 2, "a": 1})
@example({"a": {"b": "x"}}, {"a": {"b": b"x"}})
@example("1", 1)
@example(True, 1)
@example(None, False)
@example({"a": ["x", "y"]}, {"a": ["xy"]})
@example({"a": "b\x20"}, {"a": "b", "": ""})
def test_equal_ids_have_equal_keys_and_others_do_not(a: object, b: object) -> None:
    assert (canonical(a) == canonical(b)) == equal(a, b)


@given(numbers, numbers)
def test_numbers_are_one_kind_of_id(a: object, b: object) -> None:
    assert (canonical(a) == canonical(b)) == equal(a, b)


@given(ids)
def test_the_type_of_a_number_does_not_matter(value: object) -> None:
    for other in spellings(value):
        assert canonical(other) == canonical(value)
        assert equal(other, value)


@pytest.mark.parametrize(
    "group",
    [
        [1, 1.0, Int64(1), Decimal128("1"), Decimal128("1.00"), Decimal128("10E-1")],
        [0, 0.0, -0.0, Decimal128("-0"), Decimal128("0E+6000"), Decimal128("0E-6000")],
        [float("nan"), Decimal128("NaN"), Decimal128("-NaN"), Decimal128("sNaN")],
        [0.5, Decimal128("0.5"), Decimal128("0.500")],
        [2.0**70, Decimal128(str(2**70))],
        [10.0**30, Decimal128(str(int(10.0**30)))],
        [Decimal128("1E+40"), Decimal128("10E+39"), Decimal128("1000E+37")],
        [-(2**63), -(2.0**63), Decimal128(str(-(2**63)))],
        [{"a": 1, "b": [2]}, {"a": 1.0, "b": [Decimal128("2.0")]}],
        [uuid.UUID(int=5), Binary(uuid.UUID(int=5).bytes, 4)],
        [b"ab", Binary(b"ab", 0)],
    ],
)
def test_these_are_one_id(group: list[object]) -> None:
    assert len({canonical(value) for value in group}) == 1


def test_these_are_all_different_ids() -> None:
    group = [None, False, True, 0, 1, -1, 0.1, Decimal128("0.1"), 10.0**40, Decimal128("1E+40"), "", "a", b"", b"a"]
    group += [Binary(b"a", 5), {}, {"a": 1}, {"a": {}}, {"": 1}, MinKey(), MaxKey(), float("inf"), -float("inf"), float("nan")]
    for a, b in itertools.combinations(group, 2):
        assert canonical(a) != canonical(b), (a, b)


def test_keys_of_integers_sort_as_the_integers() -> None:
    ordered = [-(2**63), -5, -1, 0, 1, 255, 256, 2**63 - 1]
    assert sorted(ordered, key=canonical) == ordered


def test_known_bytes_stay_what_they_are() -> None:
    """Keys are written to disk: changing one of these is a new format."""
    assert canonical(1) == bytes.fromhex("118000000000000001")
    assert canonical("é") == bytes.fromhex("20c3a9")
    assert canonical(ObjectId("00" * 11 + "ff")) == bytes.fromhex("50" + "00" * 11 + "ff")
    assert canonical(0.1) == bytes.fromhex("123fb999999999999a")
    assert canonical(Decimal128("-1.230")) == b"\x13-123E-2"
    assert canonical({"a": ["b", None]}) == bytes.fromhex("30000000010000000161380000000220000000016208")


def test_hash_is_xxh3_of_collection_and_key() -> None:
    key = canonical(7)
    assert hash64(258, key) == xxhash.xxh3_64_intdigest(b"\x02\x01\x00\x00" + key)
    assert hash64(1, key) != hash64(2, key)


DEEP: dict = {}
for _ in range(10_000):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "refused",
    [
        [1],
        (1,),
        Regex("a"),
        object(),
        2**63,
        DEEP,
        "x" * KEY_BYTES_MAX,
        b"x" * KEY_BYTES_MAX,
        {"a": "x" * KEY_BYTES_MAX},
        {"a": [1] * KEY_BYTES_MAX},
        {1: 2},
        "\ud800",
    ],
)
def test_refused_as_ids(refused: object) -> None:
    with pytest.raises(BadDocument):
        canonical(refused)


def test_the_longest_key_is_allowed() -> None:
    assert len(canonical("x" * (KEY_BYTES_MAX - 1))) == KEY_BYTES_MAX


@given(st.one_of(ids, st.lists(ids, max_size=3)), st.one_of(ids, st.lists(ids, max_size=3)))
@example([1, [2]], [1, [2.0]])
@example(["a"], ["a", None])
@example("a", "ab")
@example(Int64(1), 1)
@example(Regex("a"), Regex("a", "i"))
def test_keys_of_parts_can_stand_side_by_side(a: object, b: object) -> None:
    one, other = canonical_part(a), canonical_part(b)
    assert (one == other) == equal(a, b)
    assert one == other or not (one.startswith(other) or other.startswith(one))


def test_a_part_may_be_longer_than_an_id() -> None:
    assert len(canonical_part(["x"] * 20_000)) > KEY_BYTES_MAX
    assert canonical_part("x" * 20_000)[5:] == b"x" * 20_000
