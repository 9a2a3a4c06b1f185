"""Targets files: layers, what misses a limit, and that the shipped one has something to say of every scenario."""

from __future__ import annotations

import pytest

from ops.commands.drill import SHIPPED_LIMITS
from ops.drills.limits import TARGET_NAMES, BadLimits, Limit, missed, read_limits
from ops.drills.scenarios import SCENARIOS
from ops.drills.verdict import MEASURES, judge
from tests.drills.made_facts import whole, with_documents

TEXT = """
format: 1
every: {came_twice: 0, longest_gap_s: 10, acks-0: {came_twice: 3}, compose: {longest_gap_s: 60}}
scenarios:
  kill-primary: {lost_writes: 0, reads_found: {least: 5}, acks-0: {lost_writes: 7}, kubernetes: {longest_gap_s: null}}
"""


def limits(target: str = "local", acks: int = 1, text: str = TEXT) -> dict[str, Limit]:
    return {limit.measure: limit for limit in read_limits(text, "mine.yaml", scenario="kill-primary", target=target, acks=acks)}


def test_layers_lie_over_one_another():
    assert {name: limit.value for name, limit in limits().items()} == {"came_twice": 0, "longest_gap_s": 10, "lost_writes": 0, "reads_found": 5}
    assert limits()["reads_found"].least and not limits()["lost_writes"].least
    assert limits(acks=0)["lost_writes"].value == 7 and limits(acks=0)["came_twice"].value == 3
    assert limits("compose")["longest_gap_s"].value == 60
    assert "longest_gap_s" not in limits("kubernetes")


@pytest.mark.parametrize(("limit", "measured", "is_missed"), [
    (Limit("lost_writes", 0), 0, False),
    (Limit("lost_writes", 0), 1, True),
    (Limit("lost_writes", 0), None, True),  # not measured is not kept
    (Limit("longest_gap_s", 2.5), 2.5, False),
    (Limit("longest_gap_s", 2.5), 2.6, True),
    (Limit("reads_found", 5, least=True), 5, False),
    (Limit("reads_found", 5, least=True), 4, True),
    (Limit("reads_found", 5, least=True), None, True),
])
def test_what_misses_a_limit(limit, measured, is_missed):
    why = limit.why_missed(measured)
    assert (why is not None) is is_missed
    assert why is None or limit.measure in why


@pytest.mark.parametrize(("text", "said"), [
    ("[]", "must be a mapping"),
    ("format: 2", "format: 2 must be 1"),
    ("{format: 1, limits: {}}", "limits: must be one of"),
    ("{format: 1, scenarios: {kill-primary: {lost_wirtes: 0}}}", "scenarios.kill-primary.lost_wirtes: is no measure"),
    ("{format: 1, scenarios: {kill-primary: {lost_writes: -1}}}", "at least 0"),
    ("{format: 1, scenarios: {kill-primary: {lost_writes: yes}}}", "must be a number"),
    ("{format: 1, scenarios: {kill-primary: {lost_writes: {most: 1}}}}", "{least: number}"),
    ("{format: 1, scenarios: {kill-primry: {}}}", "scenarios.kill-primry: there is no such scenario"),
    ("{format: 1, scenarios: {switchover: {}}}", "scenarios.kill-primary: is missing"),
    ("{format: 1, scenarios: {kill-primary: {compose: 3}}}", "scenarios.kill-primary.compose: 3 must be a mapping"),
    ("format: [", "not valid YAML"),
])
def test_a_file_that_breaks_its_form_is_refused_with_the_path(text, said):
    with pytest.raises(BadLimits) as refused:
        limits(text=text)
    assert "mine.yaml" in str(refused.value) and said in str(refused.value)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("target", TARGET_NAMES)
def test_the_shipped_limits_allow_no_acknowledged_write_to_be_lost(scenario, target):
    shipped = {limit.measure: limit for limit in read_limits(SHIPPED_LIMITS.read_text(), "", scenario=scenario, target=target, acks=1)}
    assert shipped["lost_writes"].value == 0
    assert shipped["came_twice"].value == 0
    assert "longest_gap_s" in shipped
    if not SCENARIOS[scenario].needs_acks:
        without = {limit.measure for limit in read_limits(SHIPPED_LIMITS.read_text(), "", scenario=scenario, target=target, acks=0)}
        assert "lost_writes" in without, "also where some loss is expected there is a limit to it"


def test_a_verdict_has_every_measure_that_limits_can_name():
    assert tuple(judge(whole()).measures()) == MEASURES


def test_a_planted_loss_misses_the_shipped_limits():
    shipped = read_limits(SHIPPED_LIMITS.read_text(), "", scenario="kill-primary", target="local", acks=1)
    assert missed(shipped, judge(whole()).measures()) == ()
    lost = judge(with_documents(whole(), b={"w0-4": None}))
    assert missed(shipped, lost.measures()) == ("lost_writes is 1, more than 0",)
    twice = judge(with_documents(whole(), a={"w0-4": 2}, b={"w0-4": 2}))
    assert missed(shipped, twice.measures()) == ("came_twice is 1, more than 0",)
