"""Transactions of the simulated clients, and what each saw and did.

    read-modify-write    a counter in a document that many want
    append               a value that is never written twice, to the end of a list
    transfer             from one account to another: two documents change, or none
    remove               a document goes, which the next one that wants it makes anew
    look                 reads only, on any node, standbys included

A transaction whose commit nobody answered may have happened or not; the checker (checkers_of_transactions.py) finds out from the log. They
go by the engine's own calls, as the embedded client's do, inside the lifeline of the node's machine.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import trio

from storage import Database, encode_document, encode_value, operations
from storage.errors import TwinlogError, of_disk
from storage.values.documents import decode
from storage.values.keys import canonical
from tests.sim.disk import SimCrash
from tests.sim.faults import shown
from tests.sim.observations import Acknowledged, Observations, Transacted
from tests.sim.swarm import Workload
from tests.sim.trace import Trace

COLLECTION = "t"
CONTENDED = 5  # documents
THINK_S = 0.05
KINDS = {"read-modify-write": 3.0, "append": 3.0, "transfer": 3.0, "remove": 1.0, "look": 2.0, "across": 1.0}


@dataclass(frozen=True, slots=True)
class Target:
    """A node as a transaction uses it. waits: until its answer may leave."""

    node: str
    database: Database
    lifeline: Callable[[], AbstractContextManager[trio.CancelScope]]
    waits: Callable[[int], Awaitable[None]]


@dataclass(slots=True)
class _Notes:
    """Of one transaction, while it runs."""

    reads: list[tuple[str, bytes, bytes | None]] = field(default_factory=list)
    writes: list[tuple[str, bytes]] = field(default_factory=list)


class Transactor:
    """One client."""

    def __init__(
        self,
        rng: random.Random,
        primary: Callable[[], Target | None],
        anybody: Callable[[], Target | None],
        number: Callable[[], int],
        observations: Observations,
        trace: Trace,
    ) -> None:
        self._rng = rng
        self._primary = primary
        self._anybody = anybody
        self._number = number
        self._observations = observations
        self._trace = trace

    async def keep_transacting(self, pause_s: float, workload: Workload, is_over: Callable[[], bool]) -> None:
        weight = workload.requests.get("transaction", 0.0)
        if not weight:
            return
        while not is_over():
            await trio.sleep(self._rng.expovariate(weight / (4.0 * pause_s)))
            kind = self._rng.choices(list(KINDS), list(KINDS.values()))[0]
            target = self._anybody() if kind == "look" else self._primary()
            if target is None or not hasattr(target.database, "transactions"):
                continue
            await self._once(kind, target)

    async def _once(self, kind: str, target: Target) -> None:
        request, notes, database = self._rng.randbytes(16), _Notes(), target.database
        outcome, seq, began_s = "unknown", 0, trio.current_time()
        chain = database.visible_chain
        try:
            with target.lifeline():
                transaction = database.transactions.begin()
                try:
                    await self._work(kind, transaction.scope, notes)
                    if self._rng.random() < 0.1:
                        outcome = "aborted"
                    else:
                        result = await transaction.commit(request=request)
                        database.flush()
                        seq = result.seq
                        await target.waits(seq)
                        outcome = "committed"
                finally:
                    transaction.abort()
        except SimCrash:
            pass
        except (TwinlogError, OSError) as error:
            named = error if isinstance(error, TwinlogError) else of_disk(error, kind)
            if seq == 0:  # an error that comes while the answer waits says nothing of the commit
                outcome = "unknown" if named.name == "DiskFailed" else "aborted"
            self._trace.note("client", "transaction", kind, "ends by", named.name)
        except Exception as error:
            self._observations.crashes.append(f"transaction: {shown(error)}")
            return
        self._trace.note("client", "transaction", kind, request.hex()[:8], outcome, seq)
        transacted = Transacted(
            request, target.node, began_s, chain, tuple(notes.reads), tuple(notes.writes) if outcome != "aborted" else (), outcome
        )
        self._observations.transacted.append(transacted)
        if outcome == "committed" and notes.writes:
            self._observations.acknowledged.append(
                Acknowledged(request, target.node, trio.current_time(), database.position.epoch, seq)
            )

    async def _work(self, kind: str, scope: Any, notes: _Notes) -> None:
        first, second = self._rng.sample(range(CONTENDED), 2)
        held = await self._read(scope, notes, first)
        if kind == "look":
            for key in self._rng.sample(range(CONTENDED), 3):
                await trio.sleep(self._rng.expovariate(1 / THINK_S))
                await self._read(scope, notes, key)
        elif kind == "remove":
            await trio.sleep(self._rng.expovariate(1 / THINK_S))
            if "_id" in held:
                notes.writes.append((COLLECTION, canonical(first)))
                await operations.delete(scope, COLLECTION, {"_id": first}, many=False)
        elif kind == "append":
            await trio.sleep(self._rng.expovariate(1 / THINK_S))
            await self._write(scope, notes, first, {**held, "list": [*held.get("list", [])[-20:], self._number()]})
        elif kind == "transfer":
            other = await self._read(scope, notes, second)
            await self._write(scope, notes, first, {**held, "n": held["n"] - 1})
            await trio.sleep(self._rng.expovariate(1 / THINK_S))
            await self._write(scope, notes, second, {**other, "n": other["n"] + 1})
        elif kind == "across":  # what other clients write too, in another collection
            await self._write(scope, notes, first, {**held, "n": held["n"] + 1})
            await self._write(scope, notes, self._rng.randint(0, 10), {"n": self._number(), "v": 10**6 + self._number()}, "c0")
        else:
            await trio.sleep(self._rng.expovariate(1 / THINK_S))
            await self._write(scope, notes, first, {**held, "n": held["n"] + 1})

    async def _read(self, scope: Any, notes: _Notes, key: int) -> dict[str, Any]:
        found = await operations.get(scope, COLLECTION, encode_value(key))
        if all((COLLECTION, canonical(key)) != written for written in notes.writes):
            notes.reads.append((COLLECTION, canonical(key), found))
        return {"n": 0, **(decode(found) if found is not None else {})}

    async def _write(self, scope: Any, notes: _Notes, key: int, document: dict[str, Any], collection: str = COLLECTION) -> None:
        document = {"_id": key, **{name: value for name, value in document.items() if name != "_id"}}
        notes.writes.append((collection, canonical(key)))
        await operations.replace_one(scope, collection, {"_id": key}, encode_document(document), upsert=True)
