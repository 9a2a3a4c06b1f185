"""One primary and two to four standbys: acknowledgements by count, promotion of one of several, members that come and go."""

from __future__ import annotations

import pytest
import trio

from replication import OnAckTimeout, Role
from storage import AckTimeout, PromotionRefused

from .world import World, open_world

BOTH = pytest.mark.parametrize("kind", ["fake", "real"])


async def start_all(world: World, **options: object) -> object:
    """Every node, and database d with a few commits everywhere."""
    await world.start(*world.nodes, **options)
    database = await world.create("a")
    world.write("a", 5)
    await world.until(lambda: world.same(*world.nodes))
    return database


async def confirmed(world: World, database: object, node: str = "a") -> int:
    """One more commit, acknowledged."""
    seq = world.write(node)
    await world.member(node).acknowledged(database, seq)
    return seq


@BOTH
async def test_two_of_three_standbys_are_enough_when_two_are_asked_for(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abcd", acks=2, ack_timeout_s=3.0) as world:
        database = await start_all(world)
        world.cut("a", "d")
        await world.apart("a", "d")
        began = trio.current_time()
        seq = await confirmed(world, database)
        assert trio.current_time() - began < 3
        assert world.database("b").visible.seq >= seq and world.database("c").visible.seq >= seq
        world.cut("a", "c")
        unconfirmed = world.write("a")
        with pytest.raises(AckTimeout, match="2 standbys"):
            await world.member("a").acknowledged(database, unconfirmed)
        assert world.database("b").visible.seq >= unconfirmed, "INV-1: one of two is not enough"
        world.heal("a", "d")
        await world.until(lambda: world.database("d").visible.seq >= unconfirmed)
        await confirmed(world, database)
        world.heal("a", "c")
        await world.until(lambda: world.same(*"abcd"))


async def test_degrade_ends_when_enough_of_several_are_back_and_not_before(autojump_clock: object) -> None:
    async with open_world("real", "abcd", acks=2, ack_timeout_s=2.0, on_ack_timeout=OnAckTimeout.DEGRADE) as world:
        database = await start_all(world)
        for name in "bcd":
            world.cut("a", name)
        await confirmed(world, database)
        assert world.alarms("a") == {"degraded"}
        world.heal("a", "c")
        await world.until(lambda: world.same("a", "c"))
        assert world.alarms("a") == {"degraded"}, "one of the two that are asked for"
        world.heal("a", "b")
        await world.until(lambda: world.alarms("a") == set())


@BOTH
async def test_the_most_advanced_is_promoted_and_the_others_follow_it_from_where_they_are(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abcd") as world:
        await start_all(world)
        world.cut("a", "d")
        world.write("a", 4)
        await world.until(lambda: world.same("a", "b", "c"))
        world.cut("a", "c")
        best = world.write("a", 4)
        await world.until(lambda: world.same("a", "b"))
        world.cut("a", "b")
        alone = world.write("a", 3)
        lags = world.member("a").status()["databases"]["d"]["standbys"]
        assert [lags[name]["lag"]["commits"] for name in "bcd"] == [3, 7, 11]
        await world.stop("a")
        await trio.sleep(5)
        for name in "cd":
            with pytest.raises(PromotionRefused, match="lacks"):
                await world.member(name).promote()
        await world.member("b").promote()
        for name in "bcd":
            world.heal("a", name)
        await world.until(lambda: world.same("b", "c", "d"))
        assert world.database("c").position.seq >= best and not world.nodes["c"].shelf.salvage
        await world.start("a")
        await world.until(lambda: world.same(*"abcd"))
        assert [world.member(name).role for name in "abcd"] == [Role.STANDBY, Role.PRIMARY, Role.STANDBY, Role.STANDBY]
        if kind == "fake":
            assert world.nodes["a"].shelf.salvage, "what only a had is kept"
        assert alone > best


@BOTH
async def test_who_has_more_than_the_promoted_one_rewinds_to_it(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abcd") as world:
        await start_all(world)
        world.cut("a", "d")
        world.write("a", 6)
        await world.until(lambda: world.same("a", "b", "c"))
        await world.stop("a")
        await trio.sleep(5)
        await world.member("d").promote(force=True)
        for name in "abc":
            world.heal("a", name)
        world.heal("a", "d")
        await world.until(lambda: world.same("b", "c", "d"))
        seq = world.write("d", 3)
        await world.start("a")
        await world.until(lambda: world.same(*"abcd"))
        assert world.database("a").position.seq >= seq and world.database("a").history[-1].epoch == 2
        if kind == "fake":
            assert all(world.nodes[name].shelf.salvage for name in "abc"), "INV-7: each keeps what it cuts"


@BOTH
async def test_standbys_at_different_positions_hold_the_log_for_the_last_and_catch_up(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abcde") as world:
        await start_all(world)
        ends = {}
        for name in "bcde":
            await world.stop(name)
            ends[name] = world.database("a").position.seq
            world.write("a", 20, size=1_000)
        await world.until(lambda: floor_of(world) <= ends["b"])
        for name in "edcb":
            await world.start(name)
            await world.until(lambda name=name: world.same("a", name))
        end = world.database("a").position.seq
        await world.until(lambda: floor_of(world) >= end)
        assert world.alarms("a") == set()


def floor_of(world: World) -> int:
    return world.member("a").status()["databases"]["d"]["floor"]


@BOTH
async def test_a_standby_that_is_configured_later_is_copied_to(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abc", seed_bytes_min=1) as world:
        await world.start("a", "b", members="ab")
        await world.create("a")
        world.write("a", 300, size=1_000)
        await world.until(lambda: world.same("a", "b"))
        assert set(world.member("a").status()["peers"]) == {"b"}
        if kind == "real":
            await world.database("a").sealing.seal_now()
        for name in "ab":
            await world.stop(name)
        await world.start("a", "b", "c")
        await world.until(lambda: world.same("a", "b", "c"))
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b", "c"))


async def test_a_standby_that_is_configured_no_more_does_not_hold_the_log(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        world.engine_options |= {"memtable_records_max": 100, "log_segment_bytes": 20_000, "copy_grace_s": 0.0}
        await start_all(world)
        await world.stop("c")
        end = world.database("a").position.seq
        for _ in range(10):
            world.write("a", 40, size=500)
            await world.until(lambda: world.same("a", "b"))
        assert world.database("a").log.segments[0][1] <= end + 1, "kept for c, which is away"
        for name in "ab":
            await world.stop(name)
        await world.start("a", "b", members="ab")
        for _ in range(4):
            world.write("a", 60, size=500)
            await world.until(lambda: world.same("a", "b"))
            await world.database("a").sealing.seal_now()
        await world.until(lambda: world.database("a").log.segments[0][1] > 300)
        assert set(world.member("a").status()["databases"]["d"]["standbys"]) == {"b"}
        await world.start("c")
        await trio.sleep(20)
        assert "check the nodes in both configurations" in world.member("c").status()["peers"]["a"]["last_error"] or not world.same("a", "c")
