"""What a client does: one request after the other, each with an id of its own and a value that is never written twice.

A request whose outcome is unknown (its node died, the link broke) is sent again with the same id until it is answered, so
that retries must apply once. Knows no transport: a Port carries the request.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from storage import encode_document
from storage.errors import TwinlogError

COLLECTIONS = ("c0", "c1", "c2")
RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Request:
    """kind: insert, replace, delete, drop. docs as encoded documents."""

    id: bytes
    kind: str
    collection: str
    docs: tuple[bytes, ...] = ()
    key: int = 0
    many: bool = False
    upsert: bool = False


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


def draw_request(rng: random.Random, number: Callable[[], int], keys: int) -> Request:
    collection = rng.choice(COLLECTIONS)
    kind = rng.choices(["insert", "replace", "delete", "drop"], [6, 4, 2, 0.15])[0]
    key = rng.randint(0, keys)
    docs: tuple[bytes, ...] = ()
    if kind == "insert":
        size = rng.choice([1, 1, 2, 5, 12])
        docs = tuple(draw_document(rng, rng.randint(0, keys) if rng.random() < 0.3 else 1000 + number(), number()) for _ in range(size))
    elif kind == "replace":
        docs = (draw_document(rng, key, number()),)
    many = kind == "delete" and rng.random() < 0.1
    return Request(rng.randbytes(16), kind, collection, docs, key, many, kind == "replace" and rng.random() < 0.6)


def draw_document(rng: random.Random, key: int, number: int) -> bytes:
    return encode_document({"_id": key, "n": number, "pad": "x" * rng.choice([0, 20, 300])})


async def keep_asking(
    rng: random.Random,
    port: Port,
    number: Callable[[], int],
    keys: int,
    pause_s: float,
    done: Callable[[Request, Answer], None],
    refused: Callable[[Request, TwinlogError], None],
    is_over: Callable[[], bool],
) -> None:
    """A client's life. It ends after the answer that follows is_over()."""
    while not is_over():
        await trio.sleep(rng.expovariate(1 / pause_s))
        request = draw_request(rng, number, keys)
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
                if error.name in ("DuplicateKey",) or rng.random() < 0.5:
                    break
                if is_over():
                    return
                await trio.sleep(rng.uniform(0.5, 1.5) * RETRY_S)
                continue
            done(request, answer)
            break
