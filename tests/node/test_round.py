"""What one look at all connections brings, begun together: the short way answers as the general one does, and in order."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

import storage
from node import wire
from node.answer_room import AnswerRoom
from node.users import Role
from storage import errors

from .fakes import document, open_rig, value

MESSAGE_ID = itertools.count(1)


class Caller:
    """A connection that keeps its answers by request id."""

    def __init__(self, role: Role = Role.ADMIN) -> None:
        self.role = role
        self.owner = self.peer = "here"
        self.scopes: set[trio.CancelScope] = set()
        self.room = AnswerRoom(2**20, 2**16, 2**10)
        self.answers: dict[int, wire.Answer] = {}
        self.lost: list[tuple[str, int]] = []
        self.returned: list[bytes] = []

    def answer(self, message: bytes) -> None:
        found = wire.decode_answer(message)
        assert found.id not in self.answers, "every request is answered once"
        self.answers[found.id] = found

    def answer_frames(self, frames: bytes, count: int) -> None:
        at = 0
        while at < len(frames):
            size = int.from_bytes(frames[at : at + 4], "little")
            self.answer(frames[at + 4 : at + 4 + size])
            at, count = at + 4 + size, count - 1
        assert count == 0

    def abandon(self, error: wire.WireError, unbegun: int) -> None:
        self.lost.append((error.name, unbegun))

    def put_back(self, message: bytes) -> None:
        self.returned.append(message)

    def error(self, request_id: int) -> str:
        """The name of the error that the request, or its only document, met; "" for none."""
        found = self.answers[request_id]
        if isinstance(found, wire.Failure):
            return found.name
        rows = storage.decode_value(bytes(found.result)).get("errors", [])
        return rows[0][2] if rows else ""


def insert(number: int, **named: object) -> tuple[int, bytes]:
    request_id = next(MESSAGE_ID)
    message = wire.encode_request(wire.Insert(request_id, "chat", "m", [document(id=number)], True, **named))
    return request_id, message


@asynccontextmanager
async def rig_with_database(**named: object):
    async with open_rig(**named) as rig:
        db = await rig.engine.create_database("chat")
        await storage.operations.insert(db, "m", [storage.encode_document({"_id": 0})])
        db.flush()
        yield rig, db


def play(rig, *sent: tuple[Caller, tuple[int, bytes]]) -> None:
    rig.service.begin_round([caller for caller, _ in sent], [message for _, (_, message) in sent])
    rig.service.end_of_wakeup()


async def test_single_inserts_of_all_connections_share_one_commit_and_each_is_judged_by_itself() -> None:
    async with rig_with_database() as (rig, db):
        one, two, before = Caller(), Caller(), db.position.seq
        first, twice, held, other = insert(1), insert(1), insert(0), insert(2)
        play(rig, (one, first), (one, twice), (two, held), (two, other))
        await trio.testing.wait_all_tasks_blocked()
        assert [one.error(first[0]), one.error(twice[0])] == ["", "DuplicateKey"]
        assert [two.error(held[0]), two.error(other[0])] == ["DuplicateKey", ""]
        assert one.answers[first[0]].seq == two.answers[other[0]].seq == db.position.seq == before + 1
        assert rig.service.under_way == 0
        assert rig.metrics.requests["insert"] == 4


async def test_a_request_sent_twice_in_one_round_is_applied_once() -> None:
    async with rig_with_database() as (rig, db):
        caller, again = Caller(), insert(7, request=b"w" * 16)
        copy = next(MESSAGE_ID)
        second = copy, wire.encode_request(wire.Insert(copy, "chat", "m", [document(id=7)], True, b"w" * 16))
        play(rig, (caller, again), (caller, second))
        await trio.testing.wait_all_tasks_blocked()
        assert caller.error(again[0]) == caller.error(copy) == ""
        assert await storage.operations.count(db, "m", {}) == 2


async def test_what_one_connection_sends_is_done_in_its_order() -> None:
    async with rig_with_database() as (rig, _):
        caller, first = Caller(), insert(3)
        many = next(MESSAGE_ID)
        docs = [document(id=3), document(id=4)]
        play(rig, (caller, first), (caller, (many, wire.encode_request(wire.Insert(many, "chat", "m", docs, False)))))
        await trio.testing.wait_all_tasks_blocked()
        assert (caller.error(first[0]), caller.error(many)) == ("", "DuplicateKey")
        assert storage.decode_value(bytes(caller.answers[many].result))["n"] == 1


@pytest.mark.parametrize(
    "role, refused", [(Role.NONE, {"insert", "get"}), (Role.READ, {"insert"}), (Role.READWRITE, set())]
)
async def test_roles_hold_on_the_short_way(role: Role, refused: set[str]) -> None:
    async with rig_with_database() as (rig, _):
        caller, written = Caller(role), insert(5)
        got = next(MESSAGE_ID)
        play(rig, (caller, written), (caller, (got, wire.encode_request(wire.Get(got, "chat", "m", value(0))))))
        await trio.testing.wait_all_tasks_blocked()
        assert (caller.error(written[0]) == "Unauthorized") is ("insert" in refused)
        assert (caller.error(got) == "Unauthorized") is ("get" in refused)


async def test_a_message_that_cannot_be_read_loses_what_its_connection_sent_after_it_and_nothing_else() -> None:
    async with rig_with_database() as (rig, _):
        broken, sound = Caller(), Caller()
        before, after, others = insert(10), insert(11), insert(12)
        play(rig, (broken, before), (broken, (0, b"\xc1")), (sound, others), (broken, (0, b"\xc1")))
        assert broken.lost == [("BadMessage", 2)]
        await trio.testing.wait_all_tasks_blocked()
        assert broken.error(before[0]) == sound.error(others[0]) == ""
        assert after[0] not in broken.answers
        assert rig.service.under_way == 0


async def test_inserts_wait_for_room_in_order_and_beyond_the_bound_they_are_refused_by_name() -> None:
    options = storage.EngineOptions(memtable_records_max=4, free_bytes_min=0)
    async with rig_with_database(options=options, requests_max=20) as (rig, db):
        caller, sent = Caller(), [insert(100 + number) for number in range(60)]
        for one in sent:
            play(rig, (caller, one))
        while len(caller.answers) < len(sent):
            await trio.testing.wait_all_tasks_blocked(0.01)
        outcomes = {caller.error(request_id) for request_id, _ in sent}
        done = [number for number, (request_id, _) in enumerate(sent) if not caller.error(request_id)]
        assert outcomes == {"", "Overloaded"}
        assert len(done) >= 20
        assert [caller.answers[sent[n][0]].seq for n in done] == sorted(caller.answers[sent[n][0]].seq for n in done)
        assert await storage.operations.count(db, "m", {}) == len(done) + 1
        assert rig.service.under_way == 0
        assert rig.metrics.bounds["requests_max"] == len(sent) - len(done)


async def test_inserts_that_wait_for_a_database_that_goes_are_taken_by_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.appended.ROOM_WAIT_S_MAX", 0.5)  # instead of half a minute
    options = storage.EngineOptions(memtable_records_max=4, free_bytes_min=0)
    async with rig_with_database(options=options) as (rig, db):
        caller, sent = Caller(), [insert(100 + number) for number in range(12)]
        for one in sent:
            play(rig, (caller, one))
        await rig.engine.drop_database("chat")
        with trio.fail_after(60):
            while len(caller.answers) < len(sent):
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert {caller.error(request_id) for request_id, _ in sent} <= {"", "Overloaded"}
        assert rig.engine.databases.get("chat") is not db
        assert rig.service.under_way == 0


async def test_a_refusal_of_all_is_told_to_each() -> None:
    async with rig_with_database() as (rig, _):
        caller, sent = Caller(), [insert(number) for number in (20, 21)]
        rig.member.refusal = errors.NotPrimary("elsewhere", primary="b:1")
        play(rig, *((caller, one) for one in sent))
        assert [caller.error(request_id) for request_id, _ in sent] == ["NotPrimary", "NotPrimary"]


@pytest.mark.parametrize("sealed", [False, True])
async def test_gets_of_large_documents_are_answered_up_to_a_bound_and_the_rest_is_put_back(sealed: bool) -> None:
    async with rig_with_database() as (rig, db):
        docs = [storage.encode_document({"_id": number, "pad": "x" * 300_000}) for number in range(100, 110)]
        await storage.operations.insert(db, "m", docs)
        db.flush()
        if sealed:
            await db.sealing.seal_now()
        caller, sent = Caller(), []
        for number in range(100, 110):
            request_id = next(MESSAGE_ID)
            sent.append((request_id, wire.encode_request(wire.Get(request_id, "chat", "m", value(number)))))
        play(rig, *((caller, one) for one in sent))
        done = len(caller.answers)
        assert 1 <= done <= 5, "1 MiB, and the answer that passes it"
        assert caller.returned == [message for _, message in sent[done:]]
        assert all(len(bytes(answer.result)) > 300_000 for answer in caller.answers.values())


async def test_a_bug_in_the_commit_of_many_is_answered_to_each_and_ends_nothing_else(monkeypatch, caplog) -> None:
    async with rig_with_database() as (rig, _):
        caller, sent = Caller(), [insert(number) for number in (30, 31)]
        monkeypatch.setattr(rig.member, "check_writable", lambda *_: 1 // 0)
        play(rig, *((caller, one) for one in sent))
        monkeypatch.undo()
        assert [caller.error(request_id) for request_id, _ in sent] == ["InternalError", "InternalError"]
        assert rig.service.under_way == 0
        again = insert(30)
        play(rig, (caller, again))
        assert caller.error(again[0]) == ""
