"""Three hundred clients that read nothing: memory is bounded, who reads is served, who does not is cut. A real node over real sockets."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack

import trio
from msgspec import Raw

import storage
from node import wire
from node.config import load
from node.server import Node

from .fakes import BareClient, document, value

CLIENTS = 300
KIB = 1024
DOCUMENTS, DOCUMENT_BYTES = 8, 128 * KIB
TOTAL_BYTES = 16 * KIB * KIB
CONNECTION_BYTES = 256 * KIB


def _framed(*requests: wire.Request) -> bytes:
    return b"".join(struct.pack("<I", len(data)) + data for data in map(wire.encode_request, requests))


def _script(number: int) -> bytes:
    """Gets, finds, half a message, or nothing after the opening."""
    begin = wire.ClientSession(None, wire.PortRole.CLIENT, random_bytes=bytes).start()
    kind = number % 10
    if kind < 6:
        return begin + _framed(*(wire.Get(request + 1, "chat", "m", value(1)) for request in range(16)))
    if kind < 8:
        return begin + _framed(*(wire.Find(request + 1, "chat", "m", Raw(b"\x80")) for request in range(16)))
    return begin + (struct.pack("<I", 16 * KIB * KIB) + bytes(64 * KIB) if kind == 8 else b"")


async def _dial(address, number: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
    sock.setblocking(False)
    seen = trio.socket.from_stdlib_socket(sock)
    await seen.connect(tuple(address))
    sock.send(_script(number))
    return sock


async def test_slow_clients_cost_bounded_memory_and_nobody_else_their_answers(tmp_path):
    chosen = {
        "connections_max": CLIENTS + 10, "total_buffer_bytes": TOTAL_BYTES, "connection_buffer_bytes": CONNECTION_BYTES,
        "slow_client_timeout_s": 1, "requests_max": 10_000,
    }  # fmt: skip
    config = load(
        None, {"data": str(tmp_path), "listen.client": "127.0.0.1:0", "listen.admin": "none", **{f"limits.{k}": v for k, v in chosen.items()}}
    )
    async with Node.open(config, seams=storage.real_seams(config.data)) as node:
        most = 0
        with ExitStack() as sockets, trio.fail_after(60):
            async with await trio.open_tcp_stream(*node.client_address) as stream:
                fast = await BareClient(stream).open()
                text = "x" * DOCUMENT_BYTES
                await fast.call(wire.Insert, "chat", "m", [document(id=number, text=text) for number in range(DOCUMENTS)])
                await fast.call(wire.Insert, "chat", "small", [document(id=1)])
                for listener in node._hub._listeners.values():  # the sockets it accepts take this over
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * KIB)
                for number in range(CLIENTS):
                    sockets.callback((await _dial(node.client_address, number)).close)
                    most = max(most, node._hub.buffered_bytes)
                for _ in range(200):
                    assert (await fast.call(wire.Get, "chat", "small", value(1)))["doc"] == {"_id": 1}
                    most = max(most, node._hub.buffered_bytes)
                closed = node.metrics.closed
                while closed["total_buffer_bytes"] + closed["slow_client_timeout_s"] < CLIENTS // 4:
                    await fast.call(wire.Ping)
                    most = max(most, node._hub.buffered_bytes)
        assert TOTAL_BYTES // 2 < most < 3 * TOTAL_BYTES
        assert node.metrics.bounds["total_buffer_bytes"]
