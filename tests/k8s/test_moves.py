"""Failover, switchover, hand-over and sync: the order of the steps, a script that dies at any call, and never two pods behind the Service."""

from __future__ import annotations

import pytest

from ops.kubernetes import moves
from ops.refusal import Refusal

from .fake_cluster import Crash, FakeCluster, FakeNode

CALLS_MAX = 60
GIVEN_UP_S = 150  # past verdicts.MOVE_US_MAX


def pair(**chosen) -> FakeCluster:
    """twinlog-0 is primary, and the Service points to it."""
    cluster = FakeCluster({"twinlog-0": FakeNode("primary"), "twinlog-1": FakeNode()}, **chosen)
    cluster.point("twinlog-0", 1)
    return cluster


def headless() -> FakeCluster:
    """The primary is gone, and Kubernetes has noticed."""
    cluster = pair()
    cluster.nodes["twinlog-0"].alive = cluster.nodes["twinlog-0"].ready = False
    return cluster


async def run(cluster: FakeCluster, verb, *, automatic: bool = False, **options) -> str:
    async with cluster.open() as api:
        return await verb(cluster.around(api, automatic=automatic), **options)


async def dies(cluster: FakeCluster, verb, number: int, **options) -> bool:
    """One run that dies at its n-th call; False when it had come to its end before."""
    cluster.crash_at = number
    try:
        await run(cluster, verb, **options)
    except Crash:
        return True
    finally:
        cluster.crash_at = 0
    return False


def serves(cluster: FakeCluster, pod: str) -> bool:
    """The pod is primary and the only one behind the Service, and no move is under way."""
    cluster.settle()
    return cluster.selected == pod and cluster.endpoints == {pod} and "twinlog.io/moving-to" not in cluster.notes and cluster.primaries() == [pod]


def orders(cluster: FakeCluster) -> list[str]:
    """What changed anything, in order."""
    return [call for call in cluster.calls if not call.startswith(("GET", "ask"))]


# The order.


async def test_a_failover_empties_the_service_promotes_and_then_points(autojump_clock):
    cluster = headless()
    await run(cluster, moves.failover)
    assert orders(cluster) == ["PATCH services/twinlog-primary", "promote twinlog-1", "PATCH services/twinlog-primary"]
    assert serves(cluster, "twinlog-1")
    assert cluster.notes["twinlog.io/epoch"] == "2"


async def test_a_switchover_takes_the_old_one_out_before_the_office_changes(autojump_clock):
    cluster = pair()
    await run(cluster, moves.switchover)
    assert orders(cluster) == ["PATCH services/twinlog-primary", "switch_over twinlog-0 twinlog-1", "PATCH services/twinlog-primary"]
    assert serves(cluster, "twinlog-1")


async def test_nothing_is_promoted_while_the_old_pod_is_still_behind_the_service(autojump_clock):
    cluster = pair(endpoints_late=1_000_000)  # a controller manager that does not run
    with pytest.raises(Refusal, match="controller manager"):
        await run(cluster, moves.switchover)
    assert cluster.primaries() == ["twinlog-0"]


@pytest.mark.parametrize("late", [1, 2, 7, 40])
async def test_however_late_the_endpoints_follow(autojump_clock, late):
    cluster = pair(endpoints_late=late)
    await run(cluster, moves.switchover, to="twinlog-1")
    assert serves(cluster, "twinlog-1")


# A script that dies, and the second run.


@pytest.mark.parametrize("after_work", [False, True])
async def test_a_failover_that_died_at_any_call_is_completed_by_a_second_run(autojump_clock, after_work):
    died = 0
    for number in range(1, CALLS_MAX):
        cluster = headless()
        cluster.crash_after_work = after_work
        died += await dies(cluster, moves.failover, number)
        await run(cluster, moves.failover)
        assert serves(cluster, "twinlog-1"), f"died at call {number} of {cluster.calls}"
        assert cluster.calls.count("promote twinlog-1") <= 2
    assert died > 8


