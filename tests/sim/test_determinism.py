"""One seed is one run: the trace of everything that happened, and what was seen, are equal in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.run_seed import WORLDS, make_world, run_seed

ROOT = Path(__file__).resolve().parents[2]
PRINT_DIGESTS = """
import sys
from tests.sim.run_seed import make_world, run_seed
for seed in map(int, sys.argv[2:]):
    verdict = run_seed(make_world(sys.argv[1], seed), seed)
    sys.stdout.write(f"{verdict.digest} {verdict.commits} {verdict.views} {len(verdict.broken)}\\n")
"""


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_seed_twice_in_one_process(world: str) -> None:
    for seed in (3, 4):
        first, second = (run_seed(make_world(world, seed), seed) for _ in range(2))
        assert first == second


def test_different_seeds_differ() -> None:
    assert len({run_seed(make_world("engine", seed), seed).digest for seed in range(5)}) == 5


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_seeds_in_processes_with_other_string_hashes(world: str) -> None:
    outputs = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PRINT_DIGESTS, world, "5", "6", "7"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1, outputs
