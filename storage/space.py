"""Full disk and failing disk, as modes of one database: when writes are refused, and when they are taken again.

    enough space  ── less than the reserve is free, or a write met ENOSPC ──>  full     writes are refused; deletions and drops may go on
    full          ── a look finds enough, and nothing is pending ──────────>  enough space, by itself
    any           ── a write failed otherwise, or a sync failed ───────────>  failed   for good: what the device holds is unknown (INV-1)

Knows the free bytes and what a failed write means. Knows no documents and waits for nothing: check() costs a statvfs for each MiB
appended.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .errors import DiskFailed, DiskFull, TwinlogError

if TYPE_CHECKING:
    from .database import Database

CHECK_BYTES = 2**20  # appended between two looks at the free space
FULL_RETRY_S = 0.5  # between two tries to write what is pending on a full disk


class Space:
    """Invariant: once `failure` is set it stays, and nothing is written any more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.full = False
        self.stuck = False  # a write met ENOSPC and its bytes are still pending
        self.failure: DiskFailed | None = None
        self._checked_at = 0

    @property
    def looks_now(self) -> bool:
        since = self._database.log.bytes_appended - self._checked_at
        return self.full or since >= CHECK_BYTES or not self._checked_at

    def look_again(self) -> None:
        """At the next write, however little was written since the last look."""
        self._checked_at = 0

    def check(self) -> None:
        """Raises DiskFull while the reserve is all that is free."""
        database = self._database
        free = database.seams.disk.free_bytes()
        self._checked_at = database.log.bytes_appended or 1
        self.full = self.stuck or free < database.engine_options.free_bytes_min
        if self.full:
            raise DiskFull(
                f"{database.name}: {free} bytes free, {database.engine_options.free_bytes_min} are kept in reserve; free some "
                "space, writing resumes by itself",
                free_bytes=free,
            )

    def written(self) -> None:
        """Nothing is pending any more."""
        self.stuck = False

    def note_write_error(self, error: OSError) -> TwinlogError:
        """What a write that failed means, and what is to be told."""
        database = self._database
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self.full = True
            self.stuck = database.log.pending_bytes > 0  # a segment that could not be made leaves nothing behind
            return DiskFull(f"{database.name}: no space left for the commit log; free some, writing resumes by itself")
        return self.fail(f"{database.name}: writing the commit log failed ({error})")

    def sync_failed(self, error: OSError) -> DiskFailed:
        return self.fail(f"{self._database.name}: syncing the commit log failed ({error})")

    def fail(self, what: str) -> DiskFailed:
        """A failed write or sync is never tried again: what the device holds is unknown until the log is read anew."""
        self.failure = DiskFailed(f"{what}; no more writes are taken: check the device, then restart the node")
        self._database.visible_advance.fail(self.failure)
        return self.failure
