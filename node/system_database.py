"""`_system`: what the operators of a cluster have settled and every node must know, as documents of an ordinary, replicated database.

    backup_schedules   {_id: database, enabled, interval_minutes, max_copies, path}

It is made by the first document, hidden from listings unless asked for, and written by no one but the node itself. A standby has it because it
has every database, so a promoted one goes on with what is in it. Knows storage's operations and the member's say on who may write.
"""

from __future__ import annotations

from typing import Any

from storage import SYSTEM_DATABASE, decode_document, encode_document, operations

SCHEDULES = "backup_schedules"
DOCUMENTS_MAX = 10_000  # read of one collection


class SystemDatabase:
    """Over one engine and one member."""

    def __init__(self, engine: Any, member: Any) -> None:
        self._engine = engine
        self._member = member

    def state(self) -> tuple[Any, ...]:
        """What differs when a document may have changed: which copy it is and what it shows. () when there is none."""
        db = self._engine.databases.get(SYSTEM_DATABASE)
        return () if db is None else (id(db), *db.visible)

    async def all(self, collection: str) -> list[dict[str, Any]]:
        """Its documents; none when there is no such collection."""
        db = self._engine.databases.get(SYSTEM_DATABASE)
        if db is None:
            return []
        cursor = await operations.find(db, collection, {}, limit=DOCUMENTS_MAX)
        found: list[dict[str, Any]] = []
        try:
            while not cursor.done:
                found += [decode_document(data) for data in await cursor.next_batch(1_000)]
        finally:
            await cursor.close()
        return found

    async def put(self, collection: str, document: dict[str, Any]) -> None:
        """Put a document in the place of the one with its `_id`, on the primary, and wait until it is acknowledged (INV-1).

        Raises NotPrimary, ReadOnly, AckTimeout, DiskFull."""
        self._member.check_writable()
        db = self._engine.databases.get(SYSTEM_DATABASE)
        if db is None:
            db = await self._engine.create_database(SYSTEM_DATABASE, shards=1)
        self._member.check_writable(db)
        result = await operations.replace_one(db, collection, {"_id": document["_id"]}, encode_document(document), upsert=True)
        db.flush()
        if result.seq:
            await self._member.acknowledged(db, result.seq)
