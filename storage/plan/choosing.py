"""Choosing: the distinct values of a field among the documents that match. Pure but for Part.fetch, which blocks.

A value is what MongoDB's distinct takes: the elements of an array that the field names, not the array; nothing for a missing field. Equal
numbers are one value, shown as the first document has it. Values come in MongoDB's order.

Plain rows are known by their codes; rows with arrays, and values that an index does not keep, are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..fields.column import Column
from ..fields.values import EXACT, Kind
from ..query.filters import Filter
from ..query.paths import NO_INDEX, Path
from ..values.documents import decode as decode_document
from ..values.order import SortKey, sort_key
from .identities import Identity, identities, is_varied, values_of
from .parts import SCALE, Counters, Loose, Part, Scale
from .ranks import odd_rows
from .reading import Candidates, Reader
from .rowsets import Everything, Nothing, RowSet, coded, complement, intersection
from .tallies import codes_at, live_counts
from .walking import walk

_CODES_AT_ONCE = 1_024
_VALUE_ROWS = 1_024  # making a value takes as long as so many row operations


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
        for _, found in batch:
            for value in values_at(found.document, values.path):
                values.found.setdefault(sort_key(value), value)
    reader.counters.returned = len(values.found)
    yield values.ordered()


def _of_part(number: int, part: Part, path: str, reader: Reader, values: _Values) -> Iterator[None]:
    clause = reader.clause(number)
    column = part.column(path)
    unread: RowSet = clause.may
    plain: RowSet = Nothing()
    if column is not None:
        odd = odd_rows([column], part.rows)
        plain = intersection([clause.must, complement(odd, part.rows)], part.rows)
        unread = intersection([clause.may, odd if clause.is_exact else complement(plain, part.rows)], part.rows)
    read: dict[SortKey, tuple[int, Any]] = {}  # what was read: (first row, value)
    size = reader.scale.fetch_rows
    for window in walk(unread, part.dead, 0, reader.scale):
        for start in range(0, len(window), size):
            rows = window[start : start + size]
            for row, found in zip(rows.tolist(), reader.read(Candidates(number, rows, clause.is_exact))):
                for value in values_at(found.document, values.path) if found is not None else ():
                    read.setdefault(sort_key(value), (row, value))
            if reader.is_step():
                yield None
    if column is not None:
        yield from _of_codes(_Plain(number, part, column, plain, reader), read, values)
    for key, (_, value) in read.items():
        values.found.setdefault(key, value)


class _Plain(NamedTuple):
    """The rows of one part that codes answer for."""

    number: int
    part: Part
    column: Column
    rows: RowSet
    reader: Reader


def _of_codes(plain: _Plain, read: Mapping[SortKey, tuple[int, Any]], values: _Values) -> Iterator[None]:
    _, part, column, rows, reader = plain
    if isinstance(rows, Everything) and not len(column.many):
        seen = live_counts(column, part.dead) > 0
    else:
        seen = np.zeros(column.codes + 1, bool)
        for window in walk(rows, part.dead, 0, reader.scale):
            seen[codes_at(column, window)] = True
            reader.counters.keys_examined += len(window)
            if reader.is_step(len(window)):
                yield None
    for kind in Kind:
        if kind not in EXACT or kind is Kind.MISSING:
            continue
        lo, hi = column.kind_range(kind)
        codes = np.flatnonzero(seen[lo:hi]) + lo
        for start in range(0, len(codes), _CODES_AT_ONCE):
            some = values.unknown(column, codes[start : start + _CODES_AT_ONCE])
            for code, value, varied in zip(some.tolist(), values_of(column, some), is_varied(column, some).tolist()):
                key = sort_key(value)
                if kind is Kind.NUMBER and (varied or key in read):
                    value = _first_spelling(plain, code, read.get(key), values.path)
                values.found.setdefault(key, value)
            if reader.is_step(len(some) * _VALUE_ROWS):
                yield None


def _first_spelling(plain: _Plain, code: int, read: tuple[int, Any] | None, path: Path) -> Any:
    """A number that rows may write in several ways, as the first one does; read: as the first one that was read does."""
    rows = intersection([plain.rows, coded(plain.column, [(code, code + 1)])], plain.part.rows)
    windows = walk(rows, plain.part.dead, 1, plain.reader.scale)
    first = next(window for window in windows if len(window))[:1]
    if read is not None and read[0] < int(first[0]):
        return read[1]
    (found,) = plain.reader.read(Candidates(plain.number, first, is_exact=True))
    assert found is not None, "rows of an exact set match"
    return next(iter(values_at(found.document, path)))


class _Values:
    """Values of one path, each once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[SortKey, Any] = {}
        self._seen: set[Identity] = set()

    def unknown(self, column: Column, codes: np.ndarray) -> np.ndarray:
        """Those of the codes whose values no part before had by code."""
        names = identities(column, codes, missing_is_null=False)
        fresh = [place for place, name in enumerate(names) if name not in self._seen]
        self._seen.update(names)
        return codes[fresh]

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
