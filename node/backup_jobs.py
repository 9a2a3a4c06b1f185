"""Backup jobs of this node: what runs, what it is doing, how it ended. A job outlives whoever asked for it, and ends with the node.

Bounds (INV-8): JOBS_AT_ONCE_MAX run at once, the newest ENDED_KEPT that have ended can still be asked about.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from storage import errors

from .outcomes import plain_fields

log = logging.getLogger(__name__)

JOBS_AT_ONCE_MAX = 64
ENDED_KEPT = 64

Work = Callable[[Callable[[str], None]], Awaitable[dict[str, Any]]]


class Job:
    """One of them. step: for people. result: of one that ended well; error: of one that did not."""

    def __init__(self, number: int, kind: str, db: str) -> None:
        self.number, self.kind, self.db = number, kind, db
        self.step = "waiting"
        self.result: dict[str, Any] | None = None
        self.error: errors.TwinlogError | None = None
        self.ended = trio.Event()

    def tell(self, step: str) -> None:
        self.step = step

    def as_fields(self) -> dict[str, Any]:
        error = self.error
        told = None if error is None else [error.code, error.name, error.message, plain_fields(error)]
        return {
            "job": self.number, "kind": self.kind, "db": self.db, "running": not self.ended.is_set(), "step": self.step,
            "result": self.result, "error": told,
        }  # fmt: skip


class BackupJobs:
    """start(task, *args) runs a task for as long as the node runs."""

    def __init__(self, start: Callable[..., None]) -> None:
        self._start = start
        self._jobs: dict[int, Job] = {}
        self._number = 0

    @property
    def running(self) -> int:
        return sum(not job.ended.is_set() for job in self._jobs.values())

    def begin(self, kind: str, db: str, work: Work) -> Job:
        """Raises Overloaded."""
        if self.running >= JOBS_AT_ONCE_MAX:
            raise errors.Overloaded(
                f"{JOBS_AT_ONCE_MAX} backup jobs run already; wait for one of them", bound="backup jobs", limit=JOBS_AT_ONCE_MAX, retry_after_ms=5_000
            )
        self._number += 1
        job = Job(self._number, kind, db)
        self._start(self._run, job, work)
        self._jobs[job.number] = job
        ended = [number for number, other in self._jobs.items() if other.ended.is_set()]
        for number in ended[: max(0, len(ended) - ENDED_KEPT)]:
            del self._jobs[number]
        return job

    def of(self, number: int) -> Job:
        job = self._jobs.get(number)
        if job is None:
            raise errors.BadRequest(f"there is no backup job {number} here: it ended long ago, or the node restarted; look at the list of backups")
        return job

    async def _run(self, job: Job, work: Work) -> None:
        try:
            job.result = await work(job.tell)
            job.step = "done"
        except errors.TwinlogError as error:
            job.error = error
        except OSError as error:
            job.error = errors.of_disk(error, f"the {job.kind} of {job.db}")
        except Exception:
            log.exception("the %s of %s met a bug", job.kind, job.db)
            job.error = errors.InternalError(f"the {job.kind} of {job.db} met a bug in this node; its log has the trace, please report it")
        finally:
            if job.error is not None:
                log.error("the %s of %s failed while %s: %s", job.kind, job.db, job.step, job.error)
            job.ended.set()
