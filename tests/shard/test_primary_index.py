"""Primary index segments: look-up, liveness through PREV, merging in any grouping."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.disk_memory import MemoryDisk
from storage.errors import DamagedRecord, NewerFormat
from storage.index import primary
from storage.index.primary import (
    NONE,
    SEGMENTS_MAX,
    TOMBSTONE,
    Segment,
    SegmentInfo,
    build,
    checksum,
    columns_from_rows,
    live_columns,
    live_locations,
    merge,
    merge_from,
)

INFO = SegmentInfo(bytes(range(16)), 2, 0, 5)


def segment(*rows: tuple[int, int, int, int, int], info: SegmentInfo = INFO) -> Segment:
    return Segment(build(columns_from_rows(rows), info))


def test_find_gives_all_entries_of_a_hash():
    found = segment((9, 100, NONE, 50, 1), (2**64 - 1, 1 << 48 | 7, 3, 60 | TOMBSTONE, 2), (9, 200, NONE, 51, 3), (0, 8, NONE, 1, 1))
    assert found.find(9) == [(100, 50, False), (200, 51, False)]
    assert found.find(2**64 - 1) == [(1 << 48 | 7, 60, True)]
    assert found.find(0) == [(8, 1, False)]
    assert found.find(5) == []
    assert found.count == 4 and found.info == INFO


def test_an_empty_segment():
    found = segment()
    assert found.find(1) == []
    assert live_locations([found], 1)[0].tolist() == []
    assert live_locations([], 1)[0].tolist() == []


MERGE_EXAMPLES = 60

# Each key's writes: 0 deletes, others put; each write goes into the segment of its turn.
HISTORIES = st.lists(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=6, unique_by=lambda w: w[0]), max_size=8)


@settings(max_examples=MERGE_EXAMPLES, deadline=None)
@given(HISTORIES, st.integers(1, 3), st.data())
def test_merging_neighbours_in_any_grouping_keeps_what_is_live(history, hashes: int, data: st.DataObject):
    newest: dict[int, tuple[int, bool]] = {}  # key -> location, is it a deletion
    segments = []
    location = 0
    for turn, writes in enumerate(history):
        rows = []
        for key, is_put in writes:
            location += 10
            before = newest.get(key)
            if not is_put and (before is None or before[1]):
                continue
            rows.append((key % hashes, location, before[0] if before else NONE, 7 if is_put else 7 | TOMBSTONE, key))
            newest[key] = (location, not is_put)
        segments.append(segment(*rows, info=INFO._replace(first=turn, last=turn + 1)))
    expected = sorted((place, key) for key, (place, is_deletion) in newest.items() if not is_deletion)
    for _ in range(3):
        live = live_columns(segments)
        assert sorted(zip(live.location.tolist(), live.collection.tolist())) == expected
        for key, (place, is_deletion) in newest.items():
            newest_first = [entry for s in reversed(segments) for entry in s.find(key % hashes)]
            mine = [entry for entry in newest_first if entry[0] in places_of(segments, key)]
            if mine or not is_deletion:
                assert mine[0] == (place, 7, is_deletion)
        if len(segments) > 1:
            start = data.draw(st.integers(0, len(segments) - 2))
            end = data.draw(st.integers(start + 2, len(segments)))
            may_drop = end == len(segments) and data.draw(st.booleans())
            merged = Segment(merge(segments[start:end], drop_tombstones=may_drop))
            assert (merged.info.first, merged.info.last) == (segments[start].info.first, segments[end - 1].info.last)
            segments[start:end] = [merged]
    if segments:
        alone = Segment(merge(segments, drop_tombstones=True))
        assert sorted(alone.columns.location.tolist()) == [place for place, _ in expected], "nothing stale is left"
        assert set(alone.columns.prev.tolist()) <= {NONE}


def places_of(segments: list[Segment], key: int) -> set[int]:
    return {
        place
        for s in segments
        for place, collection in zip(s.columns.location.tolist(), s.columns.collection.tolist())
        if collection == key
    }


def test_a_deletion_above_segments_not_merged_stays():
    oldest = segment((1, 10, NONE, 7, 1))
    middle = segment((1, 20, 10, 7, 1))
    newest = segment((1, 30, 20, 7 | TOMBSTONE, 1))
    merged = Segment(merge([middle, newest], drop_tombstones=True))
    assert merged.find(1) == [(30, 7, True)] and merged.columns.prev.tolist() == [10]
    assert live_locations([oldest, merged], 1)[0].tolist() == []
    assert Segment(merge([oldest, merged], drop_tombstones=True)).count == 0


def test_only_the_bytes_the_checkpoint_means_are_taken():
    data = build(columns_from_rows([(1, 10, NONE, 7, 1), (2, 20, NONE, 7, 1)]), INFO)
    disk = MemoryDisk()
    disk.replace_file("s", data)
    assert Segment.open(disk, "s", checksum(data)).count == 2
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        disk.replace_file("s", bytes(damaged))
        with pytest.raises(DamagedRecord, match="s: checksum"):
            Segment.open(disk, "s", checksum(data))
    with pytest.raises(DamagedRecord, match="missing"):
        Segment.open(disk, "other", checksum(data))
    for short in (b"", data[:40]):
        with pytest.raises(DamagedRecord):
            Segment(short)


def test_unknown_sections_are_skipped_and_newer_versions_refused(monkeypatch: pytest.MonkeyPatch):
    data = build(columns_from_rows([(1, 10, NONE, 7, 1)]), INFO)
    table = data[primary.HEADER_BYTES : primary.HEADER_BYTES + 5 * primary.SECTION.size]
    later = bytearray(data + primary.SECTION.pack(99, 0, 0, 8) + table)
    later[10:16] = len(data).to_bytes(2, "little") + (6).to_bytes(4, "little")  # header_len, section_count
    assert Segment(bytes(later)).find(1) == [(10, 7, False)]
    monkeypatch.setattr(primary, "VERSION", 2)
    newer = build(columns_from_rows([]), INFO)
    monkeypatch.undo()
    with pytest.raises(NewerFormat):
        Segment(newer)


def test_a_shard_of_many_seals_has_few_segments_and_rewrites_little():
    sizes: list[int] = []
    rewritten = 0
    for _ in range(4000):
        sizes.append(10)
        start = merge_from(sizes)
        merged = sum(sizes[start:])
        rewritten += merged if start < len(sizes) - 1 else 0
        sizes[start:] = [merged]
        assert len(sizes) <= SEGMENTS_MAX
    assert len(sizes) <= 18
    assert rewritten <= 4000 * 10 * 7, "log4(4000) is 6"


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=60))
def test_whatever_the_sizes_there_are_never_too_many(new: list[int]):
    sizes: list[int] = []
    for size in new:
        sizes.append(size)
        start = merge_from(sizes)
        assert 0 <= start < len(sizes)
        sizes[start:] = [sum(sizes[start:])]
        assert len(sizes) <= SEGMENTS_MAX
