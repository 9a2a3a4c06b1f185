"""Files of documents in and out by the command line, as an operator moves them, beside PostgreSQL's COPY of jsonb by psql."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from benchmarks.chosen import CHOSEN
from benchmarks.contest import Contender, Run, ask, started
from benchmarks.generator import LoadFailed
from benchmarks.processes import Server, find_program
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import DB, PostgresServer, TwinlogServer
from benchmarks.templates import DOCUMENT_BYTES, KEY_BASE, document, document_json
from benchmarks.watch import Watch

WHAT = (
    f"N documents of {DOCUMENT_BYTES} bytes from a file into an empty collection by `twinlog import`, and out of it into a new file by `twinlog export`, which must be the "
    "same bytes (jsonl) or as many documents; over an encrypted connection. PostgreSQL: psql's \\copy of as many rows into an empty table with a bigint primary key and a jsonb column, and \\copy (select doc "
    "from docs) to a file. The figure counts documents over the time that the command works, which it tells itself for Twinlog; `seconds` is its whole life, with the start of Python. Largest resident memory of the command and of the server's "
    "processes, in MB. Formats beside jsonl take one round, the slow ones fewer documents."
)
OURS, PEER = "Twinlog", "PostgreSQL"
SPOOL_LINES = 10_000
LOOK_SECONDS = 0.2
COMMAND_SECONDS_MAX = 1200.0
ROUNDS_MAX = 3
FEWER = {"bson": 10, "skv": 10, "zip": 10}  # of N documents, this part: some microseconds or tens of them each
FORMATS: dict[str, tuple[str, ...]] = {
    "alos": ("--format", "alos"), "json": ("--format", "json"), "json --pretty": ("--format", "json", "--pretty"), "mongo": ("--format", "mongo"),
    "mongo --canonical": ("--format", "mongo", "--canonical"), "bson": ("--format", "bson"), "skv": ("--format", "skv"), "zip": ("--format", "zip"),
}  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """One command's end."""

    seconds: float  # of the whole command
    rss_mb: float
    cpu_seconds: float
    said: bytes


def timed(words: list[str]) -> Timed:
    """Raises LoadFailed when it does not end well, with what it said."""
    began = time.monotonic()
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=CHOSEN.get().environment(), cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)  # what the process used, which Popen does not tell
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise LoadFailed(f"{words[:6]} ended with {process.returncode}: {said.decode(errors='replace')[-500:]}")
    return Timed(time.monotonic() - began, used.ru_maxrss * 1024 / 1e6, used.ru_utime + used.ru_stime, said)


def own_seconds(done: Timed) -> float:
    """What one of our commands says of itself: from connecting to the last answer, without the start of Python."""
    return json.loads(done.said.splitlines()[-1])["seconds"]


def watched(server: Server, words: list[str], documents: int, seconds_of: Callable[[Timed], float]) -> Sample:
    """Documents per second of one command against a server."""
    cpu = server.cpu_seconds()
    with Watch(server, LOOK_SECONDS, dict) as watch:
        done = timed(words)
    cpu = server.cpu_seconds() - cpu
    return Sample(
        documents / seconds_of(done),
        {"seconds": done.seconds, "server_us": cpu / documents * 1e6, "client_us": done.cpu_seconds / documents * 1e6, "client_rss": done.rss_mb, "rss": watch.largest("rss_mb")},
    )


def spool(path: Path, documents: int, line: Callable[[int], bytes]) -> Path:
    with path.open("wb") as file:
        for first in range(KEY_BASE, KEY_BASE + documents, SPOOL_LINES):
            file.write(b"".join(map(line, range(first, min(first + SPOOL_LINES, KEY_BASE + documents)))))
    path.chmod(0o644)
    return path


def json_line(key: int) -> bytes:
    return json.dumps(document(key), separators=(",", ":")).encode() + b"\n"


def skv_line(key: int) -> bytes:
    return json.dumps({"_id": str(key), "value": "x" * (DOCUMENT_BYTES - 30)}, separators=(",", ":")).encode() + b"\n"


class TwinlogFiles:
    """The commands, on collections of one node that are dropped after use."""

    def __init__(self, server: TwinlogServer, directory: Path) -> None:
        self.server, self._directory = server, directory
        self._made = 0

    def _words(self, verb: str, *words: str) -> list[str]:
        return [CHOSEN.get().python, "-m", "ops.main", verb, *words, "--url", self.server.url(), "--db", DB, "--json"]

    def new_name(self) -> str:
        self._made += 1
        return f"exchange{self._made}"

    def put(self, file: Path, name: str, documents: int) -> Sample:
        sample = watched(self.server, self._words("import", str(file), "--collection", name), documents, own_seconds)
        with self.server.connect() as client:
            found = client[DB][name].estimated_document_count()
        if found != documents:
            raise LoadFailed(f"{found} of {documents} documents of {file.name} went in")
        return sample

    def take(self, name: str, file: Path, documents: int, *options: str) -> Sample:
        return watched(self.server, self._words("export", name, "--out", str(file), *options), documents, own_seconds)

    def drop(self, name: str) -> None:
        with self.server.connect() as client:
            client[DB].drop_collection(name)

    def there_and_back(self, source: Path, documents: int) -> Iterator[Sample]:
        """A file in and out again: the same bytes."""
        name, copy = self.new_name(), self._directory / "copy.jsonl"
        yield self.put(source, name, documents)
        yield self.take(name, copy, documents)
        is_same = filecmp.cmp(source, copy, shallow=False)
        copy.unlink()
        self.drop(name)
        if not is_same:
            raise LoadFailed("what came out is not what went in")

    def through(self, kept: str, documents: int, options: tuple[str, ...]) -> Iterator[Sample]:
        """A collection out in a format, and in again."""
        file, name = self._directory / "through", self.new_name()
        yield self.take(kept, file, documents, *options)
        yield self.put(file, name, documents)
        file.unlink()
        self.drop(name)


