"""kill -9 of either node in the middle of an import (INV-1, INV-6), with real processes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.ends.pair_under_fire import kill_loop

TINY_SEALS = "memtable_records_max: 1000\n"


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    fire = kill_loop(tmp_path, 4, seed=1, settings=TINY_SEALS)
    assert len(fire.acknowledged) > 100


@pytest.mark.sweep
@pytest.mark.parametrize("sync_mode", ["async", "sync"])
def test_many_kills_lose_nothing(tmp_path: Path, sync_mode: str, kills: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    fire = kill_loop(tmp_path, kills, seed, f"{TINY_SEALS}sync_mode: {sync_mode}\n")
    assert len(fire.acknowledged) > kills * 20
