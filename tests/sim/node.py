"""One node of the simulated cluster: the real engine, member, service and sessions on a Machine and a SimNetwork.

It composes what node/server.py composes, with the simulated seams in the place of sockets, files and the worker. What runs
here besides is only eyes: readers that look at every node, standbys included.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import trio

from node import links, wire
from node.carrier import carry
from node.config import Limits
from node.metrics import Metrics
from node.service import Service
from node.users import Logins
from replication import Member, MemberConfig, OnAckTimeout, Role
from replication.roles import RoleState
from storage import Database, Engine, Seams
from storage.errors import DiskFailed, DiskFull, PeerError, ReadOnly
from tests.sim.compacting import COMPACTED, compact
from tests.sim.faults import innermost, shown
from tests.sim.links import SimNetwork, SimStream
from tests.sim.machine import Machine
from tests.sim.observations import Observations
from tests.sim.readers import keep_looking, look_at_all
from tests.sim.sizes import Sizes
from tests.sim.trace import Trace
from tests.sim.vandal import Vandal

DATABASE = "db"
SYNCED_AND_GONE = "had been synced and are not readable"  # how recovery words it
HANDSHAKE_TIMEOUT_S = 5.0
LIMITS = Limits(
    connections_max=64,
    connection_buffer_bytes=2**20,
    total_buffer_bytes=2**24,
    in_flight_max=64,
    requests_max=256,
    idle_timeout_s=600.0,
    handshake_timeout_s=HANDSHAKE_TIMEOUT_S,
    slow_client_timeout_s=30.0,
    cursors_max=64,
    cursor_idle_s=60.0,
    position_timeout_s=5.0,
    login_failures_max=5,
    login_window_s=60.0,
    links_max=64,
    stop_timeout_s=5.0,
)


class SimNode:
    """A node and its lives. engine and member are there while `up`."""

    def __init__(
        self,
        name: str,
        names: list[str],
        machine: Machine,
        network: SimNetwork,
        sizes: Sizes,
        observations: Observations,
        key: wire.Key | None,
    ) -> None:
        self.name = name
        self.machine = machine
        self.engine: Engine | None = None
        self.member: Member | None = None
        self.up = False
        self.opening = False
        self.vandal: Vandal
        self.down_s = 0.2  # mean of how long it stays down
        self.on_created: Callable[[bytes], None] = lambda uuid: None  # told of databases, as they are made or found
        self._names = names
        self._network = network
        self._sizes = sizes
        self._observations = observations
        self._key = key
        self._ring = wire.KeyRing((key,)) if key is not None else None
        machine.on_down = self._went_down

    @property
    def trace(self) -> Trace:
        return self.machine.trace

    @property
    def database(self) -> Database | None:
        """The open database, if the node is up and has it."""
        if not self.up or not self.machine.alive or self.engine is None:
            return None
        return self.engine.databases.get(DATABASE)

    @property
    def leads(self) -> bool:
        return self.up and self.machine.alive and self.member is not None and self.member.role is Role.PRIMARY

    @property
    def role_state(self) -> RoleState:
        assert self.member is not None, "only a node that is up has one"
        return self.member._replica.state

    @property
    def is_changing_role(self) -> bool:
        return self.member._replica.keeper._lock.locked()

    @property
    def takes_writes(self) -> bool:
        return self.leads and self.database is not None and self.database.refusal is None

    def _went_down(self, power: bool) -> None:
        self.up = False
        self._network.vanish(self.name, power=power)

    async def live_again_and_again(self, rng: random.Random) -> None:
        """Restart after every end, with a visit of the vandal now and then."""
        self.vandal = Vandal(random.Random(rng.getrandbits(64)), self.trace)
        while True:
            self._network.back(self.name)
            self.opening = True
            try:
                await self.machine.run(partial(self._life, rng=rng))
            except Exception as error:
                self._judge(innermost(error))
                await trio.sleep(0.2)
            self.up, self.engine, self.member = False, None, None
            await trio.sleep(rng.expovariate(1 / self.down_s))
            if rng.random() < 0.15:
                self.vandal.visit(self.machine.platter)

    def _judge(self, cause: BaseException) -> None:
        """A disk that refuses while a node opens may end it; anything else is a finding of the run."""
        self.trace.note(self.name, "ends by", type(cause).__name__)
        if not (self.opening and isinstance(cause, (OSError, DiskFull, DiskFailed))):
            self._observations.crashes.append(f"{self.name}: {shown(cause)}")

    async def _life(self, seams: Seams, *, rng: random.Random) -> None:
        async with Engine.open(seams, options=self._sizes.engine, refusal=ReadOnly("the role is not settled")) as engine:
            engine.watch_databases(partial(self._database_changed, engine))
            self._settle(engine)
            engine.node_id = self.name.encode().ljust(16, b"-").hex()
            database = engine.databases.get(DATABASE)
            if database is not None:
                self.on_created(database.uuid)  # perhaps by a life that ended before it could say so
                self.trace.note(self.name, "opens at", tuple(database.position), "unclean" if database.unclean else "clean")
                await look_at_all(self._observations, self.name, database, state_hash=True)
            member = Member(engine, self._member_config(), partial(self._dial, seams), seams)
            logins = Logins(None, seams.disk.run, failures_max=5, window_s=60.0)
            service = Service(
                engine,
                member,
                node=self.name,
                limits=LIMITS,
                logins=logins,
                metrics=Metrics(),
                random_bytes=seams.random_bytes,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(member.run)
                await nursery.start(service.run)
                peer_links = partial(self._accept_peer, seams, member)
                await nursery.start(self._network.serve, f"{self.name}/cluster", peer_links)
                clients = partial(self._accept_client, seams, service)
                await nursery.start(self._network.serve, f"{self.name}/client", clients)
                self.engine, self.member, self.up, self.opening = engine, member, True, False
                self.trace.note(self.name, "is up as", member.role.value, member.epoch)
                eyes = random.Random(rng.getrandbits(64))
                nursery.start_soon(self._look, engine, eyes)

    def _database_changed(self, engine: Engine, kind: str, name: str) -> None:
        self.trace.note(self.name, kind, name)
        if kind == "created":
            self.on_created(engine.databases[name].uuid)
        self._settle(engine)

    def _settle(self, engine: Engine) -> None:
        """A database that a failing disk keeps closed is not recovered: what an earlier life left of it is still at risk."""
        if DATABASE not in engine.unopened:
            self.machine.settled()
        for database in engine.databases.values():  # a power cut takes nothing that was synced, so none of it is ever found damaged
            told = [f"{self.name}: {finding}" for finding in database.findings if SYNCED_AND_GONE in finding]
            self._observations.reported += [line for line in told if line not in self._observations.reported]

    def _member_config(self) -> MemberConfig:
        sizes = self._sizes
        return MemberConfig(
            name=self.name,
            cluster="sim",
            peers={name: f"{name}/client" for name in self._names if name != self.name},
            named_primary=self._names[0],
            acks=sizes.acks,
            ack_timeout_s=1.0,
            on_ack_timeout=OnAckTimeout.DEGRADE if sizes.degrades else OnAckTimeout.BLOCK,
            heartbeat_s=0.2,
            mark_interval_s=1.0,
            mark_timeout_s=2.0,
            window_bytes=sizes.window_bytes,
            seed_chunk_bytes=sizes.seed_chunk_bytes,
            seed_bytes_min=sizes.seed_bytes_min,
            client_address=f"{self.name}/client",
        )

    async def _dial(self, seams: Seams, peer: str) -> links.SecureLink:
        with trio.move_on_after(links.DIAL_TIMEOUT_S):
            stream = await self._network.dial(self.name, f"{peer}/cluster")
            return await links.SecureLink.dialled(stream, self._key, seams.random_bytes, peer=peer)
        raise TimeoutError(f"{peer}: no answer")

    async def _accept_peer(self, seams: Seams, member: Member, stream: SimStream) -> None:
        link = None
        try:
            with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
                link = await links.SecureLink.accepted(
                    stream, self._ring, seams.random_bytes, plain_allowed=self._key is None, peer=stream.peer
                )
            if link is not None:
                await member.serve_link(link)
        except (PeerError, trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _accept_client(self, seams: Seams, service: Service, stream: SimStream) -> None:
        session = wire.ServerSession(
            lambda key_id: None, wire.PortRole.CLIENT, plain_allowed=True, random_bytes=seams.random_bytes
        )
        await carry(stream, service, session, LIMITS, peer=stream.peer)

    async def _look(self, engine: Engine, rng: random.Random) -> None:
        while True:
            await trio.sleep(rng.uniform(0.01, 0.2))
            database = engine.databases.get(DATABASE)
            if database is not None:
                with trio.move_on_after(rng.uniform(0.1, 1.0)):
                    if rng.random() < COMPACTED:
                        await compact(database)
                    await keep_looking(self._observations, self.name, database, rng, self._sizes)
