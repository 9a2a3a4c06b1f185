"""The native part of the field index gives what the pure functions give, and refuses what they refuse."""

from __future__ import annotations

import random
import zlib
from contextlib import suppress
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import native
from storage.errors import BadDocument
from storage.fields import distinct
from storage.fields.build import build_column
from storage.fields.entries import Entries
from storage.fields.extract import _extract_pure, entries_of_documents, extract
from storage.fields.values import Kind
from storage.query.paths import Path as FieldPath
from storage.values.documents import encode
from tests.fields.alike import differences
from tests.fields.worlds import documents

ROOT = Path(__file__).resolve().parents[2]
kernel = native.FIELDS
needs_kernel = pytest.mark.skipif(kernel is None, reason="the kernel is not built")
PATHS = ["a", "a.b", "a.0", "b", "_id", "a.b.0", "c", "b.b.b.b"]

byte_strings = st.sampled_from([b"", b"\0", b"\0\0", b"a", b"abcdefgh", b"abcdefgh\0", b"abcdefghi"]) | st.binary(max_size=20)


@needs_kernel
def test_it_is_built_from_this_source():
    source = zlib.crc32((ROOT / "storage" / "fields.c").read_bytes())
    assert source == kernel.SOURCE, "fields.c has changed since it was built: python setup.py build_ext --inplace"


