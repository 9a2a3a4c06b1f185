"""The rules that are switched off, one at a time, by replacing a function of the system for the length of a run.

Each has worlds whose sizes let it show soon, and the seed from which on it showed at once when this was written: seeds mean other runs
on other code, so `first` is a hint for the short form and nothing more.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import trio

import replication.role_keeper as role_keeper_module
import replication.roles as roles_module
import storage.commit.scan as scan_module
import storage.committing as committing_module
import storage.database as database_module
import storage.recovery as recovery_module
import storage.shard.compaction as compaction_module
from replication.replica import Replica
from replication.role_keeper import RoleKeeper
from replication.roles import ROLE_FILE, Role, RoleState
from storage import EngineOptions, SyncMode, TwinlogError
from storage.commit.codec import Head, Op, Record
from storage.commit.log import CommitLog
from storage.commit.memtable import Memtable
from storage.commit.scan import LogScanner
from storage.commit.segment import SegmentHeader
from storage.database import Database
from storage.entries import EntryPlan
from storage.fields.dead import Dead
from storage.shard.seal import _Writer
from storage.transactions import Transactions
from storage.views import View
from tests.sim.disk import SimDisk, SimFile
from tests.sim.engine_world import EngineWorld
from tests.sim.nemesis import CLUSTER_FAULTS
from tests.sim.run_seed import World
from tests.sim.sizes import FREE_BYTES_MIN, draw_sizes
from tests.sim.swarm import REQUESTS, Workload
from tests.sim.world import World as ClusterWorld

SYNC = EngineOptions(
    sync_mode=SyncMode.SYNC, memtable_records_max=25, free_bytes_min=FREE_BYTES_MIN, expiry_interval_s=0.5, index_rows_min=0
)
ASYNC = replace(SYNC, sync_mode=SyncMode.ASYNC, flush_interval_s=0.02)
BUSY = Workload(REQUESTS, 0.2, ("unique", "sparse"), 0.3)
LOCAL_FAULTS = {"kill": 3.0, "power": 3.0, "crash": 3.0, "stop": 1.0, "heal": 1.0}
Patch = pytest.MonkeyPatch
Make = Callable[[int], World]


@dataclass(frozen=True, slots=True)
class Planted:
    """One rule switched off. tells: how the line begins that some checker must say. quick: it is played in the ordinary suite."""

    rule: str
    tells: str
    plant: Callable[[Patch], None]
    make: Make
    first: int = 0
    quick: bool = True


def engine(**changes: object) -> Make:
    """Engines alone whose sizes make a planted fault show soon; no device breaks its word unless told to."""
    usual: dict[str, object] = {"harm": "", "workload": BUSY, "faults": LOCAL_FAULTS, "fault_every_s": 0.4}
    return lambda seed: EngineWorld(seed, sizes=replace(draw_sizes(random.Random(seed), standbys=0), **(usual | changes)))


def cluster(**changes: object) -> Make:
    usual: dict[str, object] = {"play_s": 3.0, "workload": BUSY, "faults": CLUSTER_FAULTS, "fault_every_s": 0.4}
    return lambda seed: ClusterWorld(seed, sizes=replace(draw_sizes(random.Random(seed), standbys=1), **(usual | changes)))


# Durability.


def answers_before_the_sync(patch: Patch) -> None:
    patch.setattr(CommitLog, "sync_here", lambda self: self.written_seq)


def syncs_nothing(patch: Patch) -> None:
    patch.setattr(CommitLog, "_sync_files", lambda self, files: 0.0)


def answers_before_the_write(patch: Patch) -> None:
    patch.setattr(Database, "flush", lambda self: self._show(self.position.seq))


def syncs_no_directory(patch: Patch) -> None:
    honest = SimDisk.sync_dir
    patch.setattr(SimDisk, "sync_dir", lambda self, path: None if path.endswith("/commit") else honest(self, path))


def speaks_before_the_sync(patch: Patch) -> None:
    honest = CommitLog.write

    def write(self: CommitLog) -> None:
        honest(self)
        if self._is_followed:
            self._word.say(self.written_seq)

    patch.setattr(CommitLog, "write", write)


def believes_the_primarys_word(patch: Patch) -> None:
    patch.setattr(SegmentHeader, "is_followed", False)


def trusts_after_a_failed_sync(patch: Patch) -> None:
    honest = CommitLog.sync

    async def sync(self: CommitLog) -> int:
        with contextlib.suppress(OSError):
            return await honest(self)
        self._sync_failure = None
        self.synced_seq = self.written_seq
        return self.synced_seq

    patch.setattr(CommitLog, "sync", sync)


def forgets_what_a_full_disk_refused(patch: Patch) -> None:
    honest = CommitLog.write

    def write(self: CommitLog) -> None:
        try:
            honest(self)
        except OSError:
            self._buffer.clear()
            self.written_seq = self.appended_seq

    patch.setattr(CommitLog, "write", write)


def shows_recovered_before_it_is_durable(patch: Patch) -> None:
    patch.setattr(recovery_module, "_make_durable", lambda *args: None)


def checkpoint_before_its_files(patch: Patch) -> None:
    patch.setattr(_Writer, "sync", _Writer.close)


def removes_files_before_their_checkpoint(patch: Patch) -> None:
    honest = SimDisk.sync_dir
    patch.setattr(SimDisk, "sync_dir", lambda self, path: None if path.endswith("/checkpoints") else honest(self, path))


def primary_waits_for_no_standby(patch: Patch) -> None:
    patch.setattr("replication.waiting.acknowledged_seq", lambda own, standbys, acks: own)


# Recovery and rewind.


def takes_torn_frames(patch: Patch) -> None:
    patch.setattr(scan_module, "check_body", lambda head, body: None)
    patch.setattr(scan_module, "following_frames", lambda data, offset, *rest: ([], offset, 0))
    patch.setattr(LogScanner, "_frame_fault", lambda self, head, body, frame: None)


def recovers_half_a_batch(patch: Patch) -> None:
    honest = recovery_module._replay

    def half(state: object, head: Head, records: list[Record]) -> None:
        kept = [r for row, r in enumerate(records) if row < 3 or r.op not in (Op.PUT, Op.DELETE)]
        honest(state, head, kept)

    patch.setattr(recovery_module, "_replay", half)


def cuts_the_log_too_early(patch: Patch) -> None:
    honest = LogScanner.__iter__

    def without_the_last(self: LogScanner) -> object:
        held = None
        for item in honest(self):
            if held is not None:
                yield held
            held = item

    patch.setattr(LogScanner, "__iter__", without_the_last)


def rewind_keeps_the_tail(patch: Patch) -> None:
    honest = recovery_module._end_of
    patch.setattr(recovery_module, "_end_of", lambda data, to_seq: honest(data, to_seq + 1))


def forgets_requests(patch: Patch) -> None:
    patch.setattr(database_module, "remember", lambda requests, record: None)
    patch.setattr(recovery_module, "remember", lambda requests, record: None)


def applies_a_retry_again(patch: Patch) -> None:
    nothing = lambda db, request: None  # noqa: E731
    for name in ("storage.changing", "storage.updating", "storage.writing", "storage.inserting_unique", "storage.committing"):
        patch.setattr(f"{name}.recalled", nothing)
    assert committing_module.recalled is nothing


# What readers see.


def reads_beyond_visible(patch: Patch) -> None:
    patch.setattr(Database, "view", Database.end_view)


def reads_what_is_newest(patch: Patch) -> None:
    patch.setattr(Memtable, "at", lambda self, collection, key, seq: self.newest(collection, key))


def view_names_another_position(patch: Patch) -> None:
    honest = View.__init__

    def shifted(self: View, *args: object) -> None:
        honest(self, *args)
        self.position = self.position._replace(epoch=self.position.epoch + self.seq % 2)

    patch.setattr(View, "__init__", shifted)


def index_shows_the_dead(patch: Patch) -> None:
    patch.setattr(Dead, "test", lambda self, rows: rows != rows)


def state_hash_forgets(patch: Patch) -> None:
    honest = View._changes

    async def forgetful(self: View, collection: int) -> object:
        async for number, version, old in honest(self, collection):
            if version[2] == Op.PUT or old is None:
                yield number, version, old

    patch.setattr(View, "_changes", forgetful)


def takes_any_value_as_unique(patch: Patch) -> None:
    patch.setattr(EntryPlan, "_holder", lambda self, number, entry: None)


# Transactions and compaction.


def commits_unchecked(patch: Patch) -> None:
    patch.setattr(Transactions, "check_unchanged", lambda self, of: None)


def conflicts_forget_deletions(patch: Patch) -> None:
    honest = Transactions.note

    def note(self: Transactions, records: list[Record], seq: int) -> None:
        honest(self, [record for record in records if record[0] != Op.DELETE], seq)

    patch.setattr(Transactions, "note", note)


def transaction_reads_what_is_newest(patch: Patch) -> None:
    patch.setattr(Memtable, "at", lambda self, collection, key, seq: self.newest(collection, key))


def compacted_before_its_sync(patch: Patch) -> None:
    honest = compaction_module._copy

    def copy(*args: object) -> object:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(SimFile, "sync", lambda self: 0.0)
            return honest(*args)

    patch.setattr(compaction_module, "_copy", copy)


def compaction_loses_a_collection(patch: Patch) -> None:
    honest = compaction_module._named
    patch.setattr(compaction_module, "_named", lambda checkpoint: honest(checkpoint)[:-1])


# Roles and replication.


def standby_applies_out_of_order(patch: Patch) -> None:
    honest = Database._apply

    def late(self: Database, records: list, position: object, chain: int, time_us: int, reign: object) -> None:
        waiting = self.__dict__.pop("planted", None)
        if waiting is None and position.seq % 7 == 0 and not any(op == Op.REIGN for op, *_ in records):
            self.planted = records
            records = []
        honest(self, [*records, *(waiting or [])], position, chain, time_us, reign)

    patch.setattr(Database, "_apply", late)


def takes_any_chain(patch: Patch) -> None:
    """A standby that ends where the primary was is taken for its prefix, whatever its commits are."""
    patch.setattr("replication.matching.common_reigns", lambda ours, theirs: min(len(ours), len(theirs)))
    patch.setattr(database_module, "check_chain", lambda head, frame, chain: True)
    import replication.matching as matching_module

    honest = matching_module.settle
    settled = lambda verdict, **facts: honest(verdict, **(facts | {"primary_chain": facts["standby_chain"]}))  # noqa: E731
    for module in ("replication.leading", "replication.primary_session", "replication.matching"):
        with contextlib.suppress(AttributeError):
            patch.setattr(f"{module}.settle", settled)


def ignores_a_higher_epoch(patch: Patch) -> None:
    honest = role_keeper_module.on_hear

    def deaf(mine: RoleState, peer: str, role: Role, epoch: int) -> RoleState:
        return mine if mine.role is Role.PRIMARY and epoch > mine.epoch else honest(mine, peer, role, epoch)

    patch.setattr(role_keeper_module, "on_hear", deaf)


def promotes_without_a_new_epoch(patch: Patch) -> None:
    same = lambda mine, heard: RoleState(Role.PRIMARY, max(mine.epoch, heard), "planted")  # noqa: E731
    patch.setattr("replication.role_keeper.promoted", same)


def configuration_beats_the_role(patch: Patch) -> None:
    honest = role_keeper_module.on_open

    def as_configured(persisted: RoleState | None, *, named_primary: bool, data_epoch: int) -> RoleState:
        if named_primary:
            return RoleState(Role.PRIMARY, max(data_epoch, 1), "planted")
        return honest(persisted, named_primary=named_primary, data_epoch=data_epoch)

    patch.setattr(role_keeper_module, "on_open", as_configured)


# Switchovers, fences, twins.


def writes_on_after_handing_over(patch: Patch) -> None:
    honest = Replica.why_closed

    def why_closed(self: Replica, database: Database | None = None) -> TwinlogError | None:
        return None if self.state.hands_over_to else honest(self, database)

    patch.setattr(Replica, "why_closed", why_closed)


def role_is_not_synced(patch: Patch) -> None:
    honest = SimDisk.replace_file

    def replace_file(self: SimDisk, path: str, data: bytes) -> None:
        if path != ROLE_FILE:
            return honest(self, path, data)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(SimFile, "sync", lambda self: 0.0)
            inner.setattr(SimDisk, "sync_dir", lambda self, path: None)
            honest(self, path, data)
        return None

    patch.setattr(SimDisk, "replace_file", replace_file)


def declines_without_leaving(patch: Patch) -> None:
    async def leave(self: RoleKeeper, epoch: int, why: str) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(RoleKeeper, "leave", leave)
    patch.setattr("tests.sim.role_orders.STRIKES", {"refused write": 1.0})  # nothing else makes a standby decline so often


def twins_do_not_freeze(patch: Patch) -> None:
    honest = role_keeper_module.on_hear

    def blind(mine: RoleState, peer: str, role: Role, epoch: int) -> RoleState:
        after = honest(mine, peer, role, epoch)
        return mine if after.role is Role.FROZEN else after

    patch.setattr(role_keeper_module, "on_hear", blind)


def promotion_forgets_the_offer(patch: Patch) -> None:
    patch.setattr(roles_module, "_used", lambda mine: mine.epoch)
    patch.setattr("tests.sim.role_orders.STRIKES", {"another order": 1.0})


def takes_the_office_unsynced(patch: Patch) -> None:
    async def at_once(replica: object, offer: object) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr("replication.member.why_unsynced", at_once)
    patch.setattr("tests.sim.role_orders.STRIKES", {"power": 1.0})


def unfenced_is_always_primary(patch: Patch) -> None:
    patch.setattr("replication.role_keeper.unfenced", lambda mine: RoleState(Role.PRIMARY, mine.epoch, "planted"))


REWINDING = {"lose the primary": 4.0, "kill": 1.0, "heal": 6.0, "mark": 1.0, "hasty": 1.0}
FAILING = {**LOCAL_FAULTS, "failing sync": 2.0}
FULL = {**LOCAL_FAULTS, "full": 3.0, "shrinking": 3.0}
CONTENDING = Workload({"insert": 1.0, "transaction": 20.0}, 0.0, (), 0.0)
RETRIES = replace(BUSY, twice=0.5)
INSERTS = Workload({"insert": 6.0, "update": 1.0}, 0.0, (), 0.0)
SWITCHING: dict[str, object] = {"engine": ASYNC, "acks": 0, "workload": INSERTS, "clients": 2, "pause_s": 0.03, "fault_every_s": 0.25}
FOLLOWING: dict[str, object] = {
    "engine": replace(ASYNC, flush_interval_s=0.2, memtable_records_max=10_000, memtable_bytes_max=2**20, log_segment_bytes=2**20),
    "acks": 0, "workload": INSERTS, "clients": 2, "pause_s": 0.03, "fault_every_s": 0.3, "sync_delay_s": 0.01,
    "faults": {"power": 6.0, "heal": 2.0},
}  # fmt: skip
SWITCHES = {"switchover": 6.0, "heal": 3.0}
FENCES = {"fence": 4.0, "lose the primary": 1.0, "hasty": 1.0, "heal": 3.0}

PLANTED: tuple[Planted, ...] = (
    Planted("an answer leaves before its sync", "INV-1", answers_before_the_sync, engine(engine=SYNC)),
    Planted("syncs of the commit log do nothing", "INV-1", syncs_nothing, engine(engine=SYNC)),
    Planted("an answer leaves before its bytes did", "INV-1", answers_before_the_write, engine(engine=ASYNC)),
    Planted("a new segment's name is not synced", "INV-1", syncs_no_directory, engine(engine=replace(SYNC, log_segment_bytes=500))),
    Planted("a standby says that it synced before it has", "damage", speaks_before_the_sync, cluster(**FOLLOWING)),
    Planted("a standby takes the primary's word for what it synced", "damage", believes_the_primarys_word, cluster(**FOLLOWING), quick=False),
    Planted("a failed sync is taken for one", "INV-1", trusts_after_a_failed_sync, engine(engine=SYNC, faults=FAILING, sync_delay_s=0.01)),
    Planted("what a full disk refused is forgotten", "", forgets_what_a_full_disk_refused, engine(engine=ASYNC, faults=FULL)),
    Planted("what was recovered is shown before it is durable", "", shows_recovered_before_it_is_durable, engine(), quick=False),
    Planted("a checkpoint is written before its files are synced", "", checkpoint_before_its_files, engine()),
    Planted("a checkpoint's removal is not synced before its files'", "", removes_files_before_their_checkpoint, engine()),
    Planted("a primary waits for no standby", "INV-1", primary_waits_for_no_standby, cluster(acks=1, degrades=False, engine=ASYNC), first=60),
    Planted("recovery takes torn frames", "", takes_torn_frames, engine(), quick=False),
    Planted("recovery takes half a batch", "INV-2", recovers_half_a_batch, engine()),
    Planted("recovery cuts the log too early", "INV-1", cuts_the_log_too_early, engine()),
    Planted("a rewind keeps one commit of the tail", "", rewind_keeps_the_tail, cluster(engine=ASYNC, acks=0, faults=REWINDING), quick=False),
    Planted("requests are forgotten", "INV-1", forgets_requests, engine(workload=RETRIES)),
    Planted("a retry is applied again", "INV-1", applies_a_retry_again, engine(workload=RETRIES)),
    Planted("readers see what is not durable yet", "INV-", reads_beyond_visible, engine(engine=SYNC, sync_delay_s=0.01)),
    Planted("readers see the newest version of a key", "INV-2", reads_what_is_newest, engine(engine=SYNC, sync_delay_s=0.01), quick=False),
    Planted("a view names another position", "INV-3", view_names_another_position, engine()),
    Planted("an index shows deleted rows", "", index_shows_the_dead, engine()),
    Planted("a state hash forgets deletions", "INV-6", state_hash_forgets, engine()),
    Planted("unique values are not checked", "unique", takes_any_value_as_unique, engine(keys=10)),
    Planted("a transaction commits unchecked", "lost update", commits_unchecked, engine(workload=CONTENDING, clients=3)),
    Planted("conflicts forget deletions", "lost update", conflicts_forget_deletions, engine(workload=CONTENDING, clients=3), quick=False),
    Planted("a transaction reads what is newest", "snapshot", transaction_reads_what_is_newest, engine(workload=CONTENDING, clients=3)),
    Planted("a compacted log is taken up before its sync", "", compacted_before_its_sync, engine(compact_every_s=0.3)),
    Planted("a compaction loses a collection", "", compaction_loses_a_collection, engine(compact_every_s=0.3)),
    Planted("a standby applies out of order", "INV-2", standby_applies_out_of_order, cluster()),
    Planted("a standby's chain is not compared", "", takes_any_chain, cluster(engine=ASYNC, acks=0, faults=REWINDING), quick=False),
    Planted("a higher epoch is ignored", "", ignores_a_higher_epoch, cluster(engine=ASYNC, acks=0, faults=REWINDING), quick=False),
    Planted("a promotion takes no new epoch", "INV-4", promotes_without_a_new_epoch, cluster(), quick=False),
    Planted("the configuration beats the persisted role", "INV-4", configuration_beats_the_role, cluster(), quick=False),
    Planted("a primary that hands over goes on writing", "INV-", writes_on_after_handing_over, cluster(**SWITCHING, faults=SWITCHES)),
    Planted("role.json is not synced", "", role_is_not_synced, cluster(**SWITCHING, faults=SWITCHES), quick=False),
    Planted("an office is declined in its own epoch", "", declines_without_leaving, cluster(**SWITCHING, faults=SWITCHES), quick=False),
    Planted("a promotion forgets the offer", "INV-4", promotion_forgets_the_offer, cluster(**SWITCHING, faults=SWITCHES), quick=False),
    Planted("an office is taken before what it rests on is synced", "INV-1", takes_the_office_unsynced, cluster(**{**SWITCHING, "engine": replace(ASYNC, flush_interval_s=0.2)}, faults=SWITCHES), quick=False),
    Planted("two primaries of one epoch go on", "", twins_do_not_freeze, cluster(**SWITCHING, faults={"twins": 3.0, "heal": 3.0}), quick=False),
    Planted("an unfenced node leads whatever it was", "INV-4", unfenced_is_always_primary, cluster(**SWITCHING, faults=FENCES)),
)
