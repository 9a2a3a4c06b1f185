"""One client for each transport, over a fresh, empty store."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import twinlog
from node.config import load
from node.server import Node
from node.wire import Key, format_keys, new_key

from .awaited import awaited
from .fake_server import FakeNode


@pytest.fixture
def key_file(tmp_path: Path) -> tuple[str, Key]:
    key = new_key(os.urandom)
    path = tmp_path / "client.key"
    path.write_text(format_keys((key,)))
    return str(path), key


@asynccontextmanager
async def connected_async(address: str):
    async with await twinlog.connect_async(address) as client:
        yield client


@contextmanager
def real_node(directory: Path, key_file: str) -> Iterator[str]:
    """A whole node in a thread of its own, under a key; gives its client address."""
    ready: queue.Queue[Any] = queue.Queue()

    async def main() -> None:
        done = trio.Event()
        overrides = {
            "data": str(directory),
            "listen.client": "127.0.0.1:0",
            "listen.admin": "none",
            "client_keys": key_file,
            "limits.position_timeout_ms": 100,
        }
        async with Node.open(load(None, overrides)) as node:
            ready.put((str(node.client_address), trio.lowlevel.current_trio_token(), done))
            await done.wait()

    def work() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            ready.put(error)
            raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    opened = ready.get()
    if isinstance(opened, BaseException):
        raise opened
    address, token, done = opened
    try:
        yield address
    finally:
        trio.from_thread.run_sync(done.set, trio_token=token)
        thread.join()


@pytest.fixture(scope="module")
def node_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("node")
    path = directory / "client.key"
    path.write_text(format_keys((new_key(os.urandom),)))
    path.chmod(0o600)
    with real_node(directory / "data", str(path)) as address:
        yield f"twinlog://{address}/?key={path}"


def emptied(made: Any) -> Any:
    for name in made.list_database_names():
        made.drop_database(name)
    return made


@contextmanager
def face(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The client that the fixture's parameter names."""
    if request.param == "plain":
        with FakeNode() as node, twinlog.connect(node.address) as made:
            yield made
    elif request.param == "secure":
        path, key = request.getfixturevalue("key_file")
        with FakeNode(key=key) as node, twinlog.connect(node.address, key=path) as made:
            yield made
    elif request.param == "trio":
        with FakeNode() as node, awaited(lambda: connected_async(node.address)) as made:
            yield made
    elif request.param == "node":
        with twinlog.connect(request.getfixturevalue("node_url")) as made:
            yield emptied(made)
    elif request.param == "node trio":
        url = request.getfixturevalue("node_url")
        with awaited(lambda: connected_async(url)) as made:
            yield emptied(made)
    elif request.param == "embedded":
        with twinlog.open(":memory:") as made:
            yield made
    else:
        with awaited(lambda: twinlog.open_async(":memory:")) as made:
            yield made


ENGINES = ["embedded", "embedded trio", "node", "node trio"]


@pytest.fixture(params=["plain", "secure", "trio", *ENGINES])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client whose calls block, whatever is below."""
    with face(request) as made:
        yield made


@pytest.fixture(params=ENGINES)
def engine_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The same over a real engine only, for what fake nodes do not know."""
    with face(request) as made:
        yield made
