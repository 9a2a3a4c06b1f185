"""The native kernel gives what the pure functions give, refuses what they refuse, and is there where it can be built."""

from __future__ import annotations

import hashlib
import sysconfig
import zlib
from array import array
from pathlib import Path
from shutil import which

import google_crc32c
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import native
from storage.columns import read_columns
from storage.shard import record
from storage.values import keys
from storage.versions import statehash

ROOT = Path(__file__).resolve().parents[2]
kernel = native.KERNEL
needs_kernel = pytest.mark.skipif(kernel is None, reason="the kernel is not built")


def test_it_is_built_where_it_can_be():
    can_build = which("cc") or which("gcc") or which("clang")
    if not can_build or not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        pytest.skip("no compiler or no headers of Python")
    try:
        from storage import _kernel
    except ImportError as error:
        pytest.fail(f"a compiler is here, the kernel is not: python setup.py build_ext --inplace ({error})")
    source = zlib.crc32((ROOT / "storage" / "kernel.c").read_bytes())
    assert source == _kernel.SOURCE, "kernel.c has changed since it was built: python setup.py build_ext --inplace"


# Checksums against other implementations: every length at which XXH3 changes its way, and two blocks of it.

LENGTHS = [*range(260), 511, 512, 513, 1023, 1024, 1025, 1087, 1088, 1089, 2048, 2049, 5000]
BYTES = hashlib.shake_256(b"bytes").digest(max(LENGTHS))


@needs_kernel
@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**64 - 1])
def test_xxh3_of_every_length(seed: int):
    for length in LENGTHS:
        for data in (BYTES[:length], BYTES[-length - 1 : -1]):
            assert kernel.xxh3_64(data, seed) == xxhash.xxh3_64_intdigest(data, seed=seed), (length, seed)


@needs_kernel
def test_crc32c_and_blake2b_of_every_length():
    for length in LENGTHS:
        data = BYTES[:length]
        assert kernel.crc32c(data) == google_crc32c.value(data), length
        assert kernel.blake2b_256(data) == hashlib.blake2b(data, digest_size=32).digest(), length


# Sealing.


@st.composite
def rows_of_a_blob(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int, int, int]]]:
    """(blob, rows of (start, key length, document length, collection)), all within the blob."""
    blob = draw(st.binary(max_size=600))
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(0, len(blob)))
        key_len = draw(st.integers(0, len(blob) - start))
        rows.append((start, key_len, draw(st.integers(0, len(blob) - start - key_len)), draw(st.integers(0, 2**32 - 1))))
    return blob, rows


def u64(numbers: list[int]) -> array:
    return array("Q", numbers)


def u32(numbers: list[int]) -> array:
    return array("I", numbers)


@needs_kernel
@settings(deadline=None)
@given(rows_of_a_blob())
def test_hashes_of_keys(world: tuple):
    blob, rows = world
    columns = u64([r[0] for r in rows]), u32([r[1] for r in rows]), u32([r[3] for r in rows])
    assert kernel.hash_keys(blob, *columns) == keys._hash_keys(blob, *columns)
    assert list(read_columns("Q", keys.hash_keys(blob, *columns))[0]) == [
        keys.hash64(number, blob[start : start + size]) for start, size, _, number in rows
    ]


@needs_kernel
@settings(deadline=None)
@given(rows_of_a_blob())
def test_fold(world: tuple):
    blob, rows = world
    columns = u64([r[0] for r in rows]), u32([r[2] for r in rows])
    assert kernel.fold(blob, *columns) == statehash._fold(blob, *columns)


@needs_kernel
def test_fold_carries_over_256_bits():
    blob = BYTES[:200]
    columns = u64(range(100)), u32([100] * 100)
    total = sum(statehash.hash_document(blob[at : at + 100]) for at in range(100))
    assert total >= 2**256
    assert kernel.fold(blob, *columns) == total % 2**256


@needs_kernel
@settings(deadline=None)
@given(rows_of_a_blob(), st.booleans(), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_shard_records(world: tuple, crc: bool, wide: int, narrow: int):
    blob, rows = world
    columns = (
        bytes(1 + i % 2 for i in range(len(rows))), u32([r[3] for r in rows]), u64([r[0] for r in rows]),
        u32([r[1] for r in rows]), u32([r[2] for r in rows]), u64([wide - i if wide > i else i for i in range(len(rows))]),
        u32([narrow] * len(rows)), u64([wide] * len(rows)),
    )  # fmt: skip
    data = kernel.shard_records(blob, *columns, crc=crc)
    assert data == record._shard_records(blob, *columns, crc=crc)


@needs_kernel
@pytest.mark.parametrize("start, size", [(0, 11), (10, 1), (11, 0), (2**64 - 1, 1), (2**64 - 1, 2**32 - 1), (3, 2**32 - 1)])
def test_rows_outside_the_blob_are_refused(start: int, size: int):
    blob, one = b"0123456789", u32([1])
    at, length = u64([start]), u32([size])
    shard = (b"\1", one, at, u32([0]), length, at, one, at)
    for hash_keys in (kernel.hash_keys, keys._hash_keys):
        pytest.raises(ValueError, hash_keys, blob, at, length, one)
    for fold in (kernel.fold, statehash._fold):
        pytest.raises(ValueError, fold, blob, at, length)
    for shard_records in (kernel.shard_records, record._shard_records):
        pytest.raises(ValueError, shard_records, blob, *shard, crc=True)


@needs_kernel
def test_columns_of_unequal_length_are_refused():
    two, one = u64([0, 0]), u32([1])
    for hash_keys in (kernel.hash_keys, keys._hash_keys):
        pytest.raises(ValueError, hash_keys, b"0123", two, one, one)
        pytest.raises(ValueError, hash_keys, b"0123", b"\0" * 9, one, one)
    for fold in (kernel.fold, statehash._fold):
        pytest.raises(ValueError, fold, b"0123", two, one)
    long_key = (b"\1", one, u64([0]), u32([2**16]), u32([0]), u64([1]), one, u64([1]))
    for shard_records in (kernel.shard_records, record._shard_records):
        pytest.raises(ValueError, shard_records, bytes(2**17), *long_key, crc=True)
        pytest.raises(ValueError, shard_records, b"0123", b"\1\1", *long_key[1:], crc=True)
    for name in ("hash_keys", "fold", "crc32c", "blake2b_256"):
        with pytest.raises(TypeError):
            getattr(kernel, name)("text")


# Rows of a scan.


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([7, 8]), st.binary(min_size=1, max_size=20), st.binary(max_size=300), st.booleans()), max_size=8),
    st.data(),
)
@settings(deadline=None)
@needs_kernel
def test_live_rows(given_records: list[tuple], data: st.DataObject):
    """Whole and sound ones up to the first that is not, wherever the buffer is cut and whichever bit is flipped."""
    buffer, places = bytearray(), []
    for number, (op, collection, key, doc, crc) in enumerate(given_records):
        places.append(len(buffer))
        buffer += record.encode(op, collection, key, doc if op == 1 else b"", seq=2**40 + number, row=number, time_us=5, crc=crc)
    if buffer and data.draw(st.booleans()):
        buffer[data.draw(st.integers(0, len(buffer) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        del buffer[data.draw(st.integers(0, len(buffer))) :]
    places = array("Q", places + data.draw(st.lists(st.integers(0, 2**64 - 1), max_size=1)))
    found = record.live_rows(bytes(buffer), places, 7)
    assert found == record._live_rows(bytes(buffer), array("Q", [place for place in places if place < 2**62]), 7)
    assert all(type(row) is tuple for row in found)
