"""What `twinlog status` concludes from the nodes' answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ops.exit_codes import ExitCode
from ops.status import (
    NodeView,
    as_json,
    print_databases,
    print_nodes,
    print_transactions,
    read_status,
    verdict,
)


def alarm(kind, message):
    return {"kind": kind, "database": "shop", "peer": "", "message": message, "since_us": 1}


def answer(node="a", role="primary", *, connected=True, hashes=("h1", "h1"), alarms=()):
    """A node's status answer, as the wire brings it."""
    database = {"position": [2, 10], "chain": "c", "writable": role == "primary"}
    standbys = []
    if role == "primary":
        nodes = dict(zip(("a", "b"), ({"seq": 9, "chain": "c9", "hash": digest} for digest in hashes)))
        equal = len(set(hashes)) == 1 if len(hashes) > 1 else None
        database["mark"] = {"seq": 9, "hash": hashes[0], "equal": equal, "nodes": nodes}
        standbys = [{"name": "b", "connected": connected, "lag_commits": 3, "lag_bytes": 2048, "lag_seconds": 0.5}]
    return {"node": node, "role": role, "epoch": 2, "databases": {"shop": database}, "standbys": standbys,
            "alarms": list(alarms)}  # fmt: skip


def views(*, standby: dict | None = None, **primary) -> list[NodeView]:
    second = read_status("y:2", standby or answer("b", "standby"))
    return [read_status("x:1", answer(**primary)), second]


def test_all_well():
    assert verdict(views()) == (ExitCode.OK, [])


@pytest.mark.parametrize(
    ("primary", "code", "word"),
    [
        ({"hashes": ("h1", "h2")}, ExitCode.UNEQUAL, "shop differs between the nodes at commit 9"),
        ({"hashes": ("h1", "h2"), "connected": False}, ExitCode.UNEQUAL, "shop differs"),
        ({"connected": False}, ExitCode.UNREACHABLE, "standby b is not connected"),
        ({"hashes": ("h1",)}, ExitCode.UNREACHABLE, "only a answered the comparison"),
        ({"alarms": [alarm("degraded", "no standby confirms")]}, ExitCode.FAILED, "a: degraded (shop): no standby confirms"),
        ({"alarms": [alarm("hash-differs", "at 7")]}, ExitCode.UNEQUAL, "a: hash-differs (shop): at 7"),
    ],
)
def test_what_is_not_well_is_said_and_has_its_code(primary, code, word):
    found, problems = verdict(views(**primary))
    assert found is code
    assert any(word in problem for problem in problems)


def test_a_silent_node_and_no_primary_and_two_primaries():
    silent = NodeView("z:3", problem="connection refused")
    assert verdict([*views(), silent])[0] is ExitCode.UNREACHABLE
    assert verdict([read_status("y:2", answer("b", "standby"))])[0] is ExitCode.UNREACHABLE
    code, problems = verdict(views(standby=answer("b", "primary")))
    assert code is ExitCode.UNREACHABLE and "2 nodes say they are primary: a, b" in problems


def test_a_primary_that_cannot_compare_is_not_taken_for_silent():
    waiting = replace(read_status("x:1", answer(hashes=("h1",))), mark_problem="waits for its standbys", marks=())
    code, problems = verdict([waiting, views()[1]])
    assert code is ExitCode.UNREACHABLE and problems == ["a could not compare: waits for its standbys"]


def test_json_carries_what_the_tables_show(capsys):
    shown = as_json([*views(), NodeView("z:3", problem="connection refused")])
    assert json.loads(json.dumps(shown)) == shown
    assert shown["databases"]["shop"]["nodes"]["b"] == {"seq": 9, "chain": "c9", "state_hash": "h1"}
    assert shown["nodes"][1]["lag"] == {"commits": 3, "bytes": 2048, "seconds": 0.5}
    assert shown["nodes"][2] == {"address": "z:3", "reachable": False, "problem": "connection refused"}
    print_nodes(views())
    print_databases(views())
    table = capsys.readouterr().out
    assert all(word in table for word in ("shop", "2.0 KiB", "0.5 s", "(2, 10)", "h1", "c9", "yes"))


def test_transactions_are_shown_once_there_have_been_some(capsys):
    counts = {"open": 1, "committed": 22, "aborted": 0, "conflict": 333, "ended": 0}
    print_transactions(views())
    assert capsys.readouterr().out == ""
    told = replace(views()[0], transactions=counts)
    print_transactions([told, views()[1]])
    table = capsys.readouterr().out
    assert all(word in table for word in ("conflicts", "22", "333"))
    assert as_json([told])["nodes"][0]["transactions"] == counts


def test_a_delayed_standby_is_shown_as_one_and_no_comparison_waits_for_it(capsys):
    told = answer()
    told["standbys"].append({"name": "c", "connected": True, "lag_commits": 900, "lag_bytes": 2**20, "lag_seconds": 3600.0, "delay_s": 3600})
    late = read_status("z:3", {**answer("c", "standby"), "delay_s": 3600})
    seen = [read_status("x:1", told), read_status("y:2", answer("b", "standby")), late]
    assert verdict(seen) == (ExitCode.OK, [])
    print_nodes(seen)
    print_databases(seen)
    shown = capsys.readouterr().out
    assert "standby, 3600 s behind" in shown and "900" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("shop") and " c " in line]
    assert "yes" not in row, "it was not compared"
    assert as_json(seen)["nodes"][2]["delay_s"] == 3600
    told["standbys"][1]["delay_s"] = 0
    assert verdict([read_status("x:1", told)])[0] is ExitCode.UNREACHABLE, "one that is not delayed must answer"
