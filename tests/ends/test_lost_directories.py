"""A node that comes back without its files: a standby is seeded anew; a primary is not followed into emptiness (INV-7)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from storage.commit.log import RECENT_BYTES_MAX
from tests.ends.pair_under_fire import BATCH, COLLECTION, DB, PairUnderFire

ROUNDS_MAX = 40  # a primary that writers press removes old log only after some seals
SMALL = "memtable_records_max: 1000\nlog_segment_mb: 1\ncopy_grace_s: 0\n"


def lose_directory(fire: PairUnderFire, name: str) -> None:
    """The worker of a killed node ends a moment after it, and may still make a file: then the removal is tried again."""
    fire.kill(name)
    directory = fire.directory / name
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)


def first_seqs(fire: PairUnderFire, name: str) -> list[int]:
    """Of the segments of a node's commit log."""
    return [int(segment.stem.split("-")[2]) for segment in (fire.directory / name / DB / "commit").glob("*.log")]


class Wide(PairUnderFire):
    pad = 4_000  # so that the log is soon longer than what is kept of it in memory


def test_a_standby_without_its_directory_is_seeded_while_writes_go_on(tmp_path: Path) -> None:
    with Wide(tmp_path, SMALL) as fire:
        for _ in range(ROUNDS_MAX):
            fire.wait_for_more(50 * BATCH)  # a memtable
            if min(first_seqs(fire, "a")) > 1 and len(fire.acknowledged) * fire.pad > 2 * RECENT_BYTES_MAX:
                break  # the log no longer holds its beginning, neither on the disk nor in memory
        else:
            raise AssertionError("the log went on holding its beginning: the test shows nothing")
        lose_directory(fire, "b")
        fire.wait_for_more(20 * BATCH)
        fire.start()
        fire.wait_for_more(20 * BATCH)
        fire.finish()
        marks = fire.wait_equal()
        assert marks["a"] == marks["b"]
        assert fire.numbers_on("b") >= fire.acknowledged
        orders = re.findall(rf"b: {DB}: STREAM (\d+)", (fire.directory / "a.log").read_text())
        assert int(orders[-1]) > 1, "it was given a checkpoint and the log from there, not the log from its beginning"
        assert min(first_seqs(fire, "b")) > 1


def test_a_standby_with_data_refuses_an_emptied_primary_and_takes_over(tmp_path: Path) -> None:
    with PairUnderFire(tmp_path, SMALL) as fire:
        fire.wait_for_more(30 * BATCH)
        fire.finish()
        fire.wait_equal()
        kept = fire.acknowledged
        lose_directory(fire, "a")
        fire.start()
        addresses = fire.local.addresses()

        def refused() -> str | None:
            with fire.connect(read="any") as client:
                alarms = client.status(addresses["b"])["alarms"]
            return None if any(alarm["kind"] in ("refused-copy", "unknown-to-primary") for alarm in alarms) else f"{alarms}"

        fire.local.wait_ready(refused)
        assert fire.numbers_on("b") >= kept, "nothing was copied over the standby's own"
        with fire.connect() as client:
            client.promote(addresses["b"], force=True)

        def fenced() -> str | None:
            with fire.connect() as client:
                role = client.status(addresses["a"])["role"]
            return None if role == "standby" else f"a is still {role}"

        fire.local.wait_ready(fenced)  # until then both take writes, each in its own epoch (INV-4)
        with fire.connect() as client:
            client[DB][COLLECTION].insert_one({"_id": "after", "n": -1})

        def followed() -> str | None:
            with fire.connect() as client:
                mark = client.status(addresses["b"], mark=True)["databases"][DB]["mark"]
            return None if len(mark["nodes"]) == 2 and mark["equal"] else f"{mark}"

        fire.local.wait_ready(followed)
        assert fire.numbers_on("a") == fire.numbers_on("b") >= kept | {-1}
