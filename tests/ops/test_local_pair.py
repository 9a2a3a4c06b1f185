"""`twinlog up` to `twinlog down` with two real processes on free ports: what a newcomer does in the first five minutes."""

from __future__ import annotations

import json
import os
import signal

import pytest
from click.testing import CliRunner

from ops import pair
from ops.exit_codes import ExitCode
from ops.main import main
from ops.pair import opened


def run(*arguments, code: int = 0, **options) -> str:
    """`twinlog ARGUMENTS...`, which must end with this exit code; its stdout."""
    result = CliRunner().invoke(main, list(arguments), **options)
    assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}\n{result.exception!r}"
    return result.stdout


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """An empty directory to work in; whatever was started there is stopped."""
    monkeypatch.setattr(pair, "PORTS_USUAL", (0,) * 6)
    monkeypatch.delenv("TWINLOG_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / ".local-pair"
    run("down")


def pids(directory) -> dict[str, int]:
    with opened(directory) as local:
        return {name: local.running[name].pid for name in local.alive()}


def status(code: int = 0) -> dict:
    return json.loads(run("status", "--json", code=code))


def settled_status() -> dict:
    """Once both nodes have answered the comparison in time, which a busy machine may keep them from."""
    for _ in range(20):
        result = CliRunner().invoke(main, ["status", "--json"])
        if result.exit_code == 0:
            break
    return status()


def test_the_first_five_minutes(directory, tmp_path):
    shown = run("up")
    assert "twinlog://127.0.0.1:" in shown and "status" in shown
    first = pids(directory)
    assert set(first) == {"a", "b"}

    (tmp_path / "people.json").write_text("".join(f'{{"_id": {number}, "name": "n{number}"}}\n' for number in range(2500)) + "{bad\n")
    run("import", "people.json", code=ExitCode.PARTIAL)
    assert run("find", "people", "--count").strip() == "2500"
    assert json.loads(run("get", "people", "7"))["name"] == "n7"
    run("get", "people", "seven", code=ExitCode.NOT_FOUND)
    assert run("insert", "people", '{"_id": "x", "at": {"$date": "2020-01-01T00:00:00Z"}}').strip() == '{"_id":"x"}'
    assert json.loads(run("find", "people", '{"_id": {"$lt": 3}}', "--sort", "-_id", "--limit", "1"))["_id"] == 2

    compared = settled_status()
    assert compared["databases"]["test"]["equal"] is True
    assert {node["role"] for node in compared["nodes"]} == {"primary", "standby"}
    hashes = {node["state_hash"] for node in compared["databases"]["test"]["nodes"].values()}
    assert len(hashes) == 1 and len(compared["databases"]["test"]["nodes"]) == 2

    assert "test" in run("scrub")
    scrubbed = json.loads(run("scrub", "test", "--json"))
    assert len(scrubbed) == 2 and all(answer["report"]["files"] and not answer["report"]["findings"] for answer in scrubbed)

    assert "running already" in run("up")
    assert pids(directory) == first, "a second up changes nothing"

    os.kill(first["b"], signal.SIGKILL)
    with opened(directory) as local:
        pair.wait_gone(local.running["b"])
    assert any("does not answer" in problem for problem in status(ExitCode.UNREACHABLE)["problems"])
    assert "started node b" in run("up")
    assert pids(directory)["a"] == first["a"]
    assert settled_status()["ok"]

    os.kill(first["a"], signal.SIGKILL)
    with opened(directory) as local:
        pair.wait_gone(local.running["a"])
    run("promote", "a", "--yes", code=ExitCode.UNREACHABLE)
    run("promote", "b", code=ExitCode.DECLINED, input="")
    assert "b is primary of epoch 2" in run("promote", "b", "--yes")
    run("insert", "people", '{"_id": "after"}')
    assert run("down").startswith("stopped b")
    assert pids(directory) == {}
    run("up")
    assert {node["node"]: node["role"] for node in status()["nodes"]} == {"a": "standby", "b": "primary"}
    assert run("find", "people", "--count").strip() == "2502"
