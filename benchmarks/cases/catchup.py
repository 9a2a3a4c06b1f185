"""A standby that starts empty, one that was away while documents went in, and one that follows under full load."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.contest import Contender, Run, ask, load
from benchmarks.generator import Load, LoadFailed, Unavailable
from benchmarks.processes import Server, ServerFailed, free_port
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import DB, PostgresServer, TwinlogServer

from .point import CONNECTIONS, Field, postgres_fields, twinlog_fields

WHAT = (
    "A primary and one standby, asynchronous, on the same machine (they share its cores with the load). A standby that starts empty: from "
    "the start of its process until it shows the primary's position; for PostgreSQL, pg_basebackup and the start of the copy. A standby that was stopped "
    "while documents went in by requests of 1,000: from its start until it shows the primary's position. Live lag: how much log a standby "
    "has not applied while 16 connections with 64 outstanding inserts each load the primary (median and largest of samples)."
)
PER_REQUEST = 1000
MEASURED_DOCUMENTS = 10_000
CATCH_UP_SECONDS_MAX = 600.0
POLL_SECONDS = 0.01
SAMPLE_SECONDS = 0.2


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
    caught_up: Callable[[Server], bool]
    log_sizes: Callable[[], dict[str, float]]  # by file; old files may go at any time
    lag_bytes: Callable[[], float | None]

    def insert(self, documents: int) -> float:
        """Returns how many bytes of log they took, reckoned from the first ones."""
        before = self.log_sizes()
        self._insert(MEASURED_DOCUMENTS)
        grown = sum(size - before.get(name, 0) for name, size in self.log_sizes().items())
        self._insert(documents - MEASURED_DOCUMENTS)
        return grown / MEASURED_DOCUMENTS * documents

    def _insert(self, documents: int) -> None:
        order = Load(self.field.requests["insert_many"], seconds=900, limit=documents // PER_REQUEST)
        load(self.primary, self.field.dial, 1, order, self.field.keys)

    def wait_caught_up(self, standby: Server) -> None:
        deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
        while not self.caught_up(standby):
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
        lambda standby: standby.position() == primary.position(),
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

    def caught_up(standby: Server) -> bool:
        assert isinstance(standby, PostgresServer)
        end = primary.query("select pg_current_wal_flush_lsn()")
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
        "PostgreSQL", primary, field, lambda: PostgresServer(directory / "pg_standby", copy_of=primary), caught_up, log_sizes, lag
    )


@contextmanager
def standing(case: CaseReport, directory: Path) -> Iterator[list[Pair]]:
    pairs: list[Pair] = []
    with ExitStack() as held:
        for make in (twinlog_pair, postgres_pair):
            try:
                pairs.append(make(directory, held))
            except Unavailable as error:
                case.notes.append(f"left out: {error}")
        yield pairs


def rate_of(documents: int, log_bytes: float, seconds: float) -> Sample:
    return Sample(documents / seconds, {"mb_per_s": log_bytes / seconds / 1e6, "seconds": seconds})


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
    extras = {"largest_kb": max(samples) / 1e3, "per_second": sample.value, "drained_s": drained}
    return Sample(statistics.median(samples) / 1e3, extras)


def one_pair(pair: Pair, documents: int, seconds: float, found: dict[str, dict[str, Sample]]) -> None:
    log = pair.insert(documents)
    began = time.monotonic()
    standby = pair.make_standby()
    try:
        standby.start()  # type: ignore[call-arg]
        pair.wait_caught_up(standby)
        found["empty"][pair.name] = rate_of(documents, log, time.monotonic() - began)
        standby.stop()
        log = pair.insert(documents)
        began = time.monotonic()
        standby.start()  # type: ignore[call-arg]
        pair.wait_caught_up(standby)
        found["away"][pair.name] = rate_of(documents, log, time.monotonic() - began)
        found["lag"][pair.name] = live_lag(pair, standby, seconds)
    finally:
        standby.stop()


def measure(run: Run, case: CaseReport) -> None:
    """One round: each takes minutes and leaves other content behind, so the figures have no spread."""
    documents = run.count(short=50_000, long=1_000_000)
    found: dict[str, dict[str, Sample]] = {"empty": {}, "away": {}, "lag": {}}
    with run.directory() as directory, standing(case, directory) as pairs:
        for pair in pairs:
            try:
                one_pair(pair, documents, run.seconds * 2, found)
            except (LoadFailed, ServerFailed) as error:
                case.notes.append(f"{pair.name} failed: {error}")
        for key, name, unit in (
            ("empty", f"a standby that starts empty, {documents:,} documents", "documents per second"),
            ("away", f"a standby that was away for {documents:,} documents", "documents per second"),
            ("lag", "live lag under full load, kB of log not applied", "median kB"),
        ):
            turns = [
                Contender(pair.name, lambda key=key, name=pair.name: found[key][name], ("PostgreSQL",) if pair.name == "Twinlog" else ())
                for pair in pairs
                if pair.name in found[key]
            ]
            ask(case, name, unit, turns, 1, higher_is_better=key != "lag")
