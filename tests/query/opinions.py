"""Two opinions on one question: the engine's and the naive evaluator's, and whether they agree.

Each check_* asks both and raises AssertionError with everything needed to ask again by hand.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import NamedTuple

from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from storage.errors import TwinlogError
from storage.query.expressions import compile_expression
from storage.query.filters import compile_filter
from storage.query.pipeline import Context, run_over
from storage.query.projection import compile_projection
from storage.query.sorting import compile_sort
from storage.query.stages import parse_pipeline
from storage.query.updates import compile_update
from tests.query.naive import expressions, filters, pipeline, projections, sorting, updates
from tests.query.naive.values import Refused
from tests.values.generated import same

KINDS = (type(None), bool, int, float, str, bytes, list, dict, datetime.datetime, uuid.UUID)
KINDS += (Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp)
NOW = datetime.datetime(2021, 1, 1)


class Opinion(NamedTuple):
    """An answer, or a refusal with its code (None: the naive side is not certain of MongoDB's number)."""

    answer: object = None
    is_refused: bool = False
    code: int | None = None
    is_spared: bool = False

    def agrees_with(self, other: Opinion, *, in_code: bool = True) -> bool:
        if self.is_spared:
            return True
        if self.is_refused or other.is_refused:
            if in_code and None not in (self.code, other.code) and self.code != other.code:
                return False
            return self.is_refused and other.is_refused
        return same(self.answer, other.answer)


def opinion(ask: Callable[[], object]) -> Opinion:
    try:
        return Opinion(ask())
    except Refused as refusal:
        return Opinion(str(refusal), is_refused=True, code=refusal.code, is_spared=refusal.is_spared)
    except TwinlogError as refusal:
        return Opinion(refusal.message, is_refused=True, code=refusal.code)


def check(naive: Callable[[], object], engine: Callable[[], object], *, in_code: bool = True, **question: object) -> None:
    """in_code: what is refused is refused with the same code; where a question is wrong twice, either code is right."""
    expected, got = opinion(naive), opinion(engine)
    asked = "".join(f"\n  {name}: {value!r}" for name, value in question.items())
    assert expected.agrees_with(got, in_code=in_code), f"{asked}\n  naive: {expected}\n  engine: {got}"


def check_filter(document: dict, spec: dict) -> None:
    check(lambda: filters.matches(document, spec), lambda: compile_filter(spec)(document), document=document, filter=spec)


def check_sort(documents: list[dict], sort: list) -> None:
    check(
        lambda: sorting.ordered(documents, sort),
        lambda: sorted(documents, key=compile_sort(sort)),
        documents=documents,
        sort=sort,
    )


def check_projection(document: dict, spec: dict) -> None:
    check(
        lambda: projections.projected(document, spec),
        lambda: compile_projection(spec)(document),
        document=document,
        projection=spec,
    )


def check_update(document: dict, spec: dict, array_filters: list | None, filter: dict | None = None) -> None:
    """The filter matches the document and says where the positional operator stands."""

    def by_engine() -> dict:
        update = compile_update(spec, array_filters)
        position = None if filter is None else compile_filter(filter).position(document)
        return update.apply(document, position=position, is_insert=False, now=NOW, now_timestamp=Timestamp(1, 1))

    check(
        lambda: updates.updated(document, spec, filter=filter, array_filters=array_filters),
        by_engine,
        in_code=len(spec) == 1 and all(isinstance(fields, dict) and len(fields) == 1 for fields in spec.values()),
        document=document,
        update=spec,
        array_filters=array_filters,
        filter=filter,
    )


def check_expression(document: dict, spec: object) -> None:
    check(
        lambda: plain(expressions.value(spec, document)),
        lambda: plain(compile_expression(spec)(document, {})),
        in_code=False,  # a question may be wrong at several places
        document=document,
        expression=spec,
    )


def plain(value: object) -> object:
    """A missing value, whichever side's marker it is, as one text; everything else as it is."""
    return value if isinstance(value, KINDS) else "MISSING"


def check_pipeline(documents: list[dict], stages: list[dict], others: list[dict]) -> None:
    collections = {"things": documents, "others": others}
    check(
        lambda: pipeline.run(documents, stages, collections),
        lambda: run_over(parse_pipeline(stages), collections, "things", Context(bytes)),
        in_code=False,
        documents=documents,
        stages=stages,
        others=others,
    )
