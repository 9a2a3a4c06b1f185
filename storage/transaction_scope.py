"""The scope of a transaction: what verbs take in place of a Database, so that each runs inside as it runs outside.

    reads    own memtable ── on top of ── the snapshot: a view's memtables and checkpoint, as of the snapshot's seq
    commit() records ──> own memtable, and nowhere else until the transaction commits

Rows written inside carry the snapshot's seq S and row numbers from OWN_ROWS_FROM on, above every row of commit S: so they are the newest of
the state that the transaction sees (orders of fields/overlay.py stay unique), and the view's rule "at or before S" holds unchanged. Of each
document only its last version is kept, and counted. A collection made inside has a number from PROVISIONAL_IDS_FROM on until the commit.

A view made inside shows a copy of the own memtable (pointers only; 0.1 ms for 5,000 rows, none when nothing was written since the last one),
so a cursor is not moved by the transaction's own later writes. Queries by index look at the own rows one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache import DocumentCache
from .catalog import Catalog
from .commit.codec import (
    CATALOG,
    COMMIT_BYTES_MAX,
    COMMIT_RECORDS_MAX,
    DELETE,
    ENTRY_BYTES,
    PUT,
    REQUEST,
    Record,
)
from .commit.memtable import VERSION_COST_BYTES, Memtable, Version
from .errors import OperationNotSupportedInTransaction, TransactionTooLarge, TwinlogError, WriteConflict
from .fields.indexed import Fields
from .fields.overlay import ROW_BITS, order_of
from .indexes.parts import LooseRow, Topmost
from .position import Position
from .recovery import remember
from .shard.shardset import COLD, MISSING, ShardSet
from .views import View

if TYPE_CHECKING:
    from .database import Database

OWN_ROWS_FROM = 2 ** (ROW_BITS - 1)
OWN_ROWS_END = 2**ROW_BITS
PROVISIONAL_IDS_FROM = 2**31
BODY_BYTES_MAX = COMMIT_BYTES_MAX + 2**20 - 16_384  # what commit() of a database takes, less a remembered answer


class ScopeView(View):
    """The snapshot with what the transaction had written when the view was made."""

    def __init__(self, base: View, own: Memtable, catalog: Catalog, check: Callable[[], None]) -> None:
        """check: raises when the transaction has ended."""
        super().__init__(base._disk, base._shards, (own, *base._shared), catalog, base.position, 0.0, base._indexing)
        self._shared = base._shared
        self._index = base._index
        self._own = own
        self._check = check

    def check_age(self) -> None:
        self._check()

    def want(self, collection: int, fields: Fields) -> None:
        if collection < PROVISIONAL_IDS_FROM:
            super().want(collection, fields)

    async def _topmost(self, collection: int) -> Topmost | None:
        table = self._own.rows.get(collection)
        if not table:
            return None
        masked: list[int] = []
        sealed: list[bytes] = []
        for key in table:
            version = self._below(collection, key)
            if version is None:
                sealed.append(key)
            elif version[2] == PUT:
                masked.append(order_of(version[0], version[1]))
        if sealed and self._shards is not None:
            for record in await self._disk.run(self._shards.find_many, collection, sealed):
                if record is not MISSING:
                    masked.append(order_of(record.seq, record.row))
        rows = [LooseRow(version[0], version[1], key, version[3]) for key, version in table.items() if version[2] == PUT]
        return Topmost(np.sort(np.array(masked, np.uint64)), rows)

    def _below(self, collection: int, key: bytes) -> Version | None:
        for memtable in self._shared:
            version = memtable.at(collection, key, self.seq)
            if version is not None:
                return version
        return None


class Snapshot:
    """What a Sealing is to a database: the memtables and the checkpoint, here those of a transaction. They do not move, and there is
    always room."""

    has_room = True

    def __init__(self, scope: TransactionScope, shards: ShardSet | None, below: tuple[Memtable, ...]) -> None:
        self._scope = scope
        self.shards = shards
        self._below = below

    def pinned(self) -> tuple[ShardSet | None, tuple[Memtable, ...]]:
        return self.shards, (self._scope.shown(), *self._below)

    def pause_s(self, records: int) -> float:
        return 0.0


class TransactionScope:
    """Invariants: every version of `own` has the snapshot's seq; no key has more than one; their bytes are `bytes`."""

    def __init__(self, db: Database, check: Callable[[], None], weigh: Callable[[int], None]) -> None:
        """check: raises when the transaction has ended. weigh: told of bytes held from now on; raises when they are too many."""
        self._db = db
        self._check = check
        self._weigh = weigh
        self.base = db.view()
        self.name = db.name
        self.seams = db.seams
        self.indexing = db.indexing
        self.engine_options = db.engine_options
        self.position: Position = self.base.position
        self.visible: Position = self.base.position
        self.requests: dict[bytes, bytes] = {}
        self.cache = DocumentCache(0)
        self._catalog = replace(self.base.catalog, next_id=PROVISIONAL_IDS_FROM)
        self._own = Memtable(self.position.seq)
        self._shown: Memtable | None = None
        self._next_row = OWN_ROWS_FROM
        self._places = 0
        self.body_bytes = 0  # of the commit, as far as it is known
        self.created: list[Record] = []
        self.withdrawn: set[tuple[int, bytes]] = set()  # put and then deleted in here: perhaps never there
        self.frees_space = True  # nothing but deletions so far
        self.sealing = Snapshot(self, self.base._shards, self.base._shared)

    # What verbs ask.

    @property
    def catalog(self) -> Catalog:
        self._check()
        return self._catalog

    visible_catalog = catalog

    @property
    def bytes(self) -> int:
        """Held in memory."""
        return self.body_bytes + self._places * VERSION_COST_BYTES

    def view(self) -> View:
        self._check()
        return ScopeView(self.base, self.shown(), self._catalog, self._check)

    end_view = view

    def shown(self) -> Memtable:
        """The own memtable as it is now; this copy stays so."""
        if self._shown is None:
            shown = Memtable(self._own.base_seq)
            shown.rows = {number: dict(table) for number, table in self._own.rows.items()}
            shown.last_seq = self.position.seq
            self._shown = shown
        return self._shown

    def end_now(self, collection: int, key: bytes) -> bytes | None | object:
        version = self._own.newest(collection, key)
        if version is not None:
            return version[3] if version[2] == PUT else None
        return self.base.get_now(collection, key)

    def end_blocking(self, collection: int, key: bytes) -> bytes | None:
        version = self._own.newest(collection, key)
        if version is not None:
            return version[3] if version[2] == PUT else None
        return self.base.get_blocking(collection, key)

    def read_sealed_now(self, collection: int, key: bytes) -> bytes | None | object:
        """A document that no memtable holds a version of, None, or COLD."""
        assert self.sealing.shards is not None
        record = self.sealing.shards.find_now(collection, key)
        return None if record is MISSING else COLD if record is COLD else record.doc

    @property
    def refusal(self) -> TwinlogError | None:
        """Of the database: why it would refuse the commit now."""
        return self._db.refusal

    def check_writable(self, *, frees_space: bool = False) -> None:
        """Writes are the transaction's own until it commits: whether the database takes them is asked then."""
        self._check()

    async def wait_room(self) -> None:
        return

    def flush(self) -> None:
        return

    def release(self) -> None:
        """The transaction has ended: let go of what it wrote. Views that are still read keep what they show."""
        self._own, self._shown = Memtable(self.position.seq), None
        self.requests.clear()
        self.withdrawn.clear()

    # Writing.

    def commit(self, records: Sequence[Record], *, frees_space: bool = False) -> int:
        """One atomic group into the own memtable; returns the snapshot's seq. Raises TransactionTooLarge, Overloaded, WriteConflict,
        NoSuchTransaction; then nothing has happened."""
        self._check()
        rows = [record for record in records if record[0] <= DELETE]
        self._check_known(rows)
        places, size = self._grown(rows)
        makes = CATALOG in self._own.rows or (bool(rows) and rows[0][1] == CATALOG)  # the record that makes a collection stands first
        if places > COMMIT_RECORDS_MAX + makes or size > BODY_BYTES_MAX:
            raise TransactionTooLarge(
                f"the transaction would write {places} documents, collections and entries of unique indexes, {size} bytes: at most "
                f"{COMMIT_RECORDS_MAX} and {BODY_BYTES_MAX} fit one commit; commit what it has, or cut it into several"
            )
        answers = [(record[2], record[3]) for record in records if record[0] == REQUEST]
        self._weigh(size - self.body_bytes + (places - self._places) * VERSION_COST_BYTES)
        if self._next_row + len(rows) > OWN_ROWS_END:
            self._number_anew()
        for row, record in enumerate(rows, self._next_row):
            self._put(record, row)
        self._next_row += len(rows)
        self._places, self.body_bytes = places, size
        self._shown = None
        self.frees_space = self.frees_space and all(record[0] == DELETE for record in rows)
        remember(self.requests, answers)
        return self.position.seq

    def _check_known(self, rows: Sequence[Record]) -> None:
        """Entries of an index that is being built change outside while the transaction knows only its snapshot."""
        for number in {record[1] for record in rows}:
            if any(index.spec.is_building for index in self._catalog.unique.get(number, ())):
                name = next(name for name, known in self._catalog.ids.items() if known == number)
                raise WriteConflict(
                    f"{self.name}.{name}: a unique index is being built, and a transaction cannot write to the collection meanwhile; "
                    "run it again when the index is ready",
                    collection=f"{self.name}.{name}",
                )

    def _grown(self, rows: Sequence[Record]) -> tuple[int, int]:
        """(documents and entries, bytes) that the transaction would write with these. A key that stands twice in rows counts twice."""
        places, size = self._places, self.body_bytes
        own = self._own.rows
        for _, number, key, doc in rows:
            table = own.get(number)
            held = table.get(key) if table is not None else None
            if held is None:
                places += 1
                size += len(key) + ENTRY_BYTES
            else:
                size -= len(held[3])
            size += len(doc)
        return places, size

    def _put(self, record: Record, row: int) -> None:
        op, number, key, doc = record
        table = self._own.rows.get(number)
        if table is None:
            table = self._own.rows[number] = {}
        held = table.pop(key, None)
        table[key] = (self.position.seq, row, op, doc, 0, None)
        if number == CATALOG:
            assert op == PUT, "collections are not dropped in a transaction"
            record = Record(*record)
            self.created.append(record)
            self._catalog = self._catalog.after(record)
        elif op == DELETE and held is not None and held[2] == PUT:
            self.withdrawn.add((number, key))

    def _number_anew(self) -> None:
        """Give all rows the lowest numbers there are, in their order. Views inside hold copies with the old ones."""
        versions = sorted((version[1], number, key) for number, table in self._own.rows.items() for key, version in table.items())
        for row, (_, number, key) in enumerate(versions, OWN_ROWS_FROM):
            table = self._own.rows[number]
            table[key] = (table[key][0], row, *table[key][2:])
        self._next_row = OWN_ROWS_FROM + len(versions)

    def written(self) -> Mapping[int, Mapping[bytes, Version]]:
        """What the commit will write, by collection: the catalog's own rows are in `created`."""
        return {number: table for number, table in self._own.rows.items() if number != CATALOG}

    def in_order(self) -> list[tuple[int, bytes, Version]]:
        """(collection, key, version) of all that is written, in the order of the writes. About 2 ms for 5,000."""
        found = [(number, key, version) for number, table in self.written().items() for key, version in table.items()]
        found.sort(key=_row_of)
        return found


def _row_of(written: tuple[int, bytes, Version]) -> int:
    return written[2][1]


def refuse_inside(db: Any, verb: str) -> None:
    """Of a verb that no transaction can hold."""
    if isinstance(db, TransactionScope):
        raise OperationNotSupportedInTransaction(
            f"{db.name}: {verb} is not possible in a transaction; carry it out before or after it, outside of it"
        )
