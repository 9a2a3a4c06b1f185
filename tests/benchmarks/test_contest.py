"""How contenders take turns, and what becomes of peers that are missing or fail."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks import machine, profiler
from benchmarks.chosen import CHOSEN, Chosen
from benchmarks.contest import Contender, Run, ask, started
from benchmarks.generator import LoadFailed, Unavailable
from benchmarks.processes import Server, ServerFailed, descendants
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import RedisServer, TwinlogServer


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


def test_a_peer_that_was_not_asked_for_is_named(tmp_path: Path):
    token = CHOSEN.set(Chosen(peers=("postgresql",)))
    try:
        case = CaseReport("case", "")
        with started(case, lambda: RedisServer(tmp_path / "redis", fsync="everysec")) as (redis,):
            assert redis is None
        assert case.notes == ["left out: redis was not asked for"]
    finally:
        CHOSEN.reset(token)


def test_the_servers_run_as_chosen(tmp_path: Path):
    token = CHOSEN.set(Chosen(python="another-python", pure=True))
    try:
        assert TwinlogServer(tmp_path / "node").command[0] == "another-python"
        server = Sleeper(tmp_path / "a", "import os; open(os.environ['TWINLOG_KERNEL'], 'w'); " + STAYS)
        with started(CaseReport("case", ""), lambda: server):
            assert (tmp_path / "a" / "off").exists()
    finally:
        CHOSEN.reset(token)


def test_an_interpreter_that_cannot_run_the_server_ends_the_run_by_name():
    token = CHOSEN.set(Chosen(python=sys.executable))
    try:
        assert machine.describe(Path("/"))["Python of Twinlog's server"].startswith(f"{sys.version_info.major}.")
        CHOSEN.set(Chosen(python="/bin/false"))
        with pytest.raises(ServerFailed, match="/bin/false cannot run Twinlog"):
            machine.describe(Path("/"))
    finally:
        CHOSEN.reset(token)


def test_the_report_tells_whose_kernel_is_in_use(tmp_path: Path):
    own = Path(machine.__file__).parents[1] / "storage" / "_kernel.so"
    assert machine.kernel_text("", pure=True) == "off (--pure)"
    assert machine.kernel_text("", pure=False).startswith("not built")
    assert machine.kernel_text(str(own), pure=False) == "in use"
    assert "another checkout" in machine.kernel_text(str(tmp_path / "storage" / "_kernel.so"), pure=False)


def test_a_profile_is_taken_of_a_turn_that_is_not_counted(tmp_path: Path):
    try:
        profiler.program()
    except Unavailable as error:
        pytest.skip(str(error))
    case, turns = CaseReport("Case", ""), []
    token = CHOSEN.set(Chosen(profile=tmp_path / "profiles"))
    try:
        server = Sleeper(tmp_path / "a", "open('up', 'w')\nwhile True: sum(range(1000))")
        server.name = "Twinlog"
        with started(case, lambda: server):

            def turn() -> Sample:
                turns.append(time.process_time())
                return Sample(1)

            measure = ask(case, "insert, 16 × 1", "u", [Contender("ours", turn, server=server), Contender("theirs", turn)], 1)
    finally:
        CHOSEN.reset(token)
    assert [len(row.samples) for row in measure.rows] == [1, 1]
    if case.notes:  # a container may forbid to look at another process
        assert "no profile" in case.notes[0]
    else:
        assert len(turns) == 3
        assert [path.name for path in (tmp_path / "profiles").iterdir()] == ["case-insert-16-1-ours.svg"]


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
