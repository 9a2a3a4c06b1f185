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
        if self._status is not None:
            yield from _status_families(self._status())
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
    role = GaugeMetricFamily("twinlog_role", "1 for the role this node has", labels=["role"])
    role.add_metric([str(status.get("role", "unknown"))], 1)
    yield role
    yield GaugeMetricFamily("twinlog_epoch", "The node's epoch", value=status.get("epoch", 0))
    yield GaugeMetricFamily("twinlog_alarms", "Alarms that stand", value=len(status.get("alarms", ())))
    position = GaugeMetricFamily("twinlog_position_seq", "Newest visible commit", labels=["db"])
    for name, database in sorted(status.get("databases", {}).items()):
        position.add_metric([name], database["position"][1])
    yield position
    standbys = status.get("standbys", ())
    connected = GaugeMetricFamily("twinlog_standby_connected", "1 while the standby's link is up", labels=["standby"])
    for standby in standbys:
        connected.add_metric([str(standby.get("name"))], 1 if standby.get("connected") else 0)
    yield connected
    delay = GaugeMetricFamily("twinlog_standby_delay_seconds", "How far a delayed standby stays behind on purpose", labels=["standby"])
    for standby in standbys:
        delay.add_metric([str(standby.get("name"))], standby.get("delay_s", 0))
    yield delay
    for unit in ("commits", "bytes", "seconds"):
        lag = GaugeMetricFamily(f"twinlog_standby_lag_{unit}", f"How far the standby is behind, in {unit}", labels=["standby"])
        for standby in standbys:
            value = standby.get(f"lag_{unit}")
            if value is not None:
                lag.add_metric([str(standby.get("name"))], value)
        yield lag
