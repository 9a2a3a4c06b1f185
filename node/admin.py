"""Admin HTTP: is the node alive, is it ready, where do writes go, what has it counted. Read-only, no secrets; GET and HEAD.

    /livez /readyz /primary /standby /health /cluster    JSON with `ok` and `why`: see health.py, which decides
    /status                                              JSON: the same map as the client port's status
    /metrics                                             Prometheus text

It answers from the moment the ports are bound until the engine is closed. Any other path is 404, any other method 405, both in JSON.
Starlette on hypercorn's protocol, on sockets that the node has bound already, over connections that are counted here: at most
ADMIN_CONNECTIONS_MAX, none silent for longer than KEEP_ALIVE_S or slow to read for longer than SEND_S_MAX (INV-8).
"""

from __future__ import annotations

import logging
import socket

import msgspec
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .health import CHECKS, Answer, answer, livez
from .links import ADMIN_CONNECTIONS_MAX, LinkCount
from .metrics import Metrics
from .vitals import Vitals

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 15.0  # without a request, or in the middle of one
SEND_S_MAX = 5.0  # for a piece of an answer
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATHS = ("/livez", *CHECKS, "/status", "/metrics")
PATH_CHARS_MAX = 80  # of an unknown path, as the answer repeats it


def application(metrics: Metrics, vitals: Vitals) -> Starlette:
    """The routes over one node's vitals and counters."""

    async def show_livez(request: Request) -> Response:
        return _json(livez(vitals.named(), await vitals.pulse.turn()))

    async def show_check(request: Request) -> Response:
        return _json(answer(request.url.path, vitals.seen(), request.query_params.multi_items()))

    async def show_status(request: Request) -> Response:
        seen = vitals.seen()
        if seen.status is None:
            return _json(Answer(503, {"ok": False, "why": f"the node {seen.doing}", "node": seen.node}))
        return _json(Answer(200, seen.status))

    async def show_metrics(request: Request) -> Response:
        return Response(metrics.exposition(), media_type=METRICS_TYPE)

    async def refuse(request: Request, error: Exception) -> Response:
        """A path or method that is not served."""
        assert isinstance(error, HTTPException), "only these are handed here"
        why = f"{request.method} is not served: this port takes GET and HEAD"
        if error.status_code == 404:
            why = f"there is nothing at {request.url.path[:PATH_CHARS_MAX]!r}: {' '.join(PATHS)} are here"
        refusal = _json(Answer(error.status_code, {"ok": False, "why": why}))
        refusal.headers.update(error.headers or {})
        return refusal

    shown = {"/livez": show_livez, "/status": show_status, "/metrics": show_metrics}
    routes = [Route(path, shown.get(path, show_check)) for path in PATHS]
    app = Starlette(routes=routes, exception_handlers={HTTPException: refuse})
    app.router.redirect_slashes = False  # or "/livez/" would be a redirect, which some probers take for success
    return app


def _json(told: Answer) -> Response:
    content = msgspec.json.encode(told.body, enc_hook=str) + b"\n"
    return Response(content, told.code, {"Cache-Control": "no-store"}, media_type="application/json")


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
