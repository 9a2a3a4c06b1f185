"""What `twinlog cluster` concludes from the nodes' answers: whom it picks, what it refuses, what counts as equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ops.cluster import check, failover, history, verify
from ops.cluster.streaming import why_it_does_not_stream
from ops.cluster.takeover import candidates, protects, verdicts, why_chosen
from ops.exit_codes import ExitCode
from ops.refusal import Refusal
from ops.status import MarkView, NodeView, read_status

SILENT = NodeView("a:1", problem="connection refused")


def status(node: str, role: str = "standby", seq: int = 10, epoch: int = 1, **more: Any) -> NodeView:
    databases = {"d": {"position": [epoch, seq], "writable": role == "primary", **more.pop("database", {})}}
    return read_status(f"{node}:1", {"node": node, "role": role, "epoch": epoch, "databases": databases, **more})


def knows(why_not: str = "", missing: int = 0, heard_s_ago: float | None = 2.0, *, protected: bool = False, **more: Any) -> dict[str, Any]:
    heard = None if heard_s_ago is None else {"node": "a", "epoch": 1, "connected": False, "heard_s_ago": heard_s_ago}
    lag = None if heard is None else {"commits": missing, "bytes": 100 * missing, "seconds": 0.5}
    return {"why_not": why_not, "missing_commits": missing, "primary": heard, "lag": lag, "protected": protected, "standbys": {}, **more}


def test_the_one_that_lacks_least_is_picked_and_the_reason_is_said():
    views = [SILENT, status("b", seq=7), status("c", seq=10)]
    ordered = candidates(views, {"b": knows(), "c": knows()})
    assert [(one.node, one.lacks) for one in ordered] == [("c", 0), ("b", 3)]
    chosen, because = failover.choose(views, ordered, None)
    assert chosen.node == "c" and "b lacks 3" in because
    assert why_chosen(ordered[0], []) == "c is the only one that answers"
    named, because = failover.choose(views, ordered, "b")
    assert (named.node, because) == ("b", "")
    with pytest.raises(Refusal, match="no node 'x' answers") as caught:
        failover.choose(views, ordered, "x")
    assert caught.value.exit_code == ExitCode.UNREACHABLE


def test_a_later_epoch_counts_for_more_than_more_commits():
    views = [status("b", seq=90, epoch=1), status("c", seq=50, epoch=2)]
    assert [one.node for one in candidates(views, {"b": knows(), "c": knows()})] == ["c", "b"]


@pytest.mark.parametrize(
    ("view", "told", "force", "word"),
    [
        (status("b"), knows(), False, None),
        (status("b"), knows(missing=4), False, "it lacks 4 commits, 400 B, 0.5 s \\(as of a's last word 2.0 s ago\\)"),
        (status("b"), knows(missing=4), True, None),
        (status("b"), knows(why_not="it does not stream d"), False, "does not stream d"),
        (status("b"), knows(why_not="it does not stream d"), True, None),
        (status("b", delay_s=3600), knows(), False, "delayed standby, 3600 s"),
        (status("b", delay_s=3600), knows(), True, None),
        (status("b", "fenced"), knows(why_not="it is fenced: unfence it first"), False, "not by force either"),
        (status("b", "fenced"), knows(why_not="it is fenced: unfence it first"), True, "not by force either"),
    ],
)
def test_what_stands_in_the_way_is_named_and_force_helps_but_never_a_fenced_one(view, told, force, word):
    views = [SILENT, view]
    chosen, _ = failover.choose(views, candidates(views, {"b": told}), "b")
    if word is None:
        failover.check(views, chosen, force=force)
        return
    with pytest.raises(Refusal, match=word):
        failover.check(views, chosen, force=force)


def test_a_living_primary_is_not_replaced_by_accident():
    views = [status("a", "primary"), status("b")]
    ordered = candidates(views, {"a": knows(), "b": knows()})
    assert [one.node for one in ordered] == ["b"]
    with pytest.raises(Refusal, match="a is primary and answers: `twinlog cluster switchover b` loses nothing"):
        failover.check(views, ordered[0], force=False)
    failover.check(views, ordered[0], force=True)
    with pytest.raises(Refusal, match="the primary already"):
        failover.choose(views, ordered, "a")


def test_nobody_is_picked_where_all_are_fenced_and_ignorance_is_said():
    views = [status("b", "fenced")]
    with pytest.raises(Refusal, match="no standby that could be promoted"):
        failover.choose(views, candidates(views, {"b": knows()}), None)
    ignorant = candidates([status("b")], {"b": knows(heard_s_ago=None)})[0]
    assert "heard no primary since it was started, so what a silent one had is not known" in ignorant.knowledge()


def row(why_not: str = "", lacks: int | None = 0) -> dict[str, Any]:
    return {"fenced": False, "promotable": not why_not, "why_not": why_not, "lacks": lacks}


@pytest.mark.parametrize(
    ("rows", "protected", "good", "word"),
    [
        ({"b": row()}, False, True, ""),
        ({"b": row(lacks=3)}, False, False, "b lacks 3 commits"),
        ({"b": row(lacks=3)}, True, True, ""),
        ({"b": row("it is not connected", None)}, True, False, "b could not take over: it is not connected"),
        ({"b": row("it is fenced: unfence it first"), "c": row()}, False, True, ""),
        ({}, True, False, "there is no standby"),
    ],
)
def test_a_check_is_good_when_one_standby_could_lead_without_loss(rows, protected, good, word):
    views = [status("a", "primary"), *(status(node) for node in rows)]
    known = {"a": knows(protected=protected, standbys=rows), **{node: knows() for node in rows}}
    found, reasons = check.judge(verdicts(views, known), protected=protects(views, known))
    assert found is good and any(word in reason for reason in reasons) is bool(word)


def test_a_standby_that_says_itself_that_it_cannot_lead_is_believed():
    views = [status("a", "primary"), status("b")]
    known = {"a": knows(standbys={"b": row()}), "b": knows(why_not="database 'd' is damaged")}
    assert [(one.could, one.why) for one in verdicts(views, known)] == [(False, "database 'd' is damaged")]


def test_without_a_primary_each_standby_speaks_for_itself():
    views = [SILENT, status("b", seq=7), status("c")]
    found = {one.node: (one.could, one.lost) for one in verdicts(views, {"b": knows(), "c": knows()})}
    assert found == {"c": (True, 0), "b": (False, 3), "a:1": (False, None)}


@pytest.mark.parametrize(
    ("answers", "equal", "silent", "code"),
    [
        ({"a": "h", "b": "h"}, True, False, ExitCode.OK),
        ({"a": "h", "b": "x"}, False, False, ExitCode.UNEQUAL),
        ({"a": "h"}, None, False, ExitCode.UNREACHABLE),
        ({"a": "h", "b": "h"}, True, True, ExitCode.UNREACHABLE),
        ({"a": "h", "b": "x"}, False, True, ExitCode.UNEQUAL),
    ],
)
def test_verify_is_good_only_when_everybody_answered_alike(answers, equal, silent, code):
    mark = MarkView("d", 9, {node: (9, "c", digest) for node, digest in answers.items()}, equal)
    primary = status("a", "primary", standbys=[{"name": "b", "connected": True}])
    found, problems = verify.judge([primary, SILENT] if silent else [primary], primary, [mark])
    assert found is code and bool(problems) == (code is not ExitCode.OK)


def test_a_comparison_that_failed_proves_nothing():
    primary = replace(status("a", "primary"), mark_problem="no answer within 30 s")
    code, problems = verify.judge([primary], primary, [])
    assert code is ExitCode.UNREACHABLE and problems == ["a could not compare: no answer within 30 s"]


@pytest.mark.parametrize(
    ("node", "seen", "word"),
    [
        (status("b"), {"connected": True, "streaming": True}, ""),
        (status("b"), {"connected": True, "streaming": False, "why_not": "it does not stream d"}, "it does not stream d"),
        (status("b"), {"connected": False, "streaming": False}, "not connected"),
        (status("b", "fenced"), {"connected": True, "streaming": True}, "b is fenced"),
        (status("b", database={"reseeding": True}), {"connected": True, "streaming": True}, "copy of d is being replaced"),
    ],
)
def test_a_node_is_waited_for_until_it_follows_with_everything(node, seen, word):
    primary = status("a", "primary", standbys=[{"name": "b", **seen}])
    found = why_it_does_not_stream([primary, node], "b")
    assert word in found and bool(found) == bool(word)
    assert why_it_does_not_stream([node], "b") == "no primary answers" and "does not answer" in why_it_does_not_stream([primary], "b")


def test_a_history_is_one_story_whatever_one_clock_did():
    def changes(*times: int) -> list[dict[str, Any]]:
        return [{"number": number, "time_us": time, "role": "standby", "epoch": number, "why": ""} for number, time in enumerate(times, 1)]

    told = [
        {"node": "a", "changes": changes(10, 5, 40), "reigns": {"d": [{"epoch": 1, "id": "x", "first_seq": 1}]}},  # its clock was set back
        {"node": "b", "changes": changes(20), "reigns": {"d": [{"epoch": 1, "id": "x", "first_seq": 1}, {"epoch": 2, "id": "y", "first_seq": 8}]}},
    ]
    assert [(change["node"], change["number"]) for change in history.merged_changes(told)] == [("a", 1), ("a", 2), ("b", 1), ("a", 3)]
    assert [(reign["epoch"], reign["nodes"]) for reign in history.merged_reigns(told)["d"]] == [(1, ["a", "b"]), (2, ["b"])]
