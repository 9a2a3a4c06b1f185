"""What a node knows of a failover: whether it could lead itself, which of its standbys could, and what would be lost.

Plain values for the status and for operators who decide. Changes nothing, and promotes nobody (INV-4).
"""

from __future__ import annotations

from typing import Any

import trio

from .acknowledge import OnAckTimeout
from .peers import Peer
from .promotable import StandbyFacts, why_not_promotable
from .replica import Replica
from .roles import Role
from .waiting import Acknowledger


def _why_not_all_written(replica: Replica) -> str:
    """Of a primary: the first database that does not take every write now, and why; empty when all do."""
    for name, why in replica.engine.unopened.items():
        return f"database {name!r} could not be opened: {why}"
    databases = list(replica.engine.databases.values())
    closed = [replica.why_closed(), *(replica.why_closed(one) or one.refusal for one in databases)]
    full = [one.disk_state["why"] for one in databases if one.disk_state["state"] != "ok"]
    return next((str(reason) for reason in [*closed, *full] if reason is not None), "")


def standby_row(replica: Replica, peer: Peer) -> dict[str, Any]:
    """fenced, promotable and why_not of a peer, as this node can know it: the primary does."""
    fenced = peer.role is Role.FENCED
    if not replica.leads:
        return {"fenced": fenced, "promotable": False, "why_not": "only the primary can tell"}
    now = trio.current_time()
    not_streaming, late = [], [0.0]
    for database in replica.engine.databases.values():
        known = peer.copies.get(database.uuid)
        if known is None or not known.streaming:
            not_streaming.append(database.name)
        else:
            late.append(replica.own_meter(database.uuid).of(peer.durable(database.uuid), now).seconds)
    facts = StandbyFacts(
        connected=peer.conversation is not None,
        role=peer.role,
        unfit=peer.unfit,
        not_streaming=tuple(not_streaming),
        lag_seconds=max(late),
        delay_s=peer.delay_s,
    )
    why_not = why_not_promotable(facts)
    return {"fenced": fenced, "promotable": not why_not, "why_not": why_not}


def check(replica: Replica, acknowledger: Acknowledger) -> dict[str, Any]:
    """Everything that a failover is decided by, as this node knows it."""
    state, config = replica.state, replica.config
    degraded = any(acknowledger.is_degraded(uuid) for uuid in [one.uuid for one in replica.engine.databases.values()])
    return {
        "node": config.name,
        "role": state.role.value,
        "epoch": state.epoch,
        "paused": replica.pauses.word.shown(),
        "acks": config.acks,
        "on_ack_timeout": config.on_ack_timeout.value,
        "protected": config.acks > 0 and (config.on_ack_timeout is OnAckTimeout.BLOCK or not degraded),
        "why_not": _why_not_itself(replica),
        "missing_commits": replica.missing_commits(),
        "primary": _primary_heard(replica),
        "lag": _own_lag(replica),
        "standbys": {peer.name: {**standby_row(replica, peer), **_lacks(replica, peer)} for peer in replica.peers.values()} if replica.leads else {},
    }


def _why_not_itself(replica: Replica) -> str:
    """Why this node could not lead, apart from what it lacks; of a primary, why it does not take writes."""
    if replica.leads:
        return _why_not_all_written(replica)
    facts = StandbyFacts(
        connected=True,
        role=replica.state.role if replica.state.role is not Role.FROZEN else Role.STANDBY,  # promoting one of two is the way out
        unfit=replica.why_unfit() or replica.why_epoch_unknown(),
        not_streaming=_behind_a_living_primary(replica),
        delay_s=replica.config.delay_s,
    )
    return why_not_promotable(facts)


def _behind_a_living_primary(replica: Replica) -> tuple[str, ...]:
    """Copies that are being cut or copied anew. Without a primary each is what it is."""
    if replica.follower is None:
        return ()
    return tuple(one.name for one in replica.engine.databases.values() if not replica.streams(one.uuid))


def _primary_heard(replica: Replica) -> dict[str, Any] | None:
    """The node that last told this one that it is primary, and how long ago."""
    told_at, name = max(((peer.led_at, peer.name) for peer in replica.peers.values() if peer.led_at is not None), default=(0.0, ""))
    if not name:
        return None
    peer = replica.peers[name]
    leads = peer.conversation is not None and peer.role is Role.PRIMARY
    return {"node": name, "epoch": peer.epoch, "connected": leads, "heard_s_ago": round(trio.current_time() - told_at, 3)}


def _own_lag(replica: Replica) -> dict[str, Any] | None:
    """Over all databases, behind the positions last heard of the newest primary; None when none was heard."""
    heard = _primary_heard(replica)
    if heard is None:
        return None
    peer, now = replica.peers[heard["node"]], trio.current_time()
    lags = [
        peer.meters[one.uuid].of(one.visible.seq, now) for one in replica.engine.databases.values() if one.uuid in peer.meters
    ]
    return {
        "commits": sum(lag.commits for lag in lags),
        "bytes": sum(lag.bytes for lag in lags),
        "seconds": round(max((lag.seconds for lag in lags), default=0.0), 3),
    }


def _lacks(replica: Replica, peer: Peer) -> dict[str, Any]:
    """What a standby is known to lack of this primary's commits; None where its copy was never confirmed."""
    lacking = 0
    for database in replica.engine.databases.values():
        known = peer.copies.get(database.uuid)
        if known is None or known.durable_seq is None:
            return {"lacks": None}
        lacking += max(0, database.visible.seq - known.durable_seq)
    return {"lacks": lacking}
