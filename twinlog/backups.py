"""Backups of the blocking database: what a Database has of them. What is asked, and how it is waited for, is backing_up.py's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import backing_up
from .scope import Scope

if TYPE_CHECKING:
    from .client import Client

RESTORE_WAIT_S = 60.0


class Backups:
    """All need the role admin. node: "host:port", by default the primary; every node has a shelf of its own. told: called with each step."""

    if TYPE_CHECKING:
        name: str
        client: Client
        _scope: Scope

    def backup(
        self, node: str | None = None, *, incremental: bool = False, told: backing_up.Told = backing_up.untold
    ) -> dict[str, Any]:
        """Make a backup of everything committed by now, and let go of the oldest beyond max_copies of the schedule. Reads and writes go on.

        incremental: write only bytes that no earlier backup on that shelf holds; it needs those then. Without a sound one it is a full one, as `kind` says.

        Returns {name, path, created_at, size_bytes, files, database, epoch, seq, state_hash, verified, kind, base, needs, written_bytes}.
        """
        return self.client.run(backing_up.back_up(self._scope, self.name, node, told, incremental=incremental))

    def list_backups(self, node: str | None = None, *, safety: bool = False) -> list[dict[str, Any]]:
        """Newest first, each as backup() returns it, and `needed_by`: the incremental ones that need it; with safety the snapshots made before restores instead."""
        return self.client.run(backing_up.list_backups(self._scope, self.name, node, safety=safety))

    def backup_status(self, node: str | None = None) -> dict[str, Any]:
        """enabled, interval_minutes, max_copies, backup_path, last_backup, next_backup_at, total_backups, running; last_proven, last_failure,
        safety_snapshots, full_every."""
        return self.client.run(backing_up.backup_status(self._scope, self.name, node))

    def delete_backup(self, name: str, node: str | None = None, *, with_dependents: bool = False) -> list[str]:
        """Delete a backup or a safety snapshot, with_dependents also the incremental ones that need it. Returns what went. Raises InvalidName,
        OperationFailure (NoSuchBackup; BackupNeeded, whose details name those that need it)."""
        return self.client.run(backing_up.delete_backup(self._scope, self.name, name, node, with_dependents=with_dependents))

    def backup_collections(self, name: str, node: str | None = None) -> dict[str, int]:
        """The collections in a backup, and how many documents each has. Nothing is restored."""
        return self.client.run(backing_up.backup_collections(self._scope, self.name, name, node))

    def backup_documents(
        self,
        name: str,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        *,
        ids: Iterable[Any] | None = None,
        limit: int = 0,
        node: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Documents out of a backup where it lies, page by page; each record is checked, and nothing is restored. ids: those `_id`s, looked up in the
        backup's index, in their order; what is not there is passed over. Else all that match the filter, in no promised order. limit 0: all of them.

        Raises OperationFailure (NoSuchBackup, BadRequest for a collection that it does not have, DamagedRecord naming the file).
        """
        pages = backing_up.BackupPages(self._scope, self.name, name, collection, filter=filter, ids=ids, limit=limit, node=node)
        return self._documents_of(pages)

    def _documents_of(self, pages: backing_up.BackupPages) -> Iterator[dict[str, Any]]:
        while not pages.done:
            yield from self.client.run(pages.next_page())

    def prune_archive(self, *, dry_run: bool = False, told: backing_up.Told = backing_up.untold) -> dict[str, Any]:
        """On the primary: remove what of this database's log archive no backup on its shelf needs; dry_run: only say what. Nothing goes while no
        backup is sound. Returns {files, bytes, seq, needed_by, why_not}."""
        return self.client.run(backing_up.prune_archive(self._scope, self.name, told, dry_run=dry_run))

    def verify_backup(
        self, name: str, node: str | None = None, *, level: str = "content", told: backing_up.Told = backing_up.untold
    ) -> dict[str, Any]:
        """Hold a backup against its manifest: "manifest" its files' names and sizes, "bytes" also their checksums, "content" also every document
        and the state hash that they come to. Returns {good, level, findings, findings_left_out}."""
        return self.client.run(backing_up.verify_backup(self._scope, self.name, name, node, level, told))

    def restore_backup(
        self,
        name: str = "",
        *,
        to: str | int | datetime | None = None,
        explain: bool = False,
        new_name: str = "",
        wait_s: float = RESTORE_WAIT_S,
        told: backing_up.Told = backing_up.untold,
    ) -> dict[str, Any]:
        """Put a backup in the place of this database, on the primary, and so on every node; with new_name beside it, under that name. What is
        there now becomes a safety snapshot. wait_s: for the standbys; 0: do not wait.

        to: carry the backup forward by the log archive (setting `archive`): "latest", the number of a commit, or a datetime (UTC unless it names a
        zone): the last commit at or before it. name "" then takes the newest backup that leads there. explain: do nothing, and return what would be done: {db,
        backup, from_seq, epoch, seq, time_us, commits, bytes, files, undone, backup_bytes, seconds: about how long, from a sample, or None}.

        Returns {db, backup, safety, salvaged, epoch, seq, time_us, state_hash, seconds, standbys}; standbys: {equal, hash, seq, nodes, missing}. Raises
        OperationFailure naming what is wrong with the backup; then nothing was touched.
        """
        plan = backing_up.restore_backup(self._scope, self.name, name, new_name=new_name, wait_s=wait_s, to=to, explain=explain, told=told)
        return self.client.run(plan)

    def schedule_backups(
        self, *, enabled: bool = True, interval_minutes: int = 60, max_copies: int = 0, path: str = "", full_every: int = 1
    ) -> dict[str, Any]:
        """Have this database backed up by itself from now on, by whichever node is primary. max_copies: older ones go, 0 keeps all; path: an
        absolute directory of every node that may be primary, by default `_backups/<db>` below its data; full_every: of so many
        one is full, the others are incremental, 1 makes every one full. Returns backup_status()."""
        plan = backing_up.schedule_backups(
            self._scope, self.name, enabled=enabled, interval_minutes=interval_minutes, max_copies=max_copies, path=path, full_every=full_every
        )
        return self.client.run(plan)
