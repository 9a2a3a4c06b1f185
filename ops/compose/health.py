#!/usr/bin/env python3
"""The container's health check: asks the node's admin port whether the node is ready. Standard library only, and little of it, for speed.

It asks GET /readyz at the admin address that the node itself has written into its data directory's `lock`, at 127.0.0.1:6902 while
nothing stands there. A node whose admin port is off is asked for a connection on its client port. TWINLOG_HEALTH_URL asks elsewhere, or for
more: http://127.0.0.1:6902/readyz?lag=10MB. A standby that waits for its primary is healthy, and so is a fenced node: both are read.

Exit code 0: ready, 1: not; the reason is printed, and Docker keeps it.
"""

import json
import os
import socket
import sys

DATA_DEFAULT = "/data"
URL_DEFAULT = "http://127.0.0.1:6902/readyz"
TIMEOUT_SECONDS = 2.5
ANSWER_BYTES_MAX = 65_536
SHOWN_BYTES_MAX = 500


def main() -> int:
    url = os.environ.get("TWINLOG_HEALTH_URL", "")
    client = ""
    if not url:
        url, client = where_to_ask(os.environ.get("TWINLOG_DATA", DATA_DEFAULT))
    try:
        if client:
            socket.create_connection(host_and_port(client), TIMEOUT_SECONDS).close()
            print(f"{client} takes connections (admin HTTP is off)")
            return 0
        code, body = ask(url)
    except (OSError, ValueError) as error:
        print(f"{client or url}: {error}")
        return 1
    print(f"{code}: {body}")
    return 0 if code == 200 else 1


def where_to_ask(data: str) -> tuple[str, str]:
    """The URL to ask, and in its place the client address of a node without admin HTTP."""
    try:
        with open(os.path.join(data, "lock"), encoding="utf-8") as file:
            told = json.load(file)
        admin, client = str(told["admin"]), str(told["client"])
    except (OSError, ValueError, KeyError, TypeError):  # it has not got that far yet
        return URL_DEFAULT, ""
    return (f"http://{admin}/readyz", "") if admin else ("", client)


def ask(url: str) -> tuple[int, str]:
    """Raises OSError or ValueError."""
    scheme, _, rest = url.partition("://")
    address, _, path = rest.partition("/")
    if scheme != "http" or not address:
        raise ValueError("write http://HOST:PORT/PATH")
    answer = b""
    with socket.create_connection(host_and_port(address), TIMEOUT_SECONDS) as asked:
        asked.settimeout(TIMEOUT_SECONDS)
        asked.sendall(f"GET /{path or 'readyz'} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        while len(answer) < ANSWER_BYTES_MAX and (data := asked.recv(ANSWER_BYTES_MAX)):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError(f"that is no HTTP answer: {answer[:60]!r}")
    return int(words[1]), body[:SHOWN_BYTES_MAX].decode(errors="replace").strip()


def host_and_port(address: str) -> tuple[str, int]:
    """Of an address as the node listens on it: every address of this machine stands for its loopback."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host), int(port or 80)


if __name__ == "__main__":
    sys.exit(main())
