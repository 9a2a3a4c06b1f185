"""`_manifest.json`: what a backup holds, with what every byte of it can be checked. Pure.

The reference's fields, and after them what makes it provable:

    version      1                                   checksums   {file: SHA-256 in hex}, as sha256sum prints them
    db_name      whose database                      sizes       {file: bytes}
    created_at   RFC 3339, UTC                       uuid        the database's
    file_count   without the manifest itself         epoch, seq, chain   the position, and the chain there
    total_size   bytes of those files                state_hash  of the content at that position (INV-6)
    files        their names, sorted                 manifest_checksum   BLAKE2b-256 of the same JSON without this field

An incremental backup is of version 2 and says besides, before its manifest_checksum, where the bytes are that it did not write (parts.py):

    base         the backup that it was compared with
    parts        {file: [[backup or "", offset, length, SHA-256], ...]}, in the order of the file; an empty file has none

Sizes, checksums and total_size stay those of the whole files: what a restore comes to. A full backup is of version 1, whose files are all its own.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import DamagedRecord, NewerFormat
from ..position import Position
from .names import is_backup
from .parts import Parts, needed_backups, own_length, own_parts, parse_parts

FILE = "_manifest.json"
FULL, INCREMENTAL = 1, 2  # versions
VERSION = INCREMENTAL  # the newest that is known
FILES_MAX = 1_000_000
_SEAL = "manifest_checksum"
_HASH = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One backup. sizes and checksums have the same keys: paths relative to the backup's directory. parts: of an incremental one, with the same
    keys; base: what it was compared with, "" for a full one."""

    db_name: str
    created_at: str
    sizes: Mapping[str, int]
    checksums: Mapping[str, str]
    uuid: str
    position: Position
    chain: int
    state_hash: str
    base: str = ""
    parts: Mapping[str, Parts] = field(default_factory=dict)

    @property
    def total_size(self) -> int:
        return sum(self.sizes.values())

    @property
    def is_incremental(self) -> bool:
        return bool(self.base)

    @property
    def kind(self) -> str:
        return "incremental" if self.is_incremental else "full"

    @property
    def needs(self) -> tuple[str, ...]:
        """The other backups of its shelf that hold bytes of it."""
        return needed_backups(self.parts)

    @property
    def own_sizes(self) -> dict[str, int]:
        """The files that lie in the backup's own directory, with what is there of them."""
        if not self.is_incremental:
            return dict(self.sizes)
        return {name: length for name, parts in self.parts.items() if (length := own_length(parts))}

    @property
    def written_bytes(self) -> int:
        return sum(self.own_sizes.values())

    def parts_of(self, name: str) -> Parts:
        """Raises KeyError for a file that it does not have."""
        return self.parts[name] if self.is_incremental else own_parts(self.sizes[name], self.checksums[name])


def encode(manifest: Manifest) -> bytes:
    fields: dict[str, Any] = {
        "version": INCREMENTAL if manifest.is_incremental else FULL,
        "db_name": manifest.db_name,
        "created_at": manifest.created_at,
        "file_count": len(manifest.sizes),
        "total_size": manifest.total_size,
        "files": sorted(manifest.sizes),
        "sizes": dict(manifest.sizes),
        "checksums": dict(manifest.checksums),
        "uuid": manifest.uuid,
        "epoch": manifest.position.epoch,
        "seq": manifest.position.seq,
        "chain": f"{manifest.chain:016x}",
        "state_hash": manifest.state_hash,
    }
    if manifest.is_incremental:
        fields["base"] = manifest.base
        fields["parts"] = {name: [list(part) for part in parts] for name, parts in manifest.parts.items()}
    fields[_SEAL] = _seal(fields)
    return json.dumps(fields, indent=2).encode() + b"\n"


def parse(data: bytes, where: str) -> Manifest:
    """Raises DamagedRecord for one that is not whole or contradicts itself, NewerFormat. where: for the message."""
    try:
        fields = json.loads(data)
        seal = fields.pop(_SEAL)
        version = fields["version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _wrong(where, f"not a manifest ({error})") from error
    if isinstance(version, int) and version > VERSION:
        raise NewerFormat(f"{where}: version {version}, this program knows {VERSION}: use a newer one")
    if seal != _seal(fields):
        raise _wrong(where, "its checksum is not that of its content")
    try:
        manifest = Manifest(
            db_name=fields["db_name"],
            created_at=fields["created_at"],
            sizes={str(name): int(size) for name, size in fields["sizes"].items()},
            checksums=dict(fields["checksums"]),
            uuid=fields["uuid"],
            position=Position(fields["epoch"], fields["seq"]),
            chain=int(fields["chain"], 16),
            state_hash=fields["state_hash"],
            **_parsed_parts(fields),
        )
        names = sorted(manifest.sizes)
        if names != fields["files"] or len(names) != fields["file_count"] or manifest.total_size != fields["total_size"]:
            raise ValueError("files, sizes and counts differ")
        if manifest.checksums.keys() != manifest.sizes.keys() or not all(map(_HASH.match, manifest.checksums.values())):
            raise ValueError("a file has no checksum")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _wrong(where, f"it contradicts itself ({error})") from error
    for name in names:
        check_path(name, where)
    if encode(manifest) != data:
        raise _wrong(where, "it is not written as this program writes it")
    return manifest


def _parsed_parts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What version 2 has besides. Raises ValueError, KeyError, TypeError."""
    if fields["version"] == FULL:
        return {}
    base, parts, sizes = fields["base"], fields["parts"], fields["sizes"]
    if not isinstance(base, str) or not is_backup(base):
        raise ValueError(f"its base {str(base)[:80]!r} is no backup's name")
    if parts.keys() != sizes.keys():
        raise ValueError("parts and sizes are of different files")
    return {"base": base, "parts": {name: parse_parts(name, rows, sizes[name]) for name, rows in parts.items()}}


def check_path(name: str, where: str) -> None:
    """Raises DamagedRecord for a file's name that leads out of the backup."""
    if name != posixpath.normpath(name) or name.startswith(("/", "..")) or "\\" in name or "\0" in name or name == FILE:
        raise _wrong(where, f"it names the file {name[:80]!r}, which is none of a backup's")


def _seal(fields: Mapping[str, Any]) -> str:
    plain = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(plain, digest_size=32).hexdigest()


def _wrong(where: str, what: str) -> DamagedRecord:
    return DamagedRecord(f"{where}: {what}; this backup cannot be restored, choose another", file=where, offset=0)
