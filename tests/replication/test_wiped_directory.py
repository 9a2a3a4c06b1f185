"""INV-4: a node whose whole directory is gone knows no epoch, and leads none that another node may have led."""

from __future__ import annotations

import pytest

from replication import Role
from replication.replica import EPOCH_UNHEARD_MIN
from storage import MemoryDisk, PromotionRefused

from .fake_engine import Shelf
from .world import World, open_world


async def lose_directory(world: World, name: str, *links: str) -> None:
    """The node is down, its directory is emptied, and it comes back without a link to anybody."""
    for other in links:
        world.cut(name, other)
    await world.stop(name)
    world.nodes[name].disk, world.nodes[name].shelf = MemoryDisk(), Shelf()
    await world.start(name)


@pytest.mark.parametrize("kind", ["fake", "real"])
async def test_a_wiped_standby_is_not_promoted_into_the_epoch_of_a_primary_that_it_cannot_hear(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        end = world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await lose_directory(world, "b", "a")
        assert world.member("b").epoch == 0
        with pytest.raises(PromotionRefused, match="knows no epoch.*cannot ask a.*force"):
            await world.member("b").promote()
        told = world.member("b").check()
        assert "knows no epoch" in told["why_not"], "whoever decides on a failover is told before"
        assert world.member("b").role is Role.STANDBY and world.write("a") == end + 1

        world.heal("a", "b")
        await world.until(lambda: world.same("a", "b"))
        assert world.member("b").check()["why_not"] == "" and world.member("a").role is Role.PRIMARY


async def test_by_force_it_leads_an_epoch_far_above_all_and_nobody_freezes(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        await world.start("a", "b", "c")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b", "c"))
        led = []
        for _life in range(2):  # the second one has forgotten what the first one led
            await lose_directory(world, "b", "a", "c")
            led.append(await world.member("b").promote(force=True))
        assert min(led) > EPOCH_UNHEARD_MIN and led[0] != led[1], "INV-4: no epoch is led twice"
        await world.create("b", "new")
        world.write("b", name="new")
        for other in "ac":
            world.heal("b", other)
        await world.until(lambda: world.same("a", "b", "c", name="new"))
        assert [world.member(name).role for name in "abc"] == [Role.STANDBY, Role.PRIMARY, Role.STANDBY]
        assert {world.member(name).epoch for name in "abc"} == {led[1]}
        assert world.same("a", "c") and "unknown-to-primary" in world.alarms("a"), "what b does not have is kept, and told"


async def test_nodes_that_all_know_no_epoch_and_hear_each_other_begin_with_the_first(autojump_clock: object) -> None:
    async with open_world("fake", "abc") as world:
        await world.start("a", "b", named="x")
        await world.until(lambda: world.member("a").status()["peers"]["b"]["connected"])
        with pytest.raises(PromotionRefused, match="cannot ask c"):
            await world.member("a").promote()
        await world.start("c", named="x")
        await world.until(lambda: all(row["connected"] for row in world.member("a").status()["peers"].values()))
        assert await world.member("a").promote() == 1
