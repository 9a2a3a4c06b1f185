"""The databases of an engine in this process: found for reading, made by their first write, in a reign of their own."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from storage import Database, Engine
from storage import errors as engine_errors

FIRST_EPOCH = 1


class LocalDatabases:
    """Over one open engine. refusal: why it takes no writes, or None."""

    def __init__(self, engine: Engine, refusal: engine_errors.TwinlogError | None) -> None:
        self.engine = engine
        self._refusal = refusal
        self._creating = trio.Lock()

    async def begin_reigns(self) -> None:
        """A primary after an unclean stop, or without a reign, begins one before it answers anything."""
        for db in self.engine.databases.values():
            if self._refusal is not None:
                db.refuse_writes(self._refusal)
            elif (not db.history or db.unclean) and db.refusal is None:
                await _begin_reign(db)

    def for_reading(self, name: str, min_position: Sequence[int] | None = None) -> Database | None:
        """The database, None when there is none: it reads as empty. One that could not be opened is refused."""
        db = self.engine.databases.get(name)
        if db is None and self.engine.is_closed(name):
            return self.engine.database(name)
        shown = (0, 0) if db is None else tuple(db.visible)
        if min_position is not None and shown < tuple(min_position):
            raise engine_errors.PositionTimeout(
                f"{name} is at {shown}, which no write of another process will change; {tuple(min_position)} was asked for"
            )
        return db

    def check_writable(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    async def for_writing(self, name: str, *, shards: int | None = None, crc: bool | None = None) -> Database:
        """The database, created if need be. Options of an existing one must be those it has."""
        self.check_writable()
        db = self.engine.databases.get(name)
        if db is not None and shards is None and crc is None:
            return db
        async with self._creating:
            db = await self.engine.create_database(name, shards=shards, crc=crc)
            if not db.history:
                await _begin_reign(db)
        return db

    async def begin_reign_anew(self, db: Database) -> None:
        """After a restore: its content is another one, so it goes on in an epoch of its own."""
        await _begin_reign(db, db.position.epoch + 1)

    async def kept(self, db: Database, seq: int) -> tuple[int, int]:
        """Wait until a write is durable at the engine's own level (INV-1) and visible to readers; the position of its answer."""
        epoch = db.position.epoch
        db.flush()
        await db.visible_advance.wait_for(seq)
        return epoch, seq

    async def drop(self, name: str) -> None:
        self.check_writable()
        async with self._creating:
            if name in self.engine.databases:
                await self.engine.drop_database(name)


async def _begin_reign(db: Database, epoch: int = FIRST_EPOCH) -> None:
    seq = db.begin_reign(max(epoch, db.position.epoch))
    db.flush()
    await db.visible_advance.wait_for(seq)
