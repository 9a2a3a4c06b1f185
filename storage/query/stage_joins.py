"""Stages that bring other documents in: $lookup $unionWith $facet. Pure: what they read, they ask of whoever drives the pipeline.

$lookup by equality gathers up to BATCH_KEYS documents and asks once for all their keys; a key is asked for once while its answer is kept. By a
pipeline it runs that pipeline once for each different set of variables; what comes out of its first stages, those that see no variable, is kept
if it is small. Everything that is kept has a bound, and all reads are of one view (INV-2), since the driver has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..errors import BadQuery, QueryTooLarge
from ..values.documents import encode_value
from ..values.order import SortKey
from .expression_operands import Compiled, Scope, order_key, reached
from .expressions import path_parts
from .filters import compile_filter
from .memory import Held, size_of
from .paths import MISSING, NO_INDEX, Path, Seen
from .pipeline import BATCH_DOCUMENTS, Context, Item, Match, Pipeline, Rows, in_batches, rows

BATCH_KEYS = 256
KEPT_BYTES_MAX = 16 * 2**20  # of answers of one $lookup, and of the documents its pipeline begins with
_NULL = order_key(None)


def local_values(document: dict, path: Path) -> list[Any]:
    """What $lookup looks for: the values at localField, arrays by their elements; null when there is none."""
    found: list[Any] = []
    _visit(document, path, 0, found, set() if path.is_winding else None)
    return found or [None]


def _visit(value: Any, path: Path, at: int, found: list[Any], seen: Seen | None) -> None:
    if at == len(path.parts):
        if type(value) is list:
            found += value
        else:
            found.append(value)
    elif type(value) is dict:
        if path.parts[at] in value:
            _visit(value[path.parts[at]], path, at + 1, found, seen)
    elif type(value) is list:
        if seen is not None:  # see paths.py
            way = id(value) << 8 | at
            if way in seen:
                return
            seen.add(way)
        index = path.indexes[at]
        if index != NO_INDEX and index < len(value):
            _visit(value[index], path, at + 1, found, seen)
        for element in value:
            if type(element) is dict:
                _visit(element, path, at, found, seen)


class _Kept:
    """Answers by key, let go all at once when they weigh too much: they are only there to be quick."""

    def __init__(self) -> None:
        self._found: dict[Any, list[dict]] = {}
        self._bytes = 0

    def get(self, key: Any) -> list[dict] | None:
        return self._found.get(key)

    def put(self, key: Any, documents: list[dict], weight: int) -> None:
        size = 200 + weight
        if self._bytes + size > KEPT_BYTES_MAX:
            self._found.clear()
            self._bytes = 0
        if size <= KEPT_BYTES_MAX:
            self._found[key] = documents
            self._bytes += size


class EqualityLookup:
    """$lookup with localField and foreignField; inside: the pipeline that the matches go through, or None."""

    is_repeatable = True

    def __init__(self, spec: Mapping[str, Any], inside: Pipeline | None, let: list[tuple[str, Compiled]]) -> None:
        self.spec = spec
        self._from = spec["from"]
        self._local, self._foreign = Path(spec["localField"]), Path(spec["foreignField"])
        self._foreign_name = spec["foreignField"]
        self._target = path_parts(spec["as"])
        self._inside = inside
        self._let = let

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        kept = _Kept()
        waiting: list[dict] = []
        for item in items:
            if type(item) is Rows:
                yield item
                continue
            waiting += item
            if len(waiting) >= BATCH_KEYS:
                yield from self._joined(waiting, kept, context)
                waiting = []
            else:
                yield []
        yield from self._joined(waiting, kept, context)

    def _joined(self, documents: list[dict], kept: _Kept, context: Context) -> Iterator[Item]:
        wanted = []
        for some in in_batches(documents):
            wanted += [[(order_key(value), value) for value in local_values(document, self._local)] for document in some]
            yield []
        ask: dict[SortKey, Any] = {}
        held: dict[SortKey, list[dict]] = {}
        for row in wanted:
            single = kept.get(row[0][0]) if len(row) == 1 else None
            if single is None:
                ask.update(row)
            else:
                held[row[0][0]] = single
        answers: dict[SortKey, list[tuple[int, dict]]] = {key: [] for key in ask}
        weights = dict.fromkeys(ask, 0)
        for number, document in enumerate((yield from self._asked(ask))):
            weight = size_of(document)
            for key in self._keys(document):
                if key in answers:
                    answers[key].append((number, document))
                    weights[key] += weight
            if number % BATCH_DOCUMENTS == 0:
                yield []
        for key, rows_found in answers.items():
            held[key] = [found for _, found in rows_found]
            kept.put(key, held[key], weights[key])
        for document, row in zip(documents, wanted):
            if len(row) > 1:
                by_place = {number: found for key, _ in row for number, found in answers[key]}
                matches = [by_place[number] for number in sorted(by_place)]
            else:
                matches = held[row[0][0]]
            if self._inside is not None:
                inner = context.knowing({name: part(document, context.variables) for name, part in self._let})
                matches = yield from collected(self._inside.over(in_batches(matches), inner), "$lookup")
            yield [_with(document, self._target, list(matches))]

    def _asked(self, ask: Mapping[SortKey, Any]) -> Iterator[Item]:
        """All documents whose foreign field equals one of the values; the generator's value."""
        if not ask:
            return []
        name = self._foreign_name
        if name == "_id":  # at most one document each, found without a search
            requests = [Rows(self._from, compile_filter({name: {"$eq": value}})) for value in ask.values()]
        else:
            tests = [{name: {"$eq": value}} for value in ask.values()]
            requests = [Rows(self._from, compile_filter(tests[0] if len(tests) == 1 else {"$or": tests}))]
        found: list[dict] = []
        held = Held("$lookup")
        for request in requests:
            found += yield from _collected(rows(request), held)
        return found

    def _keys(self, document: dict) -> set[SortKey]:
        entries: set[SortKey] = set()

        def note(value: Any) -> bool:
            entries.add(_NULL if value is MISSING else order_key(value))
            return False

        self._foreign.any_value(document, note)
        return entries


