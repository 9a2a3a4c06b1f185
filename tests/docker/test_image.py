"""The image: who it runs as, what it promises to the engine, that the command in it works."""

from __future__ import annotations

import json

import pytest

from tests.docker.compose import docker

pytestmark = pytest.mark.docker


def test_the_image_runs_as_nobody_special_and_keeps_data_in_a_volume(image):
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert list(config["Volumes"]) == ["/data"]
    assert config["Healthcheck"]["Test"] == ["CMD", "twinlog-health"]
    assert set(config["ExposedPorts"]) == {"6900/tcp", "6901/tcp"}, "-P must not publish the admin port"
    assert config["Entrypoint"] == ["twinlog"] and config["Cmd"] == ["serve"]


def test_the_command_works_inside_it(image):
    assert docker("run", "--rm", image, "--version").startswith("twinlog 0.")
    written = docker("run", "--rm", "--entrypoint", "sh", image, "-c", "id -u && touch /data/x && ls -ln /data/x")
    assert written.split()[0] == "10001" and " 10001 " in written


def test_it_holds_no_tool_and_no_secret_of_the_build(image):
    listing = docker("run", "--rm", "--entrypoint", "sh", image, "-c", "ls -a / /data /opt/twinlog/bin; ls / | grep -c src || true")
    assert "pytest" not in listing and "ruff" not in listing
    found = docker("run", "--rm", "--entrypoint", "sh", image, "-c", "find / -xdev -name '*.key' 2>/dev/null; true")
    assert found == ""
