"""The blocking client against a local pair, encrypted: inserts, gets and a scan, medians of several rounds.

    python benchmarks/pair.py [--rounds 5]

Starts a pair of its own below a temporary directory on free ports and stops it. Says what machine it ran on. It has no peer beside it: its figures
tell a change of Twinlog from one run to the next on one machine, nothing about other databases.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import twinlog
from ops import pair

DOCUMENT_BYTES = 200
BULK = 50_000
SINGLE = 2_000
THREADS = 16


def documents(first: int, count: int) -> list[dict]:
    return [{"_id": n, "name": f"user{n}", "score": n * 1.5, "pad": "x" * 140} for n in range(first, first + count)]


def rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def in_threads(work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def one_round(client: twinlog.Client, number: int) -> dict[str, float]:
    collection = client["bench"][f"round{number}"]
    bulk, single = documents(0, BULK), documents(BULK, SINGLE)
    many = {n: documents(10**6 * (n + 1), SINGLE // THREADS) for n in range(THREADS)}
    return {
        "insert_many, documents/s": rate(BULK, lambda: collection.insert_many(bulk)),
        "insert_one, 1 thread": rate(SINGLE, lambda: [collection.insert_one(doc) for doc in single]),
        f"insert_one, {THREADS} threads": rate(
            SINGLE // THREADS * THREADS, lambda: in_threads(lambda n: [collection.insert_one(doc) for doc in many[n]])
        ),
        "find_one by _id, 1 thread": rate(SINGLE, lambda: [collection.find_one({"_id": n * 7}) for n in range(SINGLE)]),
        "find by scan, documents/s": rate(BULK, lambda: sum(1 for _ in collection.find({"score": {"$gte": 0}}))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    pair.PORTS_USUAL = (0,) * len(pair.PORTS_USUAL)
    with tempfile.TemporaryDirectory() as directory, pair.opened(Path(directory)) as local:
        local.prepare()
        local.start_missing()
        try:
            with twinlog.connect(local.url(), pool=THREADS, retry_s=30) as client:
                client.create_database("bench")
                results = [one_round(client, number) for number in range(rounds)]
        finally:
            local.stop()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    print(f"{rounds} rounds, documents of about {DOCUMENT_BYTES} bytes\n\n| per second | median | lowest | highest |\n|---|---|---|---|")
    for name in results[0]:
        values = [result[name] for result in results]
        print(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} | {max(values):,.0f} |")


if __name__ == "__main__":
    main()
