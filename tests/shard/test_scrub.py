"""The scrub's jobs over a small database whose bytes are flipped: every damage is found, in its place, and told for what it costs."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.disk_memory import MemoryDisk, MemoryFile
from storage.shard import checkpoint as checkpoints
from storage.shard.record import FILE_HEADER_BYTES, HEADER_BYTES, FileHeader
from storage.shard.scrub import (
    Damage,
    Standing,
    check_frames,
    check_index,
    check_manifest,
    inspect,
    read_crc,
)
from storage.shard.shardset import ShardSet
from tests.shard.shard_world import DIRECTORY, UUID, World


def small_world(*, crc: bool = True, shards: int = 1) -> tuple[World, int]:
    """Twelve documents; the first three were written before, so their first records are superseded; one was deleted."""
    world = World(shards=shards, crc=crc)
    people = world.create("people")
    for number in range(3):
        world.put(people, number, text="old" * number)
    world.commit()
    world.seal()
    for number in range(12):
        world.put(people, number, text="x" * 10 * number)
    world.commit()
    world.delete(people, 11)
    world.commit()
    world.seal()
    return world, people


def found_in(world: World, step: int = 10_000) -> list[Damage]:
    """What inspect() finds in the only log of shard 0, in pieces of so many bytes."""
    shards = world.open()
    files = shards.checkpoint.shards[0]
    [entry] = files.logs
    header = FileHeader(0, entry.generation, len(shards.shards), UUID)
    damages: list[Damage] = []
    at = 0
    while at < entry.length:
        piece = inspect(world.disk, DIRECTORY, header, files, entry, at, step)
        assert piece.next_offset > at
        damages += piece.damages
        at = piece.next_offset
    return damages


def records_of(shards: ShardSet) -> list[tuple[int, int, bool]]:
    """(offset, length, whether it is the newest of its key) of every record of shard 0."""
    [log] = shards.shards[0].logs.values()
    rows = [(offset, found) for offset, found in log.records()]
    newest = {(found.collection, found.id): offset for offset, found in rows}
    return [
        (offset, HEADER_BYTES + len(found.id) + len(found.doc), newest[found.collection, found.id] == offset) for offset, found in rows
    ]


def flip(world: World, offset: int, bit: int = 0, name: str = "shard_000.db") -> None:
    path = f"{DIRECTORY}/{name}"
    old = world.disk.read_file(path)[offset]
    world.disk.overwrite(path, offset, bytes([old ^ 1 << bit]))


@pytest.mark.parametrize("step", [1, 150, 10_000])
def test_a_sound_file_has_no_damage_and_the_manifests_crc(step: int):
    world, _ = small_world()
    assert found_in(world, step) == []
    [entry] = world.open().checkpoint.shards[0].logs
    path = f"{DIRECTORY}/{entry.file}"
    crc = 0
    for start in range(0, entry.length, 100):
        crc = read_crc(world.disk, path, start, min(start + 100, entry.length), crc)
    assert crc == entry.crc32c
    assert read_crc(world.disk, path, 0, entry.length + 1, 0) is None, "the file ends before"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found_in_its_record(data: st.DataObject):
    world, people = small_world()
    records = records_of(world.open())
    [entry] = world.open().checkpoint.shards[0].logs
    offset = data.draw(st.integers(0, entry.length - 1))
    flip(world, offset, data.draw(st.integers(0, 7)))
    [damage] = found_in(world, data.draw(st.sampled_from([1, 100, 10_000])))
    if offset < FILE_HEADER_BYTES:
        assert (damage.standing, damage.offset, damage.length) == (Standing.FILE, 0, FILE_HEADER_BYTES)
        return
    [(start, length, is_newest)] = [record for record in records if record[0] <= offset < record[0] + record[1]]
    assert damage.standing is (Standing.LIVE if is_newest else Standing.SUPERSEDED)
    assert damage.offset == start
    assert bool(damage.head) == (offset >= start + HEADER_BYTES), "a sound header is told"
    if is_newest or damage.head:
        assert damage.length == length and damage.is_one_record


def test_several_damages_are_told_apart():
    world, people = small_world()
    records = records_of(world.open())
    for offset, length, _ in records[4:8]:
        flip(world, offset + 14)
        flip(world, offset + length - 1)
    assert [damage.offset for damage in found_in(world)] == [offset for offset, _, _ in records[4:8]]


def test_a_whole_record_of_another_place_is_damage_too():
    world, people = small_world()
    path = f"{DIRECTORY}/shard_000.db"
    world.put(people, 20, text="abc")
    world.put(people, 21, text="abd")
    world.commit()
    world.seal()
    records = records_of(world.open())
    (first, length, _), (second, same, _) = records[-2:]
    assert length == same
    whole = world.disk.read_file(path)
    world.disk.overwrite(path, second, whole[first : first + length])
    [damage] = found_in(world)
    assert (damage.offset, damage.head, damage.standing) == (second, b"", Standing.LIVE)


def test_what_is_damaged_beside_a_damaged_index_is_of_unknown_standing():
    world, _ = small_world()
    records = records_of(world.open())
    [index, *_] = [name for name in world.disk.list_dir(DIRECTORY) if ".sidx." in name and name.endswith("2")]
    flip(world, 70, name=index)
    [segment] = [s for s in world_checkpoint(world).shards[0].index if s.file == index]
    assert "checksum differs" in check_index(world.disk, f"{DIRECTORY}/{index}", segment.xxh3)
    flip(world, records[3][0] + HEADER_BYTES + 1)
    [damage] = found_in_without_opening(world)
    assert damage.standing is Standing.UNKNOWN and damage.head


def world_checkpoint(world: World) -> checkpoints.Checkpoint:
    return checkpoints.load(world.disk, DIRECTORY, world.sealed)


def found_in_without_opening(world: World) -> list[Damage]:
    checkpoint = world_checkpoint(world)
    files = checkpoint.shards[0]
    [entry] = files.logs
    header = FileHeader(0, entry.generation, 1, UUID)
    return list(inspect(world.disk, DIRECTORY, header, files, entry, 0).damages)


def test_without_record_checksums_headers_are_still_checked():
    world, _ = small_world(crc=False)
    records = records_of(world.open())
    flip(world, records[3][0] + 20)
    [damage] = found_in(world)
    assert damage.offset == records[3][0] and not damage.head and damage.is_one_record


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_flipped_bit_of_a_commit_log_segment_is_found(data: st.DataObject):
    world, _ = small_world()
    [name] = world.disk.list_dir(f"{DIRECTORY}/commit")
    path = f"{DIRECTORY}/commit/{name}"
    size = world.disk.size(path)

    def check() -> str:
        at = None
        while True:
            result = check_frames(world.disk, path, UUID, at, world.seq)
            if result.is_done:
                return result.fault
            at = (result.offset, result.seq, result.chain)

    assert check() == ""
    offset = data.draw(st.integers(0, size - 1))
    flip(world, offset, data.draw(st.integers(0, 7)), f"commit/{name}")
    assert check() != ""


def test_a_damaged_manifest_is_found():
    world, _ = small_world()
    assert check_manifest(world.disk, DIRECTORY, world.sealed) == ""
    flip(world, 40, name=f"checkpoints/{world.sealed:020d}.json")
    assert check_manifest(world.disk, DIRECTORY, world.sealed) != ""


class RefusingFile:
    """A file of which the device does not give back some bytes."""

    def __init__(self, file: MemoryFile, first: int, end: int) -> None:
        self.path, self.size, self.close = file.path, file.size, file.close
        self._file, self._first, self._end = file, first, end

    def read_at(self, offset: int, length: int) -> bytes:
        if offset < self._end and offset + length > self._first:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.read_at(offset, length)


class RefusingDisk(MemoryDisk):
    """Its second sector of every shard log is gone, once `refuses`."""

    refuses = False

    def open_read(self, path: str) -> MemoryFile | RefusingFile:
        file = super().open_read(path)
        return RefusingFile(file, 4_096, 8_192) if self.refuses and path.endswith(".db") else file


def test_sectors_that_the_device_refuses_are_damage_in_their_place():
    disk = RefusingDisk()
    world = World(disk, shards=1)
    people = world.create("people")
    for number in range(20):
        world.put(people, number, text="y" * 500)
    world.commit()
    world.seal()
    records = records_of(world.open())
    disk.refuses = True
    lost = [offset for offset, length, _ in records if offset < 8_192 and offset + length > 4_096]
    assert [damage.offset for damage in found_in_without_opening(world)] == lost and len(lost) > 5
    [entry] = world_checkpoint(world).shards[0].logs
    crc = read_crc(disk, f"{DIRECTORY}/{entry.file}", 0, entry.length, 0)
    assert crc is not None and crc != entry.crc32c
