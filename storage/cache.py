"""The hot cache: documents lately read from shard logs, least recently used out first. Pure.

    (collection, key) ──> document

Invariant, kept by the database: a key that is here is in no memtable, so what is here is the newest that was sealed, in every
checkpoint since it was put in. So a write takes its key out, and a read fills it in only while no memtable holds the key. Bounded in bytes
(INV-8); hits and misses are counted for metrics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

ENTRY_COST_BYTES = 330  # key, tuple, node of the ordered dict, headers of the objects; tracemalloc, CPython 3.11


class DocumentCache:
    """A bounded LRU of documents."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._documents: OrderedDict[tuple[int, bytes], bytes] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._documents)

    def get(self, collection: int, key: bytes) -> bytes | None:
        place = (collection, key)
        found = self._documents.get(place)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
            self._documents.move_to_end(place)
        return found

    def get_many(self, collection: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """get() for a batch, at a third of the cost: of the documents found only the last one counts as just used."""
        get = self._documents.get
        found = [get((collection, key)) for key in keys]
        missed = found.count(None)
        self.misses += missed
        self.hits += len(keys) - missed
        if found[-1] is not None:
            self._documents.move_to_end((collection, keys[-1]))
        return found

    def put(self, collection: int, key: bytes, document: bytes) -> None:
        """Only for a key that is in no memtable, with the document that the newest checkpoint has."""
        cost = len(document) + ENTRY_COST_BYTES
        place = (collection, key)
        if cost > self._bytes_max or place in self._documents:
            return
        self._documents[place] = document
        self.bytes += cost
        while self.bytes > self._bytes_max:
            _, gone = self._documents.popitem(last=False)
            self.bytes -= len(gone) + ENTRY_COST_BYTES

    def forget(self, places: Iterable[tuple[int, bytes]]) -> None:
        """Keys that are written to."""
        documents = self._documents
        for place in places:
            gone = documents.pop(place, None)
            if gone is not None:
                self.bytes -= len(gone) + ENTRY_COST_BYTES
