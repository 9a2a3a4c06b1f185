"""Merging: neighbouring columns of one field to a column of all their rows that go on. Pure.

    merge_columns([(older, keep), (newer, None)])      the same arrays as building from the documents that are kept

Dictionaries are merged first: of each part only the values that a kept row has, kind by kind. That gives for each part a map from old
codes to new ones, with which its rows are written down again; then all is laid out as in building.

One thing cannot be told when rows are dropped: whether the number that was written as 1 and as 1.0 had its first form from a row that
is gone. Such numbers are marked in `varied` already, and stay so.

Costs, natively, for 16 million rows: 0.1 s for times, 0.4 s for a field of 2,000 strings, 1.5 s for one of 500,000, 4 s when all
differ. Memory: the merged column and about as much again; files.py writes one before the next is merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .build import any_or_none, code_type, dictionary_of, id_keys, lay_out, strings_of
from .column import Column, Strings
from .distinct import merged_keys, merged_strings
from .values import KINDS, TYPED, Kind, ordered_bits

_TOP_BIT = np.uint64(1 << 63)
_CHUNK_ROWS = 2**20  # numpy widens what it indexes with, so a whole column at once would take 8 bytes a row

Part = tuple[Column, np.ndarray | None]


def merge_columns(parts: Sequence[Part]) -> Column:
    """One column of neighbours, given in order. keep: bool by row, which rows go on; None for all of them."""
    used = [_used_codes(column, keep) for column, keep in parts]
    columns = [column for column, _ in parts]
    maps = [np.zeros(column.codes + 1, np.uint32) for column in columns]
    kind_at = np.zeros(KINDS + 1, np.uint32)
    found: dict[str, Any] = {}
    count = 0
    for kind in Kind:
        kind_at[kind] = count
        ranges = [column.kind_range(kind) for column in columns]
        if all(lo == hi for lo, hi in ranges):
            continue
        masks = [None if each is None else each[lo:hi] for each, (lo, hi) in zip(used, ranges)]
        if kind in TYPED and not (kind is Kind.STRING and any(column.is_hollow for column in columns)):
            ranks, values, distinct = _MERGERS[kind](columns, masks)
            for codes, (lo, hi), rank in zip(maps, ranges, ranks):
                codes[lo:hi] = rank + np.uint32(count)
            found.update(values)
            count += distinct
        else:
            for codes, (lo, hi) in zip(maps, ranges):
                codes[lo:hi] = count
            count += any(hi > lo if mask is None else mask.any() for mask, (lo, hi) in zip(masks, ranges))
    kind_at[KINDS] = count
    for codes in maps:
        codes[-1] = count
    return _written_again(parts, maps, dictionary_of(kind_at, found))


def _used_codes(column: Column, keep: np.ndarray | None) -> np.ndarray | None:
    """Which codes a kept row has; None when all have one."""
    if keep is None or keep.all():
        return None
    used = np.zeros(column.codes + 1, bool)
    if column.code_of is None:
        used[:-1] = keep
    else:
        for lo in range(0, column.rows, _CHUNK_ROWS):
            codes = column.code_of[lo : lo + _CHUNK_ROWS]
            used[codes[keep[lo : lo + _CHUNK_ROWS]]] = True
    if len(column.many):
        _, codes = _entries_of_many(column, keep)
        used[codes] = True
    used = used[:-1]
    return None if used.all() else used


def _entries_of_many(column: Column, keep: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(rows, codes) of the entries of kept rows among `many`, by row and then code."""
    is_many = np.zeros(column.rows, bool)
    is_many[column.many] = True
    if keep is not None:
        is_many &= keep
    places = np.flatnonzero(is_many[column.posting_rows])
    rows = column.posting_rows[places]
    codes = column.starts.searchsorted(places.astype(column.starts.dtype), "right") - 1
    order = np.argsort(rows, kind="stable")
    return rows[order], codes[order].astype(np.uint32)


def _written_again(parts: Sequence[Part], maps: Sequence[np.ndarray], dictionary: Any) -> Column:
    """The rows of all parts in new codes."""
    kept = [column.rows if keep is None else int(np.count_nonzero(keep)) for column, keep in parts]
    rows, count = sum(kept), dictionary.codes
    no_rows = np.empty(0, np.uint32)
    if rows == count and all(column.code_of is None for column, _ in parts) and _is_ascending_throughout(parts, maps):
        return Column(rows, dictionary, None, no_rows, None, None, is_ascending=True)
    codes = np.empty(rows, code_type(count))
    many, extra_rows, extra_codes = [no_rows], [no_rows], [no_rows]
    at = 0
    for (column, keep), new_of, size in zip(parts, maps, kept):
        if len(column.many):
            row_of = (np.arange(column.rows) if keep is None else np.cumsum(keep) - 1) + at
            gone = column.many if keep is None else column.many[keep[column.many]]
            found, old = _entries_of_many(column, keep)
            many.append(row_of[gone].astype(np.uint32))
            extra_rows.append(row_of[found].astype(np.uint32))
            extra_codes.append(new_of[old])
        _write_codes(column, keep, new_of.astype(codes.dtype), codes[at : at + size])
        at += size
    return lay_out(rows, dictionary, codes, np.concatenate(extra_rows), np.concatenate(extra_codes), np.concatenate(many))


