"""What a power cut leaves: everything that was synced before the point, and a random part of the rest.

    bytes   writes covered by a finished sync are there; of later ones each page of 4,096 bytes is at some version between, or torn at a
            sector; a page that was never written back reads as zeros if the file's length got ahead of it
    names   operations covered by a finished sync of a directory they touch are there, with those before them; of the others a prefix of
            each directory's, at random

The rules are those of tests/sim/disk.py, here over a record of real files and by pages.
"""

from __future__ import annotations

import os
import posixpath
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from storage.commit.segment import HEADER_BYTES, decode_header
from storage.errors import DamagedRecord
from tests.power.recording import DIRECTORY, Event, Recording

PAGE_BYTES, SECTOR_BYTES = 4096, 512


def rebuild(recording: Recording, point: int, root: str, rng: random.Random) -> None:
    """Make below the empty directory root what the first `point` events may have left."""
    events = recording.events[:point]
    names = _names(events, rng)
    contents = _Contents(events)
    for path in sorted(names):
        parts = path.split("/")
        if any(names.get("/".join(parts[:length])) != DIRECTORY for length in range(1, len(parts))):
            continue  # a directory whose own name was lost takes its content along
        full = os.path.join(root, path)
        if names[path] == DIRECTORY:
            os.mkdir(full)
            continue
        with open(full, "wb") as file:
            own = os.fstat(file.fileno()).st_ino
            file.write(_as_own(contents.of(names[path], rng), recording.inodes[names[path]], own))


def _names(events: Sequence[Event], rng: random.Random) -> dict[str, int]:
    pending: list[tuple[int, dict[str, int | None]]] = []
    durable: list[tuple[int, dict[str, int | None]]] = []
    for number, event in enumerate(events):
        if event.kind == "names":
            pending.append((number, event.what[0]))
        elif event.kind == "sync_dir":
            wanted, since = {event.what[0]}, event.what[1]
            sure = []
            for change in reversed(pending):
                if change[0] < since and wanted & _directories(change[1]):
                    wanted |= _directories(change[1])
                    sure.append(change)
            durable += sure
            pending = [change for change in pending if change not in sure]
    lost: set[str] = set()
    keeps = rng.choice([0.0, 0.5, 0.9, 1.0])
    for change in pending:
        touched = _directories(change[1])
        if touched & lost or rng.random() >= keeps:
            lost |= touched
        else:
            durable.append(change)
    names: dict[str, int] = {}
    for _, changes in sorted(durable, key=lambda change: change[0]):
        for path, node in changes.items():
            if node is None:
                names.pop(path, None)
            else:
                names[path] = node
    return names


def _directories(changes: dict[str, int | None]) -> set[str]:
    return {posixpath.dirname(path) for path in changes}


class _Contents:
    """Of files by number."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._writes: dict[int, list[tuple[int, Event]]] = defaultdict(list)
        self._covered: dict[int, int] = defaultdict(int)
        for number, event in enumerate(events):
            if event.kind in ("data", "truncate"):
                self._writes[event.what[0]].append((number, event))
            elif event.kind == "sync":
                file, since = event.what
                self._covered[file] = max(self._covered[file], since)

    def of(self, file: int, rng: random.Random) -> bytes:
        data, pages = bytearray(), defaultdict(list)
        cut_to = None
        size = 0  # with everything
        for number, event in self._writes[file]:
            if event.kind == "truncate":
                if number < self._covered[file]:
                    del data[event.what[1] :]
                else:
                    cut_to = event.what[1]
                continue
            offset, written = event.what[1:]
            size = max(size, offset + len(written))
            if number < self._covered[file]:
                _put(data, offset, written)
                continue
            for page in range(offset // PAGE_BYTES, (offset + len(written) - 1) // PAGE_BYTES + 1 if written else 0):
                start, end = max(offset, page * PAGE_BYTES), min(offset + len(written), (page + 1) * PAGE_BYTES)
                pages[page].append((start, written[start - offset : end - offset]))
        fate = rng.random()
        for page in sorted(pages):
            versions = pages[page]
            kept = 0 if fate < 0.3 else len(versions) if fate < 0.5 else rng.randint(0, len(versions))
            for start, piece in versions[:kept]:
                _put(data, start, piece)
            if fate >= 0.8 and kept < len(versions):  # torn within the page
                start, piece = versions[kept]
                _put(data, start, piece[: rng.randint(0, len(piece)) // SECTOR_BYTES * SECTOR_BYTES])
        if pages and fate >= 0.7 and len(data) < size and rng.random() < 0.5:
            data += bytes(rng.randint(0, size - len(data)))  # the length came first
        if cut_to is not None and rng.random() < 0.5:
            del data[cut_to:]
        return bytes(data)


def _put(data: bytearray, offset: int, piece: bytes) -> None:
    if offset > len(data):
        data += bytes(offset - len(data))
    data[offset : offset + len(piece)] = piece


def _as_own(data: bytes, was: int, now: int) -> bytes:
    """A segment's header names its file's inode; the file made here stands for that very file, and is no copy of it."""
    try:
        header = decode_header(data[:HEADER_BYTES], "")
    except DamagedRecord:
        return data
    if header is None or header.inode != was:
        return data
    return replace(header, inode=now).encode() + data[HEADER_BYTES:]
