"""Many documents in through the wire and out again: rates, memory over time, bytes on the disk, how far sealing lags."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import twinlog
from benchmarks.contest import Contender, Run, ask, load, say, started
from benchmarks.generator import Load, LoadFailed
from benchmarks.processes import Server, ServerFailed
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import COLLECTION, DB, PostgresServer, TwinlogServer
from benchmarks.templates import BULK_DOCUMENTS, KEY_BASE
from benchmarks.watch import Sight, Watch, sizes
from benchmarks.whole import copy_in, copy_out, take_all

from .point import twinlog_fields

WHAT = (
    "N documents in: for Twinlog by insert_many of 1,000, one connection with two requests outstanding; for PostgreSQL by one COPY of all rows into an empty table "
    "with a jsonb column and a primary key. Then all of them out through the wire, for Twinlog by a find over everything in batches of 10,000, for PostgreSQL by COPY to "
    "standard output; each is held against what was put in. Memory is PSS of all processes of a server (a page that several share counts once; mapped files that are in memory "
    "count), looked at every second. `settled` is the time from the last answer until all is in checkpoints (Twinlog, whose memtables are sealed at the age of a second here, "
    "as they never grow that old under load) or a CHECKPOINT has ended (PostgreSQL). The log stands beside the bytes on the disk and is not in them: how much of it is kept "
    "is a setting; nor is what PostgreSQL has without the table. Plain connections; one round."
)
OUTSTANDING = 2
LOOK_SECONDS = 1.0
LOOK_SECONDS_SHORT = 0.1
SETTLE_SECONDS_MAX = 900.0
LOAD_SECONDS_MAX = 6 * 3600.0
QUARTERS = (0.25, 0.5, 0.75, 1.0)
OURS, PEER = "Twinlog plain", "PostgreSQL plain"
KINDS = {".log": "log", ".db": "data"}
NOT_COUNTED = ("log", "empty server")


@dataclass
class Progress:
    """Documents that have passed, told by whoever moves them; and when the next line is due."""

    name: str
    total: int
    documents: int = 0
    told: float = field(default_factory=time.monotonic)

    def __call__(self, documents: int) -> None:
        self.documents = documents
        if time.monotonic() - self.told > 10:
            self.told = time.monotonic()
            say(f"  {self.name}: {documents:,} of {self.total:,}")


class Store(Protocol):
    """One server as this case uses it. insert and read return the CPU seconds of this side."""

    server: Server

    def insert(self, documents: int, progress: Progress) -> float: ...
    def settle(self) -> None: ...
    def read(self, documents: int, progress: Progress) -> float: ...
    def look(self) -> Sight: ...
    def disk(self) -> Sight: ...


class TwinlogStore:
    """One node, by its plain port."""

    def __init__(self, server: TwinlogServer) -> None:
        self.server = server
        self._field = twinlog_fields(server)[1]
        self._first = server.visible_seq()  # what creating the database took

    def insert(self, documents: int, progress: Progress) -> float:
        order = Load(self._field.requests["insert_many"], depth=OUTSTANDING, seconds=LOAD_SECONDS_MAX, limit=documents // BULK_DOCUMENTS)
        began = time.monotonic()
        sample = load(self.server, self._field.dial, 1, order, self._field.keys)
        progress(documents)
        return sample.extras["generator_share"] * (time.monotonic() - began)

    def settle(self) -> None:
        deadline, wanted = time.monotonic() + SETTLE_SECONDS_MAX, self.server.visible_seq()
        while self.server.sealed_seq() < wanted:
            if time.monotonic() > deadline:
                raise LoadFailed(f"not all was sealed after {SETTLE_SECONDS_MAX:.0f} s:\n{self.server.log_tail()}")
            time.sleep(0.05)

    def read(self, documents: int, progress: Progress) -> float:
        return take_all(self.server.address, DB, COLLECTION, documents, progress)

    def look(self) -> Sight:
        """Each insert_many is one commit, so commits tell documents."""
        try:
            visible, sealed = self.server.visible_seq(), self.server.sealed_seq()
        except twinlog.TwinlogError as error:
            raise OSError(0, str(error)) from error
        return {"documents": (visible - self._first) * BULK_DOCUMENTS, "unsealed": (visible - sealed) * BULK_DOCUMENTS}

    def disk(self) -> Sight:
        return sizes(self.server.directory / DB, lambda path: "index" if ".sidx" in path else KINDS.get(Path(path).suffix, "rest"))


class PostgresStore:
    """One table. Progress is what was sent, which runs ahead of the server by socket buffers only."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._sent: Progress | None = None
        server.make_table()

    def insert(self, documents: int, progress: Progress) -> float:
        self._sent = progress
        return copy_in(self.server.address, documents, progress)

    def settle(self) -> None:
        self.server.query("checkpoint")

    def read(self, documents: int, progress: Progress) -> float:
        text = self.server.query(f"select doc from docs where id = {KEY_BASE}").encode()
        return copy_out(self.server.address, text, documents, progress)

    def look(self) -> Sight:
        return {"documents": self._sent.documents if self._sent is not None else 0}

    def disk(self) -> Sight:
        paths = self.server.query("select pg_relation_filepath('docs') || ' ' || pg_relation_filepath('docs_pkey')").split()
        table, index = (path.partition(".")[0] for path in paths)

        def kind_of(path: str) -> str:
            file = path.partition(".")[0].partition("_")[0] if path.startswith("base/") else path
            return {table: "data", index: "index"}.get(file, "log" if path.startswith("pg_wal/") else "empty server")

        return sizes(self.server.directory, kind_of)


