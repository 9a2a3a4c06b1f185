"""Inserting documents that are encoded already, of several batches: an import's way. Pure.

    batches ── neighbours of one collection together ──> Insert requests, one outstanding, the next one encoded meanwhile ──> what was refused of each batch

One at a time, for the node works on several requests of a connection at once: of two documents with one `_id` the first must stay, and the order of the
stream is the order in which documents are found. verbs.insert_many is for programs: it gives ids and raises at the first failure; here each
refused document can be named by where it stood.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

from node.wire import Failure, Insert, Request

from . import answers
from .call import failure_of
from .errors import TwinlogError
from .exchange import Exchange, Kind
from .scope import Scope
from .verbs import Plan, chunks, write_error

Errors = list[dict[str, Any]]  # of one batch, each with its "index" there, in PyMongo's shape


def insert_batches(scope: Scope, db: str, batches: Sequence[tuple[str, Sequence[bytes]]]) -> Plan[tuple[list[Errors], TwinlogError | None]]:
    """(what was refused of each batch, what ended it). batches: (collection, documents), unordered. With a failure there are errors of the batches before it
    only, which are whole; of the others nothing is known (INV-7)."""
    ends = list(accumulate(len(documents) for _, documents in batches))  # of each batch, counted over all documents
    spans: list[tuple[int, int]] = []  # of each request, counted so

    def requests() -> Iterator[Request]:
        start = 0
        for collection, some in groupby(batches, itemgetter(0)):
            for chunk in chunks(document for _, documents in some for document in documents):
                spans.append((start, start + len(chunk)))
                start += len(chunk)
                yield Insert(0, db, collection, chunk, False, scope.write_id())

    exchange = Exchange(Kind.WRITE, requests(), db=db, stop_after=lambda answer: isinstance(answer, Failure), timeout_s=scope.timeout_s)
    failure: TwinlogError | None = None
    try:
        yield exchange
    except TwinlogError as error:
        failure = error
    found: list[Errors] = [[] for _ in batches]
    done = 0
    for (start, end), answer in zip(spans, exchange.answers):
        if isinstance(answer, Failure):
            failure = failure_of(answer)
            break
        scope.positions.observe(db, answer.epoch, answer.seq)
        for row in answers.read(answers.INSERTED, answer).errors:
            at = bisect_right(ends, start + row[0])
            found[at].append(write_error(row, start - (ends[at - 1] if at else 0), None))
        done = end
    return found[: bisect_right(ends, done)], failure
