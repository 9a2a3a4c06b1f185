"""Admin HTTP: is the node alive, is it ready, what does it look like, what has it counted. Read-only, no secrets.

    GET /livez     200 while the process answers
    GET /readyz    200 when requests are taken, 503 with the reason when not
    GET /status    JSON: the same map as the client port's status
    GET /metrics   Prometheus text

Starlette on hypercorn's protocol, on sockets that the node has bound already, over connections that are counted here: at most
ADMIN_CONNECTIONS_MAX, none silent for longer than KEEP_ALIVE_S or slow to read for longer than SEND_S_MAX (INV-8).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .links import ADMIN_CONNECTIONS_MAX, LinkCount
from .metrics import Metrics

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 15.0  # without a request, or in the middle of one
SEND_S_MAX = 5.0  # for a piece of an answer
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def application(
    metrics: Metrics, status: Callable[[], dict[str, Any]], not_ready: Callable[[], str | None]
) -> Starlette:
    """status: the node's view of itself; not_ready: why requests are not taken, or None."""

    async def livez(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        reason = not_ready()
        return PlainTextResponse("ok\n") if reason is None else PlainTextResponse(f"{reason}\n", status_code=503)

    async def show_status(request: Request) -> Response:
        return Response(msgspec.json.encode(status(), enc_hook=str), media_type="application/json")

    async def show_metrics(request: Request) -> Response:
        return Response(metrics.exposition(), media_type=METRICS_TYPE)

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/status", show_status),
            Route("/metrics", show_metrics),
        ]
    )


async def run(
    app: Starlette,
    listeners: list[socket.socket],
    *,
    held: LinkCount | None = None,
    connections_max: int = ADMIN_CONNECTIONS_MAX,
    keep_alive_s: float = KEEP_ALIVE_S,
    send_s_max: float = SEND_S_MAX,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; the listening sockets are closed then. Over connections_max, a connection is closed at once."""
    config = Config()
    config.errorlog = None
    config.keep_alive_timeout = config.read_timeout = keep_alive_s
    count, wrapped, context = held or LinkCount(), ASGIWrapper(app), WorkerContext(None)

    async def handle(stream: trio.SocketStream) -> None:
        if count.links >= connections_max:
            log.warning("admin HTTP: a connection is closed at once, %d are open", count.links)
            await trio.aclose_forcefully(stream)
            return
        count.links += 1
        try:
            with trio.CancelScope() as scope:
                bounded = _BoundedStream(stream, send_s_max, scope)
                await TCPServer(wrapped, config, context, ConnectionState({}), bounded).run()
        except Exception:
            log.exception("admin HTTP: serving a connection met a bug; it is closed")
        finally:
            count.links -= 1
            await trio.aclose_forcefully(stream)

    streams = [trio.SocketListener(trio.socket.from_stdlib_socket(listener)) for listener in listeners]
    try:
        await trio.serve_listeners(handle, streams, task_status=task_status)
    finally:
        for listener in listeners:
            listener.close()


class _BoundedStream:
    """A stream that whoever reads nothing from it does not hold for long: hypercorn's own sending waits without end."""

    def __init__(self, stream: trio.SocketStream, send_s_max: float, scope: trio.CancelScope) -> None:
        self._stream = stream
        self._send_s_max = send_s_max
        self._scope = scope
        self.socket = stream.socket

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(self._send_s_max) as sending:
            await self._stream.send_all(data)
        if sending.cancelled_caught:
            self._scope.cancel()  # or the rest of this connection would go on until keep_alive_s is over
            raise trio.BrokenResourceError("the other end takes nothing")

    async def receive_some(self, bytes_max: int | None = None) -> bytes:
        return await self._stream.receive_some(bytes_max)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
