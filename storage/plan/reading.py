"""Reading: rows of parts, and loose rows, to documents that match. Pure but for Part.fetch, which blocks.

A row whose clause is exact is known to match; any other document is asked itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..query.filters import Filter
from .parts import Counters, Found, Loose, Part, Scale


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
    ) -> None:
        self.parts = parts
        self.loose = loose
        self.matches = matches
        self.decode = decode
        self.counters = counters if counters is not None else Counters()
        self.scale = scale

    def read(self, candidates: Candidates) -> list[Found | None]:
        """The documents, in the order of the rows; None for one that does not match. Callers ask for at most
        Scale.fetch_rows at a time."""
        part, rows, is_exact = candidates
        self.counters.docs_examined += len(rows)
        self.counters.parts_used.add(part)
        decode, matches = self.decode, self.matches
        found: list[Found | None] = []
        for key, data in self.parts[part].fetch(rows):
            document = decode(data)
            found.append(Found(key, data, document) if is_exact or matches(document) else None)
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
            yield batch
