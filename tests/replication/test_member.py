"""Clusters of members: following, catching up, seeding, promotion, returning primaries, acknowledgements, alarms.

Every scenario runs on the fake engine and, where no fault has to be put into the engine, on the real one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from replication import Role
from replication.links import PACE_S
from replication.messages import Frames, decode
from storage import AckTimeout, NotPrimary, PromotionRefused, ReadOnly

from .world import World, open_world

BOTH = pytest.mark.parametrize("kind", ["fake", "real"])


@BOTH
async def test_a_standby_follows_live_and_catches_up(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await world.start("a", "b")
        assert (world.member("a").role, world.member("b").role) == (Role.PRIMARY, Role.STANDBY)
        await world.create("a")
        world.write("a", 20)
        await world.until(lambda: world.same("a", "b"))
        assert world.member("b").epoch == 1
        assert world.member("b").primary_address() == "a:6900"
        with pytest.raises(NotPrimary) as caught:
            world.member("b").check_writable()
        assert caught.value.fields["primary"] == "a:6900"
        with pytest.raises(NotPrimary):
            world.write("b")
        await world.stop("b")
        world.write("a", 300, size=20_000)
        await world.start("b")
        await world.until(lambda: world.same("a", "b"))
        assert world.alarms("a") == world.alarms("b") == set()


@BOTH
async def test_databases_come_and_go_with_the_primary(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await world.start("a", "b")
        for name in ("d", "e"):
            await world.create("a", name)
            world.write("a", 3, name)
        await world.until(lambda: world.same("a", "b") and world.same("a", "b", name="e"))
        await world.member("a").drop_database("d")
        await world.until(lambda: "d" not in world.nodes["b"].engine.databases)
        await world.stop("b")
        await world.member("a").drop_database("e")
        await world.create("a", "e")
        world.write("a", 5, "e")
        await world.start("b")
        await world.until(lambda: world.same("a", "b", name="e"))
        assert world.alarms("b") == set()


async def emptied_primary(world: World) -> None:
    """a has lost its disk, and b keeps what a does not have."""
    await world.start("a", "b")
    await world.create("a")
    world.write("a", 5)
    await world.until(lambda: world.same("a", "b"))
    await world.stop("a")
    node = world.nodes["a"]
    node.disk, node.shelf = type(node.disk)(), type(node.shelf)()
    await world.start("a")
    await world.until(lambda: "unknown-to-primary" in world.alarms("b"))


@BOTH
async def test_an_emptied_primary_does_not_empty_its_standby(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await emptied_primary(world)
        await world.create("a")
        world.write("a", 9)
        await world.until(lambda: world.member("b").status()["peers"]["a"]["connected"])
        await trio.sleep(20)
        assert world.database("b").position.seq >= 6 and world.database("b").uuid != world.database("a").uuid
        world.member("b").reseed("d")
        await world.until(lambda: world.same("a", "b") and world.alarms("b") == set())
        assert world.database("b").uuid == world.database("a").uuid
        kept = world.nodes["b"].shelf.aside if kind == "fake" else world.nodes["b"].disk.list_dir("_dropped")
        assert len(kept) == 1, "what it had is kept"


@BOTH
async def test_what_the_primary_never_had_goes_when_an_operator_says_so(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await emptied_primary(world)
        world.member("b").reseed("d")
        await world.until(lambda: world.nodes["b"].engine.databases.get("d") is None and world.alarms("b") == set())
        await world.create("a")
        world.write("a", 3)
        await world.until(lambda: world.same("a", "b"))


@BOTH
async def test_a_seed_replaces_a_copy_that_the_log_no_longer_reaches(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab", seed_chunk_bytes=1000) as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await world.stop("b")
        seq = world.write("a", 50, size=500)
        await forget_log(world, kind, "a", seq - 1)
        await world.start("b")
        await world.until(lambda: world.same("a", "b"))
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        assert world.alarms("a") == world.alarms("b") == set()


async def forget_log(world: object, kind: str, node: str, up_to: int) -> None:
    database = world.database(node)
    if kind == "fake":
        database.forget_log(up_to)
        return
    await database.sealing.seal_now()
    database.log._recent.clear()
    database.log._recent_bytes = 0
    database.log.segments.clear()


async def test_a_seed_that_is_cut_off_goes_on_where_it_was(autojump_clock: object) -> None:
    async with open_world("fake", "ab", seed_chunk_bytes=10_000) as world:
        await world.start("a")
        await world.create("a")
        seq = world.write("a", 100, size=10_000)
        world.database("a").forget_log(seq)
        world.delay_s = 0.05
        await world.start("b")
        shelf = world.nodes["b"].shelf
        staged = []
        for _ in range(3):
            await world.until(lambda: "d" in shelf.seeds and len(shelf.seeds["d"]["f1"]) > sum(staged[-1:]))
            staged.append(len(shelf.seeds["d"]["f1"]))
            world.cut("a", "b")
            world.heal("a", "b")
        await world.until(lambda: world.same("a", "b"))
        assert sum(link.bytes_sent for link in world.links) < 1_500_000, "what was staged is not sent again"


@BOTH
async def test_promotion_and_the_return_of_the_old_primary(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 10)
        await world.until(lambda: world.same("a", "b"))
        world.cut("a", "b")
        lost = world.write("a", 7)
        await world.apart("b", "a")
        assert await world.member("b").promote(force=False) == 2
        world.write("b", 3)
        assert world.member("a").role is Role.PRIMARY, "it has not heard yet"
        world.heal("a", "b")
        await world.until(lambda: world.member("a").role is Role.STANDBY)
        with pytest.raises(NotPrimary):
            world.write("a")
        await world.until(lambda: world.same("a", "b"))
        assert world.database("a").position.epoch == 2 and world.database("a").position.seq < lost
        assert world.member("a").status()["primary"] == "b:6900"
        await world.stop("a")
        await world.start("a")
        assert world.member("a").role is Role.STANDBY, "what is persisted beats the configuration"
        world.write("b", 3)
        await world.until(lambda: world.same("a", "b"))


@BOTH
async def test_a_switchover_and_back_loses_nothing(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        for round_, (old, new) in enumerate([("a", "b"), ("b", "a"), ("a", "b")]):
            seq = world.write(old, 5)
            await world.until(lambda: world.same("a", "b"))
            await world.stop(old)
            await world.apart(new, old)
            assert await world.member(new).promote() == round_ + 2
            await world.start(old)
            world.write(new, 2)
            await world.until(lambda: world.same("a", "b"))
            assert world.database(new).position.seq > seq


async def test_promotion_is_refused_while_a_primary_lives_or_commits_are_missing(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        with pytest.raises(PromotionRefused, match="live primary"):
            await world.member("b").promote()
        world.database("b").hold = True
        seq = world.write("a", 4)
        await world.until(lambda: world.member("b").status()["databases"]["d"]["lag"]["commits"] == 4)
        await world.kill("a")
        await world.apart("b", "a")
        with pytest.raises(PromotionRefused) as caught:
            await world.member("b").promote()
        assert caught.value.fields["behind"] == 4
        assert world.member("b").role is Role.STANDBY
        world.database("b").release()
        assert world.database("b").visible.seq == seq
        assert await world.member("b").promote() == 2


async def test_a_forced_promotion_under_a_live_primary_demotes_it(autojump_clock: object) -> None:
    async with open_world("fake", "abc") as world:
        await world.start("a", "b", "c")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b", "c"))
        await world.member("c").promote(force=True)
        await world.until(lambda: world.member("a").role is Role.STANDBY)
        world.write("c", 5)
        await world.until(lambda: world.same("a", "b", "c"))
        assert {world.member(name).epoch for name in "abc"} == {2}


async def test_two_primaries_of_one_epoch_freeze_and_one_promotion_heals(autojump_clock: object) -> None:
    async with open_world("fake", "abc") as world:
        await world.start("a", "b", "c")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b", "c"))
        await world.stop("a")
        world.cut("b", "c")
        await world.member("b").promote(force=True)
        await world.member("c").promote(force=True)
        assert world.member("b").epoch == world.member("c").epoch == 2
        world.write("b", 2)
        world.write("c", 3)
        world.heal("b", "c")
        await world.until(lambda: world.member("b").role is world.member("c").role is Role.FROZEN)
        for name in "bc":
            assert "two-primaries" in world.alarms(name)
            with pytest.raises(ReadOnly):
                world.write(name)
            await world.stop(name)
            await world.start(name)
            assert world.member(name).role is Role.FROZEN, "a restart does not thaw"
        await world.member("b").promote(force=True)
        await world.start("a")
        await world.until(lambda: world.same("a", "b", "c"))
        assert world.member("c").role is Role.STANDBY and world.nodes["c"].shelf.salvage, "what c had alone is kept"


async def test_a_silent_link_ends_and_is_dialled_anew(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        await world.until(lambda: world.same("a", "b"))
        world.deafen("a", "b")
        world.write("a", 5)
        await trio.sleep(2)
        assert not world.same("a", "b")
        await world.until(lambda: world.same("a", "b"))
        assert "silent" in str([world.member(n).status()["peers"] for n in "ab"])


@BOTH
async def test_acknowledgements_wait_for_standbys(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abc", acks=1, ack_timeout_s=2.0) as world:
        await world.start("a")
        database = await world.create("a")
        seq = world.write("a")
        began = trio.current_time()
        with pytest.raises(AckTimeout) as caught:
            await world.member("a").acknowledged(database, seq)
        assert trio.current_time() - began == pytest.approx(2.0)
        assert (caught.value.fields["epoch"], caught.value.fields["seq"]) == (1, seq)
        await world.start("b")
        await world.until(lambda: world.same("a", "b"))
        seq = world.write("a")
        await world.member("a").acknowledged(database, seq)
        assert world.database("b").visible.seq >= seq
        told: list = []
        for number in range(50):
            seq = world.write("a")
            world.member("a").when_acknowledged(database, seq, lambda error, number=number: told.append((number, error)))
        await world.until(lambda: len(told) == 50)
        assert told == [(number, None) for number in range(50)]


async def test_received_is_not_durable(autojump_clock: object) -> None:
    async with open_world("fake", "ab", acks=1, ack_timeout_s=5.0) as world:
        await world.start("a", "b")
        database = await world.create("a")
        await world.until(lambda: world.same("a", "b"))
        world.database("b").hold = True
        seq = world.write("a")
        told: list = []
        world.member("a").when_acknowledged(database, seq, told.append)
        await world.until(lambda: world.member("a").status()["databases"]["d"]["standbys"]["b"]["received_seq"] == seq)
        await trio.sleep(1)
        assert told == []
        world.database("b").release()
        await world.until(lambda: told == [None])


async def test_degrade_goes_on_alone_with_an_alarm_until_the_standby_is_back(autojump_clock: object) -> None:
    from replication import OnAckTimeout

    async with open_world("fake", "ab", acks=1, ack_timeout_s=2.0, on_ack_timeout=OnAckTimeout.DEGRADE) as world:
        await world.start("a")
        database = await world.create("a")
        began = trio.current_time()
        await world.member("a").acknowledged(database, world.write("a"))
        assert trio.current_time() - began == pytest.approx(2.0) and world.alarms("a") == {"degraded"}
        await world.member("a").acknowledged(database, world.write("a"))
        assert trio.current_time() - began == pytest.approx(2.0), "the next one does not wait again"
        await world.start("b")
        await world.until(lambda: world.alarms("a") == set())


async def test_a_primary_that_stood_still_does_not_hold_that_against_its_standbys(autojump_clock: trio.testing.MockClock) -> None:
    """After a freeze it must hear what happened before it acknowledges anything alone."""
    from replication import OnAckTimeout

    async with open_world("fake", "ab", acks=1, ack_timeout_s=2.0, on_ack_timeout=OnAckTimeout.DEGRADE) as world:
        await world.start("a")
        database = await world.create("a")
        told: list = []
        world.member("a").when_acknowledged(database, world.write("a"), told.append)
        autojump_clock.jump(60.0)
        await trio.sleep(1.5)
        assert told == [] and world.alarms("a") == set()
        await world.until(lambda: told == [None])
        assert world.alarms("a") == {"degraded"}, "nobody came within a whole timeout after it"


async def test_a_demoted_primary_tells_waiting_writers_that_it_does_not_know(autojump_clock: object) -> None:
    async with open_world("fake", "ab", acks=1, ack_timeout_s=1000.0) as world:
        await world.start("a", "b")
        database = await world.create("a")
        await world.until(lambda: world.same("a", "b"))
        world.cut("a", "b")
        told: list = []
        world.member("a").when_acknowledged(database, world.write("a"), told.append)
        await world.member("b").promote(force=True)
        world.heal("a", "b")
        await world.until(lambda: told)
        assert isinstance(told[0], AckTimeout)


async def test_after_an_unclean_stop_the_longest_tail_comes_back(autojump_clock: object) -> None:
    async with open_world("fake", "abc", acks=1) as world:
        await world.start("a", "b", "c")
        database = await world.create("a")
        await world.until(lambda: world.same("a", "b", "c"))
        world.cut("a", "c")
        seq = world.write("a", 5)
        await world.member("a").acknowledged(database, seq)
        await world.kill("a")
        del world.nodes["a"].shelf.databases["d"].frames[3:]  # the power cut took what only the kernel had
        await world.stop("b")
        await world.start("a")
        world.heal("a", "c")
        await world.until(lambda: world.member("a").status()["peers"]["c"]["connected"])
        await trio.sleep(5)
        with pytest.raises(ReadOnly, match="2 standbys must answer"):
            world.write("a")
        with pytest.raises(PromotionRefused):
            await world.member("a").promote()
        await world.start("b")
        await world.until(lambda: world.member("a").status()["databases"]["d"]["writable"])
        assert world.database("a").position.seq == seq + 1 and len(world.database("a").history) == 2
        world.write("a", 2)
        await world.until(lambda: world.same("a", "b", "c"))


async def test_force_ends_the_wait_for_tails(autojump_clock: object) -> None:
    async with open_world("fake", "abc", acks=1) as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await world.kill("a")
        del world.nodes["a"].shelf.databases["d"].frames[3:]
        await world.stop("b")
        await world.start("a")
        assert await world.member("a").promote(force=True) == 1
        await world.until(lambda: world.member("a").status()["databases"]["d"]["writable"])
        world.write("a", 1)
        await world.start("b")
        await world.until(lambda: world.same("a", "b"))
        assert world.nodes["b"].shelf.salvage, "what only b had is kept"


@BOTH
async def test_without_acks_a_primary_begins_a_new_reign_at_once(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await world.kill("a")
        await world.start("a")
        await world.until(lambda: world.member("a").status()["databases"]["d"]["writable"])
        assert [reign.epoch for reign in world.database("a").history] == [1, 1]
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))


async def test_without_a_usable_checkpoint_a_returning_primary_is_seeded(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        world.cut("a", "b")
        world.write("a", 2)
        await world.member("b").promote(force=True)
        world.nodes["a"].shelf.rewindable = False
        world.heal("a", "b")
        await world.until(lambda: world.same("a", "b"))
        assert world.nodes["a"].shelf.salvage


@BOTH
async def test_a_mark_compares_state_hashes_on_all_nodes(kind: str, autojump_clock: object) -> None:
    async with open_world(kind, "abc") as world:
        await world.start("a", "b", "c")
        await world.create("a")
        world.write("a", 30)
        await world.until(lambda: world.same("a", "b", "c"))
        answers = await world.member("a").mark("d")
        assert set(answers) == {"a", "b", "c"} and len(set(answers.values())) == 1
        seq, chain, state_hash = answers["a"]
        assert seq and chain and state_hash
        await world.until(
            lambda: all(
                copy["mark"] == {"seq": seq, "equal": True}
                for copy in world.member("a").status()["databases"]["d"]["standbys"].values()
            )
        )
        await trio.sleep(25)
        assert world.member("a").status()["databases"]["d"]["standbys"]["b"]["mark"]["seq"] > seq, "now and then"
        assert world.alarms("a") == set()


async def test_a_different_hash_is_an_alarm_and_stops_only_that_copy(autojump_clock: object) -> None:
    async with open_world("fake", "abc") as world:
        await world.start("a", "b", "c")
        for name in ("d", "e"):
            await world.create("a", name)
            world.write("a", 5, name)
        await world.until(lambda: all(world.same("a", "b", "c", name=name) for name in "de"))
        key = next(iter(world.database("b").documents))
        world.database("b").documents[key] += b"?"
        await world.member("a").mark("d")
        await world.until(lambda: "hash-differs" in world.alarms("a"))
        for name in ("d", "e"):
            world.write("a", 3, name)
        await world.until(lambda: world.same("a", "c") and world.same("a", "b", name="e"))
        world.cut("a", "b")
        world.heal("a", "b")
        await world.until(lambda: "refused-copy" in world.alarms("b") or "chain-differs" in world.alarms("b"))
        assert not world.same("a", "b"), "never repaired silently"
        world.member("b").reseed("d")
        await world.until(lambda: world.same("a", "b"))
        answers = await world.member("a").mark("d")
        assert answers["b"] == answers["a"]


async def test_a_different_chain_at_an_equal_position_is_refused(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        world.cut("a", "b")
        world.database("b").chain ^= 1
        world.heal("a", "b")
        await world.until(lambda: "chain-differs" in world.alarms("a") and "chain-differs" in world.alarms("b"))
        assert world.member("a").role is Role.PRIMARY


async def test_lag_is_known_on_both_ends_and_the_floor_waits_for_every_standby(autojump_clock: object) -> None:
    async with open_world("fake", "abc") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await trio.sleep(1)
        assert world.database("a").floor == 0, "c was never heard"
        await world.start("c")
        await world.until(lambda: world.same("a", "b", "c"))
        end = world.database("a").position.seq
        await world.until(lambda: world.database("a").floor == world.database("b").floor == end)
        world.database("b").hold = True
        world.write("a", 4, size=1000)
        await trio.sleep(3)
        seen = world.member("a").status()["databases"]["d"]["standbys"]["b"]["lag"]
        own = world.member("b").status()["databases"]["d"]["lag"]
        for lag in (seen, own):
            assert lag["commits"] == 4 and lag["bytes"] > 4000 and 1.5 < lag["seconds"] <= 3.1
        assert world.member("a").status()["databases"]["d"]["standbys"]["c"]["lag"]["commits"] == 0
        assert world.database("a").floor == end
        world.database("b").release()
        await world.until(lambda: world.member("b").status()["databases"]["d"]["lag"]["commits"] == 0)


async def test_shipping_is_bounded_by_the_window(autojump_clock: object) -> None:
    async with open_world("fake", "ab", window_bytes=100_000) as world:
        await world.start("a", "b")
        await world.create("a")
        await world.until(lambda: world.same("a", "b"))
        world.database("b").hold = True
        before = sum(link.bytes_sent for link in world.links)
        world.write("a", 300, size=10_000)
        await trio.sleep(5)
        assert sum(link.bytes_sent for link in world.links) - before < 100_000 + 2**20 + 50_000
        world.database("b").hold = False
        world.database("b").flush()
        await world.until(lambda: world.same("a", "b"))


async def test_a_copied_data_directory_is_told_apart(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        world.nodes["b"].number = world.nodes["a"].number
        await world.start("a", "b")
        await world.until(lambda: "copied-node" in world.alarms("a") and "copied-node" in world.alarms("b"))


# How often, and what an acknowledgement is for.


def frames_sent(world: object) -> list[Frames]:
    """Every Frames message that went out from now on, in order."""
    sent: list[Frames] = []
    for link in world.between("a", "b"):
        plain = link.send

        async def send(data: bytes, plain: Callable[[bytes], Awaitable[None]] = plain) -> None:
            message = decode(data)
            if isinstance(message, Frames):
                sent.append(message)
            await plain(data)

        link.send = send
    return sent


@pytest.mark.parametrize("acks", [0, 1])
async def test_small_commits_share_messages_unless_acknowledgements_count(acks: int, autojump_clock: object) -> None:
    async with open_world("real", "ab", acks=acks) as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a")
        await world.until(lambda: world.same("a", "b"))
        await trio.sleep(1)
        sent = frames_sent(world)
        for _ in range(50):
            world.write("a")
            await trio.sleep(PACE_S / 10)
        last = trio.current_time()
        await world.until(lambda: world.same("a", "b"))
        assert trio.current_time() - last < 0.1
        assert len(sent) == 50 if acks else 5 <= len(sent) <= 7


async def test_a_full_window_opens_by_acknowledgements(autojump_clock: object) -> None:
    """INV-8: more than a window behind, and no news but acknowledgements to go on by."""
    async with open_world("real", "ab", window_bytes=5_000) as world:
        await world.start("a", "b")
        await world.create("a")
        await world.until(lambda: world.same("a", "b"))
        sent = frames_sent(world)
        for _ in range(5):
            world.write("a", 1, size=4_000)
        seq = world.write("a", 20, size=400_000)
        began = trio.current_time()
        await world.until(lambda: world.database("b").visible.seq == seq)
        assert trio.current_time() - began < 1, "no heartbeat had to help"
        assert len(sent) > 5
