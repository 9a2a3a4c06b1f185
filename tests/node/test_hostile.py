"""Whatever values the requests carry, the answer is a result or a refusal by name: never a bug of the node's, never silence."""

from __future__ import annotations

from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

import storage
from node import wire

from .fakes import connect, document, open_rig

PLACE = ("d", "c")
NAMES = ["$set", "$inc", "$push", "$each", "$match", "$group", "$sum", "$out", "$limit", "$gt", "$in", "$expr", "a", "_id", "a.b", ""]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=True) | st.sampled_from(["", "a", "$a", "x", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)
raws = values.map(lambda plain: Raw(storage.encode_value(plain)))
maps = st.dictionaries(st.sampled_from(NAMES), values, max_size=2)
raw_maps = maps.map(lambda plain: Raw(storage.encode_value(plain)))
raw_lists = st.lists(maps, max_size=3).map(lambda plain: Raw(storage.encode_value(plain)))
texts = st.sampled_from(["", "a", "a.b", "$a", "a..b", "*", "_id_", "find", "count", "distinct", "aggregate"])
flags = st.booleans()
options = st.dictionaries(
    st.sampled_from(["many", "upsert", "sort", "array_filters", "unique", "sparse", "name", "partialFilterExpression", "x"]), values
).map(lambda plain: Raw(storage.encode_value(plain)))
explained = st.dictionaries(st.sampled_from(["filter", "sort", "skip", "limit", "path", "pipeline"]), values).map(
    lambda plain: Raw(storage.encode_value(plain))
)
filters = raw_maps | raws
changes = raw_maps | raw_lists | raws

REQUESTS = st.one_of(
    st.tuples(st.just(wire.Find), st.tuples(filters, raws, raws, st.just(0), st.just(0), st.just(5), st.none(), st.just(0), raws)),
    st.tuples(st.just(wire.Update), st.tuples(filters, changes, flags, flags, raws, raws)),
    st.tuples(
        st.just(wire.FindAndModify),
        st.tuples(filters, st.sampled_from(["update", "replace", "delete"]), changes, raws, raws, flags, flags, raws),
    ),
    st.tuples(st.just(wire.Aggregate), st.tuples(raw_lists | raws, st.just(5), st.just(0), raw_maps | raws)),
    st.tuples(st.just(wire.Distinct), st.tuples(texts, filters)),
    st.tuples(st.just(wire.Explain), st.tuples(texts, explained | raws)),
    st.tuples(st.just(wire.CreateIndexes), st.tuples(st.lists(st.tuples(raws, options | raws).map(list), min_size=1, max_size=2))),
    st.tuples(st.just(wire.DropIndex), st.tuples(texts)),
    st.tuples(
        st.just(wire.Bulk),
        st.tuples(st.lists(st.tuples(st.just(Raw(b"\xa6update")), filters, changes, options | raws).map(list), min_size=1, max_size=2)),
    ),
    st.tuples(st.just(wire.Replace), st.tuples(filters, raws, flags, st.just(b""), raws)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=8))
def test_no_value_is_a_bug_of_the_node(requests: list[tuple[type[wire.Request], tuple[Any, ...]]]) -> None:
    async def play() -> None:
        async with trio.open_nursery() as nursery, open_rig() as rig, connect(rig, nursery) as client:
            await client.call(wire.Insert, *PLACE, [document(id=1, a=1), document(id=2, a=[1, {"b": "x"}], text="text")])
            for kind, arguments in requests:
                answer = await client.ask(kind, *PLACE, *arguments)
                if isinstance(answer, wire.Failure):
                    assert answer.name != "InternalError", (kind, arguments, answer)
                    assert answer.name != "BadMessage"
            assert await client.call(wire.Ping) == {}
            nursery.cancel_scope.cancel()

    trio.run(play)
