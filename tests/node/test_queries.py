"""Updates, aggregation, declared indexes and time budgets over the client port: what each verb answers, and to whom."""

from __future__ import annotations

import msgspec
import pytest
import trio
from msgspec import Raw

from node import wire
from node.arguments import bulk_of
from node.cursors import OpenCursor
from node.users import Role
from storage import MaxTimeMSExpired, TimeBudget, errors

from .fakes import BareClient, connect, document, open_rig, value
from .test_cursors import Source
from .test_service import _user

PLACE = ("chat", "messages")


async def _insert(client: BareClient, count: int) -> None:
    documents = [document(id=i, room=i % 3, text=f"m{i}") for i in range(count)]
    await client.call(wire.Insert, *PLACE, documents)


async def test_an_update_answers_what_it_changed_and_what_it_made(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 6)
        change = value({"$set": {"seen": True}})
        answer = await client.call(wire.Update, *PLACE, value({"room": 1}), change, many=True)
        assert answer == {"matched": 2, "modified": 2, "upserted": None}
        answer = await client.call(wire.Update, *PLACE, value({"room": 1}), change, many=True)
        assert answer == {"matched": 2, "modified": 0, "upserted": None}
        answer = await client.call(wire.Update, *PLACE, value({"_id": "new"}), change, upsert=True)
        assert answer == {"matched": 0, "modified": 0, "upserted": "new"}
        newest = value([["_id", -1]])
        await client.call(wire.Update, *PLACE, value({"room": 0}), value([{"$set": {"last": True}}]), sort=newest)
        assert (await client.call(wire.Get, *PLACE, value(3)))["doc"]["last"] is True