def collected(items: Iterator[Item], stage: str) -> Iterator[Item]:
    """All documents of a run, which is the generator's value; requests and pauses go through. Raises QueryTooLarge."""
    return (yield from _collected(items, Held(stage)))


def _collected(items: Iterator[Item], held: Held) -> Iterator[Item]:
    found: list[dict] = []
    for item in items:
        if type(item) is Rows:
            yield item
            continue
        held.add_documents(item)
        found += item
        yield []
    return found


class PipelineLookup:
    """$lookup with a pipeline and no fields."""

    is_repeatable = True

    def __init__(self, spec: Mapping[str, Any], inside: Pipeline, let: list[tuple[str, Compiled]]) -> None:
        self.spec = spec
        self._from = spec["from"]
        self._target = path_parts(spec["as"])
        self._let = let
        names = [name for name, _ in let]
        count = next((place for place, stage in enumerate(inside.stages) if mentions(stage.spec, names)), len(inside.stages))
        self._whole = inside
        self._first, self._rest = Pipeline(inside.stages[:count]), Pipeline(inside.stages[count:])
        self._equality = _equality(self._rest, names)

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        kept = _Kept()
        beginning: _Beginning | None = None
        for item in items:
            if type(item) is Rows:
                yield item
                continue
            for document in item:
                if beginning is None:
                    beginning = yield from self._begun(context)
                values = {name: part(document, context.variables) for name, part in self._let}
                key = encode_value([[] if value is MISSING else [value] for value in values.values()])
                matches = kept.get(key)
                if matches is None:
                    held = Held("$lookup")
                    matches = yield from _collected(self._run_for(beginning, context.knowing(values)), held)
                    kept.put(key, matches, held.bytes)
                yield [_with(document, self._target, list(matches))]

    def _run_for(self, beginning: _Beginning, context: Context) -> Iterator[Item]:
        if beginning.documents is None:
            return self._whole.items(self._from, context)
        return self._rest.over(in_batches(beginning.candidates(context)), context)

    def _begun(self, context: Context) -> Iterator[Item]:
        """What the pipeline begins with, when it is small enough to keep."""
        held = Held("$lookup")
        found: list[dict] = []
        try:
            for item in self._first.items(self._from, context):
                if type(item) is Rows:
                    yield item
                    continue
                held.add_documents(item)
                if held.bytes > KEPT_BYTES_MAX:
                    return _Beginning(None, None)
                found += item
                yield []
        except QueryTooLarge:
            return _Beginning(None, None)
        return _Beginning(found, self._equality)


