"""What to do about the primary Service, as a verdict over plain values: what it says, what the nodes say, what the pods are. Pure.

    sync         point it to the primary that there is
    failover     choose a standby, when no primary answers
    switchover   choose a standby, beside a primary that answers

Nobody is pointed to at an epoch below the one that the Service has seen: an old primary that still answers while the new one does not stays out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.status import PRIMARY, NodeView

from .standing import Standing

STANDBY = "standby"
MOVE_US_MAX = 120_000_000  # a move that is older was given up by whoever began it


@dataclass(frozen=True, slots=True)
class Pod:
    """What Kubernetes knows of one pod of the StatefulSet."""

    name: str
    ready: bool
    terminating: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do."""

    why: str


@dataclass(frozen=True, slots=True)
class Point:
    """Point the Service to this pod."""

    pod: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Empty:
    """Take away whoever stands there."""

    why: str


@dataclass(frozen=True, slots=True)
class Move:
    """Make this pod's node the primary and point the Service to it. old: the primary that answers and has to give way, "" when none does."""

    to: str
    old: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: ask again, and refuse with this when it stays so."""

    why: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not this way; the text says which."""

    why: str


def pod_of(host: str) -> str:
    """The pod behind a host of the URL: twinlog-1 of twinlog-1.twinlog.shop.svc:6900."""
    return host.partition(":")[0].partition(".")[0]


def leading(views: Sequence[NodeView]) -> NodeView | None:
    """The node that says it is primary; of several the one of the highest epoch."""
    return max((view for view in views if view.reachable and view.role == PRIMARY), key=lambda view: view.epoch, default=None)


def sync(standing: Standing, views: Sequence[NodeView], now_us: int) -> Keep | Point | Empty:
    """Make the Service say what is."""
    leader = leading(views)
    moving = bool(standing.moving_to) and now_us - standing.since_us < MOVE_US_MAX
    if leader is None:
        said = {pod_of(view.host): view for view in views if view.reachable}
        if standing.pod in said:
            return Empty(f"{standing.pod} is {said[standing.pod].role}, and no node says that it is primary")
        return Keep(f"no node says that it is primary; the Service stays at {standing.pod or 'nobody'}")
    pod = pod_of(leader.host)
    if sum(view.reachable and view.role == PRIMARY and view.epoch == leader.epoch for view in views) > 1:
        return Empty(f"two nodes are primary of epoch {leader.epoch}; they freeze when they meet: see `twinlog status`")
    if leader.epoch < standing.epoch:
        return Keep(
            f"{pod} is primary of epoch {leader.epoch}, but the Service was pointed to a primary of epoch {standing.epoch} before. If the cluster was made "
            "anew, run `twinlog kubernetes sync --anew`"
        )
    if moving and pod != standing.moving_to:
        return Keep(f"a move to {standing.moving_to} is under way since {(now_us - standing.since_us) / 1e6:.0f} s; {pod} is primary until then")
    if pod == standing.pod and leader.epoch == standing.epoch and not standing.moving_to:
        return Keep(f"{pod} is primary of epoch {leader.epoch}, and the Service points to it")
    return Point(pod, leader.epoch)


def failover(
    standing: Standing, views: Sequence[NodeView], pods: Mapping[str, Pod], now_us: int, *, to: str | None, even_if_ready: bool, fence: bool
) -> Point | Move | Wait | Refuse:
    """For a primary that does not answer. Point: there is a primary already, for instance because an earlier run got that far. fence: for one that
    answers, too, and cannot do its work."""
    leader = leading(views)
    old = ""
    if leader is not None and leader.epoch >= standing.epoch:
        old = pod_of(leader.host)
        if to == old or not (fence or to):
            return Point(old, leader.epoch)
        if not fence:
            return Refuse(f"{old} answers and is primary of epoch {leader.epoch}: `twinlog kubernetes switchover --to {to}` loses nothing, a failover might. If it "
                          "answers and cannot do its work (a failed disk), add --fence: it is made to step down first")
    moving = standing.moving_to and now_us - standing.since_us < MOVE_US_MAX
    if moving and to not in (None, standing.moving_to):
        return Refuse(f"a move to {standing.moving_to} was begun {(now_us - standing.since_us) / 1e6:.0f} s ago: finish it (leave --to away), or wait until it is "
                      f"{MOVE_US_MAX // 1_000_000} s old")
    silent = [pod_of(view.host) for view in views if not view.reachable]
    for name in silent:
        if name in pods and pods[name].ready and not even_if_ready:
            return Wait(f"{name} does not answer here, but Kubernetes says that it is ready: it may be serving clients on the other side of a cut "
                        "network. Stop it first (kubectl delete pod), or add --even-if-ready")
    able = [view for view in views if view.reachable and view.role == STANDBY and _stays(pods, pod_of(view.host))]
    named = to or (standing.moving_to if moving else None)
    if named is not None:
        able = [view for view in able if pod_of(view.host) == named]
    if not able:
        told = ", ".join(f"{pod_of(view.host)} is {view.role}" if view.reachable else f"{pod_of(view.host)} does not answer" for view in views)
        return Refuse(f"no standby to promote{f' named {named}' if named else ''}: {told}")
    return Move(pod_of(max(able, key=lambda view: (*_progress(view), pod_of(view.host))).host), old)


def switchover(standing: Standing, views: Sequence[NodeView], pods: Mapping[str, Pod], *, to: str | None) -> Point | Move | Refuse:
    """For a primary that answers. Point: the one asked for is primary already."""
    leader = leading(views)
    if leader is None or leader.epoch < standing.epoch:
        return Refuse("no primary answers, so nothing can be handed over: `twinlog kubernetes failover` is for that")
    old = pod_of(leader.host)
    if to == old:
        return Point(old, leader.epoch)
    able, why_not = [], []
    for standby in leader.standbys:
        view = next((view for view in views if pod_of(view.host) == standby.node), None)
        if view is None or not view.reachable:
            why_not.append(f"{standby.node} does not answer")
        elif not standby.streaming:
            why_not.append(f"{standby.node} does not stream from {old}")
        elif standby.why_not:
            why_not.append(f"{standby.node}: {standby.why_not}")
        elif not _stays(pods, standby.node):
            why_not.append(f"{standby.node} is being deleted")
        elif to in (None, standby.node):
            able.append(standby)
    if not able:
        named = f"{to} cannot take over" if to else "no standby can take over"
        return Refuse(f"{named} from {old}: {'; '.join(why_not) or 'it has no such standby'}")
    return Move(min(able, key=lambda standby: (standby.lag_commits or 0, standby.node)).node, old)


def _stays(pods: Mapping[str, Pod], name: str) -> bool:
    return name in pods and not pods[name].terminating


def _progress(view: NodeView) -> tuple[int, int]:
    """The newest epoch of its data, and how many commits it has; whether those are enough is for the node to say when it is promoted."""
    return max((epoch for epoch, _ in view.databases.values()), default=0), sum(seq for _, seq in view.databases.values())
