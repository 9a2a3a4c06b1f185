"""A standby that starts empty, one that was away while documents went in, and one that follows under full load."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import yaml

from benchmarks.contest import Contender, Run, ask, load
from benchmarks.generator import Load, LoadFailed, Unavailable
from benchmarks.processes import Server, ServerFailed, free_port
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import DB, PostgresServer, RedisServer, TwinlogServer

from .point import CONNECTIONS, Field, postgres_fields, redis_fields, twinlog_fields

WHAT = (
    "A primary and one standby, asynchronous, on the same machine (they share its cores with the load). A standby that starts empty: from "
    "the start of its process until it shows the primary's position; for PostgreSQL, pg_basebackup and the start of the copy. A standby that was stopped "
    "while documents went in, by requests of 1,000 and by single ones: from its start until it shows the primary's position; a Redis replica copies "
    "everything anew after a restart, as one with an append-only file does, without the five seconds that a Redis primary waits for more "
    "replicas by default. Live lag: how much log a standby has not applied while 16 connections with 64 outstanding inserts each load the primary "
    "(median and largest of samples). Server CPU: of the standby, and for the live lag of the primary, a document."
)
PER_REQUEST = 1000
MEASURED_DOCUMENTS = 10_000
CATCH_UP_SECONDS_MAX = 600.0
POLL_SECONDS = 0.02
SAMPLE_SECONDS = 0.2
PEERS = ("Redis", "PostgreSQL")


class TwinlogNode(TwinlogServer):
    """One of two nodes. Its client port is plain and its links are, so that PostgreSQL's plain stream is the fair peer."""

    def __init__(self, directory: Path, node: str, config_file: Path, address: tuple[str, int]) -> None:
        super().__init__(directory)
        self.address = address
        at = self.command.index("--data")
        self.command = [*self.command[: at + 2], "--config", str(config_file), "--node", node, "--log-level", "warning"]

    def start(self) -> None:
        Server.start(self, lambda: self.plain().sock.close())

    def url(self, *, secure: bool = True) -> str:
        return f"twinlog://127.0.0.1:{self.address[1]}/?key="

    def position(self) -> tuple[int, int]:
        with self.connect(retry_s=30) as client:
            return tuple(client.status(f"127.0.0.1:{self.address[1]}")["databases"].get(DB, {"visible": [0, 0]})["visible"])

    def log_sizes(self) -> dict[str, float]:
        return {file.name: file.stat().st_size for file in (self.directory / DB / "commit").glob("*.log")}


@dataclass
class Pair:
    """A primary with documents in it, and how its standby comes and goes."""

    name: str
    primary: Server
    field: Field
    make_standby: Callable[[], Server]
    end: Callable[[], Any]  # of the primary's log
    shows: Callable[[Any, Any], bool]  # whether a standby has got to that end
    log_sizes: Callable[[], dict[str, float]]  # by file; old files may go at any time
    lag_bytes: Callable[[], float | None]

    def insert(self, documents: int, kind: str = "insert_many") -> float:
        """Returns how many bytes of log they took, reckoned from the first ones. kind: of the field's requests."""
        before = self.log_sizes()
        self._insert(MEASURED_DOCUMENTS, kind)
        grown = sum(size - before.get(name, 0) for name, size in self.log_sizes().items())
        self._insert(documents - MEASURED_DOCUMENTS, kind)
        return grown / MEASURED_DOCUMENTS * documents

    def _insert(self, documents: int, kind: str) -> None:
        template = self.field.requests[kind]
        single = template.documents == 1
        order = Load(template, depth=64 if single else 1, seconds=900, limit=documents // template.documents)
        load(self.primary, self.field.dial, CONNECTIONS if single else 1, order, self.field.keys)

    def wait_caught_up(self, standby: Server) -> None:
        deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
        end = self.end()
        while not self.shows(standby, end):
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name}: the standby did not catch up:\n{standby.log_tail()}")
            time.sleep(POLL_SECONDS)


