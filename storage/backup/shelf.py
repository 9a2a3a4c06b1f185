"""A shelf: the directory that holds the backups of one database. What is there, and what may go. Blocking.

The default is `_backups/<database>` below the data directory; another path may be configured. Safety snapshots (made before a restore) lie on the
same shelf; they are never listed with backups nor rotated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ..disk import Disk
from ..errors import BackupNeeded, DamagedRecord, NewerFormat, NoSuchBackup
from ..names import check_database_name
from . import places, unfinished
from .copying import other_disk
from .dependents import Rotation, dependents_of, rotation_of, sound_names
from .manifest import Manifest
from .names import PART, check_name, is_backup, is_safety, order
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
    """One backup as its manifest tells it; manifest None when that cannot be read, `problem` says why; is_newer: a newer program wrote it."""

    name: str
    manifest: Manifest | None
    problem: str = ""
    proof: Proof | None = None
    is_newer: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The other backups that hold bytes of it, as far as can be known."""
        return self.manifest.needs if self.manifest is not None else ()

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
            "kind": held.kind, "base": held.base, "needs": list(held.needs), "written_bytes": held.written_bytes,
        }  # fmt: skip


def as_dicts(infos: Sequence[BackupInfo], shelf: Shelf) -> list[dict[str, Any]]:
    """A listing as plain values, each with those that need it, and whether it is sound as far as is known."""
    sound = set(sound_names(infos))
    return [info.as_dict(shelf) | {"needed_by": dependents_of(infos, info.name), "sound": info.name in sound} for info in infos]


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
        return BackupInfo(name, None, str(error), proof, isinstance(error, NewerFormat))


def delete_with_dependents(disk: Disk, shelf: Shelf, name: str, also: Collection[str] = ()) -> list[str]:
    """Delete a backup, and before it those that need it, which must be named in `also`. Returns what went, newest first. Raises BadName, NoSuchBackup,
    BackupNeeded naming those that need it."""
    shelf.path(name)
    others = dependents_of(list_backups(disk, shelf), name)
    if unnamed := [one for one in others if one not in also]:
        raise BackupNeeded(
            f"{name} holds bytes that {', '.join(unnamed)} need{'s' if len(unnamed) == 1 else ''}: delete those first, or all together (`--with-dependents`)",
            needed_by=unnamed,
        )
    gone = [*others, name]
    for one in gone:
        delete_backup(disk, shelf, one)
    return gone


def delete_backup(disk: Disk, shelf: Shelf, name: str) -> None:
    """Whether others need it is not asked. Raises BadName for a name that is none of a backup, NoSuchBackup."""
    on, path = other_disk(disk, shelf.root), shelf.path(name)
    if not on.exists(path):
        raise NoSuchBackup(f"there is no backup {name!r} in {shelf.directory}; list them")
    if places.renames_directories(on):  # under a name that is no backup's first: what is left of one that was cut off is never listed, and the next backup clears it
        gone = f"{path}{PART}"
        if on.exists(gone):
            on.remove_tree(gone)
        on.rename(path, gone)
        on.sync_dir(shelf.directory)
        path = gone
    on.remove_tree(path)
    on.sync_dir(shelf.directory)


def rotate(disk: Disk, shelf: Shelf, keep: int, spared: Collection[str] = ()) -> Rotation:
    """Delete the oldest beyond keep (0: none goes), but for those that are spared and those that any backup which stays needs. Backups whose
    manifest cannot be read, and those that were found wanting, count for nothing, are left alone and never keep a sound one out: so the
    last good one always stays."""
    rotation = rotation_of(list_backups(disk, shelf) if keep > 0 else [], keep, spared)
    for name in rotation.gone:
        delete_backup(disk, shelf, name)
    return rotation
