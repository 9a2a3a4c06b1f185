"""Reading the range of a seal: whole runs by the kernel or by crcs, and the verdict where a run ends."""

from __future__ import annotations

import pytest

from storage import native
from storage.commit import scan
from storage.commit.codec import HEAD_BYTES, Op, Record
from storage.commit.segment import HEADER_BYTES
from storage.errors import DamagedRecord
from tests.shard.shard_world import World

RUNS = [scan._run_by_crc] + ([scan._run_by_chain] if native.KERNEL is not None else [])


@pytest.fixture(params=RUNS, ids=lambda run: run.__name__)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan, "_sound_run", request.param)


def written(commits_per_segment: int = 4) -> tuple[World, list[int]]:
    """Nine commits and the chain before each."""
    world = World(commits_per_segment=commits_per_segment)
    chains = []
    for number in range(9):
        chains.append(world.chain)
        world.add(Record(Op.PUT, 1, bytes([number]), b"document" * number))
        world.commit()
    return world, chains


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("commits_per_segment", [1, 2, 4, 100])
def test_every_range_is_read(commits_per_segment: int):
    world, chains = written(commits_per_segment)
    paths = world.plan().segments
    for first in range(1, 10):
        for last in range(first - 1, 10):
            frames = scan.read_frames(world.disk, paths, first - 1, last, chains[first - 1])
            assert frames.heads["seq"].tolist() == list(range(first, last + 1))
            bodies = [frames.data[at + HEAD_BYTES :] for at in frames.at.tolist()]
            assert all(body.startswith(b"\1\0\1") for body in bodies)


@pytest.mark.usefixtures("run")
def test_no_file_beyond_the_range_is_read():
    world, chains = written()
    paths = world.plan().segments
    assert len(scan.read_frames(world.disk, [*paths[:1], "nowhere"], 0, 4, chains[0]).at) == 4


@pytest.mark.usefixtures("run")
def test_every_flipped_byte_of_the_range_is_damage():
    world, chains = written(commits_per_segment=100)
    path = world.plan().segments[0]
    sound = world.disk.read_file(path)
    for at in range(HEADER_BYTES, len(sound)):
        damaged = bytearray(sound)
        damaged[at] ^= 0x10
        world.disk.replace_file(path, bytes(damaged))
        with pytest.raises(DamagedRecord):
            scan.read_frames(world.disk, [path], 0, 9, chains[0])


@pytest.mark.usefixtures("run")
def test_a_gap_and_an_end_are_told():
    world, chains = written(commits_per_segment=2)
    paths = world.plan().segments
    with pytest.raises(DamagedRecord, match="commit 5 where 3 should be"):
        scan.read_frames(world.disk, [paths[0], *paths[2:]], 0, 9, chains[0])
    with pytest.raises(DamagedRecord, match="ends at 9, 10 was asked for"):
        scan.read_frames(world.disk, paths, 0, 10, chains[0])
    world.disk.replace_file(paths[-1], world.disk.read_file(paths[-1])[:-1])
    with pytest.raises(DamagedRecord, match="ends at 8, 9 was asked for"):
        scan.read_frames(world.disk, paths, 0, 9, chains[0])


@pytest.mark.skipif(native.KERNEL is None, reason="the chain is checked by the kernel")
def test_the_kernel_takes_no_frame_of_another_chain():
    world, chains = written()
    paths = world.plan().segments
    at, _ = scan._run_by_chain(world.disk.read_file(paths[0]), HEADER_BYTES, 1, 9, chains[1])
    assert at == []
    with pytest.raises(DamagedRecord, match="commit 1 does not continue the chain"):
        scan.read_frames(world.disk, paths, 0, 9, chains[1])
