"""A cluster as its nodes tell it: asked one by one, put side by side.

    NodeView       what one host answered, or why it did not
    StandbyView    how the primary sees one standby
    MarkView       one database's state at one MARK: seq, and chain and state hash of every node that answered

Knows the shape of the node's status answer, here and nowhere else in ops; asks through the client.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .exit_codes import ExitCode
from .tables import NOTHING, number, print_table, seconds, short_hash, size, yes_no
from .target import Target

ASK_OPTIONS = {"pool": 1, "retry_s": 0, "connect_timeout_s": 3}
PRIMARY = "primary"
DIFFERENCES = ("chain-differs", "hash-differs")  # alarms that say what an unequal comparison says


@dataclass(frozen=True, slots=True)
class StandbyView:
    """Lag is None when the primary cannot know it (the standby is away and was never seen)."""

    node: str
    connected: bool
    streaming: bool  # every database of the primary's
    lag_commits: int | None
    lag_bytes: int | None
    lag_seconds: float | None
    delay_s: int = 0  # of a delayed standby
    why_not: str = ""  # why the primary would not have it take over


@dataclass(frozen=True, slots=True)
class MarkView:
    """equal is None when nobody but the primary answered: nothing was compared."""

    database: str
    seq: int
    answers: dict[str, tuple[int, str, str]]  # node -> (seq, chain, state hash)
    equal: bool | None


@dataclass(frozen=True, slots=True)
class AlarmView:
    """Something a node wants seen. kind is the node's own name for it."""

    kind: str
    text: str

    @property
    def copies_differ(self) -> bool:
        return self.kind in DIFFERENCES


@dataclass(frozen=True, slots=True)
class NodeView:
    """One host's answer. With problem set, only host means anything."""

    host: str
    problem: str = ""
    node: str = ""
    role: str = ""
    epoch: int = 0
    writable: bool = False
    behind: int = 0  # commits a standby has heard of and does not have
    databases: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> (epoch, seq)
    standbys: tuple[StandbyView, ...] = ()
    marks: tuple[MarkView, ...] = ()
    mark_problem: str = ""  # why a primary could not compare
    alarms: tuple[AlarmView, ...] = ()
    transactions: dict[str, int] = field(default_factory=dict)  # open, and by how the others ended
    delay_s: float = 0.0  # of a delayed standby
    why: str = ""  # it has its role
    was: str = ""  # of a fenced node: what it would be again
    ready: bool = True
    why_not_ready: str = ""
    paused: dict[str, Any] | None = None  # since_us and why, while the cluster is
    reseeding: tuple[str, ...] = ()  # databases whose copy is ordered to be replaced

    @property
    def reachable(self) -> bool:
        return not self.problem


def ask_all(target: Target, *, mark: bool) -> list[NodeView]:
    """Every host of the URL. With mark the primary is asked first and puts a MARK through its databases, so that the others'
    answers are from after it."""
    hosts = target.hosts()
    views = {host: ask(target, host, mark=False) for host in hosts}
    if mark:
        for host in sorted(hosts, key=lambda host: views[host].role != PRIMARY):
            before, views[host] = views[host], ask(target, host, mark=views[host].role == PRIMARY)
            if before.role == PRIMARY and not views[host].reachable:  # it answered a moment ago: the comparison is what failed
                views[host] = replace(before, mark_problem=views[host].problem)
    return [views[host] for host in hosts]


def ask(target: Target, host: str, *, mark: bool) -> NodeView:
    """One host's view of itself; an unreachable one is an answer too."""
    from twinlog import TwinlogError  # late: --help must not pay for it

    try:
        with target.connect(**ASK_OPTIONS) as client:
            return read_status(host, client.status(host, mark=mark))
    except TwinlogError as error:
        return NodeView(host, problem=str(error))


