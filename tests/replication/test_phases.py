"""The table from facts to phase, whole; and the phases that real members go through."""

from __future__ import annotations

from itertools import product

import pytest
import trio

from replication.lag import Lag
from replication.phases import CLOSE_S, Copies, Facts, Phase, is_close, phase_of, worst
from replication.roles import Role
from storage.errors import DiskFailed, ReadOnly

from .world import World, open_world

EVERY = [
    Facts(role=role, fenced=fenced, failed=failed, switching=switching, copies=copies)
    for role, fenced, failed, switching, copies in product(Role, [False, True], [False, True], [False, True], Copies)
]

# What each phase says of the facts, written so that no order of the rows is needed.
SAYS = {
    Phase.FENCED: lambda facts: facts.fenced,
    Phase.FROZEN: lambda facts: facts.role is Role.FROZEN and not facts.fenced,
    Phase.FAILED: lambda facts: facts.failed and not _bound(facts),
    Phase.SWITCHING: lambda facts: facts.switching and not facts.failed and not _bound(facts),
    Phase.PRIMARY: lambda facts: facts.role is Role.PRIMARY and not _hindered(facts),
    Phase.JOINING: lambda facts: _follows(facts) and facts.copies is Copies.NO_PRIMARY,
    Phase.SEEDING: lambda facts: _follows(facts) and facts.copies is Copies.SEEDING,
    Phase.CATCHING_UP: lambda facts: _follows(facts) and facts.copies is Copies.BEHIND,
    Phase.STANDBY: lambda facts: _follows(facts) and facts.copies is Copies.CLOSE,
}


def _bound(facts: Facts) -> bool:
    return facts.fenced or facts.role is Role.FROZEN


def _hindered(facts: Facts) -> bool:
    return _bound(facts) or facts.failed or facts.switching


def _follows(facts: Facts) -> bool:
    return facts.role not in (Role.PRIMARY, Role.FROZEN) and not _hindered(facts)


@pytest.mark.parametrize("facts", EVERY, ids=str)
def test_every_combination_of_facts_has_exactly_one_phase(facts: Facts):
    assert [phase for phase, says in SAYS.items() if says(facts)] == [phase_of(facts)]


def test_every_phase_is_reached_and_has_a_name_of_its_own():
    assert {phase_of(facts) for facts in EVERY} == set(Phase) == set(SAYS)
    assert {phase.value for phase in Phase} == {
        "joining", "seeding", "catching-up", "standby", "primary", "switching", "fenced", "frozen", "failed",
    }  # fmt: skip


@pytest.mark.parametrize("number", range(len(Copies) + 1))
def test_the_copy_that_is_worst_off_counts(number: int):
    assert worst([Copies.CLOSE, *list(Copies)[number:]]) is [*Copies, Copies.CLOSE][number]


def test_without_copies_nothing_is_behind():
    assert worst([]) is Copies.CLOSE


def test_a_copy_is_close_up_to_the_bound_and_a_late_one_by_its_delay_more():
    assert is_close(Lag(9, 9, CLOSE_S)) and not is_close(Lag(9, 9, CLOSE_S + 0.01)) and not is_close(None)
    assert is_close(Lag(9, 9, 60 + CLOSE_S), delay_s=60) and not is_close(Lag(9, 9, 60 + CLOSE_S + 0.01), delay_s=60)


def _phase(world: World, node: str) -> str:
    return world.member(node).status()["phase"]


def _told(world: World, node: str, of: str) -> str | None:
    return world.member(node).status()["peers"][of]["phase"]


async def _settled(world: World) -> None:
    await world.until(lambda: (_phase(world, "a"), _phase(world, "b"), _told(world, "a", "b")) == ("primary", "standby", "standby"))


async def test_a_standby_joins_follows_and_is_without_a_primary_again(autojump_clock: object):
    async with open_world("fake", "ab") as world:
        await world.start("b")
        assert _phase(world, "b") == "joining"
        await world.start("a")
        await world.create("a")
        world.write("a", 5)
        await _settled(world)
        assert _told(world, "b", "a") == "primary"
        await world.stop("b")
        await world.apart("a", "b")
        assert _phase(world, "a") == "primary" and _told(world, "a", "b") is None, "nobody knows what it does now"
        await world.start("b")
        await _settled(world)
        await world.stop("a")
        await world.until(lambda: _phase(world, "b") == "joining")
        assert world.member("b").status()["failures"] == {}


