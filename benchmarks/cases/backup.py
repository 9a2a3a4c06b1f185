"""A backup of a database that is being written to, beside pg_basebackup; and the way back, on a pair."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks import templates
from benchmarks.clusters import cluster
from benchmarks.contest import Keys, Run, load, say, started
from benchmarks.generator import Load, LoadFailed
from benchmarks.processes import Server, ServerFailed, find_program
from benchmarks.report import CaseReport, Measure, Row, Sample
from benchmarks.servers import COLLECTION, DB, PostgresServer, TwinlogServer

from .compaction import settled
from .point import PRELOAD_PER_REQUEST, Field, postgres_fields, twinlog_fields

WHAT = (
    "A database of so many bytes (2 GB, short: 100 MB; --bytes) of documents of 200 bytes, its write-ahead log apart. 2,000 inserts per second of single documents go on over 8 connections at a "
    "fixed rate, in turns of a second; latency counts from when a request was due. First without a backup, then while one is made, three times (short: once). Twinlog: `backup`, which hashes, "
    "syncs and names every file; PostgreSQL: pg_basebackup -c fast -X stream --manifest-checksums=SHA256, which also syncs. MB/s: of what stands in the backup "
    "afterwards. The proof reads the backup whole, down to every document and the state hash; PostgreSQL's is pg_verifybackup, which compares checksums of files. Last, on a pair with as many "
    "bytes: a backup, another 100,000 documents, and the restore, until both nodes show its state hash."
)
RECORD_BYTES = 270  # of a document in the shard logs, its share of the indexes apart
BYTES_SHORT, BYTES_LONG = 100_000_000, 2_000_000_000
INSERTS_PER_SECOND = 2_000
CONNECTIONS = 8
TURN_SECONDS, WARMUP_SECONDS = 1.0, 0.2
TURNS_BEFORE = 8
BACKUP_SECONDS_MAX = 1800.0
DURING = "during a backup"
AFTERWARDS = 100_000  # documents that the restore takes away again

Made = tuple[float, float, Path]  # seconds, MB, where it is


def _twinlog_backup(server: TwinlogServer) -> Callable[[], Made]:
    def make() -> Made:
        with server.connect(timeout_s=BACKUP_SECONDS_MAX) as client:
            began = time.monotonic()
            made = client[DB].backup()
            return time.monotonic() - began, made["size_bytes"] / 1e6, server.directory / made["path"]

    return make


def _postgres_backup(server: PostgresServer) -> Callable[[], Made]:
    program = find_program("pg_basebackup")
    assert program is not None, "it comes with the server"
    target = server.directory / "made_backup"  # its account may write there

    def make() -> Made:
        shutil.rmtree(target, ignore_errors=True)
        command = [program, "-D", str(target), "-h", "127.0.0.1", "-p", str(server.address[1]), "-U", "postgres", "-X", "stream", "-c", "fast",
                   "--manifest-checksums=SHA256"]  # fmt: skip
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=BACKUP_SECONDS_MAX, **server.account())
        if done.returncode:
            raise ServerFailed(f"pg_basebackup: {done.stderr[-500:]}")
        seconds = time.monotonic() - began
        return seconds, sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e6, target

    return make


def _prove(server: Server, where: Path) -> str:
    """How long the proof of a backup takes, and what it says."""
    began = time.monotonic()
    if isinstance(server, TwinlogServer):
        with server.connect(timeout_s=BACKUP_SECONDS_MAX) as client:
            is_good = client[DB].verify_backup(where.name)["good"]
    else:
        assert isinstance(server, PostgresServer)
        done = subprocess.run([find_program("pg_verifybackup") or "pg_verifybackup", "-n", str(where)], capture_output=True, timeout=BACKUP_SECONDS_MAX, **server.account())
        is_good = done.returncode == 0
    return f"{'good' if is_good else 'NO GOOD'}, read again in {time.monotonic() - began:.1f} s"


class _Backup:
    """One of them, in a thread."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self.made: Made | None = None
        self._make = make
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.made = self._make()
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            self._error = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> Made:
        self._thread.join()
        if self.made is None:
            raise LoadFailed(f"the backup failed: {self._error}")
        return self.made


def _turn(field: Field) -> Sample:
    order = Load(field.requests["insert"], rate=INSERTS_PER_SECOND, seconds=TURN_SECONDS, warmup=WARMUP_SECONDS, tls=field.tls)
    sample = load(field.server, field.dial, CONNECTIONS, order, field.keys)
    return Sample(sample.extras["p99_us"], sample.extras)


