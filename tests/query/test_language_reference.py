"""docs/queries.md names what the language has, neither more nor less: every operator that is there is named, and every one named is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from storage.errors import BadQuery
from storage.query.expressions import compile_expression, operators_known
from storage.query.filters import compile_filter
from storage.query.stages import parse_pipeline
from storage.query.updates import compile_update

PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text(encoding="utf-8")
THERE = PAGE.split("### What is there")[1].split("### What is refused")[0]
REFUSED = PAGE.split("### What is refused")[1].split("### Bounds")[0]


def named(text: str) -> set[str]:
    return set(re.findall(r"(?<!\$)\$\w+", " ".join(re.findall(r"`([^`]*)`", text))))


def part(title: str) -> set[str]:
    return named(THERE.split(f"**{title}**")[1].split("\n\n**")[0])


def problem(ask: object) -> str:
    try:
        ask()
    except BadQuery as refusal:
        return refusal.message
    return ""


def test_expressions() -> None:
    assert part("Expressions") - {"$$ROOT"} - named(THERE.split("Variables:")[1]) | {"$let", "$map", "$filter", "$reduce"} == set(operators_known())


@pytest.mark.parametrize("name", sorted(part("Filters") - {"$options"}))
def test_filters(name: str) -> None:
    in_field, on_top = problem(lambda: compile_filter({"a": {name: 1}})), problem(lambda: compile_filter({name: 1}))
    assert "unknown" not in in_field or "unknown" not in on_top


@pytest.mark.parametrize("name", sorted(part("Updates") - {"$each", "$position", "$sort", "$slice", "$addFields", "$project", "$replaceRoot", "$replaceWith"}))
def test_updates(name: str) -> None:
    assert "unknown" not in problem(lambda: compile_update({name: {"a": []}}))


@pytest.mark.parametrize("name", sorted(part("Stages")))
def test_stages(name: str) -> None:
    assert "unknown" not in problem(lambda: parse_pipeline([{name: None}]))


@pytest.mark.parametrize("name", sorted(part("Accumulators")))
def test_accumulators(name: str) -> None:
    found = problem(lambda: parse_pipeline([{"$group": {"_id": None, "x": {name: []}}}]))
    assert "unknown" not in found


INSTEAD = {"$regex", "$type", "$exists", "$sample", "$expr", "$toDouble", "$bucketAuto", "$in"}


def refusals(name: str) -> list[str]:
    """What each part of the language says to the name, without the name."""
    asks = (
        lambda: compile_filter({name: 1}),
        lambda: compile_filter({"a": {name: 1}}),
        lambda: compile_expression({name: 1}),
        lambda: parse_pipeline([{name: {}}]),
        lambda: parse_pipeline([{"$group": {"_id": None, "x": {name: {}}}}]),
    )
    return [problem(ask).replace(name, "") for ask in asks]


@pytest.mark.parametrize("name", sorted(named(REFUSED) - INSTEAD))
def test_what_is_refused_is_known_and_refused(name: str) -> None:
    """Everywhere refused, and somewhere with other words than a name that nobody has heard of."""
    found = refusals(name)
    assert all(found)
    assert any(mine != other for mine, other in zip(found, refusals("$nonsense"), strict=True))
