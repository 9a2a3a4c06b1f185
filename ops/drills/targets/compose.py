"""The pair of docker-compose.yml, under a project, ports, keys and volumes of its own, taken away afterwards.

    kill    docker kill -s KILL: the restart policy takes it for a stop by hand, so the container stays down until it is started
    freeze  docker pause                          cut   docker network disconnect from `repl`: clients stay connected
    fill    /data is a tmpfs of DISK_MB           mute  iptables in the network namespace of the one that shall be deaf; needs root

TWINLOG_IMAGE and BASE_IMAGE mean what they mean to docker-compose.yml; an image that is not there is built. TWINLOG_COMPOSE names the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import trio
import yaml

from ops.drills.relay import HOST
from ops.drills.scenarios import Act
from ops.keyfiles import MODE_GROUP_READS, write_key_file

from .local import BALLAST, CHECKOUT, DISK_MB, free_ports
from .process import COMMAND_SECONDS_MAX, run
from .protocol import NotHere, Settings

NODES = ("a", "b")
COMPOSE_FILE = CHECKOUT / "docker-compose.yml"
CLUSTER_FILE = CHECKOUT / "ops" / "compose" / "cluster.yaml"
COMMANDS = (("docker", "compose"), ("docker-compose",))
BUILD_SECONDS_MAX = 1200.0
ATTEMPTS_MAX = 10
AGAIN_S = 0.5
CONTAINER_USER = 10001


class ComposeTarget:
    """Two containers. faults: those that the drill will need, so that it is refused before anything is begun."""

    name = "compose"
    nodes = NODES

    def __init__(self, settings: Settings, faults: frozenset[Act]) -> None:
        self.settings = settings
        self._faults = faults
        self._project = f"twinlog-drill-{os.getpid()}"
        self._directory = Path()
        self._ports: dict[str, int] = {}
        self._containers: dict[str, str] = {}
        self._deaf: list[tuple[str, ...]] = []  # the rules to take away again
        self._stack = ExitStack()

    async def __aenter__(self) -> ComposeTarget:
        self._check_possible()
        with ExitStack() as stack:
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinlog-drill-")))
            self._ports = dict(zip(NODES, free_ports(len(NODES))))
            self._prepare()
            stack.callback(self._take_away)
            await self._compose("up", "-d", "--no-build" if _image_is_there() else "--build", limit_s=BUILD_SECONDS_MAX)
            for node in NODES:
                self._containers[node] = (await self._compose("ps", "-q", node)).strip()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()

    def url(self) -> str:
        return self._url(*NODES)

    def addresses(self) -> Mapping[str, tuple[str, str]]:
        return {node: (self._url(node), f"{HOST}:{self._ports[node]}") for node in NODES}

    async def apply(self, act: Act, node: str, peer: str) -> str:
        container = self._containers[node]
        if act is Act.MUTE:
            return await self._deafen(peer, node)
        if act is Act.HEAL:
            return await self._heal(node)
        commands: dict[Act, tuple[str, ...]] = {
            Act.KILL: ("docker", "kill", "-s", "KILL", container),
            Act.START: ("docker", "start", container),
            Act.FREEZE: ("docker", "pause", container),
            Act.THAW: ("docker", "unpause", container),
            Act.CUT: ("docker", "network", "disconnect", self._network, container),
            Act.FILL: ("docker", "exec", container, "sh", "-c", f"cat /dev/zero > /data/{BALLAST} || true"),
            Act.FREE: ("docker", "exec", container, "rm", f"/data/{BALLAST}"),
        }
        await (_run_again if act is Act.FREEZE else run)(commands[act])
        return " ".join(commands[act]).replace(container, node)

    async def salvaged(self, node: str) -> tuple[str, ...]:
        told = await run(("docker", "exec", self._containers[node], "sh", "-c", "cd /data && ls -1 -d */salvage/* 2> /dev/null || true"))
        return tuple(sorted(told.split()))

    async def keep_logs(self, directory: Path) -> None:
        for node, container in self._containers.items():
            with (directory / f"{node}.log").open("wb") as log:
                await trio.run_process(["docker", "logs", container], stdout=log, stderr=log, check=False)

    # The project.

    def _check_possible(self) -> None:
        if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True).returncode:
            raise NotHere("drills on compose need a Docker engine that answers `docker version`")
        for file in (COMPOSE_FILE, CLUSTER_FILE):
            if not file.is_file():
                raise NotHere(f"drills on compose need the checkout: {file.name} is not beside this program")
        if Act.MUTE in self._faults and (os.geteuid() != 0 or not shutil.which("nsenter") or not shutil.which("iptables")):
            raise NotHere("packets that vanish one way between containers need root, nsenter and iptables; --target local needs none of them")

    def _prepare(self) -> None:
        """Keys, cluster.yaml with the drill's settings, and what lies over docker-compose.yml."""
        for name in ("client.key", "cluster.key"):
            write_key_file(self._directory / name, mode=MODE_GROUP_READS)
        cluster = self._directory / "cluster.yaml"
        cluster.write_text(CLUSTER_FILE.read_text() + yaml.safe_dump(self.settings.as_plain()))
        cluster.chmod(0o644)
        over: dict[str, object] = {"services": {node: {"volumes": [f"{cluster}:/etc/twinlog/cluster.yaml:ro"]} for node in NODES}}
        if Act.FILL in self._faults:
            options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={DISK_MB}m,uid={CONTAINER_USER},gid={CONTAINER_USER},mode=700"}
            over["volumes"] = {f"data_{node}": {"driver": "local", "driver_opts": options} for node in NODES}
        (self._directory / "drill.yml").write_text(yaml.safe_dump(over))

    def _take_away(self) -> None:
        subprocess.run([*self._command(), "down", "-v", "--remove-orphans", "-t", "5"], env=self._environment(), capture_output=True,
                       timeout=COMMAND_SECONDS_MAX)

    async def _compose(self, *words: str, limit_s: float = COMMAND_SECONDS_MAX) -> str:
        return await run((*self._command(), *words), limit_s=limit_s, environment=self._environment())

    def _command(self) -> list[str]:
        named = os.environ.get("TWINLOG_COMPOSE")
        commands = [tuple(named.split())] if named else COMMANDS
        for command in commands:
            if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
                return [*command, "-p", self._project, "-f", str(COMPOSE_FILE), "-f", str(self._directory / "drill.yml")]
        raise NotHere(f"drills on compose need one of: {', '.join(' '.join(command) for command in commands)}")

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ, "TWINLOG_KEYS": str(self._directory), "TWINLOG_KEY_GROUP": str(os.getgid()),
            "TWINLOG_PORT_A": str(self._ports["a"]), "TWINLOG_PORT_B": str(self._ports["b"]),
        }  # fmt: skip

    def _url(self, *nodes: str) -> str:
        hosts = ",".join(f"{HOST}:{self._ports[node]}" for node in nodes)
        return f"twinlog://{hosts}/?key={self._directory / 'client.key'}"

    # The link.

    @property
    def _network(self) -> str:
        return f"{self._project}_repl"

    async def _deafen(self, receiver: str, sender: str) -> str:
        """What comes from the sender's address on the common network is dropped where the receiver hears."""
        address = (await self._inspect(sender, f'{{{{(index .NetworkSettings.Networks "{self._network}").IPAddress}}}}')).strip()
        pid = (await self._inspect(receiver, "{{.State.Pid}}")).strip()
        rule = ("INPUT", "-s", address, "-j", "DROP")
        enter = ("nsenter", "-t", pid, "-n", "iptables")
        await run((*enter, "-A", *rule))
        self._deaf.append((*enter, "-D", *rule))
        return f"{receiver} drops what comes from {sender} ({address})"

    async def _heal(self, node: str) -> str:
        if self._deaf:
            for command in self._deaf:
                await run(command)
            self._deaf.clear()
            return "nothing is dropped any more"
        await run(("docker", "network", "connect", "--alias", node, self._network, self._containers[node]))
        return "docker network connect"

    async def _inspect(self, node: str, template: str) -> str:
        return await run(("docker", "inspect", "-f", template, self._containers[node]))


async def _run_again(command: tuple[str, ...]) -> str:
    """`docker pause` fails now and then on a busy machine ("unable to freeze"), with nothing changed."""
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return await run(command)
        except OSError:
            await trio.sleep(AGAIN_S)
    return await run(command)


def _image_is_there() -> bool:
    image = os.environ.get("TWINLOG_IMAGE", "twinlog:local")
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0
