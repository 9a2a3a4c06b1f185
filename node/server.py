"""One running node: engine, member, hub and admin HTTP over one configuration, and its orderly end.

    async with Node.open(config) as node: ...      everything up; addresses are the real ones, ports of 0 included
    await serve(config)                            the same until SIGTERM or SIGINT

Order of the start: secrets, lock, ports, node.json, admin HTTP, worker, engine, member, client port. Order of the end: no more connections,
requests refused by ShuttingDown, those under way finish (bounded), answers leave, then the member, then the engine
flushes and closes. Nothing here decides; it composes.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from operator import attrgetter
from typing import Any

import trio

import replication
import storage
from storage import errors

from . import links, node_file, queues, wire
from .allocator import bound_idle_memory
from .backup_clock import ProofConfig
from .config import NodeConfig
from .hub import Hub
from .keyring import Secrets
from .metrics import Metrics
from .queue_watch import QueueWatch
from .section import Address
from .service import Service
from .users import Logins
from .vitals import Vitals

log = logging.getLogger(__name__)

SCRUB_METRICS = (
    ("scrub_bytes", "Bytes that the scrubs of all databases have read"),
    ("scrub_repaired", "Damaged places that were repaired"),
    ("scrub_damaged", "Damaged places that stand"),
)
SALVAGE = "_salvage"


class Node:
    """A node that is up. Made by `open`."""

    def __init__(
        self, config: NodeConfig, engine: Any, member: Any, service: Service, hub: Hub, metrics: Metrics, ports: Ports
    ) -> None:
        self.config = config
        self.engine = engine
        self.member = member
        self.service = service
        self.metrics = metrics
        self.client_address: Address = links.bound_address(ports.client)
        self.cluster_address: Address | None = links.bound_address(ports.cluster) if ports.cluster else None
        self.admin_address: Address | None = links.bound_address(ports.admin) if ports.admin else None
        self._hub = hub

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: NodeConfig, *, seams: storage.Seams | None = None, adopt: bool = False
    ) -> AsyncIterator[Node]:
        """seams: other surroundings than real files and a worker process. adopt: a copied directory is this node.

        Raises ConfigError, DirectoryInUse, NewerFormat, DamagedRecord.
        """
        secrets = Secrets.read(config)
        async with AsyncExitStack() as held:
            workers: list[storage.WorkerProcess] = []
            if seams is None:
                workers = [storage.WorkerProcess(config.data), storage.WorkerProcess(config.data, storage.INDEX_LOCK_FILE)]
                seams = storage.real_seams(config.data, *workers)
            disk = seams.disk
            await disk.run(disk.make_dir, "")
            held.callback(await disk.run(node_file.lock_directory, disk, config.data))
            ports = await Ports.bind(config)
            held.callback(ports.close)
            node_id = await disk.run(partial(_identify, config, seams, adopt=adopt))
            admin = await held.enter_async_context(Admin.open(config, ports, seams))
            for worker in workers:
                held.push_async_callback(worker.aclose)
            if workers:
                await workers[0].start()  # the index worker starts with its first job
            engine = await held.enter_async_context(storage.Engine.open(seams, options=engine_options(config), refusal=_unsettled()))
            engine.node_id = node_id
            held.callback(admin.vitals.is_ending)
            backups = _backups(config, engine, is_real=bool(workers))
            held.push_async_callback(backups.aclose)
            async with trio.open_nursery() as nursery:
                node = await cls._compose(config, seams, secrets, engine, ports, workers, admin, backups, nursery)
                addresses = {"client": str(node.client_address), "admin": str(node.admin_address or "")}
                await disk.run(partial(node_file.write_addresses, disk, **addresses))
                try:
                    yield node
                finally:
                    with trio.CancelScope(shield=True):
                        await node._stop()
                    nursery.cancel_scope.cancel()

    @classmethod
    async def _compose(
        cls,
        config: NodeConfig,
        seams: storage.Seams,
        secrets: Secrets,
        engine: Any,
        ports: Ports,
        workers: Sequence[storage.WorkerProcess],
        admin: Admin,
        backups: storage.Backups,
        nursery: trio.Nursery,
    ) -> Node:
        metrics = admin.metrics
        own = config.nodes.get(config.node)
        client_address = own.client if own is not None else links.bound_address(ports.client)
        member = replication.Member(
            engine, member_config(config, client_address), partial(_dial, config, secrets, seams), seams
        )
        logins = Logins(
            secrets.users,
            seams.disk.run,
            failures_max=config.limits.login_failures_max,
            window_s=config.limits.login_window_s,
        )
        service = Service(
            engine,
            member,
            node=config.node,
            limits=config.limits,
            logins=logins,
            metrics=metrics,
            random_bytes=seams.random_bytes,
            backups=backups,
            proof=ProofConfig(enabled=config.backups.proof, bytes_per_s=config.backups.proof_bytes_per_s),
        )
        metrics.watch_status(service.oversight.status_now)
        _watch_engine(metrics, engine)
        hub = Hub(ports.client, service, _session_maker(config, secrets, seams), config.limits, metrics)
        node = cls(config, engine, member, service, hub, metrics, ports)
        held = links.LinkCount()
        watch = QueueWatch(metrics)
        parts = queues.Parts(config, engine, member, service, hub, logins, seams.disk, workers, held, admin.held)
        queues.fill_table(watch, parts)
        await nursery.start(watch.run)
        await nursery.start(member.run)
        await nursery.start(service.run)
        if ports.cluster:
            await nursery.start(
                partial(
                    links.serve,
                    ports.cluster,
                    secrets.cluster,
                    member.serve_link,
                    seams.random_bytes,
                    plain_allowed=secrets.cluster is None or config.allow_plain,
                    handshake_timeout_s=config.limits.handshake_timeout_s,
                    links_max=config.limits.links_max,
                    held=held,
                )
            )
        await nursery.start(hub.run)
        admin.vitals.is_up(service.oversight.status_now)
        return node

    async def _stop(self) -> None:
        """No new connections, no new requests; those under way finish within the bound."""
        self._hub.stop_accepting()
        self.service.stop()
        with trio.move_on_after(self.config.limits.stop_timeout_s) as finishing:
            self.service.end_of_wakeup()
            await self.service.drained()
            await self._hub.flushed()
        if finishing.cancelled_caught:
            log.warning("%d requests did not finish in time and are given up", self.service.under_way)
        self.service.end_of_wakeup()


async def serve(
    config: NodeConfig,
    *,
    seams: storage.Seams | None = None,
    adopt: bool = False,
    task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until SIGTERM or SIGINT, or until cancelled; both end it in order."""
    bound_idle_memory()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with Node.open(config, seams=seams, adopt=adopt) as node:
            log.info("node %s serves clients on %s", config.node, node.client_address)
            task_status.started(node)
            async for number in signals:
                log.info("%s: stopping", signal.Signals(number).name)
                break


