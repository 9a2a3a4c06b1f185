"""A whole cluster from one seed: nodes, clients, an operator, and a nemesis who breaks what can break.

    play ── faults for play_s ── heal ── settle ── last requests end ── MARK ── last looks ── orderly stop ── the record

Everything is drawn from the seed; time is virtual. The record is judged by checkers.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from node import wire
from storage.errors import TwinlogError
from tests.sim.checkers import Record
from tests.sim.history import CommitTree
from tests.sim.inodes import Inode
from tests.sim.links import SimNetwork
from tests.sim.machine import Machine
from tests.sim.nemesis import heal, strike
from tests.sim.node import SimNode
from tests.sim.observations import Acknowledged, Observations
from tests.sim.orders import BEHIND, Operator
from tests.sim.readers import look_at_all
from tests.sim.role_orders import ROLE_ORDERS, RoleOrders
from tests.sim.sizes import FREE_BYTES_MIN, Sizes, draw_sizes
from tests.sim.trace import Trace
from tests.sim.transacting import Target, Transactor
from tests.sim.wire_port import WirePort
from tests.sim.workload import Answer, Request, keep_asking

NAMES = ("a", "b", "c", "d")
CLIENTS_END_S_MAX = 30.0
LAST_LOOKS_MAX = 10


class World:
    """Plays one seed. `record` is there afterwards."""

    def __init__(self, seed: int, *, verbose: bool = False, sizes: Sizes | None = None) -> None:
        self.rng = random.Random(seed)
        self.sizes = sizes or draw_sizes(self.rng)
        self.trace = Trace(verbose=verbose)
        self.observations = Observations()
        self.tree = CommitTree(trio.current_time)
        self.network = SimNetwork(self._rng())
        names = list(NAMES[: self.sizes.standbys + 1])
        key = wire.new_key(self.rng.randbytes) if self.sizes.is_secure else None
        self.nodes: dict[str, SimNode] = {}
        for name in names:
            machine = Machine(name, self._rng(), self.trace)
            machine.platter.cold_reads = self.sizes.cold_reads
            machine.platter.sync_delay_s = self.sizes.sync_delay_s
            machine.platter.on_append = partial(self._appended, self.tree.listen_to(name))
            self.nodes[name] = SimNode(name, names, machine, self.network, self.sizes, self.observations, key)
            self.nodes[name].on_created = self.tree.begins
        self.operator = Operator(self.nodes, self.sizes, self.observations, self._rng(), self.trace)
        self.role_orders = RoleOrders(self.nodes, self.network, self.operator, self._rng(), self.trace)
        self._over = False
        self._numbers = 0
        self._end_chain: int | None = None

    def _rng(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def play(self) -> None:
        self.trace.begin(self.sizes)
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                nursery.start_soon(node.live_again_and_again, self._rng())
            clients_done = trio.Event()
            nursery.start_soon(self._clients, clients_done)
            with trio.move_on_after(self.sizes.play_s):
                async with trio.open_nursery() as faults:
                    faults.start_soon(self.operator.watch)
                    faults.start_soon(self._nemesis, faults)
            self.role_orders.rest()
            self._heal()
            await self._finish(clients_done)
            nursery.cancel_scope.cancel()

    async def _finish(self, clients_done: trio.Event) -> None:
        in_the_way = await self.operator.settle()
        if in_the_way.startswith(BEHIND):  # clients write: on slow disks a standby may stay behind for as long as they do
            in_the_way = ""
        self._over = True
        with trio.move_on_after(CLIENTS_END_S_MAX):
            await clients_done.wait()
        in_the_way = in_the_way or await self.operator.settle()
        if in_the_way:
            self.observations.alarms.append(f"the cluster does not come together: {in_the_way}")
            return
        await self.operator.mark(self.tree)
        if not await self._last_looks():
            return
        for node in self.nodes.values():
            node.down_s = 1e9
            node.machine.stop()
            await node.machine.wait_ended()

    async def _last_looks(self) -> bool:
        """The whole content of every node at one position. A MARK of the primary's own may come between: then again."""
        for _ in range(LAST_LOOKS_MAX):
            in_the_way = await self.operator.settle()
            databases = {name: node.database for name, node in self.nodes.items()}
            if in_the_way or None in databases.values():
                break
            looks = [
                await look_at_all(self.observations, name, database, state_hash=True)
                for name, database in databases.items()
            ]
            if len({(seen.epoch, seen.seq) for seen in looks}) == 1:
                self.observations.seen += [replace(seen, final=True) for seen in looks]
                self._end_chain = looks[0].chain
                for node in self.nodes.values():
                    self._note_alarms(node)
                return True
        self.observations.alarms.append(f"the nodes never stood at one position: {in_the_way}")
        return False

    def _note_alarms(self, node: SimNode) -> None:
        for alarm in node.member.alarms:
            if alarm.kind.value in ("chain-differs", "hash-differs", "copied-node", "unknown-to-primary"):
                self.observations.alarms.append(f"{node.name}: {alarm.kind.value}: {alarm.message}")

    @property
    def record(self) -> Record:
        machines = [node.machine for node in self.nodes.values()]
        return Record(
            self.sizes,
            self.tree,
            self.observations,
            {machine.name: machine.platter for machine in machines},
            sorted((cut, machine.name) for machine in machines for cut in machine.power_cuts),
            self._end_chain,
            max(machine.platter.longest_call_s for machine in machines),
            any(node.machine.platter.harmed for node in self.nodes.values()),
            any(node.vandal.acted for node in self.nodes.values()),
        )

    def _appended(self, listen: Callable[[str, Inode], None], path: str, inode: Inode) -> None:
        """INV-4 is watched at every append, not only found in what was written."""
        listen(path, inode)
        leading = [node for node in self.nodes.values() if node.leads]
        if len(leading) < 2:
            return
        takers: dict[int, str] = {}
        for node in leading:
            if node.takes_writes:
                epoch = node.member.epoch
                if epoch in takers and epoch not in self.observations.contradicted:
                    self.observations.rivals.append(f"{takers[epoch]} and {node.name} both take writes in epoch {epoch}")
                takers[epoch] = node.name

    # The clients.

    async def _clients(self, done: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(self.sizes.clients):
                rng = self._rng()
                port = WirePort(f"client{number}", list(self.nodes), self.network, self._rng())
                nursery.start_soon(
                    keep_asking,
                    rng,
                    port,
                    self.number,
                    self.sizes.keys,
                    self.sizes.pause_s,
                    self.sizes.workload,
                    self._done,
                    self._refused,
                    lambda: self._over,
                )
                transactor = Transactor(
                    self._rng(), self._leading, self._anybody, self.number, self.observations, self.trace
                )
                nursery.start_soon(transactor.keep_transacting, self.sizes.pause_s, self.sizes.workload, lambda: self._over)
        done.set()

    def _leading(self) -> Target | None:
        node = self.operator.primary()
        return self._target(node) if node is not None else None

    def _anybody(self) -> Target | None:
        return self._target(self.rng.choice(list(self.nodes.values())))

    def _target(self, node: SimNode) -> Target | None:
        database = node.database
        return database and Target(node.name, database, node.machine.lifeline, partial(node.member.acknowledged, database))

    def _done(self, request: Request, answer: Answer) -> None:
        self.trace.note("client", "done", request.kind, request.id.hex()[:8], answer.node, answer.epoch, answer.seq)
        if answer.changed:
            now_s = trio.current_time()
            acknowledged = Acknowledged(request.id, answer.node, now_s, answer.epoch, answer.seq)
            self.observations.acknowledged.append(acknowledged)

    def _refused(self, request: Request, error: TwinlogError) -> None:
        self.trace.note("client", "refused", request.kind, request.id.hex()[:8], error.name)
        if error.name == "InternalError":
            self.observations.crashes.append(f"{request.kind}: {error}")

    # The nemesis.

    async def _nemesis(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(self.rng.expovariate(1 / self.sizes.fault_every_s))
            faults = self.sizes.faults
            fault = self.rng.choices(list(faults), list(faults.values()))[0]
            node = self.rng.choice(list(self.nodes.values()))
            if fault in ROLE_ORDERS:
                self.role_orders.give(fault, nursery)
            elif fault == "hasty":
                await self.operator.hasty()
            elif fault == "lose the primary":
                await self._lose_primary()
            elif fault == "mark":
                await self.operator.mark(self.tree)
            elif not self._break_machine(fault, node):
                self._break_network(fault)

    async def _lose_primary(self) -> None:
        """Its links go first and it writes on for a while, then it is away long enough for a failover."""
        primary = self.operator.primary()
        if primary is None:
            return
        for name in self.nodes:
            if name != primary.name and self.rng.random() < 0.7:
                self.trace.note("nemesis", "cuts", primary.name, name)
                self.rng.choice([self.network.cut, self.network.silence])(primary.name, name)
        await trio.sleep(self.rng.uniform(0.0, 0.4))
        primary.down_s = 4.0
        self.rng.choice([primary.machine.kill, primary.machine.cut_power])()

    def _break_machine(self, fault: str, node: SimNode) -> bool:
        rng = self.rng
        if fault == "long outage":
            node.down_s = 3.0
            rng.choice([node.machine.kill, node.machine.cut_power])()
        elif fault == "reseal":
            if node.database is not None:
                node.database.sealing.freeze()
        elif fault != "heal":
            return strike(fault, node.machine, rng, reserve_bytes=FREE_BYTES_MIN)
        else:
            return False
        return True

    def _break_network(self, fault: str) -> None:
        rng, network = self.rng, self.network
        one, other = rng.sample([*self.nodes, "client0"], 2)
        if fault == "heal":
            self._heal()
            return
        self.trace.note("nemesis", fault, one, other)
        if fault == "cut":
            network.cut(one, other)
        elif fault == "silence":
            network.silence(one, other)
            if rng.random() < 0.5:
                network.silence(other, one)
        elif fault == "slow link":
            network.slow(one, other, delay_s=rng.choice([0.05, 0.5]), bytes_per_s=rng.choice([2e3, 1e5]))
        elif fault == "reset":
            network.reset_one()

    def _heal(self) -> None:
        self.trace.note("nemesis", "heals everything")
        self.network.heal_all()
        for node in self.nodes.values():
            node.down_s = 0.2
            heal(node.machine, sync_delay_s=self.sizes.sync_delay_s)
