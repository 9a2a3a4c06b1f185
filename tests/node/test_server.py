"""A whole node over real files and loopback: start, serve, admin HTTP, refusals at start, orderly stop, restart."""

from __future__ import annotations

import json
import signal
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

import storage
from node import node_file, wire
from node.config import load
from node.server import Node, serve
from storage import errors

from .fakes import BareClient, document, value

FREE = "127.0.0.1:0"


def _config(directory: Path, **overrides):
    return load(None, {"data": str(directory), "listen.client": FREE, "listen.admin": FREE, **overrides})


def _open(config, **more):
    """A node whose jobs run in this process: a worker process takes a while to start."""
    return Node.open(config, seams=storage.real_seams(config.data), **more)


@asynccontextmanager
async def _client(node: Node, key: wire.Key | None = None):
    async with await trio.open_tcp_stream(*node.client_address) as stream:
        yield await BareClient(stream, key).open()


async def test_a_node_serves_and_keeps_what_it_acknowledged_over_a_restart(tmp_path):
    config = _config(tmp_path / "data")
    async with Node.open(config) as node, _client(node) as client:
        hello = await client.call(wire.Hello, "test")
        assert (hello["role"], hello["node"]) == ("primary", "node")
        assert (await client.call(wire.Insert, "chat", "m", [document(id=1, text="kept")]))["n"] == 1
    ports = {"listen.client": str(node.client_address), "listen.admin": str(node.admin_address)}
    async with Node.open(_config(tmp_path / "data", **ports)) as node, _client(node) as client:
        assert str(node.admin_address) == ports["listen.admin"], "the ports were let go"
        assert (await client.call(wire.Get, "chat", "m", value(1)))["doc"] == {"_id": 1, "text": "kept"}
        assert (await client.call(wire.Insert, "chat", "m", [document(id=2)]))["n"] == 1


async def test_sync_mode_serves_too(tmp_path):
    async with _open(_config(tmp_path, sync_mode="sync")) as node, _client(node) as client:
        ids = [await client.send(wire.Insert, "chat", "m", [document(id=i)]) for i in range(20)]
        for request_id in ids:
            assert isinstance(await client.answer(request_id), wire.Reply)
        db = node.engine.database("chat")
        assert db.log.synced_seq >= db.position.seq - 20


async def test_admin_http_answers_its_four_pages(tmp_path):
    async with _open(_config(tmp_path)) as node, _client(node) as client:
        await client.call(wire.Insert, "chat", "m", [document(id=1)])
        async with httpx.AsyncClient(base_url=f"http://{node.admin_address}") as http:
            assert (await http.get("/livez")).status_code == 200
            assert (await http.get("/readyz")).status_code == 200
            status = (await http.get("/status")).json()
            assert status["role"] == "primary" and status["databases"]["chat"]["position"][1] >= 1
            await node.engine.database("chat").sealing.seal_now()
            for _ in range(3):
                await client.call(wire.Get, "chat", "m", value(1))
            text = (await http.get("/metrics")).text
            assert "twinlog_hot_cache_misses 1.0" in text and "twinlog_hot_cache_hits 2.0" in text
            assert 'twinlog_requests_total{op="insert"} 1.0' in text
            assert 'twinlog_position_seq{db="chat"}' in text
            node.service.stop()
            stopping = await http.get("/readyz")
            assert stopping.status_code == 503 and "stopping" in stopping.text
            assert (await http.get("/nothing")).status_code == 404


async def test_the_lock_names_the_addresses_and_keeps_a_second_node_out(tmp_path):
    config = _config(tmp_path)
    async with _open(config) as node:
        held = json.loads((tmp_path / "lock").read_text())
        assert held == {"client": str(node.client_address), "admin": str(node.admin_address)}
        with pytest.raises(errors.DirectoryInUse):
            async with _open(config):
                pass
    async with _open(config) as node:
        assert json.loads((tmp_path / "lock").read_text())["client"] == str(node.client_address)


