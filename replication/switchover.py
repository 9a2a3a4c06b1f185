"""Switchover: the office goes from a living primary to a chosen standby, losing nothing, or stays where it is.

    primary                                                       standby
       │ writes are refused, its log is synced                       │
       │ ── Frames ──────────────────────────────────────────────►   │   until its durable end is the primary's
       │ role.json: standby of the next epoch, hands over to it      │   <- up to here every failure reverts
       │ ── Hello(hands over to you), on a new link ─────────────►   │   same positions and chains, synced: it promotes itself to the epoch after
       │ ◄── Hello(standby of the epoch after, declined, why) ────   │   otherwise; then the old primary takes the office back, one epoch on
       │ ◄────────────────────── Hello(primary) ──────────────────   │

It never announces the new primary before the old one has stopped. The offer stands in role.json, so that a crash of either in the middle
delays it only; any promotion by an operator ends it. No node acts here but on the operator's order (INV-4).
"""

from __future__ import annotations

import trio

from storage import BadRequest, DiskFailed, PromotionRefused

from .messages import Hello
from .peers import Peer
from .replica import Replica, histories, log
from .roles import Role

POLL_S = 0.002  # between two looks at the standby's durable ends, while writes are refused
CONFIRM_S = 30.0  # at most, for the new primary to be heard after the office was handed over
OFFER_RETRY_S = 1.0  # before an offer that could be neither taken nor declined is heard again


async def hand_over(replica: Replica, to: str, timeout_s: float) -> tuple[int, float]:
    """Carry out an operator's switchover on the primary: (the new primary's epoch, seconds in which no node took writes).

    Raises BadRequest for a node that is none, PromotionRefused with what stands in the way: either nothing has changed and this node goes on
    as primary, or the message says that the office was handed over and not taken up yet.
    """
    if to not in replica.peers:
        raise BadRequest(f"there is no other node {to!r} in this cluster: {', '.join(sorted(replica.peers)) or 'it has no other'}")
    peer = replica.peers[to]
    _check(replica, peer)
    if peer.delay_s:
        raise _refused(to, f"it is a delayed standby (delay_s {peer.delay_s}), which would not have everything before that: choose another")
    began = replica.state
    stopped_at = trio.current_time()
    replica.switching_to = to
    replica.open_or_close_all()
    try:
        with trio.move_on_after(timeout_s) as waiting:
            for database in list(replica.engine.databases.values()):
                if not await database.make_durable():
                    raise DiskFailed(f"{database.name} cannot be synced: the switchover was not begun")
            while not _has_all(replica, peer):
                await trio.sleep(POLL_S)
                if replica.state != began:
                    raise _refused(to, f"this node's role changed meanwhile: {replica.state.why}")
                _check_linked(replica, peer)
        if waiting.cancelled_caught:
            raise _refused(to, f"it did not reach this node's position within {timeout_s:g} s: {_behind(replica, peer)}")
        if replica.state != began or not _has_all(replica, peer):
            raise _refused(to, "this node's role or position changed in the last moment")
        await replica.keeper.hand_over(to)
    finally:
        replica.switching_to = ""
        replica.open_or_close_all()
    return await _confirmed(replica, peer), trio.current_time() - stopped_at


async def _confirmed(replica: Replica, peer: Peer) -> int:
    """Wait until the standby says that it leads; its epoch."""
    offered = replica.state
    with trio.move_on_after(CONFIRM_S):
        while True:
            seen = replica.changes.value
            if peer.role is Role.PRIMARY and peer.epoch > offered.epoch:
                return peer.epoch
            if replica.state != offered and replica.state.role is Role.PRIMARY:
                raise _refused(peer.name, replica.state.why)
            await replica.changes.wait_past(seen)
    raise PromotionRefused(
        f"the office was handed over to {peer.name}, which has not said within {CONFIRM_S:g} s that it leads; it will when it is reached: look at "
        "the status, or promote a node",
        behind=0,
    )


def _check(replica: Replica, peer: Peer) -> None:
    if not replica.leads:
        raise PromotionRefused(f"{replica.config.name} is not the primary: order the switchover there", behind=0)
    if replica.switching_to:
        raise _refused(peer.name, f"a switchover to {replica.switching_to} is under way")
    waiting = [database.name for database in replica.engine.databases.values() if database.uuid not in replica.ready]
    if waiting:
        raise _refused(peer.name, f"the reign of {waiting[0]} has not begun here")
    _check_linked(replica, peer)


