"""Pipelines: documents through stages, without waiting for anything. Pure; knows no view and no clock.

    Rows ──> stage ──> stage ──> ... ──> batches of documents

A running pipeline is one iterator of items, driven by whoever can wait. An item is either

    a batch     a list of documents that came out; often empty, which is only a chance to pause: no stage works for long without an item
    a Rows      a request: put the next batch of what it asks for into .batch (None: no more), then go on

so that $lookup and $unionWith read as the source does, and the same stages run over a view, over plain lists and in tests. A stage passes the
requests of those before it through. Documents are never changed, only replaced, so that many places may hold the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol

from .filters import Filter, compile_filter
from .sorting import Sort

BATCH_DOCUMENTS = 64


@dataclass(slots=True, eq=False)
class Rows:
    """A request for documents of a collection that match, in natural order or sorted; wanted: no more than so many (0: all).
    The same object asks again for the next batch."""

    collection: str
    matches: Filter
    sort: Sort | None = None
    wanted: int = 0
    batch: list[dict] | None = None


Item = list[dict] | Rows
OnBatch = Callable[[list[dict]], list[dict]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a run knows beside the documents: NOW and the user's variables by name, and where random bytes come from ($sample)."""

    random_bytes: Callable[[int], bytes]
    variables: dict[str, Any] = field(default_factory=dict)

    def knowing(self, variables: Mapping[str, Any]) -> Context:
        return replace(self, variables={**self.variables, **variables})


class Stage(Protocol):
    """One compiled stage. is_repeatable: what comes out depends on nothing but each document that goes in, so that it can be worked out
    once more for each facet that follows. spec: as it stood in the query."""

    is_repeatable: bool
    spec: Any

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]: ...


class PerDocument:
    """A stage that makes one document of each: $project, $addFields, $unset, $replaceRoot."""

    is_repeatable = True

    def __init__(self, spec: Any, apply: Callable[[dict, dict], dict]) -> None:
        self.spec = spec
        self.apply = apply

    def on_batch(self, context: Context) -> OnBatch:
        apply, variables = self.apply, context.variables
        return lambda batch: [apply(document, variables) for document in batch]

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        return _each_batch(items, [self.on_batch(context)])


class Match:
    """$match. Its filter is compiled when it runs, since $expr may see variables that are known only then."""

    is_repeatable = True

    def __init__(self, spec: Mapping[str, Any], names: Iterable[str]) -> None:
        """Raises BadQuery for a filter that will not compile."""
        self.spec = spec
        compile_filter(spec, dict.fromkeys(names))

    def on_batch(self, context: Context) -> OnBatch:
        matches = compile_filter(self.spec, context.variables)
        return lambda batch: [document for document in batch if matches(document)]

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        return _each_batch(items, [self.on_batch(context)])


def _each_batch(items: Iterator[Item], steps: Sequence[OnBatch]) -> Iterator[Item]:
    """Neighbouring stages that see one document at a time, as one: however many, they nest no deeper."""
    for item in items:
        if type(item) is not Rows:
            for step in steps:
                item = step(item)
        yield item


class Skip:
    """$skip."""

    is_repeatable = False

    def __init__(self, count: int) -> None:
        self.spec = self.count = count

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        left = self.count
        for item in items:
            if type(item) is not Rows and left:
                item, left = item[left:], max(0, left - len(item))
            yield item


class Limit:
    """$limit. Ends as soon as it is full; what stands before it is then never asked again."""

    is_repeatable = False

    def __init__(self, count: int) -> None:
        self.spec = self.count = count

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        left = self.count
        for item in items:
            if type(item) is not Rows:
                item = item[:left]
                left -= len(item)
            yield item
            if not left:
                return


