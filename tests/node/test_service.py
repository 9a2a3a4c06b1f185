"""The client port's verbs over a real engine: answers, roles, refusals, waiting for durability and for positions."""

from __future__ import annotations

import pytest
import trio

import storage
from node import wire
from node.service import LEAST_ROLE
from node.users import PasswordHash, Role, User, password_text
from storage import errors

from .fakes import BareClient, connect, document, open_rig, value


async def _insert(client: BareClient, *ids: int, db: str = "chat", **named) -> dict:
    return await client.call(wire.Insert, db, "messages", [document(id=i, text=f"m{i}") for i in ids], **named)


async def test_what_was_inserted_is_read_back_by_id_and_by_query(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        assert await _insert(client, 1, 2, 3) == {"n": 3, "ids": [1, 2, 3], "errors": []}
        assert (await client.call(wire.Get, "chat", "messages", value(2)))["doc"] == {"_id": 2, "text": "m2"}
        assert (await client.call(wire.Get, "chat", "messages", value(9)))["doc"] is None
        found = await client.call(wire.Find, "chat", "messages", value({}), sort=value([["_id", -1]]), limit=2)
        assert [doc["_id"] for doc in found["docs"]] == [3, 2]
        assert found["cursor"] == 0
        assert await client.call(wire.Count, "chat", "messages", value({"text": "m1"})) == {"n": 1}


async def test_replace_delete_and_bulk_answer_what_they_did(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 1, 2)
        replaced = await client.call(wire.Replace, "chat", "messages", value({"_id": 1}), document(id=1, text="new"))
        assert replaced == {"matched": 1, "modified": 1, "upserted": None}
        upserted = await client.call(
            wire.Replace, "chat", "messages", value({"_id": 7}), document(id=7, text="up"), upsert=True
        )
        assert upserted == {"matched": 0, "modified": 0, "upserted": 7}
        assert await client.call(wire.Delete, "chat", "messages", value({"_id": 2})) == {"n": 1}
        bulk = await client.call(
            wire.Bulk,
            "chat",
            "messages",
            [
                [value("insert"), document(id=10)],
                [value("replace"), value({"_id": 10}), document(id=10, a=1), value(False)],
                [value("delete"), value({"_id": 7}), value(False)],
            ],
        )
        assert (bulk["inserted"], bulk["modified"], bulk["deleted"], bulk["errors"]) == (1, 1, 1, [])
        assert await client.call(wire.Count, "chat", "messages", value({})) == {"n": 2}


async def test_a_duplicate_is_named_and_the_rest_of_an_unordered_batch_goes_in(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        result = await _insert(client, 1, 2, ordered=False)
        assert result["n"] == 1
        (index, code, name, message, fields) = result["errors"][0]
        assert (index, code, name) == (0, 11000, "DuplicateKey")
        assert "chat.messages" in message and fields["collection"] == "chat.messages"


async def test_a_write_is_answered_only_when_it_is_acknowledged_inv_1(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        rig.member.held = True
        request_id = await client.send(wire.Insert, "chat", "messages", [document(id=2)])
        assert await client.call(wire.Ping) == {}
        with trio.move_on_after(0) as early:
            await trio.testing.wait_all_tasks_blocked()
            await client.answer(request_id)
        assert early.cancelled_caught
        rig.member.held = False
        rig.member.release()
        answer = await client.answer(request_id)
        assert isinstance(answer, wire.Reply) and answer.seq == rig.engine.database("chat").position.seq


async def test_an_ack_timeout_reaches_the_client_by_name_with_the_position(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        rig.member.held = True
        request_id = await client.send(wire.Insert, "chat", "messages", [document(id=2)])
        await trio.testing.wait_all_tasks_blocked()
        rig.member.release(errors.AckTimeout("kept here, one standby is missing", epoch=1, seq=3))
        answer = await client.answer(request_id)
        assert (answer.name, answer.fields) == ("AckTimeout", {"epoch": 1, "seq": 3})
        assert rig.metrics.refusals["AckTimeout"] == 1


async def test_every_reply_carries_the_position_it_saw(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        first = await client.ask(wire.Insert, "chat", "messages", [document(id=1)])
        read = await client.ask(wire.Get, "chat", "messages", value(1))
        assert (first.epoch, first.seq) == (read.epoch, read.seq) == tuple(rig.engine.database("chat").visible)


async def test_a_database_that_is_not_there_reads_as_empty_and_is_not_created(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        assert await client.call(wire.Get, "none", "c", value(1)) == {"doc": None}
        assert await client.call(wire.Find, "none", "c", value({})) == {"docs": [], "cursor": 0}
        assert await client.call(wire.Count, "none", "c", value({})) == {"n": 0}
        assert await client.call(wire.Delete, "none", "c", value({})) == {"n": 0}
        assert await client.call(wire.ListCollections, "none") == {"collections": []}
        assert rig.engine.databases == {}


async def test_two_first_writes_at_once_create_one_database(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        ids = [await client.send(wire.Insert, "new", "c", [document(id=i)]) for i in range(5)]
        answers = [await client.answer(request_id) for request_id in ids]
        assert all(isinstance(answer, wire.Reply) for answer in answers), answers
        assert await client.call(wire.Count, "new", "c", value({})) == {"n": 5}


async def test_a_read_waits_for_its_min_position_and_gives_up_by_name(nursery, autojump_clock):
    async with open_rig(position_timeout_ms=200) as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        db = rig.engine.database("chat")
        wanted = [db.visible.epoch, db.visible.seq + 1]
        waiting = await client.send(wire.Get, "chat", "messages", value(2), min_position=wanted)
        await _insert(client, 2)
        answer = await client.answer(waiting)
        assert storage.decode_value(bytes(answer.result))["doc"]["_id"] == 2
        with pytest.raises(errors.PositionTimeout) as refused:
            await client.call(wire.Get, "chat", "messages", value(2), min_position=[1, 999])
        assert refused.value.fields["seq"] == db.visible.seq
        with pytest.raises(errors.PositionTimeout):
            await client.call(wire.Count, "unheard", "c", value({}), min_position=[1, 1])


async def test_a_node_that_may_not_write_says_where_to_go(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        rig.member.refusal = errors.NotPrimary("this node is a standby; write to the primary", primary="10.0.0.2:6900")
        for kind, values in (
            (wire.Insert, ("chat", "c", [document(id=1)])),
            (wire.Replace, ("chat", "c", value({}), document(id=1))),
            (wire.Delete, ("chat", "c", value({}))),
            (wire.Bulk, ("chat", "c", [[value("insert"), document(id=1)]])),
            (wire.Update, ("chat", "c", value({}), value({"$set": {"a": 1}}))),
            (wire.FindAndModify, ("chat", "c", value({}), "delete")),
            (wire.CreateIndexes, ("chat", "c", [[value([["a", 1]]), value({})]])),
            (wire.DropIndex, ("chat", "c", "a_1")),
            (wire.Aggregate, ("chat", "c", value([{"$out": "other"}]))),
            (wire.DropCollection, ("chat", "c")),
            (wire.CreateDatabase, ("chat",)),
            (wire.DropDatabase, ("chat",)),
        ):
            with pytest.raises(errors.NotPrimary) as refused:
                await client.call(kind, *values)
            assert refused.value.fields["primary"] == "10.0.0.2:6900"
        assert rig.engine.databases == {}


async def test_a_cursor_goes_on_over_another_connection_and_ends(nursery):
    async with open_rig() as rig, connect(rig, nursery) as one, connect(rig, nursery) as other:
        await _insert(one, *range(10))
        found = await one.call(wire.Find, "chat", "messages", value({}), batch=4)
        more = await other.call(wire.More, found["cursor"], 4)
        last = await one.call(wire.More, more["cursor"], 4)
        seen = [doc["_id"] for batch in (found, more, last) for doc in batch["docs"]]
        assert seen == list(range(10)) and last["cursor"] == 0
        with pytest.raises(errors.CursorNotFound):
            await one.call(wire.More, found["cursor"])


async def test_open_cursors_are_bounded_and_idle_ones_end(nursery, autojump_clock):
    async with open_rig(cursors_max=2, cursor_idle_s=30) as rig, connect(rig, nursery) as client:
        await _insert(client, *range(10))
        cursors = [(await client.call(wire.Find, "chat", "messages", value({}), batch=1))["cursor"] for _ in range(2)]
        with pytest.raises(errors.Overloaded) as refused:
            await client.call(wire.Find, "chat", "messages", value({}), batch=1)
        assert refused.value.fields["bound"] == "cursors_max" and rig.metrics.bounds["cursors_max"] == 1
        assert await client.call(wire.KillCursor, cursors[0]) == {}
        assert (await client.call(wire.Find, "chat", "messages", value({}), batch=1))["cursor"]
        await trio.sleep(40)
        assert len(rig.service.cursors) == 0 and rig.metrics.bounds["cursor_idle_s"] == 2


async def test_status_compares_hashes_at_a_mark_and_promote_is_passed_on(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        status = await client.call(wire.Status, mark=True)
        database = status["databases"]["chat"]
        assert status["node"] == "node" and status["role"] == "primary"
        assert len(database["mark"]["hash"]) == 64 and database["mark"]["equal"] is None
        assert "mark" not in (await client.call(wire.Status))["databases"]["chat"]
        assert (await client.call(wire.Promote, force=True))["epoch"] == 1
        assert rig.member.promoted_with == [True] and not rig.member.asked_automatically
        await client.call(wire.Promote, automatic=True)
        assert rig.member.asked_automatically


async def test_orders_about_roles_are_passed_on_with_what_they_say(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.Fence, "a reason")
        await client.call(wire.Unfence)
        await client.call(wire.Rejoin, reseed=True)
        await client.call(wire.Pause, "maintenance")
        await client.call(wire.Resume)
        assert await client.call(wire.Reseed, "d") == {}
        assert (await client.call(wire.Check))["epoch"] == (await client.call(wire.RoleHistory))["epoch"] == 1
        assert rig.member.orders == [
            ("fence", "a reason"), ("unfence",), ("rejoin", True), ("pause", "maintenance"), ("resume",), ("reseed", "d"), ("check",),
            ("role_history",),
        ]  # fmt: skip
        await client.call(wire.Switchover, "b", automatic=True)
        assert rig.member.asked_automatically


async def test_databases_and_collections_are_created_listed_and_dropped(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await client.call(wire.CreateDatabase, "a", 2)
        await client.call(wire.CreateDatabase, "a", 2)
        with pytest.raises(errors.DatabaseExists):
            await client.call(wire.CreateDatabase, "a", 3)
        await client.call(wire.Insert, "a", "c", [document(id=1)])
        assert await client.call(wire.ListDatabases) == {"databases": ["a"]}
        assert await client.call(wire.ListCollections, "a") == {"collections": ["c"]}
        await client.call(wire.DropCollection, "a", "c")
        assert await client.call(wire.ListCollections, "a") == {"collections": []}
        await client.call(wire.DropDatabase, "a")
        await client.call(wire.DropDatabase, "a")
        assert await client.call(wire.ListDatabases) == {"databases": []}
        with pytest.raises(errors.BadName):
            await client.call(wire.CreateDatabase, "../a")


async def test_a_stopping_node_refuses_by_name_and_drains(nursery):
    async with open_rig() as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        rig.member.held = True
        waiting = await client.send(wire.Insert, "chat", "messages", [document(id=2)])
        await trio.testing.wait_all_tasks_blocked()
        rig.service.stop()
        with pytest.raises(errors.ShuttingDown):
            await client.call(wire.Ping)
        rig.member.held = False
        nursery.start_soon(rig.service.drained)
        rig.member.release()
        await rig.service.drained()
        assert isinstance(await client.answer(waiting), wire.Reply)


async def test_requests_that_wait_are_bounded_over_all_connections(nursery):
    async with open_rig(requests_max=2, position_timeout_ms=600_000) as rig, connect(rig, nursery) as client:
        await _insert(client, 1)
        for _ in range(2):
            await client.send(wire.Get, "chat", "messages", value(1), min_position=[1, 10**6])
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(errors.Overloaded) as refused:
            await client.call(wire.Count, "chat", "messages", value({}))
        assert refused.value.fields["bound"] == "requests_max"


async def test_a_write_of_a_client_that_left_is_finished(nursery):
    async with open_rig() as rig:
        async with connect(rig, nursery) as client:
            await _insert(client, 0)
            await client.send(wire.Insert, "chat", "messages", [document(id=i) for i in range(1, 12_001)])
            while not rig.service.under_way:
                await trio.lowlevel.checkpoint()
        await rig.service.drained()
        db = rig.engine.database("chat")
        await db.visible_advance.wait_for(db.position.seq)
        assert await storage.operations.count(db, "messages", {}) == 12_001


async def test_reads_of_a_client_that_left_are_given_up(nursery):
    async with open_rig(position_timeout_ms=600_000) as rig:
        async with connect(rig, nursery) as client:
            await _insert(client, 1)
            await client.send(wire.Get, "chat", "messages", value(1), min_position=[1, 10**6])
            await trio.testing.wait_all_tasks_blocked()
            assert rig.service.under_way == 1
        await rig.service.drained()
        assert rig.service.under_way == 0


async def test_a_bug_in_a_verb_is_an_internal_error_and_the_connection_lives(nursery, caplog):
    async with open_rig() as rig, connect(rig, nursery) as client:

        def broken() -> dict:
            raise ZeroDivisionError("a bug")

        rig.member.status = broken
        with pytest.raises(errors.InternalError):
            await client.call(wire.Status)
        assert await client.call(wire.Ping) == {}


# Roles.


def _user(name: str, role: Role) -> User:
    return User(name, role, PasswordHash.parse(password_text("secret", b"saltsaltsaltsalt")))


ARGUMENTS = {
    wire.Login: ("nobody", "x"),
    wire.Get: ("d", "c", value(1)),
    wire.Find: ("d", "c", value({})),
    wire.More: (1,),
    wire.KillCursor: (1,),
    wire.Count: ("d", "c", value({})),
    wire.EstimatedCount: ("d", "c"),
    wire.Distinct: ("d", "c", "a", value({})),
    wire.Aggregate: ("d", "c", value([])),
    wire.Explain: ("d", "c", "find", value({})),
    wire.ListIndexes: ("d", "c"),
    wire.ListCollections: ("d",),
    wire.Switchover: ("b",),
    wire.Reseed: ("d",),
    wire.Insert: ("d", "c", [document(id=1)]),
    wire.Replace: ("d", "c", value({}), document(id=1)),
    wire.Delete: ("d", "c", value({})),
    wire.Update: ("d", "c", value({}), value({"$set": {"a": 1}})),
    wire.FindAndModify: ("d", "c", value({}), "delete"),
    wire.CreateIndexes: ("d", "c", [[value([["a", 1]]), value({})]]),
    wire.DropIndex: ("d", "c", "a_1"),
    wire.Bulk: ("d", "c", [[value("insert"), document(id=1)]]),
    wire.DropCollection: ("d", "c"),
    wire.Begin: ("d",),
    wire.Inside: (bytes(16), wire.Count(0, "d", "c", value({}))),
    wire.Anywhere: (wire.Count(0, "d", "c", value({})),),
    wire.Commit: ("d", bytes(16)),
    wire.Abort: (bytes(16),),
    wire.CreateDatabase: ("d",),
    wire.DropDatabase: ("d",),
    wire.Compact: ("d",),
    wire.Scrub: ("d",),
    wire.SalvageShow: ("n",),
    wire.SalvageNote: ("n", {}),
    wire.SalvageDrop: ("n",),
    wire.Backup: ("d",),
    wire.ListBackups: ("d",),
    wire.BackupStatus: ("d",),
    wire.DeleteBackup: ("d", "backup_20260415_120000"),
    wire.VerifyBackup: ("d", "backup_20260415_120000"),
    wire.RestoreBackup: ("d", "../d"),
    wire.ScheduleBackups: ("d", False, 0),
    wire.BackupJob: (1,),
    wire.BackupCollections: ("d", "backup_20260415_120000"),
    wire.ReadBackup: ("d", "backup_20260415_120000", "c"),
    wire.PruneArchive: ("d", True),
}


@pytest.mark.parametrize("role", [Role.NONE, Role.READ, Role.READWRITE, Role.ADMIN])
async def test_every_operation_is_refused_below_its_least_role_and_only_there(nursery, role):
    users = {"u": _user("u", role)} if role else {"other": _user("other", Role.READ)}
    async with open_rig(users=users) as rig, connect(rig, nursery) as client:
        if role:
            assert await client.call(wire.Login, "u", "secret") == {"role": role.name.lower()}
        for kind, least in LEAST_ROLE.items():
            answer = await client.ask(kind, *ARGUMENTS.get(kind, ()))
            refused = isinstance(answer, wire.Failure) and answer.name == "Unauthorized"
            assert refused == (role < least), (kind, answer)


async def test_wrong_passwords_are_refused_and_then_limited_by_user_and_host(nursery, autojump_clock):
    users = {"alice": _user("alice", Role.READ)}
    async with open_rig(users=users, login_failures_max=3, login_window_s=60) as rig:
        async with connect(rig, nursery) as client, connect(rig, nursery, peer="10.0.0.9") as elsewhere:
            for _ in range(3):
                with pytest.raises(errors.AuthenticationFailed):
                    await client.call(wire.Login, "alice", "guess")
            with pytest.raises(errors.Overloaded) as refused:
                await client.call(wire.Login, "alice", "secret")
            assert refused.value.fields["retry_after_ms"] <= 60_001
            assert await elsewhere.call(wire.Login, "alice", "secret") == {"role": "read"}
            await trio.sleep(61)
            assert await client.call(wire.Login, "alice", "secret") == {"role": "read"}


async def test_a_cursor_is_its_users_own(nursery):
    users = {"a": _user("a", Role.READWRITE), "b": _user("b", Role.READ)}
    async with open_rig(users=users) as rig, connect(rig, nursery) as one, connect(rig, nursery) as other:
        await one.call(wire.Login, "a", "secret")
        await other.call(wire.Login, "b", "secret")
        await _insert(one, *range(5))
        found = await one.call(wire.Find, "chat", "messages", value({}), batch=1)
        with pytest.raises(errors.CursorNotFound):
            await other.call(wire.More, found["cursor"])


def test_every_request_of_the_wire_has_a_least_role():
    kinds = set(wire.Request.__subclasses__())
    assert kinds == set(LEAST_ROLE)


