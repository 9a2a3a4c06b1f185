"""Every queue of a node in one table: what it holds, what happens at its bound, where both are read (INV-8).

Whoever adds a queue to the node adds its row here. docs/operations.md, "Under load", says what to do about each. Rows that
every database or every standby has are read over all of them at each look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import storage

from .config import NodeConfig
from .hub import Hub
from .links import ADMIN_CONNECTIONS_MAX, LinkCount
from .queue_watch import Fill, QueueWatch
from .service import Service
from .users import HASHES_AT_ONCE_MAX, HASHES_WAITING_MAX, Logins

REFUSED = "requests are refused as Overloaded"
WAIT = "it waits, and who sends waits with it"


@dataclass(frozen=True, slots=True)
class Parts:
    """What holds the queues of one node. links, admin: the connections of these ports; workers: the processes, if there are any."""

    config: NodeConfig
    engine: Any
    member: Any
    service: Service
    hub: Hub
    logins: Logins
    disk: storage.Disk
    workers: Sequence[storage.WorkerProcess]
    links: LinkCount
    admin: LinkCount


def fill_table(watch: QueueWatch, parts: Parts) -> None:
    """Put every queue of the node into the table."""
    _add_engine(watch, parts)
    _add_replication(watch, parts)
    _add_requests(watch, parts)
    _add_connections(watch, parts)


def _add_engine(watch: QueueWatch, parts: Parts) -> None:
    config, engine = parts.config, parts.engine
    requests_max = config.limits.requests_max

    def each(pick: Callable[[storage.Load], tuple[float, float]]) -> Callable[[], Iterator[Fill]]:
        def read() -> Iterator[Fill]:
            for name, db in list(engine.databases.items()):
                yield name, *pick(storage.load_of(db))

        return read

    slowed = "writers wait, after 30 s they are refused as Overloaded"
    watch.add_each("memtable_records", "records not sealed yet", slowed, each(lambda load: load.memtable_records))
    watch.add_each("memtable_bytes", "bytes not sealed yet", slowed, each(lambda load: load.memtable_bytes))
    watch.add_each(
        "log_kept_bytes", "commit log kept, for standbys too", "its oldest part goes, and standbys that lack it are seeded",
        each(lambda load: load.log_kept),
    )  # fmt: skip
    watch.add_each("query_turns", "steps of queries waiting for a thread", WAIT, each(lambda load: (load.query_turns, requests_max)))
    watch.add(
        "databases", "databases", "no more can be created", lambda: len(engine.databases), lambda: config.storage.databases_max
    )
    watch.add(
        "worker_jobs", "seals and index builds waiting for the worker processes", WAIT,
        lambda: sum(worker.jobs for worker in parts.workers), lambda: config.storage.databases_max * len(parts.workers),
    )  # fmt: skip
    disk = parts.disk
    if isinstance(disk, storage.OsDisk):
        # Each request has one call at a time, and a database a few of its own.
        watch.add(
            "disk_calls", "calls running in disk threads or waiting for one", WAIT,
            lambda: disk.calls, lambda: requests_max + 4 * config.storage.databases_max,
        )  # fmt: skip


def _add_replication(watch: QueueWatch, parts: Parts) -> None:
    member = parts.member
    watch.add_each("answers_waiting", "writes waiting to be durable or acknowledged", REFUSED, lambda: member.ack_fills())
    watch.add_each(
        "replication_window_bytes", "log under way to a standby and not durable there", "its log waits here", lambda: member.window_fills()
    )
    watch.add(
        "delayed_bytes", "log that a delayed standby holds until it is old enough", "the link is cut",
        lambda: member.held_fill()[0], lambda: max(1, member.held_fill()[1]),
    )  # fmt: skip
    watch.add("links", "links of peers", "more are closed at once", lambda: parts.links.links, lambda: parts.config.limits.links_max)


def _add_requests(watch: QueueWatch, parts: Parts) -> None:
    service, limits = parts.service, parts.config.limits
    watch.add("requests_waiting", "requests waiting for something, over all connections", REFUSED, lambda: service.waiting, lambda: limits.requests_max)
    watch.add(
        "inserts_waiting", "inserts waiting for room in a memtable", REFUSED, lambda: service.inserts_waiting, lambda: limits.requests_max
    )
    watch.add(
        "requests_in_flight", "requests under way on the connection that has most of them", "that connection is not read from",
        lambda: parts.hub.fullest.in_flight, lambda: limits.in_flight_max,
    )  # fmt: skip
    watch.add("cursors", "open cursors", REFUSED, lambda: len(service.cursors), lambda: limits.cursors_max)
    watch.add(
        "logins_waiting", "logins waiting for their password's check", "logins are refused as Overloaded",
        lambda: parts.logins.waiting, lambda: HASHES_WAITING_MAX + HASHES_AT_ONCE_MAX,
    )  # fmt: skip


def _add_connections(watch: QueueWatch, parts: Parts) -> None:
    hub, limits = parts.hub, parts.config.limits
    watch.add("connections", "client connections", "more are refused as Overloaded", lambda: hub.connections, lambda: limits.connections_max)
    watch.add(
        "connection_buffer_bytes", "answers waiting on the connection that has most of them", "that connection is not read from",
        lambda: hub.fullest.answer_bytes, lambda: limits.connection_buffer_bytes,
    )  # fmt: skip
    watch.add(
        "total_buffer_bytes", "requests and answers waiting on all connections",
        "nothing is read, and connections that hold most and take nothing are cut",
        lambda: hub.buffered_bytes, lambda: limits.total_buffer_bytes,
    )  # fmt: skip
    watch.add("admin_connections", "admin HTTP connections", "more are closed at once", lambda: parts.admin.links, lambda: ADMIN_CONNECTIONS_MAX)
