"""What a seed decides before anything runs: sizes small enough that seals, merges, segments and checkpoints happen often."""

from __future__ import annotations

import random
from dataclasses import dataclass

from storage import EngineOptions, SyncMode

FREE_BYTES_MIN = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of one run. play_s: virtual seconds of faults before everything is healed."""

    engine: EngineOptions
    shards: int
    crc: bool
    keys: int  # ids are drawn from 0 to keys
    clients: int
    pause_s: float  # mean between two requests of a client
    standbys: int
    acks: int
    degrades: bool
    play_s: float
    sync_delay_s: float
    cold_reads: float
    window_bytes: int
    seed_chunk_bytes: int
    is_secure: bool
    seed_bytes_min: int

    @property
    def is_sync(self) -> bool:
        return self.engine.sync_mode is SyncMode.SYNC


def draw_sizes(rng: random.Random, *, standbys: int | None = None) -> Sizes:
    standbys = rng.choice([1, 1, 2]) if standbys is None else standbys
    shards, crc = rng.choice([1, 2, 3]), rng.random() < 0.7
    engine = EngineOptions(
        sync_mode=rng.choice([SyncMode.ASYNC, SyncMode.SYNC]),
        flush_interval_s=rng.choice([0.02, 0.2]),
        shards=shards,
        crc=crc,
        cache_bytes=rng.choice([0, 4096, 2**20]),
        memtable_records_max=rng.choice([12, 25, 60]),
        memtable_bytes_max=rng.choice([2_000, 20_000]),
        seal_age_s=rng.choice([1.0, 30.0]),
        log_segment_bytes=rng.choice([500, 4_000, 2**20]),
        log_keep_bytes=rng.choice([4_000, 2**20]),
        free_bytes_min=FREE_BYTES_MIN,
    )
    return Sizes(
        engine=engine,
        shards=shards,
        crc=crc,
        keys=rng.choice([10, 40, 200]),
        clients=rng.randint(1, 3),
        pause_s=rng.choice([0.03, 0.07]),
        standbys=standbys,
        acks=rng.randint(0, standbys),
        degrades=rng.random() < 0.3,
        play_s=rng.choice([3.0, 6.0]),
        sync_delay_s=rng.choice([0.0, 0.001, 0.01]),
        cold_reads=rng.choice([0.0, 0.1, 0.5]),
        window_bytes=rng.choice([4_000, 2**20]),
        seed_chunk_bytes=rng.choice([1_000, 2**20]),
        is_secure=rng.random() < 0.2,
        seed_bytes_min=rng.choice([1, 3_000, 2**20]),
    )
