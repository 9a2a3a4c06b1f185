"""Fence, unfence, rejoin: nothing acknowledged is lost, and no node has an office that somebody else took (INV-1, INV-4)."""

from __future__ import annotations

import pytest
import trio

from node.health import readiness
from replication import Role
from replication.roles import ROLE_FILE, Tenure, read_role
from storage import BadRequest, NotPrimary, PromotionRefused, ReadOnly
from storage.errors import TwinlogError

from .world import World, open_world

BOTH = pytest.mark.parametrize("kind", ["fake", "real"])


async def pair(world: World, nodes: str = "ab") -> None:
    await world.start(*nodes)
    await world.create("a")
    world.write("a", 20)
    await world.until(lambda: world.same(*nodes))


@BOTH
async def test_a_fenced_primary_loses_nothing_acknowledged_and_comes_back_by_rewind(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab", acks=1) as world:
        await pair(world)
        acknowledged, refused = [], []

        async def write_on() -> None:
            while True:
                try:
                    seq = world.write("a")
                    await world.member("a").acknowledged(world.database("a"), seq)
                    acknowledged.append(f"a-{seq}".encode())
                except TwinlogError as error:
                    refused.append(error)
                await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_on)
            await trio.sleep(0.3)
            told = await world.member("a").fence("bad memory")
            await trio.sleep(0.3)
            nursery.cancel_scope.cancel()
        assert (told["role"], told["was"], told["lacking"]) == ("fenced", "primary", {"b": 0})
        assert acknowledged and isinstance(refused[-1], NotPrimary) and "fenced by an operator: bad memory" in str(refused[-1])
        assert await world.document("a", acknowledged[0]) is not None, "it is still read"
        with pytest.raises(PromotionRefused, match="fenced"):
            await world.member("a").promote(force=True)
        assert await world.member("b").promote() == 2, "the standby has everything, so nobody needs to be forced"
        await world.until(lambda: world.member("a").epoch == 2)
        assert world.member("a").role is Role.FENCED and world.member("a").status()["was"] == "standby"
        assert world.member("a").primary_address() == "b:6900"
        for key in acknowledged:
            assert await world.document("b", key) is not None
        await world.member("a").rejoin()
        await world.until(lambda: world.member("b").status()["peers"]["a"]["promotable"])
        world.write("b")
        await world.until(lambda: world.same("a", "b"))
        assert world.alarms("a") == world.alarms("b") == set()


