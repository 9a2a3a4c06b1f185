"""The engine's language against the naive evaluator's, briefly; `python -m tests.query.long` does the same at length."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from tests.query import opinions
from tests.query.properties import PURE

BRIEFLY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", list(PURE))
def test_both_have_the_same_opinion(name: str) -> None:
    prop: Callable[[], None] = BRIEFLY(PURE[name])
    prop()


@pytest.mark.parametrize(
    ("naive", "engine", "agree"),
    [
        (opinions.Opinion(1), opinions.Opinion(1), True),
        (opinions.Opinion(1), opinions.Opinion(1.0), False),
        (opinions.Opinion({"a": 1, "b": 2}), opinions.Opinion({"b": 2, "a": 1}), False),
        (opinions.Opinion(1), opinions.Opinion("no", is_refused=True, code=2), False),
        (opinions.Opinion("no", is_refused=True, code=2), opinions.Opinion("no", is_refused=True, code=9), False),
        (opinions.Opinion("no", is_refused=True), opinions.Opinion("no", is_refused=True, code=9), True),
        (opinions.Opinion("no", is_refused=True), opinions.Opinion(None), False),
    ],
)
def test_what_counts_as_a_difference(naive: opinions.Opinion, engine: opinions.Opinion, agree: bool) -> None:
    assert naive.agrees_with(engine) is agree
