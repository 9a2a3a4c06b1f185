"""Sealing, case by case: what is written where, what is left out, what is refused."""

from __future__ import annotations

import errno
import pickle
from dataclasses import replace

import pytest

from storage.commit.codec import Op, Record
from storage.disk_memory import MemoryDisk
from storage.errors import DamagedRecord, InternalError
from storage.position import Reign
from storage.shard import checkpoint as checkpoints
from storage.shard.checkpoint import REQUEST_ANSWER_BYTES_MAX, REQUESTS_MAX, Checkpoint
from storage.shard.logfile import ShardLog
from storage.shard.seal import SealPlan, seal
from storage.shard.shardset import MISSING, SCAN_ROWS_MAX, ShardSet
from storage.values.keys import canonical
from tests.shard.shard_world import DIRECTORY, UUID, World


def newest(world: World) -> Checkpoint:
    found, findings = checkpoints.newest_valid(world.disk, DIRECTORY)
    assert found is not None and not findings
    return found


def records(world: World) -> list[tuple[int, int, int]]:
    """(seq, row, op) of every record that the newest checkpoint's logs hold."""
    found = []
    for shard in newest(world).shards:
        for log in shard.logs:
            found += [(r.seq, r.row, r.op) for _, r in ShardLog.open(world.disk, DIRECTORY, log).records()]
    return sorted(found)


def test_plan_and_result_travel_to_another_process():
    world = World()
    world.create("users")
    world.commit()
    plan = pickle.loads(pickle.dumps(world.plan()))
    assert plan == world.plan()
    result = seal(world.disk, DIRECTORY, plan)
    assert pickle.loads(pickle.dumps(result)) == result
    assert result.state_hash == world.model_hash() and result.records == 1
    assert [name.partition(".")[2] for name in result.files] == ["db", "sidx.1"]


def test_where_the_seals_fall_changes_neither_content_nor_hash():
    hashes = set()
    for stride in (1, 2, 3, 7, 100):
        world = World(shards=4)
        users = world.create("users")
        world.create("empty")
        for turn in range(14):
            for number in range(turn, turn + 9):
                world.put(users, number % 12, turn=turn)
            world.delete(users, turn)
            world.commit()
            if turn % stride == 0:
                world.seal()
        world.seal()
        world.check(world.open())
        hashes.add(newest(world).state_hash)
    assert len(hashes) == 1


def test_only_the_last_write_of_a_key_is_kept_and_what_came_and_went_leaves_nothing():
    world = World()
    users = world.create("users")
    world.put(users, 1, turn=1)
    world.put(users, 2, turn=1)
    world.delete(users, 2)
    world.delete(users, 3)
    world.commit()
    world.put(users, 1, turn=2)
    world.commit()
    world.seal()
    assert records(world) == [(1, 0, Op.PUT), (2, 0, Op.PUT)]
    world.delete(users, 1)
    world.delete(users, 2)
    world.commit()
    world.seal()
    world.delete(users, 1)
    world.commit()
    world.seal()
    assert records(world) == [(1, 0, Op.PUT), (2, 0, Op.PUT), (3, 0, Op.DELETE)], "a deletion only where something was"
    world.put(users, 1, turn=5)
    world.commit()
    world.seal()
    world.check(world.open())


def test_a_dropped_collection_leaves_the_hash_at_once_and_its_new_rows_are_not_written():
    world = World()
    users = world.create("users")
    world.put(users, 1)
    world.commit()
    world.seal()
    world.put(users, 2)
    world.drop("users")
    again = world.create("users")
    world.put(again, 1, again=True)
    world.commit()
    world.seal()
    world.check(world.open())
    assert (2, 0, Op.PUT) not in records(world)
    assert newest(world).next_collection_id == again + 1
    world.drop("users")
    world.commit()
    world.seal()
    assert newest(world).next_collection_id == again + 1, "ids are never given twice"
    assert newest(world).collections == {}


