"""What every Disk promises; runs on each implementation (conftest.py)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from storage.disk import RESERVE_STEP_BYTES, Disk, OsDisk, take_range


def write(disk: Disk, path: str, data: bytes) -> None:
    file = disk.create(path)
    file.append(data)
    file.sync()
    file.close()


# Files


def test_appended_bytes_are_read_back(disk: Disk):
    file = disk.create("a")
    assert (file.path, file.size) == ("a", 0)
    file.append(b"one")
    file.append([b"two", bytearray(b"three"), memoryview(b"four")])
    file.append(b"")
    assert file.size == 15
    file.sync()
    assert file.read_at(0, 15) == b"onetwothreefour"
    assert file.read_at(3, 3) == b"two"
    assert disk.read_file("a") == b"onetwothreefour"
    assert bytes(disk.map("a")) == b"onetwothreefour"
    assert disk.size("a") == 15


def test_reading_past_the_end_is_short_or_none(disk: Disk):
    write(disk, "a", b"12345")
    file = disk.open_read("a")
    assert file.size == 5
    assert file.read_at(3, 10) == b"45"
    assert file.read_at(5, 1) == b""
    assert file.read_at(99, 1) == b""
    assert file.read_now(3, 10) is None
    assert file.read_now(9, 1) is None


def test_read_now_gives_bytes_that_were_just_written(disk: Disk):
    write(disk, "a", b"12345")
    assert disk.open_read("a").read_now(1, 3) in (b"234", None)
    assert type(disk.open_read("a").read_at(1, 3)) is bytes


def test_open_append_goes_on_at_the_end(disk: Disk):
    write(disk, "a", b"one")
    file = disk.open_append("a")
    assert file.size == 3
    file.append(b"two")
    assert disk.read_file("a") == b"onetwo"


def test_a_reader_sees_what_is_appended_after_it_opened(disk: Disk):
    writer = disk.create("a")
    reader = disk.open_read("a")
    writer.append(b"later")
    assert reader.read_at(0, 5) == b"later"
    assert reader.size == 0, "size is of the moment it was opened, plus what this handle appended"


def test_a_read_handle_takes_no_bytes(disk: Disk):
    write(disk, "a", b"")
    with pytest.raises(OSError):
        disk.open_read("a").append(b"x")
    assert disk.size("a") == 0


def test_create_refuses_a_name_that_is_taken(disk: Disk):
    write(disk, "a", b"x")
    disk.make_dir("d")
    for name in ("a", "d"):
        with pytest.raises(FileExistsError):
            disk.create(name)
    assert disk.read_file("a") == b"x"


@pytest.mark.parametrize("call", ["open_append", "open_read", "map", "read_file", "size", "inode", "remove", "sync_dir", "remove_tree"])
def test_what_is_not_there_is_file_not_found(disk: Disk, call: str):
    for path in ("missing", "missing/deeper"):
        with pytest.raises(FileNotFoundError):
            getattr(disk, call)(path)
        assert not disk.exists(path)


def test_nothing_is_made_in_a_directory_that_is_not_there(disk: Disk):
    write(disk, "a", b"x")
    with pytest.raises(FileNotFoundError):
        disk.create("missing/a")
    with pytest.raises(FileNotFoundError):
        disk.replace_file("missing/a", b"x")
    with pytest.raises(FileNotFoundError):
        disk.rename("a", "missing/a")
    assert disk.list_dir("") == ["a"]


def test_a_mapping_is_read_only_and_whole(disk: Disk):
    write(disk, "empty", b"")
    write(disk, "a", b"12345678")
    assert len(disk.map("empty")) == 0
    view = disk.map("a")
    assert view.readonly
    assert view.cast("Q")[0] == int.from_bytes(b"12345678", "little")


# Reserved space


def test_reserved_space_reads_as_zeros_and_is_filled_from_the_front(disk: Disk):
    file = disk.create("a")
    file.reserve(1000)
    assert (file.size, disk.size("a"), disk.read_file("a")) == (0, 1000, bytes(1000))
    file.append(b"one")
    file.append(b"two")
    assert file.sync() >= 0
    assert (file.size, disk.size("a")) == (6, 1000)
    assert disk.read_file("a") == b"onetwo" + bytes(994)
    assert file.read_at(3, 5) == b"two\0\0"


def test_what_goes_beyond_reserved_space_makes_the_file_grow(disk: Disk):
    file = disk.create("a")
    file.reserve(4)
    file.append(b"abc")
    file.append(b"defg")
    assert (file.size, disk.read_file("a")) == (7, b"abcdefg")
    file.trim()
    assert disk.read_file("a") == b"abcdefg"


def test_a_trimmed_file_is_as_long_as_what_was_appended(disk: Disk):
    file = disk.create("a")
    file.reserve(RESERVE_STEP_BYTES + 1)  # more than one step
    assert disk.size("a") == RESERVE_STEP_BYTES + 1
    file.append(b"abc")
    disk.rename("a", "b")
    file.trim()
    assert disk.read_file("b") == b"abc"
    file.append(b"d")
    assert disk.read_file("b") == b"abcd"


# Inodes


def test_a_removed_file_stays_readable_through_what_was_opened_before(disk: Disk):
    write(disk, "a", b"12345")
    reader, view = disk.open_read("a"), disk.map("a")
    disk.remove("a")
    assert not disk.exists("a")
    assert reader.read_at(0, 5) == bytes(view) == b"12345"
    write(disk, "a", b"other")
    assert reader.read_at(0, 5) == b"12345"
    assert reader.inode() != disk.inode("a")


def test_a_replaced_file_stays_readable_through_what_was_opened_before(disk: Disk):
    disk.replace_file("a", b"old")
    reader, view = disk.open_read("a"), disk.map("a")
    disk.replace_file("a", b"newer")
    assert reader.read_at(0, 9) == bytes(view) == b"old"
    assert disk.read_file("a") == b"newer"
    assert reader.inode() != disk.inode("a")
    assert disk.list_dir("") == ["a"], "nothing is left beside it"


def test_an_inode_stays_with_its_file(disk: Disk):
    write(disk, "a", b"x")
    write(disk, "b", b"x")
    number = disk.inode("a")
    assert number != disk.inode("b")
    disk.rename("a", "c")
    assert disk.inode("c") == disk.open_read("c").inode() == disk.open_append("c").inode() == number


# Names


def test_rename_moves_and_replaces(disk: Disk):
    write(disk, "a", b"a")
    write(disk, "b", b"b")
    before = disk.open_read("b")
    disk.rename("a", "b")
    assert disk.list_dir("") == ["b"]
    assert disk.read_file("b") == b"a"
    assert before.read_at(0, 1) == b"b"
    with pytest.raises(FileNotFoundError):
        disk.rename("a", "b")


def test_rename_of_a_directory_takes_its_content_along(disk: Disk):
    disk.make_dir("x/y")
    write(disk, "x/y/a", b"1")
    disk.make_dir("elsewhere")
    handle = disk.open_append("x/y/a")
    disk.rename("x", "elsewhere/z")
    handle.append(b"2")
    assert disk.read_file("elsewhere/z/y/a") == b"12"
    assert disk.list_dir("") == ["elsewhere"]
    assert not disk.exists("x/y/a")


def test_a_directory_is_not_renamed_over_a_full_one(disk: Disk):
    disk.make_dir("x")
    disk.make_dir("y")
    write(disk, "y/a", b"1")
    with pytest.raises(OSError):
        disk.rename("x", "y")
    assert disk.list_dir("") == ["x", "y"]


def test_make_dir_makes_parents_and_bears_repetition(disk: Disk):
    disk.make_dir("a/b/c")
    disk.make_dir("a/b/c")
    assert disk.exists("a/b/c") and disk.exists("a") and disk.exists("")
    assert disk.list_dir("a") == ["b"]


def test_list_dir_is_sorted_and_empty_for_what_is_not_there(disk: Disk):
    disk.make_dir("d/sub")
    for name in ("d/b", "d/a", "d/c"):
        write(disk, name, b"")
    assert disk.list_dir("d") == ["a", "b", "c", "sub"]
    assert disk.list_dir("missing") == []
    assert disk.list_dir("") == ["d"]
    disk.sync_dir("d")
    disk.sync_dir("")


def test_remove_tree_removes_only_that_tree(disk: Disk):
    for name in ("x/sub", "xy"):
        disk.make_dir(name)
        write(disk, f"{name}/a", b"1")
    disk.remove_tree("x")
    assert disk.list_dir("") == ["xy"]
    assert disk.list_dir("x") == []
    assert disk.read_file("xy/a") == b"1"


def test_remove_takes_files_only(disk: Disk):
    disk.make_dir("d")
    with pytest.raises(OSError):
        disk.remove("d")
    assert disk.exists("d")


def test_two_disks_have_nothing_in_common(make_disk):
    one, other = make_disk(), make_disk()
    write(one, "a", b"x")
    assert other.list_dir("") == []


# The rest


def test_there_is_room(disk: Disk):
    assert disk.free_bytes() > 2**20


def test_a_lock_is_held_once(disk: Disk):
    release = disk.lock("lock", b"first")
    assert disk.read_file("lock") == b"first"
    with pytest.raises(BlockingIOError):
        disk.lock("lock", b"second")
    assert disk.read_file("lock") == b"first"
    release()
    release = disk.lock("lock", b"third")
    assert disk.read_file("lock") == b"third"
    release()


async def test_run_runs_and_lets_others_run(disk: Disk):
    turns = []

    async def other() -> None:
        turns.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        write(disk, "a", b"x")
        for _ in range(2):  # which of two ready tasks goes first is chance
            assert await disk.run(disk.read_file, "a") == b"x"
        assert turns == ["other"]
    with pytest.raises(FileNotFoundError):
        await disk.run(disk.read_file, "missing")


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_many_files_are_synced_together(disk: Disk, count: int):
    files = [disk.create(f"f{number}") for number in range(count)]
    for number, file in enumerate(files):
        file.append(b"%d" % number * 100)
    disk.sync_all(files)
    assert [disk.read_file(file.path) for file in files] == [b"%d" % number * 100 for number in range(count)]


def test_bytes_are_written_over_in_place(disk: Disk):
    file = disk.create("f")
    file.append(b"0123456789")
    reader, before = disk.open_read("f"), disk.inode("f")
    disk.overwrite("f", 3, b"abc")
    assert disk.read_file("f") == b"012abc6789"
    assert reader.read_at(0, 10) == b"012abc6789", "who had it open reads the new bytes"
    assert disk.inode("f") == before
    file.append(b"!")
    assert disk.read_file("f") == b"012abc6789!"


@pytest.mark.parametrize(("offset", "data"), [(9, b"ab"), (-1, b"a"), (11, b"a")])
def test_nothing_is_written_over_beyond_a_file(disk: Disk, offset: int, data: bytes):
    disk.create("f").append(b"0123456789")
    with pytest.raises(ValueError, match="within"):
        disk.overwrite("f", offset, data)
    assert disk.read_file("f") == b"0123456789"
    with pytest.raises(FileNotFoundError):
        disk.overwrite("g", 0, b"a")


# Ranges of another file


def taken(disk: Disk, offset: int, length: int) -> tuple[int, bytes]:
    """What take_range() took of "source" behind three bytes, with the rest appended as its callers do."""
    source = disk.open_read("source")
    made = disk.create("made")
    made.append(b"...")
    some = take_range(made, source, offset, length)
    assert made.size == 3 + some
    made.append(source.read_at(offset + some, length - some))
    made.sync()
    made.close()
    return some, disk.read_file("made")


def test_a_range_of_another_file_is_taken_or_left(disk: Disk):
    data = bytes(range(256)) * 100
    write(disk, "source", data)
    some, made = taken(disk, 1_000, 20_000)
    assert some == (20_000 if isinstance(disk, OsDisk) else 0)
    assert made == b"..." + data[1_000:21_000]


def test_a_range_ends_with_its_file(disk: Disk):
    write(disk, "source", b"12345")
    some, made = taken(disk, 3, 10)
    assert some <= 2 and made == b"...45"


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_the_system_cannot_the_rest_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    disk = OsDisk(tmp_path)
    write(disk, "source", b"1234567890")
    real, calls = os.copy_file_range, []

    def first_alone(source: int, target: int, count: int, *offsets: int) -> int:
        calls.append(count)
        if len(calls) > 1:
            raise OSError(number, os.strerror(number))
        return real(source, target, 4, *offsets)

    monkeypatch.setattr(os, "copy_file_range", first_alone)
    assert taken(disk, 1, 9) == (4, b"...234567890")
    assert calls == [9, 5]


def test_a_full_disk_is_told_while_a_range_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk = OsDisk(tmp_path)
    write(disk, "source", b"1234567890")

    def full(*_: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        taken(disk, 0, 10)
