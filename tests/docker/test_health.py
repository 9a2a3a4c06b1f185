"""Health of the compose pair as the container engine sees it: what is asked, what makes it fail, what does not; and who can reach it."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.docker.compose import docker

pytestmark = pytest.mark.docker

PATIENCE_S = 120
ASK_AGAIN_S = 0.3


def test_a_standby_without_a_primary_is_healthy_and_after_a_promotion_one_node_is_primary(pair):
    for node in "ab":
        told = json.loads(pair.inspect(node, "{{json .State.Health}}"))
        assert told["Status"] == "healthy" and '"ok":true' in told["Log"][-1]["Output"], told
    assert asked(pair, "a", "/primary") == 200 and asked(pair, "b", "/primary") == 503

    pair.run("stop", "-t", "5", "a")
    pair.wait(lambda: [] if asked(pair, "b", "/standby") == 503 else ["b"], "still a standby of somebody")
    assert docker("exec", pair.container("b"), "twinlog-health").startswith("200: ") and asked(pair, "b", "/primary") == 503
    pair.run("restart", "-t", "5", "b")
    pair.wait_healthy("b")  # it starts without ever meeting a primary: joining, and healthy
    assert '"phase":"joining"' in docker("exec", pair.container("b"), "twinlog-health")

    pair.twinlog("promote", "b", "--yes")
    pair.wait(lambda: [] if asked(pair, "b", "/primary") == 200 else ["b"], "not primary")
    pair.run("start", "a")
    pair.wait_healthy("a", "b")
    pair.wait(lambda: [] if asked(pair, "a", "/standby?lag=0c") == 200 else ["a"], "not a standby")
    assert asked(pair, "a", "/primary") == 503


def test_the_admin_port_is_reached_from_inside_only_and_the_command_works_there(pair):
    published = json.loads(pair.inspect("a", "{{json .NetworkSettings.Ports}}"))
    assert [port for port, hosts in published.items() if hosts] == ["6900/tcp"]
    assert {host["HostIp"] for host in published["6900/tcp"]} == {"127.0.0.1"}
    pair.twinlog("insert", "messages", '{"_id": 1}')
    pair.wait_equal()
    shown = json.loads(docker("exec", pair.container("a"), "twinlog", "status", "--json"))
    assert shown["ok"] and {node["role"] for node in shown["nodes"]} == {"primary", "standby"}


def test_a_frozen_process_is_unhealthy(image, tmp_path):
    """Its loop turns no more: nothing answers within the check's time."""
    name = f"{tmp_path.name}-frozen".lower()
    docker("run", "-d", "--name", name, image)
    try:
        wait_for(lambda: check(name)[0] == 0)
        pid = docker("inspect", "-f", "{{.State.Pid}}", name).strip()
        docker("run", "--rm", "--pid=host", "--entrypoint=/bin/sh", image, "-c", f"kill -STOP {pid}")
        code, said = check(name)
        assert code == 1 and "timed out" in said
    finally:
        docker("rm", "-f", "-v", name)


@pytest.mark.parametrize("flags", [("--admin", "127.0.0.1:7003"), ("--admin", "none"), ("--client", "127.0.0.1:7004")])
def test_the_check_finds_the_ports_that_the_node_has_taken(image, tmp_path, flags):
    name = f"{tmp_path.name}-ports".lower()
    docker("run", "-d", "--name", name, image, "serve", *flags)
    try:
        wait_for(lambda: check(name)[0] == 0)
        assert ("admin HTTP is off" in check(name)[1]) is ("none" in flags)
        assert check(name, "-e", "TWINLOG_HEALTH_URL=http://127.0.0.1:1/readyz")[0] == 1
        if flags == ("--admin", "127.0.0.1:7003"):
            assert check(name, "-e", "TWINLOG_HEALTH_URL=http://127.0.0.1:7003/standby")[0] == 1, "it is primary"
            assert check(name, "-e", "TWINLOG_HEALTH_URL=http://127.0.0.1:7003/primary")[0] == 0
    finally:
        docker("rm", "-f", "-v", name)


def test_key_files_are_named_by_the_environment(image, tmp_path):
    name = f"{tmp_path.name}-keys".lower()
    make = "umask 077; twinlog keygen /data/client.key && exec twinlog serve --client 127.0.0.1:6900"
    docker("run", "-d", "--name", name, "-e", "TWINLOG_CLIENT_KEYS_FILE=/data/client.key", "--entrypoint", "sh", image, "-c", make)
    try:
        wait_for(lambda: check(name)[0] == 0)
        ask = ["docker", "exec", "-e", "TWINLOG_URL=twinlog://127.0.0.1:6900/", name, "twinlog", "status", "--json"]
        assert subprocess.run(ask, capture_output=True).returncode != 0, "without the key nobody gets in"
        ask[2:2] = ["-e", "TWINLOG_KEY_FILE=/data/client.key"]
        assert json.loads(subprocess.run(ask, capture_output=True, check=True).stdout)["ok"]
    finally:
        docker("rm", "-f", "-v", name)


def wait_for(what) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(ASK_AGAIN_S)


def check(name: str, *flags: str) -> tuple[int, str]:
    """The health check, run now: its exit code and what it said."""
    done = subprocess.run(["docker", "exec", *flags, name, "twinlog-health"], capture_output=True, text=True)
    return done.returncode, done.stdout


def asked(pair, node: str, path: str) -> int:
    """A path of the node's admin port, from inside its container: the code."""
    done = subprocess.run(["docker", "exec", "-e", f"TWINLOG_HEALTH_URL=http://127.0.0.1:6902{path}", pair.container(node), "twinlog-health"],
                          capture_output=True, text=True)
    return int(done.stdout.partition(":")[0])
