"""Contract row A9 with real processes: a directory is copied by cp, rsync and tar while a process writes to it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import twinlog

WRITER = """
import itertools, sys, twinlog
with twinlog.open(sys.argv[1], sync_mode=sys.argv[2], memtable_records_max=300, log_segment_bytes=200_000, seal_age_s=1.0) as client:
    things = client["db"]["things"]
    for number in itertools.count():
        things.insert_one({"_id": number, "k": number % 10, "pad": "x" * (number * 31 % 400)})
        print(number, flush=True)
        if number == 500:
            things.count_documents({"k": 3})
"""
ROUNDS_BEFORE = 900
SLOW_S = 0.02


class Writing:
    """A process that inserts 0, 1, 2, ... and says each number once it is acknowledged."""

    def __init__(self, directory: Path, mode: str) -> None:
        self._said = directory.with_suffix(".said")
        with self._said.open("wb") as output:
            self._process = subprocess.Popen([sys.executable, "-c", WRITER, str(directory), mode], stdout=output)

    def acknowledged(self) -> int:
        """How many documents were, by whole lines."""
        return self._said.read_bytes().count(b"\n")

    def wait_for(self, count: int) -> None:
        until = time.monotonic() + 60
        while self.acknowledged() < count:
            assert self._process.poll() is None, "the writer ended"
            assert time.monotonic() < until, f"{self.acknowledged()} writes in a minute"
            time.sleep(0.01)  # another process is waited for

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def by_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", str(source), str(target)], check=False, capture_output=True)


def by_tar(source: Path, target: Path) -> None:
    target.mkdir()
    packed = subprocess.run(["tar", "-C", str(source), "-cf", "-", "."], check=False, capture_output=True)
    subprocess.run(["tar", "-C", str(target), "-xf", "-"], input=packed.stdout, check=True)


def by_rsync(source: Path, target: Path) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("there is no rsync on this machine")
    subprocess.run(["rsync", "-a", f"{source}/", str(target)], check=False, capture_output=True)


def _slowly(source: Path, target: Path, first: str, last: str) -> None:
    """File after file, with a pause between: seals come and go meanwhile."""

    def rank(path: Path) -> tuple[int, str]:
        text = str(path.relative_to(source))
        return (0 if first in text else 2 if last in text else 1, text)

    for path in sorted((p for p in source.rglob("*") if p.is_file()), key=rank):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, copy)
        except FileNotFoundError:
            continue
        time.sleep(SLOW_S)  # the copy is to take longer than some seals


def checkpoints_first(source: Path, target: Path) -> None:
    _slowly(source, target, "checkpoints", "commit")


def log_first(source: Path, target: Path) -> None:
    _slowly(source, target, "commit", "checkpoints")


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("copier", [by_cp, by_tar, by_rsync, checkpoints_first, log_first])
def test_a_copy_of_a_directory_in_use_opens_with_what_was_acknowledged(copier, mode: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    writing = Writing(source, mode)
    try:
        writing.wait_for(ROUNDS_BEFORE)
        before = writing.acknowledged()
        copier(source, target)
    finally:
        writing.end()
    (target / "lock").unlink(missing_ok=True)
    with twinlog.open(target) as client:
        things = client["db"]["things"]
        found = sorted(things.find({}), key=lambda doc: doc["_id"])
        assert [doc["_id"] for doc in found] == list(range(len(found)))
        assert all(doc["pad"] == "x" * (doc["_id"] * 31 % 400) for doc in found)
        assert len(found) >= before
        assert things.count_documents({"k": 3}) == len(range(3, len(found), 10))
        things.insert_one({"_id": len(found), "k": 0, "pad": "x"})
    checked = subprocess.run([sys.executable, "-m", "storage.check", str(target)], capture_output=True, text=True, check=False)
    assert "error" not in checked.stdout and checked.returncode in (0, 1), checked.stdout + checked.stderr


def test_a_hold_is_taken_listed_and_released_beside_a_database_in_use(tmp_path: Path) -> None:
    source = tmp_path / "source"

    def hold(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops.main", "hold", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with twinlog.open(source, memtable_records_max=100, copy_grace_s=0.0, log_segment_bytes=5000) as client:
        client["db"]["things"].insert_one({"_id": -1})
        taken = hold("db", "--for", "5m")
        assert taken.returncode == 0, taken.stderr
        for number in range(0, 1500, 100):
            client["db"]["things"].insert_many([{"_id": number + n} for n in range(100)])
        names = sorted(path.name for path in (source / "db" / "commit").iterdir() if path.suffix == ".log")
        assert names[0].endswith(f"{1:020d}.log"), "the log is kept from its beginning"
        assert taken.stdout.strip() in hold("--list").stdout
        assert hold("--release", taken.stdout.strip()).returncode == 0
        assert hold("--release", taken.stdout.strip()).returncode != 0
    assert hold("nodb").returncode != 0 and hold("db", "--for", "forever").returncode != 0
    assert hold("db", "--for", "25h").returncode != 0
    assert not list((source / "_holds").glob("*.json"))


