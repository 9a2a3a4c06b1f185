"""What each check answers, over every phase and over plain status values."""

from __future__ import annotations

import pytest

from node.health import CHECKS, Seen, Turn, answer, livez, own_lag, readiness, why_no_writes
from node.lag_limit import RULE, UNITS, read_lag_limit
from replication import Phase

LAG = {"commits": 3, "bytes": 2000, "seconds": 0.5}
ROLE_OF = {"primary": "primary", "switching": "primary", "fenced": "fenced", "frozen": "frozen"}
FOLLOWS = {"standby", "catching-up"}


def _status(phase: str, **more) -> dict:
    """A node with one database, in one phase."""
    role = ROLE_OF.get(phase, "standby")
    closed = {"primary": "", "switching": "node a is handing over to b"}.get(phase, f"node a is a {role}")
    database = {"position": [1, 7], "writable": not closed, "closed": closed, "disk": {"state": "ok"}}
    if role == "standby":
        database |= {"streaming": phase in FOLLOWS, "lag": LAG}
    failures = {"d": "fdatasync failed"} if phase == "failed" else {}
    status = {
        "node": "a", "role": role, "phase": phase, "epoch": 4, "closed": closed, "failures": failures, "primary": "10.0.0.1:6900",
        "databases": {"d": database}, "standbys": [], "alarms": [], "version": "1",
    }  # fmt: skip
    return status | more


def _ask(path: str, status: dict | None, *query: tuple[str, str]):
    return answer(path, Seen("a", status, "is starting: its databases are being opened"), query)


# Path -> the phases in which it is 200.
EXPECTED = {
    "/readyz": {phase.value for phase in Phase} - {"failed"},
    "/primary": {"primary"},
    "/standby": FOLLOWS,
    "/health": {phase.value for phase in Phase} - {"failed"},
    "/cluster": {"primary", "switching"},
}


@pytest.mark.parametrize("phase", [phase.value for phase in Phase])
@pytest.mark.parametrize("path", CHECKS)
def test_every_check_in_every_phase(path: str, phase: str):
    code, body = _ask(path, _status(phase))
    assert code == (200 if phase in EXPECTED[path] else 503), body
    assert body["ok"] is (code == 200) and (body["why"] == "") is body["ok"], body
    assert (body["node"], body["role"], body["phase"], body["epoch"]) == ("a", ROLE_OF.get(phase, "standby"), phase, 4)


@pytest.mark.parametrize("path", CHECKS)
def test_a_node_that_starts_is_nothing_yet_and_one_that_stops_nothing_any_more(path: str):
    code, body = _ask(path, None)
    assert code == 503 and "starting" in body["why"] and body["role"] is body["phase"] is None
    if path == "/cluster":
        return  # it tells of others
    for phase in ("primary", "standby"):
        code, body = _ask(path, _status(phase, stopping=True))
        assert code == 503 and body["why"] == "the node is stopping", body


def test_livez_reads_nothing_of_the_node():
    code, body = livez(Seen("a", None, ""), Turn(turned=True, waited_s=0.001, late_s=0.25, up_s=9.0))
    assert code == 200 and body["ok"] and body["loop_late_s"] == 0.25 and body["up_s"] == 9.0
    code, body = livez(Seen("a", None, ""), Turn(turned=False, waited_s=5.0, late_s=0.25, up_s=9.0))
    assert code == 503 and body["why"] == "the event loop gave no turn within 5 s"


def test_some_failed_databases_leave_a_node_ready_and_all_of_them_do_not():
    status = _status("failed")
    status["databases"]["e"] = dict(status["databases"]["d"])
    assert readiness(status) == (True, "")
    code, body = _ask("/health", status)
    assert code == 503 and body["why"] == "failed: d: fdatasync failed"
    status["failures"]["e"] = "damaged"
    assert readiness(status) == (False, "the node has failed: d: fdatasync failed; e: damaged")
    nothing_open = _status("failed", databases={})
    assert readiness(nothing_open)[0] is False, "what could not be opened is among the failures only"
    assert readiness(_status("primary", databases={}))[0] is True


