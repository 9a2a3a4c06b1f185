"""What a member tells about itself: plain values for the status command, metrics and health checks. Changes nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .candidacy import standby_row
from .facts import failures, lag_behind_primary, lag_of_standby, own_phase, peer_phase
from .lag import Lag
from .peers import Peer
from .replica import Replica
from .roles import Role
from .waiting import Acknowledger

REIGNS_TOLD = 1_000  # the newest of each database, in a history


def member_status(replica: Replica, acknowledger: Acknowledger) -> dict[str, Any]:
    """role, phase, epoch, databases (by name) with their copies elsewhere, peers (by name), alarms.

    closed: why no database takes writes, "" where some may. failures: what has failed, by database. phase of a peer: None where it
    cannot be known. Whether requests of the role are taken (`ready`) is the node's to add: it may be stopping.
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
        "was": state.was.value if state.was is not None else "",
        "primary": replica.primary_address(),
        "paused": replica.pauses.word.shown(),
        "acks": replica.config.acks,
        "delay_s": 0 if state.role is Role.PRIMARY else replica.config.delay_s,
        "databases": {
            database.name: _database(replica, acknowledger, database)
            for database in list(replica.engine.databases.values())
        },
        "peers": {name: {**_peer(replica, peer), **standby_row(replica, peer)} for name, peer in replica.peers.items()},
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
        "newest_us": database.last_time_us,  # commit time of the newest commit: a delayed standby shows the state of then
    }
    if replica.state.role is Role.PRIMARY:
        value["floor"] = replica.floor(database)
        value["standbys"] = {name: _copy(replica, peer, database) for name, peer in replica.peers.items()}
    else:
        value["streaming"] = replica.streams(uuid)
        value["lag"] = _behind_primary(replica, database)
        value["reseeding"] = uuid in replica.reseed
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
    return {
        "address": peer.hello.address if peer.hello else peer.address,
        "connected": peer.conversation is not None,
        "role": peer.role.value if peer.hello else "unknown",
        "phase": phase.value if phase else None,
        "epoch": peer.epoch,
        "last_error": peer.last_error,
        "delay_s": peer.delay_s,
    }
