"""Hostile requests over the client wire: each is refused by name or answered, and whoever pings beside them is answered all the while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from bson import Regex
from msgspec import Raw

from node import wire
from storage import Seams, errors
from tests.node.fakes import BareClient, Rig, connect, document, open_rig, value

DB, COLLECTION = "db", "things"


def nested(levels: int) -> bytes:
    """A filter that no document could hold, as a client without scruples would write it."""
    return b"\x81\xa4$and\x91" * levels + b"\x81\xa1a\x01"


def doubled(stages: int) -> list[dict[str, Any]]:
    return [{"$project": {"x": ["$x", "$x"]}}] * stages


def find(spec: Any, **more: Any) -> tuple[type[wire.Request], tuple, dict]:
    return wire.Find, (DB, COLLECTION, value(spec)), {name: value(given) for name, given in more.items()}


def update(change: Any, **more: Any) -> tuple[type[wire.Request], tuple, dict]:
    return wire.Update, (DB, COLLECTION, value({"_id": 1}), value(change)), {name: value(given) for name, given in more.items()}


def aggregate(*stages: Any) -> tuple[type[wire.Request], tuple, dict]:
    return wire.Aggregate, (DB, COLLECTION, value(list(stages))), {}


REFUSED = [
    (find({"$nonsense": 1}), "BadQuery", 2),
    (find({"$where": "sleep(10000)"}), "BadQuery", 2),
    (find({"a": {"$regex": "("}}), "BadQuery", 51091),
    (find({"t": Regex("(a+)+\\1$", "")}), "BadQuery", 51156),
    (find({"t": {"$regex": "(?:(?:a?){100}){100}(?=b)"}}), "BadQuery", 51156),
    (find({"a": {"$in": {"b": 1}}}), "BadQuery", 2),
    (find({"$or": [{"a": {"$nonsense": n}} for n in range(10_000)]}), "BadQuery", 2),
    (find({"$expr": {"$nonsense": 1}}), "BadQuery", 168),
    (find({}, sort=[["$a", 1]]), "BadQuery", 16410),
    (find({}, projection={"a": 1, "b": 0}), "BadQuery", 31254),
    ((wire.Find, (DB, COLLECTION, Raw(nested(150))), {}), "BadDocument", 2),
    (update({"a": 1}), "BadQuery", 9),
    (update({"$set": {"a": 1, "a.b": 2}}), "BadQuery", 40),
    (update({"$set": {f"f{n}": n for n in range(10_001)}}), "BadQuery", 2),
    (update({"$set": {"a.$[x]": 1}}, array_filters=[{"x": 1, "y": 1}]), "BadQuery", 9),
    (aggregate({"$nonsense": {}}), "BadQuery", 40324),
    (aggregate(*doubled(45)), "BadQuery", 10334),
    (aggregate({"$project": {"x": {"$range": [0, 10**7]}}}), "BadQuery", 146),
    (
        aggregate({"$project": {"x": {"$sum": {"$map": {"input": {"$range": [0, 10**6]}, "in": {"$size": {"$range": [0, 10**6]}}}}}}}),
        "BadQuery",
        146,
    ),
    (aggregate({"$match": {"$or": [{"a": {"$nonsense": n}} for n in range(1_000)]}}), "BadQuery", 2),
]
LARGE = [
    find({"$or": [{"a": {"$gt": n, "$lt": 0}} for n in range(10_000)]}),
    find({"a": {"$in": list(range(10, 100_000))}}),
    find({f"f{n}": n for n in range(10_000)}),
    find({".".join("0" * 40): "nowhere"}),
    aggregate({"$match": {"$and": [{"a": {"$ne": n}} for n in range(3_000)]}}),
]


@asynccontextmanager
async def filled(seams: Seams | None = None) -> AsyncIterator[tuple[Rig, BareClient, BareClient]]:
    """A node with a few documents, and two clients of it."""
    async with open_rig(seams=seams) as rig, trio.open_nursery() as nursery:
        async with connect(rig, nursery) as one, connect(rig, nursery) as other:
            held: Any = 1
            for _ in range(40):
                held = [{"0": held}]
            documents = [document(id=n, a=n) for n in range(3)] + [document(id="long", t="a" * 10_000 + "c"), document(**{"id": "deep", "0": held})]
            await one.call(wire.Insert, DB, COLLECTION, documents)
            yield rig, one, other
        nursery.cancel_scope.cancel()


async def ask_all(client: BareClient) -> None:
    for (kind, arguments, more), name, code in REFUSED:
        answer = await client.ask(kind, *arguments, **more)
        assert isinstance(answer, wire.Failure), f"{kind.__name__} {more} was answered"
        error = errors.from_wire(answer.name, answer.message, answer.fields)
        assert (error.name, error.code) == (name, code), error
        assert "Traceback" not in answer.message
    for kind, arguments, more in LARGE:
        assert not isinstance(await client.ask(kind, *arguments, **more), wire.Failure)


async def test_hostile_requests_are_refused_by_name_while_others_are_served():
    async with filled() as (_, hostile, friend):
        pings = 0
        async with trio.open_nursery() as nursery:

            async def ping() -> None:
                nonlocal pings
                while True:
                    assert await friend.call(wire.Ping) == {}
                    pings += 1

            nursery.start_soon(ping)
            await ask_all(hostile)
            nursery.cancel_scope.cancel()
        assert pings > len(REFUSED)
