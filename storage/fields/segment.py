"""Segment: the rows of some seals with the columns of the fields that are indexed in them. Pure; immutable.

Fields come to be indexed later than rows: a segment then takes up columns made afterwards (`with_fields`), each set of them in files
of its own number. Knows no deletion: a row that was superseded or removed stays, whoever asks masks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .column import Column
from .rows import RowTable
from .sections import SectionFile, SegmentInfo

Text = Any  # text.Text: nothing here looks into it


class TextReader(Protocol):
    """What files.py asks of the class Text."""

    def from_sections(self, sections: Mapping[str, memoryview], rows: int) -> Text:
        """Raises ValueError when they do not belong together."""


class TextSections(Protocol):
    """What files.py asks of a text that it writes."""

    def sections(self) -> Iterator[tuple[str, memoryview]]:
        """(name, bytes); pairs of one name that follow each other are pieces of one section."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """What is known of these rows. Every column and text has info.rows rows, as the table has."""

    info: SegmentInfo
    table: RowTable
    columns: Mapping[str, Column]
    texts: Mapping[str, Text] = field(default_factory=dict)
    files: tuple[SectionFile, ...] = ()  # empty for one in memory

    def __post_init__(self) -> None:
        assert len(self.table) == self.info.rows, "a segment has a place for every row"
        assert all(column.rows == self.info.rows for column in self.columns.values()), "a column covers its segment"

    @property
    def rows(self) -> int:
        return self.info.rows

    def with_fields(self, columns: Mapping[str, Column], texts: Mapping[str, Text], files: tuple[SectionFile, ...]) -> Segment:
        """The same rows with more fields."""
        return Segment(
            info=self.info,
            table=self.table,
            columns={**self.columns, **columns},
            texts={**self.texts, **texts},
            files=(*self.files, *files),
        )

    def check_all(self) -> Iterator[None]:
        """Read every file and hold it against its checksums, a MiB a step. Raises DamagedRecord."""
        for file in self.files:
            yield from file.check()
