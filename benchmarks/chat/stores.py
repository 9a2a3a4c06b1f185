"""Twinlog and PostgreSQL as the case `chat` uses them: loading spooled messages, waiting for indexes, sizes, asking.

Twinlog's index is its own business: fields are indexed because they were asked for, so every question is put once while the load is under way. PostgreSQL's
are made by hand when everything is in, as one does for a bulk load. Each is asked over one plain connection by one blocking client, and the
answer is read to the end, its documents decoded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec

import twinlog
from benchmarks.generator import LoadFailed, dial_twinlog
from benchmarks.processes import Server
from benchmarks.servers import COLLECTION, DB, PostgresServer, TwinlogServer
from benchmarks.watch import Sight, sizes
from benchmarks.whole import read_frame
from node import wire

from . import spool
from .questions import Ask, Find
from .statements import Statements

OUTSTANDING = 2
SETTLE_SECONDS_MAX = 3600.0
POLL_SECONDS = 0.1
INDEX_MEMORY = "1GB"  # PostgreSQL's maintenance_work_mem while it makes indexes
INDEX_FILES = ("fields.",)
TRIGRAMS, TRIGRAM_OPERATORS = "pg_trgm", "gin_trgm_ops"
INDEXES = {
    "channel": "create index on docs ((doc->>'channel'))",
    "channel and ts": "create index on docs ((doc->>'channel'), ((doc->>'ts')::bigint))",
    **{field: f"create index on docs (((doc->>'{field}')::bigint))" for field in ("ts", "author", "likes", "guild")},
    "content (trigrams)": f"create index on docs using gin ((doc->>'content') {TRIGRAM_OPERATORS})",
}


class AskFailed(Exception):
    """A server gave no answer to one question; the others go on."""


class Store(Protocol):
    """One server. kind: of the spooled files that it takes."""

    name: str
    server: Server
    kind: str

    def open(self) -> None: ...
    def close(self) -> None: ...
    def write(self, requests: Iterable[bytes]) -> None: ...
    def run(self, ask: Ask, sql: str, parameters: tuple[str, ...]) -> object: ...
    def disk(self) -> Sight: ...


class TwinlogChat:
    """One node, by its plain port: one connection that is asked, one that writes."""

    name, kind = "Twinlog", spool.FRAMES

    def __init__(self, server: TwinlogServer) -> None:
        self.server = server
        self.open()
        self.client.create_database(DB)

    def open(self) -> None:
        self.client = twinlog.connect(self.server.url(secure=False) + "?key=", timeout_s=300)
        self._collection = self.client[DB][COLLECTION]
        self._line = dial_twinlog(self.server.address, None)
        self._line.sock.settimeout(None)

    def close(self) -> None:
        self.client.close()
        self._line.sock.close()

    def write(self, requests: Iterable[bytes]) -> None:
        """With two outstanding. Raises LoadFailed when a document was refused."""
        sock, waiting = self._line.sock, 0
        for request in requests:
            if waiting == OUTSTANDING:
                check_inserted(read_frame(sock))
                waiting -= 1
            sock.sendall(request)
            waiting += 1
        for _ in range(waiting):
            check_inserted(read_frame(sock))

    def run(self, ask: Ask, sql: str, parameters: tuple[str, ...]) -> object:
        try:
            return ask.run(self._collection)
        except twinlog.TwinlogError as error:
            raise AskFailed(str(error)) from error

    def stage(self, ask: Find) -> str:
        """How it is answered, in MongoDB's word."""
        cursor = self._collection.find(ask.filter).limit(ask.limit)
        plan = (cursor.sort(ask.newest, -1) if ask.newest else cursor).explain()
        return plan["queryPlanner"]["winningPlan"]["stage"]

    def disk(self) -> Sight:
        return sizes(self.server.directory / DB, kind_of)

    def sealed(self) -> bool:
        """Whether all that is visible is in checkpoints."""
        return self.server.sealed_seq() >= self.client.status()["databases"][DB]["visible"][1]

    def wait_sealed(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while self.server.sealed_seq() == 0:
            if time.monotonic() > deadline:
                raise LoadFailed(f"nothing was sealed:\n{self.server.log_tail()}")
            time.sleep(POLL_SECONDS)

    def wait_indexed(self, quiet: float) -> float:
        """Until everything is sealed and no file of an index changed for `quiet` seconds; the seconds up to the last change."""
        began = changed = time.monotonic()
        files, sealed = self._index_files(), False
        while time.monotonic() - changed < quiet or not sealed:
            time.sleep(POLL_SECONDS)
            now = self._index_files()
            if now != files or (not sealed and self.sealed()):
                files, changed, sealed = now, time.monotonic(), self.sealed()
            if time.monotonic() - began > SETTLE_SECONDS_MAX:
                raise LoadFailed(f"the indexes were not built in {SETTLE_SECONDS_MAX:.0f} s:\n{self.server.log_tail()}")
        return changed - began

    def _index_files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in (self.server.directory / DB).rglob("*"):
            if kind_of(path.name) == "index":
                try:
                    stat = path.stat()
                except OSError:
                    continue
                found[str(path)] = (stat.st_size, stat.st_mtime_ns)
        return found


def kind_of(path: str) -> str:
    """Of a file of a database: index, log, data or rest."""
    name = Path(path).name
    if name.startswith(INDEX_FILES) or ".sidx" in name:
        return "index"
    return {".log": "log", ".db": "data"}.get(Path(path).suffix, "rest")


def check_inserted(frame: bytes | bytearray) -> None:
    answer = wire.decode_answer(frame)
    if isinstance(answer, wire.Failure):
        raise LoadFailed(f"{answer.name}: {answer.message}")
    if errors := msgspec.msgpack.decode(answer.result)["errors"]:
        raise LoadFailed(f"a message was refused: {errors[0]}")


class PostgresChat:
    """One table docs (id, doc); the spool's messages are rows of it."""

    name, kind = "PostgreSQL", spool.COPY

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.lacks = ""  # what cannot be indexed, and why
        server.make_table()
        self.open()

    def open(self) -> None:
        self._statements = Statements(self.server.address)
        self._writes = Statements(self.server.address)

    def close(self) -> None:
        self._statements.close()
        self._writes.close()

    def write(self, requests: Iterable[bytes]) -> None:
        """One COPY each."""
        for request in requests:
            self._writes.copy(request)

    def load(self, requests: Iterable[bytes]) -> None:
        """One COPY of everything."""
        self._writes.copy_many(requests)

    def make_indexes(self) -> dict[str, float]:
        """Seconds by index, and of ANALYZE."""
        found: dict[str, float] = {}
        for name, statement in {**INDEXES, "analyze": "analyze docs"}.items():
            if TRIGRAM_OPERATORS in statement:
                try:
                    self.server.query(f"create extension if not exists {TRIGRAMS}")
                except OSError as error:
                    self.lacks = f"PostgreSQL has no {TRIGRAMS} here ({error}), so regexes are scans there"
                    continue
            began = time.monotonic()
            self.server.query(f"set maintenance_work_mem = '{INDEX_MEMORY}'; {statement}")
            found[name] = time.monotonic() - began
        return found

    def run(self, ask: Ask, sql: str, parameters: tuple[str, ...]) -> object:
        try:
            return ask.read(self._statements.ask(sql, parameters), msgspec.json.decode)
        except LoadFailed as error:
            raise AskFailed(str(error)) from error

    def disk(self) -> Sight:
        data, index = self.server.query("select pg_table_size('docs') || ' ' || pg_indexes_size('docs')").split()
        return {"data": float(data), "index": float(index)}

