"""The verdict sees what it is there for: facts that are whole but for one thing, and that thing must be told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.drills.records import PLANTED, Copy, Event, Outcome, Proof, Sighting, write_name
from ops.drills.scenarios import Act
from ops.drills.verdict import detected_s, judge, longest_gap
from tests.drills.made_facts import (
    ACCEPTED,
    ENDED,
    HASH,
    KILLED,
    PROMOTED,
    STARTED,
    ZERO,
    copies_of,
    whole,
    with_documents,
    write,
)


def test_a_drill_in_which_all_went_well_has_nothing_to_complain_of():
    verdict = judge(whole())
    assert (verdict.lost, verdict.came_twice, verdict.late, verdict.problems) == ((), (), (), ())
    assert verdict.equal is True
    assert verdict.outcomes == {"acknowledged": 50, "unknown": 1}
    assert verdict.errors == {"AutoReconnect": 1}
    assert verdict.detected_s == (pytest.approx(0.25),)
    (takeover,) = verdict.takeovers
    assert takeover.node == "b" and not takeover.forced
    assert takeover.command_s == pytest.approx(0.1)
    assert takeover.first_accepted_s == pytest.approx(ACCEPTED - PROMOTED)
    assert takeover.recovered_s == pytest.approx(ACCEPTED - KILLED)
    assert verdict.longest_gap_s == pytest.approx(ACCEPTED - (ZERO + 1.91))
    assert verdict.longest_gap_at == pytest.approx(ZERO + 1.91)
    assert verdict.reads == {"failed": 1, "found": 1}


def test_a_lost_acknowledged_write_is_named_with_its_time_and_position():
    verdict = judge(with_documents(whole(), a={"w0-18": None, "w0-19": None}, b={"w0-18": None, "w0-19": None}))
    assert [(one.name, one.position) for one in verdict.lost] == [("w0-18", (1, 19)), ("w0-19", (1, 20))]
    assert verdict.measures()["lost_writes"] == 2
    assert verdict.lost_seconds == pytest.approx(KILLED - (ZERO + 1.81)), "from the first lost acknowledgement to the fault"


def test_what_is_lost_is_what_the_survivor_lacks_wherever_else_it_still_is():
    verdict = judge(with_documents(whole(), b={"w0-5": None}))
    assert [one.name for one in verdict.lost] == ["w0-5"]
    assert verdict.equal is False


def test_a_document_whose_write_was_never_applied_counts_as_lost():
    assert [one.name for one in judge(with_documents(whole(), a={"w0-5": 0}, b={"w0-5": 0})).lost] == ["w0-5"]


def test_writes_lost_after_the_fault_count_up_to_the_last_of_them():
    facts = whole()
    late = [write(60 + number, KILLED + 1.0 + number) for number in range(2)]
    verdict = judge(replace(facts, writes=(*facts.writes, *late)))
    assert [one.name for one in verdict.lost] == ["w0-60", "w0-61"]
    assert verdict.lost_seconds == pytest.approx(1.0)


def test_a_write_that_was_applied_twice_is_named():
    assert judge(with_documents(whole(), a={"w0-7": 2}, b={"w0-7": 2})).came_twice == ("w0-7",)


def test_a_write_of_unknown_outcome_may_be_there_or_not():
    facts = with_documents(whole(), a={"w0-20": 1}, b={"w0-20": 1})
    assert judge(facts).lost == () and judge(facts).problems == ()


def test_kept_promises_of_writes_that_were_not_acknowledged():
    facts = whole()
    more = (write(70, KILLED, Outcome.UNCONFIRMED, error="AckTimeout"), write(71, KILLED, Outcome.REFUSED, error="DiskFull"))
    verdict = judge(with_documents(replace(facts, writes=facts.writes + more), a={"w0-71": 1}, b={"w0-71": 1}))
    assert verdict.unconfirmed_lost == ("w0-70",)
    assert verdict.refused_kept == ("w0-71",)
    assert verdict.lost == ()


def test_an_old_primary_that_acknowledges_beside_the_new_one_is_told():
    facts = whole()
    stale = write(80, ACCEPTED + 1.0, epoch=1)
    before = write(81, ACCEPTED - 0.005, epoch=1)  # answered after the new one had acknowledged something, and sent before
    verdict = judge(replace(facts, writes=(*facts.writes, stale, before)))
    assert verdict.late == ("w0-80",)


@pytest.mark.parametrize("answers", [
    {"a": HASH, "b": (70, "00c4a1", "0bad")},
    {"a": HASH, "b": (70, "0bad", "5eed")},
])
def test_an_unequal_hash_or_chain_is_told_even_where_the_node_says_equal(answers):
    assert judge(replace(whole(), proof=Proof(70, True, answers))).equal is False


def test_documents_that_differ_are_told_even_where_the_hashes_are_equal():
    assert judge(with_documents(whole(), a={"w0-3": None})).equal is False


@pytest.mark.parametrize("spoiled", [
    {"proof": None},
    {"proof": Proof(70, True, {"b": HASH})},
    {"proof": Proof(70, None, {"b": HASH})},
    {"copies": whole().copies[1:]},
], ids=["no proof", "one answer", "nothing compared", "one copy"])
def test_what_was_not_compared_is_not_equal(spoiled):
    verdict = judge(replace(whole(), **spoiled))
    assert verdict.equal is None


@pytest.mark.parametrize("roles", [("standby", "standby"), ("primary", "primary")])
def test_without_one_primary_nothing_is_known_to_have_survived(roles):
    facts = whole()
    copies = tuple(replace(copy, role=role) for copy, role in zip(facts.copies, roles))
    verdict = judge(replace(facts, copies=copies))
    assert verdict.lost is None and verdict.came_twice is None
    assert verdict.measures()["lost_writes"] is None
    assert any("primary at the end" in problem for problem in verdict.problems)


def test_a_drill_that_cannot_see_its_own_planted_loss_is_void():
    verdict = judge(with_documents(whole(), a={PLANTED: 1}, b={PLANTED: 1}))
    assert any("planted" in problem for problem in verdict.problems)


def test_documents_that_nobody_wrote_are_told():
    verdict = judge(with_documents(whole(), b={"w9-1": 1}))
    assert any("w9-1" in problem for problem in verdict.problems)


def test_a_drill_that_wrote_nothing_before_the_fault_or_after_the_last_step_is_void():
    facts = whole()
    after = tuple(one for one in facts.writes if one.sent > PROMOTED)
    assert any("before the first fault" in problem for problem in judge(replace(facts, writes=after)).problems)
    before = tuple(one for one in facts.writes if one.sent < STARTED)
    assert any("after the last step" in problem for problem in judge(replace(facts, writes=before)).problems)
    assert any("nothing was done" in problem for problem in judge(replace(facts, events=())).problems)


def test_a_promotion_after_which_nobody_is_served_is_told_and_has_no_time():
    facts = whole()
    verdict = judge(replace(facts, writes=tuple(one for one in facts.writes if one.sent < PROMOTED)))
    assert any("after b was made primary" in problem for problem in verdict.problems)
    assert verdict.measures()["first_accepted_s"] is None
    assert verdict.longest_gap_s == pytest.approx(ENDED - (ZERO + 1.91)), "the end of writing ends the last gap"


def test_acknowledgements_of_the_old_epoch_are_not_the_new_primary_serving():
    facts = whole()
    stale = tuple(write(90 + number, PROMOTED + number / 100, epoch=1) for number in range(5))
    assert judge(replace(facts, writes=facts.writes + stale)).takeovers[0].first_accepted_s == pytest.approx(ACCEPTED - PROMOTED)


def test_the_slowest_of_two_takeovers_counts():
    facts = whole()
    again = (Event(Act.KILL, STARTED + 0.1, STARTED + 0.2, "kill b", "b"), Event(Act.PROMOTE, STARTED + 0.3, STARTED + 0.4, "promote a", "a"))
    third = (write(95, STARTED + 0.9, epoch=3),)
    verdict = judge(replace(facts, events=facts.events + again, writes=facts.writes + third))
    assert [one.recovered_s for one in verdict.takeovers] == [pytest.approx(1.0), pytest.approx(0.81)]
    assert verdict.measures()["recovered_s"] == pytest.approx(1.0)


def test_without_an_order_the_time_runs_from_the_relief():
    facts = whole()
    events = (Event(Act.FILL, KILLED, KILLED + 0.1, "fill a", "a"), Event(Act.FREE, PROMOTED, PROMOTED + 0.1, "free a", "a"))
    verdict = judge(replace(facts, events=events))
    assert verdict.takeovers == () and verdict.resumed_s == pytest.approx(ACCEPTED - PROMOTED)


@pytest.mark.parametrize(("act", "node", "sighting", "seen"), [
    (Act.KILL, "a", Sighting(3.0, "b", True, links={"a": False}), True),
    (Act.KILL, "a", Sighting(3.0, "b", True, links={"a": True}), False),
    (Act.KILL, "a", Sighting(3.0, "a", True, links={"b": False}), False),  # the broken node's own view is not the cluster's
    (Act.KILL, "a", Sighting(3.0, "b", False, links={"a": False}), False),
    (Act.FREEZE, "a", Sighting(3.0, "b", True, links={"a": False}), True),
    (Act.CUT, "a", Sighting(3.0, "a", True, links={"b": False}), True),
    (Act.MUTE, "a", Sighting(3.0, "b", True, links={"a": False}), True),
    (Act.FILL, "a", Sighting(3.0, "a", True, alarms=frozenset({"disk-full"})), True),
    (Act.FILL, "a", Sighting(3.0, "b", True, alarms=frozenset({"disk-full"})), False),
    (Act.PROMOTE, "a", Sighting(3.0, "b", True, links={"a": False}), False),
])
def test_who_detects_which_fault(act, node, sighting, seen):
    fault = Event(act, 1.0, 1.1, "", node)
    assert detected_s(fault, [sighting]) == (2.0 if seen else None)


def test_what_was_said_before_a_fault_does_not_detect_it():
    fault = Event(Act.KILL, 1.0, 1.1, "", "a")
    assert detected_s(fault, [Sighting(0.5, "b", True, links={"a": False}), Sighting(2.0, "b", True, links={"a": False})]) is None


def test_gaps_by_hand():
    assert longest_gap([], 5.0) is None
    assert longest_gap([1.0, 2.0, 4.5, 5.0], 5.5) == (2.5, 2.0)
    assert longest_gap([1.0, 2.0], 7.0) == (5.0, 2.0)


OUTCOMES = st.sampled_from(list(Outcome))
APPLIED = st.integers(0, 3)


@given(st.lists(st.tuples(OUTCOMES, APPLIED), max_size=60))
def test_the_judgement_of_every_write_is_that_of_the_definition(fates: list[tuple[Outcome, int]]):
    writes = [write(number, KILLED + number / 100, outcome) for number, (outcome, _) in enumerate(fates)]
    documents = {write_name(0, number): times for number, (_, times) in enumerate(fates) if times}
    facts = replace(whole(), writes=tuple(writes), copies=(Copy("a", "standby", documents), Copy("b", "primary", documents)))
    verdict = judge(facts)
    named = list(enumerate(fates))
    assert [one.number for one in verdict.lost] == [number for number, fate in named if fate == (Outcome.ACKNOWLEDGED, 0)]
    assert set(verdict.came_twice) == {write_name(0, number) for number, (_, times) in named if times > 1}
    assert set(verdict.unconfirmed_lost) == {write_name(0, number) for number, fate in named if fate == (Outcome.UNCONFIRMED, 0)}
    assert set(verdict.refused_kept) == {write_name(0, number) for number, (outcome, times) in named if outcome is Outcome.REFUSED and times}
    assert sum(verdict.outcomes.values()) == len(fates)


def test_the_made_copies_are_what_was_acknowledged():
    facts = whole()
    assert copies_of(list(facts.writes)) == facts.copies
