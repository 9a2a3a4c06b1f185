"""Real node processes on this machine, in a directory that is theirs alone, encrypted with keys made for them.

    DIR/a.yaml  b.yaml    each node dials its peer through the relay, so that links fail without root
    DIR/a  DIR/b          data; for drills with a full disk a tmpfs of DISK_MB, which needs root
    DIR/a.log  b.log

Signals go to processes that were started here, and to their process groups: no pid is ever looked up.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from pathlib import Path

import trio
import yaml

from ops.drills.relay import HOST, Relay
from ops.drills.scenarios import Act
from ops.keyfiles import write_key_file

from .protocol import NotHere, Settings

NODES = ("a", "b")
CHECKOUT = Path(__file__).resolve().parents[3]
STOP_SECONDS_MAX = 20.0
DISK_MB = 96
FILL_BYTES = 2**22
BALLAST = "ballast"
STOPPED = "T"  # the kernel's letter for a process that SIGSTOP has reached
LOOK_S = 0.005


class LocalTarget:
    """Two processes. needs_disk: node a's data lies on a file system that can be filled."""

    name = "local"
    nodes = NODES

    def __init__(self, settings: Settings, *, needs_disk: bool = False) -> None:
        self.settings = settings
        self._needs_disk = needs_disk
        self._directory = Path()
        self._ports: dict[str, tuple[int, int]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._relay = Relay()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> LocalTarget:
        if self._needs_disk and (os.geteuid() != 0 or not shutil.which("mount")):
            raise NotHere("a full disk on this machine needs a small file system, and mounting one needs root: run it as root, or use another target")
        async with AsyncExitStack() as stack:
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinlog-drill-", ignore_cleanup_errors=True)))
            if self._needs_disk:
                stack.enter_context(_small_disk(self._directory / NODES[0]))
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            stack.callback(self._stop_all)
            await self._prepare()
            await nursery.start(self._relay.run)
            for node in NODES:
                self._start(node)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def url(self) -> str:
        return self._url(*NODES)

    def addresses(self) -> Mapping[str, tuple[str, str]]:
        return {node: (self._url(node), self._client_address(node)) for node in NODES}

    async def apply(self, act: Act, node: str, peer: str) -> str:
        deeds: dict[Act, Callable[[], str]] = {
            Act.KILL: partial(self._kill, node),
            Act.START: partial(self._start, node),
            Act.CUT: partial(self._vanish, (node, peer), (peer, node)),
            Act.MUTE: partial(self._vanish, (node, peer)),
            Act.HEAL: self._heal,
        }
        if act is Act.FILL:
            return await _fill(self._directory / node / BALLAST)
        if act is Act.FREE:
            (self._directory / node / BALLAST).unlink()
            return f"removed {BALLAST}"
        if act in (Act.FREEZE, Act.THAW):
            return await self._stop_or_go(node, stop=act is Act.FREEZE)
        return deeds[act]()

    async def salvaged(self, node: str) -> tuple[str, ...]:
        directory = self._directory / node
        return tuple(sorted(str(path.relative_to(directory)) for path in directory.glob("*/salvage/*")))

    async def keep_logs(self, directory: Path) -> None:
        for node in NODES:
            shutil.copyfile(self._log_file(node), directory / f"{node}.log")

    # What the directory holds.

    async def _prepare(self) -> None:
        for name in ("client.key", "cluster.key"):
            write_key_file(self._directory / name)
        ports = free_ports(2 * len(NODES))
        self._ports = {node: (ports[2 * place], ports[2 * place + 1]) for place, node in enumerate(NODES)}
        for node in NODES:
            (self._directory / node).mkdir(exist_ok=True)
            (self._directory / f"{node}.yaml").write_text(yaml.safe_dump(await self._configuration(node)))

    async def _configuration(self, node: str) -> dict[str, object]:
        """As this node reads it: its peer is where the relay listens."""
        nodes = {}
        for other in NODES:
            client, cluster = self._ports[other]
            port = cluster if other == node else await self._relay.listen(node, other, cluster)
            nodes[other] = {"client": f"{HOST}:{client}", "cluster": f"{HOST}:{port}"}
        return {
            "cluster": "drill", "primary": NODES[0], "nodes": nodes, "client_keys": "client.key", "cluster_key": "cluster.key",
            "listen": {"admin": "none"}, **self.settings.as_plain(),
        }  # fmt: skip

    def _client_address(self, node: str) -> str:
        return f"{HOST}:{self._ports[node][0]}"

    def _url(self, *nodes: str) -> str:
        hosts = ",".join(self._client_address(node) for node in nodes)
        return f"twinlog://{hosts}/?key={self._directory / 'client.key'}"

    def _log_file(self, node: str) -> Path:
        return self._directory / f"{node}.log"

    # Processes.

    def _start(self, node: str) -> str:
        command = [sys.executable, "-m", "ops.main", "serve", "--config", str(self._directory / f"{node}.yaml"), "--node", node,
                   "--data", str(self._directory / node)]
        with self._log_file(node).open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=CHECKOUT, start_new_session=True)
        self._processes[node] = process
        return f"started, pid {process.pid}"

    def _kill(self, node: str) -> str:
        process = self._processes[node]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS_MAX)
        return f"SIGKILL to pid {process.pid}, gone"

    async def _stop_or_go(self, node: str, *, stop: bool) -> str:
        """SIGSTOP or SIGCONT, and wait until the kernel shows it."""
        process = self._processes[node]
        number = signal.SIGSTOP if stop else signal.SIGCONT
        os.killpg(process.pid, number)
        with trio.fail_after(STOP_SECONDS_MAX):
            while True:
                if (_state_of(process.pid) == STOPPED) is stop:
                    break
                await trio.sleep(LOOK_S)
        return f"{number.name} to pid {process.pid}, state {_state_of(process.pid)}"

    def _stop_all(self) -> None:
        """The drill is over and has read what it wanted: nothing is left to be stopped in order."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):  # ended before
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_SECONDS_MAX)

    # Links.

    def _vanish(self, *directions: tuple[str, str]) -> str:
        self._relay.vanish(*directions)
        return "nothing arrives " + " and ".join(f"from {sender} at {receiver}" for sender, receiver in directions)

    def _heal(self) -> str:
        self._relay.heal()
        return "packets arrive again, both ways"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for listener in bound:
            listener.bind((HOST, 0))
        return [int(listener.getsockname()[1]) for listener in bound]


def _state_of(pid: int) -> str:
    """The kernel's letter for a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _small_disk(mount: Path) -> ExitStack:
    """A tmpfs of DISK_MB, until the stack is closed. Raises NotHere."""
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "twinlog-drill", str(mount)], capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"a full disk on this machine needs a small file system, and mounting one failed: {done.stderr.strip()}")
    stack = ExitStack()
    stack.callback(subprocess.run, ["umount", "--lazy", str(mount)], check=True)
    return stack


async def _fill(ballast: Path) -> str:
    """A file that takes everything, down to the last byte."""
    written = 0
    with ballast.open("ab", buffering=0) as file:
        for size in (FILL_BYTES, 4096, 1):
            with suppress(OSError):  # full for this size
                while True:
                    written += file.write(b"b" * size)
                    await trio.lowlevel.checkpoint()
    return f"{written} bytes of {BALLAST} until the disk was full"
