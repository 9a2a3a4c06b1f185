"""Fetching documents from many places at once: in order, checked, held against what they must contain; by the kernel and one by one."""

from __future__ import annotations

import random
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import MemoryDisk, native
from storage.commit.codec import DELETE, PUT
from storage.disk import OsDisk
from storage.errors import DamagedRecord
from storage.index.primary import GENERATION_SHIFT
from storage.shard import record as codec
from storage.shard.checkpoint import LogFile
from storage.shard.fetching import Files, WouldWait
from storage.shard.logfile import ShardLog
from storage.shard.shardset import Shard
from tests.engine.cold_disk import ColdDisk

SHARDS, GENERATIONS = 3, 2
LONG = 300_000  # bytes of a document, more than the kernel reads in one stretch


class World:
    """Some shard logs, and where every record lies."""

    def __init__(self, disk) -> None:
        rng = random.Random(1)
        self.disk = disk
        self.rows: list[tuple[int, int, int, bytes, bytes]] = []  # shard, location, length, key, document
        self.shards = []
        for shard in range(SHARDS):
            logs = {}
            for generation in range(GENERATIONS):
                path = f"shard_{shard}_{generation}"
                file = disk.create(path)
                file.append(b"x" * codec.FILE_HEADER_BYTES)
                for number in range(40):
                    key = b"key %d %d %d" % (shard, generation, number)
                    document = b"document %d " % number + rng.randbytes(rng.choice([0, 5, 300]))
                    if number == 7 and generation == 0:
                        document += b"y" * LONG
                    data = codec.encode(PUT, 1, key, document, seq=number + 1, row=0, time_us=5, crc=bool(number % 3))
                    self.rows.append((shard, generation << GENERATION_SHIFT | file.size, len(data), key, document))
                    file.append(data)
                self.gone = file.size
                file.append(codec.encode(DELETE, 1, b"gone", b"", seq=99, row=0, time_us=5))
                entry = LogFile(path, generation, file.size, 0)
                logs[generation] = ShardLog(disk.open_read(path), path, entry)
            self.shards.append(Shard(None, logs, [], is_rebuilt=False))

    def columns(self, rows: list[tuple]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.array([row[0] for row in rows], np.uint16),
            np.array([row[1] for row in rows], np.uint64),
            np.array([row[2] for row in rows], np.uint32),
        )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(OsDisk(tmp_path_factory.mktemp("logs")))


@pytest.fixture(params=["by the kernel", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "one by one":
        monkeypatch.setattr(native, "FETCHING", None)
    elif native.FETCHING is None:
        pytest.skip("the kernel is not built")
    return request.param


def test_the_kernel_is_built_from_this_source():
    if native.FETCHING is None:
        pytest.skip("the kernel is not built")
    source = crc32((Path(__file__).resolve().parents[2] / "storage" / "fetching.c").read_bytes())
    assert source == native.FETCHING.SOURCE, "fetching.c has changed since it was built: python setup.py build_ext --inplace"


@pytest.mark.usefixtures("way")
def test_documents_come_in_the_order_asked_whatever_their_size(real: World):
    rows = real.rows[::-1] + real.rows[::3]
    found = Files(real.shards).fetch(*real.columns(rows))
    assert found == [row[3:] for row in rows]
    assert Files(real.shards).fetch(*real.columns([])) == []


@settings(max_examples=60)
@given(st.lists(st.integers(0, SHARDS * GENERATIONS * 40 - 1), max_size=20), st.lists(st.sampled_from([b"document", b"1", b"3 ", b"9", b"y" * 50, b""]), max_size=3))
def test_documents_that_lack_something_are_left_out(real: World, which: list[int], needles: list[bytes]):
    rows = [real.rows[number] for number in which]
    expected = [row[3:] if all(needle in row[4] for needle in needles) else None for row in rows]
    files = Files(real.shards)
    assert files.fetch(*real.columns(rows), tuple(needles)) == expected
    assert files._one_by_one(*real.columns(rows), tuple(needles), waits=True) == expected


@pytest.mark.usefixtures("way")
def test_what_a_key_holds_is_not_what_a_document_contains(real: World):
    assert Files(real.shards).fetch(*real.columns(real.rows[:1]), (b"key",)) == [None]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("fault", ["body", "head", "short", "length", "deletion", "generation", "end"])
def test_damage_is_told_with_its_place(tmp_path: Path, fault: str):
    world = World(OsDisk(tmp_path))
    shard, location, length, *_ = bad = world.rows[5]
    path = tmp_path / "shard_0_0"
    if fault in ("body", "head"):
        data = bytearray(path.read_bytes())
        data[location + (codec.HEADER_BYTES + 2 if fault == "body" else 9)] ^= 1
        path.write_bytes(data)
    elif fault in ("short", "length"):
        bad = (shard, location, length - 1 if fault == "short" else length + 1)
    elif fault == "deletion":
        bad = (SHARDS - 1, (GENERATIONS - 1) << GENERATION_SHIFT | world.gone, codec.HEADER_BYTES + 4)
    elif fault == "generation":
        bad = (shard, 9 << GENERATION_SHIFT | location, length)
    else:
        bad = (shard, 2**40, length)
    rows = [world.rows[4], bad, world.rows[6]]
    with pytest.raises(DamagedRecord, match="generation 9" if fault == "generation" else "at offset"):
        Files(world.shards).fetch(*world.columns(rows))
    with pytest.raises(DamagedRecord):
        Files(world.shards).fetch(*world.columns(rows), (b"never there",))
    assert Files(world.shards).fetch(*world.columns([world.rows[4]])) == [world.rows[4][3:]]


def test_who_may_not_wait_is_told_of_what_is_not_in_memory():
    for disk, is_cold in ((ColdDisk(), True), (MemoryDisk(), False)):
        world = World(disk)
        files = Files(world.shards)
        assert files.fetch(*world.columns(world.rows[:9])) == [row[3:] for row in world.rows[:9]]
        if is_cold:
            with pytest.raises(WouldWait):
                files.fetch(*world.columns(world.rows[:9]), waits=False)
        else:
            assert files.fetch(*world.columns(world.rows[:9]), waits=False) == [row[3:] for row in world.rows[:9]]


@pytest.mark.usefixtures("way")
def test_what_was_just_written_is_in_memory(real: World):
    assert Files(real.shards).fetch(*real.columns(real.rows), waits=False) == [row[3:] for row in real.rows]


def test_the_kernel_refuses_places_in_no_file(real: World):
    if native.FETCHING is None:
        pytest.skip("the kernel is not built")
    fetch = native.FETCHING.fetch
    one = (np.zeros(1, np.uint32), np.zeros(1, np.uint64), np.full(1, 50, np.uint32))
    for descriptors in (np.array([-1], np.int32), np.array([], np.int32)):
        with pytest.raises(ValueError, match="no file"):
            fetch(descriptors, *one, True, ())
    with pytest.raises(ValueError, match="one length"):
        fetch(np.array([0], np.int32), one[0], np.zeros(2, np.uint64), one[2], True, ())
    with pytest.raises(TypeError):
        fetch(np.array([0], np.int32), *one, True, ("text",))
