"""Inserts into a collection with unique indexes: run by run, each document judged by itself, a run's documents and entries in one
commit (INV-2).

    docs ── cut ──> runs ── entries of each document (unique.py) ──> `_id` and entries checked at the appended end ──> commit

The cut depends on nothing but the documents and the indexes, so that a request that comes again finds the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import trio

from .appended import WARM_TRIES_MAX, room, unsure, warm
from .commit.codec import Op, Record
from .committing import Prepared, collection_for_write, commit_answer, duplicate, prepare, recalled, step_of
from .database import Database
from .entries import Collision, EntryPlan
from .errors import BadDocument
from .results import WriteError, WriteResult
from .shard.shardset import COLD
from .unique import Entries, UniqueIndex, entries_of
from .values.documents import decode

RUN_DOCUMENTS_MAX = 200  # about 4 ms with two indexes (INV-9)
RUN_BYTES_MAX = 2**20
RUN_ENTRIES_MAX = 1_000
Place = tuple[int, bytes]  # collection, key


class Run:
    """Documents that one commit inserts, as far as they may be."""

    def __init__(self, db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool) -> None:
        self.ordered = ordered
        self._db = db
        self._collection = collection
        self._size = len(docs)
        self._prepared: list[Prepared | None]
        self._prepared, self._bad = prepare(db, docs, ordered=ordered)
        self._indexes: tuple[UniqueIndex, ...] = ()
        self._entries: list[list[Entries] | BadDocument] = []
        self._enter(self._unique_now())

    def __len__(self) -> int:
        return self._size

    def _unique_now(self) -> tuple[UniqueIndex, ...]:
        catalog = self._db.catalog
        return catalog.unique.get(catalog.ids.get(self._collection, 0), ())

    def _enter(self, indexes: tuple[UniqueIndex, ...]) -> None:
        self._indexes = indexes
        self._entries = [_entered(indexes, row) for row in self._prepared]

    def within_entries(self) -> int:
        """How many of its documents, at least one, have no more than RUN_ENTRIES_MAX entries together."""
        total = 0
        for number, found in enumerate(self._entries):
            total += 0 if isinstance(found, BadDocument) else sum(map(len, found))
            if total > RUN_ENTRIES_MAX:
                return max(1, number)
        return self._size

    def commit(self, look: Callable[[int, bytes], object], request: bytes) -> WriteResult | list[Place]:
        """Check and commit in place. A list: of what has to be read first. look: db.end_now or end_blocking."""
        db = self._db
        known = recalled(db, request)
        if known is not None:
            return known
        db.check_writable()
        collection_id, records = collection_for_write(db, self._collection)
        if (indexes := self._unique_now()) is not self._indexes:
            self._enter(indexes)
        plan = EntryPlan(indexes, look)
        places = self._doubtful(plan, collection_id)
        doubtful = frozenset(places)
        result = WriteResult()
        bad = {row.index: row.error for row in self._bad}
        inserted: set[bytes] = set()
        for place, (row, entries) in enumerate(zip(self._prepared, self._entries)):
            error = bad.get(place)
            if row is not None:
                error = self._refusal(row, entries, plan, collection_id, look, doubtful, inserted)
            if error is COLD:
                return places
            if error is not None:
                result.errors.append(WriteError(place, error))
                if self.ordered:
                    break
                continue
            inserted.add(row[0])
            records.append(Record(Op.PUT, collection_id, row[0], row[2]))
            result.ids.append(row[1])
        result.inserted = len(result.ids)
        if result.inserted:
            commit_answer(db, [*records, *plan.records()], result, request)
        return result

    def _refusal(
        self,
        row: Prepared,
        entries: list[Entries] | BadDocument,
        plan: EntryPlan,
        collection_id: int,
        look: Callable[[int, bytes], object],
        doubtful: frozenset[Place],
        inserted: set[bytes],
    ) -> object:
        """Why a document cannot be inserted, COLD, or None: then its entries are in the plan."""
        key, id_value, _ = row
        held = key in inserted or ((collection_id, key) in doubtful and look(collection_id, key))
        if held is COLD:
            return COLD
        if held:
            return duplicate(self._db, self._collection, id_value)
        if isinstance(entries, BadDocument):
            return entries
        outcome = plan.change(key, [{}] * len(entries), entries)
        if isinstance(outcome, Collision):
            return outcome.index.error(f"{self._db.name}.{self._collection}", outcome.values)
        return outcome

    def _doubtful(self, plan: EntryPlan, collection_id: int) -> list[Place]:
        """What the appended end may hold of all keys and entries; the plan is told what it does not."""
        keys = [row[0] for row in self._prepared if row is not None]
        places = [(collection_id, keys[number]) for number in unsure(self._db, collection_id, keys)]
        for at, index in enumerate(self._indexes):
            found = [entries[at] for entries in self._entries if not isinstance(entries, BadDocument) and entries]
            entry_keys = list(dict.fromkeys(chain.from_iterable(found)))
            may_hold = [entry_keys[number] for number in unsure(self._db, index.number, entry_keys)]
            places += [(index.number, key) for key in may_hold]
            plan.note_absent(index.number, set(entry_keys).difference(may_hold))
        return places


def _entered(indexes: Sequence[UniqueIndex], row: Prepared | None) -> list[Entries] | BadDocument:
    if row is None or not indexes:
        return []
    try:
        return entries_of(indexes, decode(row[2]))
    except BadDocument as error:
        return error


def insert_unique_now(
    db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool, request: bytes
) -> WriteResult | None:
    """In place, or None when it takes more than this wake-up."""
    run = _next_run(db, collection, docs, 0, ordered=ordered)
    if len(run) < len(docs):
        return None
    done = run.commit(db.end_now, request)
    return done if isinstance(done, WriteResult) else None


async def insert_unique(
    db: Database, collection: str, docs: Sequence[bytes], *, ordered: bool, request: bytes
) -> WriteResult:
    """Insert any number of documents, waiting for room and cold data."""
    total = WriteResult()
    start = number = 0
    while start < len(docs):
        await room(db, RUN_DOCUMENTS_MAX)
        run = _next_run(db, collection, docs, start, ordered=ordered)
        total.add(await _commit_waiting(db, run, step_of(request, number)), start)
        if ordered and total.errors:
            break
        start += len(run)
        number += 1
        await trio.lowlevel.checkpoint()
    return total


def _next_run(db: Database, collection: str, docs: Sequence[bytes], start: int, *, ordered: bool) -> Run:
    """The documents from start on that fit one commit."""
    end, size = start, 0
    while end < len(docs) and end - start < RUN_DOCUMENTS_MAX and (end == start or size + len(docs[end]) <= RUN_BYTES_MAX):
        size += len(docs[end])
        end += 1
    run = Run(db, collection, docs[start:end], ordered=ordered)
    fit = run.within_entries()
    return run if fit == len(run) else Run(db, collection, docs[start : start + fit], ordered=ordered)


async def _commit_waiting(db: Database, run: Run, request: bytes) -> WriteResult:
    for _ in range(WARM_TRIES_MAX):
        done = run.commit(db.end_now, request)
        if isinstance(done, WriteResult):
            return done
        await warm(db, done)
    done = run.commit(db.end_blocking, request)
    assert isinstance(done, WriteResult), "a blocking look-up has an answer"
    return done