class PostgresFiles:
    """psql's \\copy, on one table that is made anew each time."""

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        self.server, self._directory = server, directory

    def _words(self, text: str) -> list[str]:
        return [find_program("psql") or "psql", "-h", "127.0.0.1", "-p", str(self.server.address[1]), "-U", "postgres", "-Xqc", text]

    def there_and_back(self, source: Path, documents: int) -> Iterator[Sample]:
        self.server.make_table()
        yield watched(self.server, self._words(f"\\copy docs from '{source}'"), documents, attrgetter("seconds"))
        copy = self._directory / "copy.txt"
        yield watched(self.server, self._words(f"\\copy (select doc from docs) to '{copy}'"), documents, attrgetter("seconds"))
        with copy.open("rb") as file:
            lines = sum(1 for _ in file)
        copy.unlink()
        if lines != documents:
            raise LoadFailed(f"{lines} of {documents} rows came out")


def jsonl(run: Run, case: CaseReport, twinlog: TwinlogFiles, postgres: PostgresFiles | None, directory: Path, documents: int) -> None:
    """Both ways in turns: the second measure shows the ways back of the same rounds."""
    sources = {OURS: spool(directory / "docs.jsonl", documents, json_line)}
    ways: dict[str, Callable[[], Iterator[Sample]]] = {OURS: lambda: twinlog.there_and_back(sources[OURS], documents)}
    if postgres is not None:
        body = document_json()
        sources[PEER] = spool(directory / "docs.txt", documents, lambda key: b"%d\t%b\n" % (key, body))
        ways[PEER] = lambda: postgres.there_and_back(sources[PEER], documents)
    rounds = min(run.rounds, ROUNDS_MAX)
    both_ways(case, (f"{documents:,} documents in, jsonl", f"{documents:,} documents out, jsonl"), ways, rounds, {OURS: (PEER,)} if postgres is not None else {})
    for file in sources.values():
        file.unlink()


def other_formats(case: CaseReport, twinlog: TwinlogFiles, directory: Path, documents: int) -> None:
    ways: dict[str, Callable[[], Iterator[Sample]]] = {}
    kept: dict[tuple[int, bool], str] = {}  # collections to export, by documents and whether they are SKV's
    for name, options in FORMATS.items():
        count, is_skv = max(1, documents // FEWER.get(name, 1)), name == "skv"
        if (count, is_skv) not in kept:
            source = spool(directory / "source.jsonl", count, skv_line if is_skv else json_line)
            kept[count, is_skv] = twinlog.new_name()
            twinlog.put(source, kept[count, is_skv], count)
            source.unlink()
        ways[f"{name}, {count:,}"] = lambda kept=kept[count, is_skv], count=count, options=options: twinlog.through(kept, count, options)
    both_ways(case, ("other formats, out", "other formats, in"), ways, 1, {})


def both_ways(
    case: CaseReport, questions: tuple[str, str], ways: dict[str, Callable[[], Iterator[Sample]]], rounds: int, peers: dict[str, tuple[str, ...]]
) -> None:
    """Two measures of turns that go one way and then the other: the second one shows the ways back of the same turns."""
    back: dict[str, list[Sample]] = {name: [] for name in ways}

    def turn(name: str) -> Sample:
        there, again = ways[name]()
        back[name].append(again)
        return there

    ask(case, questions[0], "documents per second", [Contender(name, lambda name=name: turn(name), peers.get(name, ())) for name in ways], rounds)
    whole = {name: iter(samples) for name, samples in back.items() if len(samples) == rounds}
    ask(case, questions[1], "documents per second", [Contender(name, samples.__next__, peers.get(name, ())) for name, samples in whole.items()], rounds)


def measure(run: Run, case: CaseReport) -> None:
    documents = run.documents or run.count(short=100_000, long=5_000_000)
    with run.directory() as directory:
        makers = (lambda: TwinlogServer(directory / "twinlog"), lambda: PostgresServer(directory / "postgres"))
        with started(case, *makers) as (twinlog, postgres):
            assert isinstance(twinlog, TwinlogServer), "it is not left out"
            ours = TwinlogFiles(twinlog, directory)
            peer = PostgresFiles(postgres, directory) if isinstance(postgres, PostgresServer) else None
            jsonl(run, case, ours, peer, directory, documents)
            other_formats(case, ours, directory, documents)
