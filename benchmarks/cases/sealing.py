"""What sealing does to the latency of inserts: the same steady rate with seals and without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.contest import Contender, Run, ask, load, started
from benchmarks.generator import Load, LoadFailed
from benchmarks.report import CaseReport, Measure, Sample
from benchmarks.servers import PostgresServer, RedisServer, TwinlogServer

from .point import Field, postgres_fields, redis_fields, twinlog_fields

WHAT = (
    "Inserts at a fixed rate over 16 connections; each request has a time at which it is due, and its latency counts from then, so that one that had to "
    "wait behind a pause counts with all its waiting. Twinlog that seals as it does by default, every 64,000 records, and one whose memtable is so large "
    "that it never does (a fresh one each turn, for that memtable has a limit), in turn; PostgreSQL (synchronous_commit off) and Redis (everysec) at the same rate. At "
    "4,000 a second, and at half of what the sealing Twinlog takes when 1,024 are outstanding. The figure is the 99th percentile; max is the largest pause. `sealed` counts the "
    "commits that a turn sealed."
)
CONNECTIONS = 16
DEPTH = 64
RATE = 4_000
SHARE_OF_MAXIMUM = 0.5
SEALS_MIN_SHORT, SEALS_MIN_LONG = 1, 3  # of 20,000 records each, in every turn
MEMTABLE_RECORDS = 20_000
UNSEALED_RECORDS_MAX = 1_000_000  # the setting's limit
UNSEALED_SHARE = 0.9  # of them that a turn may use
NO_SEALS = {"memtable_records_max": UNSEALED_RECORDS_MAX, "memtable_mb": 1024, "seal_age_s": 86_400}
WARMUP_SECONDS = 1.0
P99_TIMES_MAX = 3.0  # of the median p99 without seals
PAUSE_MS_MAX = 50.0
SEALING, UNSEALED = "Twinlog plain, sealing", "Twinlog plain, no seals"


def turn(field: Field, rate: float, seconds: float) -> Sample:
    order = Load(field.requests["insert"], depth=DEPTH, seconds=seconds, warmup=WARMUP_SECONDS, rate=rate, tls=field.tls)
    sample = load(field.server, field.dial, CONNECTIONS, order, field.keys)
    return replace(sample, value=sample.extras["p99_us"])


def sealing_turn(field: Field, rate: float, seconds: float) -> Sample:
    assert isinstance(field.server, TwinlogServer)
    before = field.server.sealed_seq()
    sample = turn(field, rate, seconds)
    sealed = field.server.sealed_seq() - before
    if not sealed:
        raise LoadFailed(f"nothing was sealed in {seconds:.0f} s at {rate:,.0f} a second")
    return replace(sample, extras={**sample.extras, "sealed": sealed})


def unsealed_turn(case: CaseReport, directory: Path, rate: float, seconds: float) -> Sample:
    with started(case, lambda: TwinlogServer(directory, **NO_SEALS)) as (server,):
        assert isinstance(server, TwinlogServer)
        sample = turn(twinlog_fields(server)[1], rate, seconds)
        if server.sealed_seq():
            raise LoadFailed("it sealed all the same")
        return sample


def maximum(field: Field, seconds: float) -> float:
    """Inserts per second with as many outstanding as there is room for."""
    order = Load(field.requests["insert"], depth=DEPTH, seconds=seconds, warmup=WARMUP_SECONDS)
    return load(field.server, field.dial, CONNECTIONS, order, field.keys).value


def note_bars(case: CaseReport, measure: Measure) -> None:
    """What sealing costs against none, and whether the two bars hold."""
    ours, without = measure.row(SEALING), measure.row(UNSEALED)
    if ours is None or without is None:
        return
    words = [
        f"{label} {ours.extra(key) / without.extra(key):.1f} ×"
        for key, label in (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9"), ("max_us", "max"))
    ]
    times, pause = ours.median / without.median, ours.extra("max_us") / 1000
    case.notes.append(
        f"{measure.name}: sealing against no seals: {', '.join(words)}. p99 within {P99_TIMES_MAX:g} ×:"
        f" {'held' if times <= P99_TIMES_MAX else 'missed'} ({times:.1f}); no pause over {PAUSE_MS_MAX:g} ms:"
        f" {'held' if pause <= PAUSE_MS_MAX else 'missed'} ({pause:.0f} ms)"
    )


def at_rate(run: Run, case: CaseReport, rate: float, directory: Path, ours: Field, others: list[Field]) -> None:
    seals = run.count(short=SEALS_MIN_SHORT, long=SEALS_MIN_LONG)
    seconds = max(run.seconds * 3, seals * MEMTABLE_RECORDS / rate)
    seconds = min(seconds, UNSEALED_RECORDS_MAX * UNSEALED_SHARE / rate - WARMUP_SECONDS)
    peers = tuple(field.name for field in others)
    fresh = iter(range(1_000_000))

    def steady(field: Field) -> Callable[[], Sample]:
        return lambda: turn(field, rate, seconds)

    contenders = [
        Contender(SEALING, lambda: sealing_turn(ours, rate, seconds), (UNSEALED, *peers), ours.server),
        Contender(UNSEALED, lambda: unsealed_turn(case, directory / f"unsealed-{rate:.0f}-{next(fresh)}", rate, seconds), peers),
        *(Contender(field.name, steady(field)) for field in others),
    ]
    rounds = min(run.rounds, 1 if run.short else 5)
    name = f"insert at {rate:,.0f} per second for {seconds:.0f} s"
    note_bars(case, ask(case, name, "p99 µs", contenders, rounds, higher_is_better=False))


def measure(run: Run, case: CaseReport) -> None:
    with run.directory() as directory:
        makers = (
            lambda: TwinlogServer(directory / "sealing"),
            lambda: RedisServer(directory / "redis", fsync="everysec"),
            lambda: PostgresServer(directory / "postgres"),
        )
        with started(case, *makers) as (twinlog, redis, postgres):
            ours = twinlog_fields(twinlog)[1]
            others: list[Field] = []
            if redis is not None:
                others.append(redis_fields(redis)[1])
            if postgres is not None:
                others += postgres_fields(postgres, synchronous_commit=False)
            most = maximum(ours, max(2.0, run.seconds))
            case.notes.append(f"with {CONNECTIONS * DEPTH:,} outstanding the sealing Twinlog took {most:,.0f} inserts a second")
            for rate in (RATE, round(most * SHARE_OF_MAXIMUM, -2)):
                at_rate(run, case, rate, directory, ours, others)
