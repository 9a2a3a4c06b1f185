"""Full disks in the cluster: what could not be made or begun is tried again by itself once there is space."""

from __future__ import annotations

from .world import open_world


async def test_a_copy_that_a_full_disk_refused_is_made_later(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        await world.start("a", "b")
        await world.until(lambda: world.member("b").primary_address())
        world.nodes["b"].disk.capacity_bytes = 1
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: "standby-failed" in world.alarms("b"))
        assert "d" not in world.nodes["b"].engine.databases
        await world.until(lambda: world.member("b").status()["phase"] == "catching-up")
        assert not world.member("b").status()["failures"], "it passes"
        world.nodes["b"].disk.capacity_bytes = None
        await world.until(lambda: "d" in world.nodes["b"].engine.databases and world.same("a", "b"))
        await world.until(lambda: world.alarms("b") == set())


async def test_a_reign_that_a_full_disk_refused_begins_later(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await world.kill("a")
        world.nodes["a"].disk.capacity_bytes = 1
        await world.start("a")
        await world.until(lambda: "no-reign" in world.alarms("a"))
        assert world.member("a").status()["phase"] == "switching", "its reign begins by itself"
        world.nodes["a"].disk.capacity_bytes = None
        await world.until(lambda: world.alarms("a") == set())
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))


async def test_a_standby_at_its_reserve_stops_receiving_and_says_so_and_goes_on_alone(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        disk = world.nodes["b"].disk
        disk.capacity_bytes = sum(len(inode.data) for inode in disk._files.values()) + 500  # far below any reserve
        world.nodes["b"].engine.databases["d"].space.look_again()
        world.write("a", 5)
        await world.until(lambda: "standby-failed" in world.alarms("b"))
        status = world.member("b").status()
        assert status["databases"]["d"]["disk"]["state"] == "full"
        assert "disk-full" in {alarm["kind"] for alarm in status["alarms"]}
        copy = world.member("a").status()["databases"]["d"]["standbys"]["b"]
        assert not copy["streaming"], "it counts as missing for acks"
        assert status["phase"] == world.member("a").status()["peers"]["b"]["phase"] == "catching-up", "a full disk passes by itself"
        assert copy["durable_seq"] < world.nodes["a"].engine.databases["d"].visible.seq
        disk.capacity_bytes = None
        await world.until(lambda: world.same("a", "b"))
        await world.until(lambda: world.alarms("b") == set())
