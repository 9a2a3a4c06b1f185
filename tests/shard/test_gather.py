"""The columns of a range against the plain reading of the same commits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.commit.codec import Op, Record
from storage.commit.columns import frames_at, records_of
from storage.commit.scan import read_frames
from storage.errors import DamagedRecord
from storage.shard.checkpoint import Checkpoint, empty_checkpoint
from storage.shard.gather import equal_bytes, gather
from storage.values.keys import hash64
from tests.shard.shard_world import UUID, World

EXAMPLES = 80


def base_of(world: World) -> Checkpoint:
    return empty_checkpoint(UUID.hex(), chain=World().chain, shards=world.shards)


def one_hash(collection: int, key: bytes) -> int:
    return 7


def few_hashes(collection: int, key: bytes) -> int:
    return len(key) % 3


KEYS = st.binary(min_size=0, max_size=20) | st.sampled_from([b"a" * 8, b"a" * 9, b"a" * 16, b"b" * 8192])
RECORDS = st.builds(
    Record, st.sampled_from([Op.PUT, Op.PUT, Op.DELETE, Op.MARK, Op.REQUEST]), st.integers(1, 3), KEYS, st.binary(max_size=9)
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.lists(RECORDS, max_size=6), max_size=12), st.sampled_from([hash64, one_hash, few_hashes]), st.integers(1, 5))
def test_the_last_write_of_every_key_in_order_of_writing(commits, hash_key, per_segment: int):
    world = World(commits_per_segment=per_segment)
    last: dict[tuple[int, bytes], tuple] = {}
    requests: dict[bytes, bytes] = {}
    for seq, records in enumerate(commits, 1):
        for row, record in enumerate(records):
            world.add(record)
            if record.op in (Op.PUT, Op.DELETE):
                last[record.collection, record.id] = (seq, row, *record, 1_000_000 + seq)
            elif record.op == Op.REQUEST:
                requests.pop(record.id, None)
                requests[record.id] = record.doc
        world.commit()
    base = base_of(world)
    found = gather(base, read_frames(world.disk, world.plan().segments, 0, world.seq, base.chain), hash_key)
    rows = found.rows
    numbers = range(len(rows.hash))
    columns = [column.tolist() for column in (rows.seq, rows.row, rows.op, rows.collection, rows.time_us)]
    made = [(s, r, o, c, rows.key(i), rows.doc(i), t) for i, s, r, o, c, t in zip(numbers, *columns)]
    assert made == sorted(last.values())
    assert rows.hash.tolist() == [hash_key(number, rows.key(i)) for i, number in enumerate(rows.collection.tolist())]
    assert (found.last_seq, found.chain) == (world.seq, world.chain)
    assert dict(found.requests) == requests
    assert [kept.id for kept in found.requests] == list(requests)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(KEYS, KEYS, st.booleans()), max_size=20), st.binary(max_size=3))
def test_equal_bytes_is_equality(pairs, lead: bytes):
    pairs = [(one, one if same else other[: len(one)].ljust(len(one), b"\0")) for one, other, same in pairs]
    lengths = np.array([len(one) for one, _ in pairs], np.uint32)
    at = (np.cumsum(lengths) - lengths).astype(np.uint64)
    blob, other = b"".join(one for one, _ in pairs), lead + b"".join(other for _, other in pairs)
    expected = [one == other for one, other in pairs]
    assert equal_bytes(blob, at, other, at + np.uint64(len(lead)), lengths).tolist() == expected


def test_a_commit_that_does_not_follow_is_refused():
    world = World()
    for _ in range(4):
        world.commit()
    base = base_of(world)
    frames = read_frames(world.disk, world.plan().segments, 0, 4, base.chain)
    with pytest.raises(DamagedRecord, match="commit 2 stands where 1"):
        gather(base, frames_at(frames.data, frames.at[1:].tolist()))


def test_a_table_that_names_other_bytes_than_there_are_is_damage():
    world = World()
    world.add(Record(Op.PUT, 1, b"key", b"doc"))
    world.commit()
    frames = read_frames(world.disk, world.plan().segments, 0, 1, base_of(world).chain)
    for field, value in (("record_count", 2), ("record_count", 0), ("record_count", 2**32 - 1), ("body_len", 17)):
        heads = frames.heads.copy()
        heads[field] = value
        with pytest.raises(DamagedRecord, match="commit 1"):
            records_of(frames._replace(heads=heads))
