"""INV-4: a role is on disk before it takes effect, whatever fails, is cancelled or happens at the same time."""

from __future__ import annotations

import pytest
import trio

from replication.dropped import DroppedList
from replication.role_keeper import RoleKeeper
from replication.roles import ROLE_FILE, Role, RoleState, read_role, write_role
from storage import MemoryDisk, PromotionRefused, Seams, WorkHere

from .world import open_world


class SlowDisk(MemoryDisk):
    """Takes a second for everything; fails when told to."""

    fails = False

    async def run(self, call, *args):
        await trio.sleep(1)
        if self.fails:
            raise OSError(5, "no")
        return call(*args)


class Watched:
    def __init__(self) -> None:
        self.disk = SlowDisk()
        self.changes: list[tuple[Role, Role, RoleState]] = []
        seams = Seams(self.disk, lambda: 1, lambda count: bytes(count), WorkHere(self.disk))
        self.yielded = 0
        self.keeper = RoleKeeper(seams, yields=self.yields, changed=self.changed)
        self.seams = seams

    def yields(self) -> None:
        assert self.keeper.yielding
        self.yielded += 1

    def changed(self, old: RoleState, new: RoleState) -> None:
        self.changes.append((old.role, new.role, self.on_disk()))

    def on_disk(self) -> RoleState:
        return read_role(self.disk.read_file(ROLE_FILE))


async def primary() -> Watched:
    watched = Watched()
    await watched.keeper.open(named_primary=True, data_epoch=0)
    assert watched.on_disk() == watched.keeper.state and watched.keeper.state.role is Role.PRIMARY
    return watched


async def test_every_change_is_on_disk_before_it_takes_effect(autojump_clock: object) -> None:
    watched = await primary()
    assert await watched.keeper.hear("b", Role.PRIMARY, 4)
    assert not await watched.keeper.hear("b", Role.PRIMARY, 4)
    await watched.keeper.promote(lambda: 9, lambda: None)
    assert watched.keeper.state.epoch == 10
    assert [(old, new) for old, new, _ in watched.changes] == [
        (Role.PRIMARY, Role.STANDBY),
        (Role.STANDBY, Role.PRIMARY),
    ]
    assert [disk.epoch for _, _, disk in watched.changes] == [4, 10]


async def test_a_primary_refuses_from_the_moment_it_hears(autojump_clock: object) -> None:
    watched = await primary()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.keeper.hear, "b", Role.STANDBY, 3)
        await trio.sleep(0.5)
        assert watched.keeper.yielding and watched.keeper.state.role is Role.PRIMARY
        assert watched.yielded == 1, "writes are refused at once"
    assert not watched.keeper.yielding and watched.keeper.state.role is Role.STANDBY


async def test_a_role_that_cannot_be_written_is_not_taken(autojump_clock: object) -> None:
    watched = await primary()
    watched.disk.fails = True
    with pytest.raises(OSError):
        await watched.keeper.hear("b", Role.PRIMARY, 3)
    assert watched.keeper.state.epoch == 1 and watched.keeper.yielding, "it may not write either"
    watched.disk.fails = False
    assert await watched.keeper.hear("b", Role.PRIMARY, 3)
    watched.disk.fails = True
    with pytest.raises(PromotionRefused, match="could not be written"):
        await watched.keeper.promote(lambda: 3, lambda: None)
    assert watched.keeper.state.role is Role.STANDBY


async def test_a_change_is_not_given_up_half_way(autojump_clock: object) -> None:
    watched = await primary()
    with trio.move_on_after(0.5):
        await watched.keeper.hear("b", Role.PRIMARY, 3)
    assert watched.keeper.state.role is Role.STANDBY and watched.on_disk().epoch == 3


async def test_two_promotions_at_once_are_two_epochs_and_the_check_runs_under_the_lock(autojump_clock: object) -> None:
    watched = Watched()
    await watched.keeper.open(named_primary=False, data_epoch=0)

    def only_a_standby() -> None:
        if watched.keeper.state.role is Role.PRIMARY:
            raise PromotionRefused("it is primary by now")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.keeper.promote, lambda: 0, only_a_standby)
        await trio.sleep(0.1)
        with pytest.raises(PromotionRefused):
            await watched.keeper.promote(lambda: 0, only_a_standby)
    assert watched.keeper.state.epoch == 1


async def test_a_crash_right_after_a_promotion_was_written_ends_in_the_new_reign(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await world.stop("b")
        world.nodes["b"].disk.replace_file(ROLE_FILE, write_role(RoleState(Role.PRIMARY, 2, "test")))
        await world.start("b")
        await world.until(lambda: world.member("a").role is Role.STANDBY and world.same("a", "b"))
        assert [reign.epoch for reign in world.database("a").history] == [1, 2]
        world.write("b", 1)


async def test_dropped_databases_are_remembered_on_disk(autojump_clock: object) -> None:
    watched = Watched()
    dropped = DroppedList(watched.seams)
    await dropped.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dropped.add, b"u" * 16)
        nursery.start_soon(dropped.add, b"v" * 16)
    await dropped.discard(b"v" * 16)
    again = DroppedList(watched.seams)
    await again.open()
    assert again.all() == dropped.all() == [b"u" * 16] and again.has(b"u" * 16) and not again.has(b"v" * 16)
