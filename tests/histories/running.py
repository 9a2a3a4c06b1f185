"""Running: many clients at once, each one transaction after the other, upon an embedded engine; what they saw is the history.

Keys are few, so that transactions conflict; between two verbs a client lets the others go on; the memtable is small, so that seals come in
between. A tenth of the transactions abort, a tenth of the writes are plain ones outside of any transaction.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import trio

from storage import (
    Database,
    Engine,
    EngineOptions,
    MemoryDisk,
    Seams,
    SyncMode,
    WorkHere,
    decode_document,
    encode_value,
    operations,
)
from storage.errors import WriteConflict
from storage.operations import Action

from .history import INITIAL, Outcome, Read, Transaction, Value, Write

COLLECTIONS = ("even", "odd")
GROUPS = 4
VERBS_MAX = 5


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is to be run."""

    transactions: int = 1_000
    seed: int = 0
    clients: int = 16
    keys: int = 48
    memtable_records_max: int = 4_000


@dataclass(slots=True)
class Ran:
    """What came of it."""

    history: list[Transaction] = field(default_factory=list)
    conflicts: int = 0
    seals: int = 0


@asynccontextmanager
async def _opened(plan: Plan) -> AsyncIterator[Database]:
    disk, ticks, rng = MemoryDisk(), count(1_700_000_000_000_000), random.Random(plan.seed)
    seams = Seams(disk, lambda: next(ticks), rng.randbytes, WorkHere(disk))
    options = EngineOptions(
        sync_mode=SyncMode.SYNC, shards=2, free_bytes_min=0, memtable_records_max=plan.memtable_records_max, index_rows_min=1
    )
    async with Engine.open(seams, options=options) as engine:
        database = await engine.create_database("db")
        seq = database.begin_reign(1)
        database.flush()
        await database.visible_advance.wait_for(seq)
        yield database


async def run(plan: Plan) -> Ran:
    """Every transaction of the plan, with positions."""
    ran = Ran()
    async with _opened(plan) as database, trio.open_nursery() as nursery:
        clients = _Clients(database, plan, ran)
        for number in range(plan.clients):
            nursery.start_soon(clients.work, number)
        seen = None
        while len(ran.history) < plan.transactions:
            if database.sealing.checkpoint is not seen:
                ran.seals, seen = ran.seals + 1, database.sealing.checkpoint
            await trio.sleep(0.005)
    del ran.history[plan.transactions + plan.clients :]
    return ran


class _Clients:
    """Those who run transactions upon one database."""

    def __init__(self, database: Database, plan: Plan, ran: Ran) -> None:
        self._db = database
        self._plan = plan
        self._ran = ran
        self._values = count(1)

    async def work(self, number: int) -> None:
        rng = random.Random(f"{self._plan.seed} {number}")
        history = self._ran.history
        while len(history) < self._plan.transactions:
            if rng.random() < 0.1:
                history.append(await self._plain(rng, number))
            else:
                history.append(await self._transaction(rng, number))
            self._db.flush()
            await trio.lowlevel.checkpoint()

    async def _plain(self, rng: random.Random, number: int) -> Transaction:
        made = Transaction(session=number)
        result = await self._replace(self._db, rng.randrange(self._plan.keys), made)
        made.commit = result.seq
        self._db.flush()
        await self._db.visible_advance.wait_for(result.seq)  # as a client does: so its session goes on from there
        return made

    async def _transaction(self, rng: random.Random, number: int) -> Transaction:
        transaction = self._db.transactions.begin()
        made = Transaction(session=number, snapshot=transaction.position.seq)
        for _ in range(rng.randrange(1, VERBS_MAX + 1)):
            key = rng.randrange(self._plan.keys)
            match rng.randrange(8):
                case 0 | 1 | 2:
                    await self._read(transaction.scope, key, made)
                case 3:
                    await self._read_group(transaction.scope, key, rng.randrange(GROUPS), made)
                case 4:
                    await self._overwrite(transaction.scope, key, made)
                case _:
                    await self._replace(transaction.scope, key, made)
            await trio.lowlevel.checkpoint()
        if rng.random() < 0.1:
            transaction.abort()
            made.outcome = Outcome.ABORTED
            return made
        try:
            result = await transaction.commit()
        except WriteConflict:
            self._ran.conflicts += 1
            made.outcome = Outcome.ABORTED
            return made
        if any(isinstance(operation, Write) for operation in made.operations):
            made.commit = result.seq
            self._db.flush()
            await self._db.visible_advance.wait_for(result.seq)
        return made

    async def _read(self, db: object, key: int, made: Transaction) -> None:
        data = await operations.get(db, COLLECTIONS[key % 2], encode_value(key))
        made.operations.append(Read(key, INITIAL if data is None else decode_document(data)["v"]))

    async def _read_group(self, db: object, key: int, group: int, made: Transaction) -> None:
        """By a field, so by index."""
        cursor = await operations.find(db, COLLECTIONS[key % 2], {"g": group})
        found: dict[int, Value] = {}
        while not cursor.done:
            for document in map(decode_document, await cursor.next_batch(100)):
                assert document["_id"] not in found, "a document was found twice"
                found[document["_id"]] = document["v"]
        of_group = [each for each in range(key % 2, self._plan.keys, 2) if _group(each) == group]
        made.operations += [Read(each, found.get(each, INITIAL)) for each in of_group]

    async def _replace(self, db: object, key: int, made: Transaction) -> operations.WriteResult:
        """Write a new value and hear of the old one."""
        value = next(self._values)
        change = {"$set": {"v": value, "g": _group(key)}}
        result, old = await operations.find_one_and(
            db, COLLECTIONS[key % 2], {"_id": key}, action=Action.UPDATE, change=change, upsert=True
        )
        made.operations += [Read(key, INITIAL if old is None else decode_document(old)["v"]), Write(key, value)]
        return result

    async def _overwrite(self, db: object, key: int, made: Transaction) -> None:
        value = next(self._values)
        change = {"$set": {"v": value, "g": _group(key)}}
        await operations.update(db, COLLECTIONS[key % 2], {"_id": key}, change, upsert=True)
        made.operations.append(Write(key, value))


def _group(key: int) -> int:
    return key // 2 % GROUPS
