"""Transactions over the wire, message by message: whose they are, what they refuse, how they end, what a repeated commit is answered."""

from __future__ import annotations

import pytest
import trio

from node import wire
from node.users import PasswordHash, Role, User, password_text
from storage import EngineOptions, errors

from .fakes import connect, document, open_rig, value

NOBODY = bytes(16)


async def _begin(client, **named):
    return (await client.call(wire.Begin, "chat", **named))["transaction"]


def _get(key):
    return wire.Get(0, "chat", "messages", value(key))


def _insert(*ids, request=b""):
    return wire.Insert(0, "chat", "messages", [document(id=number) for number in ids], True, request)


async def _count(client):
    return (await client.call(wire.Count, "chat", "messages", value({})))["n"]


async def test_a_transaction_is_begun_asked_and_committed(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.Insert, "chat", "messages", [document(id=1)])
        begun = await client.ask(wire.Begin, "chat")
        at = (begun.epoch, begun.seq)
        assert at == rig.engine.database("chat").visible
        transaction = wire.decode_fields(begun.result)["transaction"]
        assert (await client.call(wire.Inside, transaction, _insert(2)))["n"] == 1
        inside = await client.ask(wire.Inside, transaction, _get(2))
        assert (inside.epoch, inside.seq) == at, "inside, the position is the snapshot's"
        assert await _count(client) == 1
        done = await client.ask(wire.Commit, "chat", transaction, b"w" * 16)
        assert isinstance(done, wire.Reply) and done.seq == rig.engine.database("chat").position.seq
        assert await _count(client) == 2
        assert rig.service.transactions.counts() == {"open": 0, "committed": 1, "aborted": 0, "conflict": 0, "ended": 0}
        assert b'twinlog_transactions_total{end="committed"} 1.0' in rig.metrics.exposition()
        assert b"twinlog_transactions_open 0.0" in rig.metrics.exposition()
        assert (await client.call(wire.Status))["transactions"]["committed"] == 1


