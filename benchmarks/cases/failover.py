"""The primary is killed under load and a standby promoted, again and again: what is lost, and for how long nobody takes writes."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import twinlog
from benchmarks.clusters import Cluster, cluster, wait_for
from benchmarks.contest import Run, say
from benchmarks.generator import LoadFailed, Unavailable, greet_postgres, postgres_message
from benchmarks.processes import ServerFailed, find_program
from benchmarks.report import CaseReport, Measure, Row, Sample
from benchmarks.servers import DB, PostgresServer
from twinlog.errors import TwinlogError

WHAT = (
    "Twinlog: three processes, `acks: 1`; four clients insert one document after the other, all hosts in their URL. Every round kills the primary "
    "(SIGKILL), asks both standbys for their positions and promotes the one that is further on. The command is a request over a connection that is open; the first accepted "
    "write is one that the promoted node has confirmed with its other standby, asked over a connection to that node alone. The killed "
    "node then comes back, rewinds what it alone had, and the next round begins when all are level. Lost: acknowledged documents that "
    "the last primary does not have. PostgreSQL: a pair, synchronous_standby_names = '*', the same four writers; `pg_ctl promote`; the promoted "
    "server waits for no standby any more, which is the easier task. Then a new standby is copied."
)
WRITERS = 4
LOAD_SECONDS = 0.5
ROUND_SECONDS_MAX = 60.0
POSTGRES_ROUNDS_MAX = 10
TIME_SECONDS_MAX = 16 * 60.0  # a round takes 3 s on an idle machine, most of it the start of a node, and 20 on a busy one
PEERS = ("PostgreSQL",)
Insert = Callable[[int], None]  # raises an OSError or TwinlogError when it was not accepted


class Writers:
    """Threads that insert ever new numbers. acknowledged: (number, when)."""

    def __init__(self, connect: Callable[[], Insert]) -> None:
        self.acknowledged: list[list[tuple[int, float]]] = [[] for _ in range(WRITERS)]
        self.unknown = 0
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(connect, mine), daemon=True) for mine in self.acknowledged]
        for thread in self._threads:
            thread.start()

    def _write(self, connect: Callable[[], Insert], mine: list[tuple[int, float]]) -> None:
        insert: Insert | None = None
        while not self._over.is_set():
            number = next(self._numbers)
            try:
                insert = insert or connect()
                insert(number)
            except (OSError, TwinlogError, LoadFailed):
                self.unknown += 1
                insert = None
                time.sleep(0.005)
            else:
                mine.append((number, time.monotonic()))

    def first_after(self, moment: float) -> list[float]:
        """Of each writer, when its first write after that moment was acknowledged; of those that have one."""
        found = [next((at for _, at in reversed_until(mine, moment)), None) for mine in self.acknowledged]
        return [at for at in found if at is not None]

    def wait_all_after(self, moment: float) -> list[float]:
        deadline = time.monotonic() + ROUND_SECONDS_MAX
        while len(found := self.first_after(moment)) < WRITERS:
            if time.monotonic() > deadline:
                raise LoadFailed(f"only {len(found)} of {WRITERS} writers went on")
            time.sleep(0.01)
        return found

    def stop(self) -> set[int]:
        self._over.set()
        for thread in self._threads:
            thread.join(ROUND_SECONDS_MAX)
        return {number for mine in self.acknowledged for number, _ in mine}


def reversed_until(mine: list[tuple[int, float]], moment: float) -> list[tuple[int, float]]:
    """The rows after a moment, oldest first, without a walk over the whole list."""
    found = []
    for row in reversed(mine):
        if row[1] <= moment:
            break
        found.append(row)
    return found[::-1]


def first_accepted(connect: Callable[[], Insert], numbers: itertools.count, stop_at: float) -> float:
    """Tries at one node until it accepts: when it had."""
    insert: Insert | None = None
    while time.monotonic() < stop_at:
        try:
            insert = insert or connect()
            insert(next(numbers))
            return time.monotonic()
        except (OSError, TwinlogError, LoadFailed) as error:
            if not isinstance(error, TwinlogError):
                insert = None
            time.sleep(0.001)
    raise LoadFailed("the promoted node accepted nothing")


def one_round(writers: Writers, kill: Callable[[], None], choose: Callable[[], object], promote: Callable[[object], None],
              probe: Callable[[object], Insert], numbers: itertools.count) -> Sample:  # fmt: skip
    """Kill, choose, promote, until writes are accepted: ms."""
    killed = time.monotonic()
    kill()
    chosen = choose()
    found: list[float] = []
    commanded = time.monotonic()
    prober = threading.Thread(target=lambda: found.append(first_accepted(lambda: probe(chosen), numbers, commanded + ROUND_SECONDS_MAX)))
    prober.start()
    promote(chosen)
    answered = time.monotonic()
    prober.join(ROUND_SECONDS_MAX)
    if not found:
        raise LoadFailed("no write was accepted after the promotion")
    all_writers = writers.wait_all_after(commanded)
    first = min([*found, *all_writers])
    return Sample((first - commanded) * 1e3, {
        "answer_ms": (answered - commanded) * 1e3, "from_kill_ms": (min(all_writers) - killed) * 1e3, "all_writers_ms": (max(all_writers) - killed) * 1e3,
    })  # fmt: skip


# Twinlog.


def _twinlog_insert(url: str, retry_s: float) -> Insert:
    client = twinlog.connect(url, pool=1, retry_s=retry_s, timeout_s=30)
    docs = client[DB].docs
    return lambda number: docs.insert_one({"_id": number, "text": "x" * 100}) and None


def _position(node: twinlog.Client, host: str) -> tuple[int, int]:
    return tuple(node.status(host)["databases"][DB]["position"])


def twinlog_round(made: Cluster, writers: Writers, numbers: itertools.count) -> Sample:
    old = made.primary
    others = [name for name in made.nodes if name != old]
    clients = {name: made.nodes[name].connect(retry_s=0, timeout_s=30) for name in others}
    try:
        for name in others:
            clients[name].status(made.nodes[name].host)  # connected before anything happens

        def choose() -> str:
            return max(others, key=lambda name: _position(clients[name], made.nodes[name].host))

        def promote(name: object) -> None:
            deadline = time.monotonic() + ROUND_SECONDS_MAX
            while True:
                try:
                    clients[str(name)].promote(made.nodes[str(name)].host)
                    break
                except TwinlogError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.002)
            made.primary = str(name)

        sample = one_round(
            writers, made.nodes[old].kill, choose, promote, lambda name: _twinlog_insert(made.nodes[str(name)].url(), 0), numbers
        )
    finally:
        for client in clients.values():
            client.close()
    made.nodes[old].start()
    made.wait_whole()
    return sample


def twinlog_rounds(run: Run, directory: Path, rounds: int, case: CaseReport) -> list[Sample]:
    samples: list[Sample] = []
    with cluster(directory, "abc", acks=1) as made:
        numbers = itertools.count(10**9)
        writers = Writers(lambda: _twinlog_insert(made.url, 60))
        try:
            ends = time.monotonic() + TIME_SECONDS_MAX
            while len(samples) < rounds and time.monotonic() < ends:
                time.sleep(LOAD_SECONDS)
                samples.append(twinlog_round(made, writers, numbers))
                say(f"  Twinlog, failover {len(samples)} of {rounds}: {samples[-1].value:.0f} ms")
        finally:
            acknowledged = writers.stop()
        made.wait_whole()
        with made.nodes[made.primary].connect(timeout_s=120) as client:
            there = {document["_id"] for document in client[DB].docs.find({}, {"_id": 1})}
            entries = [entry for name in made.nodes for entry in client.salvage_list(made.nodes[name].host)["entries"]]
        different = made.compare()
    lost = acknowledged - there
    salvaged = sum((entry["manifest"] or {}).get("documents", 0) for entry in entries)
    case.notes.append(
        f"Twinlog: {len(samples)} failovers of {rounds}, {len(acknowledged):,} writes acknowledged, {len(lost)} of them lost; {writers.unknown} writes of unknown outcome; "
        f"state hashes {'differ: ' + ', '.join(different) if different else 'equal on all nodes at the end'}; "
        f"{len(entries)} salvage entries with {salvaged:,} documents that no standby had"
    )
    return samples


# PostgreSQL.


def postgres_insert(server: PostgresServer) -> Insert:
    sock = greet_postgres(server.address)
    sock.settimeout(10)

    def insert(number: int) -> None:
        text = f"insert into docs values ({number}, '{{\"text\": \"{'x' * 100}\"}}')"
        sock.sendall(postgres_message(b"Q", text.encode() + b"\0"))
        _answer(sock)

    return insert


def _answer(sock: socket.socket) -> None:
    """Until it is ready again; OSError when it refused or is gone."""
    data, at = b"", 0
    while True:
        got = sock.recv(65536)
        if not got:
            raise ConnectionResetError("PostgreSQL closed the connection")
        data += got
        while at + 5 <= len(data) and at + 1 + (length := struct.unpack_from(">I", data, at + 1)[0]) <= len(data):
            if data[at : at + 1] == b"E":
                raise ConnectionResetError(data[at + 5 : at + 1 + length].decode(errors="replace"))
            if data[at : at + 1] == b"Z":
                return
            at += 1 + length


def postgres_rounds(run: Run, directory: Path, rounds: int, case: CaseReport) -> list[Sample]:
    samples: list[Sample] = []
    primary = PostgresServer(directory / "postgres0")
    servers = [primary]
    writers: Writers | None = None
    try:
        primary.start()
        primary.make_table()
        current = [primary]
        numbers = itertools.count(10**9)
        writers = Writers(lambda: postgres_insert(current[0]))
        for number in range(rounds):
            standby = PostgresServer(directory / f"postgres{number + 1}", copy_of=current[0])
            servers.append(standby)
            standby.start()
            current[0].query("alter system set synchronous_standby_names = '*'")
            current[0].query("select pg_reload_conf()")
            wait_for("PostgreSQL's standby is synchronous", lambda: current[0].query("select sync_state from pg_stat_replication limit 1") == "sync")
            time.sleep(LOAD_SECONDS)
            samples.append(_postgres_round(current, standby, writers, numbers))
            say(f"  PostgreSQL, failover {number + 1} of {rounds}: {samples[-1].value:.0f} ms")
            shutil.rmtree(servers[-2].directory, ignore_errors=True)
        acknowledged = writers.stop()
        there = set(map(int, current[0].query("select id from docs").split()))
        case.notes.append(f"PostgreSQL: {rounds} failovers, {len(acknowledged):,} writes acknowledged, {len(acknowledged - there)} of them lost")
    finally:
        if writers is not None:
            writers.stop()
        for server in servers:
            server.stop()
    return samples


def _postgres_round(current: list[PostgresServer], standby: PostgresServer, writers: Writers, numbers: itertools.count) -> Sample:
    old = current[0]
    program = find_program("pg_ctl")
    if program is None:
        raise Unavailable("pg_ctl is missing")

    def kill() -> None:
        old.stop(signal.SIGKILL)
        current[0] = standby

    def promote(_: object) -> None:
        done = subprocess.run([program, "promote", "-D", str(standby.directory), "-w"], capture_output=True, text=True, **standby.account())
        if done.returncode:
            raise ServerFailed(f"pg_ctl promote: {done.stderr or done.stdout}")

    return one_round(writers, kill, lambda: standby, promote, lambda _: postgres_insert(standby), numbers)


def measure(run: Run, case: CaseReport) -> None:
    rounds = run.count(short=5, long=100)
    found: dict[str, list[Sample]] = {}
    with run.directory() as directory:
        for name, play, count in (("Twinlog", twinlog_rounds, rounds), ("PostgreSQL", postgres_rounds, min(rounds, POSTGRES_ROUNDS_MAX))):
            try:
                found[name] = play(run, directory, count, case)
            except (Unavailable, LoadFailed, ServerFailed) as error:
                case.notes.append(f"{name} failed: {error}")
    add_measures(case, found)


def add_measures(case: CaseReport, found: dict[str, list[Sample]]) -> None:
    for name, key in (("from the promotion command to the first accepted write", None), ("from the kill to the first write of a client with all hosts", "from_kill_ms"),
                      ("from the kill until all four clients go on", "all_writers_ms")):  # fmt: skip
        rows = []
        for contender, samples in found.items():
            values = [sample.value if key is None else sample.extras[key] for sample in samples]
            extras = {"p95_ms": percentile(values, 95), "max_ms": max(values), "rounds": float(len(values))}
            if key is None:
                extras["answer_ms"] = statistics.median(sample.extras["answer_ms"] for sample in samples)
            rows.append(Row(contender, PEERS if contender == "Twinlog" else (), [Sample(value, extras) for value in values]))
        case.measures.append(Measure(name, "ms, median", rows, higher_is_better=False))


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
