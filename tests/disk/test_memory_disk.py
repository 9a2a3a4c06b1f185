"""What MemoryDisk promises beyond the suite all disks share: a capacity."""

from __future__ import annotations

import errno

import pytest

from storage.disk_memory import UNBOUNDED_FREE_BYTES, MemoryDisk


def test_at_its_capacity_it_is_full_as_a_real_disk_is():
    disk = MemoryDisk(capacity_bytes=10)
    file = disk.create("a")
    file.append(b"123456")
    assert disk.free_bytes() == 4
    with pytest.raises(OSError) as caught:
        file.append(b"abcdef")
    assert caught.value.errno == errno.ENOSPC
    assert file.size == 10, "a part was written, and size says how much"
    with pytest.raises(OSError):
        disk.replace_file("b", b"x")
    assert disk.list_dir("") == ["a"]
    disk.remove("a")
    assert disk.free_bytes() == 10
    disk.replace_file("b", b"0123456789")


def test_reserved_space_counts_and_takes_appends_when_nothing_else_does():
    disk = MemoryDisk(capacity_bytes=10)
    file = disk.create("a")
    with pytest.raises(OSError) as caught:
        file.reserve(11)
    assert caught.value.errno == errno.ENOSPC
    file.reserve(10)
    assert disk.free_bytes() == 0
    file.append(b"1234567890")
    with pytest.raises(OSError):
        file.append(b"x")
    assert disk.read_file("a") == b"1234567890"


def test_without_capacity_there_is_always_room():
    disk = MemoryDisk()
    disk.replace_file("a", bytes(1000))
    assert disk.free_bytes() == UNBOUNDED_FREE_BYTES


def test_a_closed_handle_is_an_error():
    disk = MemoryDisk()
    file = disk.create("a")
    file.close()
    with pytest.raises(OSError):
        file.append(b"x")
    with pytest.raises(OSError):
        file.read_at(0, 1)
