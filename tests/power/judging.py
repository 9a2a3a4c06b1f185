"""Opening what a power cut left, with the real disk, and holding it against the journal (INV-1, INV-2, INV-6)."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import trio

from storage import (
    Database,
    Engine,
    Severity,
    SyncMode,
    check_database,
    encode_document,
    operations,
    real_seams,
)
from storage.disk import OsDisk
from storage.errors import ReadOnly
from tests.engine.model import everything, settled
from tests.power.recording import Recording
from tests.power.replaying import rebuild
from tests.power.workload import COLLECTION, FLUSH_S, Journal, options, record


@dataclass(slots=True)
class Outcome:
    """Of many points. broken: a line for each violation."""

    points: int = 0
    lost_commits: int = 0  # not promised, so no violation
    kept_commits: int = 0  # beyond what was promised
    broken: list[str] = field(default_factory=list)


async def promised_seq(recording: Recording, journal: Journal, point: int) -> int:
    """The newest commit that must be there. Async: acknowledged flush_interval_s, and how late the machine was, before the cut."""
    events = recording.events[:point]
    if not events:
        return 0
    until = events[-1].at_s
    if journal.mode is SyncMode.ASYNC:
        until -= FLUSH_S + journal.slack_s
    return max((event.what[0] for event in events if event.kind == "ack" and event.at_s <= until), default=0)


async def judge(recording: Recording, journal: Journal, point: int, rng: random.Random, outcome: Outcome, label: str) -> None:
    with tempfile.TemporaryDirectory(prefix="twinlog-power-", dir=_quick_place()) as root:
        rebuild(recording, point, root, rng)
        outcome.points += 1
        promised = await promised_seq(recording, journal, point)
        try:
            fault = await _fault(root, recording, journal, promised, point, rng, outcome)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        if fault:
            outcome.broken.append(f"{label} point {point} of {len(recording.events)}: {fault}")


async def _fault(
    root: str, recording: Recording, journal: Journal, promised: int, point: int, rng: random.Random, outcome: Outcome
) -> str:
    waits = ReadOnly("what was left is looked at first")  # an index whose build was cut off would be finished at once, by a commit
    async with Engine.open(real_seams(root), options=options(journal.mode), refusal=waits) as engine:
        if "db" not in engine.databases:
            return f"not opened though commit {promised} is promised: {engine.unopened}" if promised else ""
        database = engine.databases["db"]
        if database.damaged:
            return f"taken for damaged: {database.findings}"
        seq = database.position.seq
        if seq < promised:
            return f"INV-1: opened at {seq}, commit {promised} was acknowledged"
        if any("is a copy" in finding for finding in database.findings):
            return "a directory that was never copied is taken for a copy"
        outcome.kept_commits += seq - promised
        fault = await _differs(database, journal, seq)
        if fault:
            return f"INV-2: at {seq}: {fault}"
        database.refuse_writes(None)
        if database.history:
            result = await operations.insert(database, COLLECTION, [encode_document({"_id": -1, "u": f"after{n}"}) for n in range(1)])
            await settled(database, result.seq)
            if rng.random() < 0.5:
                await database.sealing.seal_now()
    found = [finding for finding in check_database(OsDisk(root), "db") if finding.severity is Severity.ERROR]
    return f"the checker: {found}" if found else ""


async def _differs(database: Database, journal: Journal, seq: int) -> str:
    expected = journal.at(seq)
    found = {doc["_id"]: doc for doc in await everything(database, COLLECTION)}
    if found != expected:
        wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        return f"documents {wrong[:5]} and {max(0, len(wrong) - 5)} more are not as they were"
    by_value = await operations.count(database, COLLECTION, {"v": {"$gt": 20}})
    if by_value != sum(doc["v"] > 20 for doc in expected.values()):
        return "a query by a field finds others than a scan"
    for key in sorted(expected)[:3]:
        if await operations.count(database, COLLECTION, {"u": expected[key]["u"]}) != 1:
            return f"the unique index does not find document {key}"
    return ""


def _quick_place() -> str | None:
    """Memory, where there is some: what is opened there was cut already."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run_points(points: int, seed: int, *, rounds: int = 150, points_a_run: int = 50) -> Outcome:
    """Both sync modes by turns, a new workload every points_a_run points."""
    outcome = Outcome()
    number = 0
    while outcome.points < points:
        rng = random.Random(f"{seed}/{number}")
        mode = (SyncMode.SYNC, SyncMode.ASYNC)[number % 2]
        with tempfile.TemporaryDirectory(prefix="twinlog-power-") as root:
            recording, journal = trio.run(record, root, mode, rng, rounds)
        count = min(points_a_run, points - outcome.points)
        for _ in range(count):
            point = rng.randint(0, len(recording.events))
            trio.run(judge, recording, journal, point, rng, outcome, f"seed {seed} run {number} {mode.value}")
        number += 1
    return outcome
