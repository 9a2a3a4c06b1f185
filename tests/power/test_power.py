"""Power cuts at random points of recorded workloads; `python -m tests.power --points N` takes more of them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import trio

from storage import SyncMode
from tests.power.judging import Outcome, judge, run_points
from tests.power.workload import record


def test_what_was_acknowledged_survives_power_cuts() -> None:
    outcome = run_points(24, random.randrange(10**9), rounds=90, points_a_run=12)
    assert outcome.points == 24 and not outcome.broken, "\n".join(outcome.broken)


@pytest.mark.sweep
def test_what_was_acknowledged_survives_many_power_cuts() -> None:
    outcome = run_points(300, random.randrange(10**9))
    assert not outcome.broken, "\n".join(outcome.broken)


@pytest.mark.parametrize("ignored", ["sync", "sync_dir"])
def test_a_disk_that_lies_about_syncs_is_caught(ignored: str, tmp_path) -> None:
    """The judge can see: with syncs that cover nothing, acknowledged commits go missing."""
    rng = random.Random(4)
    recording, journal = trio.run(record, str(tmp_path), SyncMode.SYNC, rng, 60)
    recording.events = [replace(event, what=(event.what[0], 0)) if event.kind == ignored else event for event in recording.events]
    outcome = Outcome()
    for _ in range(10):
        trio.run(judge, recording, journal, rng.randint(len(recording.events) // 2, len(recording.events)), rng, outcome, ignored)
    assert outcome.broken
