"""What became of an entry's documents: the copy of the database that is open here is asked for the newest commit of each.

    absent      there is no such document now
    unchanged   it is as it was at the common point: nobody has written it since
    rewritten   the history that survived has written it after the common point
    unknown     the copy here is of another database, or does not go on from the common point

As of the copy's visible position, which on a standby may be behind the primary's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..values.keys import canonical
from .entry import Line, Manifest

if TYPE_CHECKING:
    from ..database import Database

ABSENT, UNCHANGED, REWRITTEN, UNKNOWN = "absent", "unchanged", "rewritten", "unknown"


async def standing(database: Database | None, manifest: Manifest | None, lines: Sequence[Line]) -> list[str]:
    """One word for each line."""
    if database is None or manifest is None or database.uuid.hex() != manifest.uuid or database.visible.seq < manifest.common[1]:
        return [UNKNOWN] * len(lines)
    view = database.view()
    by_collection: dict[str, list[int]] = {}
    for at, line in enumerate(lines):
        by_collection.setdefault(line.collection, []).append(at)
    found = [ABSENT] * len(lines)
    for name, places in by_collection.items():
        number = view.catalog.ids.get(name)
        if number is None:
            continue
        seqs = await view.newest_seqs(number, [canonical(lines[at].id) for at in places])
        for at, seq in zip(places, seqs, strict=True):
            if seq is not None:
                found[at] = REWRITTEN if seq > manifest.common[1] else UNCHANGED
    return found
