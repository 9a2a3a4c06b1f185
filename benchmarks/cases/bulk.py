"""Many documents in one request: insert_many of 1,000 beside COPY of 1,000 rows and MSET of 1,000 pairs."""

from __future__ import annotations

from benchmarks.contest import Contender, Run, ask, load, started
from benchmarks.generator import Load
from benchmarks.report import CaseReport
from benchmarks.servers import PostgresServer, RedisServer, TwinlogServer

from .point import Field, postgres_fields, redis_fields, twinlog_fields

WHAT = (
    "insert_many of 1,000 documents of 200 bytes over the wire, beside PostgreSQL's COPY of 1,000 text rows into a table with a jsonb "
    "column and a primary key, and Redis's MSET of 1,000 pairs. One connection with one and with four requests outstanding; four "
    "connections with one (PostgreSQL then works on as many cores as there are)."
)
SHAPES = ((1, 1), (1, 4), (4, 1))


def contender(field: Field, run: Run, connections: int, depth: int) -> Contender:
    order = Load(field.requests["insert_many"], depth=depth, seconds=run.seconds, warmup=run.seconds / 4, tls=field.tls)
    peers = (*field.peers, "PostgreSQL plain") if field.name == "Twinlog encrypted" else field.peers
    return Contender(field.name, lambda: load(field.server, field.dial, connections, order, field.keys), peers, field.server)


def measure(run: Run, case: CaseReport) -> None:
    with run.directory() as directory:
        makers = (
            lambda: TwinlogServer(directory / "twinlog"),
            lambda: RedisServer(directory / "redis", fsync="everysec"),
            lambda: PostgresServer(directory / "postgres"),
        )
        with started(case, *makers) as (twinlog, redis, postgres):
            fields = twinlog_fields(twinlog)
            if redis is not None:
                fields += redis_fields(redis)
            if postgres is not None:
                fields += postgres_fields(postgres, synchronous_commit=False)
            for connections, depth in SHAPES:
                contenders = [contender(field, run, connections, depth) for field in fields]
                ask(case, f"bulk, {connections} connections × {depth}", "documents per second", contenders, run.rounds)
