"""What an engine is told when it is opened. Plain frozen values; node/config.py and twinlog.open fill them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class SyncMode(Enum):
    """When a commit counts as durable on this node; chosen at start, never mixed (INV-1)."""

    ASYNC = "async"  # its bytes were handed to the kernel
    SYNC = "sync"  # fdatasync returned


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Sizes in bytes, times in seconds."""

    sync_mode: SyncMode = SyncMode.ASYNC
    flush_interval_s: float = 0.2  # async: a power cut loses at most this much
    shards: int = 8  # of databases created from now on
    crc: bool = True  # shard records of databases created from now on carry a body checksum
    cache_bytes: int = 64 * 2**20  # hot cache of one database
    memtable_records_max: int = 64_000
    memtable_bytes_max: int = 32 * 2**20
    seal_age_s: float = 300.0
    log_segment_bytes: int = 64 * 2**20
    log_keep_bytes: int = 2**30  # log kept for standbys that lag; beyond it they are seeded anew
    copy_grace_s: float = 60.0  # files that nothing needs stay so long, for copies of the live directory that may be under way
    copy_grace_bytes: int = 2**30  # log kept at most for that; of a copy that reads 100 MB/s and a log that grows by 25 it is 40 s
    free_bytes_min: int = 2**20  # at least so much is kept free, beside what space.py works out; 0: nothing is kept
    view_age_s: float = 600.0
    databases_max: int = 256
    index_rows_min: int = 2_000  # sealed documents from which on a collection's queried fields are indexed; below, scans are quick
    compaction: bool = True  # by itself; on demand it is always there
    compact_stale_ratio: float = 0.5  # of a shard's logs; from there on it is compacted
    compact_min_bytes: int = 64 * 2**20  # of a shard's logs; below it never by itself
    expiry_interval_s: float = 60.0  # between two passes that delete what TTL indexes say
    scrub_interval_s: float = 86_400.0  # between two passes that read everything and hold it against its checksums; 0: none
    scrub_bytes_per_s: int = 20 * 2**20  # how fast a pass reads
    transactions_max: int = 256  # open at once in one database
    transaction_time_limit_s: float = 60.0
    transactions_bytes_max: int = 256 * 2**20  # written and not yet committed, of all open transactions of one database
    archive: str = ""  # where the commit logs are archived, for restores to any moment: a directory, absolute or below the data directory, or an s3:// URL; "": none
    archive_interval_s: float = 1.0  # between two passes: how much of the newest past an archive may lack
    backup_path: str = ""  # where backups lie, unless a schedule says otherwise, each database's in a directory of its name: absolute, or an s3:// URL; "": _backups
    backup_key_file: str = ""  # with whose first key backups and archives are encrypted, and with all of whose keys they are read; "": not encrypted
