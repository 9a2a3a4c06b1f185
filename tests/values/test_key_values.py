"""A key gives back a value that has this key, whatever the value was."""

from __future__ import annotations

import pytest
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadDocument, DamagedRecord
from storage.values.key_values import value_of
from storage.values.keys import canonical
from tests.values.generated import documents


@pytest.mark.parametrize(
    "value",
    [1, -(2**63), 1.5, float("nan"), Decimal128("1E+30"), Decimal128("0.1"), "", "é", b"\x00a", Binary(b"x" * 16, 4), ObjectId(b"a" * 12),
     None, True, False, MinKey(), MaxKey(), Timestamp(3, 4), Code("f()"), {"a": {"b": [1, "x", {"c": None}]}, "d": b"z"}],
)  # fmt: skip
def test_a_value_of_each_kind_comes_back(value: object) -> None:
    back = value_of(canonical(value))
    assert canonical(back) == canonical(value)
    assert isinstance(value, Binary) or value != value or back == value


@given(documents)
def test_any_field_that_can_be_an_id_comes_back_as_one_with_the_same_key(document: dict) -> None:
    for value in document.values():
        try:
            key = canonical(value)
        except BadDocument:
            continue
        assert canonical(value_of(key)) == key


@given(st.binary(max_size=40))
def test_bytes_that_are_no_key_are_refused_by_name(data: bytes) -> None:
    try:
        value_of(data)
    except DamagedRecord:
        pass
