"""What compaction does to those who read and write meanwhile, how long it takes, and what it saves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import twinlog
from benchmarks import templates
from benchmarks.contest import Keys, Run, load, say, started
from benchmarks.generator import Load, LoadFailed
from benchmarks.report import CaseReport, Measure, Row, Sample
from benchmarks.servers import COLLECTION, DB, TwinlogServer
from benchmarks.watch import sizes

from .point import Field, twinlog_fields

WHAT = (
    "A database whose shard files hold so many bytes (2 GB, short: 200 MB; --bytes), four fifths of them stale: documents of 200 bytes, each updated four times. Then gets of random keys "
    "and inserts into another collection, both at a fixed rate over 8 connections each, side by side, in turns of a second; latency counts from when a request was due. First without compaction, then while "
    "`compact` runs on demand (turns that lie wholly within it), in the same process pair. The figure is the 99th percentile of a turn. Aim: under twice. At the end the collection of the inserts is "
    "dropped, and the state hash must be the one from before."
)
VERSIONS = 5  # of each document, all but the last stale
RECORD_BYTES = 270
BYTES_SHORT, BYTES_LONG = 200_000_000, 2_000_000_000
GETS_PER_SECOND, INSERTS_PER_SECOND = 4_000, 2_000
CONNECTIONS = 8
TURN_SECONDS, WARMUP_SECONDS = 1.0, 0.2
TURNS_BEFORE = 8
UPDATE_SECONDS_MAX = 3600.0
EXTRA = "extra"
BEFORE, DURING = "before", "during compaction"
TIMES_MAX = 2.0


class Turns:
    """Gets and inserts side by side, a second at a time."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._keys = Keys()
        self._insert = templates.twinlog_insert(DB, EXTRA)

    def one(self) -> dict[str, Sample]:
        found: dict[str, Sample] = {}
        failed: list[BaseException] = []

        def work(name: str, order: Load, keys: Keys | None) -> None:
            try:
                sample = load(self._field.server, self._field.dial, CONNECTIONS, order, keys)
                found[name] = Sample(sample.extras["p99_us"], sample.extras)
            except (LoadFailed, OSError) as error:
                failed.append(error)

        timed = {"seconds": TURN_SECONDS, "warmup": WARMUP_SECONDS}
        gets = Load(self._field.requests["get"], rate=GETS_PER_SECOND, key_count=self._field.loaded, **timed)
        inserts = Load(self._insert, rate=INSERTS_PER_SECOND, **timed)
        threads = [threading.Thread(target=work, args=each) for each in (("get", gets, None), ("insert", inserts, self._keys))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise LoadFailed(f"a turn failed: {failed[0]}")
        return found


class Compaction:
    """`compact` in a thread of its own."""

    def __init__(self, client: twinlog.Client) -> None:
        self.report: dict[str, Any] = {}
        self.error: Exception | None = None
        self._client = client
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.report = self._client[DB].compact()
        except twinlog.TwinlogError as error:
            self.error = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> dict[str, Any]:
        self._thread.join()
        if self.error is not None:
            raise LoadFailed(f"compaction failed: {self.error}")
        return self.report


def fill(field: Field, client: twinlog.Client, documents: int) -> None:
    field.preload(documents)
    field.loaded = documents
    things = client[DB].with_options(timeout_s=UPDATE_SECONDS_MAX)[COLLECTION]
    for version in range(1, VERSIONS):
        began = time.monotonic()
        changed = things.update_many({}, {"$set": {"version": version}}).modified_count
        say(f"  {changed:,} documents updated in {time.monotonic() - began:.1f} s")


def state_hash(client: twinlog.Client) -> str:
    return client.status(mark=True)["databases"][DB]["mark"]["hash"]


def data_mb(directory: Path) -> float:
    """Of the shard files, indexes left out."""
    found = sizes(directory / DB, lambda path: "data" if path.endswith(".db") else "rest")
    return found.get("data", 0.0) / 1e6


def settled(server: TwinlogServer, seconds_max: float = 120.0) -> None:
    deadline, wanted = time.monotonic() + seconds_max, server.visible_seq()
    while server.sealed_seq() < wanted and time.monotonic() < deadline:
        time.sleep(0.1)


def note(case: CaseReport, measures: list[Measure], report: dict[str, Any], files: tuple[float, float], same: bool) -> None:  # noqa: FBT001
    for measure in measures:
        before, during = measure.row(BEFORE), measure.row(DURING)
        if before is None or during is None:
            case.notes.append(f"{measure.name}: the compaction was over within a turn; take more bytes")
            continue
        times = during.median / before.median
        medians = during.extra("p50_us") / before.extra("p50_us")
        verdict = "held" if times < TIMES_MAX else "missed"
        case.notes.append(f"{measure.name}: p99 {times:.2f} ×, p50 {medians:.2f} ×; under {TIMES_MAX:g} ×: {verdict}")
    case.notes.append(
        f"{report['shards']} shards in {report['seconds']:.1f} s: {report['before'] / 1e6:,.0f} MB of shard logs before, {report['after'] / 1e6:,.0f} MB after "
        f"({report['before'] / 1e6 / max(report['seconds'], 1e-9):,.0f} MB/s of what was there); files on the disk {files[0]:,.0f} and {files[1]:,.0f} MB"
    )
    case.notes.append(f"state hash before and after: {'equal' if same else 'DIFFERENT'}")
    if report["findings"]:
        case.notes.append(f"findings: {report['findings']}")


def measure(run: Run, case: CaseReport) -> None:
    amount = run.bytes or run.count(short=BYTES_SHORT, long=BYTES_LONG)
    documents = amount // (VERSIONS * RECORD_BYTES) // 1000 * 1000
    with run.directory() as directory:
        make: Callable[[], TwinlogServer] = lambda: TwinlogServer(directory / "twinlog", compaction="false", seal_age_s=1)  # noqa: E731
        with started(case, make) as (server,):
            assert isinstance(server, TwinlogServer)
            field = twinlog_fields(server)[1]
            with server.connect() as client:
                fill(field, client, documents)
                settled(server)
                digest, size = state_hash(client), data_mb(server.directory)
                turns = Turns(field)
                before = [turns.one() for _ in range(TURNS_BEFORE)]
                compaction = Compaction(client)
                during = []
                while compaction.is_running:
                    turn = turns.one()
                    if compaction.is_running:
                        during.append(turn)
                report = compaction.wait()
                after = data_mb(server.directory)
                client[DB].drop_collection(EXTRA)
                same = state_hash(client) == digest
            for name, rate in (("get", GETS_PER_SECOND), ("insert", INSERTS_PER_SECOND)):
                rows = [Row(BEFORE, (), [turn[name] for turn in before]), Row(DURING, (BEFORE,), [turn[name] for turn in during])]
                case.measures.append(Measure(f"{name} at {rate:,} per second", "p99 µs", rows, higher_is_better=False))
            note(case, case.measures, report, (size, after), same)
