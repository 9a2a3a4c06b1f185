"""Archives: what the standard library makes of ours, what we make of anybody's, and archives that are longer, larger or worse than usual."""

from __future__ import annotations

import errno
import io
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadDocument
from storage.exchange import BadLine, ZipWriter, read_zip
from storage.exchange.zip_entries import ZipEntries
from storage.exchange.zip_slices import find_directory, slices

FAR = 2**32 + 77  # beyond what four bytes of an offset can say


def archive_of(entries: list[tuple[str, bytes]]) -> bytes:
    with ZipEntries() as made:
        return b"".join([*(made.entry(name, data) for name, data in entries), *made.end()])


def documents(count: int) -> list[tuple[str, bytes]]:
    return [(f"users/{number}.json", b'{"n": %d}' % number) for number in range(count)]


def read(data: bytes, **options: int) -> list:
    return list(read_zip(io.BytesIO(data), **options))


def good(items: list) -> list[int]:
    return [item["n"] for _, _, item in items if isinstance(item, dict)]


def bad(items: list) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for _, _, item in items if isinstance(item, BadLine)]


@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="\0/\\", exclude_categories=["Cs"]), min_size=1, max_size=20), st.binary(max_size=200)), max_size=6))
def test_the_standard_library_reads_every_entry(entries: list[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(io.BytesIO(archive_of(entries))) as archive:
        assert [(entry.orig_filename, archive.read(entry)) for entry in archive.infolist()] == entries
        assert archive.testzip() is None


def test_more_entries_than_two_bytes_count(tmp_path: Path) -> None:
    entries = documents(66_000)
    data = archive_of(entries)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert [entry.filename for entry in archive.infolist()] == [name for name, _ in entries]
    items = read(data)
    assert good(items) == list(range(66_000)) and [number for _, number, _ in items] == list(range(1, 66_001))


def test_entries_beyond_four_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    with path.open("wb") as file, ZipEntries(FAR) as made:
        file.seek(FAR)  # a hole, which takes no room
        for name, content in documents(3):
            file.write(made.entry(name, content))
        file.writelines(made.end())
    with zipfile.ZipFile(path) as archive:
        assert [(entry.header_offset >= FAR, archive.read(entry)) for entry in archive.infolist()] == [(True, data) for _, data in documents(3)]
    with path.open("rb") as file:
        assert good(list(read_zip(file))) == [0, 1, 2]


def test_a_comment_as_long_as_it_may_be_hides_no_end() -> None:
    made = archive_of(documents(66_000))
    assert made[-22:-20] == b"PK" and made[-2:] == b"\0\0"
    assert len(good(read(made[:-2] + b"\xff\xff" + b"c" * 65_535))) == 66_000


@pytest.mark.parametrize("slice_bytes", [100, 200, 10_000])
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n"])
def test_a_directory_read_in_pieces(slice_bytes: int, before: bytes) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_BZIP2) as archive:
        archive.comment = b"with a comment"
        archive.mkdir("users")
        for name, data in documents(50):
            archive.writestr(name, data)
    items = read(before + made.getvalue(), slice_bytes=slice_bytes)
    assert good(items) == list(range(50)) and [number for _, number, _ in items] == list(range(2, 52))


def test_the_bad_entry_is_told_from_its_neighbours() -> None:
    data = bytearray(archive_of(documents(20)))
    directory = find_directory(io.BytesIO(data))
    [whole] = slices(io.BytesIO(data), directory)
    data[directory.start + whole.ends[6] + 6] = 200  # needs a version that nobody has
    items = read(bytes(data))
    assert good(items) == [*range(7), *range(8, 20)] and [number for number, _ in bad(items)] == [8]


def test_a_name_that_is_not_the_utf8_it_says_is_told_from_its_neighbours() -> None:
    entries = documents(20)
    entries[7] = ("users/é.json", entries[7][1])
    data = bytearray(archive_of(entries))
    in_directory = data.rindex("é".encode())
    data[in_directory + 1] = ord("x")
    items = read(bytes(data))
    assert good(items) == [*range(7), *range(8, 20)] and [number for number, _ in bad(items)] == [8]


def test_a_damaged_directory_ends_the_archive_there() -> None:
    data = bytearray(archive_of(documents(20)))
    directory = find_directory(io.BytesIO(data))
    [whole] = slices(io.BytesIO(data), directory)
    data[directory.start + whole.ends[6]] ^= 1
    items = read(bytes(data))
    assert good(items) == list(range(7))
    [(number, reason)] = bad(items)
    assert number == 8 and "from its entry 8 on" in reason and "left out" in reason


@pytest.mark.parametrize("cut", [1, 22, 60, 200])
def test_an_archive_that_was_cut_off_is_none(cut: int) -> None:
    with pytest.raises(BadDocument, match="not a zip archive"):
        read(archive_of(documents(20))[:-cut])


def test_an_end_that_lies_is_refused() -> None:
    data = archive_of(documents(2))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(data) * 2, 0, 0)
    with pytest.raises(BadDocument, match="does not stand where"):
        read(data[:-22] + end)
    with pytest.raises(BadDocument, match="several volumes"):
        read(data[:-22] + struct.pack("<4s4H2IH", b"PK\5\6", 3, 3, 2, 2, 100, 0, 0))


def test_memory_does_not_grow_with_the_entries(tmp_path: Path) -> None:
    """Both ways; the directory of so many entries is 10 MB as objects."""
    path = tmp_path / "long.zip"
    tracemalloc.start()
    try:
        with path.open("wb") as file, ZipWriter() as writer:
            for start in range(0, 16_000, 1_000):
                for number in range(start, start + 1_000):
                    file.write(writer.document("users", {"_id": number, "text": "text"}))
            file.writelines(writer.end())
        with path.open("rb") as file:
            count = sum(1 for _ in read_zip(file))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 16_000
    assert peak < 5 * 2**20, f"{peak:,} bytes"


def test_a_full_temporary_directory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    with ZipEntries() as made:
        monkeypatch.setattr(made, "_directory", Full())
        with pytest.raises(OSError, match="set TMPDIR") as caught:
            made.entry("users/1.json", b"{}")
    assert caught.value.errno == errno.ENOSPC and tempfile.gettempdir() in str(caught.value)


def test_what_a_zip_archive_has_no_room_for() -> None:
    with ZipEntries() as made, pytest.raises(BadDocument, match="has no room for the entry"):
        made.entry("x" * 65_536, b"")
