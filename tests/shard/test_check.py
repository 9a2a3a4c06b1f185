"""The checker: silent about what is sound, and no changed byte in any kind of file escapes it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from storage.check import Finding, Severity, check_database, check_node, database_names
from storage.check.__main__ import main
from storage.commit.segment import HEADER_BYTES
from storage.disk import OsDisk
from storage.disk_memory import MemoryDisk
from storage.index.primary import Segment, SegmentInfo, build, checksum, live_columns
from storage.shard import checkpoint as checkpoints
from storage.shard.checkpoint import CollectionEntry
from storage.versions.statehash import state_hash
from tests.shard.shard_world import DIRECTORY, UUID, World

ROOT = Path(__file__).parents[2]


def example(disk=None, *, crc: bool = True) -> World:
    """Two checkpoints and a log that goes on after them."""
    world = World(disk=disk or MemoryDisk(), shards=2, crc=crc, commits_per_segment=2)
    users = world.create("users")
    world.create("empty")
    for turn in range(6):
        for number in range(4):
            world.put(users, number + turn, turn=turn)
        world.delete(users, 0)
        world.commit()
        if turn in (2, 4):
            world.seal()
    return world


def findings(world: World) -> list[Finding]:
    return list(check_database(world.disk, DIRECTORY))


def files_of(world: World) -> list[str]:
    """Every file of the database."""
    found = []
    for directory in (DIRECTORY, f"{DIRECTORY}/commit", f"{DIRECTORY}/checkpoints"):
        found += [f"{directory}/{name}" for name in world.disk.list_dir(directory) if "." in name]
    return found


def test_a_sound_database_has_no_findings():
    assert findings(example()) == []
    assert findings(example(crc=False)) == []
    unsealed = World()
    assert findings(unsealed) == []
    unsealed.create("users")
    unsealed.commit()
    assert findings(unsealed) == []


@pytest.mark.parametrize("crc", [True, False])
def test_no_changed_byte_escapes(crc: bool):
    world = example(crc=crc)
    kinds = set()
    for path in files_of(world):
        if path.endswith("database.json"):
            continue
        whole = world.disk.read_file(path)
        for at in range(0, len(whole), 7 if len(whole) > 200 else 1):
            damaged = bytearray(whole)
            damaged[at] ^= 0x10
            world.disk.replace_file(path, bytes(damaged))
            found = findings(world)
            assert any(finding.severity is not Severity.NOTE for finding in found), f"byte {at} of {path}"
            assert path in {finding.file for finding in found}
            assert all(finding.what and finding.next_step for finding in found)
        world.disk.replace_file(path, whole)
        kinds.add(path.rpartition(".")[2] if ".sidx." not in path else "sidx")
    assert kinds == {"db", "sidx", "json", "log"}
    assert findings(world) == []


@pytest.mark.parametrize("cut", [0, 1, 50])
def test_no_missing_or_shortened_file_escapes(cut: int):
    for path in files_of(example()):
        world = example()
        newest_log = sorted(p for p in files_of(world) if p.endswith(".log"))[-1]
        oldest_log = sorted(p for p in files_of(world) if p.endswith(".log"))[0]
        if cut:
            world.disk.replace_file(path, world.disk.read_file(path)[:-cut])
        else:
            world.disk.remove(path)
            if path in (newest_log, oldest_log) or "/checkpoints/" in path:
                continue  # a log that ends earlier, begins later or fewer checkpoints: states that are allowed
        assert findings(world), f"{path} cut by {cut}"


def test_the_severity_says_what_is_lost():
    world = example()
    newest, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    world.disk.remove(f"{DIRECTORY}/{newest.shards[0].index[0].file}")
    assert {finding.severity for finding in findings(world)} == {Severity.WARNING}, "INV-5: an index is a cache"
    world = example()
    log = newest.shards[0].logs[0].file
    data = bytearray(world.disk.read_file(f"{DIRECTORY}/{log}"))
    data[-1] ^= 1
    world.disk.replace_file(f"{DIRECTORY}/{log}", bytes(data))
    found = findings(world)
    assert {finding.severity for finding in found} == {Severity.ERROR}
    assert any(finding.offset > 0 and "crc differs" in finding.what for finding in found)


def test_a_tear_at_the_end_of_the_log_is_a_warning_and_damage_below_is_an_error():
    world = example()
    last = sorted(path for path in files_of(world) if path.endswith(".log"))[-1]
    whole = world.disk.read_file(last)
    world.disk.replace_file(last, whole[:-3])
    assert [(f.severity, f.file) for f in findings(world)] == [(Severity.WARNING, last)]
    world.disk.replace_file(last, whole)
    for _ in range(2):
        world.create(f"later {world.seq}")
        world.commit()
    world.disk.replace_file(last, whole[:-1] + b"?")
    assert [(f.severity, f.file) for f in findings(world)] == [(Severity.ERROR, last)]
    covered = bytearray(whole)
    covered[HEADER_BYTES + 60] ^= 1  # in commit 5, which the newest checkpoint holds
    world.disk.replace_file(last, bytes(covered))
    assert [(f.severity, f.file) for f in findings(world)] == [(Severity.WARNING, last)]


def test_an_index_that_is_sound_but_wrong_is_found():
    world = example()
    newest, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    shard = newest.shards[0]
    opened = [Segment.open(world.disk, f"{DIRECTORY}/{index.file}", index.xxh3) for index in shard.index]
    live = live_columns(opened)
    data = build(live._replace(location=live.location[::-1]), SegmentInfo(UUID, 0, 0, newest.seq))
    world.disk.replace_file(f"{DIRECTORY}/{shard.index[0].file}", data)
    lie = shard._replace(index=(shard.index[0]._replace(length=len(data), xxh3=checksum(data)),))
    rewrite(world, shards=(lie, *newest.shards[1:]))
    assert any("live records" in finding.what for finding in findings(world))


def test_a_state_hash_that_is_not_that_of_the_documents_is_found():
    world = example()
    newest, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    users = newest.collections["users"]
    for entry, what in [
        (CollectionEntry(users.id, users.count, users.total ^ 1), "add up"),
        (CollectionEntry(users.id, users.count + 1, users.total), "live documents"),
    ]:
        rewrite(world, collections={**newest.collections, "users": entry})
        assert any(what in finding.what for finding in findings(world))
    rewrite(world, collections={"users": users})
    assert any("catalog" in finding.what for finding in findings(world))


def rewrite(world: World, **changes: object) -> None:
    """Write the newest checkpoint again, sound in itself, with a lie in it."""
    newest, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    lying = dataclasses.replace(newest, **changes)
    lying = dataclasses.replace(lying, state_hash=state_hash(lying.states().values()))
    checkpoints.write(world.disk, DIRECTORY, lying)


def test_leftovers_are_a_note():
    world = example()
    world.disk.replace_file(f"{DIRECTORY}/shard_001.sidx.99", b"")
    assert [(f.severity, f.file) for f in findings(world)] == [(Severity.NOTE, f"{DIRECTORY}/shard_001.sidx.99")]


def test_a_node_is_all_its_databases():
    world = example()
    world.disk.make_dir("other/commit")
    world.disk.make_dir("_backups/db")
    world.disk.replace_file("node.json", b"{}")
    assert database_names(world.disk) == ["db", "other"]
    assert [finding.file for finding in check_node(world.disk)] == ["other/database.json"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    world = example(OsDisk(tmp_path))
    assert main([str(tmp_path)]) == main([str(tmp_path / DIRECTORY)]) == 0
    assert capsys.readouterr().out == "db: 0 findings\n" * 2
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    path = files_of(world)[-1]
    damaged = world.disk.read_file(path)[:-1]
    world.disk.replace_file(path, damaged)
    assert main([str(tmp_path)]) == 1
    assert path in capsys.readouterr().out
    assert {path for path in before if path.stat().st_mtime_ns != before[path]} <= {tmp_path / path, (tmp_path / path).parent}
    for arguments in ([], [str(tmp_path / "nowhere")], ["--help"], [str(tmp_path), "more"]):
        assert main(arguments) == 2
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 2


def test_it_runs_as_a_module(tmp_path: Path):
    example(OsDisk(tmp_path))
    done = subprocess.run([sys.executable, "-m", "storage.check", tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "db: 0 findings\n", "")
