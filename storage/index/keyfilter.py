"""The key filter: says of a key that it is surely not in an index, without a look at the index. Pure.

    hash64 ── upper half ──> one block of 64 bytes (a line of memory)
           ── mixed      ──> six bits of that block: all set = must look, one clear = surely absent

An insert has to know that its `_id` is new. For a key that was never written the filter says so in one touch of memory
instead of a search in every index segment. It stands beside the index, in memory only, and is filled again from the
index's hash columns at opening: a key that was added is never called absent, a key that was not is called "must look"
for less than 1 in 100 while count <= capacity, and more often beyond. 12 bits a key, fixed by the capacity (INV-8).

The native kernel has the filter; without it there is none, every answer is "must look", and all is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import native
from ..columns import Column, read_columns

CAPACITY_MAX = 2**30


class _NoFilter:
    """Keeps nothing but the count."""

    def __init__(self, capacity: int) -> None:
        if not 1 <= capacity <= CAPACITY_MAX:
            raise ValueError(f"a filter holds 1 to {CAPACITY_MAX} keys, not {capacity}")
        self.capacity = capacity
        self.count = 0
        self.bytes = 0

    def add(self, hashes: Column) -> None:
        """The hash64 of keys, a column of u64 (see columns.py). By one thread at a time, which does not hold the interpreter meanwhile: keys are
        only sure to be held when it has returned."""
        self.count += len(read_columns("Q", hashes)[0])

    def may_hold(self, collection: int, keys: Sequence[bytes]) -> bytes:
        """A byte a key: 1 = must look, 0 = surely absent."""
        return b"\1" * len(keys)


KeyFilter = native.choose("KeyFilter", _NoFilter)
