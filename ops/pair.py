"""A primary and its standbys as background processes on this machine, below one directory. Two nodes are a pair; there may be more.

    DIR/cluster.yaml   made once: names, addresses, key files; yours to edit after that
    DIR/keys/          client.key and cluster.key, readable by their owner only
    DIR/a  DIR/b ...   data directories
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

STANDBYS_MAX = 15
PORTS_USUAL = (6900, 6901, 6902, 6910, 6911, 6912)  # client, cluster, admin of each node of a pair; more nodes go on from there by tens
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

    def prepare(self, settings: dict[str, object] | None = None, *, standbys: int | None = None, delay_s: int | None = None) -> None:
        """Makes keys and configuration, the first time only. settings: of its nodes, beside what a pair needs. standbys: how many, 1 unless
        told; delay_s: one more, which stays so far behind."""
        (self.directory / "keys").mkdir(mode=0o700, exist_ok=True)
        for key_file in (self.client_key, self.directory / "keys" / "cluster.key"):
            if not key_file.exists():
                write_key_file(key_file)
        if not self.config_file.exists():
            names = names_of(1 + (standbys or 1) + (1 if delay_s else 0))
            text = _cluster_yaml(names, choose_ports(len(names)), delay_s or 0)
            self.config_file.write_text(text + (yaml.safe_dump(settings) if settings else ""))
            return
        delays = [node["delay_s"] for node in self._nodes().values() if node.get("delay_s")]
        has = {"standbys": len(self.names) - len(delays) - 1, "delay_s": delays[0] if delays else None}
        asked = {"standbys": standbys, "delay_s": delay_s, **(settings or {})}
        if changed := [name for name, value in asked.items() if value is not None and value != has.get(name)]:
            raise Refusal(f"{self.config_file} is there already: change {', '.join(changed)} in it while its nodes are down")

    def _nodes(self) -> dict[str, dict]:
        """As the configuration has them; none before there is one."""
        return yaml.safe_load(self.config_file.read_text())["nodes"] if self.config_file.exists() else {}

    @property
    def names(self) -> list[str]:
        return list(self._nodes())

    def addresses(self) -> dict[str, str]:
        """Each node's client address."""
        return {name: node["client"] for name, node in self._nodes().items()}

    def url(self) -> str:
        return f"twinlog://{','.join(self.addresses().values())}/?key={self.client_key}"

    def log_file(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def alive(self) -> list[str]:
        return [name for name in self.running if self.running[name].alive()]

    def start_missing(self) -> list[str]:
        """Starts the nodes that do not run; returns their names."""
        already = self.alive()
        missing = [name for name in self.names if name not in already]
        for name in missing:
            self.running[name] = self._start(name)
            self._remember()
        self._remember()
        return missing

    def wait_ready(self, probe: Callable[[], str | None]) -> None:
        """Asks until the probe has nothing left to wait for (it returns None, else what is missing)."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while (missing := probe()) is not None:
            gone = [name for name in self.names if name not in self.alive()]
            if gone:
                raise Refusal(f"node {gone[0]} stopped while starting; the end of {self.log_file(gone[0])}:\n"
                              f"{self._log_tail(gone[0])}")
            if time.monotonic() > deadline:
                logs = " and ".join(str(self.log_file(name)) for name in self.names)
                raise Refusal(f"the nodes are not ready after {START_SECONDS_MAX:.0f} s: {missing}; see {logs}", ExitCode.UNREACHABLE)
            time.sleep(POLL_SECONDS)

    def stop(self) -> list[str]:
        """Ends the recorded processes and no others, the last node first; returns the names of those that were running."""
        stopped = sorted(self.alive(), reverse=True)
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


def names_of(count: int) -> list[str]:
    """a, b, c ..."""
    return [chr(ord("a") + number) for number in range(count)]


def choose_ports(nodes: int = 2) -> list[int]:
    """Three for each node: the usual ones if all are free on loopback, else such that the kernel picks."""
    usual = [*PORTS_USUAL]
    while len(usual) < 3 * nodes:
        usual.append(usual[-3] + 10 if usual[-3] else 0)
    try:
        return _bind_all(tuple(usual[: 3 * nodes]))
    except OSError:
        return _bind_all((0,) * (3 * nodes))


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


def _cluster_yaml(names: list[str], ports: list[int], delay_s: int) -> str:
    """delay_s: of the last node; 0 for no delayed standby."""
    hosts = [f"127.0.0.1:{port}" for port in ports]
    delays = ["" for _ in names[1:]] + [f", delay_s: {delay_s}" if delay_s else ""]
    rows = [
        f"  {name}: {{client: '{hosts[3 * at]}', cluster: '{hosts[3 * at + 1]}', admin: '{hosts[3 * at + 2]}'{delays[at]}}}\n"
        for at, name in enumerate(names)
    ]
    return (
        "# A primary and its standbys on one machine, written by `twinlog up`. Edit it while they are down.\n"
        "cluster: local-pair\n"
        "primary: a\n"
        "nodes:\n"
        f"{''.join(rows)}"
        "client_keys: keys/client.key\n"
        "cluster_key: keys/cluster.key\n"
    )
