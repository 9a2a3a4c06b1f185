"""The pause: its words and their merge, its file, and how one order reaches every node."""

from __future__ import annotations

import itertools

import pytest
import trio

from replication import Role
from replication.messages import Heartbeat, decode, encode
from replication.pausing import (
    NEVER,
    PAUSE_FILE,
    TIME_US_MAX,
    PauseWord,
    newer,
    paused,
    read_pause,
    resumed,
    write_pause,
)
from storage import BadRequest, DamagedRecord, NewerFormat, PeerError, PromotionRefused

from .world import open_world

WORDS = [PauseWord(since, until, why) for since, until, why in itertools.product([0, 1, 2], [0, 1, 2], ["", "x"])]


@pytest.mark.parametrize(("left", "right"), list(itertools.product(WORDS, WORDS)))
def test_all_nodes_agree_on_the_newer_word_in_whatever_order_they_hear(left: PauseWord, right: PauseWord) -> None:
    assert newer(left, right) == newer(right, left)
    assert newer(left, newer(left, right)) == newer(left, right)
    assert newer(left, right).given_us == max(left.given_us, right.given_us)
    for third in WORDS:
        assert newer(newer(left, right), third) == newer(left, newer(right, third))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("now", [0, 1, 5])
def test_an_order_beats_every_word_known_where_it_is_given_even_by_a_clock_that_is_behind(word: PauseWord, now: int) -> None:
    stopped = paused(word, now, "why")
    assert stopped.paused and newer(word, stopped) == stopped and stopped.shown()["why"] == "why"
    going = resumed(stopped, now)
    assert not going.paused and newer(stopped, going) == going and going.shown() is None
    assert resumed(going, now + 9) == going, "to resume what is not paused says nothing new"


@pytest.mark.parametrize("word", WORDS)
def test_pause_json_comes_back_or_is_refused(word: PauseWord) -> None:
    data = write_pause(word)
    assert read_pause(data) == word
    for end in range(len(data) - 2):
        with pytest.raises(DamagedRecord, match="remove it"):
            read_pause(data[:end])
    with pytest.raises(NewerFormat):
        read_pause(data.replace(b'"format": 1', b'"format": 2'))


@pytest.mark.parametrize("told", [(-1, 0, ""), (0, TIME_US_MAX + 1, ""), (1, 0, "x" * 501)])
def test_a_peers_word_has_bounds(told: tuple[int, int, str]) -> None:
    with pytest.raises(PeerError, match="pause"):
        decode(encode(Heartbeat("standby", 1, {}, {}, 1, told)))


async def test_one_order_reaches_all_and_one_that_was_away_learns_it(autojump_clock: object) -> None:
    async with open_world("fake", "abc", heartbeat_s=30) as world:  # so that no beat does what the order itself must do at once
        await world.start("a", "b")
        await world.until(lambda: world.member("b").primary_address() == "a:6900")
        told = await world.member("b").pause("new switches")
        assert (told["reached"], told["missing"], told["paused"]["why"]) == (["a"], ["c"], "new switches")
        assert world.member("a").status()["paused"] == told["paused"]
        await world.start("c")
        await world.until(lambda: world.member("c").status()["paused"] == told["paused"])
        for name in "abc":
            await world.stop(name)
        await world.start("a")
        assert world.member("a").status()["paused"] == told["paused"], "it survives a restart, and needs no peer for that"
        await world.member("a").resume()
        await world.start("b", "c")
        for name in "bc":
            await world.until(lambda name=name: world.member(name).status()["paused"] is None)
        assert not read_pause(world.nodes["c"].disk.read_file(PAUSE_FILE)).paused


async def test_automation_is_refused_by_name_while_paused_and_an_operator_is_not(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b"))
        await world.member("a").pause("maintenance")
        with pytest.raises(PromotionRefused, match=r"no automatic switchover: the cluster is paused \(maintenance\)") as caught:
            await world.member("a").switch_over("b", 5.0, automatic=True)
        assert caught.value.fields["paused"] is True
        with pytest.raises(PromotionRefused, match="no automatic promotion"):
            await world.member("b").promote(force=True, automatic=True)
        assert (world.member("a").role, world.member("b").epoch) == (Role.PRIMARY, 1)
        await world.member("a").switch_over("b", 5.0)
        await world.member("b").resume()
        await world.until(lambda: world.same("a", "b"))
        await world.member("b").switch_over("a", 5.0, automatic=True)
        assert world.member("a").role is Role.PRIMARY


async def test_a_word_that_cannot_be_written_still_counts_when_a_peer_tells_it(autojump_clock: object) -> None:
    async with open_world("fake", "ab") as world:
        await world.start("a", "b")
        await world.until(lambda: world.member("b").primary_address() == "a:6900")
        def full(path: str, data: bytes) -> None:
            raise OSError(28, "no space")

        world.nodes["b"].disk.replace_file = full
        assert (await world.member("a").pause("x"))["reached"] == ["b"]
        assert world.member("b").status()["paused"]["why"] == "x"
        with pytest.raises(OSError, match="no space"):
            await world.member("b").resume()
        assert world.member("b").status()["paused"]["why"] == "x", "an order that is not on disk changes nothing"
        await trio.sleep(5)
        assert world.member("b").status()["peers"]["a"]["connected"]


def test_never_is_older_than_everything() -> None:
    assert newer(NEVER, PauseWord(1, 0, "x")) == PauseWord(1, 0, "x") and not NEVER.paused


async def test_a_reason_has_a_bound(autojump_clock: object) -> None:
    async with open_world("fake", "a") as world:
        await world.start("a")
        with pytest.raises(BadRequest, match="501 characters"):
            await world.member("a").pause("x" * 501)