async def test_a_write_that_comes_again_is_answered_and_not_done_again(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        for _ in range(2):
            answer = await client.call(
                wire.Update, *PLACE, value({"_id": 0}), value({"$inc": {"n": 1}}), request=b"one"
            )
            assert answer == {"matched": 1, "modified": 1, "upserted": None}
        for _ in range(2):
            answer = await client.call(
                wire.FindAndModify, *PLACE, value({"_id": 0}), "update", value({"$inc": {"n": 1}}), after=True, request=b"two"
            )
            assert answer["doc"]["n"] == 2


async def test_find_and_modify_answers_the_document_before_or_after(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 3)
        change = value({"$set": {"text": "new"}})
        only_text = value({"text": 1, "_id": 0})
        answer = await client.call(wire.FindAndModify, *PLACE, value({"_id": 1}), "update", change, projection=only_text)
        assert answer == {"doc": {"text": "m1"}, "matched": 1, "modified": 1, "deleted": 0, "upserted": None}
        answer = await client.call(
            wire.FindAndModify, *PLACE, value({}), "replace", document(id=2, text="put"), sort=value([["_id", -1]]), after=True
        )
        assert answer["doc"] == {"_id": 2, "text": "put"}
        answer = await client.call(wire.FindAndModify, *PLACE, value({"_id": 2}), "delete")
        assert (answer["doc"], answer["deleted"]) == ({"_id": 2, "text": "put"}, 1)
        answer = await client.call(wire.FindAndModify, *PLACE, value({"_id": 2}), "delete")
        assert (answer["doc"], answer["deleted"]) == (None, 0)
        with pytest.raises(errors.BadQuery) as refused:
            await client.call(wire.FindAndModify, *PLACE, value({}), "delete", change)
        assert refused.value.code == 9


async def test_an_aggregation_is_a_cursor_and_goes_on_with_more(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 10)
        stages = [{"$match": {"room": {"$gt": 0}}}, {"$sort": {"_id": 1}}, {"$project": {"n": {"$add": ["$_id", "$$by"]}, "_id": 0}}]
        first = await client.call(wire.Aggregate, *PLACE, value(stages), batch=2, let=value({"by": 100}))
        assert first["docs"] == [{"n": 101}, {"n": 102}] and first["cursor"]
        rest = await client.call(wire.More, first["cursor"], 100)
        assert [doc["n"] for doc in rest["docs"]] == [104, 105, 107, 108] and rest["cursor"] == 0
        with pytest.raises(errors.BadQuery) as refused:
            await client.call(wire.Aggregate, *PLACE, value([{"$nonsense": 1}]))
        assert refused.value.code == 40324


async def test_a_pipeline_that_writes_is_acknowledged_as_a_write_inv_1(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 4)
        answer = await client.ask(wire.Aggregate, *PLACE, value([{"$match": {"room": 0}}, {"$out": "rooms"}]))
        assert isinstance(answer, wire.Reply), answer
        db = rig.engine.database("chat")
        assert answer.seq == db.position.seq == db.visible.seq
        assert wire.decode_fields(answer.result) == {"docs": [], "cursor": 0}
        assert await client.call(wire.Count, "chat", "rooms", value({})) == {"n": 2}


async def test_a_reader_may_not_write_by_a_pipeline(nursery):
    users = {"r": _user("r", Role.READ), "w": _user("w", Role.READWRITE)}
    async with open_rig(users=users) as rig, connect(rig, nursery) as reader, connect(rig, nursery) as writer:
        await reader.call(wire.Login, "r", "secret")
        await writer.call(wire.Login, "w", "secret")
        await _insert(writer, 3)
        assert len((await reader.call(wire.Aggregate, *PLACE, value([{"$match": {}}])))["docs"]) == 3
        for stage in ({"$out": "stolen"}, {"$merge": {"into": "messages"}}):
            with pytest.raises(errors.Unauthorized, match="readwrite"):
                await reader.call(wire.Aggregate, *PLACE, value([stage]))
        assert await writer.call(wire.ListCollections, "chat") == {"collections": ["messages"]}


async def test_counts_and_distinct_values(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 10)
        assert await client.call(wire.Count, *PLACE, value({"room": 0}), skip=1) == {"n": 3}
        assert await client.call(wire.Count, *PLACE, value({"room": 0}), limit=2) == {"n": 2}
        assert await client.call(wire.EstimatedCount, *PLACE) == {"n": 10}
        assert await client.call(wire.Distinct, *PLACE, "room", value({"_id": {"$lt": 2}})) == {"values": [0, 1]}


async def test_what_is_asked_of_a_database_that_is_not_there_is_empty(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        nowhere = ("none", "c")
        assert await client.call(wire.EstimatedCount, *nowhere) == {"n": 0}
        assert await client.call(wire.Distinct, *nowhere, "a", value({})) == {"values": []}
        assert await client.call(wire.Aggregate, *nowhere, value([])) == {"docs": [], "cursor": 0}
        assert await client.call(wire.ListIndexes, *nowhere) == {"indexes": []}
        assert await client.call(wire.DropIndex, *nowhere, "a_1") == {}
        with pytest.raises(errors.NoSuchDatabase):
            await client.call(wire.Explain, *nowhere, "find", value({}))
        assert rig.engine.databases == {}


async def test_indexes_are_declared_listed_and_dropped(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        unique = [value([["text", 1]]), value({"unique": True})]
        hint = [value([["room", 1], ["_id", -1]]), value({"name": "by room"})]
        assert await client.call(wire.CreateIndexes, *PLACE, [unique, hint]) == {"names": ["text_1", "by room"]}
        listed = (await client.call(wire.ListIndexes, *PLACE))["indexes"]
        assert [index["name"] for index in listed] == ["_id_", "text_1", "by room"]
        await _insert(client, 2)
        with pytest.raises(errors.DuplicateKey) as refused:
            await client.call(wire.Update, *PLACE, value({"_id": 0}), value({"$set": {"text": "m1"}}))
        assert wire.decode_fields(refused.value.fields["key_value"]) == {"text": "m1"}
        assert await client.call(wire.DropIndex, *PLACE, "text_1") == {}
        with pytest.raises(errors.IndexNotFound):
            await client.call(wire.DropIndex, *PLACE, "text_1")
        assert await client.call(wire.DropIndex, *PLACE, "*") == {}
        assert len((await client.call(wire.ListIndexes, *PLACE))["indexes"]) == 1


async def test_explain_says_what_a_query_did(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 5)
        found = (await client.call(wire.Explain, *PLACE, "find", value({"filter": {"_id": 1}})))["explain"]
        assert found["queryPlanner"]["winningPlan"]["stage"] == "IDHACK"
        with pytest.raises(errors.BadRequest):
            await client.call(wire.Explain, *PLACE, "insert", value({}))


async def test_a_bulk_takes_updates_with_options(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 3)
        seen = value({"$set": {"seen": True}})
        reply = await client.ask(
            wire.Bulk,
            *PLACE,
            [
                [value("update"), value({"_id": 0}), seen],
                [value("update"), value({}), seen, value({"many": True})],
                [value("update"), value({"_id": 9}), seen, value({"upsert": True})],
                [value("update"), value({}), value({"$nonsense": {"a": 1}})],
            ],
        )
        answer = msgspec.msgpack.decode(reply.result)
        assert (answer["matched"], answer["modified"], answer["upserted"]) == (4, 3, {2: 9})
        assert [row[:2] for row in answer["errors"]] == [[3, 9]]


@pytest.mark.parametrize(
    ("write", "match"),
    [
        ([value("update"), value({})], "2 to 3 arguments"),
        ([value("update"), value({}), value({}), value(True)], "must be a map"),
        ([value("delete"), value({}), value({})], "true or false"),
        ([value("insert")], "1 to 1 arguments"),
    ],
)
def test_a_bulk_write_of_another_shape_is_refused_with_its_index(write: list[Raw], match: str):
    with pytest.raises(errors.BadRequest, match=match) as refused:
        bulk_of([[value("insert"), document(id=1)], write])
    assert refused.value.fields["index"] == 1


@pytest.mark.parametrize(
    ("kind", "arguments", "code"),
    [
        (wire.Update, (value({}), value(5)), 9),
        (wire.Update, (value({}), value({"a": 1})), 9),
        (wire.Update, (value({}), value({"$set": {"a": 1}}), False, False, value({"x": 1})), 14),
        (wire.Aggregate, (value({"$match": {}}),), 14),
        (wire.Aggregate, (value([]), 1, 0, value([1])), 14),
        (wire.Find, (value({}), value(None), value(None), 0, 0, 1, None, 0, value(5)), 9),
        (wire.Explain, ("find", value([])), 9),
        (wire.CreateIndexes, ([[value([["a", 1]]), value(5)]],), 9),
        (wire.CreateIndexes, ([[value(5), value({})]],), 67),
    ],
)
async def test_values_of_the_wrong_shape_are_refused_by_name(nursery, kind, arguments, code):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        answer = await client.ask(kind, *PLACE, *arguments)
        assert isinstance(answer, wire.Failure) and answer.code == code, answer


# Time.


async def test_a_query_ends_at_its_max_time_waiting_included(nursery, autojump_clock):
    async with open_rig(position_timeout_ms=600_000) as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        for kind, arguments in (
            (wire.Find, (value({}),)),
            (wire.Count, (value({}),)),
            (wire.Distinct, ("a", value({}))),
            (wire.Aggregate, (value([]),)),
            (wire.Explain, ("find", value({}))),
        ):
            answer = await client.ask(kind, *PLACE, *arguments, max_time_ms=50, min_position=[1, 10**6])
            assert (answer.name, answer.code, answer.fields) == ("MaxTimeMSExpired", 50, {"max_time_ms": 50})


class SlowSource(Source):
    async def next_batch(self, count: int) -> list[bytes]:
        await trio.sleep(0.02)
        return await super().next_batch(count)


async def test_the_time_of_a_cursor_counts_over_its_batches_and_not_between_them(autojump_clock):
    source = SlowSource([b"a"] * 10)
    cursor = OpenCursor("me", None, source, TimeBudget(50))
    for _ in range(2):
        assert await cursor.take(1) == [b"a"]
        await trio.sleep(10)
    with pytest.raises(MaxTimeMSExpired, match="50 ms"):
        await cursor.take(1)
    unlimited = OpenCursor("me", None, SlowSource([b"a"] * 3), TimeBudget(0))
    assert [await unlimited.take(1) for _ in range(3)] == [[b"a"]] * 3
