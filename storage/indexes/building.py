"""Building and merging segments: the long jobs, run in the index worker, and what puts their results into a state. Blocks; knows no loop.

    build_collection   every live row of a collection at a checkpoint ── windows of WINDOW_ROWS ──> segments
    build_extras       fields that segments lack ──> further files of those segments
    merge_segments     neighbours ── dead rows left out ──> one segment

A job works on the state as it was when the job began; seals go on meanwhile. put_built, put_extras and put_merged bring the result into
the state as it is when it arrives: rows that died meanwhile are marked dead in it. A job that is cut off leaves files that nothing names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..disk import Disk
from ..errors import DamagedRecord
from ..fields import live
from ..fields.files import SegmentWriter
from ..fields.indexed import Fields, Indexed, index_documents
from ..fields.merge import merge_columns
from ..fields.opened import OpenIndex, OpenSegment, open_entry, write_state
from ..fields.rows import merge_tables
from ..fields.sealing import Written, bury, write_indexed
from ..fields.sections import SegmentInfo
from ..fields.state import CollectionFields, FieldState, SegmentEntry
from ..fields.text_merge import merge_texts
from ..fields.values import WORDS
from ..shard import checkpoint as checkpoints
from ..shard.shardset import ShardSet
from .documents import Places, live_windows, read_documents

WINDOW_ROWS = 500_000  # documents held at a time

@dataclass(frozen=True, slots=True)
class Merged:
    """before: the segments that were merged, as they were; after: the one that takes their place."""

    before: tuple[SegmentEntry, ...]
    after: SegmentEntry


def build_collection(
    disk: Disk, directory: str, uuid: str, seq: int, collection: int, fields: Fields, number: int
) -> list[SegmentEntry]:
    """Segments of all rows at the checkpoint `seq`, which is pinned; their files are numbered from `number` on."""
    shards = _shards(disk, directory, seq)
    built: list[SegmentEntry] = []
    first = 0
    for places, documents, last in live_windows(shards, collection, WINDOW_ROWS):
        if len(documents.order):
            info = SegmentInfo(bytes.fromhex(uuid), collection, first, last, len(documents.order))
            rows = Written(documents.order, *places, documents.at, documents.doc_len)
            write_indexed(disk, directory, number, info, rows, documents.blob, documents.at, documents.doc_len, fields, is_synced=True)
            built.append(SegmentEntry(number, first, last, info.rows))
            number += 1
        first = last
    return built


def build_extras(
    disk: Disk, directory: str, uuid: str, seq: int, collection: int, segments: Sequence[SegmentEntry], fields: Fields, number: int
) -> list[tuple[SegmentEntry, int]]:
    """For every given segment that lacks some of the fields: (the segment, the number of the files made for it)."""
    shards = _shards(disk, directory, seq)
    made: list[tuple[SegmentEntry, int]] = []
    for entry in segments:
        opened = open_entry(disk, directory, uuid, collection, entry)
        lacking = {path: fields[path] for path in opened.lacks(fields)}
        if lacking:
            windows = []
            for start in range(0, opened.rows, WINDOW_ROWS):
                some = slice(start, start + WINDOW_ROWS)
                table = opened.table
                places = Places(table.shard[some], table.location[some], table.length[some])
                documents = read_documents(shards, places)
                windows.append(index_documents(documents.blob, documents.at, documents.doc_len, lacking))
            info = SegmentInfo(bytes.fromhex(uuid), collection, entry.first, entry.last, entry.rows)
            _write_fields(disk, directory, number, info, windows, lacking)
            made.append((entry, number))
            number += 1
    return made


def _write_fields(
    disk: Disk, directory: str, number: int, info: SegmentInfo, windows: Sequence[Indexed], fields: Fields
) -> None:
    """The files of fields of a segment that is there, from its windows."""
    with SegmentWriter(disk, directory, number, info) as writer:
        for path, uses in fields.items():
            writer.put_column(path, merge_columns([(window.columns[path], None) for window in windows]))
            if uses & WORDS:
                writer.put_text(path, merge_texts([(window.texts[path], None) for window in windows]).sections())
        writer.finish()


def merge_segments(
    disk: Disk, directory: str, uuid: str, collection: int, segments: Sequence[SegmentEntry], fields: Fields, number: int
) -> Merged:
    """One segment in place of neighbours, oldest first, without the rows that are dead in them."""
    opened = [open_entry(disk, directory, uuid, collection, entry) for entry in segments]
    kept = sum(segment.rows - segment.dead.count for segment in opened)
    info = SegmentInfo(bytes.fromhex(uuid), collection, segments[0].first, segments[-1].last, kept)
    keeps = [None if segment.dead.bits is None else ~segment.dead.bits for segment in opened]
    with SegmentWriter(disk, directory, number, info) as writer:
        writer.put_table(merge_tables([(segment.table, keep) for segment, keep in zip(opened, keeps)]))
        for path, uses in fields.items():
            if all(path in segment.columns for segment in opened):
                writer.put_column(path, merge_columns([(s.columns[path], keep) for s, keep in zip(opened, keeps)]))
            if uses & WORDS and all(path in segment.texts for segment in opened):
                writer.put_text(path, merge_texts([(s.texts[path], keep) for s, keep in zip(opened, keeps)]).sections())
        writer.finish()
    return Merged(tuple(segments), SegmentEntry(number, info.first, info.last, kept))


def _shards(disk: Disk, directory: str, seq: int) -> ShardSet:
    return ShardSet.open(disk, directory, checkpoints.load(disk, directory, seq))


# Bringing a result into the state. Each returns the index that is open then; its state is written.


def put_built(
    disk: Disk,
    directory: str,
    index: OpenIndex,
    collection: int,
    fields: Fields,
    built: Sequence[SegmentEntry],
    seq: int,
    gone: Sequence[np.ndarray],
    number: int,
) -> OpenIndex:
    """seq: of the build's checkpoint: segments that seals added up to there are in what was built. gone: orders superseded since.
    number: from there on files may be made."""
    state = index.state
    entry = state.collections.get(collection) or CollectionFields(fields)
    if gone:
        numbers = iter(range(number, number + len(built)))
        built = bury(disk, directory, state.uuid, collection, built, np.concatenate(gone), lambda: next(numbers))
    added_since = [segment for segment in entry.segments if segment.first >= seq]
    entry = replace(entry, fields={**entry.fields, **fields}, segments=(*built, *added_since), whole=True)
    return _published(disk, directory, state.with_collection(collection, entry), index)


def put_extras(
    disk: Disk, directory: str, index: OpenIndex, collection: int, fields: Fields, made: Sequence[tuple[SegmentEntry, int]]
) -> OpenIndex:
    """The made files join their segments."""
    entry = index.state.collections[collection]
    extra = {segment.number: number for segment, number in made}
    segments = tuple(
        replace(s, extras=(*s.extras, extra[s.number])) if s.number in extra else s for s in entry.segments
    )
    entry = replace(entry, fields={**entry.fields, **fields}, segments=segments)
    return _published(disk, directory, index.state.with_collection(collection, entry), index)


def put_merged(
    disk: Disk, directory: str, index: OpenIndex, collection: int, merged: Merged, number: int
) -> OpenIndex:
    """The merged segment takes the place of those it was made from; rows of it that died since are marked dead."""
    entry = index.state.collections[collection]
    numbers = [segment.number for segment in entry.segments]
    start = numbers.index(merged.before[0].number)
    stop = start + len(merged.before)
    if numbers[start:stop] != [segment.number for segment in merged.before]:
        raise DamagedRecord("the segments that were merged are not there any more", file=directory, offset=0)
    after = merged.after
    dead = _died_since(disk, directory, merged.before, index.collections[collection][start:stop])
    if len(dead):
        bits = live.all_live(after.rows)
        live.clear(bits, dead)
        live.write(disk, directory, number, bits, after.rows)
        after = replace(after, live=number, dead=len(dead))
    segments = (*entry.segments[:start], after, *entry.segments[stop:])
    return _published(disk, directory, index.state.with_collection(collection, replace(entry, segments=segments)), index)


def _died_since(
    disk: Disk, directory: str, before: Sequence[SegmentEntry], now: Sequence[OpenSegment]
) -> np.ndarray:
    """Rows of the merged segment that were live when the merge began and are not now."""
    found, offset = [], 0
    for entry, segment in zip(before, now):
        if segment.entry.live != entry.live:
            was = np.ones(entry.rows, bool)
            if entry.live is not None:
                was = live.as_bools(live.load(disk, directory, entry), entry.rows)
            gone = was & segment.dead.bits
            found.append(offset + np.cumsum(was)[gone] - 1)
        offset += entry.rows - entry.dead
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _published(disk: Disk, directory: str, state: FieldState, index: OpenIndex) -> OpenIndex:
    opened = OpenIndex.open(disk, directory, state, index)
    write_state(disk, directory, state)
    return opened
