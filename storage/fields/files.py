"""Segments on disk: which arrays of a segment stand in which file. The layout of a file is that of sections.py.

    fields.rows.N    the row table
    fields.svidx.N   values: the dictionaries of some fields
    fields.sgidx.N   groups: codes by row and postings of the same fields
    fields.stidx.N   texts: terms and postings, as text.py names them

    ROWS     seq_first u64 × 1 │ seq │ row │ shard │ location │ length
    VALUES   kind_at u32 × 19 │ numbers remainders doubles varied │ string_at string_bytes │ object_ids uuids dates bools
    GROUPS   facts u64 × 2: rows, is_ascending │ code_of │ many │ starts │ posting_rows

What is None or empty in a column is not written. A segment has one row file; files of fields have numbers of their own, since fields
may be indexed later than the rows were sealed. All go through the disk seam and may block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..disk import Disk
from ..errors import DamagedRecord
from .build import dictionary_of
from .column import Column, Dictionary, Strings
from .merge import merge_columns
from .rows import RowTable, merge_tables
from .sections import Buffer, Content, SectionFile, SectionWriter, SegmentInfo
from .segment import Segment, TextReader, TextSections
from .values import KINDS

NAMES = {Content.ROWS: "rows", Content.VALUES: "svidx", Content.GROUPS: "sgidx", Content.TEXTS: "stidx"}
CHECKED_AT_OPEN_BYTES_MAX = 16 * 2**20  # 3 ms; larger than any file that a seal makes, since those are not synced
BYTES_TYPE = "|V1"
_TABLE = ("seq", "row", "shard", "location", "length")
_VALUES = ("numbers", "remainders", "doubles", "varied", "object_ids", "uuids", "dates", "bools")
_GROUPS = ("code_of", "many", "starts", "posting_rows")


def file_name(content: Content, number: int) -> str:
    """`fields.rows.7` and the like."""
    return f"fields.{NAMES[content]}.{number}"


def file_names(number: int) -> list[str]:
    """All names that files of this number may have."""
    return [file_name(content, number) for content in Content]


class SegmentWriter:
    """Writes the files of one number, field by field, so that no more than one is in memory at a time. As a context manager it
    removes what it wrote when something is raised."""

    def __init__(self, disk: Disk, directory: str, number: int, info: SegmentInfo) -> None:
        self._disk = disk
        self._directory = directory
        self._number = number
        self._info = info
        self._files: dict[Content, SectionWriter] = {}

    def put_table(self, table: RowTable) -> None:
        """The row table, once. Leave it out in files that add fields to a segment that is there."""
        file = self._file(Content.ROWS)
        file.put("seq_first", np.array([table.seq_first], np.uint64))
        for name, column in zip(_TABLE, table.columns):
            file.put(name, column)

    def put_column(self, path: str, column: Column) -> None:
        """One field."""
        values, groups = self._file(Content.VALUES), self._file(Content.GROUPS)
        field = values.field(path)
        values.put("kind_at", column.kind_at, field)
        for name in _VALUES:
            array = getattr(column, name)
            if array is not None and len(array):
                values.put(name, array, field)
        if len(column.strings):
            values.put("string_at", column.strings.offsets, field)
            values.put_chunks("string_bytes", BYTES_TYPE, [column.strings.blob], field)
        field = groups.field(path)
        groups.put("facts", np.array([column.rows, column.is_ascending], np.uint64), field)
        for name in _GROUPS:
            array = getattr(column, name)
            if array is not None:
                groups.put(name, array, field)

    def put_text(self, path: str, sections: Iterable[tuple[str, Buffer]]) -> None:
        """The text of one field: (name, bytes), where pairs of one name that follow each other are pieces of one section."""
        file = self._file(Content.TEXTS)
        field = file.field(path)
        for name, pieces in groupby(sections, key=itemgetter(0)):
            file.put_chunks(name, BYTES_TYPE, (piece for _, piece in pieces), field)

    def finish(self, *, is_synced: bool = True) -> list[str]:
        """Make the files whole, and durable unless they are small enough to be checked when they are opened; gives their paths."""
        for file in self._files.values():
            file.finish(is_synced=is_synced or file.size > CHECKED_AT_OPEN_BYTES_MAX)
        return [file.path for file in self._files.values()]

    def abandon(self) -> None:
        """Close and remove what was written."""
        for file in self._files.values():
            file.close()
            with suppress(OSError):  # what is left over has no checkpoint that names it
                self._disk.remove(file.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.abandon()

    def _file(self, content: Content) -> SectionWriter:
        if content not in self._files:
            path = f"{self._directory}/{file_name(content, self._number)}"
            self._files[content] = SectionWriter(self._disk, path, content, self._info)
        return self._files[content]


def write_segment(disk: Disk, directory: str, number: int, segment: Segment, *, is_synced: bool = True) -> list[str]:
    """All of a segment that is in memory; gives the paths of its files. texts must have sections(). is_synced: as for finish()."""
    with SegmentWriter(disk, directory, number, segment.info) as writer:
        writer.put_table(segment.table)
        for path, column in segment.columns.items():
            writer.put_column(path, column)
        for path, text in segment.texts.items():
            writer.put_text(path, text.sections())
        return writer.finish(is_synced=is_synced)


def open_table(disk: Disk, directory: str, number: int, expected: SegmentInfo) -> RowTable:
    """A row table alone. Raises DamagedRecord, NewerFormat."""
    return _table_of(_open(disk, directory, Content.ROWS, number, expected))


def write_table(disk: Disk, directory: str, number: int, info: SegmentInfo, table: RowTable) -> None:
    """A row table alone, synced only when it is large."""
    with SegmentWriter(disk, directory, number, info) as writer:
        writer.put_table(table)
        writer.finish(is_synced=False)


def write_merged(
    disk: Disk,
    directory: str,
    number: int,
    info: SegmentInfo,
    parts: Sequence[tuple[Segment, np.ndarray | None]],
    texts: Mapping[str, TextSections],
) -> list[str]:
    """One segment in place of neighbours, given in order with the rows of each that go on (bool; None: all): the row table and
    every column that all of them have. texts: merged already, or being merged while their sections are asked for. One field
    after the other is in memory. Gives the paths of its files."""
    rows = sum(segment.rows if keep is None else int(np.count_nonzero(keep)) for segment, keep in parts)
    assert rows == info.rows, f"{rows} rows go on, {info.rows} are announced"
    with SegmentWriter(disk, directory, number, info) as writer:
        writer.put_table(merge_tables([(segment.table, keep) for segment, keep in parts]))
        for path in parts[0][0].columns:
            if all(path in segment.columns for segment, _ in parts):
                writer.put_column(path, merge_columns([(segment.columns[path], keep) for segment, keep in parts]))
        for path, text in texts.items():
            writer.put_text(path, text.sections())
        return writer.finish()


def read_info(disk: Disk, directory: str, number: int) -> SegmentInfo:
    """What the row file of that number says of itself. Raises DamagedRecord, NewerFormat."""
    return SectionFile.open(disk, f"{directory}/{file_name(Content.ROWS, number)}").info


def open_segment(
    disk: Disk,
    directory: str,
    number: int,
    expected: SegmentInfo,
    *,
    table_number: int | None = None,
    field_numbers: Sequence[int] = (),
    text_reader: TextReader | None = None,
) -> Segment:
    """The segment of that number with its fields and those in the files of field_numbers. table_number: of its row table when that
    is another one. Small files are checked whole, of
    large ones header and footer: then check_all() is due. text_reader: the class Text; without it texts are left alone.
    Raises DamagedRecord when a file is missing, damaged or not what was expected, NewerFormat."""
    rows = _open(disk, directory, Content.ROWS, number if table_number is None else table_number, expected)
    segment = Segment(info=expected, table=_table_of(rows), columns={}, files=(rows,))
    for each in (number, *field_numbers):
        segment = open_fields(disk, directory, each, segment, text_reader=text_reader)
    return segment


def open_fields(
    disk: Disk, directory: str, number: int, segment: Segment, *, text_reader: TextReader | None = None
) -> Segment:
    """The segment with the fields in the files of that number, of which any may be missing when it has none."""
    columns: dict[str, Column] = {}
    texts: dict[str, Any] = {}
    files = []
    if disk.exists(f"{directory}/{file_name(Content.VALUES, number)}"):
        values = _open(disk, directory, Content.VALUES, number, segment.info)
        groups = _open(disk, directory, Content.GROUPS, number, segment.info)
        if values.fields != groups.fields:
            raise _unlike(groups, "its fields are not those of the values")
        columns = {path: _column_of(values, groups, field) for field, path in enumerate(values.fields)}
        files += [values, groups]
    if text_reader is not None and disk.exists(f"{directory}/{file_name(Content.TEXTS, number)}"):
        file = _open(disk, directory, Content.TEXTS, number, segment.info)
        for field, path in enumerate(file.fields):
            sections = {name: file.bytes_of(name, field) for name in file.names(field)}
            try:
                texts[path] = text_reader.from_sections(sections, segment.rows)
            except (KeyError, ValueError) as error:
                raise _unlike(file, f"the text of field {path!r} does not fit together ({error})") from None
        files.append(file)
    return segment.with_fields(columns, texts, tuple(files))


def _open(disk: Disk, directory: str, content: Content, number: int, expected: SegmentInfo) -> SectionFile:
    file = SectionFile.open(disk, f"{directory}/{file_name(content, number)}")
    if file.content is not content:
        raise _unlike(file, f"it holds {file.content.name}, {content.name} was expected")
    if file.info != expected:
        raise _unlike(file, f"it is of {file.info}, {expected} was expected")
    if is_checked_at_open(file):
        for _ in file.check():
            pass
    return file


def is_checked_at_open(file: SectionFile) -> bool:
    return len(file.data) <= CHECKED_AT_OPEN_BYTES_MAX


def _table_of(file: SectionFile) -> RowTable:
    table = RowTable(int(file.array("seq_first")[0]), *(file.array(name) for name in _TABLE))
    if any(len(column) != file.info.rows for column in table.columns):
        raise _unlike(file, "a column of the row table has the wrong length")
    return table


def _column_of(values: SectionFile, groups: SectionFile, field: int) -> Column:
    dictionary = _dictionary_of(values, field)
    rows, is_ascending = groups.array("facts", field).tolist()
    code_of, many, starts, posting_rows = (
        groups.array(name, field) if groups.has(name, field) else None for name in _GROUPS
    )
    counts = dictionary.codes, rows if code_of is None else len(code_of), len(dictionary.kind_at)
    if many is None or rows != groups.info.rows or counts[1:] != (rows, KINDS + 1):
        raise _unlike(groups, f"field {groups.fields[field]!r} has arrays of the wrong length")
    if starts is None and (not is_ascending or counts[0] != rows) or starts is not None and len(starts) != counts[0] + 1:
        raise _unlike(groups, f"field {groups.fields[field]!r} has not as many groups as values")
    return Column(rows, dictionary, code_of, many, starts, posting_rows, is_ascending=bool(is_ascending))


def _dictionary_of(file: SectionFile, field: int) -> Dictionary:
    parts: dict[str, Any] = {name: file.array(name, field) for name in _VALUES if file.has(name, field)}
    if file.has("string_at", field):
        blob = file.bytes_of("string_bytes", field) if file.has("string_bytes", field) else b""
        parts["strings"] = Strings(file.array("string_at", field), blob)
    return dictionary_of(file.array("kind_at", field), parts)


def _unlike(file: SectionFile, what: str) -> DamagedRecord:
    return DamagedRecord(f"{file.path}: {what}; the index is rebuilt from the log", file=file.path, offset=0)