class Ports:
    """The bound listening sockets of one node; empty lists for ports it does not have."""

    def __init__(
        self, client: list[socket.socket], cluster: list[socket.socket], admin_http: list[socket.socket]
    ) -> None:
        self.client = client
        self.cluster = cluster
        self.admin = admin_http

    @classmethod
    async def bind(cls, config: NodeConfig) -> Ports:
        """All of them or none. Raises ConfigError naming the setting."""
        bound: list[list[socket.socket]] = []
        try:
            for name in ("client", "cluster", "admin"):
                address = getattr(config.listen, name)
                bound.append([] if address is None else await links.bind(address, config.listen_setting(name)))
        except BaseException:
            cls(*bound, *([] for _ in range(3 - len(bound)))).close()
            raise
        return cls(*bound)

    def close(self) -> None:
        """Closing twice is no error: hub and admin close their own."""
        for listener in (*self.client, *self.cluster, *self.admin):
            listener.close()


class Admin:
    """What watches a node from before its engine is opened until after it is closed: counters, pulse and, if it has the port, admin HTTP."""

    def __init__(self, node: str) -> None:
        self.metrics = Metrics()
        self.vitals = Vitals(node)
        self.held = links.LinkCount()
        self.metrics.watch("loop_late_seconds", "By how much the event loop was late at worst within the last minute", lambda: self.vitals.pulse.late_s)

    @classmethod
    @asynccontextmanager
    async def open(cls, config: NodeConfig, ports: Ports, seams: storage.Seams) -> AsyncIterator[Admin]:
        """While inside, it runs. What the inside raises comes out as it is."""
        admin = cls(config.node)
        raised: Exception | None = None
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(admin.vitals.pulse.run)
                if ports.admin:
                    nursery.start_soon(admin._serve, ports.admin, seams)
                yield admin
            except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery: not as a group
                raised = error
            finally:
                nursery.cancel_scope.cancel()
        if raised is not None:
            raise raised

    async def _serve(self, listeners: list[socket.socket], seams: storage.Seams) -> None:
        http = await seams.disk.run(import_module, "node.admin")  # takes 0.15 s, for which nobody waits
        await http.run(http.application(self.metrics, self.vitals), listeners, held=self.held)

