"""Sweep seeds: python -m tests.sim [--world cluster|engine] --seeds N [--first S] | --seed N [--verbose]

One line a failing seed, with how to replay it, then the counts; exit code 1 when a seed failed. Seeds run in 2 processes, each
under the same PYTHONHASHSEED, so that a seed replays here exactly as it failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.sim.run_seed import Verdict, make_world, play_seed

PROCESSES = 2
CHUNK_SEEDS = 8
SHOWN_LINES_MAX = 6


def main() -> int:
    arguments = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    if arguments.seed is not None:
        verdict = play_seed(make_world(arguments.world, arguments.seed, verbose=arguments.verbose), arguments.seed)
        if arguments.verbose:
            _say("\n".join(verdict.trace))
        _tell(arguments.world, verdict, always=True)
        return 1 if verdict.broken else 0
    failed = 0
    for verdict in _sweep(arguments.world, arguments.first, arguments.seeds):
        failed += bool(verdict.broken)
        _tell(arguments.world, verdict, always=arguments.verbose)
    _say(f"{arguments.seeds} seeds, {failed} failed")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Sweep seeds of the simulator.")
    parser.add_argument("--world", choices=["cluster", "engine"], default="cluster")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def _sweep(world: str, first: int, count: int) -> Iterator[Verdict]:
    starts = range(first, first + count, CHUNK_SEEDS)
    chunks = [(world, list(range(start, min(start + CHUNK_SEEDS, first + count)))) for start in starts]
    with ProcessPoolExecutor(PROCESSES) as pool:
        for verdicts in pool.map(_play_chunk, chunks):
            yield from verdicts


def _play_chunk(chunk: tuple[str, list[int]]) -> list[Verdict]:
    world, seeds = chunk
    return [play_seed(make_world(world, seed), seed) for seed in seeds]


def _tell(world: str, verdict: Verdict, *, always: bool) -> None:
    counts = f"{verdict.commits} commits, {verdict.acknowledged} acknowledged, {verdict.views} views, {verdict.digest[:12]}"
    if verdict.broken:
        more = len(verdict.broken) - SHOWN_LINES_MAX
        shown = verdict.broken[:SHOWN_LINES_MAX] + ([f"and {more} more"] if more > 0 else [])
        _say(f"seed {verdict.seed} FAILED ({counts}): {' | '.join(shown)}")
        _say(f"  replay: python -m tests.sim --world {world} --seed {verdict.seed} --verbose")
    elif always:
        _say(f"seed {verdict.seed} kept every promise ({counts})")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
