"""Servers as child processes: started on free loopback ports, measured by their CPU time, stopped by their own pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .chosen import CHOSEN

START_SECONDS_MAX = 600.0  # PostgreSQL replays all its log after a kill, Redis reads all of its file
STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.005
LOG_TAIL_BYTES = 1500
TICKS = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server did not start or did not stop; the end of its log is in the text."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """One child process with a directory of its own. `command` may be changed between a stop and a start."""

    stop_signal = signal.SIGTERM

    def __init__(self, name: str, directory: Path, command: list[str], *, user: str | None = None) -> None:
        self.name = name
        self.directory = directory
        self.command = command
        self._user = user
        self._log = directory.parent / f"{directory.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], object]) -> None:
        """Until ready() raises no OSError any more."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, user=self._user,
                group=self._user, extra_groups=[] if self._user else None, start_new_session=True,
                env=CHOSEN.get().environment(),
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            if self._process.poll() is not None:
                raise ServerFailed(f"{self.name} ended while starting:\n{self.log_tail()}")
            try:
                ready()
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    self.stop()
                    raise ServerFailed(f"{self.name} was not ready in time ({error}):\n{self.log_tail()}") from error
            time.sleep(POLL_SECONDS)

    def stop(self, how: signal.Signals | None = None) -> None:
        """Does nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how or self.stop_signal)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise ServerFailed(f"{self.name} did not stop and was killed:\n{self.log_tail()}") from error

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Of the process, its living children and the children it has waited for."""
        return sum(_cpu_seconds(pid) for pid in descendants(self.pid))

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_TAIL_BYTES:]


def drop_page_cache() -> None:
    """What is clean goes from memory, all over the machine; hence the sync before. Takes root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


def _stat(pid: int) -> list[str]:
    """What stands behind the command's name; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


def descendants(pid: int) -> list[int]:
    """The process and everything below it."""
    parents = {int(name): _stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    found = [pid]
    for member in found:
        found += [child for child, fields in parents.items() if fields and int(fields[1]) == member]
    return found


def find_program(*names: str) -> str | None:
    """On the path, or where Debian keeps PostgreSQL's."""
    for name in names:
        if found := shutil.which(name):
            return found
        for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
            if (directory / name).is_file():
                return str(directory / name)
    return None
