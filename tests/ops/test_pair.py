"""The local pair's processes: whose pid it is, which ports, who is stopped."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
import yaml

from ops import pair
from ops.pair import Running, choose_ports, opened, started_at
from ops.refusal import Refusal


@pytest.fixture
def child():
    """A process that lives until it is told to end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


def remember(directory, **processes: Running) -> None:
    with opened(directory) as local:
        local.prepare()
        local.running = processes
        local._remember()


def test_a_pid_is_ours_only_with_its_start_time(child):
    assert Running(child.pid, started_at(child.pid)).alive()
    assert not Running(child.pid, started_at(child.pid) - 1).alive()
    assert not Running(child.pid, 0).alive()


def test_a_zombie_is_not_alive(child):
    ours = Running(child.pid, started_at(child.pid))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it yet
    assert not ours.alive()


def test_down_ends_the_recorded_process_and_spares_a_stranger_with_the_same_pid(tmp_path, child):
    remember(tmp_path, a=Running(child.pid, started_at(child.pid) - 1))
    with opened(tmp_path) as local:
        assert local.stop() == []
    assert child.poll() is None
    remember(tmp_path, a=Running(child.pid, started_at(child.pid)))
    with opened(tmp_path) as local:
        assert local.stop() == ["a"]
    assert child.wait(timeout=10) == -15
    assert json.loads((tmp_path / "pair.json").read_text())["processes"] == {}


def test_down_twice_is_harmless(tmp_path):
    for _ in range(2):
        with opened(tmp_path) as local:
            local.prepare()
            assert local.stop() == []


def test_ports_are_the_usual_ones_or_free_ones(monkeypatch):
    with ExitStack() as stack:
        busy = stack.enter_context(socket.socket())
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        monkeypatch.setattr(pair, "PORTS_USUAL", (taken, *[0] * 5))
        ports = choose_ports()
    assert len(set(ports)) == 6 and taken not in ports


def test_keys_and_configuration_are_made_once(tmp_path):
    with opened(tmp_path) as local:
        local.prepare()
        before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
        local.prepare()
        assert {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()} == before
        assert set(local.addresses()) == {"a", "b"}
        assert local.url().endswith(f"key={tmp_path / 'keys' / 'client.key'}")
    config = yaml.safe_load((tmp_path / "cluster.yaml").read_text())
    ports = {address for node in config["nodes"].values() for address in node.values()}
    assert len(ports) == 6 and all(port.startswith("127.0.0.1:") for port in ports)


def test_a_node_that_stops_while_starting_is_told_with_its_last_lines(tmp_path, child):
    remember(tmp_path, a=Running(child.pid, started_at(child.pid)))
    with opened(tmp_path) as local:
        local.log_file("b").write_text("".join(f"line {number}\n" for number in range(100)) + "no space left\n")
        with pytest.raises(Refusal, match=r"(?s)node b stopped while starting.*no space left") as caught:
            local.wait_ready(lambda: "b does not answer")
    assert "line 1\n" not in str(caught.value)


def test_waiting_for_a_pair_that_never_gets_well_ends_with_what_is_missing(tmp_path, child, monkeypatch):
    monkeypatch.setattr(pair, "START_SECONDS_MAX", 0.0)
    ours = Running(child.pid, started_at(child.pid))
    remember(tmp_path, a=ours, b=ours)
    with opened(tmp_path) as local, pytest.raises(Refusal, match="0 of 1 standbys follow a"):
        local.wait_ready(lambda: "0 of 1 standbys follow a")


def test_more_standbys_and_a_delayed_one_have_their_rows_and_are_made_once(tmp_path):
    with opened(tmp_path) as local:
        local.prepare({"acks": 1}, standbys=2, delay_s=60)
        config = yaml.safe_load((tmp_path / "cluster.yaml").read_text())
        assert {name: node.get("delay_s", 0) for name, node in config["nodes"].items()} == {"a": 0, "b": 0, "c": 0, "d": 60}
        ports = [address for node in config["nodes"].values() for key, address in node.items() if key != "delay_s"]
        assert len(set(ports)) == 12 and len(local.url().split(",")) == 4 and local.names == ["a", "b", "c", "d"]
        local.prepare(standbys=2, delay_s=60)
        local.prepare()
        with pytest.raises(Refusal, match="change standbys in it"):
            local.prepare(standbys=3)
        with pytest.raises(Refusal, match="change delay_s in it"):
            local.prepare(standbys=2, delay_s=61)
