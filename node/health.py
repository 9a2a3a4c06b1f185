"""What a node answers to health checks: its status and a query in, a code and a JSON body out. Pure; knows no HTTP library, clock or node.

    /livez      200 while the loop turns, whatever the role, the disk or the stage of the start
    /readyz     200 while requests of the role are taken; ?lag= asks a standby to be no further behind, too (beyond its delay_s)
    /primary    200 on the primary that takes writes
    /standby    200 on a standby that streams every database, within ?lag= where given; of a delayed one only there
    /health     200 while the node is ready and nothing is wrong with it
    /cluster    200 while one primary is known and every node is connected

Everything else is 503, a query that cannot be read 400; `why` says what stands in the way and is "" with 200. /primary and /standby are never
200 on one node at once. Bodies hold what the status holds, so nothing secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .lag_limit import LagLimit, read_lag_limit

NAMED_MAX = 3  # databases that a reason names
FOLLOWING = ("standby", "catching-up")  # phases in which a standby's copies stream, if all of them do
LAG_UNITS = {"bytes": "bytes", "seconds": "s", "commits": "commits"}

Query = Sequence[tuple[str, str]]


class Answer(NamedTuple):
    """code: the HTTP status."""

    code: int
    body: dict[str, Any]


class Seen(NamedTuple):
    """A node as it is now. status None: it is not up; doing says what it does instead ("is starting: opening its databases")."""

    node: str
    status: dict[str, Any] | None
    doing: str


class Turn(NamedTuple):
    """What asking the loop for a turn gave. late_s: the worst of the last minute; up_s: since the process took its ports."""

    turned: bool
    waited_s: float
    late_s: float
    up_s: float


def readiness(status: dict[str, Any]) -> tuple[bool, str]:
    """Whether requests of the node's role are taken, and why not ("" when they are).

    A node in which only some databases have failed is ready: the others are served, and who asks for a failed one is told.
    """
    if status.get("stopping"):
        return False, "the node is stopping"
    failures = status.get("failures") or {}
    if failures and failures.keys() >= status.get("databases", {}).keys():
        return False, f"the node has failed: {_named(failures)}"
    return True, ""


def livez(seen: Seen, turn: Turn) -> Answer:
    """Reads nothing of the node's state, so nothing in it can make this fail."""
    why = "" if turn.turned else f"the event loop gave no turn within {turn.waited_s:g} s"
    body = {"ok": turn.turned, "why": why, "node": seen.node, "role": None, "phase": None, "epoch": None}
    return Answer(_code(turn.turned), {**body, "up_s": round(turn.up_s, 3), "loop_late_s": round(turn.late_s, 4)})


def answer(path: str, seen: Seen, query: Query) -> Answer:
    """What one of PATHS answers."""
    check, takes_lag = CHECKS[path]
    try:
        limit = _read_query(path, query, takes_lag=takes_lag)
    except ValueError as error:
        return Answer(400, _body(seen, ok=False, why=str(error)))
    if seen.status is None:
        return Answer(503, _body(seen, ok=False, why=f"the node {seen.doing}"))
    why, more = check(seen.status, limit)
    return Answer(_code(not why), _body(seen, ok=not why, why=why) | more)


def own_lag(status: dict[str, Any]) -> dict[str, float] | None:
    """How far a standby is behind its primary over all databases: commits and bytes together, the most seconds. None while one is not known."""
    lags = [database.get("lag") for database in status.get("databases", {}).values()]
    if status.get("role") != "standby" or status.get("phase") == "joining" or any(lag is None for lag in lags):
        return None
    return {
        "commits": sum(lag["commits"] for lag in lags),
        "bytes": sum(lag["bytes"] for lag in lags),
        "seconds": max((lag["seconds"] for lag in lags), default=0.0),
    }


