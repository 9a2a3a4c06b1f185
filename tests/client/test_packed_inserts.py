"""twinlog/packed_inserts.py: refusals are told by batch, and a failure leaves what is whole."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest

from node.wire import Failure, Reply, encode_fields
from storage.values.documents import encode
from twinlog.packed_inserts import insert_batches
from twinlog.scope import Positions, Scope

SCOPE = Scope(Positions(nullcontext()), lambda count: b"r" * count)


def carried(batches, answer_of):
    """The plan's value, each request answered by answer_of(number, request)."""
    plan = insert_batches(SCOPE, "db", batches)
    exchange = next(plan)
    for number in itertools.count():
        item = exchange.take()
        if item is None:
            break
        exchange.sent(number, item)
        assert exchange.take() is None, "one request is outstanding, so that their order stays"
        exchange.answered(answer_of(number, item[1]))
    with pytest.raises(StopIteration) as ended:
        next(plan)
    return ended.value.value


def written(number, request, *refused):
    rows = [[at, 11000, "DuplicateKey", f"{at} is there", {}] for at in refused]
    return Reply(number, encode_fields({"n": len(request.docs) - len(rows), "errors": rows}), 1, number + 1)


def docs(count):
    return [encode({"_id": number}) for number in range(count)]


def test_refusals_are_counted_in_their_batch():
    batches = [("a", docs(3)), ("a", docs(4)), ("b", docs(2))]
    asked = []

    def answer(number, request):
        asked.append((request.collection, len(request.docs)))
        return written(number, request, *((1, 2, 3, 6) if number == 0 else (0,)))

    found, failure = carried(batches, answer)
    assert asked == [("a", 7), ("b", 2)] and failure is None
    assert [[row["index"] for row in errors] for errors in found] == [[1, 2], [0, 3], [0]]
    assert SCOPE.positions.of("db") == (1, 2)


def test_a_failure_leaves_the_batches_that_are_whole():
    """A request takes 5,000 documents: the third one begins within the third batch."""

    def answer(number, request):
        return Failure(number, 8, "Refused", "no more", {}) if number == 2 else written(number, request)

    found, failure = carried([("a", docs(3_000)), ("a", docs(6_000)), ("a", docs(6_000))], answer)
    assert found == [[], []] and "no more" in str(failure)
    found, failure = carried([("a", docs(3_000)), ("a", docs(9_000)), ("a", docs(3_000))], answer)
    assert found == [[]] and failure is not None
