"""What writes supersede, found in batches; and bases that are kept open from one seal to the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from storage.disk_memory import MemoryDisk
from storage.errors import DamagedRecord
from storage.shard import bases as bases_module
from storage.shard import checkpoint as checkpoints
from storage.shard import older
from storage.shard.bases import BASES_MAX, OpenBases
from storage.shard.gather import Rows
from storage.shard.seal import seal
from storage.values.keys import canonical, hash64
from tests.shard.shard_world import DIRECTORY, World


def asking(keys: list[tuple[int, bytes]], hash_key=hash64) -> Rows:
    """Rows that want to know what is below these keys."""
    blob = b"".join(key for _, key in keys)
    lengths = np.array([len(key) for _, key in keys], np.uint32)
    at = (np.cumsum(lengths) - lengths).astype(np.uint64)
    hashes = np.array([hash_key(*key) for key in keys], np.uint64)
    none = np.zeros(len(keys), np.uint32)
    collections = np.array([number for number, _ in keys], np.uint32)
    return Rows(blob, hashes, none.astype(np.uint8), collections, at, lengths, none, none, none, none)


def found_below(world: World, keys: list[tuple[int, bytes]]) -> dict[tuple[int, bytes], bytes]:
    shard = world.open().shards[0]
    documents: dict[tuple[int, bytes], bytes] = {}
    for batch in older.older_records(shard, asking(keys, world.hash_key)):
        places = zip(batch.which.tolist(), batch.location.tolist(), batch.doc_at.tolist(), batch.doc_len.tolist())
        for which, location, at, length in places:
            assert keys[which] not in documents, "no row comes twice"
            documents[keys[which]] = batch.blob[at : at + length]
            assert (shard.read(location, 40 + len(keys[which][1]) + length).id) == keys[which][1]
    return documents


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("hash_key", [hash64, lambda collection, key: sum(key) % 5])
def test_the_newest_record_of_each_key_whatever_segment_has_it(crc: bool, hash_key, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(older, "CHUNK_BYTES", 700)
    monkeypatch.setattr(older, "GAP_BYTES_MAX", 50)
    world = World(shards=1, crc=crc, hash_key=hash_key)
    users = world.create("users")
    for turn in range(6):
        for number in range(turn * 10, turn * 10 + 40):
            world.put(users, number, turn=turn, text="x" * (number * 7 % 90))
        world.delete(users, turn)
        world.commit()
        world.seal()
    keys = [(users, canonical(number)) for number in range(120)] + [(users + 1, canonical(3)), (users, b"")]
    below = found_below(world, keys)
    expected = {(users, key): doc for key, (_, _, doc) in world.live[users].items()}
    assert {key: doc for key, doc in below.items() if doc} == expected
    deletions = {key for key, doc in below.items() if not doc}
    assert (users, canonical(5)) in deletions <= {(users, canonical(turn)) for turn in range(6)}, "merges may drop them"


def test_a_damaged_record_below_is_never_subtracted():
    world = World(shards=1)
    users = world.create("users")
    for number in range(5):
        world.put(users, number, text="unmistakable")
    world.commit()
    world.seal()
    path = f"{DIRECTORY}/shard_000.db"
    sound = world.disk.read_file(path)
    start = world.open().find_location(users, canonical(3)) & (2**48 - 1)
    end = world.open().find_location(users, canonical(4)) & (2**48 - 1)
    world.put(users, 3, text="new")
    world.commit()
    for at in range(start, end):
        damaged = bytearray(sound)
        damaged[at] ^= 1
        world.disk.replace_file(path, bytes(damaged))
        with pytest.raises(DamagedRecord, match=path) as caught:
            world.seal()
        assert caught.value.fields["offset"] == start
    world.disk.replace_file(path, sound)
    world.seal()
    world.check(world.open())


class CountedMaps(MemoryDisk):
    maps = 0

    def map(self, path: str) -> memoryview:
        self.maps += 1
        return super().map(path)


def sealed_with(world: World, bases: OpenBases) -> None:
    world.sealed = seal(world.disk, DIRECTORY, world.plan(), hash_key=world.hash_key, bases=bases).seq


def a_turn(world: World, bases: OpenBases, users: int, turn: int) -> None:
    for number in range(turn * 3, turn * 3 + 9):
        world.put(users, number, turn=turn)
    world.commit()
    sealed_with(world, bases)


def test_a_kept_base_is_opened_once_and_changes_nothing():
    world, bases = World(disk=CountedMaps()), OpenBases()
    users = world.create("users")
    for turn in range(12):
        before = world.disk.maps
        a_turn(world, bases, users, turn)
        assert world.disk.maps - before <= world.shards, "only the segments of the seal before are new"
        world.check(world.open())


def test_a_base_that_is_not_the_kept_one_is_read_from_its_files():
    world, bases = World(), OpenBases()
    users = world.create("users")
    a_turn(world, bases, users, 0)
    found, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    changed = replace(found, time_us=found.time_us + 1)  # as a copy that came from another node might differ
    checkpoints.write(world.disk, DIRECTORY, changed)
    assert bases.take(DIRECTORY, checkpoints.encode(changed)) is None
    a_turn(world, bases, users, 1)
    world.check(world.open())
    newest, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    assert bases.take("elsewhere", checkpoints.encode(newest)) is None
    assert bases.take(DIRECTORY, checkpoints.encode(newest)).checkpoint == newest
    assert bases.take(DIRECTORY, checkpoints.encode(newest)) is None, "forgotten until a seal succeeds"


def test_kept_bases_are_bounded():
    bases = OpenBases()
    worlds = []
    for number in range(BASES_MAX + 1):
        world = World()
        world.create("users")
        world.commit()
        world.seal()
        manifest = world.disk.read_file(checkpoints.path_of(DIRECTORY, 1))
        shards = world.open()
        bases.keep(f"db{number}", bases_module.Base(manifest, shards.checkpoint, shards))
        worlds.append(manifest)
    assert bases.take("db0", worlds[0]) is None
    for number in range(1, BASES_MAX + 1):
        assert bases.take(f"db{number}", worlds[number]) is not None
