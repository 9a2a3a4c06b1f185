"""What a node counts, and the same in Prometheus' words. Knows no socket.

Counting is adding to plain integers on the event loop; only when /metrics is asked are they turned into families. The
registry is this node's own, so that several nodes can live in one process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

import replication

from .health import readiness, why_no_writes

ROLES = tuple(sorted({role.value for role in replication.Role} | {"fenced"}))
PHASES = tuple(phase.value for phase in replication.Phase)
LAG_UNITS = ("commits", "bytes", "seconds")
ROLE_CHANGES = ("promotion", "switchover")  # of which a status may tell when the last one was


class QueueFill(NamedTuple):
    """How full one queue is. owner: its database or standby; "" where the node has one."""

    name: str
    holds: str
    owner: str
    value: float
    bound: float


class Metrics:
    """Counters of one node. The attributes are added to directly: `metrics.requests["insert"] += 1`."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()  # by operation
        self.refusals: Counter[str] = Counter()  # failures answered, by error name
        self.bounds: Counter[str] = Counter()  # times a bound was reached, by its name (INV-8)
        self.closed: Counter[str] = Counter()  # connections closed, by reason
        self.nearly_full: Counter[str] = Counter()  # times a queue passed 80 % of its bound, by its name
        self.transactions: Counter[str] = Counter()  # that are over, by how they ended
        self.connections_accepted = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.wakeups = 0
        self.rounds = 0
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._status: Callable[[], dict[str, Any]] | None = None
        self._queues: Callable[[], Sequence[QueueFill]] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """A value that is read when asked for: `twinlog_<name>`."""
        self._gauges[name] = (meaning, read)

    def watch_status(self, read: Callable[[], dict[str, Any]]) -> None:
        """Where positions, lag and alarms are taken from: the member's status."""
        self._status = read

    def watch_queues(self, read: Callable[[], Sequence[QueueFill]]) -> None:
        """Where the fill of every queue is taken from."""
        self._queues = read

    def exposition(self) -> bytes:
        """The text that /metrics answers with."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """prometheus_client asks this of a collector."""
        for name, meaning, label, counts in (
            ("requests", "Requests taken, by operation", "op", self.requests),
            ("refusals", "Failures answered, by error name", "error", self.refusals),
            ("bounds", "Times a bound was reached, by its name", "bound", self.bounds),
            ("connections_closed", "Connections closed, by reason", "reason", self.closed),
            ("queue_nearly_full", "Times a queue passed 80 % of its bound, by its name", "queue", self.nearly_full),
            ("transactions", "Transactions that are over, by how they ended", "end", self.transactions),
        ):
            family = CounterMetricFamily(f"twinlog_{name}", meaning, labels=[label])
            for value, count in sorted(counts.items()):
                family.add_metric([value], count)
            yield family
        for name, meaning, count in (
            ("connections_accepted", "Client connections accepted", self.connections_accepted),
            ("received_bytes", "Bytes received from clients", self.received_bytes),
            ("sent_bytes", "Bytes sent to clients", self.sent_bytes),
            ("wakeups", "Times the hub woke up", self.wakeups),
            ("rounds", "Times the hub looked for sockets that are ready", self.rounds),
        ):
            yield CounterMetricFamily(f"twinlog_{name}", meaning, value=count)
        for name, (meaning, read) in sorted(self._gauges.items()):
            yield GaugeMetricFamily(f"twinlog_{name}", meaning, value=read())
        status = None if self._status is None else self._status()
        ready = status is not None and readiness(status)[0]
        yield GaugeMetricFamily("twinlog_ready", "1 while requests of the node's role are taken", value=ready)
        if status is not None:
            yield from _status_families(status)
        if self._queues is not None:
            yield from _queue_families(self._queues())


def _queue_families(fills: Sequence[QueueFill]) -> Iterator[Metric]:
    """Two gauges for each queue: `twinlog_queue` and, under the same labels, `twinlog_queue_bound`."""
    values = GaugeMetricFamily("twinlog_queue", "What a queue holds now", labels=["queue", "of"])
    bounds = GaugeMetricFamily("twinlog_queue_bound", "What that queue can hold at most", labels=["queue", "of"])
    for fill in fills:
        values.add_metric([fill.name, fill.owner], fill.value)
        bounds.add_metric([fill.name, fill.owner], fill.bound)
    yield values
    yield bounds


def _status_families(status: dict[str, Any]) -> Iterator[Metric]:
    yield _one_of("twinlog_role", "1 for the role this node has", "role", ROLES, status.get("role"))
    yield _one_of("twinlog_phase", "1 for what this node is doing", "phase", PHASES, status.get("phase"))
    for name, meaning, value in (
        ("twinlog_paused", "1 while automation must not change roles", status.get("paused") is not None),
        ("twinlog_fenced", "1 while this node is fenced", status.get("role") == "fenced"),
        ("twinlog_takes_writes", "1 on the primary that takes writes", not why_no_writes(status)),
        ("twinlog_epoch", "The node's epoch", status.get("epoch", 0)),
        ("twinlog_alarms", "Alarms that stand", len(status.get("alarms", ()))),
        ("twinlog_failed_databases", "Databases that have failed: damaged, on a failed disk, not followed", len(status.get("failures", ()))),
    ):
        yield GaugeMetricFamily(name, meaning, value=value)
    for change in ROLE_CHANGES:
        if (at_us := status.get(f"last_{change}_us")) is not None:
            yield GaugeMetricFamily(f"twinlog_last_{change}_timestamp_seconds", f"Unix time of the last {change}", value=at_us / 1e6)
    yield from _database_families(status.get("databases", {}))
    yield from _standby_families(status.get("standbys", ()))


def _database_families(databases: dict[str, dict[str, Any]]) -> Iterator[Metric]:
    position = GaugeMetricFamily("twinlog_position_seq", "Newest visible commit", labels=["db"])
    for name, database in sorted(databases.items()):
        position.add_metric([name], database["position"][1])
    yield position
    for unit in LAG_UNITS:
        lag = GaugeMetricFamily(f"twinlog_lag_{unit}", f"On a standby: how far its copy is behind the primary, in {unit}", labels=["db"])
        for name, database in sorted(databases.items()):
            if database.get("lag"):
                lag.add_metric([name], database["lag"][unit])
        yield lag


def _standby_families(standbys: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    """The other nodes, as this one knows them; lag only on the primary."""
    connected = GaugeMetricFamily("twinlog_standby_connected", "1 while the other node's link is up", labels=["standby"])
    phases = GaugeMetricFamily("twinlog_standby_phase", "1 for what the other node is doing, as far as this one can know", labels=["standby", "phase"])
    for standby in standbys:
        connected.add_metric([str(standby.get("name"))], 1 if standby.get("connected") else 0)
        for phase in PHASES:
            phases.add_metric([str(standby.get("name")), phase], 1 if standby.get("phase") == phase else 0)
    yield connected
    yield phases
    delay = GaugeMetricFamily("twinlog_standby_delay_seconds", "How far a delayed standby stays behind on purpose", labels=["standby"])
    for standby in standbys:
        delay.add_metric([str(standby.get("name"))], standby.get("delay_s", 0))
    yield delay
    for unit in LAG_UNITS:
        lag = GaugeMetricFamily(f"twinlog_standby_lag_{unit}", f"How far the standby is behind, in {unit}", labels=["standby"])
        for standby in standbys:
            value = standby.get(f"lag_{unit}")
            if value is not None:
                lag.add_metric([str(standby.get("name"))], value)
        yield lag


def _one_of(name: str, meaning: str, label: str, values: Sequence[str], now: str | None) -> Metric:
    """A gauge for each value, 1 for the one that is so."""
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value in values:
        family.add_metric([value], 1 if value == now else 0)
    return family