def test_a_collection_that_came_and_went_still_used_its_id():
    world = World()
    world.create("brief")
    world.drop("brief")
    world.commit()
    world.seal()
    assert newest(world).next_collection_id == 2
    assert records(world) == []


def test_reigns_requests_and_marks():
    world = World()
    world.add(Record(Op.REIGN, 0, b"", (9).to_bytes(8, "little")))
    first = world.chain
    world.commit()
    world.add(Record(Op.REQUEST, 0, b"a" * 16, b"answer"))
    world.add(Record(Op.REQUEST, 0, b"b" * 16, b"x" * (REQUEST_ANSWER_BYTES_MAX + 1)))
    world.add(Record(Op.MARK, 0, b"", b""))
    world.commit()
    world.seal()
    second = world.chain
    world.add(Record(Op.REIGN, 0, b"", (2**64 - 1).to_bytes(8, "little")))
    world.add(Record(Op.REQUEST, 0, b"a" * 16, b"answer again"))
    world.commit()
    world.seal()
    found = newest(world)
    assert found.history == (Reign(1, 9, 1, first), Reign(1, 2**64 - 1, 3, second))
    assert found.requests == ((b"b" * 16, b""), (b"a" * 16, b"answer again")), "a long answer is forgotten, its id is not"
    assert (found.seq, found.epoch, found.chain, found.time_us) == (3, 1, world.chain, 1_000_003)


def test_requests_are_bounded():
    world = World()
    for number in range(REQUESTS_MAX + 5):
        world.add(Record(Op.REQUEST, 0, number.to_bytes(16, "little"), b"x" * 200))
        if number % 5000 == 4999:
            world.commit()
    world.commit()
    world.seal()
    kept = newest(world).requests
    assert len(kept) == REQUESTS_MAX
    assert kept[-1].id == (REQUESTS_MAX + 4).to_bytes(16, "little") and kept[-1].answer
    assert kept[0].id == (5).to_bytes(16, "little") and not kept[0].answer
    assert sum(len(request.answer) for request in kept) <= checkpoints.REQUEST_ANSWERS_BYTES_MAX


def test_an_empty_range_and_an_empty_database():
    world = World()
    assert world.seal().seq == 0
    world.check(world.open())
    before = world.disk.read_file(checkpoints.path_of(DIRECTORY, 0))
    assert world.seal().files == ()
    assert world.disk.read_file(checkpoints.path_of(DIRECTORY, 0)) == before


def test_a_log_that_does_not_hold_the_range_is_refused():
    world = World()
    world.create("users")
    world.commit()
    with pytest.raises(DamagedRecord, match="ends at 1"):
        seal(world.disk, DIRECTORY, world.plan(to_seq=2))
    with pytest.raises(DamagedRecord, match="commit log ends at 0"):
        seal(world.disk, DIRECTORY, replace(world.plan(), segments=[]))
    assert checkpoints.list_seqs(world.disk, DIRECTORY) == []


def test_a_base_of_another_database_is_refused():
    world = World()
    world.create("users")
    world.commit()
    world.seal()
    plan = world.plan()
    for other in (
        SealPlan(1, 1, 3, True, bytes(16).hex(), plan.segments),
        SealPlan(1, 1, 4, True, UUID.hex(), plan.segments),
        SealPlan(1, 0, 3, True, UUID.hex(), plan.segments),
    ):
        with pytest.raises(InternalError, match="no base"):
            seal(world.disk, DIRECTORY, other)


def test_a_write_to_a_collection_that_was_never_named_is_refused():
    world = World()
    world.put(5, "x")
    world.commit()
    with pytest.raises(InternalError, match="collection 5"):
        world.seal()


