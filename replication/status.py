"""What a member tells about itself: plain values for the status command, metrics and health checks. Changes nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import trio

from .candidacy import standby_row, why_not_ready
from .lag import Lag
from .peers import Peer
from .replica import Replica
from .roles import Role
from .waiting import Acknowledger

REIGNS_TOLD = 1_000  # the newest of each database, in a history


def member_status(replica: Replica, acknowledger: Acknowledger) -> dict[str, Any]:
    """role, epoch, databases (by name) with their copies elsewhere, peers (by name), alarms."""
    state = replica.state
    unready = why_not_ready(replica)
    return {
        "node": replica.config.name,
        "role": state.role.value,
        "epoch": state.epoch,
        "why": state.why,
        "was": state.was.value if state.was is not None else "",
        "primary": replica.primary_address(),
        "paused": replica.pauses.word.shown(),
        "ready": not unready,
        "why_not_ready": unready,
        "acks": replica.config.acks,
        "databases": {
            database.name: _database(replica, acknowledger, database)
            for database in list(replica.engine.databases.values())
        },
        "peers": {name: {**_peer(peer), **standby_row(replica, peer)} for name, peer in replica.peers.items()},
        "alarms": [
            {
                "kind": alarm.kind.value,
                "database": alarm.database,
                "peer": alarm.peer,
                "message": alarm.message,
                "since_us": alarm.since_us,
            }
            for alarm in replica.alarms.all()
        ]
        + [alarm for database in list(replica.engine.databases.values()) if (alarm := _disk_alarm(database)) is not None],
        "alarms_left_out": replica.alarms.left_out,
    }


def told_history(replica: Replica) -> dict[str, Any]:
    """changes, oldest first; let_go: older ones that are gone; unreadable: lines of the record that are none; reigns by database."""
    record = replica.keeper.record
    return {
        "node": replica.config.name,
        "changes": [{**asdict(change), "role": change.role.value} for change in record.changes],
        "let_go": record.let_go,
        "unreadable": record.unreadable,
        "reigns": {
            database.name: [{"epoch": reign.epoch, "id": f"{reign.id:016x}", "first_seq": reign.first_seq} for reign in database.history[-REIGNS_TOLD:]]
            for database in list(replica.engine.databases.values())
        },
    }


def _disk_alarm(database: Any) -> dict[str, Any] | None:
    """A full or failed disk is an alarm for as long as it lasts."""
    disk = database.disk_state
    if disk["state"] == "ok":
        return None
    kind = f"disk-{disk['state']}"
    return {"kind": kind, "database": database.name, "peer": "", "message": disk["why"], "since_us": disk["since_us"]}


def _database(replica: Replica, acknowledger: Acknowledger, database: Any) -> dict[str, Any]:
    uuid = database.uuid
    closed = replica.why_closed(database) or database.refusal
    disk = database.disk_state
    value = {
        "uuid": uuid.hex(),
        "position": list(database.position),
        "chain": f"{database.chain:016x}",
        "visible": list(database.visible),
        "durable_seq": database.durable_seq,
        "history": [reign.as_list() for reign in database.history],
        "writable": closed is None and disk["state"] == "ok",
        "closed": str(disk["why"] if closed is None else closed),
        "waiting_acks": acknowledger.sizes().get(uuid, 0),
        "degraded": acknowledger.is_degraded(uuid),
        "disk": disk,
    }
    if replica.state.role is Role.PRIMARY:
        value["floor"] = replica.floor(database)
        value["standbys"] = {name: _copy(replica, peer, database) for name, peer in replica.peers.items()}
    else:
        value["lag"] = _behind_primary(replica, database)
        value["reseeding"] = uuid in replica.reseed
    return value


def _copy(replica: Replica, peer: Peer, database: Any) -> dict[str, Any]:
    """One standby's copy, as this primary knows it."""
    known = peer.copies.get(database.uuid)
    durable = peer.durable(database.uuid)
    meter = replica.own_meter(database.uuid)
    now = trio.current_time()
    meter.observe(database.visible.seq, database.log_bytes, now)
    return {
        "connected": peer.conversation is not None,
        "streaming": bool(known and known.streaming),
        "received_seq": known.received_seq if known else 0,
        "durable_seq": durable,
        "known": bool(known and known.durable_seq is not None),
        "seed_bytes_left": known.seed_bytes_left if known else 0,
        "lag": _lag(meter.of(durable, now)),
        "mark": {"seq": known.compared_mark, "equal": known.mark_equal} if known and known.compared_mark else None,
    }


def _behind_primary(replica: Replica, database: Any) -> dict[str, Any] | None:
    """This standby's own lag behind the last heard position of its primary; None while no primary was heard."""
    now = trio.current_time()
    for peer in replica.peers.values():
        meter = peer.meters.get(database.uuid)
        if peer.role is Role.PRIMARY and peer.epoch == replica.state.epoch and meter is not None:
            return {"heard_s_ago": round(now - peer.heard_at, 3), **_lag(meter.of(database.visible.seq, now))}
    return None


def _lag(lag: Lag) -> dict[str, Any]:
    return {"commits": lag.commits, "bytes": lag.bytes, "seconds": round(lag.seconds, 3)}


def _peer(peer: Peer) -> dict[str, Any]:
    return {
        "address": peer.hello.address if peer.hello else peer.address,
        "connected": peer.conversation is not None,
        "role": peer.role.value if peer.hello else "unknown",
        "epoch": peer.epoch,
        "last_error": peer.last_error,
    }
