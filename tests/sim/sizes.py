"""What a seed decides before anything runs: sizes small enough that seals, merges, segments and checkpoints happen often."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from storage import EngineOptions, SyncMode
from tests.sim.nemesis import CLUSTER_FAULTS, ENGINE_FAULTS, HARMS, ROLE_FAULTS
from tests.sim.swarm import Workload, draw_kinds, draw_workload, shown

FREE_BYTES_MIN = 20_000
HARMED = 0.25  # share of the runs of an engine alone


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
    workload: Workload
    faults: Mapping[str, float]  # the nemesis's, by weight
    fault_every_s: float
    compact_every_s: float  # of an engine alone; 0: only by itself
    harm: str  # of the device, one kind a run at most: then only what can be demanded is (checkers.py); empty: none

    @property
    def is_sync(self) -> bool:
        return self.engine.sync_mode is SyncMode.SYNC

    def __str__(self) -> str:
        """The drawn mix, for the first line of a trace."""
        engine = self.engine
        return (
            f"{engine.sync_mode.value} flush={engine.flush_interval_s} shards={self.shards} crc={self.crc} "
            f"memtable={engine.memtable_records_max}/{engine.memtable_bytes_max} segment={engine.log_segment_bytes} "
            f"standbys={self.standbys} acks={self.acks} {'degrade' if self.degrades else 'block'} secure={self.is_secure} "
            f"keys={self.keys} clients={self.clients} sync_delay={self.sync_delay_s} cold={self.cold_reads} | "
            f"requests {self.workload} | faults every {self.fault_every_s} s: {shown(self.faults)} | harm {self.harm or 'none'}"
        )


def draw_sizes(rng: random.Random, *, standbys: int | None = None) -> Sizes:
    """standbys 0: an engine alone, which alone may be harmed by its device."""
    alone = standbys == 0
    standbys = rng.choice([1, 1, 1, 2, 2, 3]) if standbys is None else standbys
    shards, crc = rng.choice([1, 2, 3]), rng.random() < 0.7
    harm = rng.choice(HARMS) if alone and rng.random() < HARMED else ""
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
        copy_grace_s=rng.choice([0.0, 0.0, 0.0, 1.0]),
        expiry_interval_s=rng.choice([0.5, 2.0, 60.0]),
        index_rows_min=rng.choice([0, 30, 2_000]),
        compact_stale_ratio=rng.choice([0.1, 0.5, 1.0]),
        compact_min_bytes=rng.choice([1, 5_000, 64 * 2**20]),
    )
    return Sizes(
        engine=engine,
        shards=shards,
        crc=crc or bool(harm),  # without checksums nothing finds a flipped bit, and nobody says it would
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
        workload=draw_workload(rng),
        faults=draw_kinds(rng, ENGINE_FAULTS if alone else CLUSTER_FAULTS, always=("heal",)),
        fault_every_s=rng.choice([0.15, 0.4, 0.4, 1.0]),
        compact_every_s=rng.choice([0.0, 0.3, 2.0]),
        harm=harm,
    )


def draw_role_sizes(rng: random.Random) -> Sizes:
    """Of a cluster that changes roles all the time and has little to keep: the orders about roles and what strikes inside them are always there, one
    client writes seldom, nothing is sealed or indexed. Several times the role changes of a usual seed for each second of computing."""
    usual = draw_sizes(rng)
    engine = replace(
        usual.engine, memtable_records_max=10_000, memtable_bytes_max=2**20, seal_age_s=600.0, log_segment_bytes=2**20, log_keep_bytes=2**20,
        copy_grace_s=0.0, expiry_interval_s=60.0, index_rows_min=10_000,
    )  # fmt: skip
    plain = Workload({"insert": 3.0, "replace": 1.0}, usual.workload.twice, (), 0.0)
    return replace(
        usual,
        engine=engine,
        keys=40,
        clients=1,
        pause_s=0.15,
        faults=draw_kinds(rng, ROLE_FAULTS, always=("heal", "switchover", "fence", "lose the primary")),
        fault_every_s=rng.choice([0.1, 0.15, 0.25]),
        workload=plain,
    )
