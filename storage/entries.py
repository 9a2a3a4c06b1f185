"""What a commit does to the entries of unique indexes: checked at the appended end, then records beside the documents'. Waits for nothing.

    plan = EntryPlan(indexes, db.end_now) ── change(key, old entries, new entries) for each document ──> records()

So uniqueness needs no locks and no other structure: an entry is looked up as an `_id` is, in the wake-up in which it is
committed (INV-2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgpack

from .commit.codec import Op, Record
from .shard.shardset import COLD
from .unique import KEY_TAG, Entries, UniqueIndex, Values
from .values.documents import decode


class Collision(NamedTuple):
    """A value that another document has in an index."""

    index: UniqueIndex
    values: Values


Look = Callable[[int, bytes], Any]  # (collection, key) -> the document at the appended end, None, or COLD


class EntryPlan:
    """What one commit does to the entries of a collection, decided at the appended end within one wake-up.

    Every change is checked against the entries that there are and against the changes before it; one that is refused leaves
    no trace. look gives COLD for what it cannot read without waiting: `wanted` then says what to read before the next try.
    """

    def __init__(self, indexes: Sequence[UniqueIndex], look: Look) -> None:
        self.indexes = indexes
        self.wanted: tuple[int, bytes] | None = None
        self._look = look
        self._held: dict[tuple[int, bytes], bytes | None] = {}  # as it was before this commit: the document's key
        self._after: dict[tuple[int, bytes], bytes | None] = {}  # as it is after the changes so far
        self.count = 0  # of records

    def note_absent(self, number: int, keys: Iterable[bytes]) -> None:
        """The collection of entries `number` is known to hold none of these."""
        for key in keys:
            self._held.setdefault((number, key), None)

    def change(self, key: bytes, old: Sequence[Entries], new: Sequence[Entries]) -> Collision | object | None:
        """The document `key` goes from having the entries old to having new, one of each for every index. Gives what it
        collides with, or COLD, or None: then it is part of the plan."""
        staged: dict[tuple[int, bytes], bytes | None] = {}
        for index, before, after in zip(self.indexes, old, new):
            for entry in [entry for entry in before if entry not in after]:
                holder = self._holder(index.number, entry)
                if holder is COLD:
                    return COLD
                if holder == key:  # an index that is being built may not have it yet
                    staged[index.number, entry] = None
            for entry in [entry for entry in after if entry not in before]:
                holder = self._holder(index.number, entry)
                if holder is COLD:
                    return COLD
                if holder is None:
                    staged[index.number, entry] = key
                elif holder != key:
                    return Collision(index, after[entry])
        self._after.update(staged)
        self.count += len(staged)
        return None

    def _holder(self, number: int, entry: bytes) -> Any:
        """The key of the document that has an entry, None or COLD."""
        place = (number, entry)
        if place in self._after:
            return self._after[place]
        if place not in self._held:
            found = self._look(number, entry)
            if found is COLD:
                self.wanted = place
                return COLD
            self._held[place] = None if found is None else decode(found)["k"]
        return self._held[place]

    def records(self) -> list[Record]:
        """What the commit writes for it."""
        return [
            Record(Op.PUT, number, entry, _entry(entry, holder)) if holder is not None else Record(Op.DELETE, number, entry, b"")
            for (number, entry), holder in self._after.items()
            if holder != self._held.get((number, entry))
        ]


def _entry(key: bytes, holder: bytes) -> bytes:
    return msgpack.packb({"_id": key[len(KEY_TAG) :], "k": holder})
