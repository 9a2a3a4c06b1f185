"""A real file system of 64 MB on a loop device, a real node on it, writers that never stop, and a reader that must always be answered.

Writers insert numbered documents in batches and remember every number that was acknowledged, and every refusal by its class. Needs root
and a loop device; without them the tests are skipped and say why, or fail with TWINLOG_REQUIRE_LOOP=1.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import twinlog
from twinlog.errors import BulkWriteError, TwinlogError

ROOT = Path(__file__).resolve().parents[2]
SIZE_MB = 64
BATCH = 20
WAIT_S = 60
DB, COLLECTION = "drill", "numbers"


def leave_out(reason: str) -> None:
    if os.environ.get("TWINLOG_REQUIRE_LOOP") == "1":
        pytest.fail(f"loop mounts are required here, but {reason}", pytrace=False)
    pytest.skip(reason)


@contextmanager
def mounted(directory: Path) -> Iterator[Path]:
    """An empty ext4 of SIZE_MB."""
    if os.geteuid() != 0:
        leave_out("mounting a loop device needs root")
    if not shutil.which("mkfs.ext4") or not shutil.which("mount"):
        leave_out("mkfs.ext4 or mount is not installed")
    image, mount = directory / "disk.img", directory / "disk"
    with image.open("wb") as file:
        file.truncate(SIZE_MB * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
    mount.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(mount)], capture_output=True, text=True)
    if done.returncode:
        leave_out(f"loop mounts are not possible here: {done.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def remount(mount: Path, mode: str) -> None:
    """Once those who had files open for writing are gone: a killed node's workers need a moment to notice."""
    for _ in range(200):
        done = subprocess.run(["mount", "-o", f"remount,{mode}", str(mount)], capture_output=True, text=True)
        if done.returncode == 0:
            return
        threading.Event().wait(0.1)
    raise AssertionError(done.stderr)


def fill(path: Path) -> None:
    """A file that takes everything down to the last byte."""
    with path.open("ab", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    file.write(b"b" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error


class Node:
    """A node process on one directory; its log is kept from every life."""

    def __init__(self, data: Path, log: Path, *flags: str) -> None:
        self.data, self.log, self.flags = data, log, flags
        self._process: subprocess.Popen | None = None
        self.url = ""

    def start(self, *more: str, descriptors: int = 0) -> None:
        """Up, at the port of its first life. descriptors: its hard limit of them."""
        address = self.url.removeprefix("twinlog://").removesuffix("/") or "127.0.0.1:0"
        limited = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "limited"] if descriptors else []
        command = [*limited, sys.executable, "-m", "ops.main", "serve", "--client", address, "--admin", "none"]
        self._process = subprocess.Popen(
            [*command, "--data", str(self.data), *self.flags, *more], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        up = threading.Event()
        threading.Thread(target=self._keep_log, args=(self._process, up), daemon=True).start()
        assert up.wait(WAIT_S) and self.is_alive, self.said()

    def _keep_log(self, process: subprocess.Popen, up: threading.Event) -> None:
        with self.log.open("a") as kept:
            for line in process.stderr:
                kept.write(line)
                kept.flush()
                if found := re.search(r"serves clients on (\S+)", line):
                    self.url = f"twinlog://{found[1]}/"
                    up.set()
        up.set()

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(WAIT_S) == 0, self.said()

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def status(self) -> dict:
        with twinlog.connect(self.url) as client:
            return client.status(self.url.removeprefix("twinlog://").removesuffix("/"))


class Load:
    """Two writers and a reader."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.acknowledged: set[int] = set()
        self.refusals: Counter[str] = Counter()
        self.reads = 0
        self.unread: list[str] = []
        self.expects_reads = True
        self._progress = threading.Condition()
        self._stop = threading.Event()
        work = [lambda first=first: self._write(first) for first in (0, BATCH)] + [self._read]
        self._threads = [threading.Thread(target=step, daemon=True) for step in work]
        for thread in self._threads:
            thread.start()

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self._progress:
            assert self._progress.wait_for(what, WAIT_S), (self.refusals, len(self.acknowledged), self.reads, self._node.said()[-3000:])

    @property
    def refused(self) -> int:
        """Writes refused by name for the full disk; after a restart its database may be read-only for that reason."""
        return self.refusals["DiskFull"] + self.refusals["ReadOnly"]

    def wait_for_refusals(self, count: int) -> None:
        wanted, reads = self.refused + count, self.reads + count
        self.wait_for(lambda: self.refused >= wanted and self.reads >= reads)

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        self.wait_for(lambda: len(self.acknowledged) >= wanted)

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _tell(self) -> None:
        with self._progress:
            self._progress.notify_all()

    def _write(self, first: int) -> None:
        rng = random.Random(first)
        with twinlog.connect(self._node.url, retry_s=0.5) as client:
            collection, number = client[DB][COLLECTION], first
            while not self._stop.is_set():
                numbers = list(range(number, number + BATCH))
                try:
                    collection.insert_many([{"_id": n, "n": n, "pad": rng.randbytes(400).hex()} for n in numbers], ordered=False)
                except BulkWriteError as error:
                    if {row["code"] for row in error.details["writeErrors"]} != {11000}:
                        self.refusals[repr(error.details["writeErrors"][:1])] += 1
                        continue
                except TwinlogError as error:
                    self.refusals[error.details.get("name", type(error).__name__)] += 1
                    self._tell()
                    self._stop.wait(0.02)
                    continue
                number += 2 * BATCH
                self.acknowledged.update(numbers)
                self._tell()

    def _read(self) -> None:
        rng = random.Random(7)
        with twinlog.connect(self._node.url, retry_s=0.5) as client:
            while not self._stop.is_set():
                known = list(self.acknowledged)
                if not known:
                    self._stop.wait(0.01)
                    continue
                number = rng.choice(known)
                try:
                    found = client[DB][COLLECTION].find_one({"_id": number})
                    if found is None or found["n"] != number:
                        self.unread.append(f"{number}: {found}")
                except TwinlogError as error:
                    if self.expects_reads:
                        self.unread.append(f"{number}: {error}")
                self.reads += 1
                self._tell()