def timed(work: Callable[[], float], server: Server, documents: int) -> Sample:
    """Documents per second. What work returns is the CPU time of the other side."""
    cpu, began = server.cpu_seconds(), time.monotonic()
    own = work()
    took = time.monotonic() - began
    cpu = server.cpu_seconds() - cpu
    return Sample(documents / took, {"server_us": cpu / documents * 1e6, "generator_share": own / took, "seconds": took})


def memory_of(watch: Watch, documents: int, final: float) -> Sample:
    at = {f"at_{share * 100:.0f}": watch.at_share(share, documents).get("pss_mb", 0.0) for share in QUARTERS}
    return Sample(watch.largest("pss_mb"), {**at, "anonymous": watch.largest("anonymous_mb"), "rss": watch.largest("rss_mb"), "final": final})


def one_store(store: Store, name: str, documents: int, every: float, found: dict[str, dict[str, Sample]], case: CaseReport) -> None:
    server = store.server
    with Watch(server, every, store.look) as watch:
        found["in"][name] = timed(lambda: store.insert(documents, Progress(f"{name} in", documents)), server, documents)
    began = time.monotonic()
    store.settle()
    settled = time.monotonic() - began
    unsealed = {"unsealed": watch.largest("unsealed")} if any("unsealed" in sight for sight in watch.seen) else {}
    found["settled"][name] = Sample(settled, unsealed)
    disk = store.disk()
    kinds = {kind: disk.get(kind, 0.0) / documents for kind in ("log", "data", "index")}
    kept = sum(size for kind, size in disk.items() if kind not in NOT_COUNTED) / documents
    found["disk"][name] = Sample(kept, {f"{kind}_bytes": size for kind, size in kinds.items()})
    say(f"  {name}: in {found['in'][name].value:,.0f} documents a second, settled after {settled:.1f} s")
    with Watch(server, every, dict) as reading:
        found["out"][name] = timed(lambda: store.read(documents, Progress(f"{name} out", documents)), server, documents)
    found["memory"][name] = memory_of(watch, documents, reading.seen[-1].get("pss_mb", 0.0))
    found["memory out"][name] = Sample(reading.largest("pss_mb"), {"anonymous": reading.largest("anonymous_mb"), "rss": reading.largest("rss_mb")})
    case.series[f"{name} in"] = watch.seen
    case.series[f"{name} out"] = reading.seen


MEASURES = (
    ("in", "in", "documents per second"),
    ("out", "out", "documents per second"),
    ("memory", "largest memory while they go in", "MB"),
    ("memory out", "largest memory while they come out", "MB"),
    ("disk", "on the disk when settled, without the log", "bytes a document"),
    ("settled", "from the last answer until settled", "seconds"),
)


def measure(run: Run, case: CaseReport) -> None:
    documents = run.documents or run.count(short=200_000, long=5_000_000)
    documents -= documents % BULK_DOCUMENTS
    found: dict[str, dict[str, Sample]] = {key: {} for key, _, _ in MEASURES}
    makers: list[tuple[str, Callable[[Path], Server], Callable[[Server], Store]]] = [
        (OURS, lambda directory: TwinlogServer(directory / "twinlog", seal_age_s=1), TwinlogStore),
        (PEER, lambda directory: PostgresServer(directory / "postgres"), PostgresStore),
    ]  # type: ignore[list-item]
    for name, make, store_of in makers:
        with run.directory() as directory, started(case, lambda make=make, directory=directory: make(directory)) as (server,):
            if server is None:
                continue
            try:
                every = LOOK_SECONDS_SHORT if run.short else LOOK_SECONDS
                one_store(store_of(server), name, documents, every, found, case)
            except (LoadFailed, ServerFailed) as error:
                case.notes.append(f"{name} failed: {error}")
    for key, question, unit in MEASURES:
        turns = [
            Contender(name, lambda sample=sample: sample, (PEER,) if name == OURS else ()) for name, sample in found[key].items()
        ]
        ask(case, f"{documents:,} documents, {question}", unit, turns, 1, higher_is_better=key in ("in", "out"))
