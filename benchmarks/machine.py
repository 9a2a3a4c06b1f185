"""What a run was measured on and with: processor, load, file system, versions. Reads the system, changes nothing."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

from .chosen import CHOSEN
from .processes import ServerFailed, find_program


def describe(workplace: Path) -> dict[str, str]:
    """Label to text, for the head of a report. The load average tells how far the figures may be trusted."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {_memory()}, {platform.machine()}, Linux {platform.release()}",
        "load average at the start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "file system": _file_system(workplace),
        "Python of the runner": platform.python_version(),
        **_server(),
        "Redis": _first_line("redis-server", "--version"),
        "PostgreSQL": _first_line("postgres", "--version"),
        "Twinlog": _commit(),
    }


def _server() -> dict[str, str]:
    """Python and kernel as Twinlog's server will find them. Raises ServerFailed when that interpreter cannot run it."""
    ask = "import platform, storage.native as n; print(platform.python_version(), getattr(n.KERNEL, '__file__', ''), sep='\\n')"
    chosen = CHOSEN.get()
    done = subprocess.run([chosen.python, "-c", ask], capture_output=True, text=True, env=chosen.environment())
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise ServerFailed(f"{chosen.python} cannot run Twinlog: {words[-1]}")
    version, _, kernel = done.stdout.rstrip("\n").partition("\n")
    return {"Python of Twinlog's server": version, "native kernel": kernel_text(kernel, pure=chosen.pure)}


def kernel_text(file: str, *, pure: bool) -> str:
    """Of the loaded kernel's file, empty for none. An editable install offers its own checkout's to one that has built none."""
    if not file:
        return "off (--pure)" if pure else "not built for this Python; pure Python runs"
    here = Path(__file__).resolve().parent.parent
    return "in use" if Path(file).resolve().is_relative_to(here) else "in use, but that of another checkout: build it here"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _file_system(workplace: Path) -> str:
    """The mount with the longest matching name."""
    target = str(workplace.resolve())
    found = ("", "unknown", "")
    for line in Path("/proc/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        if (target + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(found[0]):
            found = (mount, kind, device)
    return f"{found[1]} on {found[2]}"


def _first_line(program: str, option: str) -> str:
    path = find_program(program)
    if path is None:
        return "not installed"
    return subprocess.run([path, option], capture_output=True, text=True).stdout.strip().split("\n")[0]


def _commit() -> str:
    """The checkout's commit, and whether files differ from it."""
    here = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""

    commit = git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return "not a checkout"
    changed = git("status", "--porcelain", "--", "twinlog", "storage", "replication", "node", "ops")
    return commit + (" and changes" if changed else "")