class _Beginning:
    """The documents that a $lookup's pipeline begins with, or None when they are too many to keep."""

    def __init__(self, documents: list[dict] | None, equality: tuple[tuple[str, ...], Compiled] | None) -> None:
        self.documents = documents
        self._equality = equality
        self._by_key: dict[SortKey, list[dict]] = {}
        if documents is not None and equality is not None:
            for document in documents:
                self._by_key.setdefault(order_key(reached(document, equality[0])), []).append(document)

    def candidates(self, context: Context) -> list[dict]:
        """Those that can match: all, or where the pipeline begins by comparing a field with a variable, those that are equal."""
        assert self.documents is not None
        if self._equality is None:
            return self.documents
        return self._by_key.get(order_key(self._equality[1]({}, context.variables)), [])


def _equality(pipeline: Pipeline, names: list[str]) -> tuple[tuple[str, ...], Compiled] | None:
    """(path, value) when the pipeline begins with {$match: {$expr: {$eq: ["$path", "$$variable..."]}}}, alone or within an $and."""
    first = pipeline.stages[0] if pipeline.stages else None
    condition = first.spec.get("$expr") if type(first) is Match else None
    tests = condition.get("$and", [condition]) if isinstance(condition, Mapping) else []
    for test in tests if isinstance(tests, (list, tuple)) else ():
        pair = test.get("$eq") if isinstance(test, Mapping) else None
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(side, str) for side in pair):
            continue
        for field, variable in (pair, pair[::-1]):
            if field[:1] == "$" and field[:2] != "$$" and variable[:2] == "$$" and variable[2:].split(".")[0] in names:
                return path_parts(field[1:]), _variable(variable[2:])
    return None


def _variable(text: str) -> Compiled:
    name, *path = text.split(".")
    return lambda _, variables: reached(variables[name], tuple(path))


def mentions(spec: Any, names: Iterable[str]) -> bool:
    """Whether a variable of these names may stand somewhere in a spec."""
    wanted = tuple(names)
    pending = [spec]
    while pending and wanted:
        part = pending.pop()
        if isinstance(part, str):
            if part.startswith("$$") and part[2:].split(".")[0] in wanted:
                return True
        elif isinstance(part, Mapping):
            pending += part.values()
        elif isinstance(part, (list, tuple)):
            pending += part
    return False


def _with(document: dict, path: tuple[str, ...], value: Any) -> dict:
    made = dict(document)
    if len(path) > 1:
        inner = made.get(path[0])
        value = _with(inner if type(inner) is dict else {}, path[1:], value)
    made[path[0]] = value
    return made


class UnionWith:
    """$unionWith: the documents that come, then those of another collection through a pipeline."""

    is_repeatable = True

    def __init__(self, spec: Any, collection: str, inside: Pipeline) -> None:
        self.spec = spec
        self._collection = collection
        self._inside = inside

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        yield from items
        yield from self._inside.items(self._collection, context)


class Facet:
    """$facet: one document with the outcome of each pipeline over the same documents."""

    is_repeatable = False

    def __init__(self, facets: Mapping[str, Pipeline], spec: Any) -> None:
        self.spec = spec
        self.facets = facets

    def over(self, run: Callable[[Pipeline], Iterator[Item]]) -> Iterator[Item]:
        """Each pipeline by a run of its own, whose input can be had again."""
        held = Held("$facet")
        made: dict[str, list[dict]] = {}
        for name, inside in self.facets.items():
            made[name] = yield from _collected(run(inside), held)
        yield [made]

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        """All pipelines over documents that cannot be had again and so are held."""
        documents = yield from collected(items, "$facet")
        yield from self.over(lambda inside: inside.over(in_batches(documents), context))


def read_let(spec: Any, scope: Scope, check_name: Callable[[Any], None]) -> list[tuple[str, Compiled]]:
    """The variables of $lookup's let. Raises BadQuery."""
    if not isinstance(spec, Mapping):
        raise BadQuery("$lookup: let must be a map of variables", code=9)
    for name in spec:
        check_name(name)
    return [(name, scope.compile(part)) for name, part in spec.items()]
