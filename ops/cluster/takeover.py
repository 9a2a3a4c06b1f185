"""Who could take the office, what would be lost, and who lacks least. Pure: over what the nodes have answered.

What a standby lacks is the larger of what it has itself heard of and what any node that answers now has and it has not. Nobody can know of
commits that only a silent primary had and told no one: how old the knowledge is, is told beside.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ops.status import PRIMARY, NodeView
from ops.tables import size

Positions = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node that answers and does not lead. why_not: why it should not lead, apart from what it lacks. heard_s_ago: how long ago it
    last heard of a primary, None when never since it was started; lag_*: behind that one's last word."""

    node: str
    host: str
    fenced: bool
    why_not: str
    lacks: int
    heard_from: str
    heard_s_ago: float | None
    lag_bytes: int | None
    lag_seconds: float | None

    @property
    def loses_nothing_known(self) -> bool:
        return not self.why_not and self.lacks == 0

    def knowledge(self) -> str:
        """What it lacks and how sure that is, as a sentence."""
        if self.heard_s_ago is None:
            sure = "it has heard no primary since it was started, so what a silent one had is not known"
        else:
            sure = f"as of {self.heard_from}'s last word {self.heard_s_ago:.1f} s ago"
        if not self.lacks:
            return f"it lacks no commit that is known of ({sure})"
        return f"it lacks {self.lacks} commits, {size(self.lag_bytes or 0)}, {self.lag_seconds or 0:.1f} s ({sure})"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def candidates(views: list[NodeView], known: dict[str, dict[str, Any]]) -> list[Candidate]:
    """In the order in which they should be taken: those that may lead first, and among them who lacks least."""
    newest = _newest(views)
    found = [_candidate(view, known[view.node], newest) for view in views if view.node in known and view.role != PRIMARY]
    return sorted(found, key=_order)


def _order(one: Candidate) -> tuple[bool, bool, int, float, str]:
    return (one.fenced, bool(one.why_not), one.lacks, float("inf") if one.heard_s_ago is None else one.heard_s_ago, one.node)


def _newest(views: list[NodeView]) -> Positions:
    newest: Positions = {}
    for view in views:
        for name, position in view.databases.items():
            newest[name] = max(newest.get(name, (0, 0)), position)
    return newest


def _candidate(view: NodeView, known: dict[str, Any], newest: Positions) -> Candidate:
    behind = 0
    for name, position in newest.items():
        mine = view.databases.get(name, (0, 0))
        if mine < position:
            behind += max(1, position[1] - mine[1])
    heard, lag = known.get("primary"), known.get("lag")
    why_not = known["why_not"] or (f"it is a delayed standby, {view.delay_s:g} s behind on purpose" if view.delay_s else "")
    return Candidate(
        node=view.node,
        host=view.host,
        fenced=view.role == "fenced",
        why_not=why_not,
        lacks=max(behind, known["missing_commits"]),
        heard_from=heard["node"] if heard else "",
        heard_s_ago=heard["heard_s_ago"] if heard else None,
        lag_bytes=lag["bytes"] if lag else None,
        lag_seconds=lag["seconds"] if lag else None,
    )


def why_chosen(chosen: Candidate, others: list[Candidate]) -> str:
    """Why the first of candidates() is that."""
    if not others:
        return f"{chosen.node} is the only one that answers"
    second = others[0]
    if second.fenced or second.why_not:
        return f"{second.node} may not lead: {second.why_not or 'it is fenced'}"
    if second.lacks != chosen.lacks:
        return f"it lacks least: {chosen.lacks} commits, {second.node} lacks {second.lacks}"
    return f"it lacks as little as {second.node} ({chosen.lacks} commits), and heard of the primary last or comes first by name"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one standby could take over now. lost: commits that it would not have; None when not known."""

    node: str
    could: bool
    why: str
    lost: int | None


def verdicts(views: list[NodeView], known: dict[str, dict[str, Any]]) -> list[Verdict]:
    """One for every node but the primary: as the primary sees it where one answers, else as it says itself."""
    by_node = {one.node: one for one in candidates(views, known)}
    primary = max((view for view in views if view.role == PRIMARY), key=lambda view: view.epoch, default=None)
    if primary is None:
        rows = [Verdict(one.node, one.loses_nothing_known, one.why_not or one.knowledge(), one.lacks) for one in by_node.values()]
        return rows + [Verdict(view.host, False, f"it does not answer: {view.problem}", None) for view in views if not view.reachable]
    rows = []
    for node, row in known[primary.node]["standbys"].items():
        itself = by_node.get(node)
        why_not = row["why_not"] or (itself.why_not if itself else "it does not answer here")
        rows.append(Verdict(node, not why_not, why_not, row["lacks"]))
    return rows


def protects(views: list[NodeView], known: dict[str, dict[str, Any]]) -> bool:
    """Whether each acknowledged write is on a standby, by the settings of the primary, or of all where none answers."""
    told = [known[view.node] for view in views if view.role == PRIMARY and view.node in known] or list(known.values())
    return bool(told) and all(one["protected"] for one in told)
