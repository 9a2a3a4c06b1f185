"""The engine's answers against the naive evaluator's, in content and order, with seals and reopenings between."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from hypothesis import HealthCheck, given, settings

from tests.engine import naive_world

BRIEFLY = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("memtable_records_max", [3, 1000])
def test_every_question_has_the_naive_answer(memtable_records_max: int) -> None:
    @BRIEFLY
    @given(naive_world.worlds)
    def hold(steps: list) -> None:
        trio.run(partial(naive_world.play, steps, memtable_records_max=memtable_records_max))

    hold()
