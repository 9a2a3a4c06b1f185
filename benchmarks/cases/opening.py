"""From the start of the process to the answer of the first read, after an orderly stop and after a kill."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from benchmarks.contest import Contender, Run, ask, say, started
from benchmarks.generator import LoadFailed
from benchmarks.processes import Server, drop_page_cache
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import COLLECTION, DB, PostgresServer, RedisServer, TwinlogServer
from benchmarks.templates import BULK_DOCUMENTS, KEY_BASE
from benchmarks.whole import get_one, select_one

from .point import Field, postgres_fields, redis_fields, twinlog_fields

WHAT = (
    "A server with N documents of 200 bytes is started; the figure is the time until it has answered one read by key, which is asked for over a plain socket of each. Before every "
    "turn some thousand more documents go in, so that there is a log to read. Stopped in order (SIGTERM; PostgreSQL: SIGINT) or killed (SIGKILL; PostgreSQL: SIGQUIT, its immediate "
    "stop, because a SIGKILL of it alone leaves its children behind). The page cache is warm; with --cold also dropped between stop and start. Twinlog's figure has "
    "the start of Python and the imports in it, PostgreSQL's after a kill an fsync of every file of its directory."
)
SIZES_SHORT, SIZES_LONG = (20_000, 200_000), (100_000, 1_000_000, 5_000_000)
ROUNDS_MAX = 5
WRITTEN_BEFORE = 5_000


class End(Enum):
    """How the server ended before it is started again."""

    IN_ORDER = "after an orderly stop"
    KILLED = "after a kill"


class Cache(Enum):
    """What the kernel holds of the files when it is started."""

    WARM = "page cache warm"
    COLD = "page cache dropped"


def first_read(server: Server, key: int) -> Callable[[], object]:
    """Reads one document, or raises. Raw sockets for all, so that no client library is measured."""
    if isinstance(server, TwinlogServer):
        return lambda: check(get_one(server.address, DB, COLLECTION, key), server)
    if isinstance(server, RedisServer):
        return lambda: check(server.ask("GET", f"{key:016d}").encode(), server)
    assert isinstance(server, PostgresServer)
    return lambda: check(select_one(server.address, key), server)


def check(answer: bytes, server: Server) -> None:
    if b"Ada" not in answer:
        raise LoadFailed(f"{server.name} answered {answer[:100]!r}")


def signal_of(server: Server, end: End) -> signal.Signals | None:
    if end is End.IN_ORDER:
        return None
    return signal.SIGQUIT if isinstance(server, PostgresServer) else signal.SIGKILL


@dataclass(frozen=True)
class Turn:
    """One server's turn. key: of the document that is read."""

    field: Field
    end: End
    cache: Cache
    key: int

    def __call__(self) -> Sample:
        server = self.field.server
        self.field.preload(WRITTEN_BEFORE)
        read = first_read(server, self.key)
        read()
        server.stop(signal_of(server, self.end))
        if self.cache is Cache.COLD:
            drop_page_cache()
        began = time.monotonic()
        server.start()  # type: ignore[call-arg]
        read()
        return Sample((time.monotonic() - began) * 1000)


def of_size(run: Run, case: CaseReport, documents: int) -> None:
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
                began = time.monotonic()
                field.preload(documents)
                say(f"  {field.server.name}: {documents:,} documents in {time.monotonic() - began:.1f} s")
            for cache in Cache if run.cold else (Cache.WARM,):
                for end in End:
                    contenders = [
                        Contender(
                            field.server.name,
                            Turn(field, end, cache, KEY_BASE + documents // 2),
                            ("PostgreSQL", "Redis") if field.server is twinlog else (),
                        )
                        for field in fields
                    ]
                    name = f"open {documents:,} documents {end.value}, {cache.value}"
                    ask(case, name, "ms", contenders, min(run.rounds, ROUNDS_MAX), higher_is_better=False)


def measure(run: Run, case: CaseReport) -> None:
    sizes = SIZES_SHORT if run.short else SIZES_LONG
    if run.documents:
        sizes = (max(BULK_DOCUMENTS, run.documents - run.documents % BULK_DOCUMENTS),)
    for documents in sizes:
        of_size(run, case, documents)
