"""An archive of many files that were put whole, as in a bucket: their beginnings, and their bodies in advance, several requests at once. Blocking.

Each file's name and first bytes say where it begins and what it continues, so where it ends is told by the next one of its reign: an archive of
10,000 objects is surveyed with small requests, several at a time, and only bodies that a restore takes are downloaded, once. A file
before a gap does not end where the next one begins: a mark, an empty file `<first seq after it>.gap`, says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..commit.codec import HEAD_BYTES, Head, decode_head
from ..commit.segment import HEADER_BYTES, SegmentHeader, SegmentName, decode_header
from ..disk import Disk
from ..errors import DamagedRecord

P = TypeVar("P")
R = TypeVar("R")

GAP = ".gap"


@dataclass(frozen=True, slots=True)
class FileHead:
    """What the beginning of a file says; size: of all of it."""

    header: SegmentHeader
    first: Head
    size: int


def read_heads(disk: Disk, directory: str, names: Sequence[SegmentName], uuid: bytes) -> dict[SegmentName, FileHead]:
    """Of those that begin as their names say. Raises OSError."""
    found = ahead(disk, names, lambda name: 0, lambda name: _read_head(disk, f"{directory}/{name}", name, uuid))
    return {name: head for name, head in found if head is not None}


def _read_head(disk: Disk, path: str, name: SegmentName, uuid: bytes) -> FileHead | None:
    try:
        file = disk.open_read(path)
        try:
            data = file.read_at(0, HEADER_BYTES + HEAD_BYTES)
            size = file.size
        finally:
            file.close()
        header, first = decode_header(data, path), decode_head(data, HEADER_BYTES)
    except (DamagedRecord, FileNotFoundError):
        return None
    if header is None or first is None or header.uuid != uuid or first.seq != name.first_seq:
        return None
    return FileHead(header, first, size) if (header.epoch, header.reign_id, header.first_seq) == (name.epoch, name.reign_id, name.first_seq) else None


def gaps_in(names: Sequence[str]) -> set[int]:
    """The first commits after gaps, by an archive's file names."""
    return {int(name.removesuffix(GAP)) for name in names if name.endswith(GAP) and name.removesuffix(GAP).isdecimal()}


def mark_gap(disk: Disk, directory: str, first_seq: int) -> None:
    disk.replace_file(f"{directory}/{first_seq:020d}{GAP}", b"")


def ahead(disk: Disk, items: Sequence[P], size: Callable[[P], int], work: Callable[[P], R]) -> Iterator[tuple[P, R]]:
    """Each item with what work makes of it, in order; where every file is a request, several at a time. size: bytes held by what it makes."""
    at_once = getattr(disk, "at_once", None)
    return at_once(items, size, work) if at_once is not None else ((item, work(item)) for item in items)
