"""An engine's salvage: what rewinds, recoveries and replacements set aside in its data directory, while its databases are open.

Everything that reads the disk goes through its seam (INV-9). How many entries there are is counted at opening and after whatever sets
something aside, so that a status costs nothing. Nothing is removed but by drop().
"""

from __future__ import annotations

from typing import Any

import trio

from .database import Database
from .errors import of_disk
from .salvage import shelf
from .salvage.shelf import Entry, Page
from .salvage.standing import standing
from .seams import Seams


class Salvage:
    """entries, bytes: as last counted."""

    def __init__(self, seams: Seams) -> None:
        self._seams = seams
        self._changing = trio.Lock()
        self.entries = 0
        self.bytes = 0

    async def count(self) -> None:
        disk = self._seams.disk
        self.entries, self.bytes = await disk.run(shelf.totals, disk)

    async def list(self) -> list[Entry]:
        disk = self._seams.disk
        found = await disk.run(shelf.entries, disk)
        self.entries, self.bytes = len(found), sum(entry.bytes for entry in found)
        return found

    async def page(
        self, databases: dict[str, Database], name: str, part: str, offset: int, rows_max: int
    ) -> tuple[Entry, Page, list[str]]:
        """Lines of an entry, and what became of each since (standing.py)."""
        disk = self._seams.disk
        entry, page = await disk.run(shelf.page, disk, name, part, offset, rows_max)
        return entry, page, await standing(databases.get(entry.database), entry.manifest, page.lines)

    async def note_applied(self, name: str, facts: dict[str, Any]) -> None:
        disk = self._seams.disk
        async with self._changing:
            try:
                await disk.run(shelf.note_applied, disk, name, {"when_us": self._seams.time_us(), **facts})
            except OSError as error:
                raise of_disk(error, f"noting that {name} was applied") from error

    async def drop(self, name: str) -> Entry:
        """Remove an entry for good. Raises BadRequest when there is none of that name."""
        disk = self._seams.disk
        async with self._changing:
            try:
                entry = await disk.run(shelf.drop, disk, name)
            except OSError as error:
                raise of_disk(error, f"removing {name}") from error
        await self.count()
        return entry
