"""Clusters of real Twinlog processes on loopback, whose nodes may be killed and started again one by one.

Links between nodes may lead through a proxy that counts what goes over them. Client ports are plain, and so are links.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

import twinlog
from twinlog.errors import TwinlogError

from .processes import Server, ServerFailed, free_port
from .servers import DB, TwinlogServer

WAIT_SECONDS_MAX = 600.0
POLL_SECONDS = 0.02
RELAY_BYTES = 256 * 2**10


class Node(TwinlogServer):
    """One node of a cluster, with a configuration file of its own."""

    def __init__(self, directory: Path, name: str, config_file: Path, port: int) -> None:
        super().__init__(directory)
        self.node = name
        self.address = ("127.0.0.1", port)
        at = self.command.index("--data")
        self.command = [*self.command[: at + 2], "--config", str(config_file), "--node", name, "--log-level", "warning"]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.address[1]}"

    def start(self) -> None:
        Server.start(self, lambda: self.plain().sock.close())

    def url(self, *, secure: bool = True) -> str:
        return f"twinlog://{self.host}/?key="

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


class Relay:
    """Passes connections on to another port of this machine and counts the bytes of both directions."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.bytes = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(RELAY_BYTES):
                self.bytes += len(data)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Cluster:
    """nodes: by name; the first is the primary at first."""

    def __init__(self, nodes: dict[str, Node], relays: list[Relay]) -> None:
        self.nodes = nodes
        self._relays = relays
        self.primary = next(iter(nodes))

    @property
    def url(self) -> str:
        return f"twinlog://{','.join(node.host for node in self.nodes.values())}/?key="

    @property
    def link_bytes(self) -> int:
        """What went over the links between nodes so far; 0 without relays."""
        return sum(relay.bytes for relay in self._relays)

    def status(self, name: str) -> dict[str, Any]:
        with self.nodes[name].connect(retry_s=5) as client:
            return client.status(self.nodes[name].host)

    def wait_whole(self) -> None:
        """Until every other node streams from the primary and lacks nothing."""
        wait_for(f"all follow {self.primary}", lambda: _is_whole(self.status(self.primary), len(self.nodes) - 1))

    def compare(self) -> list[str]:
        """The differences that a MARK on the primary showed between its copies; none when all are equal."""
        with self.nodes[self.primary].connect() as client:
            databases = client.status(self.nodes[self.primary].host, mark=True)["databases"]
        return [name for name, told in databases.items() if told["mark"]["equal"] is not True]

    def stop(self) -> None:
        for node in self.nodes.values():
            with suppress(ServerFailed):
                node.stop()
        for relay in self._relays:
            relay.close()


def _is_whole(status: dict[str, Any], standbys: int) -> bool:
    rows = status["standbys"]
    return sum(bool(row["connected"] and row["streaming"] and row["lag_commits"] == 0) for row in rows) == standbys and DB in status["databases"]


def wait_for(what: str, is_so: Callable[[], bool]) -> float:
    """The seconds until it was. Raises ServerFailed."""
    began = time.monotonic()
    while True:
        with suppress(TwinlogError):
            if is_so():
                return time.monotonic() - began
        if time.monotonic() - began > WAIT_SECONDS_MAX:
            raise ServerFailed(f"Twinlog: waited {WAIT_SECONDS_MAX:.0f} s in vain until {what}")
        time.sleep(POLL_SECONDS)


@contextmanager
def cluster(directory: Path, names: str, *, relayed: bool = False, **settings: object) -> Iterator[Cluster]:
    """Started one after the other, the primary first; stopped at the end."""
    ports = {name: (free_port(), free_port()) for name in names}
    relays: list[Relay] = []
    nodes: dict[str, Node] = {}
    for name in names:
        addresses = {}
        for other, (client, link) in ports.items():
            if relayed and other != name:
                relays.append(Relay(link))
                link = relays[-1].port
            addresses[other] = {"client": f"127.0.0.1:{client}", "cluster": f"127.0.0.1:{link}"}
        config = {"cluster": "benchmark", "primary": names[0], "listen": {"admin": "none"}, "nodes": addresses, **settings}
        file = directory / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        nodes[name] = Node(directory / name, name, file, ports[name][0])
    made = Cluster(nodes, relays)
    try:
        for node in nodes.values():
            node.start()
        with twinlog.connect(made.url, retry_s=30) as client:
            client.create_database(DB)
        made.wait_whole()
        yield made
    finally:
        made.stop()