def test_a_full_disk_takes_no_node_out_of_service():
    status = _status("primary")
    status["databases"]["d"] |= {"writable": False, "closed": "DiskFull", "disk": {"state": "full"}}
    assert readiness(status)[0] and why_no_writes(status) == "", "deletions go on, and the others are told by name"
    alarm = {"kind": "disk-full", "database": "d", "peer": "", "message": "7 bytes are free", "since_us": 1}
    code, body = _ask("/health", status | {"alarms": [alarm]})
    assert code == 503 and body["why"] == "1 alarm stands: disk-full" and body["databases"]["d"]["disk"] == "full"


def test_primary_needs_one_database_that_takes_writes():
    status = _status("primary")
    status["databases"]["d"] |= {"writable": False, "closed": "its reign of epoch 4 has not begun"}
    assert "its reign of epoch 4" in _ask("/primary", status).body["why"]
    status["databases"]["e"] = {"writable": True, "closed": "", "disk": {"state": "ok"}, "position": [1, 1]}
    assert _ask("/primary", status).code == 200
    assert _ask("/primary", _status("primary", databases={})).code == 200


@pytest.mark.parametrize(
    ("limit", "holds"),
    [("2000", True), ("1999", False), ("2kB", True), ("1kB", False), ("1KiB", False), ("2KiB", True), ("1MB", True),
     ("3c", True), ("2c", False), ("1s", True), ("0s", False), ("500ms", True), ("499ms", False)],
)  # fmt: skip
def test_a_standby_is_held_to_the_lag_that_is_asked(limit: str, holds: bool):
    for path in ("/standby", "/readyz"):
        code, body = _ask(path, _status("standby"), ("lag", limit))
        assert code == (200 if holds else 503) and body["lag"] == LAG
        assert holds or (limit in body["why"] and "behind" in body["why"]), body


@pytest.mark.parametrize(
    ("seconds", "phase", "limit", "holds"),
    [(3600, "standby", "30s", True), (3629, "catching-up", "30s", True), (3631, "catching-up", "30s", False), (2, "standby", "30s", True),
     (3600, "standby", "1c", True), (3600, "standby", "1kB", True), (3700, "catching-up", "1TB", False), (9000, "catching-up", "1c", False)],
)  # fmt: skip
def test_a_delay_on_purpose_takes_no_standby_out_of_service(seconds: float, phase: str, limit: str, holds: bool):
    status = _status(phase, delay_s=3600)
    status["databases"]["d"]["lag"] = {"commits": 9000, "bytes": 10**9, "seconds": seconds}
    assert _ask("/readyz", status).code == 200
    code, body = _ask("/readyz", status, ("lag", limit))
    assert code == (200 if holds else 503) and body["delay_s"] == 3600, body
    assert holds or "3600 s" in body["why"] and "on purpose" in body["why"], body


def test_a_delayed_standby_is_not_where_fresh_reads_go():
    status = _status("standby", delay_s=3600)
    status["databases"]["d"]["lag"] = {"commits": 1, "bytes": 10, "seconds": 3600.0}
    code, body = _ask("/standby", status)
    assert code == 503 and "3600 s behind on purpose" in body["why"], body
    assert _ask("/standby", status, ("lag", "30s")).code == 503 and _ask("/standby", status, ("lag", "100c")).code == 200
    assert _ask("/standby", status, ("lag", "3630s")).code == 200, "who asks for it gets it"
    unknown = _status("joining", delay_s=3600)
    assert _ask("/readyz", unknown, ("lag", "30s")).code == 503, "late for want of a primary is late"


def test_a_lag_that_is_not_known_is_not_within_any_bound():
    unknown = _status("catching-up")
    unknown["databases"]["d"]["lag"] = None
    assert own_lag(unknown) is None
    for status in (unknown, _status("joining"), _status("fenced"), _status("frozen")):
        assert _ask("/readyz", status).code == 200
        code, body = _ask("/readyz", status, ("lag", "1TB"))
        assert code == 503 and "not known" in body["why"]
    assert _ask("/readyz", _status("primary"), ("lag", "0")).code == 200, "a primary is behind nobody"


