"""The parts of a backup's file: which of its bytes lie in this backup and which in an earlier one. Pure.

    shard_000.db, 180 bytes  =  backup_A 0..100  +  backup_B 0..50  +  own 0..30

A part names the backup that physically holds the bytes ("" is the backup itself), where they begin in the file of the same name there, how many
they are, and their SHA-256. So a reference is never followed to another reference, each part can be checked alone where it lies, and a later
backup can tell what it has in common with this one without reading it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .names import is_backup

PARTS_MAX = 1_000  # of one file: one that would have more is written whole again
OWN = ""
_HASH = re.compile(r"[0-9a-f]{64}\Z")


class Part(NamedTuple):
    """backup: that holds it; OWN for the backup that names it. offset: in that backup's file."""

    backup: str
    offset: int
    length: int
    sha256: str


Parts = tuple[Part, ...]


def own_parts(size: int, checksum: str) -> Parts:
    """Of a file that lies whole in its own backup."""
    return (Part(OWN, 0, size, checksum),) if size else ()


def held_by(backup: str, parts: Sequence[Part]) -> Parts:
    """The same parts as another backup of the shelf has to name them."""
    return tuple(part._replace(backup=part.backup or backup) for part in parts)


def own_length(parts: Sequence[Part]) -> int:
    return sum(part.length for part in parts if part.backup == OWN)


def needed_backups(files: Mapping[str, Parts]) -> tuple[str, ...]:
    """The other backups that hold something of these files, oldest name first."""
    return tuple(sorted({part.backup for parts in files.values() for part in parts if part.backup != OWN}))


def parse_parts(name: str, rows: Any, size: int) -> Parts:
    """The parts of one file, from a manifest's JSON. Raises ValueError, TypeError for what cannot be: a name that is no backup's, bytes before the
    beginning, parts that do not add up to the file."""
    parts = tuple(Part(*row) for row in rows)
    if len(parts) > PARTS_MAX:
        raise ValueError(f"{name} has {len(parts)} parts, at most {PARTS_MAX} are allowed")
    own_at = 0
    for part in parts:
        if not isinstance(part.backup, str) or (part.backup != OWN and not is_backup(part.backup)):
            raise ValueError(f"a part of {name} lies in {str(part.backup)[:80]!r}, which is no backup's name")
        if type(part.offset) is not int or type(part.length) is not int or part.offset < 0 or part.length < 1:
            raise ValueError(f"a part of {name} has the impossible place {part.offset!r}, {part.length!r}")
        if not isinstance(part.sha256, str) or not _HASH.match(part.sha256):
            raise ValueError(f"a part of {name} has no checksum")
        if part.backup == OWN:
            if part.offset != own_at:
                raise ValueError(f"the own parts of {name} do not stand one after the other")
            own_at += part.length
    if sum(part.length for part in parts) != size:
        raise ValueError(f"the parts of {name} are not {size} bytes together")
    return parts
