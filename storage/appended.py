"""Look-ups at the appended end, where writers check: what may be held at all, and documents that have to be read first.

A look-up that has to wait is not the last one: what was read may be superseded meanwhile. So each ends with a look in place
(Database.end_now), after which the caller acts without an await (INV-2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import trio

from .errors import Overloaded
from .shard.shardset import COLD, MISSING
from .views import View

if TYPE_CHECKING:
    from .database import Database

WARM_TRIES_MAX = 16  # of reading cold data until it is still in memory when it is needed
ROOM_WAIT_S_MAX = 30.0


def unsure(db: Database, collection_id: int, keys: Sequence[bytes]) -> Sequence[int]:
    """The indexes of keys that the appended end may hold; all others it does not. Database.end_now() decides each."""
    doubtful: set[int] = set()
    for memtable in db.sealing.pinned()[1]:
        table = memtable.rows.get(collection_id)
        if table and not table.keys().isdisjoint(keys):
            doubtful.update(index for index, key in enumerate(keys) if key in table)
    shards = db.sealing.shards
    if shards is not None:
        if shards.filter is None:
            return range(len(keys))
        may_hold = shards.filter.may_hold(collection_id, keys)
        if 1 in may_hold:
            doubtful.update(compress(range(len(keys)), may_hold))
    return sorted(doubtful)


async def warm(db: Database, places: Sequence[tuple[int, bytes]]) -> None:
    """Read what is cold, (collection, key) each, through the disk seam, so that the next try finds it in memory."""
    view = db.end_view()
    await db.seams.disk.run(lambda: [view.get_blocking(*place) for place in places])


async def end_document(db: Database, collection_id: int, key: bytes) -> bytes | None:
    """A document at the appended end. The last look is in place: no await follows it before the caller acts."""
    for _ in range(WARM_TRIES_MAX):
        held = db.end_now(collection_id, key)
        if held is not COLD:
            return held
        await warm(db, [(collection_id, key)])
    return db.end_blocking(collection_id, key)


def written_at(db: Database, collection_id: int, key: bytes) -> int:
    """The seq of the commit that wrote the document which the appended end holds; 0: it holds none. Blocking when it is cold."""
    shards, memtables = db.sealing.pinned()
    for memtable in memtables:
        version = memtable.at(collection_id, key, db.position.seq)
        if version is not None:
            return version[0]
    record = MISSING if shards is None else shards.find(collection_id, key)
    return 0 if record is MISSING else record.seq


def changed_since(db: Database, collection_id: int, view: View) -> list[bytes] | None:
    """The keys of a collection that were written after the view was made. None: a checkpoint holds some of these commits already."""
    shards, memtables = db.sealing.pinned()
    seq = view.seq
    if shards is not None and shards.seq > seq:
        return None
    if db.position.seq == seq:  # within a transaction all versions are of one seq, but each write makes its own
        now, seen = memtables[0].rows.get(collection_id, {}), view.newest_rows(collection_id)
        return [] if now is seen else [key for key, version in now.items() if seen.get(key) is not version]
    tables = [memtable.rows.get(collection_id) for memtable in memtables if memtable.last_seq > seq]
    return [key for table in tables if table for key, version in table.items() if version[0] > seq]


async def room(db: Database, records: int = 1) -> None:
    """Wait, for a bounded time, until the memtable can take more; wait a little, too, while it fills faster than the one
    before is sealed (INV-8)."""
    pause_s = db.sealing.pause_s(records)
    if pause_s:
        await trio.sleep(pause_s)
    if db.sealing.has_room:
        return
    with trio.move_on_after(ROOM_WAIT_S_MAX) as waited:
        await db.wait_room()
    if waited.cancelled_caught:
        raise Overloaded(
            f"{db.name}: sealing has not kept up for {ROOM_WAIT_S_MAX:.0f} s; try again later",
            bound="memtable_records_max",
            retry_after_ms=1000,
        )
