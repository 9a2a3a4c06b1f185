"""Distinct values: which entries are equal, and the order of those that are not. Pure numpy, with native twins.

Every function gives (first, codes): codes[i] is the rank of entry i among the distinct values in ascending order, and first[c] the
entry where value c occurs first. So a dictionary of any type is its values at `first`.

Costs, natively: 20 to 60 ns an entry, whatever the order; ascending input 2 ns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import native

Ranked = tuple[np.ndarray, np.ndarray]


def distinct_keys(high: np.ndarray, low: np.ndarray | None) -> Ranked:
    """Of keys of 64 bits, or of 128 in two columns of u64."""
    if low is None and (high[1:] >= high[:-1]).all():
        return _distinct_ascending(high)
    first, codes = _rank_keys(high, low)
    return np.frombuffer(first, np.uint32), np.frombuffer(codes, np.uint32)


def distinct_strings(blob: bytes | memoryview, more: bytes, at: np.ndarray, length: np.ndarray) -> Ranked:
    """Of the strings at these offsets of blob and more (see entries.py), by bytes."""
    first, codes = _rank_strings(blob, more, at, length)
    return np.frombuffer(first, np.uint32), np.frombuffer(codes, np.uint32)


def joined_strings(blob: bytes | memoryview, more: bytes, at: np.ndarray, length: np.ndarray) -> bytes:
    """These strings one behind the other."""
    return _join_strings(blob, more, at, length)


def merged_keys(high: list[np.ndarray], low: np.ndarray | None) -> Ranked:
    """Of the parts of `high` one behind the other, each of them ascending and distinct; low: of all parts, or None."""
    sizes = [len(part) for part in high]
    if low is None and _follow_each_other(high):
        every = np.arange(sum(sizes), dtype=np.uint32)
        return every, every
    first, codes = _merge_keys(np.concatenate(high), low, np.cumsum([0, *sizes]).astype(np.uint64))
    return np.frombuffer(first, np.uint32), np.frombuffer(codes, np.uint32)


def _follow_each_other(parts: list[np.ndarray]) -> bool:
    parts = [part for part in parts if len(part)]
    return all(before[-1] < after[0] for before, after in zip(parts, parts[1:]))


def merged_strings(
    parts: Sequence[tuple[np.ndarray, bytes | memoryview]], masks: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, bytes, list[np.ndarray]]:
    """(lengths, blob, new rank of each string of each part) of ascending distinct strings, given as offsets (u32 or u64) and blob.
    Only those count whose mask is set (None: all); what the others get as rank means nothing."""
    wide = [(offsets.astype(np.uint64, copy=False), blob, mask) for (offsets, blob), mask in zip(parts, masks)]
    lengths, blob, ranks = _merge_strings(wide)
    return np.frombuffer(lengths, np.uint32), blob, [np.frombuffer(rank, np.uint32) for rank in ranks]


def grouped(codes: np.ndarray, rows: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(starts, posting rows): the rows of each of `count` codes in the order they are given in; rows None: 0, 1, 2..."""
    starts, posting_rows = _group(codes, rows, count)
    starts = np.frombuffer(starts, np.uint64)
    return (starts if len(codes) >= 2**32 else starts.astype(np.uint32)), np.frombuffer(posting_rows, np.uint32)


def _distinct_ascending(high: np.ndarray) -> Ranked:
    is_new = np.ones(len(high), bool)
    np.not_equal(high[1:], high[:-1], out=is_new[1:])
    if is_new.all():
        every = np.arange(len(high), dtype=np.uint32)
        return every, every
    return np.flatnonzero(is_new).astype(np.uint32), np.cumsum(is_new, dtype=np.uint32) - np.uint32(1)


def _rank_keys_pure(high: np.ndarray, low: np.ndarray | None) -> tuple[bytes, bytes]:
    order = np.argsort(high, kind="stable") if low is None else np.lexsort((low, high))
    is_new = np.ones(len(order), bool)
    ordered = high[order]
    is_new[1:] = ordered[1:] != ordered[:-1]
    if low is not None:
        ordered = low[order]
        is_new[1:] |= ordered[1:] != ordered[:-1]
    codes = np.empty(len(order), np.uint32)
    codes[order] = np.cumsum(is_new, dtype=np.uint32) - np.uint32(1)
    return order[is_new].astype(np.uint32).tobytes(), codes.tobytes()


def _slices(blob: bytes | memoryview, more: bytes, at: np.ndarray, length: np.ndarray) -> list[bytes]:
    """The strings as objects. Raises ValueError for one outside."""
    blob, size = memoryview(blob), len(blob)
    found = []
    for start, count in zip(at.tolist(), length.tolist()):
        source, start = (blob, start) if start < size else (more, start - size)
        if start + count > len(source):
            raise ValueError(f"a string of {count} bytes lies outside its blob")
        found.append(bytes(source[start : start + count]))
    return found


def _rank_strings_pure(blob: bytes | memoryview, more: bytes, at: np.ndarray, length: np.ndarray) -> tuple[bytes, bytes]:
    strings = _slices(blob, more, at, length)
    first_of: dict[bytes, int] = {}
    for i, string in enumerate(strings):
        first_of.setdefault(string, i)
    ordered = sorted(first_of)
    code_of = {string: code for code, string in enumerate(ordered)}
    first = np.array([first_of[string] for string in ordered], np.uint32)
    return first.tobytes(), np.array([code_of[string] for string in strings], np.uint32).tobytes()


def _join_strings_pure(blob: bytes | memoryview, more: bytes, at: np.ndarray, length: np.ndarray) -> bytes:
    return b"".join(_slices(blob, more, at, length))


def _group_pure(codes: np.ndarray, rows: np.ndarray | None, count: int) -> tuple[bytes, bytes]:
    starts = np.zeros(count + 1, np.uint64)
    np.cumsum(np.bincount(codes, minlength=count), out=starts[1:])
    order = np.argsort(codes, kind="stable")
    return starts.tobytes(), (order.astype(np.uint32) if rows is None else rows[order]).tobytes()


def _merge_keys_pure(high: np.ndarray, low: np.ndarray | None, part_at: np.ndarray) -> tuple[bytes, bytes]:
    return _rank_keys_pure(high, low)


def _merge_strings_pure(
    parts: Sequence[tuple[np.ndarray, bytes | memoryview, np.ndarray | None]],
) -> tuple[bytes, bytes, list[bytes]]:
    cut = []
    for offsets, blob, mask in parts:
        blob, places = memoryview(blob), offsets.tolist()
        numbers = range(len(places) - 1) if mask is None else np.flatnonzero(mask).tolist()
        cut.append([(bytes(blob[places[i] : places[i + 1]]), i) for i in numbers])
    ordered = sorted({string for strings in cut for string, _ in strings})
    rank_of = {string: rank for rank, string in enumerate(ordered)}
    ranks = []
    for (offsets, _, _), strings in zip(parts, cut):
        rank = np.zeros(len(offsets) - 1, np.uint32)
        rank[[i for _, i in strings]] = [rank_of[string] for string, _ in strings]
        ranks.append(rank.tobytes())
    return np.array([len(string) for string in ordered], np.uint32).tobytes(), b"".join(ordered), ranks


_rank_keys = native.choose("rank_keys", _rank_keys_pure)
_rank_strings = native.choose("rank_strings", _rank_strings_pure)
_join_strings = native.choose("join_strings", _join_strings_pure)
_merge_keys = native.choose("merge_keys", _merge_keys_pure)
_merge_strings = native.choose("merge_strings", _merge_strings_pure)
_group = native.choose("group", _group_pure)