def test_lag_adds_up_over_databases_and_one_copy_that_does_not_stream_counts():
    status = _status("catching-up")
    status["databases"]["e"] = status["databases"]["d"] | {"lag": {"commits": 1, "bytes": 10, "seconds": 2.0}}
    assert own_lag(status) == {"commits": 4, "bytes": 2010, "seconds": 2.0}
    assert _ask("/standby", status).code == 200
    status["databases"]["e"]["streaming"] = False
    code, body = _ask("/standby", status)
    assert code == 503 and "(e)" in body["why"]


@pytest.mark.parametrize("value", ["", "s", "-1", "1.5s", "10 MB", "10mb", "5m", "1e3", "٣", "9" * 16, "0x10", "5S", "NaN", "x" * 5000])
def test_a_lag_that_cannot_be_read_is_refused_with_the_rule(value: str):
    for path in ("/standby", "/readyz"):
        code, body = _ask(path, _status("standby"), ("lag", value))
        assert code == 400 and RULE in body["why"] and not body["ok"] and len(body["why"]) < 300


def test_whatever_would_be_passed_over_in_silence_is_refused():
    for path, query in (
        ("/standby", [("lagg", "5s")]),
        ("/readyz", [("lag", "5s"), ("lag", "6s")]),
        ("/primary", [("lag", "5s")]),
        ("/cluster", [("x", "")]),
    ):
        code, body = _ask(path, _status("standby"), *query)
        assert code == 400 and path in body["why"], body
        assert _ask(path, None, *query).code == 400, "while it starts, too"


def test_every_unit_is_read():
    read = {unit: read_lag_limit(f"7{unit}") for unit in UNITS}
    assert {unit: (limit.counts, round(limit.most, 6)) for unit, limit in read.items()} == {
        "": ("bytes", 7), "B": ("bytes", 7), "KB": ("bytes", 7e3), "kB": ("bytes", 7e3), "MB": ("bytes", 7e6), "GB": ("bytes", 7e9),
        "TB": ("bytes", 7e12), "KiB": ("bytes", 7 * 2**10), "MiB": ("bytes", 7 * 2**20), "GiB": ("bytes", 7 * 2**30),
        "TiB": ("bytes", 7 * 2**40), "s": ("seconds", 7), "ms": ("seconds", 0.007), "c": ("commits", 7),
    }  # fmt: skip


def _peer(name: str, role: str, *, connected: bool = True, lag: int | None = None) -> dict:
    return {"name": name, "role": role, "phase": role, "epoch": 4, "address": f"{name}:6900", "connected": connected, "streaming": True,
            "lag_commits": lag, "lag_bytes": lag, "lag_seconds": lag, "last_error": "OSError: refused"}  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "peers", "why"),
    [
        ("primary", [_peer("b", "standby", lag=3)], ""),
        ("standby", [_peer("b", "primary")], ""),
        ("standby", [_peer("b", "primary", connected=False)], "no primary is known; not connected to this node: b"),
        ("primary", [_peer("b", "primary")], "2 primaries: a, b"),
        ("primary", [_peer("b", "standby", connected=False), _peer("c", "standby")], "not connected to this node: b"),
        ("frozen", [_peer("b", "frozen")], "no primary is known"),
    ],
)
def test_the_cluster_is_well_with_one_primary_and_everybody_there(phase: str, peers: list, why: str):
    code, body = _ask("/cluster", _status(phase, standbys=peers))
    assert (code, body["why"]) == (503 if why else 200, why)
    assert [row["node"] for row in body["nodes"]] == ["a", *(peer["name"] for peer in peers)]
    for row, peer in zip(body["nodes"][1:], peers):
        known = peer["lag_commits"] is not None
        assert row["lag"] == ({"commits": 3, "bytes": 3, "seconds": 3} if known else None)
        assert row["last_error"] == ("" if peer["connected"] else "OSError: refused")


def test_health_shows_pause_and_delay():
    body = _ask("/health", _status("standby", paused={"since_us": 5, "why": "rack move"}, delay_s=60)).body
    assert body["paused"]["why"] == "rack move" and body["delay_s"] == 60 and body["lag"] == LAG and not body["takes_writes"]