def _backups(config: NodeConfig, engine: Any, *, is_real: bool) -> storage.Backups:
    """is_real: over real files, where long jobs have processes of their own."""
    locks = (storage.BACKUP_LOCK_FILE, storage.BACKUP_READ_LOCK_FILE) if is_real else ()
    backups = storage.Backups(engine, *(storage.BriefWorkers(config.data, lock) for lock in locks))
    backups.bytes_per_s = config.backups.bytes_per_s
    return backups


def engine_options(config: NodeConfig) -> storage.EngineOptions:
    """The engine's part of the configuration, as the engine takes it."""
    chosen = config.storage
    return storage.EngineOptions(
        sync_mode=storage.SyncMode(chosen.sync_mode),
        flush_interval_s=chosen.flush_interval_s,
        shards=chosen.shards,
        crc=chosen.crc,
        cache_bytes=chosen.cache_bytes,
        memtable_records_max=chosen.memtable_records_max,
        memtable_bytes_max=chosen.memtable_bytes_max,
        seal_age_s=chosen.seal_age_s,
        log_segment_bytes=chosen.log_segment_bytes,
        log_keep_bytes=chosen.log_keep_bytes,
        free_bytes_min=chosen.free_bytes_min,
        copy_grace_s=chosen.copy_grace_s,
        copy_grace_bytes=chosen.copy_grace_bytes,
        view_age_s=chosen.view_age_s,
        databases_max=chosen.databases_max,
        compaction=chosen.compaction,
        compact_stale_ratio=chosen.compact_stale_ratio,
        compact_min_bytes=chosen.compact_min_bytes,
        scrub_interval_s=chosen.scrub_interval_s,
        scrub_bytes_per_s=chosen.scrub_bytes_per_s,
        transactions_max=chosen.transactions_max,
        transaction_time_limit_s=chosen.transaction_time_limit_s,
        transactions_bytes_max=chosen.transactions_bytes_max,
        archive=chosen.archive,
        archive_interval_s=chosen.archive_interval_s,
        backup_key_file=config.backups.key_file,
    )


def member_config(config: NodeConfig, client_address: Address) -> replication.MemberConfig:
    """The member's part of the configuration, as the member takes it."""
    chosen = config.replication
    return replication.MemberConfig(
        name=config.node,
        cluster=config.cluster,
        peers={name: str(addresses.cluster) for name, addresses in config.peers.items()},
        named_primary=config.primary,
        acks=chosen.acks,
        ack_timeout_s=chosen.ack_timeout_s,
        on_ack_timeout=replication.OnAckTimeout(chosen.on_ack_timeout),
        heartbeat_s=chosen.heartbeat_s,
        mark_interval_s=chosen.mark_interval_s,
        window_bytes=chosen.window_bytes,
        seed_chunk_bytes=chosen.seed_chunk_bytes,
        client_address=str(client_address),
        delay_s=config.nodes[config.node].delay_s if config.nodes else 0,
        peer_delays_s={name: addresses.delay_s for name, addresses in config.peers.items() if addresses.delay_s},
    )


def _identify(config: NodeConfig, seams: storage.Seams, *, adopt: bool) -> str:
    """The node id of the directory. A copy of a node's directory joins no cluster under that node's name unasked. May block."""
    if config.nodes and not adopt and node_file.is_copy(seams.disk):
        raise errors.ConfigError(
            f"data: {config.data} is a copy of another node's directory; start it with --adopt to make it node"
            f" {config.node} in that one's place, or without `nodes` to look into it",
            path="data",
        )
    found = node_file.open_node_file(seams.disk, seams.random_bytes, adopt=adopt)
    if found.copied:
        log.warning("%s is a copy of another node's directory; it is opened as a node of its own", config.data)
        _set_role_aside(seams.disk, found.node_id)
    return found.node_id


def _set_role_aside(disk: Any, node_id: str) -> None:
    """A copy takes no part in the reign of the node that it was copied from (INV-4)."""
    if disk.exists(replication.ROLE_FILE):
        disk.make_dir(SALVAGE)
        disk.rename(replication.ROLE_FILE, f"{SALVAGE}/role-{node_id}.json")
        disk.sync_dir(SALVAGE)
        disk.sync_dir("")


def _cache_total(engine: Any, place: int) -> int:
    return sum(database.cache_counts[place] for database in engine.databases.values())


def _scrub_total(engine: Any, place: int) -> int:
    return sum(database.scrubbing.totals[place] for database in engine.databases.values())


DISK_GAUGES: tuple[tuple[str, str, Callable[[Any], int]], ...] = (
    ("full", "Databases that refuse writes because the disk is full", lambda space: int(space.full)),
    ("failed", "Databases that refuse writes because a write or sync failed", lambda space: int(space.failure is not None)),
    ("refused_writes", "Writes refused for want of space, since the start", lambda space: space.refused),
    ("times_full", "Times that the disk became full, since the start", lambda space: space.times_full),
)


