"""The open field index: what one manifest names, mapped for reading; and the files of the room in a directory. Immutable once open.

A view pins an OpenIndex as it pins the checkpoint's open files: files that are removed meanwhile stay readable. Segments are
shared with the index before where both name the same files. Opening maps files and checks their heads: a second for hundreds of
segments, whatever their size; block checksums are looked at by check_all(), in the background.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..disk import Disk
from ..errors import DamagedRecord
from . import live
from .column import Column
from .dead import NONE_DEAD, Dead
from .files import file_name, is_checked_at_open, open_segment
from .indexed import Fields
from .rows import RowTable
from .sections import Content, SectionFile, SegmentInfo
from .segment import Segment
from .state import CollectionFields, FieldState, SegmentEntry, encode, manifest_name, parse
from .text import Text
from .values import COLUMN, WORDS

_NAME = re.compile(r"fields\.(?:rows|svidx|sgidx|stidx|live)\.(\d+)\Z")
_MANIFEST = re.compile(r"fields\.(\d{20})\.json\Z")


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment as one state has it."""

    entry: SegmentEntry
    rows: int
    table: RowTable
    columns: Mapping[str, Column]
    texts: Mapping[str, Text]
    files: tuple[SectionFile, ...]
    dead: Dead
    order_range: np.ndarray  # u64: the lowest order that it may hold, and the one after the highest

    @property
    def is_checked(self) -> bool:
        """Whether opening it has held every file against its checksums; of large ones it looks at header and footer."""
        return all(is_checked_at_open(file) for file in self.files)

    def check(self) -> Iterator[None]:
        """Hold every file against its checksums, a MiB a step. Raises DamagedRecord."""
        for file in self.files:
            yield from file.check()

    def lacks(self, fields: Fields) -> list[str]:
        """Which of the fields it does not have yet, or has without their strings or words."""
        return [path for path, uses in fields.items() if not self.has(path, uses)]

    def has(self, path: str, uses: int) -> bool:
        """Whether that much of a field is indexed here."""
        column = self.columns.get(path)
        if column is None or (uses & COLUMN and column.is_hollow):
            return False
        return not uses & WORDS or path in self.texts


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """All collections of one state."""

    state: FieldState
    collections: Mapping[int, tuple[OpenSegment, ...]]

    @classmethod
    def open(cls, disk: Disk, directory: str, state: FieldState, previous: OpenIndex | None) -> OpenIndex:
        """Blocking. Raises DamagedRecord, OSError."""
        known: dict[SegmentEntry, OpenSegment] = {}
        if previous is not None:
            known = {_files_of(segment.entry): segment for segments in previous.collections.values() for segment in segments}

        def opened(collection: int, entry: SegmentEntry) -> OpenSegment:
            before = known.get(_files_of(entry))
            if before is None:
                return open_entry(disk, directory, state.uuid, collection, entry)
            return before if before.entry == entry else replace(before, entry=entry, dead=_dead_of(disk, directory, entry))

        return cls(
            state,
            {number: tuple(opened(number, entry) for entry in collection.segments) for number, collection in state.collections.items()},
        )

    def segments(self, collection: int) -> tuple[OpenSegment, ...] | None:
        """Of a collection whose segments hold every row; None for any other."""
        entry = self.state.collections.get(collection)
        return self.collections[collection] if entry is not None and entry.whole else None


def open_entry(disk: Disk, directory: str, uuid: str, collection: int, entry: SegmentEntry) -> OpenSegment:
    """One segment with everything that belongs to it. Raises DamagedRecord, OSError."""
    found = _open_files(disk, directory, uuid, collection, entry)
    bounds = np.array([(entry.first + 1) << 16, (entry.last + 1) << 16], np.uint64)
    return OpenSegment(entry, entry.rows, found.table, found.columns, found.texts, found.files, _dead_of(disk, directory, entry), bounds)


def check_entry(disk: Disk, directory: str, uuid: str, collection: int, entry: SegmentEntry) -> None:
    """A job for a worker: hold the files of a segment against their checksums, gigabytes perhaps. Raises DamagedRecord, OSError."""
    for _ in _open_files(disk, directory, uuid, collection, entry).check_all():
        pass


def _files_of(entry: SegmentEntry) -> SegmentEntry:
    """What names the files that never change: all but which rows are dead."""
    return replace(entry, live=None, dead=0)


def _dead_of(disk: Disk, directory: str, entry: SegmentEntry) -> Dead:
    return NONE_DEAD if entry.live is None else Dead.of(~live.as_bools(live.load(disk, directory, entry), entry.rows))


def _open_files(disk: Disk, directory: str, uuid: str, collection: int, entry: SegmentEntry) -> Segment:
    info = SegmentInfo(bytes.fromhex(uuid), collection, entry.first, entry.last, entry.rows)
    return open_segment(disk, directory, entry.number, info, table_number=entry.table, field_numbers=entry.extras, text_reader=Text)


def seqs_and_rows(orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of orders."""
    return orders >> np.uint64(16), (orders & np.uint64(0xFFFF)).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found in a directory. fields: of every collection that was indexed, at whatever seq."""

    state: FieldState | None
    fields: Mapping[int, CollectionFields]
    next_number: int


def load_state(disk: Disk, directory: str, uuid: str, seq: int, logs: str) -> Loaded:
    """The manifest that belongs to the checkpoint at seq with these shard logs; or else at least which fields were indexed lately. Raises OSError."""
    names = disk.list_dir(directory)
    numbers = [int(match[1]) for name in names if (match := _NAME.match(name))]
    state, fields = None, {}
    for name in sorted(name for name in names if _MANIFEST.match(name)):
        try:
            found = parse(disk.read_file(f"{directory}/{name}"))
        except DamagedRecord:
            continue
        if found.uuid == uuid:
            fields = found.collections
            state = found if (found.seq, found.logs) == (seq, logs) else state
    return Loaded(state, fields, max(numbers, default=0) + 1)


def write_state(disk: Disk, directory: str, state: FieldState) -> None:
    """Publish the manifest of the state's seq."""
    disk.replace_file(f"{directory}/{manifest_name(state.seq)}", encode(state))


def drop_files(disk: Disk, directory: str, state: FieldState, kept_from: int) -> None:
    """Remove what the state does not name, but for files numbered from kept_from on, which jobs under way may have made."""
    named = state.numbers()
    tables = {file_name(Content.ROWS, number) for number in state.tables_replaced()}
    for name in disk.list_dir(directory):
        match, manifest = _NAME.match(name), _MANIFEST.match(name)
        if name in tables:
            disk.remove(f"{directory}/{name}")
            continue
        if (match and int(match[1]) not in named and int(match[1]) < kept_from) or (
            manifest and int(manifest[1]) != state.seq
        ):
            disk.remove(f"{directory}/{name}")
