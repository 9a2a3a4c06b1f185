"""The hot cache: documents lately read from shard logs, least recently used out first, one part a shard. Pure.

Keyed by a record's location, whose bytes never change, so nothing is ever invalidated: an updated document has a new
location. Bounded in bytes (INV-8); hits and misses are counted for metrics.
"""

from __future__ import annotations

from collections import OrderedDict

ENTRY_COST_BYTES = 199  # key, node of the ordered dict, tuple; tracemalloc, CPython 3.11


class HotCache:
    """A bounded LRU from location to record."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._records: OrderedDict[int, tuple[object, int]] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, location: int) -> object | None:
        found = self._records.get(location)
        if found is None:
            self.misses += 1
            return None
        self._records.move_to_end(location)
        self.hits += 1
        return found[0]

    def put(self, location: int, record: object, length: int) -> None:
        cost = length + ENTRY_COST_BYTES
        if cost > self._bytes_max or location in self._records:
            return
        self._records[location] = (record, cost)
        self.bytes += cost
        while self.bytes > self._bytes_max:
            _, (_, gone) = self._records.popitem(last=False)
            self.bytes -= gone