class Pipeline:
    """Compiled stages. output: where the documents go ($out, $merge), or None when they are the answer."""

    __slots__ = ("_leading", "output", "stages")

    def __init__(self, stages: Sequence[Stage], output: Any = None) -> None:
        self.stages = tuple(stages)
        self.output = output
        self._leading: tuple[dict[str, Any], Filter, int] | None = None

    def items(self, collection: str, context: Context) -> Iterator[Item]:
        """A run over a collection. Leading $match, $sort and $limit are asked of the source."""
        place = next((place for place, stage in enumerate(self.stages) if hasattr(stage, "facets")), 0)
        before = self.stages[:place]
        if before and all(stage.is_repeatable for stage in before):
            made = self.stages[place].over(lambda inside: Pipeline((*before, *inside.stages)).items(collection, context))
            return self._through(self.stages[place + 1 :], made, context)
        source, rest = self._source(collection, context)
        return self._through(rest, source, context)

    def over(self, batches: Iterable[list[dict]], context: Context) -> Iterator[Item]:
        """A run over documents at hand, in batches that the caller has cut small."""
        return self._through(self.stages, iter(batches), context)

    @staticmethod
    def _through(stages: Sequence[Stage], items: Iterator[Item], context: Context) -> Iterator[Item]:
        for is_alone, run in groupby(stages, _stands_alone):
            if is_alone:
                for stage in run:
                    items = stage.run(items, context)
            else:
                items = _each_batch(items, [stage.on_batch(context) for stage in run])
        return items

    def leading_filter(self) -> tuple[Mapping[str, Any], int]:
        """The filter of the first $match stages together, and how many stages those are."""
        specs = []
        for stage in self.stages:
            if type(stage) is not Match:
                break
            specs.append(stage.spec)
        if len(specs) == 1:
            return specs[0], 1
        filled = [spec for spec in specs if spec]
        return ({"$and": filled} if filled else {}), len(specs)

    def leading(self, variables: dict[str, Any]) -> tuple[Filter, int]:
        """The compiled leading_filter(), for these variables; kept for as long as they are the same object."""
        held = self._leading
        if held is None or held[0] is not variables:
            spec, count = self.leading_filter()
            held = self._leading = (variables, compile_filter(spec, variables), count)
        return held[1:]

    def _source(self, collection: str, context: Context) -> tuple[Iterator[Item], Sequence[Stage]]:
        matches, place = self.leading(context.variables)
        rest = self.stages[place:]
        order = getattr(rest[0], "order", None) if rest else None
        if order is not None:
            wanted, rest = rest[0].wanted, rest[1:]
        else:
            wanted = wanted_of(rest)
        return rows(Rows(collection, matches, order, wanted)), rest


def wanted_of(stages: Sequence[Stage]) -> int:
    """How many documents these stages take in at most, as their leading $skip and $limit say; 0 when nothing says so."""
    skipped = 0
    for stage in stages:
        if type(stage) is Limit:
            return skipped + stage.count
        if type(stage) is not Skip:
            return 0
        skipped += stage.count
    return 0


def _stands_alone(stage: Stage) -> bool:
    return not isinstance(stage, PerDocument | Match)


def depth_of(stages: Sequence[Stage]) -> int:
    """How many iterators these stages take inside each other when they run."""
    return sum(len(list(run)) if is_alone else 1 for is_alone, run in groupby(stages, _stands_alone))


def rows(request: Rows) -> Iterator[Item]:
    """All batches of a request."""
    while True:
        yield request
        if request.batch is None:
            return
        yield request.batch


def in_batches(documents: Iterable[dict]) -> Iterator[list[dict]]:
    """Documents at hand, cut into batches."""
    batch: list[dict] = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch = []
    if batch:
        yield batch


def run_over(pipeline: Pipeline, collections: Mapping[str, Sequence[dict]], collection: str, context: Context) -> list[dict]:
    """A whole run at once over collections at hand: for tests, and for what is small."""
    return list(_answered(pipeline.items(collection, context), collections))


def _answered(items: Iterator[Item], collections: Mapping[str, Sequence[dict]]) -> Iterator[dict]:
    running: dict[Rows, Iterator[list[dict]]] = {}
    for item in items:
        if type(item) is not Rows:
            yield from item
            continue
        if item not in running:
            running[item] = _found(item, collections.get(item.collection, ()))
        item.batch = next(running[item], None)


def _found(request: Rows, documents: Sequence[dict]) -> Iterator[list[dict]]:
    found = [document for document in documents if request.matches(document)]
    if request.sort is not None:
        found.sort(key=request.sort)
    return in_batches(found[: request.wanted] if request.wanted else found)