@pytest.mark.parametrize("setting", ["listen.client", "listen.admin"])
async def test_a_port_in_use_is_a_config_error_naming_the_setting(tmp_path, setting):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = _config(tmp_path, **{setting: f"127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(errors.ConfigError) as refused:
            async with _open(config):
                pass
    assert refused.value.fields["path"] == setting and "another process" in refused.value.message
    async with _open(_config(tmp_path)):  # nothing was left locked or bound
        pass


async def test_a_host_of_another_machine_is_a_config_error(tmp_path):
    with pytest.raises(errors.ConfigError) as refused:
        async with _open(_config(tmp_path, **{"listen.client": "192.0.2.1:6900", "allow_plain": True})):
            pass
    assert refused.value.fields["path"] == "listen.client"


async def test_a_node_without_admin_http_has_none(tmp_path):
    async with _open(_config(tmp_path, **{"listen.admin": "none"})) as node:
        assert node.admin_address is None
        assert json.loads((tmp_path / "lock").read_text())["admin"] == ""


def _key_file(path: Path) -> wire.Key:
    key = wire.new_key(lambda size: bytes(range(1, size + 1)))
    path.write_text(wire.format_keys((key,)))
    path.chmod(0o600)
    return key


async def test_with_keys_only_who_holds_one_gets_in(tmp_path):
    key = _key_file(tmp_path / "keys")
    async with _open(_config(tmp_path / "data", client_keys=str(tmp_path / "keys"))) as node:
        async with _client(node, key) as client:
            assert (await client.call(wire.Insert, "chat", "m", [document(id=1)]))["n"] == 1
        with pytest.raises(wire.PlainRefused):
            async with _client(node):
                pass
        other = wire.Key(key.id, bytes(32))
        with pytest.raises(wire.WireError):
            async with _client(node, other):
                pass
        with pytest.raises(wire.UnknownKey):
            async with _client(node, wire.Key(b"\x09" * 16, key.psk)):
                pass


async def test_a_key_file_that_everybody_may_read_is_refused(tmp_path):
    _key_file(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o644)
    with pytest.raises(errors.ConfigError) as refused:
        async with _open(_config(tmp_path / "data", client_keys=str(tmp_path / "keys"))):
            pass
    assert refused.value.fields["path"] == "client_keys" and "644" in refused.value.message


async def test_sigterm_ends_serve_in_order(tmp_path):
    config = _config(tmp_path)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            node = await nursery.start(serve, config)
            async with _client(node) as client:
                await client.call(wire.Insert, "chat", "m", [document(id=1)])
                signal.raise_signal(signal.SIGTERM)
                await client.ended()
    async with _open(config) as node:
        assert not any("unclean" in finding for finding in node.engine.database("chat").findings)
        assert node.engine.database("chat").position.seq >= 2


async def test_stopping_lets_a_request_under_way_finish(tmp_path):
    config = _config(tmp_path, **{"limits.stop_timeout_s": 5})
    with trio.fail_after(120):
        async with _opened(config) as (node, stop), _client(node) as client:
            await client.call(wire.Insert, "chat", "m", [document(id=1)])
            db = node.engine.database("chat")
            wanted = [db.visible.epoch, db.visible.seq + 1]
            waiting = await client.send(wire.Get, "chat", "m", value(1), min_position=wanted)
            await client.call(wire.Ping)
            stop.set()
            while not node.service.stopping:
                await trio.lowlevel.checkpoint()
            await storage.operations.insert(db, "m", [bytes(document(id=2))])
            db.flush()
            assert isinstance(await client.answer(waiting), wire.Reply)


@asynccontextmanager
async def _opened(config):
    """A node in a task of its own, and the event that stops it."""
    stop = trio.Event()

    async def run(task_status) -> None:
        async with _open(config) as node:
            task_status.started(node)
            await stop.wait()

    async with trio.open_nursery() as nursery:
        node = await nursery.start(run)
        yield node, stop
        stop.set()


async def test_a_copied_directory_is_a_node_of_its_own_unless_adopted(tmp_path):
    async with _open(_config(tmp_path / "one")) as node, _client(node) as client:
        await client.call(wire.Insert, "chat", "m", [document(id=1)])
    (tmp_path / "two").mkdir()
    original = json.loads((tmp_path / "one" / "node.json").read_text())
    (tmp_path / "two" / "node.json").write_bytes((tmp_path / "one" / "node.json").read_bytes())
    disk = storage.OsDisk(tmp_path / "two")
    assert node_file.is_copy(disk)
    cluster = {
        "cluster": "c", "node": "a", "primary": "a",
        "nodes.a.client": "127.0.0.1:6900", "nodes.a.cluster": "127.0.0.1:6901", "listen.cluster": FREE,
    }  # fmt: skip
    with pytest.raises(errors.ConfigError) as refused:
        async with _open(_config(tmp_path / "two", **cluster)):
            pass
    assert "--adopt" in refused.value.message
    async with _open(_config(tmp_path / "two")) as node:
        assert node.engine.node_id != original["node_id"]
    assert not node_file.is_copy(disk)


async def test_a_newer_node_file_is_refused(tmp_path):
    (tmp_path / "node.json").write_text('{"format": 2, "node_id": "00", "inode": 1}')
    with pytest.raises(errors.NewerFormat):
        async with _open(_config(tmp_path)):
            pass

