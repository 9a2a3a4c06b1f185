"""Seeded chaos over whole clusters: cuts, deaf links, kills, held-back disks, promotions by an impatient operator.

With acks on every standby, each acknowledged commit is on every node, so no promotion may lose one (INV-1). At no time do
two nodes take writes in one epoch unless the operator made two primaries himself behind a cut, and those freeze (INV-4).
In the end, healed, all copies are equal (INV-6) and no copy was called different on the way.
"""

from __future__ import annotations

import itertools
import random

import pytest
import trio
from trio.testing import MockClock

from replication import Role
from storage import TwinlogError

from .world import World, open_world

SEEDS = range(24)
STEPS = 60


class Chaos:
    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.names = list(world.nodes)
        self.acknowledged: list[tuple[str, bytes]] = []  # by whom, key
        self.trace: list[str] = []
        self.torn = ""  # the node that lost durable commits to a power cut and has not got them back yet

    def up(self) -> list[str]:
        return [name for name in self.names if self.world.nodes[name].up]

    async def step(self) -> None:
        weights = {self.write: 8, self.sleep: 6, self.heal: 3, self.start: 3, self.release: 3, self.promote: 1}
        weights |= {self.cut: 1, self.deafen: 1, self.kill: 2, self.stop: 1, self.hold: 2, self.power_cut: 1, self.switch: 2}
        action = self.rng.choices(list(weights), list(weights.values()))[0]
        self.trace.append(action.__name__)
        await action()
        if self.rivals():
            await trio.sleep(1)  # a promotion this very moment is still ending its old links
            assert not self.rivals(), "two primaries of one epoch hear each other"

    async def write(self) -> None:
        world = self.world
        for name in self.up():
            if "d" not in world.nodes[name].engine.databases:
                continue
            database = world.database(name)
            for _ in range(self.rng.randint(1, 4)):
                try:
                    seq = world.write(name)
                except TwinlogError:
                    break
                key = f"{name}-{seq}".encode()

                def told(error: TwinlogError | None, name: str = name, key: bytes = key) -> None:
                    if error is None:
                        self.acknowledged.append((name, key))

                world.member(name).when_acknowledged(database, seq, told)

    async def sleep(self) -> None:
        await trio.sleep(self.rng.choice([0.01, 0.3, 2.0, 8.0]))

    def two(self) -> list[str]:
        return self.rng.sample(self.names, 2)

    async def switch(self) -> None:
        leaders = [name for name in self.up() if self.world.member(name).role is Role.PRIMARY]
        if not leaders:
            return
        leader = self.rng.choice(leaders)
        to = self.rng.choice([name for name in self.names if name != leader])
        with trio.move_on_after(self.rng.choice([0.1, 1.0, 5.0])):
            try:
                await self.world.member(leader).switch_over(to, self.rng.choice([0.2, 2.0]))
            except TwinlogError:
                pass

    async def cut(self) -> None:
        self.world.cut(*self.two())

    async def heal(self) -> None:
        for left, right in itertools.combinations(self.names, 2):
            self.world.heal(left, right)

    async def deafen(self) -> None:
        self.world.deafen(*self.two())

    async def kill(self) -> None:
        if self.up():
            await self.world.kill(self.rng.choice(self.up()))

    async def power_cut(self) -> None:
        """The primary loses commits that only its kernel had (as in async mode); one node at a time, or all is lost."""
        leaders = [name for name in self.up() if self.world.member(name).role is Role.PRIMARY]
        if leaders and not self.torn and self.world.lossy and self.world.same(*self.names):
            self.torn = leaders[0]
            synced = self.world.database(self.torn).history[-1].first_seq
            await self.world.kill(self.torn)
            frames = self.world.nodes[self.torn].shelf.databases["d"].frames
            del frames[max(synced, len(frames) - self.rng.randint(1, 5)) :]
            await self.world.start(self.torn)

    async def stop(self) -> None:
        if self.up():
            await self.world.stop(self.rng.choice(self.up()))

    async def start(self) -> None:
        for name in self.names:
            if not self.world.nodes[name].up:
                await self.world.start(name)

    async def promote(self) -> None:
        if not self.up():
            return
        name = self.rng.choice(self.up())
        if self.torn and self.world.same(*self.names):
            self.torn = ""
        if name == self.torn:
            return  # an operator who does that loses what it lost
        with trio.move_on_after(5):
            try:
                await self.world.member(name).promote(force=self.rng.random() < 0.3)
            except TwinlogError as error:
                self.trace.append(f"{name}: {error.name}")

    async def hold(self) -> None:
        for name in self.up():
            if "d" in self.world.nodes[name].engine.databases and self.rng.random() < 0.5:
                self.world.hold(name)

    async def release(self) -> None:
        for name in self.up():
            if "d" in self.world.nodes[name].engine.databases:
                self.world.release(name)

    def rivals(self) -> list[tuple[str, str]]:
        """Primaries of one epoch with a link between them."""
        epochs: dict[int, list[str]] = {}
        for name in self.up():
            member = self.world.member(name)
            if member.role is Role.PRIMARY:
                epochs.setdefault(member.epoch, []).append(name)
        return [
            (left, right)
            for names in epochs.values()
            for left in names
            for right in names
            if left != right and self.world.member(left).status()["peers"][right]["connected"]
        ]

    async def settle(self) -> None:
        world = self.world
        await self.heal()
        for name in self.names:
            if not world.nodes[name].up:
                await world.start(name)
        await self.release()
        await trio.sleep(20)
        await self.release()
        if all(world.member(name).role is not Role.PRIMARY for name in self.names):
            newest = max(self.names, key=lambda name: (world.database(name).position, name))
            await world.member(newest).promote(force=True)
        primary = next(name for name in self.names if world.member(name).role is Role.PRIMARY)
        for _ in range(50):
            await self.release()
            await trio.sleep(1)
            if world.same(*self.names) and world.member(primary).status()["databases"]["d"]["writable"]:
                break
        world.write(primary)
        await world.until(lambda: world.same(*self.names))


async def play(seed: int, names: str, kind: str) -> None:
    async with open_world(kind, names, acks=len(names) - 1, ack_timeout_s=30.0, window_bytes=2_000) as world:
        rng = random.Random(seed)
        chaos = Chaos(world, rng)
        await world.start(*names)
        await world.create("a")
        await world.until(lambda: world.same(*names))
        world.delay_s = rng.choice([0.0, 0.001, 0.05])
        try:
            for _ in range(STEPS):
                await chaos.step()
            await chaos.settle()
        except Exception as error:
            error.add_note(f"seed {seed}: {chaos.trace}")
            raise
        for _, key in chaos.acknowledged:
            found = await world.document(names[0], key)
            assert found is not None, f"seed {seed}: acknowledged {key!r} is gone; {chaos.trace}"
        for name in names:
            assert not world.alarms(name) & {"chain-differs", "hash-differs"}, f"seed {seed}: {world.alarms(name)}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("names", ["ab", "abc"])
@pytest.mark.parametrize("kind", ["fake", "real"])
def test_chaos_ends_in_equal_copies_that_hold_every_acknowledged_commit(seed: int, names: str, kind: str) -> None:
    trio.run(play, seed, names, kind, clock=MockClock(autojump_threshold=0))
