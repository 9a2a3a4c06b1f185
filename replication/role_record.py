"""The record of a node's roles: every change of role and epoch, one line each, beside role.json. Codec and file; decides nothing.

    role_changes.log       3f1c22d0 {"number":7,"time_us":...,"role":"standby","epoch":3,"why":"..."}
                           └ crc32 of the JSON text behind the space, 8 hex digits; then a newline
    role_changes.log.1     what stood in it before it reached RECORD_BYTES_MAX; replaced by the next one

A line is appended and synced. One that a crash tore does not have its crc: it is skipped, counted, and closed by a newline before the
next is written. Numbers run on from one file to the next, so the first one held says how many changes
were let go. A change that could not be written is kept in memory, said in the log, and written with the next one.
role.json is what counts; this file is for people.
"""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import asdict, dataclass

import trio

from storage import Seams

from .roles import Role, RoleState

log = logging.getLogger("twinlog.replication")

RECORD_FILE = "role_changes.log"
RECORD_FILE_BEFORE = "role_changes.log.1"
RECORD_BYTES_MAX = 256 * 2**10  # of one file
UNWRITTEN_MAX = 100
NEWEST = 1_000  # changes told at once


@dataclass(frozen=True, slots=True)
class RoleChange:
    """number: 1 is the first change of this node. time_us: by its wall clock, which orders nothing."""

    number: int
    time_us: int
    role: Role
    epoch: int
    why: str


def write_change(change: RoleChange) -> bytes:
    text = json.dumps({**asdict(change), "role": change.role.value}).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_changes(data: bytes) -> tuple[list[RoleChange], int]:
    """The changes in one file, and how many lines are none."""
    changes: list[RoleChange] = []
    torn = 0
    for line in data.split(b"\n"):
        change = _read_line(line)
        if change is not None:
            changes.append(change)
        elif line:
            torn += 1
    return changes, torn


def _read_line(line: bytes) -> RoleChange | None:
    try:
        if line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        value = json.loads(line[9:])
        return RoleChange(int(value["number"]), int(value["time_us"]), Role(value["role"]), int(value["epoch"]), str(value["why"]))
    except (ValueError, KeyError, TypeError):
        return None


class RoleRecord:
    """Of one node. Invariant: `changes` are in the order of their numbers, the newest NEWEST at most."""

    def __init__(self, seams: Seams) -> None:
        self._seams = seams
        self._unwritten: list[RoleChange] = []
        self._next = 1
        self.changes: list[RoleChange] = []
        self.unreadable = 0  # lines that are no change

    @property
    def let_go(self) -> int:
        """How many changes before the first one of `changes` there were."""
        return self.changes[0].number - 1 if self.changes else 0

    async def open(self) -> None:
        disk = self._seams.disk
        held: dict[int, RoleChange] = {}
        for path in (RECORD_FILE_BEFORE, RECORD_FILE):
            if disk.exists(path):
                changes, torn = read_changes(await disk.run(disk.read_file, path))
                held.update((change.number, change) for change in changes)  # a write whose sync failed may stand there twice
                self.unreadable += torn
        self.changes = [held[number] for number in sorted(held)]
        if self.unreadable:
            log.warning("%s: %d lines are unreadable and passed over", RECORD_FILE, self.unreadable)
        self._next = max(held, default=0) + 1
        del self.changes[:-NEWEST]

    async def add(self, state: RoleState) -> None:
        """Put the newest state on record, on disk where that is possible; a disk that fails stops no change of role."""
        if self.changes and (self.changes[-1].role, self.changes[-1].epoch) == (state.role, state.epoch):
            return
        change = RoleChange(self._next, self._seams.time_us(), state.role, state.epoch, state.why)
        self._next += 1
        self.changes.append(change)
        del self.changes[:-NEWEST]
        self._unwritten.append(change)
        del self._unwritten[:-UNWRITTEN_MAX]
        try:
            with trio.CancelScope(shield=True):
                await self._seams.disk.run(self._write, b"".join(map(write_change, self._unwritten)))
            self._unwritten.clear()
        except OSError as error:
            log.error("%s could not be written (%s): the change stands in role.json, and here with the next one", RECORD_FILE, error)

    def _write(self, lines: bytes) -> None:
        disk = self._seams.disk
        if disk.exists(RECORD_FILE) and disk.size(RECORD_FILE) + len(lines) > RECORD_BYTES_MAX:
            disk.rename(RECORD_FILE, RECORD_FILE_BEFORE)
            log.warning("%s begins anew: what it held is %s, in place of what was there", RECORD_FILE, RECORD_FILE_BEFORE)
        is_new = not disk.exists(RECORD_FILE)
        file = disk.create(RECORD_FILE) if is_new else disk.open_append(RECORD_FILE)
        try:
            if file.size and file.read_at(file.size - 1, 1) != b"\n":
                file.append(b"\n")
            file.append(lines)
            file.sync()
        finally:
            file.close()
        if is_new:
            disk.sync_dir("")
