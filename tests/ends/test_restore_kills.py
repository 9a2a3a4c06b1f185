"""kill -9 of the primary at any moment of a restore, with real processes: never a lost database, always one of the two states (INV-4, INV-7)."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import twinlog
from tests.ends.pair_under_fire import PairUnderFire
from twinlog.errors import TwinlogError

RETRY_S = 120
DB = "shop"
SETTINGS = "memtable_records_max: 1000\nheartbeat_ms: 50\nshards: 2\n"


def ids(client: twinlog.Client) -> list[int]:
    return sorted(document["_id"] for document in client[DB]["things"].find({}))


class RestoreUnderFire:
    """One pair, one backup; each round writes more, restores, and kills the primary in the middle of it."""

    def __init__(self, fire: PairUnderFire, seed: int) -> None:
        self._fire = fire
        self._rng = random.Random(seed)
        self._next = 1_000
        self.outcomes: Counter[str] = Counter()
        with fire.connect(retry_s=RETRY_S) as client:
            client[DB]["things"].insert_many([{"_id": number} for number in range(300)])
            self._held = ids(client)
            self._name = client[DB].backup()["name"]
            began = time.monotonic()
            client[DB].restore_backup(self._name)
            self._longest_s = 1.5 * (time.monotonic() - began)  # moments are drawn from it; it follows what comes of them

    def round(self) -> None:
        with self._fire.connect(retry_s=RETRY_S) as client:
            before = ids(client)
            for _ in range(self._rng.randint(1, 5)):
                client[DB]["things"].insert_one({"_id": self._next})
                before.append(self._next)
                self._next += 1
        ended = threading.Event()
        restoring = threading.Thread(target=self._restore, args=(ended,), daemon=True)
        restoring.start()
        ended.wait(self._rng.uniform(0, self._longest_s))
        self.outcomes["killed afterwards" if ended.is_set() else "killed meanwhile"] += 1
        self._fire.kill("a")
        restoring.join(60)
        self._fire.start()
        with self._fire.connect(retry_s=RETRY_S) as client:
            client[DB]["things"].insert_one({"_id": -self._next})
            client[DB]["things"].delete_one({"_id": -self._next})
            found = ids(client)
            assert found in (sorted(before), self._held), f"{len(found)} documents, neither {len(before)} nor {len(self._held)}"
            self.outcomes["restored" if found == self._held else "as it was"] += 1
            self._longest_s *= 0.75 if found == self._held else 1.4
            self._compare(client)
            assert [row["name"] for row in client[DB].list_backups()] == [self._name]
            safeties = client[DB].list_backups(safety=True)
            assert all("problem" not in row for row in safeties)
            for row in client[DB].list_backups(safety=True):
                client[DB].delete_backup(row["name"])

    def _restore(self, ended: threading.Event) -> None:
        try:
            with self._fire.connect(retry_s=0) as client:
                client[DB].restore_backup(self._name, wait_s=30)
            ended.set()
        except TwinlogError:
            pass  # its node was killed

    def _compare(self, client: twinlog.Client) -> None:
        """Until the standby has answered a MARK; it must be equal."""
        for _ in range(200):
            mark = client.status(mark=True)["databases"][DB].get("mark")
            if mark and len(mark["nodes"]) == 2:
                assert mark["equal"] is True, mark
                return
        raise AssertionError("the standby does not come")


def restore_loop(directory: Path, rounds: int, seed: int) -> Counter[str]:
    with PairUnderFire(directory, SETTINGS) as fire:
        under_fire = RestoreUnderFire(fire, seed)
        for _ in range(rounds):
            under_fire.round()
        fire.finish()
        return under_fire.outcomes


def test_a_few_restores_that_are_killed(tmp_path: Path) -> None:
    outcomes = restore_loop(tmp_path, 4, seed=5)
    assert outcomes["restored"] + outcomes["as it was"] == 4


MANY = 50


@pytest.mark.sweep
def test_many_restores_that_are_killed(tmp_path: Path, kills: int) -> None:
    outcomes = restore_loop(tmp_path, kills, random.SystemRandom().randrange(2**32))
    assert outcomes["restored"] + outcomes["as it was"] == kills, outcomes
    if kills >= MANY:  # of a few, all may fall on one side of the moment that decides
        assert outcomes["restored"] and outcomes["as it was"] and outcomes["killed meanwhile"], outcomes