def _disk_total(engine: Any, read: Callable[[Any], int]) -> int:
    return sum(read(database.space) for database in engine.databases.values())


def _free_bytes(engine: Any) -> int:
    return engine.seams.disk.free_bytes()


def _reserve_bytes(engine: Any) -> int:
    return max((database.space.reserve_bytes for database in engine.databases.values()), default=0)


def _held_total(engine: Any) -> int:
    return sum(database.sealing.held for database in engine.databases.values())


def _outruns(engine: Any) -> int:
    return sum(storage.load_of(database).log_outruns for database in engine.databases.values())


def _unsettled() -> errors.ReadOnly:
    return errors.ReadOnly("this node is starting and its role is not settled yet: try again soon")


def _index_total(engine: Any, name: str) -> int:
    return sum(getattr(database.indexing, name) for database in engine.databases.values())


def _watch_engine(metrics: Metrics, engine: Any) -> None:
    """What the engine has counted, over all databases."""
    for place, name in enumerate(("hits", "misses", "bytes")):
        metrics.watch(f"hot_cache_{name}", f"Hot caches of all databases: {name}", partial(_cache_total, engine, place))
    metrics.watch("disk_free_bytes", "Free bytes of the data directory's file system", partial(_free_bytes, engine))
    metrics.watch("disk_reserve_bytes", "Bytes that are kept free", partial(_reserve_bytes, engine))
    for name, meaning, read in DISK_GAUGES:
        metrics.watch(f"disk_{name}", meaning, partial(_disk_total, engine, read))
    for name in ("builds", "merges", "failures"):
        metrics.watch(f"field_index_{name}", f"Field indexes of all databases: {name}", partial(_index_total, engine, name))
    metrics.watch("log_outruns", "Segments of the log that went, at log_keep_mb, while a standby still needed them", partial(_outruns, engine))
    metrics.watch("held_databases", "Databases whose files a hold keeps", partial(_held_total, engine))
    _watch_compaction(metrics, engine)
    metrics.watch("salvage_entries", "What rewinds, recoveries and replacements set aside: entries", lambda: engine.salvage.entries)
    metrics.watch("salvage_bytes", "What rewinds, recoveries and replacements set aside: bytes", lambda: engine.salvage.bytes)
    for place, (name, meaning) in enumerate(SCRUB_METRICS):
        metrics.watch(name, meaning, partial(_scrub_total, engine, place))


def _watch_compaction(metrics: Metrics, engine: Any) -> None:
    for name, attribute, meaning in (
        ("runs", "runs", "shards compacted"),
        ("failures", "failures", "compactions that failed"),
        ("bytes_reclaimed", "bytes_reclaimed", "bytes of shard logs that compactions saved"),
        ("stale_bytes", "stale_bytes", "bytes of shard logs that nothing reads any more"),
        ("bytes_done", "bytes_done", "bytes written by the compactions under way"),
        ("bytes_total", "bytes_total", "bytes that the compactions under way will write"),
    ):
        read = partial(_compaction_total, engine, attrgetter(attribute))
        metrics.watch(f"compaction_{name}", f"All databases: {meaning}", read)
    running = partial(_compaction_total, engine, lambda progress: progress.shard is not None)
    metrics.watch("compaction_running", "Shards being compacted now", running)
    metrics.watch("compaction_stale_ratio", "Part of all shard logs that nothing reads any more", partial(_stale_ratio, engine))


def _compaction_total(engine: Any, read: Callable[[Any], float]) -> float:
    return sum(read(database.compacting.progress) for database in engine.databases.values())


def _stale_ratio(engine: Any) -> float:
    """Of all databases' shard logs together."""
    total = sum(database.sealed_bytes for database in engine.databases.values())
    return _compaction_total(engine, attrgetter("stale_bytes")) / total if total else 0.0


def _session_maker(config: NodeConfig, secrets: Secrets, seams: storage.Seams) -> Any:
    ring = secrets.client
    keys = _no_key if ring is None else ring.psk_of
    return partial(
        wire.ServerSession,
        keys,
        wire.PortRole.CLIENT,
        plain_allowed=ring is None or config.allow_plain,
        random_bytes=seams.random_bytes,
    )


def _no_key(key_id: bytes) -> bytes | None:
    return None


async def _dial(config: NodeConfig, secrets: Secrets, seams: storage.Seams, peer: str) -> links.SecureLink:
    key = None if secrets.cluster is None else secrets.cluster.dial
    return await links.dial(config.nodes[peer].cluster, key, seams.random_bytes)
