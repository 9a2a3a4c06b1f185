"""Encrypted files: read anywhere they say what was written, and nothing else is ever handed out (INV-6)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import MemoryDisk, OsDisk
from storage.backup import seal_format
from storage.backup.seal_format import (
    CHUNK_BYTES,
    HEADER_BYTES,
    MAGIC,
    TAG_BYTES,
    Chunks,
    Header,
    identity,
    key_id,
)
from storage.backup.seal_keys import KeyFile, KeyRing, parse_keys, read_key_file, write_key_file
from storage.backup.sealed import SealedDisk, SealedReader
from storage.errors import ConfigError, DamagedRecord, NewerFormat

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
RING = KeyRing([KEY])
SIZES = st.one_of(st.integers(0, 200), st.sampled_from([k * CHUNK_BYTES + d for k in (1, 2, 3) for d in (-1, 0, 1)]), st.integers(0, 3 * CHUNK_BYTES))


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def sealed_disk(inner: MemoryDisk | None = None, ring: KeyRing = RING) -> SealedDisk:
    return SealedDisk(inner or MemoryDisk(), lambda: ring)


def write(disk: SealedDisk, path: str, data: bytes, pieces: list[int]) -> None:
    file = disk.create(path)
    at = 0
    for piece in pieces:
        file.append(data[at : at + piece])
        at += piece
        file.sync()
    file.append([data[at:]])
    assert file.size == len(data)
    file.sync()
    file.close()


@settings(max_examples=80, deadline=None)
@given(SIZES, st.lists(st.integers(0, CHUNK_BYTES + 1), max_size=4), st.lists(st.tuples(st.integers(0, 4 * CHUNK_BYTES), st.integers(0, 2 * CHUNK_BYTES)), max_size=8))
def test_read_anywhere_it_is_what_was_written(size: int, pieces: list[int], reads: list[tuple[int, int]]) -> None:
    disk, data = sealed_disk(), content(size)
    write(disk, "f", data, pieces)
    assert disk.size("f") == size and disk.read_file("f") == data and bytes(disk.map("f")) == data
    assert disk.inner.size("f") == Header(b"", b"").stored_size(size)
    file = disk.open_read("f")
    assert isinstance(file, SealedReader) and file.size == size
    for offset, length in reads:
        assert file.read_at(offset, length) == data[offset : offset + length]
    disk.replace_file("g", data)
    assert disk.read_file("g") == data and disk.inner.read_file("g") != disk.inner.read_file("f")


def read_whole(inner: MemoryDisk, path: str) -> bytes:
    """Of an encrypted file: what has lost its magic is none any more, which the manifest's size and checksum tell."""
    stored = inner.read_file(path)
    if stored[: len(MAGIC)] != MAGIC:
        raise DamagedRecord("no encrypted file", file=path, offset=0)
    return sealed_disk(inner).read_file(path)


@settings(max_examples=150, deadline=None)
@given(SIZES, st.data())
def test_a_byte_changed_or_cut_off_or_added_is_found(size: int, data: st.DataObject) -> None:
    inner = MemoryDisk()
    write(sealed_disk(inner), "f", content(size), [])
    stored = inner.read_file("f")
    spot = data.draw(st.one_of(st.integers(0, len(stored) - 1), st.integers(0, HEADER_BYTES - 1)))
    flip = data.draw(st.integers(1, 255))
    cut = data.draw(st.one_of(st.integers(0, len(stored) - 1), st.sampled_from([HEADER_BYTES + k * (CHUNK_BYTES + TAG_BYTES) for k in range(3)])))
    for wrong in (stored[:spot] + bytes([stored[spot] ^ flip]) + stored[spot + 1 :], stored[: min(cut, len(stored) - 1)], stored + stored[-1:], stored + bytes(TAG_BYTES)):
        inner.replace_file("f", wrong)
        with pytest.raises((DamagedRecord, NewerFormat)):
            read_whole(inner, "f")


def test_chunks_moved_doubled_or_taken_from_elsewhere_are_found() -> None:
    inner = MemoryDisk()
    disk = sealed_disk(inner)
    for directory in ("backup_20260101_000000", "backup_20260102_000000", "backup_20260101_000000.part"):
        inner.make_dir(directory)
    stride = CHUNK_BYTES + TAG_BYTES
    one, two, same = "backup_20260101_000000/a", "backup_20260101_000000/b", "backup_20260102_000000/a"
    for path in (one, two, same):
        write(disk, path, content(3 * CHUNK_BYTES), [])
    good = inner.read_file(one)
    chunk = [good[HEADER_BYTES + k * stride : HEADER_BYTES + (k + 1) * stride] for k in range(3)]
    head = good[:HEADER_BYTES]
    other = inner.read_file(same)
    for wrong in (
        head + chunk[1] + chunk[0] + chunk[2],
        head + chunk[0] + chunk[0] + chunk[2],
        head + chunk[0] + chunk[2],
        head + chunk[0] + chunk[1],
        head + chunk[0] + chunk[1] + chunk[2] + chunk[2],
        head + other[HEADER_BYTES : HEADER_BYTES + stride] + chunk[1] + chunk[2],
        other,  # whole, and of the same name in another backup
        inner.read_file(two),  # whole, and another file of this backup
    ):
        inner.replace_file(one, wrong)
        with pytest.raises(DamagedRecord, match="another file or backup"):
            read_whole(inner, one)
    inner.replace_file(one, good)
    assert read_whole(inner, one) == content(3 * CHUNK_BYTES)


