"""A process that writes spooled requests at a steady rate, until it is told to stop or they are used up.

    python -m benchmarks.chat.writer KIND HOST PORT RATE BATCH FILE...

KIND: frames (Twinlog) or copy (PostgreSQL). RATE: messages a second, BATCH of them a request. Each request has a time at which it is due; one that
is late goes out at once, so that the rate is kept as far as the server keeps up. One connection, one request outstanding. Prints "writing" when it begins and
one JSON object when SIGTERM ends it: messages, seconds, p50_ms and p99_ms of the requests from when they were due, spent (whether the files were used up).
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.generator import dial_twinlog
from benchmarks.whole import read_frame

from . import spool
from .statements import Statements
from .stores import check_inserted

Send = Callable[[bytes], None]


def sender(kind: str, address: tuple[str, int]) -> Send:
    if kind == spool.COPY:
        return Statements(address).copy
    line = dial_twinlog(address, None)
    line.sock.settimeout(None)

    def send(request: bytes) -> None:
        line.sock.sendall(request)
        check_inserted(read_frame(line.sock))

    return send


def paced(requests: Iterator[bytes], send: Send, every: float, stopped: list[int]) -> tuple[list[float], bool]:
    """Milliseconds of each request, and whether there were no more."""
    found: list[float] = []
    due = time.monotonic()
    for request in requests:
        due += every
        time.sleep(max(0.0, due - time.monotonic()))
        if stopped:
            return found, False
        send(request)
        found.append((time.monotonic() - due) * 1000)
    return found, True


def main() -> None:
    kind, host, port, rate, batch, *names = sys.argv[1:]
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    send = sender(kind, (host, int(port)))
    paths = [Path(name) for name in names]
    requests = spool.frames_in(paths) if kind == spool.FRAMES else spool.copies_in(paths)
    print("writing", flush=True)
    began = time.monotonic()
    ms, spent = paced(requests, send, int(batch) / float(rate), stopped)
    seconds = time.monotonic() - began
    p50, p99 = np.percentile(ms or [0.0], [50, 99]).tolist()
    print(json.dumps({"messages": len(ms) * int(batch), "seconds": seconds, "p50_ms": p50, "p99_ms": p99, "spent": spent}))


if __name__ == "__main__":
    main()
