"""A cluster of members in one process: engines (fake or real) on memory disks, links of memory, virtual time.

Links can be cut, made deaf (half open) or refused; nodes can be stopped in order, killed, and started again on what
their disks hold.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from replication import Member, MemberConfig
from storage import Engine, EngineOptions, MemoryDisk, Seams, WorkHere
from storage.catalog import creation
from storage.commit.codec import Op, Record
from storage.errors import ReadOnly

from .fake_engine import FakeEngine, Shelf

LINK_MESSAGES = 16
PATIENCE_S = 120.0
EPOCH_S = 1_000.0  # what the wall clock shows when the virtual one begins


class MemoryLink:
    """One end of a link. deaf: what is sent goes nowhere, and nothing arrives any more."""

    def __init__(
        self, sending: trio.MemorySendChannel, receiving: trio.MemoryReceiveChannel, pair: frozenset, world: World
    ) -> None:
        self._sending, self._receiving, self._world = sending, receiving, world
        self.pair = pair
        self.deaf = False
        self.broken = False
        self.bytes_sent = 0

    async def send(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.deaf:
            return
        if self._world.delay_s:
            await trio.sleep(self._world.delay_s)
        self.bytes_sent += len(message)
        await self._sending.send(message)

    async def receive(self) -> bytes | None:
        while True:
            try:
                message = await self._receiving.receive()
            except trio.EndOfChannel:
                if self.broken:
                    raise trio.BrokenResourceError from None
                return None
            if not self.deaf:
                return message

    async def aclose(self) -> None:
        if self.deaf:
            await trio.lowlevel.checkpoint()
            return
        self.close_now()

    def close_now(self) -> None:
        self._sending.close()
        self._receiving.close()


class Node:
    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self.disk = MemoryDisk()
        self.shelf = Shelf()
        self.member: Member
        self.engine: Any
        self.nursery: trio.Nursery
        self.stop: trio.Event | None = None
        self.stopped = trio.Event()
        self.up = False


class World:
    def __init__(self, nursery: trio.Nursery, kind: str, names: str, options: dict[str, Any]) -> None:
        self._nursery, self._kind, self._options = nursery, kind, options
        self.nodes = {name: Node(name, number) for number, name in enumerate(names)}
        self.links: list[MemoryLink] = []
        self.refused: set[frozenset[str]] = set()
        self.lossy = kind == "fake"  # whether a test may take frames off a node's disk
        self.delay_s = 0.0  # every message takes so long
        self.engine_options: dict[str, Any] = {"shards": 2, "free_bytes_min": 1}
        self.clocks_ahead_s: dict[str, float] = {}  # of nodes whose wall clock is not the others'
        self._random = 0

    def member(self, name: str) -> Member:
        return self.nodes[name].member

    def database(self, node: str, name: str = "d") -> Any:
        return self.nodes[node].engine.databases[name]

    def _seams(self, node: Node) -> Seams:
        def random_bytes(count: int) -> bytes:
            self._random += 1
            return ((self._random << 8) + node.number + 1).to_bytes(8, "little").ljust(count, b"\x01")[:count]

        def time_us() -> int:
            return int((EPOCH_S + trio.current_time() + self.clocks_ahead_s.get(node.name, 0.0)) * 1e6)

        return Seams(node.disk, time_us, random_bytes, WorkHere(node.disk))

    # Nodes.

    async def start(self, *names: str, **options: Any) -> None:
        for name in names:
            node = self.nodes[name]
            node.stop, node.stopped = trio.Event(), trio.Event()
            await self._nursery.start(self._run, node, {**self._options, **options})

    async def _run(self, node: Node, options: dict, task_status: trio.TaskStatus[None]) -> None:
        seams = self._seams(node)
        peers = {name: f"{name}:6900" for name in options.pop("members", self.nodes) if name != node.name}
        config = MemberConfig(
            name=node.name,
            cluster="test",
            peers=peers,
            named_primary=options.pop("named", "a"),
            client_address=f"{node.name}:6900",
            **options,
        )

        async def dial(peer: str) -> MemoryLink:
            return await self._dial(node.name, peer)

        if self._kind == "fake":
            opened = FakeEngine(seams, node.shelf).running()
        else:
            opened = Engine.open(seams, options=EngineOptions(**self.engine_options), refusal=ReadOnly("the role is not settled"))
        async with opened as engine:
            engine.node_id = f"{node.number:032x}"
            node.engine = engine
            node.member = Member(engine, config, dial, seams)
            async with trio.open_nursery() as node.nursery:
                node.up = True
                await node.nursery.start(node.member.run)
                task_status.started()
                assert node.stop is not None
                await node.stop.wait()
                node.up = False
                node.nursery.cancel_scope.cancel()
        node.stopped.set()

    async def stop(self, name: str) -> None:
        node = self.nodes[name]
        assert node.stop is not None
        node.stop.set()
        await node.stopped.wait()

    async def kill(self, name: str) -> None:
        """What the disk holds at this moment is all that is left."""
        node = self.nodes[name]
        if self._kind == "fake":
            node.engine.kill()
        disk = copy.deepcopy(node.disk)
        await self.stop(name)
        node.disk = disk

    # Links.

    async def _dial(self, caller: str, called: str) -> MemoryLink:
        await trio.lowlevel.checkpoint()
        node = self.nodes[called]
        if not node.up or frozenset((caller, called)) in self.refused:
            raise ConnectionRefusedError(f"{called} does not listen")
        there_send, here_receive = trio.open_memory_channel[bytes](LINK_MESSAGES)
        here_send, there_receive = trio.open_memory_channel[bytes](LINK_MESSAGES)
        pair = frozenset((caller, called))
        here, there = MemoryLink(here_send, here_receive, pair, self), MemoryLink(there_send, there_receive, pair, self)
        self.links += [here, there]
        node.nursery.start_soon(node.member.serve_link, there)
        return here

    def between(self, left: str, right: str) -> list[MemoryLink]:
        return [link for link in self.links if link.pair == frozenset((left, right))]

    def cut(self, left: str, right: str) -> None:
        """Break what is there, and refuse new links until healed."""
        self.refused.add(frozenset((left, right)))
        for link in self.between(left, right):
            link.broken = True
            link.close_now()

    def deafen(self, left: str, right: str) -> None:
        for link in self.between(left, right):
            link.deaf = True

    def heal(self, left: str, right: str) -> None:
        self.refused.discard(frozenset((left, right)))

    # What tests do and wait for.

    async def create(self, node: str, name: str = "d") -> Any:
        database = await self.nodes[node].engine.create_database(name)
        if self._kind == "real":
            database.commit([creation("c", 1)])
            database.flush()
        return database

    def write(self, node: str, count: int = 1, name: str = "d", size: int = 10) -> int:
        """count commits; the last one's seq."""
        database = self.database(node, name)
        seq = 0
        for _ in range(count):
            key = f"{node}-{database.position.seq + 1}".encode()
            seq = database.commit([Record(Op.PUT, 1, key, key + b"x" * size)])
        database.flush()
        return seq

    async def document(self, node: str, key: bytes, name: str = "d") -> bytes | None:
        database = self.database(node, name)
        if self._kind == "fake":
            return database.documents.get((1, key))
        return await database.view().get(1, key)

    def hold(self, node: str) -> None:
        """Nothing of the database on this node becomes durable until release (fake engine only)."""
        if self._kind == "fake":
            self.database(node).hold = True

    def release(self, node: str) -> None:
        if self._kind == "fake":
            self.database(node).release()

    async def until(self, what: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        """Let virtual time pass until what() holds."""
        with trio.move_on_after(patience_s):
            while not what():  # noqa: ASYNC110 - what() may depend on anything
                await trio.sleep(0.02)
            return
        states = [node.member.status() for node in self.nodes.values() if node.up]
        raise AssertionError(f"waited {patience_s:g} s in vain; {states}")

    async def apart(self, left: str, right: str) -> None:
        """Until left has noticed that right is gone."""
        await self.until(lambda: not self.member(left).status()["peers"][right]["connected"])

    def same(self, *nodes: str, name: str = "d") -> bool:
        """Whether these nodes have equal ends, chains included (INV-6), all of it durable."""
        found = [self.nodes[node].engine.databases.get(name) for node in nodes if self.nodes[node].up]
        ends = {(d.uuid, d.position, d.chain, d.visible, d.history) for d in found if d}
        return len(found) == len(nodes) and all(found) and len(ends) == 1

    def alarms(self, node: str) -> set[str]:
        return {alarm.kind.value for alarm in self.member(node).alarms}


@asynccontextmanager
async def open_world(kind: str, names: str, **options: Any) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery, kind, names, options)
        yield world
        for name, node in world.nodes.items():
            if node.up:
                await world.stop(name)
        nursery.cancel_scope.cancel()