def twinlog_pair(directory: Path, held: ExitStack) -> Pair:
    ports = [free_port() for _ in range(4)]
    hosts = [f"127.0.0.1:{port}" for port in ports]
    config = {
        "cluster": "benchmark", "primary": "a", "listen": {"admin": "none"},
        "nodes": {"a": {"client": hosts[0], "cluster": hosts[1]}, "b": {"client": hosts[2], "cluster": hosts[3]}},
    }  # fmt: skip
    config_file = directory / "cluster.yaml"
    config_file.write_text(yaml.safe_dump(config))
    primary = TwinlogNode(directory / "primary", "a", config_file, ("127.0.0.1", ports[0]))
    held.callback(primary.stop)
    primary.start()
    field = twinlog_fields(primary)[1]

    def lag() -> float | None:
        with primary.connect() as client:
            return client.status(f"127.0.0.1:{ports[0]}")["standbys"][0]["lag_bytes"]

    return Pair(
        "Twinlog",
        primary,
        field,
        lambda: TwinlogNode(directory / "standby", "b", config_file, ("127.0.0.1", ports[2])),
        primary.position,
        lambda standby, end: standby.position() >= end,
        primary.log_sizes,
        lag,
    )


def postgres_pair(directory: Path, held: ExitStack) -> Pair:
    primary = PostgresServer(directory / "postgres")
    held.callback(primary.stop)
    primary.start()
    field = postgres_fields(primary, synchronous_commit=False)[0]
    lag_query = "select pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) from pg_stat_replication limit 1"
    behind_query = "select pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '{}') >= 0"

    def shows(standby: PostgresServer, end: str) -> bool:
        try:
            return standby.query(behind_query.format(end)) == "t"
        except BlockingIOError:
            return False

    def lag() -> float | None:
        answer = primary.query(lag_query)
        return float(answer) if answer else None

    def log_sizes() -> dict[str, float]:
        return {"wal": float(primary.query("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))}

    return Pair(
        "PostgreSQL",
        primary,
        field,
        lambda: PostgresServer(directory / "pg_standby", copy_of=primary),
        lambda: primary.query("select pg_current_wal_flush_lsn()"),
        shows,
        log_sizes,
        lag,
    )


class RedisNode(RedisServer):
    """One of two. The backlog is as large as the log that the others keep."""

    def __init__(self, directory: Path, *, replica_of: RedisNode | None = None) -> None:
        super().__init__(directory, fsync="everysec")
        self.command += ["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "1gb"]
        if replica_of is not None:
            self.command += ["--replicaof", *map(str, replica_of.address)]

    def told(self, section: str) -> dict[str, str]:
        lines = self.ask("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def stop(self, how: Signals | None = None) -> None:
        """After a copy it writes a new append-only file, and does not let itself be stopped before."""
        deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
        while self._process is not None and time.monotonic() < deadline:
            state = self.told("persistence")
            if state.get("aof_rewrite_in_progress") == state.get("aof_rewrite_scheduled") == "0":
                break
            time.sleep(POLL_SECONDS)
        super().stop(how)


def redis_pair(directory: Path, held: ExitStack) -> Pair:
    primary = RedisNode(directory / "redis")
    held.callback(primary.stop)
    primary.start()
    field = redis_fields(primary)[1]
    standbys: list[RedisNode] = []

    def make_standby() -> RedisNode:
        standbys[:] = [RedisNode(directory / "redis_standby", replica_of=primary)]
        return standbys[0]

    def end() -> int:
        return int(primary.told("replication")["master_repl_offset"])

    def shows(standby: RedisNode, end: int) -> bool:
        told = standby.told("replication")
        return told.get("master_link_status") == "up" and int(told.get("slave_repl_offset", -1)) >= end

    def lag() -> float | None:
        """Asked of both: a replica tells its primary once a second."""
        before = end()
        return max(0.0, before - float(standbys[0].told("replication").get("slave_repl_offset", before)))

    def log_sizes() -> dict[str, float]:
        return {file.name: file.stat().st_size for file in (primary.directory / "appendonlydir").glob("*.aof")}

    return Pair("Redis", primary, field, make_standby, end, shows, log_sizes, lag)


@contextmanager
def standing(case: CaseReport, directory: Path) -> Iterator[list[Pair]]:
    pairs: list[Pair] = []
    with ExitStack() as held:
        for make in (twinlog_pair, redis_pair, postgres_pair):
            try:
                pairs.append(make(directory, held))
            except Unavailable as error:
                case.notes.append(f"left out: {error}")
        yield pairs


def catch_up(pair: Pair, standby: Server, documents: int, log_bytes: float) -> Sample:
    """Start it and wait."""
    began = time.monotonic()
    standby.start()  # type: ignore[call-arg]
    pair.wait_caught_up(standby)
    seconds = time.monotonic() - began
    cpu_us = standby.cpu_seconds() / documents * 1e6
    return Sample(documents / seconds, {"mb_per_s": log_bytes / seconds / 1e6, "seconds": seconds, "server_us": cpu_us})


def live_lag(pair: Pair, standby: Server, seconds: float) -> Sample:
    """The load in the generator's process, samples in a thread beside it."""
    samples: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_SECONDS):
            lag = pair.lag_bytes()
            if lag is not None:
                samples.append(lag)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        order = Load(pair.field.requests["insert"], depth=64, seconds=seconds)
        sample = load(pair.primary, pair.field.dial, CONNECTIONS, order, pair.field.keys)
    finally:
        over.set()
        watcher.join()
    began = time.monotonic()
    pair.wait_caught_up(standby)
    drained = time.monotonic() - began
    if not samples:
        raise LoadFailed(f"{pair.name}: no lag was seen")
    extras = {"largest_kb": max(samples) / 1e3, "per_second": sample.value, "drained_s": drained, "server_us": sample.extras["server_us"]}
    return Sample(statistics.median(samples) / 1e3, extras)


def one_pair(pair: Pair, documents: int, seconds: float, found: dict[str, dict[str, Sample]]) -> None:
    log = pair.insert(documents)
    began = time.monotonic()
    standby = pair.make_standby()
    made = time.monotonic() - began
    try:
        sample = catch_up(pair, standby, documents, log)
        seconds = sample.extras["seconds"] + made  # PostgreSQL copies before its standby starts
        extras = {**sample.extras, "seconds": seconds, "mb_per_s": log / seconds / 1e6}
        found["empty"][pair.name] = Sample(documents / seconds, extras)
        for key, kind in (("away", "insert_many"), ("singles", "insert")):
            standby.stop()
            log = pair.insert(documents, kind)
            found[key][pair.name] = catch_up(pair, standby, documents, log)
        found["lag"][pair.name] = live_lag(pair, standby, seconds)
    finally:
        standby.stop()


def measure(run: Run, case: CaseReport) -> None:
    """One round: each takes minutes and leaves other content behind, so the figures have no spread."""
    documents = run.documents or run.count(short=50_000, long=1_000_000)
    found: dict[str, dict[str, Sample]] = {"empty": {}, "away": {}, "singles": {}, "lag": {}}
    with run.directory() as directory, standing(case, directory) as pairs:
        for pair in pairs:
            try:
                one_pair(pair, documents, run.seconds * 2, found)
            except (LoadFailed, ServerFailed) as error:
                case.notes.append(f"{pair.name} failed: {error}")
        for key, name, unit in (
            ("empty", f"a standby that starts empty, {documents:,} documents", "documents per second"),
            ("away", f"a standby that was away for {documents:,} documents", "documents per second"),
            ("singles", f"a standby that was away for {documents:,} single inserts", "documents per second"),
            ("lag", "live lag under full load, kB of log not applied", "median kB"),
        ):
            turns = [
                Contender(pair.name, lambda key=key, name=pair.name: found[key][name], PEERS if pair.name == "Twinlog" else ())
                for pair in pairs
                if pair.name in found[key]
            ]
            ask(case, name, unit, turns, 1, higher_is_better=key != "lag")
