"""The table of scenarios: steps that exist, in an order that makes sense."""

from __future__ import annotations

import pytest

from ops.drills.scenarios import (
    FAULTS,
    ORDERS,
    PRIMARY,
    RELIEF_OF,
    RELIEFS,
    SCENARIOS,
    STANDBY,
    Act,
    Scenario,
    State,
)

EVERY = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
OF_A_NODE = {State.STEPPED_DOWN, State.FOLLOWS}


def test_the_drills_that_are_promised_are_there():
    assert set(SCENARIOS) == {
        "kill-primary", "freeze-primary", "partition", "half-open", "disk-full", "primary-returns", "double-failover", "switchover",
        "standby-lost-block", "standby-lost-degrade",
    }  # fmt: skip


def test_every_act_is_of_one_sort():
    assert FAULTS | RELIEFS | ORDERS | {Act.STEADY, Act.UNTIL} == set(Act)
    assert not FAULTS & RELIEFS


@EVERY
def test_steps_say_what_they_need(scenario: Scenario):
    for step in scenario.steps:
        assert (step.state is not None) is (step.act is Act.UNTIL), step
        if step.act in FAULTS | RELIEFS | ORDERS or step.state in OF_A_NODE:
            assert step.node in (PRIMARY, STANDBY), step
        else:
            assert step.node == "", step


@EVERY
def test_writers_write_before_the_first_deed_and_after_the_last(scenario: Scenario):
    assert scenario.steps[0].act is Act.STEADY and scenario.steps[-1].act is Act.STEADY
    assert any(step.act in FAULTS | ORDERS for step in scenario.steps)


@EVERY
def test_reliefs_follow_their_faults_and_states_follow_deeds(scenario: Scenario):
    broken: list[tuple[Act, str]] = []
    faults = 0
    for step in scenario.steps:
        if step.act in FAULTS:
            assert (RELIEF_OF[step.act], step.node) not in broken, "broken twice"
            broken.append((RELIEF_OF[step.act], step.node))
            faults += 1
        elif step.act in RELIEFS:
            assert (step.act, step.node) in broken, f"{step.act} relieves nothing"
            broken.remove((step.act, step.node))
        elif step.state in (State.DETECTED, State.WRITES_STOP):
            assert faults, f"{step.state} before any fault"
        elif step.act is Act.PROMOTE:
            assert ("start", step.node) not in [(relief.value, node) for relief, node in broken], "a dead node cannot be promoted"


@EVERY
def test_writes_that_stop_do_so_for_want_of_a_standby_or_of_space(scenario: Scenario):
    stops = [step for step in scenario.steps if step.state is State.WRITES_STOP]
    assert all(step.with_acks for step in stops) or Act.FILL in scenario.faults()
