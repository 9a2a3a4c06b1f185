"""The client's short ways to bytes are the engine's bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import encode_document, encode_value
from twinlog import errors
from twinlog.values import encoded_documents, value_bytes


@given(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([sign * 2**bits + by for sign in (1, -1) for bits in range(63) for by in (-1, 0, 1)]))
def test_an_integer_key_has_the_engines_bytes(value):
    assert bytes(value_bytes(value)) == encode_value(value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_an_integer_that_does_not_fit_is_refused(value):
    with pytest.raises(errors.InvalidDocument):
        value_bytes(value)


def test_documents_are_encoded_one_by_one_and_a_bad_one_is_counted():
    ids = []
    given_documents = [{"_id": 1, "a": 1}, {"a": 2, "_id": 2}, {"_id": 3, "a": object()}]
    made = encoded_documents(given_documents, ids)
    assert [next(made), next(made)] == [encode_document(document) for document in given_documents[:2]]
    with pytest.raises(errors.InvalidDocument) as caught:
        next(made)
    assert caught.value.details["index"] == 2
    assert ids == [1, 2, 3]
