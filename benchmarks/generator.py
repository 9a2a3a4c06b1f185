"""The load generator from Python: building load.c, greeting servers, handing sockets over, reading the results.

Python does what happens once a connection (Twinlog's handshake, PostgreSQL's start-up and Parse); the C program does what
happens once a request. A secure connection is handed over by its two keys and counters, on the program's standard
input, never on a command line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node import wire

from .templates import KEY_BASE, STATEMENTS, Template, postgres_message

SOURCE = Path(__file__).with_name("load.c")
SOURCES = (SOURCE, SOURCE.with_name("load_orders.h"))
LIBRARIES = ("-lssl", "-lcrypto", "-lm")
CONNECT_SECONDS_MAX = 10.0
GRACE_SECONDS = 60.0  # for a generator, over the seconds it was told


class Unavailable(Exception):
    """Something that a benchmark needs is not on this machine; the text says what to install."""


class LoadFailed(Exception):
    """The generator met what it cannot measure: a lost connection, refused requests, documents that were not there."""


def cache_directory() -> Path:
    """Outside the checkout; made on demand."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(base) / "twinlog-benchmarks"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def build(directory: Path | None = None) -> Path:
    """The compiled generator, one for each state of its source. Raises Unavailable."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Unavailable("gcc is missing (on Debian: apt-get install gcc libssl-dev)")
    name = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:16]
    program = (directory or cache_directory()) / f"load-{name}"
    if not program.exists():
        fresh = program.with_suffix(f".{os.getpid()}")
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(fresh), str(SOURCE), *LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"load.c does not build (libssl-dev missing?): {done.stderr.strip()[-500:]}")
        fresh.replace(program)
    return program


@dataclass
class Line:
    """One connection, greeted. session: of a secure Twinlog connection, for its keys."""

    sock: socket.socket
    session: wire.ClientSession | None = None

    def order(self) -> str:
        descriptor = self.sock.fileno()
        if self.session is None or self.session._sealer is None:
            return f"connection {descriptor}"
        sending, receiving = self.session._sealer._cipher, self.session._opener._cipher
        return (
            f"connection {descriptor} {sending._key.hex()} {sending.counter} {receiving._key.hex()} {receiving.counter}"
        )


Dial = Callable[[], Line]


def dial_socket(address: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(address, timeout=CONNECT_SECONDS_MAX)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def dial_plain(address: tuple[str, int]) -> Line:
    """For Redis: there is no greeting. TLS is the generator's."""
    return Line(dial_socket(address))


def dial_twinlog(address: tuple[str, int], key: wire.Key | None) -> Line:
    """Opening and, under a key, the Noise handshake."""
    sock = dial_socket(address)
    session = wire.ClientSession(key, wire.PortRole.CLIENT, random_bytes=os.urandom)
    sock.sendall(session.start())
    while (event := session.next_event()) is wire.NEED_DATA:
        session.receive_data(sock.recv(4096))
    assert isinstance(event, wire.HandshakeDone) and event.secure == (key is not None)
    sock.sendall(session.data_to_send())
    assert not session.received_bytes, "a server speaks only when asked"
    return Line(sock, session)


def greet_postgres(address: tuple[str, int], *, options: str = "") -> socket.socket:
    """Start-up as the superuser of a server that trusts loopback. Raises LoadFailed when it refuses, as one that starts up does."""
    sock = dial_socket(address)
    words = ["user", "postgres", "database", "postgres", "application_name", "benchmark"]
    if options:
        words += ["options", options]
    body = struct.pack(">I", 196608) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    sock.sendall(struct.pack(">I", len(body) + 4) + body)
    try:
        _until_ready(sock)
    except (LoadFailed, OSError):
        sock.close()
        raise
    return sock


def dial_postgres(address: tuple[str, int], *, options: str = "") -> Line:
    """Greeted, then Parse of every statement."""
    sock = greet_postgres(address, options=options)
    for name, text, types in STATEMENTS:
        parse = name.encode() + b"\0" + text.encode() + b"\0" + struct.pack(f">H{len(types)}I", len(types), *types)
        sock.sendall(postgres_message(b"P", parse))
    sock.sendall(postgres_message(b"S", b""))
    _until_ready(sock)
    return Line(sock)


def _until_ready(sock: socket.socket) -> None:
    data = b""
    while True:
        got = sock.recv(65536)
        if not got:
            raise LoadFailed("PostgreSQL closed the connection")
        data += got
        at = 0
        while at + 5 <= len(data):
            end = at + 1 + struct.unpack_from(">I", data, at + 1)[0]
            if end > len(data):
                break
            if data[at : at + 1] == b"E":
                raise LoadFailed(f"PostgreSQL refused: {data[at + 5 : end]!r}")
            if data[at : at + 1] == b"Z":
                return
            at = end
        data = data[at:]


@contextmanager
def lines(dial: Dial, count: int) -> Iterator[list[Line]]:
    """So many greeted connections, closed at the end."""
    opened: list[Line] = []
    try:
        for _ in range(count):
            opened.append(dial())
        yield opened
    finally:
        for line in opened:
            line.sock.close()


@dataclass(frozen=True)
class Load:
    """What to do. keys: numbers from first_key on, or random ones of key_count."""

    template: Template
    depth: int = 1
    seconds: float = 1.0
    warmup: float = 0.0
    rate: float = 0.0
    shed: bool = False  # with a rate: what finds no free slot is let go, and refusals are counted rather than an end
    limit: int = 0
    first_key: int = KEY_BASE
    key_count: int = 0  # 0: in sequence
    tls: bool = False

    def orders(self, opened: list[Line]) -> str:
        keys = f"random {self.first_key} {self.key_count}" if self.key_count else f"sequence {self.first_key} 0"
        template = self.template
        return "\n".join(
            [
                f"protocol {template.protocol}",
                f"tls {int(self.tls)}",
                f"depth {self.depth}",
                f"seconds {self.seconds}",
                f"warmup {self.warmup}",
                f"rate {self.rate}",
                f"shed {int(self.shed)}",
                f"limit {self.limit}",
                f"keys {keys}",
                f"answer_min {template.answer_min}",
                f"answer_max {template.answer_max}",
                f"template {template.request.hex()}",
                *(f"patch {kind} {offset}" for kind, offset in template.places),
                *(line.order() for line in opened),
                "go\n",
            ]
        )


def run(load: Load, opened: list[Line], *, program: Path | None = None) -> dict:
    """Let the generator do it over these connections, which then are spent. Raises LoadFailed unless all was well."""
    for line in opened:
        line.sock.settimeout(None)
    done = subprocess.run(
        [str(program or build())],
        input=load.orders(opened),
        capture_output=True,
        text=True,
        pass_fds=[line.sock.fileno() for line in opened],
        timeout=load.warmup + load.seconds + GRACE_SECONDS,
    )
    if done.returncode:
        raise LoadFailed(f"the load generator stopped: {done.stderr.strip()}")
    results = json.loads(done.stdout)
    if load.shed and "Overloaded" in results["first_error"]:
        return results
    if results["errors"] or results["misses"]:
        raise LoadFailed(
            f"{results['errors']} errors and {results['misses']} answers of an unexpected length among"
            f" {results['answered']}: {results['first_error'] or 'no error text'}"
        )
    return results
