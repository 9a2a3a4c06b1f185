"""Writes that are on the disk before their answer: 1, 16 and 1,024 of them outstanding."""

from __future__ import annotations

from benchmarks.contest import Run, ask, started
from benchmarks.report import CaseReport
from benchmarks.servers import PostgresServer, RedisServer, TwinlogServer

from .point import postgres_fields, redis_fields, twinlog_fields

WHAT = (
    "Inserts whose answer means fdatasync: Twinlog with sync_mode sync, Redis with appendfsync always, PostgreSQL with synchronous_commit "
    "on. One connection; 16 connections; 16 connections with 64 outstanding on each (a PostgreSQL connection then commits its 64 one "
    "after the other: it has no group commit within a connection)."
)
SHAPES = ((1, 1), (16, 1), (16, 64))


def measure(run: Run, case: CaseReport) -> None:
    with run.directory() as directory:
        makers = (
            lambda: TwinlogServer(directory / "twinlog", sync_mode="sync"),
            lambda: RedisServer(directory / "redis", fsync="always"),
            lambda: PostgresServer(directory / "postgres"),
        )
        with started(case, *makers) as (twinlog, redis, postgres):
            fields = twinlog_fields(twinlog)
            if redis is not None:
                fields += redis_fields(redis)
            if postgres is not None:
                fields += postgres_fields(postgres, synchronous_commit=True)
            for connections, depth in SHAPES:
                contenders = [field.contender("insert", run, connections=connections, depth=depth) for field in fields]
                name = f"durable insert, {connections} connections × {depth}"
                ask(case, name, "per second", contenders, run.rounds)
