"""One engine on one machine, killed and restarted again and again: recovery, sealing, retries and full disks, from one seed.

The smallest world. It knows no role and no peer; it plays the primary itself (a new reign after an unclean stop).
"""

from __future__ import annotations

import random

import trio

from storage import Engine, Seams
from storage.errors import DamagedRecord, DiskFailed, DiskFull, TwinlogError, of_disk
from tests.sim.checkers import Record
from tests.sim.compacting import keep_compacting
from tests.sim.disk import SimCrash
from tests.sim.faults import innermost, shown
from tests.sim.history import CommitTree
from tests.sim.in_process import apply, changed_by
from tests.sim.machine import Machine
from tests.sim.nemesis import HARM_EVERY, harm, heal, strike
from tests.sim.observations import Acknowledged, Hashed, Observations
from tests.sim.readers import keep_looking, look_at_all
from tests.sim.sizes import FREE_BYTES_MIN, Sizes, draw_sizes
from tests.sim.trace import Trace
from tests.sim.transacting import Target, Transactor
from tests.sim.vandal import Vandal
from tests.sim.workload import Answer, NoAnswer, Request, keep_asking

DATABASE = "db"
SETTLE_S_MAX = 120.0


class EngineWorld:
    """Plays one seed. `record` is there afterwards."""

    def __init__(self, seed: int, *, verbose: bool = False, sizes: Sizes | None = None) -> None:
        self.rng = random.Random(seed)
        self.sizes = sizes or draw_sizes(self.rng, standbys=0)
        self.trace = Trace(verbose=verbose)
        self.observations = Observations()
        self.tree = CommitTree(trio.current_time)
        self.machine = Machine("a", random.Random(self.rng.getrandbits(64)), self.trace)
        platter = self.machine.platter
        platter.sync_delay_s, platter.cold_reads = self.sizes.sync_delay_s, self.sizes.cold_reads
        platter.on_append = self.tree.listen_to("a")
        self.vandal = Vandal(random.Random(self.rng.getrandbits(64)), self.trace)
        self.engine: Engine | None = None
        self._opened = trio.Event()
        self._closed_by_damage = trio.Event()
        self._over = False
        self._numbers = 0
        self._end_chain: int | None = None

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def play(self) -> None:
        self.trace.begin(self.sizes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lives)
            clients_done = trio.Event()
            nursery.start_soon(self._clients, clients_done)
            with trio.move_on_after(self.sizes.play_s):
                await self._nemesis()
            self._heal()
            self._over = True
            with trio.move_on_after(SETTLE_S_MAX):
                await clients_done.wait()
                async with trio.open_nursery() as ending:
                    ending.start_soon(self._watch_damage, ending.cancel_scope)
                    await self._last_look()
                    ending.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    @property
    def _is_harmed(self) -> bool:
        return bool(self.machine.platter.harmed)

    async def _watch_damage(self, scope: trio.CancelScope) -> None:
        await self._closed_by_damage.wait()
        scope.cancel()

    @property
    def record(self) -> Record:
        machine = self.machine
        if self._is_harmed:  # an opening that was cut off leaves what it found here, and nothing else
            self.observations.reported += [f"kept: {path}" for path, _ in machine.platter.files() if "/salvage/" in path]
        return Record(
            self.sizes,
            self.tree,
            self.observations,
            {"a": machine.platter},
            [(at_s, "a") for at_s in machine.power_cuts],
            self._end_chain,
            machine.platter.longest_call_s,
            self._is_harmed,
            self.vandal.acted,
        )

    # The node.

    async def _lives(self) -> None:
        while True:
            self._opened = trio.Event()
            try:
                await self.machine.run(self._life)
            except Exception as error:
                self._judge(error)
                await trio.sleep(0.2)
            self.engine = None
            await trio.sleep(self.rng.uniform(0.001, 0.3))
            if self.rng.random() < 0.3:
                self.vandal.visit(self.machine.platter)

    def _judge(self, error: Exception) -> None:
        """A disk that refuses while a database is being opened may end the process; anything else is a finding of the run."""
        cause = innermost(error)
        self.trace.note("a", "ends by", type(cause).__name__)
        if not self._opened.is_set() and isinstance(cause, (OSError, DiskFull, DiskFailed)):
            return
        if isinstance(cause, DamagedRecord) and not self._opened.is_set() and self._is_harmed:
            self.observations.reported.append(f"the database does not open: {cause}")
            self._closed_by_damage.set()
            return
        self.observations.crashes.append(shown(cause))

    async def _life(self, seams: Seams) -> None:
        async with Engine.open(seams, options=self.sizes.engine) as engine:
            database = await engine.create_database(DATABASE, shards=self.sizes.shards, crc=self.sizes.crc)
            self.machine.settled()
            self.tree.begins(database.uuid)
            self.trace.note("a", "opens at", tuple(database.position), "clean" if not database.unclean else "unclean")
            self.observations.reported += [finding for finding in database.findings if self._is_harmed]
            await look_at_all(self.observations, "a", database, state_hash=True)
            if database.damaged:
                self.trace.note("a", "is read-only by damage")
            elif database.unclean or not database.history:
                seq = database.begin_reign(1)
                database.flush()
                await database.visible_advance.wait_for(seq)
            self.engine = engine
            self._opened.set()
            async with trio.open_nursery() as nursery:
                rng = random.Random(self.rng.getrandbits(64))
                nursery.start_soon(keep_looking, self.observations, "a", database, rng, self.sizes)
                if not database.damaged:
                    nursery.start_soon(self._marks, database)
                    nursery.start_soon(keep_compacting, database, rng, self.sizes.compact_every_s)

    async def _marks(self, database: object) -> None:
        while True:
            await trio.sleep(self.rng.uniform(0.2, 1.0))
            try:
                seq = database.mark()
                chain = database.chain
                database.flush()
                await database.mark_advance.wait_for(seq)
            except TwinlogError:
                continue
            digest = database.marks.get(seq)
            if digest is not None:
                self.observations.hashed.append(Hashed("a", "mark", seq, chain, digest))

    # The clients.

    async def _clients(self, done: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(self.sizes.clients):
                rng = random.Random(self.rng.getrandbits(64))
                nursery.start_soon(
                    keep_asking,
                    rng,
                    self,
                    self.number,
                    self.sizes.keys,
                    self.sizes.pause_s,
                    self.sizes.workload,
                    self._done,
                    self._refused,
                    lambda: self._over,
                )
                self.trace.note(f"client{number}", "begins")
                transactor = Transactor(
                    random.Random(self.rng.getrandbits(64)), self._target, self._target, self.number, self.observations, self.trace
                )
                nursery.start_soon(transactor.keep_transacting, self.sizes.pause_s, self.sizes.workload, lambda: self._over)
        done.set()

    async def call(self, request: Request) -> Answer:
        """In place of a link: the engine's own calls, lost when the machine dies meanwhile."""
        engine, machine = self.engine, self.machine
        if engine is None or not machine.alive or DATABASE not in engine.databases:
            raise NoAnswer
        with machine.lifeline():
            try:
                database = engine.database(DATABASE)
                result = await apply(database, request)
                await database.visible_advance.wait_for(result.seq)
            except SimCrash:
                raise NoAnswer from None
            except TwinlogError:
                raise
            except OSError as error:  # as a node answers it
                raise of_disk(error, request.kind) from error
            except Exception as error:
                self.observations.crashes.append(f"{request.kind}: {shown(error)}")
                raise NoAnswer from None
            if not machine.alive:
                raise NoAnswer
            return Answer("a", database.position.epoch, result.seq, changed_by(result))
        raise NoAnswer

    def _target(self) -> Target | None:
        """The database, for a transaction."""
        database = self.engine.databases.get(DATABASE) if self.engine is not None and self.machine.alive else None
        return database and Target("a", database, self.machine.lifeline, database.visible_advance.wait_for)

    def _done(self, request: Request, answer: Answer) -> None:
        self.trace.note("client", "done", request.kind, request.id.hex()[:8], answer.seq, answer.changed)
        if answer.changed:
            self.observations.acknowledged.append(
                Acknowledged(request.id, answer.node, trio.current_time(), answer.epoch, answer.seq)
            )

    def _refused(self, request: Request, error: TwinlogError) -> None:
        self.trace.note("client", "refused", request.kind, error.name)
        if isinstance(error, DamagedRecord) and self._is_harmed:
            self.observations.reported.append(f"a writer was told of damage: {error}")

    # The nemesis.

    async def _nemesis(self) -> None:
        rng, machine, faults = self.rng, self.machine, self.sizes.faults
        while True:
            await trio.sleep(rng.expovariate(1 / self.sizes.fault_every_s))
            if self.sizes.harm and rng.random() < HARM_EVERY:
                harm(self.sizes.harm, machine, rng)
                continue
            fault = rng.choices(list(faults), list(faults.values()))[0]
            if fault == "heal":
                self._heal()
            else:
                strike(fault, machine, rng, reserve_bytes=FREE_BYTES_MIN)

    def _heal(self) -> None:
        heal(self.machine, sync_delay_s=self.sizes.sync_delay_s)

    async def _last_look(self) -> None:
        """One more orderly restart, then the content by which the run is judged."""
        self.machine.stop()
        await self.machine.wait_ended()
        await trio.sleep(1.0)  # longer than a machine stays down
        await self._opened.wait()
        target = self._target()
        if target is None:  # it has ended once more, by a fault of its own: no final state, which the checkers say
            return
        database = target.database
        seen = await look_at_all(self.observations, "a", database, final=True, state_hash=True)
        self._end_chain = seen.chain
        self.machine.stop()
        await self.machine.wait_ended()
