"""What SimDisk loses and what it must keep. The promise suite of the seam itself is tests/disk/."""

from __future__ import annotations

import errno
import random

import pytest
import trio
from trio.testing import MockClock

from storage import Seams
from tests.sim.disk import ROOT, Platter, SimCrash, SimDisk
from tests.sim.machine import Machine
from tests.sim.nemesis import heal
from tests.sim.trace import Trace


def cut_power(disk: SimDisk) -> SimDisk:
    disk.kill()
    disk.platter.power_cut()
    return disk.platter.mount()


def synced_file(disk: SimDisk, path: str, data: bytes) -> None:
    file = disk.create(path)
    file.append(data)
    file.sync()
    disk.sync_dir(ROOT)


@pytest.mark.parametrize("seed", range(30))
def test_power_cut_keeps_synced_bytes_and_at_most_the_length_written(seed: int) -> None:
    disk = Platter(random.Random(seed)).mount()
    synced_file(disk, "log", b"s" * 700)
    disk.open_append("log").append(b"u" * 2000)
    after = cut_power(disk).read_file("log")
    assert after[:700] == b"s" * 700
    assert len(after) <= 2700


def test_power_cuts_differ_and_sometimes_tear_and_zero() -> None:
    tails = set()
    zeros = 0
    for seed in range(200):
        disk = Platter(random.Random(seed)).mount()
        synced_file(disk, "log", b"s" * 100)
        disk.open_append("log").append(b"u" * 3000)
        tail = cut_power(disk).read_file("log")[100:]
        tails.add(len(tail))
        zeros += bytes(512) in tail
    assert {0, 3000} <= tails
    assert len(tails) > 20
    assert zeros > 10


def test_reserved_space_survives_a_power_cut_and_the_unsynced_tail_in_it_does_not_always() -> None:
    lengths, lost = set(), 0
    for seed in range(60):
        disk = Platter(random.Random(seed)).mount()
        file = disk.create("log")
        file.reserve(5000)
        disk.sync_dir(ROOT)
        file.append(b"s" * 700)
        file.sync()
        file.append(b"u" * 2000)
        after = cut_power(disk).read_file("log")
        assert after[:700] == b"s" * 700 and not after[2700:].strip(b"\0")
        lengths.add(len(after))
        lost += after[700:2700] != b"u" * 2000
        assert disk.platter.used_bytes == len(after)
    assert lengths == {5000} and lost > 10


def test_a_trim_is_sometimes_undone_by_a_power_cut() -> None:
    lengths = set()
    for seed in range(30):
        disk = Platter(random.Random(seed)).mount()
        file = disk.create("log")
        file.reserve(5000)
        disk.sync_dir(ROOT)
        file.append(b"s" * 700)
        file.sync()
        file.trim()
        assert disk.platter.used_bytes == disk.size("log") == 700
        after = cut_power(disk).read_file("log")
        assert after.rstrip(b"\0") == b"s" * 700
        lengths.add(len(after))
    assert lengths == {700, 5000}


def test_kill_keeps_everything_and_ends_the_mount() -> None:
    platter = Platter(random.Random(1))
    disk = platter.mount()
    file = disk.create("log")
    file.append(b"abc")
    disk.kill()
    for call in (lambda: file.append(b"d"), file.sync, lambda: disk.create("x"), lambda: disk.list_dir(ROOT)):
        with pytest.raises(SimCrash):
            call()
    assert platter.mount().read_file("log") == b"abc"


def test_a_name_is_durable_only_after_sync_dir_even_when_its_bytes_are() -> None:
    outcomes = set()
    for seed in range(30):
        disk = Platter(random.Random(seed)).mount()
        disk.make_dir("db")
        disk.sync_dir(ROOT)
        file = disk.create("db/a")
        file.append(b"x")
        file.sync()
        outcomes.add(cut_power(disk).exists("db/a"))
    assert outcomes == {True, False}


def test_rename_is_undone_whole_or_kept_whole() -> None:
    outcomes = set()
    for seed in range(40):
        disk = Platter(random.Random(seed)).mount()
        disk.make_dir("one")
        disk.make_dir("two")
        synced_file(disk, "one/a", b"old")
        disk.sync_dir("one")
        disk.rename("one/a", "two/b")
        after = cut_power(disk)
        outcomes.add((after.exists("one/a"), after.exists("two/b")))
    assert outcomes == {(True, False), (False, True)}


def test_names_are_lost_from_the_end() -> None:
    for seed in range(40):
        disk = Platter(random.Random(seed)).mount()
        for name in "abcdef":
            disk.create(name)
        left = cut_power(disk).list_dir(ROOT)
        assert left == list("abcdef")[: len(left)]


@pytest.mark.parametrize("seed", range(20))
def test_replace_file_is_old_or_new_at_every_crash_point(seed: int) -> None:
    for point in range(1, 7):
        platter = Platter(random.Random(seed))
        disk = platter.mount()
        disk.replace_file("role.json", b"old")
        disk.crash_in(point)
        finished = False
        try:
            disk.replace_file("role.json", b"new!")
            finished = True
        except SimCrash:
            assert disk.dead
        disk.kill()
        platter.power_cut()
        assert platter.mount().read_file("role.json") in ((b"new!",) if finished else (b"old", b"new!"))


