"""Full disk and failing disk, as modes of one database: when writes are refused, and when they are taken again.

    enough space  ── less than the reserve is free, or something met ENOSPC ──>  full     writes are refused, reads and shipping go on
    full          ── a look finds enough, and nothing is pending ────────────>  enough space, by itself
    any           ── a write failed otherwise, or a sync failed ─────────────>  failed   for good: what the device holds is unknown (INV-1)

The reserve (class Reserve, one for all databases of a disk) is worked out, so that what was acknowledged can always be sealed:

    what every memtable holds, which a seal writes once more; twice with a field index
    + the largest set of primary index segments, which one seal may merge (seals run one at a time)
    + the largest shard's logs, which a compaction writes anew, at most 1/16 of the file system
    + 1/16 of the file system, at most 16 MiB: checkpoints, node.json, and the log of deletions and drops

and never less than free_bytes_min; free_bytes_min 0 switches it off. Deletions and drops may use all of it but what the seals need;
compaction its own part; builds, merges and space reserved ahead for the log none of it. Entering the mode seals what there is, since log that
two checkpoints have is removed.

Knows the free bytes and what a failed write means. Knows no documents. Costs: a statvfs for each MiB appended, and one a second while full.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import trio

from .errors import OUT_OF_DESCRIPTORS, OUT_OF_SPACE, DiskFailed, DiskFull, TwinlogError, of_disk

if TYPE_CHECKING:
    from .database import Database

log = logging.getLogger("twinlog.space")

CHECK_BYTES = 2**20  # appended between two looks at the free space
FULL_RETRY_S = 0.5  # between two tries to write what is pending on a full disk
LOOK_S = 1.0  # between two looks while full
HOLD_S = 5.0  # full for so long after an ENOSPC although bytes are free: a quota, or no inodes
FLOOR_BYTES_MAX = 16 * 2**20
SHARE_OF_DISK = 16  # one in so many bytes of the file system: the floor, and the most that is kept for a compaction
EASE_PART = 4  # one in so many of the floor's bytes must be free beyond the reserve before the mode ends
REQUEST_BYTES = 128  # of one remembered request in a checkpoint, about
CHECKPOINT_BYTES = 1024


class _Needs(NamedTuple):
    """Of one database."""

    unsealed: int
    merge: int
    compaction: int


class Reserve:
    """What the databases on one disk need free together."""

    def __init__(self) -> None:
        self._needs: dict[str, _Needs] = {}

    def note(self, name: str, unsealed: int, merge: int, compaction: int) -> None:
        self._needs[name] = _Needs(unsealed, merge, compaction)

    def forget(self, name: str) -> None:
        self._needs.pop(name, None)

    def seal_bytes(self) -> int:
        """What sealing every memtable writes at most."""
        needs = self._needs.values()
        return sum(need.unsealed for need in needs) + max((need.merge for need in needs), default=0)

    def kept_bytes(self, total: int, at_least: int) -> int:
        """Everything that is kept free on a file system of so many bytes."""
        return max(at_least, self.seal_bytes() + self.compaction_bytes(total) + floor_bytes(total)) if at_least else 0

    def compaction_bytes(self, total: int) -> int:
        return min(max((need.compaction for need in self._needs.values()), default=0), total // SHARE_OF_DISK)


def floor_bytes(total: int) -> int:
    """Of a file system of so many bytes."""
    return min(FLOOR_BYTES_MAX, total // SHARE_OF_DISK)


class Space:
    """Invariant: once `failure` is set it stays, and nothing is written any more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._disk = database.seams.disk
        self._reserve = database.seams.reserve
        self.full = False
        self.since_us = 0  # when the mode was entered, or the device failed
        self.why = ""  # of the newest refusal
        self.stuck = False  # a write met ENOSPC and its bytes are still pending
        self.failure: DiskFailed | None = None
        self.refused = 0  # writes, since the database was opened
        self.times_full = 0
        self._checked_at = 0
        self._held_until = 0.0
        self._entered = trio.Event()
        self._left = trio.Event()

    # How much there is, and how much is kept.

    @property
    def free_bytes(self) -> int:
        return self._disk.free_bytes()

    @property
    def reserve_bytes(self) -> int:
        """What must stay free, as things are now."""
        self._note_needs()
        return self._reserve.kept_bytes(self._disk.total_bytes(), self._database.engine_options.free_bytes_min)

    def has_room(self, size: int = 0) -> bool:
        """Whether something that can be left out or made later (a build, a merge, a seed) may take so many bytes: not from the reserve."""
        return not self.full and self.free_bytes - size >= self.reserve_bytes

    def may_compact(self, size: int) -> bool:
        """Whether a compaction may take so many bytes: also what is kept for it, and the mode does not keep it from it."""
        kept = floor_bytes(self._disk.total_bytes()) + self._reserve.seal_bytes() if self.reserve_bytes else 0
        return self.free_bytes - size >= kept

    def _note_needs(self) -> None:
        database = self._database
        sealing, shards = database.sealing, database.sealing.checkpoint.shards if database.sealing.checkpoint is not None else ()
        unsealed = sum(memtable.bytes for memtable in sealing.pinned()[1])
        if database.indexing.wanted:
            unsealed *= 2
        manifest = CHECKPOINT_BYTES + REQUEST_BYTES * len(database.requests)
        self._reserve.note(
            database.name,
            unsealed + manifest,
            sum(index.length for shard in shards for index in shard.index),
            max((sum(file.length for file in shard.logs) for shard in shards), default=0),
        )

    # The mode.

    @property
    def looks_now(self) -> bool:
        since = self._database.log.bytes_appended - self._checked_at
        return self.full or since >= CHECK_BYTES or not self._checked_at

    def look_again(self) -> None:
        """At the next write, however little was written since the last look."""
        self._checked_at = 0

    def look(self) -> None:
        """See whether the disk is full now."""
        self._checked_at = self._database.log.bytes_appended or 1
        free, needed = self.free_bytes, self.reserve_bytes
        if self.full and needed:
            needed += floor_bytes(self._disk.total_bytes()) // EASE_PART
        if self.stuck or free < needed:
            self._enter(f"{free} bytes free, {needed} are kept in reserve")
        elif self.full and trio.current_time() >= self._held_until:
            self._leave(free)

    def check(self, size: int = 0) -> None:
        """Raises DiskFull while the reserve is all that is free, and for a commit of so many bytes when it would not be left."""
        self.look()
        if self.full:
            raise self.refusal()
        free, needed = self.free_bytes, self.reserve_bytes
        if needed and free - 2 * size < needed:  # in the log, and once more when it is sealed
            self.why = f"{free} bytes free, {needed} are kept in reserve and this commit takes {2 * size}"
            raise self.refusal()

    def check_large(self, size: int) -> None:
        """check() for a commit that alone is as large as what goes by between two looks."""
        if size >= CHECK_BYTES:
            self.check(size)

    def check_seals(self) -> None:
        """Raises DiskFull when not even deletions may go on: what is free is what the seals need."""
        needed = self._reserve.seal_bytes() if self.full and self.reserve_bytes else 0
        if self.full and (self.stuck or self.free_bytes < needed):
            self.why = f"{self.free_bytes} bytes free, and sealing what was written needs {needed}"
            raise self.refusal()

    def refusal(self) -> DiskFull:
        """What a writer is told; counts as a refused write."""
        self.refused += 1
        free, needed = self.free_bytes, self.reserve_bytes
        return DiskFull(
            f"{self._database.name}: {self.why}; free some space or drop a database: reading goes on, and writing resumes by itself",
            free_bytes=free,
            needed_bytes=needed,
        )

    def refuse_if_full(self) -> None:
        if self.full:
            raise self.refusal()

    def met(self, error: OSError) -> bool:
        """Take note of what a job's failure says about space; whether it is a full disk."""
        if error.errno not in OUT_OF_SPACE:
            return False
        if self.free_bytes >= max(self.reserve_bytes, CHECK_BYTES):
            self._held_until = trio.current_time() + HOLD_S
        self._enter(f"no space left on the device ({self.free_bytes} bytes free)")
        return True

    async def rest(self, longest_s: float) -> None:
        """So long, but while the disk is full only until it no longer is."""
        if self.full:
            with trio.move_on_after(longest_s):
                await self._left.wait()
        else:
            await trio.sleep(longest_s)

    async def run(self) -> None:
        """Seal on entering the mode, look again while it lasts, until cancelled."""
        while True:
            await self._entered.wait()
            self._database.sealing.freeze()
            await self._database.log.give_up_spare()
            while self.full:
                await trio.sleep(LOOK_S)
                self.look()

    def _enter(self, why: str) -> None:
        self.why = why
        if self.full:
            return
        database = self._database
        self.full, self.since_us = True, database.seams.time_us()
        self.times_full += 1
        self._entered.set()
        self._left = trio.Event()
        database.sealing.wake_waiting()
        log.warning("%s: the disk is full: %s; writes are refused, reads go on, writing resumes by itself", database.name, why)

    def _leave(self, free: int) -> None:
        self.full = False
        self._entered = trio.Event()
        self._left.set()
        log.warning("%s: there is space again (%d bytes free); writes are taken", self._database.name, free)

    # Writes and syncs that fail.

    def written(self) -> None:
        """Nothing is pending any more."""
        if self.stuck:
            self.stuck, self._held_until = False, 0.0

    def note_write_error(self, error: OSError) -> TwinlogError:
        """What a write that failed means, and what is to be told."""
        database = self._database
        if error.errno in OUT_OF_SPACE:
            self.stuck = database.log.pending_bytes > 0  # a segment that could not be made leaves nothing behind
            self.met(error)
            return self.refusal()
        if error.errno in OUT_OF_DESCRIPTORS:  # of opening a file: nothing was taken, nothing is lost
            return of_disk(error, f"{database.name}: beginning a segment of the commit log")
        return self.fail(f"{database.name}: writing the commit log failed ({error})")

    def sync_failed(self, error: OSError) -> DiskFailed:
        return self.fail(f"{self._database.name}: syncing the commit log failed ({error})")

    def fail(self, what: str) -> DiskFailed:
        """A failed write or sync is never tried again: what the device holds is unknown until the log is read anew."""
        if self.failure is None:
            self.since_us = self._database.seams.time_us()
            log.error("%s; no more writes are taken, reads go on", what)
        self.failure = DiskFailed(f"{what}; no more writes are taken: check the device, then restart the node")
        self._database.visible_advance.fail(self.failure)
        return self.failure

    def as_dict(self) -> dict[str, object]:
        """For status: state one of ok, full, failed."""
        state = "failed" if self.failure is not None else "full" if self.full else "ok"
        why = str(self.failure) if self.failure is not None else self.why if self.full else ""
        return {
            "state": state,
            "why": why,
            "free_bytes": self.free_bytes,
            "reserve_bytes": self.reserve_bytes,
            "refused_writes": self.refused,
            "times_full": self.times_full,
            "since_us": 0 if state == "ok" else self.since_us,
        }
