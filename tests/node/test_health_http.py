"""Health checks over real sockets: a node from its start to its end, a loop that is stuck, and what a prober may send wrong."""

from __future__ import annotations

import base64
import json
import select
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio

import storage
from node import admin, wire
from node.config import load
from node.health import CHECKS
from node.section import Address
from node.server import Node

from .fakes import BareClient, document
from .test_pair import _client, _free_ports, pair  # noqa: F401 - a fixture

FREE = "127.0.0.1:0"


def _open(directory: Path, **overrides):
    config = load(None, {"data": str(directory), "listen.client": FREE, "listen.admin": FREE, **overrides})
    return Node.open(config, seams=storage.real_seams(config.data))


def _http(address: Address) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{address}", timeout=30)


async def _raw(address: Address, request: bytes) -> tuple[bytes, bytes]:
    """What a plain prober gets: head and body of the answer, until the node closes the connection."""
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(request)
        got = b""
        while data := await stream.receive_some():
            got += data
    head, _, body = got.partition(b"\r\n\r\n")
    return head, body


async def test_every_path_answers_get_and_head_alike(tmp_path):
    async with _open(tmp_path) as node, _http(node.admin_address) as http:
        for path in admin.PATHS:
            got, headed = await http.get(path), await http.head(path)
            assert got.status_code == headed.status_code == (503 if path == "/standby" else 200), path
            assert headed.content == b"" and got.content
            if path not in ("/status", "/metrics", "/livez"):  # what these say changes from one moment to the next
                assert headed.headers["content-length"] == got.headers["content-length"] == str(len(got.content))
            assert headed.headers["content-type"] == got.headers["content-type"]
            if path in CHECKS or path == "/livez":
                told = got.json()
                assert got.headers["content-type"] == "application/json" and got.headers["cache-control"] == "no-store"
                assert told["ok"] is (got.status_code == 200) and {"why", "node", "role", "phase", "epoch"} <= told.keys()
        assert (await http.get("/primary")).json()["phase"] == "primary"
        shown = (await http.get("/status")).json()
        assert shown["phase"] == "primary" and shown["ready"] is True and shown["why_not_ready"] == ""


async def test_what_is_not_served_is_refused_in_json(tmp_path):
    async with _open(tmp_path) as node, _http(node.admin_address) as http:
        for path in ("/", "/livez/", "/primary/x", "/LIVEZ", "/" + "x" * 3000):
            refused = await http.get(path)
            assert refused.status_code == 404 and "/readyz" in refused.json()["why"] and len(refused.content) < 500
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            for path in ("/readyz", "/metrics"):
                refused = await http.request(method, path, content=b"x" * 100)
                assert refused.status_code == 405 and method in refused.json()["why"] and "GET" in refused.headers["allow"]
        for query in ("lag=", "lag=5", "lag=5x&", "lag=1s&lag=2s", "late=1s"):
            told = await http.get(f"/readyz?{query}")
            assert told.status_code == (200 if query == "lag=5" else 400), query
        assert "lag is a whole number" in (await http.get("/standby?lag=soon")).json()["why"]
        assert (await http.get("/primary?lag=1s")).status_code == 400


async def test_probers_that_speak_http_1_0_and_name_no_host_are_answered(tmp_path):
    """HAProxy's httpchk asks so."""
    async with _open(tmp_path) as node:
        head, body = await _raw(node.admin_address, b"GET /primary HTTP/1.0\r\n\r\n")
        assert head.split(b"\r\n")[0].split()[1] == b"200" and json.loads(body)["ok"]
        head, body = await _raw(node.admin_address, b"HEAD /standby HTTP/1.0\r\n\r\n")
        assert head.split(b"\r\n")[0].split()[1] == b"503" and body == b""


async def test_from_the_first_moment_to_the_last_the_node_says_where_it_is(tmp_path, monkeypatch):
    """The engine's opening and closing are held up while the admin port is asked."""
    begun, go_on = [trio.Event(), trio.Event()], [trio.Event(), trio.Event()]
    engine_open = storage.Engine.open

    class Slow:
        def __init__(self, opened) -> None:
            self._opened = opened

        async def __aenter__(self):
            begun[0].set()
            await go_on[0].wait()
            return await self._opened.__aenter__()

        async def __aexit__(self, *error):
            begun[1].set()
            with trio.CancelScope(shield=True):
                await go_on[1].wait()
            return await self._opened.__aexit__(*error)

    monkeypatch.setattr(storage.Engine, "open", lambda *args, **named: Slow(engine_open(*args, **named)))
    (port,) = _free_ports(1)
    address, stop, up = Address("127.0.0.1", port), trio.Event(), trio.Event()

    async def run() -> None:
        async with _open(tmp_path, **{"listen.admin": str(address)}):
            up.set()
            await stop.wait()

    async def asked(*paths: str) -> list[tuple[int, str]]:
        async with _http(address) as http:
            answers = [await http.get(path) for path in paths]
        return [(one.status_code, one.json()["why"]) for one in answers]

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            try:
                await begun[0].wait()
                starting = "the node is starting: its databases are being opened"
                assert await asked("/livez", "/readyz", "/primary", "/status") == [(200, ""), *[(503, starting)] * 3]
                async with _http(address) as http:
                    assert "twinlog_ready 0.0" in (await http.get("/metrics")).text
                go_on[0].set()
                await up.wait()
                assert await asked("/livez", "/readyz", "/primary") == [(200, "")] * 3
                stop.set()
                await begun[1].wait()
                stopping = "the node is stopping: its databases are being closed"
                assert await asked("/livez", "/readyz", "/primary") == [(200, ""), (503, stopping), (503, stopping)]
            finally:
                for event in go_on:
                    event.set()


