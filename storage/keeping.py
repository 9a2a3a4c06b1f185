"""What stays although nothing needs it any more: for copies of the live directory that may be under way.

    grace   a checkpoint, what it names and the log after it stay for copy_grace_s after the last need of it went, as far as all of that is
            within copy_grace_bytes: whatever order cp, rsync or tar take, a copy quicker than that holds one checkpoint whole
    holds   leases as files in _holds/ below the data directory: while one is in force nothing goes. `twinlog hold` writes them, in whatever
            process; a command that dies leaves a lease that ends by itself

    _holds/<id>.json   {"id", "databases": [names; none: all], "until_us": wall clock, "note": text}

Bounds (INV-8): HOLDS_MAX leases of HOLD_S_MAX each; while the disk is full neither grace nor holds keep anything. Knows no database, decides from plain
values; the clock is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from .disk import Disk
from .errors import Overloaded, TwinlogError

HOLDS = "_holds"
HOLDS_MAX = 16
HOLD_S_MAX = 24 * 3600.0


class Grace:
    """Since when each checkpoint of a database is there for copies only."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since: dict[int, float] = {}

    def keeps(self, unneeded: Sequence[int], now: float) -> list[int]:
        """Of checkpoints that nothing needs those that stay for now, oldest first."""
        self._since = {seq: self._since.get(seq, now) for seq in unneeded}
        return sorted(seq for seq, since in self._since.items() if now - since < self._grace_s)

    def is_over(self, now: float) -> bool:
        """Whether some checkpoint's time has ended since it was asked last."""
        return any(now - since >= self._grace_s for since in self._since.values())


def within(held: Sequence[int], needed_from: int, segments: Sequence[tuple[int, int]], bytes_max: int) -> list[int]:
    """Of the checkpoints held for copies, oldest first, those whose log fits into bytes_max. segments: (first seq, size) in order, the log
    after needed_from being needed anyhow."""
    ends = [first - 1 for first, _ in segments[1:]]
    held = list(held)
    while held:
        only = sum(size for (_, size), end in zip(segments, ends, strict=False) if held[0] < end <= needed_from)
        if only <= bytes_max:
            break
        held.pop(0)
    return held


@dataclass(frozen=True, slots=True)
class Hold:
    """One lease. databases: their names, none for all."""

    id: str
    databases: tuple[str, ...]
    until_us: int
    note: str = ""


def holds(disk: Disk, now_us: int) -> list[Hold]:
    """Those in force; the files of others are removed. Blocking."""
    found = []
    for name in disk.list_dir(HOLDS):
        path = f"{HOLDS}/{name}"
        if not name.endswith(".json"):
            continue
        try:
            value = json.loads(disk.read_file(path))
            hold = Hold(str(value["id"]), tuple(map(str, value["databases"])), int(value["until_us"]), str(value.get("note", "")))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            hold = Hold(name.removesuffix(".json"), (), 0)
        if now_us < hold.until_us <= now_us + int(HOLD_S_MAX * 1e6):
            found.append(hold)
        else:
            _remove(disk, path)
    return found[:HOLDS_MAX]


def is_held(disk: Disk, database: str, now_us: int) -> bool:
    """Whether a lease keeps the files of that database."""
    return any(not hold.databases or database in hold.databases for hold in holds(disk, now_us))


def take_hold(disk: Disk, hold_id: str, databases: Sequence[str], now_us: int, for_s: float, note: str = "") -> Hold:
    """Written and synced: what is removed from now on looks at it first. Again under the same id: a longer time. Raises Overloaded,
    TwinlogError (a time out of bounds)."""
    if not 0 < for_s <= HOLD_S_MAX:
        raise TwinlogError(f"a hold of {for_s:.0f} s: it must be over 0 and at most {HOLD_S_MAX:.0f} s; renew it for longer")
    others = [hold for hold in holds(disk, now_us) if hold.id != hold_id]
    if len(others) >= HOLDS_MAX:
        raise Overloaded(f"{len(others)} holds are in force, the limit is {HOLDS_MAX}; release one first", bound="holds", limit=HOLDS_MAX, retry_after_ms=0)
    hold = Hold(hold_id, tuple(databases), now_us + int(for_s * 1e6), note)
    disk.make_dir(HOLDS)
    value = {"id": hold.id, "databases": list(hold.databases), "until_us": hold.until_us, "note": note}
    disk.replace_file(f"{HOLDS}/{hold_id}.json", json.dumps(value).encode() + b"\n")
    return hold


def release_hold(disk: Disk, hold_id: str) -> bool:
    """False when there is none of that id. Blocking."""
    return _remove(disk, f"{HOLDS}/{hold_id}.json")


def _remove(disk: Disk, path: str) -> bool:
    try:
        disk.remove(path)
    except FileNotFoundError:
        return False
    return True
