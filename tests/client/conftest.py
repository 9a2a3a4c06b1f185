"""One client for each transport, over a fresh, empty store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import twinlog
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


@pytest.fixture(params=["plain", "secure", "trio", "embedded", "embedded trio"])
def client(request: pytest.FixtureRequest, key_file: tuple[str, Key]) -> Iterator[Any]:
    """A client whose calls block, whatever is below."""
    if request.param == "plain":
        with FakeNode() as node, twinlog.connect(node.address) as made:
            yield made
    elif request.param == "secure":
        path, key = key_file
        with FakeNode(key=key) as node, twinlog.connect(node.address, key=path) as made:
            yield made
    elif request.param == "trio":
        with FakeNode() as node, awaited(lambda: connected_async(node.address)) as made:
            yield made
    elif request.param == "embedded":
        with twinlog.open(":memory:") as made:
            yield made
    else:
        with awaited(lambda: twinlog.open_async(":memory:")) as made:
            yield made
