"""Checkpoint manifests: every changed byte is seen, and the one before takes over (INV-5)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from storage.errors import DamagedRecord, NewerFormat
from storage.finding import Severity
from storage.position import Reign
from storage.shard import checkpoint as checkpoints
from storage.shard.checkpoint import Checkpoint, CollectionEntry, IndexFile, LogFile, RequestKept, ShardFiles
from storage.versions.statehash import CollectionState, state_hash
from tests.shard.shard_world import DIRECTORY, UUID, World

EXAMPLE = Checkpoint(
    uuid=UUID.hex(),
    seq=7,
    epoch=2,
    chain=2**64 - 1,
    time_us=123,
    history=(Reign(1, 2**63, 1, 5), Reign(2, 9, 5, 6)),
    next_collection_id=4,
    collections={"é": CollectionEntry(3, 2, 2**255 + 1), "a\"b": CollectionEntry(1, 0, 0)},
    state_hash=state_hash([("é", CollectionState(2, 2**255 + 1)), ("a\"b", CollectionState())]),
    shards=(
        ShardFiles((LogFile("shard_000.db", 1, 100, 1), LogFile("shard_000.g2.db", 2, 5, 2)), (IndexFile("shard_000.sidx.1", 9, 3),)),
        ShardFiles(),
    ),
    requests=(RequestKept(b"\0" * 16, b"answer"), RequestKept(b"\1" * 16, b"")),
)


def sealed_world() -> World:
    world = World()
    collection = world.create("users")
    for turn in range(3):
        for number in range(9):
            world.put(collection, number, turn=turn)
        world.commit()
        world.seal()
    return world


def scribble(world: World, path: str, at: int = 30) -> None:
    data = bytearray(world.disk.read_file(path))
    data[at] ^= 1
    world.disk.replace_file(path, bytes(data))


def test_what_is_written_is_read():
    assert checkpoints.parse(checkpoints.encode(EXAMPLE)) == EXAMPLE
    assert dict(EXAMPLE.requests) == {b"\0" * 16: b"answer", b"\1" * 16: b""}
    assert checkpoints.files_of(EXAMPLE) == [("shard_000.db", 100), ("shard_000.g2.db", 5), ("shard_000.sidx.1", 9)]


def test_a_manifest_is_canonical_whatever_collections_are_called():
    names = ["seq", "collections", "requests", "checksum", ',"seq":', '"', "x,"]
    states = {name: CollectionEntry(number, 1, 2) for number, name in enumerate(names, 1)}
    hashed = state_hash((name, CollectionState(1, 2)) for name in names)
    for requests in ((), EXAMPLE.requests):
        odd = replace(EXAMPLE, collections=states, state_hash=hashed, requests=requests)
        data = checkpoints.encode(odd)
        assert checkpoints._canonical(json.loads(data)) == data
        assert checkpoints.parse(data) == odd


def test_every_changed_byte_and_every_cut_is_damage():
    data = checkpoints.encode(EXAMPLE)
    for at in range(len(data)):
        for flip in (0x01, 0x20, 0x80):
            damaged = bytearray(data)
            damaged[at] ^= flip
            with pytest.raises(DamagedRecord):
                checkpoints.parse(bytes(damaged))
        with pytest.raises(DamagedRecord):
            checkpoints.parse(data[:at])


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"null", b'{"format":1}', b'{"checksum":"x","format":1}', b"\xff", b"[" * 9999])
def test_what_is_no_manifest_is_damage(data: bytes):
    with pytest.raises(DamagedRecord):
        checkpoints.parse(data)


def resigned(**changes: object) -> bytes:
    fields = json.loads(checkpoints.encode(EXAMPLE)) | changes
    del fields["checksum"]
    fields["checksum"] = checkpoints._checksum(fields)
    return checkpoints._canonical(fields)


def test_a_sound_checksum_over_a_lie_is_damage():
    assert checkpoints.parse(resigned()) == EXAMPLE
    with pytest.raises(DamagedRecord, match="state hash"):
        checkpoints.parse(resigned(collections={}))
    for field in ("shards", "history", "requests", "collections"):
        with pytest.raises(DamagedRecord, match="impossible"):
            checkpoints.parse(resigned(**{field: 5}))


def test_a_newer_format_is_said_to_be_newer_and_not_passed_over():
    newer = resigned(format=2, something_new=[1])
    with pytest.raises(NewerFormat):
        checkpoints.parse(newer)
    world = sealed_world()
    world.disk.replace_file(checkpoints.path_of(DIRECTORY, 4), newer)
    with pytest.raises(NewerFormat):
        checkpoints.newest_valid(world.disk, DIRECTORY)


def test_the_newest_that_validates_is_used():
    world = sealed_world()
    assert checkpoints.list_seqs(world.disk, DIRECTORY) == [1, 2, 3]
    newest, findings = checkpoints.newest_valid(world.disk, DIRECTORY)
    assert newest.seq == 3 and not findings
    scribble(world, checkpoints.path_of(DIRECTORY, 3))
    newest, findings = checkpoints.newest_valid(world.disk, DIRECTORY)
    assert newest.seq == 2 and [f.severity for f in findings] == [Severity.WARNING]
    world.disk.rename(checkpoints.path_of(DIRECTORY, 1), checkpoints.path_of(DIRECTORY, 2))
    newest, findings = checkpoints.newest_valid(world.disk, DIRECTORY)
    assert newest is None and len(findings) == 2, "a manifest under another's name is not taken for it"


def test_a_checkpoint_whose_log_is_missing_or_short_is_passed_over():
    world = sealed_world()
    log = checkpoints.load(world.disk, DIRECTORY, 3).shards[0].logs[0]
    path = f"{DIRECTORY}/{log.file}"
    world.disk.replace_file(path, world.disk.read_file(path)[:-1])
    newest, findings = checkpoints.newest_valid(world.disk, DIRECTORY)
    assert newest.seq == 2 and f"{log.length} are needed" in findings[0].what
    world.disk.remove(path)
    newest, findings = checkpoints.newest_valid(world.disk, DIRECTORY)
    assert newest is None and all("missing" in finding.what for finding in findings)


def test_a_database_without_checkpoints_has_none():
    assert checkpoints.newest_valid(World().disk, DIRECTORY) == (None, [])


def test_verify_files_sees_every_changed_byte():
    world = sealed_world()
    newest, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    checkpoints.verify_files(world.disk, DIRECTORY, newest)
    for name, length in checkpoints.files_of(newest):
        path = f"{DIRECTORY}/{name}"
        whole = world.disk.read_file(path)
        for at in (0, length // 2, length - 1):
            scribble(world, path, at)
            with pytest.raises(DamagedRecord, match=name):
                checkpoints.verify_files(world.disk, DIRECTORY, newest)
            world.disk.replace_file(path, whole)
        world.disk.remove(path)
        with pytest.raises(DamagedRecord, match=name):
            checkpoints.verify_files(world.disk, DIRECTORY, newest)
        world.disk.replace_file(path, whole)


def test_orphans_are_what_no_checkpoint_names():
    world = sealed_world()
    kept = [checkpoints.load(world.disk, DIRECTORY, seq) for seq in (1, 2, 3)]
    assert checkpoints.orphans(world.disk, DIRECTORY, kept) == []
    for name in ("shard_000.g7.db", "shard_002.sidx.99", "shard_notes.txt", "other"):
        world.disk.replace_file(f"{DIRECTORY}/{name}", b"")
    assert checkpoints.orphans(world.disk, DIRECTORY, kept) == ["shard_000.g7.db", "shard_002.sidx.99"]
    assert checkpoints.highest_numbers(world.disk.list_dir(DIRECTORY))[0][0] == 7
