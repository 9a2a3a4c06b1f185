"""Ten thousand clients that ask for large answers and read none: the node's memory, and what clients that read feel."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.chosen import CHOSEN
from benchmarks.contest import Run, say, started
from benchmarks.generator import LoadFailed
from benchmarks.report import CaseReport, Measure, Row, Sample
from benchmarks.servers import COLLECTION, DB, TwinlogServer
from benchmarks.watch import Watch

WHAT = (
    "A process of its own dials so many connections (--clients) and reads nothing from any: of 20 clients 11 ask for a document of 1 MiB 16 times, 4 for "
    "all of them 16 times, 4 say nothing before or after their opening, one sends the first MiB of a message of 16 MiB. Meanwhile a client that reads asks "
    "one thing after another, a get and an insert in turn. Memory is the largest RSS of the node with its workers, over the RSS before; its bound is total_buffer_bytes "
    "(256 MiB), and 64 MiB more, and 32 KiB a connection."
)
CLIENTS, CLIENTS_SHORT = 10_000, 1_000
DOCUMENTS, DOCUMENT_BYTES = 16, 2**20
SLOW_CLIENT_TIMEOUT_S = 10
REQUESTS_AFTER = 200  # of the fast client once all are connected
CUT_SHARE = 0.7  # of all, 3/4 of which take nothing of what they asked for; then it is over
SECONDS_MAX = 150.0
BASE_MB, CONNECTION_MB, TOTAL_MB = 64 * 1.048576, 0.032768, 256 * 1.048576


class Crowd:
    """The slow clients' process, as far as it has told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.told: dict[str, int] = {}
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told.update(json.loads(line))

    @property
    def runs(self) -> bool:
        return self._process.poll() is None


@contextmanager
def crowd(address: tuple[str, int], clients: int) -> Iterator[Crowd]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crowd", address[0], str(address[1]), str(clients)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=CHOSEN.get().environment(),
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    try:
        yield Crowd(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask_until(server: TwinlogServer, slow: Crowd, clients: int) -> list[tuple[bool, float]]:
    """The fast client's calls, in milliseconds, and whether all slow ones were connected by then."""
    rows: list[tuple[bool, float]] = []
    until, after = time.monotonic() + SECONDS_MAX, 0
    with server.connect(timeout_s=60, retry_s=60) as client:
        things = client[DB][COLLECTION + "_small"]
        things.insert_one({"_id": 0, "text": "x" * 100})
        while time.monotonic() < until and slow.runs:
            opened = "opened" in slow.told
            began = time.perf_counter()
            if len(rows) % 2:
                things.insert_one({"text": "x" * 100})
            else:
                things.find_one({"_id": 0})
            rows.append((opened, (time.perf_counter() - began) * 1000))
            after += opened
            if after >= REQUESTS_AFTER and slow.told.get("cut", 0) >= CUT_SHARE * clients:
                break
            time.sleep(0.01)
    return rows


def measure(run: Run, case: CaseReport) -> None:
    clients = run.clients or run.count(short=CLIENTS_SHORT, long=CLIENTS)
    settings = {
        "limits.connections_max": clients + 100, "limits.slow_client_timeout_s": SLOW_CLIENT_TIMEOUT_S, "limits.handshake_timeout_s": 60,
    }  # fmt: skip
    with run.directory() as directory, started(case, lambda: TwinlogServer(directory / "twinlog", **settings)) as (server,):
        assert isinstance(server, TwinlogServer)
        with server.connect() as client:
            client[DB][COLLECTION].insert_many([{"_id": number, "text": "x" * DOCUMENT_BYTES} for number in range(DOCUMENTS)])
        with Watch(server, 0.1, lambda: {}) as watch, crowd(server.address, clients) as slow:
            rows = ask_until(server, slow, clients)
            told = dict(slow.told)
        note(case, clients, told, rows, watch, server.log_tail())


def note(case: CaseReport, clients: int, told: dict[str, int], rows: list[tuple[bool, float]], watch: Watch, log: str) -> None:
    opened = told.get("opened", 0)
    if not opened or not rows:
        raise LoadFailed(f"the slow clients did not connect: {told}")
    before, largest = watch.seen[0]["rss_mb"], watch.largest("rss_mb")
    bound = BASE_MB + TOTAL_MB + CONNECTION_MB * opened
    memory = Row("Twinlog", samples=[Sample(largest - before, {"rss": largest})])
    case.measures.append(Measure(f"memory over {opened:,} slow clients", "MB", [memory], higher_is_better=False))
    times = sorted(ms for _, ms in rows)
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    extras = {"p50_us": statistics.median(times) * 1e3, "p99_us": p99 * 1e3, "max_us": times[-1] * 1e3}
    answered = Row("Twinlog", samples=[Sample(float(len(rows)), extras)])
    case.measures.append(Measure("calls of the fast client, all answered", "calls", [answered]))
    case.notes.append(f"{opened:,} of {clients:,} connected (at most {told['limit']:,} descriptors), {told.get('cut', 0):,} were cut in the end")
    case.notes.append(f"memory grew by {largest - before:,.0f} MB, the bound is {bound:,.0f} MB: {'held' if largest - before <= bound else 'NOT HELD'}")
    case.notes += [f"log: {line}" for line in log.splitlines() if "queue" in line or "cut" in line][-4:]
    case.series["memory"] = watch.seen
    say(f"  {case.notes[-1]}")
