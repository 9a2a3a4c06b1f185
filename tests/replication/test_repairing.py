"""Repair from a peer: the questions between two ends as values, and whole members over real engines with damage on their disks."""

from __future__ import annotations

import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from replication.messages import RecordFound, RecordWanted, decode, encode
from replication.record_exchange import ASKED_MAX, RecordExchange
from storage import DamagedRecord, PeerError, ShardRecord, WantedRecord
from storage.commit.codec import Op, Record
from storage.shard.record import HEADER_BYTES

from .world import World, open_world

UUID = bytes(range(16))
WANTED = WantedRecord(1, 2**63 + 5, 100, False, 50)
RECORD = ShardRecord(1, 1, 40, 2, 1_700_000_000_000_000, b"key", b"d" * 57)

numbers = st.integers(0, 2**64 - 1)


# Values.


@given(st.booleans(), numbers, st.integers(0, 2**32 - 1), st.one_of(st.none(), st.binary(max_size=200)))
def test_a_question_and_its_answer_arrive_as_they_were(is_deletion: bool, key_hash: int, collection: int, doc: bytes | None):
    asking, answering = RecordExchange(), RecordExchange()
    wanted = WantedRecord(collection, key_hash, 100, is_deletion, 50, 7, 3)
    question = decode(encode(asking.ask(UUID, wanted)))
    assert answering.receive_question(question) == wanted
    found = None if doc is None else ShardRecord(2 if is_deletion else 1, collection, 7, 3, 99, b"key", doc)
    answer = decode(encode(answering.answer(question, found)))
    assert asking.receive_answer(answer) == (1, found)
    assert asking.receive_answer(answer) is None, "taken once"


def test_what_was_given_up_means_nothing_and_still_counts():
    exchange = RecordExchange()
    questions = [exchange.ask(UUID, WANTED) for _ in range(ASKED_MAX)]
    assert exchange.ask(UUID, WANTED) is None
    exchange.give_up(questions[0].ticket)
    assert exchange.ask(UUID, WANTED) is None
    assert exchange.receive_answer(RecordFound(UUID, questions[0].ticket, held=False)) is None
    assert exchange.ask(UUID, WANTED) is not None


def test_a_peer_that_asks_too_much_or_answers_what_nobody_asked_is_refused():
    exchange = RecordExchange()
    for ticket in range(1, ASKED_MAX + 1):
        exchange.receive_question(RecordWanted(UUID, ticket, *WANTED))
    with pytest.raises(PeerError, match="limit"):
        exchange.receive_question(RecordWanted(UUID, 99, *WANTED))
    with pytest.raises(PeerError, match="never asked"):
        exchange.receive_answer(RecordFound(UUID, 1, held=False))
    question = exchange.ask(UUID, WANTED)
    with pytest.raises(PeerError, match="asked for was"):
        exchange.receive_answer(RecordFound(bytes(16), question.ticket, held=False))


@pytest.mark.parametrize(
    "message",
    [
        RecordWanted(UUID[:5], 1, *WANTED),
        RecordWanted(UUID, -1, *WANTED),
        RecordWanted(UUID, 1, *WANTED._replace(seq_max=-1)),
        RecordFound(UUID, 1, held=True, key=b"k" * 8_193),
        RecordFound(UUID, 1, held=True, doc=b"d" * (16 * 2**20 + 1)),
        RecordFound(UUID, 1, held=True, seq=-1),
    ],
)
def test_impossible_messages_are_refused(message: RecordWanted | RecordFound):
    with pytest.raises(PeerError):
        decode(encode(message))


# Members.


def put(world: World, node: str, number: int, size: int) -> None:
    key = b"\x11" + number.to_bytes(9, "big")
    world.database(node).commit([Record(Op.PUT, 1, key, msgpack.packb({"_id": number, "text": "x" * size}))])
    world.database(node).flush()


def logs_of(world: World, node: str) -> dict[str, bytes]:
    disk = world.nodes[node].disk
    return {name: disk.read_file(f"d/{name}") for name in disk.list_dir("d") if name.endswith(".db")}


