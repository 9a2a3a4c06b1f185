"""The catalog of one database: which collections it has. Pure.

A catalog entry is an ordinary document `{"_id": name, "id": collection id}` in collection 0, so that it is logged,
shipped and sealed like any other; this module folds those documents into one immutable value. Ids are never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgpack

from .commit.codec import CATALOG, Op, Record
from .errors import DamagedRecord
from .values.keys import canonical

FIRST_COLLECTION_ID = 1


@dataclass(frozen=True, slots=True)
class Catalog:
    """Collection ids by name. next_id is above every id ever given."""

    ids: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    next_id: int = FIRST_COLLECTION_ID

    def after(self, record: Record) -> Catalog:
        """The catalog once a record of collection 0 has been applied."""
        ids = dict(self.ids)
        if record.op == Op.DELETE:
            gone = [name for name in ids if canonical(name) == record.id]
            for name in gone:
                del ids[name]
            return Catalog(MappingProxyType(ids), self.next_id)
        entry = msgpack.unpackb(record.doc)
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
            raise DamagedRecord(f"catalog entry {entry!r} has no collection id")
        ids[entry["_id"]] = entry["id"]
        return Catalog(MappingProxyType(ids), max(self.next_id, entry["id"] + 1))


def creation(name: str, collection_id: int) -> Record:
    """The record that creates a collection."""
    return Record(Op.PUT, CATALOG, canonical(name), msgpack.packb({"_id": name, "id": collection_id}))


def removal(name: str) -> Record:
    """The record that drops a collection."""
    return Record(Op.DELETE, CATALOG, canonical(name), b"")
