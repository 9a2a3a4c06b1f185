"""Stages that need all documents before the first comes out: $sort and $sample. Pure.

A sort gathers sorted runs and merges them lazily, so that neither step takes long at a time (INV-9). With a $limit behind it, it never holds
more than about twice as many documents as are wanted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import itemgetter
from typing import Any

from ..errors import BadQuery
from .arithmetic import is_number
from .expression_operands import is_nullish
from .memory import HELD_BYTES_MAX, Held, size_of
from .pipeline import BATCH_DOCUMENTS, Context, Item, Rows, in_batches
from .sorting import Sort

RUN_ROWS = 1024
CUT_BYTES = HELD_BYTES_MAX // 2
_FIRST = itemgetter(0)


class Runs:
    """Rows (key, anything) in sorted runs. wanted: only the first so many matter (0: all)."""

    def __init__(self, stage: str, wanted: int) -> None:
        self._held = Held(stage)
        self._wanted = wanted
        self._runs: list[list[tuple[Any, Any]]] = []
        self._loose: list[tuple[Any, Any]] = []
        self._count = 0
        self._cut_at = CUT_BYTES

    def add(self, rows: list[tuple[Any, Any]]) -> None:
        """Raises QueryTooLarge."""
        self._held.bytes += sum(map(_weight, rows))
        self._loose += rows
        self._count += len(rows)
        if not self.is_overfull:
            self._held.add(0)
        if len(self._loose) >= RUN_ROWS:
            self._close_run()

    def _close_run(self) -> None:
        self._loose.sort(key=_FIRST)
        self._runs.append(self._loose)
        self._loose = []

    @property
    def is_overfull(self) -> bool:
        """Whether cut() is due: much is held that cannot be among the wanted ones."""
        if not self._wanted or self._count <= self._wanted:
            return False
        return self._count >= 2 * self._wanted + RUN_ROWS or self._held.bytes > self._cut_at

    def cut(self) -> Iterator[None]:
        """Let go what cannot be among the wanted ones; a pause after each step. Raises QueryTooLarge when these are too large."""
        rest = self.merged()
        best: list[tuple[Any, Any]] = []
        while len(best) < self._wanted and (some := list(islice(rest, min(BATCH_DOCUMENTS, self._wanted - len(best))))):
            best += some
            yield
        self._runs, self._loose, self._count = [best], [], len(best)
        self._held.bytes = sum(map(_weight, best))
        self._held.add(0)
        self._cut_at = max(CUT_BYTES, self._held.bytes * 3 // 2)

    def merged(self) -> Iterator[tuple[Any, Any]]:
        """All rows in order; equal keys in order of arrival."""
        if self._loose:
            self._close_run()
        return self._runs[0].__iter__() if len(self._runs) == 1 else heapq.merge(*self._runs, key=_FIRST)


def _weight(row: tuple[Any, Any]) -> int:
    found = row[1][1] if type(row[1]) is tuple else row[1]
    return 300 + size_of(found)


class OrderStage:
    """$sort. order: the compiled sort; wanted: how many documents the stages behind it take (0: all), set by the parser."""

    is_repeatable = False

    def __init__(self, spec: Mapping[str, Any], order: Sort) -> None:
        self.spec = spec
        self.order = order
        self.wanted = 0

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        key = self.order
        runs = Runs("$sort", self.wanted)
        for item in items:
            if type(item) is Rows:
                yield item
                continue
            runs.add([(key(document), document) for document in item])
            yield []
            if runs.is_overfull:
                for _ in runs.cut():
                    yield []
        found: Iterable[tuple[Any, Any]] = runs.merged()
        yield from in_batches(map(itemgetter(1), islice(found, self.wanted) if self.wanted else found))


class Sample:
    """$sample: so many documents chosen at random, each as likely, in random order."""

    is_repeatable = False

    def __init__(self, spec: Any) -> None:
        """Raises BadQuery."""
        if not isinstance(spec, Mapping):
            raise BadQuery("$sample takes a map with size", code=28745)
        for name in spec:
            if name != "size":
                raise BadQuery(f"$sample has no argument {name!r}; it takes size", code=28748)
        size = spec.get("size")
        if is_nullish(size):
            raise BadQuery("$sample needs the argument size", code=28749)
        if not is_number(size):
            raise BadQuery("$sample: size must be a number", code=28746)
        count = int(size.to_decimal()) if not isinstance(size, (int, float)) else int(size) if size == size and abs(size) < 2**63 else -1
        if count < 0:
            raise BadQuery(f"$sample: size must not be negative, not {size}", code=28747)
        self.spec = spec
        self.count = count

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        held = Held("$sample")
        chosen: list[dict] = []
        seen = 0
        for item in items:
            if type(item) is Rows:
                yield item
                continue
            for document in item:
                place = _below(seen + 1, context)
                seen += 1
                if len(chosen) < self.count:
                    held.add(size_of(document))
                    chosen.append(document)
                    if place < len(chosen) - 1:
                        chosen[place], chosen[-1] = chosen[-1], chosen[place]
                elif place < self.count:
                    held.add(size_of(document) - size_of(chosen[place]))
                    chosen[place] = document
            yield []
        yield from in_batches(chosen)


def _below(bound: int, context: Context) -> int:
    """A random number from 0 to bound - 1; the bias of 64 bits is not to be seen."""
    return int.from_bytes(context.random_bytes(8), "little") % bound
