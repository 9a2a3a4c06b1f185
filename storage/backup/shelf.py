"""A shelf: the directory that holds the backups of one database. What is there, and what may go. Blocking.

The default is `_backups/<database>` below the data directory; another path may be configured. Safety snapshots (made before a restore) lie on the
same shelf; they are never listed with backups nor rotated.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..disk import Disk
from ..errors import DamagedRecord, NewerFormat, NoSuchBackup
from ..names import check_database_name
from . import places, unfinished
from .copying import other_disk
from .manifest import Manifest
from .names import check_name, is_backup, is_safety, order
from .proofs import Proof, read_proofs
from .verifying import read_manifest

BACKUPS = "_backups"


@dataclass(frozen=True, slots=True)
class Shelf:
    """root: as places.py has them; directory: below it."""

    root: str
    directory: str

    @classmethod
    def of(cls, database: str, path: str = "", *, common: str = "", key_file: str = "") -> Shelf:
        """path: a place that was configured for this database, or common: for all of them; empty for the default. key_file: with which it is encrypted. Raises
        BadName: a database's name is part of a path here."""
        check_database_name(database)
        root, directory = (path, ".") if path else (common, database) if common else ("", f"{BACKUPS}/{database}")
        return cls(places.sealed(root, key_file), directory)

    @property
    def shown(self) -> str:
        """For people: as it was configured, or from the data directory."""
        root = places.plain(self.root)
        return self.directory if not root else root if self.directory == "." else places.below(root, self.directory)

    def path(self, name: str) -> str:
        """Raises BadName for what is no backup's name."""
        return f"{self.directory}/{check_name(name)}"


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """One backup as its manifest tells it; manifest None when that cannot be read, `problem` says why."""

    name: str
    manifest: Manifest | None
    problem: str = ""
    proof: Proof | None = None

    def as_dict(self, shelf: Shelf) -> dict[str, Any]:
        """The reference's fields (name, path, created_at, size_bytes) and what makes it provable."""
        proof = None if self.proof is None else {"at": self.proof.at, "level": self.proof.level, "good": self.proof.is_good, "first": self.proof.first}
        found: dict[str, Any] = {"name": self.name, "path": places.below(shelf.shown, self.name), "verified": proof}
        if self.manifest is None:
            return found | {"problem": self.problem}
        held = self.manifest
        return found | {
            "created_at": held.created_at, "size_bytes": held.total_size, "files": len(held.sizes), "database": held.db_name,
            "epoch": held.position.epoch, "seq": held.position.seq, "state_hash": held.state_hash,
        }  # fmt: skip


def list_backups(disk: Disk, shelf: Shelf, *, safety: bool = False) -> list[BackupInfo]:
    """Backups, newest first; with safety the snapshots made before restores instead."""
    on = other_disk(disk, shelf.root)
    wanted = is_safety if safety else is_backup
    names = sorted(filter(wanted, unfinished.finished(on, shelf.directory, on.list_dir(shelf.directory))), key=order, reverse=True)
    proofs = read_proofs(on, shelf.directory) if names else {}
    return [_info(on, shelf, name, proofs.get(name)) for name in names]


def _info(on: Disk, shelf: Shelf, name: str, proof: Proof | None) -> BackupInfo:
    try:
        return BackupInfo(name, read_manifest(on, shelf.path(name)), "", proof)
    except (DamagedRecord, NewerFormat, OSError) as error:
        return BackupInfo(name, None, str(error), proof)


def delete_backup(disk: Disk, shelf: Shelf, name: str) -> None:
    """Raises BadName for a name that is none of a backup, NoSuchBackup."""
    on, path = other_disk(disk, shelf.root), shelf.path(name)
    if not on.exists(path):
        raise NoSuchBackup(f"there is no backup {name!r} in {shelf.directory}; list them")
    on.remove_tree(path)
    on.sync_dir(shelf.directory)


def rotate(disk: Disk, shelf: Shelf, keep: int, spared: Collection[str] = ()) -> list[str]:
    """Delete the oldest beyond keep (0: none goes), but for those that are spared. Backups whose manifest cannot be read, and those that were
    found wanting, count for nothing, are left alone and never keep a sound one out: so the last good one always stays. Returns the names
    of what went."""
    if keep <= 0:
        return []
    sound = [info.name for info in list_backups(disk, shelf) if info.manifest is not None and not (info.proof and info.proof.findings)]
    gone = [name for name in sound[max(1, keep) :] if name not in spared]
    for name in gone:
        delete_backup(disk, shelf, name)
    return gone
