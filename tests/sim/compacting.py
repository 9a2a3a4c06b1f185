"""Compaction at moments that nobody chose."""

from __future__ import annotations

import random

import trio

from storage import Database
from storage.errors import TwinlogError

COMPACTED = 0.1  # chance of each of a reader's rounds on a node of the cluster
WAITED_S_MAX = 2.0  # on a standby to which nothing is written a round ends with the next commit


async def compact(database: Database) -> None:
    """One round. A full or failing disk and an end that comes between refuse it by name, and nothing has changed."""
    try:
        with trio.move_on_after(WAITED_S_MAX):
            await database.compacting.compact_now()
    except (TwinlogError, OSError):
        return


async def keep_compacting(database: Database, rng: random.Random, every_s: float) -> None:
    while every_s:
        await trio.sleep(rng.expovariate(1 / every_s))
        await compact(database)
