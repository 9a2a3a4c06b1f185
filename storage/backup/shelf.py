"""A shelf: the directory that holds the backups of one database. What is there, and what may go. Blocking.

The default is `_backups/<database>` below the data directory; another path may be configured. Safety snapshots (made before a restore) lie on the
same shelf; they are never listed with backups nor rotated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..disk import Disk
from ..errors import DamagedRecord, NewerFormat, NoSuchBackup
from .copying import other_disk
from .manifest import Manifest
from .names import check_name, is_backup, is_safety, order
from .verifying import read_manifest

BACKUPS = "_backups"


@dataclass(frozen=True, slots=True)
class Shelf:
    """root: an absolute directory, or "" for the engine's own disk; directory: below it."""

    root: str
    directory: str

    @classmethod
    def of(cls, database: str, path: str = "") -> Shelf:
        """path: a directory that was configured; empty for the default."""
        return cls(path, ".") if path else cls("", f"{BACKUPS}/{database}")

    def path(self, name: str) -> str:
        """Raises BadName for what is no backup's name."""
        return f"{self.directory}/{check_name(name)}"


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """One backup as its manifest tells it; manifest None when that cannot be read, `problem` says why."""

    name: str
    manifest: Manifest | None
    problem: str = ""

    def as_dict(self, shelf: Shelf) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "path": f"{shelf.root or ''}{'/' if shelf.root else ''}{shelf.directory}/{self.name}"}
        if self.manifest is None:
            return found | {"problem": self.problem}
        held = self.manifest
        return found | {
            "created_at": held.created_at, "size_bytes": held.total_size, "database": held.db_name,
            "epoch": held.position.epoch, "seq": held.position.seq, "state_hash": held.state_hash,
        }  # fmt: skip


def list_backups(disk: Disk, shelf: Shelf, *, safety: bool = False) -> list[BackupInfo]:
    """Backups, newest first; with safety the snapshots made before restores instead."""
    on = other_disk(disk, shelf.root)
    wanted = is_safety if safety else is_backup
    names = sorted(filter(wanted, on.list_dir(shelf.directory)), key=order, reverse=True)
    return [_info(on, shelf, name) for name in names]


def _info(on: Disk, shelf: Shelf, name: str) -> BackupInfo:
    try:
        return BackupInfo(name, read_manifest(on, shelf.path(name)))
    except (DamagedRecord, NewerFormat, OSError) as error:
        return BackupInfo(name, None, str(error))


def delete_backup(disk: Disk, shelf: Shelf, name: str) -> None:
    """Raises BadName for a name that is none of a backup, NoSuchBackup."""
    on, path = other_disk(disk, shelf.root), shelf.path(name)
    if not on.exists(path):
        raise NoSuchBackup(f"there is no backup {name!r} in {shelf.directory}; list them")
    on.remove_tree(path)
    on.sync_dir(shelf.directory)


def rotate(disk: Disk, shelf: Shelf, keep: int) -> list[str]:
    """Delete the oldest beyond keep (0: none goes). Backups whose manifest cannot be read count for nothing, are left alone and never keep a
    sound one out: so the last good one always stays. Returns the names of what went."""
    if keep <= 0:
        return []
    sound = [info.name for info in list_backups(disk, shelf) if info.manifest is not None]
    gone = sound[max(1, keep) :]
    for name in gone:
        delete_backup(disk, shelf, name)
    return gone