def _is_ascending_throughout(parts: Sequence[Part], maps: Sequence[np.ndarray]) -> bool:
    """Whether the new codes of the kept rows are 0, 1, 2... Each part has code == row, and maps never fall within a part."""
    at = 0
    for (_, keep), new_of in zip(parts, maps):
        codes = new_of[:-1] if keep is None else new_of[:-1][keep]
        if len(codes) and (codes[0] != at or codes[-1] != at + len(codes) - 1):
            return False
        at += len(codes)
    return True


def _write_codes(column: Column, keep: np.ndarray | None, new_of: np.ndarray, out: np.ndarray) -> None:
    at = 0
    for lo in range(0, column.rows, _CHUNK_ROWS):
        hi = min(lo + _CHUNK_ROWS, column.rows)
        codes = new_of[lo:hi] if column.code_of is None else new_of[column.code_of[lo:hi]]
        if keep is not None:
            codes = codes[keep[lo:hi]]
        out[at : at + len(codes)] = codes
        at += len(codes)


# One merger for each kind that keeps values: (new rank of each value of each part, the parts of the dictionary, distinct values).

Merged = tuple[list[np.ndarray], dict[str, Any], int]
Masks = Sequence[np.ndarray | None]


def _taken(arrays: Sequence[np.ndarray], masks: Masks) -> list[np.ndarray]:
    return [array if mask is None else array[mask] for array, mask in zip(arrays, masks)]


def _spread(codes: np.ndarray, sizes: Sequence[int], masks: Masks) -> list[np.ndarray]:
    """Codes of all values that are used, cut by part, with a zero for each value that is not."""
    ranks, at = [], 0
    for size, mask in zip(sizes, masks):
        taken = size if mask is None else int(np.count_nonzero(mask))
        part = codes[at : at + taken]
        if mask is not None:
            whole = np.zeros(size, np.uint32)
            whole[mask] = part
            part = whole
        ranks.append(part)
        at += taken
    return ranks


def _optional(columns: Sequence[Column], name: str, kind: type) -> list[np.ndarray] | None:
    """An array of every column, zeros where it is left out; None when it is left out everywhere."""
    arrays = [getattr(column, name) for column in columns]
    if all(array is None for array in arrays):
        return None
    return [np.zeros(len(column.numbers), kind) if array is None else array for column, array in zip(columns, arrays)]


def _numbers(columns: Sequence[Column], masks: Masks) -> Merged:
    sizes = [len(column.numbers) for column in columns]
    d = _taken([column.numbers for column in columns], masks)
    rest = _optional(columns, "remainders", np.uint16)
    rest = None if rest is None else np.concatenate(_taken(rest, masks))
    high = [ordered_bits(part) for part in d]
    first, codes = merged_keys(high, None if rest is None else rest.astype(np.uint64))
    del high
    numbers = np.concatenate(d)[first]
    parts: dict[str, Any] = {"numbers": numbers, "remainders": None if rest is None else any_or_none(rest[first])}
    doubles, varied = _optional(columns, "doubles", bool), _optional(columns, "varied", bool)
    if doubles is not None or varied is not None:  # either may be all that is left of a number written in two ways
        forms = [
            np.zeros(len(codes), bool) if each is None else np.concatenate(_taken(each, masks)) for each in (doubles, varied)
        ]
        every = forms[0]
        is_odd = (every != every[first][codes]) | forms[1]
        is_varied = np.zeros(len(first), bool)
        is_varied[codes[is_odd]] = True
        parts["doubles"], parts["varied"] = any_or_none(every[first]), any_or_none(is_varied)
    return _spread(codes, sizes, masks), parts, len(first)


def _strings(columns: Sequence[Column], masks: Masks) -> Merged:
    lengths, blob, ranks = merged_strings([(column.strings.offsets, column.strings.blob) for column in columns], masks)
    strings: Strings = strings_of(lengths, blob)
    return ranks, {"strings": strings}, len(strings)


def _dates(columns: Sequence[Column], masks: Masks) -> Merged:
    dates = _taken([column.dates for column in columns], masks)
    first, codes = merged_keys([part.view(np.uint64) ^ _TOP_BIT for part in dates], None)
    ranks = _spread(codes, [len(column.dates) for column in columns], masks)
    return ranks, {"dates": np.concatenate(dates)[first]}, len(first)


def _bools(columns: Sequence[Column], masks: Masks) -> Merged:
    bools = _taken([column.bools for column in columns], masks)
    first, codes = merged_keys([part.astype(np.uint64) for part in bools], None)
    ranks = _spread(codes, [len(column.bools) for column in columns], masks)
    return ranks, {"bools": np.concatenate(bools)[first]}, len(first)


def _ids(columns: Sequence[Column], masks: Masks, name: str) -> Merged:
    arrays = [getattr(column, name) for column in columns]
    taken = _taken(arrays, masks)
    keys = [id_keys(part) for part in taken]
    first, codes = merged_keys([high for high, _ in keys], np.concatenate([low for _, low in keys]))
    del keys
    return _spread(codes, [len(array) for array in arrays], masks), {name: np.concatenate(taken)[first]}, len(first)


_MERGERS = {
    Kind.NUMBER: _numbers,
    Kind.STRING: _strings,
    Kind.UUID: lambda columns, masks: _ids(columns, masks, "uuids"),
    Kind.OBJECT_ID: lambda columns, masks: _ids(columns, masks, "object_ids"),
    Kind.BOOL: _bools,
    Kind.DATE: _dates,
}
