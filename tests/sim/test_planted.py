"""Every checker fires: one fault is planted in the system for each promise, and the run of some seed must tell it by its number.

The faults are put in by replacing one function of the system for the length of a test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

import replication.role_keeper as role_keeper_module
import storage.database as database_module
import storage.recovery as recovery_module
from replication.roles import Role, RoleState
from storage import EngineOptions, SyncMode
from storage.commit.codec import Head, Op, Record
from storage.commit.log import CommitLog
from storage.commit.memtable import Memtable
from storage.commit.scan import LogScanner
from storage.database import Database
from storage.views import View
from tests.sim.disk import SimFile
from tests.sim.engine_world import EngineWorld
from tests.sim.run_seed import run_seed
from tests.sim.sizes import FREE_BYTES_MIN, draw_sizes
from tests.sim.world import World

SEEDS_MAX = 60
SYNC = EngineOptions(sync_mode=SyncMode.SYNC, memtable_records_max=25, free_bytes_min=FREE_BYTES_MIN)
ASYNC = replace(SYNC, sync_mode=SyncMode.ASYNC, flush_interval_s=0.02)


def engine_world(**changes: object) -> Callable[[int], EngineWorld]:
    """Worlds whose sizes make a planted fault show soon."""
    return lambda seed: EngineWorld(seed, sizes=replace(draw_sizes(random.Random(seed), standbys=0), **changes))


def cluster_world(**changes: object) -> Callable[[int], World]:
    return lambda seed: World(seed, sizes=replace(draw_sizes(random.Random(seed)), play_s=3.0, **changes))


def must_tell(promise: str, make: Callable[[int], object], *, first: int = 0) -> str:
    """Play seeds until the promise is reported broken. first: one that told it soon, when this was written."""
    for seed in range(first, first + SEEDS_MAX):
        for line in run_seed(make(seed), seed).broken:
            if line.startswith(promise):
                return line
    pytest.fail(f"{SEEDS_MAX} seeds with a planted fault, and no checker said {promise}")


def test_inv1_a_disk_that_lies_about_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = SimFile.sync
    monkeypatch.setattr(SimFile, "sync", lambda self: 0.0 if "/commit/" in self.path else honest(self))
    must_tell("INV-1", engine_world(engine=SYNC))


def test_inv1_an_answer_in_the_same_wake_up_without_a_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CommitLog, "sync_here", lambda self: self.written_seq)
    must_tell("INV-1", engine_world(engine=SYNC))


def test_inv1_acknowledged_before_the_bytes_left_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "flush", lambda self: self._show(self.position.seq))
    must_tell("INV-1", EngineWorld)


def test_inv1_a_primary_that_does_not_wait_for_its_standbys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.waiting.acknowledged_seq", lambda own, standbys, acks: own)
    must_tell("INV-1", cluster_world(standbys=1, acks=1, degrades=False, engine=ASYNC), first=18)


def test_inv1_requests_forgotten_are_applied_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "remember", lambda requests, record: None)
    monkeypatch.setattr(recovery_module, "remember", lambda requests, record: None)
    must_tell("INV-1", engine_world(keys=2, clients=3), first=1028)


def test_inv2_a_reader_that_sees_what_is_not_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memtable, "at", lambda self, collection, key, seq: self.newest(collection, key))
    must_tell("INV-2", EngineWorld)


def test_inv2_recovery_that_takes_half_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = recovery_module._replay

    def half(state: object, head: Head, records: list[Record]) -> None:
        kept = [r for row, r in enumerate(records) if row < 3 or r.op not in (Op.PUT, Op.DELETE)]
        honest(state, head, kept)

    monkeypatch.setattr(recovery_module, "_replay", half)
    must_tell("INV-2", EngineWorld)


def test_inv3_a_standby_that_applies_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Database._apply

    def late(self: Database, records: list, position: object, chain: int, time_us: int, reign: object) -> None:
        waiting = self.__dict__.pop("planted", None)
        if waiting is None and position.seq % 7 == 0 and not any(op == Op.REIGN for op, *_ in records):
            self.planted = records
            records = []
        honest(self, [*records, *(waiting or [])], position, chain, time_us, reign)

    monkeypatch.setattr(Database, "_apply", late)
    must_tell("INV-2", World)


def test_inv3_a_view_that_names_another_position(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = View.__init__

    def shifted(self: View, *args: object) -> None:
        honest(self, *args)
        self.position = self.position._replace(epoch=self.position.epoch + self.seq % 2)

    monkeypatch.setattr(View, "__init__", shifted)
    must_tell("INV-3", EngineWorld)


def test_inv4_a_promotion_without_a_new_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    same = lambda mine, heard: RoleState(Role.PRIMARY, max(mine.epoch, heard), "planted")  # noqa: E731
    monkeypatch.setattr("replication.role_keeper.promoted", same)
    must_tell("INV-4", World, first=3)


def test_inv4_a_configuration_that_beats_the_persisted_role(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = role_keeper_module.on_open

    def as_configured(persisted: RoleState | None, *, named_primary: bool, data_epoch: int) -> RoleState:
        if named_primary:
            return RoleState(Role.PRIMARY, max(data_epoch, 1), "planted")
        return honest(persisted, named_primary=named_primary, data_epoch=data_epoch)

    monkeypatch.setattr(role_keeper_module, "on_open", as_configured)
    must_tell("INV-4", cluster_world())


def test_inv5_a_log_that_is_cut_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = LogScanner.__iter__

    def without_the_last(self: LogScanner) -> object:
        held = None
        for item in honest(self):
            if held is not None:
                yield held
            held = item

    monkeypatch.setattr(LogScanner, "__iter__", without_the_last)
    must_tell("INV-1", EngineWorld)


def test_inv6_a_state_hash_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = View._changes

    async def forgetful(self: View, collection: int) -> object:
        async for number, version, old in honest(self, collection):
            if version[2] == Op.PUT or old is None:
                yield number, version, old

    monkeypatch.setattr(View, "_changes", forgetful)
    must_tell("INV-6", EngineWorld, first=11)