@pytest.mark.parametrize("after_work", [False, True])
@pytest.mark.parametrize("verb", [moves.failover, moves.switchover])
async def test_after_a_script_that_died_at_any_call_sync_points_to_whichever_node_is_primary(autojump_clock, verb, after_work):
    for number in range(1, CALLS_MAX):
        cluster = headless() if verb is moves.failover else pair()
        cluster.crash_after_work = after_work
        await dies(cluster, verb, number)
        old = cluster.nodes["twinlog-0"]
        old.alive = old.ready = True  # the old primary is back, and has heard of a higher epoch if there is one
        if cluster.nodes["twinlog-1"].role == "primary":
            old.role = "standby"
        autojump_clock.jump(GIVEN_UP_S)
        await run(cluster, moves.sync)
        assert len(cluster.primaries()) == 1 and serves(cluster, cluster.primaries()[0]), f"died at call {number} of {cluster.calls}"


async def test_a_switchover_that_died_is_completed_by_a_second_run(autojump_clock):
    for number in range(1, CALLS_MAX):
        cluster = pair()
        await dies(cluster, moves.switchover, number, to="twinlog-1")
        await run(cluster, moves.switchover, to="twinlog-1")
        assert serves(cluster, "twinlog-1"), f"died at call {number} of {cluster.calls}"


# Two at once.


async def test_a_service_that_somebody_else_moves_meanwhile_is_read_again(autojump_clock):
    """At every call in turn, another run of the same failover gets ahead as far as it goes."""
    for number in range(1, 30):
        cluster = headless()
        other = {"done": False}

        def get_ahead(cluster=cluster, other=other):
            other["done"] = True
            cluster.nodes["twinlog-1"].role, cluster.nodes["twinlog-1"].epoch = "primary", 2
            version = int(cluster.service["metadata"]["resourceVersion"])
            cluster.point("twinlog-1", 2)
            cluster.service["metadata"]["resourceVersion"] = str(version + 3)

        cluster.before_call[number] = get_ahead
        await run(cluster, moves.failover)
        assert serves(cluster, "twinlog-1"), f"overtaken before call {number}: {cluster.calls}"


async def test_a_second_failover_to_another_pod_is_refused_while_a_move_is_under_way(autojump_clock):
    cluster = headless()
    cluster.nodes["twinlog-2"] = FakeNode(commits=500)
    assert await dies(cluster, moves.failover, 6, to="twinlog-1")
    assert cluster.notes["twinlog.io/moving-to"] == "twinlog-1"
    with pytest.raises(Refusal, match="a move to twinlog-1 was begun"):
        await run(cluster, moves.failover, to="twinlog-2")
    await run(cluster, moves.failover)  # goes on with the first one's choice, though the other has more
    assert serves(cluster, "twinlog-1")


async def test_sync_leaves_a_young_move_alone_and_ends_one_that_was_given_up(autojump_clock):
    cluster = pair()
    assert await dies(cluster, moves.switchover, 6)
    assert cluster.selected == "nobody"
    assert "under way" in await run(cluster, moves.sync)
    assert cluster.selected == "nobody"
    autojump_clock.jump(GIVEN_UP_S)
    await run(cluster, moves.sync)
    assert serves(cluster, "twinlog-0")


# Refusals.


async def test_a_refused_promotion_leaves_no_half_move(autojump_clock):
    cluster = headless()
    cluster.refuse_promotion = "twinlog-1 lacks 7 commits"
    with pytest.raises(Refusal, match="lacks 7 commits"):
        await run(cluster, moves.failover)
    cluster.settle()
    assert cluster.selected == "nobody" and "twinlog.io/moving-to" not in cluster.notes
    await run(cluster, moves.failover, force=True)
    assert serves(cluster, "twinlog-1")


async def test_a_refused_switchover_points_the_service_back(autojump_clock):
    cluster = pair(paused=True)
    with pytest.raises(Refusal, match="paused"):
        await run(cluster, moves.switchover, automatic=True)
    assert serves(cluster, "twinlog-0")
    await run(cluster, moves.switchover)  # an operator may
    assert serves(cluster, "twinlog-1")


async def test_a_failover_beside_a_primary_that_answers_is_refused_unless_it_is_fenced(autojump_clock):
    cluster = pair()
    with pytest.raises(Refusal, match="switchover --to twinlog-1"):
        await run(cluster, moves.failover, to="twinlog-1")
    assert "already" in await run(cluster, moves.failover)
    assert not orders(cluster)
    await run(cluster, moves.failover, fence=True)
    assert orders(cluster) == ["PATCH services/twinlog-primary", "fence twinlog-0", "promote twinlog-1", "PATCH services/twinlog-primary"]
    assert serves(cluster, "twinlog-1")


