"""Failover, switchover, hand-over and sync: the steps, in the one order in which never two pods stand behind the primary Service.

    1  the Service points to nobody, and says who shall be next     one patch; waits until its endpoints are gone
    2  the node is promoted, or handed the office                   the node's own rules; its role.json is the commit point
    3  the Service points to it, and no move is under way           one patch; waits until it stands there

Whoever dies between two steps leaves nobody behind the Service and a note of who it was for. A second run, of any verb, looks at what is and goes on
from there: after 1 it promotes the same pod, after 2 it only points. A run that finds nothing to undo changes nothing. A refusal in step 2 points
the Service back to whichever node is primary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from ops.exit_codes import ExitCode
from ops.refusal import Refusal
from ops.status import NodeView

from . import verdicts
from .api import Conflict
from .standing import Standing, patch_to_empty, patch_to_nobody, patch_to_pod
from .verdicts import Empty, Keep, Move, Pod, Point, Refuse, Wait, pod_of

POLL_S = 0.2
CONFLICTS_MAX = 10
ENDPOINTS_S = 30.0  # for the cluster to follow the Service
SILENT_S = 30.0  # for Kubernetes to notice that a pod does not answer
PUT_BACK_S = 5.0
OFFICE_S = 60.0  # for a promoted node to say that it leads


class Api(Protocol):
    """See api.KubeApi."""

    async def standing(self) -> Standing: ...
    async def change(self, patch: dict) -> Standing: ...
    async def behind_service(self) -> frozenset[str]: ...
    async def pods(self) -> dict[str, Pod]: ...


class Cluster(Protocol):
    """See nodes.Nodes."""

    async def ask(self) -> list[NodeView]: ...
    async def fence(self, pod: str, why: str) -> None: ...
    async def promote(self, pod: str, *, force: bool, automatic: bool) -> int: ...
    async def switch_over(self, old: str, to: str, *, timeout_s: float, automatic: bool) -> dict: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the steps act on. say: where a line for the operator goes. automatic: a program asks, so the nodes refuse while they are paused."""

    api: Api
    nodes: Cluster
    now_us: Callable[[], int]
    say: Callable[[str], None]
    automatic: bool = False


async def sync(around: Surroundings, *, anew: bool = False) -> str:
    """Make the Service say what is: what was done, in words. anew: the cluster was made anew, so its epochs begin again."""
    for _ in range(CONFLICTS_MAX):
        standing = await around.api.standing()  # before the nodes: a move that begins meanwhile makes this one a Conflict
        if anew:
            standing = replace(standing, epoch=0, moving_to="")
        verdict = verdicts.sync(standing, await around.nodes.ask(), around.now_us())
        try:
            match verdict:
                case Keep(why):
                    return why
                case Empty(why):
                    if standing.pod:
                        await around.api.change(patch_to_empty(standing))
                    return why
                case Point(pod, epoch):
                    await _point(around, standing, pod, epoch)
                    return f"the Service points to {pod}, primary of epoch {epoch}"
        except Conflict:
            continue
    raise Refusal(f"the Service was changed by somebody else {CONFLICTS_MAX} times in a row: look who else moves it")


async def failover(
    around: Surroundings, *, to: str | None = None, force: bool = False, even_if_ready: bool = False, fence: bool = False
) -> str:
    """Promote a standby, for a primary that does not answer; with fence, also for one that answers and cannot do its work."""
    patience = trio.current_time() + SILENT_S
    for _ in range(CONFLICTS_MAX):
        standing, views, pods = await _look(around)
        while isinstance(
            verdict := verdicts.failover(standing, views, pods, around.now_us(), to=to, even_if_ready=even_if_ready, fence=fence), Wait
        ):
            if trio.current_time() > patience:
                raise Refusal(verdict.why)
            await trio.sleep(POLL_S)
            standing, views, pods = await _look(around)
        try:
            match verdict:
                case Refuse(why):
                    raise Refusal(why)
                case Point(pod, epoch):
                    await _point(around, standing, pod, epoch)
                    return f"{pod} is primary of epoch {epoch} already, and the Service points to it"
                case Move(target, old):
                    await _leave(around, standing, target)
                    return await _promote(around, old, target, force=force)
        except Conflict:
            continue
    raise Refusal(f"the Service was changed by somebody else {CONFLICTS_MAX} times in a row: look who else moves it")


async def switchover(around: Surroundings, *, to: str | None = None, timeout_s: float = 10.0) -> str:
    """Hand over from a primary that answers; nothing is lost, or nothing changes."""
    for _ in range(CONFLICTS_MAX):
        standing, views, pods = await _look(around)
        verdict = verdicts.switchover(standing, views, pods, to=to)
        try:
            match verdict:
                case Refuse(why):
                    raise Refusal(why)
                case Point(pod, epoch):
                    await _point(around, standing, pod, epoch)
                    return f"{pod} is primary of epoch {epoch} already, and the Service points to it"
                case Move(target, old):
                    await _leave(around, standing, target)
                    return await _hand_over(around, old, target, timeout_s)
        except Conflict:
            continue
    raise Refusal(f"the Service was changed by somebody else {CONFLICTS_MAX} times in a row: look who else moves it")


