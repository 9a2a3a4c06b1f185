"""Switchovers, fences and twins are really played, and what is set to go wrong inside them does."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
import trio

from replication import Role
from tests.sim.clock import VirtualClock
from tests.sim.role_orders import MOMENTS
from tests.sim.run_seed import run_seed
from tests.sim.sizes import draw_sizes
from tests.sim.swarm import Workload
from tests.sim.world import World

INSERTS = Workload({"insert": 1.0}, 0.0, (), 0.0)
MIX = {"switchover": 4.0, "fence": 1.0, "twins": 0.5, "hasty": 1.0, "broken rewind": 2.0, "heal": 2.0}


def world(seed: int, faults: dict[str, float], *, standbys: int = 2) -> World:
    sizes = draw_sizes(random.Random(seed), standbys=standbys)
    return World(seed, verbose=True, sizes=replace(sizes, faults=faults, workload=INSERTS, clients=1, play_s=3.0, fault_every_s=0.3, acks=0))


WORDS = {"switchover": " switches over ", "fence": " fences ", "twins": " puts an old role.json back "}


@pytest.mark.parametrize("order", list(WORDS))
def test_an_order_is_played_and_every_promise_kept(order: str) -> None:
    played = world(11, {order: 4.0, "heal": 3.0})
    verdict = run_seed(played, 11)
    assert not verdict.broken, "\n".join(verdict.broken)
    assert any(WORDS[order] in line for line in verdict.trace)


def test_a_trap_strikes_at_its_write_of_the_role() -> None:
    """Each moment once: a crash before it and within it leaves the old role or the new one, a crash after it the new one."""
    roles: dict[str, set[str]] = {}

    async def play(moment: str, seed: int) -> None:
        played = world(seed, MIX, standbys=1)
        async with trio.open_nursery() as nursery:
            for node in played.nodes.values():
                node.down_s = 0.01
                nursery.start_soon(node.live_again_and_again, random.Random(seed))
            while not all(node.up and node.member.epoch for node in played.nodes.values()):  # noqa: ASYNC110 - a machine rings no bell
                await trio.sleep(0.05)
            a, b = played.nodes.values()
            lives = a.machine.lives
            played.role_orders.trap(a, b, target=a, nth=1, moment=moment, kind="crash" if moment == "within" else "kill", nursery=nursery)
            await played.operator.fence(a)
            while a.machine.lives == lives or not a.up:  # noqa: ASYNC110
                await trio.sleep(0.05)
            roles.setdefault(moment, set()).add(a.member.role.value)
            nursery.cancel_scope.cancel()

    for moment in MOMENTS:
        for seed in range(6):
            trio.run(play, moment, seed, clock=VirtualClock())
    assert roles["before"] == {Role.PRIMARY.value} and roles["after"] == {Role.FENCED.value}
    assert roles["within"] == {Role.PRIMARY.value, Role.FENCED.value}


@pytest.mark.sweep
def test_many_seeds_of_roles() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        verdict = run_seed(world(seed, MIX, standbys=1 + seed % 3), seed)
        assert not verdict.broken, f"{seed}: {verdict.broken}"
        for words in ("has switched over", "strikes", "is refused by", "unfences", "puts an old role.json back", "strikes a rewind of"):
            seen[words] += any(f" {words} " in line for line in verdict.trace)
    assert min(seen.values()) > 0 and len(seen) == 6, seen
