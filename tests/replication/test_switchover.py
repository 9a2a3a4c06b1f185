"""Switchover: the office moves and nothing is lost, or it stays (INV-1, INV-4)."""

from __future__ import annotations

import errno
import json

import pytest
import trio

from replication import Role
from replication.messages import Hello
from replication.peers import Peer
from replication.roles import (
    ROLE_FILE,
    RoleState,
    fenced,
    handed_over,
    on_hear,
    promoted,
    read_role,
    write_role,
)
from storage import SyncMode
from storage.errors import BadRequest, PromotionRefused, TwinlogError

from .world import World, open_world

KINDS = ["fake", "real"]


async def pair(world: World, nodes: str = "ab") -> None:
    await world.start(*nodes)
    await world.create("a")
    world.write("a", 20)
    await world.until(lambda: world.same(*nodes))


def leave_offer(world: World) -> RoleState:
    """As a that stopped right after it had handed over to b leaves it in its role.json."""
    disk = world.nodes["a"].disk
    offered = handed_over(read_role(disk.read_file(ROLE_FILE)), "b")
    disk.replace_file(ROLE_FILE, write_role(offered))
    return offered


@pytest.mark.parametrize("kind", KINDS)
async def test_it_moves_the_office_and_loses_nothing(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abc") as world:
        await pair(world, "abc")
        written = []

        async def write_on() -> None:
            while True:
                for name in "ab":
                    try:
                        written.append(f"{name}-{world.write(name)}".encode())
                    except TwinlogError:
                        pass
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_on)
            await trio.sleep(0.5)
            epoch, stopped_s = await world.member("a").switch_over("b", 10.0)
            assert epoch == 3 and stopped_s < 5
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        assert [world.member(name).role for name in "abc"] == [Role.STANDBY, Role.PRIMARY, Role.STANDBY]
        await world.until(lambda: world.same("a", "b", "c"))
        assert any(key.startswith(b"b-") for key in written), "the new primary took writes"
        for name in "abc":
            for key in written:
                assert await world.document(name, key) is not None, (name, key)
        back, _ = await world.member("b").switch_over("a", 10.0)
        assert back == 5 and world.member("a").role is Role.PRIMARY
        world.write("a")
        await world.until(lambda: world.same("a", "b", "c"))


