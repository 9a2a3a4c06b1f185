"""Sweep seeds: python -m tests.sim [--world cluster|roles|engine|both] [--seeds N | --for 30m] [--first S] [--jobs 2] | --seed N [--verbose] | --planted

Without --first the seeds are fresh ones. One line a failing seed, with how to replay it, then the counts and seeds/s; exit code 1 when
a seed failed. Seeds run in --jobs processes, each under the same PYTHONHASHSEED, so that a seed replays here exactly as it failed.
--planted switches one safety rule off after the other and says how many seeds it takes to be told (tests/sim/planted).
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count

from tests.sim.run_seed import WORLDS, Verdict, make_world, play_seed

JOBS = 2
CHUNK_SEEDS = 8
CHUNKS_AHEAD = 2  # of each process
SHOWN_LINES_MAX = 6
SAY_EVERY_S = 60.0
FRESH_BELOW = 2**40
CHOICES = {**{world: (world,) for world in WORLDS}, "both": ("cluster", "engine")}
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

Chunk = tuple[str, list[int]]


def main() -> int:
    arguments = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    if arguments.planted:
        from tests.sim.planted.table import tell_all

        return tell_all(arguments.seeds or None, jobs=arguments.jobs, say=_say)
    if arguments.seed is not None:
        verdict = play_seed(make_world(arguments.world, arguments.seed, verbose=arguments.verbose), arguments.seed)
        _say("\n".join(verdict.trace if arguments.verbose else verdict.trace[:1]))
        _tell(arguments.world, verdict, always=True)
        return 1 if verdict.broken else 0
    first = secrets.randbelow(FRESH_BELOW) if arguments.first is None else arguments.first
    seeds = arguments.seeds or (None if arguments.duration else 100)
    _say(f"{arguments.world}: seeds from {first}, {arguments.jobs} at a time")
    return _sweep(arguments, first, seeds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Sweep seeds of the simulator.")
    parser.add_argument("--world", choices=list(CHOICES), default="cluster")
    parser.add_argument("--seeds", type=int, help="how many; of each world (100 unless --for is given)")
    parser.add_argument("--for", dest="duration", type=_duration, help="stop after this long: 90s, 30m, 2h")
    parser.add_argument("--first", type=int, help="of the seeds; fresh ones without it")
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes")
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--planted", action="store_true", help="plant faults and see how soon each is told; --seeds bounds the tries")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: a number and s, m or h, as in 30m")
    return float(found[1]) * UNITS[found[2]]


def _sweep(arguments: argparse.Namespace, first: int, seeds: int | None) -> int:
    began_s = said_s = time.monotonic()
    ends_s = began_s + arguments.duration if arguments.duration else None
    played = failed = 0
    chunks = _chunks(CHOICES[arguments.world], first, seeds)
    for world, verdict in _play_all(chunks, arguments.jobs, ends_s):
        played += 1
        failed += bool(verdict.broken)
        _tell(world, verdict, always=arguments.verbose)
        if time.monotonic() - said_s > SAY_EVERY_S:
            said_s = time.monotonic()
            _say(f"{played} seeds so far, {failed} failed, {played / (said_s - began_s):.2f} seeds/s")
    took_s = time.monotonic() - began_s
    _say(f"{played} seeds, {failed} failed, in {took_s:.0f} s: {played / took_s:.2f} seeds/s")
    return 1 if failed else 0


def _chunks(worlds: tuple[str, ...], first: int, seeds: int | None) -> Iterator[Chunk]:
    for start in range(first, first + seeds, CHUNK_SEEDS) if seeds is not None else count(first, CHUNK_SEEDS):
        end = start + CHUNK_SEEDS if seeds is None else min(start + CHUNK_SEEDS, first + seeds)
        for world in worlds:
            yield world, list(range(start, end))


def _play_all(chunks: Iterator[Chunk], jobs: int, ends_s: float | None) -> Iterator[tuple[str, Verdict]]:
    """Verdicts as they come, some chunks ahead of them; no new chunk after ends_s."""
    running: dict[Future[list[Verdict]], str] = {}
    with ProcessPoolExecutor(jobs, initializer=settle_memory) as pool:
        more = True
        while more or running:
            while more and len(running) < jobs * CHUNKS_AHEAD:
                chunk = next(chunks, None) if ends_s is None or time.monotonic() < ends_s else None
                if chunk is None:
                    more = False
                else:
                    running[pool.submit(_play_chunk, chunk)] = chunk[0]
            done, _ = wait(running, return_when=FIRST_COMPLETED) if running else ((), None)
            for future in done:
                world = running.pop(future)
                for verdict in future.result():
                    yield world, verdict


def settle_memory() -> None:
    """What was imported stays: collecting it after every seed took a fifth of the time. play_seed collects; twice is once too often."""
    gc.collect()
    gc.freeze()
    gc.disable()


def _play_chunk(chunk: Chunk) -> list[Verdict]:
    world, seeds = chunk
    verdicts = [play_seed(make_world(world, seed), seed) for seed in seeds]
    return [verdict if verdict.broken else verdict.without_trace() for verdict in verdicts]


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
