"""Drills on containers: a crash and a partition, with the image of this checkout."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ops.main import main

pytestmark = pytest.mark.docker

LOSSES = """
format: 1
every: {lost_writes: 0, came_twice: 0, reads_missing: 0}
scenarios: {kill-primary: {}, partition: {salvaged_files: {least: 1}}}
"""


@pytest.mark.parametrize("name", ["kill-primary", "partition"])
def test_a_drill_on_containers_loses_nothing(image, compose_command, tmp_path, monkeypatch, name):
    monkeypatch.setenv("TWINLOG_IMAGE", image)
    monkeypatch.setenv("TWINLOG_COMPOSE", " ".join(compose_command))
    limits = tmp_path / "targets.yaml"
    limits.write_text(LOSSES)
    done = CliRunner().invoke(main, ["drill", "run", name, "--target", "compose", "--acks", "1", "--on-ack-timeout", "block" if name == "partition" else "degrade",
                                     "--seconds", "1", "--json", "--out", str(tmp_path / "out"), "--targets", str(limits)])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["equal"] is True and report["measures"]["acknowledged"] > 0
    assert {row["role"] for row in report["documents"].values()} == {"primary", "standby"}
