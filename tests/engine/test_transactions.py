"""Transactions: own writes, a snapshot that does not move, conflicts by name, verbs of every kind inside, bounds and ends."""

from __future__ import annotations

import pytest
import trio

from storage import Database, MemoryDisk, decode_document, decode_value, encode_document, operations
from storage.errors import (
    BadQuery,
    DuplicateKey,
    NoSuchTransaction,
    OperationNotSupportedInTransaction,
    Overloaded,
    TransactionTooLarge,
    WriteConflict,
)
from storage.operations import Action
from tests.engine.model import insert, new_database, opened, settled

THINGS = "things"


async def found(db, collection: str = THINGS, spec: dict | None = None, **options) -> list[dict]:
    cursor = await operations.find(db, collection, spec or {}, **options)
    rows: list[dict] = []
    while not cursor.done:
        rows += [decode_document(data) for data in await cursor.next_batch(100)]
    return rows


async def values(db, collection: str = THINGS, spec: dict | None = None) -> dict:
    return {row["_id"]: row.get("n") for row in await found(db, collection, spec)}


async def set_n(db, key: object, n: int) -> operations.WriteResult:
    return await operations.update(db, THINGS, {"_id": key}, {"$set": {"n": n}})


async def test_a_transaction_sees_its_own_writes_and_others_see_them_after_the_commit() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *({"_id": n, "n": n} for n in range(4)))
        await settled(db, db.position.seq)
        end = db.position
        tx = db.transactions.begin()
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 9, "n": 9})])
        await operations.insert(tx.scope, "others", [encode_document({"_id": 1, "n": 1})])
        await set_n(tx.scope, 1, 11)
        await operations.delete(tx.scope, THINGS, {"_id": 2})
        inside = {0: 0, 1: 11, 3: 3, 9: 9}
        assert await values(tx.scope) == inside
        assert await values(tx.scope, "others") == {1: 1}
        assert operations.list_collections(tx.scope) == ["others", THINGS]
        assert (db.position, await values(db)) == (end, {n: n for n in range(4)})
        result = await tx.commit()
        assert result.seq == end.seq + 1 == db.position.seq
        await settled(db, result.seq)
        assert await values(db) == inside
        assert await values(db, "others") == {1: 1}
        with pytest.raises(NoSuchTransaction, match="committed"):
            await values(tx.scope)


async def test_who_commits_second_meets_a_conflict_that_names_the_document() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": "a", "n": 1}, {"_id": "b", "n": 1})
        first, second = db.transactions.begin(), db.transactions.begin()
        await set_n(first.scope, "a", 2)
        await set_n(second.scope, "a", 3)
        await first.commit()
        with pytest.raises(WriteConflict, match="'a'.*run it again") as met:
            await second.commit()
        assert decode_value(met.value.fields["key"]) == "a"
        assert met.value.fields["collection"] == f"{db.name}.{THINGS}"
        assert (db.transactions.open, db.transactions.bytes) == (0, 0)
        await settled(db, db.position.seq)
        assert await values(db) == {"a": 2, "b": 1}
