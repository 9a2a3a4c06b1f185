"""Small pure parts: lag, backoff, which of two links stays, seeds, tails, alarms, messages."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.alarms import ALARMS_MAX, AlarmKind, Alarms
from replication.lag import SAMPLES_MAX, Lag, LagMeter
from replication.links import BACKOFF_MAX_S, BACKOFF_MIN_S, backoff_s, keeps_new_link
from replication.mark_memory import KEPT, MarkMemory
from replication.messages import (
    Ack,
    Batches,
    DatabaseState,
    Follow,
    Frames,
    Heartbeat,
    Hello,
    Instruct,
    Order,
    cut,
    decode,
    encode,
)
from replication.seeding import SeedPlan, SeedProgress
from replication.tails import TailHunt, answers_needed
from storage import PeerError, Reign

STATE = DatabaseState("d", b"u" * 16, {"shards": 8, "crc": True}, [[1, 7, 1, 2**64 - 1]], 1, 9, 2**63, 8)


def test_lag_counts_commits_bytes_and_seconds() -> None:
    meter = LagMeter()
    assert meter.of(0, 5.0) == Lag(0, 0, 0.0)
    for second in range(5):
        meter.observe(second * 10, second * 1000, float(second))
    assert meter.of(40, 9.0) == Lag(0, 0, 0.0)
    assert meter.of(35, 9.0) == Lag(5, 500, 5.0)
    assert meter.of(10, 9.0) == Lag(30, 3000, 7.0)
    meter.observe(3, 10, 10.0)  # the log was reopened
    assert meter.of(3, 11.0) == Lag(0, 0, 0.0) and meter.of(1, 11.0).commits == 2


def test_backoff_is_bounded_and_spread() -> None:
    for attempt, byte in itertools.product([0, 1, 5, 100, 10_000], [0, 255]):
        assert BACKOFF_MIN_S / 2 <= backoff_s(attempt, bytes([byte])) <= BACKOFF_MAX_S
    assert backoff_s(3, b"\x00") < backoff_s(3, b"\xff")


@pytest.mark.parametrize("old_dialler", ["a", "b"])
@pytest.mark.parametrize("new_dialler", ["a", "b"])
def test_both_ends_keep_the_same_link(old_dialler: str, new_dialler: str) -> None:
    views = {
        keeps_new_link(me=me, peer=peer, old_dialled_by_me=old_dialler == me, new_dialled_by_me=new_dialler == me)
        for me, peer in [("a", "b"), ("b", "a")]
    }
    assert views == {old_dialler == new_dialler or new_dialler == "a"}


@given(st.data())
def test_messages_come_back_and_damage_never_passes_for_another_type(data: st.DataObject) -> None:
    message = data.draw(
        st.sampled_from(
            [
                Hello(1, "c", "a", "00", "primary", 3, "h:1", [STATE], [b"x" * 16]),
                Follow(STATE, True),
                Instruct(b"u" * 16, Order.REWIND, 4, "because", STATE),
                Frames(b"u" * 16, b"data", 7),
                Heartbeat("primary", 3, {b"u" * 16: (1, 2, 3)}, {b"u" * 16: 1}, 5),
            ]
        )
    )
    encoded = encode(message)
    assert decode(encoded) == message
    end = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(PeerError):
        decode(encoded[:end])


@pytest.mark.parametrize(
    "bad",
    [
        Ack(b"u" * 16, 3, 4, 0),
        Frames(b"u" * 16, b"", -1),
        Follow(DatabaseState("d", b"short", {}, [], 0, 0, 0, 0), True),
        Follow(DatabaseState("d", b"u" * 16, {}, [[2, 1, 1, 0], [1, 2, 5, 0]], 1, 9, 0, 9), True),
        Follow(DatabaseState("d", b"u" * 16, {}, [[1, 1, 5, 0]], 1, 3, 0, 3), True),
        Follow(DatabaseState("d", b"u" * 16, {}, [], 0, 3, 0, 4), True),
    ],
)
def test_values_that_lie_are_refused(bad: object) -> None:
    with pytest.raises(PeerError):
        decode(encode(bad))


@given(st.binary(max_size=50), st.integers(1, 20))
def test_batches_are_cut_and_put_together_again(data: bytes, limit: int) -> None:
    batches = Batches()
    whole = [batches.add(Frames(b"u" * 16, part, rest)) for part, rest in cut(data, limit)]
    assert whole[-1] == data and all(part is None for part in whole[:-1])
    if len(data) > limit:
        first, rest = cut(data, limit)[0]
        batches.add(Frames(b"u" * 16, first, rest))
        with pytest.raises(PeerError):
            batches.add(Frames(b"u" * 16, b"x", rest + 1))


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 30)), st.data())
def test_a_seed_carries_exactly_the_missing_bytes(files: dict[str, int], data: st.DataObject) -> None:
    have = {name: data.draw(st.integers(0, length)) for name, length in files.items() if data.draw(st.booleans())}
    plan = SeedPlan(files, have, chunk_bytes=7)
    progress = SeedProgress(files)
    progress.start(have)
    total = 0
    while (chunk := plan.next()) is not None:
        assert chunk.length <= 7
        progress.take(chunk.file, chunk.offset, chunk.length)
        total += chunk.length
    progress.finish()
    assert total == sum(files[name] - staged for name, staged in have.items())


def test_a_seed_refuses_what_was_not_asked_for() -> None:
    with pytest.raises(PeerError):
        SeedPlan({"a": 3}, {"b": 0}, 7)
    with pytest.raises(PeerError):
        SeedPlan({"a": 3}, {"a": 4}, 7)
    progress = SeedProgress({"a": 3})
    with pytest.raises(PeerError):
        progress.take("a", 0, 1)
    progress.start({"a": 1})
    for file, offset, length in [("a", 0, 1), ("b", 0, 1), ("a", 1, 3)]:
        with pytest.raises(PeerError):
            progress.take(file, offset, length)
    with pytest.raises(PeerError):
        progress.finish()


@pytest.mark.parametrize(("acks", "standbys", "needed"), [(0, 2, 0), (1, 1, 1), (1, 2, 2), (2, 2, 1), (3, 2, 0), (2, 4, 3)])
def test_enough_standbys_answer_to_meet_every_acknowledgement(acks: int, standbys: int, needed: int) -> None:
    assert answers_needed(acks=acks, standbys=standbys) == needed
    if needed:
        for holders in itertools.combinations(range(standbys), acks):
            for asked in itertools.combinations(range(standbys), needed):
                assert set(holders) & set(asked)


def test_the_longest_durable_tail_is_taken() -> None:
    hunt = TailHunt("d", 2)
    mine = (Reign(1, 7, 1, 2**64 - 1),)
    hunt.answer("b", STATE)
    assert not hunt.enough
    hunt.answer("c", DatabaseState("d", b"u" * 16, {}, [[1, 7, 1, 2**64 - 1]], 1, 20, 0, 7))
    assert hunt.enough
    assert hunt.best(mine, 5, my_epoch=1) == ("b", 8), "what is only received does not count"
    assert hunt.best(mine, 8, my_epoch=1) is None
    hunt.forget("b")
    assert not hunt.enough and hunt.best(mine, 5, my_epoch=1) == ("c", 7)


def test_alarms_are_bounded_and_one_of_each() -> None:
    alarms = Alarms()
    assert alarms.put(AlarmKind.HASH_DIFFERS, "x", now_us=1, database="d", peer="b")
    assert not alarms.put(AlarmKind.HASH_DIFFERS, "y", now_us=2, database="d", peer="b")
    assert [(alarm.message, alarm.since_us) for alarm in alarms.all()] == [("y", 1)]
    for number in range(ALARMS_MAX + 5):
        alarms.put(AlarmKind.DEGRADED, "z", now_us=3, database=str(number))
    assert len(alarms.all()) == ALARMS_MAX and alarms.left_out == 6
    alarms.clear(AlarmKind.HASH_DIFFERS, database="d", peer="b")
    assert not alarms.has(AlarmKind.HASH_DIFFERS, database="d", peer="b")


def test_old_marks_are_spread_over_the_longest_delay_and_bounded() -> None:
    memory = MarkMemory()
    for seq in range(10_000):
        memory.note(seq, f"h{seq}", now=float(seq), delay_s=0)
    assert memory.get(0) is None, "nobody is delayed"
    for seq in range(10_000):
        memory.note(seq, f"h{seq}", now=float(seq), delay_s=640.0)
    kept = [seq for seq in range(10_000) if memory.get(seq)]
    assert len(kept) == 2 * KEPT and kept[-1] - kept[0] > 640 and memory.get(kept[5]) == f"h{kept[5]}"


def test_lag_is_known_hours_back_by_a_bounded_number_of_samples() -> None:
    meter = LagMeter()
    for second in range(1, 50_001):
        meter.observe(second, second * 100, float(second))
    for behind in (10, 1_000, 10_000, 40_000):
        lag = meter.of(50_000 - behind, 50_000.0)
        assert lag.commits == behind
        assert abs(lag.seconds - behind) <= max(1, behind / 20) and abs(lag.bytes - 100 * behind) <= 5 * behind
    assert len(meter._samples) <= SAMPLES_MAX
