"""What sealing does to the latency of inserts: the same steady rate with seals and without them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contest import Contender, Keys, Run, ask, load, started
from benchmarks.generator import Load
from benchmarks.processes import Server
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import PostgresServer, RedisServer, TwinlogServer

from .point import Field, postgres_fields, redis_fields, twinlog_fields

WHAT = (
    "Inserts at a fixed rate over 16 connections (each request has a time at which it is due, and its latency counts from then): Twinlog that "
    "seals as it does by default, every 64,000 records, and one whose memtable is so large that it never does, in turn; PostgreSQL "
    "(synchronous_commit off) and Redis (everysec) at the same rate. The figure is the 99.9th percentile."
)
CONNECTIONS = 16
DEPTH = 64
RATE = 4_000
NO_SEALS = {"memtable_records_max": 1_000_000, "memtable_mb": 1024, "seal_age_s": 86_400}


def turn(field: Field, server: Server, keys: Keys, rate: float, seconds: float) -> Sample:
    order = Load(field.requests["insert"], depth=DEPTH, seconds=seconds, warmup=1.0, rate=rate, tls=field.tls)
    sample = load(server, field.dial, CONNECTIONS, order, keys)
    return replace(sample, value=sample.extras["p999_us"])


def measure(run: Run, case: CaseReport) -> None:
    seconds = max(run.seconds * 3, 60_000 / RATE)  # three seals at least
    rounds = min(run.rounds, 2 if run.short else 5)
    with run.directory() as directory:
        makers = (
            lambda: TwinlogServer(directory / "sealing"),
            lambda: TwinlogServer(directory / "unsealed", **NO_SEALS),
            lambda: RedisServer(directory / "redis", fsync="everysec"),
            lambda: PostgresServer(directory / "postgres"),
        )
        with started(case, *makers) as (sealing, unsealed, redis, postgres):
            peers = ("PostgreSQL plain", "Redis plain")
            named: list[tuple[str, tuple[str, ...], Field]] = [
                ("Twinlog plain, sealing", ("Twinlog plain, no seals", *peers), twinlog_fields(sealing)[1]),
                ("Twinlog plain, no seals", peers, twinlog_fields(unsealed)[1]),
            ]
            if redis is not None:
                named.append(("Redis plain", (), redis_fields(redis)[1]))
            if postgres is not None:
                named.append(("PostgreSQL plain", (), postgres_fields(postgres, synchronous_commit=False)[0]))
            contenders = [
                Contender(name, lambda field=field: turn(field, field.server, field.keys, RATE, seconds), against)
                for name, against, field in named
            ]
            name = f"insert at {RATE:,} per second for {seconds:.0f} s"
            measure = ask(case, name, "p99.9 µs", contenders, rounds, higher_is_better=False)
            ours, without = measure.row("Twinlog plain, sealing"), measure.row("Twinlog plain, no seals")
            if ours and without:
                words = [f"{label} {ours.extra(key) / without.extra(key):.1f} ×" for key, label in
                         (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9"), ("max_us", "max"))]  # fmt: skip
                case.notes.append("sealing against no seals: " + ", ".join(words))
