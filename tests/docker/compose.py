"""One compose project under test: its commands, its containers, its faults, and `twinlog` from the host against it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

HEALTHY_SECONDS_MAX = 120
COMMAND_SECONDS_MAX = 180
ASK_SECONDS = 0.5


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


class Compose:
    """The project `name`; every method raises AssertionError with the command's output when it fails."""

    def __init__(self, root: Path, command: list[str], *, project: str, image: str, keys: Path, ports: list[int]) -> None:
        self.root, self.project, self.keys, self.ports = root, project, keys, ports
        self._command = [*command, "-p", project, "-f", str(root / "docker-compose.yml")]
        self._environment = {
            **os.environ, "TWINLOG_IMAGE": image, "TWINLOG_KEYS": str(keys),
            "TWINLOG_KEY_GROUP": str(os.getgid()),
            "TWINLOG_PORT_A": str(ports[0]), "TWINLOG_PORT_B": str(ports[1]),
        }  # fmt: skip

    @property
    def url(self) -> str:
        return f"twinlog://127.0.0.1:{self.ports[0]},127.0.0.1:{self.ports[1]}/shop?key={self.keys / 'client.key'}"

    def url_of(self, node: str) -> str:
        """Only this node, and it may answer reads whatever its role."""
        port = self.ports["ab".index(node)]
        return f"twinlog://127.0.0.1:{port}/shop?key={self.keys / 'client.key'}&read=any"

    def make_keys(self) -> None:
        self.twinlog("keygen", "--group", str(self.keys / "client.key"), str(self.keys / "cluster.key"))

    def run(self, *words: str) -> str:
        done = subprocess.run([*self._command, *words], env=self._environment, cwd=self.root, capture_output=True, text=True,
                              timeout=COMMAND_SECONDS_MAX)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def twinlog(self, *words: str, code: int = 0, stdin: str | None = None) -> str:
        """`twinlog WORDS...` on the host, as an operator would; it must end with this exit code."""
        done = subprocess.run([sys.executable, "-m", "ops.main", *words], cwd=self.root, capture_output=True, text=True,
                              input=stdin, timeout=COMMAND_SECONDS_MAX, env={**os.environ, "TWINLOG_URL": self.url})
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def container(self, node: str) -> str:
        return self.run("ps", "-q", node).strip()

    def inspect(self, node: str, template: str) -> str:
        return docker("inspect", "-f", template, self.container(node)).strip()

    def logs(self) -> str:
        done = subprocess.run([*self._command, "logs", "--tail", "40"], env=self._environment, cwd=self.root, capture_output=True,
                              text=True, timeout=COMMAND_SECONDS_MAX)
        return f"\n--- logs\n{done.stdout}{done.stderr}"

    def crash(self, node: str) -> None:
        """kill -9 from outside, which the restart policy takes for a crash (`docker kill` it would not).

        A container that sees the host's processes may signal those of its own user: no root is needed.
        """
        pid = self.inspect(node, "{{.State.Pid}}")
        docker("run", "--rm", "--pid=host", "--entrypoint=/bin/sh", self._environment["TWINLOG_IMAGE"], "-c", f"kill -9 {pid}")

    def repl(self, node: str, *, connected: bool) -> None:
        """Cuts or heals this node's replication network; its clients stay connected."""
        network = f"{self.project}_repl"
        if connected:
            docker("network", "connect", "--alias", node, network, self.container(node))
        else:
            docker("network", "disconnect", network, self.container(node))

    def wait_healthy(self, *nodes: str) -> None:
        self.wait(lambda: [node for node in nodes if self.inspect(node, "{{.State.Health.Status}}") != "healthy"],
                  "not healthy")

    def wait_equal(self) -> dict:
        """Until `twinlog status` is content; its JSON."""
        shown: dict = {}

        def problems() -> list[str]:
            done = subprocess.run([sys.executable, "-m", "ops.main", "status", "--json"], cwd=self.root, capture_output=True,
                                  text=True, env={**os.environ, "TWINLOG_URL": self.url}, timeout=COMMAND_SECONDS_MAX)
            assert done.returncode != 4, f"two copies differ: {done.stdout}{self.logs()}"
            if done.returncode == 0:
                shown.update(json.loads(done.stdout))
                return []
            return [done.stdout + done.stderr]

        self.wait(problems, "not well")
        return shown

    def wait(self, what_is_missing, complaint: str) -> None:
        """Asks until nothing is missing; containers tell their state only to those who ask."""
        deadline = time.monotonic() + HEALTHY_SECONDS_MAX
        while missing := what_is_missing():
            assert time.monotonic() < deadline, f"{complaint} after {HEALTHY_SECONDS_MAX} s: {missing}{self.logs()}"
            time.sleep(ASK_SECONDS)


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
    assert done.returncode == 0, f"docker {words}: {done.stdout}{done.stderr}"
    return done.stdout
