"""A segment comes back from its files as it was written, and damage anywhere in them is noticed."""

from __future__ import annotations

import datetime
import uuid

import numpy as np
import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.disk_memory import MemoryDisk
from storage.errors import DamagedRecord, DiskFull, NewerFormat
from storage.fields import sections
from storage.fields.build import build_column
from storage.fields.extract import entries_of_documents
from storage.fields.files import (
    SegmentWriter,
    file_names,
    open_fields,
    open_segment,
    read_info,
    write_merged,
    write_segment,
)
from storage.fields.rows import row_table
from storage.fields.sections import BLOCK_BYTES, HELD_BYTES, Content, SectionFile, SectionWriter, SegmentInfo
from storage.fields.segment import Segment
from tests.fields.alike import ARRAYS, differences, same_table
from tests.fields.worlds import documents

UUID = bytes(range(16))
PATHS = ("a", "a.b", "b", "_id")
USUAL = [
    {"_id": i, "s": f"text {i % 3}", "n": i % 4 + (0.5 if i % 2 else 0), "o": ObjectId(bytes([i]) * 12), "x": [i, "a"], "u": uuid.UUID(int=i % 5)}
    | {"d": datetime.datetime(2026, 1, 1 + i % 9), "t": i % 2 == 0, "big": 2**60 + i % 3}
    for i in range(20)
]


