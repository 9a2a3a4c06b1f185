"""Promises of storage/values/order.py: one total order over all values, exact across number types."""

from __future__ import annotations

import datetime
import itertools
import uuid
from fractions import Fraction

import pytest
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given

from storage.errors import BadDocument
from storage.values.decimals import to_decimal
from storage.values.order import equal, sort_key

from .generated import numbers, values

IN_ORDER = [
    MinKey(),
    None,
    float("nan"),
    -float("inf"),
    Decimal128("-1E+6000"),
    -1e300,
    -(2**63),
    -1,
    -0.5,
    0,
    5e-324,
    Decimal128("0.09999999999999999999999999999999999"),
    Decimal128("0.1"),
    0.1,
    1,
    2.0**53,
    2**53 + 1,
    2.0**53 + 2,
    2**63 - 1,
    2.0**63,
    Decimal128("9223372036854775808.5"),
    1e308,
    Decimal128("1E+6000"),
    float("inf"),
    "",
    "A",
    "a",
    "aa",
    "é",
    "\uffff",
    "\U00010000",
    {},
    {"a": None},
    {"b": None},
    {"a": 1},
    {"a": 1, "b": 0},
    {"a": 2},
    {"b": 1},
    {"a": "x"},
    [],
    [None],
    [1],
    [1, 2],
    [2],
    ["a"],
    b"",
    b"z",
    Binary(b"a", 5),
    b"aa",
    uuid.UUID(int=0),
    ObjectId("0" * 24),
    ObjectId("f" * 24),
    False,
    True,
    DatetimeMS(-(2**62)),
    datetime.datetime(1960, 1, 1),
    datetime.datetime(2020, 1, 1),
    DatetimeMS(2**62),
    Timestamp(1, 9),
    Timestamp(2, 0),
    Regex("a"),
    Regex("a", "i"),
    Regex("b"),
    Code("a"),
    Code("b"),
    MaxKey(),
]


def test_every_pair_of_the_ladder_is_in_order() -> None:
    for (low, a), (high, b) in itertools.combinations(enumerate(IN_ORDER), 2):
        assert low < high
        assert sort_key(a) < sort_key(b), (a, b)
        assert not equal(a, b), (a, b)


def exact(value: object) -> Fraction | float:
    number = to_decimal(value.bid) if isinstance(value, Decimal128) else value
    return Fraction(number) if number == number and abs(number) != float("inf") else float(number)


@given(numbers, numbers)
def test_numbers_compare_by_their_exact_value(a: object, b: object) -> None:
    x, y = exact(a), exact(b)
    if x != x or y != y:
        assert equal(a, b) == (x != x and y != y)
        assert (sort_key(a) < sort_key(b)) == (x != x and y == y)
    else:
        assert equal(a, b) == (x == y)
        assert (sort_key(a) < sort_key(b)) == (x < y)


@given(values, values, values)
def test_the_order_is_total(a: object, b: object, c: object) -> None:
    x, y, z = sort_key(a), sort_key(b), sort_key(c)
    assert (x < y) + (x == y) + (x > y) == 1
    if x <= y <= z:
        assert x <= z


@given(values, values)
def test_equal_values_have_equal_hashes(a: object, b: object) -> None:
    assert hash(sort_key(a)) == hash(sort_key(a))
    if equal(a, b):
        assert hash(sort_key(a)) == hash(sort_key(b))


def test_equal_across_types_but_not_across_kinds() -> None:
    assert equal(1, 1.0) and equal(1, Decimal128("1.0")) and equal({"a": [1]}, {"a": [1.0]})
    assert equal(uuid.UUID(int=3), Binary(uuid.UUID(int=3).bytes, 4))
    assert not equal(1, True) and not equal("a", b"a") and not equal("a", Code("a"))
    assert not equal({"a": 1, "b": 2}, {"b": 2, "a": 1})


@pytest.mark.parametrize("bits", ["ff" * 15 + "6f", "ff" * 14 + "0362"])
def test_coefficients_beyond_34_digits_are_zero(bits: str) -> None:
    assert equal(Decimal128.from_bid(bytes.fromhex(bits)), 0)


def test_what_has_no_order_is_refused() -> None:
    with pytest.raises(BadDocument, match="set"):
        sort_key({1})
