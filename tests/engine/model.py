"""What the engine tests share: opening an engine over a memory disk, writing plain documents, and reading all of them back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from storage import (
    Database,
    Engine,
    EngineOptions,
    MemoryDisk,
    Seams,
    SyncMode,
    WorkHere,
    canonical,
    decode_document,
    encode_document,
    operations,
)


def memory_seams(disk: MemoryDisk, *, start: int = 1) -> Seams:
    """A clock that ticks a microsecond a look, entropy that counts."""
    ticks, drops = count(1_700_000_000_000_000 + start * 10**9), count(start * 10**6)
    return Seams(disk, lambda: next(ticks), lambda n: next(drops).to_bytes(n, "big"), WorkHere(disk))


def options(sync_mode: SyncMode = SyncMode.SYNC, **changes: object) -> EngineOptions:
    values: dict = {"sync_mode": sync_mode, "shards": 2, "free_bytes_min": 0, "copy_grace_s": 0.0}
    return EngineOptions(**{**values, **changes})


@asynccontextmanager
async def opened(disk: MemoryDisk, *, start: int = 1, **changes: object) -> AsyncIterator[Engine]:
    async with Engine.open(memory_seams(disk, start=start), options=options(**changes)) as engine:
        yield engine


async def new_database(engine: Engine, name: str = "db") -> Database:
    """A database in its first reign."""
    database = await engine.create_database(name)
    await settled(database, database.begin_reign(1))
    return database


async def settled(database: Database, seq: int) -> int:
    database.flush()
    await database.visible_advance.wait_for(seq)
    return seq


async def insert(database: Database, *documents: dict, collection: str = "things") -> operations.WriteResult:
    result = await operations.insert(database, collection, [encode_document(doc) for doc in documents])
    await settled(database, result.seq)
    return result


async def everything(database: Database, collection: str = "things") -> list[dict]:
    cursor = await operations.find(database, collection, {})
    found: list[dict] = []
    while not cursor.done:
        found += [decode_document(data) for data in await cursor.next_batch(100)]
    return found


async def check_entries(database: Database, collection: str = "things") -> None:
    """The entries of every unique index that is ready are exactly those of the documents that are there."""
    view = database.end_view()
    number = view.catalog.ids.get(collection)
    documents = {row[2]: decode_document(row[3]) async for rows in view.scan(number) for row in rows} if number else {}
    for index in view.catalog.unique.get(number, ()):
        held = {row[2]: decode_document(row[3]) async for rows in view.scan(index.number) for row in rows}
        assert all(canonical(entry["_id"]) == key for key, entry in held.items())
        found = {key: entry["k"] for key, entry in held.items()}
        wanted: dict[bytes, bytes] = {}
        for key, document in documents.items():
            for entry in index.entries(document):
                assert index.spec.is_building or wanted.setdefault(entry, key) == key, f"{entry!r} stands twice"
                wanted[entry] = key
        if not index.spec.is_building:
            assert found == wanted
    hidden = {index.number for indexes in view.catalog.unique.values() for index in indexes}
    assert {number for name, number in view.catalog.ids.items() if name.startswith("$")} == hidden