def test_planned_crash_tears_the_append_and_tells() -> None:
    told = []
    lengths = set()
    for seed in range(30):
        platter = Platter(random.Random(seed))
        disk = platter.mount(lambda: told.append(1))
        file = disk.create("log")
        disk.crash_in(1)
        with pytest.raises(SimCrash):
            file.append(b"x" * 50)
        lengths.add(len(platter.mount().read_file("log")))
    assert len(told) == 30
    assert len(lengths) > 5


def test_full_disk_writes_what_fits_and_recovers() -> None:
    platter = Platter(random.Random(1))
    disk = platter.mount()
    file = disk.create("log")
    file.append(b"x" * 100)
    platter.capacity_bytes = 150
    with pytest.raises(OSError) as caught:
        file.append(b"y" * 80)
    assert caught.value.errno == errno.ENOSPC
    assert file.size == 150
    assert disk.free_bytes() == 0
    platter.capacity_bytes = 1000
    file.append(b"z")
    disk.remove("log")
    assert disk.free_bytes() == 1000


def test_a_failed_sync_is_not_made_good_by_the_next() -> None:
    lost = 0
    for seed in range(20):
        platter = Platter(random.Random(seed))
        disk = platter.mount()
        synced_file(disk, "log", b"a")
        file = disk.open_append("log")
        file.append(b"b" * 10)
        platter.sync_failures = 1
        with pytest.raises(OSError):
            file.sync()
        file.sync()
        lost += len(cut_power(disk).read_file("log")) < 11
    assert lost > 5


def test_locks_end_with_the_process() -> None:
    platter = Platter(random.Random(1))
    first = platter.mount()
    first.lock("lock", b"1")
    second = platter.mount()
    with pytest.raises(BlockingIOError):
        second.lock("lock", b"2")
    first.kill()
    second.lock("lock", b"2")()
    assert second.read_file("lock") == b"2"


def test_run_takes_virtual_time_and_a_sync_covers_only_what_was_there() -> None:
    async def play() -> None:
        platter = Platter(random.Random(3))
        platter.sync_delay_s = 5.0
        disk = platter.mount()
        file = disk.create("log")
        disk.sync_dir(ROOT)
        file.append(b"before")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disk.run, file.sync)
            await trio.sleep(0.05)
            file.append(b"during")
        assert platter.longest_call_s > 0.1
        inode = platter.find("log")
        assert inode.synced == len(b"before")

    trio.run(play, clock=MockClock(autojump_threshold=0))


def test_flipped_bit_is_seen() -> None:
    disk = Platter(random.Random(1)).mount()
    synced_file(disk, "log", b"abc")
    disk.platter.flip_bit("log", 1, 0)
    assert disk.read_file("log") == b"acc"


def test_a_write_that_lands_elsewhere_shows_after_a_power_cut() -> None:
    platter = Platter(random.Random(5))
    disk = platter.mount()
    synced_file(disk, "victim", b"v" * 100)
    file = synced_file(disk, "log", b"abc") or disk.open_append("log")
    platter.misdirections = 1
    file.append(b"misdirected")
    file.sync()
    assert disk.read_file("log") == b"abcmisdirected", "the page cache still has it"
    disk.kill()
    platter.power_cut()
    after = platter.mount()
    assert after.read_file("log") == b"abc" + bytes(11)
    assert after.read_file("victim").startswith(b"misdirected")
    assert platter.harmed == ["log", "victim"]


def test_a_sync_that_lies_keeps_nothing() -> None:
    platter = Platter(random.Random(1))
    disk = platter.mount()
    file = synced_file(disk, "log", b"abc") or disk.open_append("log")
    platter.lies = 1
    file.append(b"lost")
    file.sync()
    assert platter.find("log").synced == 3 and platter.harmed == ["log"]


def test_reads_and_writes_that_fail_are_told() -> None:
    platter = Platter(random.Random(1))
    disk = platter.mount()
    file = synced_file(disk, "log", b"abc") or disk.open_append("log")
    platter.read_failures = platter.write_failures = 1
    with pytest.raises(OSError, match="failed a read"):
        disk.read_file("log")
    with pytest.raises(OSError, match="failed a write"):
        file.append(b"more")
    assert disk.read_file("log") == (b"abc" + b"more")[: file.size]


def test_a_call_that_waits_for_a_stalled_device_ends_when_it_is_healed() -> None:
    machine = Machine("a", random.Random(1), Trace())
    ended_s: list[float] = []

    async def life(seams: Seams) -> None:
        await seams.disk.run(seams.disk.replace_file, "file", b"1")
        ended_s.append(trio.current_time())

    async def play() -> None:
        machine.platter.sync_delay_s = 1e6
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run, life)
            await trio.sleep(5.0)
            assert not ended_s
            heal(machine, sync_delay_s=0.001)

    trio.run(play, clock=MockClock(autojump_threshold=0))
    assert 5.0 <= ended_s[0] < 6.0
