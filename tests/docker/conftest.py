"""What the Docker tests stand on: an engine, a base image, the project's image, one compose pair.

Without an engine or a way to a base image they skip, saying why; with TWINLOG_REQUIRE_DOCKER=1 that is a failure.
TWINLOG_BASE_IMAGE names the base image to use, TWINLOG_COMPOSE the compose command ("docker compose", "docker-compose").
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docker.compose import Compose, free_ports

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS_MAX = 900
BASE_IMAGES = ("twinlog-base:local", "python:3.13-slim")


def leave_out(reason: str) -> None:
    if os.environ.get("TWINLOG_REQUIRE_DOCKER") == "1":
        pytest.fail(f"Docker tests are required here, but {reason}", pytrace=False)
    pytest.skip(reason)


def succeeds(*command: str, **options) -> bool:
    try:
        return subprocess.run(command, capture_output=True, **options).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="session")
def engine() -> None:
    if not shutil.which("docker"):
        leave_out("there is no docker command")
    if not succeeds("docker", "version"):
        leave_out("no Docker engine answers")


@pytest.fixture(scope="session")
def base_image(engine) -> str:
    if named := os.environ.get("TWINLOG_BASE_IMAGE"):
        return named
    for image in BASE_IMAGES:
        if succeeds("docker", "image", "inspect", image):
            return image
    recipe = Path(__file__).with_name("base_image.sh")
    if not succeeds(str(recipe), BASE_IMAGES[0], timeout=BUILD_SECONDS_MAX):
        leave_out(f"no base image: none of {', '.join(BASE_IMAGES)} is there, and {recipe.name} needs root and debootstrap")
    return BASE_IMAGES[0]


@pytest.fixture(scope="session")
def image(base_image) -> str:
    """The project's image, built from this checkout."""
    tag = f"twinlog-test:{os.getpid()}"
    built = subprocess.run(["docker", "build", "--build-arg", f"BASE_IMAGE={base_image}", "-t", tag, "."], cwd=ROOT,
                           capture_output=True, text=True, timeout=BUILD_SECONDS_MAX)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    yield tag
    subprocess.run(["docker", "image", "rm", "-f", tag], capture_output=True)


@pytest.fixture(scope="session")
def compose_command(engine) -> list[str]:
    if named := os.environ.get("TWINLOG_COMPOSE"):
        return named.split()
    for command in (["docker", "compose"], ["docker-compose"]):
        if succeeds(*command, "version"):
            return command
    leave_out("there is no docker compose")
    raise AssertionError("leave_out never returns")


@pytest.fixture
def pair(image, compose_command, tmp_path):
    """The compose file's pair, healthy, under a project name and ports of its own; nothing of it is left behind."""
    ports = free_ports(2)
    made = Compose(ROOT, compose_command, project=f"twinlogtest{os.getpid()}", image=image, keys=tmp_path, ports=ports)
    made.make_keys()
    try:
        made.run("up", "-d", "--no-build")
        made.wait_healthy("a", "b")
        yield made
    finally:
        made.run("down", "-v", "--remove-orphans", "-t", "5")
