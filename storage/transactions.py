"""Transactions of one database: who is open, who may commit, who is over time. Snapshot isolation, first committer wins.

    begin ──> Transaction: a scope at the snapshot `visible` (transaction_scope.py) ── verbs run inside ──> its own memtable
    commit ── was anything that it wrote written by a commit after the snapshot? ──┬─ yes: WriteConflict, nothing has happened
                                                                                  └─ no: one commit of the database (INV-2)

What changed after a snapshot is known from two places. Commits up to the appended end at begin are in the memtables that the snapshot holds.
Later ones are noted, key by key, while any transaction is open, in generations of about GENERATION_CHANGES; a generation goes when no open
transaction is older than it. Reads are not checked: two transactions that each read what the other writes may both commit (write skew).

Costs: nothing while none is open; else 0.1 µs a record of every commit, and some 100 bytes until it is dropped, at most CHANGES_MAX records
(INV-8): beyond them the oldest transaction ends.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from .appended import room
from .catalog import Catalog, creation
from .commit.codec import CATALOG, DELETE, PUT, REQUEST, Record
from .commit.memtable import Version
from .errors import NoSuchTransaction, Overloaded, SnapshotTooOld, TwinlogError, WriteConflict
from .position import Position
from .results import WriteResult
from .shard.shardset import COLD
from .transaction_scope import PROVISIONAL_IDS_FROM, TransactionScope
from .values.documents import decode, encode_value

if TYPE_CHECKING:
    from .database import Database

GENERATION_CHANGES = 10_000
CHANGES_MAX = 400_000
ENDED_REMEMBERED_MAX = 1_024
TIME_LIMIT_S_MIN = 0.001


class _Generation:
    """Keys that some commits changed, with the seq of the last one. by_collection: what is in it."""

    __slots__ = ("by_collection", "changes", "last_seq")

    def __init__(self) -> None:
        self.by_collection: dict[int, dict[bytes, int]] = {}
        self.changes = 0
        self.last_seq = 0


class Transaction:
    """One transaction, from begin() to commit() or abort(). Its verbs come one after the other: whoever has several tasks takes `turn`."""

    def __init__(self, registry: Transactions, db: Database, id: bytes, deadline: float, noted_from: int) -> None:
        self.id = id
        self.deadline = deadline  # of trio's clock
        self.turn = trio.Lock()
        self.noted_from = noted_from  # the appended end at begin: what came later is noted
        self.weight = 0
        self._registry = registry
        self._db = db
        self._ended: TwinlogError | None = None
        self.scope = TransactionScope(db, self.check, self._weigh)
        self.position: Position = self.scope.position

    @property
    def is_open(self) -> bool:
        return self._ended is None

    def check(self) -> None:
        """Raises why it has ended."""
        if self._ended is None and trio.current_time() >= self.deadline:
            self._registry.end(self, self._registry.over_time(self))
        if self._ended is not None:
            raise type(self._ended)(self._ended.message, **self._ended.fields)

    def abort(self) -> None:
        """What it wrote is forgotten. Nothing happens when it has ended."""
        self._registry.end(self, NoSuchTransaction("the transaction was aborted; begin a new one"))

    async def commit(self, request: bytes = b"") -> WriteResult:
        """One commit of the database, appended and handed on, not awaited; its seq is the result's, or the snapshot's when nothing was
        written. request: remembered with it, so that `committed` answers whoever lost the answer.

        Raises WriteConflict: then the transaction has ended. A database that takes no writes raises why not: then it is still open, and
        may be committed again before its time is over."""
        self.check()
        known = self._registry.committed(request)
        if known is not None:
            self.abort()
            return known
        rows = await self._rows()
        db = self._db
        if rows or self.scope.created:
            await room(db, len(rows))
            self.check()
            try:
                self._check_catalog()
                self._registry.check_unchanged(self)
            except WriteConflict:
                self._registry.end(self, NoSuchTransaction("the transaction met a write conflict and was aborted; run it again"))
                raise
            result = WriteResult(seq=db.position.seq + 1)
            db.commit(self._records(rows, result, request), frees_space=self.scope.frees_space)
            db.flush()
        else:
            result = WriteResult(seq=self.position.seq)
        self._registry.end(self, NoSuchTransaction("the transaction has been committed"))
        return result

    async def _rows(self) -> list[tuple[int, bytes, Version]]:
        """What to write, in order. A document that was put and deleted within the transaction is left out, unless the snapshot has it."""
        scope = self.scope
        absent = set()
        for place in list(scope.withdrawn):
            held = scope.base.get_now(*place)
            if held is COLD:
                await self._db.seams.disk.run(scope.base.get_blocking, *place)
                held = scope.base.get_blocking(*place)
            if held is None:
                absent.add(place)
        rows = scope.in_order()
        return [row for row in rows if not absent or row[2][2] == PUT or (row[0], row[1]) not in absent]

    def _records(self, rows: Sequence[tuple[int, bytes, Version]], result: WriteResult, request: bytes) -> list[Record]:
        records: list[Record] = []
        numbers: dict[int, int] = {}
        for number, record in enumerate(self.scope.created, self._db.catalog.next_id):
            entry = decode(record.doc)
            numbers[entry["id"]] = number
            records.append(creation(entry["_id"], number))
        if numbers:
            records += [Record(version[2], numbers.get(number, number), key, version[3]) for number, key, version in rows]
        else:
            records += [Record(version[2], number, key, version[3]) for number, key, version in rows]
        if request:
            records.append(Record(REQUEST, CATALOG, request, result.remembered()))
        return records

    def _check_catalog(self) -> None:
        """Every collection that it writes to is what it was."""
        before, now = self.scope.base.catalog, self._db.catalog
        if before is now:
            return
        names = {number: name for name, number in before.ids.items()}
        for record in self.scope.created:
            name = decode(record.doc)["_id"]
            if name in now.ids:
                raise self._conflict(name, "was created")
        for number in self.scope.written():
            if number >= PROVISIONAL_IDS_FROM:
                continue
            name = names[number]
            if now.ids.get(name) != number:
                raise self._conflict(name, "was dropped or replaced")
            if _maintained(before, number) != _maintained(now, number):
                raise self._conflict(name, "got other unique indexes")

    def _conflict(self, name: str, what: str) -> WriteConflict:
        where = f"{self._db.name}.{name}"
        return WriteConflict(
            f"{where} {what} by another writer after this transaction's snapshot (seq {self.position.seq}); run it again", collection=where
        )

    def _weigh(self, change: int) -> None:
        self._registry.weigh(self, change)


def _maintained(catalog: Catalog, number: int) -> list[tuple[int, bool]]:
    return [(index.number, index.spec.is_building) for index in catalog.unique.get(number, ())]


class Transactions:
    """The open transactions of one database. Invariant: every record committed after the oldest one's noted_from is noted."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._open: OrderedDict[bytes, Transaction] = OrderedDict()  # the oldest first
        self._ended: OrderedDict[bytes, TwinlogError] = OrderedDict()
        self._generations: deque[_Generation] = deque()
        self.changes = 0  # noted
        self.bytes = 0  # held by all of them
        self.commits = self.conflicts = self.aborts = 0
        self._work = trio.Event()
        self._closed = False

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def listens(self) -> bool:
        """Whether commits are to be noted."""
        return bool(self._open)

    def begin(self, *, time_limit_s: float | None = None) -> Transaction:
        """A transaction at `visible`. Its time is at most the database's transaction_time_limit_s. Raises Overloaded."""
        options = self._db.engine_options
        if self._closed:
            raise NoSuchTransaction(f"{self._db.name} is closed; begin the transaction when it is open again")
        if len(self._open) >= options.transactions_max:
            raise Overloaded(
                f"{self._db.name}: {len(self._open)} transactions are open, the limit is {options.transactions_max}; commit or abort "
                "some, or try again later",
                bound="transactions_max",
                limit=options.transactions_max,
                retry_after_ms=100,
            )
        limit_s = options.transaction_time_limit_s
        if time_limit_s is not None:
            limit_s = min(limit_s, max(time_limit_s, TIME_LIMIT_S_MIN))
        made = Transaction(
            self, self._db, self._db.seams.random_bytes(16), trio.current_time() + limit_s, self._db.position.seq
        )
        self._open[made.id] = made
        self._work.set()
        return made

    def get(self, id: bytes) -> Transaction:
        """The open transaction of that id. Raises NoSuchTransaction, or what ended it."""
        found = self._open.get(id)
        if found is not None:
            found.check()
            return found
        error = self._ended.get(id)
        if error is not None:
            raise type(error)(error.message, **error.fields)
        raise NoSuchTransaction(
            f"{self._db.name} has no such transaction: it ended, or the node restarted; begin a new one"
        )

    def committed(self, request: bytes) -> WriteResult | None:
        """What a commit with that request id was answered; None when there was none."""
        kept = self._db.requests.get(request) if request else None
        return None if kept is None else WriteResult.recall(kept)

    def over_time(self, of: Transaction) -> NoSuchTransaction:
        return NoSuchTransaction("the transaction reached its time limit and was aborted; run it again, in less time")

    def end(self, of: Transaction, reason: TwinlogError) -> None:
        """of has ended, for that reason. Nothing happens when it had ended before."""
        if self._open.pop(of.id, None) is None:
            return
        of._ended = reason
        self.bytes -= of.weight
        of.weight = 0
        self._ended[of.id] = reason
        while len(self._ended) > ENDED_REMEMBERED_MAX:
            self._ended.popitem(last=False)
        self._work.set()

    def weigh(self, of: Transaction, change: int) -> None:
        limit = self._db.engine_options.transactions_bytes_max
        if change > 0 and self.bytes + change > limit:
            raise Overloaded(
                f"{self._db.name}: open transactions hold {self.bytes} bytes, the limit is {limit}; commit some, or try again later",
                bound="transactions_bytes_max",
                limit=limit,
                retry_after_ms=1000,
            )
        self.bytes += change
        of.weight += change

    # What changed.

    def note(self, records: Sequence[Record], seq: int) -> None:
        """A commit of the database."""
        if not self._generations or self._generations[-1].changes >= GENERATION_CHANGES:
            self._generations.append(_Generation())
        generation = self._generations[-1]
        by_collection = generation.by_collection
        count = 0
        for op, number, key, _ in records:
            if op <= DELETE:
                table = by_collection.get(number)
                if table is None:
                    table = by_collection[number] = {}
                table[key] = seq
                count += 1
        generation.last_seq = seq
        generation.changes += count
        self.changes += count
        if self.changes > CHANGES_MAX:
            self._work.set()

    async def _shed(self) -> None:
        """End the oldest transactions until what is noted is within its bound again."""
        while self.changes > CHANGES_MAX and self._open:
            oldest = next(iter(self._open.values()))
            message = (
                f"{self._db.name}: {CHANGES_MAX} documents were written by others after the transaction's snapshot (seq "
                f"{oldest.position.seq}), and it was aborted; run it again, in less time"
            )
            self.end(oldest, SnapshotTooOld(message))
            while self._prune(1):
                await trio.lowlevel.checkpoint()

    def _prune(self, count: int) -> bool:
        """Drop up to count generations that nobody needs; False when there are no more."""
        needed = next(iter(self._open.values())).position.seq if self._open else math.inf
        while self._generations and self._generations[0].last_seq <= needed:
            if not count:
                return True
            self.changes -= self._generations.popleft().changes
            count -= 1
        return False

    def check_unchanged(self, of: Transaction) -> None:
        """Raises WriteConflict when a commit after its snapshot wrote what it writes. In place: the commit follows without an await."""
        snapshot = of.position.seq
        written = of.scope.written()
        for memtable in of.scope.base._shared:
            if memtable.last_seq > snapshot:
                for number, table in written.items():
                    held = memtable.rows.get(number)
                    if held:
                        for key in held.keys() & table.keys():
                            if held[key][0] > snapshot:
                                raise self._conflict(of, number, key, held[key][0])
        for generation in reversed(self._generations):
            if generation.last_seq <= snapshot:
                return
            for number, table in written.items():
                changed = generation.by_collection.get(number)
                if changed:
                    for key in changed.keys() & table.keys():
                        if changed[key] > snapshot:
                            raise self._conflict(of, number, key, changed[key])

    def _conflict(self, of: Transaction, number: int, key: bytes, seq: int) -> WriteConflict:
        self.conflicts += 1
        scope = of.scope
        catalog = scope.base.catalog
        name = next((name for name, known in catalog.ids.items() if known == number), "")
        for owner, indexes in catalog.unique.items():
            for index in indexes:
                if index.number == number:
                    owned = next(name for name, known in catalog.ids.items() if known == owner)
                    where = f"{self._db.name}.{owned}"
                    return WriteConflict(
                        f"{where}: a value in the unique index {index.spec.name!r} that this transaction writes was written by commit {seq}, "
                        f"after its snapshot (seq {of.position.seq}); run it again",
                        collection=where,
                        index=index.spec.name,
                    )
        where = f"{self._db.name}.{name}"
        version = scope.written()[number][key]
        data = version[3] or scope.base.get_now(number, key)
        shown, fields = key.hex(), {}
        if isinstance(data, bytes) and data:
            held = decode(data)["_id"]
            shown, fields = repr(held), {"key": encode_value(held)}
        return WriteConflict(
            f"{where}: the document with _id {shown:.200} was written by commit {seq}, after this transaction's snapshot (seq "
            f"{of.position.seq}); run it again",
            collection=where,
            **fields,
        )

    # The task, and the end.

    async def run(self) -> None:
        """End those over their time, and let go of what is no longer needed, until cancelled."""
        while True:
            self._work = trio.Event()
            now = trio.current_time()
            for transaction in [held for held in self._open.values() if held.deadline <= now]:
                self.end(transaction, self.over_time(transaction))
            while self._prune(1):
                await trio.lowlevel.checkpoint()
            await self._shed()
            next_s = min((held.deadline for held in self._open.values()), default=math.inf)
            with trio.move_on_at(next_s):
                await self._work.wait()

    def close(self) -> None:
        """The database is being closed."""
        self._closed = True
        for transaction in list(self._open.values()):
            self.end(transaction, NoSuchTransaction(f"{self._db.name} was closed; begin a new transaction when it is open again"))
