"""Which backups of a shelf need which: what may go, what must stay, what a new one may stand on. Pure decisions over a listing, newest first.

    backup_A (full)  <── backup_B (incremental)  <── backup_C, which holds bytes of A and B

A backup is sound when its manifest can be read, nothing was found wanting in it, and all that it needs is there and sound. Whoever needs another is newer
than that one: going from the newest to the oldest, no backup ever stands without what it needs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .shelf import BackupInfo


def dependents_of(infos: Sequence[BackupInfo], name: str) -> list[str]:
    """Those that hold a reference to it, newest first."""
    return [info.name for info in infos if name in info.needs]


def sound_names(infos: Sequence[BackupInfo]) -> list[str]:
    """Newest first."""
    good = {info.name for info in infos if info.manifest is not None and not (info.proof and info.proof.findings)}
    return [info.name for info in infos if info.name in good and good.issuperset(info.needs)]


class Rotation(NamedTuple):
    """What goes, and what would go if no backup that stays needed it; each newest first."""

    gone: list[str]
    needed: list[str]


def rotation_of(infos: Sequence[BackupInfo], keep: int, spared: Collection[str] = ()) -> Rotation:
    """Of all beyond the newest `keep` sound ones (0: of none). Whatever stays, for whichever reason, keeps what it needs. Where a newer program
    has left a backup, nobody here knows what that needs: then nothing goes."""
    if keep <= 0:
        return Rotation([], [])
    beyond = {name for name in sound_names(infos)[max(1, keep) :] if name not in spared}
    if any(info.is_newer for info in infos):
        return Rotation([], [info.name for info in infos if info.name in beyond])
    needed = {name for info in infos if info.name not in beyond for name in info.needs}
    return Rotation(*([info.name for info in infos if info.name in some] for some in (beyond - needed, beyond & needed)))


def bases(infos: Sequence[BackupInfo]) -> tuple[str, ...]:
    """What a new incremental backup may stand on, the one to be preferred first."""
    return tuple(sound_names(infos))


def incrementals_in_a_row(infos: Sequence[BackupInfo]) -> int | None:
    """How many were made since the newest full one that is sound; None when there is none."""
    sound = set(sound_names(infos))
    count = 0
    for info in infos:
        if info.manifest is not None and info.name in sound:
            if not info.manifest.is_incremental:
                return count
            count += 1
    return None
