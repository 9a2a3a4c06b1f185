"""The properties that hold the engine against the naive evaluator, one a part of the language; the tests run them briefly, long.py at length."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tests.query import opinions
from tests.query import strategies as some
from tests.query.naive import filters


@given(some.documents, some.filters)
def filters_agree(document: dict, spec: dict) -> None:
    opinions.check_filter(document, spec)


@given(some.documents, st.lists(some.values, min_size=1, max_size=3))
def plain_conditions_agree(document: dict, arguments: list) -> None:
    """Every comparison with every argument: most random filters match nothing, these often do."""
    for operator in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"):
        for argument in [*arguments, *document.values()]:
            for path in ("a", "b", "a.b", "a.0"):
                opinions.check_filter(document, {path: {operator: argument}})


@given(st.lists(some.documents, max_size=6), some.sorts)
def sorts_agree(documents: list[dict], sort: list) -> None:
    opinions.check_sort(documents, sort)


@given(some.documents, some.projections)
def projections_agree(document: dict, spec: dict) -> None:
    opinions.check_projection(document, spec)


@given(some.documents, some.updates, some.array_filters)
def updates_agree(document: dict, spec: dict, array_filters: list) -> None:
    opinions.check_update(document, spec, array_filters if "$[x]" in str(spec) else None)


@given(st.one_of(some.documents, some.array_documents), st.one_of(some.single_updates, some.double_updates))
def small_updates_agree(document: dict, spec: dict) -> None:
    """One or two changes: most of them can be made."""
    opinions.check_update(document, spec, None)


@given(st.one_of(some.documents, some.array_documents), some.positional_changes, some.positional_filters)
def positional_updates_agree(document: dict, spec: dict, filter: dict) -> None:
    if filters.matches(document, filter):
        opinions.check_update(document, spec, None, filter)


@given(some.documents, some.expressions)
def expressions_agree(document: dict, spec: object) -> None:
    opinions.check_expression(document, spec)


@given(some.collections, some.pipelines, some.collections)
def pipelines_agree(documents: list[dict], stages: list[dict], others: list[dict]) -> None:
    opinions.check_pipeline(documents, stages, others)


PURE: dict[str, Callable[[], None]] = {
    "filters": filters_agree,
    "plain conditions": plain_conditions_agree,
    "sorts": sorts_agree,
    "projections": projections_agree,
    "updates": updates_agree,
    "small updates": small_updates_agree,
    "positional updates": positional_updates_agree,
    "expressions": expressions_agree,
    "pipelines": pipelines_agree,
}
