"""Slow clients, many in one process: they dial, ask for large answers and never read. `python -m benchmarks.crowd HOST PORT COUNT`.

Standard output, one JSON object a line: {"limit"} descriptors at most, {"opened"} connections once all are dialled, then every
half second {"cut"}, how many of them the node has closed. Ends when its standard input does. A process of its own, so that it has a
limit of descriptors to itself. Receive buffers are small, so that answers wait in the node and not in the kernel.

    of 20 clients   11 ask for one document of 1 MiB again and again, 4 for all of them at once, 2 dial and say nothing,
                    2 finish the opening and say nothing, 1 sends the first MiB of a message of 16 MiB
"""

from __future__ import annotations

import argparse
import json
import resource
import select
import socket
import sys
import time

from msgspec import Raw, msgpack

from node import wire

from .servers import COLLECTION, DB

RECEIVE_BUFFER_BYTES = 4096
REQUESTS = 16  # of each that asks
LARGE_BYTES = 2**20
SPARE_DESCRIPTORS = 64
REPORT_SECONDS = 0.5
GETTING, FINDING, SILENT, IDLE = 11, 15, 17, 19


def frame(message: bytes) -> bytes:
    return len(message).to_bytes(4, "little") + message


def opening() -> bytes:
    return wire.ClientSession(None, wire.PortRole.CLIENT, random_bytes=lambda size: bytes(size)).start()


def scripts() -> list[bytes]:
    """What each kind of client sends, by number modulo 20."""
    key, everything = Raw(msgpack.encode(1)), Raw(msgpack.encode({}))
    gets = b"".join(frame(wire.encode_request(wire.Get(number + 1, DB, COLLECTION, key))) for number in range(REQUESTS))
    finds = b"".join(frame(wire.encode_request(wire.Find(number + 1, DB, COLLECTION, everything))) for number in range(REQUESTS))
    half = (16 * 2**20).to_bytes(4, "little") + bytes(LARGE_BYTES)
    begin = opening()
    kinds = {GETTING: begin + gets, FINDING: begin + finds, SILENT: b"", IDLE: begin, 20: begin + half}
    return [next(script for until, script in kinds.items() if number < until) for number in range(20)]


def raise_limit() -> int:
    """As many descriptors as the machine lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Crowd:
    """The sockets that are open, and what they still have to send."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.cut = 0
        self._address = address
        self._scripts = scripts()
        self._sockets: dict[int, socket.socket] = {}
        self._unsent: dict[int, memoryview] = {}
        self._poll = select.epoll()

    def dial(self, number: int) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.settimeout(60.0)
        sock.connect(self._address)
        sock.setblocking(False)
        descriptor = sock.fileno()
        self._sockets[descriptor] = sock
        self._unsent[descriptor] = memoryview(self._scripts[number % 20])
        self._poll.register(descriptor, select.EPOLLRDHUP | select.EPOLLET)
        self._send(descriptor)

    def _send(self, descriptor: int) -> None:
        try:
            while rest := self._unsent.get(descriptor):
                self._unsent[descriptor] = rest[self._sockets[descriptor].send(rest) :]
        except BlockingIOError:
            self._poll.modify(descriptor, select.EPOLLRDHUP | select.EPOLLOUT | select.EPOLLET)
        except OSError:
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        sock = self._sockets.pop(descriptor, None)
        if sock is not None:
            self.cut += 1
            self._unsent.pop(descriptor, None)
            self._poll.unregister(descriptor)
            sock.close()

    def watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for descriptor, mask in self._poll.poll(left, 1024):
                if mask & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                    self._close(descriptor)
                elif descriptor in self._sockets:
                    self._send(descriptor)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowd", description="Slow clients.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    chosen = parser.parse_args()
    limit = raise_limit()
    say({"limit": limit})
    count = min(chosen.count, limit - SPARE_DESCRIPTORS)
    crowd = Crowd((chosen.host, chosen.port))
    for number in range(count):
        crowd.dial(number)
        if number % 100 == 99:
            crowd.watch(0.001)
    say({"opened": count, "cut": crowd.cut})
    while not select.select([sys.stdin], [], [], 0)[0]:
        crowd.watch(REPORT_SECONDS)
        say({"cut": crowd.cut})
    return 0


def say(row: dict[str, int]) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
