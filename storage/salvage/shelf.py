"""Everything that was set aside in a data directory: listed, read by pages, marked as applied, removed on order. Blocking.

    <db>/salvage/rewound-*/                 rewind     what entry.py describes
    <db>/salvage/rewound-*.log              log        a segment that an older program cut
    <db>/salvage/torn-*.bin, torn-*.N.log   torn       the end of a log that recovery cut
    <db>/salvage/<shard log>-<offset>.bin   repaired   damaged bytes that a repair wrote over
    _salvage/<db>-<time>/                   replaced   a database whose place a copy took
    _salvage/role-*.json                    role       the role of the node that a copied directory was
    _dropped/<db>-<uuid>-<time>/            dropped    a database that its primary dropped

An entry's name is its path. Nothing here is removed unless somebody asks for it by that name. Works on a data directory that no node has
open, too. Knows files; what the entries mean for a database that is open is standing.py's.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import identity as identities
from ..disk import Disk, File
from ..errors import BadDocument, BadRequest, DamagedRecord, NewerFormat
from .entry import (
    APPLIED,
    DIRECTORY,
    MANIFEST,
    PARTS,
    STAGING,
    Line,
    Manifest,
    decode_line,
    decode_manifest,
)

REPLACED, DROPPED = "_salvage", "_dropped"
PAGE_ROWS_MAX = 1_000
PAGE_BYTES_MAX = 4 * 2**20  # of lines in a page, but always one
READ_BYTES = 2**20
GOING = "going-"  # a directory that is being removed; a crash leaves it, and its removal is asked for by that name
APPLIED_MAX = 1_000  # times remembered in an entry; the oldest go
_TORN = re.compile(r"(torn-\d+)(?:~\d+)?\.")
_TIME = re.compile(r"-(\d{13,})$")


@dataclass(slots=True)
class Entry:
    """One thing that was set aside. manifest: of a rewind, None if it cannot be read (`problem` says why); applied: oldest first."""

    name: str
    kind: str
    database: str
    bytes: int
    files: list[str]
    made_us: int = 0
    manifest: Manifest | None = None
    applied: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    def as_plain(self, *, ids: bool) -> dict[str, Any]:
        """Values for JSON and MessagePack. ids: with the lists of ids, which may be long."""
        values = asdict(self)
        if not ids and self.manifest is not None:
            for cut in values["manifest"]["collections"].values():
                del cut["written_ids"], cut["deleted_ids"]
        return values


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines of an entry. next_offset: where the following page begins; None at the end."""

    lines: list[Line]
    next_offset: int | None


def entries(disk: Disk) -> list[Entry]:
    """All of them, by name. What stands in a directory that was replaced or dropped is listed beside it, and not in its bytes."""
    found: list[Entry] = []
    for database in disk.list_dir(""):
        if disk.exists(f"{database}/{identities.FILE}"):
            found += _of_database(disk, database, database)
    for kind, place in (("replaced", REPLACED), ("dropped", DROPPED)):
        for name in disk.list_dir(place):
            found += _set_aside(disk, f"{place}/{name}", name, kind)
    return sorted(found, key=lambda entry: entry.name)


def _set_aside(disk: Disk, path: str, name: str, kind: str) -> list[Entry]:
    """A directory below _salvage or _dropped, and what was salvaged in it."""
    size = sum(length for _, length in _files(disk, path))
    if _is_file(disk, path):
        return [Entry(path, "role" if name.startswith("role-") else kind, "", size, [path])]
    stem, time = name.removeprefix(GOING), _TIME.search(name)
    database = stem.rpartition("-")[0] if kind == "replaced" else stem.rpartition("-")[0].rpartition("-")[0]
    within = _of_database(disk, path, database)
    whole = Entry(path, kind, database, size - sum(entry.bytes for entry in within), [path], int(time[1]) if time else 0)
    return [whole, *within]


def totals(disk: Disk) -> tuple[int, int]:
    """How many entries there are, and their bytes."""
    found = entries(disk)
    return len(found), sum(entry.bytes for entry in found)


def entry_of(disk: Disk, name: str) -> Entry:
    """By its whole name. Raises BadRequest when there is none."""
    for entry in entries(disk):
        if entry.name == name:
            return entry
    raise BadRequest(f"there is no salvage entry {name!r} here; `twinlog salvage list` shows those of every node")


