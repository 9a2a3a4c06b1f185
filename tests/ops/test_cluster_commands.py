"""`twinlog cluster` on a real local pair: a primary that is killed, fenced, replaced and brought back, with the exit codes that scripts see."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from click.testing import CliRunner

from ops import pair
from ops.exit_codes import ExitCode
from ops.main import main
from ops.pair import opened

PATIENCE_S = 60.0


def run(*arguments, code: int = 0, **options) -> str:
    """`twinlog ARGUMENTS...`, which must end with this exit code; what it printed."""
    result = CliRunner().invoke(main, list(arguments), **options)
    assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}\n{result.exception!r}"
    return result.output


def told(*arguments, code: int = 0) -> dict:
    return json.loads(run("cluster", *arguments, "--json", code=code))


def eventually(*arguments, code: int = 0) -> str:
    """The same command again until it ends with this code."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        result = CliRunner().invoke(main, list(arguments))
        if result.exit_code == code or time.monotonic() > deadline:
            assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}"
            return result.output


def kill(directory, node: str) -> None:
    with opened(directory) as local:
        os.kill(local.running[node].pid, signal.SIGKILL)
        pair.wait_gone(local.running[node])


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A running pair with a database, and its directory; whatever was started there is stopped."""
    monkeypatch.setattr(pair, "PORTS_USUAL", (0,) * 6)
    monkeypatch.delenv("TWINLOG_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    run("up")
    run("insert", "people", '{"_id": 1}')
    yield tmp_path / ".local-pair"
    run("down")


def test_a_killed_primary_is_replaced_and_comes_back(directory):
    eventually("cluster", "check")
    assert "switchover b" in run("cluster", "failover", "b", "--yes", code=ExitCode.FAILED), "a living primary is not replaced by accident"
    kill(directory, "a")
    run("cluster", "failover", "a", "--yes", code=ExitCode.UNREACHABLE)
    run("cluster", "failover", "b", code=ExitCode.DECLINED, input="n\n")
    run("cluster", "verify", code=ExitCode.UNREACHABLE)
    outcome = told("failover", "--yes")
    assert (outcome["primary"], outcome["epoch"], outcome["may_be_lost"]) == ("b", 2, 0) and "only one that answers" in outcome["because"]
    run("insert", "people", '{"_id": 2}')
    assert "not connected" in run("cluster", "check", code=ExitCode.NO_STANDBY)
    run("cluster", "rejoin", "a", "--yes", code=ExitCode.UNREACHABLE)
    assert told("history", code=ExitCode.UNREACHABLE)["silent"]

    run("up")
    checked = json.loads(eventually("cluster", "check", "--json"))
    assert checked["primary"] == "b" and checked["standbys"] == [{"node": "a", "could": True, "why": "", "lost": 0}]
    assert told("verify")["databases"]["test"]["equal"] is True
    roles = [(change["node"], change["role"], change["epoch"]) for change in told("history")["changes"]]
    assert roles.index(("a", "primary", 1)) < roles.index(("b", "primary", 2)) < roles.index(("a", "standby", 2))
    reigns = told("history")["reigns"]["test"]
    assert [reign["epoch"] for reign in reigns] == [1, 2] and reigns[1]["nodes"] == ["a", "b"]

    assert "follows the primary with every database" in run("cluster", "rejoin", "a", "--yes")
    assert told("rejoin", "a", "--reseed", "--yes")["streams"] is True
    run("cluster", "reseed", "a", "nowhere", "--yes", code=ExitCode.NOT_FOUND)
    run("cluster", "reseed", "b", "test", "--yes", code=ExitCode.FAILED)
    assert told("reseed", "a", "test", "--yes")["streams"] is True
    assert len(list((directory / "a" / "_salvage").iterdir())) == 2, "the copies that were replaced are kept"
    assert run("find", "people", "--count").strip() == "2"
    assert told("verify", "--db", "test")["equal"] is True
    run("cluster", "verify", "--db", "nowhere", code=ExitCode.NOT_FOUND)
    assert told("switchover", "a", "--yes")["primary"] == "a", "the same command under two names"


def test_a_fence_and_its_end(directory):
    eventually("cluster", "check")
    run("cluster", "fence", "a", code=ExitCode.DECLINED, input="")
    answer = told("fence", "a", "--why", "bad memory", "--yes")
    assert (answer["role"], answer["was"], set(answer["lacking"])) == ("fenced", "primary", {"b"})
    assert "fenced already: fenced by an operator: bad memory" in run("cluster", "fence", "a", "--yes")
    shown = json.loads(run("status", "--json", code=ExitCode.UNREACHABLE))
    assert any("a is fenced" in problem for problem in shown["problems"])
    assert "not by force" in run("cluster", "failover", "a", "--force", "--yes", code=ExitCode.FAILED)
    run("promote", "a", "--force", "--yes", code=ExitCode.FAILED)
    kill(directory, "a")
    assert "a is fenced and nobody leads" in run("up"), "a fenced node is not waited for"
    assert "primary of epoch 1" in eventually("cluster", "unfence", "a", "--yes"), "nobody else took the office"
    assert "is not fenced" in run("cluster", "unfence", "a", "--yes")
    run("insert", "people", '{"_id": 2}')

    eventually("cluster", "check")
    run("cluster", "fence", "a", "--yes")
    assert "b is primary of epoch 2" in eventually("cluster", "failover", "b", "--yes")
    run("insert", "people", '{"_id": 3}')
    run("cluster", "rejoin", "b", "--yes", code=ExitCode.FAILED)
    assert "a follows the primary" in run("cluster", "rejoin", "a", "--yes")
    assert told("verify")["equal"] is True
    assert run("find", "people", "--count").strip() == "3"


def test_a_pause_keeps_programs_from_changing_who_leads(directory):
    eventually("cluster", "check")
    answer = told("pause", "--why", "new switches")
    assert (answer["paused"]["why"], answer["reached"] + answer["missing"]) == ("new switches", ["b"])
    assert "paused: new switches" in run("status")
    assert told("check")["paused"]["why"] == "new switches"
    refused = run("switchover", "b", "--yes", "--automatic", code=ExitCode.FAILED)
    assert "no automatic switchover" in refused and "new switches" in refused
    kill(directory, "a")
    assert "no automatic promotion" in run("cluster", "failover", "b", "--yes", "--automatic", code=ExitCode.FAILED)
    assert "not reached" in run("cluster", "resume", code=ExitCode.PARTIAL)
    assert told("failover", "b", "--yes", "--automatic")["epoch"] == 2
    run("up")
    deadline = time.monotonic() + PATIENCE_S
    while json.loads(run("cluster", "status", "--json"))["paused"] is not None:
        assert time.monotonic() < deadline, "a node that was away learns that the cluster is resumed"
