"""The blocking client libraries as an application uses them: dicts in and out, 1 and 16 threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client_layers import KEYS_USED, layers
from benchmarks.contest import Contender, Keys, Run, ask, say, started
from benchmarks.generator import LoadFailed, Unavailable, cache_directory
from benchmarks.processes import Server
from benchmarks.report import CaseReport, Measure, Row, Sample
from benchmarks.servers import PostgresServer, RedisServer, TwinlogServer

from .point import postgres_fields, redis_fields, twinlog_fields

WHAT = (
    "insert_one and find_one by _id through Twinlog's blocking client, beside redis-py (SET and GET of JSON text) and psycopg 3 (prepared "
    "statements, jsonb). Each library runs in one Python process; what it costs there is most of what is measured, so `client CPU` "
    "stands beside the figure, for every library; it is counted from the first timed call on. `CPU a call by layer` takes one call of "
    "Twinlog's apart, in microseconds."
)
THREADS = (1, 16)
LIBRARIES = ("redis", "psycopg[binary]")
LOOP = Path(__file__).resolve().parents[1] / "client_loop.py"
GRACE_SECONDS = 120.0


@dataclass(frozen=True)
class Library:
    """One library against one server."""

    name: str
    peers: tuple[str, ...]
    python: str
    module: str
    address: str
    server: Server
    keys: Keys

    def turn(self, kind: str, threads: int, seconds: float) -> Callable[[], Sample]:
        def work() -> Sample:
            first, count = (self.keys.next, 0) if kind == "insert" else (self.keys.next - self.keys.count, self.keys.count)
            command = [self.python, str(LOOP), self.module, self.address, kind, str(threads), str(seconds), str(first), str(count)]
            cpu = self.server.cpu_seconds()
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS,
                env={**os.environ, "PYTHONPATH": str(LOOP.parents[1])},
            )  # fmt: skip
            cpu = self.server.cpu_seconds() - cpu
            if done.returncode or not done.stdout:
                raise LoadFailed(f"{self.module}: {done.stderr.strip()[-500:]}")
            results = json.loads(done.stdout)
            if kind == "insert":
                self.keys.next += results["keys"]
            extras = {"server_us": cpu / results["count"] * 1e6, "client_us": results["cpu"] / results["count"] * 1e6}
            return Sample(results["count"] / results["seconds"], extras)

        return work


def peers_python() -> str:
    """A Python that has the peers' libraries, in a virtual environment of the cache. Raises Unavailable."""
    directory = cache_directory() / "clients"
    python = directory / "bin" / "python"
    stamp = directory / "installed"
    if not stamp.exists():
        venv.create(directory, with_pip=True, clear=True)
        done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", *LIBRARIES], capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"pip cannot install {' and '.join(LIBRARIES)}: {done.stderr.strip()[-300:]}")
        stamp.touch()
    return str(python)


def libraries(
    twinlog: TwinlogServer, redis: RedisServer | None, postgres: PostgresServer | None, python: str
) -> list[Library]:
    keys = twinlog_fields(twinlog)[0].keys
    found = [
        Library("Twinlog encrypted", ("redis-py TLS",), sys.executable, "twinlog", twinlog.url(), twinlog, keys),
        Library("Twinlog plain", ("redis-py plain", "psycopg plain"), sys.executable, "twinlog", twinlog.url(secure=False) + "?key=", twinlog, keys),
    ]
    if redis is not None:
        keys = redis_fields(redis)[0].keys
        tls = f"rediss://127.0.0.1:{redis.tls_address[1]}/0"
        found.append(Library("redis-py TLS", (), python, "redis", tls, redis, keys))
        found.append(Library("redis-py plain", (), python, "redis", f"redis://127.0.0.1:{redis.address[1]}/0", redis, keys))
    if postgres is not None:
        keys = postgres_fields(postgres, synchronous_commit=False)[0].keys
        address = f"host=127.0.0.1 port={postgres.address[1]} user=postgres dbname=postgres sslmode=disable options='-c synchronous_commit=off'"
        found.append(Library("psycopg plain", (), python, "psycopg", address, postgres, keys))
    return found


def measure(run: Run, case: CaseReport) -> None:
    try:
        python = peers_python()
    except Unavailable as error:
        case.notes.append(f"left out: redis-py and psycopg: {error}")
        python = ""
    with run.directory() as directory:
        makers = [lambda: TwinlogServer(directory / "twinlog")]
        if python:
            makers += [
                lambda: RedisServer(directory / "redis", fsync="everysec"),
                lambda: PostgresServer(directory / "postgres"),
            ]
        with started(case, *makers) as servers:
            twinlog, redis, postgres = (*servers, None, None)[:3]
            contenders = libraries(twinlog, redis, postgres, python)
            for threads in THREADS:
                for kind in ("insert", "get"):
                    turns = [Contender(one.name, one.turn(kind, threads, run.seconds), one.peers) for one in contenders]
                    ask(case, f"client {kind}, {threads} threads", "per second", turns, run.rounds)
            measure_layers(run, case, twinlog, contenders[0].keys)


def measure_layers(run: Run, case: CaseReport, server: TwinlogServer, keys: Keys) -> None:
    """One measure for insert and get, plain and encrypted; its rows are the layers."""
    for kind in ("insert", "get"):
        for mode, url in (("plain", server.url(secure=False) + "?key="), ("encrypted", server.url())):
            rows: dict[str, Row] = {}
            for _ in range(run.rounds):
                for layer, microseconds in layers(url, kind, keys.next if kind == "insert" else keys.next - 1).items():
                    rows.setdefault(layer, Row(layer)).samples.append(Sample(microseconds))
                keys.next += KEYS_USED if kind == "insert" else 0
            name = f"client {kind}, {mode}: CPU a call by layer"
            case.measures.append(Measure(name, "µs", list(rows.values()), higher_is_better=False))
            say(f"  {name}: " + ", ".join(f"{layer} {row.median:.1f}" for layer, row in rows.items()))