def blob_of(found: list[bytes]) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Documents (or strings) behind a few other bytes, in another order than asked for."""
    length = np.array([len(one) for one in found], np.uint32)
    at = np.zeros(len(found), np.uint64)
    blob = b"xyz"
    for i in reversed(range(len(found))):
        at[i] = len(blob)
        blob += found[i]
    return blob, at, length


def values_of(entries: Entries) -> list:
    """Entries with the bytes that their offsets point to, wherever these are."""
    joined = bytes(entries.blob) + entries.more
    rows = range(len(entries.kind)) if entries.row is None else entries.row.tolist()
    width = {6: None, 10: 16, 11: 12}
    found = []
    for row, kind, payload, length in zip(rows, entries.kind.tolist(), entries.payload.tolist(), entries.length.tolist()):
        size = width.get(kind, 0)
        found.append((row, kind, joined[payload : payload + (length if size is None else size)] if size != 0 else (payload, length)))
    return found


@given(st.lists(documents, max_size=6))
@settings(max_examples=300, deadline=None)
def test_extracting_is_walking_decoded_documents(found: list[dict]):
    blob, at, length = blob_of([encode(document) for document in found])
    for path, entries in zip(PATHS, extract(blob, at, length, PATHS)):
        (pure,) = _extract_pure(blob, at, length, [FieldPath(path)])
        assert values_of(entries) == values_of(pure)
        assert entries.many.tolist() == pure.many.tolist() and (entries.row is None) == (pure.row is None)
        assert differences(build_column(entries), build_column(entries_of_documents(found, path))) == []


ODD_WIDTHS = [b"\xca\x3f\xc0\0\0", b"\xcd\0\x05", b"\xcf" + bytes(7) + b"\x05", b"\xd3" + b"\xff" * 8, b"\xd0\x80", b"\xdb\0\0\0\x01x", b"\xc7\x08\x01" + bytes(8)]
ODD_WIDTHS += [b"\xc6\0\0\0\x02ab", b"\xdf\0\0\0\x01\xa1b\x01", b"\xdd\0\0\0\x01\x01", b"\xc9\0\0\0\x0c\x02" + bytes(12), b"\xca\x7f\xc0\0\0", b"\xde\0\0"]


@pytest.mark.parametrize("value", ODD_WIDTHS, ids=lambda value: value.hex())
def test_wide_forms_are_read(value: bytes):
    document = b"\x83\xa3_id\x01\xa1a" + value + b"\xa1b\xa1z"
    at, length = np.zeros(1, np.uint64), np.array([len(document)], np.uint32)
    paths = [FieldPath(path) for path in PATHS]
    entries = extract(document, at, length, PATHS)
    assert list(map(values_of, entries)) == list(map(values_of, _extract_pure(document, at, length, paths)))


def test_what_is_no_document_is_refused():
    whole = encode({"_id": 1, "a": {"b": "text", "c": [1, 2.5, None]}, "z": 2**40})
    for cut in range(len(whole)):
        with pytest.raises(BadDocument):
            extract(whole, np.zeros(1, np.uint64), np.array([cut], np.uint32), ["y", "a.b"])
    for bad in (b"\x81\x01\x02", b"\x91\x01", b"\x81\xa1y\xc1", b"\x81\xa1y\xd6\x01abcd", b"\x81\xa1y\xcf" + b"\xff" * 8):
        with pytest.raises(BadDocument):
            extract(bad, np.zeros(1, np.uint64), np.array([len(bad)], np.uint32), ["y"])
    with pytest.raises(BadDocument):
        extract(whole, np.array([5], np.uint64), np.array([len(whole)], np.uint32), ["a"])


@needs_kernel
@given(st.binary(max_size=60), st.lists(st.integers(0, 255), max_size=8))
@settings(max_examples=300, deadline=None)
def test_walking_anything_stays_inside(data: bytes, damage: list[int]):
    whole = bytearray(msgpack.packb({"a": {"b": "text"}, "x": [1, b"ab", {"k": None}], "y": 1.5}))
    for place, byte in zip(damage[::2], damage[1::2]):
        whole[place % len(whole)] = byte
    for candidate in (data, bytes(whole), b"\x85" + data):
        where = np.zeros(1, np.uint64), np.array([len(candidate)], np.uint32)
        found = []
        with suppress(ValueError):
            found += kernel.walk(candidate, *where, [(b"a", b"b"), (b"y",)])[0]
        for path in ([(b"x", -1)], [(b"x", -1), (b"2", 2), (b"k", -1)], [(b"a", -1), (b"b", -1)]):
            with suppress(ValueError):
                _, *columns = kernel.reach(candidate, *where, np.zeros(1, np.uint32), tuple(path))
                found.append(columns)
        for kinds, payloads, lengths in found:
            ends = np.frombuffer(payloads, np.uint64) + np.frombuffer(lengths, np.uint32)
            assert (ends[np.frombuffer(kinds, np.uint8) == Kind.STRING] <= len(candidate)).all()


# Ranks, groups and merges against numpy.


@needs_kernel
@given(st.lists(byte_strings, max_size=80), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_strings_are_ranked(strings: list[bytes], cut: int):
    blob, at, length = blob_of(strings)
    for split in (0, len(blob) // 2 if not strings else int(at.min()), len(blob)):
        whole = blob[:split], blob[split:], at, length
        assert kernel.rank_strings(*whole) == distinct._rank_strings_pure(*whole)
        assert kernel.join_strings(*whole) == b"".join(strings)


@needs_kernel
@pytest.mark.parametrize("make", [
    lambda rng: rng.randbytes(rng.randrange(4)),
    lambda rng: b"prefix-of-many-bytes-" + b"%d" % rng.randrange(10**6),
    lambda rng: b"a" * rng.randrange(200),
    lambda rng: b"\0" * rng.randrange(200),
    lambda rng: b"b" * rng.randrange(3) + b"\0" * rng.randrange(40) + rng.randbytes(1),
], ids=["short", "prefix", "runs", "zeros", "padded"])
def test_many_strings_are_ranked(make):
    rng = random.Random(5)
    strings = [make(rng) for _ in range(5000)]
    blob, at, length = blob_of(strings)
    assert kernel.rank_strings(blob, b"", at, length) == distinct._rank_strings_pure(blob, b"", at, length)


@needs_kernel
@pytest.mark.parametrize("bits", [2, 20, 64])
@pytest.mark.parametrize("rows", [0, 1, 31, 3000])
def test_keys_are_ranked(bits: int, rows: int):
    rng = random.Random(bits)
    high, low = (np.array([rng.getrandbits(bits) for _ in range(rows)], np.uint64) for _ in range(2))
    assert kernel.rank_keys(high, None) == distinct._rank_keys_pure(high, None)
    assert kernel.rank_keys(high, low) == distinct._rank_keys_pure(high, low)
    assert kernel.rank_keys(high >> np.uint64(1), low) == distinct._rank_keys_pure(high >> np.uint64(1), low)


@needs_kernel
@given(st.lists(st.lists(st.integers(0, 30), unique=True).map(sorted), max_size=5), st.booleans())
def test_keys_are_merged(parts: list[list[int]], is_wide: bool):
    high = np.array([key // 4 if is_wide else key for part in parts for key in part], np.uint64)
    low = np.array([key % 4 for part in parts for key in part], np.uint64) if is_wide else None
    part_at = np.cumsum([0, *map(len, parts)]).astype(np.uint64)
    assert kernel.merge_keys(high, low, part_at) == distinct._merge_keys_pure(high, low, part_at)


@needs_kernel
@given(st.lists(st.lists(st.tuples(byte_strings, st.booleans()), unique_by=lambda one: one[0]).map(sorted), max_size=5), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_strings_are_merged(parts: list[list[tuple[bytes, bool]]], is_wide: bool, is_masked: bool):
    given_parts = []
    for part in parts:
        offsets = np.cumsum([0, *(len(string) for string, _ in part)]).astype(np.uint64 if is_wide else np.uint32)
        mask = np.array([is_used for _, is_used in part], bool) if is_masked else None
        given_parts.append((offsets, b"".join(string for string, _ in part), mask))
    assert kernel.merge_strings(given_parts) == distinct._merge_strings_pure(given_parts)


@needs_kernel
@given(st.lists(st.integers(0, 9), max_size=40), st.sampled_from([np.uint8, np.uint16, np.uint32]))
def test_rows_are_grouped(codes: list[int], kind: type):
    column, rows = np.array(codes, kind), np.arange(len(codes), dtype=np.uint32) * 3
    assert kernel.group(column, None, 10) == distinct._group_pure(column, None, 10)
    assert kernel.group(column, rows, 10) == distinct._group_pure(column, rows, 10)


@needs_kernel
def test_what_does_not_fit_together_is_refused():
    eight, four = np.zeros(2, np.uint64), np.zeros(2, np.uint32)
    refused = [
        lambda: kernel.rank_keys(eight, eight[:1]),
        lambda: kernel.rank_keys(b"1234", None),
        lambda: kernel.rank_strings(b"ab", b"", eight, four[:1]),
        lambda: kernel.rank_strings(b"ab", b"", eight + np.uint64(1), four + np.uint32(2)),
        lambda: kernel.join_strings(b"ab", b"c", eight + np.uint64(4), four),
        lambda: kernel.group(np.array([3], np.uint8), None, 3),
        lambda: kernel.group(eight, None, 3),
        lambda: kernel.group(four, four[:1], 3),
        lambda: kernel.merge_keys(eight, None, np.array([0, 1], np.uint64)),
        lambda: kernel.merge_keys(eight, None, np.array([0, 3, 2], np.uint64)),
        lambda: kernel.merge_strings([(np.array([0, 3], np.uint32), b"ab", None)]),
        lambda: kernel.merge_strings([(np.array([0, 2, 1], np.uint32), b"ab", None)]),
        lambda: kernel.merge_strings([(np.array([0, 2], np.uint32), b"ab", b"")]),
        lambda: kernel.walk(b"\x80", eight[:1], four, [(b"a",)]),
        lambda: kernel.reach(b"\x80", eight[:1], four[:1] + np.uint32(1), four + np.uint32(1), ((b"a", -1),)),
        lambda: kernel.walk(b"\x80", eight[:1], four[:1] + np.uint32(1), [(b"a",), (b"a",)]),
    ]
    for call in refused:
        with pytest.raises(ValueError):
            call()
