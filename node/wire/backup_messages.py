"""The client port's requests about backups. Pure. Each node has shelves of its own.

What takes long is a job: its request begins it and answers {job, kind, db, running, step, result: map or nil, error: [code, name, message,
fields] or nil}; BackupJob asks on. It goes on when nobody asks any more.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .request import Name, Natural, Request

PATH_CHARS_MAX = 4_096
RESTORE_WAIT_MS_MAX = 86_400_000


class Backup(Request, tag="backup"):
    """Back up a database of this node now. A job; its result is the backup, as in ListBackups."""

    db: Name


class ListBackups(Request, tag="listbackups"):
    """Newest first; with safety the snapshots made before restores instead. Answer: {backups: [{name, path, created_at, size_bytes, files,
    database, epoch, seq, state_hash, verified: {at, level, good, first} or nil}, or {name, path, verified, problem}, ...]}."""

    db: Name
    safety: bool = False


class BackupStatus(Request, tag="backupstatus"):
    """Answer: {enabled, interval_minutes, max_copies, backup_path, last_backup, next_backup_at, total_backups, running, last_proven,
    last_failure, safety_snapshots}."""

    db: Name


class DeleteBackup(Request, tag="deletebackup"):
    """Delete a backup, or a safety snapshot, from this node's shelf. Answer: {}."""

    db: Name
    name: Name


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
    commits, bytes, files, undone: commits after it that the database has now}.
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
    Answer: as BackupStatus."""

    db: Name
    enabled: bool
    interval_minutes: Natural
    max_copies: Natural = 0
    path: Annotated[str, Meta(max_length=PATH_CHARS_MAX)] = ""


class BackupJob(Request, tag="backupjob"):
    """Answer for a job when it has ended, or after wait_ms (at most SCRUB_WAIT_MS_MAX)."""

    job: Natural
    wait_ms: Natural = 0