def table_of(rows: int):
    every = np.arange(rows)
    return row_table(every // 3 + 7, every % 3, every % 4, every * 1000, every + 40)


def segment_of(found: list[dict], paths: tuple[str, ...]) -> Segment:
    info = SegmentInfo(UUID, 3, 6, 6 + len(found), len(found))
    columns = {path: build_column(entries_of_documents(found, path)) for path in paths}
    return Segment(info=info, table=table_of(len(found)), columns=columns)


def disk_with(directory: str = "db") -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_dir(directory)
    return disk


class FakeText:
    """As text.Text is to files.py: sections out, sections in."""

    def __init__(self, parts: dict[str, bytes]) -> None:
        self.parts = parts

    def sections(self):
        for name, data in self.parts.items():
            yield name, data[:3]
            yield name, data[3:]

    @classmethod
    def from_sections(cls, found, rows) -> FakeText:
        return cls({name: bytes(data) for name, data in found.items()})


@given(st.lists(documents, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_segment_comes_back(found: list[dict]):
    disk, segment = disk_with(), segment_of(found, PATHS)
    write_segment(disk, "db", 5, segment)
    assert read_info(disk, "db", 5) == segment.info
    again = open_segment(disk, "db", 5, segment.info)
    assert same_table(again.table, segment.table)
    assert list(again.columns) == list(PATHS)
    assert {path: differences(again.columns[path], column) for path, column in segment.columns.items()} == {path: [] for path in PATHS}
    assert [None for _ in again.check_all()] == [None] * 3  # one block a file


def test_fields_are_added_later_and_texts_go_along():
    disk, segment = disk_with(), segment_of(USUAL, ("s", "n"))
    text = FakeText({"terms": b"abcdef", "rows": bytes(100), "nothing": b""})
    write_segment(disk, "db", 1, Segment(info=segment.info, table=segment.table, columns=segment.columns, texts={"s": text}))
    late = segment_of(USUAL, ("d",)).columns["d"]
    with SegmentWriter(disk, "db", 2, segment.info) as writer:
        writer.put_column("d", late)
        assert sorted(writer.finish()) == ["db/fields.sgidx.2", "db/fields.svidx.2"]
    opened = open_segment(disk, "db", 1, segment.info, text_reader=FakeText)
    assert opened.texts["s"].parts == text.parts and list(opened.columns) == ["s", "n"]
    opened = open_fields(disk, "db", 2, opened, text_reader=FakeText)
    assert list(opened.columns) == ["s", "n", "d"] and differences(opened.columns["d"], late) == []
    assert list(open_segment(disk, "db", 1, segment.info, field_numbers=[2]).columns) == ["s", "n", "d"]


def outcome_of(data: bytes) -> object:
    """What is read from one file: arrays by name, or the refusal."""
    try:
        file = SectionFile("f", data)
        for _ in file.check():
            pass
        fields = [*range(len(file.fields)), sections.NO_FIELD]
        return file.info, file.content, file.fields, [(f, n, file.array(n, f).tobytes()) for f in fields for n in file.names(f)]
    except (DamagedRecord, NewerFormat) as refused:
        return type(refused)


def test_every_flipped_byte_and_every_cut_is_noticed():
    disk, segment = disk_with(), segment_of(USUAL[:6], ("s", "n", "x", "big"))
    paths = write_segment(disk, "db", 1, segment)
    for path in paths:
        whole = disk.read_file(path)
        expected = outcome_of(whole)
        assert not isinstance(expected, type)
        for at in range(len(whole)):
            for flip in (0x01, 0x80, 0xFF):
                damaged = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
                assert outcome_of(damaged) in (DamagedRecord, NewerFormat), (path, at)
            assert outcome_of(whole[:at]) is DamagedRecord, (path, at)
        assert outcome_of(whole + b"\0") is DamagedRecord


def test_a_file_of_another_segment_is_refused():
    disk, segment = disk_with(), segment_of(USUAL, ("s",))
    write_segment(disk, "db", 1, segment)
    for change in ({"uuid": bytes(16)}, {"collection": 4}, {"first": 5}, {"last": 99}, {"rows": 19}):
        with pytest.raises(DamagedRecord, match="was expected"):
            open_segment(disk, "db", 1, segment.info._replace(**change))
    disk.remove("db/fields.sgidx.1")
    with pytest.raises(DamagedRecord, match="missing"):
        open_segment(disk, "db", 1, segment.info)
    disk.rename("db/fields.svidx.1", "db/fields.rows.1")
    with pytest.raises(DamagedRecord, match="VALUES, ROWS was expected"):
        open_segment(disk, "db", 1, segment.info)


def test_what_could_not_be_written_is_removed():
    disk = MemoryDisk(capacity_bytes=2000)
    disk.make_dir("db")
    with pytest.raises((OSError, DiskFull)):
        write_segment(disk, "db", 1, segment_of(USUAL, ("s", "n", "o")))
    assert disk.list_dir("db") == []
    assert len(file_names(1)) == 4


def test_a_large_file_is_checked_block_by_block():
    disk = disk_with()
    writer = SectionWriter(disk, "db/large", Content.GROUPS, SegmentInfo(UUID, 1, 0, 9, 5))
    writer.put("many", np.arange(400_000, dtype=np.uint64))
    writer.put_chunks("chunks", "<u4", [bytes(700_000), b"", np.ones(3, np.uint32)])
    writer.finish(is_synced=True)
    whole = disk.read_file("db/large")
    assert len(list(SectionFile("large", whole).check())) == 4
    assert SectionFile("large", whole).array("chunks")[-3:].tolist() == [1, 1, 1]
    damaged = bytearray(whole)
    damaged[2**20 + 5] ^= 1
    file = SectionFile("large", bytes(damaged))  # header and footer are sound
    with pytest.raises(DamagedRecord) as caught:
        list(file.check())
    assert caught.value.fields["offset"] == 2**20


@pytest.mark.parametrize("length", [0, 1, HELD_BYTES - 64, HELD_BYTES, BLOCK_BYTES - 65, BLOCK_BYTES - 64, BLOCK_BYTES, 2 * BLOCK_BYTES - 64, 3 * BLOCK_BYTES])
def test_a_file_of_any_length_is_written_whole(length: int):
    disk = disk_with()
    writer = SectionWriter(disk, "db/any", Content.GROUPS, SegmentInfo(UUID, 1, 0, 9, 5))
    content = np.random.default_rng(length).bytes(length)
    writer.put("bytes", np.frombuffer(content, np.uint8))
    writer.put("few", np.arange(3, dtype=np.uint16))
    assert writer.size == 64 + -(-length // 64) * 64 + 6
    writer.finish(is_synced=True)
    file = SectionFile("any", disk.read_file("db/any"))
    assert len(list(file.check())) == -(-(64 + -(-length // 64) * 64 + 64) // BLOCK_BYTES)
    assert bytes(file.bytes_of("bytes")) == content and file.array("few").tolist() == [0, 1, 2]


@given(st.lists(documents, min_size=1, max_size=12), st.data())
@settings(max_examples=40, deadline=None)
def test_segments_are_merged_into_files(found: list[dict], data):
    disk, whole = disk_with(), segment_of(found, PATHS)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found))), bool)
    cut, parts = len(found) // 2, []
    for number, (lo, hi) in enumerate([(0, cut), (cut, len(found))]):
        part = segment_of(found[lo:hi], PATHS)
        part = Segment(info=part.info, table=whole.table.slice(lo, hi), columns=part.columns)
        write_segment(disk, "db", number, part)
        parts.append((open_segment(disk, "db", number, part.info), keep[lo:hi]))
    info = whole.info._replace(rows=int(keep.sum()))
    text = FakeText({"terms": b"abcdef"})
    assert len(write_merged(disk, "db", 9, info, parts, {"a": text})) == 4
    again = open_segment(disk, "db", 9, info, text_reader=FakeText)
    kept = segment_of([one for one, is_kept in zip(found, keep) if is_kept], PATHS)
    arrays = {path: differences(again.columns[path], column, ARRAYS) for path, column in kept.columns.items()}
    assert arrays == {path: [] for path in PATHS}
    assert again.table.location.tolist() == whole.table.location[keep].tolist()
    assert again.table.seqs(0, info.rows).tolist() == whole.table.seqs(0, whole.rows)[keep].tolist()
    assert again.texts["a"].parts == text.parts
