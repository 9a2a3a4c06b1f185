"""The verbs on declared indexes: create, drop, list; and the building of a unique one over documents that are there.

    declared as "building", with an empty collection of entries ── writers maintain it from this commit on
        │
        └─> all documents, group by group: entries that are missing are put at the appended end ──> ready
                              └── a duplicate: the index and its entries are dropped, DuplicateKey

Each step is a commit, and doing a group again changes nothing. So a build that ended half way (a crash, a new primary, a client
that went away) is simply run again from its beginning: by the next create_index that asks for the same, or by finish_builds().
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import trio

from .appended import WARM_TRIES_MAX, room, warm
from .catalog import changed_indexes, creation, entries_name, removal
from .committing import collection_for_write, commit_answer, recalled
from .database import Database
from .declared import ALL, BUILDING, ID_INDEX, ID_SPEC, INDEXES_MAX, IndexSpec, not_found, read_spec
from .entries import Collision, EntryPlan
from .errors import BadDocument, BadIndex, DuplicateKey, TwinlogError
from .names import check_collection_name
from .results import WriteResult
from .shard.shardset import COLD
from .transaction_scope import refuse_inside
from .unique import UniqueIndex, entries_of
from .values.documents import decode

log = logging.getLogger("twinlog.declaring")

UNFINISHED_CHECK_S = 5.0
GROUP_S = 0.004  # of a build (INV-9)
GROUP_ENTRIES_MAX = 500
_ABORTED = 276
Place = tuple[int, bytes]  # collection, key


async def create_index(
    db: Database,
    collection: str,
    keys: Iterable[Sequence[Any]] | Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> tuple[WriteResult, str]:
    """Declare an index, and build it if it is unique; returns its name. The collection is made if there is none.

    One that is there already is fine, so a retry needs no remembered answer. Raises BadIndex, DuplicateKey (then nothing is left of
    it)."""
    refuse_inside(db, "declaring an index")
    check_collection_name(collection)
    spec = read_spec(keys, options or {})
    db.check_writable()
    await room(db)
    result = _declare(db, collection, spec)
    db.flush()
    held = _index(db, collection, spec.name)
    if held is not None and held.is_building:
        seq = await _build(db, collection, held)
        result.seq = max(result.seq, seq)
    return result, spec.name


def _declare(db: Database, collection: str, spec: IndexSpec) -> WriteResult:
    """Put the index into the catalog, in place, unless it is there."""
    db.check_writable()
    number, records = collection_for_write(db, collection)
    held = db.catalog.indexes.get(number, ())
    where = f"{db.name}.{collection}"
    result = WriteResult()
    if spec is not ID_SPEC and not any(spec.is_same(other) for other in held):
        for other in held:
            if spec.conflicts_with(other):
                raise spec.conflict(other, where)
        if len(held) + 1 >= INDEXES_MAX:
            raise BadIndex(f"{where} has {INDEXES_MAX} indexes, which is the limit; drop one first")
        is_new = bool(records)
        hidden = []
        if spec.is_unique:
            entries = db.catalog.next_id + len(records)
            hidden = [creation(entries_name(number, spec.name), entries)]
            spec = spec.changed(number=entries, state=None if is_new else BUILDING)
        if is_new:
            declared = creation(collection, number, indexes=[dict(spec.entry)])
        else:
            declared = changed_indexes(db.catalog, collection, [*held, spec])
        records = [declared, *hidden]
    if records:
        commit_answer(db, records, result, b"")
    return result


def list_indexes(db: Database, collection: str) -> list[dict[str, Any]]:
    """The indexes that readers may know of, that of `_id` first; none when there is no such collection."""
    check_collection_name(collection)
    number = db.visible_catalog.ids.get(collection)
    if number is None:
        return []
    return [spec.listed() for spec in (ID_SPEC, *db.visible_catalog.indexes.get(number, ()))]


async def drop_index(db: Database, collection: str, name: str, *, request: bytes = b"") -> WriteResult:
    """Drop the index of that name, "*" all but that of `_id`. Raises IndexNotFound."""
    refuse_inside(db, "dropping an index")
    check_collection_name(collection)
    known = recalled(db, request)
    if known is not None:
        return known
    db.check_writable(frees_space=True)
    where = f"{db.name}.{collection}"
    if name == ID_INDEX:
        raise BadIndex(f"{where}: the index of _id cannot be dropped", code=72)
    number = db.catalog.ids.get(collection)
    held = db.catalog.indexes.get(number, ())
    gone = [spec for spec in held if name in (ALL, spec.name)]
    if not gone and name != ALL:
        raise not_found(where, name)
    result = WriteResult(deleted=len(gone))
    if gone:
        commit_answer(db, _removing(db, collection, gone), result, request, frees_space=True)
    return result


def _removing(db: Database, collection: str, gone: Sequence[IndexSpec]) -> list:
    """The records that take indexes and their entries away."""
    number = db.catalog.ids[collection]
    left = [spec for spec in db.catalog.indexes[number] if spec not in gone]
    hidden = [entries_name(number, spec.name) for spec in gone if spec.number]
    return [changed_indexes(db.catalog, collection, left), *map(removal, hidden)]


def _index(db: Database, collection: str, name: str) -> IndexSpec | None:
    """A declared index at the appended end."""
    number = db.catalog.ids.get(collection)
    return next((spec for spec in db.catalog.indexes.get(number, ()) if spec.name == name), None)


def unfinished(db: Database) -> list[tuple[str, IndexSpec]]:
    """(collection, index) of every index that is being built."""
    building = {
        number: spec for number, specs in db.catalog.indexes.items() for spec in specs if spec.is_building
    }
    return [(name, building[number]) for name, number in db.catalog.ids.items() if number in building] if building else []


async def keep_building(db: Database) -> None:
    """Finish the builds that nobody is running while this node writes the database, until cancelled."""
    while True:
        await trio.sleep(UNFINISHED_CHECK_S)
        if db.refusal is None and db.history:
            await finish_builds(db)


async def finish_builds(db: Database) -> None:
    """Run every build that nobody is running to its end: one that meets a duplicate ends without its index."""
    for collection, spec in unfinished(db):
        if spec.number in db.builds:
            continue
        try:
            await _build(db, collection, spec)
        except (OSError, TwinlogError) as error:  # its index is gone, or the next round tries again
            log.warning("%s.%s: the index %s was not built: %s", db.name, collection, spec.name, error)


async def _build(db: Database, collection: str, spec: IndexSpec) -> int:
    """Make the entries that are missing; returns the seq of the last commit. Raises DuplicateKey, BadDocument, BadIndex."""
    db.builds.add(spec.number)
    try:
        return await _Build(db, collection, spec).run()
    finally:
        db.builds.discard(spec.number)


class _Build:
    """One index, from declared to ready."""

    def __init__(self, db: Database, collection: str, spec: IndexSpec) -> None:
        self._db = db
        self._where = f"{db.name}.{collection}"
        self._name = collection
        self._number = db.catalog.ids[collection]
        self._spec = spec
        self._index = UniqueIndex(spec)

    async def run(self) -> int:
        try:
            async for rows in self._db.end_view().scan(self._number):
                await self._enter([row[2] for row in rows])
        except (DuplicateKey, BadDocument):  # trying again would not help
            if self._is_there() and self._db.refusal is None:
                commit_answer(
                    self._db, _removing(self._db, self._held_as(), [self._spec]), WriteResult(), b"", frees_space=True
                )
                self._db.flush()
            raise
        if not self._is_there():
            raise self._gone()
        if not self._is_building():
            return self._db.position.seq
        name = self._held_as()
        specs = [
            spec.changed(state=None) if spec.number == self._spec.number else spec
            for spec in self._db.catalog.indexes[self._number]
        ]
        result = WriteResult()
        commit_answer(self._db, [changed_indexes(self._db.catalog, name, specs)], result, b"")
        self._db.flush()
        return result.seq

    def _spec_now(self) -> IndexSpec | None:
        held = self._db.catalog.indexes.get(self._number, ())
        return next((spec for spec in held if spec.number == self._spec.number), None)

    def _is_there(self) -> bool:
        return self._spec_now() is not None

    def _is_building(self) -> bool:
        spec = self._spec_now()
        return spec is not None and spec.is_building

    def _held_as(self) -> str:
        """The collection's name now."""
        return next(name for name, number in self._db.catalog.ids.items() if number == self._number)

    def _gone(self) -> BadIndex:
        return BadIndex(f"{self._where}: the index {self._spec.name!r} was dropped while it was being built", code=_ABORTED)

    async def _enter(self, keys: list[bytes]) -> None:
        """Put the entries of these documents that are missing, in as many commits as it takes."""
        tries = done = 0
        while done < len(keys):
            await room(self._db)
            if not self._is_building():
                if not self._is_there():
                    raise self._gone()
                return  # somebody else has built it
            look = self._db.end_now if tries < WARM_TRIES_MAX else self._db.end_blocking
            count, cold = self._enter_some(keys[done:], look)
            self._db.flush()
            done += count
            tries = tries + 1 if cold else 0
            if cold:
                await warm(self._db, cold)
            else:
                await trio.lowlevel.checkpoint()

    def _enter_some(self, keys: Sequence[bytes], look: Callable[[int, bytes], Any]) -> tuple[int, list[Place]]:
        """In place: (how many documents were done, what has to be read before the next)."""
        plan = EntryPlan([self._index], look)
        ends_at = trio.current_time() + GROUP_S
        done, cold = 0, []
        for key in keys:
            held = look(self._number, key)
            if held is COLD:
                cold = [(self._number, key) for key in keys[done:]]
                break
            if held is not None:
                entries = entries_of([self._index], decode(held))
                outcome = plan.change(key, [{}], entries)
                if outcome is COLD:
                    cold = [plan.wanted, *((self._number, key) for key in keys[done:])]
                    break
                if isinstance(outcome, Collision):
                    raise outcome.index.error(self._where, outcome.values)
            done += 1
            if plan.count >= GROUP_ENTRIES_MAX or trio.current_time() >= ends_at:
                break
        records = plan.records()
        if records:
            commit_answer(self._db, records, WriteResult(), b"")
        return done, cold
