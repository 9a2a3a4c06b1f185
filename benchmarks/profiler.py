"""py-spy beside one turn of a contender: where the server's time goes, as a flame graph. The turn is not counted.

Knows py-spy's command line and the server's pid; not what the turn does.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .generator import Unavailable
from .processes import find_program

SAMPLES_PER_SECOND = 250
ATTACH_SECONDS = 1.0
WRITE_SECONDS_MAX = 60.0


def file_for(directory: Path, *names: str) -> Path:
    """Of the case, the measure and the contender, as one file name."""
    return directory / (re.sub(r"[^a-z0-9]+", "-", " ".join(names).lower()).strip("-") + ".svg")


def program() -> str:
    """py-spy of this environment, or the path's. Raises Unavailable."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.is_file() else find_program("py-spy")
    if found is None:
        raise Unavailable("no profile: py-spy is missing (pip install py-spy)")
    return found


@contextmanager
def recording(pid: int, target: Path) -> Iterator[None]:
    """The process and its children, until the end of the block. Raises Unavailable when py-spy may not look."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [program(), "record", "--pid", str(pid), "--subprocesses", "--rate", str(SAMPLES_PER_SECOND), "--output", str(target)]
    spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(ATTACH_SECONDS)  # it reads the interpreter's symbols before the first sample
        if spy.poll() is not None:
            assert spy.stderr is not None
            raise Unavailable(f"no profile: {spy.stderr.read().strip()[-300:]}")
        yield
    finally:
        if spy.poll() is None:
            spy.send_signal(signal.SIGINT)
            try:
                spy.wait(WRITE_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                spy.kill()
                spy.wait()
