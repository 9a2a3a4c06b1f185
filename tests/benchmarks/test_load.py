"""The load generator does what it says to a real node: every document it counts is there, and what is wrong is noticed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks import generator, templates
from benchmarks.generator import Load, LoadFailed, lines, run
from benchmarks.servers import COLLECTION, DB, TwinlogServer
from benchmarks.templates import KEY_BASE

CONNECTIONS, DEPTH = 4, 16
PAUSE_SECONDS = 0.7


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return generator.build(tmp_path_factory.mktemp("built"))
    except generator.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def server(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinlogServer]:
    node = TwinlogServer(tmp_path_factory.mktemp("node") / "data")
    node.start()
    try:
        with node.connect() as client:
            client.create_database(DB)
        yield node
    finally:
        node.stop()


def do(server: TwinlogServer, program: Path, load: Load, *, secure: bool, connections: int = CONNECTIONS) -> dict:
    with lines(server.secure if secure else server.plain, connections) as opened:
        return run(load, opened, program=program)


def found(server: TwinlogServer, collection: str) -> dict[int, dict]:
    with server.connect() as client:
        return {document["_id"]: document for document in client[DB][collection].find({}).batch_size(1000)}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_every_insert_that_it_counts_is_there(server: TwinlogServer, program: Path, secure: bool):
    collection = f"inserts_{secure}"
    load = Load(templates.twinlog_insert(DB, collection), depth=DEPTH, seconds=60, limit=500)
    results = do(server, program, load, secure=secure)
    assert (results["requests"], results["counted"], results["keys"]) == (500, 500, 500)
    assert found(server, collection) == {key: templates.document(key) for key in range(KEY_BASE, KEY_BASE + 500)}
    assert 0 < results["p50_us"] <= results["p99_us"] <= results["p999_us"] <= results["max_us"]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_an_insert_of_a_thousand_and_gets_of_them(server: TwinlogServer, program: Path, secure: bool):
    collection = f"many_{secure}"
    do(server, program, Load(templates.twinlog_insert(DB, collection, 1000), seconds=60, limit=2), secure=secure, connections=1)
    assert set(found(server, collection)) == set(range(KEY_BASE, KEY_BASE + 2000))
    gets = Load(templates.twinlog_get(DB, collection), depth=DEPTH, seconds=60, limit=400, key_count=2000)
    assert do(server, program, gets, secure=secure)["counted"] == 400


def test_a_packet_of_more_than_a_megabyte_is_cut(server: TwinlogServer, program: Path):
    load = Load(templates.twinlog_insert(DB, "large", 1000), depth=8, seconds=60, limit=8)
    do(server, program, load, secure=True, connections=1)
    with server.connect() as client:
        assert client[DB]["large"].count_documents({}) == 8000


def test_a_document_that_is_not_there_is_a_miss(server: TwinlogServer, program: Path):
    load = Load(templates.twinlog_get(DB, "nothing"), seconds=60, limit=10)
    with pytest.raises(LoadFailed, match="10 answers of an unexpected length"):
        do(server, program, load, secure=True)


def test_a_key_that_is_there_already_is_noticed(server: TwinlogServer, program: Path):
    load = Load(templates.twinlog_insert(DB, "twice"), seconds=60, limit=5)
    do(server, program, load, secure=False)
    with pytest.raises(LoadFailed, match="5 answers of an unexpected length"):
        do(server, program, load, secure=False)


def test_a_refusal_is_reported_with_its_text(server: TwinlogServer, program: Path):
    load = Load(templates.twinlog_insert("no/such name", COLLECTION), seconds=60, limit=3)
    with pytest.raises(LoadFailed, match="3 errors.*no/such name"):
        do(server, program, load, secure=True)


def test_a_rate_is_kept(server: TwinlogServer, program: Path):
    load = Load(templates.twinlog_ping(), depth=DEPTH, seconds=0.5, rate=400)
    results = do(server, program, load, secure=True)
    assert results["requests"] == 200
    assert results["wall"] >= 0.49


class Pauses:
    """Takes one connection and answers its Redis PINGs, but pauses first when the first of them has come."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        sock, _ = self._listener.accept()
        sock.recv(1, socket.MSG_PEEK)
        threading.Event().wait(PAUSE_SECONDS)
        rest = 0
        while data := sock.recv(65536):
            whole, rest = divmod(rest + len(data), len(templates.redis_ping().request))
            sock.sendall(b"+PONG\r\n" * whole)
        sock.close()
        self._listener.close()


def test_a_pause_past_the_end_counts_with_all_its_waiting(program: Path):
    """100 requests are due in half a second, 4 have room; the server answers none until all were due."""
    server = Pauses()
    load = Load(templates.redis_ping(), depth=4, seconds=0.5, rate=200)
    with lines(lambda: generator.dial_plain(server.address), 1) as opened:
        results = run(load, opened, program=program)
    server.thread.join()
    assert (results["requests"], results["counted"]) == (100, 100)
    assert results["max_us"] >= PAUSE_SECONDS * 1e6  # the first was due at once
    assert results["p50_us"] >= (PAUSE_SECONDS - 0.26) * 1e6  # and half of them in the first quarter of a second


def test_what_finds_no_free_slot_may_be_let_go(program: Path):
    """As before, but the 96 that have no room are not sent late: they are counted."""
    server = Pauses()
    load = Load(templates.redis_ping(), depth=4, seconds=0.5, rate=200, shed=True)
    with lines(lambda: generator.dial_plain(server.address), 1) as opened:
        results = run(load, opened, program=program)
    server.thread.join()
    assert (results["requests"], results["shed"]) == (4, 96)


def test_the_document_is_the_same_size_for_all():
    assert len(msgspec.msgpack.encode(templates.document(KEY_BASE))) == templates.DOCUMENT_BYTES
    assert len(templates.document_json()) == templates.DOCUMENT_BYTES


@pytest.mark.parametrize(
    "template",
    [
        templates.twinlog_insert(DB, COLLECTION, 1000), templates.twinlog_get(DB, COLLECTION), templates.redis_set(1000),
        templates.redis_get(), templates.postgres_insert(), templates.postgres_get(), templates.postgres_copy(1000),
    ],
    ids=lambda template: f"{template.protocol}-{template.documents}",
)  # fmt: skip
def test_the_places_of_a_template_do_not_overlap(template: templates.Template):
    sizes = {"slot16": 2, "key64": 8, "dec16": 16, "write128": 16}
    spans = sorted((offset, offset + sizes[kind]) for kind, offset in template.places)
    assert all(end <= begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False))
    assert spans[-1][1] <= len(template.request)
    keys = sum(kind in ("key64", "dec16") for kind, _ in template.places)
    assert keys == template.documents