def why_no_writes(status: dict[str, Any]) -> str:
    """Why this node is not where writes go; "" on the primary that takes them. A full disk is no reason: deletions go on, and the rest is told."""
    if status.get("stopping"):
        return "the node is stopping"
    if status.get("role") != "primary":
        return status.get("closed") or f"this node is {status.get('role')}"
    if status.get("closed"):
        return status["closed"]
    databases = status.get("databases", {})
    closed = {name: one.get("closed", "") for name, one in databases.items() if not _takes_writes(one)}
    return f"no database takes writes: {_named(closed)}" if databases and len(closed) == len(databases) else ""


def _takes_writes(database: dict[str, Any]) -> bool:
    return bool(database.get("writable")) or database.get("disk", {}).get("state") == "full"


# One check each: (why not, what else to say).


def _readyz(status: dict[str, Any], limit: LagLimit | None) -> tuple[str, dict[str, Any]]:
    ready, why = readiness(status)
    if ready and limit is not None and status.get("role") != "primary":
        why = _why_too_far(status, limit, on_purpose_s=status.get("delay_s", 0))
    return why, _behind(status)


def _primary(status: dict[str, Any], _limit: LagLimit | None) -> tuple[str, dict[str, Any]]:
    return why_no_writes(status), {"primary": status.get("primary", "")}


def _standby(status: dict[str, Any], limit: LagLimit | None) -> tuple[str, dict[str, Any]]:
    why = _why_no_standby(status)
    if not why and limit is not None:
        why = _why_too_far(status, limit)
    elif not why and status.get("delay_s"):
        why = f"this standby is {status['delay_s']:g} s behind on purpose: ask with a lag= that allows for it, if that may be read"
    return why, _behind(status)


def _why_no_standby(status: dict[str, Any]) -> str:
    if status.get("stopping"):
        return "the node is stopping"
    role, phase = status.get("role"), status.get("phase")
    if role != "standby":
        return f"this node is {role}, not a standby"
    if phase == "joining":
        return "this standby has no primary: it has met none yet, or that one is away"
    if phase == "failed":
        return f"the node has failed: {_named(status.get('failures') or {})}"
    waiting = [name for name, database in status.get("databases", {}).items() if not database.get("streaming")]
    if phase not in FOLLOWING or waiting:
        return f"this standby does not stream every database: it is {phase}{f' ({_first(waiting)})' if waiting else ''}"
    return ""


def _why_too_far(status: dict[str, Any], limit: LagLimit, *, on_purpose_s: float = 0.0) -> str:
    """on_purpose_s: so much of its lag is not held against it. In bytes and commits nobody knows how much that is, so then its phase decides, which
    allows for the delay."""
    lag = own_lag(status)
    if lag is None:
        return f"how far this node is behind is not known, at most {limit.text} is asked: it is {status.get('phase')}"
    if on_purpose_s and limit.counts != "seconds":
        late = status.get("phase") != "standby"
        return f"this standby, delayed by {on_purpose_s:g} s on purpose, is later than that: it is {status.get('phase')}" if late else ""
    if lag[limit.counts] <= limit.most + on_purpose_s:
        return ""
    told = f", {on_purpose_s:g} s of it on purpose; at most {limit.text} more is asked" if on_purpose_s else f", at most {limit.text} is asked"
    return f"this standby is {lag[limit.counts]:g} {LAG_UNITS[limit.counts]} behind{told}"


def _health(status: dict[str, Any], _limit: LagLimit | None) -> tuple[str, dict[str, Any]]:
    ready, why = readiness(status)
    failures, alarms = status.get("failures") or {}, status.get("alarms") or []
    if ready and failures:
        why = f"failed: {_named(failures)}"
    elif ready and alarms:
        kinds = ", ".join(sorted({alarm["kind"] for alarm in alarms}))
        why = f"{len(alarms)} alarm{'s stand' if len(alarms) > 1 else ' stands'}: {kinds}"
    return why, {
        "ready": ready,
        "takes_writes": not why_no_writes(status),
        "paused": status.get("paused"),
        "fenced": status.get("role") == "fenced",
        "version": status.get("version"),
        "primary": status.get("primary", ""),
        **_behind(status),
        "databases": {name: _database(database) for name, database in status.get("databases", {}).items()},
        "standbys": [_row(standby) for standby in status.get("standbys", ())] if status.get("role") == "primary" else [],
        "failures": failures,
        "alarms": alarms,
    }


