"""An old primary with commits that nobody else has comes back to a cluster that went on without it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.clusters import Cluster, cluster, wait_for
from benchmarks.contest import Run, say
from benchmarks.generator import LoadFailed, Unavailable
from benchmarks.processes import ServerFailed, find_program
from benchmarks.report import CaseReport, Measure, Row, Sample
from benchmarks.servers import DB, PostgresServer

from .failover import postgres_insert

WHAT = (
    "A primary and a standby with so much data, level. The standby is stopped, the primary commits 1,000 documents of its own, one by one, and is killed (SIGKILL). "
    "The standby is promoted and takes 1,000 others. Then the old primary is started: the figure is the time from there until it streams and shows the new primary's "
    "position, its own crash recovery included; shipped is what went over the link between the two until then. Afterwards its salvage entry must hold the 1,000 "
    "documents, a MARK must find both copies equal, and applying the entry must give the documents back. PostgreSQL: a pair with wal_log_hints and its WAL kept; the same steps; "
    "pg_rewind (which recovers the killed server first), then its start; it keeps nothing of what it rewinds. Shipped is what pg_rewind says that it copied."
)
ALONE = 1_000  # commits that only the old primary has, and as many of the new one
TEXT_BYTES = 950  # of a document of about 1 kB
BATCH = 2_000
PEERS = ("PostgreSQL",)


def documents(first: int, count: int) -> Iterator[dict[str, Any]]:
    for number in range(first, first + count):
        yield {"_id": number, "text": os.urandom(TEXT_BYTES // 2).hex()}


def _fill(made: Cluster, count: int) -> None:
    with made.nodes[made.primary].connect(timeout_s=120) as client:
        for first in range(0, count, BATCH):
            client[DB].docs.insert_many(list(documents(first, min(BATCH, count - first))), ordered=False)


def _alone(made: Cluster, name: str, first: int) -> None:
    """Commits of one document each."""
    with made.nodes[name].connect(timeout_s=120) as client:
        for document in documents(first, ALONE):
            client[DB].docs.insert_one(document)


def twinlog_rejoin(run: Run, directory: Path, size: int, case: CaseReport) -> Sample:
    count = size // 1_000
    with cluster(directory, "ab", relayed=True, acks=0) as made:
        _fill(made, count)
        made.wait_whole()
        a, b = made.nodes["a"], made.nodes["b"]
        b.stop()
        _alone(made, "a", 10**9)
        a.kill()
        b.start()
        with b.connect(timeout_s=120) as client:
            client.promote(b.host, force=True)
        made.primary = "b"
        _alone(made, "b", 2 * 10**9)
        shipped = made.link_bytes
        began = time.monotonic()
        a.start()
        answers = time.monotonic() - began
        made.wait_whole()
        seconds = time.monotonic() - began
        shipped = made.link_bytes - shipped
        different = made.compare()
        on_disk = sum(file.stat().st_size for file in (directory / "a").rglob("*") if file.is_file())
        with b.connect(timeout_s=120) as client:
            entries = client.salvage_list(a.host)["entries"]
            kept = [entry["manifest"]["documents"] for entry in entries if entry["kind"] == "rewind"]
            before = client[DB].docs.count_documents({"_id": {"$gte": 10**9, "$lt": 2 * 10**9}})
            applying = time.monotonic()
            result = client.salvage_apply(entries[0]["name"], a.host) if kept else None
            applying = time.monotonic() - applying
            after = client[DB].docs.count_documents({"_id": {"$gte": 10**9, "$lt": 2 * 10**9}})
    case.notes.append(
        f"Twinlog: {count:,} documents, {on_disk / 1e6:,.0f} MB in the old primary's directory; {shipped / 1e6:.2f} MB shipped; state hashes "
        f"{'differ: ' + ', '.join(different) if different else 'equal'}; salvage entries {len(kept)} with {sum(kept):,} documents; applied: "
        f"{result.inserted if result else 0:,} inserted in {applying:.2f} s ({before:,} of them there before, {after:,} after)"
    )
    return Sample(seconds, {"shipped_mb": shipped / 1e6, "ready_s": answers})


def postgres_rejoin(run: Run, directory: Path, size: int, case: CaseReport) -> Sample:
    program = find_program("pg_rewind")
    if program is None:
        raise Unavailable("pg_rewind is missing (on Debian: apt-get install postgresql)")
    count = size // 1_000
    old = PostgresServer(directory / "postgres_old")
    with (old.directory / "postgresql.conf").open("a") as file:  # there, since pg_rewind starts the server by itself to recover it
        file.write("wal_log_hints = on\nwal_keep_size = 8GB\n")
    servers = [old]
    try:
        old.start()
        old.make_table()
        old.query(f"insert into docs select g, jsonb_build_object('text', repeat(md5(g::text), {TEXT_BYTES // 32})) from generate_series(1, {count}) g")
        new = PostgresServer(directory / "postgres_new", copy_of=old)
        servers.append(new)
        new.start()
        end = old.query("select pg_current_wal_flush_lsn()")
        wait_for("PostgreSQL's standby is level", lambda: new.query(f"select pg_last_wal_replay_lsn() >= '{end}'") == "t")
        new.stop()
        _insert_alone(old, 10**9)
        old.stop(signal.SIGKILL)
        new.start()
        new.query("select pg_promote(true, 60)")
        _insert_alone(new, 2 * 10**9)
        new.query("checkpoint")
        end = new.query("select pg_current_wal_flush_lsn()")
        source = f"host=127.0.0.1 port={new.address[1]} user=postgres dbname=postgres"
        began = time.monotonic()
        done = subprocess.run([program, "-D", str(old.directory), "--source-server", source, "-R", "--progress"], capture_output=True, text=True,
                              **old.account())  # fmt: skip
        if done.returncode:
            raise ServerFailed(f"pg_rewind: {done.stderr[-500:]}")
        old.start()
        wait_for("PostgreSQL's old primary streams", lambda: old.query(f"select pg_last_wal_replay_lsn() >= '{end}'") == "t")
        wait_for("PostgreSQL's old primary streams", lambda: new.query("select count(*) from pg_stat_replication where state = 'streaming'") == "1")
        seconds = time.monotonic() - began
        sizes = re.findall(r"(\d+)/(\d+) kB \(100%\) copied", done.stdout + done.stderr)
        lost = old.query("select count(*) from docs where id >= 1000000000 and id < 2000000000")
    finally:
        for server in reversed(servers):
            server.stop()
    shipped = int(sizes[-1][0]) / 1e3 if sizes else 0.0
    case.notes.append(f"PostgreSQL: {count:,} rows; pg_rewind copied {shipped:,.1f} MB; of the 1,000 rows of the old primary {lost} are left, and nothing of them is kept")
    return Sample(seconds, {"shipped_mb": shipped})


def _insert_alone(server: PostgresServer, first: int) -> None:
    insert = postgres_insert(server)
    for number in range(first, first + ALONE):
        insert(number)


def measure(run: Run, case: CaseReport) -> None:
    """One round: it takes minutes, and leaves other content behind."""
    size = run.bytes or run.count(short=50_000_000, long=1_000_000_000)
    rows = []
    with run.directory() as directory:
        for name, play in (("Twinlog", twinlog_rejoin), ("PostgreSQL", postgres_rejoin)):
            try:
                sample = play(run, directory, size, case)
            except (Unavailable, LoadFailed, ServerFailed, OSError) as error:
                case.notes.append(f"{name} failed: {error}")
                continue
            say(f"  {name}: {sample.value:.1f} s, {sample.extras['shipped_mb']:.1f} MB shipped")
            rows.append(Row(name, PEERS if name == "Twinlog" else (), [sample]))
    case.measures.append(Measure(f"rejoin with {size / 1e6:,.0f} MB and {ALONE:,} commits of its own", "seconds", rows, higher_is_better=False))
