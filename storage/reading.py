"""The reading verbs: get, find, count. Used by the node's service and the embedded client alike.

A find reads one view from its first batch to its last (INV-2). Which documents match is matching.py's to say.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence

from .commit.codec import PUT
from .compiling import compiled
from .database import Database
from .matching import Found, count_rows, find_few, find_rows
from .names import check_collection_name
from .query.filters import Filter, compile_filter
from .query.projection import compile_projection
from .query.sorting import Sort, compile_sort
from .shard.shardset import COLD, MISSING
from .values.documents import decode_value, encode, encode_value
from .values.keys import canonical
from .views import View

BATCH_BYTES_MAX = 4 * 2**20  # a batch ends at the document that passes it
WHOLE_ROWS = 4_096  # read in one piece when everything is wanted: nobody works on them, so it is about 1 ms of the loop at most


def get_now(db: Database, collection: str, key: bytes) -> bytes | None | object:
    """The document with that encoded `_id`, None, or COLD when it takes waiting."""
    return get_key_now(db, collection, canonical(decode_value(key)))


def get_key_now(db: Database, collection: str, key: bytes) -> bytes | None | object:
    """The document of a canonical key at `visible`, None, or COLD: one read without a view."""
    return get_keys_now(db, collection, (key,))[0]


def get_keys_now(
    db: Database, collection: str, keys: Sequence[bytes], *, bytes_max: float = math.inf
) -> Sequence[bytes | None | object]:
    """get_key_now() for each of at least one key, at one moment. Fewer answers than keys, but at least one, when more than bytes_max had
    to be read from files (INV-8)."""
    number = db.visible_catalog.ids.get(collection)
    if number is None:
        return [None] * len(keys)
    sealing, seq = db.sealing, db.visible.seq
    if sealing.shards is None:
        return [_seen_now(db, number, key, seq) for key in keys]
    found: list[bytes | None | object] = db.cache.get_many(number, keys)  # what is there is in no memtable
    if None not in found:
        return found
    tables = [table for memtable in sealing.pinned()[1] if (table := memtable.rows.get(number))]
    for place, document in enumerate(found):
        if document is None:
            key = keys[place]
            if any(key in table for table in tables):
                found[place] = _seen_now(db, number, key, seq)
            else:
                found[place] = document = db.read_sealed_now(number, key)
                bytes_max -= len(document) if isinstance(document, bytes) else 0
                if bytes_max < 0:
                    return found[: place + 1]
    return found


def _seen_now(db: Database, collection: int, key: bytes, seq: int) -> bytes | None | object:
    """A document that some memtable holds, as of seq: what is older than both is not for the cache."""
    shards, memtables = db.sealing.pinned()
    for memtable in memtables:
        version = memtable.at(collection, key, seq)
        if version is not None:
            return version[3] if version[2] == PUT else None
    if shards is None:
        return None
    record = shards.find_now(collection, key)
    return None if record is MISSING else COLD if record is COLD else record.doc


async def get(db: Database, collection: str, key: bytes) -> bytes | None:
    found = get_now(db, collection, key)
    if found is COLD:
        view = db.view()
        found = await view.get(view.catalog.ids.get(collection, 0), canonical(decode_value(key)))
    return found


class Cursor:
    """One running find. Not safe for two tasks at once."""

    def __init__(self, documents: AsyncIterator[bytes], view: View, at_hand: Sequence[bytes] = ()) -> None:
        """at_hand: documents that come before the others."""
        self._documents = documents
        self._at_hand = list(at_hand)
        self._given = 0  # of those at hand
        self._ahead: bytes | None = None
        self.view = view
        self.done = False
        self.written = 0  # the last commit that the query itself made ($out, $merge); 0: none. The caller waits for it

    async def next_batch(self, count: int) -> list[bytes]:
        """Up to count documents (fewer when they are large); done is set with the last."""
        batch = self._take_at_hand(count) if self._at_hand else []
        at_hand = bool(self._at_hand)
        size = sum(map(len, batch))
        while not at_hand and len(batch) < count and size < BATCH_BYTES_MAX and not self.done:
            document = self._ahead if self._ahead is not None else await anext(self._documents, None)
            self._ahead = None
            if document is None:
                self.done = True
            else:
                batch.append(document)
                size += len(document)
        if not self.done and not at_hand and self._ahead is None:
            self._ahead = await anext(self._documents, None)
            self.done = self._ahead is None
        return batch

    def _take_at_hand(self, count: int) -> list[bytes]:
        taken = self._at_hand[self._given : self._given + count]
        if sum(map(len, taken)) > BATCH_BYTES_MAX:
            taken, _ = _within(taken, BATCH_BYTES_MAX)
        self._given += len(taken)
        if self._given == len(self._at_hand):
            self._at_hand, self._given = [], 0
        return taken

    async def close(self) -> None:
        self.done = True
        self._at_hand = []
        await self._documents.aclose()


class ReadyCursor(Cursor):
    """A find whose few documents were all found together."""

    def __init__(self, documents: list[bytes], view: View) -> None:
        super().__init__(_none(), view, documents)
        self.done = not documents

    async def next_batch(self, count: int) -> list[bytes]:
        taken = self._take_at_hand(count)
        self.done = not self._at_hand
        return taken

    async def close(self) -> None:
        """Nothing is open; the iterator was never begun."""
        self._at_hand = []
        self.done = True


async def _none() -> AsyncIterator[bytes]:
    return
    yield b""


class WholeCursor(Cursor):
    """A find over everything there is: documents leave as they were kept, unread, in runs."""

    def __init__(self, runs: AsyncIterator[list[bytes]], view: View) -> None:
        super().__init__(runs, view)  # type: ignore[arg-type]
        self._runs = runs
        self._run: list[bytes] = []  # what was read and is not handed out

    async def next_batch(self, count: int) -> list[bytes]:
        batch: list[bytes] = []
        left = BATCH_BYTES_MAX
        while True:
            if not self._run and not self.done:
                self._run = await anext(self._runs, [])
                self.done = not self._run
            if self.done or len(batch) >= count or left <= 0:
                return batch
            taken = self._run[: count - len(batch)]
            if (size := sum(map(len, taken))) > left:
                taken, size = _within(taken, left)
            batch += taken
            left -= size
            self._run = self._run[len(taken) :]

    async def close(self) -> None:
        self._run = []
        await super().close()


def _within(documents: list[bytes], size_max: int) -> tuple[list[bytes], int]:
    """The first documents, up to and with the one that passes so many bytes; and their size."""
    size = 0
    for number, document in enumerate(documents, 1):
        size += len(document)
        if size >= size_max:
            return documents[:number], size
    return documents, size


async def _everything(view: View, collection: str, skip: int, limit: int) -> AsyncIterator[list[bytes]]:
    number = view.catalog.ids.get(collection)
    if number is None:
        return
    end = skip + limit if limit else math.inf
    at = 0
    async for rows in view.scan(number, rows_max=WHOLE_ROWS):
        kept = rows[max(0, skip - at) : min(len(rows), end - at)] if skip or limit else rows
        if kept:
            yield [row[3] for row in kept]
        at += len(rows)
        if at >= end:
            return


async def find(
    db: Database,
    collection: str,
    spec: dict,
    *,
    sort: Sequence[Sequence] | None = None,
    projection: object = None,
    skip: int = 0,
    limit: int = 0,
) -> Cursor:
    """Documents that match, encoded, in commit order or sorted; limit 0 is no limit."""
    check_collection_name(collection)
    view = db.view()
    matches = await compiled(db, compile_filter, spec)
    order = compile_sort(sort) if sort else None
    project = await compiled(db, compile_projection, projection, matches) if projection else None
    if not spec and order is None and project is None:
        return WholeCursor(_everything(view, collection, skip, limit), view)
    if limit and (number := view.catalog.ids.get(collection)) is not None:
        few = await find_few(view, number, matches, sort=order, wanted=skip + limit, is_bare=project is None)
        if few is not None:
            return ReadyCursor(_as_asked(few[skip : skip + limit], project), view)
    return Cursor(_shaped(view, collection, matches, order, project, skip, limit), view)


async def count(db: Database, collection: str, spec: dict, *, skip: int = 0, limit: int = 0) -> int:
    check_collection_name(collection)
    view = db.view()
    matches = await compiled(db, compile_filter, spec)
    collection_id = view.catalog.ids.get(collection)
    total = await count_rows(view, collection_id, matches) if collection_id is not None else 0
    total = max(0, total - skip)
    return min(total, limit) if limit else total


async def estimated_count(db: Database, collection: str) -> int:
    """Documents of a collection. Exact, and quick: the checkpoint knows its number, memtables are small."""
    check_collection_name(collection)
    view = db.view()
    collection_id = view.catalog.ids.get(collection)
    return await view.count(collection_id) if collection_id is not None else 0


def list_collections(db: Database) -> list[str]:
    return db.visible_catalog.names()


async def _shaped(
    view: View,
    collection: str,
    matches: Filter,
    order: Sort | None,
    project: Callable[[dict], dict] | None,
    skip: int,
    limit: int,
) -> AsyncIterator[bytes]:
    collection_id = view.catalog.ids.get(collection)
    if collection_id is None:
        return
    number = 0
    async for batch in find_rows(view, collection_id, matches, sort=order, wanted=skip + limit if limit else 0):
        if project is None:
            some = [found.data for found in batch]
            batch.clear()  # what was decoded is of no use any more, and a cursor may stay open for long
            for data in some:
                number += 1
                if number > skip:
                    yield data
            continue
        for found in batch:
            number += 1
            if number > skip:
                yield encode_projected(project(found.document))


def _as_asked(found: list[Found], project: Callable[[dict], dict] | None) -> list[bytes]:
    if project is None:
        return [one.data for one in found]
    return [encode_projected(project(one.document)) for one in found]


def encode_projected(document: dict) -> bytes:
    """A projection may leave `_id` out: then it is encoded as a bare map."""
    return encode(document) if "_id" in document else encode_value(document)
