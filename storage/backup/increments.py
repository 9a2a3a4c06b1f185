"""What an earlier backup holds already of a file that is about to be copied. Blocking.

    source ── read, hashed part by part against the base's manifest ──> the parts that are the same ── the rest is copied

Equality is proven by the SHA-256 of each part, over what the source holds now; names and sizes only say where to look. The base's files are not read:
that they are still what they were is for verification to find out, and then every backup that needs them is unsound.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from ..disk import Disk, File
from ..errors import DamagedRecord, NewerFormat
from .manifest import Manifest
from .parts import PARTS_MAX, Parts, held_by
from .verifying import Level, read_manifest, verify_backup

CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Base:
    """The backup that a new one is compared with, and where it is."""

    name: str
    manifest: Manifest

    def parts_of(self, file: str) -> Parts:
        """What it holds of a file of that name, as a neighbour has to name it; nothing where one more part would be too many."""
        if file not in self.manifest.sizes:
            return ()
        parts = held_by(self.name, self.manifest.parts_of(file))
        return parts if len(parts) < PARTS_MAX else ()


def open_base(disk: Disk, shelf: str, names: tuple[str, ...], uuid: str) -> Base | None:
    """The first of these backups that is one of the same database and has all its files with their sizes; None when none has."""
    for name in names:
        directory = f"{shelf}/{name}"
        try:
            if any(verify_backup(disk, directory, Level.MANIFEST)):
                continue
            manifest = read_manifest(disk, directory)
        except (DamagedRecord, NewerFormat, OSError):
            continue
        if manifest.uuid == uuid:
            return Base(name, manifest)
    return None


@dataclass(slots=True)
class Common:
    """What source and base have in common from the beginning on: parts, bytes, and the SHA-256 state after them."""

    parts: Parts = ()
    length: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


def common_parts(source: File, length: int, parts: Parts, bytes_per_s: int = 0) -> Common:
    """The longest run of parts, from the first on, that the first length bytes of source begin with. bytes_per_s: read no faster; 0: no limit."""
    found = Common()
    for part in parts:
        if found.length + part.length > length:
            break
        own = hashlib.sha256()
        whole = found.digest.copy() if found.length else own  # the first part, mostly nearly all of the file, is hashed once
        for offset in range(found.length, found.length + part.length, CHUNK_BYTES):
            chunk = source.read_at(offset, min(CHUNK_BYTES, found.length + part.length - offset))
            own.update(chunk)
            if whole is not own:
                whole.update(chunk)
            if bytes_per_s:
                time.sleep(len(chunk) / bytes_per_s)
        if own.hexdigest() != part.sha256:
            break
        found = Common((*found.parts, part), found.length + part.length, whole)
    return found
