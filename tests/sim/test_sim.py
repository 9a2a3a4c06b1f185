"""Seeds that must keep every promise: a fixed few in the ordinary suite, fresh ones in the sweep. Failures print how to replay."""

from __future__ import annotations

import secrets

import pytest

from tests.sim.run_seed import make_world, run_seed

CLUSTER_SEEDS = range(24)
ENGINE_SEEDS = range(40)
SWEEP_SEEDS = 100


def must_keep_every_promise(world: str, seed: int) -> None:
    verdict = run_seed(make_world(world, seed), seed)
    replay = f"python -m tests.sim --world {world} --seed {seed} --verbose"
    assert not verdict.broken, "\n".join([*verdict.broken, f"replay: {replay}"])
    assert verdict.commits > 0
    assert verdict.views > 0


@pytest.mark.parametrize("seed", CLUSTER_SEEDS)
def test_cluster(seed: int) -> None:
    must_keep_every_promise("cluster", seed)


@pytest.mark.parametrize("seed", ENGINE_SEEDS)
def test_engine(seed: int) -> None:
    must_keep_every_promise("engine", seed)


@pytest.mark.sweep
@pytest.mark.parametrize("world", ["engine", "cluster"])
def test_fresh_seeds(world: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = secrets.randbelow(2**40)
    with capsys.disabled():
        print(f"\n{world}: {SWEEP_SEEDS} seeds from {first}: python -m tests.sim --world {world} --first {first}")  # noqa: T201
    for seed in range(first, first + SWEEP_SEEDS):
        must_keep_every_promise(world, seed)