async def hand_over(around: Surroundings, own: str, *, timeout_s: float) -> str:
    """What a pod does before it stops: switch over if its node is the primary and a standby has everything, else nothing."""
    views = await around.nodes.ask()
    if verdicts.leading([view for view in views if pod_of(view.host) == own]) is None:
        return f"{own} is not the primary: nothing to hand over"
    try:
        return await switchover(around, timeout_s=timeout_s)
    except trio.Cancelled:
        with trio.move_on_after(PUT_BACK_S, shield=True):  # the time is over, and the Service shall not stay without its primary
            await _put_back(around)
        raise


async def _look(around: Surroundings) -> tuple[Standing, list[NodeView], dict[str, Pod]]:
    standing = await around.api.standing()
    return standing, await around.nodes.ask(), await around.api.pods()


async def _leave(around: Surroundings, standing: Standing, target: str) -> None:
    """Step 1. Raises Conflict while no node has been given an order."""
    around.say(f"1 {standing.pod or 'nobody'} leaves the Service; {target} shall be primary")
    await _gone(around, await around.api.change(patch_to_nobody(standing, target, around.now_us())))


async def _promote(around: Surroundings, old: str, target: str, *, force: bool) -> str:
    """Steps 2 and 3 of a failover. old: to be fenced first, unless it is ""."""
    try:
        if old:
            around.say(f"2 {old} is fenced (`twinlog cluster unfence` ends that)")
            await around.nodes.fence(old, f"failover to {target}")
        around.say(f"2 {target} is promoted")
        epoch = await around.nodes.promote(target, force=force, automatic=around.automatic)
    except Refusal:
        if old:
            around.say(f"  {old} may be fenced by now: `twinlog cluster unfence {old}` gives it its office back")
        await _put_back(around)
        raise
    return await _enter(around, target, epoch)


async def _hand_over(around: Surroundings, old: str, target: str, timeout_s: float) -> str:
    """Steps 2 and 3 of a switchover."""
    around.say(f"2 {old} hands over to {target}")
    try:
        outcome = await around.nodes.switch_over(old, target, timeout_s=timeout_s, automatic=around.automatic)
    except Refusal:
        await _put_back(around)
        raise
    around.say(f"  no node took writes for {outcome['stopped_s'] * 1000:.0f} ms")
    return await _enter(around, target, int(outcome["epoch"]))


async def _enter(around: Surroundings, target: str, epoch: int) -> str:
    """Step 3: the node says that it leads, then it enters, unless somebody has seen to it by now."""
    around.say(f"3 {target} is primary of epoch {epoch} and enters the Service")
    with trio.move_on_after(OFFICE_S):
        while True:
            standing = await around.api.standing()
            leader = verdicts.leading(await around.nodes.ask())
            if leader is not None and leader.epoch >= epoch and leader.epoch >= standing.epoch:
                try:
                    await _point(around, standing, pod_of(leader.host), leader.epoch)
                except Conflict:
                    continue
                return f"{pod_of(leader.host)} is primary of epoch {leader.epoch}, and the Service points to it"
            await trio.sleep(POLL_S)
    raise Refusal(f"{target} was promoted to epoch {epoch} and has not said within {OFFICE_S:g} s that it leads; run `twinlog kubernetes sync` when it does",
                  ExitCode.UNREACHABLE)


async def _point(around: Surroundings, standing: Standing, pod: str, epoch: int) -> None:
    """Raises Conflict when somebody else has changed the Service; changes nothing where all is as it shall be."""
    if (standing.pod, standing.epoch, standing.moving_to) == (pod, epoch, ""):
        return
    if standing.pod not in ("", pod):  # through nobody, so that the old one has left before the new one enters
        standing = await around.api.change(patch_to_nobody(standing, pod, around.now_us()))
    if standing.pod != pod:
        await _gone(around, standing)
    await around.api.change(patch_to_pod(standing, pod, epoch))
    with trio.move_on_after(ENDPOINTS_S) as waiting:
        while await around.api.behind_service() != {pod}:  # noqa: ASYNC110
            await trio.sleep(POLL_S)
    if waiting.cancelled_caught:
        around.say(f"  {pod} is not ready yet; it stands behind the Service when it is")


async def _put_back(around: Surroundings) -> None:
    """After a refusal: the Service points to whichever node is primary, and no move is under way."""
    for _ in range(CONFLICTS_MAX):
        standing = await around.api.standing()
        leader = verdicts.leading(await around.nodes.ask())
        try:
            if leader is not None and leader.epoch >= standing.epoch:
                await around.api.change(patch_to_pod(standing, pod_of(leader.host), leader.epoch))
                around.say(f"  {pod_of(leader.host)} is primary of epoch {leader.epoch}; the Service points back to it")
            else:
                await around.api.change(patch_to_empty(standing))
                around.say("  no node is primary; the Service stays at nobody")
            return
        except Conflict:
            continue


async def _gone(around: Surroundings, standing: Standing) -> None:
    """Wait until nobody stands behind the Service, which says so already. Raises Conflict when it does not any more."""
    with trio.move_on_after(ENDPOINTS_S):
        while await around.api.behind_service():
            if (await around.api.standing()).version != standing.version:
                raise Conflict("the Service")
            await trio.sleep(POLL_S)
        return
    raise Refusal(f"the pods behind the Service do not go within {ENDPOINTS_S:g} s: is the controller manager running? Nothing was changed but the Service; "
                  "`twinlog kubernetes sync` puts it right", ExitCode.UNREACHABLE)