def test_an_identity_is_that_of_the_backup_wherever_it_lies() -> None:
    inside = "backup_20260101_000000/commit/x"
    for path in (inside, f"./{inside}", f"_backups/db/{inside}", "deep/er/backup_20260101_000000.part/commit/x"):
        assert identity(path) == inside
    uuid = "0" * 31 + "a"
    assert identity(f"_archive/db.{uuid}/1-2-3.log") == identity(f"db.{uuid}/1-2-3.log") == f"db.{uuid}/1-2-3.log"
    assert identity("./_proofs.json") == identity("_backups/db/_proofs.json") == "_proofs.json"
    assert identity("_pre_restore_20260101_000000_2/a") != identity("_pre_restore_20260101_000000/a")


def test_a_file_that_was_never_finished_is_found() -> None:
    inner = MemoryDisk()
    disk = sealed_disk(inner)
    for number, size in enumerate((0, 100, CHUNK_BYTES, 2 * CHUNK_BYTES + 1)):
        file = disk.create(str(number))
        file.append(content(size))
        file.append(b"x")
        file.close()  # nothing was synced
        with pytest.raises(DamagedRecord):
            read_whole(inner, str(number))


def test_what_is_not_encrypted_is_read_as_it_is_and_nothing_is_written_over() -> None:
    inner = MemoryDisk()
    for size in (0, 5, 100):
        inner.replace_file("f", content(size))
        disk = sealed_disk(inner)
        assert disk.read_file("f") == content(size) == bytes(disk.map("f")) and disk.size("f") == size
    for attempt in (lambda: disk.open_append("f"), lambda: disk.overwrite("f", 0, b"x")):
        with pytest.raises(OSError, match="written once"):
            attempt()


def test_the_key_that_is_missing_is_named() -> None:
    inner = MemoryDisk()
    sealed_disk(inner).replace_file("f", b"secret")
    with pytest.raises(OSError, match=key_id(KEY).hex()) as raised:
        sealed_disk(inner, KeyRing([OTHER])).read_file("f")
    assert key_id(OTHER).hex() in str(raised.value) and KEY.hex() not in str(raised.value)
    assert sealed_disk(inner, KeyRing([OTHER, KEY])).read_file("f") == b"secret"
    assert OTHER.hex() not in repr(KeyRing([OTHER]))


def test_the_format_of_version_1() -> None:
    """Golden: files of released versions stay readable."""
    chunks = Chunks(KEY, Header(key_id(KEY), bytes(32)), "backup_20260101_000000/a")
    stored = chunks.header.encode() + chunks.encrypt(0, b"hello", is_last=True)
    assert stored.hex() == GOLDEN
    assert seal_format.decode(stored, "a") == chunks.header


def test_a_newer_format_is_refused_by_name() -> None:
    inner = MemoryDisk()
    header = bytearray(Header(key_id(KEY), bytes(32)).encode())
    header[8:12] = (2).to_bytes(4, "little")
    import google_crc32c

    header[56:60] = google_crc32c.value(bytes(header[:56])).to_bytes(4, "little")
    inner.replace_file("f", bytes(header) + bytes(16))
    with pytest.raises(NewerFormat, match="newer"):
        sealed_disk(inner).read_file("f")


# Key files


def test_every_form_of_a_key_file(tmp_path: Path) -> None:
    import base64

    assert parse_keys(KEY, "f") == [KEY]
    assert parse_keys(KEY.hex().encode() + b"\n", "f") == parse_keys(base64.b64encode(KEY), "f") == [KEY]
    assert parse_keys(b"# new\n" + KEY.hex().upper().encode() + b"\n\n  " + base64.b64encode(OTHER) + b"\r\n", "f") == [KEY, OTHER]
    for wrong in (b"", b"# nothing", KEY[:31], KEY + b"\n", b"zz" * 32, KEY.hex().encode()[:-2], (KEY.hex() + "\n").encode() * 2, b"x" * 70_000):
        with pytest.raises(ConfigError, match="backup_key_file") as raised:
            parse_keys(wrong, "f")
        assert KEY.hex()[:40] not in str(raised.value)


def test_a_key_file_is_its_owners_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "k"
    made = write_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600 and repr(read_key_file(str(path))) == made
    with pytest.raises(FileExistsError):
        write_key_file(path)
    for mode in (0o644, 0o640, 0o660, 0o604):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            read_key_file(str(path))
    with pytest.raises(ConfigError, match="keygen"):
        read_key_file(str(tmp_path / "none"))
    with pytest.raises(OSError, match="keygen"):
        KeyFile(str(tmp_path / "none")).ring()


def test_a_key_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "k"
    first = write_key_file(path)
    keys = KeyFile(str(path))
    assert repr(keys.ring()) == first and keys.ring() is keys.ring()
    second = write_key_file(tmp_path / "k2")
    os.replace(tmp_path / "k2", path)
    assert repr(keys.ring()) == second


def test_on_a_real_disk_what_was_closed_is_there(tmp_path: Path) -> None:
    disk = SealedDisk(OsDisk(tmp_path), lambda: RING)
    data = content(10 * 2**20)
    write(disk, "f", data, [2**20] * 5)
    view = disk.map("f")
    assert bytes(view) == data and disk.exists("f") and disk.list_dir("") == ["f"]
    assert data[1000:1064] not in (tmp_path / "f").read_bytes()


GOLDEN = "54575345414c0d0a0100000000000100a0c92146842cd4fd00000000000000000000000000000000000000000000000000000000000000004a0f137100000000587bad47afcf52bfc1a79a26ce8ddcc48bc6dd3d7b"
