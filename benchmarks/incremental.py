"""An incremental backup beside a full one: bytes written and seconds, of one database before and after a few new documents.

    python -m benchmarks.incremental DIR [--bytes 1GB] [--new 0.01]

In one process, over a directory that is made below DIR and removed again. Each backup is verified down to its documents, which is timed too; the
page cache is as warm as writing has left it. Prints one row for each backup and the machine's load.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import twinlog

BATCH = 5_000
UNITS = {"MB": 10**6, "GB": 10**9}
WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima")


@dataclass(frozen=True, slots=True)
class Row:
    """One backup. size, written: bytes of what it holds, and of what was put on the shelf for it."""

    what: str
    kind: str
    size: int
    written: int
    seconds: float
    verify_s: float


def documents(first: int, count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """About 1 KB each, hardly two alike."""
    for number in range(first, first + count):
        yield {"_id": number, "user": number % 10_007, "text": " ".join(rng.choices(WORDS, k=60)), "salt": rng.randbytes(500)}


def fill(collection: Any, first: int, count: int, rng: random.Random) -> None:
    for start in range(first, first + count, BATCH):
        collection.insert_many(list(documents(start, min(BATCH, first + count - start), rng)))


def backed_up(database: Any, what: str, *, incremental: bool) -> Row:
    began = time.perf_counter()
    made = database.backup(incremental=incremental)
    took = time.perf_counter() - began
    began = time.perf_counter()
    if not database.verify_backup(made["name"])["good"]:
        raise SystemExit(f"{made['name']} cannot be restored")
    return Row(what, made["kind"], made["size_bytes"], made["written_bytes"], took, time.perf_counter() - began)


def measure(directory: str, size: int, new: float) -> list[Row]:
    rng = random.Random(1)
    count = size // 1_000
    with twinlog.open(directory) as client:
        database = client["shop"]
        fill(database["things"], 0, count, rng)
        rows = [backed_up(database, "all of it", incremental=False)]
        fill(database["things"], count, max(1, int(count * new)), rng)
        rows.append(backed_up(database, f"and {new:.1%} new documents", incremental=True))
        rows.append(backed_up(database, "the same, full", incremental=False))
        rows.append(backed_up(database, "nothing new", incremental=True))
    return rows


def size_of(text: str) -> int:
    number, unit = text[:-2], text[-2:].upper()
    if unit not in UNITS or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: 200MB or 1GB")
    return int(number) * UNITS[unit]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incremental", description="An incremental backup beside a full one.")
    parser.add_argument("directory", help="on the disk that is to be measured")
    parser.add_argument("--bytes", dest="size", type=size_of, default=10**9, help="of documents, as 200MB or 1GB")
    parser.add_argument("--new", type=float, default=0.01, help="which part of them is added after the first backup")
    asked = parser.parse_args()
    directory = tempfile.mkdtemp(dir=asked.directory)
    try:
        rows = measure(directory, asked.size, asked.new)
    finally:
        shutil.rmtree(directory)
    print(f"{'':<24} {'kind':<12} {'bytes of it':>14} {'bytes written':>14} {'seconds':>8} {'verified in':>12}")
    for row in rows:
        print(f"{row.what:<24} {row.kind:<12} {row.size:>14,} {row.written:>14,} {row.seconds:>8.2f} {row.verify_s:>12.2f}")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
