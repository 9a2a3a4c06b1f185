"""Orders about roles, and what goes wrong inside them: what an operator does besides promoting, at the worst moments.

    switchover     the operator's command on the primary, as its node would take it
    fence          of any node; the operator unfences it a while later, or at the end
    twins          the operator's mistake: an old role.json is put back on a standby, so that two nodes lead one epoch. Both must freeze once they
                   meet, and a promotion resolves it. When the other one was fenced before they met, it follows instead: its copy is refused
                   until the operator replaces it
    broken rewind  no order: the next rewind of some node, which orders like these make necessary, is cut off by a crash, with or without power

Inside a switchover or a fence one trap may stand, at a write of role.json, the only step by which a role changes (replication/role_keeper.py): the
first or second write of either end, before it, at a drawn disk operation within it, or after it. So before the office is handed over, between the
offer and the promotion, after it, while it is declined, and while it is taken back. What it does is drawn: a kill, a power cut, a link
that is cut or half open, a disk that refuses the write (so that the offer is declined), or another order of the operator.

An order that no careful operator gives is noted in `Observations.contradicted`: from then on its epochs promise nothing but that two primaries freeze.
What was acknowledged before counts, unless the node with the old role.json is the one that was kept, and it did not have it then.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from replication import Role
from replication.roles import ROLE_FILE, RoleState, write_role
from storage.recovery import REWIND_FILE
from tests.sim.links import SimNetwork
from tests.sim.node import SimNode
from tests.sim.orders import Operator
from tests.sim.trace import Trace

TRAPPED = 0.75  # share of the orders inside which something goes wrong
MOMENTS = ("before", "within", "after")
STRIKES = {"kill": 3.0, "power": 3.0, "cut": 2.0, "half open": 3.0, "refused write": 3.0, "another order": 3.0, "other end": 2.0}
OPERATIONS_OF_A_REPLACE = 6
OPERATIONS_OF_A_REWIND = 12  # within which a crash after its intent falls
ROLE_ORDERS = ("switchover", "fence", "twins", "broken rewind")


@dataclass(slots=True)
class Trap:
    """Strikes at the nth write of that file from now, on one node."""

    file: str
    node: SimNode
    nth: int
    moment: str
    strike: Callable[[], None]


class RoleOrders:
    """Gives the orders by name, in tasks of the nursery it is given, so that faults go on meanwhile. All chance is from rng."""

    def __init__(self, nodes: dict[str, SimNode], network: SimNetwork, operator: Operator, rng: random.Random, trace: Trace) -> None:
        self._nodes = nodes
        self._network = network
        self._operator = operator
        self._rng = rng
        self._trace = trace
        self._traps: list[Trap] = []
        for node in nodes.values():
            node.machine.platter.on_replace = partial(self._replaced, node)

    def give(self, order: str, nursery: trio.Nursery) -> None:
        primary = self._operator.primary()
        if order == "broken rewind":
            self._break_rewind()
        elif order == "fence":
            nursery.start_soon(self._fence, nursery)
        elif primary is not None and order == "switchover":
            nursery.start_soon(self._switch_over, primary, nursery)
        elif primary is not None and order == "twins":
            nursery.start_soon(self._make_twins, primary)

    def rest(self) -> None:
        """The faults are over: what has not struck by now does not."""
        self._traps.clear()
        for node in self._nodes.values():
            node.machine.spare()

    # The orders.

    async def _switch_over(self, primary: SimNode, nursery: trio.Nursery) -> None:
        to = self._rng.choice([node for node in self._nodes.values() if node is not primary])
        if self._rng.random() < TRAPPED:
            self._set_trap(primary, to, nursery)
        await self._operator.switch_over(primary, to)

    async def _fence(self, nursery: trio.Nursery) -> None:
        up = [node for node in self._nodes.values() if node.up]
        if not up:
            return
        node = self._rng.choice(up)
        other = self._rng.choice([each for each in self._nodes.values() if each is not node])
        if self._rng.random() < TRAPPED:
            self._set_trap(node, other, nursery)
        await self._operator.fence(node)
        await trio.sleep(self._rng.uniform(0.1, 2.5))
        await self._operator.unfence(node)

    async def _make_twins(self, primary: SimNode) -> None:
        twin = self._rng.choice([node for node in self._nodes.values() if node is not primary])
        epoch = primary.member.epoch
        if not twin.up or twin.member.epoch != epoch or twin.database is None:  # one without the database may make another of its name,
            return  # which is kept until somebody who knows moves it aside (unknown-to-primary)
        chain = twin.database.visible_chain
        twin.machine.kill()
        await twin.machine.wait_ended()
        disk = twin.machine.platter.mount()
        try:
            disk.replace_file(ROLE_FILE, write_role(RoleState(Role.PRIMARY, epoch, "put back by mistake")))
        except OSError:  # a disk that refuses spares the operator his mistake
            return
        finally:
            disk.kill()
        self._operator.makes_twin(twin.name, epoch, chain)
        self._trace.note("operator", "puts an old role.json back on", twin.name, epoch)

    # Traps.

    def _break_rewind(self) -> None:
        """The next rewind of some node is cut off: before its intent is durable, or at a drawn operation of what it does then."""
        node, power = self._rng.choice(list(self._nodes.values())), self._rng.random() < 0.5

        def strike() -> None:
            self._trace.note("nemesis", "strikes a rewind of", node.name)
            if power:
                node.machine.power_goes_with_it()
            node.machine.crash_in(self._rng.randint(1, OPERATIONS_OF_A_REWIND))

        self._traps.append(Trap(REWIND_FILE, node, 1, self._rng.choice(["before", "after"]), strike))

    def _set_trap(self, node: SimNode, other: SimNode, nursery: trio.Nursery) -> None:
        rng = self._rng
        target, moment = rng.choice([node, other]), rng.choice(MOMENTS)
        kind = rng.choices(list(STRIKES), list(STRIKES.values()))[0]
        kind = "crash" if moment == "within" else kind
        self.trap(node, other, target=target, nth=rng.choice([1, 1, 2]), moment=moment, kind=kind, nursery=nursery)

    def trap(self, node: SimNode, other: SimNode, *, target: SimNode, nth: int, moment: str, kind: str, nursery: trio.Nursery) -> None:
        """Between the two nodes of an order: strike at the nth write of target's role from now."""
        self._traps.append(Trap(ROLE_FILE, target, nth, moment, partial(self._strike, kind, node, other, target, nursery)))
        self._trace.note("nemesis", "will strike", moment, "write", nth, "of", target.name, "by", kind)

    def _replaced(self, node: SimNode, path: str, done: bool) -> None:
        name = path.rpartition("/")[2]
        for trap in [each for each in self._traps if each.node is node and each.file == name]:
            if done == (trap.moment == "after"):
                trap.nth -= 1
                if trap.nth == 0:
                    self._traps.remove(trap)
                    trap.strike()

    def _strike(self, kind: str, node: SimNode, other: SimNode, target: SimNode, nursery: trio.Nursery) -> None:
        rng = self._rng
        self._trace.note("nemesis", "strikes", target.name, "by", kind)
        if kind == "crash":
            target.machine.crash_in(rng.randint(1, OPERATIONS_OF_A_REPLACE))
        elif kind in ("kill", "power", "other end"):
            victim = target if kind != "other end" else other if target is node else node
            victim.down_s = rng.choice([0.1, 0.5, 2.0])
            victim.machine.cut_power() if kind == "power" or (kind == "other end" and rng.random() < 0.5) else victim.machine.kill()
        elif kind == "refused write":
            platter = target.machine.platter
            if rng.random() < 0.5:
                platter.sync_failures = 1
            else:
                platter.write_failures = 1
        elif kind == "another order":
            nursery.start_soon(self._another_order, node, other)
        elif kind == "cut":
            self._network.cut(node.name, other.name)
            nursery.start_soon(self._heal_later, node, other)
        else:
            one, two = rng.sample([node.name, other.name], 2)
            self._network.silence(one, two)
            nursery.start_soon(self._heal_later, node, other)

    async def _heal_later(self, node: SimNode, other: SimNode) -> None:
        await trio.sleep(self._rng.uniform(0.1, 3.0))
        self._network.heal(node.name, other.name)

    async def _another_order(self, node: SimNode, other: SimNode) -> None:
        """The operator does not wait for the first one to come to its end."""
        rng = self._rng
        third = rng.choice(list(self._nodes.values()))
        kind = rng.choice(["promote it", "promote the other", "promote a third", "switch over again"])
        if not node.up or not other.up or not third.up or None in (node.database, other.database, third.database):
            return
        if kind == "switch over again":
            if third is not node:
                await self._operator.switch_over(node, third)
        elif kind == "promote it":
            self._operator.overlooks(node)
            await self._operator.promote(node, force=True, safe=False)
        elif kind == "promote the other":
            self._operator.overlooks(other)
            await self._operator.promote(other, force=rng.random() < 0.7, safe=False)
        elif third not in (node, other):
            for epoch in range(third.member.epoch + 1, self._operator.epoch + 2):  # nobody can say which of the two orders ends above the other
                self._operator.contradicts(epoch)
            await self._operator.promote(third, force=True, safe=False)
