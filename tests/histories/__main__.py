"""python -m tests.histories --transactions 100000 --seed N --clients 16: run so many concurrent transactions, and check what they saw."""

from __future__ import annotations

import argparse
import sys
import time

import trio

from .checker import check
from .history import Outcome
from .running import Plan, run
from .test_checker import without_positions


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--transactions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--keys", type=int, default=48)
    asked = parser.parse_args()
    began = time.perf_counter()
    ran = trio.run(run, Plan(transactions=asked.transactions, seed=asked.seed, clients=asked.clients, keys=asked.keys))
    ran_s = time.perf_counter() - began
    committed = sum(transaction.outcome is Outcome.COMMITTED for transaction in ran.history)
    _say(
        f"{len(ran.history)} transactions of {asked.clients} clients in {ran_s:.1f} s: {committed} committed, {ran.conflicts} conflicts, "
        f"{ran.seals} seals"
    )
    found = []
    for what, history in (("with positions", ran.history), ("without", without_positions(ran.history))):
        began = time.perf_counter()
        findings = check(history)
        _say(f"checked {what} in {time.perf_counter() - began:.1f} s: {len(findings)} findings")
        found += findings
    for finding in found[:20]:
        _say(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