def _check_linked(replica: Replica, peer: Peer) -> None:
    if peer.role is Role.FENCED:
        raise _refused(peer.name, "it is fenced: unfence it first")
    if peer.conversation is None:
        raise _refused(peer.name, f"it is not connected ({peer.last_error or 'no link'})")
    for database in replica.engine.databases.values():
        known = peer.copies.get(database.uuid)
        if known is None or not known.streaming:
            raise _refused(peer.name, f"it does not stream {database.name}: wait until it has caught up, or look at its alarms")


def _has_all(replica: Replica, peer: Peer) -> bool:
    """Whether the standby has every commit of every database durably."""
    for database in replica.engine.databases.values():
        if database.visible.seq != database.position.seq or peer.durable(database.uuid) != database.position.seq:
            return False
    return True


def _behind(replica: Replica, peer: Peer) -> str:
    behind = {one.name: one.position.seq - peer.durable(one.uuid) for one in replica.engine.databases.values()}
    return ", ".join(f"{name} lacks {count} commits" for name, count in behind.items() if count) or "it has everything now"


def _refused(to: str, why: str) -> PromotionRefused:
    return PromotionRefused(f"no switchover to {to}: {why}; this node goes on as it was", behind=0)


def why_declined(replica: Replica, offer: Hello) -> str | None:
    """On the standby: why it cannot take the office that a Hello offers it; None when it can. Every database of the old primary must be here,
    of the same history, at the same position and chain, durable."""
    for state in offer.databases:
        database = replica.database(state.uuid)
        if database is None:
            return f"database {state.name!r} is not here"
        mine = (database.history, database.position.seq, database.chain, database.visible.seq)
        if mine != (histories(state), state.seq, state.chain, state.seq):
            return f"its copy of {state.name!r} is at {tuple(database.position)}, the old primary's at ({state.epoch}, {state.seq})"
        if database.damaged:
            return f"its copy of {state.name!r} is damaged"
    return None


async def why_unsynced(replica: Replica, offer: Hello) -> str | None:
    """On the standby: sync what it was sent, since nobody else will have it once the others follow this node; None when all of it is. In async
    durability what a node shows is with the kernel, and the last of it would go with the power."""
    for state in offer.databases:
        database = replica.database(state.uuid)
        if database is not None and not await database.make_durable():
            return f"its copy of {state.name!r} cannot be synced"
    return None


def is_offered(replica: Replica, offer: Hello) -> bool:
    """Whether a Hello, after its epoch was heard, offers the office to this node. Once a higher epoch was heard of anybody, also while role.json
    does not say so yet, the offer is over: the old primary counts with one epoch in which it is taken, the one after it (INV-4)."""
    state = replica.state
    is_newest = offer.epoch == state.epoch and all(peer.epoch <= offer.epoch for peer in replica.peers.values())
    return offer.hands_over_to == replica.config.name and state.role is Role.STANDBY and is_newest


def is_declined(replica: Replica, answer: Hello) -> bool:
    """Whether a Hello, before its epoch is heard, answers this node's offer with no."""
    state = replica.state
    return bool(state.hands_over_to) and (answer.node, answer.declined) == (state.hands_over_to, replica.config.name) and answer.epoch > state.epoch


def check_offered(replica: Replica, offer: Hello) -> None:
    """In the last moment before the office is taken. Raises PromotionRefused."""
    if not is_offered(replica, offer):
        raise PromotionRefused(f"what {offer.node} offered is over: this node is {replica.state.role.value} of epoch {replica.state.epoch}", behind=0)


async def decline(replica: Replica, offer: Hello, why: str) -> None:
    """Leave the epoch of the offer for good, as a standby, so that the offer is over for this node before the other one hears of it: the two
    can never both take the office. Every Hello says so from then on."""
    log.error("the office that %s offers is declined: %s", offer.node, why)
    before, replica.declined = replica.declined, (offer.node, why, offer.epoch + 1)
    if not await replica.keeper.leave(offer.epoch, f"declined the office that {offer.node} offered: {why}"):
        replica.declined = before  # it was taken, or is over, by another order
