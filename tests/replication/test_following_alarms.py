"""Alarms of a copy speak of the primary that is followed now, and a copy that opens late is followed all the same."""

from __future__ import annotations

import errno

import pytest

from replication.alarms import AlarmKind, Alarms

from .world import World, open_world


def fail_reads(world: World, node: str, path: str) -> None:
    """The device of a node fails every read of this file."""
    disk = world.nodes[node].disk
    honest = disk.read_file

    def read_file(name: str) -> bytes:
        if name == path:
            raise OSError(errno.EIO, "input/output error", name)
        return honest(name)

    disk.read_file = read_file  # type: ignore[method-assign]


async def test_a_copy_that_the_disk_kept_from_opening_is_followed_once_it_opens(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await world.stop("b")
        fail_reads(world, "b", "d/database.json")
        await world.start("b")
        await world.until(lambda: "standby-failed" in world.alarms("b"))
        del world.nodes["b"].disk.read_file
        world.write("a", 5)
        await world.until(lambda: "d" in world.nodes["b"].engine.databases and world.same("a", "b"))
        await world.until(lambda: world.alarms("b") == set())


async def test_what_was_missing_on_the_old_primary_is_no_alarm_under_a_new_one(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        await world.start("a", "b", "c")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b", "c"))
        await world.stop("a")
        fail_reads(world, "a", "d/database.json")
        await world.start("a")
        await world.until(lambda: "unknown-to-primary" in world.alarms("b") and "unknown-to-primary" in world.alarms("c"))
        await world.member("c").promote(force=True)
        await world.until(lambda: world.same("b", "c"))
        await world.until(lambda: world.alarms("b") == world.alarms("c") == set())


@pytest.mark.parametrize("database", [None, "d"])
def test_what_is_said_of_following_goes_and_the_rest_stays(database: str | None) -> None:
    alarms = Alarms()
    for kind in AlarmKind:
        for name in ("d", "e"):
            alarms.put(kind, "why", now_us=1, database=name, peer="a")
    alarms.clear_following(database)
    of_following = {AlarmKind.REFUSED_COPY, AlarmKind.STANDBY_FAILED, AlarmKind.UNKNOWN_TO_PRIMARY}
    names = {"d", "e"} if database is None else {"d"}
    left = {(kind, name) for kind in AlarmKind for name in ("d", "e") if kind not in of_following or name not in names}
    assert {(alarm.kind, alarm.database) for alarm in alarms.all()} == left
