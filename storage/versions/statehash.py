"""The state hash: one value that two copies of a database share exactly when they hold the same content. Pure.

    h(document)   = BLAKE2b-256 of the document's stored bytes, read as a little-endian integer
    a collection  = count of its live documents, total = sum of their h modulo 2^256
    state hash    = BLAKE2b-256 over the collections sorted by the UTF-8 bytes of their names, each as

        ├──────────┼──────────────┼───────┼────────┤
        │ name_len │ name (UTF-8) │ count │ total  │
        └──────────┴──────────────┴───────┴────────┘
         u32                       u64     32 bytes     all little-endian

Every collection in the catalog counts, empty ones too; the catalog's own documents do not. Sums need no order, so neither
sealing, nor compaction, nor the order of shards changes the value (INV-6); dropping and renaming a collection touch no
document. It finds bugs and damage; it is no defence against someone who may choose documents.

Renaming a collection is a deletion and a put of catalog documents with one id in the same commit.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgpack

from .. import native
from ..columns import Column, check_slices, read_columns
from ..commit.codec import CATALOG
from ..errors import DamagedRecord

HASH_BYTES = 32
_MODULUS = 1 << 256
_NAME_LEN = struct.Struct("<I")
_COUNT = struct.Struct("<Q")

Change = tuple[int, bytes, bytes | None, bytes | None]  # collection, key, new document, old document


def hash_document(doc: bytes) -> int:
    """h of one document."""
    return int.from_bytes(hashlib.blake2b(doc, digest_size=HASH_BYTES).digest(), "little")


def _fold(blob: bytes, at: Column, length: Column) -> int:
    """The sum, modulo 2^256, of h of the documents blob[at : at + length]. at: u64, length: u32 (see columns.py)."""
    starts, lengths = read_columns("QI", at, length)
    check_slices(len(blob), starts, lengths)
    return sum(hash_document(bytes(blob[a : a + n])) for a, n in zip(starts, lengths)) % _MODULUS


fold = native.choose("fold", _fold)


@dataclass(slots=True)
class CollectionState:
    """A collection's part of the state hash. add and subtract change it in place; copy first to keep the old one."""

    count: int = 0
    total: int = 0

    def add(self, h: int) -> None:
        self.count += 1
        self.total = (self.total + h) % _MODULUS

    def subtract(self, h: int) -> None:
        self.count -= 1
        self.total = (self.total - h) % _MODULUS

    def copy(self) -> CollectionState:
        return CollectionState(self.count, self.total)


States = dict[int, tuple[str, CollectionState]]  # collection id -> (name, state)


def state_hash(states: Iterable[tuple[str, CollectionState]]) -> str:
    """The database's state hash in hex, as drawn above."""
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for name, state in sorted(((name.encode(), state) for name, state in states), key=lambda pair: pair[0]):
        digest.update(_NAME_LEN.pack(len(name)) + name)
        digest.update(_COUNT.pack(state.count) + state.total.to_bytes(HASH_BYTES, "little"))
    return digest.hexdigest()


def catalog_entry(doc: bytes) -> tuple[str, int]:
    """(collection name, collection id) of a catalog document. Raises DamagedRecord when it is none."""
    try:
        entry = msgpack.unpackb(doc, strict_map_key=False)
        name, number = entry["_id"], entry["id"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecord(f"catalog document is not a map with `_id` and `id`: {error}") from error
    if not isinstance(name, str) or not isinstance(number, int) or number <= CATALOG:
        raise DamagedRecord(f"catalog document names collection {name!r} with id {number!r}")
    return name, number


class StateFold:
    """Works out the states after some changes from the states before them, in as many slices as the caller likes.

    Changes of one key come in their order; whether changes that cancel out are given makes no difference.
    """

    def __init__(self, base: Mapping[int, tuple[str, CollectionState]]) -> None:
        self._ids = {name: number for number, (name, _) in base.items()}
        self._counts = {number: state.count for number, (_, state) in base.items()}
        self._totals = {number: state.total for number, (_, state) in base.items()}

    def change(self, collection: int, new_doc: bytes | None, old_doc: bytes | None) -> None:
        """One key's document went from old_doc to new_doc; None where there is none."""
        if collection == CATALOG:
            self._change_catalog(new_doc, old_doc)
            return
        count = 0
        total = 0
        if new_doc is not None:
            count = 1
            total = hash_document(new_doc)
        if old_doc is not None:
            count -= 1
            total -= hash_document(old_doc)
        self._counts[collection] = self._counts.get(collection, 0) + count
        self._totals[collection] = self._totals.get(collection, 0) + total

    def shift(self, collection: int, count: int, total: int) -> None:
        """So many documents more in a collection (not the catalog), and the sum of their h; negative for what went."""
        self._counts[collection] = self._counts.get(collection, 0) + count
        self._totals[collection] = self._totals.get(collection, 0) + total

    def _change_catalog(self, new_doc: bytes | None, old_doc: bytes | None) -> None:
        if old_doc is not None:
            self._ids.pop(catalog_entry(old_doc)[0], None)
        if new_doc is not None:
            name, number = catalog_entry(new_doc)
            self._ids[name] = number

    def states(self) -> States:
        """The states now: fresh values, only of collections that the catalog names."""
        return {
            number: (name, CollectionState(self._counts.get(number, 0), self._totals.get(number, 0) % _MODULUS))
            for name, number in self._ids.items()
        }


def fold_states(base: Mapping[int, tuple[str, CollectionState]], changes: Iterable[Change]) -> States:
    """The states after the changes. For collection 0 the documents are catalog documents."""
    fold = StateFold(base)
    for collection, _, new_doc, old_doc in changes:
        fold.change(collection, new_doc, old_doc)
    return fold.states()
