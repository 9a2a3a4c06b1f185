"""A standby's log after kill -9 and after what a power cut leaves, with real processes: nothing that the primary has is lost, nothing is called
damaged that only the primary had synced, and the standby goes on by itself (INV-2, INV-7)."""

from __future__ import annotations

import random
from pathlib import Path

from storage.commit.scan import list_segments
from storage.commit.segment import HEADER_BYTES, decode_header
from storage.commit.synced import heard, path_of
from storage.disk import OsDisk
from storage.identity import read as read_identity
from tests.ends.pair_under_fire import BATCH, DB, PairUnderFire

PAGE = 4096
SETTINGS = "sync_mode: sync\n"  # so that every frame carries what the primary had synced before it


def alarms(fire: PairUnderFire) -> list[str]:
    """Of both nodes' logs: lines about damage."""
    logs = "".join((fire.directory / f"{name}.log").read_text() for name in "ab")
    return [line for line in logs.splitlines() if any(word in line for word in ("damaged", "read-only", "had been synced"))]


def lose_a_page(data: Path) -> int:
    """What a power cut may leave of a log that was not synced: a later page without an earlier one. The word of the node goes first, as a file
    that is never synced does. Returns how many bytes are behind the page."""
    disk = OsDisk(data)
    assert heard(disk, DB, read_identity(disk, DB).uuid) > 0
    disk.remove(path_of(DB))
    for path, _ in reversed(list_segments(disk, DB)):
        written = len(disk.read_file(path).rstrip(b"\0"))
        if written > HEADER_BYTES + 4 * PAGE:
            assert decode_header(disk.read_file(path), path).is_followed
            at = written // 2 // PAGE * PAGE
            disk.overwrite(path, at, bytes(PAGE))
            return written - at - PAGE
    raise AssertionError("no segment is long enough")


def test_a_standby_killed_and_left_without_a_page_goes_on_by_itself(tmp_path: Path) -> None:
    rng = random.Random(7)
    with PairUnderFire(tmp_path, SETTINGS) as fire:
        for _ in range(3):
            fire.wait_for_more(rng.randint(10, 30) * BATCH)
            fire.kill("b")
            fire.start()
        fire.wait_for_more(40 * BATCH)
        fire.kill("b")
        assert lose_a_page(tmp_path / "b") > PAGE
        fire.start()
        fire.wait_for_more(BATCH)
        fire.finish()
        marks = fire.wait_equal()
        assert marks["a"] == marks["b"] and marks["a"][2]
        assert not fire.acknowledged - fire.numbers_on("b") and not fire.acknowledged - fire.numbers_on("a")
        assert list(tmp_path.glob(f"b/{DB}/salvage/torn-*.bin")), "what was cut is kept"
        assert alarms(fire) == []
