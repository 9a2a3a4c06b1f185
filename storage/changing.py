"""Changing documents that a filter finds: one, or all of them. What a change is, is given; updating.py has the verbs.

    filter ──> keys, found at some state ──> each looked at again at the appended end ──> change ──> commit
                                              └───── one wake-up, no await (INV-2) ─────────────┘

A document that no longer matches when its turn comes is left alone. The entries of unique indexes go into the same commit. Changes of
many documents are committed in groups that hold the loop for about GROUP_S (INV-9); each group remembers how far the whole has come,
so that a request that comes again goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import trio

from .appended import WARM_TRIES_MAX, changed_since, end_document, room, warm, written_at
from .catalog import creation
from .commit.codec import Op, Record
from .committing import commit_answer, duplicate, recalled, step_of
from .database import Database
from .entries import Collision, EntryPlan
from .errors import BadDocument, Overloaded, TwinlogError
from .matching import find_rows
from .query.filters import Filter
from .query.sorting import Sort
from .results import WriteError, WriteResult
from .shard.shardset import COLD
from .unique import Entries, UniqueIndex, entries_of
from .values.documents import decode
from .views import View

GROUP_DOCUMENTS_MAX = 500
GROUP_BYTES_MAX = 2**20
GROUP_ENTRIES_MAX = 1_000
GROUP_S = 0.004
RETRIES_MAX = 100  # of a search whose findings change before they can be changed
CANDIDATES_MAX = 64  # looked for at once after several such tries
RECHECKED_MAX = 500  # documents written since a search began that are looked at in place

Place = tuple[int, bytes]  # collection, key
Shape = Callable[[bytes | None, bytes | None], bytes | None]  # documents before and after -> what is answered


class Change(Protocol):
    """What is done to a document that was found."""

    frees_space: bool

    def of(self, document: dict, data: bytes) -> bytes | None:
        """The new bytes of a document; data itself when nothing changes; None deletes it. Raises TwinlogError."""

    def inserted(self) -> tuple[bytes, bytes, bytes]:
        """(key, encoded `_id`, document) that an upsert inserts. Raises TwinlogError."""


class Target(NamedTuple):
    """A document at the appended end, in this wake-up."""

    collection_id: int
    key: bytes
    data: bytes
    document: dict


@dataclass(slots=True, kw_only=True)
class Asked:
    """Which documents of which collection."""

    db: Database
    collection: str
    matches: Filter
    order: Sort | None = None
    request: bytes = b""

    @property
    def where(self) -> str:
        return f"{self.db.name}.{self.collection}"


class Group:
    """What one commit does to documents of one collection, entries of unique indexes included."""

    def __init__(self, asked: Asked, collection_id: int, look: Callable[[int, bytes], Any]) -> None:
        self.records: list[Record] = []
        self.matched = self.modified = self.deleted = 0
        self.look = look
        self.collection_id = collection_id
        self._asked = asked
        self._indexes: tuple[UniqueIndex, ...] = asked.db.catalog.unique.get(collection_id, ())
        self._plan = EntryPlan(self._indexes, look)
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        return (
            self.matched + self.deleted < GROUP_DOCUMENTS_MAX
            and self._bytes < GROUP_BYTES_MAX
            and self._plan.count < GROUP_ENTRIES_MAX
        )

    @property
    def wanted(self) -> list[Place]:
        """The entry that was too cold to look up."""
        return [] if self._plan.wanted is None else [self._plan.wanted]

    def put(self, key: bytes, old: dict | None, new: bytes | None) -> object:
        """A document goes from old (decoded) to new. COLD: nothing was done. Raises DuplicateKey, BadDocument."""
        if self._indexes:
            before = [{}] * len(self._indexes) if old is None else _entries_before(self._indexes, old)
            after = [{}] * len(self._indexes) if new is None else entries_of(self._indexes, decode(new))
            outcome = self._plan.change(key, before, after)
            if outcome is COLD:
                return COLD
            if isinstance(outcome, Collision):
                raise outcome.index.error(self._asked.where, outcome.values)
        op = Op.DELETE if new is None else Op.PUT
        self.records.append(Record(op, self.collection_id, key, new or b""))
        self._bytes += len(new or b"")
        return None

    def apply(self, change: Change, key: bytes, data: bytes, document: dict) -> object:
        """change() for a document that matches; COLD: nothing was done. Raises what the change refuses."""
        new = change.of(document, data)
        if new != data and self.put(key, document, new) is COLD:
            return COLD
        if new is None:
            self.deleted += 1
        else:
            self.matched += 1
            self.modified += new != data
        return new

    def all_records(self) -> list[Record]:
        return [*self.records, *self._plan.records()]


def _entries_before(indexes: Sequence[UniqueIndex], document: dict) -> list[Entries]:
    """Of a document that is there: one that an index being built could not take has none in it."""
    try:
        return entries_of(indexes, document)
    except BadDocument:
        return [{}] * len(indexes)


# One document.


async def change_one(asked: Asked, change: Change, *, upsert: bool = False, shape: Shape | None = None) -> WriteResult:
    """Change the first document that matches; upsert inserts one when none does. Raises what refuses it."""
    db = asked.db
    for attempt in range(WARM_TRIES_MAX + 1):
        found = await first_match(asked, is_sure=upsert)
        look = db.end_now if attempt < WARM_TRIES_MAX else db.end_blocking
        done = recalled(db, asked.request)  # the same request came again while this one waited
        if done is None:
            db.check_writable(frees_space=change.frees_space)
            if found is not None:
                done = _change_found(asked, change, found, look, shape)
            elif upsert:
                done = _upsert(asked, change, look, shape)
            else:
                return WriteResult(document=None) if shape is not None else WriteResult()
        if isinstance(done, WriteResult):
            return done
        await warm(db, done)
    raise AssertionError("a blocking look-up has an answer")


def _change_found(
    asked: Asked, change: Change, found: Target, look: Callable[[int, bytes], Any], shape: Shape | None
) -> WriteResult | list[Place]:
    group = Group(asked, found.collection_id, look)
    new = group.apply(change, found.key, found.data, found.document)
    if new is COLD:
        return group.wanted
    result = WriteResult(matched=group.matched, modified=group.modified, deleted=group.deleted)
    if shape is not None:
        result.document = shape(found.data, new)
    if group.records:
        commit_answer(asked.db, group.all_records(), result, asked.request, frees_space=change.frees_space)
    return result


def _upsert(
    asked: Asked, change: Change, look: Callable[[int, bytes], Any], shape: Shape | None
) -> WriteResult | list[Place]:
    db = asked.db
    key, id_value, data = change.inserted()
    known = db.catalog.ids.get(asked.collection)
    collection_id = db.catalog.next_id if known is None else known
    held = None if known is None else look(collection_id, key)
    if held is COLD:
        return [(collection_id, key)]
    if held is not None:
        raise duplicate(db, asked.collection, id_value)
    group = Group(asked, collection_id, look)
    if group.put(key, None, data) is COLD:
        return group.wanted
    result = WriteResult(upserted={0: id_value})
    if shape is not None:
        result.document = shape(None, data)
    made = [creation(asked.collection, collection_id)] if known is None else []
    commit_answer(db, [*made, *group.all_records()], result, asked.request)
    return result


async def first_match(asked: Asked, *, is_sure: bool) -> Target | None:
    """The first document that matches at the appended end; no await follows the last check, that the collection is still the one
    that was looked through included. None with is_sure: none matches now; without: none did when the search began."""
    db, matches = asked.db, asked.matches
    pinned, pinned_key = matches.point
    wanted = 1
    for _ in range(RETRIES_MAX):
        collection_id = db.catalog.ids.get(asked.collection)
        if collection_id is None:
            return None
        view = db.end_view()
        if pinned:
            keys = [] if pinned_key is None else [pinned_key]
        else:
            keys = [
                found.key
                async for batch in find_rows(view, collection_id, matches, sort=asked.order, wanted=wanted)
                for found in batch
            ]
        for key in keys:
            held = await end_document(db, collection_id, key)
            if db.catalog.ids.get(asked.collection) != collection_id:
                break
            if held is not None and matches(document := decode(held)):
                return Target(collection_id, key, held, document)
            if pinned:
                return None
        if not keys:
            if pinned or not is_sure:
                return None
            is_known, target = _matched_since(asked, collection_id, view)
            if is_known:
                return target
        wanted = min(2 * wanted, CANDIDATES_MAX)
    raise Overloaded(f"{asked.where}: the matching document changed {RETRIES_MAX} times meanwhile; try again")


def _matched_since(asked: Asked, collection_id: int, view: View) -> tuple[bool, Target | None]:
    """(True, a document written after the view was made that matches, or None), in place; (False, None) when there are too many to look at."""
    db = asked.db
    if db.catalog.ids.get(asked.collection) != collection_id:
        return False, None
    keys = changed_since(db, collection_id, view)
    if keys is None or len(keys) > RECHECKED_MAX:
        return False, None
    for key in keys:
        held = db.end_now(collection_id, key)
        if isinstance(held, bytes) and asked.matches(document := decode(held)):
            return True, Target(collection_id, key, held, document)
    return True, None


# Many documents.


async def change_many(asked: Asked, change: Change) -> WriteResult:
    """Change every document that matches. What is refused on the way ends it: the error is in the result, with what was done."""
    known = recalled(asked.db, asked.request)
    if known is not None:
        return known
    collection_id = asked.db.catalog.ids.get(asked.collection)
    if collection_id is None:
        return WriteResult()
    keys: list[bytes] = []
    async for batch in find_rows(asked.db.end_view(), collection_id, asked.matches):
        keys += [found.key for found in batch]
    return await _Many(asked, change, collection_id, keys).run()


class _Many:
    """One change of many documents on its way through their keys."""

    def __init__(self, asked: Asked, change: Change, collection_id: int, keys: list[bytes]) -> None:
        self._asked = asked
        self._db = asked.db
        self._change = change
        self._collection_id = collection_id
        self._keys = keys
        self._next = 0
        self._total = WriteResult()
        self._steps = 0
        self._done_at: set[int] = set()  # seqs of what an earlier try of the request committed
        self._is_remembered = True  # the answer, under the request itself
        self._recall_steps()

    def _recall_steps(self) -> None:
        """An earlier try of the request may have ended half way: what it did counts, and is not done again."""
        request = self._asked.request
        while (step := recalled(self._db, step_of(request, self._steps + 1))) is not None:
            self._steps += 1
            self._done_at.add(step.seq)
            self._total = step
            self._is_remembered = False
        self._total.replayed = False

    async def run(self) -> WriteResult:
        tries = 0
        while self._next < len(self._keys) and not self._total.errors:
            await room(self._db)
            if self._db.catalog.ids.get(self._asked.collection) != self._collection_id:
                break  # dropped meanwhile, and everything that matched with it
            if (known := recalled(self._db, self._asked.request)) is not None:  # it came again while this one waited
                return known
            if (known := recalled(self._db, step_of(self._asked.request, self._steps + 1))) is not None:
                raise Overloaded(
                    f"{self._asked.where}: the same request is being carried out already (up to seq {known.seq}); send it "
                    "again later for its answer",
                    retry_after_ms=1000,
                )
            self._db.check_writable(frees_space=self._change.frees_space)
            cold = self._run_group(self._db.end_now if tries < WARM_TRIES_MAX else self._db.end_blocking)
            self._db.flush()
            tries = tries + 1 if cold else 0
            if cold:
                await warm(self._db, cold)
            else:
                await trio.lowlevel.checkpoint()
        if not self._is_remembered and self._asked.request:
            commit_answer(self._db, [], self._total, self._asked.request, frees_space=True)
        return self._total

    def _run_group(self, look: Callable[[int, bytes], Any]) -> list[Place]:
        """Change and commit some documents in place. Gives what has to be read before the next ones."""
        group = Group(self._asked, self._collection_id, look)
        cold: list[Place] = []
        error: TwinlogError | None = None
        ends_at = trio.current_time() + GROUP_S
        while self._next < len(self._keys) and group.has_room:
            key = self._keys[self._next]
            held = look(self._collection_id, key)
            try:
                if held is COLD or (isinstance(held, bytes) and self._one(group, key, held) is COLD):
                    ahead = self._keys[self._next : self._next + GROUP_DOCUMENTS_MAX]
                    cold = [(self._collection_id, key) for key in ahead] + group.wanted
                    break
            except TwinlogError as refused:
                error = refused
                break
            self._next += 1
            if trio.current_time() >= ends_at:
                break
        self._commit(group, error)
        return cold

    def _one(self, group: Group, key: bytes, data: bytes) -> object:
        document = decode(data)
        if not self._asked.matches(document):
            return None
        if self._done_at and written_at(self._db, self._collection_id, key) in self._done_at:
            return None
        return group.apply(self._change, key, data, document)

    def _commit(self, group: Group, error: TwinlogError | None) -> None:
        total = self._total
        total.matched += group.matched
        total.modified += group.modified
        total.deleted += group.deleted
        if error is not None:
            total.errors.append(WriteError(0, error))
        records = group.all_records()
        if not records:
            return
        is_last = self._next >= len(self._keys) or error is not None
        self._is_remembered = is_last
        self._steps += not is_last
        request = step_of(self._asked.request, 0 if is_last else self._steps)
        commit_answer(self._db, records, total, request, frees_space=self._change.frees_space)


def first_error(result: WriteResult) -> WriteResult:
    """The result, unless it has an error, which is raised: of a single write."""
    if result.errors:
        raise result.errors[0].error
    return result
