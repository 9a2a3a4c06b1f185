"""What a member tells about itself: plain values for the status command, metrics and health checks. Changes nothing."""

from __future__ import annotations

from typing import Any

from .facts import failures, lag_behind_primary, lag_of_standby, own_phase, peer_phase, streams
from .lag import Lag
from .peers import Peer
from .replica import Replica
from .roles import Role
from .waiting import Acknowledger


def member_status(replica: Replica, acknowledger: Acknowledger) -> dict[str, Any]:
    """role, phase, epoch, databases (by name) with their copies elsewhere, peers (by name), alarms.

    closed: why no database takes writes, "" where some may. failures: what has failed, by database. phase of a peer: None where it cannot be known.
    """
    state = replica.state
    return {
        "node": replica.config.name,
        "role": state.role.value,
        "phase": own_phase(replica).value,
        "epoch": state.epoch,
        "closed": str(replica.why_closed() or ""),
        "failures": failures(replica),
        "why": state.why,
        "primary": replica.primary_address(),
        "acks": replica.config.acks,
        "delay_s": 0 if state.role is Role.PRIMARY else replica.config.delay_s,
        "databases": {
            database.name: _database(replica, acknowledger, database)
            for database in list(replica.engine.databases.values())
        },
        "peers": {name: _peer(replica, peer) for name, peer in replica.peers.items()},
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
        "newest_us": database.last_time_us,  # commit time of the newest commit: a delayed standby shows the state of then
    }
    if replica.state.role is Role.PRIMARY:
        value["floor"] = replica.floor(database)
        value["standbys"] = {name: _copy(replica, peer, database) for name, peer in replica.peers.items()}
    else:
        value["streaming"] = streams(replica, database)
        value["lag"] = _behind_primary(replica, database)
    return value


def _copy(replica: Replica, peer: Peer, database: Any) -> dict[str, Any]:
    """One standby's copy, as this primary knows it."""
    known = peer.copies.get(database.uuid)
    durable = peer.durable(database.uuid)
    return {
        "connected": peer.conversation is not None,
        "streaming": bool(known and known.streaming),
        "received_seq": known.received_seq if known else 0,
        "durable_seq": durable,
        "known": bool(known and known.durable_seq is not None),
        "seed_bytes_left": known.seed_bytes_left if known else 0,
        "lag": _lag(lag_of_standby(replica, peer, database)),
        "mark": {"seq": known.compared_mark, "equal": known.mark_equal} if known and known.compared_mark else None,
    }


def _behind_primary(replica: Replica, database: Any) -> dict[str, Any] | None:
    found = lag_behind_primary(replica, database)
    return {"heard_s_ago": round(found[0], 3), **_lag(found[1])} if found else None


def _lag(lag: Lag) -> dict[str, Any]:
    return {"commits": lag.commits, "bytes": lag.bytes, "seconds": round(lag.seconds, 3)}


def _peer(replica: Replica, peer: Peer) -> dict[str, Any]:
    phase = peer_phase(replica, peer)
    why_not = _why_not_promotable(peer)
    return {
        "address": peer.hello.address if peer.hello else peer.address,
        "connected": peer.conversation is not None,
        "role": peer.role.value if peer.hello else "unknown",
        "phase": phase.value if phase else None,
        "epoch": peer.epoch,
        "last_error": peer.last_error,
        "delay_s": peer.delay_s,
        "promotable": not why_not,
        "why_not": why_not,
    }


def _why_not_promotable(peer: Peer) -> str:
    """Why an operator or a script should not choose this peer as the next primary; the peer itself has the last word."""
    if peer.delay_s:
        return f"a delayed standby (delay_s {peer.delay_s})"
    if peer.conversation is None:
        return f"not connected ({peer.last_error or 'no link'})"
    return "" if peer.role is Role.STANDBY else f"its role is {peer.role.value}"