def page(disk: Disk, name: str, part: str, offset: int, rows_max: int) -> tuple[Entry, Page]:
    """Lines of one part of a rewind's entry from an offset that a page before gave (0: the first). Raises BadRequest."""
    entry = entry_of(disk, name)
    if part not in PARTS:
        raise BadRequest(f"an entry has no part {part!r}; there are {', '.join(PARTS)}")
    if entry.kind != "rewind":
        raise BadRequest(f"{name} is of kind {entry.kind}: only what a rewind cut has lines; docs/operations.md says what to do with the others")
    path = f"{name}/{PARTS[part]}"
    if not disk.exists(path):
        return entry, Page([], None)
    file = disk.open_read(path)
    try:
        return entry, _read_page(file, path, offset, min(max(1, rows_max), PAGE_ROWS_MAX))
    finally:
        file.close()


def _read_page(file: File, path: str, offset: int, rows_max: int) -> Page:
    lines: list[Line] = []
    if not 0 <= offset <= file.size:
        raise BadRequest(f"{path} has {file.size} bytes: no page begins at {offset}")
    at = offset
    for after, text in _texts(file, offset):
        try:
            line = decode_line(text)
        except BadDocument as error:
            raise DamagedRecord(f"{path} at offset {at}: {error.message}; log/ beside it has the commits", file=path, offset=at) from error
        if lines and after - offset > PAGE_BYTES_MAX:
            break
        at = after
        if line is not None:
            lines.append(line)
        if len(lines) == rows_max:
            break
    return Page(lines, at if at < file.size else None)


def _texts(file: File, offset: int) -> Iterator[tuple[int, bytes]]:
    """(the offset after it, a line) from there on."""
    read, rest = offset, b""
    while chunk := file.read_at(read, READ_BYTES):
        read += len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        for text in whole:
            offset += len(text) + 1
            yield offset, text


def note_applied(disk: Disk, name: str, facts: dict[str, Any]) -> None:
    """Remember that an entry was put back: when, how, and what came of it."""
    entry = entry_of(disk, name)
    if entry.kind != "rewind":
        raise BadRequest(f"{name} is of kind {entry.kind}: only what a rewind cut can be applied")
    disk.replace_file(f"{name}/{APPLIED}", json.dumps([*entry.applied, facts][-APPLIED_MAX:]).encode())


def drop(disk: Disk, name: str) -> Entry:
    """Remove an entry for good. A directory loses its name first, so that a crash in between leaves nothing that looks whole."""
    entry = entry_of(disk, name)
    within = [other.name for other in entries(disk) if other.name.startswith(f"{name}/")]
    if within:
        raise BadRequest(f"{name} holds {len(within)} salvage entries of its own, such as {within[0]}: drop those first")
    for path in entry.files:
        parent = posixpath.dirname(path)
        if _is_file(disk, path):
            disk.remove(path)
        else:
            going = f"{parent}/{GOING}{posixpath.basename(path)}"
            disk.rename(path, going)
            disk.sync_dir(parent)
            disk.remove_tree(going)
        disk.sync_dir(parent)
    return entry


def _of_database(disk: Disk, directory: str, database: str) -> list[Entry]:
    place = f"{directory}/{DIRECTORY}"
    found: dict[str, Entry] = {}
    for file in disk.list_dir(place):
        path = f"{place}/{file}"
        if file == STAGING or file.endswith(".tmp"):
            continue
        size = sum(length for _, length in _files(disk, path))
        if not _is_file(disk, path):
            found[path] = _of_rewind(disk, database, path, size)
            continue
        torn = _TORN.match(file)
        kind = "torn" if torn else "log" if file.startswith("rewound-") else "repaired"
        name = f"{place}/{torn[1]}" if torn else path
        entry = found.setdefault(name, Entry(name, kind, database, 0, []))
        entry.bytes += size
        entry.files.append(path)
    return list(found.values())


def _of_rewind(disk: Disk, database: str, path: str, size: int) -> Entry:
    entry = Entry(path, "rewind", database, size, [path])
    try:
        entry.manifest = decode_manifest(disk.read_file(f"{path}/{MANIFEST}"), f"{path}/{MANIFEST}")
        entry.made_us = entry.manifest.cut_us
        if disk.exists(f"{path}/{APPLIED}"):
            entry.applied = json.loads(disk.read_file(f"{path}/{APPLIED}"))
    except (OSError, ValueError, DamagedRecord, NewerFormat) as error:
        entry.problem = str(error)
    return entry


def _files(disk: Disk, path: str) -> Iterator[tuple[str, int]]:
    """Every file at or below a path, with its size."""
    if _is_file(disk, path):
        yield path, disk.size(path)
        return
    for name in disk.list_dir(path):
        yield from _files(disk, f"{path}/{name}")


def _is_file(disk: Disk, path: str) -> bool:
    try:
        disk.list_dir(path)
    except NotADirectoryError:
        return True
    return False