@BOTH
async def test_what_only_the_fenced_primary_had_is_cut_when_it_rejoins(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await pair(world)
        world.cut("a", "b")
        lost = world.write("a", 3)
        await world.apart("a", "b")
        assert (await world.member("a").fence())["lacking"] == {"b": 3}
        assert await world.member("b").promote() == 2
        world.write("b")
        world.heal("a", "b")
        await world.until(lambda: world.member("a").epoch == 2)
        await trio.sleep(5)
        assert world.database("a").position.seq == lost, "a fenced node follows nobody"
        await world.member("a").rejoin()
        await world.until(lambda: world.same("a", "b"))
        assert [reign.epoch for reign in world.database("a").history] == [1, 2]


@BOTH
async def test_a_fence_survives_restarts_and_unfencing_gives_the_office_back(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await pair(world)
        await world.member("a").fence("power work")
        for restart in (world.stop, world.kill):
            await restart("a")
            await world.start("a")
            assert world.member("a").role is Role.FENCED
            with pytest.raises(NotPrimary, match="power work"):
                world.write("a")
        assert read_role(world.nodes["a"].disk.read_file(ROLE_FILE)).was is Tenure.PRIMARY
        assert await world.member("a").unfence() == {"role": "primary", "epoch": 1}
        world.write("a", 3)
        await world.until(lambda: world.same("a", "b"))
        history = [(change["role"], change["epoch"]) for change in world.member("a").role_history()["changes"]]
        assert history == [("primary", 1), ("fenced", 1), ("primary", 1)]
        with pytest.raises(PromotionRefused, match="not fenced"):
            await world.member("a").unfence()


@BOTH
async def test_an_office_that_is_given_back_after_a_crash_waits_for_what_the_standbys_have(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab", acks=1) as world:
        await pair(world)
        await world.member("a").fence()
        await world.kill("a")
        await world.stop("b")
        await world.start("a")
        assert await world.member("a").unfence() == {"role": "primary", "epoch": 1}
        with pytest.raises(ReadOnly, match="takes no writes yet"):
            world.write("a")
        await world.start("b")
        await world.until(lambda: world.member("a").status()["databases"]["d"]["writable"])
        world.write("a")
        await world.until(lambda: world.same("a", "b"))


@pytest.mark.parametrize("heard", [False, True])
async def test_the_office_is_not_given_back_when_somebody_else_took_it(heard: bool, autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        await world.member("a").fence()
        await world.until(lambda: world.member("b").status()["peers"]["a"]["role"] == "fenced")
        if not heard:
            world.cut("a", "b")
            await world.apart("b", "a")
        await world.member("b").promote()
        if heard:
            await world.until(lambda: world.member("a").epoch == 2)
            await world.kill("a")
            await world.start("a")
            assert (await world.member("a").unfence())["role"] == "standby"
        else:  # it cannot know; as any old primary that comes back, it steps down when they meet
            assert await world.member("a").unfence() == {"role": "primary", "epoch": 1}
            world.heal("a", "b")
        await world.until(lambda: world.member("a").role is Role.STANDBY and world.same("a", "b"))
        assert (world.member("a").epoch, world.member("b").role) == (2, Role.PRIMARY)


@BOTH
async def test_a_fenced_standby_neither_follows_nor_is_handed_the_office(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abc") as world:
        await pair(world, "abc")
        await world.member("b").fence("slow disk")
        await world.until(lambda: world.member("a").status()["peers"]["b"]["fenced"])
        row = world.member("a").status()["peers"]["b"]
        assert (row["promotable"], row["why_not"]) == (False, "it is fenced: unfence it first")
        end = world.database("b").position.seq
        world.write("a", 5)
        await world.until(lambda: world.same("a", "c"))
        await trio.sleep(5)
        assert world.database("b").position.seq == end and world.member("b").status()["peers"]["a"]["connected"]
        with pytest.raises(PromotionRefused, match="it is fenced"):
            await world.member("a").switch_over("b", 1.0)
        with pytest.raises(NotPrimary, match="write to the primary at a:6900"):
            world.write("b")
        assert (world.member("b").status()["phase"], world.member("b").status()["why"]) == ("fenced", "fenced by an operator: slow disk")
        assert await world.member("b").unfence() == {"role": "standby", "epoch": 1}
        await world.until(lambda: world.same("a", "b", "c"))
        await world.until(lambda: world.member("b").status()["phase"] == "standby")


async def test_writes_are_refused_by_name_while_standbys_get_what_they_lack(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        world.hold("b")
        world.write("a", 4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.member("a").fence, "rack move")
            await trio.sleep(0.5)
            assert world.member("a").role is Role.PRIMARY
            with pytest.raises(ReadOnly, match="being fenced: rack move"):
                world.write("a")
            world.release("b")
        assert world.member("a").role is Role.FENCED and world.same("a", "b")


async def test_a_standby_that_does_not_arrive_does_not_hold_a_fence_up(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        world.hold("b")
        world.write("a", 4)
        told = await world.member("a").fence()
        assert told["lacking"] == {"b": 4}
        await world.until(lambda: world.member("b").status()["peers"]["a"]["role"] == "fenced")
        with pytest.raises(PromotionRefused, match="lacks 4 commits"):
            await world.member("b").promote()


async def test_a_fence_that_cannot_be_written_changes_nothing(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        disk = world.nodes["a"].disk
        replace = disk.replace_file

        def full(path: str, data: bytes) -> None:
            raise OSError(28, "no space")

        disk.replace_file = full
        with pytest.raises(OSError, match="no space"):
            await world.member("a").fence()
        disk.replace_file = replace
        world.write("a", 2)
        await world.until(lambda: world.same("a", "b"))
        with pytest.raises(BadRequest, match="501 characters"):
            await world.member("a").fence("x" * 501)


async def test_rejoining_needs_somebody_to_follow(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await pair(world)
        with pytest.raises(PromotionRefused, match="is the primary"):
            await world.member("a").rejoin()
        await world.member("a").fence()
        with pytest.raises(PromotionRefused, match="hears no primary"):
            await world.member("a").rejoin()
        assert world.member("a").role is Role.FENCED


@pytest.mark.parametrize("reseed", [False, True])
async def test_a_stopped_copy_is_compared_anew_or_replaced(reseed: bool, autojump_clock: object) -> None:
    async with open_world("fake", "ab", mark_interval_s=1000) as world:
        await pair(world)
        documents = world.database("b").documents
        key = next(iter(documents))
        documents[key] += b"?"
        await world.member("a").mark("d")
        await world.until(lambda: "hash-differs" in world.alarms("a") and not world.member("a").status()["databases"]["d"]["standbys"]["b"]["streaming"])
        assert "does not stream d" in world.member("a").status()["peers"]["b"]["why_not"]
        world.write("a", 3)
        if not reseed:
            documents[key] = documents[key][:-1]  # an operator has found and mended what was wrong
        await world.member("b").rejoin(reseed=reseed)
        await world.until(lambda: world.same("a", "b"))
        await world.until(lambda: world.member("a").status()["peers"]["b"]["promotable"])
        assert world.alarms("a") == set() and world.alarms("b") == set()
        assert len({tuple(answer) for answer in (await world.member("a").mark("d")).values()}) == 1


async def test_the_phase_says_who_does_the_work_of_its_role(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await world.start("b")
        assert world.member("b").status()["phase"] == "joining"
        await pair(world, "a")
        await world.until(lambda: world.same("a", "b"))
        for name, phase in (("a", "primary"), ("b", "standby")):
            await world.until(lambda name=name, phase=phase: world.member(name).status()["phase"] == phase)
        await world.stop("a")
        await world.apart("b", "a")
        status = world.member("b").status()
        assert status["phase"] == "joining" and readiness({**status, "stopping": False}) == (True, ""), "a standby without its primary is read on"


async def test_a_check_says_what_a_failover_would_lose(autojump_clock: object) -> None:
    async with open_world("fake", "ab", acks=1) as world:
        await pair(world)
        told = world.member("a").check()
        assert (told["protected"], told["why_not"], told["standbys"]["b"]["promotable"], told["standbys"]["b"]["lacks"]) == (True, "", True, 0)
        world.hold("b")
        world.write("a", 4)
        await trio.sleep(3)
        assert world.member("a").check()["standbys"]["b"]["lacks"] == 4
        behind = world.member("b").check()
        assert (behind["missing_commits"], behind["primary"]["node"], behind["lag"]["commits"]) == (4, "a", 4)
        world.cut("a", "b")
        await world.apart("b", "a")
        await trio.sleep(7)
        heard = world.member("b").check()["primary"]
        assert not heard["connected"] and heard["heard_s_ago"] >= 7
        assert world.member("a").check()["standbys"]["b"]["why_not"] == "it is not connected"
