"""The catalog of one database: which collections it has, and what was declared about each. Pure.

A catalog entry is an ordinary document in collection 0, so that it is logged, shipped and sealed like any other; this module folds
those documents into one immutable value. Ids are never reused.

    {"_id": name, "id": collection id, "indexes": [...declared indexes (declared.py)...], ...}

`indexes` is there only when there are some. Keys that are not known here are kept as they are. Names that begin with "$" are
collections of the engine's own: no user can name them, and no list shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .commit.codec import CATALOG, Op, Record
from .declared import IndexSpec, is_entry
from .errors import BadDocument, DamagedRecord
from .unique import UniqueIndex
from .values.documents import decode, encode
from .values.keys import canonical

FIRST_COLLECTION_ID = 1
HIDDEN = "$"  # how the names of the engine's own collections begin
_UNIQUE = "$unique."


def _nothing() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Catalog:
    """Collection ids by name. next_id is above every id ever given.

    By collection id, of those that have any: `entries`, all of their catalog documents; `indexes`, all declared ones; `unique`, what
    writers maintain."""

    ids: Mapping[str, int] = field(default_factory=_nothing)
    next_id: int = FIRST_COLLECTION_ID
    entries: Mapping[int, Mapping[str, Any]] = field(default_factory=_nothing)
    indexes: Mapping[int, tuple[IndexSpec, ...]] = field(default_factory=_nothing)
    unique: Mapping[int, tuple[UniqueIndex, ...]] = field(default_factory=_nothing)

    def names(self) -> list[str]:
        """The collections that users made, in order."""
        return sorted(name for name in self.ids if not name.startswith(HIDDEN))

    def after(self, record: Record) -> Catalog:
        """The catalog once a record of collection 0 has been applied."""
        ids = dict(self.ids)
        if record.op == Op.DELETE:
            gone = [name for name in ids if canonical(name) == record.id]
            numbers = [ids.pop(name) for name in gone]
            return self._with(ids, self.next_id, {number: None for number in numbers if number in self.entries})
        entry = read_entry(record.doc)
        number = entry["id"]
        ids[entry["_id"]] = number
        changed: dict[int, Mapping[str, Any] | None] = {number: entry} if len(entry) > 2 else {number: None} if number in self.entries else {}
        replaced = self.ids.get(entry["_id"], number)
        if replaced != number and replaced in self.entries:  # another collection took the name over
            changed[replaced] = None
        return self._with(ids, max(self.next_id, number + 1), changed)

    def with_entries(self, docs: Iterable[bytes]) -> Catalog:
        """The same with what the catalog documents of its collections say beyond names and ids."""
        read = [read_entry(doc) for doc in docs]
        return self._with(self.ids, self.next_id, {entry["id"]: entry for entry in read if len(entry) > 2})

    def _with(self, ids: Mapping[str, int], next_id: int, changed: Mapping[int, Mapping[str, Any] | None]) -> Catalog:
        entries, indexes, unique = self.entries, self.indexes, self.unique
        if changed:
            entries, indexes, unique = dict(entries), dict(indexes), dict(unique)
        for number, entry in changed.items():
            for table in (entries, indexes, unique):
                table.pop(number, None)
            if entry is None:
                continue
            entries[number] = entry
            specs = tuple(map(IndexSpec, entry.get("indexes", ())))
            if specs:
                indexes[number] = specs
                maintained = tuple(UniqueIndex(spec) for spec in specs if spec.is_unique)
                if maintained:
                    unique[number] = maintained
        if changed:
            entries, indexes, unique = map(MappingProxyType, (entries, indexes, unique))
        return Catalog(ids if ids is self.ids else MappingProxyType(ids), next_id, entries, indexes, unique)


def read_entry(doc: bytes) -> dict[str, Any]:
    """The map of a catalog document. Raises DamagedRecord when it is none."""
    try:
        entry = decode(doc)
    except BadDocument as error:
        raise DamagedRecord(f"a catalog document cannot be read: {error.message}") from error
    if not isinstance(entry.get("id"), int) or not isinstance(entry.get("_id"), str):
        raise DamagedRecord(f"catalog entry {entry!r} has no collection id or no name")
    declared = entry.get("indexes", [])
    if not isinstance(declared, list) or not all(map(is_entry, declared)):
        raise DamagedRecord(f"the catalog entry of {entry['_id']!r} has indexes that cannot be read: {declared!r}")
    return entry


def creation(name: str, collection_id: int, **more: Any) -> Record:
    """The record that creates a collection, or changes what its catalog document says beyond name and id (empty: left out)."""
    kept = {key: value for key, value in more.items() if value}
    return Record(Op.PUT, CATALOG, canonical(name), encode({"_id": name, "id": collection_id, **kept}))


def removal(name: str) -> Record:
    """The record that drops a collection."""
    return Record(Op.DELETE, CATALOG, canonical(name), b"")


def changed_indexes(catalog: Catalog, name: str, specs: Iterable[IndexSpec]) -> Record:
    """The record that gives a collection these declared indexes and leaves all else that its document says."""
    number = catalog.ids[name]
    more = {key: value for key, value in catalog.entries.get(number, {}).items() if key not in ("_id", "id")}
    return creation(name, number, **{**more, "indexes": [dict(spec.entry) for spec in specs]})


def changed_fields(catalog: Catalog, name: str, fields: Mapping[str, int]) -> Record:
    """The record that says which fields of a collection are indexed by themselves, and what of each (fields/values.py)."""
    number = catalog.ids[name]
    more = {key: value for key, value in catalog.entries.get(number, {}).items() if key not in ("_id", "id")}
    return creation(name, number, **{**more, "fields": dict(fields)})


def entries_name(collection_id: int, index: str) -> str:
    """What the collection of a unique index's entries is called. By id: it outlives a rename."""
    return f"{_UNIQUE}{collection_id}.{index}"


def drops(catalog: Catalog, name: str) -> list[Record]:
    """The records that drop a collection and the entries of its unique indexes."""
    number = catalog.ids[name]
    hidden = [entries_name(number, spec.name) for spec in catalog.indexes.get(number, ()) if spec.number]
    return [removal(name), *(removal(entries) for entries in hidden if entries in catalog.ids)]