def _back_up(field: Field, make: Callable[[], Made], rounds: int, case: CaseReport) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """(turns before, turns during, backups in MB/s)."""
    before = [_turn(field) for _ in range(TURNS_BEFORE)]
    during: list[Sample] = []
    backups: list[Sample] = []
    for number in range(rounds):
        backup = _Backup(make)
        while backup.is_running:
            turn = _turn(field)
            if backup.is_running or not during:  # a turn that a short backup ends within counts too
                during.append(turn)
        seconds, megabytes, where = backup.wait()
        backups.append(Sample(megabytes / seconds, {"seconds": seconds}))
        say(f"  {field.server.name}: {megabytes:,.0f} MB in {seconds:.1f} s")
        if number == rounds - 1:
            case.notes.append(f"{field.server.name}: {megabytes:,.0f} MB; {_prove(field.server, where)}")
    return before, during, backups


def _restore(documents: int, directory: Path, case: CaseReport) -> None:
    requests = {"insert_many": templates.twinlog_insert(DB, COLLECTION, PRELOAD_PER_REQUEST)}
    with cluster(directory, "ab", allow_plain=True, seal_age_s=1) as made:
        a = made.nodes["a"]
        field = Field("Twinlog", (), a, a.plain, Keys(), tls=False, requests=requests)
        field.preload(documents)
        made.wait_whole()
        with a.connect(timeout_s=BACKUP_SECONDS_MAX) as client:
            backup = client[DB].backup()
            field.preload(AFTERWARDS)
            made.wait_whole()
            began = time.monotonic()
            done = client[DB].restore_backup(backup["name"], wait_s=600)
            seconds = time.monotonic() - began
        equal = done["standbys"]["equal"] and done["standbys"]["hash"] == backup["state_hash"]
        case.notes.append(
            f"Restore on a pair: {backup['size_bytes'] / 1e6:,.0f} MB, {seconds:.1f} s until the standby showed the same, its safety snapshot included; primary and standby "
            f"{'have' if equal else 'DO NOT HAVE'} the backup's state hash; epoch {done['epoch']}"
        )


def measure(run: Run, case: CaseReport) -> None:
    documents = (run.bytes or run.count(short=BYTES_SHORT, long=BYTES_LONG)) // RECORD_BYTES // PRELOAD_PER_REQUEST * PRELOAD_PER_REQUEST
    rounds = run.count(short=1, long=3)
    speeds: list[Row] = []
    latencies: list[Row] = []
    with run.directory() as directory:
        makers = (lambda: TwinlogServer(directory / "twinlog", seal_age_s=1), lambda: PostgresServer(directory / "postgres"))
        with started(case, *makers) as (twinlog, postgres):
            contenders: list[tuple[Field, Callable[[], Made]]] = []
            if isinstance(twinlog, TwinlogServer):
                contenders.append((twinlog_fields(twinlog)[1], _twinlog_backup(twinlog)))
            if isinstance(postgres, PostgresServer):
                contenders.append((postgres_fields(postgres, synchronous_commit=False)[0], _postgres_backup(postgres)))
            for field, make in contenders:
                name = field.server.name
                try:
                    field.preload(documents)
                    if isinstance(field.server, TwinlogServer):
                        settled(field.server)
                    before, during, backups = _back_up(field, make, rounds, case)
                except (LoadFailed, ServerFailed, OSError, subprocess.TimeoutExpired) as error:
                    case.notes.append(f"{name} failed: {error}")
                    continue
                speeds.append(Row(name, ("PostgreSQL",) if name == "Twinlog" else (), backups))
                latencies += [Row(name, (), before), Row(f"{name} {DURING}", (name,), during)]
        case.measures.append(Measure(f"backup of {documents:,} documents", "MB/s", speeds))
        case.measures.append(Measure(f"insert at {INSERTS_PER_SECOND:,} per second", "p99 µs", latencies, higher_is_better=False))
        with suppress(OSError):
            shutil.rmtree(directory / "twinlog")
            shutil.rmtree(directory / "postgres")
        try:
            _restore(documents, directory, case)
        except (LoadFailed, ServerFailed, OSError) as error:
            case.notes.append(f"the restore failed: {error}")
