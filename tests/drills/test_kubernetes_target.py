"""The Kubernetes target over a kubectl that is not one: what it asks for, and whole drills through it on real node processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import twinlog
from ops.drills.targets.kubernetes import PODS, is_running
from ops.drills.targets.local import CHECKOUT, free_ports
from ops.exit_codes import ExitCode
from ops.keyfiles import write_key_file
from ops.main import main

LOSSES = """
format: 1
every: {lost_writes: 0, came_twice: 0, reads_missing: 0}
scenarios: {kill-primary: {}, switchover: {}, standby-lost-block: {}}
"""


@pytest.fixture
def pods(tmp_path, monkeypatch):
    """The directory of two nodes with the names of pods, and the fake kubectl on the PATH."""
    directory = tmp_path / "pods"
    directory.mkdir()
    for name in ("client.key", "cluster.key"):
        write_key_file(directory / name)
    ports = free_ports(2 * len(PODS))
    nodes = {pod: {"client": f"127.0.0.1:{ports[2 * place]}", "cluster": f"127.0.0.1:{ports[2 * place + 1]}"} for place, pod in enumerate(PODS)}
    (directory / "cluster.yaml").write_text(yaml.safe_dump({
        "cluster": "pods", "primary": PODS[0], "nodes": nodes, "client_keys": "client.key", "cluster_key": "cluster.key", "acks": 1,
        "on_ack_timeout": "degrade", "ack_timeout_ms": 1500, "listen": {"admin": "none"},
    }))  # fmt: skip
    running = {}
    for place, pod in enumerate(PODS):
        command = [sys.executable, "-m", "ops.main", "serve", "--config", str(directory / "cluster.yaml"), "--node", pod, "--data", str(directory / pod)]
        with (directory / f"{pod}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=CHECKOUT, start_new_session=True)
        running[pod] = {"port": ports[2 * place], "pid": process.pid, "command": command, "directory": str(CHECKOUT)}
    (directory / "pods.json").write_text(json.dumps(running))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").symlink_to(Path(__file__).with_name("fake_kubectl.py"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TWINLOG_FAKE_PODS", str(directory))
    monkeypatch.delenv("TWINLOG_KUBE_NAMESPACE", raising=False)
    yield directory
    for pod in json.loads((directory / "pods.json").read_text()).values():
        with suppress(ProcessLookupError):
            os.killpg(pod["pid"], signal.SIGKILL)


def url_of(directory: Path) -> str:
    ports = [pod["port"] for pod in json.loads((directory / "pods.json").read_text()).values()]
    return f"twinlog://{','.join(f'127.0.0.1:{port}' for port in ports)}/?key={directory / 'client.key'}"


def drill(tmp_path: Path, name: str) -> tuple[int, dict, str]:
    (tmp_path / "targets.yaml").write_text(LOSSES)
    done = CliRunner().invoke(main, ["drill", "run", name, "--target", "kubernetes", "--yes", "--seconds", "0.5", "--json", "--out", str(tmp_path / "out"),
                                     "--targets", str(tmp_path / "targets.yaml")])
    return done.exit_code, json.loads(done.stdout) if done.stdout else {}, done.output


def test_pods_are_killed_and_come_back_and_nothing_is_lost_nor_left_behind(pods, tmp_path):
    code, report, shown = drill(tmp_path, "kill-primary")
    assert code == 0, shown
    assert (report["settings"]["acks"], report["settings"]["on_ack_timeout"]) == (1, "degrade") and report["equal"] is True
    assert [one["node"] for one in report["takeovers"]] == ["twinlog-1"]
    assert {node: row["role"] for node, row in report["documents"].items()} == {"twinlog-0": "standby", "twinlog-1": "primary"}
    with twinlog.connect(url_of(pods), retry_s=30) as client:
        assert client.list_database_names() == [], "what the drill wrote is dropped"

        code, _, shown = drill(tmp_path, "standby-lost-block")
        assert code == ExitCode.NOT_HERE and "this cluster has degrade" in shown, shown

        client["drill"]["writes"].insert_one({"_id": "somebody's"})
        code, _, shown = drill(tmp_path, "switchover")
        assert code == ExitCode.NOT_HERE and "a database 'drill'" in shown, shown
        assert client["drill"]["writes"].count_documents({}) == 1


@pytest.mark.parametrize(("pod", "runs"), [
    ({"metadata": {}, "status": {"phase": "Running"}}, True),
    ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}, False),
    ({"metadata": {}, "status": {"phase": "Pending"}}, False),
    ({}, False),
])
def test_which_pods_run(pod, runs):
    assert is_running(pod) is runs