def _cluster(status: dict[str, Any], _limit: LagLimit | None) -> tuple[str, dict[str, Any]]:
    own = {key: status.get(key) for key in ("node", "role", "phase", "epoch")}
    others = [_row(standby) for standby in status.get("standbys", ())]
    rows = [{**own, "connected": True, "lag": own_lag(status), "asked": True}, *({**row, "asked": False} for row in others)]
    primaries = [row["node"] for row in rows if row["role"] == "primary" and row["connected"]]
    away = [row["node"] for row in rows if not row["connected"]]
    reasons = []
    if len(primaries) != 1:
        reasons.append(f"{len(primaries)} primaries: {', '.join(primaries)}" if primaries else "no primary is known")
    if away:
        reasons.append(f"not connected to this node: {', '.join(away)}")
    return "; ".join(reasons), {"primaries": primaries, "paused": status.get("paused"), "nodes": rows}


CHECKS: dict[str, tuple[Callable[[dict[str, Any], LagLimit | None], tuple[str, dict[str, Any]]], bool]] = {
    "/readyz": (_readyz, True),
    "/primary": (_primary, False),
    "/standby": (_standby, True),
    "/health": (_health, False),
    "/cluster": (_cluster, False),
}


def _read_query(path: str, query: Query, *, takes_lag: bool) -> LagLimit | None:
    """Raises ValueError for whatever would be passed over in silence."""
    limits = []
    for name, value in query:
        if name != "lag" or not takes_lag:
            raise ValueError(f"{path} {'takes lag and no other parameter' if takes_lag else 'takes no parameter'}, not {name[:40]!r}")
        limits.append(read_lag_limit(value))
    if len(limits) > 1:
        raise ValueError(f"{path} takes lag once, not {len(limits)} times")
    return limits[0] if limits else None


def _body(seen: Seen, *, ok: bool, why: str) -> dict[str, Any]:
    status = seen.status or {}
    facts = {key: status.get(key) for key in ("role", "phase", "epoch")}
    return {"ok": ok, "why": why, "node": seen.node, **facts}


def _behind(status: dict[str, Any]) -> dict[str, Any]:
    """What a standby says of its lag; nothing for other roles."""
    return {"lag": own_lag(status), "delay_s": status.get("delay_s", 0)} if status.get("role") == "standby" else {}


def _database(database: dict[str, Any]) -> dict[str, Any]:
    shown = ("position", "writable", "closed", "streaming", "lag")
    short = {key: database[key] for key in shown if key in database}
    return short | {"disk": database.get("disk", {}).get("state")}


def _row(standby: dict[str, Any]) -> dict[str, Any]:
    """Another node. lag: null where this one cannot know it."""
    known = standby.get("lag_commits") is not None
    return {
        "node": standby.get("name"),
        **{key: standby.get(key) for key in ("role", "phase", "epoch", "address", "connected", "streaming")},
        "lag": {unit: standby.get(f"lag_{unit}") for unit in ("commits", "bytes", "seconds")} if known else None,
        "last_error": "" if standby.get("connected") else standby.get("last_error", ""),
    }


def _named(reasons: dict[str, str]) -> str:
    return _first([f"{name}: {why}" for name, why in reasons.items()], "; ")


def _first(names: list[str], between: str = ", ") -> str:
    more = len(names) - NAMED_MAX
    return between.join(names[:NAMED_MAX]) + (f"{between}and {more} more" if more > 0 else "")


def _code(ok: bool) -> int:  # noqa: FBT001 - the code of just that
    return 200 if ok else 503
