"""A primary and a standby as two background processes on this machine, below one directory.

    DIR/cluster.yaml   made once: names, addresses, key files; yours to edit after that
    DIR/keys/          client.key and cluster.key, readable by their owner only
    DIR/a  DIR/b       data directories
    DIR/a.log  b.log   what the nodes print
    DIR/pair.json      the URL for clients, and each node's pid with the process's start time
    DIR/lock           held while `up` or `down` is at work, so that two of them take turns

Knows processes and files. Does not know what a healthy pair is: the caller passes a probe. A pid counts as ours only
while its start time is the recorded one, so `down` never signals a stranger who inherited the number.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from .exit_codes import ExitCode
from .keyfiles import write_key_file
from .refusal import Refusal
from .target import PAIR_FILE

NODES = ("a", "b")
PORTS_USUAL = (6900, 6901, 6902, 6910, 6911, 6912)  # client, cluster, admin of each node
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.1
LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Running:
    """One started process. `started` is the kernel's start time in ticks since boot; 0 if it ended at once."""

    pid: int
    started: int

    def alive(self) -> bool:
        return self.started != 0 and started_at(self.pid) == self.started


class LocalPair:
    """The pair below one directory; use it inside `opened`, which holds the directory's lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config_file = directory / "cluster.yaml"
        self.state_file = directory / PAIR_FILE
        self.client_key = directory / "keys" / "client.key"
        self.running: dict[str, Running] = {}
        if self.state_file.is_file():
            state = json.loads(self.state_file.read_text())
            self.running = {name: Running(**process) for name, process in state["processes"].items()}

    def prepare(self, settings: dict[str, object] | None = None) -> None:
        """Makes keys and configuration, the first time only. settings: of its nodes, beside what a pair needs."""
        (self.directory / "keys").mkdir(mode=0o700, exist_ok=True)
        for key_file in (self.client_key, self.directory / "keys" / "cluster.key"):
            if not key_file.exists():
                write_key_file(key_file)
        if not self.config_file.exists():
            self.config_file.write_text(_cluster_yaml(choose_ports()) + (yaml.safe_dump(settings) if settings else ""))
        elif settings:
            raise Refusal(f"{self.config_file} is there already: change {', '.join(settings)} in it while the pair is down")

    def addresses(self) -> dict[str, str]:
        """Each node's client address, as the configuration has it."""
        nodes = yaml.safe_load(self.config_file.read_text())["nodes"]
        return {name: nodes[name]["client"] for name in NODES}

    def url(self) -> str:
        return f"twinlog://{','.join(self.addresses().values())}/?key={self.client_key}"

    def log_file(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def alive(self) -> list[str]:
        return [name for name in NODES if name in self.running and self.running[name].alive()]

    def start_missing(self) -> list[str]:
        """Starts the nodes that do not run; returns their names."""
        already = self.alive()
        missing = [name for name in NODES if name not in already]
        for name in missing:
            self.running[name] = self._start(name)
            self._remember()
        self._remember()
        return missing

    def wait_ready(self, probe: Callable[[], str | None]) -> None:
        """Asks until the probe has nothing left to wait for (it returns None, else what is missing)."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while (missing := probe()) is not None:
            gone = [name for name in NODES if name not in self.alive()]
            if gone:
                raise Refusal(f"node {gone[0]} stopped while starting; the end of {self.log_file(gone[0])}:\n"
                              f"{self._log_tail(gone[0])}")
            if time.monotonic() > deadline:
                raise Refusal(f"the pair is not ready after {START_SECONDS_MAX:.0f} s: {missing}; "
                              f"see {self.log_file('a')} and {self.log_file('b')}", ExitCode.UNREACHABLE)
            time.sleep(POLL_SECONDS)

    def stop(self) -> list[str]:
        """Ends the recorded processes and no others, standby first; returns the names of those that were running."""
        stopped = [name for name in reversed(NODES) if name in self.alive()]
        for name in stopped:
            _terminate(self.running[name])
        self.running = {}
        self._remember()
        return stopped

    def _start(self, name: str) -> Running:
        command = [sys.executable, "-m", "ops.main", "serve", "--config", str(self.config_file), "--node", name,
                   "--data", str(self.directory / name)]
        with self.log_file(name).open("ab") as log:
            # The packages may be a checkout that is not installed: the parent of ops/ is where -m finds them.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       cwd=Path(__file__).resolve().parent.parent, start_new_session=True)
        return Running(process.pid, started_at(process.pid))

    def _remember(self) -> None:
        state = {"url": self.url(), "processes": {name: asdict(process) for name, process in self.running.items()}}
        fresh = self.state_file.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=2) + "\n")
        fresh.replace(self.state_file)

    def _log_tail(self, name: str) -> str:
        lines = self.log_file(name).read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])


@contextmanager
def opened(directory: Path) -> Iterator[LocalPair]:
    """The pair of this directory, with its lock held."""
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield LocalPair(directory)


def choose_ports() -> list[int]:
    """The usual ports if all are free on loopback, else six that the kernel picks."""
    try:
        return _bind_all(PORTS_USUAL)
    except OSError:
        return _bind_all((0,) * len(PORTS_USUAL))


def started_at(pid: int) -> int:
    """The start time of a live process in ticks since boot; 0 when there is none (or it is a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()  # the command name may hold spaces and brackets
    return 0 if fields[0] in "ZX" else int(fields[19])


def _bind_all(ports: tuple[int, ...]) -> list[int]:
    with ExitStack() as sockets:
        bound = []
        for port in ports:
            listener = sockets.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            bound.append(listener.getsockname()[1])
        return bound


def _terminate(process: Running) -> None:
    os.kill(process.pid, signal.SIGTERM)
    if not wait_gone(process):
        os.kill(process.pid, signal.SIGKILL)
        raise Refusal(f"pid {process.pid} did not end within {STOP_SECONDS_MAX:.0f} s of SIGTERM and was killed; "
                      f"its data is safe (the log recovers), but the reason is worth a look in its log")


def wait_gone(process: Running) -> bool:
    """Whether the process ended within STOP_SECONDS_MAX; a zombie has ended."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while process.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _cluster_yaml(ports: list[int]) -> str:
    hosts = [f"127.0.0.1:{port}" for port in ports]
    return (
        "# A primary and a standby on one machine, written by `twinlog up`. Edit it while the pair is down.\n"
        "cluster: local-pair\n"
        "primary: a\n"
        "nodes:\n"
        f"  a: {{client: '{hosts[0]}', cluster: '{hosts[1]}', admin: '{hosts[2]}'}}\n"
        f"  b: {{client: '{hosts[3]}', cluster: '{hosts[4]}', admin: '{hosts[5]}'}}\n"
        "client_keys: keys/client.key\n"
        "cluster_key: keys/cluster.key\n"
    )
