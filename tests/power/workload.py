"""Writes to be cut off: inserts, updates, deletions, unique and field indexes, sealing, with each acknowledgement noted in order of time.

`Journal.at(seq)` is the database's content after that commit, worked out without the engine.
"""

from __future__ import annotations

import random
from typing import Any

import trio

from storage import (
    Database,
    Engine,
    EngineOptions,
    Seams,
    SyncMode,
    WorkHere,
    encode_document,
    operations,
    wall_clock_us,
)
from tests.engine.model import settled
from tests.power.recording import Recording, RecordingDisk

FLUSH_S = 0.02
COLLECTION = "things"
LATE_STEP_S = 0.005


def options(mode: SyncMode) -> EngineOptions:
    return EngineOptions(
        sync_mode=mode, flush_interval_s=FLUSH_S, shards=2, memtable_records_max=40, log_segment_bytes=12_000, free_bytes_min=0,
        index_rows_min=5, copy_grace_s=0.0, cache_bytes=2**20,
    )  # fmt: skip


class Journal:
    """What each commit changed: seq -> {_id: document or None}."""

    def __init__(self, mode: SyncMode) -> None:
        self.mode = mode
        self.changes: list[tuple[int, dict[int, dict | None]]] = []
        self.slack_s = 0.0  # how late the loop and the device were at the worst

    def at(self, seq: int) -> dict[int, dict]:
        documents: dict[int, dict] = {}
        for number, change in self.changes:
            if number > seq:
                break
            for key, document in change.items():
                if document is None:
                    documents.pop(key, None)
                else:
                    documents[key] = document
        return documents


async def record(root: str, mode: SyncMode, rng: random.Random, rounds: int) -> tuple[Recording, Journal]:
    """One run of the workload in an empty directory."""
    recording, journal = Recording(), Journal(mode)
    disk = RecordingDisk(root, recording)
    seams = Seams(disk, wall_clock_us, rng.randbytes, WorkHere(disk))
    async with Engine.open(seams, options=options(mode)) as engine:
        database = await engine.create_database("db")
        await settled(database, database.begin_reign(1))
        await operations.create_index(database, COLLECTION, {"u": 1}, {"unique": True})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_lateness, journal)
            for number in range(rounds):
                await _round(database, journal, recording, rng, number)
            nursery.cancel_scope.cancel()
    journal.slack_s += 2 * recording.longest_sync_s  # a commit may come right after a sync began, and is synced by the one after it
    return recording, journal


async def _watch_lateness(journal: Journal) -> None:
    while True:
        before = trio.current_time()
        await trio.sleep(LATE_STEP_S)
        journal.slack_s = max(journal.slack_s, trio.current_time() - before - LATE_STEP_S)


async def _round(database: Database, journal: Journal, recording: Recording, rng: random.Random, number: int) -> None:
    living = journal.at(1 << 62)
    kind = rng.random()
    if kind < 0.6 or not living:
        count = rng.choice([1, 1, 1, 3, 20])
        made = {number * 100 + n: _document(rng, number * 100 + n) for n in range(count)}
        result = await operations.insert(database, COLLECTION, [encode_document(doc) for doc in made.values()])
        change: dict[int, Any] = dict(made)
    elif kind < 0.85:
        key = rng.choice(sorted(living))
        changed = {**living[key], "v": number, "u": f"again{number}"}
        result = await operations.update(database, COLLECTION, {"_id": key}, {"$set": {"v": number, "u": f"again{number}"}})
        change = {key: changed}
    elif kind < 0.97:
        key = rng.choice(sorted(living))
        result = await operations.delete(database, COLLECTION, {"_id": key})
        change = {key: None}
    else:
        await operations.count(database, COLLECTION, {"v": {"$gt": 3}})
        return
    journal.changes.append((result.seq, change))
    await settled(database, result.seq)
    recording.note("ack", result.seq)
    if database.engine_options.sync_mode is SyncMode.ASYNC:
        await trio.sleep(rng.choice([0, 0, 0.001]))


def _document(rng: random.Random, key: int) -> dict[str, Any]:
    return {"_id": key, "u": f"u{key}", "v": rng.randrange(50), "pad": "y" * rng.choice([0, 10, 300, 300, 3000])}
