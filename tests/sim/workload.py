"""What a client does: one request after the other, each with an id of its own and a value that is never written twice.

A request whose outcome is unknown (its node died, the link broke) is sent again with the same id until it is answered, so
that retries must apply once. Knows no transport: a Port carries the request.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from storage import encode_document
from storage.errors import TwinlogError
from tests.sim.machine import STARTED_US
from tests.sim.swarm import Workload

COLLECTIONS = ("c0", "c1", "c2")
INDEXES: dict[str, tuple[list, dict[str, Any]]] = {
    "unique": ([["v", 1]], {"unique": True, "name": "unique"}),
    "sparse": ([["u", 1]], {"unique": True, "sparse": True, "name": "sparse"}),
    "ttl": ([["at", 1]], {"expireAfterSeconds": 1, "name": "ttl"}),
}
RETRY_S = 0.2
FINAL_ERRORS = ("DuplicateKey", "BadIndex", "IndexNotFound")
_EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Request:
    """kind: insert, replace, update, delete, drop, index, drop index. docs as encoded documents; index: a key of INDEXES."""

    id: bytes
    kind: str
    collection: str
    docs: tuple[bytes, ...] = ()
    key: int = 0
    many: bool = False
    upsert: bool = False
    change: dict[str, Any] | None = None
    index: str = ""

    @property
    def filter(self) -> dict[str, Any]:
        """Of what it replaces, updates or deletes."""
        return {"_id": {"$gte": self.key, "$lt": self.key + 10}} if self.many else {"_id": self.key}


@dataclass(frozen=True, slots=True)
class Answer:
    """A request was done and acknowledged. changed: how many documents; with 0 there may be no commit."""

    node: str
    epoch: int
    seq: int
    changed: int


class NoAnswer(Exception):
    """The outcome is unknown, or there is nobody to ask: try again later."""


class Port(Protocol):
    """How a client reaches the cluster."""

    async def call(self, request: Request) -> Answer:
        """Raises NoAnswer, or the TwinlogError the node answered with."""


def draw_request(rng: random.Random, number: Callable[[], int], keys: int, workload: Workload) -> Request:
    collection = rng.choice(COLLECTIONS)
    usual = {kind: weight for kind, weight in workload.requests.items() if kind != "transaction"}
    kind = rng.choices(list(usual), list(usual.values()))[0]
    key, name = rng.randint(0, keys), rng.randbytes(16)
    if kind == "insert":
        size = rng.choice([1, 1, 2, 5, 12])
        ids = [rng.randint(0, keys) if rng.random() < 0.3 else 1000 + number() for _ in range(size)]
        return Request(name, kind, collection, tuple(draw_document(rng, each, number(), keys) for each in ids), key)
    if kind == "replace":
        return Request(name, kind, collection, (draw_document(rng, key, number(), keys),), key, upsert=rng.random() < 0.6)
    if kind == "update":
        return Request(
            name, kind, collection, (), key, rng.random() < 0.2, rng.random() < 0.3, _draw_change(rng, number(), keys)
        )
    if kind == "delete":
        return Request(name, kind, collection, (), key, rng.random() < 0.1)
    if kind in ("index", "drop index"):
        if not workload.index_kinds:
            return Request(name, "delete", collection, (), key)
        return Request(name, kind, collection, (), key, index=rng.choice(workload.index_kinds))
    return Request(name, kind, collection, (), key)


def _draw_change(rng: random.Random, number: int, keys: int) -> dict[str, Any]:
    changed: dict[str, Any] = {"n": number}
    if rng.random() < 0.1:
        changed["u"] = rng.randint(0, 3 * keys)
    return {"$inc": {"count": 1}, "$set": changed}


def draw_document(rng: random.Random, key: int, number: int, keys: int) -> bytes:
    """n is never written twice; v seldom meets another's, u often, where it is there; at is a time about now."""
    document: dict[str, Any] = {"_id": key, "n": number, "v": rng.randint(0, keys) if rng.random() < 0.02 else 10**6 + number}
    if rng.random() < 0.3:
        document["u"] = rng.randint(0, 3 * keys)
    if rng.random() < 0.2:
        now_us = STARTED_US + int((trio.current_time() + rng.uniform(-2.0, 2.0)) * 1000) * 1000
        document["at"] = _EPOCH + datetime.timedelta(microseconds=now_us)
    return encode_document({**document, "pad": "x" * rng.choice([0, 20, 300])})


async def keep_asking(
    rng: random.Random,
    port: Port,
    number: Callable[[], int],
    keys: int,
    pause_s: float,
    workload: Workload,
    done: Callable[[Request, Answer], None],
    refused: Callable[[Request, TwinlogError], None],
    is_over: Callable[[], bool],
) -> None:
    """A client's life. It ends after the answer that follows is_over()."""
    while not is_over():
        await trio.sleep(rng.expovariate(1 / pause_s))
        request = draw_request(rng, number, keys, workload)
        again = rng.random() < workload.twice and request.kind not in ("index", "drop", "drop index")
        while True:
            try:
                answer = await port.call(request)
            except NoAnswer:
                if is_over():
                    return
                await trio.sleep(rng.uniform(0.5, 1.5) * RETRY_S)
                continue
            except TwinlogError as error:
                refused(request, error)
                if error.name in FINAL_ERRORS or rng.random() < 0.5:
                    break
                if is_over():
                    return
                await trio.sleep(rng.uniform(0.5, 1.5) * RETRY_S)
                continue
            done(request, answer)
            if not again:
                break
            again = False
            await trio.sleep(rng.expovariate(1 / pause_s))