async def test_a_commit_is_answered_only_when_it_is_acknowledged_inv_1(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        transaction = await _begin(client)
        await client.call(wire.Inside, transaction, _insert(1))
        rig.member.held = True
        request_id = await client.send(wire.Commit, "chat", transaction, b"w" * 16)
        assert await client.call(wire.Ping) == {}
        with trio.move_on_after(0) as early:
            await trio.testing.wait_all_tasks_blocked()
            await client.answer(request_id)
        assert early.cancelled_caught
        rig.member.held = False
        rig.member.release()
        assert isinstance(await client.answer(request_id), wire.Reply)


async def test_a_commit_that_comes_again_is_answered_and_not_applied_again(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client, connect(rig, nursery) as other:
        transaction = await _begin(client)
        await client.call(wire.Inside, transaction, _insert(1))
        first = await client.ask(wire.Commit, "chat", transaction, b"w" * 16)
        again = await other.ask(wire.Commit, "chat", transaction, b"w" * 16)
        assert isinstance(again, wire.Reply), again
        assert (again.epoch, again.seq) == (first.epoch, first.seq)
        with pytest.raises(errors.NoSuchTransaction):
            await other.call(wire.Commit, "chat", transaction, b"v" * 16)
        with pytest.raises(errors.NoSuchTransaction):
            await other.call(wire.Commit, "nowhere", NOBODY, b"w" * 16)
        rig.member.refusal = errors.NotPrimary("write elsewhere", primary="10.0.0.2:6900")
        with pytest.raises(errors.NotPrimary):
            await other.call(wire.Commit, "chat", NOBODY, b"w" * 16)


async def test_a_conflict_is_named_and_ends_the_transaction(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.Insert, "chat", "messages", [document(id=1)])
        transaction = await _begin(client)
        await client.call(wire.Inside, transaction, wire.Delete(0, "chat", "messages", value({"_id": 1})))
        await client.call(wire.Replace, "chat", "messages", value({"_id": 1}), document(id=1, text="first"))
        with pytest.raises(errors.WriteConflict, match="messages"):
            await client.call(wire.Commit, "chat", transaction, b"w" * 16)
        with pytest.raises(errors.NoSuchTransaction):
            await client.call(wire.Inside, transaction, _get(1))
        assert await _count(client) == 1
        assert rig.service.transactions.counts()["conflict"] == 1


async def test_an_abort_forgets_what_was_written_and_may_come_again(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        transaction = await _begin(client)
        await client.call(wire.Inside, transaction, _insert(1))
        for _ in range(2):
            assert await client.call(wire.Abort, transaction) == {}
        with pytest.raises(errors.NoSuchTransaction):
            await client.call(wire.Inside, transaction, _get(1))
        with pytest.raises(errors.NoSuchTransaction):
            await client.call(wire.Commit, "chat", transaction)
        assert await _count(client) == 0
        assert rig.service.transactions.counts()["aborted"] == 1


async def test_a_transaction_is_there_for_its_user_only(nursery):
    secret = PasswordHash.parse(password_text("secret", bytes(16)))
    users = {name: User(name, Role[role], secret) for name, role in (("ada", "READWRITE"), ("bob", "READWRITE"), ("eve", "READ"))}
    async with open_rig(users=users) as rig, connect(rig, nursery) as ada, connect(rig, nursery) as bob, connect(rig, nursery) as eve:
        for client, name in ((ada, "ada"), (bob, "bob"), (eve, "eve")):
            await client.call(wire.Login, name, "secret")
        with pytest.raises(errors.NoSuchDatabase):
            await _begin(eve)
        transaction = await _begin(ada)
        await ada.call(wire.Inside, transaction, _insert(1))
        unknown = await bob.ask(wire.Inside, NOBODY, _get(1))
        for client in (bob, eve):
            refused = await client.ask(wire.Inside, transaction, _get(1))
            assert refused.message.replace(transaction.hex(), "") == unknown.message.replace(NOBODY.hex(), ""), "no hint"
            with pytest.raises(errors.NoSuchTransaction):
                await client.call(wire.Commit, "chat", transaction)
            assert await client.call(wire.Abort, transaction) == {}
        assert (await ada.call(wire.Inside, transaction, _get(1)))["doc"] == {"_id": 1}
        async with connect(rig, nursery) as second:
            await second.call(wire.Login, "ada", "secret")
            assert isinstance(await second.ask(wire.Commit, "chat", transaction), wire.Reply), "any connection of the user"
        reading = await _begin(eve)
        assert (await eve.call(wire.Inside, reading, _get(1)))["doc"] == {"_id": 1}
        with pytest.raises(errors.Unauthorized):
            await eve.call(wire.Inside, reading, _insert(2))
        assert isinstance(await eve.ask(wire.Commit, "chat", reading), wire.Reply)


async def test_what_a_transaction_does_not_do_is_refused_by_name(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.Insert, "chat", "messages", [document(id=1)])
        transaction = await _begin(client)
        place = (0, "chat", "messages")
        for request in (
            wire.DropCollection(*place),
            wire.CreateIndexes(*place, [[value([["a", 1]]), value({})]]),
            wire.DropIndex(*place, "a_1"),
            wire.ListIndexes(*place),
            wire.ListCollections(0, "chat"),
            wire.Explain(*place, "find", value({"filter": {}})),
            wire.Aggregate(*place, value([{"$out": "other"}])),
            wire.Aggregate(*place, value([{"$merge": "other"}])),
        ):
            refused = await client.ask(wire.Inside, transaction, request)
            assert isinstance(refused, wire.Failure) and refused.code == 263, request
        elsewhere = await client.ask(wire.Inside, transaction, wire.Get(0, "other", "messages", value(1)))
        assert elsewhere.name == "BadRequest" and "chat" in elsewhere.message
        assert (await client.call(wire.Inside, transaction, _get(1)))["doc"] == {"_id": 1}


async def test_cursors_of_a_transaction_are_inside_and_end_with_it(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.Insert, "chat", "messages", [document(id=number) for number in range(9)])
        transaction = await _begin(client)
        found = await client.call(wire.Inside, transaction, wire.Find(0, "chat", "messages", value({}), batch=2))
        with pytest.raises(errors.CursorNotFound):
            await client.call(wire.More, found["cursor"])
        assert len((await client.call(wire.Inside, transaction, wire.More(0, found["cursor"], 3)))["docs"]) == 3
        outside = await client.call(wire.Find, "chat", "messages", value({}), batch=2)
        with pytest.raises(errors.CursorNotFound):
            await client.call(wire.Inside, transaction, wire.More(0, outside["cursor"]))
        assert len(rig.service.cursors) == 2
        await client.call(wire.Commit, "chat", transaction)
        assert len(rig.service.cursors) == 1


async def test_one_request_of_a_transaction_at_a_time(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.Insert, "chat", "messages", [document(id=1)])
        transaction = await _begin(client)
        asked = [await client.send(wire.Inside, transaction, wire.Count(0, "chat", "messages", value({}))) for _ in range(2)]
        answers = [await client.answer(request_id) for request_id in asked]
        for answer in answers:
            assert isinstance(answer, wire.Reply) or answer.name == "BadRequest"
        assert any(isinstance(answer, wire.Reply) for answer in answers)
        assert (await client.call(wire.Inside, transaction, _get(1)))["doc"] == {"_id": 1}


async def test_the_table_of_transactions_is_bounded_inv_8(nursery):
    async with open_rig(options=EngineOptions(transactions_max=2)) as rig, connect(rig, nursery) as client:
        kept = [await _begin(client), await _begin(client)]
        with pytest.raises(errors.Overloaded) as refused:
            await _begin(client)
        assert (refused.value.fields["bound"], refused.value.fields["limit"]) == ("transactions_max", 2)
        assert refused.value.fields["retry_after_ms"] > 0
        await client.call(wire.Abort, kept[0])
        await _begin(client)


async def test_the_time_of_a_transaction_is_limited(nursery, autojump_clock):
    async with open_rig() as rig, connect(rig, nursery) as client:
        short, long = await _begin(client, max_time_ms=2_000), await _begin(client, max_time_ms=10**9)
        await trio.sleep(10)
        with pytest.raises(errors.NoSuchTransaction):
            await client.call(wire.Inside, short, _get(1))
        await client.call(wire.Inside, long, _get(1))
        await trio.sleep(70)
        with pytest.raises(errors.NoSuchTransaction):
            await client.call(wire.Inside, long, _get(1))
        assert rig.service.transactions.counts() == {"open": 0, "committed": 0, "aborted": 0, "conflict": 0, "ended": 2}


async def test_a_begin_may_wait_for_a_position(nursery):
    async with open_rig(position_timeout_ms=50) as rig, connect(rig, nursery) as client:
        written = await client.ask(wire.Insert, "chat", "messages", [document(id=1)])
        transaction = await _begin(client, min_position=[written.epoch, written.seq])
        assert (await client.call(wire.Inside, transaction, _get(1)))["doc"] == {"_id": 1}
        with pytest.raises(errors.PositionTimeout):
            await _begin(client, min_position=[written.epoch, written.seq + 1])


async def test_on_a_standby_reading_works_and_writing_is_refused(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.Insert, "chat", "messages", [document(id=1)])
        early = await _begin(client)
        await client.call(wire.Inside, early, _insert(2))
        rig.member.refusal = errors.NotPrimary("write elsewhere", primary="10.0.0.2:6900")
        rig.engine.database("chat").refuse_writes(rig.member.refusal)
        transaction = await _begin(client)
        assert (await client.call(wire.Inside, transaction, _get(1)))["doc"] == {"_id": 1}
        with pytest.raises(errors.NotPrimary):
            await client.call(wire.Inside, transaction, _insert(3))
        assert isinstance(await client.ask(wire.Commit, "chat", transaction), wire.Reply)
        with pytest.raises(errors.NotPrimary):
            await client.call(wire.Commit, "chat", early, b"w" * 16)


async def test_a_client_that_goes_in_the_middle_of_a_request_takes_its_transaction_with_it(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.Insert, "chat", "messages", [document(id=number, pad="x" * 50) for number in range(5_000)])
        async with connect(rig, nursery) as leaving:
            transaction = await _begin(leaving)
            await leaving.send(wire.Inside, transaction, wire.Update(0, "chat", "messages", value({}), value({"$set": {"a": 1}}), True))
        while rig.service.under_way:
            await trio.lowlevel.checkpoint()
        assert await client.call(wire.Count, "chat", "messages", value({"a": 1})) == {"n": 0}
        ends = rig.service.transactions.counts()
        assert ends["open"] + ends["aborted"] == 1


async def test_a_dropped_database_has_no_transactions(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        transaction = await _begin(client)
        await client.call(wire.DropDatabase, "chat")
        with pytest.raises(errors.NoSuchTransaction):
            await client.call(wire.Inside, transaction, _get(1))


async def test_two_commits_at_once_are_one(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client, connect(rig, nursery) as other:
        transaction = await _begin(client)
        await client.call(wire.Inside, transaction, _insert(1))
        asked = [(who, await who.send(wire.Commit, "chat", transaction, b"w" * 16)) for who in (client, other, client)]
        answers = [await who.answer(request_id) for who, request_id in asked]
        assert all(isinstance(answer, wire.Reply) for answer in answers), answers
        assert len({answer.seq for answer in answers}) == 1
        assert rig.service.transactions.counts()["committed"] == 1


async def test_an_abort_breaks_off_what_is_under_way(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client, connect(rig, nursery) as other:
        await client.call(wire.Insert, "chat", "messages", [document(id=number, pad="x" * 50) for number in range(4_000)])
        transaction = await _begin(client)
        change = wire.Update(0, "chat", "messages", value({}), value({"$set": {"a": 1}}), True)
        asked = await client.send(wire.Inside, transaction, change)
        assert await other.call(wire.Abort, transaction) == {}
        answer = await client.answer(asked)
        assert isinstance(answer, wire.Reply) or answer.name == "NoSuchTransaction", answer
        await other.call(wire.Abort, transaction)
        with pytest.raises(errors.NoSuchTransaction):
            await client.call(wire.Commit, "chat", transaction, b"w" * 16)
        assert await client.call(wire.Count, "chat", "messages", value({"a": 1})) == {"n": 0}
        assert rig.service.transactions.counts()["aborted"] == 1
        assert rig.engine.database("chat").transactions.open == 0
