"""The bookkeeping of writers: what each end of a call is noted as, against a real engine in memory and against every kind of error."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import twinlog
from ops.drills.ending import read_proof
from ops.drills.records import Outcome, Sight, Sighting, Write
from ops.drills.watch import Watch, read_sighting
from ops.drills.writers import (
    COLLECTION,
    DATABASE,
    Book,
    latest_stop,
    look_for,
    name_of,
    note_write,
    outcome_of,
)
from twinlog import errors


@pytest.mark.parametrize(("name", "outcome"), [
    ("AckTimeout", Outcome.UNCONFIRMED),
    ("DiskFull", Outcome.REFUSED),
    ("Overloaded", Outcome.REFUSED),
    ("DuplicateKey", Outcome.REFUSED),
    ("NotPrimary", Outcome.UNKNOWN),  # a connection may have been lost, with the write under way, before this refusal
    ("ReadOnly", Outcome.UNKNOWN),
    ("ShuttingDown", Outcome.UNKNOWN),
    ("PeerError", Outcome.UNKNOWN),
    ("MaxTimeMSExpired", Outcome.UNKNOWN),
])
def test_what_a_refusal_says_of_its_write(name, outcome):
    error = errors.from_failure(name, 1, "because", {})
    assert outcome_of(error) is outcome
    assert name_of(error) == name


@pytest.mark.parametrize("error", [errors.NetworkTimeout("x"), errors.AutoReconnect("x"), errors.ServerSelectionTimeoutError("x")])
def test_a_lost_connection_says_nothing_of_its_write(error):
    assert outcome_of(error) is Outcome.UNKNOWN
    assert name_of(error) == type(error).__name__


async def test_a_write_is_noted_with_its_position_and_a_second_application_shows(tmp_path):
    book = Book()
    async with twinlog.open_async(tmp_path) as client:
        await note_write(client, 3, 7, book)
        (noted,) = book.writes
        assert (noted.name, noted.outcome, noted.error) == ("w3-7", Outcome.ACKNOWLEDGED, "")
        assert noted.position is not None and noted.sent <= noted.ended
        assert (await client[DATABASE][COLLECTION].find_one({"_id": "w3-7"}))["times"] == 1
        await note_write(client, 3, 7, book)  # the same write once more, as a node would that applied it twice
        assert (await client[DATABASE][COLLECTION].find_one({"_id": "w3-7"}))["times"] == 2
    assert book.acknowledged == 2 and book.newest_acknowledged.name == "w3-7"


class Remembering:
    """A client that has the document in plain reads, or only in reads that name a position, or never."""

    def __init__(self, *, plain: bool, positioned: bool) -> None:
        self._answers, self.asked = (plain, positioned), []

    def __getitem__(self, _name: str) -> Remembering:
        return self

    def read_from(self, kind: str, *, min_position: tuple[int, int] | None) -> Remembering:
        self.asked.append((kind, min_position))
        return self

    async def find_one(self, _filter: dict) -> dict | None:
        return {} if self._answers[bool(self.asked)] else None


@pytest.mark.parametrize(("plain", "positioned", "sight"), [(True, False, Sight.FOUND), (False, True, Sight.STALE), (False, False, Sight.MISSING)])
async def test_a_read_that_misses_is_asked_again_at_the_position_of_the_write(plain, positioned, sight):
    client = Remembering(plain=plain, positioned=positioned)
    assert await look_for(client, Write(0, 0, 1.0, 1.1, Outcome.ACKNOWLEDGED, "", (2, 9))) is sight
    assert client.asked == ([] if plain else [("primary", (2, 9))])


class Refusing:
    """A client whose every write fails."""

    def __init__(self, error: errors.TwinlogError) -> None:
        self._error = error

    def __getitem__(self, _name: str) -> Refusing:
        return self

    async def update_one(self, *_: object, **__: object) -> None:
        raise self._error


async def test_a_failed_write_is_noted_and_acknowledges_nothing():
    book = Book()
    await note_write(Refusing(errors.from_failure("DiskFull", 1, "no space", {})), 0, 0, book)
    assert [(one.outcome, one.error, one.position) for one in book.writes] == [(Outcome.REFUSED, "DiskFull", None)]
    assert book.acknowledged == 0 and book.newest_acknowledged is None


class Silent(Refusing):
    """A client whose node never answers."""

    async def update_one(self, *_: object, **__: object) -> None:
        await trio.sleep_forever()


async def test_a_write_that_is_given_up_is_noted_as_unknown():
    book = Book()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(note_write, Silent(errors.NetworkTimeout("x")), 0, 0, book)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [(one.outcome, one.error) for one in book.writes] == [(Outcome.UNKNOWN, "Cancelled")]


def noted(*calls: tuple[float, float, Outcome]) -> Book:
    book = Book()
    for number, (sent, ended, outcome) in enumerate(calls):
        book.note(Write(0, number, sent, ended, outcome))
    return book


ACK, FAIL = Outcome.ACKNOWLEDGED, Outcome.UNCONFIRMED


@pytest.mark.parametrize(("calls", "stopped"), [
    ([], False),
    ([(1.0, 1.1, ACK)], False),
    ([(6.0, 7.0, FAIL)], True),
    ([(4.0, 7.0, FAIL)], False),  # sent before the fault: it proves nothing
    ([(6.0, 7.0, FAIL), (6.5, 7.1, ACK)], False),
    ([(5.1, 5.2, ACK), (6.0, 7.0, FAIL)], True),
])
def test_when_writes_have_stopped(calls, stopped):
    assert latest_stop(noted(*calls), 5.0) is stopped


def status(**changes) -> dict:
    row = {"name": "b", "connected": True, "streaming": True}
    return {"node": "a", "role": "primary", "epoch": 3, "databases": {"drill": {"degraded": False}}, "standbys": [row], "alarms": [], **changes}


def test_a_status_as_the_watch_sees_it():
    seen = read_sighting("a", status(), 1.0)
    assert (seen.reachable, seen.role, seen.epoch, seen.links, seen.follows, seen.degraded) == (True, "primary", 3, {"b": True}, {"b"}, False)
    assert not read_sighting("a", status(node="b"), 1.0).reachable, "another node answers at this address"
    assert read_sighting("a", status(databases={"drill": {"degraded": True}}), 1.0).degraded
    assert read_sighting("a", status(alarms=[{"kind": "disk-full"}]), 1.0).alarms == {"disk-full"}
    assert not read_sighting("a", status(standbys=[{"name": "b", "connected": True, "streaming": False}]), 1.0).follows


def test_a_standby_follows_when_nothing_is_acknowledged_without_it():
    watch = Watch({})
    watch.newest = {"a": read_sighting("a", status(), 1.0), "b": Sighting(1.0, "b", True, "standby", 3)}
    assert watch.follows("b") and not watch.follows("a")
    watch.newest["a"] = read_sighting("a", status(databases={"drill": {"degraded": True}}), 1.0)
    assert not watch.follows("b")


def test_a_proof_keeps_what_every_node_answered():
    told = {"seq": 4, "chain": "c", "hash": "h"}
    proof = read_proof({"seq": 4, "equal": True, "nodes": {"a": told, "b": {**told, "hash": "other"}}})
    assert proof.answers == {"a": (4, "c", "h"), "b": (4, "c", "other")}