def read_status(host: str, status: dict[str, Any]) -> NodeView:
    """The node's answer as a NodeView. Pure."""
    role = str(status["role"])
    databases = status.get("databases", {})
    # Every node lists its peers as `standbys`; only the primary's list says how far they are behind.
    standbys = status.get("standbys", ()) if role == PRIMARY else ()
    return NodeView(
        host=host,
        node=str(status["node"]),
        role=role,
        epoch=int(status["epoch"]),
        writable=role == PRIMARY and all(entry["writable"] for entry in databases.values()),
        behind=sum(entry["lag"]["commits"] for entry in databases.values() if entry.get("lag")),
        databases={name: (entry["position"][0], entry["position"][1]) for name, entry in sorted(databases.items())},
        standbys=tuple(_read_standby(entry) for entry in standbys),
        marks=tuple(_read_mark(name, entry["mark"]) for name, entry in sorted(databases.items()) if _was_marked(entry)),
        alarms=tuple(_read_alarm(alarm) for alarm in status.get("alarms", ())),
        transactions=dict(status.get("transactions", {})),
        delay_s=float(status.get("delay_s", 0)),
        why=str(status.get("why", "")),
        was=str(status.get("was", "")),
        ready=bool(status.get("ready", True)),
        why_not_ready=str(status.get("why_not_ready", "")),
        paused=status.get("paused"),
        reseeding=tuple(name for name, entry in sorted(databases.items()) if entry.get("reseeding")),
    )


def _was_marked(database: dict[str, Any]) -> bool:
    return bool(database.get("mark")) and bool(database["mark"].get("nodes"))


def _read_mark(name: str, mark: dict[str, Any]) -> MarkView:
    answers = {node: (int(told["seq"]), str(told["chain"]), str(told["hash"])) for node, told in mark["nodes"].items()}
    return MarkView(name, int(mark["seq"]), answers, mark["equal"])


def _read_standby(entry: dict[str, Any]) -> StandbyView:
    return StandbyView(str(entry["name"]), bool(entry["connected"]), bool(entry.get("streaming")), entry.get("lag_commits"), entry.get("lag_bytes"),
                       entry.get("lag_seconds"), int(entry.get("delay_s", 0)), str(entry.get("why_not", "")))


def _read_alarm(entry: dict[str, Any]) -> AlarmView:
    about = " ".join(entry[key] for key in ("database", "peer") if entry.get(key))
    return AlarmView(entry["kind"], f"{entry['kind']}{f' ({about})' if about else ''}: {entry['message']}")


def verdict(views: list[NodeView]) -> tuple[ExitCode, list[str]]:
    """Whether all is well, and each thing that is not. An unequal copy outweighs a missing one."""
    unequal = [f"{mark.database} differs between the nodes at commit {mark.seq}: an alarm (INV-6)"
               for view in views for mark in view.marks if mark.equal is False]
    missing = [f"{view.host} does not answer: {view.problem}" for view in views if not view.reachable]
    primaries = [view for view in views if view.role == PRIMARY]
    if not primaries:
        missing.append("no node that answered is primary")
    if len(primaries) > 1:
        missing.append(f"{len(primaries)} nodes say they are primary: {', '.join(view.node for view in primaries)}")
    missing += [f"{primary.node} could not compare: {primary.mark_problem}" for primary in primaries if primary.mark_problem]
    for primary in primaries:
        missing += [f"standby {standby.node} is not connected to {primary.node}"
                    for standby in primary.standbys if not standby.connected]
        missing += [f"{mark.database}: only {', '.join(mark.answers)} answered the comparison at commit {mark.seq}"
                    for mark in primary.marks if any(not one.delay_s and one.node not in mark.answers for one in primary.standbys)]
    alarms = [f"{view.node}: {alarm.text}" for view in views for alarm in view.alarms]
    alarms += [f"{view.node} is fenced: {view.why}" for view in views if view.role == "fenced"]
    if unequal or any(alarm.copies_differ for view in views for alarm in view.alarms):
        return ExitCode.UNEQUAL, unequal + missing + alarms
    return (ExitCode.UNREACHABLE if missing else ExitCode.FAILED if alarms else ExitCode.OK), missing + alarms


