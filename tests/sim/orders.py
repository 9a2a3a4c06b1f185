"""The operator: the only one who promotes (INV-4). Careful by default, hasty now and then, and thorough at the end.

A careful promotion happens only when the primary's machine is down, picks the most advanced node that is up, and never one
that has not heard of the epoch promoted last. Whether it was *safe* (no acknowledged commit may be missing) is recorded with
it: with acks k of n standbys every set of n-k+1 standbys holds each acknowledged commit.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from replication import Member, Role
from replication.roles import promoted
from storage.errors import DiskFailed, TwinlogError
from tests.sim.disk import SimCrash
from tests.sim.faults import shown
from tests.sim.history import CommitTree
from tests.sim.node import DATABASE, SimNode
from tests.sim.observations import Hashed, Observations, Promotion
from tests.sim.sizes import Sizes
from tests.sim.trace import Trace

PATIENCE_S = 0.8  # how long a careful operator waits for a primary that is down
ORDER_TIMEOUT_S = 20.0
SETTLE_ROUND_S = 0.5
BEHIND = "positions differ"  # of what is in the way
FORCE_AFTER_S = 15.0
RESEED_AFTER_S = 30.0


class Operator:
    """Watches the nodes and gives orders by calls into them, as the command line does over the wire."""

    def __init__(
        self, nodes: dict[str, SimNode], sizes: Sizes, observations: Observations, rng: random.Random, trace: Trace
    ) -> None:
        self._nodes = nodes
        self._sizes = sizes
        self._observations = observations
        self._rng = rng
        self._trace = trace
        self._epoch = 1  # the highest this operator has ever ordered or seen
        self._promoted = ("", 0)  # whom it promoted last, and to which epoch
        self._leaderless_since: float | None = None

    # Looking.

    def _up(self) -> list[SimNode]:
        return [node for node in self._nodes.values() if node.database is not None]

    def primary(self) -> SimNode | None:
        """The node of the highest epoch that leads now."""
        leading = [node for node in self._nodes.values() if node.leads]
        return max(leading, key=lambda node: node.member.epoch, default=None)

    @property
    def epoch(self) -> int:
        return self._epoch

    def contradicts(self, epoch: int) -> None:
        """An order has been given after which two nodes may lead this epoch."""
        self._observations.contradicted.setdefault(epoch, trio.current_time())

    def makes_twin(self, name: str, epoch: int, chain: int) -> None:
        """An old role.json has been put back on a standby that showed that chain: two nodes lead this epoch."""
        self.contradicts(epoch)
        self._observations.twins.append(Promotion(name, trio.current_time(), epoch, chain, safe=False))

    def overlooks(self, node: SimNode) -> None:
        """It is about to promote a node that may not have heard of the promotion ordered last, of another one: both may lead an epoch."""
        name, epoch = self._promoted
        if node.name != name:
            for taken in range(node.member.epoch + 1, epoch + 1):
                self.contradicts(taken)

    def _unsettled(self) -> str:
        """Which change of role is under way on a node that is up, or nothing."""
        for name, node in self._nodes.items():
            if node.up and node.is_changing_role:
                return f"{name} is changing its role"
            if node.up and node.role_state.hands_over_to:
                return f"{name} hands over to {node.role_state.hands_over_to}"
        return ""

    def _look_around(self) -> None:
        """With every node up and none in the middle of a change, what they say is all there is to know."""
        if len(self._up_at_all()) == len(self._nodes) and not self._unsettled():
            self._epoch = max(node.member.epoch for node in self._nodes.values())

    # Orders.

    async def watch(self) -> None:
        """While faults go on: fail over when the primary is down, restart what cannot write."""
        while True:
            await trio.sleep(self._rng.uniform(0.1, 0.5))
            self._restart_failed()
            if self.primary() is not None:
                self._leaderless_since = None
                continue
            if self._leaderless_since is None:
                self._leaderless_since = trio.current_time()
            if trio.current_time() - self._leaderless_since > PATIENCE_S * self._rng.uniform(0.5, 2):
                await self.fail_over()

    def _restart_failed(self) -> None:
        for node in self._up():
            if isinstance(node.database.refusal, DiskFailed):
                self._trace.note("operator", "restarts", node.name)
                node.machine.kill()

    async def fail_over(self) -> None:
        """The most advanced node that is up becomes primary, if it knows the epoch promoted last."""
        self._look_around()
        candidates = self._candidates()
        if not candidates:
            await self._found()
            return
        best = max(candidates, key=lambda node: (tuple(node.database.visible), node.name))
        asked = len(self._up())
        enough = asked >= self._sizes.standbys - self._sizes.acks + 1
        is_best = best.database.visible >= max(node.database.visible for node in self._up())
        safe = enough and is_best and not self._observations.contradicted
        await self.promote(best, force=self._rng.random() < 0.3, safe=safe)

    async def _found(self) -> None:
        """A cluster whose roles changed before anything was written: whoever leads it loses nothing."""
        nodes = [node for node in self._nodes.values() if node.up and node.member.role is not Role.FENCED]
        if nodes and not any(node.engine.databases or node.engine.unopened for node in self._nodes.values() if node.up):
            node = max(nodes, key=lambda node: node.member.epoch)
            if len(self._up_at_all()) == len(self._nodes) and node.member.epoch >= self._epoch:
                await self.promote(node, force=True, safe=True)

    def _up_at_all(self) -> list[SimNode]:
        return [node for node in self._nodes.values() if node.up]

    def _candidates(self) -> list[SimNode]:
        return [node for node in self._up() if node.member.epoch >= self._epoch and node.member.role is not Role.FENCED]

    async def hasty(self) -> None:
        """Promote somebody by force, whatever runs: split brain for a while."""
        candidates = self._candidates()
        if candidates:
            await self.promote(self._rng.choice(candidates), force=True, safe=False)

    async def promote(self, node: SimNode, *, force: bool, safe: bool) -> None:
        """One order, its outcome recorded even when the node dies over it or nobody waits for the answer any more."""
        database, member = node.database, node.member
        chain, began_s = database.visible_chain if database else 0, trio.current_time()
        epoch = _planned_epoch(node)
        where = tuple(database.visible) if database else "no database"
        self._trace.note("operator", "promotes", node.name, where, "by force" if force else "")
        before = self._epoch
        expected = self._epoch = max(before, epoch)
        self._promoted = (node.name, epoch)
        was_refused = False
        try:
            with node.machine.lifeline(), trio.move_on_after(ORDER_TIMEOUT_S):
                epoch = await member.promote(force=force)
                self._epoch = max(self._epoch, epoch)
                self._promoted = (node.name, epoch)
                self._trace.note("operator", "has promoted", node.name, epoch)
        except SimCrash:
            pass
        except TwinlogError as error:
            self._trace.note("operator", "is refused by", node.name, error.name)
            if member.epoch < epoch:
                if self._epoch == expected:  # no other order meanwhile
                    self._epoch = before
                was_refused = True
        except Exception as error:
            self._observations.crashes.append(f"promote on {node.name}: {shown(error)}")
        finally:
            if not was_refused:
                self._observations.promotions.append(Promotion(node.name, began_s, epoch, chain, safe))

    async def switch_over(self, node: SimNode, to: SimNode) -> None:
        """One order. While its end is not known, nobody is promoted who has not heard of every epoch that may come of it: the old primary steps
        down in the next one, the new one leads the one after, or it declines there and the old one leads the third."""
        member = node.member
        if member is None or member.epoch < self._epoch:
            return
        before = member.epoch
        self._epoch = before + 3
        self._trace.note("operator", "switches over", node.name, to.name, before)
        try:
            with node.machine.lifeline(), trio.move_on_after(ORDER_TIMEOUT_S):
                self._epoch, _ = await member.switch_over(to.name, self._rng.choice([0.3, 2.0]))
                self._trace.note("operator", "has switched over", to.name, self._epoch)
        except SimCrash:
            pass
        except TwinlogError as error:
            self._trace.note("operator", "is refused by", node.name, error.name)
            if member.role is Role.PRIMARY:
                self._epoch = member.epoch
        except Exception as error:
            self._observations.crashes.append(f"switchover on {node.name}: {shown(error)}")

    async def fence(self, node: SimNode) -> None:
        self._trace.note("operator", "fences", node.name)
        await self._order(node, "fence", lambda member: member.fence("the simulator"))

    async def unfence(self, node: SimNode) -> None:
        if node.up and node.member.role is Role.FENCED:
            self._trace.note("operator", "unfences", node.name)
            await self._order(node, "unfence", lambda member: member.unfence())

    async def _order(self, node: SimNode, what: str, call: Callable[[Member], Awaitable[object]]) -> None:
        if not node.up:
            return
        try:
            with node.machine.lifeline(), trio.move_on_after(ORDER_TIMEOUT_S):
                await call(node.member)
        except SimCrash:
            pass
        except (TwinlogError, OSError) as error:
            self._trace.note("operator", "is refused by", node.name, type(error).__name__)
        except Exception as error:
            self._observations.crashes.append(f"{what} on {node.name}: {shown(error)}")

    async def mark(self, tree: CommitTree) -> bool:
        """A MARK over the whole cluster; what each node answered goes to the checker. Whether everybody did."""
        node = self.primary()
        if node is None or node.database is None:
            return False
        answers: dict[str, tuple[int, int, str]] = {}
        try:
            with node.machine.lifeline():
                answers = await node.member.mark(DATABASE)
        except (SimCrash, TwinlogError):
            return False
        for name, (seq, chain, state_hash) in sorted(answers.items()):
            self._trace.note(name, "marks", seq, state_hash[:8])
            if state_hash:
                self._observations.hashed.append(Hashed(name, "mark", seq, chain, state_hash))
        return len(answers) == len(self._nodes)

    # The end.

    async def settle(self) -> str:
        """After everything was healed: bring all nodes to one position. Returns what is in the way, or nothing."""
        began_s, in_the_way = trio.current_time(), "nobody looked"
        while trio.current_time() - began_s < 100.0:
            await trio.sleep(SETTLE_ROUND_S)
            waited_s = trio.current_time() - began_s
            self._restart_failed()
            for node in self._nodes.values():
                await self.unfence(node)
            in_the_way = self._in_the_way()
            if not in_the_way:
                return ""
            await self._push(waited_s)
        return in_the_way

    def _in_the_way(self) -> str:
        down = [name for name, node in self._nodes.items() if not node.up]
        if down:
            return f"{' '.join(down)} are not up"
        if unsettled := self._unsettled():
            return f"{unsettled}: {self._roles()}"
        primary = self.primary()
        if primary is None:
            return "nobody leads: " + self._roles()
        if primary.database is None or primary.member.status()["databases"][DATABASE]["closed"]:
            return f"{primary.name} leads and takes no writes: {primary.member.status()['databases']}"
        positions = {node.database.visible if node.database else None for node in self._nodes.values()}
        return "" if len(positions) == 1 else f"{BEHIND}: {self._roles()}"

    def _roles(self) -> str:
        rows = []
        for name, node in self._nodes.items():
            member, database = node.member, node.database
            where = tuple(database.visible) if database is not None else "no database"
            alarms = [f"{alarm.kind.value}: {alarm.message}" for alarm in member.alarms] if member else []
            errors = {n: row["last_error"] for n, row in member.status()["peers"].items()} if member else {}
            rows.append(f"{name} {member.role.value if member else '?'} {member.epoch if member else '?'} {where} {alarms} {errors}")
        return "; ".join(rows)

    async def _push(self, waited_s: float) -> None:
        """What an operator does when a healed cluster does not come together by itself."""
        primary = self.primary()
        if primary is None:
            if len(self._up_at_all()) == len(self._nodes) and not self._unsettled():  # an office that is offered must be taken or declined
                await self.fail_over()
        elif waited_s > FORCE_AFTER_S and primary.database is not None:
            if primary.database.damaged:  # promoted by force in haste: the copy of somebody else counts
                sound = [node for node in self._candidates() if node is not primary and not node.database.damaged]
                for node in sound[:1]:
                    await self.promote(node, force=True, safe=False)
            elif primary.member.status()["databases"][DATABASE]["closed"]:
                await self.promote(primary, force=True, safe=False)
            elif waited_s > RESEED_AFTER_S:
                for node in self._up():
                    if not node.leads and node.database.visible != primary.database.visible and node.member.alarms:
                        self._trace.note("operator", "reseeds", node.name, str(node.member.alarms[0].kind.value))
                        node.member.reseed(DATABASE)


def _planned_epoch(node: SimNode) -> int:
    """Which a promotion would take now: the order may end without saying so."""
    replica = node.member._replica
    if node.member.role is Role.FENCED or replica.why_epoch_unknown():
        return node.member.epoch + 1
    return promoted(node.role_state, replica.highest_epoch()).epoch
