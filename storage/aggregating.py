"""The verbs aggregate and distinct. Used by the node's service and the embedded client alike.

    stages ── parse_pipeline ──> items ──┬─ batches of documents ──> Cursor, or outputs.py ($out, $merge)
                                         └─ Rows: find_rows() of one view (INV-2)

What a pipeline does is query/stages.py's; here its requests for documents are answered, all from one view, and its work is cut into slices
(INV-9): a stage gives an item at least every BATCH_DOCUMENTS documents, and between two items the loop may go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import trio

from .compiling import compiled
from .database import Database
from .errors import BadQuery
from .matching import Found, find_rows
from .names import check_collection_name
from .outputs import write_out
from .pushing import distinct_values, pushed_down
from .query.expressions import UNSTORABLE, check_variable_name, compile_expression, refusal
from .query.filters import Filter, compile_filter
from .query.paths import MISSING, Path
from .query.pipeline import BATCH_DOCUMENTS, Context, Item, Pipeline, Rows, in_batches
from .query.stages import parse_pipeline
from .query.weight import LOOPING, is_heavier
from .reading import Cursor, encode_projected
from .values.documents import DOCUMENT_BYTES_MAX, encode_made, encode_value
from .values.extensions import moment
from .values.order import sort_key
from .views import View

SLICE_S = 0.002
SLOW_ITEM_S = 0.004  # a step of a pipeline that took longer is no longer taken on the loop
STEPPED_HERE_MAX = 200  # values and keys of a pipeline that is run on the loop
SLICE_ITEMS = 16  # and as many items at most between two pauses, for clocks that stand still
_DISTINCT_TOO_LARGE = 17217
_NUL_IN_DISTINCT = 31032


async def aggregate(
    db: Database, collection: str, stages: Sequence[Mapping[str, Any]], *, let: Mapping[str, Any] | None = None
) -> Cursor:
    """What the pipeline makes of a collection, encoded. let: variables for its expressions.

    A pipeline that ends in $out or $merge is carried out before this returns; its cursor is empty, and its `written` is the last commit that
    was made. Raises BadQuery before anything is read; what is wrong with a document's values only when that is reached."""
    check_collection_name(collection)
    now = moment(db.seams.time_us() // 1000)
    view = db.view()
    variables = {"NOW": now, **(await compiled(db, _values, let or {}, now))}
    pipeline = await compiled(db, parse_pipeline, stages, variables)
    context = Context(db.seams.random_bytes, variables)
    beside = is_heavier(STEPPED_HERE_MAX, stages, heavy=LOOPING)
    if beside:
        await view.run(pipeline.leading, variables)
    number = view.catalog.ids.get(collection)
    answered = await pushed_down(view, number, pipeline, variables) if number is not None else None
    if answered is not None and not answered[1].stages and pipeline.output is None:
        return Cursor(_nothing(), view, await view.run(encode_made, answered[0]))
    items = _items(collection, pipeline, answered, context)
    documents = documents_of(view, items, beside=beside)
    if pipeline.output is None:
        return Cursor(_encoded(documents), view)
    written = await write_out(db, pipeline.output, documents, context)
    cursor = Cursor(_nothing(), view)
    cursor.written = written
    return cursor


def _values(let: Mapping[str, Any], now: Any) -> dict[str, Any]:
    if not isinstance(let, Mapping):
        raise BadQuery("let must be a map of variables", code=14)
    for name in let:
        check_variable_name(name)
    found = {name: compile_expression(spec)({}, {"NOW": now}) for name, spec in let.items()}
    return {name: None if value is MISSING else value for name, value in found.items()}


def _items(
    collection: str, pipeline: Pipeline, answered: tuple[list[dict], Pipeline] | None, context: Context
) -> Iterator[Item]:
    if answered is None:
        return pipeline.items(collection, context)
    documents, rest = answered
    return rest.over(in_batches(documents), context)


async def _encoded(documents: AsyncIterator[list[dict]]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(documents):
        async for batch in documents:
            for document in batch:
                yield encode_projected(document)


async def _nothing() -> AsyncIterator[bytes]:
    for data in ():
        yield data


async def documents_of(view: View, items: Iterator[Item], *, beside: bool) -> AsyncIterator[list[dict]]:
    """Drive a pipeline: its batches that are not empty; its requests are answered from the view.

    beside: in the disk's thread, since its stages may work for long on one item; where they turn out to, the rest is done there."""
    reads = _Reads(view)
    began = trio.current_time()
    slice_ends, left = began + SLICE_S, SLICE_ITEMS
    try:
        while (item := await view.run(_next, items) if beside else _next(items)) is not None:
            if beside:
                view.check_age()
            elif trio.current_time() - began > SLOW_ITEM_S:
                beside = True
            if type(item) is Rows:
                item.batch = await reads.next_batch(item)
            elif item:
                yield item
            left -= 1
            if not left or trio.current_time() >= slice_ends:
                await trio.lowlevel.checkpoint()
                view.check_age()
                slice_ends, left = trio.current_time() + SLICE_S, SLICE_ITEMS
            began = trio.current_time()
    finally:
        await reads.close()


def _next(items: Iterator[Item]) -> Item | None:
    try:
        return next(items, None)
    except UNSTORABLE as cause:
        raise refusal(cause) from None


class _Reads:
    """The requests of one running pipeline. Batches are cut to BATCH_DOCUMENTS, so that no stage is given much at a time."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._running: dict[Rows, tuple[AsyncIterator[list[Found]], list[Found]]] = {}

    async def next_batch(self, request: Rows) -> list[dict] | None:
        running = self._running.get(request)
        if running is None:
            number = self._view.catalog.ids.get(request.collection)
            if number is None:
                return None
            source = find_rows(self._view, number, request.matches, sort=request.sort, wanted=request.wanted)
            running = self._running[request] = (source, [])
        source, ahead = running
        if not ahead:
            ahead = await anext(source, [])
            if not ahead:
                del self._running[request]
                await source.aclose()
                return None
        self._running[request] = (source, ahead[BATCH_DOCUMENTS:])
        return [found.document for found in ahead[:BATCH_DOCUMENTS]]

    async def close(self) -> None:
        for source, _ in self._running.values():
            await source.aclose()


async def distinct(db: Database, collection: str, path: str, spec: Mapping[str, Any]) -> list[Any]:
    """The different values that a path has in the documents that match, in MongoDB's order; of an array, its elements.
    Raises BadQuery (17217) when they are over 16 MiB together."""
    check_collection_name(collection)
    check_distinct_path(path)
    view = db.view()
    matches = await compiled(db, compile_filter, spec)
    number = view.catalog.ids.get(collection)
    if number is None:
        return []
    found = await distinct_values(view, number, path, matches)
    if found is None:
        found = await _distinct_by_documents(view, number, path, matches)
    size = 0
    for value in found:
        size += len(encode_value(value))
        if size > DOCUMENT_BYTES_MAX:
            raise _distinct_too_large(path)
    return found


def check_distinct_path(path: Any) -> None:
    """Raises BadQuery for what is no field's name."""
    if not isinstance(path, str) or not path:
        raise BadQuery("distinct takes a field's name", code=14)
    if "\0" in path:
        raise BadQuery(f"distinct {path[:40]!r}: a field's name must not hold NUL", code=_NUL_IN_DISTINCT)
    Path(path)  # for its rules


async def _distinct_by_documents(view: View, collection: int, path: str, matches: Filter) -> list[Any]:
    reached: list[Any] = []
    gather = Path(path).naming(_note_all(reached))
    found: dict[Any, Any] = {}
    size = 0
    async with contextlib.aclosing(find_rows(view, collection, matches)) as batches:
        async for batch in batches:
            for row in batch:
                reached.clear()
                gather(row.document)
                for value in reached:
                    key = sort_key(value)
                    if key not in found:
                        found[key] = value
                        size += len(encode_value(value))
            if size > DOCUMENT_BYTES_MAX:
                raise _distinct_too_large(path)
    return [found[key] for key in sorted(found)]


def _distinct_too_large(path: str) -> BadQuery:
    return BadQuery(
        f"distinct {path!r}: the values are over {DOCUMENT_BYTES_MAX} bytes; use $group, which gives them in batches",
        code=_DISTINCT_TOO_LARGE,
    )


def _note_all(found: list[Any]) -> Callable[[Any], bool]:
    """A test that never passes and keeps what it is shown: an array by its elements, nothing of what is missing."""

    def note(value: Any) -> bool:
        if type(value) is list:
            found.extend(value)
        elif value is not MISSING:
            found.append(value)
        return False

    return note
