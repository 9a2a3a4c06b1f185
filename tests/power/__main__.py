"""python -m tests.power --points 1000 --seed N: a line for each violation, then the counts; exit code 1 when there was one."""

from __future__ import annotations

import argparse
import logging
import sys

from tests.power.judging import run_points


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.power", description="Power cuts replayed from recorded writes.")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    outcome = run_points(arguments.points, arguments.seed)
    for line in outcome.broken:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(
        f"{outcome.points} points, {len(outcome.broken)} violations; {outcome.kept_commits} commits kept beyond what was promised\n"
    )
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
