"""The admin port's own bounds: connections, silence, and clients that read nothing."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from node import admin, links
from node.section import Address

LARGE = "x" * (32 * 2**20)  # more than the kernel takes


async def _large(request: Request) -> PlainTextResponse:
    return PlainTextResponse(LARGE)


@asynccontextmanager
async def _port(**bounds: Any):
    app = Starlette(routes=[Route("/large", _large)])
    listeners = await links.bind(Address("127.0.0.1", 0), "listen.admin")
    address, held = links.bound_address(listeners), links.LinkCount()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: admin.run(app, listeners, held=held, **bounds))
        with trio.fail_after(120):
            yield address, held
        nursery.cancel_scope.cancel()


async def _until(condition) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


async def test_connections_over_the_bound_are_closed_and_silent_ones_end():
    async with _port(connections_max=3, keep_alive_s=0.2) as (address, held), AsyncExitStack() as streams:

        async def dial() -> trio.SocketStream:
            return await streams.enter_async_context(await trio.open_tcp_stream(*address))

        silent = [await dial() for _ in range(2)]
        half = await dial()
        await half.send_all(b"GET /large HT")
        await _until(lambda: held.links == 3)
        assert await (await dial()).receive_some() == b"", "closed at once"
        for stream in (*silent, half):
            while await stream.receive_some():
                pass
        await _until(lambda: not held.links)
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://{address}/large")).text == LARGE


async def test_a_client_that_reads_nothing_holds_its_connection_for_a_bounded_time():
    async with _port(send_s_max=0.1) as (address, held), await trio.open_tcp_stream(*address) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await stream.send_all(b"GET /large HTTP/1.1\r\nHost: node\r\n\r\n")
        await _until(lambda: held.links == 1)
        await _until(lambda: not held.links)