@pytest.mark.parametrize("kind", KINDS)
async def test_what_stands_in_the_way_is_named_and_nothing_changes(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abc") as world:
        await pair(world, "abc")
        with pytest.raises(BadRequest, match="no other node 'x'"):
            await world.member("a").switch_over("x", 1.0)
        with pytest.raises(PromotionRefused, match="not the primary"):
            await world.member("b").switch_over("a", 1.0)
        world.cut("a", "b")
        await world.apart("a", "b")
        with pytest.raises(PromotionRefused, match="not connected"):
            await world.member("a").switch_over("b", 1.0)
        world.write("a", 3)
        await world.until(lambda: world.same("a", "c"))
        assert (world.member("a").role, world.member("a").epoch) == (Role.PRIMARY, 1)


async def test_a_standby_that_does_not_arrive_leaves_everything_as_it_was(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        world.hold("b")
        world.write("a", 5)
        with pytest.raises(PromotionRefused, match="lacks 5 commits"):
            await world.member("a").switch_over("b", 1.0)
        world.write("a", 5)
        world.release("b")
        await world.until(lambda: world.same("a", "b"))
        assert (world.member("a").epoch, world.member("b").epoch) == (1, 1)


async def test_writes_are_refused_by_name_while_it_runs(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        world.hold("b")
        world.write("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.member("a").switch_over, "b", 5.0)
            await trio.sleep(1)
            with pytest.raises(TwinlogError, match="handing over to b"):
                world.write("a")
            with pytest.raises(PromotionRefused, match="under way"):
                await world.member("a").switch_over("b", 5.0)
            world.release("b")
        assert world.member("b").role is Role.PRIMARY


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crash_after_the_office_was_handed_over_only_delays_it(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await pair(world)
        await world.stop("a")
        leave_offer(world)
        await world.start("a")
        await world.until(lambda: world.member("b").role is Role.PRIMARY)
        world.write("b")
        await world.until(lambda: world.same("a", "b"))
        assert not json.loads(world.nodes["a"].disk.read_file(ROLE_FILE)).get("hands_over_to"), "the offer is over"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_standby_that_lacks_something_declines_and_the_old_primary_goes_on(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await pair(world)
        await world.stop("b")
        world.write("a", 3)
        await world.stop("a")
        leave_offer(world)
        await world.start("a", "b")
        await world.until(lambda: world.member("a").role is Role.PRIMARY)
        assert (world.member("a").epoch, world.member("b").role) == (4, Role.STANDBY)
        await world.until(lambda: world.member("a").status()["databases"]["d"]["writable"])
        world.write("a")
        await world.until(lambda: world.same("a", "b"))


async def test_whoever_takes_the_office_has_synced_all_that_it_was_sent(autojump_clock: object) -> None:
    """In async durability too: after the switchover the others follow what the new primary has, and power may fail."""
    async with open_world("real", "ab") as world:
        await pair(world)
        disk, database = world.nodes["b"].disk, next(iter(world.nodes["b"].engine.databases.values()))
        replace, synced = disk.replace_file, []

        def seen(path: str, data: bytes) -> None:
            if path == ROLE_FILE and read_role(data).role is Role.PRIMARY:
                synced.append((database.log.synced_seq, database.position.seq))
            replace(path, data)

        disk.replace_file = seen
        world.write("a", 5)
        await world.member("a").switch_over("b", 10.0)
        ((synced_seq, seq),) = synced
        assert synced_seq == seq == world.nodes["a"].engine.databases["d"].position.seq
        assert database.engine_options.sync_mode is SyncMode.ASYNC


async def test_an_offer_that_a_full_disk_kept_from_being_taken_or_declined_is_heard_again(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        await world.stop("b")
        await world.stop("a")
        b, offered = world.nodes["b"].disk, leave_offer(world)
        replace, refused = b.replace_file, []

        def full(path: str, data: bytes) -> None:
            if path == ROLE_FILE and read_role(data).epoch > offered.epoch:
                refused.append(read_role(data).role)
                raise OSError(errno.ENOSPC, "no space left on device", path)
            replace(path, data)

        b.replace_file = full
        await world.start("a", "b")
        await world.until(lambda: len(refused) >= 4)
        assert set(refused) == {Role.PRIMARY, Role.STANDBY}, "neither taken nor declined"
        assert world.member("b").role is Role.STANDBY
        b.replace_file = replace
        await world.until(lambda: world.member("b").role is Role.PRIMARY)
        world.write("b")
        await world.until(lambda: world.same("a", "b"))


async def test_an_offer_that_is_heard_twice_is_taken_once(autojump_clock: object) -> None:
    """Two links may carry it. The old primary counts with the epoch after its offer and no other, if it is promoted meanwhile (INV-4)."""
    async with open_world("fake", "ab") as world:
        await pair(world)
        await world.stop("a")
        offered = leave_offer(world)
        replica, heard = world.member("b")._replica, []
        take = replica.on_offer

        def twice(peer: Peer, offer: Hello) -> None:
            heard.append(offer)
            take(peer, offer)
            take(peer, offer)

        replica.on_offer = twice
        await world.start("a")
        await world.until(lambda: world.member("b").role is Role.PRIMARY)
        world.write("b")
        await world.until(lambda: world.same("a", "b"))
        assert len(heard) == 1 and world.member("b").epoch == offered.epoch + 1


async def test_an_offer_that_another_order_ended_is_neither_taken_nor_declined(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        await world.stop("a")
        offered = leave_offer(world)
        replica = world.member("b")._replica
        take = replica.on_offer

        def late(peer: Peer, offer: Hello) -> None:
            async def another_order_is_first() -> None:
                async with replica.keeper._lock:
                    take(peer, offer)
                    await trio.sleep(1)
                    await replica.keeper._become(RoleState(Role.STANDBY, 7, "heard of epoch 7"))

            world.nodes["b"].nursery.start_soon(another_order_is_first)

        replica.on_offer = late
        await world.start("a")
        await world.until(lambda: world.member("b").epoch == 7)
        await trio.sleep(5)
        assert (world.member("b").role, world.member("b").epoch) == (Role.STANDBY, 7)
        assert replica.declined[2] != offered.epoch + 1, "no Hello says so"


async def test_one_of_two_promotions_at_once_is_told_of_the_other(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        await world.stop("a")
        told: list[object] = []

        async def promote() -> None:
            try:
                told.append(await world.member("b").promote(force=True))
            except PromotionRefused as error:
                told.append(error.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(promote)
            nursery.start_soon(promote)
        assert 2 in told and any("primary of epoch 2 by now" in str(one) for one in told), told


async def test_a_promotion_ends_an_offer_that_nobody_took(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        await world.stop("b")
        await world.stop("a")
        leave_offer(world)
        await world.start("a")
        assert await world.member("a").promote() == 5, "b may lead epoch 3 by now; 4 is left out, as by everybody"
        await world.start("b")
        await world.until(lambda: world.same("a", "b"))
        assert (world.member("a").role, world.member("b").role) == (Role.PRIMARY, Role.STANDBY)


async def test_the_old_primary_can_be_promoted_though_its_offer_was_taken_unseen(autojump_clock: object) -> None:
    """The operator thinks better of it while the new primary is out of reach: one of the two ends above the other (INV-4)."""
    async with open_world("fake", "ab") as world:
        await pair(world)
        await world.stop("b")
        await world.stop("a")
        b, offered = world.nodes["b"].disk, leave_offer(world)
        b.replace_file(ROLE_FILE, write_role(promoted(RoleState(Role.STANDBY, 1, ""), offered.epoch)))
        world.cut("a", "b")
        await world.start("a", "b")
        await world.member("a").promote()
        world.heal("a", "b")
        await world.until(lambda: world.member("b").role is Role.STANDBY)
        await world.until(lambda: world.same("a", "b"))
        assert world.member("a").role is Role.PRIMARY


@pytest.mark.parametrize("kind", KINDS)
async def test_a_third_node_is_promoted_above_an_offer_that_was_taken_unseen(kind: str, autojump_clock: object) -> None:
    """It has heard that the old primary stepped down, and not who leads since: the office may have been taken in the next epoch (INV-4)."""
    async with open_world(kind, "abc") as world:
        await pair(world, "abc")
        for name in "abc":
            await world.stop(name)
        offered = leave_offer(world)
        taken = promoted(RoleState(Role.STANDBY, 1, ""), offered.epoch)
        world.nodes["b"].disk.replace_file(ROLE_FILE, write_role(taken))
        world.cut("a", "b")
        world.cut("b", "c")
        await world.start("a", "b", "c")
        await world.until(lambda: world.member("c").epoch == offered.epoch)
        await world.until(lambda: world.member("b").leads)
        world.write("b", 3)
        assert await world.member("c").promote(force=True) > taken.epoch
        world.write("c", 5)
        world.heal("b", "c")
        world.heal("a", "b")
        await world.until(lambda: world.same("a", "b", "c"))
        assert [world.member(name).role for name in "abc"] == [Role.STANDBY, Role.STANDBY, Role.PRIMARY]


async def test_a_third_node_is_promoted_above_an_office_that_was_declined_and_taken_back_unseen(autojump_clock: object) -> None:
    """It has heard of the offer's epoch alone: the old primary may lead the one after the next (INV-4)."""
    async with open_world("fake", "abc") as world:
        await pair(world, "abc")
        for name in "abc":
            await world.stop(name)
        offered = leave_offer(world)
        world.nodes["c"].disk.replace_file(ROLE_FILE, write_role(RoleState(Role.STANDBY, offered.epoch, "heard of the offer")))
        taken_back = RoleState(Role.PRIMARY, offered.epoch + 2, "b declined the office")
        world.nodes["a"].disk.replace_file(ROLE_FILE, write_role(taken_back))
        await world.start("c")
        assert await world.member("c").promote(force=True) > taken_back.epoch
        world.write("c", 5)
        await world.start("a", "b")
        await world.until(lambda: world.same("a", "b", "c"))
        assert [world.member(name).role for name in "abc"] == [Role.STANDBY, Role.STANDBY, Role.PRIMARY]


async def test_a_promotion_is_one_epoch_above_one_that_was_led(autojump_clock: object) -> None:
    async with open_world("fake", "abc") as world:
        await pair(world, "abc")
        replica = world.member("b")._replica
        peer = replica.peers["c"]
        for role, epoch, above in [("primary", 5, 5), ("standby", 5, 5), ("standby", 6, 8), ("fenced", 6, 8), ("frozen", 6, 6), ("standby", 8, 10)]:
            await replica.hear(peer, role, epoch)
            assert replica.highest_epoch() == above, (role, epoch)


async def test_an_offer_is_over_once_another_leads_its_epoch(autojump_clock: object) -> None:
    """A third node was promoted that had not heard that the old primary stepped down. Nobody is unseated by the offer afterwards."""
    async with open_world("fake", "abc") as world:
        await pair(world, "abc")
        for name in "abc":
            await world.stop(name)
        leave_offer(world)
        await world.start("c")
        assert await world.member("c").promote(force=True) == 2
        world.write("c", 5)
        await world.start("a")
        await world.until(lambda: world.same("a", "c"))
        await world.start("b")
        await world.until(lambda: world.same("a", "b", "c"))
        assert [(world.member(name).role, world.member(name).epoch) for name in "abc"] == [
            (Role.STANDBY, 2),
            (Role.STANDBY, 2),
            (Role.PRIMARY, 2),
        ]
        assert "hands_over_to" not in json.loads(world.nodes["a"].disk.read_file(ROLE_FILE))


def test_what_ends_an_offer_goes_above_the_epoch_in_which_it_may_be_taken() -> None:
    offered = handed_over(RoleState(Role.PRIMARY, 7, ""), "b")
    taken = promoted(RoleState(Role.STANDBY, 7, ""), offered.epoch)
    assert promoted(offered, 0).epoch > taken.epoch
    assert fenced(offered, "").epoch == taken.epoch and not fenced(offered, "").hands_over_to
    for role in Role:
        for epoch in (7, 8):
            assert bool(on_hear(offered, "c", role, epoch).hands_over_to) is not (role is Role.PRIMARY and epoch == 8)


def test_the_offer_stands_in_role_json() -> None:
    offered = handed_over(RoleState(Role.PRIMARY, 7, ""), "b")
    assert (offered.role, offered.epoch, offered.hands_over_to) == (Role.STANDBY, 8, "b")
    assert read_role(write_role(offered)) == offered
    assert "hands_over_to" not in json.loads(write_role(RoleState(Role.PRIMARY, 7, "")))