async def test_a_copy_is_seeded_and_both_ends_say_so(autojump_clock: object):
    async with open_world("fake", "ab", seed_chunk_bytes=10_000) as world:
        await world.start("a")
        await world.create("a")
        seq = world.write("a", 100, size=10_000)
        world.database("a").forget_log(seq)
        world.delay_s = 0.05
        await world.start("b")
        await world.until(lambda: _phase(world, "b") == "seeding")
        assert _told(world, "a", "b") == "seeding", "from the order on"
        await _settled(world)


async def test_a_copy_far_behind_is_catching_up(autojump_clock: object):
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        await _settled(world)
        world.hold("b")
        world.write("a", 3)
        await world.until(lambda: _phase(world, "b") == "catching-up" and _told(world, "a", "b") == "catching-up")
        lag = world.member("b").status()["databases"]["d"]["lag"]
        assert lag["commits"] == 3 and lag["seconds"] > CLOSE_S, "not a moment earlier"
        world.release("b")
        await _settled(world)


async def test_a_switchover_is_seen_from_both_ends_while_it_lasts(autojump_clock: object):
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        await _settled(world)
        world.hold("b")
        world.write("a", 3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.member("a").switch_over, "b", 60.0)
            await world.until(lambda: _phase(world, "a") == "switching")
            assert _told(world, "a", "b") == "switching" and "handing over to b" in world.member("a").status()["closed"]
            world.release("b")
        await world.until(lambda: (_phase(world, "b"), _phase(world, "a"), _told(world, "b", "a")) == ("primary", "standby", "standby"))
        assert world.member("b").status()["closed"] == ""


async def test_a_primary_that_waits_for_its_standbys_after_a_crash_is_not_primary_yet(autojump_clock: object):
    async with open_world("fake", "ab", acks=1, named="a") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 3)
        await _settled(world)
        await world.kill("a")
        await world.stop("b")
        await world.start("a")
        assert _phase(world, "a") == "switching"
        await world.start("b")
        await _settled(world)


async def test_two_primaries_of_one_epoch_are_frozen(autojump_clock: object):
    async with open_world("fake", "ab") as world:
        world.refused.add(frozenset("ab"))
        await world.start("a")
        await world.start("b", named="b")
        assert _phase(world, "a") == _phase(world, "b") == "primary"
        world.heal("a", "b")
        await world.until(lambda: _phase(world, "a") == _phase(world, "b") == "frozen")
        await world.until(lambda: _told(world, "a", "b") == "frozen")


async def test_what_has_failed_is_named_and_a_full_disk_is_no_failure(autojump_clock: object):
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        await _settled(world)
        database = world.database("a")
        database.disk_state = {"state": "full", "why": "7 bytes are free", "since_us": 1}
        assert _phase(world, "a") == "primary"
        database.disk_state = {"state": "failed", "why": "fdatasync failed", "since_us": 1}
        assert _phase(world, "a") == "failed" and world.member("a").status()["failures"] == {"d": "fdatasync failed"}
        database.disk_state = {"state": "ok", "why": ""}
        assert _phase(world, "a") == "primary"
        database.damaged, database.refusal = True, ReadOnly("d is read-only: commit 7 is damaged")
        assert world.member("a").status()["failures"] == {"d": "d is read-only: commit 7 is damaged"}
        database.damaged, database.refusal = False, None
        world.nodes["b"].engine.unopened["x"] = "its manifest is unreadable"
        assert _phase(world, "b") == "failed" and "manifest" in world.member("b").status()["failures"]["x"]


async def test_a_copy_whose_following_was_given_up_has_failed_on_both_ends(autojump_clock: object):
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await _settled(world)
        world.cut("a", "b")
        world.database("b").chain ^= 1
        world.heal("a", "b")
        await world.until(lambda: _phase(world, "b") == "failed" and _told(world, "a", "b") == "failed")
        assert "chain-differs" in world.member("b").status()["failures"]["d"]
        assert _phase(world, "a") == "primary", "its own copy is whole"


async def test_a_standby_whose_disk_failed_has_failed_on_both_ends(autojump_clock: object):
    async with open_world("real", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        await _settled(world)
        world.database("b").space.failure = DiskFailed("fdatasync failed: I/O error")
        world.write("a", 3)
        await world.until(lambda: _phase(world, "b") == "failed" and _told(world, "a", "b") == "failed")
        assert not world.alarms("a"), "only what the standby said tells the primary"
        assert "I/O error" in world.member("b").status()["failures"]["d"]
