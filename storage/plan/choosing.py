"""Choosing: the distinct values of a field among the documents that match. Pure but for Part.fetch, which blocks.

A value is what MongoDB's distinct takes: the elements of an array that the field names, not the array; nothing for a missing field. Equal
numbers are one value, shown as the first document has it. Values come in MongoDB's order.

Plain rows are known by their codes; rows with arrays, and values that an index does not keep, are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..fields.column import Column
from ..fields.values import EXACT, Kind
from ..query.filters import Filter
from ..query.paths import NO_INDEX, Path
from ..values.documents import decode as decode_document
from ..values.order import SortKey, sort_key
from .clauses import clause_of
from .parts import SCALE, Counters, Found, Loose, Part, Scale
from .ranks import odd_rows
from .reading import Candidates, Reader
from .rowsets import Everything, RowSet, coded, complement, intersection
from .tallies import live_counts
from .walking import walk

_CODES_A_STEP = 4_096


def distinct(
    parts: Sequence[Part],
    loose: Loose,
    path: str,
    matches: Filter,
    decode: Callable[[bytes], dict] = decode_document,
    counters: Counters | None = None,
    scale: Scale = SCALE,
) -> Iterator[list[Any] | None]:
    """None for each step, then the values. Raises BadQuery for what is no path."""
    reader = Reader(parts, loose, matches, decode, counters, scale)
    values = _Values(Path(path))
    for number, part in enumerate(parts):
        yield from _of_part(number, part, path, reader, values)
    for batch in reader.read_loose():
        values.add_documents(found for _, found in batch)
    reader.counters.returned = len(values.found)
    yield values.ordered()


def _of_part(number: int, part: Part, path: str, reader: Reader, values: _Values) -> Iterator[None]:
    clause = clause_of(reader.matches.tree, part, reader.scale)
    column = part.column(path)
    if column is None:
        yield from _read(Candidates(number, np.empty(0, np.uint32), clause.is_exact), clause.may, reader, values)
        return
    odd = odd_rows([column], part.rows)
    plain = intersection([clause.must, complement(odd, part.rows)], part.rows)
    unread = intersection([clause.may, complement(plain, part.rows)], part.rows)
    if clause.is_exact:
        unread = intersection([clause.may, odd], part.rows)
    yield from _of_codes(number, part, column, plain, reader, values)
    yield from _read(Candidates(number, np.empty(0, np.uint32), clause.is_exact), unread, reader, values)


def _of_codes(
    number: int, part: Part, column: Column, plain: RowSet, reader: Reader, values: _Values
) -> Iterator[None]:
    if isinstance(plain, Everything) and not len(column.many):
        seen = live_counts(column, part.dead) > 0
    else:
        seen = np.zeros(column.codes + 1, bool)
        for window in walk(plain, part.dead, 0, reader.scale):
            seen[column.codes_of(window)] = True
            reader.counters.keys_examined += len(window)
            yield None
    for kind in Kind:
        if kind not in EXACT or kind is Kind.MISSING:
            continue
        lo, hi = column.kind_range(kind)
        for place, code in enumerate(np.flatnonzero(seen[lo:hi]).tolist(), 1):
            value = column.value(lo + code)
            if kind is Kind.NUMBER and column.varied is not None and column.varied[code]:
                value = _first_spelling(number, part, column, lo + code, plain, reader, values)
            values.add(value)
            if place % _CODES_A_STEP == 0:
                yield None


def _first_spelling(
    number: int, part: Part, column: Column, code: int, plain: RowSet, reader: Reader, values: _Values
) -> Any:
    """A number that rows write in several ways, as the first one does."""
    rows = intersection([plain, coded(column, [(code, code + 1)])], part.rows)
    first = next(window for window in walk(rows, part.dead, 1, reader.scale) if len(window))[:1]
    (found,) = reader.read(Candidates(number, first, is_exact=True))
    assert found is not None, "rows of an exact set match"
    return next(iter(values_at(found.document, values.path)))


def _read(kind: Candidates, rows: RowSet, reader: Reader, values: _Values) -> Iterator[None]:
    for window in walk(rows, reader.parts[kind.part].dead, 0, reader.scale):
        size = reader.scale.fetch_rows
        for start in range(0, len(window), size):
            found = reader.read(kind._replace(rows=window[start : start + size]))
            values.add_documents(one for one in found if one is not None)
            yield None


class _Values:
    """Values of one path, each once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[SortKey, Any] = {}

    def add(self, value: Any) -> None:
        self.found.setdefault(sort_key(value), value)

    def add_documents(self, documents: Iterator[Found]) -> None:
        for found in documents:
            for value in values_at(found.document, self.path):
                self.add(value)

    def ordered(self) -> list[Any]:
        return [value for _, value in sorted(self.found.items(), key=lambda item: item[0])]


def values_at(document: dict[str, Any], path: Path, at: int = 0) -> Iterator[Any]:
    """What distinct takes from a document. A number in the path that meets an array is a position and nothing else."""
    value: Any = document
    while at < len(path.parts):
        if type(value) is not dict or path.parts[at] not in value:
            return
        value = value[path.parts[at]]
        at += 1
        while type(value) is list and at < len(path.parts):
            index = path.indexes[at]
            if index == NO_INDEX:
                for element in value:
                    yield from values_at(element, path, at) if type(element) is dict else ()
                return
            if index >= len(value):
                return
            value = value[index]
            at += 1
    if type(value) is list:
        yield from value
    else:
        yield value
