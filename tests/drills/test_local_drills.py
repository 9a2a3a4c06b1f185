"""Drills on real processes: short ones that must pass, and one whose target breaks the node's promise, which must be seen.

Nothing here asserts on a duration: that the machine is slow is no failure, and the limits used are those of losses.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from ops.drills import ending
from ops.drills.conductor import Conductor, Plan
from ops.drills.records import Facts
from ops.drills.scenarios import SCENARIOS, Act
from ops.drills.targets.local import LocalTarget
from ops.drills.targets.protocol import Settings
from ops.drills.verdict import judge
from ops.drills.writers import DATABASE, Load
from ops.exit_codes import ExitCode
from ops.main import main

PATIENT = """
format: 1
every: {lost_writes: 0, came_twice: 0, refused_kept: 0, reads_missing: 0, late_acknowledgements: 0}
scenarios: {NAME: {}}
"""


def drill(tmp_path: Path, name: str, *options: str, limits: str = PATIENT) -> tuple[int, dict, str]:
    """`twinlog drill run NAME`, short, under limits of losses alone: exit code, report, all that was printed."""
    targets = tmp_path / "targets.yaml"
    targets.write_text(limits.replace("NAME", name))
    done = CliRunner().invoke(main, ["drill", "run", name, "--seconds", "0.5", "--out", str(tmp_path / "out"), "--targets", str(targets), "--json", *options])
    return done.exit_code, json.loads(done.stdout) if done.stdout else {}, done.output


@pytest.mark.parametrize("name", ["kill-primary", "switchover"])
def test_a_short_drill_loses_nothing_and_leaves_equal_copies(tmp_path, name):
    code, report, shown = drill(tmp_path, name)
    assert code == 0, shown
    assert report["measures"]["lost_writes"] == 0 and report["equal"] is True
    assert len({row["state_hash"] for row in report["hashes"].values()}) == 1 and len(report["hashes"]) == 2
    assert report["documents"]["a"]["count"] == report["documents"]["b"]["count"] >= report["measures"]["acknowledged"] > 0
    assert all(one["first_accepted_s"] > 0 for one in report["takeovers"])
    (directory,) = (tmp_path / "out").iterdir()
    assert {file.name for file in directory.iterdir()} == {"report.json", "report.md", "writes.jsonl", "a.log", "b.log"}


def test_without_acknowledgements_by_standbys_a_partition_loses_writes_and_each_is_named(tmp_path):
    code, report, shown = drill(tmp_path, "partition", "--acks", "0")
    assert code == ExitCode.DRILL_MISSED, shown
    assert report["measures"]["lost_writes"] > 0
    assert len(report["lost"]) == min(1000, report["measures"]["lost_writes"])
    assert all(one["position"][0] == 1 for one in report["lost"]), "they are of the old primary's epoch"
    assert report["equal"] is True and report["salvaged"]["a"], "what was rewound is set aside"
    assert any("lost_writes" in why for why in report["missed"])


class ForgetfulTarget(LocalTarget):
    """A target that breaks the promise: with the primary, which stays dead, dies what the standby has."""

    async def apply(self, act: Act, node: str, peer: str) -> str:
        if act is Act.START:
            return "left dead"
        text = await super().apply(act, node, peer)
        await super().apply(Act.KILL, peer, node)
        shutil.rmtree(self._directory / peer / DATABASE)
        await super().apply(Act.START, peer, node)
        return text


def test_a_standby_that_forgets_what_it_acknowledged_is_found_out(monkeypatch):
    monkeypatch.setattr(ending, "SETTLE_SECONDS_MAX", 1.0)  # the copies will never be equal; do not wait for it

    async def conduct() -> Facts:
        scenario = SCENARIOS["kill-primary"]
        async with ForgetfulTarget(Settings(1, scenario.on_timeout)) as target:
            return await Conductor(Plan(scenario, 0.5, Load()), target, lambda _: None).run()

    facts = trio.run(conduct)
    verdict = judge(facts)
    killed = next(event.began for event in facts.events if event.act is Act.KILL)
    before = {write.name for write in facts.writes if write.ended < killed and not write.error}
    survivor = next(copy for copy in facts.copies if copy.role == "primary")
    assert survivor.node == "b"
    assert before and before <= {write.name for write in verdict.lost}, "every write acknowledged before the fault is named"
    assert verdict.equal is not True and verdict.problems


class StuckTarget(LocalTarget):
    """A target that cannot do what it is told."""

    async def apply(self, act: Act, node: str, peer: str) -> str:
        raise OSError("the hand that kills is tied")


def test_a_fault_that_cannot_be_done_makes_a_report_and_no_pass():
    async def conduct() -> Facts:
        scenario = SCENARIOS["kill-primary"]
        async with StuckTarget(Settings(1, scenario.on_timeout)) as target:
            return await Conductor(Plan(scenario, 0.5, Load()), target, lambda _: None).run()

    verdict = judge(trio.run(conduct))
    assert verdict.lost == () and verdict.equal is True
    assert any("kill a could not be done" in problem for problem in verdict.problems)
    assert any("nothing was done to the cluster" in problem for problem in verdict.problems)


def test_a_full_disk_without_root_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, shown = drill(tmp_path, "disk-full")
    assert code == ExitCode.NOT_HERE and "needs root" in shown
    assert not (tmp_path / "out").exists(), "nothing was begun"


def test_a_scenario_about_acknowledgements_is_refused_without_them(tmp_path):
    code, _, shown = drill(tmp_path, "standby-lost-block", "--acks", "0")
    assert code == ExitCode.USAGE and "--acks 1" in shown


def test_what_cannot_be_done_to_pods_is_refused_by_name(tmp_path):
    code, _, shown = drill(tmp_path, "freeze-primary", "--target", "kubernetes", "--yes")
    assert code == ExitCode.NOT_HERE and "freeze cannot be done to pods" in shown
    code, _, shown = drill(tmp_path, "kill-primary", "--target", "kubernetes", "--acks", "0", "--yes")
    assert code == ExitCode.USAGE and "its own settings" in shown
    code, _, shown = drill(tmp_path, "kill-primary", "--target", "kubernetes")
    assert code == ExitCode.DECLINED, "a cluster that is there already is broken only on a yes"


def test_limits_that_break_their_form_are_refused_before_anything_is_done(tmp_path):
    code, _, shown = drill(tmp_path, "kill-primary", limits="{format: 1, scenarios: {NAME: {lost: 0}}}")
    assert code == ExitCode.CONFIG and "scenarios.kill-primary.lost: is no measure" in shown


@pytest.mark.sweep
@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if Act.FILL not in scenario.faults()])
def test_every_scenario_loses_nothing(tmp_path, name):
    code, report, shown = drill(tmp_path, name, "--acks", "1")
    assert code == 0, shown
    assert report["measures"]["lost_writes"] == 0 and report["equal"] is True


@pytest.mark.loop
def test_a_full_disk_loses_nothing(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    code, report, shown = drill(tmp_path, "disk-full")
    if code == ExitCode.NOT_HERE:
        pytest.skip(shown)
    assert code == 0, shown
    assert report["errors"].get("DiskFull", 0) > 0 and report["measures"]["reads_found"] > 0
    assert report["measures"]["unconfirmed_lost"] == 0
