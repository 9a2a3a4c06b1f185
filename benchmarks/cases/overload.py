"""Ten times as many requests as the node can take: what those that are taken wait, what is turned away, what memory does."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contest import Run, load, say, started
from benchmarks.generator import Load, lines, run
from benchmarks.report import CaseReport, Measure, Row, Sample
from benchmarks.servers import TwinlogServer
from benchmarks.watch import Watch

from .point import Field, twinlog_fields

WHAT = (
    "Arrivals at fixed times, whatever the node does. First its capacity, with 1,024 requests outstanding; then half of it, once, three and ten times it. Each of the "
    "connections may have 256 requests outstanding, the node's own bound (limits.in_flight_max); an arrival that finds none free is turned away at the client, as by a "
    "pool that is empty, and one that the node refuses (Overloaded) counts as refused. The figure is the 99th percentile of those taken, from the time they were due. Memory is RSS "
    "of the node and its workers."
)
CONNECTIONS, DEPTH = 32, 256
CAPACITY_DEPTH = 32
TIMES = (0.5, 1.0, 3.0, 10.0)
WARMUP_SECONDS = 0.5
DOCUMENTS = 20_000


def capacity(field: Field, kind: str, seconds: float) -> float:
    order = Load(
        field.requests[kind], depth=CAPACITY_DEPTH, seconds=seconds, warmup=WARMUP_SECONDS, key_count=field.loaded if kind == "get" else 0
    )
    return load(field.server, field.dial, CONNECTIONS, order, field.keys if kind == "insert" else None).value


def offered(field: Field, kind: str, rate: float, seconds: float) -> tuple[Sample, Watch, dict]:
    order = Load(
        field.requests[kind], depth=DEPTH, seconds=seconds, warmup=WARMUP_SECONDS, rate=rate, shed=True,
        key_count=field.loaded if kind == "get" else 0,
    )  # fmt: skip
    if kind == "insert":
        order = replace(order, first_key=field.keys.next)
    with Watch(field.server, 0.1, lambda: {}) as watch, lines(field.dial, CONNECTIONS) as opened:
        results = run(order, opened)
    if kind == "insert":
        field.keys.next += results["keys"]
    arrived = results["counted"] + results["shed"]
    extras = {
        "p50_us": results["p50_us"], "p99_us": results["p99_us"], "p999_us": results["p999_us"], "max_us": results["max_us"],
        "answers_s": results["per_second"], "turned_away": results["shed"] / max(1, arrived),
        "refused": results["errors"] / max(1, results["answered"]), "rss": watch.largest("rss_mb"),
    }  # fmt: skip
    return Sample(results["p99_us"], extras), watch, results


def measure(run: Run, case: CaseReport) -> None:
    with run.directory() as directory, started(case, lambda: TwinlogServer(directory / "twinlog")) as (server,):
        assert isinstance(server, TwinlogServer)
        field = twinlog_fields(server)[1]
        field.preload(DOCUMENTS)
        field.loaded = DOCUMENTS
        for kind in ("get", "insert"):
            most = capacity(field, kind, run.seconds)
            rows = [Row(f"{times:g} × capacity") for times in TIMES]
            case.measures.append(Measure(f"{kind}, capacity {most:,.0f} a second", "p99 µs", rows, higher_is_better=False))
            for row, times in zip(rows, TIMES, strict=True):
                for _ in range(run.rounds):
                    sample, watch, _results = offered(field, kind, most * times, run.seconds)
                    row.samples.append(sample)
                    case.series[f"{kind} at {times:g}"] = watch.seen
                say(f"  {kind} at {times:g} × {most:,.0f}: p99 {row.median:,.0f} µs, {row.extra('turned_away'):.0%} turned away")
        warnings = [line for line in server.log_tail().splitlines() if "queue" in line]
        case.notes += [f"log: {line}" for line in warnings[-8:]] or ["the log has no warning"]
