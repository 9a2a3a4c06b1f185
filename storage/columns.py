"""Columns: integers side by side in one C-contiguous buffer, native little-endian, as numpy and array.array keep them. Pure.

Functions over many rows take columns instead of objects, so that a native twin can walk them. Knows nothing of what the
numbers mean.
"""

from __future__ import annotations

import struct
from typing import Any

Column = Any  # whatever has a buffer: a numpy array, array.array, bytes

_BYTES = {"B": 1, "I": 4, "Q": 8}


def read_columns(kinds: str, *columns: Column) -> list[tuple[int, ...]]:
    """The numbers of each column, by struct's letters B, I, Q. Raises ValueError unless all have one length."""
    rows = memoryview(columns[0]).nbytes // _BYTES[kinds[0]]
    for number, (kind, column) in enumerate(zip(kinds, columns, strict=True)):
        size = memoryview(column).nbytes
        if size != rows * _BYTES[kind]:
            raise ValueError(f"column {number} has {size} bytes, {rows} rows of {_BYTES[kind]} were expected")
    return [struct.unpack(f"<{rows}{kind}", column) for kind, column in zip(kinds, columns)]


def check_slices(size: int, starts: tuple[int, ...], *lengths: tuple[int, ...]) -> None:
    """Raise ValueError for a row whose lengths, laid behind its start, reach beyond size bytes."""
    for row, (start, *long) in enumerate(zip(starts, *lengths)):
        if start + sum(long) > size:
            raise ValueError(f"row {row} lies outside the blob or is too long")
