"""How full a database's queues are: what writers and queries wait behind, each beside its bound (INV-8). Changes nothing.

Memtables count together, the one being written and the one being sealed: full is when both are, and then writers wait.
"""

from __future__ import annotations

from typing import NamedTuple

from .database import Database


class Load(NamedTuple):
    """One database's queues: (value, bound) where it has one of its own."""

    memtable_records: tuple[int, int]
    memtable_bytes: tuple[int, int]
    log_kept: tuple[int, int]  # bytes
    query_turns: int  # steps of queries that wait for a thread
    log_outruns: int  # segments of the log that went while a standby needed them, since it was opened


def load_of(db: Database) -> Load:
    """As it is now; costs a microsecond."""
    options, sealing = db.engine_options, db.sealing
    _, memtables = sealing.pinned()
    return Load(
        (sum(memtable.records for memtable in memtables), 2 * options.memtable_records_max),
        (sum(memtable.bytes for memtable in memtables), 2 * options.memtable_bytes_max),
        (sealing.log_kept_bytes, options.log_keep_bytes),
        db.indexing.turns.statistics().tasks_waiting,
        sealing.outruns,
    )