def damage(world: World, node: str, number: int, at: int) -> str:
    """Flip a bit in the live record of that document, at bytes from its start; negative: from its end."""
    database = world.database(node)
    key = b"\x11" + number.to_bytes(9, "big")
    location = database.sealing.shards.find_location(1, key)
    record = database.sealing.shards.find(1, key)
    length = HEADER_BYTES + len(record.id) + len(record.doc)
    disk = world.nodes[node].disk
    for shard in database.sealing.shards.shards:
        for log in shard.logs.values():
            offset = location & (1 << 48) - 1
            content = disk.read_file(log.path)
            if content[offset + HEADER_BYTES : offset + length] == record.id + record.doc:
                place = offset + at if at >= 0 else offset + length + at
                disk.overwrite(log.path, place, bytes([content[place] ^ 4]))
                return log.path
    raise AssertionError("not there")


async def pair(world: World, count: int = 20) -> None:
    await world.start("a", "b")
    await world.create("a")
    for number in range(count):
        put(world, "a", number, size=3 * number)
    await world.until(lambda: world.same("a", "b"))


@pytest.mark.parametrize("damaged", ["a", "b"])
@pytest.mark.parametrize("peer_state", ["memtable", "sealed", "sealed since"])
async def test_a_record_is_repaired_from_the_other_node(autojump_clock, damaged: str, peer_state: str):
    """Its header is damaged, so the own log cannot be asked. Whatever the peer has sealed, whoever leads."""
    async with open_world("real", "ab") as world:
        await pair(world)
        other = "b" if damaged == "a" else "a"
        await world.database(damaged).sealing.seal_now()
        if peer_state == "sealed":
            await world.database(other).sealing.seal_now()
        elif peer_state == "sealed since":
            await world.database(other).sealing.seal_now()
            put(world, "a", 5, size=99)
            await world.until(lambda: world.same("a", "b"))
            await world.database(other).sealing.seal_now()
        before = logs_of(world, damaged)
        damage(world, damaged, 5, at=6)
        assert logs_of(world, damaged) != before
        report = await world.database(damaged).scrubbing.scrub_now()
        assert logs_of(world, damaged) == before, "byte for byte"
        assert report.repaired == 1 and report.damaged == () and f"from {other}" in str(report.findings)
        assert not world.alarms(damaged)
        found = await world.member("a").mark("d")
        assert len(found) == 2 and len({answer[2] for answer in found.values()}) == 1, "INV-6"


async def test_what_nobody_has_is_an_alarm_until_somebody_comes(autojump_clock):
    async with open_world("real", "ab") as world:
        await pair(world)
        await world.database("a").sealing.seal_now()
        before = logs_of(world, "a")
        world.cut("a", "b")
        await world.apart("a", "b")
        damage(world, "a", 7, at=6)
        report = await world.database("a").scrubbing.scrub_now()
        assert report.repaired == 0 and len(report.damaged) == 1
        assert "damaged" in world.alarms("a")
        with pytest.raises(DamagedRecord):
            await world.document("a", b"\x11" + (7).to_bytes(9, "big"))
        assert await world.document("a", b"\x11" + (8).to_bytes(9, "big")) is not None, "the rest is served"
        world.heal("a", "b")
        await world.until(lambda: logs_of(world, "a") == before)
        await world.until(lambda: "damaged" not in world.alarms("a"))


async def test_two_nodes_damaged_in_different_places_repair_each_other(autojump_clock):
    async with open_world("real", "ab") as world:
        await pair(world)
        for node in "ab":
            await world.database(node).sealing.seal_now()
        before = {node: logs_of(world, node) for node in "ab"}
        for number in (1, 4, 9):
            damage(world, "a", number, at=6)
        for number in (2, 5, 10):
            damage(world, "b", number, at=6)
        async with trio.open_nursery() as nursery:
            for node in "ab":
                nursery.start_soon(world.database(node).scrubbing.scrub_now)
        for node in "ab":
            assert logs_of(world, node) == before[node]
            assert world.database(node).scrubbing.report.repaired == 3


async def test_the_same_damage_on_both_is_told_on_both(autojump_clock):
    async with open_world("real", "ab") as world:
        await pair(world)
        for node in "ab":
            await world.database(node).sealing.seal_now()
        for node in "ab":
            damage(world, node, 3, at=6)
        for node in "ab":
            report = await world.database(node).scrubbing.scrub_now()
            assert report.repaired == 0 and len(report.damaged) == 1
            assert "damaged" in world.alarms(node)