async def test_an_error_of_the_start_comes_out_as_it_is_though_the_admin_port_runs_already(tmp_path):
    (tmp_path / "role.json").write_text('{"format": 99}')
    with pytest.raises(BaseExceptionGroup) as raised:
        async with _open(tmp_path):
            pass
    assert raised.group_contains(storage.NewerFormat)


async def test_livez_is_silent_while_the_loop_is_stuck_and_tells_of_it_afterwards(tmp_path):
    """The loop is held by this test, which asks from outside of it, by blocking calls."""
    async with _open(tmp_path) as node, _http(node.admin_address) as http:
        assert (await http.get("/livez")).json()["loop_late_s"] < 60, "the port is up: its start is over"
        with socket.create_connection(tuple(node.admin_address)) as prober:
            prober.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert select.select([prober], [], [], 1.5)[0] == [], "a loop that does not turn answers nothing"
            answered = b""
            with trio.fail_after(60):
                while b"loop_late_s" not in answered:
                    await trio.lowlevel.wait_readable(prober)
                    answered += prober.recv(4096)
        assert b" 200 " in answered.split(b"\r\n")[0] + b" "
        assert json.loads(answered.partition(b"\r\n\r\n")[2])["loop_late_s"] >= 0.9, "1.5 s, less what was left of a beat"
        metrics = (await http.get("/metrics")).text
        (late,) = (line.split()[1] for line in metrics.splitlines() if line.startswith("twinlog_loop_late_seconds "))
        assert float(late) >= 0.9


async def test_livez_does_not_care_for_a_failed_disk_but_readyz_does(tmp_path):
    async with _open(tmp_path) as node, _http(node.admin_address) as http:
        async with await trio.open_tcp_stream(*node.client_address) as stream:
            await (await BareClient(stream).open()).call(wire.Insert, "chat", "m", [document(id=1)])
        db = node.engine.database("chat")
        db.space.failure = storage.DiskFailed("fdatasync failed: I/O error")
        assert (await http.get("/livez")).status_code == 200
        told = await http.get("/readyz")
        assert told.status_code == 503 and "chat: " in told.json()["why"] and told.json()["phase"] == "failed"
        shown = (await http.get("/status")).json()
        assert shown["ready"] is False and shown["why_not_ready"] == told.json()["why"]
        assert 'twinlog_phase{phase="failed"} 1.0' in (await http.get("/metrics")).text
        db.space.failure = None
        assert (await http.get("/readyz")).status_code == 200


async def test_a_stopping_node_is_not_ready(tmp_path):
    async with _open(tmp_path) as node, _http(node.admin_address) as http:
        node.service.stop()
        for path in ("/readyz", "/primary", "/health"):
            told = await http.get(path)
            assert told.status_code == 503 and told.json()["why"] == "the node is stopping"
        assert (await http.get("/livez")).status_code == 200


async def test_a_pair_says_which_end_is_which_and_nothing_secret(pair):  # noqa: F811 - the fixture
    pair = {name: replace(config, listen=replace(config.listen, admin=Address("127.0.0.1", 0))) for name, config in pair.items()}
    with trio.fail_after(60):
        async with Node.open(pair["a"]) as a, Node.open(pair["b"]) as b, _client(a) as writer:
            await writer.call(wire.Insert, "chat", "m", [document(id=1, text="do not tell")])
            async with _http(a.admin_address) as at_a, _http(b.admin_address) as at_b:
                while (await at_b.get("/standby?lag=0c")).status_code != 200:  # noqa: ASYNC110 - the other node decides when
                    await trio.sleep(0.02)
                assert (await at_a.get("/primary")).status_code == 200 and (await at_b.get("/primary")).status_code == 503
                assert (await at_a.get("/standby")).status_code == 503
                ready = (await at_b.get("/readyz?lag=10s")).json()
                assert ready["ok"] and ready["lag"]["commits"] == 0 and ready["phase"] == "standby"
                assert (await at_a.get("/cluster")).json()["primaries"] == ["a"] == (await at_b.get("/cluster")).json()["primaries"]
                for http in (at_a, at_b):
                    for path in admin.PATHS:
                        told = (await http.get(path)).content
                        for secret in _secrets():
                            assert secret not in told, path
                        assert b"do not tell" not in told
                metrics = (await at_b.get("/metrics")).text
                assert 'twinlog_lag_commits{db="chat"} 0.0' in metrics and 'twinlog_role{role="standby"} 1.0' in metrics
                assert 'twinlog_standby_phase{phase="standby",standby="b"} 1.0' in (await at_a.get("/metrics")).text


def _secrets() -> list[bytes]:
    """The fixture's keys, in the forms in which one could come out."""
    keys = [bytes(range(1, 33)), bytes(range(100, 132))]
    return [form for key in keys for form in (key, key.hex().encode(), base64.b64encode(key).rstrip(b"="))]
