"""How contenders take turns, and what becomes of peers that are missing or fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.contest import Contender, Run, ask, started
from benchmarks.generator import LoadFailed, Unavailable
from benchmarks.processes import Server, ServerFailed, descendants
from benchmarks.report import CaseReport, Sample


class Sleeper(Server):
    """A server that does nothing."""

    def __init__(self, directory: Path, program: str) -> None:
        directory.mkdir()
        super().__init__("sleeper", directory, [sys.executable, "-c", program])

    def start(self) -> None:  # type: ignore[override]
        super().start(lambda: (self.directory / "up").stat())


STAYS = "open('up', 'w'); import time; time.sleep(600)"


def test_contenders_take_turns_and_one_that_fails_is_left_out():
    case, turns = CaseReport("case", ""), []

    def turn(name: str) -> Sample:
        turns.append(name)
        if name == "bad":
            raise LoadFailed("it broke")
        return Sample(len(turns))

    measure = ask(case, "m", "u", [Contender(name, lambda name=name: turn(name)) for name in ("one", "bad", "two")], 2)
    assert turns == ["one", "bad", "two", "one", "two"]
    assert [len(row.samples) for row in measure.rows] == [2, 0, 2]
    assert case.notes == ["m: bad failed: it broke"]


def test_a_peer_that_is_not_installed_is_named_and_the_others_run(tmp_path: Path):
    case = CaseReport("case", "")

    def missing() -> Server:
        raise Unavailable("redis-server is missing")

    with started(case, missing, lambda: Sleeper(tmp_path / "a", STAYS)) as (absent, present):
        assert absent is None
        pid = present.pid
        assert descendants(pid) == [pid]
    assert case.notes == ["left out: redis-server is missing"]
    assert not Path(f"/proc/{pid}").exists()


def test_what_was_started_is_stopped_when_another_does_not_start(tmp_path: Path):
    first = Sleeper(tmp_path / "a", STAYS)
    with pytest.raises(ServerFailed, match="no luck"):
        with started(CaseReport("case", ""), lambda: first, lambda: Sleeper(tmp_path / "b", "raise SystemExit('no luck')")):
            pass
    with pytest.raises(AssertionError, match="does not run"):
        _ = first.pid


def test_the_directory_of_a_run_is_removed(tmp_path: Path):
    with Run(short=True, rounds=1, seconds=1, workplace=tmp_path).directory() as directory:
        (directory / "file").touch()
        assert directory.parent == tmp_path
    assert not list(tmp_path.iterdir())
