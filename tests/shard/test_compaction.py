"""Compaction of a shard: nothing live is lost or changed, everything else goes, and it may be cut off anywhere (INV-5, INV-6)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from storage import native
from storage.check import Severity, check_database
from storage.commit.codec import CATALOG, Op
from storage.disk_memory import MemoryDisk
from storage.errors import DamagedRecord
from storage.index.moves import Moves, open_moves, write_moves
from storage.index.primary import GENERATION_SHIFT, NONE, OFFSET_MASK
from storage.shard import checkpoint as checkpoints
from storage.shard.compaction import stale_bytes
from storage.shard.logfile import ShardLog
from storage.values.keys import canonical
from tests.shard.shard_world import DIRECTORY, UUID, World
from tests.shard.test_seal_crash import STEPS_MAX, CutDisk, CutOff, content
from tests.sim.disk import Platter, SimCrash


def stale_world(disk=None, shards: int = 2) -> World:
    """Three seals of updates, deletions and a drop: most of what is written is stale."""
    world = World(disk=disk or MemoryDisk(), shards=shards)
    users, gone = world.create("users"), world.create("gone")
    for identity in range(40):
        world.put(users, identity, value=0, pad="x" * 20)
        world.put(gone, identity, pad="y" * 20)
    world.commit()
    world.seal()
    for identity in range(0, 40, 2):
        world.put(users, identity, value=1)
    for identity in range(1, 40, 4):
        world.delete(users, identity)
    world.commit()
    world.seal()
    world.put(users, 0, value=2)
    world.drop("gone")
    world.commit()
    world.seal()
    return world


def errors_of(world: World) -> list:
    return [finding for finding in check_database(world.disk, DIRECTORY) if finding.severity is not Severity.NOTE]


def records(world: World, number: int) -> Iterator:
    checkpoint, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    for entry in checkpoint.shards[number].logs:
        for _, record in ShardLog.open(world.disk, DIRECTORY, entry).records():
            yield record


def test_only_live_records_are_left_and_the_rest_is_as_before():
    world = stale_world()
    before = content(world.open())
    stale = [stale_bytes(shard) for shard in world.open().checkpoint.shards]
    assert all(stale)
    for number in range(2):
        compacted = world.compact(number)
        assert compacted.bytes_before - compacted.bytes_after >= stale[number]
    world.create("later")
    world.commit()
    world.seal()
    opened = world.open()
    world.check(opened)
    assert not errors_of(world)
    after = content(opened)
    assert after["users"] == before["users"]
    for number, shard in enumerate(opened.checkpoint.shards):
        assert stale_bytes(shard) == 0 and len(shard.logs) == 1
        found = [record for record in records(world, number) if record.collection != CATALOG]
        assert all(record.op == Op.PUT for record in found), "no deletion is left"
        assert {record.collection for record in found} <= {world.names["users"]}, "nothing of a dropped collection is left"


def test_an_index_rebuilt_from_compacted_logs_is_the_same():
    world = stale_world()
    world.compact(0)
    world.put(world.names["users"], 3, value=9)
    world.delete(world.names["users"], 4)
    world.commit()
    world.seal()
    for name in world.disk.list_dir(DIRECTORY):
        if ".sidx." in name:
            world.disk.remove(f"{DIRECTORY}/{name}")
    world.check(world.open())


def test_seals_meanwhile_leave_the_logs_and_the_generation_alone():
    world = stale_world()
    world.offers = False
    compacted = world.compact(0)
    closed = {log.file: world.disk.size(f"{DIRECTORY}/{log.file}") for log in compacted.replaced}
    for value in range(3):
        for identity in range(40):
            world.put(world.names["users"], identity, value=value)
        world.commit()
        world.seal()
        assert {name: world.disk.size(f"{DIRECTORY}/{name}") for name in closed} == closed
        names = [log.file for log in world.open().checkpoint.shards[0].logs]
        assert names[-1] not in closed and compacted.log.file not in names
    world.offers = True
    world.delete(world.names["users"], 7)
    world.commit()
    assert world.seal().compacted == (compacted,)
    opened = world.open()
    world.check(opened)
    assert not errors_of(world)
    assert opened.checkpoint.shards[0].logs[0] == compacted.log, "it stands in front of what was written since"
    generations = [log.generation for log in opened.checkpoint.shards[0].logs]
    assert len(set(generations)) == len(generations)


def test_two_in_a_row():
    world = stale_world()
    for value in range(2):
        world.compact(0)
        world.put(world.names["users"], 0, value=value)
        world.commit()
        world.seal()
        world.compact(0)
        world.compact(1)
        world.put(world.names["users"], 1, value=value)
        world.commit()
        world.seal()
        world.check(world.open())
        assert not errors_of(world)


def test_a_set_that_was_open_before_goes_on_reading_files_that_are_gone():
    world = stale_world()
    opened = world.open()
    before = content(opened)
    for number in range(2):
        world.compact(number)
    world.create("later")
    world.commit()
    world.seal()
    newest = world.open(opened)
    for seq in checkpoints.list_seqs(world.disk, DIRECTORY)[:-1]:
        world.disk.remove(checkpoints.path_of(DIRECTORY, seq))
    removed = checkpoints.orphans(world.disk, DIRECTORY, [newest.checkpoint])
    assert "shard_000.db" in removed and "shard_001.db" in removed and any(name.endswith(".moves") for name in removed)
    for name in removed:
        world.disk.remove(f"{DIRECTORY}/{name}")
    assert content(opened) == before
    world.check(newest)


def test_the_checkpoint_before_is_there_when_the_newest_is_damaged():
    world = stale_world()
    before = content(world.open())
    world.compact(0)
    world.create("later")
    world.commit()
    world.seal()
    world.disk.replace_file(checkpoints.path_of(DIRECTORY, world.seq), b"{}")
    assert content(world.open()) == before


@pytest.mark.skipif(native.KERNEL is None, reason="the filter is the kernel's")
def test_the_filter_of_keys_goes_on():
    world = stale_world()
    before = world.open()
    before.know_keys(None)
    count = before.filter.count
    world.compact(0)
    world.put(world.names["users"], 1000, value=1)
    world.commit()
    world.seal()
    after = world.open(before)
    after.know_keys(before)
    assert after.filter is before.filter and after.filter.count == count + 1


def flip(world: World, location: int, generation_of: list) -> None:
    entry = next(log for log in generation_of if log.generation == location >> GENERATION_SHIFT)
    path = f"{DIRECTORY}/{entry.file}"
    data = bytearray(world.disk.read_file(path))
    data[(location & OFFSET_MASK) + 41] ^= 1
    world.disk.replace_file(path, bytes(data))


def test_a_damaged_live_record_ends_it_and_leaves_all_as_it_was():
    world = stale_world(shards=1)
    opened = world.open()
    flip(world, opened.find_location(world.names["users"], canonical(2)), opened.checkpoint.shards[0].logs)
    before = world.disk.list_dir(DIRECTORY)
    with pytest.raises(DamagedRecord) as raised:
        world.compact(0)
    assert raised.value.fields["file"].endswith("shard_000.db")
    assert world.disk.list_dir(DIRECTORY) == before


def test_a_damaged_dead_record_is_left_behind():
    world = stale_world(shards=1)
    first = checkpoints.load(world.disk, DIRECTORY, 1)
    opened = type(world.open()).open(world.disk, DIRECTORY, first)
    flip(world, opened.find_location(world.names["users"], canonical(2)), first.shards[0].logs)
    assert errors_of(world)
    world.compact(0)
    world.create("later")
    world.commit()
    world.seal()
    world.check(world.open())
    for seq in checkpoints.list_seqs(world.disk, DIRECTORY)[:-1]:
        world.disk.remove(checkpoints.path_of(DIRECTORY, seq))
    assert not errors_of(world)


@pytest.mark.parametrize("harm", ["moves", "log", "gone"])
def test_a_result_that_is_not_whole_is_not_taken_up(harm: str):
    world = stale_world()
    compacted = world.compact(0)
    path = f"{DIRECTORY}/{compacted.moves if harm != 'log' else compacted.log.file}"
    data = bytearray(world.disk.read_file(path))
    if harm == "gone":
        world.disk.remove(path)
    elif harm == "log":
        world.disk.replace_file(path, bytes(data[:-1]))
    else:
        data[60] ^= 1
        world.disk.replace_file(path, bytes(data))
    world.create("later")
    world.commit()
    result = world.seal()
    assert result.compacted == () and len(result.findings) == 1
    world.check(world.open())


def test_killed_at_every_operation_of_job_and_publication():
    published = set()
    for steps in range(STEPS_MAX):
        disk = CutDisk(MemoryDisk())
        world = written_to(disk)
        before = content(world.open())
        disk.steps = steps
        is_finished = cut_off_in(world, CutOff)
        disk.steps = None
        published.add(check_after_the_crash(world, before))
        if is_finished:
            break
    assert is_finished and steps > 40 and published == {False, True}, "every operation was cut once"


@pytest.mark.parametrize("seed", range(2))
def test_power_cut_at_every_operation_of_job_and_publication(seed: int):
    for steps in range(STEPS_MAX):
        platter = Platter(random.Random(seed * STEPS_MAX + steps))
        world = written_to(platter.mount())
        world.sync_log()
        before = content(world.open())
        world.disk.crash_in(steps)
        is_finished = cut_off_in(world, SimCrash)
        platter.power_cut()
        world.disk = platter.mount()
        is_published = check_after_the_crash(world, before)
        assert is_published or not is_finished, "what a seal has published is there for good"
        if is_finished:
            break
    assert is_finished and steps > 15, "every change was cut once"


def written_to(disk) -> World:
    """A world with a commit that was not sealed yet."""
    world = stale_world(disk)
    world.put(world.names["users"], 2, value=7)
    world.commit()
    return world


def cut_off_in(world: World, error: type[BaseException]) -> bool:
    """Compact a shard and publish it; whether that came to its end."""
    try:
        world.compact(0)
        world.seal()
    except error:
        return False
    return True


def check_after_the_crash(world: World, before: dict[str, list]) -> bool:
    """The state before or the one after; a new seal and a new compaction go through. Returns whether it was published."""
    world.compacted.clear()
    opened = world.open()
    assert not opened.findings and not errors_of(world)
    is_published = opened.seq == 4
    if is_published:
        world.check(opened)
        assert opened.checkpoint.shards[0].logs[0].generation > 1
    else:
        assert content(opened) == before
    world.sealed = opened.seq
    for number in range(2):
        compacted = world.compact(number)
        assert is_published or compacted.bytes_after < compacted.bytes_before
    world.create("after the crash")
    world.commit()
    world.seal()
    world.check(world.open())
    assert not world.compacted and not errors_of(world)
    return is_published


def test_moves_say_where_records_are_and_which_are_gone():
    disk = MemoryDisk()
    old = 1 << GENERATION_SHIFT
    before, after = np.array([old + 64, old + 200], np.uint64), np.array([64, 100], np.uint64) + np.uint64(3 << GENERATION_SHIFT)
    write_moves(disk, "m", uuid=UUID, shard=1, generation=3, before=before, after=after)
    moves = open_moves(disk, "m", uuid=UUID, shard=1, generation=3, generations=[1])
    asked = np.array([old + 200, old + 100, NONE, (2 << GENERATION_SHIFT) + 64], np.uint64)
    assert moves.apply(asked).tolist() == [int(after[1]), NONE, NONE, int(asked[3])]
    assert Moves([1], before[:0], after[:0]).apply(asked[:2]).tolist() == [NONE, NONE]
    data = disk.read_file("m")
    for at in range(len(data)):
        disk.replace_file("m", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(DamagedRecord):
            open_moves(disk, "m", uuid=UUID, shard=1, generation=3, generations=[1])
    disk.replace_file("m", data[:-1])
    with pytest.raises(DamagedRecord):
        open_moves(disk, "m", uuid=UUID, shard=1, generation=3, generations=[1])
