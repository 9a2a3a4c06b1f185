"""The engine's answers against the naive evaluator's, in content and order, with seals, indexes and reopenings between; briefly."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.engine.naive_world import PROPERTIES

BRIEFLY = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", list(PROPERTIES))
def test_every_question_has_the_naive_answer(name: str) -> None:
    BRIEFLY(PROPERTIES[name])()
