"""The field index's part of a seal: one new segment a collection from the rows just written, and the rows that they superseded marked dead.
Blocks; runs where the seal runs.

    rows written to the shard logs ── by collection, in commit order ── extract ── build ──> fields.rows.N .svidx.N .sgidx.N .stidx.N
    records that a compaction moved ──> fields.rows.N of segments that are there, with the new locations
    orders of superseded rows ──> the segments that hold them ──> fields.live.M
                                └─ collections whose index is still being built ──> handed back, applied when it is there

Nothing here is synced but the manifest: a seal is waited for, and files of its size are checked whole when they are opened, so that what a power
cut takes is noticed and built anew (INV-5). A collection is indexed from here on if its
fields are wanted; one whose rows are all in this seal is whole at once, any other one waits for a build (building.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..disk import Disk
from ..errors import DamagedRecord
from ..index.moves import Moves
from ..index.primary import NONE
from . import live
from .files import open_table, write_segment, write_table
from .indexed import Fields, index_documents
from .opened import open_entry, seqs_and_rows
from .rows import row_table
from .sections import SegmentInfo
from .segment import Segment
from .state import CollectionFields, FieldState, SegmentEntry, encode, manifest_name


class Written(NamedTuple):
    """Rows of one collection, in commit order, as columns; documents stand at `at` in the seal's blob."""

    order: np.ndarray  # u64, seq << 16 | row
    shard: np.ndarray  # u16
    location: np.ndarray  # u64
    length: np.ndarray  # u32, of the record
    at: np.ndarray  # u64
    doc_len: np.ndarray  # u32


@dataclass(frozen=True, slots=True)
class FieldsPlan:
    """state: the index at the seal's base. wanted: the fields of every collection that shall be indexed. next_number: of new files."""

    state: FieldState
    wanted: Mapping[int, Fields]
    next_number: int


@dataclass(frozen=True, slots=True)
class FieldsSealed:
    """state: the index at the seal's end. gone: superseded orders of collections that are not whole yet."""

    state: FieldState
    next_number: int
    gone: Mapping[int, np.ndarray] = field(default_factory=dict)


def seal_fields(
    disk: Disk,
    directory: str,
    plan: FieldsPlan,
    seq: int,
    blob: bytes,
    written: Mapping[int, Written],
    superseded: Mapping[int, np.ndarray],
    was_empty: frozenset[int],
    living: frozenset[int],
    logs: str,
    moves: Mapping[int, Moves] = MappingProxyType({}),
) -> FieldsSealed:
    """Write what the seal adds and the manifest at seq. was_empty: collections without a row at the base; living: those that the
    catalog names at seq. logs: logs_digest() of the checkpoint that is being made. moves: by shard, what it takes up of compactions.
    Raises OSError, DamagedRecord."""
    files = _Numbers(plan.next_number)
    collections: dict[int, CollectionFields] = {}
    gone: dict[int, np.ndarray] = {}
    for number in living & (plan.wanted.keys() | plan.state.collections.keys()):
        entry = plan.state.collections.get(number)
        wanted = plan.wanted.get(number) or (entry.fields if entry is not None else {})
        if entry is None:
            entry = CollectionFields(wanted, (), number in was_empty)
        if moves:
            entry = replace(entry, segments=_moved(disk, directory, plan.state.uuid, number, entry.segments, moves, files.take))
        dead = superseded.get(number)
        if dead is not None and len(dead):
            entry = replace(entry, segments=bury(disk, directory, plan.state.uuid, number, entry.segments, dead, files.take))
            if not entry.whole:
                gone[number] = dead
        rows = written.get(number)
        if rows is not None and len(rows.order):
            added = _write(disk, directory, plan.state, number, wanted, seq, blob, rows, files.take())
            entry = replace(entry, segments=(*entry.segments, added))
        collections[number] = replace(entry, fields={**entry.fields, **wanted})
    state = FieldState(plan.state.uuid, seq, logs, collections)
    disk.replace_file(f"{directory}/{manifest_name(seq)}", encode(state))
    return FieldsSealed(state, files.next, gone)


class _Numbers:
    """Numbers of new files."""

    def __init__(self, first: int) -> None:
        self.next = first

    def take(self) -> int:
        self.next += 1
        return self.next - 1


def _write(
    disk: Disk,
    directory: str,
    state: FieldState,
    collection: int,
    wanted: Fields,
    seq: int,
    blob: bytes,
    rows: Written,
    number: int,
) -> SegmentEntry:
    info = SegmentInfo(bytes.fromhex(state.uuid), collection, state.seq, seq, len(rows.order))
    write_indexed(disk, directory, number, info, rows, blob, rows.at, rows.doc_len, wanted, is_synced=False)
    return SegmentEntry(number, info.first, info.last, info.rows)


def write_indexed(
    disk: Disk,
    directory: str,
    number: int,
    info: SegmentInfo,
    rows: Written | Any,
    blob: bytes,
    at: np.ndarray,
    doc_len: np.ndarray,
    fields: Fields,
    *,
    is_synced: bool,
) -> None:
    """One segment's files. rows: with columns order, shard, location and length."""
    table = row_table(*seqs_and_rows(rows.order), rows.shard, rows.location, rows.length)
    indexed = index_documents(blob, at, doc_len, fields)
    segment = Segment(info=info, table=table, columns=indexed.columns, texts=indexed.texts)
    write_segment(disk, directory, number, segment, is_synced=is_synced)


def _moved(
    disk: Disk,
    directory: str,
    uuid: str,
    collection: int,
    segments: Sequence[SegmentEntry],
    moves: Mapping[int, Moves],
    take_number: Callable[[], int],
) -> tuple[SegmentEntry, ...]:
    """The segments with row tables that say where compactions have put the records. Raises DamagedRecord for a live row whose record
    is gone: then index and logs do not belong together."""
    after = []
    for entry in segments:
        info = SegmentInfo(bytes.fromhex(uuid), collection, entry.first, entry.last, entry.rows)
        number = entry.number if entry.table is None else entry.table
        table = open_table(disk, directory, number, info).moved(moves)
        if table is not None:
            bits = live.load(disk, directory, entry) if entry.live is not None else live.all_live(entry.rows)
            if (live.as_bools(bits, entry.rows) & (table.location == np.uint64(NONE))).any():
                raise DamagedRecord(f"a live row of field segment {entry.number} was not moved", file=directory, offset=0)
            number = take_number()
            write_table(disk, directory, number, info, table)
            entry = replace(entry, table=number)
        after.append(entry)
    return tuple(after)


def bury(
    disk: Disk,
    directory: str,
    uuid: str,
    collection: int,
    segments: Sequence[SegmentEntry],
    orders: np.ndarray,
    take_number,
) -> tuple[SegmentEntry, ...]:
    """The segments with the rows of these orders marked dead; orders that no segment holds are passed over."""
    orders = np.sort(orders)
    after = []
    for entry in segments:
        low, high = np.searchsorted(orders, np.array([(entry.first + 1) << 16, (entry.last + 1) << 16], np.uint64))
        if low == high:
            after.append(entry)
            continue
        table = open_entry(disk, directory, uuid, collection, entry).table
        places = table.place_of(*seqs_and_rows(orders[low:high]))
        bits = live.load(disk, directory, entry) if entry.live is not None else live.all_live(entry.rows)
        live.clear(bits, places[places >= 0])
        number = take_number()
        live.write(disk, directory, number, bits, entry.rows)
        after.append(replace(entry, live=number, dead=entry.rows - live.count(bits, entry.rows)))
    return tuple(after)