async def test_a_silent_primary_that_kubernetes_calls_ready_is_waited_for_and_then_refused(autojump_clock):
    cluster = pair()
    cluster.nodes["twinlog-0"].alive = False
    with pytest.raises(Refusal, match="other side of a cut network"):
        await run(cluster, moves.failover)
    assert not orders(cluster)
    await run(cluster, moves.failover, even_if_ready=True)
    assert cluster.selected == "twinlog-1"


async def test_a_silent_primary_whose_pod_gets_unready_is_failed_over(autojump_clock):
    cluster = pair()
    cluster.nodes["twinlog-0"].alive = False
    cluster.before_call[20] = lambda: setattr(cluster.nodes["twinlog-0"], "ready", False)
    await run(cluster, moves.failover)
    assert serves(cluster, "twinlog-1")


async def test_a_pod_that_is_being_deleted_is_not_chosen(autojump_clock):
    cluster = pair()
    cluster.nodes["twinlog-1"].terminating = True
    with pytest.raises(Refusal, match="twinlog-1 is being deleted"):
        await run(cluster, moves.switchover)
    assert serves(cluster, "twinlog-0")


async def test_a_standby_that_the_primary_calls_unfit_is_not_chosen(autojump_clock):
    cluster = pair()
    cluster.nodes["twinlog-1"].promotable = False
    with pytest.raises(Refusal, match="it is delayed"):
        await run(cluster, moves.switchover)


# preStop.


async def test_a_stopping_primary_hands_over_and_a_stopping_standby_does_nothing(autojump_clock):
    cluster = pair()
    assert "not the primary" in await run(cluster, moves.hand_over, own="twinlog-1", timeout_s=10, automatic=True)
    assert not orders(cluster)
    cluster.nodes["twinlog-0"].terminating = True
    await run(cluster, moves.hand_over, own="twinlog-0", timeout_s=10, automatic=True)
    assert serves(cluster, "twinlog-1")


async def test_when_all_pods_are_deleted_nobody_hands_over(autojump_clock):
    cluster = pair()
    for node in cluster.nodes.values():
        node.terminating = True
    with pytest.raises(Refusal, match="being deleted"):
        await run(cluster, moves.hand_over, own="twinlog-0", timeout_s=10, automatic=True)
    assert cluster.primaries() == ["twinlog-0"]


# sync.


async def test_the_first_sync_points_a_new_service_to_the_first_primary(autojump_clock):
    cluster = FakeCluster({"twinlog-0": FakeNode("primary"), "twinlog-1": FakeNode()})
    await run(cluster, moves.sync)
    assert serves(cluster, "twinlog-0")
    changes = len(orders(cluster))
    await run(cluster, moves.sync)
    assert len(orders(cluster)) == changes, "what is right is left alone"


async def test_sync_follows_a_promotion_made_past_it_through_nobody(autojump_clock):
    cluster = pair()
    cluster.nodes["twinlog-0"].role = "standby"
    cluster.nodes["twinlog-1"].role, cluster.nodes["twinlog-1"].epoch = "primary", 2
    await run(cluster, moves.sync)
    assert orders(cluster) == ["PATCH services/twinlog-primary"] * 2
    assert serves(cluster, "twinlog-1")


async def test_an_old_primary_that_answers_alone_is_never_pointed_to_again(autojump_clock):
    cluster = pair()
    cluster.point("twinlog-1", 2)
    cluster.nodes["twinlog-1"].alive = False
    assert "epoch 2 before" in await run(cluster, moves.sync)
    assert cluster.selected == "twinlog-1"
    assert "points to twinlog-0" in await run(cluster, moves.sync, anew=True)  # the operator knows better
    assert serves(cluster, "twinlog-0")


async def test_two_primaries_of_one_epoch_leave_nobody_behind_the_service(autojump_clock):
    cluster = pair()
    cluster.nodes["twinlog-1"].role = "primary"
    assert "two nodes are primary of epoch 1" in await run(cluster, moves.sync)
    assert cluster.selected == "nobody"
