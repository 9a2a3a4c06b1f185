"""Admin HTTP: is the node alive, is it ready, what does it look like, what has it counted. Read-only, no secrets.

    GET /livez     200 while the process answers
    GET /readyz    200 when requests are taken, 503 with the reason when not
    GET /status    JSON: the same map as the client port's status
    GET /metrics   Prometheus text

Starlette on hypercorn's trio worker, on a socket that the node has bound already.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .metrics import Metrics

KEEP_ALIVE_S = 15.0
GRACE_S = 1.0
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
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; the listening sockets are closed then."""
    config = Config()
    config.bind = [f"fd://{os.dup(listener.fileno())}" for listener in listeners]
    config.errorlog = None
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.graceful_timeout = GRACE_S
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, app, config)
            task_status.started()
    finally:
        for listener in listeners:
            listener.close()
