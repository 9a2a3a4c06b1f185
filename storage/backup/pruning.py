"""What of a log archive no backup on the shelf needs any more, and its removal. Blocking.

    shelf: kept backups and safety snapshots ── the lowest commit of them ──> archive files that end at or before it go

A backup at commit s needs, on whichever branch of the history it is, commits after s alone; so what ends at or before the lowest one is needed by none,
whatever reign wrote it. Files go oldest first: one that is cut off leaves an archive that begins later and has no gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..disk import Disk
from . import log_archive
from .copying import other_disk
from .dependents import sound_names
from .shelf import BackupInfo


@dataclass(frozen=True, slots=True)
class Needed:
    """The archive is needed after commit seq, by this backup. sound: how many backups of the database could be restored."""

    seq: int
    name: str
    sound: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What went, or would go: files that held commits up to seq, since `needed_by` is the oldest that is kept. why_not: nothing may go."""

    files: int = 0
    bytes: int = 0
    seq: int = 0
    needed_by: str = ""
    why_not: str = ""

    def as_plain(self) -> dict[str, Any]:
        return asdict(self)


def still_needed(backups: Sequence[BackupInfo], snapshots: Sequence[BackupInfo], uuid: str) -> Needed | str:
    """From where on the archive of the database with that UUID is needed; or why that cannot be said. Whatever stands on the shelf and can be read counts,
    also what was found wanting: it may be mended."""
    if newer := [info.name for info in (*backups, *snapshots) if info.is_newer]:
        return f"{newer[0]} was made by a newer program: who knows what it needs"
    mine = [info for info in (*backups, *snapshots) if info.manifest is not None and info.manifest.uuid == uuid]
    sound = set(sound_names(backups)) & {info.name for info in mine}
    if not sound:
        return "there is no sound backup of this database on the shelf: the log archive is all that there is"
    lowest = min(mine, key=lambda info: info.manifest.position.seq if info.manifest is not None else 0)
    assert lowest.manifest is not None, "it was chosen among those that can be read"
    return Needed(lowest.manifest.position.seq, lowest.name, len(sound))


def prune_archive(disk: Disk, root: str, directory: str, uuid: str, needed: Needed, *, dry_run: bool) -> Pruned:
    """root and directory: the archive's. Raises OSError."""
    archive = other_disk(disk, root)
    paths = log_archive.unneeded(archive, directory, bytes.fromhex(uuid), needed.seq)
    size = sum(archive.size(path) for path in paths)
    if not dry_run:
        log_archive.remove(archive, directory, paths)
    return Pruned(files=len(paths), bytes=size, seq=needed.seq, needed_by=needed.name)