def test_a_log_that_grew_past_its_checkpoint_is_never_written_again():
    world = World(shards=1)
    users = world.create("users")
    world.put(users, 1)
    world.commit()
    world.seal()
    world.disk.open_append(f"{DIRECTORY}/shard_000.db").append(b"left by a seal that did not finish")
    longer = world.disk.read_file(f"{DIRECTORY}/shard_000.db")
    world.put(users, 1, again=1)
    world.commit()
    world.seal()
    world.put(users, 2)
    world.commit()
    world.seal()
    assert [(log.file, log.generation) for log in newest(world).shards[0].logs] == [("shard_000.db", 1), ("shard_000.g2.db", 2)]
    assert world.disk.read_file(f"{DIRECTORY}/shard_000.db") == longer
    world.check(world.open())


def test_a_full_disk_fails_the_seal_and_gives_its_space_back():
    world = World(disk=MemoryDisk(capacity_bytes=200_000))
    users = world.create("users")
    world.put(users, 0)
    world.commit()
    world.seal()
    for number in range(1, 60):
        world.put(users, number, text="x" * 500)
    world.commit()
    ballast = world.disk.create("ballast")
    names = world.disk.list_dir(DIRECTORY)
    for room in (0, 1, 100, 5_000, 30_000):
        ballast.append(bytes(max(0, world.disk.free_bytes() - room)))
        with pytest.raises(OSError) as caught:
            world.seal()
        assert caught.value.errno == errno.ENOSPC
        assert world.disk.list_dir(DIRECTORY) == names
        assert world.open().seq == 1
        world.disk.remove("ballast")
        ballast = world.disk.create("ballast")
    world.seal()
    world.check(world.open())


def test_a_later_set_shares_files_and_segments_with_the_one_before():
    world = World(shards=1)
    users = world.create("users")
    world.put(users, 1)
    world.commit()
    world.seal()
    first = world.open()
    world.put(users, 2)
    world.commit()
    world.seal()
    second = world.open(first)
    assert second.shards[0].logs[1].file is first.shards[0].logs[1].file
    assert second.shards[0].segments[-1] is first.shards[0].segments[0]
    assert first.find_now(users, canonical(2)) is MISSING
    assert second.find_now(users, canonical(2)).doc
    world.check(second)


def test_documents_larger_than_every_buffer():
    world = World(shards=2)
    users = world.create("users")
    for number, size in enumerate([10, 3_000_000, 20, 1_200_000, 0, 1_048_576]):
        world.put(users, number, text="x" * size)
        world.commit()
    for number in range(100, 900):
        world.put(users, number)
    world.commit()
    world.seal()
    shards = world.open()
    world.check(shards)
    batches = list(shards.scan(users, chunk_bytes=1))
    assert max(len(batch) for batch in batches) == SCAN_ROWS_MAX
    assert [row for batch in batches for row in batch] == [row for batch in shards.scan(users) for row in batch]


def test_damage_in_a_shard_log_is_never_served():
    world = World(shards=1)
    users = world.create("users")
    for number in range(5):
        world.put(users, number, text="unmistakable")
    world.commit()
    world.seal()
    path = f"{DIRECTORY}/shard_000.db"
    data = bytearray(world.disk.read_file(path))
    at = data.rindex(b"unmistakable")
    data[at] ^= 1
    world.disk.replace_file(path, bytes(data))
    shards = world.open()
    assert shards.find(users, canonical(3)).doc
    for read in (shards.find_now, shards.find):
        with pytest.raises(DamagedRecord, match=path) as caught:
            read(users, canonical(4))
        assert caught.value.fields["file"] == path and caught.value.fields["offset"] < at
    with pytest.raises(DamagedRecord, match=path):
        list(shards.scan(users))
    index = newest(world).shards[0].index[0].file
    world.disk.remove(f"{DIRECTORY}/{index}")
    with pytest.raises(DamagedRecord, match=path):
        world.open()


def test_a_set_whose_log_is_gone_does_not_open():
    world = World()
    world.create("users")
    world.commit()
    world.seal()
    found = newest(world)
    for shard in found.shards:
        for log in shard.logs:
            world.disk.remove(f"{DIRECTORY}/{log.file}")
    with pytest.raises(DamagedRecord, match="missing"):
        ShardSet.open(world.disk, DIRECTORY, found)
