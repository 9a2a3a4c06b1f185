"""Reading: rows of parts, and loose rows, to documents that match. Pure but for Part.fetch, which blocks.

A row whose clause is exact is known to match; any other document is asked itself. The reader also keeps the time of a query, in
rows looked at, so that steps are neither long nor many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..query.filters import Filter
from .clauses import Clause, clause_of, has_pattern
from .parts import Counters, Found, Loose, Part, Scale

_STEP_ROWS = 2**21  # row operations that make a step
_DOCUMENT_ROWS = 4_096  # a document that is read takes as long as so many row operations
_LACKING_ROWS = 1_024  # and one that is turned away by its bytes as so many
_CLAUSE_ROWS = 2**16  # and a clause as so many
_PATTERN_ROWS = 2**19  # or so many, if words must be searched for


class Candidates(NamedTuple):
    """Rows of one part, live, that match, or may match; in some order."""

    part: int
    rows: np.ndarray
    is_exact: bool


class Reader:
    """Documents of one query."""

    def __init__(
        self,
        parts: Sequence[Part],
        loose: Loose,
        matches: Filter,
        decode: Callable[[bytes], dict],
        counters: Counters | None,
        scale: Scale,
        *,
        is_bare: bool = False,
    ) -> None:
        """is_bare: documents that are known to match are not decoded."""
        self.parts = parts
        self.loose = loose
        self.matches = matches
        self.decode = decode
        self.counters = counters if counters is not None else Counters()
        self.scale = scale
        self._is_bare = is_bare
        self._needles: dict[int, tuple[bytes, ...]] = {}  # of the clauses, by part
        self._spent = 0
        self._clause_rows = _PATTERN_ROWS if has_pattern(matches.tree) else _CLAUSE_ROWS

    def clause(self, number: int) -> Clause:
        """The filter's clause for a part."""
        self._spent += self._clause_rows
        clause = clause_of(self.matches.tree, self.parts[number], self.scale)
        self._needles[number] = clause.needles
        return clause

    def is_step(self, rows: int = 0) -> bool:
        """Whether what was done since the last time, and these row operations, make a step."""
        self._spent += rows
        if self._spent < _STEP_ROWS:
            return False
        self._spent = 0
        return True

    def read(self, candidates: Candidates, *, is_bare: bool = False) -> list[Found | None]:
        """The documents, in the order of the rows; None for one that does not match. Callers ask for at most
        Scale.fetch_rows at a time. is_bare: the caller does not look at documents either."""
        part, rows, is_exact = candidates
        self.counters.docs_examined += len(rows)
        self.counters.parts_used.add(part)
        decode, matches = self.decode, self.matches
        if is_exact:
            self._spent += len(rows) * _DOCUMENT_ROWS
            if is_bare and self._is_bare:
                return [Found(key, data, {}) for key, data in self.parts[part].fetch(rows)]
            return [Found(key, data, decode(data)) for key, data in self.parts[part].fetch(rows)]
        found: list[Found | None] = []
        lacking = 0
        for row in self.parts[part].fetch(rows, self._needles.get(part, ())):
            if row is None:
                found.append(None)
                lacking += 1
                continue
            key, data = row
            document = decode(data)
            found.append(Found(key, data, document) if matches(document) else None)
        self._spent += (len(rows) - lacking) * _DOCUMENT_ROWS + lacking * _LACKING_ROWS
        return found

    def read_loose(self) -> Iterator[list[tuple[int, Found]]]:
        """(place, document) of the loose rows that match, step by step."""
        decode, matches = self.decode, self.matches
        size = self.scale.fetch_rows
        for start in range(0, len(self.loose), size):
            batch = []
            for place, (_, _, key, data) in enumerate(self.loose[start : start + size], start):
                document = decode(data)
                if matches(document):
                    batch.append((place, Found(key, data, document)))
            self.counters.docs_examined += min(size, len(self.loose) - start)
            self._spent += len(batch) * _DOCUMENT_ROWS
            yield batch