def lag_of(views: list[NodeView], node: str) -> StandbyView | None:
    """How the primary sees this node."""
    for view in views:
        if view.role == PRIMARY:
            for standby in view.standbys:
                if standby.node == node:
                    return standby
    return None


def print_nodes(views: list[NodeView]) -> None:
    """One line a node."""
    rows = []
    for view in views:
        if not view.reachable:
            rows.append([NOTHING, view.host, "does not answer", *[NOTHING] * 5])
            continue
        lag = lag_of(views, view.node)
        rows.append([
            view.node, view.host, f"{view.role}, {view.delay_s} s behind" if view.delay_s else view.role, number(view.epoch), yes_no(view.writable),
            number(lag.lag_commits) if lag else NOTHING,
            size(lag.lag_bytes) if lag else NOTHING,
            seconds(lag.lag_seconds) if lag else NOTHING,
        ])
    print_table("nodes", ("node", "address", "role", "epoch>", "writes", "behind: commits>", "bytes>", "time>"), rows)


def print_pause(views: list[NodeView]) -> None:
    """One line, while the cluster is paused."""
    paused = next((view.paused for view in views if view.paused), None)
    if paused is not None:
        print(f"paused{': ' if paused['why'] else ''}{paused['why']}; promotions and switchovers that programs ask for are refused")


def print_databases(views: list[NodeView]) -> None:
    """One line a database and node: position, and chain and state hash at the same MARK."""
    marks = {mark.database: mark for view in views for mark in view.marks}
    rows = []
    for name in sorted({name for view in views for name in view.databases}):
        mark = marks.get(name)
        for view in views:
            if view.reachable:
                seq, chain, digest = mark.answers.get(view.node, (None, None, None)) if mark else (None, None, None)
                position = view.databases.get(name)
                rows.append([
                    name, view.node, f"({position[0]}, {position[1]})" if position else "not there",
                    number(seq), short_hash(chain), short_hash(digest), ("NO" if mark.equal is False else yes_no(mark.equal)) if mark and view.node in mark.answers else NOTHING,
                ])
    if rows:
        print_table("databases", ("database", "node", "position", "compared at>", "chain", "state hash", "equal"), rows)


def print_transactions(views: list[NodeView]) -> None:
    """One line a node, once there have been transactions."""
    if any(count for view in views for count in view.transactions.values()):
        columns = ("open", "committed", "aborted", "conflict", "ended")
        rows = [[view.node, *[number(view.transactions.get(name, 0)) for name in columns]] for view in views if view.reachable]
        print_table("transactions", ("node", "open>", "committed>", "aborted>", "conflicts>", "ended by the node>"), rows)


def as_json(views: list[NodeView]) -> dict[str, Any]:
    """Everything the tables show, in full."""
    code, problems = verdict(views)
    return {
        "ok": code is ExitCode.OK,
        "problems": problems,
        "paused": next((view.paused for view in views if view.paused), None),
        "nodes": [_node_json(views, view) for view in views],
        "databases": {
            mark.database: {
                "compared_at": mark.seq,
                "equal": mark.equal,
                "nodes": {node: {"seq": seq, "chain": chain, "state_hash": digest}
                          for node, (seq, chain, digest) in mark.answers.items()},
            }
            for view in views for mark in view.marks
        },
    }


def _node_json(views: list[NodeView], view: NodeView) -> dict[str, Any]:
    if not view.reachable:
        return {"address": view.host, "reachable": False, "problem": view.problem}
    lag = lag_of(views, view.node)
    return {
        "address": view.host, "reachable": True, "node": view.node, "role": view.role, "epoch": view.epoch,
        "writable": view.writable, "ready": view.ready, "why_not_ready": view.why_not_ready, "alarms": [alarm.text for alarm in view.alarms],
        "positions": {name: list(position) for name, position in view.databases.items()},
        "transactions": view.transactions, "delay_s": view.delay_s,
        "lag": {"commits": lag.lag_commits, "bytes": lag.lag_bytes, "seconds": lag.lag_seconds} if lag else None,
    }
