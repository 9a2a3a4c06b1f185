"""The record of roles: its lines, torn and rotten ones, its bound, and a disk that fails."""

from __future__ import annotations

from itertools import count

import pytest

from replication import role_record
from replication.role_record import (
    RECORD_FILE,
    RECORD_FILE_BEFORE,
    RoleChange,
    RoleRecord,
    read_changes,
    write_change,
)
from replication.roles import Role, RoleState
from storage import MemoryDisk, Seams, WorkHere

CHANGES = [RoleChange(number, 10 * number, role, number, f"why {number} — ü\n") for number, role in enumerate(Role, 1)]
LINES = [write_change(change) for change in CHANGES]


def seams_on(disk: MemoryDisk) -> Seams:
    ticks = count(1)
    return Seams(disk, lambda: next(ticks), lambda size: bytes(size), WorkHere(disk))


async def opened(disk: MemoryDisk) -> RoleRecord:
    record = RoleRecord(seams_on(disk))
    await record.open()
    return record


def test_a_cut_at_every_byte_loses_the_last_line_alone() -> None:
    whole = b"".join(LINES)
    assert read_changes(whole) == (CHANGES, 0)
    before = len(whole) - len(LINES[-1])
    for end in range(before, len(whole)):
        changes, torn = read_changes(whole[:end])
        if end == len(whole) - 1:  # all but the newline
            assert (changes, torn) == (CHANGES, 0)
        else:
            assert changes == CHANGES[:-1] and torn == (end > before)


def test_a_flipped_byte_anywhere_is_never_taken_for_a_change() -> None:
    whole = bytearray(b"".join(LINES))
    for place in range(len(whole)):
        whole[place] ^= 1
        changes, torn = read_changes(bytes(whole))
        assert set(changes) <= set(CHANGES) and torn
        whole[place] ^= 1


@pytest.mark.parametrize("cut", [2, 5, 20])
async def test_a_torn_line_is_closed_and_the_next_one_is_read(cut: int) -> None:
    disk = MemoryDisk()
    disk.replace_file(RECORD_FILE, b"".join(LINES)[:-cut])
    record = await opened(disk)
    await record.add(RoleState(Role.PRIMARY, 9, "next"))
    again = await opened(disk)
    assert again.unreadable == 1
    assert [change.epoch for change in again.changes] == [1, 2, 3, 9]
    assert again.changes[-1].number == 4


async def test_the_same_role_and_epoch_are_put_down_once() -> None:
    disk = MemoryDisk()
    record = await opened(disk)
    for why in ("one", "two"):
        await record.add(RoleState(Role.STANDBY, 1, why))
    again = await opened(disk)
    await again.add(RoleState(Role.STANDBY, 1, "after a restart"))
    assert [change.why for change in (await opened(disk)).changes] == ["one"]


async def test_it_is_bounded_and_says_how_much_it_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_record, "RECORD_BYTES_MAX", 2_000)
    disk = MemoryDisk()
    record = await opened(disk)
    for epoch in range(1, 201):
        await record.add(RoleState(Role.STANDBY, epoch, "x" * 50))
    assert disk.size(RECORD_FILE) <= 2_000 and disk.size(RECORD_FILE_BEFORE) <= 2_000
    again = await opened(disk)
    held = [change.number for change in again.changes]
    assert held == list(range(again.let_go + 1, 201)) and again.let_go > 100
    assert [change.epoch for change in again.changes] == held


class FailingDisk(MemoryDisk):
    fails = False

    async def run(self, call, *args):
        if self.fails:
            raise OSError(28, "no space")
        return await super().run(call, *args)


async def test_what_could_not_be_written_is_written_with_the_next_change() -> None:
    disk = FailingDisk()
    record = await opened(disk)
    disk.fails = True
    await record.add(RoleState(Role.PRIMARY, 1, "on a full disk"))
    assert not disk.exists(RECORD_FILE) and len(record.changes) == 1
    disk.fails = False
    await record.add(RoleState(Role.STANDBY, 2, "later"))
    assert [change.epoch for change in (await opened(disk)).changes] == [1, 2]
