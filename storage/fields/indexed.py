"""From documents to columns and texts: what sealing, building and the memtable's chunks do with a run of documents. Pure.

    blob, at, length ── extract ──> entries of each path ──┬─ build_column ──> Column
                                                           └─ strings ── build_text ──> Text
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .build import build_column
from .column import Column
from .entries import Entries
from .extract import extract
from .text import Text, build_text
from .values import COLUMN, WORDS, Kind

Fields = Mapping[str, int]  # dotted path -> what of it is indexed: COLUMN, WORDS or both


class Indexed(NamedTuple):
    """Columns and texts over the same rows."""

    columns: dict[str, Column]
    texts: dict[str, Text]


def index_documents(blob: bytes | memoryview, at: np.ndarray, length: np.ndarray, fields: Fields) -> Indexed:
    """Of the documents blob[at : at + length] (at u64, length u32), which are the rows."""
    columns, texts = {}, {}
    for (path, uses), entries in zip(fields.items(), extract(blob, at, length, list(fields))):
        columns[path] = build_column(entries, is_hollow=not uses & COLUMN)
        if uses & WORDS:
            texts[path] = text_of(entries)
    return Indexed(columns, texts)


def text_of(entries: Entries) -> Text:
    """The terms of all strings among the entries."""
    where = np.flatnonzero(entries.kind == Kind.STRING)
    blob = entries.blob
    at = entries.payload[where]
    if len(entries.more) and len(where) and int(at.max()) >= len(blob):  # found by decoding, behind arrays
        blob = b"".join((blob, entries.more))
    row = where.astype(np.uint32) if entries.row is None else entries.row[where]
    return build_text(blob, at, entries.length[where], row, entries.rows)
