"""The health checks of a real local pair through a failover: never two nodes say that writes go to them, and in between none does."""

from __future__ import annotations

import os
import signal
import time

import httpx
import pytest
import yaml
from click.testing import CliRunner

from ops import pair
from ops.exit_codes import ExitCode
from ops.main import main
from ops.pair import opened

PATIENCE_S = 300.0
ASK_AGAIN_S = 0.05


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}\n{result.exception!r}"
    return result.stdout


@pytest.fixture
def addresses(tmp_path, monkeypatch):
    """A pair that is up: the admin address of each node."""
    monkeypatch.setattr(pair, "PORTS_USUAL", (0,) * 6)
    monkeypatch.delenv("TWINLOG_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    try:
        run("up")
        nodes = yaml.safe_load((tmp_path / ".local-pair" / "cluster.yaml").read_text())["nodes"]
        yield {name: addresses["admin"] for name, addresses in nodes.items()}
    finally:
        run("down")


def codes(addresses: dict[str, str], path: str) -> dict[str, int]:
    """What each node answers; 0 for one that does not."""
    found = {}
    for name, address in addresses.items():
        try:
            found[name] = httpx.get(f"http://{address}{path}", timeout=10).status_code
        except httpx.TransportError:
            found[name] = 0
    return found


def wait_for(addresses: dict[str, str], path: str, expected: dict[str, int], *, primaries_max: int) -> None:
    """Until every node answers so; at no look meanwhile are more nodes primary than that."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := codes(addresses, path)) != expected:
        leading = [name for name, code in codes(addresses, "/primary").items() if code == 200]
        assert len(leading) <= primaries_max, leading
        assert time.monotonic() < deadline, f"{path}: {found}, expected {expected}"
        time.sleep(ASK_AGAIN_S)


def kill(directory, node: str) -> None:
    with opened(directory) as local:
        os.kill(local.running[node].pid, signal.SIGKILL)
        assert pair.wait_gone(local.running[node])


def test_who_takes_writes_is_told_through_a_failover_and_a_return(addresses, tmp_path):
    run("insert", "people", '{"_id": 1}')
    wait_for(addresses, "/standby?lag=0c", {"a": 503, "b": 200}, primaries_max=1)
    assert codes(addresses, "/primary") == {"a": 200, "b": 503}
    assert codes(addresses, "/cluster") == codes(addresses, "/readyz") == codes(addresses, "/health") == {"a": 200, "b": 200}

    kill(tmp_path / ".local-pair", "a")
    wait_for(addresses, "/standby", {"a": 0, "b": 503}, primaries_max=0)
    assert codes(addresses, "/primary") == {"a": 0, "b": 503}
    alone = httpx.get(f"http://{addresses['b']}/readyz").json()
    assert alone["ok"] and alone["phase"] == "joining", "it is read, and waits for its primary or an order"
    assert codes(addresses, "/livez") == {"a": 0, "b": 200} and codes(addresses, "/cluster") == {"a": 0, "b": 503}
    run("status", code=ExitCode.UNREACHABLE)

    run("promote", "b", "--yes")
    wait_for(addresses, "/primary", {"a": 0, "b": 200}, primaries_max=1)
    run("insert", "people", '{"_id": 2}')

    run("up")
    wait_for(addresses, "/standby?lag=0c", {"a": 200, "b": 503}, primaries_max=1)
    assert codes(addresses, "/primary") == {"a": 503, "b": 200}

    run("switchover", "a", "--yes")
    wait_for(addresses, "/standby?lag=0c", {"a": 503, "b": 200}, primaries_max=1)
    assert codes(addresses, "/primary") == {"a": 200, "b": 503}
