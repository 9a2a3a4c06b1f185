"""The client port's requests about backups. Pure. Each node has shelves of its own.

What takes long is a job: its request begins it and answers {job, kind, db, running, step, result: map or nil, error: [code, name, message,
fields] or nil}; BackupJob asks on. It goes on when nobody asks any more.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw

from .request import ABSENT, Name, Natural, Request

PATH_CHARS_MAX = 4_096
BACKUP_IDS_MAX = 1_000  # of one ReadBackup
RESTORE_WAIT_MS_MAX = 86_400_000


class Backup(Request, tag="backup"):
    """Back up a database of this node now. A job; its result is the backup, as in ListBackups. incremental: only bytes that no earlier backup
    holds; `kind` says whether there was one to stand on."""

    db: Name
    incremental: bool = False


class ListBackups(Request, tag="listbackups"):
    """Newest first; with safety the snapshots made before restores instead. Answer: {backups: [{name, path, created_at, size_bytes, files,
    database, epoch, seq, state_hash, verified: {at, level, good, first} or nil, kind: "full" or "incremental", base, needs: [name, ...],
    written_bytes}, or {name, path, verified, problem}, ...]}; each has needed_by: [name, ...] too, and
    sound: false also for one that needs another which is not."""

    db: Name
    safety: bool = False


class BackupStatus(Request, tag="backupstatus"):
    """Answer: {enabled, interval_minutes, max_copies, backup_path, last_backup, next_backup_at, total_backups, running, last_proven,
    last_failure, safety_snapshots, full_every}."""

    db: Name


class DeleteBackup(Request, tag="deletebackup"):
    """Delete a backup, or a safety snapshot, from this node's shelf; with_dependents also those that need it, which refuse it otherwise
    (BackupNeeded). Answer: {deleted: [name, ...]}."""

    db: Name
    name: Name
    with_dependents: bool = False


class VerifyBackup(Request, tag="verifybackup"):
    """Hold a backup against what it should be. A job; result: {good, level, findings: [{severity, file, offset, what, next_step}, ...],
    findings_left_out}."""

    db: Name
    name: Name
    level: Literal["manifest", "bytes", "content"] = "content"


class RestoreBackup(Request, tag="restorebackup"):
    """On the primary: put a backup in the place of its database, for the whole cluster; with new_name beside it, under that name. wait_ms:
    for the standbys to reach it, at most RESTORE_WAIT_MS_MAX.

    A job; result: {db, backup, safety, salvaged, epoch, seq, state_hash, seconds, standbys: {equal, hash, seq, nodes: {node: hash}, missing: {node: why}}
    or nil when nothing was waited for, time_us: of the last commit when it was carried forward}.

    to: "" restores the backup as it is; "latest", "seq" or "time" carry it forward by the log archive, to `at` (a commit, or microseconds since 1970);
    then name may be "", for the newest backup that leads there. explain: answer what would be done, and do nothing: {db, backup, from_seq, epoch, seq, time_us,
    commits, bytes, files, undone: commits after it that the database has now, backup_bytes, seconds: about how long the primary is busy, from a sample, or nil}.
    """

    db: Name
    name: Name
    new_name: Name = ""
    wait_ms: Natural = 60_000
    to: Literal["", "latest", "seq", "time"] = ""
    at: Natural = 0
    explain: bool = False


class ScheduleBackups(Request, tag="schedulebackups"):
    """On the primary: how a database is backed up by itself, from now on and on whichever node is primary. path "": the default.
    full_every: of so many backups one is full, the others incremental; 1: every one is full. Answer: as BackupStatus."""

    db: Name
    enabled: bool
    interval_minutes: Natural
    max_copies: Natural = 0
    path: Annotated[str, Meta(max_length=PATH_CHARS_MAX)] = ""
    full_every: Natural = 1


class BackupCollections(Request, tag="backupcollections"):
    """What a backup on this node's shelf holds. Answer: {collections: [[name, documents], ...]}."""

    db: Name
    name: Name


class ReadBackup(Request, tag="readbackup"):
    """A page of a backup's documents, without restoring it. With ids those, by the primary index; else all that match the filter, shard by shard in order
    of writing. limit 0: as many as a page takes. after: `next` of the page before. Answer: {docs: [...], next: [shard, location] or nil}."""

    db: Name
    name: Name
    collection: Name
    filter: Raw = ABSENT
    ids: Annotated[list[Raw], Meta(max_length=BACKUP_IDS_MAX)] | None = None
    after: Annotated[list[Natural], Meta(min_length=2, max_length=2)] | None = None
    limit: Natural = 0


class PruneArchive(Request, tag="prunearchive"):
    """On the primary: remove what of a database's log archive no backup on its shelf needs; dry_run: only say what. A job; result: {files, bytes, seq,
    needed_by, why_not}."""

    db: Name
    dry_run: bool = False


class BackupJob(Request, tag="backupjob"):
    """Answer for a job when it has ended, or after wait_ms (at most SCRUB_WAIT_MS_MAX)."""

    job: Natural
    wait_ms: Natural = 0
