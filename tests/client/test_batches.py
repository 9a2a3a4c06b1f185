"""Documents at hand: decoded some at a time, given one by one, each once, also beside one that cannot be read."""

from __future__ import annotations

import pytest
from msgspec import Raw

from storage import encode_document
from twinlog.batches import READ_TOGETHER, Batches
from twinlog.errors import InvalidDocument


def batches_of(*documents: bytes) -> Batches:
    batches = Batches.holding(None, "db", [])  # type: ignore[arg-type]
    batches._documents.extend(map(Raw, documents))
    return batches


def packed(number: int) -> bytes:
    return encode_document({"_id": number})


def test_every_document_comes_once_and_in_order():
    count = 2 * READ_TOGETHER + 3
    batches = batches_of(*map(packed, range(count)))
    found = []
    while (document := batches.next_at_hand()) is not None:
        found.append(document["_id"])
        assert batches.retrieved == len(found)
        assert batches.alive == (len(found) < count)
    assert found == list(range(count))


def test_what_is_left_can_be_taken_as_it_was_sent():
    batches = batches_of(*map(packed, range(5)))
    assert batches.next_at_hand() == {"_id": 0}
    assert [bytes(document) for document in batches.take_packed()] == [packed(number) for number in range(1, 5)]
    assert (batches.next_at_hand(), batches.retrieved) == (None, 5)


def test_documents_before_one_that_cannot_be_read_are_read_first():
    batches = batches_of(packed(0), packed(1), b"\xc1", packed(3))
    assert [batches.next_at_hand(), batches.next_at_hand()] == [{"_id": 0}, {"_id": 1}]
    for _ in range(2):
        with pytest.raises(InvalidDocument):
            batches.next_at_hand()


def test_after_closing_nothing_comes():
    batches = batches_of(*map(packed, range(3)))
    batches.next_at_hand()
    for _ in batches.close():
        raise AssertionError("there is nothing to ask")
    assert batches.next_at_hand() is None
    assert not batches.alive
