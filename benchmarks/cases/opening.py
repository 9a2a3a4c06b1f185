"""From the start of the process to the answer of the first read, after an orderly stop and after a kill."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from benchmarks.contest import Contender, Run, ask, started
from benchmarks.processes import Server
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import COLLECTION, DB, PostgresServer, RedisServer, TwinlogServer
from benchmarks.templates import KEY_BASE

from .point import Field, postgres_fields, redis_fields, twinlog_fields

WHAT = (
    "A server with N documents of 200 bytes is started; the figure is the time until it has answered one read by key. Stopped in order "
    "(SIGTERM; PostgreSQL: SIGINT) or killed before (SIGKILL; PostgreSQL: SIGQUIT, its immediate stop, because a SIGKILL of it alone leaves its "
    "children behind). Twinlog's figure has the start of Python and the imports in it."
)


def first_read(server: Server) -> Callable[[], None]:
    """Reads one document, or raises."""
    if isinstance(server, TwinlogServer):

        def read_twinlog() -> None:
            with server.connect() as client:
                assert client[DB][COLLECTION].find_one({"_id": KEY_BASE}) is not None

        return read_twinlog
    if isinstance(server, RedisServer):
        return lambda: check(server.ask("GET", f"{KEY_BASE:016d}"), server)
    assert isinstance(server, PostgresServer)
    return lambda: check(server.query(f"select doc from docs where id = {KEY_BASE}"), server)


def check(answer: str, server: Server) -> None:
    assert "Ada" in answer, f"{server.name} answered {answer[:100]!r}"


def turn(server: Server, how: signal.Signals | None) -> Sample:
    read = first_read(server)
    read()
    server.stop(how)
    began = time.monotonic()
    server.start()  # type: ignore[call-arg]
    read()
    return Sample((time.monotonic() - began) * 1000)


def measure(run: Run, case: CaseReport) -> None:
    sizes = [20_000, 200_000] if run.short else [100_000, 1_000_000]
    rounds = min(run.rounds, 3 if run.short else 5)
    for documents in sizes:
        with run.directory() as directory:
            makers = (
                lambda: TwinlogServer(directory / "twinlog"),
                lambda: RedisServer(directory / "redis", fsync="everysec"),
                lambda: PostgresServer(directory / "postgres"),
            )
            with started(case, *makers) as (twinlog, redis, postgres):
                fields: list[Field] = twinlog_fields(twinlog)[1:]
                if redis is not None:
                    fields += redis_fields(redis)[1:]
                if postgres is not None:
                    fields += postgres_fields(postgres, synchronous_commit=False)
                for field in fields:
                    field.preload(documents)
                for name, hard in (("after an orderly stop", False), ("after a kill", True)):
                    contenders = [
                        Contender(
                            field.server.name,
                            lambda server=field.server, hard=hard: turn(server, kill_of(server) if hard else None),
                            ("PostgreSQL", "Redis") if isinstance(field.server, TwinlogServer) else (),
                        )
                        for field in fields
                    ]
                    ask(case, f"open {documents:,} documents {name}", "ms", contenders, rounds, higher_is_better=False)


def kill_of(server: Server) -> signal.Signals:
    return signal.SIGQUIT if isinstance(server, PostgresServer) else signal.SIGKILL
